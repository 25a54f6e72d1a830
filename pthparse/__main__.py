"""`python -m pthparse`."""

from .cli import command

command()
