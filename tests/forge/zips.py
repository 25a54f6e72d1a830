"""Zip archives, byte by byte. The defaults are sound; a defect is one argument."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from . import pickles as p

STORED, DEFLATED = 0, 8


@dataclass
class Entry:
    """A member; None means: what is right."""

    name: str
    data: bytes
    method: int = STORED
    flags: int = 0x0800
    csize: int | None = None
    usize: int | None = None
    crc: int | None = None
    lho: int | None = None
    name_bytes: bytes | None = None
    extra: bytes = b""
    zip64: bool = False  # sizes and offset in a zip64 extra of the directory
    disk: int = 0
    signature: bytes = b"PK\x01\x02"
    local_signature: bytes = b"PK\x03\x04"
    local_name: bytes | None = None
    local_extra: bytes = b""
    local_method: int | None = None
    local_name_len: int | None = None
    local_flags: int | None = None
    local_csize: int | None = None
    local_usize: int | None = None
    local_crc: int | None = None
    local_extra_len: int | None = None
    external: int = 0  # attributes: Unix modes in the upper half
    after: bytes = b""  # bytes behind the data: a data descriptor
    gap: bytes = b""  # bytes before the local header

    def packed(self) -> bytes:
        if self.method != DEFLATED:
            return self.data
        deflater = zlib.compressobj(wbits=-15)
        return deflater.compress(self.data) + deflater.flush()


def build(
    entries: Iterable[Entry],
    *,
    prefix: bytes = b"",
    comment: bytes = b"",
    suffix: bytes = b"",
    eocd64: bool = False,
    count: int | None = None,
    count64: int | None = None,
    dir_off: int | None = None,
    dir_len: int | None = None,
    end_off: int | None = None,
    disks: int = 0,
    before_end: bytes = b"",
) -> bytes:
    """The archive. Offsets count from the end of `prefix`, as a writer that appends to a file would count."""
    entries = list(entries)
    body, rows = bytearray(), []
    for e in entries:
        body += e.gap
        lho, packed = len(body), e.packed()
        name = e.name.encode() if e.name_bytes is None else e.name_bytes
        local_name = name if e.local_name is None else e.local_name
        crc = zlib.crc32(e.data) if e.crc is None else e.crc
        csize = len(packed) if e.csize is None else e.csize
        usize = len(e.data) if e.usize is None else e.usize
        method = e.method if e.local_method is None else e.local_method
        body += e.local_signature
        body += struct.pack(
            "<HHHHHIIIHH",
            20,
            e.flags if e.local_flags is None else e.local_flags,
            method,
            0,
            0,
            crc if e.local_crc is None else e.local_crc,
            min(csize, 0xFFFFFFFF) if e.local_csize is None else e.local_csize,
            min(usize, 0xFFFFFFFF) if e.local_usize is None else e.local_usize,
            len(local_name) if e.local_name_len is None else e.local_name_len,
            len(e.local_extra) if e.local_extra_len is None else e.local_extra_len,
        )
        body += local_name + e.local_extra + packed + e.after
        rows.append((e, name, crc, csize, usize, lho if e.lho is None else e.lho))
    start = len(body)
    for e, name, crc, csize, usize, lho in rows:
        extra = e.extra
        if e.zip64:
            extra = struct.pack("<HHQQQ", 1, 24, usize, csize, lho) + extra
            csize = usize = lho = 0xFFFFFFFF
        body += e.signature
        body += struct.pack(
            "<HHHHHHIIIHHHHHII",
            20,
            20,
            e.flags,
            e.method,
            0,
            0,
            crc,
            csize,
            usize,
            len(name),
            len(extra),
            0,
            e.disk,
            0,
            e.external,
            lho,
        )
        body += name + extra
    length = len(body) - start if dir_len is None else dir_len
    where = start if dir_off is None else dir_off
    total = len(entries) if count is None else count
    body += before_end
    if eocd64:
        at = len(body) if end_off is None else end_off
        total64 = total if count64 is None else count64
        body += b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, disks, disks, total64, total64, length, where)
        body += b"PK\x06\x07" + struct.pack("<IQI", 0, at, 1)
        total, length, where = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    body += b"PK\x05\x06" + struct.pack("<HHHHIIH", disks, disks, total, total, length, where, len(comment)) + comment
    return prefix + bytes(body) + suffix


def checkpoint(data_pkl: bytes, storages: Mapping[str, bytes], *, prefix: str = "archive/", **how: object) -> bytes:
    """A zip as torch.save lays one out."""
    return build(members(data_pkl, storages, prefix=prefix), **how)  # type: ignore[arg-type]


def described(entry: Entry, *, large: bool = False, crc: int | None = None) -> Entry:
    """The same as torch writes it: sizes and checksum in a data descriptor behind the data, where `crc` is another."""
    if not entry.data:
        return entry
    stored, held = len(entry.packed()), len(entry.data)
    layout = "<4sIQQ" if large else "<4sIII"
    said = zlib.crc32(entry.data) if crc is None else crc
    after = struct.pack(layout, b"PK\x07\x08", said, stored, held)
    return replace(entry, flags=0x0808, local_crc=0, local_csize=0, local_usize=0, after=after)


def torchscript(constants: bytes, data_pkl: bytes = p.pickle(p.NONE), **code: bytes) -> list[Entry]:
    """A TorchScript archive: its constants and code beside data.pkl."""
    sources = [Entry(f"archive/code/{name}.py", text) for name, text in code.items()]
    return [*members(data_pkl, {}), Entry("archive/constants.pkl", p.pickle(constants)), *sources]


def model_json(model: object, storage: bytes) -> bytes:
    """The container of torch 1.0 to 1.3, with one storage."""
    return build([Entry("a/model.json", json.dumps(model).encode()), Entry("a/tensors/0", storage)])


def members(data_pkl: bytes, storages: Mapping[str, bytes], *, prefix: str = "archive/") -> list[Entry]:
    return [
        Entry(f"{prefix}data.pkl", data_pkl),
        Entry(f"{prefix}byteorder", b"little"),
        *(Entry(f"{prefix}data/{key}", data) for key, data in storages.items()),
        Entry(f"{prefix}version", b"3\n"),
    ]


def sparse(path: Path, numels: Mapping[str, int], data: Mapping[str, bytes] | None = None) -> None:
    """A checkpoint of float32 vectors of holes, of any size, byte by byte as torch lays one out: marks, padding, zip64.

    data: what of them is no hole, from their first byte on.
    """
    rows: list[tuple[bytes, int, int, int, int]] = []
    zeros: dict[int, int] = {}

    def write(file: BinaryIO, name: str, held: bytes, length: int) -> None:
        at, raw = file.tell(), f"model/{name}".encode()
        if length == len(held):
            crc = zlib.crc32(held)
        else:
            zeros.setdefault(length - len(held), zlib.crc32(bytes(length - len(held))))
            crc = zlib.crc32(bytes(length - len(held)), zlib.crc32(held)) if held else zeros[length]
        padding = -(at + 30 + len(raw) + 4) % 64
        extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding
        file.write(
            b"PK\3\4" + struct.pack("<HHHHHIIIHH", 0, 0x808, 0, 0, 0, 0, 0, 0, len(raw), len(extra)) + raw + extra
        )
        file.write(held)
        file.seek(length - len(held), os.SEEK_CUR)
        file.write(struct.pack("<4sIII", b"PK\7\x08", crc, length, length))
        rows.append((raw, crc, length, at, 0x808))

    with path.open("wb") as file:
        root = p.pickle(vectors(numels))
        write(file, "data.pkl", root, len(root))
        for name, mark in ((".format_version", b"1"), (".storage_alignment", b"64"), ("byteorder", b"little")):
            write(file, name, mark, len(mark))
        for key, (name, numel) in enumerate(numels.items()):
            write(file, f"data/{key}", (data or {}).get(name, b""), numel * 4)
        write(file, "version", b"3\n", 2)
        write(file, ".data/serialization_id", b"1" * 40, 40)
        start = file.tell()
        for raw, crc, length, at, flags in rows:
            extra = struct.pack("<HHQ", 1, 8, at) if at >= 0xFFFFFFFF else b""
            place = 0xFFFFFFFF if extra else at
            head = struct.pack(
                "<HHHHHHIIIHHHHHII", 0, 0, flags, 0, 0, 0, crc, length, length, len(raw), len(extra), 0, 0, 0, 0, place
            )
            file.write(b"PK\1\2" + head + raw + extra)
        end, n = file.tell(), len(rows)
        file.write(b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, n, n, end - start, start))
        file.write(b"PK\6\7" + struct.pack("<IQI", 0, end, 1))
        file.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, n, n, end - start, min(start, 0xFFFFFFFF), 0))


def vectors(numels: Mapping[str, int]) -> bytes:
    """A state dict of float32 vectors, what is always the same said once, as torch's pickler does."""
    out = {}
    for key, (name, numel) in enumerate(numels.items()):

        def said(value: bytes, index: int, first: bool = key == 0) -> bytes:
            return value + p.put(index) if first else p.get(index)

        words = [said(p.text("storage"), 0), said(p.glob("torch", "FloatStorage"), 1)]
        words += [p.text(str(key)), said(p.text("cpu"), 2), p.integer(numel)]
        hooks = p.call(said(p.glob("collections", "OrderedDict"), 4))
        callee = said(p.glob("torch._utils", "_rebuild_tensor_v2"), 3)
        pid = p.tuple_of(words) + p.BINPERSID
        out[name] = p.call(callee, pid, p.integer(0), p.ints([numel]), p.ints([1]), p.FALSE, hooks)
    return p.dict_of(out)
