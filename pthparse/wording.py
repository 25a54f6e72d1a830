"""How figures and names are written, in every answer: sizes, counts, shares, numbers, shapes; what of a text fits."""

from __future__ import annotations

import math

from .errors import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

UNITS = ((4, "TB", "TiB"), (3, "GB", "GiB"), (2, "MB", "MiB"), (1, "kB", "KiB"))  # powers of 1,000, and of 1,024


def units(n: int) -> tuple[str, str] | None:
    """Bytes in short, of 10^6 and of 2^20; None where all of their digits are as short."""
    for power, decimal, binary in UNITS:
        if n >= 1000**power:
            digits = 2 if power > 2 else 1
            return f"{n / 1000**power:.{digits}f} {decimal}", f"{n / 1024**power:.{digits}f} {binary}"
    return None


def size(n: int) -> str:
    """Exact bytes first, both units named: MB is 10^6, MiB 2^20."""
    both = units(n)
    return f"{n:,} B ({', '.join(both)})" if both else f"{n:,} B"


def brief(n: int) -> str:
    """Bytes in one unit."""
    both = units(n)
    return both[0] if both else f"{n} B"


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def share(part: float, whole: float) -> str:
    """Per cent, with enough digits to tell small things from nothing."""
    if whole <= 0:
        return "-"
    percent = 100 * part / whole
    if 0 < percent < 0.0001:
        return "< 0.0001 %"
    return f"{percent:.2f} %" if percent >= 0.01 or part == 0 else f"{percent:.2g} %"


def number(x: Any) -> str:
    """A figure of a tensor: integers whole as far as they are short, four digits of all others."""
    if x is None:
        return "-"
    if isinstance(x, bool):
        return str(x)
    if isinstance(x, complex):
        return f"{x.real:.4g}{x.imag:+.4g}j"
    if isinstance(x, int):
        return f"{x:,}" if abs(x) < 10**12 else f"{x:.4e}"
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    return f"{x:,.0f}" if 1e4 <= abs(x) < 1e7 else f"{x:.4g}"  # no longer than its power of ten would make it


def change(x: float | None) -> str:
    """How far something has moved, as a part of what it was."""
    if x is None:
        return "-"
    if math.isinf(x):
        return "from 0"
    return "0" if x == 0 else f"{100 * x:.3g} %" if 1e-6 <= x < 1e4 else f"{x:.2e}"


def shape(dims: Iterable[int]) -> str:
    return "[" + ", ".join("?" if n < 0 else str(n) for n in dims) + "]"


def base_name(path: str | None) -> str:
    """Of a path of any system, without its folders."""
    return (path or "").rstrip("/\\").replace("\\", "/").rpartition("/")[2]


def is_number(label: str) -> bool:
    """Is it the number of a layer?"""
    return label.isascii() and label.isdecimal() and len(label) < 10


# ---- what of a text fits ----


def cells(text: str) -> int:
    """How many columns it takes: a Chinese character takes two, an accent none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def fits(text: str, room: int) -> bool:
    """However long it is, this looks at no more of it than a line."""
    return len(text) <= 4 * room and cells(text) <= room


def first(text: str, room: int) -> str:
    """As much of its beginning as fits."""
    if text.isascii():
        return text[: max(0, room)]
    used = 0
    for i, c in enumerate(text[: 4 * room]):  # accents take no room, but a line is not made of them
        used += cells(c)
        if used > room:
            return text[:i]
    return text[: max(0, 4 * room)]


def cut(text: str, room: int) -> str:
    """The middle goes, the ends stay: they are what tells names apart."""
    if room < 5 or fits(text, room):
        return text
    head, tail = (room - 3) // 2, room - 3 - (room - 3) // 2
    return f"{first(text, head)}...{first(text[-4 * tail :][::-1], tail)[::-1]}"


def printable(text: str, room: int) -> str:
    """A text out of a file: what acts on a terminal is spelt out, and of a long one the middle goes."""
    return cut(escape(cut(text, 2 * room)), room)
