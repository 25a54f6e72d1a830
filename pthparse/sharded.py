"""A model in several files as one checkpoint: each tensor is read from its own file, when it is asked for."""

from __future__ import annotations

from _thread import allocate_lock as new_lock
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from . import _core, formats
from .checkpoint import Checkpoint, ClassSource, Global, Writer
from .errors import FormatError, PthError, TruncatedError, escape
from .formats.base import MOST_FINDINGS, Finding, Member
from .record import Record
from .shards import Layout
from .source import closed
from .team import MOST_THREADS, processors, together
from .tensor import Storage, Tensor

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from threading import Lock

    from .auditor import AuditReport
    from .capacity import Capacity
    from .verifier import DamagedTensor, VerifyReport

MOST_OPEN = 64  # files that are open at once
AFAR = 16  # threads that open them where most of the time is waiting
MISSING, UNREADABLE = "shard-missing", "shard-unreadable"
TOTAL = "total_size"  # of an index: bytes of all tensors


class Shard(Record):
    """One of the files.

    Attributes
    ----------
    name : str
    path : str
    nbytes : int
        The file's size; 0 if it is not there.
    tensors : int
        Of the model, in this file.
    tensor_nbytes : int
        What their elements take as the model's dtypes say.
    error : str or None
        Why it cannot be read.
    """

    name: str
    path: str
    nbytes: int
    tensors: int
    tensor_nbytes: int
    error: str | None


class ShardedCheckpoint(Checkpoint):
    """A model in several files: a Mapping of all names, as a `Checkpoint` of one file is.

    `model["name"]` opens the one file that the index names for it. What asks for all names (len, iteration, findings)
    reads the structure of every file, several at once. At most 64 of them are open at a time.
    """

    _threads: int | None = None

    def __init__(self, layout: Layout, limits: Any, mapped: bool) -> None:
        self._layout, self._limits, self._mapped = layout, limits, mapped
        self._opened = layout.directory.opener(MOST_OPEN)
        self._read: dict[int, Checkpoint | PthError] = {}
        self._lock: Lock = new_lock()
        self._locks: dict[int, Lock] = {}
        self._ended = False

    # ---- the files ----

    def _shard(self, i: int) -> Checkpoint:
        """The checkpoint of one file; PthError: it cannot be read."""
        if self._ended:
            raise closed(self.path)
        found = self._read.get(i)
        if found is None:
            with self._lock:
                lock = self._locks.setdefault(i, new_lock())
            with lock:
                found = self._read.get(i)
                if found is None:
                    found = self._read[i] = self._open(i)
        if isinstance(found, PthError):
            raise found
        return found

    def _open(self, i: int) -> Checkpoint | PthError:
        file = self._layout.files[i]
        if file in self._layout.missing:
            return _missing(self._shown(i))
        path = self._shown(i)
        try:
            source = self._opened(file)
            source.mapped = self._mapped
            try:
                return Checkpoint(formats.read(source, self._limits))
            except BaseException:
                source.close()
                raise
        except PthError as e:
            return e.at(path)
        except OSError as e:
            return not_opened(e, path)

    def _shown(self, i: int) -> str:
        """The path of a file, for messages. One that may not be opened may have any name."""
        directory, file = self._layout.directory, self._layout.files[i]
        return f"{directory.path}/{file}" if file in self._layout.missing else directory.shown(file)

    def _read_all(self) -> list[Checkpoint | PthError]:
        """All of them, several at once."""
        files, missing = self._layout.files, self._layout.missing
        lost = [i for i, file in enumerate(files) if file in missing and i not in self._read]
        alike = _missing(self._layout.directory.path)  # an index may name any number of them: one error stands for many
        self._read |= {i: self._open(i) if n < MOST_FINDINGS else alike for n, i in enumerate(lost)}
        wanted = [i for i in range(len(files)) if i not in self._read]
        left = iter(wanted)

        def work() -> None:
            while True:
                with self._lock:
                    i = next(left, None)
                if i is None:
                    return
                try:
                    self._shard(i)
                except PthError:
                    if self._ended:
                        raise

        def stop() -> None:
            with self._lock:
                for _ in left:
                    pass

        if self._ended:
            raise closed(self.path)
        if wanted:
            most = self._threads or (AFAR if self._layout.directory.afar else processors())
            together(work, stop, min(most, MOST_THREADS, len(wanted)), None)
        return [self._read[i] for i in range(len(files))]

    def _each(self) -> Iterator[tuple[int, Checkpoint]]:
        """Those that can be read."""
        for i, found in enumerate(self._all):
            if isinstance(found, Checkpoint):
                yield i, found

    @cached_property
    def _all(self) -> list[Checkpoint | PthError]:
        return self._read_all()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files, in the order of the index or of their numbers."""
        counts = [[0, 0] for _ in self._layout.files]
        for t, (i, _) in zip(self.values(), self._whole.places, strict=True):
            counts[i][0] += 1
            counts[i][1] += t.nbytes
        out = []
        for i, (file, read) in enumerate(zip(self._layout.files, self._all, strict=True)):
            error = read.message if isinstance(read, PthError) else None
            out.append(Shard(file, self._shown(i), self._sizes[i], counts[i][0], counts[i][1], error))
        return tuple(out)

    @cached_property
    def _sizes(self) -> list[int]:
        """Of the files, also of those that cannot be read."""
        directory, out = self._layout.directory, []
        if directory.afar and not self._ended:
            self._all  # noqa: B018 - to ask for a size is half of opening a file
        for i, file in enumerate(self._layout.files):
            read = self._read.get(i)
            if isinstance(read, Checkpoint):
                out.append(read.nbytes)
            elif self._path_of(i) is None:
                out.append(0)
            else:
                try:
                    out.append(directory.size(file))
                except (PthError, OSError):
                    out.append(0)
        return out

    # ---- names ----

    @cached_property
    def _whole(self) -> _Whole:
        return _Whole(self._layout, self._all)

    @property
    def _list(self) -> list[str]:  # type: ignore[override]
        return self._whole.names

    def _make(self, at: int, name: str) -> Tensor:
        i, place = self._whole.places[at]
        return self._shard(i)._make(place, name)

    def _tensors(self) -> Iterator[Tensor]:
        return map(self._make, range(len(self._list)), self._list)

    def __getitem__(self, name: str) -> Tensor:
        number = None if self._layout.weights is None or "_whole" in vars(self) else self._layout.weights.get(name)
        if number is None:
            lost = self._whole.lost.get(name)
            if lost is not None:
                raise lost
            return super().__getitem__(name)
        shard = self._shard(number)
        if name not in shard:
            raise _not_there(name, self._layout.files[number], shard.path)
        return shard[name]

    # ---- the files as one ----

    @property
    def format(self) -> str:
        return "sharded"

    @property
    def path(self) -> str | None:
        return self._layout.path

    @property
    def nbytes(self) -> int:
        """Bytes of all files and of the index."""
        return sum(self._sizes) + self._layout.index_nbytes

    @property
    def byteorder(self) -> str:
        orders = {ckpt.byteorder for _, ckpt in self._each()}
        return orders.pop() if len(orders) == 1 else "little"

    @property
    def pickle_nbytes(self) -> int:
        return sum(ckpt.pickle_nbytes for _, ckpt in self._each())

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The parts of all files; `name` begins with the file's."""
        return tuple(
            Member(f"{self._layout.files[i]}!{m.name}", m.offset, m.nbytes, m.stored_nbytes, m.role)
            for i, ckpt in self._each()
            for m in ckpt.members
        )

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        found = [*self._layout.findings, *self._between]
        for i, ckpt in self._each():
            for f in ckpt.findings:
                member = f"{self._layout.files[i]}!{f.member or ''}".rstrip("!")
                found.append(Finding(f.code, f.severity, member, f.offset, f.message))
        return tuple(found[:MOST_FINDINGS])

    @cached_property
    def _between(self) -> list[Finding]:
        """What the files and the index say differently. Tensors in two files are read: are they equal?"""
        found = list(self._whole.findings)
        for name, first, second in self._whole.twice[:MOST_FINDINGS]:
            alike = _alike(self._shard(first)[name], self._shard(second)[name])
            told = f"{name!r} is in {self._layout.files[first]} and in {self._layout.files[second]}: {alike}"
            found.append(
                Finding("shard-twice", _core.FINDINGS["shard-twice"][0], self._layout.files[second], None, told)
            )
        return found

    @cached_property
    def writer(self) -> Writer:
        first = next((ckpt for _, ckpt in self._each()), None)
        if first is None:
            return Writer("nobody knows", 0, ())
        return Writer(f"{first.writer.text}, in {n_files(len(self._layout.files))}", *first.writer._values()[1:])

    @cached_property
    def globals(self) -> tuple[Global, ...]:
        found: dict[tuple[str, str], list[Any]] = {}
        for i, ckpt in self._each():
            for g in ckpt.globals:
                row = found.setdefault((g.module, g.name), [0, f"{self._layout.files[i]}!{g.member or ''}", g.offset])
                row[0] += g.uses
        return tuple(Global(m, n, uses, member.rstrip("!"), at) for (m, n), (uses, member, at) in found.items())

    @cached_property
    def sources(self) -> tuple[ClassSource, ...]:
        return tuple(source for _, ckpt in self._each() for source in ckpt.sources)

    @property
    def whole_module(self) -> bool:
        return False

    @cached_property
    def storages(self) -> tuple[Storage, ...]:
        """Of all files; `file_offset` counts in the file of its tensors."""
        return tuple(storage for _, ckpt in self._each() for storage in ckpt.storages)

    @property
    def errors(self) -> Mapping[str, PthError]:
        wrong: dict[str, PthError] = {t.name: t.error for t in self.values() if t.error is not None}
        return MappingProxyType({**wrong, **self._whole.lost})

    @property
    def lost(self) -> Mapping[str, PthError]:
        """Names of the index that cannot be had, each with the reason. They are no part of the mapping."""
        return MappingProxyType(self._whole.lost)

    def _ties(self) -> dict[str, str]:
        told = {name: kept for _, ckpt in self._each() for name, kept in ckpt._ties().items()}
        return {name: kept for name, kept in told.items() if name not in self and kept in self}

    def _gone(self, prefix: str = "") -> dict[str, PthError]:
        layout = self._layout
        if layout.weights is not None:
            return {}
        heads = layout.prefixes or [""] * len(layout.files)
        return {
            file: read
            for file, head, read in zip(layout.files, heads, self._all, strict=True)
            if isinstance(read, PthError) and (head.startswith(prefix) or prefix.startswith(head))
        }

    @cached_property
    def root(self) -> Any:
        return dict(self.items())

    @property
    def constants(self) -> None:
        return None

    @property
    def root_values(self) -> Mapping[str, Any]:
        plain = (str, int, float, bool, type(None))
        said = {k: v for k, v in self._layout.metadata.items() if isinstance(v, plain) and k != TOTAL}
        return MappingProxyType({**said, **{k: v for k, v in self._common.items() if "/" not in k}})

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """The index's own, without the total; plain values that all files agree on; the others behind their file."""
        found: dict[str, Any] = {**self.root_values, **self._common}
        for i, ckpt in self._each():
            own = {k: v for k, v in ckpt.metadata.items() if k not in self._common}
            found |= {f"{self._layout.files[i]}/{k}": v for k, v in own.items()}
        return MappingProxyType(found)

    @property
    def _said(self) -> None:
        return None

    @cached_property
    def _common(self) -> dict[str, Any]:
        """Plain values of the same name in all files."""
        each = [ckpt.metadata for _, ckpt in self._each()]
        first = each[0] if each else {}
        return {k: v for k, v in first.items() if all(k in other and repr(other[k]) == repr(v) for other in each[1:])}

    # ---- what is asked of the whole ----

    def capacity(self) -> Capacity:
        """Of all files together: the ledger sums to their bytes and the index's. See `Checkpoint.capacity`."""
        from .capacity import capacity_of_several

        if self._ended:
            raise closed(self.path)
        parts = {i: ckpt.capacity() for i, ckpt in self._each()}
        unread = sum(size for i, size in enumerate(self._sizes) if i not in parts)
        more = {"names and headers": self._layout.index_nbytes, "other members": unread}
        places, files = [(place,) for place in self._whole.places], self._layout.files
        return capacity_of_several(self, places, parts, files, array("I", range(len(files))), more)

    def _listed(self) -> list[str]:
        return []

    def _stated(self) -> None:
        return None

    def audit(self, executor: Executor | None = None) -> AuditReport:
        """Of every file, and of what they and the index say differently: see `pthparse.audit`."""
        from .folders import audit_shards

        if self._ended:
            raise closed(self.path)
        return audit_shards(self, executor)

    def _path_of(self, i: int) -> str | None:
        """How whoever opens it names a part that is a file of its own, and is there."""
        file, read = self._layout.files[i], self._read.get(i)
        gone = isinstance(read, PthError) and read.code == MISSING
        return None if gone or file in self._layout.missing else self._layout.directory.where(file)

    def _judged(self, reports: Sequence[VerifyReport | PthError]) -> tuple[list[str], list[DamagedTensor]]:
        """Names of the tensors that are whole, and the others, by the verification of each part."""
        from .verifier import DamagedTensor, VerifyReport

        heads = self._layout.prefixes or [""] * len(reports)
        found = [(head, r) for head, r in zip(heads, reports, strict=True) if isinstance(r, VerifyReport)]
        damaged = {
            h + t.name: DamagedTensor(h + t.name, t.member, t.code, t.message) for h, r in found for t in r.damaged
        }
        lost = {n: DamagedTensor(n, None, e.code, e.message) for n, e in self.lost.items() if n not in damaged}
        return [head + name for head, r in found for name in r.whole], [*damaged.values(), *lost.values()]

    def verify(
        self,
        *,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        executor: Executor | None = None,
    ) -> VerifyReport:
        """Every file, by an executor if one is given: names of members begin with the file's. See `pthparse.verify`."""
        from .verifier import verify_shards

        if self._ended:
            raise closed(self.path)
        return verify_shards(self, threads, progress, executor)

    # ---- life ----

    @property
    def closed(self) -> bool:
        return self._ended

    def close(self) -> None:
        self._ended = True
        for read in list(self._read.values()):
            if isinstance(read, Checkpoint):
                read.close()

    def __repr__(self) -> str:
        state = "closed " if self._ended else ""
        return f"<{state}{type(self).__name__} {escape(self._layout.path)!r}: {len(self._layout.files)} parts>"


def n_files(n: int) -> str:
    return f"{n:,} file{'' if n == 1 else 's'}"


def _missing(path: str) -> TruncatedError:
    return TruncatedError(MISSING, "the file is not there, or may not be opened", path=path)


def not_opened(error: OSError, path: str) -> PthError:
    """What the system says to a file, as something about the model."""
    if isinstance(error, FileNotFoundError):
        return _missing(path)
    return PthError(UNREADABLE, f"the file cannot be opened: {error.strerror or error}", path=path)


def _not_there(name: str, file: str, path: str | None) -> PthError:
    told = f"the index says that tensor '{escape(name)}' is in {escape(file)}, which has none of that name"
    return FormatError("shard-tensor", told, path=path)


def _alike(a: Tensor, b: Tensor) -> str:
    """Are they the same elements?"""
    if a.shape != b.shape or a.dtype != b.dtype or a.kind != b.kind:
        return "of another shape or dtype"
    try:
        first, second = _digest(a), _digest(b)
    except PthError as e:
        return f"not to be compared ({e.message})"
    return "equal" if first == second else "other elements"


def _digest(t: Tensor) -> bytes:
    import hashlib

    from .pieces import blocks
    from .walks import walk_of

    digest = hashlib.blake2b()
    for block in blocks(walk_of(t).lie, t._home.box.source):
        digest.update(block.reshape(-1).data)
    return digest.digest()


class _Whole:
    """All names, once all files have been read: where each is, and what the files and the index say differently.

    places: for each name the number of its file, and its place in that file's list.
    lost: names of the index that cannot be had. twice: names, with the file that has them here and another one.
    """

    def __init__(self, layout: Layout, read: list[Checkpoint | PthError]) -> None:
        self.read = read
        self.names: list[str] = []
        self.places: list[tuple[int, int]] = []
        self.lost: dict[str, PthError] = {}
        self.twice: list[tuple[str, int, int]] = []
        self.findings: list[Finding] = []
        for file, found in zip(layout.files, read, strict=True):
            if isinstance(found, PthError) and file not in layout.missing:
                code = MISSING if found.code == MISSING else UNREADABLE
                self._find(code, file, _core.FINDINGS[code][1] + (f": {found.message}" if code != MISSING else ""))
        indexes = [found._index if isinstance(found, Checkpoint) else {} for found in read]
        if layout.prefixes:
            indexes = [
                {prefix + n: at for n, at in index.items()}
                for prefix, index in zip(layout.prefixes, indexes, strict=True)
            ]
        owner: dict[str, int] = {}
        alike = PthError("shard-tensor", _core.FINDINGS["shard-tensor"][1])
        for name, number in (layout.weights or {}).items():
            here = read[number]
            if isinstance(here, PthError):
                self.lost[name] = here
            elif name in indexes[number]:
                owner[name] = number
                self._add(name, number, indexes[number][name])
            else:
                if len(self.findings) < MOST_FINDINGS:
                    alike = _not_there(name, layout.files[number], here.path)
                self.lost[name] = alike  # beyond them, one error stands for all
                self._find("shard-tensor", layout.files[number], f"{_core.FINDINGS['shard-tensor'][1]}: {name!r}")
        for number, index in enumerate(indexes):
            for name, at in index.items():
                if owner.get(name) == number:
                    continue
                if name in owner:
                    self.twice.append((name, owner[name], number))
                else:
                    owner[name] = number
                    self._add(name, number, at)
                if layout.weights is not None:
                    told = f"{_core.FINDINGS['shard-unlisted'][1]}: {name!r}"
                    self._find("shard-unlisted", layout.files[number], told)
        self._total(layout)

    def _add(self, name: str, number: int, at: int) -> None:
        self.names.append(name)
        self.places.append((number, at))

    def _find(self, code: str, member: str | None, message: str) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(code, _core.FINDINGS[code][0], member, None, message))

    def _total(self, layout: Layout) -> None:
        said = layout.metadata.get(TOTAL)
        if said is None or self.lost:
            return
        total = 0
        for number, at in self.places:
            ckpt = self.read[number]
            assert isinstance(ckpt, Checkpoint)
            total += ckpt._make(at, "").nbytes
        if not isinstance(said, (int, float)) or isinstance(said, bool) or said != total:
            told = f"{_core.FINDINGS['shard-size'][1]}: {str(said)[:40]}, and there are {total} bytes"
            self._find("shard-size", layout.index, told)


def open_several(layout: Layout, limits: Any, mapped: bool) -> ShardedCheckpoint:
    kind: type[ShardedCheckpoint] = ShardedCheckpoint
    if layout.prefixes:
        from .deepspeed import DeepSpeedCheckpoint

        kind = DeepSpeedCheckpoint
    model = kind(layout, limits, mapped)
    if layout.weights is None:
        model._whole  # noqa: B018 - without an index only the files say what is in them
    return model
