"""Numbers and names as a page shows them."""

from __future__ import annotations

import math
from typing import Any

from ..errors import escape
from ..report.screen import cut

NAME = 160  # characters of a name
TEXT = 400  # of a sentence


def told(text: Any, most: int = TEXT) -> str:
    """Text out of a file: cut in its middle, and what is no letter of print spelt out."""
    return escape(cut(str(text), most))


def name(text: str) -> str:
    return told(text, NAME) or "(no name)"


def units(n: int) -> str:
    """Bytes in both units, in short."""
    for power, decimal, binary in ((4, "TB", "TiB"), (3, "GB", "GiB"), (2, "MB", "MiB"), (1, "kB", "KiB")):
        if n >= 1000**power:
            return f"{n / 1000**power:.1f} {decimal} = {n / 1024**power:.1f} {binary}"
    return f"{n:,} bytes"


def brief(n: int) -> str:
    """Bytes in one unit, in short."""
    return units(n).split(" = ")[0] if n >= 1000 else f"{n} B"


def number(x: Any) -> str:
    """Four digits, and as few characters as they take."""
    if x is None:
        return ""
    if isinstance(x, bool):
        return str(x)
    if isinstance(x, complex):
        return f"{x.real:.4g}{x.imag:+.4g}j"
    if isinstance(x, int):
        return f"{x:,}" if abs(x) < 10**12 else f"{x:.4e}"
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    if 1e4 <= abs(x) < 1e7:
        return f"{x:,.0f}"
    return f"{x:.4g}"


def dims(shape: tuple[int, ...]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join("?" if n < 0 else f"{n:,}" for n in shape) if shape else "scalar"
