"""`pthparse diff A B`: what is the same, gone, new, renamed, and how far the rest is apart."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

from ..differ import DiffReport, TensorDiff, ValueDiff
from ..differ import diff as diff_any
from ..values import preview
from ..wording import count, number, shape
from .progress import Bar
from .text import MOST_LINES, Column, jsonable, line, rest, short, some, table, wrong
from .verb import CANNOT_SAY, FILE, NO, Verb, print_json

COLUMNS = (
    Column("name", name=True),
    Column("elements", right=True, spared=2),
    Column("differ", right=True),
    Column("max abs", right=True),
    Column("mean abs", right=True, spared=1),
    Column("max rel", right=True),
    Column("mean rel", right=True, spared=5),
    Column("cosine", right=True),
    Column("max ULP", right=True, spared=3),
    Column("NaN", right=True),
    Column("worst", spared=4),
)


def tolerance(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: a tolerance is finite, and not below zero")
    return value


def diff_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs=2, metavar="FILE", help=FILE)
    parser.add_argument("--rtol", type=tolerance, default=0.0, metavar="X", help="close: |a - b| <= atol + rtol * |b|")
    parser.add_argument("--atol", type=tolerance, default=0.0, metavar="X", help="see --rtol; both are 0 if not given")
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
    with Bar(args.file[0]) as bar:
        report = diff_any(
            *args.file,
            rtol=args.rtol,
            atol=args.atol,
            equal_nan=not args.nan_differs,
            strip_prefix=args.strip_prefix,
            values=not args.tensors_only,
            progress=bar.progress,
        )
    if args.json:
        print_json(jsonable(report.to_dict()))
    else:
        print_report(report, args.all)
    return 0 if report.same else NO if report.differs else CANNOT_SAY


def print_report(report: DiffReport, everything: bool) -> None:
    verdict = "SAME" if report.same else "DIFFERENT" if report.differs else "UNKNOWN"
    line(f"  {summed(report)}", lead=verdict)
    most = None if everything else MOST_LINES
    print_table("changed", report.changed, most)
    print_table("close enough", report.close, most)
    pairs = {
        "reshaped": [of_pair(d) for d in report.reshaped],
        "recast": [of_pair(d) for d in report.recast],
        "renamed": [f"{short(r.name)} -> {short(r.name_b)}" for r in report.renamed],
        "removed": [short(name) for name in report.removed],
        "added": [short(name) for name in report.added],
        "value": [of_value(v, report.values_count) for v in report.values],
        "cannot be compared": [wrong(e) for e in report.errors],
    }
    if (report.changed or report.close) and any(pairs.values()):
        line("")
    for what, texts in pairs.items():
        some(texts, len(texts), most, indent=0, lead=f"{what}: ")


def print_table(what: str, rows: Sequence[TensorDiff], most: int | None) -> None:
    if not rows:
        return
    line("")
    line(f"{what}:")
    table(COLUMNS, [of_tensor(row) for row in rows[:most]], sys.stdout)
    rest(len(rows) - len(rows[:most]), indent=0)


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


def of_pair(d: TensorDiff) -> str:
    a, b = (f"{dtype} {shape(dims)}" for dtype, dims in ((d.dtype, d.shape), (d.dtype_b, d.shape_b)))
    told = f"{short(d.name)}: {a} -> {b}"
    if d.numel and d.equal + d.nan_pairs == d.numel:
        return f"{told}, the same elements"
    if d.numel:
        cosine = "-" if d.cosine is None else f"{d.cosine:.9g}"
        told += f", {d.numel - d.equal - d.nan_pairs:,} of {count(d.numel, 'element')} differ"
        told += f", max abs {number(d.max_abs)}, mean abs {number(d.mean_abs)}, cosine {cosine}"
    return told


def of_value(v: ValueDiff, counts: bool) -> str:
    if v.kind == "changed":
        return f"{short(v.path)}: {preview(v.a, 100)} -> {preview(v.b, 100)}"
    note = "" if counts else " (its format has none; not counted)"
    side, value = ("first", v.a) if v.kind == "removed" else ("second", v.b)
    return f"{short(v.path)}: {preview(value, 100)}, in the {side} alone{note}"


def summed(report: DiffReport) -> str:
    """What the verdict rests on."""
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
    return ", ".join(parts)


VERB = Verb(
    diff,
    diff_arguments,
    "two models beside each other: names, shapes, elements, values",
    "pthparse diff before.pth after.pth",
    "What is the same in two models whatever their formats, what is gone, new, renamed (by content), reshaped or "
    "recast, and how far the rest is apart: how many elements differ, the largest and the mean difference, absolute"
    " and relative, the cosine, and the largest distance in steps of the dtype (ULP).",
    (
        "pthparse diff ddp.pth plain.safetensors --strip-prefix module.",
        "pthparse diff a.pth b.pth --rtol 1e-3 --atol 1e-6  # is it close enough?",
    ),
    no="they differ",
)
