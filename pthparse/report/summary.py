"""One checkpoint in short, as plain values: what `info` shows. Reads no tensor data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import PthError
from .groups import Group, fold
from .text import FEW, SHORT, jsonable

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint
    from ..tensor import Tensor

SHARED_TEXT = 1 << 20  # characters of names, after which shared tensors are only counted


class Count:
    """Tensors, their elements, and the bytes of the file that hold these; what two names share is counted once."""

    def __init__(self) -> None:
        self.tensors = self.elements = self.nbytes = 0

    def add(self, elements: int, nbytes: int) -> None:
        self.tensors += 1
        self.elements += elements
        self.nbytes += nbytes


def extents(t: Tensor) -> list[tuple[Any, int, int, int]]:
    """(which bytes, first, behind the last, how many the elements take) of a tensor and of what it is made of.

    Bytes that are deflated are counted as they are stored.
    """
    if t.kind == "chunked":
        return [] if t.error is not None else [found for leaf in t.leaves() for found in extents(leaf)]
    table, home = t.table, t._home
    try:
        leaves = t.leaves() if table.has_parts(t.row) else [t]
    except PthError:
        return []
    out = []
    for leaf in leaves:
        row = leaf._storage
        if row is None or leaf._code or leaf.kind not in ("dense", "quantized") or not leaf.numel:
            continue
        span, _, _, _, _, base, nbytes, _ = table.storage(row)
        begin, end = leaf.byte_range()
        place = ("row", row) if span is None else span
        if span is not None:
            begin, end = begin + base, end + base
            if not home.box.is_stored(table.store, span):
                stored, held = home.box.stored_nbytes(table.store, span), max(1, nbytes)
                begin, end = begin * stored // held, -(-end * stored // held)
        out.append((place, begin, end, min(end - begin, leaf.numel * leaf.itemsize)))
    return out


def stored_nbytes(t: Tensor) -> int:
    """Bytes of the file that hold the elements of one tensor, whoever else looks at them."""
    return sum(n for _, _, _, n in extents(t))


def summary(ckpt: Checkpoint, path: str) -> dict[str, Any]:
    """Everything that `info` shows."""
    model = ckpt.state_dict()
    prefix = model.prefix
    is_model = ckpt.whole_module or not any("/" in n for n in model)
    capacity = ckpt.capacity()
    seen: dict[Any, str] = {}
    shared: list[dict[str, str]] = []
    total, n_shared, left = Count(), 0, SHARED_TEXT
    dtypes: dict[str, Count] = {}
    sections: dict[str, Count] = {}
    rows: dict[str, list[tuple[str, Any, int, int]]] = {}
    errors: list[dict[str, str]] = []
    without_data = 0
    for t, (name, _, elements, nbytes) in zip(ckpt.values(), capacity.each(), strict=True):
        error = t.error if t._code else None
        if error is not None:
            errors.append({"name": name, "error": error.message})
        key = t._identity
        if seen.setdefault(key, name) != name and t.numel:
            n_shared += 1
            left -= len(name) + len(seen[key])
            if left > 0:
                shared.append({"name": name, "same_as": seen[key]})
        without_data += t.kind in ("meta", "uninitialized")
        section, _, rest = name.rpartition("/") if "/" not in name else name.partition("/")
        for count in (total, dtypes.setdefault(t.dtype, Count()), sections.setdefault(section, Count())):
            count.add(elements, nbytes)
        rows.setdefault(section, []).append((rest, (t.shape, t.dtype), elements, nbytes))
    errors += [{"name": n, "error": e.message} for n, e in getattr(ckpt, "lost", {}).items()]
    writer = ckpt.writer
    report = ckpt.audit()
    family = ckpt.family
    return {
        "file": path,
        "nbytes": ckpt.nbytes,
        "format": ckpt.format,
        "byteorder": ckpt.byteorder,
        "writer": {"inferred": True, "text": writer.text, "evidence": list(writer.evidence)},
        "pickle_protocol": writer.protocol,
        "pickle_nbytes": ckpt.pickle_nbytes,
        "tensors": total.tensors,
        "elements": total.elements,
        "parameters": capacity.parameters if is_model else None,
        "buffers": capacity.buffers if is_model else None,
        "model": prefix.rstrip("/"),
        "family": family.to_dict() if family is not None else None,
        "ledger": {e.kind: e.nbytes for e in capacity.ledger()},
        "unnamed_nbytes": capacity.unnamed_bytes,
        "without_data": without_data,
        "dtypes": {k: vars(v) for k, v in dtypes.items()},
        "sections": {k: vars(v) for k, v in sections.items()},
        "shared": shared,
        "n_shared": n_shared,
        "groups": [{**g._asdict(), "share": g.nbytes / ckpt.nbytes} for g in groups(rows)],
        "metadata": jsonable({k: v[:200] if isinstance(v, str) else v for k, v in ckpt.root_values.items()}),
        "shards": [s.to_dict() for s in getattr(ckpt, "shards", ())],
        "class_sources": [source.cls for source in ckpt.sources],
        "errors": len(errors),
        "first_errors": errors[:FEW],
        "findings": [f.to_dict() for f in ckpt.findings],
        "verdict": report.verdict,
        "reasons": [reason[:SHORT] for reason in report.reasons[:FEW]],
    }


def groups(rows: dict[str, list[tuple[str, Any, int, int]]]) -> Iterable[Group]:
    """Module prefixes below each section, the largest first."""
    found = [
        g._replace(name=f"{section}/{g.name}" if section else g.name)
        for section, inner in rows.items()
        for g in fold(inner)
    ]
    return sorted(found, key=lambda g: -g.nbytes)
