"""Tensors made of tensors, put together: sparse ones made dense, nested ones taken apart.

Every index is checked before it is used.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .tensor import Tensor


def wrong(message: str) -> FormatError:
    return FormatError("sparse-parts", message)


def _add(out: NDArray[Any], where: Any, values: NDArray[Any]) -> None:
    """Adds values where equal places may repeat; bool and ml_dtypes have no ufunc.at of their own."""
    if out.dtype.kind in "fciu" and out.dtype.isbuiltin == 1:
        np.add.at(out, where, values)
    elif out.dtype == bool:
        np.logical_or.at(out, where, values)
    else:
        wide = out.astype(np.float32)
        np.add.at(wide, where, values.astype(np.float32))
        out[...] = wide.astype(out.dtype)


def dense(t: Tensor) -> NDArray[Any]:
    """The dense array of a sparse tensor."""
    values = t._piece("values", copy=True)
    out = np.zeros(t.shape, values.dtype)
    return _dense_coo(t, out, values) if t.layout == "sparse_coo" else _dense_compressed(t, out, values)


def _dense_coo(t: Tensor, out: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    indices = t.indices
    n = indices.shape[0] if indices.ndim == 2 else -1
    if (
        indices.ndim != 2
        or n > out.ndim
        or indices.dtype.kind != "i"
        or values.shape != (indices.shape[1], *out.shape[n:])
    ):
        raise wrong("the shapes of indices and values do not fit")
    for row, size in zip(indices, out.shape[:n], strict=True):
        if row.size and (row.min() < 0 or row.max() >= size):
            raise wrong("an index lies outside of the tensor")
    if n == 0:
        out[...] = values.sum(axis=0)
    else:
        _add(out, tuple(indices), values)
    return out


def _dense_compressed(t: Tensor, out: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """CSR, CSC, BSR, BSC, with leading batch dimensions and trailing dense ones."""
    pointers, plain = t.compressed_indices, t.plain_indices
    blocked = t.layout in ("sparse_bsr", "sparse_bsc")
    by_row = t.layout in ("sparse_csr", "sparse_bsr")
    batch = pointers.ndim - 1
    if batch < 0 or plain.ndim != pointers.ndim or out.ndim < batch + 2 or values.ndim < batch + 1 + 2 * blocked:
        raise wrong("the shapes of indices and values do not fit")
    rows, columns = out.shape[batch : batch + 2]
    block = values.shape[batch + 1 : batch + 3] if blocked else (1, 1)
    tail = values.shape[batch + 1 + 2 * blocked :]
    if 0 in block or rows % block[0] or columns % block[1] or tail != out.shape[batch + 2 :]:
        raise wrong("the blocks do not fit the shape")
    grid = (rows // block[0], columns // block[1])
    lines, width = grid if by_row else grid[::-1]
    if (
        pointers.shape != (*out.shape[:batch], lines + 1)
        or plain.shape[:-1] != out.shape[:batch]
        or values.shape[: batch + 1] != plain.shape
    ):
        raise wrong("the shapes of indices and values do not fit")
    for at in np.ndindex(*out.shape[:batch]):
        p, q, v = pointers[at], plain[at], values[at]
        counts = np.diff(p)
        if p[0] != 0 or p[-1] != q.size or (counts < 0).any() or (q.size and (q.min() < 0 or q.max() >= width)):
            raise wrong("an index lies outside of the tensor")
        line = np.repeat(np.arange(lines), counts)
        r, c = (line, q) if by_row else (q, line)
        target = out[at]
        if blocked:
            tiles = target.reshape(grid[0], block[0], grid[1], block[1], *tail).swapaxes(1, 2)
            tiles[r, c] = v
        else:
            target[r, c] = v
    return out


def parts(t: Tensor) -> list[NDArray[Any]]:
    """The arrays of a nested tensor."""
    return _parts_strided(t) if t.layout == "strided" else _parts_jagged(t)


def _parts_strided(t: Tensor) -> list[NDArray[Any]]:
    buffer = t.values.reshape(-1)
    sizes, strides, offsets = (t._piece(k) for k in ("sizes", "strides", "offsets"))
    if sizes.ndim != 2 or sizes.shape != strides.shape or offsets.shape != sizes.shape[:1]:
        raise wrong("sizes, strides and offsets of a nested tensor do not fit")
    out = []
    for size, stride, offset in zip(sizes.tolist(), strides.tolist(), offsets.tolist(), strict=True):
        if min([offset, *size, *stride]) < 0:
            raise wrong("a negative size, stride or offset of a nested part")
        if math.prod(size) == 0:
            out.append(np.zeros(size, buffer.dtype))
            continue
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if last >= buffer.size:
            raise wrong(f"a nested part ends at element {last + 1} of {buffer.size}")
        view = np.lib.stride_tricks.as_strided(
            buffer[offset:], size, [s * buffer.itemsize for s in stride], writeable=False
        )
        out.append(view)
    return out


def _parts_jagged(t: Tensor) -> list[NDArray[Any]]:
    values, offsets = t.values, t._piece("offsets")
    lengths = t._piece("lengths") if "lengths" in t.inner else np.diff(offsets)
    axis = next((i for i, n in enumerate(t.shape) if n == -1), 1) - 1
    if offsets.ndim != 1 or offsets.size < 1 or lengths.shape != (offsets.size - 1,) or not 0 <= axis < values.ndim:
        raise wrong("offsets and lengths of a jagged tensor do not fit")
    out = []
    for start, n in zip(offsets[:-1].tolist(), lengths.tolist(), strict=True):
        if start < 0 or n < 0 or start + n > values.shape[axis]:
            raise wrong("a jagged part lies outside of its values")
        out.append(values[(slice(None),) * axis + (slice(start, start + n),)])
    return out
