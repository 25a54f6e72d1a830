"""Kinds for the modules of a tree that the file does not state: each structure is looked at once, from below."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from .kinds import NOTHING, UPWARD, Inferred, by_children, by_leaves, by_numbers
from .module_trees import INFERRED, STATED, UNKNOWN, UNSAID, Said, Tree

LONGEST = 100  # characters of a name that is looked at
MOST_BELOW = 10_000  # children of one module, or tensors, that are looked at
NOT_THERE = Inferred("", "the state dict lists it: it has no tensors", "", {})


def infer(tree: Tree, shapes: Sequence[tuple[int, ...]]) -> None:
    """Says of each module without a class what follows from names and shapes. `tree` is settled."""
    names, below = tree.names, tree.below
    labels = [_label(name) for name in names]
    ups = _ups(tree, labels)
    known: dict[Any, Inferred] = {}
    found = [NOTHING] * len(names)
    for at in range(len(names) - 1, -1, -1):
        said, label = tree.said[at], labels[at]
        if said is not UNSAID:
            if said.basis == STATED:
                found[at] = NOTHING._replace(kind=said.kind)
            continue
        own = tree.own[at]
        joint = tree.tensors[own[0]][len(names[at]) : len(names[at]) + 1] if own else ""
        key = (tree.structure[at], "#" if label.isdecimal() else label, ups[at], joint == ".")
        one = known.get(key)
        if one is None:
            one = known[key] = _one(tree, at, label, ups[at], shapes, found)
        found[at] = one
    merged: dict[Any, Inferred] = {}  # what a module is by itself, and what the one around it says of it
    for at, one in enumerate(found):
        if one.below:
            cut = len(names[at]) + 1 if at else 0
            for child in below[at]:
                told, itself = one.below.get(names[child][cut:]), found[child]
                if told is not None and tree.said[child] is UNSAID:
                    both = merged.get((id(told), id(itself)))
                    if both is None:
                        both = merged[id(told), id(itself)] = told._replace(below={**itself.below, **told.below})
                    found[child] = both
    told_of: dict[int, Said] = {}  # by the id of what was inferred, which `found` keeps
    for at, one in enumerate(found):
        if tree.said[at] is UNSAID and one is not NOTHING:
            if id(one) not in told_of:
                basis, config = INFERRED if one.kind else UNKNOWN, MappingProxyType(dict(one.config))
                told_of[id(one)] = Said(one.kind, basis, one.evidence, one.text, config=config)
            tree.said[at] = told_of[id(one)]


def _one(
    tree: Tree, at: int, name: str, upward: bool, shapes: Sequence[tuple[int, ...]], found: Sequence[Inferred]
) -> Inferred:
    cut = len(tree.names[at]) + 1 if at else 0
    own, below = tree.own[at], tree.below[at]
    if len(own) > MOST_BELOW or len(below) > MOST_BELOW:
        return NOTHING
    leaves = {tree.tensors[i][cut:]: shapes[i] for i in own}
    labels = [tree.names[child][cut:] for child in below]
    if "parametrizations" in labels:
        leaves |= _parametrized(tree, below[labels.index("parametrizations")], shapes)
    here = by_leaves(leaves, name, labels, upward) if leaves else NOTHING
    if here is NOTHING and own and tree.tensors[own[0]][cut - 1 : cut] == ".":
        here = by_numbers(leaves)
    if not below:
        return here if own else NOT_THERE
    return by_children(name, here, dict(zip(labels, (found[child] for child in below), strict=True)))


def _parametrized(tree: Tree, at: int, shapes: Sequence[tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Weights that are made of others: torch keeps these as `parametrizations.weight.original` or `.original1`."""
    out = {}
    for child in tree.below[at]:
        name = tree.names[child]
        for i in tree.own[child]:
            if tree.tensors[i][len(name) + 1 :] in ("original", "original1"):
                out[_label(name)] = shapes[i]
    return out


def _label(name: str) -> str:
    return name[max(name.rfind("."), name.rfind("/")) + 1 :][:LONGEST]


def _ups(tree: Tree, labels: Sequence[str]) -> list[bool]:
    """Of each module: does a name around it speak of going up, as those of transposed convolutions do?"""
    out = [False] * len(labels)
    known: dict[str, bool] = {}
    for at, children in enumerate(tree.below):
        around = out[at]
        for child in children:
            label = labels[child]
            up = known.get(label)
            if up is None:
                up = known[label] = UPWARD.match(label) is not None
            out[child] = around or up
    return out
