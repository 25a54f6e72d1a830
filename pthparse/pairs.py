"""Elements of two tensors beside each other: what is read of them, in what runs, by whom, and the figures of it.

Runs are cut at the same places always, and read by whatever thread has time; their figures are put together in order.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _kernels
from .contents import Budget, Elements, lasting, leaves_of, lies, reads
from .errors import PthError, UnsupportedError, guard
from .source import FileSource, SliceSource, Source, open_again
from .team import bundles, call_all, crew, is_near, share, submit
from .tensor import Tensor
from .walks import line_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

RUN = 1 << 18  # elements of a run: a whole number of the kernels' pieces
TASK = 1 << 24  # bytes of a task for a thread
MOST_RUNS = 4096  # of a task: runs may be short
ISA = len(_kernels.ISAS) - 1
FLOATS = frozenset(("float64", "float32", "float16", "bfloat16"))
FLOATS |= {"float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"}
NOWHERE = (1 << 64) - 1
_PAIR = struct.Struct(_kernels.PAIR_LAYOUT)
_RUNS = struct.Struct(_kernels.RUNS_LAYOUT)

Tolerance = tuple[float, float, bool]  # rtol, atol, is a NaN close to a NaN


class Part:
    """Two parts of tensors that are compared, element by element; for each run its record, as far as it is known."""

    __slots__ = ("a", "b", "differs", "error", "n", "owner_a", "owner_b", "place", "records", "same", "types")

    def __init__(self, owners: tuple[Any, Any], types: tuple[int, int], n: int, records: list[bytes]) -> None:
        self.owner_a, self.owner_b = owners
        self.types, self.n, self.records = types, n, records
        self.place = (0, 0)  # which of the parts of each side
        self.a: Elements | None = None
        self.b: Elements | None = None
        self.same = False  # not only alike: the same elements of the same file
        self.differs = types[0] != types[1]  # in a bit
        self.error: PthError | None = None

    @staticmethod
    def of(place: tuple[int, int], owners: tuple[Any, Any], found: tuple[Elements, Elements]) -> Part:
        """Of which nothing is known yet."""
        a, b = found
        part = Part(owners, (a.dtype, b.dtype), a.n, [b""] * -(-a.n // RUN))
        part.place, part.same = place, a.key == b.key
        part.a = a if lasting(owners[0], a) else None
        part.b = b if lasting(owners[1], b) else None
        return part

    def sides(self) -> tuple[Elements, Elements]:
        a = self.a if self.a is not None else leaves_of(self.owner_a)[1][self.place[0]][1]
        b = self.b if self.b is not None else leaves_of(self.owner_b)[1][self.place[1]][1]
        return a, b

    def nbytes(self, runs: int) -> int:
        sizes = sum(_core.DTYPES[dtype][2] for dtype in self.types)
        return min(self.n, runs * RUN) * sizes

    def missing(self) -> int:
        """Bytes of runs whose figures are not known."""
        return self.nbytes(1) * sum(not is_known(record) for record in self.records)


def is_known(record: bytes) -> bool:
    return record != b"" and record[:8] != bytes(8)  # n


# ---- figures ----


class Figures(NamedTuple):
    n: int
    equal: int
    nan_both: int
    nan_one: int
    infinite: int
    finite: int
    far: int
    steps: int
    at: int
    sum: float
    most: float
    relative: float
    most_relative: float
    dot: float
    aa: float
    bb: float
    dd: float


def folded(part: Part) -> Figures:
    return Figures(*_PAIR.unpack(_kernels.fold_pairs(b"".join(part.records))))


def figures(part: Part, f: Figures, shape: tuple[int, ...]) -> dict[str, Any]:
    if f.n != part.n:  # the same bytes on both sides
        return {"numel": part.n, "equal": part.n}
    out: dict[str, Any] = {
        "numel": f.n,
        "equal": f.equal,
        "far": f.far,
        "nan_pairs": f.nan_both,
        "nan_mismatches": f.nan_one,
        "infinite": f.infinite,
    }
    if not f.finite:
        return out
    out |= {"max_abs": f.most, "mean_abs": f.sum / f.finite, "max_rel": f.most_relative}
    out["mean_rel"] = f.relative / f.finite
    norm = math.sqrt(f.aa) * math.sqrt(f.bb)
    if 0 < norm < math.inf and math.isfinite(f.dot):
        out["cosine"] = max(-1.0, min(1.0, f.dot / norm))
    if part.types[0] == part.types[1] and _core.DTYPES[part.types[0]][0] in FLOATS:
        out["max_ulp"] = f.steps
    if f.at != NOWHERE and math.prod(shape) == f.n:
        index, at = [], f.at
        for n in reversed(shape):
            at, k = divmod(at, n)
            index.append(k)
        out["worst"] = tuple(reversed(index))
    return out


# ---- the work ----


def work_on(
    jobs: Iterator[_Job],
    total: int,
    threads: int | None,
    progress: Callable[[int, int], None] | None,
    executor: Executor | None = None,
    afar: bool = False,
) -> None:
    """Does all of them, by threads; or what lies in files by an executor. afar: is most of the time waiting?"""
    if executor is not None:
        _submit(jobs, total, progress, executor)
        return
    done: list[int] = []
    tick = None if progress is None else lambda: progress(min(sum(done), total), total)
    together = bundles(jobs, lambda job: job.nbytes, 0 if afar else TASK)
    share(together, lambda _: lambda bundle: done.extend(job.run() for job in bundle), crew(total, threads, afar), tick)


def _submit(jobs: Iterator[_Job], total: int, progress: Callable[[int, int], None] | None, executor: Executor) -> None:
    """What others cannot open is done here, when they have got all that they can."""
    here: list[_Job] = []
    near, done = is_near(executor), 0

    def there() -> Iterator[tuple[_Job, tuple[Any, ...]]]:
        for job in jobs:
            where = job.where() if isinstance(job, _Lying) else None
            if near:
                yield job, (job.run,)
            elif where is None or not isinstance(job, _Lying):
                here.append(job)
            else:
                yield job, (compare_elsewhere, where, job.spans(), job.tolerance, job.forced)

    def count(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(min(done, total), total)

    together = bundles(there(), lambda row: row[0].nbytes, TASK)
    calls = (([job for job, _ in rows], 0, (call_all, [call for _, call in rows])) for rows in together)
    for bundle, came in submit(executor, calls):
        for job, one in zip(bundle, came, strict=True):
            count(job.take(*one) if isinstance(job, _Lying) and not near else one)
    for job in here:
        count(job.run())


Where = tuple[tuple[str, int, Any], ...]  # of two files: address, first byte, what tells its version
Span = tuple[int, int, int, int, int, int, int]  # a run: first byte and bytes on each side, elements, both dtypes


def compare_elsewhere(where: Where, spans: list[Span], tolerance: Tolerance, forced: bool) -> tuple[int, bytes]:
    """Runs of two files, in another process, which opens them itself: (how many it could compare, their records)."""
    opened: list[Source] = []
    try:
        for address, _, state in where:
            opened.append(open_again(address, state))
        sides = [SliceSource(s, at, s.size) if at else s for s, (_, at, _) in zip(opened, where, strict=True)]
        return _compare((sides[0], sides[1]), spans, tolerance, forced)
    except (PthError, OSError):
        return 0, b""
    finally:
        for source in opened:
            source.close()


def _compare(sides: tuple[Source, Source], spans: list[Span], tolerance: Tolerance, forced: bool) -> tuple[int, bytes]:
    """What it cannot read is told by who reads it again."""
    first, second = (side.within() if isinstance(side, SliceSource) else (side, 0) for side in sides)
    if isinstance(first[0], FileSource) and isinstance(second[0], FileSource):
        return _compare_files((first[0], second[0]), (first[1], second[1]), spans, tolerance, forced)
    records: list[bytes] = []
    try:
        if sides[0].afar:
            sides = sides[0].held((span[0], span[0] + span[1]) for span in spans), sides[1]
        if sides[1].afar:
            sides = sides[0], sides[1].held((span[2], span[2] + span[3]) for span in spans)
        for a, n_a, b, n_b, *what in spans:
            left, right = bytes(sides[0].read(a, n_a)), bytes(sides[1].read(b, n_b))
            records.append(_record(left, right, what, tolerance, forced))
    except (PthError, OSError):
        pass
    return len(records), b"".join(records)


def _compare_files(
    files: tuple[FileSource, FileSource], starts: tuple[int, int], spans: list[Span], tolerance: Tolerance, forced: bool
) -> tuple[int, bytes]:
    rows = b"".join([_RUNS.pack(a, b, n, of_a, of_b) for a, _, b, _, n, of_a, of_b in spans])
    bases = [file.base + start for file, start in zip(files, starts, strict=True)]
    fds: list[int] = []
    try:
        fds += [files[0].borrow()]
        fds += [files[1].borrow()]
        return _kernels.compare_files(ISA, fds[0], bases[0], fds[1], bases[1], rows, tolerance, forced)
    except (PthError, OSError):
        return 0, b""
    finally:
        for file, fd in zip(files, fds, strict=False):
            file.restore(fd)


def _record(left: bytes, right: bytes, what: Sequence[int], tolerance: Tolerance, forced: bool) -> bytes:
    """Of a run: elements, both dtypes. Where its bytes are the same nothing else is looked at."""
    n, type_a, type_b = what
    if forced or type_a != type_b or left != right:
        return _kernels.compare(ISA, left, right, type_a, type_b, n, tolerance)
    return bytes(_PAIR.size)


class _Job:
    """Runs that are compared by one thread."""

    nbytes = 0

    def run(self) -> int:
        raise AssertionError("abstract")


class _Lying(_Job):
    """Runs that lie in two files as they are wanted, here or far away."""

    def __init__(self, sides: tuple[Source, Source], tolerance: Tolerance, forced: bool) -> None:
        self.sides, self.tolerance, self.forced = sides, tolerance, forced

    def where(self) -> Where | None:
        """The files, as another process can open them."""
        first, second = (side.address() for side in self.sides)
        if first is None or second is None:
            return None
        return (first, self.sides[0].base, self.sides[0].opened), (second, self.sides[1].base, self.sides[1].opened)

    def spans(self) -> list[Span]:
        raise AssertionError("abstract")

    def run(self) -> int:
        return self.take(*_compare(self.sides, self.spans(), self.tolerance, self.forced))

    def take(self, done: int, records: bytes) -> int:
        raise AssertionError("abstract")


class _Runs(_Lying):
    """Those of parts of tensors."""

    def __init__(
        self, sides: tuple[Source, Source], tolerance: Tolerance, forced: bool, runs: list[tuple[Part, int]]
    ) -> None:
        super().__init__(sides, tolerance, forced)
        self.runs = runs
        self.nbytes = sum(part.nbytes(1) for part, _ in runs)

    def spans(self) -> list[Span]:
        spans = []
        for part, number in self.runs:
            assert part.a is not None and part.b is not None
            first = number * RUN
            spans.append((*part.a.span(first, RUN), *part.b.span(first, RUN), min(RUN, part.n - first), *part.types))
        return spans

    def take(self, done: int, records: bytes) -> int:
        for i, (part, number) in enumerate(self.runs):
            if i < done:
                part.records[number] = records[i * _PAIR.size : (i + 1) * _PAIR.size]
            elif part.error is None:
                _Gathered(part, self.tolerance, self.forced, number).run()
        return self.nbytes


class _Whole(_Lying):
    """Tensors of one run, many of them: for each a record is kept, b"" where all bytes are the same."""

    def __init__(
        self, sides: tuple[Source, Source], tolerance: Tolerance, rows: list[_Beside], found: list[bytes | None]
    ) -> None:
        super().__init__(sides, tolerance, False)
        self.rows, self.found = rows, found
        self.nbytes = 2 * sum([nbytes for _, _, _, nbytes, _, _ in rows])

    def spans(self) -> list[Span]:
        return [(a, nbytes, b, nbytes, n, dtype, dtype) for a, b, _, nbytes, n, dtype in self.rows]

    def take(self, done: int, records: bytes) -> int:
        counts = memoryview(records).cast("Q")[:: _PAIR.size // 8].tolist()  # n, of each
        for i, (n, row) in enumerate(zip(counts, self.rows, strict=False)):
            self.found[row[2]] = records[i * _PAIR.size : (i + 1) * _PAIR.size] if n else b""
        return self.nbytes


_Beside = tuple[int, int, int, int, int, int]  # first byte on each side, number, bytes, elements, dtype


class Lines:
    """Tensors of one run that lie in two files as they are wanted, of one dtype. Most are the same, and need no Part.

    Attributes
    ----------
    records : list of (bytes or None)
        Of each number that `add` gave: b"" where all bytes are the same; None where they could not be read.
    nbytes : int
    """

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}
        self.rows: dict[tuple[Source, Source], list[_Beside]] = {}
        self.records: list[bytes | None] = []
        self.nbytes = 0

    def add(self, a: Any, b: Any, budget: Budget) -> int | None:
        """The number of a pair, the same for the same elements. None: it must be looked at closer.

        Not for those to whom a NaN is no NaN: it may be unequal to itself, whatever its bytes.
        """
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
            return None
        line_a, line_b = line_of(a), line_of(b)
        if line_a is None or line_b is None or line_a[1:] != line_b[1:] or line_a[2] > RUN:
            return None
        if a.shape != b.shape:
            return None
        at_a, nbytes, n, dtype = line_a
        at_b = line_b[0]
        source_a, source_b = a.table.home.box.source, b.table.home.box.source
        key = source_a, at_a, source_b, at_b, n, dtype
        number = self.known.get(key)
        if number is None:
            if not (reads(source_a) and reads(source_b)):
                return None
            budget.take_bytes(a, nbytes)
            budget.take_bytes(b, nbytes)
            number = self.known[key] = len(self.records)
            if at_a == at_b and source_a is source_b:  # not only alike
                self.records.append(b"")
                return number
            self.records.append(None)
            self.rows.setdefault((source_a, source_b), []).append((at_a, at_b, number, nbytes, n, dtype))
            self.nbytes += 2 * nbytes
        return number

    def jobs(self, tolerance: Tolerance) -> Iterator[_Job]:
        """All of the work, once: then no more can be added."""
        self.known.clear()  # there may be very many
        while self.rows:
            sides, rows = self.rows.popitem()
            rows.sort()
            first = size = 0
            for i, row in enumerate(rows, 1):
                size += 2 * row[3]
                if size >= TASK or i - first == MOST_RUNS or i == len(rows):
                    yield _Whole(sides, tolerance, rows[first:i], self.records)
                    first, size = i, 0


class _Gathered(_Job):
    """A pair whose elements must be brought together first, run by run. `only`: one of its runs."""

    def __init__(self, part: Part, tolerance: Tolerance, forced: bool, only: int | None = None) -> None:
        self.part, self.tolerance, self.forced, self.only = part, tolerance, forced, only
        self.nbytes = part.nbytes(len(part.records))

    def run(self) -> int:
        part = self.part
        try:
            with guard("its elements"):
                self._run()
        except PthError as e:
            part.error = e
        return self.nbytes

    def _run(self) -> None:
        part = self.part
        sides = part.sides()
        if self.only is not None:
            first = self.only * RUN
            sides = sides[0].run(first, RUN), sides[1].run(first, RUN)
        steps = (
            [RUN * side.nbytes // max(1, side.n) for side in sides] if sides[0].n > RUN else [s.nbytes for s in sides]
        )
        start = self.only or 0
        blocks = zip(sides[0].blocks(steps[0]), sides[1].blocks(steps[1]), strict=True)
        for number, (x, y) in enumerate(blocks, start):
            n = min(RUN, part.n - number * RUN)
            part.records[number] = _record(bytes(x), bytes(y), (n, *part.types), self.tolerance, self.forced)


def jobs_of(parts: Sequence[Part], tolerance: Tolerance, forced: bool) -> Iterator[_Job]:
    """Runs whose figures are known already are left out."""
    lying: dict[tuple[Source, Source], list[tuple[tuple[int, int], Part]]] = {}
    for i, part in enumerate(parts):
        if "untyped" in (_core.DTYPES[part.types[0]][0], _core.DTYPES[part.types[1]][0]):
            part.error = UnsupportedError("no-data", "it has no dtype")
        elif part.a is not None and part.b is not None and lies(part.a) and lies(part.b):
            lying.setdefault((part.a.source, part.b.source), []).append(((part.a.offset, i), part))
        elif part.n:
            yield _Gathered(part, tolerance, forced)
    for both, rows in lying.items():
        rows.sort(key=lambda row: row[0])
        runs: list[tuple[Part, int]] = []
        size = 0
        for _, part in rows:
            for number, record in enumerate(part.records):
                if is_known(record):
                    continue
                runs.append((part, number))
                size += part.nbytes(1)
                if size >= TASK or len(runs) == MOST_RUNS:
                    yield _Runs(both, tolerance, forced, runs)
                    runs, size = [], 0
        if runs:
            yield _Runs(both, tolerance, forced, runs)
