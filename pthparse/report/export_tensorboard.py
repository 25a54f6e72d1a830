"""`pthparse export-tensorboard FILE... LOGDIR`: histograms and scalars of checkpoints, for TensorBoard."""

from __future__ import annotations

import argparse
import sys

from ..errors import PthError, escape
from ..events import BINS, EventFile, export_tensorboard
from .audit import MOST_LINES, short
from .ls import natural
from .text import count, jsonable, line
from .verb import CANNOT_SAY, Verb, print_json
from .verify import Bar


def export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", metavar="FILE", help="a checkpoint, or several of one training")
    parser.add_argument("logdir", metavar="LOGDIR", help="the folder that TensorBoard is given")
    parser.add_argument("--bins", type=natural, default=BINS, metavar="N", help=f"of a histogram (default: {BINS})")
    parser.add_argument("--all", action="store_true", help="every tensor, optimizer state too")
    parser.add_argument("--overwrite", action="store_true", help="replace the events of an earlier export")
    parser.add_argument("--threads", type=natural, metavar="N", help="default: as many as there are processors")


def export(args: argparse.Namespace) -> int:
    bar = Bar(args.file[0])
    try:
        made = export_tensorboard(
            args.file,
            args.logdir,
            bins=args.bins,
            all=args.all,
            overwrite=args.overwrite,
            threads=args.threads or None,
            progress=bar.progress,
        )
    except PthError:
        raise
    except ValueError as e:  # of the arguments
        bar.clear()
        print(f"pthparse export-tensorboard: {escape(str(e))}", file=sys.stderr)
        return CANNOT_SAY
    finally:
        bar.clear()
    if args.json:
        print_json(jsonable(made.to_dict()))
    else:
        print_export(made, args.logdir)
    return CANNOT_SAY if made.errors and not made.tensors else 0


def print_export(made: EventFile, logdir: str) -> None:
    line(f"{count(len(made.steps), 'checkpoint')} -> {made.path}")
    for step in made.steps[:MOST_LINES]:
        line(f"  step {step.step:<8}  {short(step.path)}")
    if len(made.steps) > MOST_LINES:
        line(f"  and {len(made.steps) - MOST_LINES:,} more")
    line(f"steps {made.basis}; {count(made.histograms, 'histogram')}, {count(made.scalars, 'scalar')}")
    for e in made.errors[:MOST_LINES]:
        line(f"left out: {short(e.name)}: {short(e.message)} [{e.code}]")
    if len(made.errors) > MOST_LINES:
        line(f"({len(made.errors) - MOST_LINES:,} more left out)")
    line(f"to see it: tensorboard --logdir {logdir}")


VERB = Verb(
    export,
    export_arguments,
    "histograms and scalars of each tensor, by step, for TensorBoard",
    "pthparse export-tensorboard epoch*.pth runs/weights",
)
