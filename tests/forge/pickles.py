"""Pickles, opcode by opcode. A value is the bytes that push it; functions join them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

MARK, STOP, NONE, TRUE, FALSE = b"(", b".", b"N", b"\x88", b"\x89"
EMPTY_TUPLE, EMPTY_DICT, EMPTY_LIST = b")", b"}", b"]"
REDUCE, BUILD, BINPERSID, NEWOBJ, POP = b"R", b"b", b"Q", b"\x81", b"0"


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def long_integer(value: int) -> bytes:
    """Of any length."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(data)) + data


def raw(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def once(value: bytes, index: int) -> bytes:
    """A value that is only kept in the memo."""
    return value + put(index) + POP


def doubled(leaf: bytes, above: Callable[[bytes], bytes], levels: int) -> bytes:
    """Levels that each hold the one below twice or more: what `above` makes of it. As a tree, 2^levels leaves."""
    out = once(leaf, 0)
    for i in range(levels):
        out += once(above(get(i)), i + 1)
    return out + get(levels)


def glob(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def tuple_of(items: Iterable[bytes]) -> bytes:
    return MARK + b"".join(items) + b"t"


def list_of(items: Iterable[bytes]) -> bytes:
    return EMPTY_LIST + MARK + b"".join(items) + b"e"


def ints(values: Sequence[int]) -> bytes:
    return tuple_of(map(integer, values))


def dict_of(items: Mapping[str, bytes]) -> bytes:
    return EMPTY_DICT + MARK + b"".join(text(k) + v for k, v in items.items()) + b"u"


def pairs(keys_and_values: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A dict with keys of any kind, as often as they come."""
    return EMPTY_DICT + MARK + b"".join(k + v for k, v in keys_and_values) + b"u"


def call(callee: bytes, *args: bytes) -> bytes:
    return callee + tuple_of(args) + REDUCE


def ordered_dict() -> bytes:
    return call(glob("collections", "OrderedDict"))


def storage(key: str | bytes, numel: int | bytes, cls: str = "FloatStorage", location: str = "cpu") -> bytes:
    """A persistent id as torch.save writes one."""
    return (
        tuple_of(
            [
                text("storage"),
                glob("torch", cls),
                key if isinstance(key, bytes) else text(key),
                text(location),
                numel if isinstance(numel, bytes) else integer(numel),
            ]
        )
        + BINPERSID
    )


def tensor(
    pid: bytes,
    size: Sequence[int] | bytes,
    stride: Sequence[int] | bytes,
    offset: int | bytes = 0,
    *,
    grad: bytes = FALSE,
    hooks: bytes | None = None,
    more: Sequence[bytes] = (),
) -> bytes:
    """_rebuild_tensor_v2."""
    return call(
        glob("torch._utils", "_rebuild_tensor_v2"),
        pid,
        offset if isinstance(offset, bytes) else integer(offset),
        size if isinstance(size, bytes) else ints(size),
        stride if isinstance(stride, bytes) else ints(stride),
        grad,
        ordered_dict() if hooks is None else hooks,
        *more,
    )


def vector(key: str, numel: int) -> bytes:
    """A float32 vector that fills its storage."""
    return tensor(storage(key, numel), [numel], [1])


def typed(dtype: str, size: Sequence[int], stride: Sequence[int], nbytes: int, *more: bytes) -> bytes:
    """_rebuild_tensor_v3: the dtype stands in the call, the storage has none."""
    pid = storage("0", nbytes, "UntypedStorage")
    first = (pid, integer(0), ints(size), ints(stride), FALSE, ordered_dict(), glob("torch", dtype))
    return call(glob("torch._utils", "_rebuild_tensor_v3"), *first, *more)


def quantized(numel: int, quantizer: bytes, cls: str = "QInt8Storage", size: Sequence[int] = (4,)) -> bytes:
    """_rebuild_qtensor."""
    first = (storage("0", numel, cls), integer(0), ints(size), ints([1] * len(size)))
    return call(glob("torch._utils", "_rebuild_qtensor"), *first, quantizer, FALSE, ordered_dict())


def sparse(layout: str, *parts: bytes) -> bytes:
    named = call(glob("torch.serialization", "_get_layout"), text(f"torch.{layout}"))
    return call(glob("torch._utils", "_rebuild_sparse_tensor"), named, tuple_of(parts))


def nested(*parts: bytes) -> bytes:
    return call(glob("torch._utils", "_rebuild_nested_tensor"), *parts)


def jagged(**parts: bytes) -> bytes:
    return call(glob("torch.nested._internal.nested_tensor", "_rebuild_njt"), dict_of(parts))


def wrapper(size: Sequence[int], device: bytes | None = None) -> bytes:
    """The arguments of _rebuild_wrapper_subclass: a tensor of no bytes of its own."""
    device = text("cpu") if device is None else device
    first = (glob("m", "C"), glob("torch", "float32"), ints(size), ints([1] * len(size)))
    return tuple_of([*first, integer(0), text("strided"), device, FALSE])


def subclass(arguments: bytes, state: bytes) -> bytes:
    """A wrapper subclass with its attributes, as _rebuild_from_type_v2 makes it."""
    inner = glob("torch._utils", "_rebuild_wrapper_subclass")
    return call(glob("torch._tensor", "_rebuild_from_type_v2"), inner, glob("m", "C"), arguments, state)


def numpy_dtype(code: str, unit: tuple[str, int] | None = None) -> bytes:
    """`unit`: of datetime64 and timedelta64, as ("ns", 1)."""
    out = call(glob("numpy", "dtype"), text(code), FALSE, TRUE)
    if unit is None:
        return out
    name, number = unit
    of_time = tuple_of([EMPTY_DICT, tuple_of([raw(name.encode()), *map(integer, (number, 1, 1))])])
    rest = (NONE, NONE, NONE, integer(-1), integer(-1), integer(0), of_time)
    return out + tuple_of([integer(4), text("<"), *rest]) + BUILD


def numpy_scalar(dtype: bytes, data: bytes) -> bytes:
    return call(glob("numpy.core.multiarray", "scalar"), dtype, raw(data))


def numpy_array(dtype: bytes, data: bytes, shape: Sequence[int]) -> bytes:
    return call(glob("numpy._core.numeric", "_frombuffer"), raw(data), dtype, ints(shape), text("C"))


def pickle(value: bytes, protocol: int | None = 2) -> bytes:
    return (b"" if protocol is None else b"\x80" + bytes([protocol])) + value + STOP
