"""Statistics of many tensors, in any number of files: what is read for them, in what pieces, by whom.

Elements are read in the order in which they lie, in pieces that are always cut at the same places, and the figures of
the pieces are put together in that order. So neither the number of threads nor who runs them changes a bit.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _kernels
from .errors import PthError, UnsupportedError, guard
from .pieces import blocks, regrouped
from .source import FileSource, MemorySource, SliceSource, Source, open_again
from .stats import STATE, Row, Stats, StatsTable, figures
from .team import AFAR, bundles, call_all, crew, is_near, share, submit
from .walks import READ, Walk, leaves, place_of, same, walk_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from .distribution import Arrays
    from .formats.base import Container
    from .tensor import Tensor

GAP = 1 << 14  # bytes between two tensors that are read along rather than by another call
TASK = 1 << 23  # bytes of a task for a thread
PIECE = _kernels.PIECE
_PIECE = struct.Struct(_kernels.PIECE_LAYOUT)
_READ = struct.Struct(_kernels.READ_LAYOUT)
_DTYPES = {row[0]: i for i, row in enumerate(_core.DTYPES)}
ISA = len(_kernels.ISAS) - 1  # the best that there is


class Read(NamedTuple):
    """Bytes that are read at once, and the pieces in them: (which tensor, first byte in these, elements)."""

    offset: int
    nbytes: int
    pieces: list[tuple[int, int, int]]


class Job(NamedTuple):
    """A part of the work: reads of tensors whose elements lie together, or one tensor that must be gathered."""

    dtypes: dict[int, int]  # tensor -> row of dtypes.def
    reads: list[Read]
    gathered: tuple[int, Walk] | None
    isa: int
    histogram: bool


# Of one piece, or of all of a gathered tensor: which tensor, records, counts of magnitudes, what went wrong.
Found = tuple[int, bytes, tuple[tuple[int, int], ...], "PthError | None"]


def run(job: Job, source: Source) -> list[Found]:
    """Does a part of the work. Memory: a buffer for one read, and a few of a piece."""
    if job.gathered is not None:
        who, walk = job.gathered
        try:
            return [_gather(job, who, walk, source)]
        except PthError as e:
            return [(who, b"", (), e)]
    out: list[Found] = []
    reads = job.reads
    if source.afar:
        try:
            source = source.held((read.offset, read.offset + read.nbytes) for read in reads)
        except PthError:  # each read by itself says so
            pass
    if isinstance(source, FileSource):
        done = _read_file(job, source, out)
        reads = reads[done:]
    buffer = bytearray(max((read.nbytes for read in reads), default=0))
    for read in reads:
        try:
            out += _read(job, read, source, buffer)
        except PthError as e:
            if len(read.pieces) == 1:
                out.append((read.pieces[0][0], b"", (), e))
                continue
            for who, at, n in read.pieces:  # one of them is the cause
                alone = Read(read.offset + at, _bytes_of(job.dtypes[who], n), [(who, 0, n)])
                out += run(job._replace(reads=[alone]), source)
    return out


def _read_file(job: Job, source: FileSource, out: list[Found]) -> int:
    """All of the work in one call that needs no GIL. How many reads were whole: the rest must say why they are not."""
    order = [(who, at, n) for read in job.reads for who, at, n in read.pieces]
    ends = [i + 1 == len(order) or order[i + 1][0] != who for i, (who, _, _) in enumerate(order)]
    pieces = b"".join(
        _PIECE.pack(at, n, 0, job.dtypes[who], last) for (who, at, n), last in zip(order, ends, strict=True)
    )
    reads = b"".join(_READ.pack(read.offset, read.nbytes, len(read.pieces)) for read in job.reads)
    try:
        fd = source.borrow()
    except (PthError, OSError):
        return 0
    try:
        done, records, magnitudes = _kernels.measure_file(job.isa, fd, source.base, reads, pieces, job.histogram)
    finally:
        source.restore(fd)
    n = sum(len(read.pieces) for read in job.reads[:done])
    if job.histogram and n and not ends[n - 1]:  # a part of its magnitudes is known, and cannot be told from the rest
        n, records = 0, b""
        done = 0
    at, found = 0, iter(magnitudes)
    for (who, _, _), last in zip(order[:n], ends, strict=False):
        end = at + STATE.size * _kernels.parts(job.dtypes[who])
        out.append((who, records[at:end], next(found) if last and job.histogram else (), None))
        at = end
    return done


def _bytes_of(dtype: int, n: int) -> int:
    name, _, itemsize, packing, *_ = _core.DTYPES[dtype]
    return -(-n * itemsize // (2 if name == "float4_e2m1fn_x2" else packing))


def _read(job: Job, read: Read, source: Source, buffer: bytearray) -> list[Found]:
    out: list[Found] = []
    view = source.fill(buffer, read.offset, read.nbytes)
    if len(view) < read.nbytes:
        source.read(read.offset, read.nbytes)  # says what is missing
    # With a histogram, each tensor goes through the kernels alone.
    for group in _groups(read.pieces, job.histogram):
        pieces = b"".join(_PIECE.pack(at, n, 0, job.dtypes[who], 0) for who, at, n in group)
        records, bins = _kernels.measure(job.isa, view, pieces, job.histogram)
        at = 0
        for who, _, _ in group:
            end = at + STATE.size * _kernels.parts(job.dtypes[who])
            out.append((who, records[at:end], bins, None))
            at, bins = end, ()
    return out


def _groups(pieces: list[tuple[int, int, int]], apart: bool) -> Iterator[list[tuple[int, int, int]]]:
    if not apart:
        yield pieces
        return
    start = 0
    for i in range(1, len(pieces) + 1):
        if i == len(pieces) or pieces[i][0] != pieces[start][0]:
            yield pieces[start:i]
            start = i


def run_elsewhere(job: Job, address: str, base: int, opened: Any) -> list[Found]:
    """The same in another process, which opens the file itself."""
    source = open_again(address, opened)
    try:
        return run(job, SliceSource(source, base, source.size) if base else source)
    finally:
        source.close()


def run_on_bytes(job: Job, offset: int, data: bytes) -> list[Found]:
    """The same of bytes that were sent along: those from `offset` on."""
    return run(_moved(job, -offset), MemorySource(data))


def _moved(job: Job, by: int) -> Job:
    reads = [read._replace(offset=read.offset + by) for read in job.reads]
    gathered = job.gathered and (job.gathered[0], job.gathered[1]._replace(offset=job.gathered[1].offset + by))
    return job._replace(reads=reads, gathered=gathered)


def _gather(job: Job, who: int, walk: Walk, source: Source) -> Found:
    """Elements that do not lie together, or not as the processor reads them: brought together, piece by piece."""
    whole: list[bytes] = []
    counts: Counter[int] = Counter()
    for block in regrouped(blocks(walk.lie, source), PIECE * walk.itemsize // walk.packed):
        data = bytes(block)  # in memory as the kernels want it
        n = len(data) // walk.itemsize * walk.packed
        records, bins = _kernels.measure(job.isa, data, _PIECE.pack(0, n, 0, walk.dtype, 0), job.histogram)
        whole.append(records)
        counts.update(dict(bins))
    width = _kernels.parts(walk.dtype)
    state = _kernels.fold(b"".join(whole), width, _core.DTYPES[walk.dtype][0] == "int64")
    return who, state, tuple(counts.items()), None


# ---- the whole ----


class Entry(NamedTuple):
    """A tensor that figures are wanted of: which walk gives them; `integers`: the walk over what it is quantized to."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    walk: int
    integers: int | None
    place: Callable[[int], int]


class Plan:
    """What is to be read for some tensors: those that are the same elements once."""

    def __init__(self, histogram: bool, isa: int) -> None:
        self.histogram, self.isa = histogram, isa
        self.entries: list[Entry] = []
        self.errors: dict[str, PthError] = {}
        self.walks: list[Walk | Callable[[], NDArray[Any]]] = []
        self.known: dict[Any, int] = {}
        self.failed: dict[int, PthError] = {}
        self.found: dict[int, list[bytes]] = {}
        self.bins: dict[int, Counter[int]] = {}
        self.source: Source | None = None

    # ---- what there is to do ----

    def add(self, t: Tensor) -> None:
        for name, leaf in leaves(t):
            try:
                if leaf.error is not None:
                    raise leaf.error
                with guard("its elements"):
                    self._add(name, leaf)
            except PthError as e:
                self.errors[name] = leaf._place(e)

    def _add(self, name: str, t: Tensor) -> None:
        self.source = t._home.box.source
        if t.kind in ("meta", "uninitialized") or t.dtype == "untyped":
            raise UnsupportedError(
                "no-data", "it was saved without data" if t.dtype != "untyped" else "it has no dtype"
            )
        cast = t.kind != "array" and t._cast is not None and t._cast != t._dtype
        if t.kind == "quantized":
            integers = self._slot(walk_of(t))
            self.entries.append(Entry(name, t.dtype, t.shape, self._late(t.dequantize), integers, same))
        elif t.kind == "array" or cast or t.conj or t.neg:
            self.entries.append(Entry(name, t.dtype, t.shape, self._late(t.numpy), None, same))
        else:
            found = walk_of(t)
            index = place_of(t) if found.turned or found.repeats > 1 else same
            self.entries.append(Entry(name, t.dtype, t.shape, self._slot(found), None, index))

    def _slot(self, walk: Walk) -> int:
        key = walk._replace(data=id(walk.data) if walk.data is not None else None)
        slot = self.known.setdefault(key, len(self.walks))
        if slot == len(self.walks):
            self.walks.append(walk)
        return slot

    def _late(self, make: Callable[[], NDArray[Any]]) -> int:
        """An array that must be made first: one at a time."""
        self.walks.append(make)
        return len(self.walks) - 1

    def jobs(self) -> Iterator[tuple[Job, int]]:
        """The work in parts, and the bytes of each."""
        lying = []
        for slot, walk in enumerate(self.walks):
            if not isinstance(walk, Walk):
                continue
            if walk.together and walk.data is None and walk.swap == 1:
                lying.append((walk.offset, slot, walk))
            else:
                yield Job({slot: walk.dtype}, [], (slot, walk), self.isa, self.histogram), walk.nbytes
        lying.sort(key=lambda item: item[:2])
        reads: list[Read] = []
        dtypes: dict[int, int] = {}
        size = 0
        for read in _reads(lying):
            reads.append(read)
            dtypes |= {slot: self.walks[slot].dtype for slot, _, _ in read.pieces}  # type: ignore[union-attr]
            size += read.nbytes
            if size >= TASK:
                yield Job(dtypes, reads, None, self.isa, self.histogram), size
                reads, dtypes, size = [], {}, 0
        if reads:
            yield Job(dtypes, reads, None, self.isa, self.histogram), size

    @property
    def nbytes(self) -> int:
        """That are read, but for what must be made first."""
        return sum(w.nbytes for w in self.walks if isinstance(w, Walk))

    # ---- doing it ----

    def finish(self) -> None:
        """What must be made first, one after the other."""
        for slot, make in enumerate(self.walks):
            if not isinstance(make, Walk):
                self.keep([self._make(slot, make)])

    def _make(self, slot: int, make: Callable[[], NDArray[Any]]) -> Any:
        import numpy as np

        try:
            array = make()
        except PthError as e:
            return slot, b"", (), e
        name = array.dtype.name if array.dtype.name in _DTYPES else None
        if name is None:
            return slot, b"", (), UnsupportedError("tensor-dtype", f"elements of {array.dtype} have no statistics")
        native = np.ascontiguousarray(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))
        data = native.reshape(-1).view(np.uint8).data if native.size else b""
        walk = Walk(_DTYPES[name], native.itemsize, 0, ((native.size, native.itemsize),), data, 1, False, 1, 1)
        job = Job({slot: walk.dtype}, [], (slot, walk), self.isa, self.histogram)
        return run(job, MemorySource(b""))[0]

    def keep(self, found: list[Any]) -> None:
        """What came of a job: those of a tensor in their order."""
        for slot, records, bins, error in found:
            if error is not None:
                self.failed.setdefault(slot, error)
                continue
            self.found.setdefault(slot, []).append(records)
            if bins:
                self.bins.setdefault(slot, Counter()).update(dict(bins))

    # ---- what came of it ----

    def stats(self) -> list[Stats]:
        out = []
        folded: dict[int, bytes] = {}
        for entry in self.entries:
            error = self.failed.get(entry.walk) or self.failed.get(-1 if entry.integers is None else entry.integers)
            if error is not None:
                self.errors[entry.name] = _about(entry.name, error)
                continue
            integers = None if entry.integers is None else self._stats(entry._replace(walk=entry.integers), folded)
            stats = self._stats(entry, folded)
            out.append(stats if integers is None else Stats(**{**_fields(stats), "integers": integers}))
        return out

    def _stats(self, entry: Entry, folded: dict[int, bytes]) -> Stats:
        walk = self.walks[entry.walk]
        state = folded.get(entry.walk)
        if state is None:
            records = self.found.get(entry.walk, [])
            if len(records) == 1:
                state = records[0]
            else:
                dtype = walk.dtype if isinstance(walk, Walk) else _DTYPES[entry.dtype]
                state = _kernels.fold(b"".join(records), _kernels.parts(dtype), entry.dtype == "int64")
            folded[entry.walk] = state
        repeats = walk.repeats if isinstance(walk, Walk) else 1
        counts = self.bins.get(entry.walk, Counter())
        bins = tuple((e, n * repeats) for e, n in sorted(counts.items())) if self.histogram else None
        if repeats > 1:
            state = b"".join(_repeated(row, repeats) for row in STATE.iter_unpack(state))
        shown = entry.dtype
        if entry.integers is not None and entry.walk != entry.integers:
            shown = "float32"  # what quantized elements stand for
        stats = figures(entry.name, shown, entry.shape, state, bins, repeats=repeats)
        if shown != entry.dtype:
            stats = Stats(**{**_fields(stats), "dtype": entry.dtype, "bfloat16_exact": None})
        if stats.first_bad is not None and entry.place is not same:
            stats = Stats(**{**_fields(stats), "first_bad": entry.place(stats.first_bad)})
        return stats

    def arrays(self, name: str) -> Iterator[NDArray[Any]]:
        """All elements of a tensor once more."""
        return self._arrays(self._by_name[name])

    @cached_property
    def _by_name(self) -> dict[str, Entry]:
        return {entry.name: entry for entry in self.entries}

    def _arrays(self, entry: Entry) -> Iterator[NDArray[Any]]:
        import numpy as np

        from .tensor import numpy_dtype

        held = self.walks[entry.walk]
        if not isinstance(held, Walk):
            yield np.ascontiguousarray(held()).reshape(-1)
            return
        assert self.source is not None
        if held.packed > 1:
            raise UnsupportedError("no-array", "parts of bytes have no distribution")
        for block in blocks(held.lie, self.source):
            yield block.reshape(-1).view(numpy_dtype(held.dtype))


def _distributed(s: Stats, arrays: Arrays, bins: int | None, quantiles: Sequence[float]) -> Stats:
    """With where the elements lie among the values, of those that have an order."""
    from . import distribution

    if s.min is None or s.max is None:
        return s
    more: dict[str, Any] = {}
    if bins:
        edges, counts = distribution.value_histogram(arrays, bins, float(s.min), float(s.max))
        more["values"] = edges, tuple(n * s.repeats for n in counts)
    if quantiles:
        more["quantiles"] = distribution.quantiles(arrays, s.finite // s.repeats, quantiles, s.repeats)
    return Stats(**{**_fields(s), **more})


def _fields(stats: Stats) -> dict[str, Any]:
    return {n: getattr(stats, n) for n in stats.__match_args__}


def _about(name: str, error: PthError) -> PthError:
    told = f"tensor {name!r}: "
    if not error.message.startswith(told):
        error.message = told + error.message
    return error


def _repeated(row: tuple[Any, ...], times: int) -> bytes:
    """A record of the same elements several times over."""
    r = Row(*row)
    counts = {n: getattr(r, n) * times for n in ("n", "nan", "posinf", "neginf", "zeros", "subnormal")}
    sums = {n: getattr(r, n) * times for n in ("sum", "sum_low", "l1", "l1_low", "spread", "spread_low")}
    return STATE.pack(*r._replace(**counts, **sums))


def _call(job: Job, source: Source, near: bool) -> tuple[int, tuple[Any, ...]]:
    """What is submitted, and the bytes in it: the source is shared, or opened again, or the bytes are sent."""
    if near:
        return 0, (run, job, source)
    if job.gathered is not None and job.gathered[1].data is not None:
        slot, held = job.gathered
        data = bytes(held.data)
        return len(data), (run_on_bytes, job._replace(gathered=(slot, held._replace(data=data))), 0, b"")
    address = source.address()
    if address is not None:
        return 0, (run_elsewhere, job, address, source.base, source.opened)
    starts = [(r.offset, r.offset + r.nbytes) for r in job.reads]
    if job.gathered is not None:
        walk = job.gathered[1]
        starts.append((walk.offset, walk.offset + walk.itemsize + sum((n - 1) * s for n, s in walk.dims)))
    first, last = min(a for a, _ in starts), max(b for _, b in starts)
    data = bytes(source.read(first, last - first))
    return len(data), (run_on_bytes, job, first, data)


Bundle = list[tuple[Plan, Source, Job, int]]


def carry_out(
    plans: Sequence[Plan],
    executor: Executor | None,
    threads: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Does the work of all plans as one, whose parts are put together in their order, whoever was first."""
    total, done = sum(plan.nbytes for plan in plans), 0
    jobs = ((plan, plan.source, job, size) for plan in plans if plan.source for job, size in plan.jobs())

    def tick() -> None:
        if progress is not None:
            progress(min(done, total), total)

    afar = any(plan.source is not None and plan.source.afar for plan in plans)
    together = bundles(jobs, lambda row: row[3], 0 if afar else TASK)
    if executor is not None:
        near = is_near(executor)

        def calls() -> Iterator[tuple[Bundle, int, tuple[Any, ...]]]:
            for bundle in together:
                made = [_call(job, source, near) for _, source, job, _ in bundle]
                yield bundle, sum(n for n, _ in made), (call_all, [call for _, call in made])

        for bundle, came in submit(executor, calls()):
            for (plan, _, _, size), one in zip(bundle, came, strict=True):
                plan.keep(one)
                done += size
            tick()
    else:
        found: dict[int, list[tuple[Plan, list[Found]]]] = {}

        def do(numbered: tuple[int, Bundle]) -> None:
            nonlocal done
            number, bundle = numbered
            found[number] = [(plan, run(job, source)) for plan, source, job, _ in bundle]
            with lock:
                done += sum(size for _, _, _, size in bundle)

        lock = threading.Lock()
        share(enumerate(together), lambda _: do, crew(total, threads, afar), tick)
        for number in sorted(found):
            for plan, one in found[number]:
                plan.keep(one)
    tick()
    for plan in plans:
        plan.finish()


def _reads(lying: list[tuple[int, int, Walk]]) -> Iterator[Read]:
    """Pieces of tensors that lie in the file one behind the other, as many at once as one read takes."""
    pieces: list[tuple[int, int, int]] = []
    start = end = 0
    for offset, slot, walk in lying:
        size = PIECE * walk.itemsize // walk.packed
        n = walk.n
        for i in range(0, max(1, n), PIECE):
            at, few = offset + i // PIECE * size, min(PIECE, n - i)
            nbytes = -(-few * walk.itemsize // walk.packed)
            if pieces and (at < start or at > end + GAP or max(end, at + nbytes) - start > READ):
                yield Read(start, end - start, pieces)
                pieces = []
            if not pieces:
                start = end = at
            pieces.append((slot, at - start, few))
            end = max(end, at + nbytes)
    if pieces:
        yield Read(start, end - start, pieces)


def measure_array(name: str, array: NDArray[Any], histogram: bool = False) -> Stats:
    """The statistics of an array in memory; PthError if its elements have none."""
    plan = Plan(histogram, ISA)
    dtype = array.dtype.name
    plan.entries.append(Entry(name, dtype, array.shape, plan._late(lambda: array), None, same))
    plan.source = MemorySource(b"")
    carry_out([plan], None, 1, None)
    for stats in plan.stats():
        return stats
    raise plan.errors[name]


def locate(tensors: Sequence[Tensor]) -> None:
    """Finds where the elements of many lie, in few journeys; of files that are here each is found when it is read."""
    spans: dict[Container, list[tuple[Any, int]]] = {}
    for _, t in (leaf for tensor in tensors if tensor._home.box.source.afar for leaf in leaves(tensor)):
        row = t._storage
        span = None if row is None else t.table.storage(row)[0]
        if span is not None:
            spans.setdefault(t._home.box, []).append((t.table.store, span))
    share(spans.items(), lambda _: lambda row: row[0].locate(row[1]), min(AFAR, max(1, len(spans))))


def measure(
    tensors: Iterable[Tensor],
    *,
    histogram: bool = False,
    executor: Executor | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    isa: str | None = None,
    bins: int | None = None,
    quantiles: Sequence[float] = (),
) -> StatsTable:
    """The statistics of tensors of one checkpoint, in their order; what each argument means: `Checkpoint.stats`."""
    plans: dict[Source, Plan] = {}  # one for each file of a model in several
    names: list[str] = []
    in_chunks: dict[str, tuple[Any, list[str]]] = {}
    errors: dict[str, PthError] = {}
    tensors = list(tensors)
    locate([t for t in tensors if t.kind != "chunked"])
    for t in tensors:
        whole: Any = t if t.kind == "chunked" else None
        if whole is not None and whole.error is not None:
            errors[t.name] = whole.error
            continue
        first = len(names)
        for leaf in [t] if whole is None else whole.chunks:
            plan = plans.setdefault(leaf._home.box.source, Plan(histogram, _kernels.ISAS.index(isa) if isa else ISA))
            before = len(plan.entries)
            plan.add(leaf)
            names += [e.name for e in plan.entries[before:]]
        if whole is not None:
            in_chunks[t.name] = whole, names[first:]
            names[first:] = [t.name]
    found: dict[str, Stats] = {}
    plan_of: dict[str, Plan] = {}
    carry_out(list(plans.values()), executor, threads, progress)
    for plan in plans.values():
        for s in plan.stats():
            found[s.name], plan_of[s.name] = s, plan
        errors |= plan.errors
    for name, (whole, pieces) in in_chunks.items():
        if len(pieces) == len(whole.chunks) and all(piece in found for piece in pieces):
            found[name] = whole.merged(found[piece] for piece in pieces)

    def arrays(name: str) -> Iterator[NDArray[Any]]:
        for piece in in_chunks[name][1] if name in in_chunks else [name]:
            yield from plan_of[piece].arrays(piece)

    for name in names if bins or quantiles else ():
        if name not in found:
            continue
        if name in in_chunks and any(found[piece].repeats > 1 for piece in in_chunks[name][1]):
            told_of = "chunks that repeat their elements have no bins or quantiles"
            errors[name] = UnsupportedError("no-array", told_of)
            del found[name]
            continue
        try:
            found[name] = _distributed(found[name], partial(arrays, name), bins, quantiles)
        except PthError as e:
            errors[name] = _about(name, e)
            del found[name]
    return StatsTable([found[n] for n in names if n in found], errors)
