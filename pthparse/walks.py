"""How the elements of a tensor lie in the file: in which order they are come by, and as which bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .errors import FormatError, PthError, UnsupportedError
from .pieces import Lie, in_line, merged
from .team import AFAR, share

if TYPE_CHECKING:
    from .formats.base import Container
    from .tensor import Tensor

READ = 1 << 20  # bytes that are read at once, most of the time

Line = tuple[int, int, int, int]  # first byte in the file, bytes, elements, row of dtypes.def


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
    def lie(self) -> Lie:
        """To be gathered in this order; parts of bytes as bytes."""
        if self.packed > 1:
            return Lie(1, self.offset, ((self.nbytes, 1),), self.data, 1)
        return Lie(self.itemsize, self.offset, self.dims, self.data, self.swap)

    @property
    def together(self) -> bool:
        """One behind the other?"""
        return in_line(self.dims, self.itemsize)


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
    lying = merged(order)
    store, box = t.table.store, t._home.box
    if t.numel == 0:
        return Walk(t._dtype, itemsize, 0, ((0, itemsize),), b"", 1, False, 1, 1)
    row = t._storage
    if row is None:
        raise UnsupportedError("no-data", "the file holds no data of this tensor")
    extent, base = t._home.extent(t.table, row)
    halves = 2 if name == "float4_e2m1fn_x2" else 1  # two numbers, which torch counts as one
    if packing * halves > 1:
        if turned or repeats > 1 or lying not in ((), ((t.numel, 1),)) or t.storage_offset % packing:
            raise UnsupportedError("no-array", "parts of bytes that do not lie one behind the other")
        dims_in_bytes: tuple[tuple[int, int], ...] = ((t.numel * halves, itemsize),)
    else:
        dims_in_bytes = tuple((n, s * itemsize) for n, s in lying)
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


def locate(tensors: Sequence[Any]) -> None:
    """Elements of all of these will be asked for: finds where they lie, many at once."""
    rows: list[Any] = [t for t in tensors if isinstance(t, _core.TensorRow)]
    for table, n in Counter(t.table for t in rows).items():
        table.home.box.locate_many(n)
    spans: dict[Container, list[tuple[Any, int]]] = {}
    for _, t in (leaf for tensor in rows if tensor.table.home.box.source.afar for leaf in leaves(tensor)):
        row = t._storage
        span = None if row is None else t.table.storage(row)[0]
        if span is not None:
            spans.setdefault(t._home.box, []).append((t.table.store, span))
    share(spans.items(), lambda _: lambda row: row[0].locate(row[1]), min(AFAR, max(1, len(spans))))


def line_of(t: Tensor) -> Line | None:
    """Of most dense tensors: whole bytes that lie in the file one behind the other, to which nothing need be done.

    None: of others, and of what is wrong.
    """
    home, row = t.table.home, t._storage
    if row is None or home.box.closed:
        return None
    line = t._line
    if line is None and home.box.zip is not None and t._in_line:
        table = t.table
        span = table.storage(row)[0]
        if span is None or not home.box.is_stored(table.store, span):
            return None
        try:
            home.extent(table, row)  # reads its local header
        except PthError:  # who looks closer says so
            return None
        line = t._line
    return line


def lie_of(t: Tensor, walk: Walk | None = None) -> Lie:
    """Where the elements of a dense tensor are, in the order of their indices; `walk`: if it is known already.

    Raises
    ------
    PthError
        They are not in the file, or would be more than is allowed of elements that are stored once and repeated.
    """
    walk = walk or walk_of(t)
    if walk.packed > 1 or not t.numel:
        return walk.lie
    if walk.repeats > 1:
        t._check_dense(t.numel * walk.itemsize)
    return walk.lie._replace(dims=merged(_in_bytes(t, walk.itemsize)))


def lie_by_axes(t: Tensor) -> Lie:
    """The same of a tensor of whole bytes, with a dimension for each of its own."""
    return lie_of(t)._replace(dims=tuple(_in_bytes(t, _core.DTYPES[t._dtype][2])))


def _in_bytes(t: Tensor, itemsize: int) -> Iterator[tuple[int, int]]:
    return ((n, s * itemsize) for n, s in zip(t._sizes, t._strides, strict=True))


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
