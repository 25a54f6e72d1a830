"""`pthparse explain FILE`: a tour through the file, for people who want to understand it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from ..checkpoint import open as open_checkpoint
from ..errors import UnsupportedError, escape
from ..tour import LANGUAGES, PARTS, Tour, Words, tour_of
from .screen import BOLD, DIM, NARROWEST, clean, columns, paint, width, wrap
from .text import BAR, Column, bar, jsonable, line, table
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
INDENT = 2
LEAST, WHOLE = 16, 80  # columns that prose is wrapped to, or else it stands below; other cells are not cut for it


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


def print_tour(tour: Tour, say: Words, path: str) -> None:
    """As wide as a terminal is, or as COLUMNS says: a pipe gets a text to read as well."""
    room = width(sys.stdout) or max(NARROWEST, columns() or ELSEWHERE)
    narrow = min(room, PROSE)
    prose(f"{escape(path)}   {tour.title}", room, BOLD)
    prose(tour.intro, narrow)
    for section in tour.sections:
        line("")
        prose(say("part", part=section.part, title=section.title), narrow, BOLD if section.applies else DIM)
        for n, block in enumerate(section.blocks):
            if n:
                line("")
            if isinstance(block, str):
                prose(block, narrow)
            else:
                print_table(block, room)
    if tour.steps:
        line("")
        prose(tour.outro, narrow, BOLD)
        file = shlex.quote(escape(path))
        for words, text in tour.steps:
            command = " ".join(["pthparse", *(file if word == "FILE" else shlex.quote(word) for word in words)])
            print(f"{' ' * INDENT}{command}")
            prose(f"{' ' * 3 * INDENT}{text}", narrow, DIM)


def prose(text: str, room: int, style: str | None = None) -> None:
    for told in text.split("\n"):
        for row in wrap(clean(told, sys.stdout), room, 0):
            print(paint(row, style, sys.stdout))


def print_table(told: Table, room: int) -> None:
    """Columns that have something in them; the last one is prose, or bars."""
    used = [i for i, column in enumerate(zip(*told.rows, strict=True)) if told.heads[i] or any(column)]
    rows: list[list[str]] = [[row[i] for i in used] for row in told.rows]
    if {*"".join(row[-1] for row in rows)} == {"#"}:
        rows = [[*row, bar(len(row.pop()), BAR)] for row in rows]
    *before, last = (Column(told.heads[i], right=told.right[i], kept=WHOLE) for i in used)
    heads = [*before, last if last.right else Column(last.head, prose=True, kept=LEAST)]
    table(heads, rows, sys.stdout, room=room, indent=INDENT, aside=None)


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
