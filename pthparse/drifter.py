"""How the tensors of a model move over a series of checkpoints: norms, and how far each is from the one before.

Three checkpoints are open at a time: the first one, the one before, and the one it is the turn of. Where the bytes of a
tensor are the same as before, its figures are too, and nothing is read a second time.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .contents import Budget, leaves_of
from .differ import Uncompared, uncompared
from .engine import measure, measure_array
from .errors import PthError, UnsupportedError
from .limits import Limits
from .pairs import Part, folded, is_known, jobs_of, work_on
from .record import Record
from .series import Series, Step, each_of
from .walks import locate

if TYPE_CHECKING:
    from typing import BinaryIO

    from .tensor import Tensor

EXACT = (0.0, 0.0, True)
SORTS = ("file", "name", "change", "step", "norm", "cosine")
# Of these no element stands for another one of the next checkpoint.
NOT_FOLLOWED = {
    "quantized": "is quantized: its integers mean other values when its scale is another",
    "sparse": "is sparse: its elements have no fixed places",
    "nested": "is nested",
    "meta": "was saved without data",
    "uninitialized": "was saved before it had a shape",
}


class DriftRow(Record):
    """A tensor, or the tensors of a module, over the steps. Each tuple has an entry for each step; None: there is none.

    Attributes
    ----------
    name : str
    tensors : int
    norm : tuple of float or None
        The root of the sum of squares (L2) of all finite elements.
    change : tuple of float or None
        ||a - b|| / ||a||, a being the checkpoint before: of what both have in the same shape, and is finite in both.
        inf where a is all zeros and b is not.
    cosine : tuple of float or None
        Of the angle between both as vectors.
    change_from_first, cosine_from_first : tuple of float or None
        The same with the first checkpoint as a.
    """

    name: str
    tensors: int
    norm: tuple[float | None, ...]
    change: tuple[float | None, ...]
    cosine: tuple[float | None, ...]
    change_from_first: tuple[float | None, ...]
    cosine_from_first: tuple[float | None, ...]

    @property
    def total(self) -> float | None:
        """The change from the first checkpoint to the last one that has it."""
        return next((x for x in reversed(self.change_from_first[1:]) if x is not None), None)

    @property
    def largest(self) -> tuple[float, int] | None:
        """The largest change between two neighbours, and the place of the later one; inf if there is no other."""
        found = [(x, i) for i, x in enumerate(self.change) if x is not None]
        return max(found, key=lambda pair: (_finite(pair[0]), -pair[1]), default=None)


class DriftEvent(Record):
    """A tensor that appears, vanishes, is reshaped or recast: from the checkpoint before to the one at this place."""

    at: int
    kind: str
    name: str
    text: str


class DriftReport(Record):
    """A series of checkpoints.

    Attributes
    ----------
    steps : tuple of Step
        path and step of each, in order.
    basis : str
        How the steps are known.
    rows : tuple of DriftRow
        In the order of the files.
    events : tuple of DriftEvent
    errors : tuple of Uncompared
        Tensors that cannot be followed, or not everywhere, each with the first reason.
    """

    steps: tuple[Step, ...]
    basis: str
    rows: tuple[DriftRow, ...]
    events: tuple[DriftEvent, ...]
    errors: tuple[Uncompared, ...]

    def sorted(self, key: str = "change") -> tuple[DriftRow, ...]:
        """The rows in another order.

        Parameters
        ----------
        key : str
            'change' from first to last, 'step': the largest one between neighbours, or the last 'norm': the largest
            first; 'cosine' from first to last: the smallest first; 'name'; 'file': as they are.
        """
        if key == "file":
            return self.rows
        if key == "name":
            return tuple(sorted(self.rows, key=lambda row: row.name))
        return tuple(sorted(self.rows, key=lambda row: _rank(row, key)))


def _finite(x: float) -> float:
    """What has no measure comes behind what has one."""
    return x if math.isfinite(x) else -1.0


def _rank(row: DriftRow, key: str) -> float:
    if key == "cosine":
        return next((x for x in reversed(row.cosine_from_first) if x is not None), 2.0)
    if key == "norm":
        found = next((x for x in reversed(row.norm) if x is not None), None)
    elif key == "step":
        found = row.largest[0] if row.largest is not None else None
    elif key == "change":
        found = row.total
    else:
        raise ValueError(f"sorted by {', '.join(SORTS)}, not {key!r}")
    return 2.0 if found is None else -_finite(found)


def drift(
    sources: Iterable[str | os.PathLike[str] | bytes | BinaryIO | Mapping[str, Any]],
    *,
    all: bool = False,
    depth: int | None = None,
    limits: Limits | None = None,  # type: ignore[valid-type]
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DriftReport:
    """How each tensor moves over a series of checkpoints of one training.

    Parameters
    ----------
    sources : what `pthparse.open` takes, opened checkpoints, or mappings of names to tensors; two at least
        They are put in the order of their steps: 'step', 'global_step', 'iteration' or 'epoch' in the files, else the
        numbers in their names, else as they are given.
    all : bool
        Every tensor, the optimizer's too; not those of the state dict alone.
    depth : int, optional
        Follow modules instead of tensors: so many components of their names.
    limits : Limits, optional
        What the files may ask for.
    threads : int, optional
        Default: one for each processor that this process may use. They change no bit.
    progress : callable, optional
        Called now and then with (bytes read, bytes to be read, at most).

    Raises
    ------
    PthError
        One of them cannot be opened. What is wrong with a tensor stands in `errors`.
    OSError
        A file itself cannot be read.
    ValueError
        It is one checkpoint, or none; or the depth is below 1.
    """
    if depth is not None and depth < 1:
        raise ValueError("a depth of at least 1")
    given = each_of(sources)
    if len(given) < 2:
        raise ValueError("a series has two checkpoints at least")
    series = Series(given, limits)
    try:
        return _Drift(series, all, depth, threads, progress).report()
    finally:
        series.close()


class _Pair(NamedTuple):
    """Sums over the pairs of finite elements of a tensor in two checkpoints: (a - b)^2, a*b, a*a, b*b."""

    dd: float
    dot: float
    aa: float
    bb: float
    whole: bool  # are all elements finite?
    same: bool = False  # to the last bit


# Of a row, at each step: sum of squares, tensors; and the sums of both pairs, with how many tensors there are in them.
NORM, SEEN, BEFORE, FIRST, WIDTH = 0, 1, 2, 7, 12


class _Drift:
    def __init__(
        self,
        series: Series,
        everything: bool,
        depth: int | None,
        threads: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.series, self.everything, self.depth, self.threads = series, everything, depth, threads
        self.rows: dict[str, array[float]] = {}
        self.members: dict[str, int] = {}
        self.known: set[str] = set()
        self.norms: dict[str, float] = {}  # of the tensors of the checkpoint before: sums of squares
        self.moved: dict[str, _Pair] = {}  # and how far they are from the first
        self.events: list[DriftEvent] = []
        self.errors: dict[str, PthError] = {}
        self.progress, self.done, self.total = progress, 0, 0

    def report(self) -> DriftReport:
        with ExitStack() as stack:
            first, stays = self._open(0, stack), stack.enter_context(ExitStack())
            self.total = 4 * (len(self.series) - 1) * sum(max(0, t.nbytes) for t in first.values())
            self._add(0, self._measured(0, first, list(first)), {}, {})
            before = first
            for i in range(1, len(self.series)):
                with ExitStack() as last:
                    last.push(stays.pop_all())  # closed when its turn is over
                    now = self._open(i, stays)
                    self._step(i, first, before, now)
                before = now
        if self.progress is not None:
            self.progress(self.total, self.total)
        return DriftReport(
            self.series.steps,
            self.series.basis,
            tuple(self._row(name, row) for name, row in self.rows.items()),
            tuple(self.events),
            uncompared(self.errors),
        )

    def _open(self, i: int, stack: ExitStack) -> dict[str, Tensor]:
        """The tensors that are followed."""
        found: dict[str, Tensor] = {}
        for name, t in self.series.open(i, stack, self.everything).items():
            kind = getattr(t, "kind", "dense")
            if kind in NOT_FOLLOWED:
                self._fail(name, UnsupportedError("no-array", f"tensor {name!r} {NOT_FOLLOWED[kind]}"))
            else:
                found[name] = t
        return found

    def _step(self, i: int, first: dict[str, Tensor], before: dict[str, Tensor], now: dict[str, Tensor]) -> None:
        for name, t in before.items():
            if name not in now:
                self.events.append(DriftEvent(i, "vanishes", name, f"{t.dtype} {list(t.shape)}"))
        both = []
        for name, t in now.items():
            old = before.get(name)
            if old is None:
                self.events.append(DriftEvent(i, "appears", name, f"{t.dtype} {list(t.shape)}"))
                continue
            told = f"{old.dtype} {list(old.shape)} -> {t.dtype} {list(t.shape)}"
            if old.shape != t.shape:
                self.events.append(DriftEvent(i, "reshaped", name, told))
            else:
                both.append(name)
                if old.dtype != t.dtype:
                    self.events.append(DriftEvent(i, "recast", name, told))
        pairs = self._compared(before, now, [name for name in both if name in self.norms])
        norms, wanted, rest = {}, [], []
        for name, t in now.items():
            pair = pairs.get(name)
            if pair is None or not (pair.whole or pair.same):
                wanted.append(name)  # its norm is of more than was compared
            else:
                norms[name] = self.norms[name] if pair.same else pair.bb
            if i > 1 and name in first and first[name].shape == t.shape and not (pair is not None and pair.same):
                rest.append(name)
        norms |= self._measured(i, now, wanted)
        moved = pairs if i == 1 else self._compared(first, now, [name for name in rest if name in norms])
        if i > 1:
            moved = {n: self.moved[n] for n, pair in pairs.items() if pair.same and n in self.moved} | moved
        self._add(i, norms, pairs, moved)

    # ---- what is read ----

    def _measured(self, i: int, tensors: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, float]:
        """Sums of squares of finite elements."""
        plain = [tensors[n] for n in names if hasattr(tensors[n], "_home") or hasattr(tensors[n], "chunks")]
        found: dict[str, float] = {}
        own = {id(t): n for n, t in zip(names, (tensors[n] for n in names), strict=True)}
        by_name = {t.name: own[id(t)] for t in plain}
        table = measure(plain, threads=self.threads)
        for s in table:
            if s.name in by_name:
                found[by_name[s.name]] = _square(s.l2)
        for name, error in table.errors.items():
            self._fail(by_name.get(name, name), error)
        for name in names:
            if name not in found and name not in self.errors:
                try:
                    found[name] = _squares(name, tensors[name])
                except PthError as e:
                    self._fail(name, e)
        return found

    def _compared(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, _Pair]:
        budget, parts = Budget(), {}
        known: dict[Any, Part] = {}
        for tensors in (a, b):
            locate([tensors[name] for name in names])
        for name in names:
            try:
                sides = [leaves_of(t[name], budget)[1] for t in (a, b)]
                if [path for side in sides for path, _ in side] != ["", ""]:
                    raise UnsupportedError("no-array", f"tensor {name!r} is made of several others")
                own, other = sides[0][0][1], sides[1][0][1]
                part = known.get((own.key, other.key))
                if part is None:
                    budget.take(a[name], own)
                    budget.take(b[name], other)
                    part = known[own.key, other.key] = Part.of((0, 0), (a[name], b[name]), (own, other))
                parts[name] = part
            except PthError as e:
                self._fail(name, e)
        todo = [p for p in known.values() if not p.same]
        self._work(todo, False)
        for part in todo:
            part.differs |= any(map(is_known, part.records))
        # Of those that differ, the rest counts too.
        self._work([p for p in todo if p.differs and p.error is None], True)
        found = {}
        for name, part in parts.items():
            if part.error is not None:
                self._fail(name, part.error)
            elif part.differs:
                f = folded(part)
                found[name] = _Pair(f.dd, f.dot, f.aa, f.bb, f.finite == part.n)
            else:
                found[name] = _Pair(0.0, 0.0, 0.0, 0.0, False, True)
        return found

    def _work(self, parts: Sequence[Part], forced: bool) -> None:
        size = sum(part.missing() for part in parts)
        told = self.progress
        tick = None if told is None else lambda n, _: told(min(self.done + n, self.total), self.total)
        work_on(jobs_of(parts, EXACT, forced), size, self.threads, tick)
        self.done += size

    def _fail(self, name: str, error: PthError) -> None:
        self.errors.setdefault(name, error)

    # ---- what comes of it ----

    def _add(self, i: int, norms: dict[str, float], pairs: Mapping[str, _Pair], moved: Mapping[str, _Pair]) -> None:
        names = list(norms)
        owners: Sequence[str] = names
        if self.depth is not None:
            numbers, groups = _core.group_names(names, self.depth)
            owners = [groups[k] for k in memoryview(numbers).cast("I")]
        kept = {}
        for name, owner in zip(names, owners, strict=True):
            row = self.rows.get(owner)
            if row is None:
                row = self.rows[owner] = array("d", bytes(8 * WIDTH * len(self.series)))
            if name not in self.known:
                self.known.add(name)
                self.members[owner] = self.members.get(owner, 0) + 1
            at, squares = WIDTH * i, norms[name]
            row[at + NORM] += squares
            row[at + SEEN] += 1
            for place, pair in ((BEFORE, pairs.get(name)), (FIRST, moved.get(name))):
                if pair is None:
                    continue
                if pair.same:
                    pair = _Pair(0.0, squares, squares, squares, False, True)
                for k, x in enumerate(pair[:4]):
                    row[at + place + k] += x
                row[at + place + 4] += 1
                if place == FIRST:
                    kept[name] = pair
        self.norms, self.moved = norms, kept

    def _row(self, name: str, row: array[float]) -> DriftRow:
        cells = [row[at : at + WIDTH] for at in range(0, len(row), WIDTH)]
        norm = tuple(math.sqrt(c[NORM]) if c[SEEN] else None for c in cells)
        columns: list[tuple[float | None, ...]] = []
        for place in (BEFORE, FIRST):
            sums = [c[place : place + 4] if c[place + 4] else None for c in cells]
            columns.append(tuple(None if s is None else _change(*s) for s in sums))
            columns.append(tuple(None if s is None else _cosine(*s) for s in sums))
        return DriftRow(name, self.members[name], norm, *columns)


def _change(dd: float, dot: float, aa: float, bb: float) -> float | None:
    if not math.isfinite(dd + aa):  # squares beyond a double
        return None
    return 0.0 if dd == 0 else math.inf if aa == 0 else math.sqrt(dd) / math.sqrt(aa)


def _cosine(dd: float, dot: float, aa: float, bb: float) -> float | None:
    size = math.sqrt(aa) * math.sqrt(bb)
    if not 0 < size < math.inf or not math.isfinite(dot):
        return None
    return 1.0 if dd == 0 else max(-1.0, min(1.0, dot / size))


def _square(norm: float | None) -> float:
    return (norm or 0.0) * (norm or 0.0)  # a power would raise where this is inf


def _squares(name: str, t: Any) -> float:
    """Of an array, or what gives one."""
    return _square(measure_array(name, t.numpy() if hasattr(t, "numpy") else t).l2)
