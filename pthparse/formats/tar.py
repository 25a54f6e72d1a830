"""The tar that torch.save wrote up to 0.1.9 (torch/serialization.py, legacy_load).

Its members are sys_info, pickle, storages and tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from .. import _core
from ..errors import FormatError, LimitError, PthError, TruncatedError
from ..source import SliceSource, Source
from . import safetensors
from .base import Container, Member, Pickle, Remain, growing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BLOCK = 512
WANTED = (b"sys_info", b"pickle", b"storages", b"tensors")
FILES = ("0", "\0")
PAX, EMPTY = ("x", "g"), ("1", "2", "3", "4", "5", "6")
# What extended headers of torch's writers never say: that a member has another name, another size, or holes.
RENAMING = (b" path=", b" size=", b" linkpath=", b" GNU.sparse", b" hdrcharset=")
EXTENDED_BYTES = 1 << 20
MOST_ZEROS = 1 << 26  # behind the end


def probe(head: bytes) -> bool:
    """As Python's tarfile, which torch asks before it takes a file for a stream of pickles: the sum is enough."""
    if head[257:262] == b"ustar":
        return True
    field, block = head[148:156], head[:148] + b" " * 8 + head[156:BLOCK]
    if len(head) < BLOCK:
        return False
    try:  # what Python's tarfile takes for a number, to the letter
        said = (
            int.from_bytes(field[1:], "big") - (field[0] == 0o377) * 256**7
            if field[0] in (0o200, 0o377)
            else int(field.split(b"\0")[0].decode("ascii").strip() or "0", 8)
        )
    except ValueError:
        return False
    return sum(block) - said in (0, 256 * sum(c >= 0x80 for c in block))


def container(source: Source, limits: Any) -> Container:
    return TarContainer(source, limits)


class TarContainer(Container):
    format = "tar"
    behind: int | None = None
    ended = False  # is there the block of zeros at its end?
    end = 0  # of the members

    def read(self) -> None:
        self.entries: dict[bytes, tuple[int, int]] = {}
        self.doubled: list[tuple[bytes, int, int]] = []
        self.odd: list[tuple[str, int]] = []
        self.records: list[int] = []
        self._read_entries()
        if not all(name in self.entries for name in WANTED):
            if not self.ended and any(name in self.entries for name in WANTED):
                raise TruncatedError("tar-cut", "the file ends before the archive does", offset=self.source.size)
            raise FormatError(
                "not-a-checkpoint",
                "a tar archive that torch did not write: unpack it and open the checkpoint inside",
                path=self.source.path,
            )
        tar = _core.Tar(self.arena, self.c_limits)
        try:
            self._read_storages(tar)
        except TruncatedError:
            if not self.salvaged:  # else the file ends within a record, or before the list of views behind them
                raise
        tar.tensors(self.source.read(*self._span(b"tensors")))
        self.store = tar.finish()
        if self.salvaged:
            self.store.cut(self.source.size)
        offset, size = self._span(b"pickle")
        graph = self.parse(self.source.read(offset, size), "pickle", offset)
        self.tensors = self.read_tensors(graph, self.store)
        offset, size = self._span(b"sys_info")
        self.parse(self.source.read(offset, size), "sys_info", offset)

    def _read_entries(self) -> None:
        """Name -> (offset, size); extended headers have other types and are passed by."""
        entries = self.entries
        at, size = 0, self.source.size
        while at + BLOCK <= size and len(entries) < self.limits.max_members:
            block = self.source.read(at, BLOCK)
            header = _core.tar_header(block)
            if header is None:
                self.ended = True
                self._look_behind(at)
                break
            name, length, kind = header
            if kind in EMPTY:  # their size is not believed
                length = 0
            if self._is_odd(bytes(block), kind, at + BLOCK, length):
                self.odd.append((name.decode("utf-8", "backslashreplace"), at))
            if at + BLOCK + length > size:
                told = f"the member would end at byte {at + BLOCK + length}, the file ends at {size}"
                if not self.salvage or kind not in FILES or name in entries:
                    raise TruncatedError("tar-extent", told, offset=at)
                self.missing, self.cut = at + BLOCK + length - size, True
                self.find("salvaged", name.decode("utf-8", "backslashreplace"), at, told)
            if kind in FILES and name in entries:
                self.doubled.append((name, at + BLOCK, length))
            elif kind in FILES:
                entries[name] = (at + BLOCK, length)
            at += BLOCK + -(-length // BLOCK) * BLOCK
        self.end = at

        if self.doubled:
            name, offset, _ = self.doubled[0]
            raise FormatError("tar-duplicate", f"two members {name[:20]!r}", offset=offset - BLOCK)

    def _is_odd(self, block: bytes, kind: str, at: int, length: int) -> bool:
        """May another reader take it for another member?"""
        if kind in PAX:
            data = bytes(self.source.window(at, min(length, EXTENDED_BYTES)))
            return length > EXTENDED_BYTES or any(word in data for word in RENAMING)
        return kind not in FILES or block[345:346] != b"\0" or block[257:262] != b"ustar"

    def _look_behind(self, at: int) -> None:
        """The end is zeros: are there other bytes?"""
        stop = at + MOST_ZEROS
        while at < self.source.size:
            if at >= stop:  # whatever follows
                self.behind = at
                return
            window = bytes(self.source.window(at, 1 << 20))
            if not window:
                return
            if window.strip(b"\x00"):
                self.behind = at + len(window) - len(window.lstrip(b"\x00"))
                return
            at += len(window)

    def _span(self, name: bytes) -> tuple[int, int]:
        offset, size = self.entries[name]
        if size > self.limits.max_pickle_bytes:
            allowed = self.limits.max_pickle_bytes
            raise LimitError("max_pickle_bytes", f"{size} bytes, {allowed} are allowed", member=name.decode())
        return offset, size

    def _read_storages(self, tar: Any) -> None:
        at, size = self.entries[b"storages"]
        end = at + size
        self.records = [at]
        n, used = self._growing(at, min(size, 1 << 20), tar.count)
        at += used
        for _ in range(n):
            start = at
            self.records.append(at)
            read = functools.partial(tar.storage, window_off=start, member_end=end)
            at = self._growing(start, min(end - start, 1 << 20), read)
        self.records.append(at)
        tar.views(self.source.read(at, end - at))

    def inspect(self) -> None:
        """The pickles of its records: the core reads them for their numbers, and keeps nothing."""
        self._look_before()
        for text, at in self.odd:
            self.find("tar-kind", text, at)
        if not self.entries.keys() >= set(WANTED):
            return
        for name in ("pickle", "sys_info"):  # what stood before them was broken
            if not any(p.member == name for p in self.pickles):
                offset, size = self._span(name.encode())
                graph, error = _core.read_pickle(self.source.read(offset, size), self.arena, self.c_limits)
                self.pickles.append(Pickle(name, offset, graph, graph.end, error))
        for start in self.records:
            self._keep_if_odd(start, *self._record(start))
        self._read_tensor_records(*self.entries[b"tensors"])
        for other in self.entries.keys() - set(WANTED):
            self.find("tar-member", other.decode("utf-8", "backslashreplace"), self.entries[other][0])
        if self.behind is not None:
            self.find("tar-trailing", None, self.behind)

    def _look_before(self) -> None:
        """A stream of pickles may look like a header: torch reads that where it is given no path."""
        if self.leading_pickles() or safetensors.probe(bytes(self.source.window(0, 512))):
            self.find("two-formats", None, 0)

    def _record(self, at: int) -> tuple[Any, PthError | None]:
        def read(data: Any) -> tuple[Any, PthError | None]:
            return _core.read_pickle(data, self.arena, self.c_limits)

        made: tuple[Any, PthError | None] = growing(self.source, at, 1 << 20, read)
        return made

    def _read_tensor_records(self, at: int, size: int) -> None:
        """A count, then for each tensor a pickle, its number of dimensions, sizes, strides and offset."""
        end, first = at + size, True
        while at < end:
            graph, error = self._record(at)
            self._keep_if_odd(at, graph, error)
            if error is not None:
                return
            at += graph.end
            if not first:
                at += 8 + int.from_bytes(self.source.window(at, 4), "little") * 16 + 8
            first = False

    def _keep_if_odd(self, at: int, graph: Any, error: PthError | None) -> None:
        """A file has as many of them as tensors: those that name a storage class and nothing else are let go."""
        seen = _core.Audit(graph, None, self.c_limits, False)
        plain = all(row[2] in ("STORAGE", "TENSOR_CLASS") for row in seen.refs(0, len(seen)))
        if error is not None or not plain or seen.odds()[1]:
            self.pickles.append(Pickle("(record)", at, graph, graph.end, error))

    def remains(self) -> Iterator[Remain]:
        for name, offset, size in self.doubled:
            text = name.decode("utf-8", "backslashreplace")
            yield Remain(text, offset, SliceSource(self.source, offset, size), True)
        torchs = self.entries.keys() >= set(WANTED)
        for name, (offset, size) in self.entries.items():
            if not torchs or name not in WANTED:
                text = name.decode("utf-8", "backslashreplace")
                yield Remain(
                    text, offset, SliceSource(self.source, offset, size), text.endswith((".pkl", ".pth", ".pt"))
                )
        if self.behind is not None:
            rest = SliceSource(self.source, self.behind, self.source.size - self.behind)
            yield Remain("(behind the archive)", self.behind, rest)

    def _growing(self, start: int, limit: int, read: Callable[[Any], Any]) -> Any:
        def attempt(data: Any) -> tuple[Any, PthError | None]:
            try:
                return read(data), None
            except PthError as e:
                return None, e

        made, error = growing(self.source, start, limit, attempt)
        if error is not None:
            raise error
        return made

    def members(self) -> tuple[Member, ...]:
        roles = {b"storages": "storage", b"pickle": "pickle", b"sys_info": "pickle", b"tensors": "meta"}
        return tuple(
            Member(name.decode("utf-8", "backslashreplace"), offset, size, size, roles.get(name, "other"))
            for name, (offset, size) in self.entries.items()
        )

    def claim(self, ledger: _core.Ledger) -> None:
        kinds = {b"pickle": "pickle", b"sys_info": "pickle", b"tensors": "names and headers"}
        reach = 0
        for name, (offset, size) in sorted(self.entries.items(), key=lambda entry: entry[1]):
            ledger.claim(reach, offset, "names and headers")  # with those that say more of it
            reach = offset + -(-size // BLOCK) * BLOCK
            if name == b"storages":
                ledger.spans(self.store, 0)
                ledger.claim(offset, offset + size, "names and headers", False)
            else:
                ledger.claim(offset, offset + size, kinds.get(name, "other members"))
            ledger.claim(offset + size, reach, "alignment padding")
        ledger.claim(reach, self.end, "names and headers")
        ledger.claim(self.end, self.source.size if self.behind is None else self.behind, "alignment padding")

    def writer(self) -> str:
        self.evidence.append("a tar with members storages and tensors: the format before 0.1.10")
        return "torch 0.1.9 or earlier"
