"""Elements of two tensors beside each other: what is read of them, in what runs, by whom, and the figures of it.

Runs are cut at the same places always, and read by whatever thread has time; their figures are put together in order.
"""

from __future__ import annotations

import math
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _kernels
from .contents import Elements, is_file, lasting, leaves_of
from .errors import PthError, UnsupportedError, guard
from .source import FileSource, open_source
from .team import processors, work_off

if TYPE_CHECKING:
    from concurrent.futures import Executor

RUN = 1 << 18  # elements of a run: a whole number of the kernels' pieces
TASK = 1 << 23  # bytes of a task for a thread
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

    def __init__(self, place: tuple[int, int], owners: tuple[Any, Any], found: tuple[Elements, Elements]) -> None:
        self.place = place  # which of the parts of each side
        self.owner_a, self.owner_b = owners
        self.types = found[0].dtype, found[1].dtype
        self.n = found[0].n
        self.a = found[0] if lasting(owners[0], found[0]) else None
        self.b = found[1] if lasting(owners[1], found[1]) else None
        self.records: list[bytes] = [b""] * -(-self.n // RUN)
        self.same = found[0].key == found[1].key  # not only alike: the same elements of the same file
        self.differs = self.types[0] != self.types[1]  # in a bit
        self.error: PthError | None = None

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


def folded(part: Part) -> Figures:
    return Figures(*_PAIR.unpack(_kernels.fold_pairs(b"".join(part.records))))


def figures(part: Part, shape: tuple[int, ...]) -> dict[str, Any]:
    f = folded(part)
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
) -> None:
    """Does all of them, by threads; or what lies in files by an executor, some tasks at a time."""
    if executor is not None:
        _submit(jobs, total, 4 * (threads or processors()), progress, executor)
        return
    work_off(jobs, lambda job, _: job.run(), total, threads, progress)


def _submit(
    jobs: Iterator[_Job], total: int, most: int, progress: Callable[[int, int], None] | None, executor: Executor
) -> None:
    waiting: deque[tuple[_Lying, Any]] = deque()
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(min(done, total), total)

    for job in jobs:
        where = job.where() if isinstance(job, _Lying) else None
        if where is None or not isinstance(job, _Lying):
            count(job.run())
            continue
        if len(waiting) >= most:
            first, future = waiting.popleft()
            count(first.take(*future.result()))
        waiting.append((job, executor.submit(compare_elsewhere, where, job.rows(), job.tolerance, job.forced)))
    for first, future in waiting:
        count(first.take(*future.result()))


Where = tuple[tuple[str, int, tuple[int, int]], ...]  # of two files: path, first byte, state


def compare_elsewhere(where: Where, rows: bytes, tolerance: Tolerance, forced: bool) -> tuple[int, bytes]:
    """Runs of two files, in another process, which opens them itself: (how many it could compare, their records)."""
    sources = []
    try:
        for path, _, opened in where:
            source = open_source(path)
            sources.append(source)
            if not isinstance(source, FileSource) or source.opened != opened:
                return 0, b""
        files = [s for s in sources if isinstance(s, FileSource)]
        return _compare((files[0], files[1]), (where[0][1], where[1][1]), rows, tolerance, forced)
    except (PthError, OSError):
        return 0, b""
    finally:
        for source in sources:
            source.close()


def _compare(
    files: tuple[FileSource, FileSource], bases: tuple[int, int], rows: bytes, tolerance: Tolerance, forced: bool
) -> tuple[int, bytes]:
    fds: list[int] = []
    try:
        fds += [files[0].duplicate()]
        fds += [files[1].duplicate()]
        done, records = _kernels.compare_files(ISA, fds[0], bases[0], fds[1], bases[1], rows, tolerance, forced)
        return done, records
    except (PthError, OSError):
        return 0, b""  # it is told by who reads it again
    finally:
        for fd in fds:
            os.close(fd)


class _Job:
    """Runs that are compared by one thread."""

    def run(self) -> int:
        raise AssertionError("abstract")


class _Lying(_Job):
    """Runs that lie in two files as they are wanted."""

    def __init__(
        self, files: tuple[FileSource, FileSource], tolerance: Tolerance, forced: bool, runs: list[tuple[Part, int]]
    ) -> None:
        self.files, self.tolerance, self.forced, self.runs = files, tolerance, forced, runs

    def where(self) -> Where | None:
        """The files, as another process can open them."""
        first, second = self.files
        if first.path is None or second.path is None:
            return None
        return (first.path, first.base, first.opened), (second.path, second.base, second.opened)

    def rows(self) -> bytes:
        rows = []
        for part, number in self.runs:
            assert part.a is not None and part.b is not None
            at = number * RUN
            n = min(RUN, part.n - at)
            offsets = [side.offset + at * side.nbytes // max(1, side.n) for side in (part.a, part.b)]
            rows.append(_RUNS.pack(*offsets, n, *part.types))
        return b"".join(rows)

    def run(self) -> int:
        bases = self.files[0].base, self.files[1].base
        return self.take(*_compare(self.files, bases, self.rows(), self.tolerance, self.forced))

    def take(self, done: int, records: bytes) -> int:
        for i, (part, number) in enumerate(self.runs):
            if i < done:
                part.records[number] = records[i * _PAIR.size : (i + 1) * _PAIR.size]
            elif part.error is None:
                _Gathered(part, self.tolerance, self.forced, number).run()
        return sum(part.nbytes(1) for part, _ in self.runs)


class _Gathered(_Job):
    """A pair whose elements must be brought together first, run by run. `only`: one of its runs."""

    def __init__(self, part: Part, tolerance: Tolerance, forced: bool, only: int | None = None) -> None:
        self.part, self.tolerance, self.forced, self.only = part, tolerance, forced, only

    def run(self) -> int:
        part = self.part
        try:
            with guard("its elements"):
                self._run()
        except PthError as e:
            part.error = e
        return part.nbytes(len(part.records))

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
            left, right = bytes(x), bytes(y)
            if self.forced or part.types[0] != part.types[1] or left != right:
                part.records[number] = _kernels.compare(ISA, left, right, *part.types, n, self.tolerance)
            else:
                part.records[number] = bytes(_PAIR.size)


def jobs_of(parts: Sequence[Part], tolerance: Tolerance, forced: bool) -> Iterator[_Job]:
    """Runs whose figures are known already are left out."""
    lying: dict[tuple[FileSource, FileSource], list[tuple[tuple[int, int], Part]]] = {}
    for i, part in enumerate(parts):
        if "untyped" in (_core.DTYPES[part.types[0]][0], _core.DTYPES[part.types[1]][0]):
            part.error = UnsupportedError("no-data", "it has no dtype")
        elif part.a is not None and part.b is not None and is_file(part.a) and is_file(part.b):
            files: Any = part.a.source, part.b.source
            lying.setdefault(files, []).append(((part.a.offset, i), part))
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
                    yield _Lying(both, tolerance, forced, runs)
                    runs, size = [], 0
        if runs:
            yield _Lying(both, tolerance, forced, runs)
