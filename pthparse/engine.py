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
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _kernels
from .errors import PthError, UnsupportedError, guard
from .pieces import LINE, blocks, regrouped
from .source import FileSource, MemorySource, SliceSource, Source, open_again
from .stats import STATE, Row, Stats, StatsTable, figures
from .team import bundles, call_all, crew, is_near, share, submit
from .walks import READ, Line, Walk, leaves, line_of, locate, place_of, same, walk_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from .distribution import Arrays
    from .tensor import Tensor

GAP = 1 << 14  # bytes between two tensors that are read along rather than by another call
TASK = 1 << 23  # bytes of a task for a thread
PIECE = _kernels.PIECE
_PIECE = struct.Struct(_kernels.PIECE_LAYOUT)
_READ = struct.Struct(_kernels.READ_LAYOUT)
_DTYPES = {row[0]: i for i, row in enumerate(_core.DTYPES)}
SIZES = [(size, 2 if name == "float4_e2m1fn_x2" else packed) for name, _, size, packed, *_ in _core.DTYPES]
RECORDS = [STATE.size * _kernels.parts(dtype) for dtype in range(len(_core.DTYPES))]  # bytes of those of a piece
ISA = len(_kernels.ISAS) - 1  # the best that there is


Piece = tuple[int, int, int, int]  # which tensor, first byte in what is read, elements, row of dtypes.def


class Read(NamedTuple):
    """Bytes that are read at once, and the pieces in them."""

    offset: int
    nbytes: int
    pieces: list[Piece]


class Job(NamedTuple):
    """A part of the work: reads of tensors whose elements lie together, or one tensor that must be gathered."""

    reads: list[Read]
    gathered: tuple[int, Walk] | None
    isa: int
    histogram: bool


# Of some pieces of a tensor, or of all of a gathered one: which tensor, records, counts of magnitudes, what went wrong.
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
            for who, at, n, dtype in read.pieces:  # one of them is the cause
                alone = Read(read.offset + at, _bytes_of(dtype, n), [(who, 0, n, dtype)])
                out += run(job._replace(reads=[alone]), source)
    return out


def _read_file(job: Job, source: FileSource, out: list[Found]) -> int:
    """All of the work in one call that needs no GIL. How many reads were whole: the rest must say why they are not."""
    order = [piece for read in job.reads for piece in read.pieces]
    last = [p[0] != q[0] for p, q in pairwise(order)] + [True]
    pieces = b"".join([_PIECE.pack(at, n, 0, dtype, end) for (_, at, n, dtype), end in zip(order, last, strict=True)])
    reads = b"".join([_READ.pack(read.offset, read.nbytes, len(read.pieces)) for read in job.reads])
    try:
        fd = source.borrow()
    except (PthError, OSError):
        return 0
    try:
        done, records, magnitudes = _kernels.measure_file(job.isa, fd, source.base, reads, pieces, job.histogram)
    finally:
        source.restore(fd)
    n = sum(len(read.pieces) for read in job.reads[:done])
    if job.histogram and n and not last[n - 1]:  # a part of its magnitudes is known, and cannot be told from the rest
        return 0
    found = iter(magnitudes)
    out += _shared(order[:n], records, lambda end: next(found) if job.histogram and last[end - 1] else ())
    return done


def _shared(pieces: list[Piece], records: bytes, bins: Callable[[int], Any]) -> Iterator[Found]:
    """Records of pieces, to each tensor those of its own. bins: of how many pieces up to the end of its own."""
    at = start = 0
    for i, (who, _, _, dtype) in enumerate(pieces, 1):
        if i == len(pieces) or pieces[i][0] != who:
            end = at + (i - start) * RECORDS[dtype]
            yield who, records[at:end], bins(i), None
            at, start = end, i


def _bytes_of(dtype: int, n: int) -> int:
    size, packing = SIZES[dtype]
    return -(-n * size // packing)


def _read(job: Job, read: Read, source: Source, buffer: bytearray) -> list[Found]:
    out: list[Found] = []
    view = source.fill(buffer, read.offset, read.nbytes)
    if len(view) < read.nbytes:
        source.read(read.offset, read.nbytes)  # says what is missing
    # With a histogram, each tensor goes through the kernels alone.
    for group in _groups(read.pieces, job.histogram):
        pieces = b"".join([_PIECE.pack(at, n, 0, dtype, 0) for _, at, n, dtype in group])
        records, bins = _kernels.measure(job.isa, view, pieces, job.histogram)
        out += _shared(group, records, lambda _, bins=bins: bins)  # type: ignore[misc]
    return out


def _groups(pieces: list[Piece], apart: bool) -> Iterator[list[Piece]]:
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
        self.bins: dict[int, tuple[tuple[int, int], ...]] = {}
        self.source: Source | None = None
        self.lying: list[tuple[int, int, int, int]] = []  # first byte, walk, elements, dtype
        self.gathered: list[int] = []  # the other walks
        self.nbytes = 0  # that are read, but for what must be made first

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

    def add_line(self, t: Tensor, line: Line) -> None:
        """The same of a tensor that lies in the file as it is wanted."""
        slot = self.known.get(line)
        if slot is None:
            at, nbytes, n, dtype = line
            size = nbytes // n
            slot = self.known[line] = len(self.walks)
            self.walks.append(Walk(dtype, size, at, ((n, size),) if n > 1 else (), None, 1, False, 1, 1))
            self.lying.append((at, slot, n, dtype))
            self.nbytes += nbytes
        self.entries.append(Entry(t.name, t.dtype, t.shape, slot, None, same))

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
            self.nbytes += walk.nbytes
            if walk.together and walk.data is None and walk.swap == 1:
                self.lying.append((walk.offset, slot, walk.n, walk.dtype))
            else:
                self.gathered.append(slot)
        return slot

    def _late(self, make: Callable[[], NDArray[Any]]) -> int:
        """An array that must be made first: one at a time."""
        self.walks.append(make)
        return len(self.walks) - 1

    def jobs(self) -> Iterator[tuple[Job, int]]:
        """The work in parts, and the bytes of each."""
        for slot in self.gathered:
            walk = self.walks[slot]
            assert isinstance(walk, Walk)
            yield Job([], (slot, walk), self.isa, self.histogram), walk.nbytes
        self.known.clear()  # no more are added: there may be very many
        reads: list[Read] = []
        size = 0
        self.lying.sort()
        for read in _reads(self.lying):
            reads.append(read)
            size += read.nbytes
            if size >= TASK:
                yield Job(reads, None, self.isa, self.histogram), size
                reads, size = [], 0
        if reads:
            yield Job(reads, None, self.isa, self.histogram), size

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
        job = Job([], (slot, walk), self.isa, self.histogram)
        return run(job, MemorySource(b""))[0]

    def keep(self, found: list[Any]) -> None:
        """What came of a job: those of a tensor in their order."""
        for slot, records, bins, error in found:
            if error is not None:
                self.failed.setdefault(slot, error)
                continue
            self.found.setdefault(slot, []).append(records)
            if slot not in self.bins:
                self.bins[slot] = bins
            elif bins:
                self.bins[slot] = tuple((Counter(dict(self.bins[slot])) + Counter(dict(bins))).items())

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
        repeats = walk.repeats if isinstance(walk, Walk) else 1
        state = folded.get(entry.walk)
        if state is None:
            records = self.found.get(entry.walk, [])
            state = records[0] if len(records) == 1 else b"".join(records)
            dtype = walk.dtype if isinstance(walk, Walk) else _DTYPES[entry.dtype]
            if len(state) != RECORDS[dtype]:
                state = _kernels.fold(state, _kernels.parts(dtype), entry.dtype == "int64")
            folded[entry.walk] = state
        bins = None
        if self.histogram:
            bins = tuple([(e, n * repeats) for e, n in sorted(self.bins.get(entry.walk, ()))])
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
        dtype = numpy_dtype(held.dtype)
        if held.together and held.swap == 1 and held.data is None:
            size = LINE // held.itemsize * held.itemsize
            for at in range(0, held.nbytes, size):
                yield np.frombuffer(self.source.read(held.offset + at, min(size, held.nbytes - at)), dtype)
            return
        for block in blocks(held.lie, self.source):
            yield block.reshape(-1).view(dtype)


def _distributed(s: Stats, arrays: Arrays, bins: int | None, quantiles: Sequence[float]) -> Stats:
    """With where the elements lie among the values, of those that have an order."""
    from . import distribution

    if s.min is None or s.max is None:
        return s
    more: dict[str, Any] = {}
    if bins:
        edges, counts = distribution.value_histogram(arrays, bins, float(s.min), float(s.max))
        more["values"] = edges, tuple(n * s.repeats for n in counts) if s.repeats > 1 else counts
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


def _reads(lying: list[tuple[int, int, int, int]]) -> Iterator[Read]:
    """Pieces of tensors that lie in the file one behind the other, as many at once as one read takes."""
    pieces: list[Piece] = []
    start = end = 0
    for offset, slot, n, dtype in lying:
        for i in range(0, n or 1, PIECE):
            at, few = offset + (_bytes_of(dtype, i) if i else 0), min(PIECE, n - i)
            stop = at + _bytes_of(dtype, few)
            if pieces and (at < start or at > end + GAP or max(end, stop) - start > READ):
                yield Read(start, end - start, pieces)
                pieces = []
            if not pieces:
                start = end = at
            pieces.append((slot, at - start, few, dtype))
            end = max(end, stop)
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
    locate(tensors)
    index = _kernels.ISAS.index(isa) if isa else ISA
    plan: Plan | None = None
    for t in tensors:
        line = line_of(t) if isinstance(t, _core.TensorRow) else None
        if line is not None:  # most are, and there may be very many
            source = t.table.home.box.source
            if plan is None or plan.source is not source:
                plan = plans.setdefault(source, Plan(histogram, index))
                plan.source = source
            plan.add_line(t, line)
            names.append(t.name)
            continue
        whole: Any = t if t.kind == "chunked" else None
        if whole is not None and whole.error is not None:
            errors[t.name] = whole.error
            continue
        first = len(names)
        for leaf in [t] if whole is None else whole.chunks:
            plan = plans.setdefault(leaf._home.box.source, Plan(histogram, index))
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
