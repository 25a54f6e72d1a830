"""What is wrong with the numbers of a checkpoint, or worth a remark: out of their statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import PthError
from .record import Record
from .stats import Stats, StatsTable
from .walks import READ, Walk, walk_of

if TYPE_CHECKING:
    from .tensor import Tensor

FLOAT16_MAX = 65504.0
FLOAT8_MAX = 448.0  # of float8_e4m3fn
MANY_SUBNORMAL = 0.01  # share of the elements; half precision has a few of them in any matrix
OUTLIER = 60  # standard deviations: a million normal numbers stay below 6
ENOUGH = 4096  # elements, to speak of outliers
WIDER_THAN_HALF = ("float32", "float64", "bfloat16")


class Remark(Record):
    """Something about the numbers of a tensor, or of the file (name ''). `severity`: 'error' or 'note'."""

    name: str
    severity: str
    code: str
    message: str


def health(table: StatsTable, tensors: Mapping[str, Tensor]) -> list[Remark]:
    """Remarks on tensors, in their order: errors are NaN, infinity and what cannot be read; all else is a note.

    A freshly made model has none: ones and zeros in vectors are how layers begin.
    """
    found: list[Remark] = []
    for s in table:
        found += _of(s, tensors.get(s.name))
    for name, error in table.errors.items():
        if error.code not in ("no-data", "no-array"):
            found.append(Remark(name, "error", error.code, error.message))
    floats = [s for s in table if s.dtype == "float32" and _is_matrix(s) and s.min != s.max]
    exact = [s for s in floats if s.bfloat16_exact]
    if exact and len(exact) == len(floats):
        text = f"{len(exact)} float32 matrices hold only bfloat16 numbers: the file was converted from these"
        found.append(Remark("", "note", "upcast", text))
    return found


def _is_matrix(s: Stats) -> bool:
    return sum(n > 1 for n in s.shape) >= 2


def _of(s: Stats, t: Tensor | None) -> Iterator[Remark]:
    def remark(severity: str, code: str, message: str) -> Remark:
        return Remark(s.name, severity, code, message)

    place = f", the first at {list(_index(s.first_bad, s.shape))}" if s.first_bad is not None else ""
    if s.nan:
        yield remark("error", "nan", f"{s.nan:,} of {s.numel:,} are NaN{place}")
    if s.posinf or s.neginf:
        where = "" if s.nan else place
        yield remark("error", "inf", f"{s.posinf + s.neginf:,} of {s.numel:,} are infinite{where}")
    if not s.finite or s.absmax is None:
        return
    if _is_matrix(s):
        if s.zeros == s.numel:
            yield remark("note", "all-zero", "all elements are zero")
        elif s.min is not None and s.min == s.max:
            yield remark("note", "constant", f"all elements are {s.min:.6g}")
        elif t is not None and s.zeros >= 2 * (s.numel // s.shape[0]):
            dead = dead_rows(t)
            if dead > 1:  # one may be that of a padding token
                yield remark("note", "dead-rows", f"{dead:,} of {s.shape[0]:,} rows are zero")
    if s.subnormal > MANY_SUBNORMAL * s.numel:
        share = 100 * s.subnormal / s.numel
        yield remark("note", "subnormal", f"{s.subnormal:,} elements ({share:.1f} %) are subnormal in {s.dtype}")
    if s.dtype in WIDER_THAN_HALF and s.absmax > FLOAT16_MAX:
        yield remark("note", "overflow-float16", f"up to {s.absmax:.6g}: float16 ends at {FLOAT16_MAX:g}")
    elif s.dtype in (*WIDER_THAN_HALF, "float16") and s.absmax > FLOAT8_MAX:
        yield remark("note", "overflow-float8", f"up to {s.absmax:.6g}: float8_e4m3fn ends at {FLOAT8_MAX:g}")
    if s.std and s.numel >= ENOUGH and isinstance(s.mean, float) and s.dtype.startswith(("float", "bfloat")):
        far = max(abs(float(s.max or 0) - s.mean), abs(float(s.min or 0) - s.mean)) / s.std
        if far > OUTLIER:
            yield remark("note", "outlier", f"an element lies {far:,.0f} standard deviations from the mean")


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    out = []
    for n in reversed(shape):
        flat, i = divmod(flat, n)
        out.append(i)
    return tuple(reversed(out))


def dead_rows(t: Tensor) -> int:
    """Rows, along the first dimension, that hold nothing but zeros. 0 where they do not lie one behind the other."""
    try:
        walk = walk_of(t)
    except PthError:
        return 0
    per_row = walk.n // t.shape[0]
    plain = walk.together and not walk.turned and walk.repeats == 1 and walk.data is None and walk.packed == 1
    if not plain or walk.itemsize not in (1, 2, 4, 8) or _core.DTYPES[walk.dtype][0].startswith("complex"):
        return 0
    return _dead(t, walk, per_row)


def _dead(t: Tensor, walk: Walk, per_row: int) -> int:
    import numpy as np

    width = per_row * walk.itemsize
    few = max(1, READ // width)
    signed = "float" in _core.DTYPES[walk.dtype][0]  # minus zero is zero
    source: Any = t._home.box.source
    dead = 0
    for row in range(0, t.shape[0], few):
        n = min(few, t.shape[0] - row)
        codes = np.frombuffer(source.read(walk.offset + row * width, n * width), f"u{walk.itemsize}").reshape(
            n, per_row
        )
        dead += n - int(np.count_nonzero((codes << signed if signed else codes).any(axis=1)))
    return dead
