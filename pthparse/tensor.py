"""One tensor of a checkpoint: what the file says of it, and a view of its bytes.

Every extent was checked by the native core against the storage, and is checked here against the bytes of the file
before an array is made. What numpy cannot hold comes out as the next honest thing, never as a wrong array:

    complex32                float16 with a last axis of 2 (real, imaginary)
    quint4x2, quint2x4       the packed uint8 bytes, 1-D, low bits first
    float4_e2m1fn_x2, bits*, int1 to int7, uint1 to uint7
                             the raw unsigned bytes, as the shape counts them
    quantized                the integers; `dequantize()` gives the values
    sparse, nested, subclass no array: `indices`/`values`/`to_dense()`, `unbind()`, `inner`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .errors import FormatError, LimitError, PthError, TruncatedError, UnsupportedError, guard
from .formats.base import Extent
from .record import Record
from .source import closed
from .values import children

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .formats.base import Container, Pickle
    from .stats import Stats

IN_PICKLE, IN_TEXT = _core.STORAGE_FLAGS["IN_PICKLE"], _core.STORAGE_FLAGS["IN_TEXT"]
MAX_NUMPY_DIMS = 64
MAX_WRAPPERS = 16
# What the layouts of tensors made of tensors are made of.
PIECES = {
    "sparse_coo": ("indices", "values"),
    "compressed": ("compressed_indices", "plain_indices", "values"),
    "strided": ("values", "sizes", "strides", "offsets"),
    "jagged": ("values", "offsets", "lengths"),
}


class Storage(Record):
    """The bytes that one or more tensors look at.

    Attributes
    ----------
    key : str
        Its name in the file.
    nbytes : int
        Bytes that tensors may use.
    file_offset : int or None
        First byte in the file; None where there are no stored bytes to point to (deflated, meta, missing).
    tensors : tuple of str
        Names of the tensors that share it, in the order of the file.
    dtype, device : str
        As the file says: 'float32', 'cuda:0'.
    """

    key: str
    nbytes: int
    file_offset: int | None
    tensors: tuple[str, ...]
    dtype: str
    device: str


class Home:
    """What the tensors of one table share. It refers to no tensor, so that a checkpoint is given back at once."""

    def __init__(self, box: Container, pickle: Pickle | None, names: Sequence[str], rows: Sequence[int]) -> None:
        self.box = box
        self.pickle = pickle  # that the table was made of
        self.names = names
        self.rows = rows

    def bind(self, table: _core.Tensors) -> None:
        """Makes it theirs, and tells the table what its bytes are."""
        box = self.box
        table.bind(self, box.zip, box.byteorder == "big", box.nested is None)

    def make(self, table: _core.Tensors, row: int) -> Tensor:
        """The tensor of a row, under its first name."""
        return table.make(Tensor, self._first_names.get(row, ""), row)

    @cached_property
    def _first_names(self) -> dict[int, str]:
        return dict(zip(reversed(self.rows), reversed(self.names), strict=True))

    def thaw(self, table: _core.Tensors, node: int, most: int | None = None) -> Any:
        """The value of a node of the table's graph; LimitError if more than `most` nodes can be reached from it."""
        from .graph import thaw

        def tensor(n: int) -> Tensor | None:
            row = table.row_of_node(n)
            return None if row is None else self.make(table, row)

        def storage(n: int) -> Storage | None:
            row = table.storage_of_node(n)
            return None if row is None else self.storage(table, row)

        try:
            return thaw(table.graph, node, tensor, storage, self.box.limits, most)
        except PthError as e:
            raise e.at(self.box.source.path, self.pickle.member if self.pickle else None) from None

    # ---- tensors made of tensors ----

    def parts(self, table: _core.Tensors, t: Tensor) -> Parts:
        """What a tensor is made of. Kept, and bounded for the whole file: many tensors may share one large part."""
        known = self._parts.get(t.row)
        if known is None:
            value = self.thaw(table, t._part or 0, 4 * table.graph.n_nodes + 100_000 - self._thawed)
            self._thawed += _size(value)
            known = self._parts[t.row] = Parts.of(t, value)
        return known

    _thawed = 0

    @cached_property
    def _parts(self) -> dict[int, Parts]:
        return {}

    # ---- storages ----

    def sharers(self, table: _core.Tensors, row: int) -> tuple[str, ...]:
        """Names of the tensors that look at the same bytes as a storage, by themselves or by what they are made of."""
        if self._sharers is None:
            found: dict[Any, Any] = {}
            for name, tensor_row in zip(self.names, self.rows, strict=True):
                for storage in self._storages(table, name, tensor_row):
                    found.setdefault(self._bytes_of(table, storage), []).append(name)
            self._sharers = {place: tuple(names) for place, names in found.items()}
        return self._sharers.get(self._bytes_of(table, row), ())

    def _storages(self, table: _core.Tensors, name: str, row: int) -> set[int]:
        own = table.storage_of(row)
        found = set() if own is None else {own}
        if table.has_parts(row):
            try:
                leaves = table.make(Tensor, name, row).leaves()
            except PthError:  # its own to say, when it is asked for them
                leaves = []
            found.update(leaf._storage for leaf in leaves if leaf._storage is not None)
        return found

    _sharers: dict[Any, tuple[str, ...]] | None = None

    @staticmethod
    def _bytes_of(table: _core.Tensors, row: int) -> Any:
        span = table.storage(row)[0]
        return ("row", row) if span is None else span

    def extent(self, table: _core.Tensors, row: int) -> tuple[Extent, int]:
        """Bytes of a storage, and how far into them it begins."""
        box = self.box
        if box.closed:
            raise closed(box.source.path)
        span, _, _, _, flags, base, nbytes, code = table.storage(row)
        if code:
            raise _core.error_of(code)
        if flags & IN_PICKLE:
            pickle = self.pickle
            assert pickle is not None
            if flags & IN_TEXT:
                return Extent(None, nbytes, pickle.graph.text(base, nbytes)), 0
            if pickle.offset is None:
                return Extent(None, nbytes, pickle.graph.source[base : base + nbytes]), 0
            return Extent(pickle.offset + base, nbytes), 0
        if span is None:
            raise UnsupportedError("no-data", "the file holds no data of this storage")
        extent = box.extent(table.store, span)
        if base + nbytes > extent.nbytes:
            raise FormatError("storage-size", f"the storage ends at byte {base + nbytes} of {extent.nbytes}")
        return extent, base

    def storage(self, table: _core.Tensors, row: int) -> Storage:
        span, key, location, dtype, _, _, nbytes, _ = table.storage(row)
        offset = None
        if self.box.closed:
            raise closed(self.box.source.path)
        if span is None or self.box.is_stored(table.store, span):
            try:
                extent, base = self.extent(table, row)
                offset = None if extent.offset is None else extent.offset + base
            except PthError:
                pass
        device = location if isinstance(location, str) else "cpu"
        name = "" if key is None else str(key)
        return Storage(name, nbytes, offset, self.sharers(table, row), _core.DTYPES[dtype][0], device)


class Parts(NamedTuple):
    """What a tensor is made of: attribute and row of each inner tensor, and, of a jagged one, the axis that varies."""

    inner: tuple[tuple[str, int], ...]
    ragged: int = 1

    @staticmethod
    def of(t: Tensor, value: Any) -> Parts:
        """`value`: the tensor's part of the graph."""
        named: Any = value
        if t.kind == "sparse":
            names = PIECES.get(t.layout, PIECES["compressed"])
            items = value if isinstance(value, tuple) else ()
            script = len(items) > 4  # (layout, size, requires_grad, parts..., hooks)
            named = dict(zip(names, items[3:] if script else items, strict=False))
        elif t.kind == "nested" and t.layout == "strided":
            items = value if isinstance(value, tuple) else ()
            named = dict(zip(PIECES["strided"], items, strict=False))
        elif t.kind == "quantized":
            named = dict(zip(("scale", "zero_point"), value[1:3] if isinstance(value, tuple) else (), strict=False))
        ragged = value.get("_ragged_idx", 1) if t.layout == "jagged" and isinstance(value, dict) else 1
        return Parts(tuple(_rows_in(named)), ragged if isinstance(ragged, int) else 1)


def _rows_in(value: Any) -> list[tuple[str, int]]:
    """Path and row of every tensor in the containers of a state: a dict, or (dict, slots)."""
    found: list[tuple[str, int]] = []
    states = value if isinstance(value, tuple) else (value,)
    stack: list[tuple[str, Any]] = [("", s) for s in reversed(states) if isinstance(s, dict)]
    seen: set[int] = set()
    while stack:
        path, item = stack.pop()
        if isinstance(item, Tensor):
            found.append((path, item.row))
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            stack += [(f"{path}/{name}" if path else name, v) for name, v in reversed(list(children(item)))]
    return found


def _size(value: Any) -> int:
    """Items of a state, roughly: what it took to make it."""
    total, stack, seen = 1, [value], set()
    while stack:
        item = stack.pop()
        if isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            total += len(item)
            stack += item.values() if isinstance(item, dict) else item
    return total


@cache
def numpy_dtype(index: int) -> np.dtype[Any]:
    """numpy's dtype for a row of dtypes.def; ml_dtypes' where numpy has none."""
    import numpy as np

    name, ml = _core.DTYPES[index][5:7]
    if ml:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))  # type: ignore[no-any-return]
    return np.dtype(name)


class Tensor(_core.TensorRow):
    """A tensor under one of its names. Nothing of its data is read before an array is asked for.

    Attributes
    ----------
    name : str
    shape, stride : tuple of int
        As torch's: stride in elements. A nested tensor has -1 where its parts differ.
    dtype : str
        torch's name: 'bfloat16', 'float8_e4m3fn'.
    numel, itemsize, nbytes : int
        Elements; bytes of one; their product (packed types: the bytes they take).
    storage_offset : int
        Elements from the start of the storage.
    requires_grad, parameter, conj, neg : bool
    layout : str
        'strided', 'sparse_coo', ...
    """

    __slots__ = ()

    # ---- what is known without data ----

    @property
    def stride(self) -> tuple[int, ...]:
        return self._strides if self.layout == "strided" and self._kind != NESTED else ()

    @property
    def numel(self) -> int:
        if self._kind == NESTED and self.layout == "jagged":
            values = self.inner.get("values")
            return values.numel if values is not None and values.kind == "dense" else 0
        return int(self._numel)

    @property
    def nbytes(self) -> int:
        packing = _core.DTYPES[self._dtype][3]
        return -(-self.numel // packing) * int(self.itemsize)

    @property
    def kind(self) -> str:
        """'dense', 'quantized', 'sparse', 'nested', 'meta', 'subclass', 'uninitialized', 'array' (numpy's, pickled)."""
        return _core.TENSOR_KINDS[self._kind]

    @property
    def device(self) -> str:
        """The device it was saved from, as text."""
        from .values import preview

        device = self._device
        if device is not None:
            value = self._thaw(device.id) if isinstance(device, _core.Ref) else device
            return value if isinstance(value, str) else preview(value, 200)
        if self._kind == META_KIND:
            return "meta"
        leaves = [self] if self._storage is not None else self.leaves()
        location = self.table.storage(leaves[0]._storage or 0)[2] if leaves else None
        return location if isinstance(location, str) else "cpu"

    @property
    def storage(self) -> Storage | None:
        row = self._storage
        return None if row is None else self._home.storage(self.table, row)

    @property
    def subclass(self) -> str | None:
        """'module.Class' of a tensor subclass."""
        from .values import GlobalName, preview

        if self._cls is None:
            return None
        value = self._thaw(self._cls)
        return str(value) if isinstance(value, GlobalName) else preview(value, 200)

    @property
    def error(self) -> PthError | None:
        """What makes it unreadable, as far as is known without its data."""
        error = self._error()
        return None if error is None else self._place(error)

    @property
    def _home(self) -> Home:
        home: Home = self.table.home
        return home

    @property
    def _identity(self) -> Any:
        """Equal for tensors that are the same elements under two names."""
        table, row = id(self.table), self._storage
        if row is None:
            return table, self.row
        return table, row, self.storage_offset, self.shape, self._strides, self.conj, self.neg

    def _thaw(self, node: int | None) -> Any:
        return None if node is None else self._home.thaw(self.table, node)

    def _place(self, error: PthError) -> PthError:
        box = self._home.box
        told = f"tensor {self.name!r}: "
        if not error.message.startswith(told):
            error.message = told + error.message
        pickle = self._home.pickle
        return error.at(box.source.path, pickle.member if pickle else None)

    def __repr__(self) -> str:
        shape = "[...]" if self._kind == NESTED else list(self._sizes)  # of parts: they may be wrong
        return f"<Tensor {self.name!r} {self.dtype} {shape}>"

    def _repr_html_(self) -> str:
        from .notebook import of_tensor

        return of_tensor(self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of no dimensions has no length")
        return max(0, self.shape[0])

    def byte_range(self) -> tuple[int, int]:
        """First byte and the one behind the last, of its storage, that its elements lie in."""
        if not self.numel:
            return 0, 0
        itemsize, packing = _core.DTYPES[self._dtype][2:4]
        last = self.storage_offset + sum((n - 1) * s for n, s in zip(self._sizes, self._strides, strict=True))
        return self.storage_offset // packing * itemsize, (last // packing + 1) * itemsize

    # ---- data ----

    def numpy(self, copy: bool = False) -> NDArray[Any]:
        """The elements.

        Parameters
        ----------
        copy : bool
            False: a read-only view of the bytes where they lie (an own array only where they must be changed: conj,
            neg, big endian, deflated). True: an own, writable array, read without mapping the file.

        Raises
        ------
        UnsupportedError
            There is no single array: says what to call instead.
        PthError
            The tensor, or its place in the file, is wrong.
        """
        error = self.error
        if error is not None:
            raise error
        advice = NO_ARRAY.get(self.kind)
        if advice:
            only = self._only()
            if only is not None:
                return only.numpy(copy)
            raise UnsupportedError("no-array", f"tensor {self.name!r} {advice}", path=self._home.box.source.path)
        try:
            with guard("its elements"):
                array = self._from_array(copy) if self.kind == "array" else self._resolve(self._strided(copy))
                wanted = self._cast if self.kind != "array" else self._dtype
                if wanted is not None and array.dtype != numpy_dtype(wanted) and _core.DTYPES[wanted][3] == 1:
                    self._check_dense(array.size * numpy_dtype(wanted).itemsize)
                    array = array.astype(numpy_dtype(wanted))
                    array.flags.writeable = copy
                return array
        except PthError as e:
            raise self._place(e) from None

    def stats(self, *, histogram: bool = False, bins: int | None = None, quantiles: Sequence[float] = ()) -> Stats:
        """Its statistics, as `Checkpoint.stats` has them of many.

        Raises
        ------
        PthError
            It has no elements that can be read, or is made of several tensors with elements of their own.
        """
        from .engine import measure

        found = measure([self], histogram=histogram, bins=bins, quantiles=quantiles)
        for error in found.errors.values():
            raise error
        if len(found) != 1:
            raise UnsupportedError("no-array", f"tensor {self.name!r} is made of {len(found)} others")
        return next(iter(found))

    def _only(self) -> Tensor | None:
        """The one tensor of the same shape that a wrapper comes down to."""
        t: Tensor = self
        for _ in range(MAX_WRAPPERS):
            if t.kind != "subclass":
                return None if t is self else t
            inner = list(t.inner.values())
            if len(inner) != 1 or inner[0].shape != self.shape:
                return None
            t = inner[0]
        return None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.numpy(copy=bool(copy))
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError("another dtype needs a copy")
            return array.astype(dtype)
        return array

    def _strided(self, copy: bool) -> NDArray[Any]:
        import numpy as np

        _, _, itemsize, packing, swap, _, _ = _core.DTYPES[self._dtype]
        element = numpy_dtype(self._dtype)
        shape, strides = self._sizes, self._strides
        if packing > 1:  # packed: whole bytes, from the one that holds the first element
            count = -(-(self.storage_offset % packing + self.numel) // packing) if self.numel else 0
            shape, strides, start = (count,), (1,), self.storage_offset // packing
        else:
            start = self.storage_offset * itemsize
        if _core.DTYPES[self._dtype][0] == "complex32":
            shape, strides = (*shape, 2), (*(2 * s for s in strides), 1)
        unit = element.itemsize
        if len(shape) > MAX_NUMPY_DIMS:
            raise UnsupportedError("numpy-ndim", f"{len(shape)} dimensions, numpy has at most {MAX_NUMPY_DIMS}")
        if self.numel == 0:
            empty = np.zeros(shape, element)
            empty.flags.writeable = copy
            return empty
        row = self._storage
        if row is None:
            raise UnsupportedError("no-data", "the file holds no data of this tensor")
        extent, base = self._home.extent(self.table, row)
        need = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) * unit + unit
        box = self._home.box
        if base + start + need > extent.nbytes:
            raise FormatError("tensor-bounds", f"ends at byte {base + start + need} of a storage of {extent.nbytes}")
        buffer, offset = extent.data, base + start
        if extent.offset is not None:
            offset += extent.offset
            if offset + need > box.source.size:
                raise FormatError("tensor-bounds", f"ends at byte {offset + need} of a file of {box.source.size}")
            buffer = None if copy else box.source.view()
            if buffer is None:  # a copy is wanted, or there is nothing to map
                buffer, offset = box.source.read(offset, need), 0
        # The step along an axis of one element means nothing, and may be any number.
        byte_strides = tuple(s * unit if n > 1 else unit for n, s in zip(shape, strides, strict=True))
        if offset + need > memoryview(buffer).nbytes:
            raise TruncatedError(
                "file-changed", f"{offset + need} bytes are wanted, {memoryview(buffer).nbytes} are there"
            )
        raw = np.ndarray(shape, element, buffer, offset, byte_strides)
        store = self.table.store
        swapped = box.byteorder == "big" and swap > 1 and not (store is not None and store.fixed_little)
        if raw.nbytes > need and (swapped or copy or self.conj or self.neg):  # an expanded tensor, to be filled in
            self._check_dense(raw.nbytes)
        if swapped:
            raw = _swapped(raw, swap)
        elif copy:
            raw = raw.copy(order="K") if self.numel * unit == need else np.ascontiguousarray(raw).copy()
        raw.flags.writeable = copy
        return raw

    def _resolve(self, array: NDArray[Any]) -> NDArray[Any]:
        """What a lazy conjugate or negative means."""
        import numpy as np

        writeable = array.flags.writeable
        if self.conj:
            if _core.DTYPES[self._dtype][0] == "complex32":
                array = array.copy()
                array[..., 1] = -array[..., 1]
            else:
                array = np.asarray(np.conjugate(array))
        if self.neg:
            array = np.asarray(np.negative(array))
        if self.conj or self.neg:
            array.flags.writeable = writeable
        return array

    def _from_array(self, copy: bool) -> NDArray[Any]:
        import numpy as np

        value = self._thaw(self._part)
        if not isinstance(value, np.ndarray):
            raise UnsupportedError("no-array", "its numpy array could not be read")
        if copy:
            return value.copy()
        value.flags.writeable = False
        return value

    # ---- quantized ----

    def _quantizer(self) -> tuple[Any, ...]:
        if self.kind != "quantized":
            raise AttributeError(f"tensor {self.name!r} is not quantized")
        q = self._thaw(self._part)
        if not isinstance(q, tuple) or len(q) < 3 or not (len(q) < 4 or type(q[3]) is int):
            raise self._place(FormatError("tensor-args", "its quantizer is not as torch writes one"))
        return q

    def _of_quantizer(self, index: int) -> Any:
        """A number, or an array of numbers."""
        import numpy as np

        value = self._quantizer()[index]
        if type(value) in (int, float) and -(1 << 62) < value < 1 << 62:
            return value
        try:
            with guard("its quantizer"):
                array = (
                    value.numpy(copy=True) if isinstance(value, Tensor) and value.kind == "dense" else np.asarray(value)
                )
        except PthError as e:
            raise self._place(e) from None
        if not isinstance(value, (list, tuple, Tensor)) or array.dtype.kind not in "iuf" or array.ndim > 1:
            raise self._place(FormatError("tensor-args", "its quantizer is not as torch writes one"))
        return array

    @property
    def quantization(self) -> str | None:
        """'per_tensor_affine', 'per_channel_affine', ... or None."""
        return getattr(self._quantizer()[0], "name", None) if self.kind == "quantized" else None

    @property
    def scale(self) -> Any:
        """float, or float64[channels]."""
        return self._of_quantizer(1)

    @property
    def zero_point(self) -> Any:
        """int, or int64[channels] (float where torch's are)."""
        return self._of_quantizer(2)

    @property
    def axis(self) -> int | None:
        """The dimension of the channels; None: one scale for all."""
        q = self._quantizer()
        return q[3] if len(q) > 3 else None

    def dequantize(self) -> NDArray[Any]:
        """(integer - zero_point) * scale, as float32."""
        scale, zero, axis = self.scale, self.zero_point, self.axis
        self._check_dense(self.numel * 8)
        q = self._unpacked() if _core.DTYPES[self._dtype][3] > 1 else self.numpy(copy=True)
        try:
            with guard("its scales"):
                return _dequantized(q, scale, zero, axis)
        except PthError as e:
            raise self._place(e) from None

    def _unpacked(self) -> NDArray[Any]:
        """Sub-byte integers, one per element, low bits first."""
        import numpy as np

        packing = _core.DTYPES[self._dtype][3]
        bits = 8 // packing
        packed = self.numpy(copy=True)
        flat = np.stack([packed >> (bits * i) & ((1 << bits) - 1) for i in range(packing)], axis=-1).reshape(-1)
        skip = self.storage_offset % packing
        return flat[skip : skip + self.numel].reshape(self.shape)

    # ---- sparse, nested, subclasses: tensors made of tensors ----

    @property
    def inner(self) -> Mapping[str, Tensor]:
        """Attribute -> Tensor, for everything that is made of other tensors or has some among its attributes."""
        if self._part is None or self.kind == "array":
            return {}
        make, table = self._home.make, self.table
        found = {path: make(table, row) for path, row in self._home.parts(table, self).inner}
        return {p: t if t.name else table.make(Tensor, f"{self.name}.{p}", t.row) for p, t in found.items()}

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What a subclass or parameter was given beside its data, by name: `t.note = "x"`."""
        value = self._thaw(self._part) if self.kind in ("subclass", "dense") else None
        states = value if isinstance(value, tuple) else (value,)
        return {str(k): v for state in states if isinstance(state, dict) for k, v in state.items()}

    def leaves(self) -> list[Tensor]:
        """The tensors with a storage that this one comes down to: itself, or what it is made of."""
        found: list[Tensor] = []
        stack: list[Tensor] = [self]
        seen: set[int] = set()
        while stack:
            t = stack.pop()
            if t.row in seen:
                continue
            seen.add(t.row)
            if t._storage is not None:
                found.append(t)
            if t.table.has_parts(t.row):
                stack += reversed(list(t.inner.values()))
        return found

    def _piece(self, name: str, copy: bool = False) -> NDArray[Any]:
        """An array that it is made of. What tells where others lie is copied: it must stay what was checked."""
        if self.kind not in ("sparse", "nested") or name not in PIECES.get(self.layout, PIECES["compressed"]):
            raise AttributeError(f"a {self.kind} {self.layout} tensor has no {name!r}")
        piece = self.inner.get(name)
        if piece is None or piece.kind != "dense":
            raise self._place(FormatError("tensor-args", f"its {name} are no tensor as torch writes them"))
        stored = piece.storage
        repeats = name == "values" and self.kind == "sparse"  # they may be one element, expanded
        if not repeats and (stored is None or piece.nbytes > stored.nbytes):
            raise self._place(FormatError("tensor-args", f"its {name} say more than is stored of them"))
        self._check_dense(piece.nbytes)
        array = piece.numpy(copy=copy or name != "values")
        array.flags.writeable = False
        return array

    @property
    def indices(self) -> NDArray[Any]:
        """int64[sparse dimensions, elements] of a COO tensor."""
        return self._piece("indices")

    @property
    def compressed_indices(self) -> NDArray[Any]:
        """Row (CSR, BSR) or column (CSC, BSC) pointers."""
        return self._piece("compressed_indices")

    @property
    def plain_indices(self) -> NDArray[Any]:
        """Column (CSR, BSR) or row (CSC, BSC) of each element."""
        return self._piece("plain_indices")

    @property
    def values(self) -> NDArray[Any]:
        """Elements of a sparse or nested tensor, without their places."""
        return self._piece("values")

    def to_dense(self) -> NDArray[Any]:
        """A sparse tensor as an ordinary array, duplicates added, under `Limits.max_dense_bytes`."""
        from . import sparse

        if self.kind != "sparse":
            return self.numpy()
        self._check_dense(self.nbytes)
        try:
            with guard("its parts"):
                return sparse.dense(self)
        except PthError as e:
            raise self._place(e) from None

    def unbind(self) -> list[NDArray[Any]]:
        """The parts of a nested tensor, each an array."""
        from . import sparse

        if self.kind != "nested":
            raise UnsupportedError("no-parts", f"tensor {self.name!r} is not nested", path=self._home.box.source.path)
        try:
            with guard("its parts"):
                return sparse.parts(self)
        except PthError as e:
            raise self._place(e) from None

    def _nested_shape(self) -> tuple[int, ...]:
        inner = self.inner
        if any(piece.kind != "dense" for piece in inner.values()):
            return ()
        if self.layout == "strided" and "sizes" in inner and len(inner["sizes"].shape) == 2:
            n, dims = inner["sizes"].shape
            return (n, *[-1] * dims) if dims < 1000 else (n,)
        if "offsets" in inner and "values" in inner:
            ragged = self._home.parts(self.table, self).ragged
            shape = list(inner["values"].shape)
            if 1 <= ragged <= len(shape):
                shape[ragged - 1] = -1
            return (max(0, inner["offsets"].numel - 1), *shape)
        return ()

    def _check_dense(self, nbytes: int) -> None:
        allowed = self._home.box.limits.max_dense_bytes
        if nbytes > allowed:
            raise self._place(
                LimitError("max_dense_bytes", f"{nbytes} bytes when dense, {allowed} are allowed (max_dense_bytes)")
            )


NESTED = _core.TENSOR_KINDS.index("nested")
META_KIND = _core.TENSOR_KINDS.index("meta")
NO_ARRAY = {
    "sparse": "is sparse: use .indices and .values, or .to_dense()",
    "nested": "is nested: use .unbind(), or .values",
    "meta": "was saved without data (meta device)",
    "uninitialized": "was saved before it had a shape (lazy module)",
    "subclass": "is a wrapper of other tensors: use .inner",
}


def _swapped(raw: NDArray[Any], swap: int) -> NDArray[Any]:
    """Big-endian elements in the machine's order, as an own array. Complex numbers turn round by halves."""
    import numpy as np

    shape, dtype = raw.shape, raw.dtype
    flat = np.ascontiguousarray(raw).reshape(-1).view(f">u{swap}")
    return flat.astype(f"=u{swap}").view(dtype).reshape(shape)


def _dequantized(q: NDArray[Any], scale: Any, zero: Any, axis: int | None) -> NDArray[Any]:
    import numpy as np

    if axis is None:
        return np.asarray(np.multiply(q.astype(np.int64) - zero, np.asarray(scale, np.float32), dtype=np.float32))
    if not 0 <= axis < q.ndim or np.shape(scale) != (q.shape[axis],) or np.shape(zero) != np.shape(scale):
        raise FormatError("tensor-args", "its scales do not fit its channels")
    wide = [1] * q.ndim
    wide[axis] = -1
    scale, zero = scale.reshape(wide), zero.reshape(wide)
    if zero.dtype.kind == "f":  # float_qparams
        return np.asarray((q.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32))
    return np.asarray(((q.astype(np.int64) - zero) * scale).astype(np.float32))  # torch: in double, here alone
