"""What every format gives: one interface between the bytes of a file and the tensors in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .. import _core
from ..errors import PthError
from ..record import Record
from ..source import Source


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """Something odd that did not keep the file from being read."""

    code: str
    severity: str
    member: str | None
    offset: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Member(Record):
    """A part of the file. `nbytes` is what it holds, `stored_nbytes` what it takes."""

    name: str
    offset: int
    nbytes: int
    stored_nbytes: int
    role: str


class Extent(NamedTuple):
    """Bytes of a storage: at `offset` of the file, or, where they had to be inflated, in `data`."""

    offset: int | None
    nbytes: int
    data: Any = None


class Pickle(NamedTuple):
    """A pickle that was read: its member, where it begins in the file (None: inflated), its graph, its bytes there."""

    member: str | None
    offset: int | None
    graph: Any
    stored_nbytes: int


class Container:
    """An opened file. Subclasses fill the attributes and say where storages lie.

    Attributes
    ----------
    format : str
        'zip', 'torchscript', 'legacy', 'tar', 'pickle'.
    pickles : list of Pickle
        All that were read; the first one holds the root.
    tensors : _core.Tensors
        The tensors of the first pickle.
    parts : dict
        Further (table, Pickle) by name: 'constants' of TorchScript.
    names : dict or None
        Names that the container itself gives: name -> row. None: the graph's.
    registered : Mapping or None
        TorchScript: class -> names of its parameters and buffers; other tensors are no part of state_dict().
    """

    format = ""
    byteorder = "little"

    def __init__(self, source: Source, limits: Any) -> None:
        self.source = source
        self.limits = limits
        self.c_limits = _core.Limits(limits)
        self.arena = _core.Arena(self.c_limits)
        self.findings: list[Finding] = []
        self.pickles: list[Pickle] = []
        self.parts: dict[str, Any] = {}
        self.names: Mapping[str, int] | None = None
        self.registered: Mapping[str, frozenset[str]] | None = None
        self.evidence: list[str] = []
        self.tensors: Any = None
        self.closed = False

    def give_tables(self) -> tuple[Any, dict[str, Any]]:
        """The tables, which are the caller's from now on: they lead back to the container, and may not lie in it."""
        tensors, parts = self.tensors, self.parts
        self.tensors, self.parts = None, {}
        return tensors, parts

    def extent(self, store: Any, span: int) -> Extent:
        """Where the bytes of a storage lie; raises if they cannot be read."""
        _, offset, nbytes, _, code = store.span(span)
        if code:
            raise _core.error_of(code)
        return Extent(offset, nbytes)

    def is_stored(self, store: Any, span: int) -> bool:
        """Do its bytes lie in the file as they are?"""
        return True

    def stored_nbytes(self, store: Any, span: int) -> int:
        """Bytes that a storage takes in the file."""
        return int(store.span(span)[2])

    def members(self) -> tuple[Member, ...]:
        """All parts of the file that have a name or a place."""
        return ()

    def writer(self) -> str:
        """The torch that wrote it, as far as the file shows."""
        raise AssertionError("abstract")

    def parse(self, data: Any, member: str | None, offset: int | None, stored_nbytes: int | None = None) -> Any:
        """Reads a pickle and keeps it; its errors name the member (and the byte of the file where there is none).

        stored_nbytes: what it takes in the file, where it was inflated.
        """
        try:
            graph = _core.parse(data, self.arena, self.c_limits)
        except PthError as e:
            raise e.at(self.source.path, member, 0 if member else offset or 0) from None
        self.pickles.append(Pickle(member, offset, graph, graph.end if stored_nbytes is None else stored_nbytes))
        return graph

    def read_tensors(self, graph: Any, store: Any) -> Any:
        try:
            return _core.Tensors(graph, store, self.c_limits)
        except PthError as e:
            raise e.at(self.source.path, self.pickles[0].member if self.pickles else None) from None


class Format(Protocol):
    """A module of this package: `probe` is cheap and never raises, `read` raises PthError only."""

    def probe(self, head: bytes) -> bool: ...

    def read(self, source: Source, limits: Any) -> Container: ...


def growing(source: Source, start: int, limit: int, read: Any) -> Any:
    """Calls `read(data)` on ever larger beginnings of what stands at `start`, until it does not run off their end.

    Where a pickle ends is known only when it has been read. Doubling keeps the whole linear.
    """
    length = 1 << 16
    while True:
        data = source.window(start, min(length, limit))
        whole = start + len(data) >= source.size or len(data) >= limit
        try:
            return read(data)
        except PthError as e:
            if whole or e.code not in ("pickle-truncated", "pickle-line"):
                raise
        length *= 4
