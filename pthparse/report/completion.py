"""`pthparse completion SHELL`: a script for the shell; and what that asks for: verbs, options, files, tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from ..errors import PthError
from .verb import CANNOT_SAY, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

# Where each shell looks for it, as its users write it.
HOW = {
    "bash": 'eval "$(pthparse completion bash)"  # in ~/.bashrc',
    "zsh": 'eval "$(pthparse completion zsh)"  # in ~/.zshrc, after compinit',
    "fish": "pthparse completion fish > ~/.config/fish/completions/pthparse.fish",
}
ABSENT = "completion is made by argcomplete: pip install 'pthparse[completion]'"
OF_TENSORS = ("name", "pattern")  # arguments that are names of tensors in FILE
MANY = 100  # names, above which only their next component is offered
MOST = 1000  # of anything: who types on gets the rest


def completion(words: list[str]) -> int:
    if words in (["-h"], ["--help"]):
        rows = "\n".join(f"  {how}" for how in HOW.values())
        print(f"usage: pthparse completion {{{','.join(HOW)}}}\n\nPrints what makes the shell complete:\n\n{rows}")
        return 0
    if len(words) != 1 or words[0] not in HOW:
        asked = " ".join(words) or "nothing"
        tell(f"completion: one of {', '.join(HOW)} is wanted, not {asked}")
        return CANNOT_SAY
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        tell(ABSENT)
        return CANNOT_SAY
    print(shellcode(["pthparse"], shell=words[0]), flush=True)
    return 0


def complete(build: Callable[[str | None], argparse.ArgumentParser]) -> None:
    """Answers the shell, and ends the process. Without the library there is nothing to answer."""
    try:
        import argcomplete
    except ImportError:
        os._exit(1)
    line = os.environ.get("COMP_LINE", "").split()
    verb = line[1] if len(line) > 1 else None
    parser = shells() if verb == "completion" else build(verb)
    for action in actions(parser):
        if action.dest in OF_TENSORS:
            setattr(action, "completer", names)  # noqa: B010 - where argcomplete looks for it
    argcomplete.autocomplete(parser, always_complete_options=False, exclude=("-h", "--debug"))


def shells() -> argparse.ArgumentParser:
    from argparse import ArgumentParser

    parser = ArgumentParser(add_help=False)
    parser.add_argument("word")
    parser.add_argument("shell", choices=tuple(HOW))
    return parser


def actions(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    """Those of all verbs."""
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for sub in action.choices.values():
                yield from actions(sub)
        yield action


def names(prefix: str, parsed_args: Any, **_: object) -> list[str]:
    """Tensors of the file that is named already. Nothing is fetched for it from afar."""
    file = parsed_args.file
    if "://" in file:
        return []
    from ..checkpoint import open as open_checkpoint

    try:
        with open_checkpoint(file) as ckpt:
            return shortened([n for n in ckpt if n.startswith(prefix) and n.isprintable()], len(prefix))
    except (PthError, OSError):
        return []


def shortened(found: list[str], begun: int) -> list[str]:
    """If they are many, only as far as the next dot or slash at which they part."""
    while len(found) > MANY:
        steps = list(dict.fromkeys(step(name, begun) for name in found))
        if len(steps) > 1:
            return steps[:MOST]
        begun = len(steps[0])
    return found


def step(name: str, begun: int) -> str:
    ends = [at for at in (name.find(".", begun), name.find("/", begun)) if at >= 0]
    return name[: min(ends) + 1] if ends else name
