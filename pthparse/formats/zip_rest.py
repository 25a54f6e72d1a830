"""What is in a zip beside what torch reads of it.

Every byte before the directory is accounted for, and every member that nothing refers to is handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .. import _core
from ..errors import PthError, TruncatedError
from ..source import MemorySource, SliceSource, Source
from . import exported, package, tar
from .base import Remain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .zip import ZipContainer

STORED = 0
MOST_SEARCHED = 1 << 29  # bytes of an archive without a directory
MOST = 1000  # broken members that are told one by one
LOCAL = b"PK\x03\x04"
BEHIND = 24  # bytes of the longest data descriptor
MOST_VALUE = 1 << 24  # bytes of an archive before a safetensors file: it holds plain values
TAIL = 56 + 20 + 22  # the end records of an archive that torch writes
NEAR = 16384  # bytes from one member to the next, up to which they are read together
FAR_WINDOW = 512  # of an archive that is far away: bytes of a member's header, with its name and padding
FAR_PADDED = 8192  # the same, of archives that are aligned to pages
FAR_TOGETHER, FAR_MEMBERS = (
    1 << 22,
    1024,
)  # what is fetched at once: bytes with those between small members, and members
PICKLE_NAMES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".bin", ".ckpt")
OF_SCRIPTS = ("constants.pkl", "attributes.pkl", "model.json", "traced_inputs.pkl")
OF_SCRIPTS_BELOW = ("code/", "extra/", "traced_inputs/")

# The records that torch writes beside the pickle, and what may stand in them (caffe2/serialize/inline_container.cc).
# None: a word; else the numbers that it may be: of versions those that torch can read.
MARKS = {
    "version": range(1, 11),
    "byteorder": None,
    ".format_version": range(1000),
    ".storage_alignment": range(1, 10**9),
    ".data/serialization_id": range(10**40),
    ".data/version": range(1, 11),
}
FROM_ONE = ("version", ".data/version", ".storage_alignment")


def inspect(box: ZipContainer) -> None:
    """Adds to the findings what is odd about the archive."""
    try:
        sweep(box)
    except PthError as e:
        box.blame(e)
    odds, n = box.zip.odds()
    for code, entry, offset, length in odds:
        told = f"{_core.FINDINGS[code][1]} ({length} bytes)" if code == "zip-gap" else None
        box.find(code, None if entry is None else box.zip.name(entry), offset, told)
    if n > len(odds):
        box.find("more", None, None, f"{n - len(odds)} more oddities of members")
    for entry in box.zip.broken()[:MOST]:
        try:
            box.zip.check(entry)
        except PthError as e:
            box.blame(e, box.zip.name(entry))
    check_marks(box)
    if tar.probe(bytes(box.source.window(0, tar.BLOCK))):
        box.find("two-formats", None, 0)


def claim(box: ZipContainer, ledger: _core.Ledger) -> None:
    """What each byte of the archive is for."""
    script = box.format == "torchscript"
    folders = [b"tensors/"] if box.root is None else [box.folder.encode(), *([b"constants/"] if script else [])]
    kinds = [(box.raw_prefix + folder, "unused storage") for folder in folders]  # what tensors look at is theirs
    if script:
        kinds.append((box.raw_prefix + b"code/", "code"))
    if box.format == "pt2":
        folders = [b"weights/", b"constants/"] if box.nested is None else []
        kinds = [(box.raw_prefix + b"data/" + folder, "unused storage") for folder in folders]
        kinds += [(box.raw_prefix + folder, "code") for folder in (b"models/", b"data/aotinductor/")]
        kinds.append((box.raw_prefix + exported.PROGRAM.encode(), "code"))
    if box.format == "package":
        kinds = []
    found = box.zip.kinds(kinds)
    order = [*_core.LEDGER]
    if box.format == "package":
        for name, entry in box.named.items():
            inside = name[len(box.prefix) :] if name.startswith(box.prefix) else ""
            if package.is_storage(inside) or package.is_code(inside):
                found[entry] = order.index("code" if package.is_code(inside) else "unused storage")
    if box.format == "pt2":
        for name in filter(exported.is_config, box.named):
            found[box.named[name]] = order.index("other members")
    pickles = {p.member: p for p, _ in box.claims}
    for name, entry in box.named.items():
        pickle = pickles.get(name)
        if (name.endswith(".pkl") or pickle is not None) and found[entry] == order.index("other members"):
            found[entry] = order.index("pickle")
            if pickle is not None and pickle.offset is not None and pickle.graph.end < box.zip.entry(entry)[1]:
                found[entry] = order.index("trailing")  # what stands behind a pickle is in no part of the file
                box.claim_pickle(ledger, pickle)
    windows(box, lambda window, at: ledger.members(box.zip, found, window, at))
    ledger.ending(box.zip)
    if box.nested is not None:
        box.nested.claim(ledger)


def sweep(box: ZipContainer) -> None:
    """Accounts for every byte before the directory."""
    windows(box, box.zip.sweep)


def windows(box: ZipContainer, step: Callable[[Any, int], int | None]) -> None:
    """All before the directory, by windows: many small members at once, of large ones the headers.

    `step` is given a window and its offset, and says where the next one must begin; None: all is done.
    """
    end = box.end.dir_off
    usual = FAR_WINDOW if box.source.afar else 1 << 18 if end < NEAR * len(box.zip) else 4096
    ahead = _ahead(box, 0, usual) if box.source.afar else iter(())
    prepared = 0
    at: int | None = 0
    length = usual
    buffer = bytearray(0)
    while at is not None:
        while prepared <= at and (extents := next(ahead, None)):
            box.source.prepare(extents)
            prepared = extents[-1][1]
        wanted = min(length, max(0, end - at))
        if len(buffer) < wanted:
            buffer = bytearray(length)
        window: Any = box.source.fill(buffer, at, wanted)
        if len(window) < wanted and box.salvaged:  # parts that were cut off have places behind the end of the file
            window = bytes(window).ljust(wanted, b"\0")
        following = step(window if len(window) == wanted else box.source.read(at, wanted), at)
        stuck = following == at
        if stuck and length >= _core.ZIP_WINDOW:
            raise TruncatedError("file-changed", "the file was cut while it was read", offset=at)
        if stuck and usual == FAR_WINDOW:  # more padding than most have: the others will have it too
            usual = length = FAR_PADDED
            ahead, prepared = _ahead(box, at, usual), 0
            continue
        length = max(usual, _core.ZIP_WINDOW) if stuck else usual
        at = following


def _ahead(box: ZipContainer, begin: int, window: int) -> Iterator[list[tuple[int, int]]]:
    """Of an archive that is far away: what `windows` will read from a byte on, as much as is fetched at once."""
    end = box.end.dir_off
    extents: list[tuple[int, int]] = []
    size = 0
    starts = (0, end, *(box.zip.entry(i)[0] for i in range(len(box.zip))))
    for start in sorted(start for start in starts if start >= begin):
        at, stop = around(min(start, end), window)
        if extents and (size > FAR_TOGETHER or len(extents) == FAR_MEMBERS):
            yield extents
            extents, size = [], 0
        size += window if not extents else min(at - extents[-1][0], NEAR)
        extents.append((at, min(stop, end)))
    yield extents


def around(lho: int, window: int = FAR_WINDOW) -> tuple[int, int]:
    """What is fetched of a local header that is far away: with the data descriptor before it, as walks ask for it."""
    return max(0, lho - BEHIND), lho + window


def check_marks(box: ZipContainer) -> None:
    if box.root is None and box.format != "package":
        return
    if box.format == "package":
        package.inspect(box)
    if box.member("version") is None and box.member(".data/version") is None:
        box.find("zip-version", None, None)
    for name, numbers in MARKS.items():
        try:
            data = box.small(name)
        except PthError as e:
            box.blame(e, box.prefix + name)
            continue
        if data is None:
            continue
        number = data.removesuffix(b"\n")
        from_one = name in FROM_ONE and number[:1] == b"0"
        if numbers is None:
            fits = data in (b"little", b"big")
        else:
            fits = number.isdigit() and len(number) <= 40 and int(number) in numbers and not from_one
        if not fits:
            box.find("zip-mark", box.prefix + name, None, f"{name} holds {bytes(data[:40])!r}")


def remains(box: ZipContainer) -> Iterator[Remain]:
    """Gaps between members, what stands behind pickles and the archive, and the members that nothing refers to."""
    yield from box.rests
    for code, _, offset, length in box.zip.odds()[0]:
        if code != "zip-gap":
            continue
        head = bytes(box.source.window(offset, _core.ZIP_LOCAL))
        skip = 0
        if head.startswith(LOCAL) and len(head) == _core.ZIP_LOCAL:  # a member that the directory does not list
            skip = len(head) + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        yield Remain("(between members)", offset + skip, SliceSource(box.source, offset + skip, length - skip))
    behind = box.end.trailing + box.end.comment_len
    if behind:
        at = box.source.size - behind
        yield Remain("(behind the archive)", at, SliceSource(box.source, at, behind))
    claims = [(p.graph, store) for p, store in box.claims if p.error is None]
    if box.joined is not None:
        claims = [(box.joined.graph, box.store)]
    for entry in _core.unclaimed(box.zip, claims):
        yield from unclaimed(box, entry)


def unclaimed(box: ZipContainer, entry: int) -> Iterator[Remain]:
    """A member that is no storage of a tensor."""
    name = box.zip.name(entry)
    lho, csize, usize, method, _, _ = box.zip.entry(entry)
    # A member beside the folder keeps torch from reading any: those of packers, too.
    inside = name[len(box.prefix) :] if name.startswith(box.prefix) else None
    if entry in box.pickled or inside in MARKS or (usize == 0 and name.endswith("/") and inside is not None):
        return
    script = box.format == "torchscript" and inside is not None
    program = box.format == "pt2"
    packed = box.format == "package" and inside is not None
    if program and exported.is_code(box, name):
        box.code.append(name)
    if name.lower().endswith(".py") or (script and str(inside).startswith("code/") and not name.endswith(".debug_pkl")):
        box.code.append(name)
    try:
        if packed and package.is_mark(box, str(inside)):
            return
    except PthError:  # told already
        pass
    if packed and package.is_storage(str(inside)):
        if all(p.error is None for p in box.pickles):
            box.find("zip-unused", name, lho)
    elif packed:
        if not package.is_known(str(inside)):
            box.find("zip-member", name, lho)
    elif inside is not None and inside.startswith(("data/", "tensors/", "constants/")):
        if box.root is not None and all(p.error is None for p in box.pickles):
            box.find("zip-unused", name, lho)
    elif (
        not (program and exported.is_known(box, name))
        and not (script and (inside in OF_SCRIPTS or str(inside).startswith(OF_SCRIPTS_BELOW)))
        and inside != ".DS_Store"
    ):
        box.find("zip-member", name, lho)
    expected = name.lower().endswith(PICKLE_NAMES) and not name.startswith("__MACOSX/") and not packed
    try:
        box.zip.check(entry)
    except PthError:  # told already; what stands there may be read all the same
        found = behind_header(box, lho, csize)
        if found is not None and method == STORED:
            yield Remain(name, found[0], found[1], expected)
        elif found is not None:
            yield Remain(name, None, MemorySource(box.inflate(entry, bytes(found[1].window(0, csize)))), expected)
        return
    try:
        if method == STORED:
            offset = box.data_offset(entry)
            yield Remain(name, offset, SliceSource(box.source, offset, csize), expected, packed)
        else:
            yield Remain(name, None, MemorySource(box.read_member(entry)[0]), expected, packed)
    except PthError as e:
        box.blame(e, name)


def behind_header(box: ZipContainer, lho: int, length: int) -> tuple[int, Source] | None:
    """Where the data behind a local header begin, and what is there of them."""
    head = bytes(box.source.window(lho, _core.ZIP_LOCAL))
    if not head.startswith(LOCAL) or len(head) < _core.ZIP_LOCAL:
        return None
    begin = lho + len(head) + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    return begin, SliceSource(box.source, begin, length)


def carved(box: ZipContainer) -> Iterator[Remain]:
    """Without a directory: what stands behind local headers, as a reader of streams would find it."""
    at = 0
    for _ in range(MOST):
        head = bytes(box.source.window(at, _core.ZIP_LOCAL + (1 << 16)))
        if not head.startswith(LOCAL) or len(head) < _core.ZIP_LOCAL:
            return
        n, extra = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
        size = int.from_bytes(head[18:22], "little")
        name = head[_core.ZIP_LOCAL : _core.ZIP_LOCAL + n].decode("utf-8", "replace")
        begin = at + _core.ZIP_LOCAL + n + extra
        if int.from_bytes(head[8:10], "little") == STORED:
            end = next_signature(box, begin + size, b"PK")
            box.find("zip-carved", name, at)
            yield Remain(name, begin, SliceSource(box.source, begin, end - begin), name.lower().endswith(PICKLE_NAMES))
        at = next_signature(box, begin + size, LOCAL)


def next_signature(box: ZipContainer, at: int, signature: bytes) -> int:
    """Where it stands next, or the end of the file."""
    while at < min(box.source.size, MOST_SEARCHED + 1):
        window = bytes(box.source.window(at, 1 << 20))
        found = window.find(signature)
        if found >= 0:
            return at + found
        if len(window) < 1 << 20:  # the end, or the file was cut
            break
        at += len(window) - len(signature) + 1
    return box.source.size


def archives(source: Source, most: int) -> list[tuple[int, int]]:
    """Where each begins and ends, of archives one behind the other without a byte between them; [] if it is not that.

    A distributed checkpoint keeps its tensors so (torch/distributed/checkpoint/filesystem.py).
    """
    found: list[tuple[int, int]] = []
    end = source.size
    while end > 0 and len(found) < most:
        tail = bytes(source.window(max(0, end - TAIL), min(end, TAIL)))[-TAIL:]
        if len(tail) < TAIL or tail[-22:-18] != b"PK\5\6" or tail[:4] != b"PK\6\6":
            return []
        length, offset = int.from_bytes(tail[40:48], "little"), int.from_bytes(tail[48:56], "little")
        begin = end - TAIL - length - offset
        if begin < 0 or bytes(source.window(begin, 4)) != LOCAL:
            return []
        found.append((begin, end))
        end = begin
    return found[::-1] if end == 0 else []


def archives_and_tensors(source: Source, most: int) -> list[tuple[int, int]]:
    """The same of archives before a safetensors file, in which such a checkpoint may keep its tensors; [] if it is not.

    From the front, since what lies behind them has no end record: each archive is looked through once.
    """
    found: list[tuple[int, int]] = []
    begin = 0
    while len(found) < most and bytes(source.window(begin, 4)) == LOCAL:
        end = _end_of(source, begin)
        if end is None:
            return []
        found.append((begin, end))
        begin = end
    head = bytes(source.window(begin, 9))
    if not found or head[8:] != b"{" or int.from_bytes(head[:8], "little") > source.size - begin - 8:
        return []
    return [*found, (begin, source.size)]


def _end_of(source: Source, begin: int) -> int | None:
    """Where an archive ends: the first end records that say that it begins there."""
    at, stop, kept = begin, min(source.size, begin + MOST_VALUE), b""
    while at < stop:
        block = kept + bytes(source.window(at, min(1 << 16, stop - at)))
        start = at - len(kept)
        at = start + len(block)
        i = block.find(b"PK\6\6")
        while 0 <= i <= len(block) - TAIL:
            tail = block[i : i + TAIL]
            length, offset = int.from_bytes(tail[40:48], "little"), int.from_bytes(tail[48:56], "little")
            if tail[-22:-18] == b"PK\5\6" and begin + offset + length == start + i:
                return start + i + TAIL
            i = block.find(b"PK\6\6", i + 1)
        kept = block[-(TAIL - 1) :]
    return None
