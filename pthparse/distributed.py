"""Distributed checkpoints: directories that `torch.distributed.checkpoint` writes, by one process or many.

`.metadata` is a pickle that says of every tensor its size and its chunks, and of every chunk the file and the place in
it (torch/distributed/checkpoint/metadata.py, filesystem.py). At that place lies a whole `torch.save` archive of the
chunk, or, in the other layout, the file as a whole is a safetensors file. Nothing of it is executed: the objects of the
pickle are looked at as the inert values that stand for them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from . import _core, formats
from .checkpoint import Checkpoint, Writer
from .chunked import Chunk, ChunkedTensor
from .directories import Directory, Located
from .errors import FormatError, LimitError, PthError, TruncatedError, UnsupportedError, escape
from .formats.base import MOST_FINDINGS, Finding
from .sharded import Shard, ShardedCheckpoint, n_files, not_opened
from .shards import ENDING, METADATA, OF_A_RANK, UNFINISHED, Found, Layout, is_plain, there
from .source import SliceSource
from .values import Opaque

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .auditor import AuditReport
    from .capacity import Capacity
    from .source import Source
    from .tensor import Tensor
    from .verifier import DamagedTensor, VerifyReport

LOCAL = b"PK\3\4"  # an archive begins
MODULE = "torch.distributed.checkpoint."
DTYPES = {row[0]: i for i, row in enumerate(_core.DTYPES)}


class Plan:
    """What the metadata say, each number of them checked.

    parts: (file, first byte, bytes, the tensor's name there or None) of each chunk and value.
    """

    def __init__(self, folder: Directory, limits: Any) -> None:
        self.folder, self.limits = folder, limits
        self.parts: list[tuple[str, int, int, str]] = []
        self.tensors: dict[str, tuple[tuple[int, ...], int, bool, list[Chunk]]] = {}
        self.values: dict[str, int] = {}
        self.paths: dict[str, tuple[Any, ...]] = {}
        self.lost: dict[str, PthError] = {}
        self.found = Found()
        self.nbytes = 0  # of the metadata
        self.version = ""
        self.proto = 0

    # ---- the pickle ----

    def read(self) -> None:
        names = self.folder.names()
        ranks = [n for n in names if OF_A_RANK.fullmatch(n)]
        if METADATA in names:
            ranks = [METADATA]
        elif not ranks:
            text = (
                "an unfinished save: its metadata were not put in place"
                if UNFINISHED in names
                else "no .metadata in it"
            )
            raise UnsupportedError(
                "dcp-unfinished", f"the directory of a distributed checkpoint: {text}", path=self.folder.path
            )
        for name in ranks:
            self.add(name)

    def add(self, name: str) -> None:
        path = self.folder.shown(name)
        source = self.folder.open(name)
        try:
            box = formats.read(source, self.limits)
            self.nbytes += source.size
            root = Checkpoint(box).root
        finally:
            source.close()
        if not isinstance(root, Opaque) or root.cls != f"{MODULE}metadata.Metadata":
            raise FormatError("dcp-metadata", "no metadata of a distributed checkpoint", path=path)
        self.version = str(root.get("version") or "")[:40]
        self.proto = box.pickles[0].graph.proto
        tensors, places = root.get("state_dict_metadata"), root.get("storage_data")
        paths = root.get("planner_data")
        if not isinstance(tensors, dict) or not isinstance(places, dict):
            raise FormatError("dcp-metadata", "its parts are not as they are written", path=path)
        where = self.places(places)
        for fqn, said in tensors.items():
            if not isinstance(fqn, str) or not isinstance(said, Opaque):
                raise FormatError("dcp-metadata", "a name that is no text", path=path)
            steps = paths.get(fqn) if isinstance(paths, dict) else None
            name = self.name(fqn, steps)
            try:
                self.item(name, fqn, said, where)
            except PthError as e:
                self.lost[name] = e.at(path)
        if len(self.tensors) + len(self.values) > self.limits.max_names:
            raise LimitError("max_names", f"more than {self.limits.max_names} names (max_names)", path=path)

    def name(self, fqn: str, steps: Any) -> str:
        """As the unsharded checkpoint would have it: keys of containers joined by '/'."""
        good = isinstance(steps, tuple) and steps and all(isinstance(s, (str, int)) for s in steps)
        path = tuple(steps) if good else (fqn,)
        name = "/".join(map(str, path))
        if self.paths.get(name, path) != path or name in self.values:
            name, path = fqn, (fqn,)
        self.paths[name] = path
        return name

    def places(self, found: dict[Any, Any]) -> dict[Any, tuple[str, int, int]]:
        """(name, offsets or None) -> (file, first byte, bytes)"""
        out: dict[Any, tuple[str, int, int]] = {}
        for key, info in found.items():
            if not isinstance(key, Opaque) or not isinstance(info, Opaque):
                continue
            file, at, length = info.get("relative_path"), info.get("offset"), info.get("length")
            fqn, offset = key.get("fqn"), key.get("offset")
            if isinstance(fqn, str) and isinstance(file, str) and _count(at) and _count(length):
                if info.get("transform_descriptors"):
                    file = ""  # compressed, or changed in another way
                out[fqn, _ints(offset)] = (file, at, length)
        return out

    # ---- its items ----

    def item(self, name: str, fqn: str, said: Opaque, where: Mapping[Any, tuple[str, int, int]]) -> None:
        kind = said.cls.removeprefix(f"{MODULE}metadata.")
        if kind == "BytesStorageMetadata":
            self.values[name] = self.part(fqn, where.get((fqn, None)))
            return
        if kind != "TensorStorageMetadata":
            raise UnsupportedError("dcp-metadata", f"{escape(said.cls)[:100]} is not read here")
        shape, chunks, properties = _ints(said.get("size")), said.get("chunks"), said.get("properties")
        state = properties.state if isinstance(properties, Opaque) else None
        if isinstance(state, dict):
            state = tuple(state.get(k) for k in ("dtype", "layout", "requires_grad"))
        if shape is None or not isinstance(chunks, list) or not isinstance(state, tuple) or len(state) < 3:
            raise FormatError("dcp-metadata", "its size, chunks or properties are not as they are written")
        if len(shape) > self.limits.max_ndim or math.prod(shape) >= 1 << 62:
            raise LimitError("max_ndim", f"{len(shape)} dimensions, {math.prod(shape)} elements")
        dtype = DTYPES.get(state[0]) if isinstance(state[0], str) else None
        if dtype is None:
            raise UnsupportedError("tensor-dtype", f"the dtype {str(state[0])[:60]}")
        found = []
        for chunk in chunks:
            offsets, sizes = (
                (_ints(chunk.get(k)) for k in ("offsets", "sizes")) if isinstance(chunk, Opaque) else (None, None)
            )
            if offsets is None or sizes is None:
                raise FormatError("dcp-chunk", "a chunk is not as it is written")
            place = where.get((fqn, offsets)) or (where.get((fqn, None)) if len(chunks) == 1 else None)
            found.append(Chunk(offsets, sizes, self.part(fqn, place)))
        if name in self.tensors:  # of another process
            before = self.tensors[name]
            if before[:2] != (shape, dtype):
                raise FormatError("dcp-metadata", "two processes say different things of it")
            known = {c.offsets for c in before[3]}
            before[3].extend(c for c in found if c.offsets not in known)
        else:
            self.tensors[name] = (shape, dtype, state[2] is True, found)

    def part(self, fqn: str, place: tuple[str, int, int] | None) -> int:
        if place is None:
            raise FormatError("dcp-chunk", "the metadata do not say where a chunk of it is")
        file, at, length = place
        if file == "":
            raise UnsupportedError("dcp-transform", "it was compressed or changed when it was saved")
        if not is_plain(file, METADATA, self.found.find):
            raise FormatError("shard-name", "the metadata name a file outside of the directory")
        self.parts.append((file, at, length, fqn))
        return len(self.parts) - 1


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _ints(value: Any) -> tuple[int, ...] | None:
    good = isinstance(value, (tuple, list)) and all(_count(x) for x in value)
    return tuple(value) if good else None


class DistributedCheckpoint(ShardedCheckpoint):
    """The directory of a distributed checkpoint as one: tensors in chunks are put together when they are asked for.

    A Mapping as a `Checkpoint` is. Names are those that the unsharded checkpoint would have. A tensor that was saved
    whole is a `Tensor`, one that was cut a `ChunkedTensor`, whose `chunks` are tensors of their own.
    """

    def __init__(self, asked: Located, limits: Any, mapped: bool) -> None:
        text, directory, _ = asked
        plan = Plan(directory, limits)
        plan.read()
        files = list(dict.fromkeys(p[0] for p in plan.parts))
        good = there(directory, files, plan.found.find, "the metadata name a file that is not there")
        labels = tuple(f"{file}@{at}" for file, at, _, _ in plan.parts)
        missing = frozenset(x for x, p in zip(labels, plan.parts, strict=True) if p[0] not in good)
        layout = Layout(text, directory, METADATA, plan.nbytes, labels, missing, None, {}, tuple(plan.found.findings))
        super().__init__(layout, limits, mapped)
        self._plan, self._files = plan, files
        self._sources: dict[str, Source] = {}
        self._whole_files: dict[str, Checkpoint] = {}

    # ---- the parts ----

    def _source(self, file: str) -> Source:
        with self._lock:
            source = self._sources.get(file)
            if source is None:
                source = self._sources[file] = self._opened(file)
                source.mapped = self._mapped
            return source

    def _open(self, i: int) -> Checkpoint | PthError:
        file, at, length, _ = self._plan.parts[i]
        path = self._plan.folder.shown(file)
        if self._layout.files[i] in self._layout.missing:
            return TruncatedError("shard-missing", "the file is not there, or may not be opened", path=path)
        try:
            source = self._source(file)
            if bytes(source.window(at, 4)) == LOCAL:
                if at + length > source.size:
                    end = f"a chunk ends at byte {at + length} of {source.size}"
                    raise TruncatedError("dcp-chunk", end, path=path, offset=at)
                return Checkpoint(formats.read(SliceSource(source, at, length), self._limits))
            if self._begins_tensors(file, at) and source.size > at:
                return self._file(file, source, at)
            raise FormatError("dcp-chunk", f"no archive begins at byte {at}", path=path, offset=at)
        except PthError as e:
            return e.at(path)
        except OSError as e:
            return not_opened(e, path)

    def _file(self, file: str, source: Source, at: int) -> Checkpoint:
        with self._lock:
            found = self._whole_files.get(file)
        if found is None:
            found = Checkpoint(formats.read(SliceSource(source, at, source.size - at), self._limits))
            if at and found.format != "safetensors":
                raise FormatError("dcp-chunk", f"no archive begins at byte {at}", path=source.path, offset=at)
            with self._lock:
                found = self._whole_files.setdefault(file, found)
        return found

    @cached_property
    def _overlapping(self) -> set[int]:
        """Parts that begin before the end of another one."""
        found: set[int] = set()
        reach: dict[str, int] = {}
        parts = self._plan.parts
        for i in sorted(range(len(parts)), key=lambda i: parts[i][:3]):
            file, at, length, _ = parts[i]
            if at < reach.get(file, 0):
                found.add(i)
            end = at if self._begins_tensors(file, at) else at + length
            reach[file] = max(reach.get(file, 0), end)
        return found

    @cached_property
    def _last(self) -> dict[str, int]:
        """Where the last part of each file begins."""
        found: dict[str, int] = {}
        for file, at, _, _ in self._plan.parts:
            found[file] = max(found.get(file, 0), at)
        return found

    def _begins_tensors(self, file: str, at: int) -> bool:
        """In the other layout the tensors of a file are one safetensors file behind all values; none has a place."""
        if at != self._last[file]:
            return False
        try:
            return bytes(self._source(file).window(at, 4)) != LOCAL
        except (PthError, OSError):  # whoever reads it says so
            return False

    def _each(self) -> Iterator[tuple[int, Checkpoint]]:
        """Those that can be read, each once, and none that shares bytes with one before it."""
        seen: set[int] = set()
        for i, found in enumerate(self._all):
            if isinstance(found, Checkpoint) and id(found) not in seen and i not in self._overlapping:
                seen.add(id(found))
                yield i, found

    def _chunk(self, chunk: Chunk, name: str) -> Tensor:
        """The tensor of a part, under a name."""
        ckpt, fqn = self._shard(chunk.part), self._plan.parts[chunk.part][3]
        at = ckpt._index.get("" if ckpt.format == "zip" else fqn)
        if at is None:
            raise FormatError("dcp-chunk", f"there is no tensor {escape(fqn)[:200]!r} in it", path=ckpt.path)
        return ckpt._make(at, name)

    @cached_property
    def _sizes(self) -> list[int]:
        return [p[2] for p in self._plan.parts]

    # ---- names ----

    @cached_property
    def _names(self) -> list[str]:
        return list(self._plan.tensors)

    @property
    def _list(self) -> list[str]:  # type: ignore[override]
        return self._names

    def _make(self, at: int, name: str) -> Any:
        shape, dtype, grad, chunks = self._plan.tensors[self._names[at]]
        if len(chunks) == 1 and chunks[0].sizes == shape:
            try:
                t = self._chunk(chunks[0], name)
                if t.error is None and t.shape == shape and t._dtype == dtype:
                    return t
            except PthError:  # the chunked one says so when it is asked
                pass
        return ChunkedTensor(name, shape, dtype, grad, chunks, self._chunk, self._limits)

    def __getitem__(self, name: str) -> Any:
        if name in self._plan.lost:
            raise self._plan.lost[name]
        return Checkpoint.__getitem__(self, name)

    @property
    def lost(self) -> Mapping[str, PthError]:
        return MappingProxyType(self._plan.lost)

    def _gone(self, prefix: str = "") -> dict[str, PthError]:
        return {}

    @property
    def errors(self) -> Mapping[str, PthError]:
        wrong: dict[str, PthError] = {}
        for t in self.values():
            error = t.error
            if error is not None:
                wrong[t.name] = error
        return MappingProxyType({**wrong, **self._plan.lost})

    # ---- the whole ----

    @property
    def format(self) -> str:
        return "distributed"

    @cached_property
    def _file_sizes(self) -> list[int]:
        out = []
        for file in self._files:
            try:
                out.append(self._plan.folder.size(file))
            except (PthError, OSError):
                out.append(0)
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of all files and of the metadata."""
        return sum(self._file_sizes) + self._plan.nbytes

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files; a tensor counts in each that has a chunk of it."""
        counts = {file: [0, 0] for file in self._files}
        for shape, dtype, _, chunks in self._plan.tensors.values():
            for file in {self._plan.parts[c.part][0] for c in chunks}:
                counts[file][0] += 1
            for c in chunks:
                counts[self._plan.parts[c.part][0]][1] += math.prod(c.sizes) * _core.DTYPES[dtype][2]
            del shape
        gone = {file for file, size in zip(self._files, self._file_sizes, strict=True) if not size}
        return tuple(
            Shard(
                file,
                self._plan.folder.shown(file),
                size,
                counts[file][0],
                counts[file][1],
                "the file is not there" if file in gone else None,
            )
            for file, size in zip(self._files, self._file_sizes, strict=True)
        )

    @cached_property
    def _between(self) -> list[Finding]:
        found = Found()
        for name, e in self._plan.lost.items():
            found.find("shard-tensor", METADATA, f"{name!r}: {e.message}")
        for i in sorted(self._overlapping)[:MOST_FINDINGS]:
            file, at, _, fqn = self._plan.parts[i]
            found.find("dcp-overlap", file, f"{_core.FINDINGS['dcp-overlap'][1]}: {fqn!r} at byte {at}")
        return found.findings

    @cached_property
    def writer(self) -> Writer:
        version = f" (metadata {escape(self._plan.version)})" if self._plan.version else ""
        text = f"torch.distributed.checkpoint{version}, in {n_files(len(self._files))}"
        return Writer(text, self._plan.proto, (f"a {METADATA} beside files that end in {ENDING}",))

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """Path -> plain value, of everything that is no tensor: each was saved as a part of its own."""
        found: dict[str, Any] = {}
        plain = (str, int, float, bool, type(None))
        for name, part in self._plan.values.items():
            try:
                ckpt = self._shard(part)
                root = ckpt.root
                if isinstance(root, plain):
                    found[name] = root
                else:
                    found |= {f"{name}/{k}": v for k, v in ckpt.metadata.items()}
            except PthError as e:
                found[name] = f"<unreadable: {e.message}>"
        return MappingProxyType(found)

    @property
    def root_values(self) -> Mapping[str, Any]:
        return MappingProxyType({k: v for k, v in self.metadata.items() if "/" not in k})

    @cached_property
    def root(self) -> Any:
        """The containers that were saved, put together again: dicts by the paths of the metadata."""
        top: dict[Any, Any] = {}
        items: Iterator[tuple[str, Any]] = iter(
            [*((n, self[n]) for n in self._names), *((n, self._shard(p).root) for n, p in self._plan.values.items())]
        )
        for name, value in items:
            here = top
            *steps, last = self._plan.paths[name]
            for step in steps:
                inner = here.setdefault(step, {})
                here = inner if isinstance(inner, dict) else here
            here[last] = value
        return top

    def capacity(self) -> Capacity:
        from .capacity import capacity_of_several
        from .source import closed

        if self._ended:
            raise closed(self.path)
        parts = {i: ckpt.capacity() for i, ckpt in self._each()}
        number = {id(ckpt): i for i, ckpt in self._each()}
        files = {file: i for i, file in enumerate(self._files)}
        file_of = array("I", [files[part[0]] for part in self._plan.parts])
        places = []
        for _, _, _, chunks in self._plan.tensors.values():
            pieces = []
            for c in chunks:
                ckpt = self._read.get(c.part)
                if isinstance(ckpt, Checkpoint) and id(ckpt) in number:
                    at = ckpt._index.get("" if ckpt.format == "zip" else self._plan.parts[c.part][3])
                    pieces += [(number[id(ckpt)], at)] if at is not None else []
            places.append(pieces)
        counted = sum(part.file_bytes for part in parts.values())
        more = {"names and headers": self._plan.nbytes, "trailing": max(0, sum(self._file_sizes) - counted)}
        return capacity_of_several(self, places, parts, tuple(self._files), file_of, more)

    def audit(self, executor: Executor | None = None) -> AuditReport:
        """Of every file of the directory: see `pthparse.audit`. The classes of the metadata are for `review`."""
        from .folders import audit_folder
        from .source import closed

        if self._ended:
            raise closed(self.path)
        return audit_folder(Located(self._layout.path, self._layout.directory, None), self._limits, executor)

    def _path_of(self, i: int) -> str | None:
        return None

    def _judged(self, reports: Sequence[VerifyReport | PthError]) -> tuple[list[str], list[DamagedTensor]]:
        from .verifier import DamagedTensor

        whole, damaged = [], [DamagedTensor(n, None, e.code, e.message) for n, e in self.lost.items()]
        for name, t in self.items():
            error: PthError | None = t.error
            parts = [c.part for c in self._plan.tensors[name][3]]
            wrong = next((d for i in parts for d in getattr(reports[i], "damaged", ())), None)
            if error is not None:
                damaged.append(DamagedTensor(name, None, error.code, error.message))
            elif wrong is not None:
                damaged.append(DamagedTensor(name, wrong.member, wrong.code, wrong.message))
            else:
                whole.append(name)
        return whole, damaged

    def close(self) -> None:
        super().close()
        for source in self._sources.values():
            source.close()
