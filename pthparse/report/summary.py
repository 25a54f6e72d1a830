"""One checkpoint in short, as plain values: what `info` shows. Reads no tensor data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .groups import Group, fold
from .text import jsonable

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint
    from ..tensor import Tensor

FEW = 5


@dataclass
class Count:
    """Tensors, their elements, and the bytes of these; what two names share is counted once."""

    tensors: int = 0
    elements: int = 0
    nbytes: int = 0

    def add(self, elements: int, nbytes: int) -> None:
        self.tensors += 1
        self.elements += elements
        self.nbytes += nbytes


def identity(t: Tensor) -> Any:
    """Equal for tensors that are the same elements under two names."""
    row = t._storage
    return (row, t.storage_offset, t.shape, t._strides) if row is not None else (t.row,)


def stored_nbytes(t: Tensor) -> int:
    """Bytes that the file spends on the elements: of a sparse or wrapped tensor, those of its parts."""
    if t.kind in ("sparse", "nested", "subclass"):
        return sum(inner.nbytes for inner in t.inner.values())
    return 0 if t.kind in ("meta", "uninitialized") else t.nbytes


def summary(ckpt: Checkpoint, path: str) -> dict[str, Any]:
    """Everything that `info` shows."""
    prefix = ckpt.state_dict().prefix
    seen: dict[Any, str] = {}
    shared: list[dict[str, str]] = []
    total, parameters = Count(), 0
    dtypes: dict[str, Count] = {}
    sections: dict[str, Count] = {}
    rows: dict[str, list[tuple[str, Any, int, int]]] = {}
    errors: list[dict[str, str]] = []
    for name, t in ckpt.items():
        error = t.error if t._code else None
        if error is not None:
            errors.append({"name": name, "error": error.message})
        key, elements, nbytes = identity(t), t.numel, stored_nbytes(t)
        if elements and key in seen:
            shared.append({"name": name, "same_as": seen[key]})
            elements = nbytes = 0
        seen.setdefault(key, name)
        if name.startswith(prefix):
            parameters += elements
        section, _, rest = name.rpartition("/") if "/" not in name else name.partition("/")
        for count in (total, dtypes.setdefault(t.dtype, Count()), sections.setdefault(section, Count())):
            count.add(elements, nbytes)
        rows.setdefault(section, []).append((rest, (t.shape, t.dtype), elements, nbytes))
    writer = ckpt.writer
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
        "parameters": parameters,
        "model": prefix.rstrip("/"),
        "ledger": dict(ckpt.ledger),
        "unseen_nbytes": max(0, ckpt.ledger["data"] - total.nbytes),
        "dtypes": {k: asdict(v) for k, v in dtypes.items()},
        "sections": {k: asdict(v) for k, v in sections.items()},
        "shared": shared,
        "groups": [{**g._asdict(), "share": g.nbytes / ckpt.nbytes} for g in groups(rows)],
        "metadata": jsonable({k: v[:200] if isinstance(v, str) else v for k, v in ckpt.root_values.items()}),
        "errors": len(errors),
        "first_errors": errors[:FEW],
        "findings": [f._asdict() for f in ckpt.findings],
    }


def groups(rows: dict[str, list[tuple[str, Any, int, int]]]) -> Iterable[Group]:
    """Module prefixes below each section, the largest first."""
    found = [
        g._replace(name=f"{section}/{g.name}" if section else g.name)
        for section, inner in rows.items()
        for g in fold(inner)
    ]
    return sorted(found, key=lambda g: -g.nbytes)
