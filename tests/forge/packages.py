"""Archives as torch.package writes them. A record more, or another, is one argument."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from . import pickles as p
from . import zips

EXTERN = b"torch\ncollections\nmy\nos\n"
ONES = struct.pack("<4f", 1, 2, 3, 4)


def tensor(key: int | bytes = 0, numel: int | bytes = 4, size: int = 4) -> bytes:
    """A vector of floats of the storage of a key."""
    return p.tensor(p.storage(p.integer(key) if isinstance(key, int) else key, numel), [size], [1])


def build(
    resources: Mapping[str, bytes],
    storages: Mapping[str, bytes] | None = None,
    *,
    more: Iterable[zips.Entry] = (),
    prefix: str = "m/",
    **others: bytes,
) -> bytes:
    """The archive. `others`: by what follows `.data/`: python_version, extern_modules."""
    marks = {
        "extern_modules": EXTERN,
        "python_version": b"3.11.7",
        "version": b"6\n",
        **others,
    }
    return zips.build(
        [
            *(zips.Entry(f"{prefix}.data/{key}.storage", data) for key, data in (storages or {"0": ONES}).items()),
            *(zips.Entry(prefix + name, data) for name, data in resources.items()),
            *(zips.Entry(f"{prefix}.data/{name}", data) for name, data in marks.items()),
            zips.Entry(f"{prefix}byteorder", b"little"),
            *more,
        ]
    )


def resource(value: bytes, protocol: int = 3) -> bytes:
    return b"\x80" + bytes([protocol]) + value + p.STOP
