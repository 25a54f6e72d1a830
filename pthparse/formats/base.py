"""What every format gives: one interface between the bytes of a file and the tensors in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from .. import _core
from ..errors import LimitError, PthError
from ..record import Record
from ..source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Errors that say which sound format it is that is not read here.
NOT_READ = frozenset(("pt2", "npz", "npy", "gguf", "hdf5", "flatbuffer", "shard-index", "tensor-dtype"))


# Errors after which nothing can be said of a file, neither good nor bad.
UNSEEN = frozenset(("file-changed", "no-ranges", "remote-extra", "shard-unreadable", "url"))
MOST_FINDINGS = 1000
# The first byte of protocols 0 and 1 is that of the value itself.
OPCODES = frozenset(row[1] for row in _core.OPCODES)
MOST_LEADING = 8  # pickles at the start of another format that are looked at
LEADING_BYTES = 1 << 24


class Finding(Record):
    """Something odd about a file. `severity`: the verdict of an audit that it forces; 'note' forces none."""

    code: str
    severity: str
    member: str | None
    offset: int | None
    message: str


def finding_of(error: PthError, member: str | None = None) -> Finding:
    """An error that kept a part of the file from being read, as a finding of its own code."""
    if isinstance(error, LimitError) or error.code in UNSEEN:
        severity = "incomplete"
    else:
        severity = "review" if error.code in NOT_READ else "malformed"
    return Finding(error.code, severity, error.member or member, error.offset, error.message)


class Member(Record):
    """A part of the file. `nbytes` is what it holds, `stored_nbytes` what it takes."""

    name: str
    offset: int
    nbytes: int
    stored_nbytes: int
    role: str


class Extent:
    """Bytes of a storage: at `offset` of the file, or, where they had to be inflated, in `data`. Made for each read."""

    __slots__ = ("data", "nbytes", "offset")

    def __init__(self, offset: int | None, nbytes: int, data: Any = None) -> None:
        self.offset, self.nbytes, self.data = offset, nbytes, data


class Remain(Record):
    """A part of the file that was not read: its name, its place in the file (None: inflated), its bytes.

    expected: a pickle belongs there. text: words may, of which any may read as the beginning of a pickle.
    """

    member: str
    offset: int | None
    source: Source
    expected: bool = False
    text: bool = False


class Pickle(Record):
    """A pickle: its member, where it begins in the file (None: inflated), its graph, its bytes there.

    After an error the graph holds what was read before it.
    """

    member: str | None
    offset: int | None
    graph: Any
    stored_nbytes: int
    error: PthError | None = None


class Container:
    """An opened file. Subclasses fill the attributes and say where storages lie.

    Attributes
    ----------
    findings : list of Finding
        The first 1,000; `more` counts those that came after them, by severity.
    format : str
        'zip', 'torchscript', 'package', 'pt2', 'legacy', 'tar', 'safetensors', 'pickle'.
    pickles : list of Pickle
        All that were read; the first one holds the root, unless they are `joined`.
    tensors : _core.Tensors
        The tensors of `main`.
    parts : dict
        Further (table, Pickle) by name: 'constants' of TorchScript.
    joined : Pickle or None
        Several pickles as one graph, whose root is a dict of `pieces`, their names: then the table is of it.
    alone : Pickle or None
        The one of several pickles that the table is of, where it is not the first.
    names : dict, list or None
        Names that the container itself gives: name -> row, or those of all rows in their order. None: the graph's.
    metadata : dict or None
        Plain values that the container itself gives. None: those of the graph.
    code : list of str
        Members that hold code: filled by `remains()`.
    roles : dict
        Name -> 'parameters', 'buffers' or 'other', where the container itself says so.
    registered : Mapping or None
        TorchScript: class -> names of its parameters and buffers; other tensors are no part of state_dict().
    constants : Mapping
        TorchScript: class -> the constants that its code gives to it, and which of its tensors are `__parameters__`.
    salvage : bool
        Set before `load()`: what is whole in a file that is not is read too.
    missing : int or None
        Bytes of tensor data that a file lacks that is not whole; None: nothing had to be salvaged.
    cut : bool
        Does the file end too early? Else only its directory is lost.
    """

    format = ""
    salvage = False
    missing: int | None = None
    cut = False
    byteorder = "little"
    zip: Any = None  # the directory, where the file is one
    nested: Any = None  # files of torch.save in it that hold its tensors

    def __init__(self, source: Source, limits: Any) -> None:
        self.source = source
        self.limits = limits
        self.c_limits = _limits(limits)
        self.arena = _core.Arena(self.c_limits)
        self.findings: list[Finding] = []
        self.more: dict[str, int] = {}
        self.pickles: list[Pickle] = []
        self.parts: dict[str, Any] = {}
        self.joined: Pickle | None = None
        self.pieces: tuple[str, ...] = ()
        self.alone: Pickle | None = None
        self.names: Mapping[str, int] | list[str] | None = None
        self.metadata: Mapping[str, str] | None = None
        self.roles: dict[str, str] = {}
        self.registered: Mapping[str, frozenset[str]] | None = None
        self.constants: Mapping[str, Mapping[str, Any]] = {}
        self.evidence: list[str] = []
        self.code: list[str] = []
        self.tensors: Any = None
        self.closed = False

    @property
    def salvaged(self) -> bool:
        """Was it read in spite of not being whole?"""
        return self.missing is not None

    @property
    def main(self) -> Pickle | None:
        """The pickle that the table was made of."""
        return self.joined or self.alone or (self.pickles[0] if self.pickles else None)

    def table_of(self, pickle: Pickle) -> Any:
        """A table of one of several pickles, for who looks at each by itself."""
        return None

    def load(self) -> None:
        """Reads everything but data. Raises PthError; what was read before the error stays."""
        try:
            self.read()
        except PthError as e:
            raise e.at(self.source.path) from None

    def read(self) -> None:
        raise AssertionError("abstract")

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

    def locate(self, spans: Iterable[tuple[Any, int]]) -> None:
        """The extents of these (store, span) will be asked for: reads what tells them together. Raises no PthError."""

    def locate_many(self, n: int) -> None:
        """The extents of `n` storages will be asked for: the same of all, if that is less work. Raises no PthError."""

    def is_stored(self, store: Any, span: int) -> bool:
        """Do its bytes lie in the file as they are?"""
        return True

    def stored_nbytes(self, store: Any, span: int) -> int:
        """Bytes that a storage takes in the file."""
        return int(store.span(span)[2])

    def find(self, code: str, member: str | None, offset: int | None, message: str | None = None) -> None:
        """Adds a finding of defs/findings.def; the message tells more than its sentence."""
        severity, sentence = _core.FINDINGS[code]
        self.keep_finding(Finding(code, severity, member, offset, message or sentence))

    def keep_finding(self, finding: Finding) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)
        else:
            self.more[finding.severity] = self.more.get(finding.severity, 0) + 1

    def blame(self, error: PthError, member: str | None = None) -> None:
        """Adds an error that kept a part of the file from being read as a finding of its own code."""
        self.keep_finding(finding_of(error, member))

    def inspect(self) -> None:
        """Looks at everything that opening does not need, and adds what is odd to `findings`. Raises no PthError."""

    def remains(self) -> Iterator[Remain]:
        """The parts that no pickle and no storage of this reading explains: what else could be in them?"""
        return iter(())

    def members(self) -> tuple[Member, ...]:
        """All parts of the file that have a name or a place."""
        return ()

    def claim(self, ledger: _core.Ledger) -> None:
        """Claims what is for something, but for the elements of tensors: each byte with its kind of `_core.LEDGER`."""
        raise AssertionError("abstract")

    def claim_pickle(self, ledger: _core.Ledger, pickle: Pickle) -> None:
        """The same of a pickle that lies in the file as it is."""
        if pickle.offset is not None:
            ledger.claim(pickle.offset, pickle.offset + pickle.graph.end, "pickle")

    def writer(self) -> str:
        """The torch that wrote it, as far as the file shows."""
        raise AssertionError("abstract")

    def parse(self, data: Any, member: str | None, offset: int | None, stored_nbytes: int | None = None) -> Any:
        """Reads a pickle and keeps it; its errors name the member (and the byte of the file where there is none).

        stored_nbytes: what it takes in the file, where it was inflated.
        """
        graph, error = _core.read_pickle(data, self.arena, self.c_limits)
        return self.keep(graph, error, member, offset, stored_nbytes)

    def keep(
        self, graph: Any, error: PthError | None, member: str | None, offset: int | None, stored: int | None = None
    ) -> Any:
        """Keeps a pickle that was read, and raises its error, if there is one."""
        if error is not None:
            error.at(self.source.path, member, 0 if member else offset or 0)
        self.pickles.append(Pickle(member, offset, graph, graph.end if stored is None else stored, error))
        if error is not None:
            raise error
        return graph

    def leading_pickles(self, most: int = LEADING_BYTES) -> bool:
        """Keeps the pickles that another format begins with, if they name anything: magics may be opcodes too.

        most: bytes of one that are looked at.
        """
        at, kept = 0, len(self.pickles)
        for _ in range(MOST_LEADING):
            head = bytes(self.source.window(at, 1))
            if not head or head[0] not in OPCODES:
                break
            graph, error = growing(
                self.source, at, most, lambda data: _core.read_pickle(data, self.arena, self.c_limits)
            )
            if graph.n_globals:
                self.pickles.append(Pickle(None, at, graph, graph.end, error))
            if error is not None:
                break
            at += graph.end
        if len(self.pickles) > kept and names_globals(self.pickles[kept].graph):
            return True
        del self.pickles[kept:]
        return False

    def read_tensors(self, graph: Any, store: Any) -> Any:
        try:
            return _core.Tensors(graph, store, self.c_limits)
        except PthError as e:
            raise e.at(self.source.path, self.pickles[0].member if self.pickles else None) from None


def names_globals(graph: Any) -> bool:
    """Is the first thing that a pickle names a name? Any text may begin like a pickle."""
    names = [word for row in graph.globals()[:1] for word in row[:2]]
    return bool(names) and all(
        word.replace(".", "").replace("_", "").isalnum() or word == _core.COMPUTED for word in names
    )


@lru_cache(8)
def _limits(limits: Any) -> _core.Limits:
    return _core.Limits(limits)


def growing(source: Source, start: int, limit: int, read: Callable[[Any], tuple[Any, PthError | None]]) -> Any:
    """What `read(data)` makes of ever larger beginnings of what stands at `start`, until it does not run off their end.

    Where a pickle ends is known only when it has been read. Doubling keeps the whole linear.
    """
    length = 1 << 16
    while True:
        data = source.window(start, min(length, limit))
        # Less than was asked for: the end, or what is left of a file that was cut.
        whole = len(data) < length or start + len(data) >= source.size or len(data) >= limit
        made, error = read(data)
        if error is None or whole or error.code not in ("pickle-truncated", "pickle-line"):
            return made, error
        length *= 4
