"""Single elements of a tensor: where in the file each stands, its bytes, and the number they make."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .. import _core
from ..errors import UnsupportedError
from ..record import Record
from ..source import MemorySource, SliceSource, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..tensor import Tensor

# Floating types: bits of exponent and mantissa (IEEE 754 and its short relatives that have infinities as it has).
FLOATS = {"float64": (11, 52), "float32": (8, 23), "float16": (5, 10), "bfloat16": (8, 7), "float8_e5m2": (5, 2)}
INTEGERS = {
    "int64": "q", "int32": "i", "int16": "h", "int8": "b", "uint64": "Q", "uint32": "I", "uint16": "H", "uint8": "B",
    "bool": "B", "qint8": "b", "quint8": "B", "qint32": "i",
}  # fmt: skip
LARGEST_INFLATED = 1 << 26  # bytes of a deflated member that are inflated for a few of them
MOST_DIMENSIONS = 8  # whose indices fit into a line
KINDS = ("dense", "quantized")


class Element(Record):
    """An element: its place in the tensor; the bytes from the first of the file, and what they are; the number.

    offset: None where the bytes had to be inflated, so that they stand nowhere in the file. raw: as they are stored.
    """

    index: tuple[int, ...]
    offset: int | None
    raw: bytes
    value: float | int


class Bits(Record):
    """A floating number in its parts: `value` is (-1)^sign * 2^power * significand."""

    bits: str
    sign: int
    exponent: int
    mantissa: int
    exponent_bits: int
    mantissa_bits: int
    bias: int
    power: int
    significand: float
    kind: str  # 'normal', 'subnormal', 'zero', 'infinite' or 'nan'


class Place(Record):
    """Where a storage is: in the file, from byte `offset` on (None: inflated); from `base` on in the `source`."""

    path: str | None
    offset: int | None
    member: str | None
    base: int
    source: Source
    swapped: bool


def readable(t: Any) -> bool:
    """Can elements of it be shown one by one?"""
    return bool(
        t.kind in KINDS
        and t.error is None
        and t.numel
        and len(t.shape) <= MOST_DIMENSIONS
        and t._storage is not None
        and (t.dtype in FLOATS or t.dtype in INTEGERS)
        and not (t.conj or t.neg)
    )


def place_of(t: Tensor) -> Place:
    """Where the storage of a tensor is.

    Raises
    ------
    PthError
        It cannot be read.
    """
    home = t._home
    box = home.box
    row = t._storage
    assert row is not None
    store = t.table.store
    span, _, _, _, _, _, nbytes, _ = t.table.storage(row)
    if span is not None and not box.is_stored(store, span) and nbytes > LARGEST_INFLATED:
        raise UnsupportedError("tour", "it is deflated, and large")
    extent, base = home.extent(t.table, row)
    member = None
    if span is not None and box.zip is not None:
        entry: Any = store.span(span)[3]
        own = entry is not None and entry < len(box.zip)  # else it is of an archive inside of this one
        if own and extent.offset in (None, box.zip.data_off(entry)):
            member = box.zip.name(entry)
    swap = _core.DTYPES[t._dtype][4]
    swapped = box.byteorder == "big" and swap > 1 and not (store is not None and store.fixed_little)
    source = box.source
    if extent.offset is None:
        return Place(source.path, None, member, base, MemorySource(extent.data), swapped)
    shift = source.within()[1] if isinstance(source, SliceSource) else 0
    return Place(source.path, extent.offset + base + shift, member, extent.offset + base, source, swapped)


def elements(t: Any, indices: Sequence[tuple[int, ...]]) -> list[Element]:
    """Some elements of a tensor, or of one in chunks, by their indices.

    Raises
    ------
    PthError
        They cannot be read.
    """
    if t.kind != "chunked":
        return elements_at(t, indices, place_of(t))
    found = []
    for index in indices:
        for chunk, leaf in zip(t.parts, t.chunks, strict=True):
            inner = tuple(i - first for i, first in zip(index, chunk.offsets, strict=True))
            if all(0 <= i < n for i, n in zip(inner, chunk.sizes, strict=True)):
                if not readable(leaf):
                    raise UnsupportedError("tour", "a chunk of a kind that is not shown one by one", path=None)
                (e,) = elements_at(leaf, [inner], place_of(leaf))
                found.append(Element(index, e.offset, e.raw, e.value))
                break
    return found


def elements_at(t: Tensor, indices: Sequence[tuple[int, ...]], place: Place) -> list[Element]:
    """Some elements of a tensor whose storage is there."""
    itemsize = int(t.itemsize)
    found = []
    for index in indices:
        at = itemsize * (t.storage_offset + sum(i * s for i, s in zip(index, t._strides, strict=True)))
        raw = bytes(place.source.read(place.base + at, itemsize))
        offset = None if place.offset is None else place.offset + at
        found.append(Element(index, offset, raw, number(raw, t.dtype, place.swapped)))
    return found


def number(raw: bytes, dtype: str, big: bool = False) -> float | int:
    """What the bytes of one element mean."""
    if dtype in INTEGERS:
        return int(struct.unpack((">" if big else "<") + INTEGERS[dtype], raw)[0])
    wide = raw[::-1] if big else raw
    if dtype == "bfloat16":  # the upper half of a float32
        return float(struct.unpack("<f", b"\0\0" + wide)[0])
    if dtype == "float8_e5m2":  # the upper half of a float16
        return float(struct.unpack("<e", b"\0" + wide)[0])
    return float(struct.unpack({"float64": "<d", "float32": "<f", "float16": "<e"}[dtype], wide)[0])


def bits_of(raw: bytes, dtype: str, big: bool = False) -> Bits:
    """A floating number in its parts."""
    n, m = FLOATS[dtype]
    whole = int.from_bytes(raw, "big" if big else "little")
    sign, exponent, mantissa = whole >> (n + m), whole >> m & ((1 << n) - 1), whole & ((1 << m) - 1)
    bias = (1 << (n - 1)) - 1
    if exponent == (1 << n) - 1:
        kind = "nan" if mantissa else "infinite"
    elif exponent:
        kind = "normal"
    else:
        kind = "subnormal" if mantissa else "zero"
    power = exponent - bias if exponent else 1 - bias
    significand = mantissa / (1 << m) + (1 if exponent else 0)
    text = f"{whole:0{n + m + 1}b}"
    return Bits(
        f"{text[0]} {text[1 : n + 1]} {text[n + 1 :]}", sign, exponent, mantissa, n, m, bias, power, significand, kind
    )


def first_indices(shape: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """Of the first n elements, row by row."""
    out = []
    for flat in range(n):
        index = []
        for size in reversed(shape):
            flat, i = divmod(flat, size) if size else (0, 0)
            index.append(i)
        if flat:
            break
        out.append(tuple(reversed(index)))
    return out
