"""safetensors: a length, a header of JSON, and the bytes of the tensors one behind the other. No pickle, no code.

A sound file has all of its bytes in the header or in exactly one tensor. One that has not is read as far as it is
unambiguous, and the rest is a finding; the safetensors library refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import _core
from ..errors import LimitError, PthError, TruncatedError
from ..source import SliceSource, Source
from .base import LEADING_BYTES, MOST_FINDINGS, Container, Member, Remain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LENGTH = 8
# Beyond these no header is meant: the first bytes of such a length are texts or numbers of another format.
LONGEST_LENGTH = 1 << 40


def probe(head: bytes) -> bool:
    if head[LENGTH : LENGTH + 1] != b"{" or not 2 <= int.from_bytes(head[:LENGTH], "little") < LONGEST_LENGTH:
        return False
    return head[LENGTH + 1 :].lstrip(b" \t\r\n")[:1] in (b'"', b"}", b"")


def container(source: Source, limits: Any) -> Container:
    return SafetensorsContainer(source, limits)


class SafetensorsContainer(Container):
    format = "safetensors"
    header: Any = None
    data_start = 0
    gaps: list[tuple[int, int]]

    def read(self) -> None:
        try:
            self._read()
        except PthError:
            self.leading_pickles()  # whatever torch would make of it
            raise

    def _read(self) -> None:
        size = self.source.size
        length = int.from_bytes(self.source.read(0, LENGTH), "little")
        if length > self.limits.max_header_bytes:
            allowed = self.limits.max_header_bytes
            raise LimitError(
                "max_header_bytes", f"a header of {length} bytes, {allowed} are allowed (max_header_bytes)", offset=0
            )
        start = LENGTH + length
        if start > size:
            raise TruncatedError("safetensors-cut", f"the header would end at byte {start}, the file ends at {size}")
        self.header = header = _core.Safetensors(self.arena, self.source.read(0, start), self.c_limits)
        self.data_start = start
        self.store = header.store()
        self.gaps = []
        if header.end > size:
            told = f"the tensors would end at byte {header.end}, the file ends at {size}"
            if not self.salvage:
                raise TruncatedError("safetensors-extent", told)
            self.store.cut(size)
            self.missing, self.cut = header.end - size, True
            self.find("salvaged", None, None, told)
        self.metadata = self._metadata()
        self.tensors = header.tensors(self.store, self.c_limits)
        self.names = _distinct(header.names()) if header.doubled else header.names()
        self.gaps = self._gaps()

    def _metadata(self) -> dict[str, str]:
        pairs = self.header.metadata()
        found = dict(pairs)
        if len(found) < len(pairs):
            self.find("safetensors-metadata", None, None)
        return found

    def _gaps(self) -> list[tuple[int, int]]:
        """Bytes between the tensors that none of them has. Overlaps are findings as well."""
        header, size = self.header, self.source.size
        gaps = []
        if not header.in_order:
            reach = self.data_start
            for begin, end, i in sorted(header.places()):
                if begin > reach:
                    gaps.append((reach, begin))
                    self.find("safetensors-hole", None, reach, f"{begin - reach} bytes belong to no tensor")
                elif begin < reach:
                    told = f"tensor {self.store.span(i)[0]!r} begins {reach - begin} bytes before another one ends"
                    self.find("safetensors-overlap", None, begin, told)
                reach = max(reach, end)
        if header.end < size:
            self.find("safetensors-trailing", None, header.end, f"{size - header.end} bytes behind the last tensor")
        return gaps

    def inspect(self) -> None:
        """torch knows no such format, and runs what its first bytes are to pickle."""
        # A header may be texts that a pickle drops; sound ones end at their second byte.
        if self.leading_pickles(self.data_start + LEADING_BYTES):
            self.find("two-formats", None, 0)

    def remains(self) -> Iterator[Remain]:
        if self.header is None:
            return
        size = self.source.size
        for begin, end in self.gaps[:MOST_FINDINGS]:
            yield Remain(f"(hole at {begin})", begin, SliceSource(self.source, begin, end - begin))
        if self.header.end < size:
            rest = SliceSource(self.source, self.header.end, size - self.header.end)
            yield Remain("(behind the tensors)", self.header.end, rest)

    def members(self) -> tuple[Member, ...]:
        rows = [Member("header", 0, self.data_start, self.data_start, "meta")]
        for i, name in enumerate(self.names or ()):
            _, offset, nbytes, _, _ = self.store.span(i)
            rows.append(Member(f"tensor {name}", offset, nbytes, nbytes, "storage"))
        return tuple(rows)

    def claim(self, ledger: _core.Ledger) -> None:
        ledger.claim(0, self.header.json_end, "names and headers")
        ledger.claim(self.header.json_end, self.data_start, "alignment padding")
        ledger.spans(self.store, 0)

    def writer(self) -> str:
        self.evidence.append("a length, JSON, and tensors: no pickle")
        made_by = (self.metadata or {}).get("format")
        if made_by is None:
            return "safetensors"
        self.evidence.append(f"__metadata__ says format {made_by!r}")
        return "safetensors, from torch" if made_by == "pt" else f"safetensors, from {made_by[:40]!r}"


def _distinct(names: list[str]) -> list[str]:
    """Names of which some are there twice: the later ones get '#2', '#3', ..."""
    seen, out = set(names), []
    counts: dict[str, int] = {}
    for name in names:
        n = counts.get(name, 0) + 1
        fresh = name
        while n > 1 and (fresh := f"{name}#{n}") in seen:
            n += 1
        counts[name] = n
        seen.add(fresh)
        out.append(fresh)
    return out
