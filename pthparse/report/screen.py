"""The terminal: its width, how wide a text is on it, its colours. A pipe has no width: there everything is whole."""

from __future__ import annotations

import os
import re

from ..errors import escape
from ..wording import cells, first, fits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

NARROWEST = 20
BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
# What verdicts and severities look like, in every verb.
STYLES = {
    **dict.fromkeys(("clean", "ok", "same"), GREEN),
    **dict.fromkeys(("review", "incomplete", "unknown", "unchecked"), YELLOW),
    **dict.fromkeys(("dangerous", "malformed", "damaged", "truncated", "different", "wrong", "broken", "error"), RED),
    "note": DIM,
}
# A number stays with what it counts, and a product in one line.
WORD = re.compile(r"( *)((?:\+ |byte (?=\d))?(?:\d[\d,.]* x )*(?:\d[\d,.]* )?[^ ]+(?: \[\d+\])?)")
# Of Chinese: what may not begin a line, and what may not end one.
CLOSING = frozenset("，。、；：？！）》」』】”’…,.;:?!)]}%")
OPENING = frozenset("（《「『【“‘([{")


def on_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def columns() -> int | None:
    """Of the terminal, if there is one."""
    try:
        return int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size().columns
    except (OSError, ValueError):
        return None


def width(stream: TextIO) -> int | None:
    """Columns to fit into; None where nothing need fit."""
    return max(NARROWEST, columns() or 80) if on_terminal(stream) else None


def coloured(stream: TextIO) -> bool:
    return on_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str | None, stream: TextIO) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style and text and coloured(stream) else text


def draws(stream: TextIO) -> bool:
    """Can it show blocks, and is it there to be looked at?"""
    return on_terminal(stream) and (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"


def clean(text: str, stream: TextIO) -> str:
    """As it will be printed: what acts on a terminal is spelt out, and so is what the stream's encoding lacks."""
    text = escape(text)
    if text.isascii():
        return text
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def pad(text: str, room: int, right: bool = False) -> str:
    space = " " * (room - cells(text))
    return space + text if right else text + space


def wrap(text: str, room: int, hang: int = 2) -> list[str]:
    """Lines of at most so many columns, broken between words, and in a word only where it is longer than a line.

    Chinese may be broken before and behind each character, but for marks.
    """
    if fits(text, room):
        return [text]
    indent = " " * min(hang, room // 2)
    lines, current = [], ""
    for gap, word in _units(text.rstrip(" ")):
        if fits(current + gap + word, room):
            current += gap + word
            continue
        if current.strip():
            lines.append(current)
            current = indent
        at = 0
        while not fits(current + word[at : at + 4 * room], room):
            part = first(word[at : at + 4 * room], room - cells(current)) or word[at]
            lines.append(current + part)
            at, current = at + len(part), indent
        current += word[at:]
    return [*lines, current] if current.strip() else lines


def _units(text: str) -> Iterator[tuple[str, str]]:
    """What is not broken, each behind the spaces before it."""
    for gap, word in WORD.findall(text):
        begin = 0
        for i in range(1, 0 if word.isascii() else len(word)):
            before, c = word[i - 1 : i + 1]
            if before not in OPENING and c not in CLOSING and " " not in (before, c) and cells(before) + cells(c) > 2:
                yield gap, word[begin:i]
                gap, begin = "", i
        yield gap, word[begin:]
