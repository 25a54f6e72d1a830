"""A zip without its directory, as a download that broke off leaves it: one is made of what the members say themselves.

Before its data each member has a local header; where that has no sizes, a data descriptor behind them has. One walk in
the order of the file finds them. What torch writes first, data.pkl, tells how long each storage is, so that most are
passed by in one step, and which are not there: those get a place behind the end of the file, and are marked as cut.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _core
from ..errors import LimitError, PthError, TruncatedError
from ..source import Source

if TYPE_CHECKING:
    from .zip import ZipContainer

STORED = 0
LOCAL, ENTRY, DESCRIPTOR = b"PK\x03\x04", b"PK\x01\x02", b"PK\x07\x08"
A_HEADER = re.compile(re.escape(LOCAL))
# A descriptor, with its number of bytes before it; and one that another header follows.
SIZED = re.compile(rb"PK\x07\x08(?=.{4}(.{4}))", re.DOTALL)
FOLLOWED = re.compile(rb"PK\x07\x08(?=.{12}(?:.{8})?(?:PK\x03\x04|PK\x01\x02))", re.DOTALL)
OVERLAP = 24 + 3  # bytes of a window that a match in the next one may begin with
HAS_DESCRIPTOR = 0x8
LONGEST_DESCRIPTOR = 24
ALL_ONES = 0xFFFFFFFF
WINDOW = 1 << 20
MOST_NBYTES = 1 << 61  # of all members that are not there
LONGEST_KEY = 4096  # of a storage
NAME_BYTES = 1 << 20  # of members that are known from the pickle, beside 16 times its size
WITHOUT_MEMBER = _core.STORAGE_FLAGS["META"] | _core.STORAGE_FLAGS["IN_PICKLE"]


class Found(NamedTuple):
    """A member. `begin`: its data. crc: None where what holds it is cut off. stored: what is known to belong to it.

    whole: are all of its data there? Only the last one may not be.
    """

    name: bytes
    flags: int
    method: int
    crc: int | None
    stored: int
    inflated: int
    at: int
    begin: int
    whole: bool


class _Reader:
    """A window that moves forward over the file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.at, self.data = 0, b""

    def get(self, at: int, length: int) -> bytes:
        """Bytes from `at` on; fewer at the end of the file."""
        if not (self.at <= at and at + length <= self.at + len(self.data)):
            self.at, self.data = at, bytes(self.source.window(at, max(length, WINDOW)))
        return self.data[at - self.at : at - self.at + length]

    def peek(self, at: int, length: int) -> bytes:
        """The same, and the window stays where it is: what stands far ahead may not be what is looked for."""
        if self.at <= at and at + length <= self.at + len(self.data):
            return self.data[at - self.at : at - self.at + length]
        return bytes(self.source.window(at, length))

    def each(self, pattern: re.Pattern[bytes], at: int) -> Iterator[tuple[int, re.Match[bytes]]]:
        """Where it matches, from `at` on."""
        while at + len(LOCAL) <= self.source.size:
            if len(self.get(at, len(LOCAL))) < len(LOCAL):  # the file was cut meanwhile
                return
            begin, data = self.at, self.data
            for match in pattern.finditer(data, at - begin):
                yield begin + match.start(), match
                at = begin + match.end()
            at = max(at + 1, begin + len(data) - OVERLAP)


def walk(source: Source, limits: Any, sizes: dict[bytes, int]) -> Iterator[Found]:
    """The members in the order of the file. `sizes`: what is known of them by name; may grow meanwhile."""
    reader = _Reader(source)
    n = names = at = 0
    while (at := next(reader.each(A_HEADER, at), (-1, None))[0]) >= 0:
        head = reader.get(at, _core.ZIP_LOCAL)
        if len(head) < _core.ZIP_LOCAL:
            return
        flags, method, crc, stored, inflated, name_len, extra_len = struct.unpack("<6xHH4xIIIHH", head)
        rest = reader.get(at + len(head), name_len + extra_len)
        if len(rest) < name_len + extra_len:
            return
        n, names = n + 1, names + name_len
        if n > limits.max_members or names > limits.max_directory_bytes:
            raise LimitError("max_members", f"more than {n - 1} members (max_members, max_directory_bytes)")
        name, extra = rest[:name_len], rest[name_len:]
        begin = at + len(head) + len(rest)
        if ALL_ONES in (stored, inflated):
            stored, inflated = _large(extra, stored, inflated)
        elif flags & HAS_DESCRIPTOR and not stored and not inflated:
            stored = inflated = -1
        if method == STORED and stored <= 0 < inflated:  # torch leaves the second number of a large member out
            stored = inflated
        following, found = _end(reader, Found(name, flags, method, crc, stored, inflated, at, begin, True), sizes)
        yield found
        if not found.whole:
            return
        at = following


def _large(extra: bytes, stored: int, inflated: int) -> tuple[int, int]:
    """Sizes of 64 bits, in the order in which they replace those of the header; -1: not there."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = iter(
                struct.unpack_from(f"<{length // 8}Q", extra[: at + 4 + length].ljust(at + 4 + length), at + 4)
            )
            inflated = next(numbers, -1) if inflated == ALL_ONES else inflated
            stored = next(numbers, -1) if stored == ALL_ONES else stored
            return stored, inflated
        at += 4 + length
    return -1, -1


def _end(reader: _Reader, m: Found, sizes: dict[bytes, int]) -> tuple[int, Found]:
    """Where what follows the member begins, and the member with what its descriptor says."""
    size = reader.source.size
    known = m.stored if m.stored >= 0 else sizes.get(m.name, -1) if m.method == STORED else -1
    if known >= 0:
        end = m.begin + known
        read = _descriptor(reader, m, end) if m.flags & HAS_DESCRIPTOR and end <= size else None
        if read is not None:
            return end + read[2], m._replace(crc=read[0], stored=known, inflated=read[1])
        if m.stored >= 0 or end > size or end + LONGEST_DESCRIPTOR > size:
            lost = bool(m.flags & HAS_DESCRIPTOR) and not m.crc
            inflated = m.inflated if m.inflated >= 0 else known
            crc = None if lost and known else m.crc
            return min(end, size), m._replace(stored=known, inflated=inflated, crc=crc, whole=end <= size)
    lossy = known >= 0
    for pos, match in reader.each(FOLLOWED if lossy else SIZED, m.begin):
        if not lossy and int.from_bytes(match[1], "little") != (pos - m.begin) & ALL_ONES:
            continue
        read = _descriptor(reader, m, pos, lossy)
        if read is not None:
            return pos + read[2], m._replace(crc=read[0], stored=pos - m.begin, inflated=read[1])
    return size, m._replace(crc=None, stored=max(known, size - m.begin), inflated=-1, whole=False)


def _descriptor(reader: _Reader, m: Found, at: int, lossy: bool = False) -> tuple[int, int, int] | None:
    """(CRC, bytes, length) of the data descriptor of a member whose data end here, if there is one.

    lossy: also one that does not say how many bytes stand before it, if another header follows: bytes were lost.
    """
    raw = reader.peek(at, LONGEST_DESCRIPTOR + len(LOCAL))
    if not raw.startswith(DESCRIPTOR):
        return None
    fits = []
    for layout in ("<4xIQQ", "<4xIII"):
        length = struct.calcsize(layout)
        if len(raw) < length:
            continue
        crc, stored, inflated = struct.unpack_from(layout, raw)
        follows = raw[length : length + 4]
        exact = stored == at - m.begin and (m.method != STORED or inflated == stored)
        if exact:
            fits.append((not (LOCAL.startswith(follows) or ENTRY.startswith(follows)), crc, inflated, length))
        elif lossy and follows in (LOCAL, ENTRY):
            fits.append((True, crc, at - m.begin, length))
    return min(fits)[1:] if fits else None


def directory(members: list[Found], end: int) -> bytes:
    """A central directory and its end records, as they would stand at byte `end`."""
    rows = []
    for m in members:
        extra = struct.pack("<HHQQQ", 1, 24, m.inflated, m.stored, m.at)
        head = struct.pack("<4s6H3I5H2I", ENTRY, 45, 45, m.flags, m.method, 0, 0, m.crc or 0, ALL_ONES, ALL_ONES,
                           len(m.name), len(extra), 0, 0, 0, 0, ALL_ONES)  # fmt: skip
        rows += [head, m.name, extra]
    body = b"".join(rows)
    n, length = len(members), len(body)
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, n, n, length, end)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end + length, 1)
    return body + end64 + locator + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, ALL_ONES, ALL_ONES, 0)


def salvage(box: ZipContainer, lost: PthError) -> None:
    """Gives the container a directory of what is there. `lost`: what is wrong with its own.

    Raises
    ------
    TruncatedError
        Not one member is whole.
    """
    sizes: dict[bytes, int] = {}
    members: list[Found] = []
    folder: bytes | None = None
    for m in walk(box.source, box.limits, sizes):
        members.append(m)
        inside = m.name.lower() == b"data.pkl" or m.name.lower().endswith(b"/data.pkl")
        if inside and folder is None and m.whole and not m.name.startswith(b"__MACOSX/"):
            folder = m.name[: -len(b"data.pkl")]
            sizes.update(_storages(box, m, folder))
    whole = [m for m in members if m.whole]
    if not whole:
        raise TruncatedError("zip-cut", f"{lost.message}; not one member is whole", offset=0)
    size = box.source.size
    cut = members[-1] if not members[-1].whole else None
    absent, at = _absent(whole, sizes, folder, size + 1)
    there = max(0, size - cut.begin) if cut is not None else 0
    nbytes = sum(m.stored for m in absent)
    announced = cut is not None and any(m.name == cut.name for m in absent)
    box.adopt(directory(whole + absent, at), at)
    box.missing = nbytes - (min(there, sizes[cut.name]) if cut is not None and announced else 0)
    box.unsummed = {i for i, m in enumerate(whole) if m.crc is None}
    box.cut = cut is not None or bool(absent) or lost.code == "zip-end"
    box.cut_name = None if cut is None else cut.name.decode("utf-8", "replace")
    box.find("salvaged", None, None, f"{lost.message}; {len(whole)} members were found by their headers")


def _absent(whole: list[Found], sizes: dict[bytes, int], folder: bytes | None, at: int) -> tuple[list[Found], int]:
    """The storages that the pickle names and the file does not have, one behind the other from `at` on."""
    there = {m.name for m in whole}
    # Up to 1.5 their folder had another name.
    folders = {name.rpartition(b"/")[0] for name in there}
    old = folder is not None and folder + b"tensors" in folders and folder + b"data" not in folders
    absent, first = [], at
    for name, nbytes in sizes.items():
        if name in there or at - first + nbytes > MOST_NBYTES or (b"/tensors/" in b"/" + name) != old:
            continue
        absent.append(Found(name, 0, STORED, None, nbytes, nbytes, at, at, False))
        at += _core.ZIP_LOCAL + len(name) + nbytes
    return absent, at


def _storages(box: ZipContainer, root: Found, folder: bytes) -> dict[bytes, int]:
    """Name and size of every storage that a pickle refers to; none if it cannot be read."""
    limits = box.limits
    if root.stored > limits.max_pickle_bytes:
        return {}
    data = box.source.read(root.begin, root.stored)
    if root.method != STORED:
        most = min(
            max(1 << 20, root.stored * limits.max_inflate_ratio), limits.max_inflate_bytes, limits.max_pickle_bytes
        )
        try:
            data = zlib.decompressobj(-15).decompress(data, most)
        except zlib.error:
            return {}
    graph, error = _core.read_pickle(data, _core.Arena(box.c_limits), box.c_limits)
    if error is not None:
        return {}
    try:
        table = _core.Tensors(graph, None, box.c_limits)
    except PthError:
        return {}
    found: dict[bytes, int] = {}
    left = NAME_BYTES + 16 * len(data)
    for i in range(table.n_storages):
        _, key, _, _, flags, _, nbytes, _ = table.storage(i)
        if flags & WITHOUT_MEMBER or not isinstance(key, (str, int)):
            continue
        tail = str(key).encode("utf-8", "surrogatepass")
        left -= 2 * (len(folder) + len(tail))
        if len(tail) <= LONGEST_KEY and left > 0:
            found[folder + b"data/" + tail] = found[folder + b"tensors/" + tail] = nbytes
    return found
