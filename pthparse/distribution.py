"""Where the elements of a tensor lie among its values: exact histograms and quantiles, in passes of their own.

Quantiles need no sorting: elements are turned into integers of the same order, and those of the wanted ranks are found
sixteen bits at a time, by counting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import _kernels
from .errors import UnsupportedError, guard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 16  # bits that are told apart in one pass

Arrays = Callable[[], "Iterable[NDArray[Any]]"]  # all elements, once more: arrays of one dimension


def value_histogram(arrays: Arrays, bins: int, low: float, high: float) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """(edges, counts) of finite elements, as numpy.histogram has them for this range.

    Parameters
    ----------
    bins : int
        How many, of equal width.

    Raises
    ------
    PthError
        There are no such bins between these.
    """
    import numpy as np

    if not math.isfinite(high - low):
        raise UnsupportedError("no-bins", "its values lie too far apart for bins of equal width")
    with guard("its histogram"):  # values too near each other for so many bins
        edges = np.histogram_bin_edges(np.zeros(0), bins, (low, high))
    counts = np.zeros(bins, np.int64)
    for array in arrays():
        if array.dtype.kind == "c":
            raise UnsupportedError("no-array", "complex numbers have no order")
        wide = array if array.dtype.kind in "biuf" else array.astype(np.float32)  # bfloat16, float8: exactly
        _kernels.count_values(np.require(wide, np.float64, ["C", "ALIGNED"]), edges, counts)
    return tuple(edges.tolist()), tuple(counts.tolist())


def quantiles(arrays: Arrays, n: int, wanted: Sequence[float], repeats: int = 1) -> tuple[tuple[float, float], ...]:
    """(q, value) for each q between 0 and 1: of `n` finite elements; linear between neighbours, as numpy has it.

    Raises
    ------
    ValueError
        A q is no such number.
    """
    import numpy as np

    if not all(0 <= q <= 1 for q in wanted):
        raise ValueError("quantiles lie between 0 and 1")
    if n == 0:
        return ()
    places = [q * (n * repeats - 1) for q in wanted]
    ranks = {int(x) // repeats for p in places for x in (math.floor(p), math.ceil(p))}
    found = _of_ranks(arrays, sorted(ranks))
    out = []
    for q, place in zip(wanted, places, strict=True):
        low, high = found[math.floor(place) // repeats], found[math.ceil(place) // repeats]
        out.append((q, float(low + (np.float64(high) - low) * (place - math.floor(place)))))
    return tuple(out)


def _of_ranks(arrays: Arrays, ranks: list[int]) -> dict[int, float]:
    """The elements of these ranks, 0 being the smallest."""
    import numpy as np

    # What is known of the element of a rank: its upper bits, and its rank among the elements that share them.
    known = dict.fromkeys(ranks, (0, 0))
    known = {rank: (0, rank) for rank in known}
    width = None
    shift = 0
    while width is None or shift > 0:
        counts: dict[int, NDArray[Any]] = {}
        for array in arrays():
            keys = _keys(_finite(array))
            if width is None:
                width = shift = 8 * keys.itemsize
            down = max(0, shift - STEP)
            size = 1 << (shift - down)
            upper = keys >> np.uint64(shift) if shift < 64 else np.zeros_like(keys)
            for prefix in {p for p, _ in known.values()}:
                mine = keys[upper == prefix] if shift < width else keys
                part = (mine >> keys.dtype.type(down)) & keys.dtype.type(size - 1)
                seen = np.bincount(part.astype(np.intp), minlength=size)
                counts[prefix] = counts[prefix] + seen if prefix in counts else seen
        for rank, (prefix, among) in known.items():
            below = np.cumsum(counts[prefix])
            at = int(np.searchsorted(below, among, side="right"))
            known[rank] = (prefix * size + at, among - (int(below[at - 1]) if at else 0))
        shift = down
    sample = next(iter(arrays()))
    return {rank: _value(key, sample.dtype) for rank, (key, _) in known.items()}


def _finite(array: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    if array.dtype.kind in "biu":
        return array.astype(np.uint8) if array.dtype.kind == "b" else array
    if array.dtype.kind == "c":
        raise UnsupportedError("no-array", "complex numbers have no order")
    wide = array if array.dtype.kind == "f" else array.astype(np.float32)  # bfloat16, float8: exactly
    return np.asarray(wide[np.isfinite(wide)])


def _keys(array: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers in the order of the elements."""
    import numpy as np

    code = array.view(f"u{array.itemsize}")
    top = code.dtype.type(1 << (8 * array.itemsize - 1))
    if array.dtype.kind == "u":
        return code
    if array.dtype.kind == "i":
        return np.asarray(code ^ top)
    return np.where(code & top, ~code, code | top)


def _value(key: int, dtype: np.dtype[Any]) -> float:
    import numpy as np

    kind = dtype if dtype.kind in "iuf" else np.dtype(np.uint8 if dtype.kind == "b" else np.float32)
    width = 8 * kind.itemsize
    top = 1 << (width - 1)
    if kind.kind == "i":
        key ^= top
    elif kind.kind == "f":
        key = key ^ top if key & top else ~key & ((1 << width) - 1)
    return float(np.array(key, f"u{kind.itemsize}").view(kind)[()])
