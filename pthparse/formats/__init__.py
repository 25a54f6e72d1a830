"""The formats, in the order in which they are tried: by content, never by name.

A new format is a new file and one word here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import PthError
from ..source import Source
from . import bare, legacy, strangers, tar, zip
from .base import Container

if TYPE_CHECKING:
    from typing import Protocol

    class Format(Protocol):
        """A module of this package: `probe` is cheap and never raises; `container` is one that is not read yet."""

        def probe(self, head: bytes) -> bool: ...

        def container(self, source: Source, limits: Any) -> Container: ...


FORMATS: tuple[Format, ...] = (zip, tar, legacy, strangers, bare)

HEAD = 4096


def is_archive(head: bytes) -> bool:
    """A format that cannot be mistaken for a text or for numbers?"""
    return any(fmt.probe(head) for fmt in (zip, tar, legacy))


def container(source: Source, limits: Any) -> Container:
    """Whatever it is, not read yet."""
    head = bytes(source.window(0, HEAD))
    for fmt in FORMATS:
        if fmt.probe(head):
            return fmt.container(source, limits)
    return strangers.container(source, limits)


# Errors of files that end too early, or whose directory is lost, though other parts of them may be whole.
SALVAGEABLE = frozenset(
    ("zip-end", "zip-end64", "zip-directory", "zip-header", "zip-prefix", "legacy-extent", "tar-extent")
)


def read(source: Source, limits: Any, salvage: bool = False) -> Container:
    """Opens whatever it is; PthError if it is nothing that can be read."""
    box = container(source, limits)
    box.salvage = salvage
    try:
        box.load()
    except PthError as e:
        if e.code in SALVAGEABLE and not salvage:
            e.message += "; `pthparse verify` tells what is whole, open(..., salvage=True) reads that"
        raise
    return box
