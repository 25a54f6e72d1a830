"""`pthparse plan FILE`: size at each precision, memory to run and to train, the formula beside each figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..checkpoint import open as open_checkpoint
from ..plan import Figure, Plan
from ..wording import count, size
from .text import Column, head, line, table
from .verb import CANNOT_SAY, FILE, Verb, natural, print_json, tell_lost


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=FILE)
    parser.add_argument("--tokens", type=natural, metavar="N", help="of a sequence, for the KV cache")
    parser.add_argument("--batch", type=natural, default=1, metavar="N", help="sequences at once")


def plan(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file) as ckpt:
        tell_lost(ckpt, args.file)
        found = ckpt.plan(tokens=args.tokens, batch=args.batch or 1)
        nbytes = ckpt.nbytes
    if args.json:
        print_json({"file": args.file, "nbytes": nbytes, **found.to_dict()})
        return 0 if found.parameters else CANNOT_SAY
    head(args.file, size(nbytes))
    if not found.parameters:
        line("no parameters of a model are in it")
        return CANNOT_SAY
    print_plan(found)
    return 0


def print_plan(found: Plan) -> None:
    others = found.parameters - found.matrix_elements
    line(f"{count(found.parameters, 'parameter')}: {found.matrix_elements:,} in matrices, {others:,} in vectors")
    sources: dict[str, int] = {}
    for title, figures in (("size", found.weights), ("memory to run", found.run), ("memory to train", found.train)):
        line("")
        print_figures(title, figures, sources)
    line("")
    for source, n in sources.items():
        line(f"[{n}] {source}", hang=4)
    if found.cache is not None:
        line(f"KV cache for {found.tokens:,} tokens: {found.tokens_source} (--tokens, --batch)")
    else:
        line("no KV cache: neither a config.json beside the file nor names and shapes of its tensors tell of attention")
    if any(f.inferred for f in (*found.run, *found.train)):
        line("* inferred")
    for note in found.notes:
        line(note, lead="note: ", hang=6)


def print_figures(title: str, figures: Sequence[Figure], sources: dict[str, int]) -> None:
    """Sources get a number each, in the order of their use."""
    heads = (Column(title, kept=60), Column("bytes", right=True), Column("formula", prose=True, kept=40))
    rows = []
    for f in figures:
        exact, _, units = size(f.nbytes).partition(" B")
        n = sources.setdefault(f.source, len(sources) + 1)
        rows.append((f"{f.name}{' *' if f.inferred else ''}", exact, units.strip(" ()"), f"{f.formula} [{n}]"))
    table((*heads[:2], Column("", spared=1), heads[2]), rows, sys.stdout)


VERB = Verb(
    plan,
    plan_arguments,
    "memory to run and to train it at each precision, by formulas",
    "pthparse plan model.pth",
    "How large the model would be at each precision, and what memory it takes to run it (with its KV cache, where "
    "the file tells of attention) and to train it. Beside each figure stands its formula, and the number of its "
    "source. What is inferred is marked.",
    ("pthparse plan model.pth --tokens 4096 --batch 8",),
    no="",
)
