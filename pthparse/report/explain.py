"""`pthparse explain FILE`: a tour through the file, for people who want to understand it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator

from ..checkpoint import open as open_checkpoint
from ..errors import escape
from .text import jsonable
from .verb import Verb, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.console import Console

    from ..tour import Tour
    from ..tour.words import Table, Words

LANGUAGES = ("en", "zh")
PARTS = 8
PROSE = 100  # columns: longer lines are hard to read
NARROWEST = 40
INDENT, GAP = 2, 2
LEAST = 16  # columns that text is wrapped to
# Of Chinese: what may not begin a line, and what may not end one.
CLOSING = frozenset("，。、；：？！）》」』】”’…,.;:?!)]}%")
OPENING = frozenset("（《「『【“‘([{")


def explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument("--lang", choices=LANGUAGES, help="English or Chinese; default: zh if LC_ALL or LANG say so")
    parser.add_argument(
        "--part", type=int, choices=range(1, PARTS + 1), metavar="N", help=f"only this one, 1 to {PARTS}"
    )


def explain(args: argparse.Namespace) -> int:
    from ..tour import tour_of
    from ..tour.words import Words

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
    return "zh" if said.lower().startswith("zh") else "en"


def print_tour(tour: Tour, say: Words, path: str) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    width = max(NARROWEST, console.width)

    def put(text: str, style: str = "", widest: int = PROSE) -> None:
        for row in wrapped(text, min(width, widest)):
            console.print(Text(row, style), soft_wrap=True)

    put(f"{escape(path)}   {tour.title}", "bold", width)
    put(tour.intro)
    for section in tour.sections:
        console.print()
        put(say("part", part=section.part, title=section.title), "bold" if section.applies else "bold dim")
        for n, block in enumerate(section.blocks):
            if n:
                console.print()
            if isinstance(block, str):
                put(block)
            else:
                print_table(console, block, width)
    if tour.steps:
        console.print()
        put(tour.outro, "bold")
        file = shlex.quote(escape(path))
        for words, text in tour.steps:
            command = " ".join(["pthparse", *(file if word == "FILE" else shlex.quote(word) for word in words)])
            console.print(Text(f"{' ' * INDENT}{command}"), soft_wrap=True)
            put(f"{' ' * 3 * INDENT}{text}", "dim")


# ---- text by the cells that it takes: of Chinese each character two ----


def print_table(console: Console, table: Table, width: int) -> None:
    """Aligned columns; the last one is wrapped where it is too wide."""
    from rich.cells import cell_len
    from rich.text import Text

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
            console.print(Text(start.rstrip(), style), soft_wrap=True)
        for k, line in enumerate(lines):
            lead = start if room and k == 0 else " " * (cell_len(start) if room else 3 * INDENT)
            console.print(Text((lead + line).rstrip(), style), soft_wrap=True)


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
    for c in text.replace(" %", "\xa0%"):  # a number and its sign stay together
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
