"""One tensor of a checkpoint: what the file says of it, and a view of its bytes.

Every extent was checked by the native core against the storage, and is checked here against the bytes of the file
before an array is made. What numpy cannot hold comes out as the next honest thing, never as a wrong array:

    complex32                float16 with a last axis of 2 (real, imaginary)
    quint4x2, quint2x4       the packed uint8 bytes, 1-D, low bits first
    float4_e2m1fn_x2, bits*  the raw unsigned bytes, as the shape counts them
    quantized                the integers; `dequantize()` gives the values
    sparse, nested, subclass no array: `indices`/`values`/`to_dense()`, `unbind()`, `inner`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .errors import FormatError, LimitError, PthError, UnsupportedError
from .formats.base import Extent
from .source import closed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .formats.base import Container

IN_PICKLE, IN_TEXT = _core.STORAGE_FLAGS["IN_PICKLE"], _core.STORAGE_FLAGS["IN_TEXT"]
MAX_NUMPY_DIMS = 64


class Storage(NamedTuple):
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

    def __init__(self, box: Container, names: Sequence[str], rows: Sequence[int]) -> None:
        self.box = box
        self.names = names
        self.rows = rows

    def make(self, table: _core.Tensors, row: int) -> Tensor:
        """The tensor of a row, under its first name."""
        return table.make(Tensor, self._first_names.get(row, ""), row)

    @cached_property
    def _first_names(self) -> dict[int, str]:
        return dict(zip(reversed(self.rows), reversed(self.names), strict=True))

    def thaw(self, table: _core.Tensors, node: int) -> Any:
        """The value of a node of the table's graph."""
        from .graph import thaw

        def tensor(n: int) -> Tensor | None:
            row = table.row_of_node(n)
            return None if row is None else self.make(table, row)

        try:
            return thaw(table.graph, node, tensor, lambda n: self._loose_storage(table, n), self.box.limits)
        except PthError as e:
            raise e.at(self.box.source.path, self.box.pickles[0].member) from None

    # ---- storages ----

    def sharers(self, table: _core.Tensors, row: int) -> tuple[str, ...]:
        """Names of the tensors that look at the same bytes as a storage."""
        if self._sharers is None:
            found: dict[Any, list[str]] = {}
            for name, tensor_row in zip(self.names, self.rows, strict=True):
                storage = table.storage_of(tensor_row)
                if storage is not None:
                    found.setdefault(self._bytes_of(table, storage), []).append(name)
            self._sharers = found
        return tuple(self._sharers.get(self._bytes_of(table, row), ()))

    _sharers: dict[Any, list[str]] | None = None

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
            pickle = box.pickles[0]
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
        _, key, location, dtype, _, _, nbytes, _ = table.storage(row)
        try:
            extent, base = self.extent(table, row)
            offset = None if extent.offset is None else extent.offset + base
        except PthError:
            offset = None
        device = location if isinstance(location, str) else "cpu"
        name = "" if key is None else str(key)
        return Storage(name, nbytes, offset, self.sharers(table, row), _core.DTYPES[dtype][0], device)

    def _loose_storage(self, table: _core.Tensors, node: int) -> Storage | None:
        """A storage that the graph holds by itself; None if the persistent id is none of torch's."""
        graph = table.graph
        pid = graph.persistent_id(node)
        if not isinstance(pid, _core.Ref) or graph.kind(pid.id) != _core.NODES["TUPLE"] or table.store is None:
            return None
        items = graph.items(pid.id)
        if len(items) not in (5, 6) or items[0] != "storage" or not isinstance(items[1], _core.Ref):
            return None
        key = str(items[2])
        span = table.store.find(key.encode("utf-8", "surrogatepass"))
        if span is None or graph.kind(items[1].id) != _core.NODES["GLOBAL"]:
            return None
        try:
            offset = self.box.extent(table.store, span).offset
        except PthError:
            offset = None
        dtype = _core.DTYPES[graph.global_of(items[1].id)[3]][0]
        return Storage(key, table.store.span(span)[2], offset, (), dtype, str(items[3]))


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
            values = self._inner().get("values")
            return values.numel if values is not None else 0
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
        device = self._device
        if isinstance(device, str):
            return device
        if device is not None:
            return str(self._thaw(device.id))
        row = self._storage
        if row is None:
            inner = self._inner()
            return next(iter(inner.values())).device if inner else "meta" if self._kind == META_KIND else "cpu"
        location = self.table.storage(row)[2]
        return location if isinstance(location, str) else "cpu"

    @property
    def storage(self) -> Storage | None:
        row = self._storage
        return None if row is None else self._home.storage(self.table, row)

    @property
    def subclass(self) -> str | None:
        """'module.Class' of a tensor subclass."""
        cls = self._cls
        if cls is None:
            return None
        return str(self._thaw(cls))

    @property
    def error(self) -> PthError | None:
        """What makes it unreadable, as far as is known without its data."""
        error = self._error()
        return None if error is None else self._place(error)

    @property
    def _home(self) -> Home:
        home: Home = self.table.home
        return home

    def _thaw(self, node: int | None) -> Any:
        return None if node is None else self._home.thaw(self.table, node)

    def _place(self, error: PthError) -> PthError:
        box = self._home.box
        error.message = f"tensor {self.name!r}: {error.message}"
        return error.at(box.source.path, box.pickles[0].member if box.pickles else None)

    def __repr__(self) -> str:
        return f"<Tensor {self.name!r} {self.dtype} {list(self.shape)}>"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of no dimensions has no length")
        return self.shape[0]

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
            only = list(self._inner().values()) if self.kind == "subclass" else []
            if len(only) == 1 and only[0].shape == self.shape:
                return only[0].numpy(copy)
            raise UnsupportedError("no-array", f"tensor {self.name!r} {advice}", path=self._home.box.source.path)
        if self.kind == "array":
            return self._from_array(copy)
        try:
            array = self._strided(copy)
        except PthError as e:
            raise self._place(e) from None
        return self._resolve(array)

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
            count = -(-(self.storage_offset % packing + self.numel) // packing)
            shape, strides, start = (count,), (1,), self.storage_offset // packing
        else:
            start = self.storage_offset * itemsize
        if self.dtype == "complex32":
            shape, strides = (*shape, 2), (*(2 * s for s in strides), 1)
        unit = element.itemsize
        if len(shape) > MAX_NUMPY_DIMS:
            raise UnsupportedError("numpy-ndim", f"{len(shape)} dimensions, numpy has at most {MAX_NUMPY_DIMS}")
        if self.numel == 0:
            empty = np.empty(shape, element)
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
        byte_strides = tuple(s * unit for s in strides)
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
            if self.dtype == "complex32":
                array = array.copy()
                array[..., 1] = -array[..., 1]
            else:
                array = np.conjugate(array)
        if self.neg:
            array = np.negative(array)
        if self.conj or self.neg:
            array.flags.writeable = writeable
        return array

    def _from_array(self, copy: bool) -> NDArray[Any]:
        import numpy as np

        value = self._thaw(self._part)
        if not isinstance(value, np.ndarray):
            raise self._place(UnsupportedError("no-array", "its numpy array could not be read"))
        return value.copy() if copy else value

    # ---- quantized ----

    def _quantizer(self) -> tuple[Any, ...]:
        if self.kind != "quantized":
            raise AttributeError(f"tensor {self.name!r} is not quantized")
        q = self._thaw(self._part)
        if not isinstance(q, tuple) or len(q) < 3:
            raise self._place(FormatError("tensor-args", "its quantizer is not as torch writes one"))
        return q

    @property
    def quantization(self) -> str | None:
        """'per_tensor_affine', 'per_channel_affine', ... or None."""
        return getattr(self._quantizer()[0], "name", None) if self.kind == "quantized" else None

    @property
    def scale(self) -> Any:
        """float, or float64[channels]."""
        return _number_or_array(self._quantizer()[1])

    @property
    def zero_point(self) -> Any:
        """int, or int64[channels] (float where torch's are)."""
        return _number_or_array(self._quantizer()[2])

    @property
    def axis(self) -> int | None:
        """The dimension of the channels; None: one scale for all."""
        q = self._quantizer()
        return q[3] if len(q) > 3 else None

    def dequantize(self) -> NDArray[Any]:
        """(integer - zero_point) * scale, as float32."""
        import numpy as np

        scale, zero, axis = self.scale, self.zero_point, self.axis
        self._check_dense(self.numel * 4)
        q = self._unpacked() if _core.DTYPES[self._dtype][3] > 1 else self.numpy()
        if axis is not None:
            if (
                not isinstance(axis, int)
                or not 0 <= axis < q.ndim
                or np.shape(scale) != (q.shape[axis],)
                or np.shape(zero) != np.shape(scale)
            ):
                raise self._place(FormatError("tensor-args", "its scales do not fit its channels"))
            wide = [1] * q.ndim
            wide[axis] = -1
            scale, zero = scale.reshape(wide), zero.reshape(wide)
            if zero.dtype.kind == "f":  # float_qparams
                values = (q.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32)
                return np.asarray(values)
        return np.asarray(np.multiply(q.astype(np.int64) - zero, np.asarray(scale, np.float32), dtype=np.float32))

    def _unpacked(self) -> NDArray[Any]:
        """Sub-byte integers, one per element, low bits first."""
        import numpy as np

        packing = _core.DTYPES[self._dtype][3]
        bits = 8 // packing
        packed = self.numpy()
        flat = np.stack([packed >> (bits * i) & ((1 << bits) - 1) for i in range(packing)], axis=-1).reshape(-1)
        skip = self.storage_offset % packing
        return flat[skip : skip + self.numel].reshape(self.shape)

    # ---- sparse, nested, subclasses: tensors made of tensors ----

    def _inner(self) -> dict[str, Tensor]:
        """The tensors it is made of, by attribute."""
        part = self._part
        if part is None or self.kind not in ("sparse", "nested", "subclass", "dense"):
            return {}
        value = self._thaw(part)
        named: dict[str, Any] = {}
        if self.kind == "sparse":
            items = value[3:5] if len(value) > 4 else value[: 2 if self.layout == "sparse_coo" else 3]
            names = (
                ("indices", "values")
                if self.layout == "sparse_coo"
                else ("compressed_indices", "plain_indices", "values")
            )
            named = dict(zip(names, items, strict=False))
        elif self.kind == "nested" and self.layout == "strided":
            named = dict(zip(("values", "sizes", "strides", "offsets"), value, strict=False))
        else:
            for state in value if isinstance(value, tuple) else (value,):
                if isinstance(state, dict):
                    named.update(state)
        return {str(k): v for k, v in named.items() if isinstance(v, Tensor)}

    @property
    def inner(self) -> Mapping[str, Tensor]:
        """Attribute -> Tensor, for everything that is made of other tensors."""
        return self._inner()

    def _piece(self, name: str) -> NDArray[Any]:
        inner = self._inner()
        if name not in inner:
            raise AttributeError(f"a {self.layout} tensor has no {name!r}")
        return inner[name].numpy()

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
            return sparse.dense(self)
        except PthError as e:
            raise self._place(e) from None

    def unbind(self) -> list[NDArray[Any]]:
        """The parts of a nested tensor, each an array."""
        from . import sparse

        if self.kind != "nested":
            raise UnsupportedError("no-parts", f"tensor {self.name!r} is not nested", path=self._home.box.source.path)
        try:
            return sparse.parts(self)
        except PthError as e:
            raise self._place(e) from None

    def _nested_shape(self) -> tuple[int, ...]:
        inner = self._inner()
        if self.layout == "strided" and "sizes" in inner and len(inner["sizes"].shape) == 2:
            n, dims = inner["sizes"].shape
            return (n, *[-1] * dims) if dims < 1000 else (n,)
        if "offsets" in inner and "values" in inner:
            state = self._thaw(self._part)
            ragged = state.get("_ragged_idx", 1) if isinstance(state, dict) else 1
            shape = list(inner["values"].shape)
            if isinstance(ragged, int) and 1 <= ragged <= len(shape):
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


def _number_or_array(value: Any) -> Any:
    import numpy as np

    if isinstance(value, Tensor):
        return value.numpy()
    return np.asarray(value) if isinstance(value, (list, tuple)) else value
