"""`pthparse diff A B`: what is the same, gone, new, renamed, and how far the rest is apart."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence

from ..differ import DiffReport, TensorDiff, ValueDiff
from ..differ import diff as diff_any
from ..values import preview
from .audit import MOST_LINES, short
from .text import Column, count, jsonable, line, shape, table
from .verb import CANNOT_SAY, NO, Verb, print_json
from .verify import Bar

COLUMNS = (
    Column("name", name=True),
    Column("elements", right=True),
    Column("differ", right=True),
    Column("max abs", right=True),
    Column("mean abs", right=True),
    Column("max rel", right=True),
    Column("mean rel", right=True),
    Column("cosine", right=True),
    Column("max ULP", right=True),
    Column("NaN", right=True),
    Column("worst"),
)


def tolerance(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: a tolerance is finite, and not below zero")
    return value


def diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs=2, metavar="FILE", help="what else is opened here may stand for a file")
    parser.add_argument("--rtol", type=tolerance, default=0.0, metavar="X", help="close: |a - b| <= atol + rtol * |b|")
    parser.add_argument("--atol", type=tolerance, default=0.0, metavar="X")
    parser.add_argument("--nan-differs", action="store_true", help="a NaN is not equal to a NaN")
    parser.add_argument(
        "--strip-prefix",
        action="append",
        default=[],
        metavar="TEXT",
        help="of names on either side: 'module.'; repeatable",
    )
    parser.add_argument("--tensors-only", action="store_true", help="do not compare plain values (epoch, lr)")
    parser.add_argument("--all", action="store_true", help="every line")


def diff(args: argparse.Namespace) -> int:
    bar = Bar(args.file[0])
    try:
        report = diff_any(
            *args.file,
            rtol=args.rtol,
            atol=args.atol,
            equal_nan=not args.nan_differs,
            strip_prefix=args.strip_prefix,
            values=not args.tensors_only,
            progress=bar.progress,
        )
    finally:
        bar.clear()
    if args.json:
        print_json(jsonable(report.to_dict()))
    else:
        print_report(report, args.all)
    return 0 if report.same else NO if report.differs else CANNOT_SAY


def print_report(report: DiffReport, everything: bool) -> None:
    if report.changed:
        print_table("changed", report.changed, everything)
    print_pairs("reshaped", report.reshaped, everything)
    print_pairs("recast", report.recast, everything)
    if report.close:
        print_table("close enough", report.close, everything)
    print_some("renamed", [f"{short(r.name)} -> {short(r.name_b)}" for r in report.renamed], everything)
    print_some("removed", [short(name) for name in report.removed], everything)
    print_some("added", [short(name) for name in report.added], everything)
    print_some("value", [of_value(v, report.values_count) for v in report.values], everything)
    print_some(
        "cannot be compared", [f"{short(e.name)}: {short(e.message)} [{e.code}]" for e in report.errors], everything
    )
    line(summed(report))


def print_table(what: str, rows: Sequence[TensorDiff], everything: bool) -> None:
    shown = rows if everything else rows[:MOST_LINES]
    line(f"{what}:")
    table(COLUMNS, [of_tensor(row) for row in shown], sys.stdout)
    if len(shown) < len(rows):
        line(f"({len(rows) - len(shown):,} more)")


def number(x: float | None) -> str:
    return "-" if x is None else f"{x:.4g}"


def of_tensor(d: TensorDiff) -> list[str]:
    name = short(d.name) if d.name == d.name_b else f"{short(d.name)} | {short(d.name_b)}"
    name += f" ({', '.join(short(part) for part in d.parts)})" if d.parts else ""
    cosine = "-" if d.cosine is None else f"{d.cosine:.9g}"
    ulp = "-" if d.max_ulp is None else f"{d.max_ulp:,}"
    nans = f"{d.nan_mismatches:,}" + (f" (+{d.infinite:,} Inf)" if d.infinite else "")
    figures = [number(x) for x in (d.max_abs, d.mean_abs, d.max_rel, d.mean_rel)]
    apart = d.numel - d.equal - d.nan_pairs
    worst = "-" if d.worst is None else shape(d.worst)
    return [name, f"{d.numel:,}", f"{apart:,}", *figures, cosine, ulp, nans, worst]


def print_pairs(what: str, rows: Sequence[TensorDiff], everything: bool) -> None:
    texts = []
    for d in rows:
        a, b = (f"{dtype} {shape(dims)}" for dtype, dims in ((d.dtype, d.shape), (d.dtype_b, d.shape_b)))
        told = f"{short(d.name)}: {a} -> {b}"
        if d.numel and d.equal + d.nan_pairs == d.numel:
            told += ", the same elements"
        elif d.numel:
            cosine = "-" if d.cosine is None else f"{d.cosine:.9g}"
            told += f", {d.numel - d.equal - d.nan_pairs:,} of {count(d.numel, 'element')} differ"
            told += f", max abs {number(d.max_abs)}, mean abs {number(d.mean_abs)}, cosine {cosine}"
        texts.append(told)
    print_some(what, texts, everything)


def print_some(what: str, texts: Iterable[str], everything: bool) -> None:
    rows = list(texts)
    for text in rows if everything else rows[:MOST_LINES]:
        line(f"{what}: {text}")
    if len(rows) > MOST_LINES and not everything:
        line(f"({len(rows) - MOST_LINES:,} more {what})")


def of_value(v: ValueDiff, counts: bool) -> str:
    if v.kind == "changed":
        return f"{short(v.path)}: {preview(v.a, 100)} -> {preview(v.b, 100)}"
    note = "" if counts else " (its format has none; not counted)"
    side, value = ("first", v.a) if v.kind == "removed" else ("second", v.b)
    return f"{short(v.path)}: {preview(value, 100)}, in the {side} alone{note}"


def summed(report: DiffReport) -> str:
    """The last line."""
    parts = [f"{count(report.identical, 'tensor')} identical"]
    for what in ("close", "changed", "reshaped", "recast", "renamed", "removed", "added"):
        n = len(getattr(report, what))
        if n:
            parts.append(f"{n:,} {what}")
    n = sum(v.kind == "changed" or report.values_count for v in report.values)
    if n:
        parts.append(f"{count(n, 'value')} not the same")
    if report.errors:
        parts.append(f"{len(report.errors):,} not compared")
    verdict = "SAME" if report.same else "DIFFERENT" if report.differs else "UNKNOWN"
    return f"{verdict}  {', '.join(parts)}"


VERB = Verb(
    diff,
    diff_arguments,
    "two models beside each other: names, shapes, dtypes, elements, values",
    "pthparse diff before.pth after.safetensors --strip-prefix module.",
)
