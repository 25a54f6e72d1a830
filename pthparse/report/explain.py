"""`pthparse explain FILE`: a tour through the file, for people who want to understand it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator

from ..checkpoint import open as open_checkpoint
from ..errors import UnsupportedError, escape
from ..tour import LANGUAGES, PARTS, Tour, Words, tour_of
from ..wording import cells
from .screen import BOLD, DIM, NARROWEST, clean, columns, pad, paint, width
from .text import jsonable
from .verb import Verb, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..tour.words import Table

PART_HELP = (
    f"1 to {len(PARTS)}, this one alone: container, pickle, one tensor, y = Wx + b, embedding, size, "
    "what is not there, several files"
)
PROSE = 100  # columns: longer lines are hard to read
ELSEWHERE = 80  # columns where there is no terminal
INDENT, GAP = 2, 2
TOGETHER = re.compile(r" %|(?<=\d) x (?=\d)")  # what stays in one line with the numbers beside it
LEAST = 16  # columns that text is wrapped to
# Of Chinese: what may not begin a line, and what may not end one.
CLOSING = frozenset("，。、；：？！）》」』】”’…,.;:?!)]}%")
OPENING = frozenset("（《「『【“‘([{")


def explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument("--lang", choices=LANGUAGES, help="English or Chinese; default: zh if LC_ALL or LANG say so")
    parser.add_argument("--part", type=int, choices=range(1, len(PARTS) + 1), metavar="N", help=PART_HELP)


def explain(args: argparse.Namespace) -> int:
    lang = args.lang or language()
    if lang == "zh" and not args.json and not can_print("字"):
        raise UnsupportedError(
            "encoding", f"{sys.stdout.encoding} has no Chinese characters: set PYTHONIOENCODING=utf-8"
        )
    with open_checkpoint(args.file, mmap=False) as ckpt:
        tour = tour_of(ckpt, lang, args.part)
    if args.json:
        print_json({"file": args.file, **jsonable(tour.to_dict())})
    else:
        print_tour(tour, Words(lang), args.file)
    return 0


def language() -> str:
    """As the environment says, in the order of POSIX."""
    said = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    return "zh" if said.lower().startswith("zh") and can_print("字") else "en"


def can_print(text: str) -> bool:
    return clean(text, sys.stdout) == text


class Page:
    """Lines to stdout, as wide as a terminal is, or as COLUMNS says: a pipe gets a text to read as well."""

    def __init__(self) -> None:
        self.width = width(sys.stdout) or max(NARROWEST, columns() or ELSEWHERE)

    def line(self, text: str = "", style: str | None = None) -> None:
        """One, as it is."""
        print(paint(text, style, sys.stdout))

    def prose(self, text: str, style: str | None = None, widest: int = PROSE) -> None:
        for told in text.split("\n"):
            for row in wrapped(clean(told, sys.stdout), min(self.width, widest)):
                self.line(row, style)


def print_tour(tour: Tour, say: Words, path: str) -> None:
    page = Page()
    page.prose(f"{escape(path)}   {tour.title}", BOLD, page.width)
    page.prose(tour.intro)
    for section in tour.sections:
        page.line()
        page.prose(say("part", part=section.part, title=section.title), BOLD if section.applies else DIM)
        for n, block in enumerate(section.blocks):
            if n:
                page.line()
            if isinstance(block, str):
                page.prose(block)
            else:
                print_table(page, block)
    if tour.steps:
        page.line()
        page.prose(tour.outro, BOLD)
        file = shlex.quote(escape(path))
        for words, text in tour.steps:
            command = " ".join(["pthparse", *(file if word == "FILE" else shlex.quote(word) for word in words)])
            page.line(f"{' ' * INDENT}{command}")
            page.prose(f"{' ' * 3 * INDENT}{text}", DIM)


# ---- text by the cells that it takes: of Chinese each character two ----


def print_table(page: Page, table: Table) -> None:
    """Aligned columns; the last one is wrapped where it is too wide."""
    whole = [table.heads, *table.rows] if any(table.heads) else table.rows
    rows = [[clean(cell, sys.stdout) for cell in row] for row in whole]
    used = [i for i in range(len(table.right)) if any(row[i] for row in rows)]
    widths = {i: max(cells(row[i]) for row in rows) for i in used}
    *before, last = used
    room = page.width - INDENT - sum(widths[i] + GAP for i in before)
    if room < widths[last] and {*"".join(row[last] for row in rows)} <= {"#"}:  # no room for bars
        *before, last = before
        room = page.width
    if room < min(widths[last], LEAST):  # the last column stands below the others, rather than in a strip
        room = 0
    for n, row in enumerate(rows):
        padded = [pad(row[i], widths[i], table.right[i]) for i in before]
        start = " " * INDENT + "".join(cell + " " * GAP for cell in padded)
        style = DIM if n == 0 and any(table.heads) else None
        if room and table.right[last]:
            lines = [pad(row[last], widths[last], True)]
        else:
            lines = list(wrapped(row[last], room or page.width - 3 * INDENT))
        if not room:
            page.line(start.rstrip(), style)
        for k, line in enumerate(lines):
            lead = start if room and k == 0 else " " * (cells(start) if room else 3 * INDENT)
            page.line((lead + line).rstrip(), style)


def wrapped(text: str, room: int) -> Iterator[str]:
    """Lines of at most so many cells. Chinese may be broken before and behind each character, but for marks."""
    for line in text.split("\n"):
        body = line.lstrip(" ")
        row = " " * (len(line) - len(body))
        empty = True
        for space, unit in _units(body):
            if not empty and cells(row) + space + cells(unit) > room:
                yield row
                row, space = "", 0
            row, empty = row + " " * space + unit.replace("\xa0", " "), False
            while cells(row) > room:  # one word that is too long
                at = next(i for i in range(len(row), 0, -1) if cells(row[:i]) <= room or i == 1)
                yield row[:at]
                row = row[at:]
        yield row


def _units(text: str) -> Iterator[tuple[int, str]]:
    """What is not broken, each with the number of spaces before it."""
    unit, spaces = "", 0
    for c in TOGETHER.sub(lambda found: found[0].replace(" ", "\xa0"), text):
        if c == " ":
            if unit:
                yield spaces, unit
                unit, spaces = "", 0
            spaces += 1
            continue
        wide = cells(c) > 1
        joined = not unit or c in CLOSING or unit[-1] in OPENING or not (wide or cells(unit[-1]) > 1)
        if not joined:
            yield spaces, unit
            unit, spaces = "", 0
        unit += c
    if unit:
        yield spaces, unit


VERB = Verb(
    explain,
    explain_arguments,
    "a tour through it in plain words, for people who want to understand it",
    "pthparse explain model.pth",
    "A tour through the file from its first byte on, in plain words: the container, the first opcodes of the pickle, "
    "one tensor from its name to its bits, a layer by hand, how the size comes about, what is not in it.",
    (
        "pthparse explain model.pth --lang zh",
        "pthparse explain model.pth --part 3  # one tensor to its bits",
    ),
    no="",
)
