"""Pictures for a slide or a paper: the treemap, the tree and the histograms as SVG, and what becomes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UnsupportedError
from .facts import one_line
from .html import View, environment, ridges_of
from .tree import Node
from .words import dims, name, told

if TYPE_CHECKING:
    from .facts import PageFacts

PAGE = 1120  # width of a landscape figure: A4 at 96 dots an inch
UPRIGHT = 780
COLUMNS, GAP = 4, 28
MOST_BOXES = 64
ROW, DETAIL, INDENT = 26.0, 17.0, 16.0
LETTER = 6.6


class Box(NamedTuple):
    """A module of the tree: a frame, its texts, and how many equal ones it stands for."""

    x: float
    y: float
    w: float
    h: float
    label: str
    text: str
    detail: str
    elements: int
    nbytes: int
    copies: int
    inferred: bool


def drawings(facts: PageFacts, figures: Sequence[str]) -> dict[str, str]:
    """The SVG of each."""
    makers: dict[str, Callable[[PageFacts], str]] = {
        "treemap": _treemap,
        "tree": _tree,
        "histograms": _histograms,
    }
    made = {figure: makers[figure](facts) for figure in figures}
    found = {figure: text for figure, text in made.items() if text}
    if not found:
        raise UnsupportedError("nothing-to-draw", f"nothing for {', '.join(figures)}: no data in the file")
    return found


def _render(what: str, facts: PageFacts, width: float, height: float, **more: Any) -> str:
    return environment().get_template("figure.svg").render(
        what=what, facts=facts, view=View(facts), width=width, height=height, **more
    )  # fmt: skip


def _treemap(facts: PageFacts) -> str:
    return _render("treemap", facts, 1200, 560 + 78) if facts.tree.nbytes else ""


def _histograms(facts: PageFacts) -> str:
    if not facts.panels:
        return ""
    wide = (PAGE - (COLUMNS - 1) * GAP - 24) / COLUMNS - 20
    placed = []
    y = 64.0
    drawn = [ridges_of(p, wide) for p in facts.panels]
    for i in range(0, len(drawn), COLUMNS):
        row = drawn[i : i + COLUMNS]
        tall = max(r.height for r in row)
        placed += [(36 + k * (wide + 20 + GAP), y + 18 + tall - r.height, y + 8, r) for k, r in enumerate(row)]
        y += tall + 60
    return _render("histograms", facts, PAGE, y, placed=placed, wide=wide)


def _tree(facts: PageFacts) -> str:
    for deepest in range(12, 0, -1):
        boxes = list(_boxes(facts, deepest))
        if len(boxes) <= MOST_BOXES or deepest == 1:
            break
    left = max(0, len(boxes) - MOST_BOXES)
    boxes = boxes[:MOST_BOXES]
    height = max((b.y + b.h for b in boxes), default=60) + 30
    return _render("tree", facts, UPRIGHT, height, boxes=boxes, left=left)


def _boxes(facts: PageFacts, deepest: int) -> Iterator[Box]:
    """From the outer ones to the inner ones, down to a depth."""
    outline = facts.outline
    if outline.module is not None and outline.module.kind:
        yield from _box(facts, outline, 16, 56, UPRIGHT - 32, deepest)[0]
        return
    y = 56.0
    parts = [*outline.children]
    if outline.leaves:
        parts.insert(0, outline._replace(name="", label="(tensors of its own)", children=(), module=None))
    for child in parts:
        found, y = _box(facts, child, 16, y, UPRIGHT - 32, deepest)
        yield from found
        y += 6


def _box(facts: PageFacts, node: Node, x: float, y: float, w: float, deepest: int) -> tuple[list[Box], float]:
    """A module and those in it, and where it ends."""
    m = node.module
    detail = ", ".join(f"{name(leaf.label)} [{dims(facts.shapes[leaf.name])}]" for leaf in node.leaves)
    text = ("" if node.children else one_line(m)) or (m.kind if m is not None else "")
    inner: list[Box] = []
    at = y + ROW + (DETAIL if detail else 0)
    if deepest > 1:
        for child in node.children:
            found, at = _box(facts, child, x + INDENT, at, w - INDENT - 8, deepest - 1)
            inner += found
            at += 5
    elif node.children:
        detail = ", ".join(name(c.label) for c in node.children)
        at += DETAIL
    end = at + (3 if inner else 0)
    label = name(node.label) if node.label else name(facts.title)
    room = int((w - 190) / LETTER) - len(label) - (7 if node.copies > 1 else 0)
    own = Box(
        x,
        y,
        w,
        end - y,
        told(label, 60),
        told(text, max(12, room)),
        told(detail, max(12, int((w - 24) / 5.9))),
        node.elements,
        node.nbytes,
        node.copies,
        m is not None and m.basis == "inferred",
    )
    return [own, *inner], end


# ---- other formats ----


def converter(to: str) -> Callable[[str], bytes]:
    """What makes the bytes of a picture of its SVG.

    Raises
    ------
    UnsupportedError
        What it needs is not there.
    """
    if to == "svg":
        return lambda text: text.encode()
    if to not in ("png", "pdf"):
        raise ValueError(f"to must be 'svg', 'png' or 'pdf', not {to!r}")
    try:
        import cairosvg
    except (ImportError, OSError) as e:  # OSError: the C library cairo itself
        wanted = "pip install 'pthparse[pictures]'" if isinstance(e, ImportError) else "the system's library cairo"
        raise UnsupportedError("pictures-extra", f"{to} pictures need {wanted}; --svg needs nothing") from None
    if to == "png":
        return lambda text: bytes(cairosvg.svg2png(bytestring=text.encode(), scale=2))
    return lambda text: bytes(cairosvg.svg2pdf(bytestring=text.encode()))
