"""How the elements of a tensor lie in the file: in which order they are come by, and as which bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .errors import FormatError, UnsupportedError
from .source import Source

if TYPE_CHECKING:
    from .tensor import Tensor

READ = 1 << 20  # bytes that are read at once, most of the time


class Walk(NamedTuple):
    """The elements of one tensor: `dims` (how many, bytes apart) from far to near, and where the first one is.

    data: bytes in memory that stand for the file, or None. turned: they do not lie in the order of their indices.
    """

    dtype: int
    itemsize: int
    offset: int
    dims: tuple[tuple[int, int], ...]
    data: Any
    repeats: int
    turned: bool
    swap: int  # bytes that turn round together, of a big-endian file; 1: none
    packed: int  # elements per byte

    @property
    def n(self) -> int:
        return math.prod(n for n, _ in self.dims)

    @property
    def nbytes(self) -> int:
        return -(-self.n * self.itemsize // self.packed)

    @property
    def together(self) -> bool:
        """One behind the other?"""
        return not self.dims or (len(self.dims) == 1 and self.dims[0][1] == self.itemsize)


def walk_of(t: Tensor) -> Walk:
    """Where the elements of a dense tensor are; each stored element once, however often it is repeated."""
    name, _, itemsize, packing, swap, _, _ = _core.DTYPES[t._dtype]
    dims, repeats = [], 1
    for n, s in zip(t._sizes, t._strides, strict=True):
        if s == 0 and n > 1:
            repeats *= n
        elif n != 1:
            dims.append((n, s))
    order = sorted(dims, key=lambda d: -d[1])
    turned = order != dims
    merged: list[tuple[int, int]] = []
    for n, s in order:
        if merged and merged[-1][1] == n * s:
            merged[-1] = (merged[-1][0] * n, s)
        else:
            merged.append((n, s))
    store, box = t.table.store, t._home.box
    if t.numel == 0:
        return Walk(t._dtype, itemsize, 0, ((0, itemsize),), b"", 1, False, 1, 1)
    row = t._storage
    if row is None:
        raise UnsupportedError("no-data", "the file holds no data of this tensor")
    extent, base = t._home.extent(t.table, row)
    halves = 2 if name == "float4_e2m1fn_x2" else 1  # two numbers, which torch counts as one
    if packing * halves > 1:
        if turned or repeats > 1 or merged not in ([], [(t.numel, 1)]) or t.storage_offset % packing:
            raise UnsupportedError("no-array", "parts of bytes that do not lie one behind the other")
        dims_in_bytes: tuple[tuple[int, int], ...] = ((t.numel * halves, itemsize),)
    else:
        dims_in_bytes = tuple((n, s * itemsize) for n, s in merged)
    first, last = t.byte_range()
    start = base + t.storage_offset // packing * itemsize
    if base + last > extent.nbytes or first < 0:
        raise FormatError("tensor-bounds", f"ends at byte {base + last} of a storage of {extent.nbytes}")
    count = math.prod(n for n, _ in dims_in_bytes)
    if count * itemsize > last - first:  # overlapping windows, which may be of any number
        t._check_dense(count * itemsize)
    little = store is not None and store.fixed_little
    swapped = swap if box.byteorder == "big" and swap > 1 and not little else 1
    return Walk(
        t._dtype,
        itemsize,
        start if extent.offset is None else extent.offset + start,
        dims_in_bytes,
        None if extent.offset is not None else extent.data,
        repeats,
        turned,
        swapped,
        packing * halves,
    )


def blocks(walk: Walk, source: Source) -> Iterator[bytes]:
    """The elements in the order in which they lie, as bytes."""
    import numpy as np

    if walk.together:
        for at in range(0, walk.nbytes, READ):
            yield bytes(source.read(walk.offset + at, min(READ, walk.nbytes - at)))
        return
    # The near dimensions that fit into one read, and as much of the next one as does.
    inner, span = len(walk.dims), walk.itemsize
    while inner and span + (walk.dims[inner - 1][0] - 1) * walk.dims[inner - 1][1] <= READ:
        inner -= 1
        span += (walk.dims[inner][0] - 1) * walk.dims[inner][1]
    near = walk.dims[inner:]
    n, step = walk.dims[inner - 1] if inner else (1, 0)
    rows = min(n, max(1, (READ - span) // step + 1)) if inner else 1
    far = walk.dims[: max(0, inner - 1)]
    for start in starts(far):
        for row in range(0, n, rows):
            few = min(rows, n - row)
            need = span + (few - 1) * step
            data = source.read(walk.offset + start + row * step, need)
            shape, strides = (few, *(k for k, _ in near)), (step, *(s for _, s in near))
            yield np.ndarray(shape, f"V{walk.itemsize}", data, 0, strides).tobytes()


def starts(dims: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Bytes from the first element on, of each index of some dimensions, the last one fastest."""
    index = [0] * len(dims)
    at = 0
    while True:
        yield at
        k = len(dims) - 1
        while k >= 0:
            index[k] += 1
            at += dims[k][1]
            if index[k] < dims[k][0]:
                break
            at -= dims[k][0] * dims[k][1]
            index[k] = 0
            k -= 1
        if k < 0:
            return


def leaves(t: Tensor) -> list[tuple[str, Tensor]]:
    """What of a tensor has elements: itself, or what it is made of."""
    if t.kind in ("sparse", "nested"):
        values = next((t.inner[n] for n in ("values", "buffer") if n in t.inner), None)
        return [(t.name, values)] if values is not None else [(t.name, t)]
    if t.kind == "subclass" and t.error is None:
        only = t._only()
        if only is not None:
            return [(t.name, only)]
        return [(leaf.name, leaf) for leaf in t.leaves()] or [(t.name, t)]
    return [(t.name, t)]


def same(index: int) -> int:
    return index


def place_of(t: Tensor) -> Callable[[int], int]:
    """Where an element stands in the flattened tensor, by its place among the stored ones."""
    shape, strides = t._sizes, t._strides

    def index(at: int) -> int:
        axes = [k for k, (n, s) in enumerate(zip(shape, strides, strict=True)) if n > 1 and s != 0]
        axes.sort(key=lambda k: -strides[k])
        found = dict.fromkeys(range(len(shape)), 0)
        for k in reversed(axes):
            at, found[k] = divmod(at, shape[k])
        flat = 0
        for k, n in enumerate(shape):
            flat = flat * n + found[k]
        return flat

    return index
