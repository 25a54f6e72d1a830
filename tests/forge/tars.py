"""The tar of torch 0.1.9 and before: sys_info, pickle, storages, tensors."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Mapping

from . import legacy
from . import pickles as p


def storage_record(key: int, data: bytes, cls: str = "FloatStorage", location: str = "cpu", itemsize: int = 4) -> bytes:
    row = p.tuple_of([p.integer(key), p.text(location), p.glob("torch", cls)])
    return p.pickle(row) + struct.pack("<q", len(data) // itemsize) + data


def tensor_record(key: int, storage: int | None, size: list[int], stride: list[int], offset: int = 0) -> bytes:
    row = p.pickle(
        p.tuple_of([p.integer(key), p.NONE if storage is None else p.integer(storage), p.glob("torch", "FloatTensor")])
    )
    # u32 dimensions, then 4 bytes of nothing, then i64 sizes, strides and the offset
    return row + struct.pack(f"<iI{len(size)}q{len(stride)}qq", len(size), 0, *size, *stride, offset)


def views(rows: list[tuple[int, int, int, int]]) -> bytes:
    body = b"".join(p.ints(row) for row in rows)
    return p.pickle(p.EMPTY_LIST + p.MARK + body + b"e")


def archive(
    root: bytes,
    storages: list[bytes],
    tensors: list[bytes],
    *,
    view_rows: bytes | None = None,
    skip: str | None = None,
    n_storages: int | None = None,
    twice: str | None = None,
    last: str | None = None,
) -> bytes:
    """`last`: the member that stands at the end."""
    parts: Mapping[str, bytes] = {
        "sys_info": legacy.SYS_INFO,
        "pickle": p.pickle(root),
        "storages": p.pickle(p.integer(len(storages) if n_storages is None else n_storages))
        + b"".join(storages)
        + (views([]) if view_rows is None else view_rows),
        "tensors": p.pickle(p.integer(len(tensors))) + b"".join(tensors),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        ordered = sorted(parts.items(), key=lambda part: part[0] == last)
        for name, data in [*ordered, *((n, d) for n, d in parts.items() if n == twice)]:
            if name == skip:
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
