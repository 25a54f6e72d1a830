"""The tensors of a checkpoint as a tree of modules: what repeats folded, what is too much counted.

The tree is that of the names; what is known of a module by its name is laid over it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..wording import is_number

if TYPE_CHECKING:
    from ..capacity import Capacity
    from ..checkpoint import Checkpoint

DEEPEST = 24  # components of a name; what lies deeper stays together
FOLD_ABOVE = 1000  # tensors; below, each is shown
MOST_LEAVES = 500  # that are shown
MOST_EMPTY = 2000  # modules without tensors that are shown
SEPARATOR = re.compile(r"[./]")


class Leaf(NamedTuple):
    """A tensor, or those at one place of layers that are equal. `nbytes`: of the file, each byte once."""

    name: str
    label: str
    names: tuple[str, ...]
    role: str
    elements: int
    nbytes: int


class Node(NamedTuple):
    """A module, or some that are equal.

    Attributes
    ----------
    name, label : str
        All of the name, and its last component; of equal ones with the numbers of the first and last: `layers.0-5`.
    copies : int
        How many equal ones.
    module : Module or None
        What is known of it; of equal ones, of the first.
    left, left_nbytes : int
        Tensors directly or somewhere below it that are not shown, and their bytes.
    """

    name: str
    label: str
    copies: int
    module: Any
    leaves: tuple[Leaf, ...]
    children: tuple[Node, ...]
    tensors: int
    elements: int
    nbytes: int
    left: int = 0
    left_nbytes: int = 0

    def every_leaf(self) -> Iterable[Leaf]:
        """Those that are shown, in the order of the file as far as modules keep to it."""
        yield from self.leaves
        for child in self.children:
            yield from child.every_leaf()

    def every_node(self) -> Iterable[Node]:
        """This one and all below."""
        yield self
        for child in self.children:
            yield from child.every_node()


class _Branch:
    """A node in the making."""

    __slots__ = ("children", "leaves", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.children: dict[str, _Branch] = {}
        self.leaves: list[Leaf] = []

    def child(self, label: str, name: str) -> _Branch:
        found = self.children.get(label)
        if found is None:
            found = self.children[label] = _Branch(name)
        return found


def components(name: str) -> list[tuple[str, str]]:
    """(component, name up to its end) of a tensor's name; dots and slashes part."""
    out: list[tuple[str, str]] = []
    begin = 0
    for found in SEPARATOR.finditer(name):
        if len(out) == DEEPEST:
            break
        at = found.start()
        if at > begin:
            out.append((name[begin:at], name[:at]))
        begin = at + 1
    out.append((name[begin:], name))
    return out


def tree_of(
    ckpt: Checkpoint, capacity: Capacity, modules: Mapping[str, Any], keep: Collection[str] = (), fold: bool = False
) -> Node:
    """All tensors; of more than a thousand those that are equal folded, and then the largest and those in `keep`.

    fold: what is equal is folded however few there are.
    """
    root = _Branch("")
    folded = fold or capacity.tensors > FOLD_ABOVE
    for name, role, elements, nbytes in capacity.each():
        *above, (label, _) = components(name)
        at = root
        for part, whole in above:
            at = at.child(part, whole)
        at.leaves.append(Leaf(name, label, (name,), role, elements, nbytes))
    if capacity.tensors <= FOLD_ABOVE and len(modules) < MOST_EMPTY:
        _with_modules(root, modules)
    grown = _grown(root, "", modules, _Signs(ckpt) if folded else None)
    return _capped(grown, frozenset(keep)) if folded else grown


def _with_modules(root: _Branch, modules: Mapping[str, Any]) -> None:
    """Modules that have no tensors, and the order in which the file has them."""
    for name, module in modules.items():
        at = root
        for part, whole in components(name) if name else ():
            at = at.child(part, whole)
        order = {components(c.name)[-1][0]: i for i, c in enumerate(module.children)}
        if order:
            placed = sorted(at.children.items(), key=lambda pair: order.get(pair[0], len(order)))
            at.children = dict(placed)
            for c in module.children:
                label, whole = components(c.name)[-1]
                if label:
                    at.child(label, whole)
            at.children = dict(sorted(at.children.items(), key=lambda pair: order.get(pair[0], len(order))))


class _Signs:
    """A number for each structure of a module: labels, shapes and dtypes, but for the names of layers."""

    def __init__(self, ckpt: Checkpoint) -> None:
        self.kinds = {t.name: (t.shape, t.dtype) for t in ckpt.values()}
        self.seen: dict[Any, int] = {}

    def of(self, leaves: Sequence[Leaf], children: Sequence[tuple[str, int]]) -> int:
        key = (tuple((leaf.label, self.kinds[leaf.names[0]]) for leaf in leaves), tuple(children))
        return self.seen.setdefault(key, len(self.seen))


def _grown(branch: _Branch, label: str, modules: Mapping[str, Any], signs: _Signs | None) -> Node:
    return _signed(branch, label, modules, signs)[0]


def _signed(branch: _Branch, label: str, modules: Mapping[str, Any], signs: _Signs | None) -> tuple[Node, int]:
    """A node and its structure. Names bound how deep it is."""
    grown = [_signed(child, part, modules, signs) for part, child in branch.children.items()]
    sign = 0
    children = [node for node, _ in grown]
    if signs is not None:
        sign = signs.of(branch.leaves, [(node.label, s) for node, s in grown])
        children = _folded(grown)
    leaves = tuple(branch.leaves)
    return _node(branch.name, label, 1, modules.get(branch.name), leaves, tuple(children)), sign


def _node(
    name: str, label: str, copies: int, module: Any, leaves: tuple[Leaf, ...], children: tuple[Node, ...]
) -> Node:
    tensors = elements = nbytes = 0
    for leaf in leaves:
        tensors, elements, nbytes = tensors + len(leaf.names), elements + leaf.elements, nbytes + leaf.nbytes
    for child in children:
        tensors, elements, nbytes = tensors + child.tensors, elements + child.elements, nbytes + child.nbytes
    return Node(name, label, copies, module, leaves, children, tensors, elements, nbytes)


def _folded(grown: list[tuple[Node, int]]) -> list[Node]:
    """Runs of numbered siblings of one structure as one node each."""
    out: list[Node] = []
    run: list[Node] = []
    last: tuple[int, int] | None = None
    for node, sign in grown:
        number = int(node.label) if is_number(node.label) else None
        if run and last is not None and (number, sign) == (last[0] + 1, last[1]):
            run.append(node)
        else:
            out += [_merged(run)] if run else []
            run = [node]
        last = None if number is None else (number, sign)
    return out + ([_merged(run)] if run else [])


def _merged(run: list[Node]) -> Node:
    """Equal nodes as one: each place in them holds what stands there in all of them."""
    if len(run) == 1:
        return run[0]
    first, end = run[0], run[-1].label
    label = f"{first.label}-{end}"
    name = f"{first.name[: len(first.name) - len(first.label)]}{label}"
    return _together(run, name, label, len(run))


def _together(run: Sequence[Node], name: str, label: str, copies: int) -> Node:
    first = run[0]
    prefix = len(first.name)
    leaves = tuple(
        Leaf(
            name + same[0].name[prefix:],
            same[0].label,
            tuple(n for leaf in same for n in leaf.names),
            same[0].role,
            sum(leaf.elements for leaf in same),
            sum(leaf.nbytes for leaf in same),
        )
        for same in zip(*(node.leaves for node in run), strict=True)
    )
    children = tuple(
        _together(same, name + same[0].name[prefix:], same[0].label, same[0].copies)
        for same in zip(*(node.children for node in run), strict=True)
    )
    return _node(name, label, copies, first.module, leaves, children)


def _capped(root: Node, keep: frozenset[str]) -> Node:
    """The largest leaves, and those that are wanted; the others are counted."""
    leaves = list(root.every_leaf())
    if len(leaves) <= MOST_LEAVES:
        return root
    wanted = [leaf for leaf in leaves if not keep.isdisjoint(leaf.names)][: MOST_LEAVES // 4]
    kept = {leaf.name for leaf in wanted}
    others = sorted((leaf for leaf in leaves if leaf.name not in kept), key=lambda leaf: -leaf.nbytes)
    return _pruned(root, kept | {leaf.name for leaf in others[: MOST_LEAVES - len(kept)]})


def _pruned(node: Node, kept: set[str]) -> Node:
    leaves = tuple(leaf for leaf in node.leaves if leaf.name in kept)
    pruned = [_pruned(c, kept) for c in node.children]
    children = tuple(c for c in pruned if c.leaves or c.children)
    gone = [c for c in pruned if not (c.leaves or c.children)]
    lost = [leaf for leaf in node.leaves if leaf.name not in kept]
    return Node(
        node.name,
        node.label,
        node.copies,
        node.module,
        leaves,
        children,
        node.tensors,
        node.elements,
        node.nbytes,
        sum(len(leaf.names) for leaf in lost) + sum(c.tensors for c in gone),
        sum(leaf.nbytes for leaf in lost) + sum(c.nbytes for c in gone),
    )
