"""A checkpoint written as safetensors, npz or .npy: checked, streamed, read back, and there only when it is whole."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from . import _core, transfer
from .casts import DTYPES, FLOATS, TARGETS, WHOLE, cast_of
from .checkpoint import Branch, nearest, unread
from .checkpoint import open as open_checkpoint
from .chunked import ChunkedTensor
from .errors import FormatError, PthError, UnsupportedError, escape, guard
from .mosaics import Mosaic
from .outputs import Outputs, sync
from .pieces import Lie, lie_of_array
from .record import Record
from .source import FileSource, MemorySource, SliceSource, Source
from .tensor import NO_ARRAY, Tensor, numpy_dtype
from .transfer import Change, Move
from .values import preview
from .walks import lie_of, line_of, locate
from .writers import FORMATS, SUFFIXES, Entry, Format, Layout, Wanted
from .writers.base import not_written
from .writers.safetensors import encodable

if TYPE_CHECKING:
    from .limits import Limits

SHARED = ("first", "copy", "refuse")
UNITS = {"": 1, "B": 1, **{f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}}
UNITS |= {f"{p}IB": 1024**i for i, p in enumerate("KMGT", 1)}
SIZES = {dtype: int(_core.DTYPES[row][2]) for dtype, row in DTYPES.items()}
MOST_TOLD = 1000  # tensors that one error names
MOST_DIGITS = 30  # of a size
SYNCING = 2  # files that are synced at once

Progress = Callable[[int, int], None]
Dtype = str | Mapping[str, str]
Rename = Mapping[str, str] | Iterable[tuple[str | re.Pattern[str], str]]
Names = str | Iterable[str]


class WrittenFile(Record):
    """A file that was written; `nbytes` is its size."""

    path: str
    nbytes: int
    tensors: int


class Dropped(Record):
    """A tensor that is the same as another one, and was written once: under the name `kept`."""

    name: str
    kept: str


class Renamed(Record):
    """A tensor that has another name in what was written."""

    name: str
    now: str


class Recast(Record):
    """A tensor whose elements were cast; `name` is that in what was written."""

    name: str
    dtype: str
    now: str


class Skipped(Record):
    """A tensor that could not be written, and why."""

    name: str
    reason: str


class Conversion(Record):
    """What was written.

    Attributes
    ----------
    source : str or None
        Path of the checkpoint.
    path : str
        Where to: a file or a folder.
    format : str
        'safetensors', 'npz' or 'npy'.
    files : tuple of WrittenFile
        An index is the last of them.
    tensors : int
    nbytes : int
        Of their elements, as written.
    dropped : tuple of Dropped
        Tied tensors that are stored under another one's name.
    renamed : tuple of Renamed
    cast : tuple of Recast
    skipped : tuple of Skipped
        What has no array, or is damaged (with `skip=True`).
    raw : tuple of str
        Tensors that are stored as bare bytes, since the format has no type for them (with `raw=True`).
    left_out : int
        Tensors that were not asked for: by `include`, `exclude`, or since they are no part of the state dict.
    verified : bool
        Was every byte read back and compared?
    """

    source: str | None
    path: str
    format: str
    files: tuple[WrittenFile, ...]
    tensors: int
    nbytes: int
    dropped: tuple[Dropped, ...]
    renamed: tuple[Renamed, ...]
    cast: tuple[Recast, ...]
    skipped: tuple[Skipped, ...]
    raw: tuple[str, ...]
    left_out: int
    verified: bool


def convert(
    src: str | os.PathLike[str] | bytes | BinaryIO | Mapping[str, Tensor],
    dst: str | os.PathLike[str],
    *,
    to: str | None = None,
    max_shard_size: int | str | None = None,
    dtype: Dtype | None = None,
    include: Names = (),
    exclude: Names = (),
    rename: Rename = (),
    shared: str | None = None,
    all: bool = False,
    skip: bool = False,
    raw: bool = False,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    verify: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
    limits: Limits | None = None,  # type: ignore[valid-type]
) -> Conversion:
    """Writes the tensors of a checkpoint as safetensors, npz, or a folder of .npy files. Nothing of it is executed.

    Memory stays at a few MiB whatever the sizes of tensors. Files are written under temporary names
    (`.NAME.pthparse-XXXXXXXX.tmp`, in the same folder), synced, read back, compared, and then renamed: a crash or a
    full disk leaves nothing under their names. A new folder appears with everything in it; in one that is there, shards
    get their names one by one and the index last.

    Parameters
    ----------
    src : str, os.PathLike, bytes, seekable binary file, or Mapping of str to Tensor
        What `pthparse.open` opens, or what it gave: a checkpoint, a branch of it, a dict of some of its tensors.
    dst : str or os.PathLike
        'NAME.safetensors' or 'NAME.npz', or a folder: with 'model.safetensors' in it, or the .npy files.
    to : str, optional
        'safetensors', 'npz' or 'npy', where the end of `dst` does not say it.
    max_shard_size : int or str, optional
        safetensors: bytes of tensors in one file ('5GB' is 5 * 10**9, '5GiB' 5 * 2**30). What is more goes into
        several, 'NAME-00001-of-00003.safetensors', with an index as Hugging Face's. A larger tensor has its own file.
    dtype : str, or mapping of str to str, optional
        Casts floating tensors: 'bfloat16', or by name or pattern, {'*.norm.*': 'float32', '*': 'float16'}, a whole
        name before the first pattern that fits. To nearest, ties to even, and what is too large as torch 2.13 does it.
        Integers and bool are cast only where a key is their whole name; complex tensors never.
    include, exclude : str or iterable of str
        Patterns over names ('layers.*.weight'). The default is all, and none.
    rename : mapping of str to str, or iterable of (regular expression, replacement)
        Whole names, or `re.sub` on each name, in this order: [(r'^module\\.', '')].
    shared : str, optional
        Tied tensors, which are the same elements of one storage. 'first': stored once, under the first name; in
        safetensors `__metadata__` says which others it had, as `safetensors.torch.save_model` does. 'copy': each is
        stored. 'refuse': an error, also for tensors that only overlap. The default: 'first' for safetensors, else
        'copy'.
    all : bool
        Every tensor of a checkpoint, optimizer state and all; not only its state dict.
    skip : bool
        Leave out what has no array (sparse, quantized, nested, meta, wrappers), what the format has no type for, and
        what is damaged. The default: an error that names them all.
    raw : bool
        npz and npy: store what numpy has no type for as bare bytes ('V2' for bfloat16), as numpy.save does; they come
        back by `.view(ml_dtypes.bfloat16)`. The default: an error that says so.
    metadata : mapping of str to str, optional
        safetensors: to be kept in `__metadata__`, beside {'format': 'pt'}.
    overwrite : bool
        Replace what is there. It may never be the source.
    verify : bool
        Read everything back and compare it with the source, byte by byte, before it gets its name.
    threads : int, optional
        At most four, and by default as many as there are processors.
    progress : callable, optional
        Is called with the bytes done and the bytes in all.
    limits : Limits, optional
        What the file may ask for.

    Raises
    ------
    PthError
        Something in the checkpoint makes it impossible: UnsupportedError for what has no place in the format.
    ValueError, KeyError
        The arguments contradict each other; there is no tensor of a name.
    FileExistsError
        `dst` is there. OSError: it cannot be written.
    """
    with ExitStack() as stack:
        if isinstance(src, Mapping):
            names: Mapping[str, Tensor] = src
        else:
            names = stack.enter_context(open_checkpoint(src, limits=limits, mmap=False))
        kind, folder, stem, whole = _destination(os.fspath(dst), to)
        form = FORMATS[kind](raw)
        if kind != "safetensors" and (max_shard_size is not None or metadata):
            raise ValueError(f"{kind} has neither shards nor metadata")
        if shared not in (None, *SHARED):
            raise ValueError(f"shared: one of {', '.join(SHARED)}, not {shared!r}")
        plan = Plan(form, names)
        plan.choose(all, _list(include), _list(exclude))
        plan.cast(dtype)
        plan.examine(skip)
        plan.rename(rename)
        plan.tie(shared or ("first" if form.remembers else "copy"))
        notes = {"format": "pt", **(metadata or {})} if form.remembers else {}
        if any(not isinstance(text, str) or not encodable(text) for pair in notes.items() for text in pair):
            raise ValueError("metadata: texts by texts alone, all of which UTF-8 has")
        most = None if max_shard_size is None else nbytes_of(max_shard_size)
        work = _Writing(plan, folder, stem, whole, overwrite, verify, threads, progress)
        try:
            files = work.run(notes, most)
        except PthError as e:
            raise e.at(getattr(names, "path", None)) from None
    return Conversion(
        source=getattr(names, "path", None),
        path=os.fspath(dst),
        format=kind,
        files=tuple(files),
        tensors=len(plan.items),
        nbytes=sum(item.entry.nbytes for item in plan.items),
        dropped=tuple(Dropped(name, kept) for name, kept in plan.ties.items()),
        renamed=tuple(Renamed(i.was, i.entry.name) for i in plan.items if i.was != i.entry.name),
        cast=tuple(Recast(i.entry.name, i.dtype, i.entry.dtype) for i in plan.items if i.dtype != i.entry.dtype),
        skipped=tuple(plan.skipped),
        raw=tuple(i.entry.name for i in plan.items if form.is_raw(i.entry.dtype)),
        left_out=plan.left_out,
        verified=verify,
    )


def nbytes_of(size: int | str) -> int:
    """'5GB', '500MiB' or a number, as bytes. ValueError: it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(size).strip())
    unit = UNITS.get(found[2].upper()) if found else None
    nbytes = 0
    if found is not None and unit is not None and len(found[1]) <= MOST_DIGITS:
        nbytes = int(float(found[1]) * unit) if "." in found[1] else int(found[1]) * unit
    if nbytes <= 0:
        raise ValueError(f"a size is '5GB', '500MiB' or a number of bytes, not {size!r}")
    return nbytes


def _list(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _destination(dst: str, to: str | None) -> tuple[str, Path, str, bool]:
    """Format, folder, name of the file without its end; is the folder a part of the result?"""
    if not dst:
        raise ValueError("dst: the name of a file or a folder is wanted")
    path = Path(dst)
    suffix = path.suffix.lower()
    kind = to or SUFFIXES.get(suffix) or "safetensors"
    if kind not in FORMATS:
        raise ValueError(f"to: one of {', '.join(FORMATS)}, not {to!r}")
    named = SUFFIXES.get(suffix)
    if named == kind and not dst.endswith("/") and not path.is_dir():
        return kind, path.parent, path.name[: -len(suffix)], False
    if to is None and suffix and not path.is_dir() and not dst.endswith("/"):
        raise ValueError(f"{escape(dst)}: ends neither in .safetensors nor in .npz: say what format it is to have")
    if kind == "npz":
        raise ValueError(f"{escape(dst)}: a file whose name ends in .npz is wanted")
    return kind, Path(os.path.realpath(path)), "model", True


class Item(NamedTuple):
    """A tensor on its way: its name and dtype in the source, the tensor with the elements, what it becomes.

    lie: where the elements are, if that was looked up and none of them had to be brought into memory for it. at: the
    first byte of those that are copied as they lie in the file.
    """

    was: str
    dtype: str
    t: Any
    entry: Entry
    lie: Lie | Mosaic | None = None
    at: int | None = None


UNSEEN = Entry("", "", (), 0)  # of what was not looked at yet


class Plan:
    """Which tensors are written, as what, under which names. Nothing is written here."""

    def __init__(self, form: Format, names: Mapping[str, Tensor]) -> None:
        self.form, self.names = form, names
        self.items: list[Item] = []
        self.skipped: list[Skipped] = []
        self.ties: dict[str, str] = {}
        self.left_out = 0
        self.casts: dict[str, str] = {}  # of which tensor: to what
        self.missing: dict[str, str] = {}  # of names and files of a model in several: why they cannot be had

    def choose(self, everything: bool, include: Sequence[str], exclude: Sequence[str]) -> None:
        names = self.names
        if not everything and not isinstance(names, Branch):
            names = getattr(names, "state_dict", lambda: names)()
        self.left_out = len(self.names) - len(names)
        lost = dict(getattr(names, "lost", {}))
        for pattern in (*include, *exclude):
            if not any(fnmatchcase(name, pattern) for name in (*names, *lost)):
                raise KeyError(f"no tensor matches '{escape(pattern)}'{nearest(pattern, list(names))}")

        def wanted(name: str) -> bool:
            kept = not include or any(fnmatchcase(name, p) for p in include)
            return kept and not any(fnmatchcase(name, p) for p in exclude)

        self.missing = {name: f"cannot be had: {e}" for name, e in lost.items() if wanted(name)}
        for file, e in unread(names).items():
            if file not in lost:
                self.missing[file] = f"is a file of the model, with tensors that nobody knows, and cannot be had: {e}"
        for name, t in names.items():
            if not wanted(name):
                self.left_out += 1
                continue
            dtype = str(getattr(t, "dtype", ""))
            self.items.append(Item(name, dtype, t, UNSEEN))
        if not self.items and not self.missing:
            raise UnsupportedError("no-tensors", "there are no tensors to write", path=self._path)

    @property
    def _path(self) -> str | None:
        return getattr(self.names, "path", None)

    def cast(self, dtype: Dtype | None) -> None:
        """Finds what each tensor is cast to."""
        if dtype is None:
            return
        rules = dict(dtype) if isinstance(dtype, Mapping) else {"*": dtype}
        rules = {pattern: str(wanted).removeprefix("torch.") for pattern, wanted in rules.items()}
        for wanted in rules.values():
            if wanted not in TARGETS:
                raise ValueError(f"dtype: one of {', '.join(TARGETS)}, not {wanted!r}")
        for pattern in rules:
            if not any(fnmatchcase(item.was, pattern) or item.was == pattern for item in self.items):
                raise KeyError(f"no tensor matches '{escape(pattern)}'")
        for item in self.items:
            named = rules.get(item.was)
            if named is None and item.dtype in FLOATS:
                named = next((d for p, d in rules.items() if fnmatchcase(item.was, p)), None)
            if named is None or named == item.dtype or item.dtype not in FLOATS | WHOLE:
                continue
            self.casts[item.was] = named

    def examine(self, skip: bool) -> None:
        """Looks at each tensor: what it becomes, and whether there is any way to write it."""
        refused: dict[str, list[str]] = {}
        good = []
        locate([item.t for item in self.items])
        for item in self.items:
            found = self._examined(item)
            if isinstance(found, Item):
                good.append(found)
                continue
            self.skipped.append(Skipped(item.was, found))
        self.skipped += [Skipped(name, reason) for name, reason in self.missing.items()]
        for row in self.skipped:
            refused.setdefault(row.reason, []).append(row.name)
        if refused and not skip:
            n, of = len(self.skipped), len(self.items) + len(self.missing)
            told = "; ".join(f"{escape(reason)[:300]}: {_told(names)}" for reason, names in refused.items())
            raise UnsupportedError(
                "not-convertible",
                f"{n} of {of} tensors cannot be written as {self.form.name}, nothing was; {told}",
                path=self._path,
            )
        if not good:
            raise UnsupportedError("no-tensors", "none of the tensors can be written", path=self._path)
        self.items = good

    def _examined(self, item: Item) -> Item | str:
        """The tensor as it will be written, or why it cannot be."""
        try:
            line = line_of(item.t) if isinstance(item.t, Tensor) and item.was not in self.casts else None
            if line is not None:  # most are, and there may be very many
                entry = Entry(item.was, item.dtype, item.t.shape, line[1])
                return self.form.refusal(entry) or Item(item.was, item.dtype, item.t, entry, None, line[0])
            t, reason = _dense(item.t)
            if reason is not None:
                return reason
            dtype, shape = self.casts.get(item.was, item.dtype), tuple(t.shape)
            entry = Entry(item.was, dtype, shape, math.prod(shape) * size_of(dtype))
            made = Item(item.was, item.dtype, t, entry)
            return self.form.refusal(entry) or made._replace(lie=_looked_up(made))
        except PthError as e:
            return _reason(e, item.t)

    def rename(self, rename: Rename) -> None:
        """Gives tensors their new names."""
        if isinstance(rename, (Mapping, list, tuple)) and not rename:
            return
        if isinstance(rename, Mapping):
            have = {item.was for item in self.items}
            for old in rename:
                if old not in have:
                    raise KeyError(f"no tensor '{escape(old)}' to rename{nearest(old, [*have])}")

            def renamed(name: str) -> str:
                return rename.get(name, name)

        else:
            try:
                rules = [(re.compile(pattern), new) for pattern, new in rename]
            except re.error as e:
                raise ValueError(f"rename: {e.pattern!r} is no regular expression: {e}") from None

            def renamed(name: str) -> str:
                for pattern, new in rules:
                    name = pattern.sub(new, name)
                return name

        seen: dict[str, str] = {}
        for i, item in enumerate(self.items):
            try:
                now = renamed(item.was)
            except (re.error, IndexError) as e:
                raise ValueError(f"rename: {e}") from None
            twin = seen.setdefault(now, item.was)
            if twin != item.was:
                raise UnsupportedError(
                    "names-clash",
                    f"both '{escape(twin)}' and '{escape(item.was)}' would be called '{escape(now)}'",
                    path=self._path,
                )
            self.items[i] = item._replace(entry=item.entry._replace(name=now))
        for item in self.items:
            reason = self.form.refusal(item.entry) if item.entry.name != item.was else None
            if reason is not None:
                raise UnsupportedError("names-clash", f"'{escape(item.was)}': {reason}", path=self._path)

    def tie(self, shared: str) -> None:
        """Finds tensors that are the same elements."""
        if shared == "refuse":
            self._refuse_shared()
        if shared != "first":
            return
        known: dict[Any, str] = {}
        kept = []
        for item in self.items:
            key = _elements(item)
            first = item.entry.name if key is None else known.setdefault(key, item.entry.name)
            if first == item.entry.name:
                kept.append(item)
            else:
                self.ties[item.entry.name] = first
        self.items = kept

    def _refuse_shared(self) -> None:
        spans: dict[Any, list[tuple[int, int, str]]] = {}
        for item in self.items:
            t = item.t
            if isinstance(t, Tensor) and t._storage is not None and t.numel:
                place = id(t.table), t.table.place(t._storage)
                begin, (first, last) = t.table.storage(t._storage)[5], t.byte_range()
                spans.setdefault(place, []).append((begin + first, begin + last, item.was))
        pairs = []
        for rows in spans.values():
            rows.sort(key=lambda row: row[:2])
            end, owner = -1, ""
            for start, stop, name in rows:
                if start < end:
                    pairs.append(f"{_told([owner])} and {_told([name])}")
                if stop > end:
                    end, owner = stop, name
        if pairs:
            more = f" and {len(pairs) - MOST_TOLD} pairs more" if len(pairs) > MOST_TOLD else ""
            raise UnsupportedError(
                "shared-tensors", f"share their elements: {'; '.join(pairs[:MOST_TOLD])}{more}", path=self._path
            )


def size_of(dtype: str) -> int:
    """Bytes of an element of torch's type."""
    return SIZES[dtype]


def _told(names: Sequence[str]) -> str:
    shown = [f"'{escape(n)}'" if len(n) <= 200 else f"'{escape(n[:200])}...'" for n in names[:MOST_TOLD]]
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(shown) + more


def _dense(t: Any) -> tuple[Any, str | None]:
    """The tensor whose elements are written, or why there is none."""
    if not isinstance(t, Tensor):  # of another reader: it has an array, or says why not
        known = hasattr(t, "numpy") and hasattr(t, "shape") and getattr(t, "dtype", None) in DTYPES
        return t, None if known else f"is a {type(t).__name__}, and no tensor"
    error = t.error
    if error is not None:
        return t, _reason(error, t)
    if t.kind == "subclass":
        only = t._only()
        if only is None:
            return t, f"is a tensor subclass ({preview(t.subclass, 100)}) that is made of others"
        if only.dtype != t.dtype:
            return t, f"is a tensor subclass ({preview(t.subclass, 100)}) of {t.dtype} that is made of {only.dtype}"
        return _dense(only)
    if t.kind == "quantized":
        return t, f"is quantized ({t.dtype}): integers with scales; .dequantize() gives floats"
    if t.kind in NO_ARRAY:
        return t, NO_ARRAY[t.kind]
    if t.dtype == "untyped":
        return t, "is a storage without a dtype"
    return t, None


def _reason(error: PthError, t: Any) -> str:
    message = error.message.removeprefix(f"tensor {t.name!r}: ")
    return f"is damaged: {message} [{error.code}]"


def _looked_up(item: Item) -> Lie | Mosaic | None:
    """Where its elements are; raises what is wrong with that. What is deflated is seen when it is read."""
    t = item.t
    if isinstance(t, ChunkedTensor):
        return t.mosaic()
    if not isinstance(t, Tensor):
        return None
    if _is_late(t):
        _lie_late(item)
        return None
    span = None if t._storage is None else t.table.storage(t._storage)[0]
    if span is not None and not t._home.box.is_stored(t.table.store, span):
        return None
    lie = _lie(item)
    return lie if lie.data is None else None


def _is_late(t: Any) -> bool:
    """Must its array be made as a whole?"""
    return not isinstance(t, Tensor) or t.kind != "dense" or (t._cast is not None and t._cast != t._dtype)


def _elements(item: Item) -> Any:
    """The same for two tensors if they become the same: of one storage, in one shape; None: nothing else can."""
    t = item.t
    if not isinstance(t, Tensor) or t._storage is None or not t.numel:
        return None
    place = t.table.place(t._storage)
    if item.at is not None:
        return t.table, place, item.at, item.entry.dtype, item.entry.shape
    steps = tuple(s for n, s in zip(t._sizes, t._strides, strict=True) if n != 1)
    begins = t.table.storage(t._storage)[5], t.storage_offset
    return t.table, place, begins, t._dtype, t._cast, t._sizes, steps, t.conj, t.neg, item.entry.dtype


class _Writing:
    """The second half: files, in a folder that is safe from crashes."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        stem: str,
        whole: bool,
        overwrite: bool,
        verify: bool,
        threads: int | None,
        progress: Progress | None,
    ) -> None:
        self.plan, self.form = plan, plan.form
        self.folder, self.stem, self.whole = folder, stem, whole
        self.overwrite, self.verify, self.threads, self.progress = overwrite, verify, threads, progress
        self.done = 0
        self.total = sum(item.entry.nbytes for item in plan.items)

    def run(self, notes: Mapping[str, str], most: int | None) -> list[WrittenFile]:
        entries = [item.entry for item in self.plan.items]
        wanted = Wanted(entries, self.stem, notes, self.plan.ties, most)
        layouts = self.form.layouts(wanted)
        index = self.form.index(wanted, layouts)
        names = [layout.name for layout in layouts] + ([index[0]] if index else [])
        stale = self._stale(names, several=self.whole or most is not None)
        if not (self.folder.parent if self.whole else self.folder).is_dir():
            raise FileNotFoundError(
                errno.ENOENT, "there is no such folder", str(self.folder.parent if self.whole else self.folder)
            )
        self._room(sum(layout.nbytes for layout in layouts))
        fresh = self.whole and (self.form.name == "npy" or not self.folder.exists())
        outputs = Outputs(self.folder, fresh=fresh)
        try:
            with ThreadPoolExecutor(SYNCING) as pool:
                syncing: list[Future[None]] = []
                for layout in layouts:
                    self._write(layout, outputs)
                    syncing.append(pool.submit(sync, outputs.made[layout.name]))
                if index is not None:
                    fd = outputs.create(index[0])
                    with os.fdopen(fd, "wb") as file:
                        file.write(index[1])
                    syncing.append(pool.submit(sync, outputs.made[index[0]]))
                for future in syncing:
                    future.result()
            self._unchanged()
            outputs.commit(names, overwrite=self.overwrite, stale=stale)
        finally:
            outputs.discard()
        sizes = [(layout.name, layout.nbytes, len(layout.places)) for layout in layouts]
        sizes += [(index[0], len(index[1]), 0)] if index else []
        return [WrittenFile(str(self.folder / name), nbytes, n) for name, nbytes, n in sizes]

    # ---- before ----

    def _stale(self, names: Sequence[str], several: bool) -> list[Path]:
        """Files of a model that was there: refused, or to be replaced. Never the source."""
        if self.whole and os.path.lexists(self.folder) and not self.folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is there, and no folder", str(self.folder))
        if self.form.name == "npy":
            there = sorted(self.folder.iterdir()) if self.folder.exists() else []
            strangers = [p for p in there if p.is_dir() or (p.suffix != ".npy" and p.name != "index.json")]
            if there and self.overwrite and strangers:
                raise FileExistsError(errno.EEXIST, "holds other files too, and is not replaced", str(strangers[0]))
        else:
            there = [self.folder / name for name in names if os.path.lexists(self.folder / name)]
            if several and self.folder.is_dir():
                numbered = re.compile(re.escape(self.stem) + r"(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
                there += [p for p in self.folder.iterdir() if numbered.fullmatch(p.name) and p not in there]
        sources = self._sources()
        for path in there if self.form.name != "npy" else ():
            if not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISLNK(mode):
                raise FileExistsError(errno.EEXIST, "is there, and no file", str(path))
        for path in there:
            try:
                found = path.stat()
            except OSError:  # a link to nothing
                continue
            if (found.st_dev, found.st_ino) in sources:
                raise FileExistsError(errno.EEXIST, "is the source itself", str(path))
        if there and not self.overwrite:
            raise FileExistsError(errno.EEXIST, "is there already", str(there[0]))
        return there

    @cached_property
    def _files(self) -> list[FileSource]:
        known: dict[Source, None] = {}
        tables: set[_core.Tensors] = set()
        for item in self.plan.items:
            for t in item.t.chunks if isinstance(item.t, ChunkedTensor) else (item.t,):
                if isinstance(t, Tensor) and t.table not in tables:
                    tables.add(t.table)
                    source = t.table.home.box.source
                    known[source._whole if isinstance(source, SliceSource) else source] = None
        return [source for source in known if isinstance(source, FileSource)]

    def _sources(self) -> set[tuple[int, int]]:
        out = set()
        for source in self._files:
            fd = source.borrow()
            try:
                found = os.fstat(fd)
            finally:
                source.restore(fd)
            out.add((found.st_dev, found.st_ino))
        return out

    def _unchanged(self) -> None:
        for source in self._files:
            if source.changed():
                raise FormatError("file-changed", "the file was changed while it was read", path=source.path)

    def _room(self, nbytes: int) -> None:
        """Says that a disk is too small before it is full."""
        where = self.folder if self.folder.exists() else self.folder.parent
        if not hasattr(os, "statvfs"):
            return
        found = os.statvfs(where)
        if found.f_frsize and found.f_blocks and found.f_bavail * found.f_frsize < nbytes:
            free = found.f_bavail * found.f_frsize
            raise OSError(
                errno.ENOSPC, f"No space left on device: {nbytes} bytes are wanted, {free} are free", str(where)
            )

    # ---- the work ----

    def _write(self, layout: Layout, outputs: Outputs) -> None:
        fd = outputs.create(layout.name)
        path = str(outputs.made[layout.name])
        try:
            os.ftruncate(fd, layout.nbytes)
            moves = [_move(self.plan.items[i], offset) for i, offset in layout.places]
            transfer.write(moves, fd, path, self.verify, self.threads, self._told())
            layout.seal(fd)
        except OSError as e:
            if e.filename is None:
                e.filename = str(self.folder / layout.name)
            raise
        finally:
            os.close(fd)
        self.done += sum(move.nbytes for move in moves)
        if self.verify:
            self._check(layout, path)

    def _told(self) -> Callable[[int], None] | None:
        if self.progress is None:
            return None
        before, progress = self.done, self.progress
        return lambda n: progress(before + n, self.total)

    def _check(self, layout: Layout, path: str) -> None:
        """Does the file itself say of each tensor what it is, and where it was written and compared?"""
        places = dict(self.form.read_back(path))
        end = 0
        for i, offset in layout.places:
            entry = self.plan.items[i].entry
            place = places.pop(entry.name if self.form.name != "npy" else "", None)
            if place != (*self.form.said(entry), offset, entry.nbytes) or offset < end:
                raise not_written(path, f"{entry.name!a} is said to be {place}")
            end = offset + entry.nbytes
        if places or end > Path(path).stat().st_size:
            raise not_written(path, f"{len(places)} tensors more than were written")


def _move(item: Item, offset: int) -> Move:
    t, entry, lie = item.t, item.entry, item.lie
    size = size_of(entry.dtype)
    if item.at is not None:
        return Move(item.was, t.table.home.box.source, item.at, None, size, entry.nbytes, offset)
    looked: Callable[[], Lie | Mosaic] = (
        partial(_lie_late if _is_late(t) else _lie, item) if lie is None else lambda: lie
    )
    if _is_late(t):
        source: Source = MemorySource(b"")
        change = cast_of(entry.dtype) if entry.dtype != item.dtype else None
        if change is not None:
            change = partial(_viewed, numpy_dtype(DTYPES[item.dtype]), change)
        return Move(item.was, source, looked, change, size, entry.nbytes, offset)
    return Move(item.was, t._home.box.source, looked, _change(t, item), size, entry.nbytes, offset)


def _viewed(dtype: Any, change: Change, array: Any) -> Any:
    return change(array.view(dtype))


def _lie(item: Item) -> Lie:
    try:
        with guard("its elements"):
            return lie_of(item.t)
    except PthError as e:
        raise item.t._place(e) from None


def _lie_late(item: Item) -> Lie:
    """Of a tensor whose array must be made as a whole."""
    array = item.t.numpy()
    wanted = numpy_dtype(DTYPES[item.dtype])
    shape = (*item.entry.shape, 2) if item.dtype == "complex32" else item.entry.shape
    if array.dtype.newbyteorder("=") != wanted or array.shape != shape:
        raise UnsupportedError(
            "no-array",
            f"tensor '{escape(item.was)}' is {item.dtype} {list(shape)}, its array {array.dtype} {list(array.shape)}",
        )
    return lie_of_array(array.astype(wanted, copy=False))


def _change(t: Tensor, item: Item) -> Change | None:
    """What becomes of the elements of a dense tensor: conjugated, negated, cast."""
    wanted = item.entry.dtype
    if not t.conj and not t.neg and wanted == item.dtype:
        return None
    dtype = numpy_dtype(t._dtype)
    cast = cast_of(wanted) if wanted != item.dtype else None
    half = t.dtype == "complex32"

    def change(found: Any) -> Any:
        import numpy as np

        array = found.view(dtype)
        if t.conj and half:
            array = array.reshape(-1, 2).copy()
            array[:, 1] = np.negative(array[:, 1])
        elif t.conj:
            array = np.conjugate(array)
        if t.neg:
            array = np.negative(array)
        return array if cast is None else cast(array)

    return change
