"""Safetensors files with a chosen header."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from . import pickles as p


def entry(
    dtype: str = "F32", shape: Sequence[Any] = (1,), offsets: Sequence[Any] = (0, 4), **more: Any
) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def dumped(header: Any) -> bytes:
    """JSON; a list of pairs is an object, so that its keys may be equal."""
    if isinstance(header, list) and all(isinstance(pair, tuple) for pair in header):
        return b"{" + b",".join(dumped(k) + b":" + dumped(v) for k, v in header) + b"}"
    return json.dumps(header, separators=(",", ":")).encode()


def build(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """header: bytes as they are, or what JSON is made of, padded as the library does."""
    if not isinstance(header, bytes):
        header = dumped(header)
        header += b" " * (-len(header) % 8)
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def polyglot(pickle: bytes) -> bytes:
    """A sound file whose bytes, read as pickles, are `pickle`: its length and its header are texts that are dropped."""
    first, each = 30, 0x7D  # bytes of a BINUNICODE, of which three are the length's, and of SHORT_BINSTRINGs
    length = 0x58 | first << 8
    data = p.POP + pickle
    head = b'{"' + b"a" * (first - 3 - 2)
    tail = dumped({"": entry("U8", [len(data)], [0, len(data)])})[2:]  # from the end of the name on
    n, rest = divmod(length - len(head), each + 3)
    assert rest - 3 > ord('"') and len(tail) < each
    texts = b"".join(p.POP + b"U" + bytes([size]) + b"a" * size for size in (rest - 3, *[each] * n))
    return build(head + texts[: -len(tail)] + tail, data)
