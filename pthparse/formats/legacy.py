"""Legacy: the stream that torch.save wrote from 0.1.10 to 1.5, and still can.

Five pickles (magic number, protocol version, sys_info, the object, the list of storage keys), then the storages: an i64
count of elements and the bytes of each (torch/serialization.py, _legacy_save).
"""

from __future__ import annotations

from typing import Any

from .. import _core
from ..errors import PthError
from ..source import Source
from .base import Container, Finding, Member, Pickle, growing

MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
MAGIC_TEXT = b"L119547037146038801333356L\n."  # the same number by protocols 0 and 1
PICKLES = ("magic", "version", "sys_info", "object", "storage_keys")
OBJECT = 3


def probe(head: bytes) -> bool:
    # The LONG1 of the magic number stands behind PROTO, and from protocol 4 on behind FRAME too.
    return (head[:1] == b"\x80" and MAGIC in head[:32]) or head.startswith(MAGIC_TEXT)


def read(source: Source, limits: Any) -> Container:
    try:
        box = LegacyContainer(source, limits)
        box.read()
    except PthError as e:
        raise e.at(source.path) from None
    return box


class LegacyContainer(Container):
    format = "legacy"

    def read(self) -> None:
        source, size = self.source, self.source.size
        legacy = growing(
            source, 0, self.limits.max_pickle_bytes, lambda data: _core.Legacy(data, self.arena, self.c_limits)
        )
        for i, name in enumerate(PICKLES):
            at, graph = legacy.pickle(i)
            self.pickles.append(Pickle(name, at, graph, graph.end))
        self.pickles.insert(0, self.pickles.pop(OBJECT))
        self.store, self.end = legacy.store(size)
        self._check_headers()
        self.tensors = self.read_tensors(self.pickles[0].graph, self.store)
        self.data_start = legacy.end
        if self.end < size:
            more = bytes(source.window(self.end, 64))
            what = (
                "another saved object follows: only the first is read"
                if probe(more)
                else "bytes follow the last storage"
            )
            self.findings.append(
                Finding(
                    "several-objects" if probe(more) else "trailing-bytes",
                    "note",
                    None,
                    self.end,
                    f"{what} ({size - self.end} bytes)",
                )
            )

    def _check_headers(self) -> None:
        """Each storage's count of elements stands before it. Windows make small neighbours cheap."""
        following = 0
        while following < len(self.store):
            at = self.store.span(following)[1] - 8
            window = self.source.window(at, 1 << 16)
            if len(window) < 8:
                self.source.read(at, 8)
            following = _core.legacy_check(self.store, window, at, following)

    def members(self) -> tuple[Member, ...]:
        rows = [Member(p.member or "", p.offset or 0, p.graph.end, p.graph.end, "pickle") for p in self.pickles]
        rows.sort(key=lambda m: m.offset)
        for i in range(len(self.store)):
            key, offset, nbytes, _, _ = self.store.span(i)
            rows.append(Member(f"storage {key}", offset - 8, nbytes, nbytes + 8, "storage"))
        return tuple(rows)

    def writer(self) -> str:
        self.evidence.append("the legacy stream: the default of 0.1.10 to 1.5")
        if self.pickles[0].graph.has_str8:
            self.evidence.append("byte strings: written under Python 2")
            return "torch 0.1.10 to 1.4, Python 2"
        return "torch 0.1.10 to 1.5, or later on request"
