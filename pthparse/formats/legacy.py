"""Legacy: the stream that torch.save wrote from 0.1.10 to 1.5, and still can.

Five pickles (magic number, protocol version, sys_info, the object, the list of storage keys), then the storages: an i64
count of elements and the bytes of each (torch/serialization.py, _legacy_save).
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import _core
from ..errors import PthError
from ..source import SliceSource, Source
from .base import Container, Member, Pickle, Remain, growing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
MAGIC_TEXT = b"L119547037146038801333356L\n."  # the same number by protocols 0 and 1
PICKLES = ("magic", "version", "sys_info", "object", "storage_keys")
OBJECT = 3
COUNT = 8  # bytes before each storage
WINDOW = 1 << 16


def probe(head: bytes) -> bool:
    # The LONG1 of the magic number stands behind PROTO, and from protocol 4 on behind FRAME too.
    return (head[:1] == b"\x80" and MAGIC in head[:32]) or head.startswith(MAGIC_TEXT)


def container(source: Source, limits: Any) -> Container:
    return LegacyContainer(source, limits)


class LegacyContainer(Container):
    format = "legacy"
    end: int | None = None

    def read(self) -> None:
        source, size = self.source, self.source.size
        legacy, error = growing(source, 0, self.limits.max_pickle_bytes, self._read_pickles)
        for i, name in enumerate(PICKLES[: legacy.n_read]):
            at, graph = legacy.pickle(i)
            last = error if i == legacy.n_read - 1 else None
            self.pickles.append(Pickle(name, at, graph, graph.end, last))
        if error is not None:
            raise error
        self.pickles.insert(0, self.pickles.pop(OBJECT))
        self.store, end = legacy.store((1 << 64) - 1 if self.salvage else size)
        if end > size:
            self.store.cut(size)
            self.missing, self.cut = end - size, True
            self.find("salvaged", None, None, f"the storages would end at byte {end}, the file ends at {size}")
        self._check_headers()
        self.end = end
        self.tensors = self.read_tensors(self.pickles[0].graph, self.store)
        self.data_start = legacy.end
        if end < size:
            again = probe(bytes(source.window(end, 64)))
            self.find("several-objects" if again else "legacy-trailing", None, end, f"{size - end} bytes follow")

    def _read_pickles(self, data: Any) -> tuple[Any, PthError | None]:
        legacy = _core.Legacy(self.arena)
        return legacy, legacy.read(data, self.c_limits)

    def _check_headers(self) -> None:
        """Each storage's count of elements stands before it. Windows make small neighbours cheap."""
        following = 0
        if self.source.afar:
            spans = (self.store.span(i) for i in range(len(self.store)))
            self.source.prepare((offset - COUNT, offset) for _, offset, _, _, code in spans if not code)
        while following < len(self.store):
            _, offset, nbytes, _, code = self.store.span(following)
            if code:  # the file ends before it does
                break
            at = offset - COUNT
            window = self.source.window(at, COUNT if nbytes >= WINDOW else WINDOW)
            if len(window) < COUNT:
                self.source.read(at, COUNT)
            following = _core.legacy_check(self.store, window, at, following)

    def remains(self) -> Iterator[Remain]:
        if self.end is not None and self.end < self.source.size:
            rest = SliceSource(self.source, self.end, self.source.size - self.end)
            yield Remain("(behind the storages)", self.end, rest)

    def members(self) -> tuple[Member, ...]:
        rows = [Member(p.member or "", p.offset or 0, p.graph.end, p.graph.end, "pickle") for p in self.pickles]
        rows.sort(key=lambda m: m.offset)
        for i in range(len(self.store)):
            key, offset, nbytes, _, _ = self.store.span(i)
            rows.append(Member(f"storage {key}", offset - COUNT, nbytes, nbytes + COUNT, "storage"))
        return tuple(rows)

    def claim(self, ledger: _core.Ledger) -> None:
        for pickle in self.pickles[: len(PICKLES)]:
            self.claim_pickle(ledger, pickle)
        ledger.spans(self.store, COUNT)

    def writer(self) -> str:
        self.evidence.append("the legacy stream: the default of 0.1.10 to 1.5")
        if self.pickles[0].graph.has_str8:
            self.evidence.append("byte strings: written under Python 2")
            return "torch 0.1.10 to 1.4, Python 2"
        return "torch 0.1.10 to 1.5, or later on request"
