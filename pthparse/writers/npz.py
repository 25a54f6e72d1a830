"""npz: a zip of .npy files, stored, so that numpy.load reads one array at a time; each begins at a multiple of 64."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..checksums import Part, crc32s
from ..errors import PthError, UnsupportedError
from ..source import FileSource
from .base import Entry, Layout, Place, Wanted, not_written, put
from .npy import ALIGNED, Arrays, header, read_header

WIDE = 0xFFFFFFFF  # from here on sizes and offsets are of 64 bits
PADDING = 0x4650  # the extra field that torch pads with, too
MOST_NAME = 0xFFFF - 64


class Member(NamedTuple):
    """A member of the archive: its name, header of the array, where its local header is and what follows that."""

    name: bytes
    head: bytes
    offset: int
    start: int
    nbytes: int  # of head and elements


class Npz(Arrays):
    name = "npz"

    def refusal(self, entry: Entry) -> str | None:
        reason = super().refusal(entry)
        name = entry.name
        if reason is None and (name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/")):
            return f"the name {name!a} would lead out of a directory: rename it"
        if reason is None and len(name.encode()) > MOST_NAME:
            return f"its name is too long for a zip ({len(name.encode())} bytes): rename it"
        return reason

    def layouts(self, wanted: Wanted) -> list[Layout]:
        names = {entry.name for entry in wanted.entries}
        for n in names:
            if f"{n}.npy" in names:  # numpy finds both under the longer name
                raise UnsupportedError("names-clash", f"{n!a} and {n + '.npy'!a} are one to numpy: rename one")
        members, places, at = [], [], 0
        for i, entry in enumerate(wanted.entries):
            name, head = f"{entry.name}.npy".encode(), header(*self.said(entry))
            nbytes = len(head) + entry.nbytes
            start = at + 30 + len(name) + (20 if nbytes >= WIDE else 0)
            start += -(start + 4) % ALIGNED + 4
            members.append(Member(name, head, at, start, nbytes))
            places.append((i, start + len(head)))
            at = start + nbytes
        size = at + len(directory(members, [0] * len(members), at))
        return [Layout(f"{wanted.stem}.npz", size, tuple(places), partial(seal, members=members, end=at))]

    def read_back(self, path: str) -> Mapping[str, Place]:
        import zipfile

        out = {}
        with Path(path).open("rb") as file, zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                file.seek(info.header_offset)
                signature, name, extra = struct.unpack("<4s22xHH", file.read(30))
                if signature != b"PK\3\4" or info.compress_type:
                    raise not_written(path, f"a member is not where its directory says: {info.filename!a}")
                start = file.seek(name + extra, 1)
                dtype, shape = read_header(file)
                at = file.tell()
                out[info.filename.removesuffix(".npy")] = Place(dtype, shape, at, info.file_size - (at - start))
        return out


def seal(fd: int, members: Sequence[Member], end: int) -> None:
    """Headers, checksums, directory: the elements are there, and are read for their checksums."""
    for m in members:
        put(fd, m.head, m.start)
    source = FileSource(os.dup(fd), None)
    try:
        crcs = crc32s(source, [Part(m.start, m.nbytes) for m in members])
    finally:
        source.close()
    sums = []
    for m, crc in zip(members, crcs, strict=True):
        if isinstance(crc, PthError):
            raise crc
        sums.append(crc)
        wide = m.nbytes >= WIDE
        extra = struct.pack("<HHQQ", 1, 16, m.nbytes, m.nbytes) if wide else b""
        rest = m.start - m.offset - 30 - len(m.name) - len(extra)
        extra += struct.pack("<HH", PADDING, rest - 4) + bytes(rest - 4)
        size = min(m.nbytes, WIDE)
        fields = (45 if wide else 20, 0x800, 0, 0, 0x21, crc, size, size, len(m.name), len(extra))
        put(fd, b"PK\3\4" + struct.pack("<HHHHHIIIHH", *fields) + m.name + extra, m.offset)
    put(fd, directory(members, sums, end), end)


def directory(members: Sequence[Member], crcs: Sequence[int], start: int) -> bytes:
    """The central directory and what ends it."""
    out = bytearray()
    for m, crc in zip(members, crcs, strict=True):
        wide = m.nbytes >= WIDE or m.offset >= WIDE
        extra = struct.pack("<HHQQQ", 1, 24, m.nbytes, m.nbytes, m.offset) if wide else b""
        size, offset = (WIDE, WIDE) if wide else (m.nbytes, m.offset)
        version = 45 if wide else 20
        out += b"PK\1\2" + struct.pack("<HHHHHHIII", version, version, 0x800, 0, 0, 0x21, crc, size, size)
        out += struct.pack("<HHHHHII", len(m.name), len(extra), 0, 0, 0, 0, offset) + m.name + extra
    length, n = len(out), len(members)
    if n >= 0xFFFF or start >= WIDE or length >= WIDE:
        end = start + length
        out += b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, n, n, length, start)
        out += b"PK\6\7" + struct.pack("<IQI", 0, end, 1)
    few = min(n, 0xFFFF)
    out += b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, few, few, min(length, WIDE), min(start, WIDE), 0)
    return bytes(out)
