"""What is written on the rectangles of the treemap, and what of it fits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .treemap import Tile

LETTER = 6.7  # width of one
LINE = 16.0
MOST_LAYERS = 80  # of a list, to be told apart
LAYERS = re.compile(r"(?:^|[./])\d+(?:-\d+)?$")


class Label(NamedTuple):
    """A text at a place; `strong`: what the rectangles below it are parts of."""

    x: float
    y: float
    text: str
    strong: bool


def labels(root: Tile) -> Iterator[Label]:
    """A module's name in its upper left corner, tensors' in their lower left, where there is room for them."""
    whole = root.area or 1.0
    for tile in named(root):
        name = tile.name if tile.what is not None else f"{tile.left:,} more"
        share = f"{100 * tile.area / whole:.1f} %"  # of the picture: tensors' bytes, and not the file's
        own = name if tile.tiles else name.rpartition(".")[0]
        if LAYERS.search(own):  # the same for all layers, whatever their widths
            name = own = ".".join(own.split(".")[-2:])
        text = fitting((f"{name}  {share}", name, own, last_of(own)), tile.w) if tile.h >= LINE + 4 else ""
        if text:
            yield Label(tile.x + 6, tile.y + 15, text, True)
        if tile.tiles:
            yield from _inside(tile, tile.name, tile.y + LINE + 4 if text else tile.y)


def named(tile: Tile, whole: float | None = None) -> Iterator[Tile]:
    """The parts of a module; in place of a list of layers, and of a part that is most of it, their own parts."""
    whole = tile.area if whole is None else whole
    for inner in tile.tiles or (tile,):
        of_layers = all(t.what is None or LAYERS.search(t.name) for t in inner.tiles)
        of_most = 2 * inner.area > whole and any(t.tiles for t in inner.tiles)
        if 1 < len(inner.tiles) <= MOST_LAYERS and (of_layers or of_most):
            yield from named(inner, whole)
        else:
            yield inner


def _inside(tile: Tile, above: str, free: float) -> Iterator[Label]:
    for inner in tile.tiles:
        if inner.tiles:
            yield from _inside(inner, above, free)
            continue
        name = inner.name[len(above) :].lstrip("./") if inner.what is not None else f"{inner.left:,} more"
        if inner.h < LINE or inner.y + inner.h - LINE < free:
            continue
        module = name.rpartition(".")[0]
        if text := fitting((name, module, last_of(module)), inner.w):
            yield Label(inner.x + 6, inner.y + inner.h - 6, text, False)


def last_of(name: str) -> str:
    return name.rpartition(".")[2]


def fitting(texts: tuple[str, ...], width: float) -> str:
    """The first of them that there is room for; '' if there is none."""
    room = (width - 10) / LETTER
    return next((text for text in texts if text and len(text) <= room), "")
