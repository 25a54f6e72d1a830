"""Two models beside each other: which tensors are the same, gone, new or renamed, and how far the others are apart.

Where the bytes of two tensors are the same, no element is looked at. Figures are the same to the last bit, however many
threads there are, and whatever the containers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from .checkpoint import ties_of, unread
from .contents import Budget, leaves_of
from .errors import PthError
from .hashes import hashes_of
from .limits import Limits
from .pairs import Lines, Part, Tolerance, figures, folded, is_known, jobs_of, work_on
from .record import Record
from .values import preview
from .walks import locate

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import BinaryIO

MOST_PAIRED = 10_000  # pairs of names that are looked at to tell which of several equal tensors became which
LAST = 64  # characters of two names that are looked at for it
SHORT = 500  # characters of a value that is no plain one
MOST_TEXT = 20_000  # characters by which two such values are compared
PLAIN = (str, bytes, bool, int, float, complex, type(None))


class TensorDiff(Record):
    """A tensor that is on both sides, and not the same. Figures are of the pairs of finite elements, `a` to `b`.

    Attributes
    ----------
    name, name_b : str
        In the first model, and in the second one.
    dtype, dtype_b : str
    shape, shape_b : tuple of int
    numel : int
        Pairs of elements that were compared; 0 where there are none, as between shapes of different size.
    equal : int
        Pairs of equal value; 0.0 is equal to -0.0.
    far : int
        Pairs that are not close: torch.isclose's meaning, |a - b| <= atol + rtol * |b|.
    nan_pairs, nan_mismatches : int
        Pairs with a NaN on both sides, and on one side alone.
    infinite : int
        Pairs that are not equal, of which one is infinite.
    max_abs, mean_abs : float or None
        Of |a - b|.
    max_rel, mean_rel : float or None
        Of |a - b| / max(|a|, |b|), 0 where both are zero: at most 2, and the same from either side.
    cosine : float or None
        Of the angle between both as vectors; None if one is zero.
    max_ulp : int or None
        The most steps from a number to the next one of its type that it takes from a to b; None but for floats of
        one dtype.
    worst : tuple of int or None
        Index of the (first) largest |a - b|.
    parts : tuple of str
        Of a tensor that is made of others: those that differ. Figures are of its values. Of a tensor that is another
        kind of one on either side, what it is there: 'sparse_csr -> tensor'.
    """

    name: str
    name_b: str
    dtype: str
    dtype_b: str
    shape: tuple[int, ...]
    shape_b: tuple[int, ...]
    numel: int = 0
    equal: int = 0
    far: int = 0
    nan_pairs: int = 0
    nan_mismatches: int = 0
    infinite: int = 0
    max_abs: float | None = None
    mean_abs: float | None = None
    max_rel: float | None = None
    mean_rel: float | None = None
    cosine: float | None = None
    max_ulp: int | None = None
    worst: tuple[int, ...] | None = None
    parts: tuple[str, ...] = ()


class Renamed(Record):
    """A tensor that has another name, and the same dtype, shape and elements."""

    name: str
    name_b: str


class ValueDiff(Record):
    """A plain value that is not the same; `kind`: 'changed', 'added', 'removed'. What is no plain value is a text."""

    path: str
    kind: str
    a: Any
    b: Any


class Uncompared(Record):
    """A tensor that cannot be compared, and why."""

    name: str
    code: str
    message: str


def uncompared(errors: Mapping[str, PthError]) -> tuple[Uncompared, ...]:
    return tuple(Uncompared(name, e.code, e.message) for name, e in errors.items())


class DiffReport(Record):
    """Two models beside each other. Names are as they are in the files.

    Attributes
    ----------
    a, b : str or None
        The paths.
    same : bool
        Nothing differs, beyond the tolerances: names, shapes, dtypes, elements, values.
    identical : int
        Tensors that are equal to the last bit.
    close : tuple of TensorDiff
        Those that are within the tolerances, and no more.
    changed, reshaped, recast : tuple of TensorDiff
        Those with other elements; with another shape; with the same shape and another dtype.
    removed, added : tuple of str
        Those of the first model alone, and of the second one alone.
    renamed : tuple of Renamed
        Those that are under another name.
    values : tuple of ValueDiff
        Plain values by path: epoch, lr.
    values_count : bool
        Do values that one side lacks count? Not where it cannot have any, being of another format.
    errors : tuple of Uncompared
        Tensors that cannot be compared: damaged, or in a file of the model that is not there; and such files, if nobody
        knows what they have.
    rtol, atol, equal_nan : float, float, bool
    """

    a: str | None
    b: str | None
    same: bool
    identical: int
    close: tuple[TensorDiff, ...]
    changed: tuple[TensorDiff, ...]
    reshaped: tuple[TensorDiff, ...]
    recast: tuple[TensorDiff, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    renamed: tuple[Renamed, ...]
    values: tuple[ValueDiff, ...]
    values_count: bool
    errors: tuple[Uncompared, ...]
    rtol: float
    atol: float
    equal_nan: bool

    @property
    def differs(self) -> bool:
        """Does anything differ for sure?"""
        tensors = self.changed or self.reshaped or self.recast or self.removed or self.added or self.renamed
        return bool(tensors) or any(v.kind == "changed" or self.values_count for v in self.values)


def diff(
    a: str | os.PathLike[str] | bytes | BinaryIO | Mapping[str, Any],
    b: str | os.PathLike[str] | bytes | BinaryIO | Mapping[str, Any],
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    equal_nan: bool = True,
    strip_prefix: str | Iterable[str] = (),
    values: bool = True,
    limits: Limits | None = None,  # type: ignore[valid-type]
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> DiffReport:
    """Compares two models: names, shapes, dtypes, elements, and plain values.

    Parameters
    ----------
    a, b : whatever `pthparse.open` takes, an opened checkpoint, or a mapping of names to tensors
    rtol, atol : float
        Elements are close if |a - b| <= atol + rtol * |b|, as torch.allclose has it.
    equal_nan : bool
        Is a NaN close to a NaN?
    strip_prefix : str or iterable of str
        Taken away from names on either side, as often as there are some: 'module.', '_orig_mod.', 'model/'.
    values : bool
        Compare what is no tensor as well.
    limits : Limits, optional
        What the files may ask for.
    threads : int, optional
        Default: one for each processor that this process may use. They change no bit.
    progress : callable, optional
        Called now and then with (bytes read, bytes to be read).
    executor : concurrent.futures.Executor, optional
        Who compares what lies in files: other processes, a cluster's. Each must be able to open them.

    Raises
    ------
    PthError
        One of them cannot be opened. What is wrong with a tensor stands in `errors`.
    OSError
        A file itself cannot be read.
    ValueError
        A tolerance is below zero, or not finite.
    """
    if not (0 <= rtol < math.inf and 0 <= atol < math.inf):
        raise ValueError("rtol and atol are finite, and not below zero")
    prefixes = tuple(p for p in ([strip_prefix] if isinstance(strip_prefix, str) else strip_prefix) if p)
    from contextlib import ExitStack

    from .checkpoint import open as open_checkpoint

    with ExitStack() as stack:
        sides = [
            x if isinstance(x, Mapping) else stack.enter_context(open_checkpoint(x, limits=limits, mmap=False))
            for x in (a, b)
        ]
        return _Comparison(sides[0], sides[1], (float(rtol), float(atol), equal_nan), prefixes).report(
            values, threads, progress, executor
        )


class _Pair(NamedTuple):
    """A tensor on both sides: names, tensors, what both are, and what of their parts is compared."""

    names: tuple[str, str]
    tensors: tuple[Any, Any]
    words: tuple[Any, Any]
    alike: bool  # by what they are: dtype, shape, parts
    parts: list[tuple[str, Part]]


class _Comparison:
    def __init__(self, a: Mapping[str, Any], b: Mapping[str, Any], tolerance: Tolerance, prefixes: tuple[str, ...]):
        self.a, self.b, self.tolerance, self.prefixes = a, b, tolerance, prefixes
        self.pairs: dict[int, _Pair] = {}  # by the place of their names
        self.errors: dict[str, PthError] = {}
        self.known: dict[Any, Part] = {}
        self.budget = Budget()

    def report(
        self,
        values: bool,
        threads: int | None,
        progress: Callable[[int, int], None] | None,
        executor: Executor | None = None,
    ) -> DiffReport:
        of_a, of_b = _stripped(self.a, self.prefixes), _stripped(self.b, self.prefixes)
        for tensors, own, other in ((self.a, of_a, of_b), (self.b, of_b, of_a)):
            for name, kept in ties_of(tensors).items():
                bare = _bare(name, self.prefixes)
                if bare in other:
                    own.setdefault(bare, kept)
        missing = self._missing()
        removed = [n for n in of_a if n not in of_b and n not in missing]
        added = [n for n in of_b if n not in of_a and n not in missing]
        both = [(own, of_b[name]) for name, own in of_a.items() if name in of_b]
        parts, identical, afar = self._beside(both, threads, progress, executor)
        # Of those that differ somewhere, the rest counts too. And a NaN may be unequal to itself, whatever its bytes.
        pairs = [self.pairs[i] for i in sorted(self.pairs)]
        uneven = (pair for pair in pairs if not pair.alike or any(part.differs for _, part in pair.parts))
        told = {part for pair in uneven for _, part in pair.parts}
        wanted = (p for p in parts if p.error is None and (p in told or not self.tolerance[2]))
        rest = [p for p in wanted if not all(map(is_known, p.records))]
        work_on(jobs_of(rest, self.tolerance, True), sum(p.missing() for p in rest), threads, None, executor, afar)
        renamed = self._renamed([of_a[n] for n in removed], [of_b[n] for n in added], threads, executor)
        found: dict[str, list[TensorDiff]] = {"close": [], "changed": [], "reshaped": [], "recast": []}
        for pair in pairs:
            kind, row = self._judged(pair)
            if row is None:
                identical += kind == "identical"
            else:
                found[kind].append(row)
        gone, new = {r.name for r in renamed}, {r.name_b for r in renamed}
        plain, count = self._values() if values else ([], False)
        fields: dict[str, Any] = {
            "a": getattr(self.a, "path", None),
            "b": getattr(self.b, "path", None),
            "identical": identical,
            **{kind: tuple(rows) for kind, rows in found.items()},
            "removed": tuple(of_a[n] for n in removed if of_a[n] not in gone),
            "added": tuple(of_b[n] for n in added if of_b[n] not in new),
            "renamed": tuple(renamed),
            "values": tuple(plain),
            "values_count": count,
            "errors": uncompared(self.errors),
            **dict(zip(("rtol", "atol", "equal_nan"), self.tolerance, strict=True)),
        }
        report = DiffReport(same=False, **fields)
        return report if report.differs or report.errors else DiffReport(same=True, **fields)

    def _beside(
        self,
        both: list[tuple[str, str]],
        threads: int | None,
        progress: Callable[[int, int], None] | None,
        executor: Executor | None,
    ) -> tuple[list[Part], int, bool]:
        """All elements beside each other once: parts that need more, how many pairs are the same; is a file far away?

        Most are the same, and lie in both files as they are wanted. Nothing is made of these.
        """
        lines, waiting = Lines(), {}
        for side, names in zip((self.a, self.b), zip(*both, strict=True), strict=False):
            locate(list(_those(side, names)))
        for i, (name_a, name_b) in enumerate(both):
            try:
                number = lines.add(self.a[name_a], self.b[name_b], self.budget) if self.tolerance[2] else None
            except PthError as e:
                self.errors[name_a] = e
                continue
            if number is None:
                self._pair(i, both[i])
            else:
                waiting[i] = number
        todo = [p for p in self.known.values() if not p.same]
        n = len(self.known)
        afar = any(source.afar for sides in lines.rows for source in sides)
        afar |= any(side is not None and side.source.afar for p in todo for side in (p.a, p.b))
        total = sum(p.missing() for p in todo) + lines.nbytes
        jobs = chain(lines.jobs(self.tolerance), jobs_of(todo, self.tolerance, False))
        work_on(jobs, total, threads, progress, executor, afar)
        identical = 0
        told: dict[int, Part] = {}
        for i, number in waiting.items():
            record = lines.records[number]
            if record == b"":
                identical += 1
            elif record is None:  # who looks closer says why
                self._pair(i, both[i])
            else:
                a, b = self.a[both[i][0]], self.b[both[i][1]]
                if number not in told:
                    told[number] = Part((a, b), (a._dtype, b._dtype), a.numel, [record])
                words = (("", "tensor", a.dtype, a.shape),)
                self.pairs[i] = _Pair(both[i], (a, b), (words, words), True, [("", told[number])])
        unread = list(self.known.values())[n:]
        work_on(jobs_of(unread, self.tolerance, False), sum(p.missing() for p in unread), threads, None, executor, afar)
        parts = [*self.known.values(), *told.values()]
        self.known.clear()
        for part in parts:
            part.differs |= any(map(is_known, part.records))
        return parts, identical, afar

    def _missing(self) -> set[str]:
        """What one side should have, and cannot give: as it is compared."""
        found: set[str] = set()
        for side in (self.a, self.b):
            for name, error in unread(side).items():
                self.errors.setdefault(name, error)
                found.add(_bare(name, self.prefixes))
        return found

    def _values(self) -> tuple[list[ValueDiff], bool]:
        try:
            return _values_of(self.a, self.b, self.prefixes)
        except PthError as e:  # more of them than the file is worth
            self.errors["plain values"] = e
            return [], False

    # ---- what is compared ----

    def _pair(self, i: int, names: tuple[str, str]) -> None:
        name_a, name_b = names
        try:
            a, b = self.a[name_a], self.b[name_b]
            (words_a, leaves_a), (words_b, leaves_b) = leaves_of(a, self.budget), leaves_of(b, self.budget)
            parts = []
            places = {path: i for i, (path, _) in enumerate(leaves_b)}
            for k, (path, own) in enumerate(leaves_a):
                j = places.get(path)
                if j is None or own.n != leaves_b[j][1].n or (words_a[0][1] != words_b[0][1] and path):
                    continue
                other = leaves_b[j][1]
                key = (own.key, other.key)
                part = self.known.get(key)
                if part is None:
                    self.budget.take(a, own)
                    self.budget.take(b, other)
                    part = self.known[key] = Part.of((k, j), (a, b), (own, other))
                parts.append((path, part))
            alike = words_a == words_b and len(parts) == len(leaves_a) == len(leaves_b)
            self.pairs[i] = _Pair(names, (a, b), (words_a, words_b), alike, parts)
        except PthError as e:
            self.errors[name_a] = e

    def _judged(self, pair: _Pair) -> tuple[str, TensorDiff | None]:
        """What became of a tensor, and its figures; 'identical' or 'error': none."""
        (name_a, name_b), (a, b) = pair.names, pair.tensors
        error = next((p.error for _, p in pair.parts if p.error is not None), None)
        if error is not None:
            self.errors[name_a] = error
            return "error", None
        different = tuple(path for path, part in pair.parts if part.differs)
        found = {part: folded(part) for _, part in pair.parts}
        far = any(f.far for f in found.values())
        if pair.alike and not different and not far:
            return "identical", None
        path, part = _told(pair.parts, different)
        numbers = figures(part, found[part], tuple(a.shape)) if part is not None else {}
        several = len(pair.parts) > 1 or path != "" or part is None
        row = TensorDiff(
            name_a, name_b, str(a.dtype), str(b.dtype), tuple(a.shape), tuple(b.shape),
            **numbers, parts=(*different, *_other_words(*pair.words)) if several else (),
        )  # fmt: skip
        if row.shape != row.shape_b:
            return "reshaped", row
        if row.dtype != row.dtype_b:
            return "recast", row
        if pair.alike and not far:
            # Bytes that differ where no element does: zeros of both signs, NaNs with other bits.
            return "close", row
        return "changed", row

    def _renamed(
        self, removed: list[str], added: list[str], threads: int | None, executor: Executor | None
    ) -> list[Renamed]:
        """By content: hashes are made of those alone whose dtype and shape are on both sides."""
        found: list[Renamed] = []
        sides: list[list[tuple[str, Any]]] = []
        kinds: list[dict[str, Any]] = []
        for tensors, names in ((self.a, removed), (self.b, added)):
            rows, described = [], {}
            for name in names:
                t = tensors[name]
                try:
                    described[name] = (str(t.dtype), tuple(t.shape))
                except PthError:
                    continue
                rows.append((name, t))
            sides.append(rows)
            kinds.append(described)
        common = set(kinds[0].values()) & set(kinds[1].values())
        buckets: list[dict[bytes, list[str]]] = []
        for rows, described in zip(sides, kinds, strict=True):
            alike = [(n, t) for n, t in rows if described[n] in common]
            hashes, _ = hashes_of(alike, threads, None, executor) if common else ({}, {})
            bucket: dict[bytes, list[str]] = {}
            for name, digest in hashes.items():
                bucket.setdefault(digest, []).append(name)
            buckets.append(bucket)
        for digest, names in buckets[0].items():
            found += [Renamed(*pair) for pair in _matched(names, buckets[1].get(digest, []))]
        order = {name: i for i, name in enumerate(removed)}
        return sorted(found, key=lambda r: order[r.name])


def _those(tensors: Mapping[str, Any], names: Iterable[str]) -> Iterator[Any]:
    """Those of some names, but for what cannot be had: that is told when it is its turn."""
    for name in names:
        try:
            yield tensors[name]
        except PthError:
            continue


def _stripped(tensors: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, str]:
    """What is compared -> the name. Of two that would be one, the second keeps its prefixes."""
    found: dict[str, str] = {}
    if not prefixes:
        return {name: name for name in tensors}
    for name in tensors:
        bare = _bare(name, prefixes)
        bare = name if bare in found else bare
        while bare in found:
            bare += "#"
        found[bare] = name
    return found


def _bare(name: str, prefixes: tuple[str, ...]) -> str:
    at = 0
    while (step := next((len(p) for p in prefixes if name.startswith(p, at)), 0)) and at + step < len(name):
        at += step
    return name[at:]


def _matched(a: list[str], b: list[str]) -> Iterator[tuple[str, str]]:
    """Of equal tensors: those first whose names end alike, then in their order."""
    left = list(b)
    if len(a) * len(b) > MOST_PAIRED or len(a) == len(b) == 1:
        yield from zip(a, b, strict=False)
        return
    ranks = sorted(((-_alike(x, y), i, j) for i, x in enumerate(a) for j, y in enumerate(left)))
    used_a: set[int] = set()
    used_b: set[int] = set()
    for _, i, j in ranks:
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            yield a[i], left[j]


def _alike(x: str, y: str) -> int:
    """Characters that two names have in common at their ends, of the last few."""
    n = 0
    for p, q in zip(reversed(x[-LAST:]), reversed(y[-LAST:]), strict=False):
        if p != q:
            break
        n += 1
    return n


def _other_words(a: Any, b: Any) -> list[str]:
    """Names of numbers that describe tensors of one kind, and differ: 'scale'; of two kinds, what they are."""
    kinds = [str(words[0][2] if words[0][1] == "sparse" else words[0][1]) for words in (a, b)]
    if kinds[0] != kinds[1]:
        return [f"{kinds[0]} -> {kinds[1]}"]
    named = [{w[0]: w[1] for word in words for w in word if isinstance(w, list)} for words in (a, b)]
    return [name for name in named[0] if name in named[1] and named[0][name] != named[1][name]]


def _told(parts: list[tuple[str, Part]], different: tuple[str, ...]) -> tuple[str, Part | None]:
    """The part whose figures are told: of what is made of others, its values."""
    for wanted in ("", "values", "integers"):
        for path, part in parts:
            if path == wanted:
                return path, part
    found = next(((path, part) for path, part in parts if path in different), None)
    return found if found is not None else ("", None)


# ---- plain values ----


def _values_of(a: Any, b: Any, prefixes: tuple[str, ...]) -> tuple[list[ValueDiff], bool]:
    """Values that differ; and do those count that one side lacks?"""
    # A format that has no pickle can hold few of them, if any.
    alike = getattr(a, "format", "") == getattr(b, "format", "")
    pickled = [bool(getattr(side, "pickle_nbytes", 0)) for side in (a, b)]
    count = all(pickled) or (alike and not any(pickled))
    said = getattr(a, "_said", None)
    if alike and said is not None and said == getattr(b, "_said", None):
        return [], count
    sides: list[dict[str, Any]] = []
    for side in (a, b):
        found: dict[str, Any] = {}
        for path, value in dict(getattr(side, "metadata", {})).items():
            bare = _bare(path, prefixes)
            found[path if bare in found else bare] = value
        sides.append(found)
    rows = []
    for path in [*sides[0], *(p for p in sides[1] if p not in sides[0])]:
        if path not in sides[1]:
            rows.append(ValueDiff(path, "removed", _shown(sides[0][path]), None))
        elif path not in sides[0]:
            rows.append(ValueDiff(path, "added", None, _shown(sides[1][path])))
        elif not _equal(sides[0][path], sides[1][path]):
            rows.append(ValueDiff(path, "changed", _shown(sides[0][path]), _shown(sides[1][path])))
    return rows, count


def _shown(value: Any) -> Any:
    return value if type(value) in PLAIN else preview(value, SHORT)


def _equal(x: Any, y: Any) -> bool:
    """Of leaves of two graphs. Nothing is asked of objects but their texts."""
    if type(x) is not type(y):
        return False
    if isinstance(x, (float, complex)):
        return x == y or (x != x and y != y)
    if isinstance(x, (bool, int, str, bytes, bytearray, type(None))):
        return bool(x == y)
    if isinstance(x, (set, frozenset)) and all(type(item) in PLAIN for both in (x, y) for item in both):
        return bool(x == y)
    if type(x).__module__ == "numpy" and hasattr(x, "tobytes"):
        return (x.dtype, x.shape) == (y.dtype, y.shape) and x.tobytes() == y.tobytes()
    return preview(x, MOST_TEXT) == preview(y, MOST_TEXT)
