"""Where the bytes are, as rectangles: each as large as its share, those of a module together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .tree import Leaf, Node


class Tile(NamedTuple):
    """A rectangle. `what`: a tensor, a module with its own tiles, or (None) what is not shown of a module.

    `name`: the module's that it stands for or lies in.
    """

    what: Leaf | Node | None
    name: str
    x: float
    y: float
    w: float
    h: float
    tiles: tuple[Tile, ...]
    left: int = 0

    @property
    def area(self) -> float:
        return self.w * self.h


def treemap(root: Node, width: float, height: float) -> Tile | None:
    """All of a tree, each rectangle's area in proportion to its bytes; None if there are no bytes."""
    return _of_node(root, 0.0, 0.0, width, height) if root.nbytes else None


def _of_node(node: Node, x: float, y: float, w: float, h: float) -> Tile:
    """A module of one tensor is drawn as that tensor, and a module of one module as that."""
    parts: list[Leaf | Node | None] = [*(n for n in node.leaves if n.nbytes), *(n for n in node.children if n.nbytes)]
    if node.left_nbytes:
        parts.append(None)
    if len(parts) == 1 and parts[0] is not None:
        return _tile(parts[0], node, x, y, w, h)
    sized = sorted(((p.nbytes if p else node.left_nbytes, p) for p in parts), key=lambda pair: -pair[0])
    places = squarified([n for n, _ in sized], x, y, w, h)
    tiles = tuple(_tile(p, node, *place) for (_, p), place in zip(sized, places, strict=True))
    return Tile(node, node.name, x, y, w, h, tiles)


def _tile(part: Leaf | Node | None, node: Node, x: float, y: float, w: float, h: float) -> Tile:
    if isinstance(part, Node):
        return _of_node(part, x, y, w, h)
    return Tile(part, part.name if part else node.name, x, y, w, h, (), 0 if part else node.left)


def squarified(sizes: Sequence[int], x: float, y: float, w: float, h: float) -> list[tuple[float, float, float, float]]:
    """(x, y, width, height) for each of these, the largest first."""
    import squarify

    # In parts of the whole: what a file says may be beyond what floats can tell apart.
    total = sum(sizes)
    parts = [max(n / total, 1e-12) for n in sizes]
    try:
        placed = squarify.squarify([part * w * h for part in parts], x, y, w, h)
    except ZeroDivisionError:  # nothing is left for the smallest
        return _side_by_side(parts, x, y, w, h)
    return [(r["x"], r["y"], r["dx"], r["dy"]) for r in placed]


def _side_by_side(
    parts: Sequence[float], x: float, y: float, w: float, h: float
) -> list[tuple[float, float, float, float]]:
    out = []
    for part in parts:
        out.append((x, y, part * w, h))
        x += part * w
    return out
