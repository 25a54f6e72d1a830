"""Counts as paths of SVG: texts of numbers and letters, and nothing out of a file."""

from __future__ import annotations

from collections.abc import Sequence


def short(x: float) -> str:
    """One digit behind the point, if it is worth it."""
    text = f"{x:.1f}"
    return text[:-2] if text.endswith(".0") else text


def steps(counts: Sequence[int], width: int, height: int) -> str:
    """Bars side by side, as one path from the left to the right."""
    most = max(counts, default=0)
    if not most:
        return ""
    out = [f"M0 {height}"]
    last = height
    for i, n in enumerate(counts):
        y = height - max(n > 0, round(n * height / most))
        if y != last:
            out.append(f"V{y}")
            last = y
        x = round((i + 1) * width / len(counts))
        if out[-1].startswith("H"):
            out[-1] = f"H{x}"
        else:
            out.append(f"H{x}")
    return "".join(out) + f"V{height}z"


def ridge(counts: dict[int, int], low: int, high: int, width: float, height: float, base: float) -> str:
    """A curve over powers of two from `low` to `high`, its foot at `base`; counts below `low` stand at it."""
    n = high - low + 1
    held = [0.0] * n
    for e, c in counts.items():
        held[min(max(e - low, 0), n - 1)] += c
    most = max(held) or 1.0
    points = [((i + 0.5) * width / n, base - c / most * height) for i, c in enumerate(held)]
    path = f"M0 {short(base)}L" + " ".join(f"{short(x)} {short(y)}" for x, y in points)
    return f"{path} {short(width)} {short(base)}z"


def span_of(histograms: Sequence[dict[int, int]], most: int = 12) -> tuple[int, int]:
    """Powers of two that hold all but a few elements of these."""
    high = max((max(h) for h in histograms if h), default=0)
    low = high
    for h in histograms:
        total, seen = sum(h.values()), 0
        for e in sorted(h):
            seen += h[e]
            if seen > total / 200:
                low = min(low, e)
                break
    return max(low - 1, high - most), high


def trend(values: Sequence[float], width: int, height: int) -> str:
    """A line from left to right between the least and the largest."""
    low, high = min(values), max(values)
    room = (high - low) or 1.0
    step = width / max(1, len(values) - 1)
    points = (f"{short(i * step)} {short(height - (v - low) / room * height)}" for i, v in enumerate(values))
    return "M" + "L".join(points)
