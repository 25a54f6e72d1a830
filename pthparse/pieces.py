"""The elements of a tensor in the order of their indices, piece by piece, however they lie in the file.

A piece is a box of indices, so large that both what is read for it and what it becomes are long runs of bytes: a
transposed matrix is cut into tiles that are about as high as they are wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import UnsupportedError
from .source import MemorySource, Source
from .walks import walk_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .tensor import Tensor

LINE = 1 << 20  # bytes of a piece of elements that lie one behind the other
TILE = 1 << 21  # bytes of a piece of others
GAP = 1 << 12  # bytes between elements that are read along rather than by another call
WASTE = 4  # or so many times as many bytes as are wanted
LINE_OF_CACHE = 64  # bytes
MOST_DIMS = 64  # of an array of numpy


class Lie(NamedTuple):
    """Where elements are: `dims` (how many, bytes apart) in the order of the indices, neighbours that can be as one.

    data: bytes in memory that stand for the file, or None. swap: bytes that turn round together; 1: none.
    """

    itemsize: int
    offset: int
    dims: tuple[tuple[int, int], ...]
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
        return not self.dims or (len(self.dims) == 1 and self.dims[0][1] == self.itemsize)


def lie_of(t: Tensor) -> Lie:
    """Where the elements of a dense tensor are. Every extent is checked, and so is what is read for it.

    Raises
    ------
    PthError
        They are not in the file, or would be more than is allowed of elements that are stored once and repeated.
    """
    walk = walk_of(t)
    if walk.packed > 1:
        return Lie(1, walk.offset, ((walk.nbytes, 1),), walk.data, 1)
    size = walk.itemsize
    if t.numel == 0:
        return Lie(size, 0, ((0, size),), b"", 1)
    if walk.repeats > 1:
        t._check_dense(t.numel * size)
    dims: list[tuple[int, int]] = []
    for n, s in zip(t._sizes, t._strides, strict=True):
        if n == 1:
            continue
        if dims and dims[-1][1] == n * s * size:
            dims[-1] = (dims[-1][0] * n, s * size)
        else:
            dims.append((n, s * size))
    if len(dims) > MOST_DIMS:
        raise UnsupportedError("numpy-ndim", f"{len(dims)} dimensions that do not lie as one, {MOST_DIMS} at most")
    return Lie(size, walk.offset, tuple(dims), walk.data, walk.swap)


def lie_of_array(array: NDArray[Any]) -> Lie:
    """The same of an array in memory."""
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(-1)
    size = array.itemsize
    return Lie(size, 0, ((flat.size, size),), flat.view(np.uint8).data if flat.size else b"", 1)


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


Box = tuple[tuple[int, int], ...]  # of each dimension: the first index, how many


def boxes(lie: Lie) -> Iterator[Box]:
    """All pieces."""
    steps = zip(lie.dims, tile_of(lie), strict=True)
    return product(*([(at, min(few, n - at)) for at in range(0, n, few)] for (n, _), few in steps))


def gather(lie: Lie, source: Source, box: Box) -> NDArray[Any]:
    """The elements of a piece, as unsigned integers or as bare bytes; what lies between them may be read along."""
    import numpy as np

    if lie.data is not None:
        source = MemorySource(lie.data)
    unit = np.dtype(f"u{lie.itemsize}" if lie.itemsize in (1, 2, 4, 8) else f"V{lie.itemsize}")
    shape = tuple(few for _, few in box)
    base = lie.offset + sum(at * s for (at, _), (_, s) in zip(box, lie.dims, strict=True))
    span = useful = lie.itemsize
    order = sorted((s, i) for i, (_, s) in enumerate(lie.dims) if s and shape[i] > 1)
    near = 0
    for s, i in order:
        wide = span + (shape[i] - 1) * s
        if wide > 2 * TILE or (s - span > GAP and wide > WASTE * useful * shape[i]):
            break
        span, useful, near = wide, useful * shape[i], near + 1
    if near == len(order):
        strides = tuple(s if n > 1 else lie.itemsize for n, (_, s) in zip(shape, lie.dims, strict=True))
        return np.ascontiguousarray(np.ndarray(shape, unit, source.read(base, span), 0, strides))
    # First as it lies, from far to near, then turned at once. Rows are set apart by a line of the cache: else all that
    # is needed for one row of the result might have to share a few places of it.
    far, close = order[near:][::-1], order[:near][::-1]
    ways = [i for _, i in far + close]
    size = math.prod(shape[i] for _, i in close)
    rows = np.empty((math.prod(shape[i] for _, i in far), size + max(1, LINE_OF_CACHE // lie.itemsize)), unit)
    near_shape, near_strides = tuple(shape[i] for _, i in close), tuple(s for s, _ in close)
    places = product(*(range(0, shape[i] * s, s) for s, i in far))
    if span == size * lie.itemsize:  # one behind the other
        out, pitch = rows.reshape(-1).view(np.uint8).data, rows.strides[0]
        for k, place in enumerate(places):
            out[k * pitch : k * pitch + span] = source.read(base + sum(place), span)
    else:
        for row, place in zip(rows, places, strict=True):
            found = np.ndarray(near_shape, unit, source.read(base + sum(place), span), 0, near_strides)
            row[:size] = found.reshape(-1)
    lying = rows[:, :size].reshape(tuple(shape[i] for i in ways))
    single = tuple(1 if n > 1 and s == 0 else n for n, (_, s) in zip(shape, lie.dims, strict=True))
    at = {i: k for k, i in enumerate(ways)}
    turned = lying.transpose([at[i] for i in range(len(shape)) if i in at]).reshape(single)
    return np.ascontiguousarray(np.broadcast_to(turned, shape))


def runs(dims: Sequence[tuple[int, int]], box: Box) -> Iterator[tuple[int, int, int]]:
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
