"""Numbers and names as a page shows them."""

from __future__ import annotations

from typing import Any

from .. import wording

NAME = 160  # characters of a name
TEXT = 400  # of a sentence


def told(text: Any, most: int = TEXT) -> str:
    """Text out of a file: cut in its middle, and what is no letter of print spelt out."""
    return wording.printable(str(text), most)


def name(text: str) -> str:
    return told(text, NAME) or "(no name)"


def units(n: int) -> str:
    """Bytes in both units, in short."""
    both = wording.units(n)
    return " = ".join(both) if both else f"{n:,} bytes"


def number(x: Any) -> str:
    """A figure; of what there is not, nothing."""
    return "" if x is None else wording.number(x)


def dims(shape: tuple[int, ...]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join("?" if n < 0 else f"{n:,}" for n in shape) if shape else "scalar"
