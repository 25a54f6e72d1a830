"""Elements of one tensor that lie in chunks, each somewhere else: put together band by band, never as a whole."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .pieces import TILE, Box, Dims, Lie, bands, gather, unit_of
from .source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Part(NamedTuple):
    """A chunk: its first index in the tensor, and where its elements lie, with a dimension for each of the tensor's."""

    first: tuple[int, ...]
    lie: Lie
    source: Source


class Mosaic:
    """Parts that cover a tensor, each element once.

    dims: how many elements along each dimension; steps between them there are none.
    """

    together, data, swap = False, None, 1

    def __init__(self, shape: tuple[int, ...], itemsize: int, parts: Sequence[Part]) -> None:
        self.dims: Dims = tuple((n, 0) for n in shape)
        self.itemsize = itemsize
        self.parts = sorted(parts, key=lambda part: part.first)
        self._firsts = [part.first[:1] for part in self.parts]
        self._highest = max((part.lie.dims[0][0] for part in self.parts if shape), default=0)

    def boxes(self) -> Iterator[Box]:
        """All of it, each box behind the one before."""
        return bands([n for n, _ in self.dims], max(1, TILE // self.itemsize))

    def gather(self, box: Box) -> NDArray[Any]:
        """The elements of a box, as `pieces.gather` gives them."""
        import numpy as np

        out = np.empty([few for _, few in box], unit_of(self.itemsize))
        for part in self._near(box):
            here: list[slice] = []
            there: list[tuple[int, int]] = []
            for (at, few), first, (n, _) in zip(box, part.first, part.lie.dims, strict=True):
                low, end = max(at, first), min(at + few, first + n)
                here.append(slice(low - at, end - at))
                there.append((low - first, end - low))
            if all(few > 0 for _, few in there):
                found = gather(part.lie.part(tuple(there)), part.source).reshape([few for _, few in there])
                if found.size == out.size:
                    return found
                out[tuple(here)] = found
        return out

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All elements in their order, some MiB at a time."""
        return map(self.gather, self.boxes())

    def _near(self, box: Box) -> list[Part]:
        """Those that may have elements of a box, by the first dimension."""
        if not box:
            return self.parts
        at, few = box[0]
        return self.parts[bisect_right(self._firsts, (at - self._highest,)) : bisect_left(self._firsts, (at + few,))]
