"""Elements in the order of their indices, piece by piece, however they lie: the one place where they are gathered.

A piece is a box of indices, so large that both what is read for it and what it becomes are long runs of bytes: a
transposed matrix is cut into tiles that are about as high as they are wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from .source import MemorySource, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINE = 1 << 20  # bytes of a piece of elements that lie one behind the other
TILE = 1 << 21  # bytes of a piece of others
BAND = 1 << 23  # bytes of others that are brought together at once, where they are wanted in their order
MOST = 1 << 20  # bytes of one read
GAP = 1 << 12  # bytes between elements that are read along rather than by another call
WASTE = 4  # or so many times as many bytes as are wanted
LINE_OF_CACHE = 64  # bytes
SHORT = 1 << 9  # bytes of rows that need not be set apart

Dims = tuple[tuple[int, int], ...]  # how many, and bytes apart, of each dimension in the order of the indices
Box = tuple[tuple[int, int], ...]  # of each dimension: the first index, how many


class Lie(NamedTuple):
    """Where elements are: `dims` are those of more than one, and neighbours that can be are as one.

    data: bytes in memory that stand for the file, or None. swap: bytes that turn round together; 1: none.
    """

    itemsize: int
    offset: int
    dims: Dims
    data: Any
    swap: int

    @property
    def n(self) -> int:
        return math.prod(n for n, _ in self.dims)

    @property
    def nbytes(self) -> int:
        return self.n * self.itemsize

    @property
    def together(self) -> bool:
        """One behind the other, as they are wanted?"""
        return in_line(self.dims, self.itemsize)

    def part(self, box: Box) -> Lie:
        """Those of a box."""
        both = list(zip(self.dims, box, strict=True))
        offset = self.offset + sum(at * s for (_, s), (at, _) in both)
        return self._replace(offset=offset, dims=tuple((few, s) for (_, s), (_, few) in both if few != 1))


def in_line(dims: Dims, itemsize: int) -> bool:
    """One behind the other?"""
    return not dims or (len(dims) == 1 and dims[0][1] == itemsize)


def merged(dims: Iterable[tuple[int, int]]) -> Dims:
    """Without those of one element; those that go on from each other as one."""
    out: list[tuple[int, int]] = []
    for n, s in dims:
        if out and n != 1 and out[-1][1] == n * s:
            out[-1] = (out[-1][0] * n, s)
        elif n != 1:
            out.append((n, s))
    return tuple(out)


def lie_of_array(array: NDArray[Any]) -> Lie:
    """Of an array in memory."""
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(-1)
    size = array.itemsize
    return Lie(size, 0, ((flat.size, size),), flat.view(np.uint8).data if flat.size else b"", 1)


# ---- how they are cut ----


def tile_of(lie: Lie) -> tuple[int, ...]:
    """How much of each dimension makes a piece: as much of those near in the result as of those near in the file."""
    dims = lie.dims
    most = (LINE if lie.together else TILE) // lie.itemsize
    tile = [1] * len(dims)
    near_there = list(reversed(range(len(dims))))
    near_here = sorted(range(len(dims)), key=lambda i: (dims[i][1] == 0, dims[i][1]))
    size = turn = 1
    while 2 * size <= most:
        turn = 1 - turn
        i = next((i for i in (near_here if turn else near_there) if tile[i] < dims[i][0]), None)
        if i is None:
            break
        wider = min(2 * tile[i], dims[i][0])
        size = size // tile[i] * wider
        tile[i] = wider
    return tuple(tile)


def boxes(lie: Lie) -> Iterator[Box]:
    """All pieces."""
    steps = zip(lie.dims, tile_of(lie), strict=True)
    return product(*([(at, min(few, n - at)) for at in range(0, n, few)] for (n, _), few in steps))


def bands(shape: Sequence[int], most: int) -> Iterator[Box]:
    """All of a shape in boxes of `most` elements, each of which follows the one before in the order of the indices."""
    axis, size = len(shape), 1
    while axis and size * shape[axis - 1] <= most:
        axis -= 1
        size *= shape[axis]
    near = tuple((0, n) for n in shape[axis:])
    if not axis:
        yield near
        return
    n, rows = shape[axis - 1], max(1, most // size)
    for far in product(*(range(k) for k in shape[: axis - 1])):
        for at in range(0, n, rows):
            yield (*((i, 1) for i in far), (at, min(rows, n - at)), *near)


def runs(dims: Dims, box: Box) -> Iterator[tuple[int, int, int]]:
    """Where a piece stands among all elements: (place of the first one, the same in the piece, how many follow)."""
    far = len(dims)
    few = 1
    while far:
        far -= 1
        few *= box[far][1]
        if box[far][1] != dims[far][0]:
            break
    weights = [1] * len(dims)
    for i in reversed(range(len(dims) - 1)):
        weights[i] = weights[i + 1] * dims[i + 1][0]
    start = sum(at * w for (at, _), w in zip(box, weights, strict=True))
    for k, places in enumerate(product(*(range(n) for _, n in box[:far]))):
        yield start + sum(i * w for i, w in zip(places, weights, strict=False)), k * few, few


# ---- how they are read ----


def unit_of(itemsize: int) -> str:
    """What elements are while nobody asks what they mean: unsigned integers, or bare bytes."""
    return f"u{itemsize}" if itemsize in (1, 2, 4, 8) else f"V{itemsize}"


def gather(lie: Lie, source: Source) -> NDArray[Any]:
    """The elements of a piece, in the order of bytes of this machine; what lies between them may be read along."""
    found = _gathered(lie, source if lie.data is None else MemorySource(lie.data))
    if lie.swap == 1:
        return found
    return found.reshape(-1).view(f"u{lie.swap}").byteswap().view(found.dtype).reshape(found.shape)


def _gathered(lie: Lie, source: Source) -> NDArray[Any]:
    import numpy as np

    unit, size = np.dtype(unit_of(lie.itemsize)), lie.itemsize
    shape, steps = tuple(n for n, _ in lie.dims), tuple(s for _, s in lie.dims)
    span = useful = size
    order = sorted((s, i) for i, s in enumerate(steps) if s)
    near = 0
    for s, i in order:
        wide = span + (shape[i] - 1) * s
        if s - span > GAP and wide > WASTE * useful * shape[i]:
            break
        if wide > MOST:
            few = (MOST - span) // s + 1
            if few < 2:
                break
            return _in_parts(lie, source, i, few)
        span, useful, near = wide, useful * shape[i], near + 1
    if near == len(order):
        return np.ascontiguousarray(np.ndarray(shape, unit, source.read(lie.offset, span), 0, steps))
    # First as it lies, from far to near, then turned at once. Rows are set apart by a line of the cache: else all that
    # is needed for one row of the result might have to share a few places of it.
    far, close = order[near:][::-1], order[:near][::-1]
    ways = [i for _, i in far + close]
    n = math.prod(shape[i] for _, i in close)
    apart = LINE_OF_CACHE // size if n * size >= SHORT else 0
    rows = np.empty((math.prod(shape[i] for _, i in far), n + apart), unit)
    near_shape, near_steps = tuple(shape[i] for _, i in close), tuple(s for s, _ in close)
    places = map(sum, product((lie.offset,), *(range(0, shape[i] * s, s) for s, i in far)))
    if span == n * size:  # one behind the other
        source.scatter(places, span, rows.reshape(-1).view(np.uint8).data, rows.strides[0])
    else:
        for row, place in zip(rows, places, strict=True):
            row[:n] = np.ndarray(near_shape, unit, source.read(place, span), 0, near_steps).reshape(-1)
    lying = rows[:, :n].reshape(tuple(shape[i] for i in ways))
    single = tuple(1 if s == 0 else k for k, s in lie.dims)
    at = {i: k for k, i in enumerate(ways)}
    turned = lying.transpose([at[i] for i in range(len(shape)) if i in at]).reshape(single)
    return np.ascontiguousarray(np.broadcast_to(turned, shape))


def _in_parts(lie: Lie, source: Source, axis: int, few: int) -> NDArray[Any]:
    """Some indices of one dimension after the other."""
    import numpy as np

    shape = [n for n, _ in lie.dims]
    out = np.empty(shape, unit_of(lie.itemsize))
    for at in range(0, shape[axis], few):
        n = min(few, shape[axis] - at)
        box = tuple((at, n) if i == axis else (0, k) for i, k in enumerate(shape))
        part = _gathered(lie.part(box), source)
        np.moveaxis(out, axis, 0)[at : at + n] = np.moveaxis(part.reshape([k for _, k in box]), axis, 0)
    return out


def blocks(lie: Lie, source: Source) -> Iterator[NDArray[Any]]:
    """All elements in their order, some MiB at a time."""
    import numpy as np

    shape = tuple(n for n, _ in lie.dims)
    for band in bands(shape, (LINE if lie.together else BAND) // lie.itemsize):
        part = lie.part(band)
        whole = tuple(n for n, _ in part.dims)
        if tile_of(part) == whole:
            yield gather(part, source)
            continue
        out = np.empty(whole, unit_of(lie.itemsize))
        for box in boxes(part):
            place = tuple(slice(at, at + few) for at, few in box)
            out[place] = gather(part.part(box), source).reshape([few for _, few in box])
        yield out


def regrouped(arrays: Iterable[NDArray[Any]], size: int) -> Iterator[bytes | memoryview]:
    """Their bytes, `size` at a time; the last ones may be fewer."""
    import numpy as np

    pending = b""  # less than a block
    for array in arrays:
        view = array.reshape(-1).view(np.uint8).data
        while len(pending) + len(view) >= size:
            step = size - len(pending)
            yield pending + view[:step] if pending else view[:step]
            view, pending = view[step:], b""
        pending += view
    if pending:
        yield pending
