"""A bare pickle: pickle.dump of tensors, or of anything.

A tensor's storage is then a whole legacy stream inside (`_load_from_bytes`).
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import _core
from ..errors import PthError
from ..source import SliceSource, Source
from . import strangers
from .base import OPCODES, Container, Member, Remain, growing, names_globals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def probe(head: bytes) -> bool:
    return bool(head) and head[0] in OPCODES


def container(source: Source, limits: Any) -> Container:
    return BareContainer(source, limits)


class BareContainer(Container):
    format = "pickle"

    def read(self) -> None:
        source = self.source
        graph, error = growing(
            source, 0, self.limits.max_pickle_bytes, lambda data: _core.read_pickle(data, self.arena, self.c_limits)
        )
        try:
            self.keep(graph, error, None, 0)
        except PthError as e:
            head = bytes(source.window(0, 64))
            if head[:1] != b"\x80" and not e.code.startswith("max_"):
                if not names_globals(graph):  # a text: `import os` names "mport os"
                    self.pickles.clear()
                raise strangers.unknown(source, head) from None
            raise
        self.tensors = self.read_tensors(graph, None)
        if graph.end < source.size:
            self.find("pickle-trailing", None, graph.end, f"{source.size - graph.end} bytes behind the pickle")
        if graph.frame_straddled:
            self.find("pickle-frame", None, None)

    def remains(self) -> Iterator[Remain]:
        end = self.pickles[0].graph.end if self.pickles else 0
        if end and end < self.source.size:
            yield Remain("(behind the pickle)", end, SliceSource(self.source, end, self.source.size - end))

    def members(self) -> tuple[Member, ...]:
        end = self.pickles[0].graph.end
        return (Member("pickle", 0, end, end, "pickle"),)

    def claim(self, ledger: _core.Ledger) -> None:
        self.claim_pickle(ledger, self.pickles[0])

    def writer(self) -> str:
        self.evidence.append("a bare pickle: pickle.dump, not torch.save")
        return "pickle"
