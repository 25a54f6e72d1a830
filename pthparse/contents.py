"""What a tensor holds, whatever its container: its parts, and their elements in the order of indices, little-endian.

The order of a file, strides, what else lies in a storage, and who looks at it too are no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .errors import FormatError, LimitError, PthError, UnsupportedError, guard
from .source import FileSource, MemorySource, SliceSource, Source
from .tensor import MAX_WRAPPERS, PIECES, Tensor
from .walks import starts, walk_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

DTYPES = {row[0]: i for i, row in enumerate(_core.DTYPES)}
READ = 1 << 20  # bytes that are read at once, most of the time
GATHERED = 1 << 23  # bytes that are brought together at once
NEAR = 1 << 18  # bytes that may be read for the sake of few of them
WASTE = 2  # and how many bytes for one that is wanted, where they are more,
FAR = 1 << 22  # but no more than these
AGAIN = 4  # how often all bytes of a file may be read for the sake of tensors that overlap
LASTING = 1 << 12  # bytes of an array that may be kept until it is its turn
MOST_PARTS = 10_000  # of one tensor

Dims = tuple[tuple[int, int], ...]  # how many, and bytes apart: in the order of the indices


class Elements(NamedTuple):
    """Elements of one dtype: how many, their bytes, and where they lie.

    dtype: a row of dtypes.def. plain: one behind the other at `offset` of the source, as they are wanted. swap: bytes
    that turn round together. spare: bits of the last byte that are no part of them. key: alike of the same elements.
    """

    dtype: int
    n: int
    nbytes: int
    itemsize: int
    source: Source
    offset: int
    dims: Dims
    plain: bool
    swap: int
    spare: int
    key: Hashable

    def blocks(self, size: int) -> Iterator[bytes | memoryview]:
        """All bytes, `size` at a time; the last ones may be fewer."""
        if not self.nbytes:
            return
        if self.together and self.swap == 1 and not self.spare:
            for at in range(0, self.nbytes, size):
                yield self.source.read(self.offset + at, min(size, self.nbytes - at))
            return
        pending = b""  # what is left of the last ones, less than a block
        left = self.nbytes
        for data in self._gathered():
            view = memoryview(data)
            while len(pending) + len(view) >= min(size, left) > 0:
                step = min(size, left) - len(pending)
                block = pending + view[:step] if pending else bytes(view[:step])
                view, pending = view[step:], b""
                left -= len(block)
                if not left and self.spare:
                    block = block[:-1] + bytes([block[-1] & (0xFF >> self.spare)])
                yield block
            pending += view

    def run(self, first: int, n: int) -> Elements:
        """Some of them, where all are plain: from a whole byte to a whole byte."""
        n = min(n, self.n - first)
        offset, end = (self.offset + at * self.nbytes // self.n for at in (first, first + n))
        nbytes = end - offset
        return self._replace(n=n, nbytes=nbytes, offset=offset, dims=((nbytes // self.itemsize, self.itemsize),))

    @property
    def together(self) -> bool:
        return not self.dims or (len(self.dims) == 1 and self.dims[0][1] == self.itemsize)

    def _gathered(self) -> Iterator[bytes | memoryview]:
        import numpy as np

        if self.together:
            for at in range(0, self.nbytes, READ):  # a whole number of elements: READ is a multiple of all sizes
                yield _turned(self.source.read(self.offset + at, min(READ, self.nbytes - at)), self.swap)
            return
        inner, size = len(self.dims), self.itemsize
        while inner and size * self.dims[inner - 1][0] <= GATHERED:
            inner -= 1
            size *= self.dims[inner][0]
        near = self.dims[inner:]
        n, step = self.dims[inner - 1] if inner else (1, 0)
        rows = min(n, max(1, GATHERED // size))
        unit = f"u{self.itemsize}" if self.itemsize in (1, 2, 4, 8) else f"V{self.itemsize}"
        for start in starts(self.dims[: max(0, inner - 1)]):
            for row in range(0, n, rows):
                few = min(rows, n - row)
                out = np.empty((few, *(k for k, _ in near)), unit)
                dims = ((few, step), *near)
                _fill(out, self.source, self.offset + start + row * step, dims, self.itemsize)
                yield _turned(out.reshape(-1).view(np.uint8).data, self.swap)


def _fill(out: NDArray[Any], source: Source, offset: int, dims: Dims, itemsize: int) -> None:
    """Elements that lie apart: what lies near is read at once, the rest is halved until it does."""
    import numpy as np

    stack: list[tuple[Any, int, Dims]] = [(out, offset, dims)]
    while stack:
        part, at, box = stack.pop()
        span = itemsize + sum((n - 1) * step for n, step in box)
        if span <= max(NEAR, min(FAR, WASTE * part.nbytes)):
            shape, strides = [n for n, _ in box], [step for _, step in box]
            part[...] = np.ndarray(shape, out.dtype, source.read(at, span), 0, strides)
            continue
        axis = max(range(len(box)), key=lambda k: (box[k][0] - 1) * box[k][1])
        n, step = box[axis]
        half = n // 2
        for first, count in ((half, n - half), (0, half)):
            index = (slice(None),) * axis + (slice(first, first + count),)
            stack.append((part[index], at + first * step, (*box[:axis], (count, step), *box[axis + 1 :])))


def _turned(data: bytes | memoryview, swap: int) -> bytes | memoryview:
    if swap == 1:
        return data
    import numpy as np

    return np.frombuffer(data, f"u{swap}").byteswap().tobytes()


def of_array(array: NDArray[Any], dtype: str | None = None) -> Elements:
    """Of an array in memory; `dtype`: torch's name of its elements."""
    import numpy as np

    name = dtype if dtype in DTYPES else array.dtype.name
    if name not in DTYPES:
        raise UnsupportedError("tensor-dtype", f"elements of {array.dtype} are no tensor's")
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    flat = np.ascontiguousarray(native).reshape(-1)
    itemsize = _core.DTYPES[DTYPES[name]][2]
    if flat.itemsize != itemsize and name != "complex32":
        raise UnsupportedError("tensor-dtype", f"elements of {array.dtype} are not {name}")
    source = MemorySource(flat.view(np.uint8).data if flat.size else b"")
    n = flat.nbytes // itemsize
    return Elements(DTYPES[name], n, flat.nbytes, itemsize, source, 0, ((n, itemsize),), True, 1, 0, object())


def elements_of(t: Any, budget: Budget | None = None) -> Elements:
    """Of a tensor that has elements of its own. `budget`: asked before anything is inflated.

    Raises
    ------
    PthError
        It has none, or they cannot be read.
    """
    if not isinstance(t, Tensor):
        with guard("its elements"):
            return of_array(t.numpy(), getattr(t, "dtype", None))
    if t.error is not None:
        raise t.error
    try:
        with guard("its elements"):
            if budget is not None:
                budget.take_inflated(t)
            return _elements_of(t)
    except PthError as e:
        raise t._place(e) from None


def _elements_of(t: Tensor) -> Elements:
    if t.dtype == "untyped":
        raise UnsupportedError("no-data", "it has no dtype")
    cast = t.kind != "array" and t._cast is not None and t._cast != t._dtype
    if t.kind in ("dense", "quantized") and not (cast or t.conj or t.neg):
        simple = _simple(t)
        if simple is not None:
            return simple
    if t.kind == "array" or cast or t.conj or t.neg:
        if t.kind != "array":
            t._check_dense(t.nbytes)
        return of_array(t.numpy(copy=True), t.dtype if t.kind != "array" else None)
    walk = walk_of(t)
    box = t._home.box
    source = box.source if walk.data is None else MemorySource(walk.data)
    bits = 8 // walk.packed * walk.itemsize if walk.packed > 1 else 8 * walk.itemsize
    n = walk.n * walk.repeats
    nbytes = -(-n * bits // 8)
    if nbytes > max(walk.nbytes, walk.itemsize):
        t._check_dense(nbytes)
    dims = walk.dims if walk.packed > 1 or not t.numel else _in_order(t, walk.itemsize)
    if walk.packed > 1:
        dims = ((nbytes, 1),)
    together = not dims or (len(dims) == 1 and dims[0][1] == walk.itemsize)
    spare = -n * bits % 8
    plain = together and walk.swap == 1 and not spare
    # Objects, not their ids: what is kept here is not mistaken for another that came later.
    where = (box.source,) if walk.data is None else (t.table, t._storage)
    key = (*where, walk.offset, dims, walk.swap, walk.dtype, n)
    return Elements(walk.dtype, n, nbytes, walk.itemsize, source, walk.offset, dims, plain, walk.swap, spare, key)


def _simple(t: Tensor) -> Elements | None:
    """Of most tensors, in short: elements of whole bytes that lie in the file one behind the other. None: of others."""
    name, _, itemsize, packing, swap, _, _ = _core.DTYPES[t._dtype]
    row, box = t._storage, t._home.box
    n = 1
    for size, stride in zip(reversed(t._sizes), reversed(t._strides), strict=True):
        if size != 1 and stride != n:
            return None
        n *= size
    if n == 0 or packing != 1 or name == "float4_e2m1fn_x2" or row is None or (box.byteorder == "big" and swap > 1):
        return None
    span = t.table.storage(row)[0]
    if span is None or not box.is_stored(t.table.store, span):
        return None
    extent, base = t._home.extent(t.table, row)
    if extent.offset is None:
        return None
    start = base + t.storage_offset * itemsize
    if start < 0 or start + n * itemsize > extent.nbytes:
        raise FormatError("tensor-bounds", f"ends at byte {start + n * itemsize} of a storage of {extent.nbytes}")
    offset, dims = extent.offset + start, ((n, itemsize),) if n > 1 else ()
    key = (box.source, offset, dims, 1, t._dtype, n)
    return Elements(t._dtype, n, n * itemsize, itemsize, box.source, offset, dims, True, 1, 0, key)


def _in_order(t: Tensor, itemsize: int) -> Dims:
    """Dimensions in the order of the indices; those that go on from each other as one."""
    merged: list[tuple[int, int]] = []
    for n, stride in zip(t._sizes, t._strides, strict=True):
        step = stride * itemsize
        if n == 1:
            continue
        if merged and merged[-1][1] == n * step:
            merged[-1] = (merged[-1][0] * n, step)
        else:
            merged.append((n, step))
    if len(merged) > 60:
        raise UnsupportedError("numpy-ndim", f"{len(merged)} dimensions that lie apart, 60 are read")
    return tuple(merged)


# ---- what tensors are made of ----


class Made(NamedTuple):
    """What a tensor is: words that describe it, and the parts that have elements: a tensor, or an array.

    words: ["tensor", dtype, shape], ["sparse", layout, dtype, shape], ... and whatever tells it from others.
    """

    words: tuple[Any, ...]
    parts: tuple[tuple[str, Any], ...]


def made_of(t: Any) -> Made:
    """Raises PthError if the file is wrong about it."""
    if not isinstance(t, Tensor):
        return Made(("tensor", str(t.dtype), tuple(t.shape)), (("", t),))
    if t.error is not None:
        raise t.error
    try:
        with guard("what it is made of"):
            return _made_of(t)
    except PthError as e:
        raise t._place(e) from None


def _made_of(t: Tensor) -> Made:
    if t.kind in ("meta", "uninitialized"):
        return Made((t.kind, t.dtype, t.shape), ())
    if t.kind == "quantized":
        return _of_quantized(t)
    if t.kind == "subclass":
        only = t._only()
        if only is not None:
            return _made_of(only)
    elif t.kind not in ("sparse", "nested"):
        return Made(("tensor", t.dtype, t.shape), (("", t),))
    named = PIECES.get(t.layout, PIECES["compressed"]) if t.kind != "subclass" else None
    inner = dict(t.inner)
    found = [(n, inner[n]) for n in named if n in inner] if named is not None else sorted(inner.items())
    return Made((t.kind, t.layout, t.dtype, t.shape), tuple(found))


def _of_quantized(t: Tensor) -> Made:
    words: list[Any] = ["quantized", t.quantization, t.dtype, t.shape, t.axis]
    parts: list[tuple[str, Any]] = [("integers", Integers(t))]
    for name, value in (("scale", t.scale), ("zero_point", t.zero_point)):
        if isinstance(value, (int, float)):
            words.append([name, float(value).hex() if name == "scale" else int(value)])
        else:
            parts.append((name, value))
    return Made(tuple(words), tuple(parts))


class Integers(NamedTuple):
    """What a quantized tensor is quantized to, as elements of their own."""

    tensor: Tensor


def leaves_of(t: Any, budget: Budget | None = None) -> tuple[tuple[Any, ...], list[tuple[str, Elements]]]:
    """Words of a tensor and of all that it is made of, and the elements of each part that has some, by path."""
    words: list[Any] = []
    found: list[tuple[str, Elements]] = []
    stack: list[tuple[str, Any, int]] = [("", t, 0)]
    while stack:
        path, item, level = stack.pop()
        if level > MAX_WRAPPERS:
            raise LimitError("max_depth", f"a tensor made of tensors, {level} levels deep")
        if isinstance(item, Integers):
            found.append((path, elements_of(item.tensor, budget)))
            continue
        if not isinstance(item, Tensor) and not hasattr(item, "numpy"):  # an array
            elements = of_array(item)
            words.append((path, "tensor", _core.DTYPES[elements.dtype][0], item.shape))
            found.append((path, elements))
            continue
        made = made_of(item)
        words.append((path, *made.words))
        if len(words) + len(stack) > MOST_PARTS:
            raise LimitError("max_parts", f"a tensor made of more than {MOST_PARTS} tensors")
        for name, part in reversed(made.parts):
            if part is item:
                found.append((path, elements_of(item, budget)))
            else:
                stack.append((f"{path}/{name}" if path else name, part, level + 1))
    return tuple(words), found


class Budget:
    """Bytes that may be read in all: files are small, and tensors that overlap can be of any number."""

    def __init__(self) -> None:
        self.sizes: dict[Source, int] = {}
        self.dense = 0
        self.taken = 0

    def take(self, t: Any, elements: Elements) -> None:
        """For the elements of a tensor, once for all that have the same."""
        if isinstance(t, Tensor):
            self._take(t, elements.nbytes)

    def take_inflated(self, t: Tensor) -> None:
        """For the storage of a tensor, if it must be inflated first: each time."""
        row = t._storage
        span = None if row is None else t.table.storage(row)[0]
        if span is not None and not t._home.box.is_stored(t.table.store, span):
            self._take(t, t.table.store.span(span)[2])

    def _take(self, t: Tensor, nbytes: int) -> None:
        box = t._home.box
        self.sizes[box.source] = box.source.size
        self.dense = max(self.dense, box.limits.max_dense_bytes)
        allowed = AGAIN * sum(self.sizes.values()) + self.dense
        if self.taken + nbytes > allowed:
            told = f"{nbytes} bytes more, {self.taken} of {allowed} are taken by tensors that overlap (max_dense_bytes)"
            raise t._place(LimitError("max_dense_bytes", told))
        self.taken += nbytes


def lasting(t: Any, elements: Elements) -> bool:
    """May they be kept until it is their turn? Not where they hold an array in memory."""
    own = isinstance(t, Tensor) and elements.source is t._home.box.source
    return own or elements.source.size <= LASTING


def lies(elements: Elements) -> bool:
    """May it be read as it lies in its file, here or far away?"""
    source = elements.source.within()[0] if isinstance(elements.source, SliceSource) else elements.source
    return elements.plain and (source.afar or isinstance(source, FileSource))
