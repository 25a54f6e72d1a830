"""`pthparse plan FILE`: size at each precision, memory to run and to train, the formula beside each figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..checkpoint import open as open_checkpoint
from ..plan import Figure, Plan
from .ls import natural
from .text import Column, count, line, size, table
from .verb import CANNOT_SAY, Verb, print_json


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument("--tokens", type=natural, metavar="N", help="of a sequence, for the KV cache")
    parser.add_argument("--batch", type=natural, default=1, metavar="N", help="sequences at once")


def plan(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file) as ckpt:
        found = ckpt.plan(tokens=args.tokens, batch=args.batch or 1)
        nbytes = ckpt.nbytes
    if args.json:
        print_json({"file": args.file, "nbytes": nbytes, **found.to_dict()})
        return 0 if found.parameters else CANNOT_SAY
    line(f"{args.file}   {size(nbytes)}")
    if not found.parameters:
        line("no parameters of a model are in it")
        return CANNOT_SAY
    print_plan(found)
    return 0


def print_plan(found: Plan) -> None:
    others = found.parameters - found.matrix_elements
    line(f"{count(found.parameters, 'parameter')}: {found.matrix_elements:,} in matrices, {others:,} in vectors")
    for title, figures in (("size", found.weights), ("memory to run", found.run), ("memory to train", found.train)):
        line("")
        print_figures(title, figures)
    line("")
    if found.cache is not None:
        line(f"KV cache for {found.tokens:,} tokens: {found.tokens_source} (--tokens, --batch)")
    else:
        line("no KV cache: neither a config.json beside the file nor names and shapes of its tensors tell of attention")
    if any(f.inferred for f in (*found.run, *found.train)):
        line("* inferred")
    for note in found.notes:
        line(f"note: {note}")


def print_figures(title: str, figures: Sequence[Figure]) -> None:
    heads = (Column(title), Column("bytes", right=True), Column(""), Column("formula"), Column("source"))
    rows = []
    for f in figures:
        exact, _, units = size(f.nbytes).partition(" B")
        rows.append((f"{f.name}{' *' if f.inferred else ''}", exact, units.strip(" ()"), f.formula, f.source))
    table(heads, rows, sys.stdout)


VERB = Verb(
    plan,
    plan_arguments,
    "memory to run and to train it at each precision, the formula beside each figure",
    "pthparse plan model.pth --tokens 4096",
)
