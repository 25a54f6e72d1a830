"""A few elements of a tensor, read where they lie: its first rows, and a sample of all of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..errors import PthError, guard
from ..source import MemorySource
from ..walks import walk_of
from .words import number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..stats import Stats
    from ..tensor import Tensor

WHOLE = 4096  # elements, up to which a tensor is read whole
FIRST = 4  # elements of a row
ROWS = 3
BLOCKS, BLOCK = 16, 512  # of a sample: runs of elements, at equal distances
BINS = 48
WIDTHS = 4.5  # standard deviations that are drawn on each side of the mean


def _is_plain(t: Tensor) -> bool:
    return t.error is None and t.kind == "dense" and not (t.conj or t.neg)


def _is_small(t: Tensor) -> bool:
    return t.error is None and t.kind in ("dense", "quantized", "array", "chunked") and t.numel <= WHOLE


def first_values(t: Tensor) -> tuple[str, ...]:
    """Rows of text: the first elements and the last; none where they cannot be had without reading much."""
    with guard("the first values"):
        if not t.numel:
            return ()
        if _is_small(t):
            array = t.numpy()
            return _rows(t.shape, lambda *index: array[index])
        if not _is_plain(t) or t.storage is None or t.storage.file_offset is None:
            return ()
        return _rows(t.shape, _Cells(t))
    return ()


def _rows(shape: tuple[int, ...], cell: Any) -> tuple[str, ...]:
    def of(before: tuple[int, ...], n: int) -> str:
        if n <= FIRST + 2:
            cells = [number(_plain(cell(*before, i))) for i in range(n)]
        else:
            cells = [number(_plain(cell(*before, i))) for i in range(FIRST)]
            cells += ["…", number(_plain(cell(*before, n - 1)))]
        return f"[{', '.join(cells)}]"

    if not shape:
        return (number(_plain(cell())),)
    above = (0,) * (len(shape) - 2)
    if len(shape) == 1:
        return (of((), shape[0]),)
    n = shape[-2]
    rows = range(n) if n <= ROWS + 1 else range(ROWS)
    out = [of((*above, i), shape[-1]) for i in rows]
    if n > ROWS + 1:
        out += ["…", of((*above, n - 1), shape[-1])]
    return tuple(out)


def _plain(x: Any) -> Any:
    kind = x.dtype.kind
    if kind == "c":
        return complex(x)
    return x.item() if kind in "biu" else float(x) if kind in "fV" else str(x)


class _Cells:
    """Elements by their index, each read by itself."""

    def __init__(self, t: Tensor) -> None:
        from ..tensor import numpy_dtype

        self.walk = walk_of(t)
        self.strides = t._strides
        self.dtype = numpy_dtype(t._dtype)
        self.source: Any = t._home.box.source if self.walk.data is None else MemorySource(self.walk.data)
        if self.walk.packed != 1 or self.dtype.itemsize != self.walk.itemsize:
            raise PthError("no-array", "no element has bytes of its own")

    def __call__(self, *index: int) -> Any:
        at = sum(i * s for i, s in zip(index, self.strides, strict=True))
        return self.read(at, 1)[0]

    def read(self, at: int, n: int) -> NDArray[Any]:
        import numpy as np

        size = self.walk.itemsize
        raw = np.frombuffer(bytes(self.source.read(self.walk.offset + at * size, n * size)), np.uint8)
        if self.walk.swap > 1:
            raw = raw.reshape(-1, self.walk.swap)[:, ::-1].reshape(-1).copy()
        return raw.view(self.dtype)


def sampled(t: Tensor) -> NDArray[Any] | None:
    """All elements of a small tensor, or some thousand of it, as float64; None where that makes no sense."""
    import numpy as np

    if not t.dtype.startswith(("float", "bfloat")) or t.numel < 2:
        return None
    with guard("a sample"):
        if _is_small(t):
            found = t.numpy().reshape(-1)
        elif _is_plain(t) and t.storage is not None and t.storage.file_offset is not None and walk_of(t).together:
            cells = _Cells(t)
            places = ((t.numel - BLOCK) * i // (BLOCKS - 1) for i in range(BLOCKS))
            found = np.concatenate([cells.read(at, BLOCK) for at in places])
        else:
            return None
        wide = found.astype(np.float64)
        return wide[np.isfinite(wide)]
    return None


def value_counts(t: Tensor, s: Stats) -> tuple[tuple[int, ...], float, float, int] | None:
    """(counts, from, to, elements that were looked at) of bins of equal width around the mean."""
    import numpy as np

    found = sampled(t)
    if found is None or not len(found) or not isinstance(s.mean, float) or s.min is None or s.max is None:
        return None
    low, high = float(s.min), float(s.max)
    if s.std:
        low, high = max(low, s.mean - WIDTHS * s.std), min(high, s.mean + WIDTHS * s.std)
    if not (math.isfinite(high - low) and high > low) or high - low < 1e-300:
        return None
    bins = min(BINS, max(4, round(math.sqrt(len(found)))))
    counts = np.histogram(found, bins, (low, high))[0]
    return tuple(int(n) for n in counts), low, high, len(found)
