"""Pickles, opcode by opcode. A value is the bytes that push it; functions join them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

MARK, STOP, NONE, TRUE, FALSE = b"(", b".", b"N", b"\x88", b"\x89"
EMPTY_TUPLE, EMPTY_DICT, EMPTY_LIST = b")", b"}", b"]"
REDUCE, BUILD, BINPERSID, NEWOBJ = b"R", b"b", b"Q", b"\x81"


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


def glob(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def tuple_of(items: Iterable[bytes]) -> bytes:
    return MARK + b"".join(items) + b"t"


def ints(values: Sequence[int]) -> bytes:
    return tuple_of(map(integer, values))


def dict_of(items: Mapping[str, bytes]) -> bytes:
    return EMPTY_DICT + MARK + b"".join(text(k) + v for k, v in items.items()) + b"u"


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


def pickle(value: bytes, protocol: int | None = 2) -> bytes:
    return (b"" if protocol is None else b"\x80" + bytes([protocol])) + value + STOP
