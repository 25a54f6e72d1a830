"""A catalogue of hostile files: one defect each, with the verdict that it deserves.

Rows are the classes of attack, by number: 1 to 26 the zip, 27 to 49 the pickle, 50 to 60 time and memory, 61 to 69
tensors, 70 to 80 the other containers and the output; 0 are single functions that run something when they are called.
Whatever is called touches a file MARKER, and does no more: where one appears, something was executed.

What is expected was written down from what torch does with each file, and from what a verdict means; not from what the
audit said.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from . import legacy, safetensors, tars
from . import pickles as p
from .zips import DEFLATED, Entry, build, checkpoint, members, torchscript

DATA = struct.pack("<16f", *range(16))
VECTOR = p.vector("0", 16)
COMMAND = "touch MARKER"
SYSTEM = p.call(p.glob("posix", "system"), p.text(COMMAND))
ID = p.storage("0", 16)
EVIL = ("posix", "system", "dangerous")
CALL = p.EMPTY_TUPLE + p.REDUCE


class Forged(NamedTuple):
    """A hostile file. `globals`: all that are not known to be inert. `findings`: codes that must be told."""

    name: str
    row: int
    build: Callable[[], bytes]
    verdict: str
    globals: frozenset[tuple[str, str, str]]
    findings: frozenset[str]


CATALOGUE: list[Forged] = []


def add(
    row: int,
    name: str,
    build: Callable[[], bytes] | bytes,
    verdict: str,
    *findings: str,
    found: Iterable[tuple[str, str, str]] = (),
) -> None:
    made = (lambda: build) if isinstance(build, bytes) else build
    CATALOGUE.append(Forged(name, row, made, verdict, frozenset(found), frozenset(findings)))


def evil(row: int, name: str, build: Callable[[], bytes] | bytes, *findings: str) -> None:
    """One in which posix.system can be seen."""
    add(row, name, build, "dangerous", *findings, found=[EVIL])


def zipped(value: bytes, protocol: int | None = 2) -> bytes:
    """A checkpoint of a state dict, and something beside it."""
    return checkpoint(p.pickle(p.dict_of({"w": VECTOR, "x": value}), protocol), {"0": DATA})


def stream(opcodes: bytes) -> bytes:
    """A checkpoint whose pickle is these opcodes, as they are."""
    return checkpoint(opcodes, {"0": DATA})


GOOD = p.pickle(p.dict_of({"w": VECTOR}))
BAD = p.pickle(p.dict_of({"w": VECTOR, "x": SYSTEM}))


def with_entries(change: Callable[[list[Entry]], object], data_pkl: bytes = GOOD, **how: object) -> bytes:
    """Entries: data.pkl, byteorder, data/0, version."""
    entries = members(data_pkl, {"0": DATA})
    change(entries)
    return build(entries, **how)  # type: ignore[arg-type]


def field(at: int, **values: object) -> Callable[[list[Entry]], None]:
    """Sets fields of one entry."""

    def change(entries: list[Entry]) -> None:
        for name, value in values.items():
            setattr(entries[at], name, value)

    return change


def inserted(at: int, *more: Entry) -> Callable[[list[Entry]], None]:
    def change(entries: list[Entry]) -> None:
        entries[at:at] = more

    return change


END = 4  # behind the last entry
PKL, ORDER, STORAGE, VERSION = range(4)


class Deflated(Entry):
    """A member whose data are deflated already."""

    def packed(self) -> bytes:
        return self.data


def deflated_with(entry: Entry, behind: bytes) -> Entry:
    """A deflated member, and bytes behind the end of its stream."""
    packed = Entry("", entry.data, method=DEFLATED).packed() + behind
    return Deflated(entry.name, packed, method=DEFLATED, crc=zlib.crc32(entry.data), usize=len(entry.data))


# ---- 1 to 26: the zip ----

evil(1, "local name", lambda: with_entries(field(PKL, local_name=b"archive/data.txt"), BAD), "zip-local-name")
add(
    1, "local name, harmless", with_entries(field(STORAGE, local_name=b"archive/data/1")), "malformed", "zip-local-name"
)
for bit in (0x1, 0x20, 0x40, 0x2000):
    evil(2, f"local flag {bit:#x}", with_entries(field(PKL, local_flags=0x800 | bit), BAD), "zip-local-flags")
    evil(2, f"flag {bit:#x}", with_entries(field(PKL, flags=0x800 | bit), BAD), "zip-encrypted")
evil(3, "wrong checksum", with_entries(field(PKL, crc=1), BAD), "zip-crc")
add(3, "wrong checksum, harmless", with_entries(field(PKL, crc=1)), "review", "zip-crc")
evil(4, "unreadable member first", with_entries(inserted(0, Entry("archive/a", b"x", method=99)), BAD), "zip-method")
evil(4, "broken member first", with_entries(inserted(0, Entry("archive/a", b"x", usize=9)), BAD), "zip-sizes")
evil(5, "two data.pkl, the first one evil", with_entries(inserted(0, Entry("archive/data.pkl", BAD))), "zip-duplicate")
evil(5, "two data.pkl, the last one evil", with_entries(inserted(END, Entry("archive/data.pkl", BAD))), "zip-duplicate")
evil(
    5,
    "two data.pkl, both deflated",
    lambda: with_entries(
        lambda e: e.__setitem__(slice(0, 1), [Entry(e[0].name, d, method=DEFLATED) for d in (GOOD, BAD)])
    ),
    "zip-duplicate",
)
add(
    6,
    "two records of a storage",
    with_entries(inserted(STORAGE, Entry("archive/data/0", DATA[::-1]))),
    "malformed",
    "zip-duplicate",
)
evil(7, "DATA.PKL", with_entries(field(PKL, name="archive/DATA.PKL"), BAD))
evil(7, "DATA.PKL beside data.pkl", with_entries(inserted(END, Entry("archive/DATA.PKL", BAD))), "zip-duplicate")
add(
    8,
    "two names of one header",
    with_entries(inserted(VERSION, Entry("archive/data/1", b"", csize=64, usize=64, lho=0))),
    "malformed",
    "zip-overlap",
)
evil(8, "a storage over the pickle", with_entries(field(STORAGE, lho=0), BAD), "zip-overlap")
add(
    9,
    "a local extra field that is not there",
    with_entries(field(STORAGE, local_extra_len=4)),
    "malformed",
    "zip-extent",
)
add(
    9,
    "a local extra field over the descriptor",
    with_entries(
        field(
            STORAGE,
            flags=0x808,
            local_extra_len=16,
            after=b"PK\x07\x08" + struct.pack("<III", zlib.crc32(DATA), 64, 64),
        )
    ),
    "malformed",
    "zip-descriptor",
)
add(
    9,
    "a local extra field of the last member",
    with_entries(field(VERSION, local_extra_len=2)),
    "malformed",
    "zip-extent",
)
add(10, "local size", with_entries(field(STORAGE, local_usize=60)), "malformed", "zip-local-sizes")
add(10, "local packed size", with_entries(field(STORAGE, local_csize=0)), "malformed", "zip-local-sizes")
add(10, "local method", with_entries(field(STORAGE, local_method=8)), "malformed", "zip-local-method")
add(10, "local checksum", with_entries(field(STORAGE, local_crc=5)), "malformed", "zip-local-crc")
add(
    10,
    "local size of 64 bits",
    with_entries(
        field(STORAGE, local_csize=0xFFFFFFFF, local_usize=0xFFFFFFFF, local_extra=struct.pack("<HHQQ", 1, 16, 60, 60))
    ),
    "malformed",
    "zip-local-sizes",
)
add(
    10,
    "descriptor with another size",
    with_entries(field(STORAGE, flags=0x808, after=b"PK\x07\x08" + struct.pack("<III", zlib.crc32(DATA), 60, 64))),
    "malformed",
    "zip-local-sizes",
)
add(11, "two sizes of what is stored", with_entries(field(STORAGE, usize=128)), "malformed", "zip-sizes")
add(11, "size behind the end", with_entries(field(STORAGE, csize=1 << 30, usize=1 << 30)), "malformed", "zip-extent")
add(11, "offset behind the end", with_entries(field(STORAGE, lho=1 << 30)), "malformed", "zip-extent")
add(11, "offset at no header", with_entries(field(STORAGE, local_signature=b"PK\x03\x05")), "malformed", "zip-local")
evil(11, "no header before the pickle", with_entries(field(STORAGE, local_signature=b"PK\x03\x05"), BAD), "zip-local")
add(12, "directory offset", with_entries(id, dir_off=40), "malformed", "zip-prefix")
add(12, "directory behind its end", with_entries(id, dir_off=1 << 30), "malformed", "zip-directory")
add(12, "directory size", with_entries(id, dir_len=60), "malformed", "zip-prefix")
evil(12, "count hides a member", with_entries(inserted(END, Entry("archive/evil.pkl", BAD)), count=END), "zip-count")
add(12, "count hides a storage", with_entries(id, count=3), "malformed", "zip-count")
add(12, "count too high", with_entries(id, count=9), "malformed", "zip-header")
evil(12, "count too high, evil", with_entries(id, BAD, count=9), "zip-header")
add(13, "zip64 offset near 2^63", with_entries(id, eocd64=True, dir_off=(1 << 63) - 1), "malformed", "zip-directory")
add(
    13,
    "zip64 offset and size that wrap",
    with_entries(id, eocd64=True, dir_off=(1 << 64) - 8, dir_len=400),
    "malformed",
    "zip-directory",
)
add(13, "zip64 count of 2^62", with_entries(id, eocd64=True, count64=1 << 62), "not clean")
add(13, "zip64 record elsewhere", with_entries(id, eocd64=True, end_off=1 << 62), "malformed", "zip-end64")


def disagreeing() -> bytes:
    made = bytearray(with_entries(id, eocd64=True))
    struct.pack_into("<H", made, len(made) - 12, 3)
    return bytes(made)


add(13, "zip64 record disagrees", disagreeing, "malformed", "zip-end64")
add(
    13,
    "zip64 field too short",
    with_entries(field(STORAGE, csize=0xFFFFFFFF, usize=0xFFFFFFFF, zip64=False, extra=struct.pack("<HHQ", 1, 8, 64))),
    "malformed",
    "zip-header",
)
add(
    13,
    "zip64 member offset near 2^64",
    with_entries(field(STORAGE, zip64=True, lho=(1 << 64) - 4)),
    "malformed",
    "zip-extent",
)
add(
    13,
    "zip64 member size near 2^64",
    with_entries(field(STORAGE, zip64=True, csize=(1 << 64) - 4, usize=(1 << 64) - 4)),
    "malformed",
    "zip-extent",
)
evil(14, "archive behind an archive, the first one evil", stream(BAD) + stream(GOOD), "zip-prefix")
evil(14, "archive behind an archive, the last one evil", stream(GOOD) + stream(BAD), "zip-prefix")
add(14, "an end record in the comment", with_entries(id, comment=stream(GOOD)[-22:]), "malformed", "zip-prefix")
add(14, "2,900 end records", with_entries(id, comment=(b"PK\x05\x06" + bytes(18)) * 2900), "malformed", "zip-prefix")
evil(14, "a whole archive in the comment", with_entries(id, comment=stream(BAD) + b"..."), "zip-prefix")


def long_comment() -> bytes:
    made = bytearray(stream(GOOD))
    struct.pack_into("<H", made, len(made) - 2, 500)
    return bytes(made)


add(15, "comment behind the end", long_comment, "not clean")
add(15, "bytes behind", stream(GOOD) + b"hello", "review", "zip-trailing")
evil(15, "a pickle behind", stream(GOOD) + BAD, "zip-trailing")
evil(15, "a pickle in the comment", with_entries(id, comment=BAD), "zip-comment")
evil(15, "a pickle behind zeros", stream(GOOD) + bytes(64) + BAD, "zip-trailing")
evil(16, "a pickle before the archive", BAD + stream(GOOD), "pickle-trailing")
evil(
    16,
    "a legacy file before the archive",
    lambda: legacy.stream(p.dict_of({"x": SYSTEM}), {}) + stream(GOOD),
    "legacy-trailing",
)
evil(16, "an evil archive behind a pickle", GOOD + stream(BAD), "pickle-trailing")
add(16, "bytes before the archive", b"#!/bin/sh\n" + stream(GOOD), "malformed")


def unlisted(data: bytes) -> bytes:
    """A member that stands between others and in no directory."""
    name = b"archive/data.pkl"
    head = struct.pack("<HHHHHIIIHH", 20, 0x800, 0, 0, 0, zlib.crc32(data), len(data), len(data), len(name), 0)
    return b"PK\x03\x04" + head + name + data


evil(17, "an unlisted member", with_entries(field(STORAGE, gap=unlisted(BAD))), "zip-gap")
evil(17, "an unlisted member at the end", with_entries(field(VERSION, after=unlisted(BAD))), "zip-gap")
evil(17, "a pickle in a gap", with_entries(field(STORAGE, gap=BAD)), "zip-gap")
add(17, "a gap", with_entries(field(STORAGE, gap=b"?" * 40)), "malformed", "zip-gap")
for name in ("config.p", "archive/evil.pkl", "archive/data/evil", "archive/readme.txt", "archive/data/00"):
    evil(18, f"pickle in {name}", with_entries(inserted(END, Entry(name, BAD))), "embedded")
evil(18, "deflated pickle", with_entries(inserted(END, Entry("archive/x", BAD, method=DEFLATED))), "embedded")
evil(18, "archive in an archive", with_entries(inserted(END, Entry("archive/x.pth", stream(BAD)))), "embedded")
evil(
    18,
    "protocol 0 in a member",
    with_entries(inserted(END, Entry("archive/x.pkl", b"cposix\nsystem\n(S'x'\ntR."))),
    "embedded",
)
add(
    18,
    "a storage that nothing refers to",
    with_entries(inserted(VERSION, Entry("archive/data/1", DATA))),
    "review",
    "zip-unused",
)
evil(19, "another root, evil", with_entries(inserted(END, Entry("other/data.pkl", BAD))), "zip-roots")
evil(19, "another root first, evil", with_entries(inserted(0, Entry("other/data.pkl", BAD))), "zip-roots")
add(19, "another root", with_entries(inserted(END, Entry("other/data.pkl", GOOD))), "malformed", "zip-roots")
evil(19, "the root of a packer's folder", with_entries(inserted(0, Entry("__MACOSX/data.pkl", BAD))), "zip-folder")
add(19, "another folder first", with_entries(inserted(0, Entry("a/x", b""))), "review", "zip-folder")
NAMES = (
    "../x",
    "/etc/x",
    "C:/x",
    "archive\\x",
    "archive/\0x",
    "archive/\x1b[31mx",
    "archive/\u202etxt",
    "archive/./x",
    "archive/" + "x" * 65000 + "/../y",
)
for i, name in enumerate(NAMES):
    add(20, f"name {i}", with_entries(inserted(END, Entry(name, b""))), "review", "zip-name")
add(
    20,
    "a name that is not UTF-8",
    with_entries(inserted(END, Entry("", b"", name_bytes=b"archive/\xff"))),
    "review",
    "zip-name",
)
add(
    20,
    "a link",
    with_entries(inserted(END, Entry("archive/x", b"/etc/passwd", external=0o120777 << 16))),
    "review",
    "zip-link",
)
add(
    20,
    "another name in an extra field",
    with_entries(
        field(PKL, extra=struct.pack("<HHBI", 0x7075, 21, 1, zlib.crc32(b"archive/data.pkl")) + b"archive/data.txt")
    ),
    "malformed",
    "zip-extra",
)
for method in (1, 9, 12, 14, 93, 95, 99):
    add(21, f"method {method}", with_entries(field(PKL, method=method), BAD), "malformed", "zip-method")
add(
    22,
    "a bomb",
    lambda: with_entries(field(PKL, method=DEFLATED), p.pickle(p.text("a" * 96_000_000))),
    "incomplete",
    "max_inflate_ratio",
)
add(
    22,
    "a bomb of a part",
    lambda: with_entries(inserted(END, Entry("archive/x.pkl", bytes(96_000_000), method=DEFLATED))),
    "incomplete",
    "max_inflate_ratio",
)
add(
    22,
    "a bomb that lies",
    lambda: with_entries(field(PKL, method=DEFLATED, usize=1000), p.pickle(p.text("a" * 96_000_000))),
    "malformed",
    "zip-deflate",
)
add(
    22, "less than announced", with_entries(field(PKL, method=DEFLATED, usize=100_000), BAD), "malformed", "zip-deflate"
)
add(
    22,
    "many parts that grow",
    lambda: with_entries(
        inserted(END, *(Entry(f"archive/{i}.x", bytes(6_000_000), method=DEFLATED) for i in range(60)))
    ),
    "not clean",
)
add(
    22,
    "bytes behind a deflated pickle",
    lambda: with_entries(lambda e: e.__setitem__(0, deflated_with(e[0], BAD))),
    "malformed",
    "zip-deflate",
)
add(23, "deflated storage", with_entries(field(STORAGE, method=DEFLATED)), "clean")


def many(n: int, key: Callable[[int], str]) -> bytes:
    entries = members(p.pickle(p.list_of([p.vector(key(i), 1) for i in range(n)])), {})
    return build([*entries, *(Entry(f"archive/data/{key(i)}", DATA[:4]) for i in range(n))], eocd64=True)


add(24, "20,000 members", lambda: many(20_000, str), "clean")
add(24, "5,000 equal names", lambda: many(5_000, lambda i: "0"), "malformed", "zip-duplicate")
add(25, "gzip", lambda: gzip.compress(stream(BAD)), "malformed", "gzip")
add(25, "bzip2", lambda: bz2.compress(stream(BAD)), "malformed", "bzip2")
add(25, "xz", lambda: lzma.compress(stream(BAD)), "malformed", "xz")
add(25, "zlib", lambda: zlib.compress(stream(BAD)), "malformed")
add(25, "7z", b"7z\xbc\xaf\x27\x1c" + bytes(100), "malformed", "7z")
add(25, "rar", b"Rar!\x1a\x07\x00" + bytes(100), "malformed", "rar")
add(25, "zstd", b"\x28\xb5\x2f\xfd" + bytes(100), "malformed", "zstd")
add(25, "lz4", b"\x04\x22\x4d\x18" + bytes(100), "malformed", "lz4")


def tarred(*rows: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in rows:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


evil(25, "tar", lambda: tarred(("model.pth", stream(BAD))))
evil(26, "a pickle far behind", lambda: stream(GOOD) + b"?" * (1 << 20) + stream(BAD))

# ---- 27 to 49: the pickle ----

BREAKS = {
    "unknown opcode": b"\xff",
    "nothing": b"",
    "truncated text": b"X\xff\xff\xff\x00abc",
    "bad UTF-8": b"X\x02\x00\x00\x00\xff\xfe",
    "missing memo entry": b"h\xc8",
    "stack underflow": b"0" * 9,
    "no mark": b"t",
    "bad number": b"Ix\n",
    "no end of line": b"S'abc",
    "bad quotes": b"Sabc\n",
    "negative length": b"T\xff\xff\xff\xff",
    "odd items": b"}(Nu",
    "a list as key": b"}]Ns",
    "buffer": b"\x97",
    "protocol 9": b"\x80\x09",
    "frame too long": b"\x95" + b"\xff" * 8,
}
for name, tail in BREAKS.items():
    evil(27, f"then {name}", stream(b"\x80\x02" + SYSTEM + tail))
    evil(27, f"bare, then {name}", b"\x80\x02" + SYSTEM + tail)
evil(28, "imported only", zipped(p.glob("posix", "system")))
evil(28, "imported and dropped", zipped(p.glob("posix", "system") + p.POP + p.NONE))
add(
    28,
    "unknown import",
    zipped(p.glob("evil_package", "x") + p.POP + p.NONE),
    "review",
    found=[("evil_package", "x", "unknown")],
)
evil(29, "a second pickle in data.pkl", stream(GOOD + BAD), "pickle-trailing")
evil(29, "a third one, behind zeros", stream(GOOD + GOOD + bytes(16) + BAD), "pickle-trailing")
evil(29, "two bare pickles", p.pickle(p.NONE) + BAD, "pickle-trailing")


def stack_global(module: bytes, name: bytes, before: bytes = b"", protocol: int = 4) -> bytes:
    """posix.system called by names that stand on the stack."""
    return stream(p.pickle(before + module + name + b"\x93" + p.text(COMMAND) + b"\x85R", protocol))


M, N = p.text("posix"), p.text("system")
evil(30, "names from the memo", stack_global(p.get(1), p.get(0), p.once(N, 0) + p.once(M, 1)))
evil(30, "memo out of order", stack_global(p.get(9), p.get(3), p.once(M, 9) + p.once(N, 3)))
evil(
    30,
    "memo overwritten",
    stack_global(p.get(0), p.get(1), p.once(p.text("a"), 0) + p.once(p.text("b"), 1) + p.once(N, 1) + p.once(M, 0)),
)
evil(
    30,
    "PUT and MEMOIZE mixed",
    stack_global(p.get(2), p.get(3), p.once(p.NONE, 0) * 2 + p.once(p.NONE, 7) + M + b"\x940" + N + b"\x940"),
)
evil(30, "operands left on the stack", stack_global(M, p.text("x") + p.POP + N))
evil(30, "marks between", stack_global(M, N + b"(" + p.text("y") + b"1"))
evil(30, "DUP", stack_global(M + b"20", N))
evil(
    30,
    "memo index beyond the pickle",
    stack_global(p.get(0xFFFFFFF0), p.get(0x80000000), p.once(N, 0x80000000) + p.once(M, 0xFFFFFFF0)),
)
evil(30, "texts as lines of PUT", stack_global(b"g5\n", b"g6\n", M + b"p5\n0" + N + b"p6\n0"))


def texts(value: str) -> dict[str, bytes]:
    data, n = value.encode(), len(value)
    return {
        "STRING": f"S'{value}'\n".encode(),
        "BINSTRING": b"T" + struct.pack("<i", n) + data,
        "SHORT_BINSTRING": b"U" + bytes([n]) + data,
        "UNICODE": b"V" + data + b"\n",
        "UNICODE escaped": b"V" + "".join(f"\\u{ord(c):04x}" for c in value).encode() + b"\n",
        "STRING escaped": b"S'" + "".join(f"\\x{ord(c):02x}" for c in value).encode() + b"'\n",
        "BINUNICODE": p.text(value),
        "SHORT_BINUNICODE": b"\x8c" + bytes([n]) + data,
        "BINUNICODE8": b"\x8d" + struct.pack("<Q", n) + data,
    }


for how, module in texts("posix").items():
    evil(31, f"names by {how}", stack_global(module, texts("system")[how]))
COMPUTED = ("<computed>", "system", "dangerous")
add(31, "a module of bytes", stack_global(b"C\x05posix", N), "dangerous", "pickle-global", found=[COMPUTED])
add(31, "a module that is a number", stack_global(p.integer(5), N), "dangerous", "pickle-global", found=[COMPUTED])
JOINED = p.call(p.glob("builtins", "str.join"), p.text(""), p.list_of([p.text("po"), p.text("six")]))
add(
    32,
    "a module out of str.join",
    stack_global(JOINED, N),
    "dangerous",
    found=[COMPUTED, ("builtins", "str.join", "unknown")],
)
ROTATED = p.call(p.glob("_codecs", "encode"), p.text("cbfvk"), p.text("rot13"))
add(32, "a module out of a codec", stack_global(ROTATED, N), "dangerous", "call-arguments", found=[COMPUTED])
add(
    32,
    "a module out of a harmless class",
    stack_global(p.call(p.glob("builtins", "str"), p.text("posix")), N),
    "dangerous",
    found=[COMPUTED],
)
add(
    32,
    "both computed",
    stack_global(p.glob("builtins", "str") + CALL, p.glob("builtins", "str") + CALL),
    "dangerous",
    found=[("<computed>", "<computed>", "dangerous")],
)
evil(33, "INST", zipped(p.MARK + p.text(COMMAND) + b"iposix\nsystem\n"))
evil(33, "OBJ", zipped(p.MARK + p.glob("posix", "system") + p.text(COMMAND) + b"o"))
evil(33, "OBJ, then POP", zipped(p.MARK + p.glob("posix", "system") + p.text(COMMAND) + b"o0N"))
evil(33, "NEWOBJ", zipped(p.glob("posix", "system") + p.text(COMMAND) + b"\x85\x81"))
evil(33, "NEWOBJ_EX", zipped(p.glob("posix", "system") + p.text(COMMAND) + b"\x85}\x92", 4))
evil(33, "hidden by POP_MARK", zipped(p.MARK + SYSTEM + b"1N"))
evil(33, "hidden by POP", zipped(SYSTEM + b"0N"))
evil(33, "in a key", zipped(p.pairs([(SYSTEM, p.NONE)])))
evil(33, "overwritten", stream(p.pickle(p.pairs([(p.text("a"), SYSTEM), (p.text("a"), VECTOR)]))))
DOTTED = (
    ("torch.serialization", "os.system", "dangerous"),
    ("builtins", "eval.__call__", "dangerous"),
    ("collections", "OrderedDict.__init__.__globals__", "dangerous"),
    ("numpy", "__builtins__", "dangerous"),
    ("torch", "nn.Module", "unknown"),
    ("collections", "OrderedDict.fromkeys", "unknown"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__", "dangerous"),
)
for module, name, status in DOTTED:
    add(
        34,
        f"{module}: {name}",
        zipped(p.call(p.glob(module, name), p.text(COMMAND)), 4),
        "dangerous" if status == "dangerous" else "review",
        found=[(module, name, status)],
    )
SPLIT = p.tensor(p.storage("0", 16), [16], [1]).replace(
    p.glob("torch._utils", "_rebuild_tensor_v2"), p.glob("torch", "_utils._rebuild_tensor_v2")
)
add(35, "a name split elsewhere", zipped(SPLIT), "review", found=[("torch", "_utils._rebuild_tensor_v2", "unknown")])
PYTHON2 = (
    ("__builtin__", "eval"),
    ("__builtin__", "execfile"),
    ("commands", "getoutput"),
    ("cPickle", "loads"),
    ("copy_reg", "add_extension"),
    ("os", "popen"),
    ("urllib", "urlopen"),
    ("SocketServer", "BaseServer"),
)
for module, name in PYTHON2:
    add(
        36,
        f"{module}.{name}",
        zipped(p.call(p.glob(module, name), p.text("1"))),
        "dangerous",
        found=[(module, name, "dangerous")],
    )
for module, name in (("evil", "FloatStorage"), ("os", "FloatStorage"), ("torch.nn", "HalfStorage")):
    status = "dangerous" if module == "os" else "unknown"
    add(
        37,
        f"{module}.{name}",
        zipped(p.glob(module, name)),
        "dangerous" if module == "os" else "review",
        found=[(module, name, status)],
    )
add(
    37,
    "a storage of another module",
    zipped(
        p.tensor(p.storage("0", 16).replace(p.glob("torch", "FloatStorage"), p.glob("evil", "FloatStorage")), [16], [1])
    ),
    "malformed",
    "persistent-id",
    found=[("evil", "FloatStorage", "unknown")],
)
LIKE = (
    ("collections", "OrderedDict "),
    ("collections", "OrderedDict\r"),
    ("collections\r", "OrderedDict"),
    ("c\u043ellections", "OrderedDict"),
    ("collections", "ordereddict"),
    ("torch._utils ", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor_v2\0"),
    ("\uff43ollections", "OrderedDict"),
)
for i, (module, name) in enumerate(LIKE):
    add(38, f"look-alike {i}", zipped(p.glob(module, name)), "review", found=[(module, name, "unknown")])
add(
    39,
    "BUILD on a class",
    zipped(p.glob("collections", "OrderedDict") + p.dict_of({"get": p.NONE}) + p.BUILD),
    "malformed",
    "pickle-target",
)
add(
    39,
    "BUILD on a function",
    zipped(p.glob("torch._utils", "_rebuild_tensor_v2") + p.dict_of({"__code__": p.NONE}) + p.BUILD),
    "malformed",
    "pickle-target",
)
SLOTS = p.tuple_of([p.NONE, p.dict_of({"__class__": p.glob("builtins", "int")})])
for module, name in (("collections", ""), ("", "OrderedDict"), ("", "posix.system"), ("", "")):
    add(38, f"an empty name: {module}.{name}", zipped(p.glob(module, name)), "malformed", "pickle-global")
add(39, "slots into an OrderedDict", zipped(p.ordered_dict() + SLOTS + p.BUILD), "review", "build-target")
add(
    39,
    "slots into a namespace",
    zipped(p.glob("argparse", "Namespace") + CALL + SLOTS + p.BUILD),
    "review",
    "build-target",
)
add(
    39,
    "methods into an OrderedDict",
    zipped(p.ordered_dict() + p.dict_of({"items": p.glob("builtins", "list")}) + p.BUILD),
    "review",
    "build-target",
)
evil(
    39,
    "a method into a namespace, then called",
    zipped(
        p.glob("argparse", "Namespace")
        + CALL
        + p.dict_of({"append": p.glob("posix", "system")})
        + p.BUILD
        + p.text(COMMAND)
        + b"a"
    ),
    "build-target",
)
for name, code, number in (
    ("EXT1", b"\x82\x05", 5),
    ("EXT2", b"\x83\x05\x01", 261),
    ("EXT4", b"\x84\x05\x01\x00\x00", 261),
):
    add(40, name, zipped(code), "malformed", "pickle-ext", found=[("copyreg", f"extension {number}", "unknown")])
MODULE_ID = (
    p.tuple_of([p.text("module"), p.glob("builtins", "int"), p.text("a.py"), p.text("class A: pass")]) + p.BINPERSID
)
add(41, "a text as persistent id", zipped(b"Phello\n"), "malformed", "persistent-id")
add(41, "a module as persistent id", zipped(MODULE_ID), "malformed", "persistent-id")
add(41, "a number as persistent id", zipped(p.integer(5) + p.BINPERSID), "malformed", "persistent-id")
add(41, "a list as persistent id", zipped(p.list_of([p.NONE]) + p.BINPERSID), "malformed", "persistent-id")
add(
    41,
    "another kind",
    zipped(p.storage("0", 16).replace(p.text("storage"), p.text("storagf"))),
    "malformed",
    "persistent-id",
)
add(41, "a view in a zip", zipped(legacy.storage("0", 16)), "malformed", "persistent-id")
add(
    41,
    "a class in a legacy file",
    lambda: legacy.stream(p.dict_of({"w": legacy.vector("0", 16), "x": MODULE_ID}), {"0": DATA}),
    "clean",
)


def framed(n: int, body: bytes) -> bytes:
    return b"\x95" + struct.pack("<Q", n) + body


evil(
    42,
    "an opcode across a frame",
    stream(b"\x80\x04" + framed(4, p.text("abcdefgh") + p.POP) + SYSTEM + b"."),
    "pickle-frame",
)
add(42, "an opcode across a frame, harmless", stream(b"\x80\x04" + framed(4, GOOD[2:])), "malformed", "pickle-frame")
add(
    42,
    "a frame in a frame",
    stream(b"\x80\x04" + framed(200, framed(4, b"NNNN") + GOOD[2:] + b"N" * 300)),
    "malformed",
    "pickle-frame",
)
add(
    42,
    "a frame longer than the pickle",
    stream(b"\x80\x04" + framed(1 << 40, GOOD[2:])),
    "malformed",
    "pickle-truncated",
)
add(
    42,
    "a frame across the end",
    stream(b"\x80\x04" + framed(len(GOOD) + 8, GOOD[2:]) + b"N" * 100),
    "malformed",
    "pickle-frame",
)


def loads(data: bytes) -> bytes:
    return p.call(p.glob("torch.storage", "_load_from_bytes"), p.raw(data))


evil(43, "a legacy file in a storage", zipped(loads(legacy.stream(SYSTEM, {}))), "nested")
evil(43, "a zip in a storage", zipped(loads(stream(BAD))), "nested")
evil(43, "a pickle in a storage", zipped(loads(BAD)), "nested")
evil(43, "a call before a storage", zipped(loads(legacy.by_value(DATA, SYSTEM + p.POP))), "nested")
add(43, "a checkpoint in a storage", zipped(loads(stream(GOOD))), "malformed", "nested")
evil(43, "three levels", lambda: zipped(loads(stream(p.pickle(loads(legacy.stream(loads(BAD), {})))))), "nested")
add(
    43,
    "the loader given away",
    zipped(p.list_of([p.glob("torch.storage", "_load_from_bytes")])),
    "dangerous",
    "nested-elsewhere",
)
add(
    43,
    "computed bytes",
    zipped(p.call(p.glob("torch.storage", "_load_from_bytes"), p.call(p.glob("builtins", "bytes"), p.list_of([])))),
    "dangerous",
    "nested-elsewhere",
)
LOADERS = (
    ("torch", "load"),
    ("torch.serialization", "load"),
    ("pickle", "loads"),
    ("_pickle", "loads"),
    ("joblib", "load"),
    ("dill", "loads"),
    ("cloudpickle", "loads"),
    ("pandas", "read_pickle"),
    ("numpy", "load"),
    ("marshal", "loads"),
)
for module, name in LOADERS:
    add(
        43,
        f"{module}.{name}",
        zipped(p.call(p.glob(module, name), p.raw(BAD))),
        "dangerous",
        found=[(module, name, "dangerous")],
    )
evil(44, "magic as text", b"V119547037146038801333356\n." + BAD)
evil(44, "magic as text, with a protocol", b"\x80\x02" + p.text("119547037146038801333356") + b"." + BAD)
add(45, "a page", b"<!DOCTYPE html><html></html>", "malformed", "html-page")
add(
    45,
    "a pointer",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "malformed",
    "git-lfs-pointer",
)
add(45, "nothing", b"", "malformed", "empty-file")
add(45, "zeros", bytes(5000), "malformed", "all-zero")
add(45, "text", b"Hello, this is a model.", "malformed", "not-a-checkpoint")
add(45, "code", b"import os\nos.system('touch MARKER')\n", "malformed")
evil(45, "a bare pickle", BAD)
evil(45, "a pickle of protocol 0", b"cposix\nsystem\n(S'touch MARKER'\ntR.")
for name, head, code in (
    ("safetensors", b"X\x20\x00\x00\x00" + bytes(3) + b"{}" + b" " * 27 + p.POP, "safetensors-cut"),
    ("gguf", b"GGUFabcde" + p.POP, "gguf"),
    ("bzip2", b"BZh\x00\x00" + b" " * 0x685A + p.POP, "bzip2"),
    ("flatbuffer", b"C\x10  PTMF" + b" " * 10 + p.POP, "flatbuffer"),
):
    evil(45, f"a pickle that begins like {name}", head + SYSTEM + b".", code)
evil(45, "a sound safetensors file too", safetensors.polyglot(BAD), "two-formats")
BEHIND = safetensors.build({"w": safetensors.entry()}, bytes(4) + BAD)
evil(45, "behind the tensors of a safetensors file", BEHIND, "safetensors-trailing")
NPY = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
NPY = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(NPY)) + NPY
evil(45, "an array of objects", NPY + BAD, "npy")
evil(45, "an archive of arrays of objects", lambda: build([Entry("x.npy", NPY + BAD)]), "npz")
evil(18, "an array of objects", with_entries(inserted(END, Entry("archive/x.npy", NPY + BAD))), "embedded")
for module in ("pthparse", "picklescan.scanner", "modelscan", "fickling"):
    add(46, f"import of {module}", zipped(p.glob(module, "open")), "review", found=[(module, "open", "unknown")])
FILLS = {"SETITEM": b"NNs", "SETITEMS": b"(NNu", "APPEND": b"Na", "APPENDS": b"(Ne", "ADDITEMS": b"(N\x90"}
for how, tail in FILLS.items():
    add(47, f"{how} on a tensor", zipped(VECTOR + tail, 4), "not clean")
    add(47, f"{how} on a tuple", zipped(b")" + tail, 4), "malformed", "pickle-target")
    add(47, f"{how} on a class", zipped(p.glob("collections", "OrderedDict") + tail, 4), "malformed", "pickle-target")
add(47, "a call of a list", zipped(p.EMPTY_LIST + CALL), "malformed", "pickle-call")
add(
    47,
    "a call without a tuple",
    zipped(p.glob("builtins", "set") + p.EMPTY_LIST + p.REDUCE),
    "malformed",
    "pickle-call",
)
add(
    47,
    "a tensor without its state",
    zipped(p.glob("torch", "Tensor") + p.EMPTY_TUPLE + p.NEWOBJ + p.tuple_of([p.NONE] * 4) + p.BUILD),
    "review",
    "build-target",
)
SIZE = p.tensor(p.storage("0", 16), SYSTEM, [1])
HOOKS = p.tensor(p.storage("0", 16), [16], [1], hooks=p.dict_of({"x": SYSTEM}))
evil(48, "in the size", zipped(SIZE))
evil(48, "in the hooks", zipped(HOOKS))
evil(48, "in the key", zipped(p.tensor(p.storage(SYSTEM, 16), [16], [1])))
evil(48, "in the storage's size", zipped(p.tensor(p.storage("0", SYSTEM), [16], [1])))
evil(48, "as the storage", zipped(p.tensor(SYSTEM, [16], [1])))
evil(48, "one argument too many", zipped(p.tensor(p.storage("0", 16), [16], [1], more=[p.dict_of({}), SYSTEM])))
TENSOR = (ID, p.integer(0), p.ints([2]), p.ints([1]), p.FALSE, p.ordered_dict())
OTHER = p.tensor(ID, [2], [1], 9)
PARAMETER = p.glob("torch.nn.parameter", "Parameter")


def of_type(state: bytes, cls: bytes = PARAMETER) -> bytes:
    return p.call(
        p.glob("torch._tensor", "_rebuild_from_type_v2"),
        p.glob("torch._utils", "_rebuild_tensor_v2"),
        cls,
        p.tuple_of(TENSOR),
        state,
    )


def with_state(state: bytes) -> bytes:
    inner = p.tensor(ID, [2], [1])
    return p.call(p.glob("torch._utils", "_rebuild_parameter_with_state"), inner, p.TRUE, p.ordered_dict(), state)


# The state of a tensor sets its attributes one by one, and its data are one of them.
add(48, "other data in the state", zipped(of_type(p.dict_of({"data": OTHER}))), "review", "call-arguments")
add(
    48,
    "other data in the slots",
    zipped(of_type(p.tuple_of([p.NONE, p.dict_of({"data": OTHER})]))),
    "review",
    "call-arguments",
)
add(48, "other data of a parameter", zipped(with_state(p.dict_of({"data": OTHER}))), "review", "call-arguments")
add(
    48,
    "another class in the state",
    zipped(with_state(p.dict_of({"__class__": PARAMETER}))),
    "review",
    "call-arguments",
)
add(48, "an honest state", zipped(with_state(p.dict_of({"tag": p.text("x")}))), "clean")
add(
    48,
    "a second storage of a tensor class",
    zipped(
        p.glob("torch", "FloatTensor") + CALL + (p.tuple_of([ID, p.integer(9), p.ints([2]), p.ints([1])]) + p.BUILD) * 2
    ),
    "review",
    "build-target",
)
add(
    48,
    "two states of a parameter",
    zipped(
        PARAMETER
        + p.tuple_of([OTHER])
        + p.REDUCE
        + p.tuple_of([p.tensor(ID, [2], [1]), p.NONE, p.ordered_dict(), p.FALSE, p.FALSE])
        + p.BUILD
        + p.tuple_of([p.TRUE, p.NONE, p.ordered_dict()])
        + p.BUILD
    ),
    "review",
    "build-target",
)
add(
    48,
    "a dict as the four parts of a tensor",
    zipped(
        p.glob("torch", "Tensor")
        + CALL
        + p.pairs([(v, p.NONE) for v in (ID, p.integer(3), p.ints([2]), p.ints([1]))])
        + p.BUILD
    ),
    "review",
    "build-target",
)


def later(value: bytes, use: bytes, change: bytes) -> bytes:
    """A value that is changed after it was used."""
    return zipped(p.once(value, 200) + p.once(use, 201) + p.get(200) + change + p.POP + p.get(201), 4)


PAIR = p.tuple_of([p.text("a"), p.tensor(ID, [2], [1])])
add(
    48,
    "pairs added after the dict",
    later(p.list_of([PAIR]), p.call(p.glob("collections", "OrderedDict"), p.get(200)), PAIR + b"a"),
    "malformed",
    "changed-later",
)
add(
    48,
    "a pair that grows after the dict",
    later(
        p.list_of([p.text("a"), VECTOR]), p.call(p.glob("collections", "OrderedDict"), p.list_of([p.get(200)])), b"Na"
    ),
    "malformed",
    "changed-later",
)
add(
    48,
    "sizes added after the tensor",
    later(p.list_of([p.integer(4)]), p.tensor(ID, p.get(200), [1, 1]), b"K\x02a"),
    "malformed",
    "changed-later",
)
add(
    48,
    "a state that grows",
    later(
        p.dict_of({"a": p.NONE}),
        p.glob("argparse", "Namespace") + CALL + p.get(200) + p.BUILD,
        p.text("b") + VECTOR + b"s",
    ),
    "malformed",
    "changed-later",
)


def dtype_with(
    code: str, flags: int, size: int = -1, names: bytes = p.NONE, fields: bytes = p.NONE, sub: bytes = p.NONE
) -> bytes:
    state = [p.integer(3), p.text("|"), sub, names, fields, p.integer(size), p.integer(1), p.integer(flags)]
    return p.call(p.glob("numpy", "dtype"), p.text(code), p.FALSE, p.TRUE) + p.tuple_of(state) + p.BUILD


def struct_of(inner: bytes, offset: int, flags: int = 16) -> bytes:
    return dtype_with(
        "V8", flags, 8, p.tuple_of([p.text("a")]), p.dict_of({"a": p.tuple_of([inner, p.integer(offset)])})
    )


# numpy takes these at their word, and then takes what the file holds for addresses.
POINTERS = {
    "objects without their flag": dtype_with("O8", 0),
    "a field far out": struct_of(dtype_with("f8", 0), 1 << 20),
    "a size that is not the dtype's": dtype_with("V8", 0, 1 << 20),
}
for name, dtype in POINTERS.items():
    add(48, f"numpy: {name}", zipped(p.numpy_array(dtype, b"A" * 8, [1])), "dangerous", "numpy-memory")
add(
    48,
    "numpy: a field of objects",
    zipped(p.numpy_array(struct_of(dtype_with("O8", 63), 0), b"A" * 8, [1])),
    "review",
    "numpy-dtype",
)
add(
    48,
    "numpy: a part of a dtype",
    zipped(p.numpy_array(dtype_with("V8", 0, 8, sub=p.ints([1])), b"A" * 8, [1])),
    "review",
    "numpy-dtype",
)
add(48, "numpy: an honest field", zipped(p.numpy_array(struct_of(dtype_with("f8", 0), 0), b"A" * 8, [1])), "clean")
add(
    48,
    "numpy: a dtype that is changed",
    later(
        p.call(p.glob("numpy", "dtype"), p.text("V8"), p.FALSE, p.TRUE),
        p.numpy_array(p.get(200), b"A" * 8, [1]),
        p.tuple_of([p.integer(3), p.text("|"), p.NONE, p.NONE, p.NONE, p.integer(8), p.integer(1), p.integer(0)])
        + p.BUILD,
    ),
    "malformed",
    "changed-later",
)
add(
    48,
    "an attribute behind a thousand other calls",
    zipped(
        p.list_of(
            [p.call(p.glob("builtins", "int"), p.NONE)] * 1001
            + [p.call(p.glob("builtins", "getattr"), p.glob("collections", "OrderedDict"), p.text("__init__"))]
        ),
        4,
    ),
    "dangerous",
    "attribute",
    found=[("builtins", "getattr", "unknown")],
)
add(
    48,
    "another codec",
    zipped(p.call(p.glob("builtins", "bytearray"), p.text("a"), p.text("idna")), 3),
    "review",
    "call-arguments",
)
ARRAY = p.glob("numpy.core.multiarray", "_reconstruct")
NDARRAY = p.glob("numpy", "ndarray")
EIGHT = p.numpy_dtype("f8")


def array(shape: list[int], data: bytes, dtype: bytes = EIGHT) -> bytes:
    """An array as numpy pickles one: an empty one, and its state."""
    state = p.tuple_of([p.integer(1), p.ints(shape), dtype, p.FALSE, data])
    return p.call(ARRAY, NDARRAY, p.ints([0]), p.raw(b"b")) + state + p.BUILD


add(48, "numpy: an honest array", zipped(array([2], p.raw(bytes(16)))), "clean")
NUMPY_CALLS = {
    "what the memory held": p.call(ARRAY, NDARRAY, p.ints([16]), p.raw(b"b")),
    "eight gigabytes": p.call(ARRAY, NDARRAY, p.ints([1 << 33]), p.raw(b"b")),
    "objects of nowhere": p.call(ARRAY, NDARRAY, p.ints([3]), p.raw(b"O")),
    "another class": p.call(ARRAY, p.glob("builtins", "dict"), p.ints([0]), p.raw(b"b")),
    "fewer bytes than elements": array([4], p.raw(bytes(16))),
    "more bytes than elements": array([1], p.raw(bytes(16))),
    "a negative size": array([-1], p.raw(bytes(16))),
    "a size that wraps": array([1 << 40, 1 << 40], p.raw(b"")),
    "a list as bytes": array([2], p.list_of([p.NONE, p.NONE])),
    "a short scalar": p.numpy_scalar(EIGHT, b"AA"),
    "a scalar of an object": p.numpy_scalar(p.numpy_dtype("O8"), b"A" * 8),
    "a scalar of no dtype": p.numpy_scalar(p.ordered_dict(), b"A" * 8),
    "a short buffer": p.numpy_array(EIGHT, b"A" * 8, [4]),
}
for name, value in NUMPY_CALLS.items():
    add(48, f"numpy: {name}", zipped(value), "review", "call-arguments")
for code in ("f8,O", "(99999,99999)f8", "__import__('os')"):
    add(48, f"numpy: the dtype {code}", zipped(p.numpy_dtype(code)), "review", "numpy-dtype")
RECONSTRUCTOR = p.glob("copyreg", "_reconstructor")
OBJECT = p.glob("builtins", "object")
NAMESPACE = p.call(RECONSTRUCTOR, p.glob("argparse", "Namespace"), OBJECT, p.NONE)
add(48, "an honest namespace", zipped(NAMESPACE + p.dict_of({"a": p.NONE}) + p.BUILD, 3), "clean")
RECONSTRUCTED = {
    "a terabyte": p.call(RECONSTRUCTOR, *[p.glob("builtins", "bytearray")] * 2, p.integer(1 << 40)),
    "a storage without memory": p.call(RECONSTRUCTOR, p.glob("torch", "FloatStorage"), OBJECT, p.NONE),
    "an array without memory": p.call(RECONSTRUCTOR, NDARRAY, OBJECT, p.NONE),
    "another class by its slots": NAMESPACE + SLOTS + p.BUILD,
    "a method that is called": NAMESPACE
    + p.dict_of({"append": p.glob("pathlib", "Path")})
    + p.BUILD
    + p.text("x")
    + b"a",
}
for name, value in RECONSTRUCTED.items():
    add(48, f"reconstructed: {name}", zipped(value, 3), "review", "call-arguments")
NO_VALUES = {
    "a range without steps": p.call(p.glob("builtins", "range"), *map(p.integer, (0, 1, 0))),
    "a deque of a negative length": p.call(p.glob("collections", "deque"), p.EMPTY_LIST, p.integer(-1)),
    "a part of nothing": p.call(p.glob("fractions", "Fraction"), p.integer(1), p.integer(0)),
    "a part of nothing, as text": p.call(p.glob("fractions", "Fraction"), p.text("1/0")),
    "sizes of text": p.call(p.glob("torch", "Size"), p.tuple_of([p.text("a")])),
    "a zone that is none": p.call(p.glob("datetime", "timezone"), p.ordered_dict()),
    "a time in a zone that is none": p.call(
        p.glob("datetime", "datetime"), p.raw(b"\x07\xe4\1\1" + bytes(6)), p.ordered_dict()
    ),
    "no layout": p.call(p.glob("torch.serialization", "_get_layout"), p.text("torch.nope")),
}
for name, value in NO_VALUES.items():
    add(48, name, zipped(value, 3), "review", "call-arguments")
add(
    48,
    "a storage class that is called",
    zipped(p.call(p.glob("torch", "FloatStorage"), p.integer(5))),
    "review",
    "call-arguments",
)
for protocol in (None, 0, 1, 2, 3, 4, 5):
    evil(49, f"protocol {protocol}", zipped(SYSTEM, protocol))
for protocol in (6, 255):
    add(49, f"protocol {protocol}", zipped(SYSTEM, protocol), "malformed", "pickle-protocol")
add(49, "protocol stated again", zipped(b"\x80\x04N"), "review", "pickle-proto")
add(49, "protocol stated late", stream(b"N0" + GOOD), "review", "pickle-proto")

# ---- 50 to 60: time and memory ----

LENGTHS = {
    "BINUNICODE": b"X\xff\xff\xff\x7f",
    "BINUNICODE8": b"\x8d" + b"\xff" * 8,
    "BINBYTES": b"B\xff\xff\xff\xff",
    "BINBYTES8": b"\x8e" + struct.pack("<Q", 1 << 63),
    "BYTEARRAY8": b"\x96" + struct.pack("<Q", (1 << 63) - 1),
    "LONG4": b"\x8b\xff\xff\xff\x7f",
    "BINSTRING": b"T\xff\xff\xff\x7f",
    "FRAME": b"\x95" + struct.pack("<Q", 1 << 31),
}
for name, opcode in LENGTHS.items():
    add(50, f"length of {name}", stream(b"\x80\x04" + opcode), "malformed", "pickle-truncated")
add(50, "negative LONG4", stream(b"\x80\x02\x8b\x00\x00\x00\x80"), "malformed", "pickle-length")
for i, line in enumerate((b"p-1\n", b"p1_0\n", b"p" + b"9" * 30 + b"\n", b"p 1\n", b"p\n")):
    add(51, f"memo line {i}", stream(b"\x80\x02N" + line + b"."), "malformed", "pickle-number")
# The C unpickler makes an array as long as the index.
add(51, "memo index of 2^31", zipped(p.NONE + p.put(1 << 31)), "review")
add(51, "memo index of 2^32 - 1", zipped(p.NONE + p.put((1 << 32) - 1)), "review")
add(52, "lists in lists", zipped(p.doubled(p.text("lol"), lambda x: p.list_of([x] * 9), 30)), "clean")
add(52, "dicts in dicts", zipped(p.doubled(p.text("lol"), lambda x: p.dict_of({"a": x, "b": x}), 40)), "clean")
add(52, "a list in itself", zipped(p.EMPTY_LIST + b"2a"), "clean")
add(
    52,
    "a tensor under 9^30 names",
    zipped(p.doubled(VECTOR, lambda x: p.list_of([x] * 9), 30)),
    "incomplete",
    "max_name_bytes",
)
add(
    52,
    "a DAG in a call",
    zipped(p.call(p.glob("m", "f"), p.doubled(p.NONE, lambda x: p.list_of([x] * 9), 40))),
    "review",
    found=[("m", "f", "unknown")],
)
add(53, "200,000 lists", lambda: zipped(b"]" * 200_000 + b"a" * 199_999), "clean")
add(53, "900,000 tuples", lambda: zipped(b"N" + b"\x85" * 900_000), "clean")
add(53, "a deep key", lambda: zipped(p.pairs([(b"N" + b"\x85" * 300_000, p.NONE)])), "clean")
add(
    53,
    "deep calls of one function",
    lambda: zipped(p.once(p.glob("m", "f"), 0) + p.get(0) * 50_000 + b")R" + b"\x85R" * 49_999),
    "review",
    found=[("m", "f", "unknown")],
)
add(54, "900,000 marks", lambda: stream(b"\x80\x02" + b"(" * 900_000 + b"."), "malformed", "pickle-underflow")
add(54, "900,000 DUPs", lambda: checkpoint(b"\x80\x02N" + b"2" * 900_000 + b".", {}), "clean")
add(54, "900,000 MEMOIZEs", lambda: checkpoint(b"\x80\x04N" + b"\x94" * 900_000 + b".", {}), "clean")
add(
    55,
    "keys of one hash",
    lambda: zipped(p.pairs([(p.integer(k * ((1 << 61) - 1)), p.NONE) for k in range(20_000)])),
    "clean",
)
add(56, "400,000 digits", lambda: zipped(b"I" + b"9" * 400_000 + b"\n"), "clean")
add(56, "400,000 digits of a LONG", lambda: zipped(b"L" + b"9" * 400_000 + b"L\n"), "clean")
add(56, "400,000 digits of a float", lambda: zipped(b"F" + b"9" * 400_000 + b"\n"), "clean")
add(56, "3.2 million bits", lambda: zipped(b"\x8b" + struct.pack("<i", 400_000) + b"\x7f" * 400_000), "clean")
add(
    56,
    "long numbers in a call",
    lambda: zipped(p.call(p.glob("m", "f"), b"I" + b"9" * 400_000 + b"\n")),
    "review",
    found=[("m", "f", "unknown")],
)
NUMBERED = [(f"m{i}", f"f{i}", "unknown") for i in range(40_000)]
add(57, "40,000 globals", lambda: zipped(p.list_of([p.glob(m, f) for m, f, _ in NUMBERED])), "review", found=NUMBERED)
LONG = "x" * 400_000
add(57, "a long name", lambda: zipped(p.glob(LONG, LONG)), "review", found=[(LONG, LONG, "unknown")])
add(57, "4,000 tensors", lambda: many(4_000, str), "clean")
add(57, "a long tensor name", lambda: stream(p.pickle(p.dict_of({"x" * 500_000: VECTOR}))), "clean")
add(
    57,
    "a long name of many dots",
    lambda: zipped(p.glob("m", "a." * 100_000)),
    "review",
    found=[("m", "a." * 100_000, "unknown")],
)
OPERATIONS = [
    "0",
    "1",
    "2",
    ")",
    "R",
    "b",
    "a",
    "e",
    "s",
    "u",
    "t",
    "d",
    "l",
    "o",
    "\x81",
    "\x92",
    "\x93",
    "\x86",
    "\x87",
    "\x90",
    "\x91",
    "\x94",
    "Q",
    ".",
    "q0",
    "h0",
    "r0000",
    "j0000",
]
for i, code in enumerate(OPERATIONS):
    if code in (")", "."):
        continue
    add(58, f"opcode {i} on nothing", stream(b"\x80\x04" + code.encode("latin-1") + b"."), "malformed")
    add(58, f"opcode {i} on marks", stream(b"\x80\x04((((" + code.encode("latin-1")), "malformed")
add(58, "no STOP", stream(b"\x80\x02N"), "malformed", "pickle-truncated")
add(58, "an empty pickle", stream(b""), "malformed", "pickle-truncated")
add(58, "STOP on nothing", stream(b"\x80\x02."), "malformed", "pickle-underflow")
add(59, "NEXT_BUFFER", zipped(b"\x97", 5), "malformed", "pickle-buffer")
add(59, "READONLY_BUFFER", zipped(b"N\x98", 5), "malformed", "pickle-buffer")
for i, line in enumerate(
    (b"S'\\xg0'\n", b"S'abc\n", b"Sabc'\n", b"S'\n", b"S\n", b"S'a\\'\n", b"V\\uzzzz\n", b"V\\U00110000\n")
):
    add(59, f"escape {i}", zipped(line), "malformed")
add(60, "10,000 dimensions", zipped(p.tensor(p.storage("0", 16), [1] * 10_000, [1] * 10_000)), "incomplete", "max_ndim")
add(60, "2^40 elements of four bytes", zipped(p.tensor(p.storage("0", 16), [1 << 40], [0])), "clean")

# ---- 61 to 69: tensors ----


def tensors(row: int, name: str, value: bytes, verdict: str = "malformed", *findings: str) -> None:
    add(row, name, zipped(value), verdict, *findings)


BIG = 1 << 62
tensors(61, "offset out of the storage", p.tensor(ID, [16], [1], 1), "malformed", "tensor-bounds")
tensors(61, "offset far out", p.tensor(ID, [1], [1], BIG), "malformed", "tensor-bounds")
tensors(61, "stride far out", p.tensor(ID, [2], [BIG]), "malformed", "tensor-bounds")
tensors(61, "size far out", p.tensor(ID, [17], [1]), "malformed", "tensor-bounds")
tensors(61, "negative offset", p.tensor(ID, [1], [1], -1), "malformed", "tensor-negative")
tensors(61, "negative stride", p.tensor(ID, [2], [-1], 8), "malformed", "tensor-negative")
tensors(61, "negative size", p.tensor(ID, [-1], [1]), "malformed", "tensor-negative")
tensors(61, "no elements, far out", p.tensor(ID, [0], [1], BIG), "clean")
tensors(62, "product that wraps", p.tensor(ID, [1 << 32, 1 << 32], [0, 0]), "malformed", "tensor-overflow")
tensors(62, "bytes that wrap", p.tensor(p.storage("0", 0x4000000000000001), [16], [1]), "malformed")
tensors(62, "stride that wraps", p.tensor(ID, [3], [(1 << 63) - 1]), "malformed", "tensor-bounds")
ODD_ARGUMENTS = {
    "a rank too many": p.tensor(ID, [16], [1, 1]),
    "a rank too few": p.tensor(ID, [4, 4], [4]),
    "a float": p.tensor(ID, p.tuple_of([b"G@0" + bytes(6)]), [1]),
    "a text": p.tensor(ID, p.tuple_of([p.text("16")]), [1]),
    "None": p.tensor(ID, p.tuple_of([p.NONE]), [1]),
    "more than 64 bits": p.tensor(ID, [1 << 70], [1]),
    "a text as offset": p.tensor(ID, [16], [1], p.text("0")),
    "no size": p.tensor(ID, p.NONE, [1]),
}
for name, value in ODD_ARGUMENTS.items():
    tensors(63, name, value, "malformed", "tensor-args")


def stored(nbytes: int, numel: int = 16) -> bytes:
    return checkpoint(p.pickle(p.dict_of({"w": p.vector("0", numel)})), {"0": bytes(nbytes)})


add(64, "a short record", stored(60), "malformed", "tensor-bounds")
add(64, "an empty record", stored(0), "malformed", "tensor-bounds")
add(
    64,
    "a storage shorter than it says",
    checkpoint(p.pickle(p.tensor(p.storage("0", 32), [16], [1])), {"0": DATA}),
    "malformed",
    "storage-size",
)
add(64, "a long record", stored(4096), "not clean", "storage-larger")
add(64, "no record", checkpoint(GOOD, {}), "malformed", "storage-missing")
add(65, "two dtypes", zipped(p.tensor(p.storage("0", 8, "DoubleStorage"), [8], [1])), "malformed", "storage-mixed")
add(65, "two sizes", zipped(p.vector("0", 8)), "malformed", "storage-mixed")
KEYS = ("../0", "/0", "0\0x", "0/../0", " 0", "0 ", "", "\ud800", "00", "../data.pkl")
for i, key in enumerate(KEYS):
    tensors(66, f"key {i}", p.tensor(p.storage(key, 16), [16], [1]), "malformed", "storage-missing")
tensors(66, "a number as key", p.tensor(p.storage(p.integer(0), 16), [16], [1]), "not clean")
tensors(66, "bytes as key", p.tensor(p.storage(b"C\x010", 16), [16], [1]), "not clean")
PER_TENSOR = p.tuple_of([p.glob("torch", "per_tensor_affine"), b"G?\xf0" + bytes(6), p.integer(0)])
add(
    67,
    "quantized, out of the storage",
    checkpoint(p.pickle(p.quantized(4, PER_TENSOR, size=[400])), {"0": bytes(4)}),
    "malformed",
    "tensor-bounds",
)
add(
    67,
    "a parameter, out of the storage",
    zipped(p.call(p.glob("torch._utils", "_rebuild_parameter"), p.tensor(ID, [17], [1]), p.TRUE, p.ordered_dict())),
    "malformed",
    "tensor-bounds",
)
tensors(67, "typed, out of the storage", p.typed("float32", [17], [1], 64), "malformed")
MARKS = {
    "byteorder": (b"middle", b"little\n", b"x" * 100_000, b"", b"BIG"),
    ".storage_alignment": (b"-1", b"0", b"9" * 40, b"x", b"64 "),
    ".format_version": (b"", b"-1", b"1.0", b"9" * 50),
    "version": (b"", b"0", b"x", b"999", b"3\n\n"),
    ".data/serialization_id": (b"x", b"1" * 100, SYSTEM),
}
for mark, values in MARKS.items():
    for i, data in enumerate(values):

        def marked(mark: str = mark, data: bytes = data) -> bytes:
            entries = [e for e in members(GOOD, {"0": DATA}) if e.name != f"archive/{mark}"]
            return build([*entries, Entry(f"archive/{mark}", data)])

        add(68, f"{mark} {i}", marked, "not clean")
add(68, "no version", lambda: build(members(GOOD, {"0": DATA})[:VERSION]), "review", "zip-version")
INDICES = p.call(
    p.glob("torch._utils", "_rebuild_tensor_v2"),
    p.storage("0", 8, "LongStorage"),
    p.integer(0),
    p.ints([1, 8]),
    p.ints([8, 1]),
    p.FALSE,
    p.ordered_dict(),
)
add(
    69,
    "sparse indices out of range",
    checkpoint(
        p.pickle(p.sparse("sparse_coo", INDICES, p.vector("1", 8), p.ints([4]), p.FALSE)),
        {"0": struct.pack("<8q", *[1 << 40] * 8), "1": bytes(32)},
    ),
    "clean",
)

# ---- 70 to 80: the other containers, and the output ----

ROOT = p.dict_of({"w": legacy.vector("0", 16)})
evil(
    70,
    "payload in the magic number",
    lambda: legacy.stream(ROOT, {"0": DATA}, magic=p.pickle(SYSTEM + p.POP + legacy.MAGIC[2:-1])),
)
evil(
    70,
    "payload in the version",
    lambda: legacy.stream(ROOT, {"0": DATA}, version=p.pickle(SYSTEM + p.POP + b"M\xe9\x03")),
)
evil(70, "payload in sys_info", lambda: legacy.stream(ROOT, {"0": DATA}, sys_info=p.pickle(SYSTEM)))
evil(70, "payload in the object", lambda: legacy.stream(p.list_of([SYSTEM]), {"0": DATA}))
evil(
    70, "payload in the keys", lambda: legacy.stream(ROOT, {"0": DATA}, keys=SYSTEM + p.POP + p.list_of([p.text("0")]))
)
evil(70, "payload behind the storages", lambda: legacy.stream(ROOT, {"0": DATA}, suffix=BAD), "legacy-trailing")
evil(
    70,
    "another object behind",
    lambda: legacy.stream(ROOT, {"0": DATA}, suffix=legacy.stream(SYSTEM, {})),
    "several-objects",
)
evil(70, "payload before an error", lambda: legacy.stream(ROOT, {"0": DATA}, magic=p.pickle(SYSTEM)))
add(71, "no keys", lambda: legacy.stream(ROOT, {"0": DATA}, keys=p.EMPTY_LIST), "malformed", "storage-missing")
add(71, "keys that are none", lambda: legacy.stream(ROOT, {"0": DATA}, keys=p.NONE), "malformed", "legacy-keys")
for i, n in enumerate((1 << 62, (1 << 64) - 1, 15, 0)):
    add(
        72,
        f"count {i}",
        lambda n=n: legacy.stream(ROOT, {"0": DATA}, counts={"0": n - (1 << 64) if n >> 63 else n}),
        "malformed",
        "legacy-numel",
    )
add(72, "cut in a storage", lambda: legacy.stream(ROOT, {"0": DATA})[:-20], "malformed", "legacy-extent")
add(72, "cut in the keys", lambda: legacy.stream(ROOT, {"0": DATA})[:-90], "malformed")
VIEW = p.tuple_of([p.text("v"), p.integer(8), p.integer(100)])
add(
    72,
    "a view out of its storage",
    lambda: legacy.stream(p.tensor(legacy.storage("0", 16, VIEW), [16], [1]), {"0": DATA}),
    "malformed",
)
add(
    72,
    "300,000 keys",
    lambda: legacy.stream(
        ROOT, {"0": DATA}, keys=p.EMPTY_LIST + p.MARK + b"".join(p.text(str(i)) for i in range(300_000)) + b"e"
    ),
    "malformed",
    "legacy-unused",
)
add(
    72,
    "one key 300,000 times",
    lambda: legacy.stream(ROOT, {"0": DATA}, keys=p.EMPTY_LIST + p.MARK + p.text("0") * 300_000 + b"e"),
    "malformed",
    "legacy-keys",
)
STORAGES, TENSORS = [tars.storage_record(1, DATA)], [tars.tensor_record(2, 1, [16], [1])]
TARRED = p.dict_of({"w": p.text("2") + p.BINPERSID})
evil(73, "payload in the object of a tar", lambda: tars.archive(p.list_of([SYSTEM]), STORAGES, TENSORS))
evil(73, "payload in a storage record", lambda: tars.archive(TARRED, [SYSTEM_RECORD], TENSORS))
SYSTEM_RECORD = (
    p.pickle(SYSTEM + p.POP + tars.storage_record(1, DATA)[2:][: -len(DATA) - 9]) + struct.pack("<q", 16) + DATA
)
evil(
    73,
    "payload in a tensor record",
    lambda: tars.archive(TARRED, STORAGES, [p.pickle(SYSTEM + p.POP + TENSORS[0][2:]) + b""]),
)
evil(73, "payload in the views", lambda: tars.archive(TARRED, STORAGES, TENSORS, view_rows=p.pickle(SYSTEM)))
evil(73, "payload behind broken storages", lambda: tars.archive(p.list_of([SYSTEM]), [b"\x80\x02N."], TENSORS))
evil(73, "payload behind the end of a tar", lambda: tars.archive(TARRED, STORAGES, TENSORS) + BAD, "tar-trailing")
add(
    73,
    "a storage missing from a tar",
    lambda: tars.archive(TARRED, STORAGES, TENSORS, skip="storages"),
    "malformed",
    "not-a-checkpoint",
)
add(
    73,
    "two pickles of a tar",
    lambda: tars.archive(TARRED, STORAGES, TENSORS, twice="pickle"),
    "malformed",
    "tar-duplicate",
)


def tar_with(more: Iterable[tarfile.TarInfo], data: bytes = b"", *, first: bool = False) -> bytes:
    """A sound tar, and members of other kinds beside its own."""
    parts = {"sys_info": legacy.SYS_INFO, "pickle": p.pickle(TARRED), "storages": None, "tensors": None}
    sound = tars.archive(TARRED, STORAGES, TENSORS)
    with tarfile.open(fileobj=io.BytesIO(sound)) as tar:
        parts = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        rows = [*((tarfile.TarInfo(n), d) for n, d in parts.items()), *((info, data) for info in more)]
        for info, body in rows[::-1] if first else rows:
            info.size = len(body) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(body) if info.isreg() else None)
    return out.getvalue()


def info_of(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **pax: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, dict(pax)
    return info


add(73, "a link in a tar", lambda: tar_with([info_of("x", tarfile.SYMTYPE, "/etc/passwd")]), "malformed", "tar-kind")
add(73, "a link over a member", lambda: tar_with([info_of("pickle", tarfile.SYMTYPE, "sys_info")]), "malformed")
add(
    73,
    "a hard link over a member",
    lambda: tar_with([info_of("pickle", tarfile.LNKTYPE, "sys_info")]),
    "malformed",
    "tar-kind",
)
evil(73, "a member with another name", lambda: tar_with([info_of("x", path="pickle")], BAD), "tar-kind")
evil(73, "a second pickle of a tar", lambda: tar_with([info_of("pickle")], BAD), "tar-duplicate")
add(73, "a member that leaves the folder", lambda: tar_with([info_of("../../x")], b"x"), "review", "tar-member")
add(73, "honest extended headers", lambda: tar_with([], b""), "clean")


def polyglot_tar(form: bytes = b"%06o\0 ") -> bytes:
    """A legacy file whose first 512 bytes are a header of tar without the word ustar: torch tries tar first."""
    hidden = tars.archive(p.list_of([SYSTEM]), STORAGES, TENSORS)
    start = legacy.MAGIC + legacy.VERSION + b"\x80\x02}"
    text = p.text("a") + b"X" + struct.pack("<I", 512 - len(start) - 11)
    head = bytearray(start + text)
    head += bytes(512 - len(head))
    head[124:136] = b"00000001000\0"  # 512 bytes: the rest of the pickles
    head[148:156] = b" " * 8
    head[148:156] = form % sum(head)
    rest = b"s." + p.pickle(legacy.vector("0", len(hidden) // 4)) + p.pickle(p.list_of([p.text("0")]))
    pad = 512 - len(rest) - 8
    rest = b"s." + p.pickle(
        p.once(b"X" + struct.pack("<I", pad - 11) + b" " * (pad - 11), 1) + legacy.vector("0", len(hidden) // 4)
    )
    rest += p.pickle(p.list_of([p.text("0")]))
    return bytes(head) + rest + struct.pack("<q", len(hidden) // 4) + hidden


evil(74, "a tar in a legacy file", polyglot_tar, "tar-kind")
# Python's int() takes these for octal too.
evil(74, "a tar in a legacy file, 0o", lambda: polyglot_tar(b"0o%05o\0"), "tar-kind")
evil(74, "a tar in a legacy file, +", lambda: polyglot_tar(b"+%06o\0"), "tar-kind")


def raw_header() -> bytes:
    """A tar whose first name is a pickle: torch runs it where it is given bytes and not a path."""
    made = bytearray(tar_with([], b""))
    first = tarfile.TarInfo("cposix\nsystem\n(S'touch MARKER'\ntR.").tobuf(tarfile.USTAR_FORMAT)
    return first + bytes(made)


evil(74, "a pickle in the name of a tar's member", raw_header, "two-formats")


def prefixed() -> bytes:
    made = bytearray(tar_with([], b""))
    made[345:347] = b"x\0"
    made[148:156] = b"%06o\0 " % (sum(made[:148]) + 256 + sum(made[156:512]))
    return bytes(made)


add(73, "a member of another folder", prefixed, "malformed", "tar-kind")


def polyglot_zip() -> bytes:
    """A zip whose first 512 bytes are a header of tar too."""
    made = bytearray(build([Entry("archive/x", bytes(600)), *members(GOOD, {"0": DATA})]))
    header = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
    made[100:512] = header[100:512]
    total = sum(made[:148]) + 8 * 32 + sum(made[156:512])
    made[148:156] = b"%06o\0 " % total
    return bytes(made)


add(74, "a tar in a zip", polyglot_zip, "malformed", "two-formats")
evil(74, "a zip behind a tar", lambda: tarred(("x", b"x")) + stream(BAD))
SCRIPT = b"class A(Module):\n  __parameters__ = []\n  def forward(self, x):\n    return x\n"
add(
    75,
    "TorchScript",
    lambda: build([*torchscript(p.EMPTY_TUPLE, GOOD, a=SCRIPT), Entry("archive/data/0", DATA)]),
    "review",
    "code",
)
evil(
    75,
    "TorchScript, evil",
    lambda: build([*torchscript(SYSTEM, GOOD, a=SCRIPT), Entry("archive/data/0", DATA)]),
    "code",
)
add(
    75,
    "constants beside a checkpoint",
    with_entries(inserted(END, Entry("archive/constants.pkl", p.pickle(p.EMPTY_TUPLE)))),
    "review",
    "code",
)
add(75, "code beside a checkpoint", with_entries(inserted(END, Entry("archive/code/x.py", SCRIPT))), "review", "code")
add(
    75,
    "a class of TorchScript",
    zipped(p.glob("__torch__.m", "A") + p.EMPTY_TUPLE + p.NEWOBJ),
    "review",
    found=[("__torch__.m", "A", "unknown")],
)
evil(
    75,
    "a package",
    lambda: build([Entry("a/.data/extern_modules", b""), Entry("a/.data/version", b"1"), Entry("a/x.pkl", BAD)]),
)
add(
    75,
    "a package of code",
    lambda: build([Entry("a/.data/python_version", b"3"), Entry("a/x.py", SCRIPT)]),
    "review",
    "code",
)


def traced(code: bytes, imports: bytes = p.text("")) -> bytes:
    """A module traced by torch.fx, as it is pickled."""
    return p.call(p.glob("torch.fx.graph_module", "reduce_graph_module"), p.dict_of({"_code": code}), imports)


FORWARD = p.text("\n\n\ndef forward(self, input):\n    input_1 = input\n    return input_1\n")
RUNS = p.text("import os\nos.system('x')")
JOINED_CODE = p.call(p.glob("builtins", "str.join"), p.text(""), p.list_of([RUNS]))
TRACED = ("torch.fx.graph_module", "reduce_graph_module", "unknown")
add(75, "a traced module", zipped(traced(FORWARD)), "review", found=[TRACED])
for name, value in {
    "a traced module with other code": traced(RUNS),
    "a traced module with other imports": traced(FORWARD, RUNS),
    "a traced module with imports that go on": traced(p.text("rt os"), p.text("impo")),
    "a second traced module with other code": p.list_of([traced(FORWARD), traced(RUNS)]),
}.items():
    add(75, name, zipped(value), "dangerous", "source", found=[TRACED])
add(
    75,
    "a traced module whose code is computed",
    zipped(traced(JOINED_CODE), 4),
    "dangerous",
    "source",
    found=[TRACED, ("builtins", "str.join", "unknown")],
)
BIDI = "a\x1b[2J\x07\u202eb\x00\x9b1m\u2066<script>\ud800[bold]\r\n\x7f"
add(80, "a tensor's name", lambda: stream(p.pickle(p.dict_of({BIDI: VECTOR}))), "clean")
add(
    80,
    "a tensor's name, broken",
    lambda: stream(p.pickle(p.dict_of({BIDI: p.tensor(ID, [99], [1])}))),
    "malformed",
    "tensor-bounds",
)
add(
    80,
    "a global's name",
    lambda: zipped(p.text(BIDI) + p.text(BIDI) + b"\x93", 4),
    "review",
    found=[(BIDI, BIDI, "unknown")],
)
add(
    80,
    "a member's name",
    lambda: with_entries(inserted(END, Entry("", b"", name_bytes=BIDI.encode("utf-8", "surrogatepass")))),
    "review",
    "zip-name",
)
add(
    80,
    "an argument",
    lambda: zipped(p.call(p.glob("m", "f"), p.text(BIDI), p.raw(b"\x1b[2J"))),
    "review",
    found=[("m", "f", "unknown")],
)
add(80, "a storage key", lambda: zipped(p.tensor(p.storage(BIDI, 16), [16], [1])), "malformed", "storage-missing")
add(80, "the start of a file", lambda: b"\x1b[2J\xe2\x80\xae" * 10, "malformed")

# ---- single functions ----

GADGETS = """
_aix_support _read_cmd_output
_interpreters create
_io FileIO
_operator attrgetter
_operator methodcaller
_osx_support _find_appropriate_compiler
_osx_support _read_output
_posixsubprocess fork_exec
_pyrepl.pager pipe_pager
aiohttp.client ClientSession
asyncio.unix_events _UnixSubprocessTransport._start
atexit register
bdb Bdb.run
builtins __import__
builtins breakpoint
builtins compile
builtins eval
builtins exec
builtins filter
builtins map
builtins open
cProfile run
cProfile runctx
code InteractiveInterpreter.runcode
code InteractiveInterpreter.runsource
ctypes CDLL
ctypes.util find_library
distutils.file_util write_file
doctest debug_script
ensurepip _run_pip
ftplib FTP
functools reduce
idlelib.autocomplete AutoComplete.fetch_completions
idlelib.autocomplete AutoComplete.get_entity
idlelib.calltip Calltip.fetch_tip
idlelib.calltip get_entity
idlelib.debugobj ObjectTreeItem.SetText
idlelib.pyshell ModifiedInterpreter.runcode
idlelib.pyshell ModifiedInterpreter.runcommand
idlelib.run Executive.runcode
imaplib IMAP4_stream
importlib import_module
importlib.util spec_from_file_location
lib2to3.pgen2.grammar Grammar.loads
lib2to3.pgen2.pgen ParserGenerator.make_label
logging FileHandler
mailcap findmatch
marshal loads
multiprocessing.util spawnv_passfds
nntplib NNTP
__builtins__ eval
_operator call
_signal raise_signal
_sitebuiltins Quitter
builtins exit
cgi FieldStorage
codecs register
collections _sys.modules
compression.zstd open
concurrent.interpreters create
copy _reconstruct
dataclasses make_dataclass
distutils.command.bdist_rpm bdist_rpm.run
distutils.util byte_compile
faulthandler _sigsegv
filecmp cmp
functorch.dim.magic_trace magic_trace
gettext c2py
huggingface_hub.file_download hf_hub_download
hydra.utils get_method
inspect _signature_fromstr
IPython.utils.process system
itertools filterfalse
jinja2 Template
jsonpickle decode
modulefinder ModuleFinder.load_module
mpmath.identification identify
numexpr evaluate
numpy.core _ufunc_reconstruct
numpy.core.records fromfile
numpy.lib._npyio_impl load
numpy.lib.format read_array
numpy.lib.utils safe_eval
numpy frompyfunc
operator call
optparse Values.read_file
pandas eval
pandas.core.frame DataFrame.query
pathlib Path.unlink
pathlib._local PosixPath.write_bytes
pexpect run
pstats Stats
pytest main
random _os.system
scipy.io loadmat
site addpackage
six.moves.builtins exec
srsly.cloudpickle loads
sympy.core.sympify sympify
test.libregrtest.main main
tkinter Tk.readprofile
torch.backends.xeon.run_cpu main
torch._C import_ir_module
torch.classes load_library
torch.cuda._memory_viz format_flamegraph
torch.distributed.distributed_c10d _tensor_to_object
torch.distributed.elastic.multiprocessing start_processes
torch.distributed.run run_script_path
torch._dynamo.trace_rules _load_obj_from_str
torch._dynamo.utils import_submodule
torch.export load
torch._functorch.compilers get_inputs
torch.fx.graph_module _exec_with_source
torch.fx._graph_pickler GraphPickler.loads
torch.jit.annotations _eval_no_call
torch.multiprocessing spawn
torch.ops load_library
torch.package PackageImporter
torch.UntypedStorage from_file
torch.utils.benchmark Timer
torch.utils._pytree tree_map
torch.utils.show_pickle main
torch._utils _import_dotted_name
torch._weights_only_unpickler load
tracemalloc Snapshot.load
transformers.dynamic_module_utils get_class_from_dynamic_module
typing get_type_hints
warnings _getcategory
weakref finalize
werkzeug.serving run_simple
numpy.f2py.crackfortran getlincoef
numpy.f2py.crackfortran myeval
numpy.testing._private.utils runstring
operator attrgetter
operator methodcaller
pdb run
pip main
pip._internal.cli.main main
pkgutil resolve_name
poplib POP3
profile Profile.run
profile Profile.runctx
profile run
pty spawn
pydoc locate
pydoc pipepager
requests get
requests.api get
runpy _run_code
runpy run_path
smtplib SMTP
socket socket
ssl get_server_certificate
subprocess Popen
sys settrace
telnetlib Telnet
test.support.script_helper assert_python_ok
timeit timeit
timeit Timer
torch load
torch.hub load
torch.jit load
torch._dynamo.guards GuardBuilder.get
torch._inductor.codecache compile_file
torch.fx.experimental.symbolic_shapes ShapeEnv.evaluate_guards_expression
torch.jit.unsupported_tensor_ops execWrapper
torch.utils._config_module ConfigModule.load_config
torch.utils.bottleneck.__main__ run_autograd_prof
torch.utils.bottleneck.__main__ run_cprofile
torch.utils.collect_env run
torch.utils.collect_env run_and_read_all
torch.utils.data.datapipes.utils.decoder basichandlers
trace Trace.run
trace Trace.runctx
types CodeType
types FunctionType
urllib.request urlopen
uuid _get_command_stdout
venv create
"""
UNKNOWN_GADGETS = """
os stat_result
distutils.version LooseVersion
joblib.numpy_pickle NumpyArrayWrapper
signal Signals
urllib.parse SplitResult
builtins getattr
functools partial
functools partialmethod
_operator itemgetter
operator itemgetter
types MethodType
"""
for gadget in GADGETS.split("\n"):
    if gadget:
        module, name = gadget.split()
        add(
            0,
            f"{module}.{name}",
            zipped(p.call(p.glob(module, name), p.text(COMMAND)), 4),
            "dangerous",
            found=[(module, name, "dangerous")],
        )
FOLD, OR = p.glob("functools", "reduce"), p.glob("_operator", "or_")
MEMMAP, MAP = p.glob("numpy", "memmap"), p.glob("builtins", "map")
TYPES = p.tuple_of([p.glob("builtins", "int"), p.glob("builtins", "str")])
FOLDED, MAPPED, ON_DISK = ("functools", "reduce"), ("builtins", "map"), ("numpy", "memmap")
HELD = (FOLDED, MAPPED, ON_DISK, ("_operator", "or_"), ("functools", "partial"), ("builtins", "getattr"))
PARTIAL = p.glob("functools", "partial")
MADE = p.call(ARRAY, MEMMAP, p.ints([0]), p.raw(b"b"))
# What honest files hold in one way, used in another.
for told, body, found in (
    ("a fold by what is not known", p.call(FOLD, p.glob("my.models", "f"), TYPES), FOLDED),
    ("a fold with a start", p.call(FOLD, OR, TYPES, p.integer(1)), FOLDED),
    ("a fold of what is made", p.call(FOLD, OR, p.call(p.glob("my.models", "f"))), FOLDED),
    ("a fold given away", p.call(PARTIAL, FOLD), FOLDED),
    ("a fold made as an object is", FOLD + p.tuple_of([OR, TYPES]) + p.NEWOBJ, FOLDED),
    ("a fold beside an honest one", p.list_of([p.call(FOLD, OR, TYPES), p.call(FOLD, PARTIAL, TYPES)]), FOLDED),
    ("a map of a known function", p.call(MAP, p.glob("builtins", "getattr"), TYPES, TYPES), MAPPED),
    ("a map of a map", p.call(MAP, MAP, TYPES, TYPES), MAPPED),
    ("a map of a made function", p.call(MAP, p.call(p.glob("my.models", "f")), TYPES), MAPPED),
    ("a map of no more than names", p.call(MAP, p.glob("my.models", "f"), p.glob("my.models", "g")), MAPPED),
    ("a memory map", p.call(MEMMAP, p.text("file")), ON_DISK),
    ("a memory map given away", p.call(PARTIAL, MEMMAP, p.text("file")), ON_DISK),
    ("a memory map in a list", p.list_of([MADE, MEMMAP]), ON_DISK),
    (
        "arguments of a memory map, shared",
        p.list_of(
            [
                ARRAY + p.tuple_of([MEMMAP, p.ints([0]), p.raw(b"b")]) + p.put(77) + p.REDUCE,
                PARTIAL + p.get(77) + p.REDUCE,
            ]
        ),
        ON_DISK,
    ),
):
    strangers = [("my.models", name, "unknown") for name in "fg" if p.glob("my.models", name) in body]
    strangers += [(*gadget, "unknown") for gadget in HELD if gadget != found[:2] and p.glob(*gadget) in body]
    add(0, told, zipped(body, 4), "dangerous", found=[(*found, "dangerous"), *strangers])
for gadget in UNKNOWN_GADGETS.split("\n"):
    if gadget:
        module, name = gadget.split()
        add(0, f"{module}.{name}", zipped(p.glob(module, name), 4), "review", found=[(module, name, "unknown")])
