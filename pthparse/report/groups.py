"""Tensors by module prefix, repeated layers folded: what `info` shows as the biggest groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ..wording import is_number

MOST_PREFIXES = 32  # common components that are looked through


class Group(NamedTuple):
    """Tensors below one prefix. `copies` > 1: numbered siblings of equal structure, `name` says which."""

    name: str
    copies: int
    tensors: int
    elements: int
    nbytes: int


def _parts(name: str) -> tuple[str, str]:
    """First component and the rest; the component keeps the separator's kind out."""
    for i, c in enumerate(name):
        if c in "./":
            return name[:i], name[i + 1 :]
    return name, ""


def _structure(rows: list[tuple[str, Any, int, int]]) -> tuple[Any, ...]:
    return tuple((rest, kind) for rest, kind, _, _ in rows)


def fold(rows: Iterable[tuple[str, Any, int, int]]) -> list[Group]:
    """Groups of (name, structure, elements, bytes) rows by their first component; numbered siblings below it folded.

    `layers.0.a, layers.0.b, layers.1.a, layers.1.b` become one group `layers.0-1` of 2 copies. Linear in the names.
    """
    common = ""
    for _ in range(MOST_PREFIXES):
        tops: dict[str, list[tuple[str, Any, int, int]]] = {}
        for name, kind, elements, nbytes in rows:
            head, rest = _parts(name)
            tops.setdefault(head, []).append((rest, kind, elements, nbytes))
        if len(tops) != 1:
            break
        ((head, inner),) = tops.items()
        if not any(rest for rest, *_ in inner) or all(is_number(_parts(rest)[0]) for rest, *_ in inner):
            break
        common, rows = f"{common}{head}.", inner  # a common prefix says nothing: look below it
    out: list[Group] = []
    for head, inner in tops.items():
        out += [g._replace(name=common + g.name if g.name else common[:-1]) for g in _fold_numbers(head, inner)]
    return out


def _fold_numbers(head: str, rows: list[tuple[str, Any, int, int]]) -> list[Group]:
    numbered: dict[int, list[tuple[str, Any, int, int]]] = {}
    others: list[tuple[str, Any, int, int]] = []
    for rest, *more in rows:
        first, tail = _parts(rest)
        if is_number(first):
            numbered.setdefault(int(first), []).append((tail, *more))
        else:
            others.append((rest, *more))
    runs: list[tuple[int, int, tuple[Any, ...], Group]] = []
    for n in sorted(numbered):
        found = _structure(numbered[n])
        one = _total("", numbered[n])
        if runs and runs[-1][1] == n - 1 and runs[-1][2] == found:
            start, _, _, total = runs[-1]
            more_total = Group("", total.copies + 1, *(a + b for a, b in zip(total[2:], one[2:], strict=True)))
            runs[-1] = (start, n, found, more_total)
        else:
            runs.append((n, n, found, one))
    if (
        not numbered
        or (len(runs) > 4 and len(runs) * 2 > len(numbered))
        or (len(runs) > 1 and len(runs) == len(numbered))
    ):
        # Little repeats: one line is enough.
        return [_total(head, rows)]
    out = [_total(head, others)] if others else []
    for start, end, _, total in runs:
        out.append(total._replace(name=f"{head}.{start}-{end}" if end > start else f"{head}.{start}"))
    return out


def _total(name: str, rows: list[tuple[str, Any, int, int]]) -> Group:
    return Group(name, 1, len(rows), sum(r[2] for r in rows), sum(r[3] for r in rows))
