"""`pthparse drift FILE...`: how the tensors of a model move over a series of checkpoints."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path

from ..drifter import SORTS, DriftReport, DriftRow
from ..drifter import drift as drift_any
from ..errors import escape
from ..outputs import write
from ..wording import change, count, number
from .heatmap import heatmap
from .progress import Bar
from .screen import draws
from .text import FEW, MOST_LINES, Column, first_of, jsonable, line, rest, short, some, table, wrong
from .verb import CANNOT_SAY, Verb, natural, print_csv, print_json, tell

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-:=+*#"
WIDEST = 24  # signs of a sparkline
FIELDS = ("name", "step", "norm", "change", "cosine", "change_from_first", "cosine_from_first")


def drift_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", help="two checkpoints at least, of one training")
    parser.add_argument(
        "--sort",
        choices=SORTS,
        default="change",
        help="change: from first to last, the largest first (the default); step: the largest between neighbours; "
        "norm: the last one; cosine: the smallest first; file: as in the files",
    )
    parser.add_argument("--depth", type=natural, metavar="N", help="modules, N components of their names, not tensors")
    parser.add_argument("--all", action="store_true", help="every tensor, optimizer state too")
    parser.add_argument("--limit", type=natural, metavar="N", help=f"the first N rows (default: {MOST_LINES})")
    parser.add_argument("--csv", action="store_true", help="comma-separated values: a line for each row and step")
    parser.add_argument("--svg", metavar="FILE", help="write a picture: a row for each, a column for each step")
    parser.add_argument("--threads", type=natural, metavar="N", help="default: as many as there are processors")


def drift(args: argparse.Namespace) -> int:
    if len(args.file) < 2:
        tell("drift: a series has two checkpoints at least")
        return CANNOT_SAY
    with Bar(args.file[0]) as bar:
        report = drift_any(
            args.file,
            all=args.all,
            depth=args.depth or None,
            threads=args.threads or None,
            progress=bar.progress,
        )
    rows = report.sorted(args.sort)
    if args.svg is not None:
        write(Path(args.svg), [heatmap(report).encode()])
    if args.json:
        print_json(jsonable({**report.to_dict(), "rows": [as_json(row) for row in rows[: args.limit]]}))
    elif args.csv:
        print_csv(FIELDS, csv_rows(report, rows[: args.limit]))
    else:
        print_report(report, rows, args.limit or MOST_LINES, by_module=bool(args.depth))
    return CANNOT_SAY if not rows and report.errors else 0


def as_json(row: DriftRow) -> dict[str, object]:
    largest = row.largest or (None, None)
    return {**row.to_dict(), "total": row.total, "largest": largest[0], "largest_at": largest[1]}


def csv_rows(report: DriftReport, rows: Sequence[DriftRow]) -> Iterator[list[object]]:
    for row in rows:
        for i, step in enumerate(report.steps):
            yield [escape(row.name), step.step, *(getattr(row, n)[i] for n in FIELDS[2:])]


def print_report(report: DriftReport, rows: Sequence[DriftRow], most: int, by_module: bool) -> None:
    steps = report.steps
    line(f"{count(len(steps), 'checkpoint')}, ordered {report.basis}:")
    shown = steps if len(steps) <= 8 else (*steps[:4], None, *steps[-3:])
    for step in shown:
        line("  ..." if step is None else f"  {step.step:>8}  {short(step.path)}")
    print()
    columns = [
        Column("name", name=True),
        *([Column("tensors", right=True)] if by_module else []),
        Column("norm", right=True),
        Column("change", right=True),
        Column("cosine", right=True),
        Column("largest", right=True),
        Column("step by step"),
    ]
    cells = []
    for row in rows[:most]:
        norms = [x for x in row.norm if x is not None]
        cosine = next((x for x in reversed(row.cosine_from_first) if x is not None), None)
        largest, at = row.largest or (None, None)
        cells.append(
            [
                short(row.name),
                *([f"{row.tensors:,}"] if by_module else []),
                number(norms[-1]),
                change(row.total),
                "-" if cosine is None else f"{cosine:.4f}",
                change(largest) if not largest or at is None else f"{change(largest)} at {steps[at].step}",
                sparkline(row.change[1:]),
            ]
        )
    table(columns, cells, sys.stdout)
    rest(len(rows) - most, " (--limit, --depth, --csv)")
    told = [*events(report), *map(wrong, report.errors)]
    some(told, len(told), most, indent=0)
    line("norm: of the last; change: ||a - b|| / ||a||, from the first to the last, and the largest between neighbours")


def events(report: DriftReport) -> Iterator[str]:
    """A line for what happens to tensors at one step."""
    for (at, kind), found in groupby(sorted(report.events, key=lambda e: (e.at, e.kind)), lambda e: (e.at, e.kind)):
        same = list(found)
        named = [f"{short(e.name)} {short(e.text)}" for e in same[:FEW]]
        yield f"step {report.steps[at].step}, {kind}: {first_of(named, len(same), '; ')}"


def sparkline(values: Sequence[float | None]) -> str:
    """A sign for each, as high as it is of the largest; of more than there is room for, the largest of some."""
    if not any(x is not None for x in values):
        return ""
    signs = BLOCKS if draws(sys.stdout) else PLAIN
    n = min(len(values), WIDEST)
    edges = [len(values) * i // n for i in range(n + 1)]
    heights = []
    for a, b in pairwise(edges):
        found = [x for x in values[a:b] if x is not None]
        heights.append(max(found) if found else None)
    top = max((x for x in heights if x is not None and math.isfinite(x)), default=0.0)
    out = ""
    for x in heights:
        share = 0.0 if x is None or top == 0 else min(1.0, x / top)
        out += " " if x is None else signs[-1] if math.isinf(x) else signs[round(share * (len(signs) - 1))]
    return out


VERB = Verb(
    drift,
    drift_arguments,
    "norm and change of each tensor or layer over a series of checkpoints",
    "pthparse drift epoch*.pth",
    "How the tensors of a model move over checkpoints of one training: their norms, how far each is from the one "
    "before and from the first, and the angle between them. The order is that of the steps in the files, or of the "
    "numbers in their names.",
    (
        "pthparse drift epoch*.pth --depth 2  # by module",
        "pthparse drift epoch*.pth --sort step --limit 10  # the largest jumps",
        "pthparse drift epoch*.pth --svg drift.svg  # as a picture",
    ),
    no="",
)
