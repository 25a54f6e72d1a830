"""Figures of tensors: what a pass over their elements comes down to, and how those of two become one."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _kernels
from .errors import PthError
from .record import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

# One row for each tensor; what a type or a tensor has not is NaN, or -1.
COLUMNS = (
    *(("name", "U"), ("dtype", "U20")),
    *((n, "i8") for n in ("numel", "nan", "posinf", "neginf", "zeros", "subnormal")),
    *((n, "f8") for n in ("min", "max", "mean", "std", "absmax", "l1", "l2")),
    *(("first_bad", "i8"), ("repeats", "i8")),
)
STATE = struct.Struct(_kernels.STATS_LAYOUT)
NOWHERE = (1 << 64) - 1
# Types whose extremes are integers.
INTEGERS = frozenset(
    n for n, *_ in _core.DTYPES if n.lstrip("u").startswith(("int", "bits")) or n == "bool" or n[0] == "q"
)


class Stats(Record):
    """The figures of one tensor. All but the counts are of its finite elements.

    Attributes
    ----------
    name, dtype : str
    shape : tuple of int
    numel : int
        Elements that were looked at.
    nan, posinf, neginf, zeros, subnormal : int
        How many of them are. Subnormal: in the tensor's own dtype.
    min, max : float, int or None
        int for integers and bool. None where there is no finite element, or where the elements are complex.
    mean : float, complex or None
    std : float or None
        Of the population: the root of the mean squared distance from the mean (numpy's; torch divides by n - 1).
    absmax, l1, l2 : float, int or None
        Of complex elements: of their moduli.
    first_bad : int or None
        Index in the flattened tensor of the first element that is NaN or infinite.
    bfloat16_exact : bool or None
        float32: every element is exactly a bfloat16, as in a file that was converted upwards.
    repeats : int
        How often each stored element stands in the tensor (expanded dimensions); the figures are those of the whole.
    histogram : tuple of (int, int), or None
        (e, n): n elements with 2**e <= abs(x) < 2**(e + 1); zeros stand nowhere in it.
    values : tuple, or None
        (edges, counts) of bins of equal width between min and max.
    quantiles : tuple of (float, float), or None
        (q, value): linear between neighbours.
    integers : Stats or None
        Of a quantized tensor, whose own figures are of the values they stand for.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    numel: int
    nan: int
    posinf: int
    neginf: int
    zeros: int
    subnormal: int
    min: float | int | None
    max: float | int | None
    mean: float | complex | None
    std: float | None
    absmax: float | int | None
    l1: float | None
    l2: float | None
    first_bad: int | None = None
    bfloat16_exact: bool | None = None
    repeats: int = 1
    histogram: tuple[tuple[int, int], ...] | None = None
    values: tuple[tuple[float, ...], tuple[int, ...]] | None = None
    quantiles: tuple[tuple[float, float], ...] | None = None
    integers: Stats | None = None
    _state: bytes = b""

    @property
    def finite(self) -> int:
        """Elements that are neither NaN nor infinite."""
        return self.numel - self.nan - self.posinf - self.neginf

    def merge(self, other: Stats) -> Stats:
        """The figures of both together: exact for counts and extremes, and for the rest the same whenever it is asked.

        `other` stands behind this one: (a.merge(b)).merge(c) may differ from a.merge(b.merge(c)) in last places.

        Raises
        ------
        ValueError
            They are of different dtypes.
        """
        if self.dtype != other.dtype:
            raise ValueError(f"{self.dtype} and {other.dtype} have no statistics in common")
        width = len(self._state) // STATE.size
        state = _kernels.fold(self._state + other._state, width, self.dtype == "int64")
        bins = None
        if self.histogram is not None and other.histogram is not None:
            bins = tuple(sorted((Counter(dict(self.histogram)) + Counter(dict(other.histogram))).items()))
        exact = None if self.bfloat16_exact is None else self.bfloat16_exact and bool(other.bfloat16_exact)
        both = self.integers.merge(other.integers) if self.integers and other.integers else None
        return figures(self.name, self.dtype, (self.numel + other.numel,), state, bins, exact=exact, integers=both)


class Row(NamedTuple):
    """Fields of a record of the kernels (csrc/stats.h)."""

    n: int
    nan: int
    posinf: int
    neginf: int
    zeros: int
    subnormal: int
    first: int
    flags: int
    min: float
    max: float
    sum: float
    sum_low: float
    l1: float
    l1_low: float
    spread: float
    spread_low: float
    least: int
    most: int


def figures(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    state: bytes,
    bins: tuple[tuple[int, int], ...] | None,
    *,
    repeats: int = 1,
    exact: bool | None = None,
    integers: Stats | None = None,
) -> Stats:
    """The figures that a record, or the three of complex numbers, come down to."""
    *parts, size = STATE.iter_unpack(state)  # of complex numbers: the last one is of the moduli
    numel, nan, posinf, neginf, zeros, subnormal, first, flags, least, most = size[:10]
    n = numel - nan - posinf - neginf
    low = high = mean = std = absmax = l1 = l2 = None
    if n:
        total, total_low, l1, l1_low, spread, spread_low = size[10:16]
        middle = least if least == most else (total + total_low) / n
        # Of all that was summed up: of moduli, their own mean and spread.
        l2 = math.sqrt(spread + spread_low + n * (middle * middle))
        l1 += l1_low
        absmax = max(-least, most)
        spread += spread_low
        if parts:
            re, im = (Row(*row) for row in parts)
            mean = complex(*(row.min if row.min == row.max else (row.sum + row.sum_low) / n for row in (re, im)))
            spread = (re.spread + re.spread_low) + (im.spread + im.spread_low)
        else:
            mean, low, high = middle, least, most
            if dtype in INTEGERS:
                low, high = _extremes(dtype, Row(*size))
                absmax = max(-low, high)
        std = math.sqrt(spread / n)
    exact = exact if exact is not None or dtype != "float32" else not flags & _kernels.WIDE
    bad = None if first == NOWHERE else first
    return Stats(
        *(name, dtype, shape, numel, nan, posinf, neginf, zeros, subnormal, low, high, mean, std, absmax, l1, l2),
        *(bad, exact, repeats, bins, None, None, integers, state),
    )


def _extremes(dtype: str, row: Row) -> tuple[int, int]:
    if dtype == "uint64":
        return row.least, row.most
    if dtype == "int64":
        return tuple(x - (1 << 64) if x >> 63 else x for x in (row.least, row.most))  # type: ignore[return-value]
    return int(row.min), int(row.max)


class StatsTable:
    """The statistics of some tensors, in their order: iterates over `Stats`, and finds one by its name.

    Attributes
    ----------
    errors : mapping of str to PthError
        Why a tensor has none, by its name: it is damaged, or was saved without data (UnsupportedError).
    """

    def __init__(self, rows: list[Stats], errors: Mapping[str, PthError]) -> None:
        self._rows = rows
        self.errors = errors

    def __iter__(self) -> Iterator[Stats]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def _index(self) -> dict[str, Stats]:
        return {s.name: s for s in self._rows}

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __getitem__(self, name: str) -> Stats:
        found = self._index.get(name)
        if found is None and name in self.errors:
            raise self.errors[name]
        if found is None:
            raise KeyError(name)
        return found

    def __repr__(self) -> str:
        return f"<StatsTable of {len(self)} tensors>"

    def _repr_html_(self) -> str:
        from .notebook import of_stats

        return of_stats(self)

    def sorted(self, key: str, reverse: bool = True) -> StatsTable:
        """In the order of one of the figures; those that have none come last."""
        have = [s for s in self._rows if getattr(s, key) is not None]
        rest = [s for s in self._rows if getattr(s, key) is None]
        return StatsTable(sorted(have, key=lambda s: _rank(getattr(s, key)), reverse=reverse) + rest, self.errors)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "tensors": [s.to_dict() for s in self._rows],
            "errors": {name: str(e) for name, e in self.errors.items()},
        }

    def to_numpy(self) -> NDArray[Any]:
        """A structured array, a row for each tensor. Of complex means the real part; NaN or -1 where there is none."""
        import numpy as np

        longest = max((len(s.name) for s in self._rows), default=1)
        kinds = [(n, f"U{longest}" if n == "name" else kind) for n, kind in COLUMNS]
        out = np.zeros(len(self._rows), kinds)
        for n, kind in COLUMNS:
            empty: Any = -1 if kind == "i8" else math.nan
            values = [getattr(s, n) for s in self._rows]
            out[n] = [empty if v is None else v.real if isinstance(v, complex) else v for v in values]
        return out


def _rank(value: Any) -> Any:
    return abs(value) if isinstance(value, complex) else value
