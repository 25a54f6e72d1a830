"""Text for people: sizes, counts, aligned tables. Strings out of files come in raw and go out escaped."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence

from .._core import LongInteger
from ..errors import LimitError, escape
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

BAR = 24
PADDED = 120  # columns are padded to at most this
DEEPEST = 50  # levels of a JSON value; what lies deeper is a short text
MOST_VALUES = 1_000_000  # of a JSON value
SHORT = 300  # characters of what is no plain data in it


class Column(Record):
    """A column: its head; is it numbers (right-aligned), or a name (cut in the middle on a narrow terminal)?"""

    head: str
    right: bool = False
    name: bool = False


def size(n: int) -> str:
    """Exact bytes first, both units named: MB is 10^6, MiB 2^20."""
    if n < 1000:
        return f"{n:,} B"
    if n < 10**6:
        return f"{n:,} B ({n / 1e3:.1f} kB, {n / 2**10:.1f} KiB)"
    if n < 10**9:
        return f"{n:,} B ({n / 1e6:.1f} MB, {n / 2**20:.1f} MiB)"
    return f"{n:,} B ({n / 1e9:.2f} GB, {n / 2**30:.2f} GiB)"


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def share(part: int, whole: int) -> str:
    """Per cent, with enough digits to tell small things from nothing."""
    if whole <= 0:
        return "-"
    percent = 100 * part / whole
    if 0 < percent < 0.0001:
        return "< 0.0001 %"
    return f"{percent:.2f} %" if percent >= 0.01 or part == 0 else f"{percent:.2g} %"


def bar(part: int, whole: int) -> str:
    return "#" * min(BAR, BAR * part // whole + (2 * (BAR * part % whole) >= whole)) if whole > 0 else ""


def shape(dims: Sequence[int]) -> str:
    return "[" + ", ".join("?" if n < 0 else str(n) for n in dims) + "]"


def cut(text: str, width: int) -> str:
    """The middle goes, the ends stay: they are what tells names apart."""
    if len(text) <= width or width < 5:
        return text
    head = (width - 3) // 2
    return text[:head] + "..." + text[len(text) - (width - 3 - head) :]


def on_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    """Prints an aligned table: with rich on a terminal, plain and uncut elsewhere."""
    rows = [[escape(cell) for cell in row] for row in rows]
    widths = [max([len(c.head), *(len(row[i]) for row in rows)]) for i, c in enumerate(columns)]
    if on_terminal(stream) and os.environ.get("TERM") != "dumb":
        _rich_table(columns, widths, rows, stream)
        return
    for row in [[c.head for c in columns], *rows]:
        # A cell of any length is printed whole, but others are not padded to it.
        padded = [(cell, min(w, PADDED), c.right) for cell, w, c in zip(row, widths, columns, strict=True)]
        print("  ".join(cell.rjust(w) if right else cell.ljust(w) for cell, w, right in padded).rstrip(), file=stream)


def _rich_table(
    columns: Sequence[Column], widths: Sequence[int], rows: Sequence[Sequence[str]], stream: TextIO
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    kept = [i for i, c in enumerate(columns) if c.head]
    needed = sum(min(widths[i], 24) if columns[i].name else widths[i] for i in kept) + 2 * len(kept)
    if needed + BAR <= console.width:  # there is room for the column of bars
        kept = list(range(len(columns)))
    others = sum(widths[i] + 2 for i in kept if not columns[i].name)
    room = max(12, console.width - others)
    # Numbers are never cut: a terminal too narrow for them wraps the lines itself.
    console.width = max(console.width, others + room)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for i in kept:
        right = columns[i].right
        drawn.add_column(Text(columns[i].head), justify="right" if right else "left", no_wrap=True)
    for row in rows:
        # Text, never markup: a name may be "[bold]".
        drawn.add_row(*(Text(cut(row[i], room) if columns[i].name else row[i]) for i in kept))
    console.print(drawn)


def line(text: str, stream: TextIO | None = None) -> None:
    """One line of prose, escaped."""
    print(escape(text), file=stream or sys.stdout)


def jsonable(value: Any) -> Any:
    """A value for JSON: exact integers, no NaN, bytes in short. What is no plain data, or too deep, is a short text.

    Raises
    ------
    LimitError
        Shared containers make more than a million values of it.
    """
    return _jsonable(value, 0, [MOST_VALUES])


def _jsonable(value: Any, level: int, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise LimitError("too-many-values", f"more than {MOST_VALUES:,} values: name a part of it")
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return value[:64].hex() + ("..." if len(value) > 64 else "")
    if isinstance(value, dict) and level < DEEPEST:
        return {_key(k): _jsonable(v, level + 1, left) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and level < DEEPEST:
        return [_jsonable(v, level + 1, left) for v in value]
    if isinstance(value, LongInteger):
        return str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    from ..values import preview

    left[0] -= SHORT
    return preview(value, SHORT)


def _key(key: Any) -> str:
    from ..values import preview

    return key if isinstance(key, str) else preview(key, 200)
