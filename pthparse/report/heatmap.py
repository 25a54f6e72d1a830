"""A picture of drift: a row for each tensor or module, a column for each step, as dark as it has changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape as html

from ..drifter import DriftReport, DriftRow
from ..errors import escape
from ..wording import change, printable

MOST_ROWS = 120
LABEL = 48  # characters of a name
ROW, FONT, LETTER = 16, 11, 6.7  # pixels
LEGEND = 160
# From little to much: dark blue over green to yellow, told apart by any eye and in grey (viridis).
STOPS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
UNCHANGED = "#8a8a8a"
STYLE = (
    "text{font:11px ui-monospace,Menlo,Consolas,monospace;fill:#222}.h{font-size:13px;font-weight:bold}"
    ".q{fill:#666}.n{fill:none;stroke:#999;stroke-opacity:.5}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.q{fill:#999}}"
)


def heatmap(report: DriftReport) -> str:
    """One SVG document; the same for the same report. Changes are to the checkpoint before, on a logarithmic scale."""
    rows, left_out = _shown(report.rows)
    steps = report.steps[1:]
    found = [x for row in rows for x in row.change[1:] if x is not None and 0 < x < math.inf]
    low, high = (min(found), max(found)) if found else (1e-3, 1.0)
    low = max(low, high / 1e6)
    labels = [printable(row.name, LABEL) for row in rows]
    left = 12 + math.ceil(LETTER * max((len(t) for t in labels), default=0)) + 8
    wide = max(4.0, min(48.0, 720 / len(steps)))
    top = 60
    bottom = top + ROW * len(rows)
    words = [f"{left_out:,} with smaller changes are left out"] if left_out else []
    if any(x == math.inf for row in rows for x in row.change):
        words.append("what was all zeros before counts as the largest change")
    words.append(f"steps {escape(report.basis)}")
    width = math.ceil(max(left + wide * len(steps) + 20, left + LEGEND + 190, *(LETTER * len(w) + 24 for w in words)))
    height = bottom + 74 + 16 * len(words)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<style>{STYLE}</style>",
        '<text class="h" x="12" y="20">Change from step to step, ||a - b|| / ||a||</text>',
        f'<text class="q" x="12" y="36">{len(report.steps):,} checkpoints, {len(report.rows):,} rows</text>',
    ]
    every = max(1, math.ceil((LETTER * max(len(str(s.step)) for s in steps) + 8) / wide))
    for i, step in enumerate(steps):
        if i % every == 0:
            x = left + wide * (i + 0.5)
            out.append(f'<text class="q" x="{x:.1f}" y="{top - 6}" text-anchor="middle">{step.step}</text>')
    for k, (row, label) in enumerate(zip(rows, labels, strict=True)):
        y = top + ROW * k
        out.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{html(label)}</text>')
        for i, value in enumerate(row.change[1:]):
            box = f'x="{left + wide * i:.1f}" y="{y + 1}" width="{wide - 1:.1f}" height="{ROW - 2}"'
            told = f"{label}, step {steps[i].step}: {'nothing to compare' if value is None else change(value)}"
            look = 'class="n"' if value is None else f'fill="{_colour(value, low, high)}"'
            out.append(f"<rect {box} {look}><title>{html(told)}</title></rect>")
    out += _legend(left, bottom + 22, low, high)
    out += [f'<text class="q" x="12" y="{bottom + 72 + 16 * k}">{html(w)}</text>' for k, w in enumerate(words)]
    return "\n".join([*out, "</svg>", ""])


def _shown(rows: Sequence[DriftRow]) -> tuple[list[DriftRow], int]:
    """Those that move most, in the order of the files."""
    if len(rows) <= MOST_ROWS:
        return list(rows), 0
    most = sorted(range(len(rows)), key=lambda i: -(rows[i].largest or (-1.0, 0))[0])[:MOST_ROWS]
    return [rows[i] for i in sorted(most)], len(rows) - MOST_ROWS


def _legend(x: int, y: int, low: float, high: float) -> list[str]:
    n = 32
    step = LEGEND / n
    out = [f'<text class="q" x="{x}" y="{y - 4}">change</text>']
    for i in range(n):
        colour = _mixed(i / (n - 1))
        out.append(f'<rect x="{x + step * i:.1f}" y="{y}" width="{step + 0.2:.1f}" height="10" fill="{colour}"/>')
    out.append(f'<text class="q" x="{x}" y="{y + 24}">{change(low)}</text>')
    out.append(f'<text class="q" x="{x + LEGEND}" y="{y + 24}" text-anchor="end">{change(high)}</text>')
    for k, (look, told) in enumerate(((f'fill="{UNCHANGED}"', "unchanged"), ('class="n"', "nothing to compare"))):
        out.append(f'<rect {look} x="{x + LEGEND + 24}" y="{y + 16 * k}" width="14" height="10"/>')
        out.append(f'<text class="q" x="{x + LEGEND + 44}" y="{y + 9 + 16 * k}">{told}</text>')
    return out


def _colour(value: float, low: float, high: float) -> str:
    if value == 0:
        return UNCHANGED
    if value <= low:
        return _mixed(0.0)
    if value >= high or low >= high:
        return _mixed(1.0)
    return _mixed(math.log(value / low) / math.log(high / low))


def _mixed(share: float) -> str:
    at = share * (len(STOPS) - 1)
    i = min(int(at), len(STOPS) - 2)
    parts = (round(a + (b - a) * (at - i)) for a, b in zip(STOPS[i], STOPS[i + 1], strict=True))
    return "#" + "".join(f"{p:02x}" for p in parts)
