"""Zip: torch.save since 1.6, TorchScript, and everything else that torch puts into zips.

Layout (torch/serialization.py, caffe2/serialize): `<prefix>/data.pkl`, `<prefix>/data/<key>`, `byteorder`, ...
The prefix is free. Only the central directory is believed; where data begin is known from the local header alone, which
is checked against the directory before the first use.
"""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property

from .. import _core
from ..errors import FormatError, LimitError, PthError, TruncatedError, UnsupportedError
from ..source import MemorySource, Source
from . import zip_rest
from .base import Container, Extent, Member, Pickle, Remain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STORED, DEFLATED = 0, 8
ROOT = b"data.pkl"
# Of archives that are far away: what the end records and a small directory lie in; what lies close before a directory
# (torch's last members are short marks); local headers that are asked for together.
NEAR_END, BEFORE_DIRECTORY, TOGETHER = 4096, 1024, 1024
MANY, CLOSE = 4, 4096  # all headers are read if one of so many members is wanted, and so few bytes lie between them


def probe(head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04")


def fold(name: str) -> bytes:
    """As torch compares names: the letters of ASCII without their case."""
    return name.encode("utf-8", "surrogatepass").lower()


def container(source: Source, limits: Any) -> Container:
    return ZipContainer(source, limits)


class ZipContainer(Container):
    """An archive.

    Attributes
    ----------
    claims : list of (Pickle, store)
        Which pickle refers to which storages.
    pickled : set of int
        Entries that were read as pickles.
    rests : list of Remain
        What stands behind them.
    code : list of str
        Members that hold Python code.
    unsummed : set of int
        Of an archive without directory: entries whose checksum is cut off.
    cut_name : str or None
        The member that the end of the file cuts.
    innermost : bool
        Set before `load()` of such a file: it is nothing else.
    """

    format = "zip"
    end: Any = None
    root: int | None = None
    prefix = ""
    innermost = False

    def __init__(self, source: Source, limits: Any) -> None:
        super().__init__(source, limits)
        self.claims: list[tuple[Pickle, Any]] = []
        self.pickled: set[int] = set()
        self.rests: list[Remain] = []
        self.unsummed: set[int] = set()
        self.inflated = [0, 0]  # bytes of pickles, and what they became: all together
        self.cut_name: str | None = None

    def read(self) -> None:
        try:
            self._read_directory()
        except FormatError as e:
            if not self.salvage:
                raise
            from . import zip_salvage

            zip_salvage.salvage(self, e)
        self._find_root()
        self._prepare()
        self._read_marks()
        if self.root is None:
            if self.format == "pt2":
                from . import exported

                exported.read(self)
                return
            if self.format == "package":
                from . import package

                package.read(self)
                return
            from . import torchscript

            torchscript.read_model_json(self)
            return
        constants = self.member("constants.pkl")
        if constants is not None:
            self.format = "torchscript"
        graph = self.parse_member(self.root)
        self.store = self._store("data/")
        self.claims.append((self.pickles[0], self.store))
        self.tensors = self.read_tensors(graph, self.store)
        if constants is not None:
            from . import torchscript

            torchscript.read_code(self, constants)

    def table_of(self, pickle: Pickle) -> Any:
        if self.format != "package" or pickle.error is not None:
            return None
        return self.read_tensors(pickle.graph, self.store)

    # ---- the directory ----

    def adopt(self, records: bytes, at: int) -> None:
        """Takes a directory that was made for an archive that has none, as if it stood behind the file at byte `at`."""
        archive = _core.Zip(self.arena)
        end = archive.find(records, at, at + len(records))
        archive.read(records[: end.dir_len], self.c_limits)
        self.zip, self.end = archive, end

    def _read_directory(self) -> None:
        source = self.source
        archive = _core.Zip(self.arena)
        end, tail, tail_off = self._find_end(archive)
        if end.dir_len > self.limits.max_directory_bytes:
            allowed = self.limits.max_directory_bytes
            raise LimitError(
                "max_directory_bytes", f"a central directory of {end.dir_len} bytes, {allowed} are allowed"
            )
        if end.dir_off >= tail_off:
            archive.read(bytes(tail[end.dir_off - tail_off :][: end.dir_len]), self.c_limits)
        else:
            source.prepare([(max(0, end.dir_off - BEFORE_DIRECTORY), end.dir_off + end.dir_len)])
            archive.read(source.read(end.dir_off, end.dir_len), self.c_limits)
        self.zip, self.end = archive, end
        if self.zip.short_count:
            self.find("zip-count", None, end.dir_off)
        if end.trailing:
            self.find("zip-trailing", None, source.size - end.trailing, f"{end.trailing} bytes behind the archive")
        if end.comment_len:
            self.find("zip-comment", None, end.eocd_off, f"an archive comment of {end.comment_len} bytes")
        said = int.from_bytes(tail[end.eocd_off - tail_off + 20 :][:2], "little")
        if said != end.comment_len:
            text = f"an archive comment of {said} bytes, of which {end.comment_len} are there"
            self.find("zip-comment", None, end.eocd_off, text)

    def _find_end(self, archive: Any) -> tuple[Any, Any, int]:
        """The end records, and the last bytes of the file: (records, bytes, offset of these)."""
        source = self.source
        if source.afar and source.size > NEAR_END:  # most have no comment: a small part of what may have to be read
            tail_off = source.size - NEAR_END
            tail = source.read(tail_off, NEAR_END)
            try:
                end = archive.find(tail, tail_off, source.size)
            except FormatError:
                pass
            else:
                # With the zip64 record before it, or what would be one, it is the same that a longer part gives.
                if end.eocd_off - tail_off >= zip_rest.TAIL:
                    return end, tail, tail_off
        tail_off = max(0, source.size - _core.ZIP_TAIL)
        tail = source.read(tail_off, source.size - tail_off)
        return archive.find(tail, tail_off, source.size), tail, tail_off

    def _find_root(self) -> None:
        # Everything but storages: names that end in a digit are not looked up by name.
        self.named = self.zip.named()
        self.folded = {fold(name): i for name, i in self.named.items()}
        first = self.zip.name(0).split("/", 1)[0] + "/" if len(self.zip) else ""
        found = [n for n in self.named if fold(n) == ROOT or fold(n).endswith(b"/" + ROOT)]
        found = [n for n in found if not n.startswith("__MACOSX/")]
        marks = (".data/extern_modules", ".data/python_version")
        if not self.innermost and any(n.endswith(marks) for n in self.named) and self._is_package():
            return
        found.sort(key=lambda n: (not n.startswith(first), n.count("/"), n))
        self.root = self.named[found[0]] if found else None
        self.prefix = found[0][: -len(ROOT)] if found else first
        # As the directory spells it: not every name is UTF-8.
        raw = bytes(self.zip.name_bytes(self.root or 0)) if len(self.zip) else b""
        self.raw_prefix = raw[: -len(ROOT)] if found else raw.split(b"/", 1)[0] + b"/"
        if found:
            for other in found[1:]:
                self.find("zip-roots", other, None)
            if not found[0].startswith(first) or "/" not in self.zip.name(0):
                self.find("zip-folder", found[0], None)
        elif self.member("model.json") is None:
            if self.salvaged:
                raise TruncatedError("zip-cut", "what names the tensors (data.pkl) is not in what is left of the file")
            from . import exported

            if self.innermost:
                raise FormatError("not-a-checkpoint", "a zip without data.pkl, so not written by torch.save")
            prefix = exported.prefix_of(self)
            if prefix is None:
                raise self._stranger()
            self.format, self.prefix, self.raw_prefix = "pt2", prefix, self._raw(prefix)

    def _is_package(self) -> bool:
        from . import package

        prefix = package.prefix_of(self)
        if prefix is None:
            return False
        self.format, self.prefix, self.raw_prefix = "package", prefix, self._raw(prefix)
        if not self.zip.name(0).startswith(prefix) or not prefix:
            self.find("zip-folder", prefix + package.EXTERN, None)
        return True

    def _raw(self, prefix: str) -> bytes:
        """A folder as the directory spells it: not every name is UTF-8."""
        known = ((n, i) for n, i in self.named.items() if n.startswith(prefix) and n[len(prefix) :].isascii())
        name, entry = next(known)  # one at least: the mark that told the folder
        raw = bytes(self.zip.name_bytes(entry))
        return raw[: len(raw) - len(name) + len(prefix)]

    def _stranger(self) -> PthError:
        names = self.named
        if any(n.rpartition("/")[2] in ("archive_format", "serialized_exported_program.json") for n in names):
            return UnsupportedError("pt2", "a torch.export program (.pt2) without its weights")
        if names and all(n.endswith(".npy") for n in names):
            return UnsupportedError("npz", "a numpy archive (.npz): open it with numpy.load")
        nested = [n for n in names if n.lower().endswith((".pth", ".pt", ".bin", ".ckpt", ".safetensors"))]
        hint = f": unpack it and open {nested[0]!r}" if nested else ""
        return FormatError("not-a-checkpoint", f"a zip without data.pkl, so not written by torch.save{hint}")

    def _prepare(self) -> None:
        """Of an archive that is far away: all that opening it reads, at once."""
        if not self.source.afar or not len(self.zip):
            return
        wanted = {self.root, *(self.member(name) for name in ("constants.pkl", "model.json", *zip_rest.MARKS))}
        wanted |= {i for name, i in self.named.items() if name.startswith(self.prefix + "code/")}
        if self.format == "package":
            from . import package

            wanted |= package.wanted(self)
        starts = sorted(self.zip.entry(i)[0] for i in range(len(self.zip)))
        starts.append(self.end.dir_off)
        extents = []
        for i in sorted(i for i in wanted if i is not None):
            lho, csize = self.zip.entry(i)[:2]
            # It ends where the next one begins; what lies between may be more than its header and data.
            stop = lho + _core.ZIP_WINDOW + csize
            following = bisect.bisect_right(starts, lho)
            extents.append((lho, min(stop, starts[following]) if following < len(starts) else stop))
        self.source.prepare(extents)

    def locate(self, spans: Iterable[tuple[Any, int]]) -> None:
        if not self.source.afar or self.nested is not None:  # those of inner files were located when they were read
            return
        found = {store.span(span)[3] for store, span in spans}
        entries = sorted((self.zip.entry(i)[0], i) for i in found if not self.zip.data_off(i))
        for at in range(0, len(entries), TOGETHER):
            batch = entries[at : at + TOGETHER]
            try:
                self.source.prepare(zip_rest.around(lho) for lho, _ in batch)
            except PthError:
                return
            for _, i in batch:
                try:
                    self.data_offset(i)
                except PthError:  # its tensors' to say, when they are read
                    pass

    def locate_many(self, n: int) -> None:
        archive = self.zip
        if self.source.afar or self.nested is not None or archive is None or archive.located or self.closed:
            return
        if n * MANY >= len(archive) and self.end.dir_off < CLOSE * len(archive):
            try:
                zip_rest.windows(self, archive.locals)
            except PthError:  # as above
                pass

    # ---- members ----

    def member(self, name: str) -> int | None:
        """Entry below the prefix; torch compares names without regard to case."""
        full = self.prefix + name
        i = self.named.get(full)
        return i if i is not None else self.folded.get(fold(full))

    def data_offset(self, entry: int) -> int:
        """Where an entry's data begin: from its local header, checked on the first use."""
        offset = self.zip.data_off(entry)
        if offset:
            return int(offset)
        lho = self.zip.entry(entry)[0]
        try:
            header = self.source.window(lho, _core.ZIP_LOCAL + len(self.zip.name_bytes(entry)))
            offset, odd = self.zip.local(entry, header)
        except PthError as e:
            # An offset beside a member would count from the member's first byte.
            e.message, e.offset = f"{e.message} (its header is at byte {lho} of the file)", None
            raise e.at(self.source.path, self.zip.name(entry)) from None
        if odd:
            self.find(odd, self.zip.name(entry), lho)
        return int(offset)

    def read_member(self, entry: int, limit: int | None = None, storage: bool = False) -> tuple[Any, int | None]:
        """The bytes of an entry, inflated under a limit; and where they lie in the file if they are stored.

        Of zeros, a storage may shrink as much as it likes; a pickle that does was made to fill the memory.
        """
        name = self.zip.name(entry)
        _, csize, usize, method, _, _ = self.zip.entry(entry)
        offset = self.data_offset(entry)
        limit = min(self.limits.max_pickle_bytes if limit is None else limit, self.limits.max_inflate_bytes)
        if usize > limit:
            raise _core.error_of(LIMIT_PICKLE, usize, limit).at(self.source.path, name)
        raw = self.source.read(offset, csize)
        return (raw, offset) if method == STORED else (self.inflate(entry, raw, storage), None)

    def inflate(self, entry: int, raw: Any, storage: bool = False) -> bytes:
        """The bytes of a deflated entry."""
        name = self.zip.name(entry)
        _, csize, usize, _, _, _ = self.zip.entry(entry)
        if usize > self.limits.max_inflate_bytes:
            raise _core.error_of(LIMIT_PICKLE, usize, self.limits.max_inflate_bytes).at(self.source.path, name)
        ratio = self.limits.max_inflate_ratio
        if not storage and usize > max(1 << 20, csize * ratio):
            text = f"{csize} bytes would become {usize}, {ratio} for one are allowed (max_inflate_ratio)"
            raise LimitError("max_inflate_ratio", text, path=self.source.path, member=name)
        inflater = zlib.decompressobj(-15)
        try:
            data = inflater.decompress(raw, usize + 1)
        except zlib.error as e:
            raise FormatError(
                "zip-deflate", f"broken compressed data: {e}", path=self.source.path, member=name
            ) from None
        if len(data) != usize or not inflater.eof or inflater.unused_data:
            held = "more" if len(data) > usize or inflater.unused_data else f"{len(data)}"
            text = f"the directory says {usize} bytes, the compressed data hold {held}"
            raise FormatError("zip-deflate", text, path=self.source.path, member=name)
        return data

    def parse_member(self, entry: int) -> Any:
        """The graph of a pickle; what stands behind it is kept for later."""
        _, csize, usize, method, crc, _ = self.zip.entry(entry)
        name = self.zip.name(entry)
        if method != STORED:
            packed, told = self.inflated[0] + csize, self.inflated[1] + usize
            ratio, first = self.limits.max_inflate_ratio, not self.inflated[1]
            self.inflated[:] = packed, told
            if not first and told > max(1 << 20, packed * ratio):
                text = f"{packed} bytes of pickles would become {told}, {ratio} for one are allowed (max_inflate_ratio)"
                raise LimitError("max_inflate_ratio", text, path=self.source.path, member=name)
        data, offset = self.read_member(entry)
        # torch can be told to compute no checksums: it writes zeros then, of every member.
        if zlib.crc32(data) != crc and entry not in self.unsummed and (crc or self._any_sums):
            self.find("zip-crc", name, None)
        self.pickled.add(entry)
        graph = self.parse(data, name, offset, csize if offset is None else None)
        if graph.end < len(data):
            self.find("pickle-trailing", name, graph.end, f"{len(data) - graph.end} bytes behind the pickle")
            at = None if offset is None else offset + graph.end
            rest = MemorySource(memoryview(data)[graph.end :])
            self.rests.append(Remain(f"{name} (behind the pickle)", at, rest))
        return graph

    @cached_property
    def _any_sums(self) -> bool:
        return any(self.zip.entry(i)[4] for i in range(len(self.zip)))

    def small(self, name: str) -> bytes | None:
        """A short member such as `version`."""
        entry = self.member(name)
        return None if entry is None else bytes(self.read_member(entry, 1 << 16)[0])

    def _read_marks(self) -> None:
        order = self.small("byteorder")
        if order is not None:
            if order not in (b"little", b"big"):
                text = f"byteorder must be 'little' or 'big', not {order[:20]!r}"
                raise FormatError("zip-byteorder", text, member=self.prefix + "byteorder")
            self.byteorder = order.decode()
        self.version = self.small(".data/version") or self.small("version")
        self.marks = {
            name: self.small(name) for name in (".format_version", ".storage_alignment", ".data/serialization_id")
        }

    def _store(self, folder: str) -> Any:
        store = self._store_below(folder)
        if len(store) == 0 and folder == "data/":  # 1.4 had another name for it
            old = self._store_below("tensors/")
            self.folder = "tensors/" if len(old) else "data/"
            return old if len(old) else store
        self.folder = folder
        return store

    def _store_below(self, folder: str) -> Any:
        store = self.zip.store(self.raw_prefix + folder.encode(), self.byteorder == "big")
        if self.salvaged:
            store.cut(self.source.size)
        return store

    def extent(self, store: Any, span: int) -> Extent:
        if self.nested is not None:
            found: Extent = self.nested.extent(span)
            return found
        _, _, nbytes, entry, _ = store.span(span)
        try:
            self.zip.check(entry)
        except PthError as e:
            e.offset = None  # of the file: beside a member it would count from the member's first byte
            raise e.at(self.source.path, self.zip.name(entry)) from None
        if self.zip.entry(entry)[3] == DEFLATED:
            return Extent(None, nbytes, self.read_member(entry, self.limits.max_inflate_bytes, storage=True)[0])
        return Extent(self.data_offset(entry), nbytes)

    def is_stored(self, store: Any, span: int) -> bool:
        return self.nested is not None or bool(self.zip.entry(store.span(span)[3])[3] == STORED)

    def stored_nbytes(self, store: Any, span: int) -> int:
        _, _, nbytes, entry, _ = store.span(span)
        return int(nbytes if entry is None else self.zip.entry(entry)[1])

    def inspect(self) -> None:
        if self.zip is not None:
            zip_rest.inspect(self)

    def remains(self) -> Iterator[Remain]:
        return zip_rest.carved(self) if self.zip is None else zip_rest.remains(self)

    def claim(self, ledger: _core.Ledger) -> None:
        zip_rest.claim(self, ledger)

    def members(self) -> tuple[Member, ...]:
        from . import exported

        rows = []
        data, constants = self.prefix + getattr(self, "folder", "tensors/"), self.prefix + "constants/"
        for i, name in enumerate(self.zip.names()):
            lho, csize, usize, _, _, _ = self.zip.entry(i)
            if self.salvaged and lho > self.source.size:  # known from the pickle alone
                continue
            if self.format == "package" and name.startswith(self.prefix):
                role = self._role(i, name[len(self.prefix) :])
            elif exported.is_storage(self, name) if self.format == "pt2" else name.startswith((data, constants)):
                role = "storage"
            elif name.endswith(".pkl"):
                role = "pickle"
            elif exported.is_code(self, name) if self.format == "pt2" else name.startswith(f"{self.prefix}code/"):
                role = "code"
            elif name[len(self.prefix) :] in zip_rest.MARKS and name.startswith(self.prefix):
                role = "meta"
            else:
                role = "other"
            rows.append(Member(name, lho, usize, csize, role))
        return (*rows, *(self.nested.members() if self.nested is not None else ()))

    def _role(self, entry: int, inside: str) -> str:
        """Of a member of a package."""
        from . import package

        if package.is_storage(inside):
            return "storage"
        if entry in self.pickled:
            return "pickle"
        if package.is_code(inside):
            return "code"
        return "meta" if inside in zip_rest.MARKS or inside in (package.EXTERN, package.PYTHON) else "other"

    def writer(self) -> str:
        marks = self.marks
        if self.format == "package":
            from . import package

            return package.writer(self)
        if self.format == "pt2":
            from . import exported

            return exported.writer(self)
        if self.root is None:
            self.evidence.append("model.json: the first TorchScript container")
            return "torch 1.0 to 1.3"
        if marks[".format_version"] is not None:
            self.evidence.append("member .format_version: 2.7 or later")
            return "torch 2.7 or later"
        if marks[".data/serialization_id"] is not None or self.member("byteorder") is not None:
            self.evidence.append("members byteorder, .data/serialization_id: 2.1 or later")
            if self.format == "torchscript":  # torch.jit.save never writes .format_version
                return "torch 2.1 or later"
            self.evidence.append("no member .format_version: before 2.7")
            return "torch 2.1 to 2.6"
        if self.folder == "tensors/":
            self.evidence.append("storages in tensors/: 1.4")
            return "torch 1.4"
        self.evidence.append("a zip without member byteorder: 1.5 to 2.0")
        return "torch 1.5 to 2.0"


LIMIT_PICKLE = next(i for i, row in enumerate(_core.ERRORS, 1) if row[0] == "LIMIT_PICKLE")
