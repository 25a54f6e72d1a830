"""`pthparse export-tensorboard FILE... LOGDIR`: histograms and scalars of checkpoints, for TensorBoard."""

from __future__ import annotations

import argparse

from ..errors import PthError
from ..events import BINS, EventFile, export_tensorboard
from ..wording import count
from .progress import Bar
from .text import jsonable, line, short, some, wrong
from .verb import CANNOT_SAY, Verb, natural, print_json, tell


def export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", metavar="FILE", help="a checkpoint, or several of one training")
    parser.add_argument("logdir", metavar="LOGDIR", help="the folder that TensorBoard is given")
    parser.add_argument("--bins", type=natural, default=BINS, metavar="N", help=f"of a histogram (default: {BINS})")
    parser.add_argument("--all", action="store_true", help="every tensor, optimizer state too")
    parser.add_argument("--overwrite", action="store_true", help="replace the events of an earlier export")
    parser.add_argument("--threads", type=natural, metavar="N", help="default: as many as there are processors")


def export(args: argparse.Namespace) -> int:
    try:
        with Bar(args.file[0]) as bar:
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
        tell(f"export-tensorboard: {e}")
        return CANNOT_SAY
    if args.json:
        print_json(jsonable(made.to_dict()))
    else:
        print_export(made, args.logdir)
    return CANNOT_SAY if made.errors and not made.tensors else 0


def print_export(made: EventFile, logdir: str) -> None:
    line(f"{count(len(made.steps), 'checkpoint')} -> {made.path}")
    some((f"step {step.step:<8}  {short(step.path)}" for step in made.steps), len(made.steps))
    line(f"steps {made.basis}; {count(made.histograms, 'histogram')}, {count(made.scalars, 'scalar')}")
    some(map(wrong, made.errors), len(made.errors), indent=0, lead="left out: ")
    line(f"to see it: tensorboard --logdir {logdir}")


VERB = Verb(
    export,
    export_arguments,
    "histograms and scalars of each tensor, by step, for TensorBoard",
    "pthparse export-tensorboard model.pth runs/weights",
    "Histograms of the values of each tensor, and its mean, deviation, norm, largest value, and shares of zeros and "
    "NaN, as events that TensorBoard shows; of several checkpoints by step.",
    ("pthparse export-tensorboard epoch*.pth runs/weights  # a training", "tensorboard --logdir runs"),
    no="",
)
