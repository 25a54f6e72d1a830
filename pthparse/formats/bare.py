"""A bare pickle: pickle.dump of tensors, or of anything.

A tensor's storage is then a whole legacy stream inside (`_load_from_bytes`).
"""

from __future__ import annotations

from typing import Any

from .. import _core
from ..errors import PthError
from ..source import Source
from . import strangers
from .base import Container, Finding, Member, Pickle, growing

# The first byte of protocols 0 and 1 is that of the value itself.
STARTS = frozenset(row[1] for row in _core.OPCODES)


def probe(head: bytes) -> bool:
    return bool(head) and head[0] in STARTS


def read(source: Source, limits: Any) -> Container:
    try:
        box = BareContainer(source, limits)
        box.read()
    except PthError as e:
        head = bytes(source.window(0, 2))
        if head[:1] != b"\x80" and not e.code.startswith("max_"):
            raise strangers.unknown(source, bytes(source.window(0, 64))) from None
        raise e.at(source.path) from None
    return box


class BareContainer(Container):
    format = "pickle"

    def read(self) -> None:
        source = self.source
        graph = growing(
            source, 0, self.limits.max_pickle_bytes, lambda data: _core.parse(data, self.arena, self.c_limits)
        )
        self.pickles.append(Pickle(None, 0, graph, graph.end))
        self.tensors = self.read_tensors(graph, None)
        if graph.end < source.size:
            self.findings.append(
                Finding("trailing-bytes", "note", None, graph.end, f"{source.size - graph.end} bytes behind the pickle")
            )
        if graph.frame_straddled:
            self.findings.append(
                Finding(
                    "pickle-frame", "note", None, None, "an opcode crosses the end of its frame: readers may differ"
                )
            )

    def members(self) -> tuple[Member, ...]:
        end = self.pickles[0].graph.end
        return (Member("pickle", 0, end, end, "pickle"),)

    def writer(self) -> str:
        self.evidence.append("a bare pickle: pickle.dump, not torch.save")
        return "pickle"
