"""A tensor that was saved in chunks, each a tensor of its own: put together when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import FormatError, LimitError, PthError, UnsupportedError, guard
from .mosaics import Mosaic, Part
from .record import Record
from .tensor import Tensor, numpy_dtype
from .walks import lie_by_axes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .stats import Stats

MOST_CELLS = 1 << 20  # of the grid that the edges of chunks make


class Chunk(Record):
    """A box of a tensor: its first index, and how far it goes, along each dimension. `part`: what it is read from."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    part: int


class ChunkedTensor:
    """A tensor in chunks. It has what a `Tensor` has; `chunks` are the tensors that it is put together of.

    Nothing is read before it is asked for: `numpy()` reads each chunk into its place of an own array.
    """

    kind, layout, storage_offset = "chunked", "strided", 0
    parameter = conj = neg = False
    storage = subclass = None

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: int,
        requires_grad: bool,
        parts: Sequence[Chunk],
        make: Callable[[Chunk, str], Tensor],
        limits: Any,
    ) -> None:
        self.name, self.shape, self.requires_grad = name, shape, requires_grad
        self._dtype, self.parts, self._make, self._limits = dtype, parts, make, limits

    # ---- what is known without data ----

    @property
    def dtype(self) -> str:
        return str(_core.DTYPES[self._dtype][0])

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return int(_core.DTYPES[self._dtype][2])

    @property
    def nbytes(self) -> int:
        return -(-self.numel // _core.DTYPES[self._dtype][3]) * self.itemsize

    @property
    def stride(self) -> tuple[int, ...]:
        """Of the array that it is put together to."""
        return tuple(math.prod(max(1, n) for n in self.shape[k + 1 :]) for k in range(len(self.shape)))

    @property
    def device(self) -> str:
        return self.chunks[0].device if self.parts else "cpu"

    @cached_property
    def inner(self) -> dict[str, Tensor]:
        """The chunks by where they begin: '[34, 0]'."""
        return {str(list(c.offsets)): self._make(c, f"{self.name}{list(c.offsets)}") for c in self.parts}

    @property
    def chunks(self) -> tuple[Tensor, ...]:
        return tuple(self.inner.values())

    def leaves(self) -> list[Tensor]:
        return list(self.chunks)

    @cached_property
    def error(self) -> PthError | None:
        """What makes it unreadable, as far as is known without its data."""
        told = f"tensor {self.name!r}: "
        try:
            covers(self.shape, self.parts)
            for chunk, t in zip(self.parts, self.chunks, strict=True):
                if t.error is not None:
                    raise t.error
                if t.shape != chunk.sizes or t.dtype != self.dtype:
                    said = f"{self.dtype} {list(chunk.sizes)}"
                    raise FormatError("dcp-chunk", f"its chunk is {t.dtype} {list(t.shape)}, {said} is said")
        except PthError as e:
            if not e.message.startswith(told):
                e.message = told + e.message
            return e
        return None

    @property
    def _identity(self) -> Any:
        return self.name

    @property
    def _code(self) -> int:
        return 0 if self.error is None else 1

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of no dimensions has no length")
        return self.shape[0]

    def _repr_html_(self) -> str:
        from .notebook import of_tensor

        return of_tensor(self)

    def __repr__(self) -> str:
        return f"<ChunkedTensor {self.name!r} {self.dtype} {list(self.shape)}: {len(self.parts)} chunks>"

    # ---- data ----

    def numpy(self, copy: bool = False) -> NDArray[Any]:
        """The elements, put together in an own array; read-only unless `copy`.

        Raises
        ------
        PthError
            A chunk is missing or wrong.
        """
        import numpy as np

        if self.error is not None:
            raise self.error
        if _core.DTYPES[self._dtype][3] > 1 or self.dtype == "complex32":
            raise UnsupportedError("no-array", f"tensor {self.name!r}: {self.dtype} in chunks has no array")
        self.check_size()
        whole = np.empty(self.shape, numpy_dtype(self._dtype))
        for chunk, t in zip(self.parts, self.chunks, strict=True):
            whole[place_of(chunk)] = t.numpy()
        whole.flags.writeable = copy
        return whole

    def check_size(self) -> None:
        """LimitError if it is too large: chunks that repeat their elements may be of any size."""
        stored = sum(t.byte_range()[1] - t.byte_range()[0] for t in self.chunks)
        allowed = self._limits.max_dense_bytes
        if self.nbytes > max(stored, allowed):
            raise LimitError(
                "max_dense_bytes", f"{self.nbytes} bytes when dense, {allowed} are allowed (max_dense_bytes)"
            )

    def mosaic(self) -> Mosaic | None:
        """Where its elements lie, to be put together band by band; None: they must be made as a whole.

        Raises
        ------
        PthError
            As `numpy` does.
        """
        if self.error is not None:
            raise self.error
        if not self.numel or _core.DTYPES[self._dtype][3] > 1 or self.dtype == "complex32":
            return None
        self.check_size()
        found = []
        for chunk, t in zip(self.parts, self.chunks, strict=True):
            if t.kind != "dense" or t.conj or t.neg or t._cast not in (None, t._dtype):
                return None
            if not t.numel:
                continue
            try:
                with guard("its elements"):
                    lie = lie_by_axes(t)
            except PthError as e:
                raise t._place(e) from None
            if lie.data is not None:  # each would stay in memory
                return None
            found.append(Part(chunk.offsets, lie, t._home.box.source))
        return Mosaic(self.shape, self.itemsize, found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a tensor in chunks needs a copy")
        array = self.numpy(copy=bool(copy))
        return array if dtype is None or array.dtype == dtype else array.astype(dtype)

    def stats(self, *, histogram: bool = False, bins: int | None = None, quantiles: Sequence[float] = ()) -> Stats:
        """Its statistics, chunk by chunk: see `Tensor.stats`."""
        from .engine import measure

        found = measure([self], histogram=histogram, bins=bins, quantiles=quantiles)  # type: ignore[list-item]
        for error in found.errors.values():
            raise error
        return next(iter(found))

    def merged(self, found: Iterator[Stats]) -> Stats:
        """The statistics of the whole, of those of its chunks in their order."""
        from .stats import Stats

        whole: Stats | None = None
        bad: list[int] = []
        for number, s in enumerate(found):
            if s.first_bad is not None:
                bad.append(self.flat_index(number, s.first_bad))
            whole = s if whole is None else whole.merge(s)
        assert whole is not None
        values = {n: getattr(whole, n) for n in whole.__match_args__}
        return Stats(**{**values, "name": self.name, "shape": self.shape, "first_bad": min(bad, default=None)})

    def flat_index(self, number: int, at: int) -> int:
        """Where an element of a chunk stands in the flattened tensor, by its place in the flattened chunk."""
        chunk, index = self.parts[number], []
        for n in reversed(chunk.sizes):
            at, k = divmod(at, n)
            index.append(k)
        flat = 0
        for n, first, k in zip(self.shape, chunk.offsets, reversed(index), strict=True):
            flat = flat * n + first + k
        return flat


def place_of(chunk: Chunk) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(chunk.offsets, chunk.sizes, strict=True))


def covers(shape: tuple[int, ...], chunks: Sequence[Chunk]) -> None:
    """Raises FormatError unless the chunks lie inside of the tensor and cover each element once."""
    total = 0
    for c in chunks:
        if len(c.offsets) != len(shape) or len(c.sizes) != len(shape):
            raise FormatError("dcp-chunk", "a chunk has another number of dimensions")
        if any(a < 0 or n < 0 or a + n > whole for a, n, whole in zip(c.offsets, c.sizes, shape, strict=True)):
            raise FormatError(
                "dcp-chunk", f"a chunk of {list(c.sizes)} at {list(c.offsets)} is not inside of {list(shape)}"
            )
        total += math.prod(c.sizes)
    if total != math.prod(shape):
        raise FormatError("dcp-chunk", f"its chunks have {total} elements, {math.prod(shape)} are wanted")
    filled = [c for c in chunks if math.prod(c.sizes)]
    if len(filled) > 1 and _overlap(shape, filled):
        raise FormatError("dcp-chunk", "two of its chunks have the same element, and another one is in none")


def _overlap(shape: tuple[int, ...], chunks: Sequence[Chunk]) -> bool:
    """Does any element lie in two? Looked at on the grid that the edges of the chunks make."""
    import numpy as np

    edges = [sorted({x for c in chunks for x in (c.offsets[k], c.offsets[k] + c.sizes[k])}) for k in range(len(shape))]
    cells = [len(e) - 1 for e in edges]
    if math.prod(cells) > MOST_CELLS or len(cells) > 32:
        raise UnsupportedError("dcp-chunk", "its chunks are cut in a way too wild to be checked")
    number: list[dict[int, int]] = [{x: i for i, x in enumerate(e)} for e in edges]
    grid: NDArray[np.bool_] = np.zeros(cells, np.bool_)
    for c in chunks:
        box = tuple(slice(n[a], n[a + size]) for n, a, size in zip(number, c.offsets, c.sizes, strict=True))
        if grid[box].any():
            return True
        grid[box] = True
    return False
