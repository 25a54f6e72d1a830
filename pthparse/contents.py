"""What a tensor holds, whatever its container: its parts, and their elements in the order of indices, little-endian.

The order of a file, strides, what else lies in a storage, and who looks at it too are no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .chunked import ChunkedTensor
from .errors import LimitError, PthError, UnsupportedError, guard
from .mosaics import Mosaic
from .pieces import Lie, blocks, regrouped
from .source import FileSource, MemorySource, SliceSource, Source
from .tensor import MAX_WRAPPERS, PIECES, Tensor
from .walks import lie_of, line_of, walk_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

DTYPES = {row[0]: i for i, row in enumerate(_core.DTYPES)}
READ = 1 << 20  # bytes that are read at once, most of the time
AGAIN = 4  # how often all bytes of a file may be read for the sake of tensors that overlap
LASTING = 1 << 12  # bytes of an array that may be kept until it is its turn
MOST_PARTS = 10_000  # of one tensor


class Elements(NamedTuple):
    """Elements of one dtype: how many, their bytes, and where they lie.

    dtype: a row of dtypes.def. plain: one behind the other, as they are wanted. spare: bits of the last byte that are
    no part of them. key: alike of the same elements.
    """

    dtype: int
    n: int
    nbytes: int
    lie: Lie | Mosaic
    source: Source
    plain: bool
    spare: int
    key: Hashable

    @property
    def offset(self) -> int:
        """Where they begin, if they are plain."""
        assert isinstance(self.lie, Lie)
        return self.lie.offset

    def blocks(self, size: int) -> Iterator[bytes | memoryview]:
        """All bytes, `size` at a time; the last ones may be fewer."""
        if self.plain:
            for at in range(0, self.nbytes, size):
                yield self.source.read(self.offset + at, min(size, self.nbytes - at))
            return
        left = self.nbytes
        lie = self.lie
        found = lie.blocks() if isinstance(lie, Mosaic) else blocks(lie, self.source)
        for block in regrouped(found, size):
            left -= len(block)
            if not left and self.spare:
                yield bytes(block[:-1]) + bytes([block[-1] & (0xFF >> self.spare)])
            else:
                yield block

    def span(self, first: int, n: int) -> tuple[int, int]:
        """Of some of them, where all are plain: the first byte, and how many. From a whole byte to a whole byte."""
        start = first * self.nbytes // self.n
        return self.offset + start, min(first + n, self.n) * self.nbytes // self.n - start

    def run(self, first: int, n: int) -> Elements:
        """Some of them, where all are plain."""
        offset, nbytes = self.span(first, n)
        size = self.lie.itemsize
        lie = Lie(size, offset, ((nbytes // size, size),), None, 1)
        return self._replace(n=min(n, self.n - first), nbytes=nbytes, lie=lie)


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
    return Elements(
        DTYPES[name], n, flat.nbytes, Lie(itemsize, 0, ((n, itemsize),), None, 1), source, True, 0, object()
    )


def elements_of(t: Any, budget: Budget | None = None) -> Elements:
    """Of a tensor that has elements of its own. `budget`: asked before anything is inflated.

    Raises
    ------
    PthError
        It has none, or they cannot be read.
    """
    if not isinstance(t, Tensor):
        with guard("its elements"):
            mosaic = t.mosaic() if isinstance(t, ChunkedTensor) else None
            if mosaic is not None:
                nowhere = MemorySource(b"")
                return Elements(t._dtype, t.numel, t.nbytes, mosaic, nowhere, False, 0, object())
            return of_array(t.numpy(), getattr(t, "dtype", None))
    line = line_of(t)
    if line is not None:  # of most, and there may be very many
        at, nbytes, n, dtype = line
        size, source = nbytes // n, t.table.home.box.source
        lie = Lie(size, at, ((n, size),) if n > 1 else (), None, 1)
        return Elements(dtype, n, nbytes, lie, source, True, 0, (source, line))
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
    if t.kind == "array" or cast or t.conj or t.neg:
        if t.kind != "array":
            t._check_dense(t.nbytes)
        return of_array(t.numpy(copy=True), t.dtype if t.kind != "array" else None)
    walk = walk_of(t)
    lie, box = lie_of(t, walk), t._home.box
    bits = 8 // walk.packed * walk.itemsize if walk.packed > 1 else 8 * walk.itemsize
    n = walk.n * walk.repeats
    nbytes = -(-n * bits // 8)
    if nbytes > max(walk.nbytes, walk.itemsize):
        t._check_dense(nbytes)
    spare = -n * bits % 8
    # Objects, not their ids: what is kept here is not mistaken for another that came later.
    where = (box.source,) if walk.data is None else (t.table, t._storage)
    key = (*where, lie.offset, lie.dims, lie.swap, walk.dtype, n)
    source = box.source if lie.data is None else MemorySource(lie.data)
    lie = lie._replace(data=None)
    return Elements(walk.dtype, n, nbytes, lie, source, lie.together and lie.swap == 1 and not spare, spare, key)


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
    if isinstance(t, Tensor) and t.kind == "dense":  # most are, and there may be very many
        return (("", "tensor", t.dtype, t.shape),), [("", elements_of(t, budget))]
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
        self.dense = self.allowed = self.taken = 0

    def take(self, t: Any, elements: Elements) -> None:
        """For the elements of a tensor, once for all that have the same."""
        if isinstance(t, Tensor):
            self.take_bytes(t, elements.nbytes)

    def take_inflated(self, t: Tensor) -> None:
        """For the storage of a tensor, if it must be inflated first: each time."""
        row = t._storage
        span = None if row is None else t.table.storage(row)[0]
        if span is not None and not t._home.box.is_stored(t.table.store, span):
            self.take_bytes(t, t.table.store.span(span)[2])

    def take_bytes(self, t: Tensor, nbytes: int) -> None:
        """For so many of a tensor's."""
        box = t.table.home.box
        if box.source not in self.sizes:
            self.sizes[box.source] = box.source.size
            self.dense = max(self.dense, box.limits.max_dense_bytes)
            self.allowed = AGAIN * sum(self.sizes.values()) + self.dense
        if self.taken + nbytes > self.allowed:
            told = f"{nbytes} bytes more, {self.taken} of {self.allowed} are taken by tensors that overlap"
            raise t._place(LimitError("max_dense_bytes", f"{told} (max_dense_bytes)"))
        self.taken += nbytes


def lasting(t: Any, elements: Elements) -> bool:
    """May they be kept until it is their turn? Not where they hold an array in memory."""
    own = isinstance(t, Tensor) and elements.source is t._home.box.source
    return own or elements.source.size <= LASTING


def lies(elements: Elements) -> bool:
    """May it be read as it lies in its file, here or far away?"""
    return elements.plain and reads(elements.source)


def reads(source: Source) -> bool:
    """Is it a file, or a part of one, here or far away?"""
    source = source.within()[0] if isinstance(source, SliceSource) else source
    return source.afar or isinstance(source, FileSource)
