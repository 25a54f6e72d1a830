"""How answers look in a notebook: small tables of HTML, without a script, in the colours of the page around them.

All that may come out of a file goes through `text`: control characters spelt out, HTML escaped, cut where it is long.
"""

from __future__ import annotations

from html import escape as html

from .errors import PthError, guard
from .wording import count, number, printable, shape, share, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from .auditor import AuditReport
    from .capacity import Capacity
    from .checkpoint import Checkpoint
    from .stats import StatsTable

MOST_GROUPS = 20  # rows of a table of modules
MOST_ROWS = 50  # of tensors, files, findings
LONGEST = 120  # characters of a text
CORNER = (5, 7)  # rows and columns of a tensor that are shown
MARKS = {"clean": "#2a9d5c", "review": "#d08700", "malformed": "#d9363e", "dangerous": "#d9363e"}
# Of our own elements alone; what strips it leaves plain tables.
STYLE = (
    "<style>.pthparse{font-size:.9em;overflow-x:auto}"
    ".pthparse table{border-collapse:collapse;margin:.4em 0;font-size:1em}"
    ".pthparse th,.pthparse td{padding:.1em .6em;text-align:right;white-space:nowrap;vertical-align:top}"
    ".pthparse .l{text-align:left}.pthparse th{border-bottom:1px solid}"
    ".pthparse i{display:block;height:.7em;margin-top:.3em;background:currentColor;opacity:.4}</style>"
)


# ---- pieces ----


def text(value: Any, most: int = LONGEST) -> str:
    """A text, fit for HTML; the middle of a long one goes."""
    return html(printable(str(value), most))


def box(*parts: str) -> str:
    return f'<div class="pthparse">{STYLE}{"".join(parts)}</div>'


def head(title: str, *told: str) -> str:
    """A line in bold, and what there is to say of it. Both are HTML already."""
    return f"<div><b>{title}</b></div>" + "".join(f"<div>{t}</div>" for t in told if t)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Cells are HTML already; those behind the first `left` ones are numbers."""

    def row(cells: Sequence[str], tag: str) -> str:
        told = (f"<{tag}{' class=l' if i < left else ''}>{cell}</{tag}>" for i, cell in enumerate(cells))
        return f"<tr>{''.join(told)}</tr>"

    top = row([html(h) for h in heads], "th") if any(heads) else ""
    return f"<table>{top}{''.join(row(cells, 'td') for cells in rows)}</table>"


def left_out(n: int, shown: int, noun: str) -> str:
    return f"<div>and {count(n - shown, f'more {noun}')}</div>" if n > shown else ""


def bar(part: float) -> str:
    return f'<i style="width:{6 * min(1.0, max(0.0, part)):.2f}em"></i>'


def wrong(error: PthError) -> str:
    return f"<div>{text(error, 4 * LONGEST)}</div>"


# ---- answers ----


def of_checkpoint(ckpt: Checkpoint) -> str:
    name = text(ckpt.path or "in memory")
    if ckpt.closed:
        return box(head(name, "a closed checkpoint"))
    try:
        n, kind = len(ckpt), text(ckpt.format)
        parts = [
            head(name, f"{kind} checkpoint, {text(ckpt.writer.text)}", f"{size(ckpt.nbytes)}; {count(n, 'tensor')}")
        ]
        parts += _modules(ckpt)
        shown = [t for t, _ in zip(ckpt.values(), range(MOST_ROWS), strict=False)]
        rows = table(("name", "dtype", "shape", "bytes"), (_row(t) for t in shown), 3)
        more = left_out(n, len(shown), "tensor")
        parts.append(f"<details><summary>{count(n, 'tensor')}</summary>{rows}{more}</details>" if shown else "")
        return box(*parts)
    except PthError as e:
        return box(head(name), wrong(e))


def _modules(ckpt: Checkpoint) -> list[str]:
    source: Any = getattr(getattr(ckpt, "_box", None), "source", None)
    if source is not None and source.afar:  # it would fetch the header of each tensor
        return []
    try:
        return _groups(ckpt.capacity())
    except PthError as e:
        return [wrong(e)]


def _row(t: Any) -> list[str]:
    return [text(t.name), text(t.dtype), shape(t.shape), f"{max(0, t.nbytes):,}"]


def of_tensor(t: Any) -> str:
    told = f"{text(t.dtype)} {shape(t.shape)}, {count(max(0, t.numel), 'element')}, {size(max(0, t.nbytes))}"
    kind = "" if t.kind == "dense" else text(t.kind)
    title = head(text(t.name), told, kind)
    if t.kind not in ("dense", "array") or t._home.box.source.afar:
        return box(title, wrong(t.error) if t.kind != "chunked" and t.error is not None else "")
    try:
        with guard("its values"):
            return box(title, _corner(t))
    except PthError as e:
        return box(title, wrong(e))


def _corner(t: Any) -> str:
    """The first rows and columns."""
    array = t.numpy()
    if not array.size:
        return ""
    while array.ndim > 2:
        array = array[0]
    rows = array.reshape(1, -1) if array.ndim < 2 else array
    few = rows[: CORNER[0], : CORNER[1]]
    more = rows.shape[1] > CORNER[1]
    cells = [[_value(x) for x in row] + (["..."] if more else []) for row in few.tolist()]
    cells += [["..."] * len(cells[0])] if rows.shape[0] > CORNER[0] else []
    where = "<div>of the first matrix</div>" if len(t.shape) > 2 else ""
    return table([""] * len(cells[0]), cells, 0) + where


def _value(x: Any) -> str:
    if isinstance(x, complex):
        return number(x)
    floating = hasattr(x, "__float__") and not isinstance(x, int)  # numpy's own, and bfloat16
    return f"{float(x):.4g}" if floating else text(x, 40)


def of_capacity(c: Capacity) -> str:
    told = f"{count(c.parameters, 'parameter')}; {size(c.tensor_bytes)} of tensor data in {count(c.tensors, 'tensor')}"
    why = table(
        ("why so big", "", "bytes", "of file"),
        ([text(r.what), text(r.text), f"{r.nbytes:,}", share(r.nbytes, c.file_bytes)] for r in c.why[:MOST_GROUPS]),
        2,
    )
    ledger = table(
        ("ledger", "", "parts", "bytes"),
        ([text(e.kind), text(e.meaning), f"{e.count:,}", f"{e.nbytes:,}"] for e in c.ledger() if e.nbytes),
        2,
    )
    return box(head(size(c.file_bytes), told), why, *_groups(c), ledger)


def _groups(c: Capacity) -> list[str]:
    groups = c.groups()
    rows = (
        [
            text(g.name),
            *(f"{n:,}" for n in (g.tensors, g.elements, g.nbytes)),
            share(g.nbytes, c.file_bytes),
            bar(g.share),
        ]
        for g in groups[:MOST_GROUPS]
    )
    heads = ("module", "tensors", "elements", "bytes", "of file", "")
    return [table(heads, rows), left_out(len(groups), MOST_GROUPS, "module")]


def of_stats(found: StatsTable) -> str:
    heads = ("name", "dtype", "shape", "mean", "std", "min", "max", "l2", "zeros", "NaN", "Inf")
    shown = [s for s, _ in zip(found, range(MOST_ROWS), strict=False)]
    rows = (
        [
            *(text(s.name), text(s.dtype), shape(s.shape)),
            *(number(x) for x in (s.mean, s.std, s.min, s.max, s.l2)),
            *(f"{n:,}" for n in (s.zeros, s.nan, s.posinf + s.neginf)),
        ]
        for s in shown
    )
    errors = list(found.errors.items())
    wrongs = [f"<div>{text(n)}: {text(e.message, 2 * LONGEST)}</div>" for n, e in errors[:MOST_ROWS]]
    return box(
        head(f"Statistics of {count(len(found), 'tensor')}"),
        table(heads, rows, 3),
        left_out(len(found), len(shown), "tensor"),
        *wrongs,
        left_out(len(errors), len(wrongs), "error"),
    )


def of_audit(report: AuditReport) -> str:
    mark = MARKS.get(report.verdict, MARKS["review"])
    seen = {status: sum(g.status == status for g in report.globals) for status in ("dangerous", "unknown")}
    told = [f"{n:,} {status}" for status, n in seen.items() if n]
    told += [count(report.tensors, "tensor"), count(report.n_globals, "global"), count(report.n_findings, "finding")]
    known = f"{text(report.format)}, {size(report.nbytes)}" if report.format else size(report.nbytes)
    reasons = report.reasons
    rows = "".join(f"<li>{text(reason, 2 * LONGEST)}</li>" for reason in reasons[:MOST_ROWS])
    files = table(("file", "verdict"), ([text(f.path or ""), text(f.verdict)] for f in report.files[:MOST_ROWS]), 2)
    inner = head(f"{text(report.verdict.upper())} {text(report.path or 'in memory')}", known, ", ".join(told))
    return box(
        f'<div style="border-left:.3em solid {mark};padding-left:.6em">{inner}</div>',
        f"<ul>{rows}</ul>" if rows else "",
        left_out(len(reasons), MOST_ROWS, "reason"),
        files if report.files else "",
        left_out(len(report.files), MOST_ROWS, "file"),
    )
