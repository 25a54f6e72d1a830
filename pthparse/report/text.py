"""Text for people: sizes, counts, lines, aligned tables. Strings out of files come in raw and go out escaped."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence

from .._core import LongInteger
from ..errors import LimitError
from ..record import Record
from ..wording import cells, cut
from .screen import BOLD, CYAN, DIM, STYLES, clean, draws, pad, paint, width, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

FEW = 5  # names in one line
MOST_LINES = 40  # of one kind, where not all are asked for
BAR = 24
BLOCKS = " ▏▎▍▌▋▊▉█"  # eighths
LONGEST = 80  # of a name on a terminal: a longer one would take its figures too far from all others
PADDED = 120  # columns are padded to at most this
LEAD = 10  # a verdict before a path is padded to this
DEEPEST = 50  # levels of a JSON value; what lies deeper is a short text
MOST_VALUES = 1_000_000  # of a JSON value
SHORT = 300  # characters of one thing in a line


class Column(Record):
    """A column: its head, and what becomes of it where there is no room for all of them.

    Numbers (`right`) are never cut. Of a `name` the middle goes. `prose` is wrapped, or goes below its row. Columns
    that can be `spared` are left out, those with the highest number first, and said to be. None is cut below what is
    `kept` of it while others can give way.
    """

    head: str
    right: bool = False
    name: bool = False
    prose: bool = False
    spared: int = 0
    kept: int = 24


class Gauge(str):
    """A bar as text, which a table on a terminal draws as long as there is room."""

    part = 0.0


def bar(part: int, whole: int) -> Gauge:
    if whole <= 0:
        return Gauge()
    drawn = Gauge("#" * min(BAR, BAR * part // whole + (2 * (BAR * part % whole) >= whole)))
    drawn.part = min(1.0, part / whole)
    return drawn


def drawn(gauge: Gauge, room: int, stream: TextIO) -> str:
    """As long as it may be; of blocks where a stream can show them."""
    return blocks(gauge.part, room) if draws(stream) else "#" * round(len(gauge) * room / BAR)


def blocks(part: float, room: int) -> str:
    """A bar of blocks, in eighths of a column."""
    eighths = round(8 * room * part)
    return BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8].strip()


def short(name: str) -> str:
    """A name in a line of others: whole as far as that is reasonable."""
    room = width(sys.stdout)
    return cut(name, SHORT if room is None else min(SHORT, max(24, room // 2)))


def listed(names: Sequence[str], most: int | None = FEW, between: str = ", ") -> str:
    """The first of these names, and how many more there are."""
    return first_of([short(name) for name in names[:most]], len(names), between)


def wrong(e: Any) -> str:
    """A line of what cannot be read or compared, and why: it has a name, a code and a message."""
    return f"{short(e.name)}: {cut(e.message, SHORT)} [{e.code}]"


def first_of(texts: Sequence[str], n: int, between: str = ", ") -> str:
    """These, and how many more there are of all n."""
    return between.join(texts) + (f" and {n - len(texts):,} more" if n > len(texts) else "")


def line(text: str, stream: TextIO | None = None, *, lead: str = "", hang: int | None = None) -> None:
    """A line of prose, escaped; on a terminal wrapped. A verdict or severity at the end of its `lead` is in colour."""
    stream = stream or sys.stdout
    whole = clean(lead + text, stream)
    room = width(stream)
    hang = len(whole) - len(whole.lstrip(" ")) + 2 if hang is None else hang
    rows = [whole] if room is None else wrap(whole, room, hang)
    told = lead.rstrip(" :")
    word = told.rpartition(" ")[2]
    if word and rows[0].startswith(told):
        painted = paint(word, STYLES.get(word.lower()), stream)
        rows[0] = f"{told[: len(told) - len(word)]}{painted}{rows[0][len(told) :]}"
    for row in rows:
        print(row, file=stream)


def head(path: str, told: str, verdict: str = "") -> None:
    """The first line of an answer: the verdict if there is one, the file, and in short what it is; or two lines."""
    stream, lead = sys.stdout, f"{verdict:<{LEAD}} " if verdict else ""
    path, told = clean(path, stream), clean(told, stream)
    room = width(stream)
    between = "   "
    if room is not None and len(lead) + cells(path) + len(between) + cells(told) > room:
        path, between = cut(path, room - len(lead)), "\n  " if lead else "\n"
        told = "\n".join(wrap(told, room - len(between) + 1))
    word = paint(verdict, STYLES.get(verdict.lower()), stream)
    print(f"{word}{lead[len(verdict) :]}{paint(path, BOLD, stream)}{between}{told}", file=stream)


def rest(n: int, what: str = "", *, indent: int = 2) -> None:
    """The line below the first of them: how many more there are, if any."""
    if n > 0:
        line(f"{' ' * indent}and {n:,} more{what}")


def some(texts: Iterable[str], n: int, most: int | None = MOST_LINES, *, indent: int = 2, lead: str = "") -> None:
    """Lines of one kind, and how many more there are."""
    for i, text in enumerate(texts):
        if i == most:
            rest(n - i, indent=indent)
            break
        line(text, lead=" " * indent + lead)


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    stream: TextIO,
    *,
    room: int | None = None,
    indent: int = 0,
    aside: str | None = DIM,
) -> None:
    """Prints an aligned table: on a terminal, or where there is only so much room, fitted to it, elsewhere whole.

    aside: the style of prose, which elsewhere than in a tour explains figures.
    """
    texts = [[clean(cell, stream) for cell in row] for row in rows]
    widths = [max([cells(c.head), *(cells(row[i]) for row in texts)]) for i, c in enumerate(columns)]
    room = room or width(stream)
    if room is None:
        for row in [[c.head for c in columns], *texts]:
            # A cell of any length is printed whole, but others are not padded to it.
            padded = [pad(cell, min(w, PADDED), c.right) for cell, w, c in zip(row, widths, columns, strict=True)]
            print("  ".join(padded).rstrip(), file=stream)
        return
    gauges = {i for i in range(len(columns)) if any(isinstance(row[i], Gauge) for row in rows)}
    margin = " " * indent
    fitted = fit(columns, widths, gauges, room - indent)
    kept, below = [i for i, w in fitted.items() if w], [i for i, w in fitted.items() if not w]
    if any(c.head for c in columns):
        _row(
            [([cut(c.head, fitted[i]) if i in kept else ""], BOLD) for i, c in enumerate(columns)],
            columns,
            fitted,
            margin,
            stream,
        )
    for row, whole in zip(texts, rows, strict=True):
        summed = any(columns[i].name and row[i].startswith("(") for i in kept)  # not of the file: a sum of others
        parts: list[tuple[list[str], str | None]] = []
        for i, c in enumerate(columns):
            style: str | None = DIM if summed else aside if c.prose else None
            room_here = fitted.get(i, 0)
            cell = [row[i]]
            if i in gauges and isinstance(gauge := whole[i], Gauge):
                cell, style = [drawn(gauge, room_here, stream)], CYAN
            elif c.prose and room_here:
                cell = wrap(row[i], room_here, 0) or [""]
            elif not c.right:
                cell = [cut(row[i], room_here)]
            parts.append((cell, style))
        _row(parts, columns, fitted, margin, stream)
        if told := "; ".join(row[i] for i in below if row[i]):
            for text in wrap(f"{margin}    {told}", room, indent + 4):
                print(paint(text, aside, stream), file=stream)
    if not rows:
        print(paint("(none)", DIM, stream), file=stream)
    left_out = [c.head for i, c in enumerate(columns) if i not in fitted and i not in gauges and c.head]
    if left_out:
        for text in wrap(f"no room for: {', '.join(left_out)} (a pipe or --json has them)", room):
            print(paint(text, DIM, stream), file=stream)


def _row(
    parts: Sequence[tuple[list[str], str | None]],
    columns: Sequence[Column],
    fitted: dict[int, int],
    margin: str,
    stream: TextIO,
) -> None:
    """A row of as many lines as its cells have."""
    kept = [i for i, w in fitted.items() if w]
    for k in range(max(len(parts[i][0]) for i in kept)):
        texts = [parts[i][0][k] if k < len(parts[i][0]) else "" for i in kept]
        last = max([n for n, text in enumerate(texts) if text], default=-1)
        out = []
        for n, i in enumerate(kept[: last + 1]):
            text, right = texts[n], columns[i].right
            space = " " * (fitted[i] - cells(text))
            painted = paint(text, parts[i][1], stream)
            out.append(space + painted if right else painted + space if n < last else painted)
        print(margin + "  ".join(out), file=stream)


def fit(columns: Sequence[Column], widths: Sequence[int], gauges: set[int], room: int) -> dict[int, int]:
    """Widths of the columns that are shown, by their places; 0: below the row. What is not in it is left out."""

    def floors(more: int) -> list[int]:
        most = [w if c.right else c.kept + more * c.name for c, w in zip(columns, widths, strict=True)]
        return [8 if i in gauges else min(pair) for i, pair in enumerate(zip(widths, most, strict=True))]

    full = {i: min(w, LONGEST) if columns[i].name else w for i, w in enumerate(widths)} | dict.fromkeys(gauges, BAR)
    # What is given up, one after the other: bars, then whole columns of prose and those that can be spared.
    spared = sorted((i for i, c in enumerate(columns) if c.spared), key=lambda i: -columns[i].spared)
    prose = [i for i, c in enumerate(columns) if c.prose]
    below: list[int] = []
    for step in [None, *sorted(gauges), *prose, *spared]:
        if step in prose and step not in below:
            below.append(step)
        if step is not None:
            full.pop(step, None)
        found = shrink(full, floors(8 if gauges & full.keys() else 0), gauges, room)
        if total(found) <= room:
            break
    else:
        found = shrink(full, [w if c.right else min(w, 12) for c, w in zip(columns, widths, strict=True)], set(), room)
    return {**found, **dict.fromkeys(below, 0)}


def total(found: dict[int, int]) -> int:
    return sum(found.values()) + 2 * (len(found) - 1)


def shrink(full: dict[int, int], floors: Sequence[int], gauges: set[int], room: int) -> dict[int, int]:
    """Bars first, then the widest of those that are wider than they must be."""
    found = dict(full)
    for some in (gauges & found.keys(), found.keys() - gauges):
        while (over := total(found) - room) > 0:
            wide = [i for i in some if found[i] > floors[i]]
            if not wide:
                break
            widest = max(wide, key=lambda i: found[i])
            second = max((found[i] for i in wide if i != widest), default=0)
            found[widest] -= min(over, found[widest] - floors[widest], max(1, found[widest] - second))
    return found


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
