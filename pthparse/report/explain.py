"""`pthparse explain FILE`: a tour through the file, for people who want to understand it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator

from ..checkpoint import open as open_checkpoint
from ..errors import escape
from ..tour import LANGUAGES, PARTS, Tour, Words, tour_of
from .text import jsonable, on_terminal
from .verb import Verb, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..tour.words import Table

PART_HELP = (
    f"1 to {len(PARTS)}, this one alone: container, pickle, one tensor, y = Wx + b, embedding, size, "
    "what is not there, several files"
)
PROSE = 100  # columns: longer lines are hard to read
NARROWEST, ELSEWHERE = 40, 80  # columns: at least, and where there is no terminal
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
    return "zh" if said.lower().startswith("zh") and _can_print("字") else "en"


def _can_print(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class Page:
    """Lines to stdout: with rich where that is a terminal, plain elsewhere."""

    def __init__(self) -> None:
        self.console: Any = None
        if on_terminal(sys.stdout) and os.environ.get("TERM") != "dumb":
            from rich.console import Console

            self.console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
            width = self.console.width
        else:
            said = os.environ.get("COLUMNS", "")
            width = int(said) if said.isdecimal() and len(said) < 5 else ELSEWHERE
        self.width = max(NARROWEST, width)

    def line(self, text: str = "", style: str = "") -> None:
        """One, as it is."""
        if self.console is None:
            print(text)
        else:
            from rich.text import Text

            self.console.print(Text(text, style), soft_wrap=True)

    def prose(self, text: str, style: str = "", widest: int = PROSE) -> None:
        for row in wrapped(text, min(self.width, widest)):
            self.line(row, style)


def print_tour(tour: Tour, say: Words, path: str) -> None:
    page = Page()
    page.prose(f"{escape(path)}   {tour.title}", "bold", page.width)
    page.prose(tour.intro)
    for section in tour.sections:
        page.line()
        page.prose(say("part", part=section.part, title=section.title), "bold" if section.applies else "bold dim")
        for n, block in enumerate(section.blocks):
            if n:
                page.line()
            if isinstance(block, str):
                page.prose(block)
            else:
                print_table(page, block)
    if tour.steps:
        page.line()
        page.prose(tour.outro, "bold")
        file = shlex.quote(escape(path))
        for words, text in tour.steps:
            command = " ".join(["pthparse", *(file if word == "FILE" else shlex.quote(word) for word in words)])
            page.line(f"{' ' * INDENT}{command}")
            page.prose(f"{' ' * 3 * INDENT}{text}", "dim")


# ---- text by the cells that it takes: of Chinese each character two ----


def print_table(page: Page, table: Table) -> None:
    """Aligned columns; the last one is wrapped where it is too wide."""
    from rich.cells import cell_len

    width = page.width
    rows = [table.heads, *table.rows] if any(table.heads) else list(table.rows)
    columns = [i for i in range(len(table.right)) if any(row[i] for row in rows)]
    widths = {i: max(cell_len(row[i]) for row in rows) for i in columns}
    *before, last = columns
    room = width - INDENT - sum(widths[i] + GAP for i in before)
    if room < widths[last] and {*"".join(row[last] for row in rows)} <= {"#"}:  # no room for bars
        *before, last = before
        room = width
    if room < min(widths[last], LEAST):  # the last column stands below the others, rather than in a strip
        room = 0
    for n, row in enumerate(rows):
        cells = [_padded(row[i], widths[i], table.right[i]) for i in before]
        start = " " * INDENT + "".join(cell + " " * GAP for cell in cells)
        style = "dim" if n == 0 and any(table.heads) else ""
        if room and table.right[last]:
            lines = [_padded(row[last], widths[last], True)]
        else:
            lines = list(wrapped(row[last], room or width - 3 * INDENT))
        if not room:
            page.line(start.rstrip(), style)
        for k, line in enumerate(lines):
            lead = start if room and k == 0 else " " * (cell_len(start) if room else 3 * INDENT)
            page.line((lead + line).rstrip(), style)


def _padded(text: str, width: int, right: bool) -> str:
    from rich.cells import cell_len

    fill = " " * (width - cell_len(text))
    return fill + text if right else text + fill


def wrapped(text: str, width: int) -> Iterator[str]:
    """Lines of at most so many cells. Chinese may be broken before and behind each character, but for marks."""
    from rich.cells import cell_len

    for line in text.split("\n"):
        body = line.lstrip(" ")
        row = " " * (len(line) - len(body))
        empty = True
        for space, unit in _units(body):
            if not empty and cell_len(row) + space + cell_len(unit) > width:
                yield row
                row, space = "", 0
            row, empty = row + " " * space + unit.replace("\xa0", " "), False
            while cell_len(row) > width:  # one word that is too long
                at = next(i for i in range(len(row), 0, -1) if cell_len(row[:i]) <= width or i == 1)
                yield row[:at]
                row = row[at:]
        yield row


def _units(text: str) -> Iterator[tuple[int, str]]:
    """What is not broken, each with the number of spaces before it."""
    from rich.cells import cell_len

    unit, spaces = "", 0
    for c in TOGETHER.sub(lambda found: found[0].replace(" ", "\xa0"), text):
        if c == " ":
            if unit:
                yield spaces, unit
                unit, spaces = "", 0
            spaces += 1
            continue
        wide = cell_len(c) > 1
        joined = not unit or c in CLOSING or unit[-1] in OPENING or not (wide or cell_len(unit[-1]) > 1)
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
    "pthparse explain model.pth --lang zh --part 3",
)
