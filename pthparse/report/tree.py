"""`pthparse tree FILE [NAME]`: the modules of the model, with their classes, parameters, bytes and shares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..capacity import ROLES
from ..checkpoint import nearest
from ..checkpoint import open as open_checkpoint
from ..errors import escape
from ..modules import Module
from ..wording import count, cut, shape, share, size
from .text import Column, head, jsonable, line, some, table
from .verb import Verb, natural, print_json, tell_lost

MOST_ROWS = 500  # of the whole tree, unless all are asked for
MOST_BELOW = 60  # of one module
TEXT = 100  # characters of what a module is
NAME = 200  # of its own name
VALUES = 300  # characters of a module's configuration
SOURCE_LINES = 60


def tree_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument("name", nargs="?", default="", help="of one module: what is known of it, and what lies below")
    parser.add_argument("--depth", type=natural, metavar="N", help="levels; default: all of them")
    parser.add_argument("--expand", action="store_true", help="every module, and no layers folded")


def tree(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file) as ckpt:
        tell_lost(ckpt, args.file)
        root = ckpt.modules
        top = root.find(args.name)
        if top is None:
            raise KeyError(no_module(args.name, root))
        family = ckpt.family
        if args.json:
            told = {"family": family.to_dict() if family else None, "module": document(top, args.depth, args.expand)}
            print_json({"file": args.file, "nbytes": ckpt.nbytes, **told})
            return 0
        head(args.file, size(ckpt.nbytes))
        if top.name:
            print_module(top, ckpt)
        elif family is not None:
            line(f"{family.text} (inferred)")
        # A training checkpoint holds an optimizer's tensors too, which are no parameters.
        counted = "parameter" if max(ckpt._amounts()[0], default=0) <= ROLES.index("buffers") else "element"
        line(f"{heading(top)}{count(top.params, counted)}, {size(top.nbytes)} of tensor data")
        rows = Rows(args.depth or None, args.expand, ckpt.nbytes)
        rows.of(top)
        if rows.rows:
            line("")
            table(heads(f"{counted}s"), rows.rows, sys.stdout)
        for told_text in rows.told():
            line(told_text)
    return 0


def heading(top: Module) -> str:
    return f"{cut(top.text, TEXT)}: " if top.kind and not top.name else ""


def no_module(name: str, root: Module) -> str:
    return f"no module '{escape(name)}'{nearest(name, [m.name for m in root.walk()])}"


# ---- the table ----


def heads(counted: str) -> list[Column]:
    return [
        Column("module", name=True),
        Column("what it is", kept=32),
        Column(counted, right=True),
        Column("bytes", right=True, spared=1),
        Column("of file", right=True),
    ]


class Rows:
    """Rows of the table: a module's children below it, numbered neighbours of one structure as one."""

    def __init__(self, depth: int | None, expand: bool, total: int) -> None:
        self.depth, self.expand, self.total = depth, expand, total
        self.rows: list[tuple[str, ...]] = []
        self.left_out = 0
        self.bases: set[str] = set()

    def of(self, top: Module) -> None:
        stack = [self._below(top, 1)]
        while stack:
            made = next(stack[-1], None)
            if made is None:
                stack.pop()
            elif self.depth is None or len(stack) < self.depth:
                stack.append(self._below(made, len(stack) + 1))

    def _below(self, module: Module, level: int) -> Iterator[Module]:
        """Writes a row for each child, and hands it out for what lies below it."""
        children = module.children
        folded = [(m, module.label(m), 1) for m in children] if self.expand else module.folded()
        at = 0
        for i, (first, label, n) in enumerate(folded):
            if not self.expand and (i >= MOST_BELOW or len(self.rows) >= MOST_ROWS):
                self._rest(children[at:], level)
                return
            self._row(first, children[at : at + n], label, level)
            at += n
            yield first

    def _row(self, first: Module, run: Sequence[Module], label: str, level: int) -> None:
        n = len(run)
        self.bases.add(first.basis)
        name = f"{cut(label, NAME)} ({n}x)" if n > 1 else cut(label, NAME)
        self.rows.append((f"{'  ' * (level - 1)}{name}", what(first), *self._amounts(run)))

    def _rest(self, rest: Sequence[Module], level: int) -> None:
        self.left_out += len(rest)
        name = f"{'  ' * (level - 1)}({len(rest):,} more)"
        self.rows.append((name, "", *self._amounts(rest, whole=True)))

    def _amounts(self, run: Sequence[Module], whole: bool = False) -> tuple[str, str, str]:
        params, nbytes = sum(m.params for m in run), sum(m.nbytes for m in run)
        equal = len(run) > 1 and not whole and {(m.params, m.nbytes) for m in run} == {(run[0].params, run[0].nbytes)}
        per = f"{len(run)}x " if equal and params else ""
        n = len(run) if per else 1
        counted = (f"{per}{params // n:,}", f"{per}{nbytes // n:,}", share(nbytes, self.total)) if params else ("",) * 3
        return counted[0], counted[1], counted[2]

    def told(self) -> Iterator[str]:
        """What the reader should know of it."""
        if self.left_out:
            yield f"{count(self.left_out, 'module')} left out, with all below: --expand shows them, NAME those of one"
        if "inferred" in self.bases:
            yield "~ inferred from names and shapes"
        if "unknown" in self.bases:
            yield "? not known; with its NAME: what it may be"


def what(module: Module) -> str:
    if module.basis == "stated":
        return cut(module.text, TEXT)
    if module.kind:
        return f"~ {cut(module.text, TEXT)}"
    return "?" if module.text == "?" else f"? {cut(module.text, TEXT)}"


# ---- one module ----


def print_module(module: Module, ckpt: Any) -> None:
    """What is known of it: its class, where that is known from, its configuration, its tensors, its source."""
    line(f"{cut(module.name, NAME)}: {cut(module.text, TEXT) if module.kind else 'not known what it is'}")
    if module.class_name is not None:
        mode = {True: ", in training mode", False: ", in evaluation mode", None: ""}[module.training]
        line(f"class {cut(module.class_name, NAME)}, stated by the file{mode}")
    if module.evidence:
        line(f"{'inferred: ' if module.basis == 'inferred' else ''}{module.evidence}")
    if module.config:
        values = ", ".join(f"{k} = {v!r}" for k, v in module.config.items())
        line(f"configuration: {cut(values, VALUES)}")
    rows = []
    for role, names in (("parameter", module.parameters), ("buffer", module.buffers)):
        for name in names[:MOST_BELOW]:
            t = ckpt[name]
            rows.append((f"  {name[len(module.name) + 1 :]}", role, f"{t.dtype} {shape(t.shape)}", f"{t.nbytes:,}"))
        if len(names) > MOST_BELOW:
            rows.append((f"  ({len(names) - MOST_BELOW:,} more)", role, "", ""))
    rows += [(f"  {n[len(module.name) + 1 :]}", "buffer", "not in state_dict()", "") for n in module.transient[:9]]
    if rows:
        table((Column("tensor", name=True), Column(""), Column(""), Column("bytes", right=True)), rows, sys.stdout)
    if module.source is not None:
        lines = module.source.splitlines()
        line(f"source code of its class, as saved ({count(len(lines), 'line')}; text, not run):")
        some(lines, len(lines), SOURCE_LINES, lead="| ")


# ---- for programs ----


def document(top: Module, depth: int | None, expand: bool) -> dict[str, Any]:
    """The module and what lies below it, as plain values for JSON; `copies`: equal neighbours, as in the table."""
    made = one(top)
    stack = [(made, top, 0)]
    while stack:
        told, module, level = stack.pop()
        children = module.children
        if depth and level >= depth:
            told["left_out"] = len(children)
            continue
        for first, label, n in [(m, module.label(m), 1) for m in children] if expand else module.folded():
            below = {**one(first), "label": label, "copies": n}
            told["children"].append(below)
            stack.append((below, first, level + 1))
    return made


def one(module: Module) -> dict[str, Any]:
    return {
        "name": module.name,
        "kind": module.kind,
        "class_name": module.class_name,
        "basis": module.basis,
        "evidence": module.evidence,
        "text": module.text,
        "config": jsonable(dict(module.config)),
        "training": module.training,
        "params": module.params,
        "nbytes": module.nbytes,
        "parameters": module.parameters,
        "buffers": module.buffers,
        "transient": module.transient,
        "source": module.source,
        "children": [],
    }


VERB = Verb(
    tree,
    tree_arguments,
    "the modules: classes, parameters, bytes and shares, stated by the file or inferred",
    "pthparse tree model.pth",
    "The modules of the model, with their classes and configuration as repr(model) has them where the file states "
    "them, and as names and shapes tell them (~) where it does not. Equal neighbours are one row: layers.0-5 (6x).",
    (
        "pthparse tree model.pth --depth 2",
        "pthparse tree model.pth layers.0.self_attn  # all that is known of one",
        "pthparse tree model.pth --expand | less  # every module",
    ),
    no="",
)
