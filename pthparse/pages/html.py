"""The page: one file that needs nothing else, and lets nothing in.

Templates are jinja2's, with autoescape; texts of a file reach them as text. What is put in as it is: our own style and
script, which the page's Content-Security-Policy names by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import __version__, wording
from . import charts, words
from .facts import KINDS, STRIP_WIDTH, PageFacts, Panel, TensorFacts
from .labels import Label, labels, named
from .strip import Piece
from .treemap import Tile, treemap

if TYPE_CHECKING:
    from jinja2 import Environment

    from ..differ import DiffReport

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT = 1200, 560  # of the treemap
HEALTHS = ("fine", "note", "error", "")
MOST_DTYPES = 8  # of a colour of their own
CHART = 360, 84
SPARK = 72, 16
PANEL_WIDTH = 236
MOST_FINDINGS = 100
MOST_STORAGES = 100
MOST_DIFFS = 300


class Ridge(NamedTuple):
    """A curve of one layer."""

    layer: str
    name: str
    path: str
    labelled: bool


class Ridges(NamedTuple):
    """Curves over each other, between powers of two; `step` layers were passed over for each that is shown."""

    panel: Panel
    low: int
    high: int
    height: float
    rows: tuple[tuple[float, Ridge], ...]


@cache
def environment() -> Environment:
    """Templates, and how numbers and names are written in them."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "commas": lambda n: f"{n:,}",
        "told": words.told,
        "name": words.name,
        "units": words.units,
        "brief": wording.brief,
        "number": words.number,
        "dims": words.dims,
        "shape": wording.shape,
        "short": charts.short,
        "count": wording.count,
        "basename": wording.base_name,
        "lines": lambda text: "\n".join(words.told(line) for line in text.splitlines()),
    }
    made.globals |= {"share": wording.share, "steps": charts.steps, "trend": charts.trend, "KINDS": KINDS}
    return made


def page_of(facts: PageFacts, other: PageFacts | None = None, difference: DiffReport | None = None) -> str:
    """The page of one checkpoint; or of one, another, and what is different."""
    from markupsafe import Markup

    style = (TEMPLATES / "style.css").read_text("utf-8")
    script = (TEMPLATES / "script.js").read_text("utf-8")
    found = environment().get_template("page.html")
    text: str = found.render(
        style=Markup(style),
        script=Markup(script),
        style_hash=hash_of(style),
        script_hash=hash_of(script),
        version=__version__,
        facts=facts,
        other=other,
        difference=difference,
        view=View(facts),
        other_view=View(other) if other is not None else None,
        MOST_FINDINGS=MOST_FINDINGS,
        MOST_STORAGES=MOST_STORAGES,
        MOST_DIFFS=MOST_DIFFS,
    )
    return text


def hash_of(text: str) -> str:
    """As a Content-Security-Policy names a script or a style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


class View:
    """What a template asks of the facts: places, paths and classes."""

    width, height, strip_width = WIDTH, HEIGHT, STRIP_WIDTH
    chart, panel_width = CHART, PANEL_WIDTH

    def __init__(self, facts: PageFacts) -> None:
        self.facts = facts
        self.leaves = list(facts.root.every_leaf())
        self.modules = list(facts.root.every_module())
        self.module_of = {t.number: m for m in self.modules for t in m.leaves}
        self.by_name = {t.name: t for t in self.leaves}
        self.by_tensor = {n: self.by_name[leaf.name] for leaf in facts.tree.every_leaf() for n in leaf.names}
        self.dtypes = [name for name, _, _ in facts.dtypes]
        self.treemap: Tile | None = treemap(facts.tree, WIDTH, HEIGHT)
        self.named = {id(tile) for tile in named(self.treemap)} if self.treemap else set()
        self.labels: list[Label] = list(labels(self.treemap)) if self.treemap else []
        self.kinds = [k for k in KINDS if any(t.kind == k for t in self.leaves)]
        self.healths = [h for h in HEALTHS if any(t.health == h for t in self.leaves)]

    def tensor(self, tile: Tile) -> TensorFacts | None:
        return self.by_name.get(tile.name) if tile.what is not None else None

    def is_named(self, tile: Tile) -> bool:
        """Is it drawn apart from its neighbours?"""
        return id(tile) in self.named

    def dtype_class(self, t: TensorFacts) -> str:
        return f"d{min(self.dtypes.index(t.dtype), MOST_DTYPES)}" if t.dtype in self.dtypes else f"d{MOST_DTYPES}"

    def kind_class(self, kind: str) -> str:
        return f"k{KINDS.index(kind)}"

    def health_class(self, health: str) -> str:
        return f"h{HEALTHS.index(health)}"

    def classes(self, t: TensorFacts) -> str:
        return f"{self.kind_class(t.kind)} {self.dtype_class(t)} {self.health_class(t.health)}"

    def piece_class(self, piece: Piece) -> str:
        """Of a part of the file: a tensor is drawn as in the treemap."""
        if piece.kind != "tensor":
            return "s-" + piece.kind.replace(" ", "-")
        t = self.by_tensor.get(piece.name)
        return self.kind_class(t.kind) if t is not None else self.kind_class("other")

    def magnitudes(self, t: TensorFacts) -> tuple[str, int, int, int] | None:
        """(path, lowest power, highest power, elements below) of a tensor's magnitudes."""
        if t.stats is None or not t.stats.histogram:
            return None
        held = dict(t.stats.histogram)
        high = max(held)
        low = max(min(held), high - 31)
        counts = [held.get(e, 0) for e in range(low, high + 1)]
        return charts.steps(counts, *CHART), low, high, sum(n for e, n in held.items() if e < low)

    def spark_of(self, t: TensorFacts) -> str:
        if t.counts is not None:
            return charts.steps(_fewer(t.counts[0], 24), *SPARK)
        if t.stats is not None and t.stats.histogram:
            held = dict(t.stats.histogram)
            high = max(held)
            return charts.steps([held.get(e, 0) for e in range(high - 17, high + 1)], *SPARK)
        return ""

    def ridges(self, panel: Panel) -> Ridges:
        return ridges_of(panel, PANEL_WIDTH)


def ridges_of(panel: Panel, width: float) -> Ridges:
    """Curves from the first layer on top to the last one."""
    held = [(layer, name, dict(found)) for layer, name, found in panel.rows]
    low, high = charts.span_of([h for _, _, h in held])
    n = len(held)
    step = 26.0 if n == 1 else max(5.0, min(16.0, 120.0 / n))
    tall = 40.0 if n == 1 else max(24.0, 2.0 * step)
    every = max(1, -(-n // 8))
    rows = []
    for i, (layer, name, found) in enumerate(held):
        base = tall + 2 + i * step
        named = i % every == 0 and (i + every <= n or i == n - 1)
        path = charts.ridge(found, low, high, width, tall, base)
        rows.append((base, Ridge(layer, name, path, named or i == n - 1)))
    return Ridges(panel, low, high, tall + 4 + (n - 1) * step, tuple(rows))


def _fewer(counts: tuple[int, ...], n: int) -> list[int]:
    """The same in at most so many bins."""
    step = -(-len(counts) // n)
    return [sum(counts[i : i + step]) for i in range(0, len(counts), step)]
