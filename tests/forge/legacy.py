"""The legacy stream, pickle by pickle."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from . import pickles as p

MAGIC = p.pickle(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")
VERSION = p.pickle(b"M\xe9\x03")
SYS_INFO = p.pickle(
    p.dict_of(
        {
            "protocol_version": b"M\xe9\x03",
            "little_endian": p.TRUE,
            "type_sizes": p.dict_of({"short": p.integer(2), "int": p.integer(4), "long": p.integer(4)}),
        }
    )
)


def storage(key: str, numel: int, view: bytes = p.NONE, cls: str = "FloatStorage") -> bytes:
    """A persistent id of the legacy format: one item more, the view."""
    return (
        p.tuple_of([p.text("storage"), p.glob("torch", cls), p.text(key), p.text("cpu"), p.integer(numel), view])
        + p.BINPERSID
    )


def vector(key: str, numel: int) -> bytes:
    return p.tensor(storage(key, numel), [numel], [1])


def by_value(data: bytes, junk: bytes = b"") -> bytes:
    """What _load_from_bytes is given: a whole stream with one float storage. `junk`: opcodes before it."""
    root, keys = p.pickle(junk + storage("0", len(data) // 4)), p.pickle(p.list_of([p.text("0")]))
    return MAGIC + VERSION + SYS_INFO + root + keys + struct.pack("<q", len(data) // 4) + data


def stream(
    root: bytes,
    storages: Mapping[str, bytes],
    *,
    magic: bytes = MAGIC,
    version: bytes = VERSION,
    sys_info: bytes = SYS_INFO,
    keys: bytes | None = None,
    counts: Mapping[str, int] | None = None,
    itemsize: int = 4,
    suffix: bytes = b"",
) -> bytes:
    """`counts` overrides the count of elements before a storage."""
    if keys is None:
        keys = p.EMPTY_LIST + p.MARK + b"".join(map(p.text, storages)) + b"e"
    out = magic + version + sys_info + p.pickle(root) + p.pickle(keys)
    for key, data in storages.items():
        out += struct.pack("<q", (counts or {}).get(key, len(data) // itemsize)) + data
    return out + suffix
