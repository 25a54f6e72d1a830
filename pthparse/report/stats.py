"""`pthparse stats FILE [PATTERN]`: statistics of every tensor, a line each; or what is wrong with them."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase
from typing import Any

from ..checkpoint import open as open_checkpoint
from ..errors import escape
from ..health import Remark, health
from ..stats import Stats, StatsTable
from ..wording import count, number, shape, share
from .ls import ALL, on_screen
from .progress import Bar
from .text import BAR, Column, bar, drawn, jsonable, line, rest, short, table
from .verb import CANNOT_SAY, FILE, GLOB, NO, Verb, natural, print_csv, print_json, tell

FIGURES = ("mean", "std", "min", "max", "absmax", "l1", "l2", "zeros", "nan", "posinf", "neginf", "subnormal", "numel")
SORTS = f"name, or the largest first by {', '.join(FIGURES)}; default: the order of the file"
FIELDS = (
    "name", "dtype", "shape", "numel", "nan", "posinf", "neginf", "zeros", "subnormal", "min", "max", "mean", "std",
    "absmax", "l1", "l2", "first_bad", "bfloat16_exact",
)  # fmt: skip


def stats_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=FILE)
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help=GLOB)
    parser.add_argument("--sort", choices=("file", "name", *FIGURES), default="file", metavar="BY", help=SORTS)
    parser.add_argument("--health", action="store_true", help="only what is wrong or remarkable; exit code 1 on errors")
    parser.add_argument("--histogram", action="store_true", help="with --json: magnitudes by power of two")
    parser.add_argument("--csv", action="store_true", help="comma-separated values")
    parser.add_argument("--limit", type=natural, metavar="N", help="the first N only")
    parser.add_argument("--threads", type=natural, metavar="N", help="default: as many as there are processors")


def stats(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file, mmap=False) as ckpt:
        names = [n for n in ckpt if args.pattern is None or fnmatchcase(n, args.pattern)]
        if args.pattern is not None and not names:
            tell(f"{args.file}: no tensor matches '{args.pattern}'")
            return NO
        with Bar(args.file) as bar:
            chosen = None if args.pattern is None else names
            found = ckpt.stats(chosen, histogram=args.histogram, threads=args.threads or None, progress=bar.progress)
        remarks = health(found, ckpt)
    wrong = any(r.severity == "error" for r in remarks)
    if args.sort == "name":
        found = StatsTable(sorted(found, key=lambda s: s.name), found.errors)
    elif args.sort != "file":
        found = found.sorted(args.sort)
    rows = list(found)[: args.limit]
    if args.json:
        told: dict[str, Any] = {} if args.health else {"tensors": [json_row(s) for s in rows]}
        print_json({"file": args.file, "remarks": [r.to_dict() for r in remarks], **told})
    elif args.health:
        print_remarks(remarks, len(found))
    elif args.csv:
        print_csv(FIELDS, map(csv_row, rows))
    else:
        rows = on_screen(rows, args.limit)
        print_stats(rows)
        rest(len(found) - len(rows), ALL if args.limit is None else "", indent=0)
        for name, error in found.errors.items():
            line(f"{short(name)}: {error.message}")
        if wrong:
            line(f"{summed(remarks, len(found))}: --health tells them")
    if wrong:
        return NO
    return CANNOT_SAY if not len(found) and found.errors else 0


def csv_row(s: Stats) -> list[Any]:
    return [escape(s.name), s.dtype, "x".join(map(str, s.shape)), *(getattr(s, n) for n in FIELDS[3:])]


def json_row(s: Stats) -> dict[str, Any]:
    row = s.to_dict()
    if isinstance(s.mean, complex):
        row["mean"] = [s.mean.real, s.mean.imag]
    if s.histogram is None:
        del row["histogram"]
    if s.integers is None:
        del row["integers"]
    else:
        row["integers"] = json_row(s.integers)
    plain: dict[str, Any] = jsonable(row)
    return plain


def zeros(s: Stats) -> str:
    """Their share, or how many if they are few."""
    return share(s.zeros, s.numel) if s.zeros and 2000 * s.zeros >= s.numel else f"{s.zeros:,}"


def print_stats(rows: list[Stats]) -> None:
    right = ("mean", "std", "min", "max", "l2", "zeros", "NaN", "Inf")
    spared = {"l2": 3, "std": 0}
    heads = (
        Column("name", name=True),
        Column("dtype", spared=2),
        Column("shape", spared=1),
        *(Column(h, right=True, spared=spared.get(h, 0)) for h in right),
    )
    cells = []
    for s in rows:
        figures = [number(x) for x in (s.mean, s.std, s.min, s.max, s.l2)]
        cells.append((s.name, s.dtype, shape(s.shape), *figures, zeros(s), f"{s.nan:,}", f"{s.posinf + s.neginf:,}"))
    table(heads, cells, sys.stdout)


def print_remarks(remarks: list[Remark], n: int) -> None:
    line(summed(remarks, n))
    for r in sorted(remarks, key=lambda r: r.severity != "error"):
        line(f"{short(r.name) + ': ' if r.name else ''}{r.message} [{r.code}]", lead=f"{r.severity:<5}  ")


def summed(remarks: list[Remark], n: int) -> str:
    wrong = sum(r.severity == "error" for r in remarks)
    return f"{count(n, 'tensor')}: {count(wrong, 'error')}, {count(len(remarks) - wrong, 'note')}"


def print_figures(s: Stats) -> None:
    """Of one tensor, with the magnitudes if they were counted."""
    line(
        f"mean {number(s.mean)}, std {number(s.std)}, min {number(s.min)}, max {number(s.max)}, "
        f"l1 {number(s.l1)}, l2 {number(s.l2)}"
    )
    line(
        f"zeros {zeros(s)}, NaN {s.nan:,}, +Inf {s.posinf:,}, -Inf {s.neginf:,}, subnormal {s.subnormal:,}"
        + (", each exactly a bfloat16" if s.bfloat16_exact and s.min != s.max else "")
    )
    if s.histogram:
        print_magnitudes(s.histogram)


def print_magnitudes(histogram: tuple[tuple[int, int], ...], most: int = 16) -> None:
    """A bar for each power of two; those far below the others in one."""
    low = max(histogram[0][0], histogram[-1][0] - most + 1)
    below = sum(n for e, n in histogram if e < low)
    counts = dict(histogram)
    rows = [(f"2^{e}", counts.get(e, 0)) for e in range(histogram[-1][0], low - 1, -1)]
    rows += [(f"< 2^{low}", below)] if below else []
    total = max(n for _, n in rows)
    for head, n in rows:
        line(f"  {head:>8}  {drawn(bar(n, total), BAR, sys.stdout):<{BAR}}  {n:,}")


VERB = Verb(
    stats,
    stats_arguments,
    "statistics of every tensor; --health: only what is wrong",
    "pthparse stats model.pth --health",
    "Statistics of every tensor in one pass over its data: mean, standard deviation, smallest and largest element, "
    "L2 norm, zeros, NaN and Inf; NaN and Inf are left out of the other figures. With --health only what is wrong "
    "or remarkable.",
    (
        "pthparse stats model.pth '*.weight' --sort absmax --limit 10",
        "pthparse stats model.pth --csv > stats.csv",
    ),
    no="there is NaN or Inf, or no tensor matches PATTERN",
)
