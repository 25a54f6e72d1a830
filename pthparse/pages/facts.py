"""What a page says of a checkpoint, as plain records. Nothing here knows how it is drawn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..capacity import EMA, OPTIMIZER
from ..errors import PthError
from ..health import Remark, health
from ..record import Record
from ..stats import Stats
from .samples import first_values, value_counts
from .strip import Strip, strip_of
from .tree import FOLD_ABOVE, Leaf, Node, tree_of

if TYPE_CHECKING:
    from ..auditor import AuditReport
    from ..capacity import Capacity
    from ..checkpoint import Checkpoint
    from ..plan import Plan
    from ..stats import StatsTable
    from ..tensor import Tensor

# What a tensor is drawn as, by the module it is in, in this order.
KINDS = (
    "embedding", "linear", "attention", "convolution", "norm", "recurrent", "other", "buffer", "optimizer", "EMA"
)  # fmt: skip
MOST_NAMES = 8  # that share a storage
MOST_CONFIG = 40
STRIP_WIDTH = 1200
LAYER = re.compile(r"(?:^|(?<=[./]))(\d{1,9})(?=[./])")


class TensorFacts(Record):
    """One tensor, or those at one place of equal layers: then `copies` says how many, and the rest is of the first.

    Attributes
    ----------
    number : int
        Its place on the page.
    stats : Stats or None
        Of equal layers: of all of them together, as far as figures add up.
    over_depth : tuple of float
        Of equal layers: the standard deviation in each.
    counts : (counts, from, to, elements) or None
        Of values around the mean, in bins of equal width.
    """

    number: int
    name: str
    label: str
    copies: int
    kind: str
    shape: tuple[int, ...]
    dtype: str
    elements: int
    nbytes: int
    role: str
    what: str
    parameter: bool
    requires_grad: bool
    stride: tuple[int, ...]
    storage_offset: int
    device: str
    offset: int | None
    storage_key: str | None
    storage_nbytes: int
    sharers: tuple[str, ...]
    n_sharers: int
    shard: str | None
    error: str | None
    values: tuple[str, ...]
    stats: Stats | None
    over_depth: tuple[float, ...]
    counts: tuple[tuple[int, ...], float, float, int] | None
    remarks: tuple[Remark, ...]

    @property
    def plain(self) -> bool:
        """Do its elements lie one behind the other, from the start of the storage?"""
        want, step = [], 1
        for n in reversed(self.shape):
            want.append(step)
            step *= n
        return self.storage_offset == 0 and self.stride == tuple(reversed(want))

    @property
    def health(self) -> str:
        """'error', 'note', 'fine', or '' where nobody has looked."""
        if self.error or any(r.severity == "error" for r in self.remarks):
            return "error"
        if self.remarks:
            return "note"
        return "fine" if self.stats is not None else ""


class ModuleFacts(Record):
    """One module, or equal ones. `basis`: 'stated' by the file, 'inferred', or 'unknown'."""

    number: int
    name: str
    label: str
    copies: int
    kind: str
    class_name: str | None
    basis: str
    evidence: str
    text: str
    config: tuple[tuple[str, str], ...]
    training: bool | None
    tensors: int
    elements: int
    nbytes: int
    left: int
    left_nbytes: int
    leaves: tuple[TensorFacts, ...]
    children: tuple[ModuleFacts, ...]

    def every_leaf(self) -> Iterable[TensorFacts]:
        """Its tensors, and those of all below."""
        yield from self.leaves
        for child in self.children:
            yield from child.every_leaf()

    def every_module(self) -> Iterable[ModuleFacts]:
        """This one and all below."""
        yield self
        for child in self.children:
            yield from child.every_module()


class Panel(Record):
    """Magnitudes of what stands at one place of each layer: (layer, tensor, powers of two) in the order of depth."""

    name: str
    kind: str
    n: int
    rows: tuple[tuple[str, str, tuple[tuple[int, int], ...]], ...]


class PageFacts(Record):
    """Everything on the page of one checkpoint."""

    title: str
    nbytes: int
    format: str
    byteorder: str
    writer: str
    protocol: int
    family: str | None
    family_evidence: str
    tensors: int
    dtypes: tuple[tuple[str, int, int], ...]
    capacity: Capacity
    audit: AuditReport
    plan: Plan | None
    remarks: tuple[Remark, ...]
    looked: int
    bad: tuple[int, int]
    with_stats: bool
    folded: bool
    shown: int
    root: ModuleFacts
    tree: Node
    outline: Node
    shapes: Mapping[str, tuple[int, ...]]
    panels: tuple[Panel, ...]
    strip: Strip
    shards: tuple[Any, ...]
    shard_ends: Mapping[str, tuple[str, str]]
    metadata: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, str], ...]
    errors: int

    @property
    def shown_tensors(self) -> int:
        """Those that the page shows, alone or with those of equal layers."""
        return sum(t.copies for t in self.root.every_leaf())

    @property
    def tree_left(self) -> int:
        """Those that are only counted."""
        return sum(m.left for m in self.root.every_module())


def facts_of(
    ckpt: Checkpoint, title: str, with_stats: bool = True, progress: Callable[[int, int], None] | None = None
) -> PageFacts:
    """Reads the data once, for its statistics; without these, some elements of each tensor alone."""
    capacity = ckpt.capacity()
    table = ckpt.stats(histogram=True, progress=progress) if with_stats else None
    remarks = health(table, ckpt) if table is not None else []
    modules = {m.name: m for m in ckpt.modules.walk()}
    tree = tree_of(ckpt, capacity, modules, {r.name for r in remarks})
    outline = tree if capacity.tensors > FOLD_ABOVE else tree_of(ckpt, capacity, modules, fold=True)
    gathered = _Gathering(ckpt, capacity, table, remarks)
    root = gathered.module(tree, ())
    family = ckpt.family
    dtypes = [(g.name, g.tensors, g.elements) for g in capacity.groups("dtype")]
    try:
        plan = ckpt.plan()
    except PthError:
        plan = None
    several = getattr(ckpt, "shards", ())
    writer = ckpt.writer
    return PageFacts(
        title=title,
        nbytes=ckpt.nbytes,
        format=ckpt.format,
        byteorder=ckpt.byteorder,
        writer=writer.text,
        protocol=writer.protocol if ckpt.pickle_nbytes else 0,
        family=family.text if family is not None else None,
        family_evidence=str(family.evidence) if family is not None else "",
        tensors=len(ckpt),
        dtypes=tuple(dtypes),
        capacity=capacity,
        audit=ckpt.audit(),
        plan=plan,
        remarks=tuple(remarks),
        looked=len(table) if table is not None else 0,
        bad=(sum(s.nan for s in table), sum(s.posinf + s.neginf for s in table)) if table is not None else (0, 0),
        with_stats=with_stats,
        folded=capacity.tensors > FOLD_ABOVE,
        shown=gathered.n,
        root=root,
        tree=tree,
        outline=outline,
        shapes={leaf.name: ckpt[leaf.names[0]].shape for leaf in outline.every_leaf()},
        panels=tuple(panels_of(table, root)) if table is not None else (),
        strip=Strip((), (), 0) if several else strip_of(ckpt, STRIP_WIDTH),
        shards=tuple(several),
        shard_ends=_ends(gathered.shards),
        metadata=tuple((k, str(v)) for k, v in ckpt.root_values.items()),
        sources=tuple((s.cls, s.text) for s in ckpt.sources),
        errors=len(ckpt.errors),
    )


class _Gathering:
    """Makes the facts of a tree, numbered in the order of the page."""

    def __init__(
        self, ckpt: Checkpoint, capacity: Capacity, table: StatsTable | None, remarks: Sequence[Remark]
    ) -> None:
        self.ckpt, self.table = ckpt, table
        self.remarks: dict[str, list[Remark]] = {}
        for r in remarks:
            self.remarks.setdefault(r.name, []).append(r)
        self.n = self.n_modules = 0
        self.shards = _shard_of(capacity)

    def module(self, node: Node, above: tuple[str, ...]) -> ModuleFacts:
        m = node.module
        self.n_modules += 1
        number = self.n_modules - 1
        kinds = (*above, m.kind) if m is not None and m.kind else above
        return ModuleFacts(
            number=number,
            name=node.name,
            label=node.label,
            copies=node.copies,
            kind=m.kind if m is not None else "",
            class_name=m.class_name if m is not None else None,
            basis=m.basis if m is not None else "unknown",
            evidence=m.evidence if m is not None else "",
            text=one_line(m),
            config=tuple((str(k), str(v)) for k, v in list(m.config.items())[:MOST_CONFIG]) if m is not None else (),
            training=m.training if m is not None else None,
            tensors=node.tensors,
            elements=node.elements,
            nbytes=node.nbytes,
            left=node.left,
            left_nbytes=node.left_nbytes,
            leaves=tuple(self.tensor(leaf, kinds) for leaf in node.leaves),
            children=tuple(self.module(child, kinds) for child in node.children),
        )

    def tensor(self, leaf: Leaf, kinds: tuple[str, ...]) -> TensorFacts:
        t = self.ckpt[leaf.names[0]]
        self.n += 1
        error = t.error
        storage = None
        if error is None and t.kind != "chunked":
            try:
                storage = t.storage
            except PthError as e:
                error = e
        stats = self._stats(leaf)
        counts = None
        values: tuple[str, ...] = ()
        try:
            values = first_values(t)
            own = self.table[t.name] if self.table is not None and t.name in self.table else None
            counts = value_counts(t, own) if own is not None else None
        except PthError as e:
            error = error or (e if e.code not in ("no-data", "no-array") else None)
        sharers = tuple(n for n in storage.tensors if n != t.name) if storage is not None else ()
        subclass = t.subclass
        what = [t.kind, *([t.layout] if t.layout != "strided" else []), *([subclass] if subclass else [])]
        return TensorFacts(
            number=self.n - 1,
            name=leaf.name,
            label=leaf.label,
            copies=len(leaf.names),
            kind=kind_of(leaf, kinds, self.ckpt),
            shape=t.shape,
            dtype=t.dtype,
            elements=leaf.elements,
            nbytes=leaf.nbytes,
            role=leaf.role,
            what=", ".join(what),
            parameter=t.parameter,
            requires_grad=t.requires_grad,
            stride=t.stride,
            storage_offset=t.storage_offset,
            device=t.device,
            offset=_offset(t, storage),
            storage_key=storage.key if storage is not None else None,
            storage_nbytes=storage.nbytes if storage is not None else 0,
            sharers=sharers[:MOST_NAMES],
            n_sharers=len(sharers),
            shard=self.shards.get(t.name),
            error=error.message if error is not None else None,
            values=values,
            stats=stats,
            over_depth=self._depth(leaf),
            counts=counts,
            remarks=tuple(r for n in leaf.names for r in self.remarks.get(n, ()))[:MOST_NAMES],
        )

    def _stats(self, leaf: Leaf) -> Stats | None:
        if self.table is None:
            return None
        found = [self.table[n] for n in leaf.names if n in self.table]
        return together(found) if found else None

    def _depth(self, leaf: Leaf) -> tuple[float, ...]:
        if self.table is None or len(leaf.names) == 1:
            return ()
        return tuple(s.std for n in leaf.names if n in self.table and (s := self.table[n]).std is not None)


def one_line(m: Any) -> str:
    """A module in one line; '' if there is no more to it than its class."""
    if m is None or not m.kind:
        return ""
    text = str(m.text)
    return "" if text in (m.kind, f"{m.kind}()") else text


def _offset(t: Tensor, storage: Any) -> int | None:
    if storage is None or storage.file_offset is None:
        return None
    return int(storage.file_offset + t.storage_offset * t.itemsize)


def _shard_of(capacity: Capacity) -> Mapping[str, str]:
    """The file of each tensor of a model in several."""
    if capacity._file_of is None:
        return {}
    return {name: capacity._files[i] for name, i in zip(capacity._columns.names, capacity._file_of, strict=True)}


def _ends(shard_of: Mapping[str, str]) -> Mapping[str, tuple[str, str]]:
    """The first and the last tensor in each file."""
    ends: dict[str, tuple[str, str]] = {}
    for name, shard in shard_of.items():
        ends[shard] = (ends[shard][0], name) if shard in ends else (name, name)
    return ends


def together(found: Sequence[Stats]) -> Stats:
    """Figures of equal tensors as those of one. Means and spreads are summed in double, not to the last bit."""
    first = found[0]
    if len(found) == 1:
        return first
    n = sum(s.finite for s in found) or 1
    means = [(s.finite, s.mean, s.std) for s in found if isinstance(s.mean, (int, float)) and s.std is not None]
    mean = sum(k * m for k, m, _ in means) / n if means else None
    squares = sum(k * (d * d + m * m) for k, m, d in means) / n if means else None
    std = max(0.0, squares - mean * mean) ** 0.5 if squares is not None and mean is not None else None
    bins: Counter[int] = Counter()
    for s in found:
        for e, c in s.histogram or ():
            bins[e] += c
    return Stats(
        name=first.name,
        dtype=first.dtype,
        shape=first.shape,
        numel=sum(s.numel for s in found),
        nan=sum(s.nan for s in found),
        posinf=sum(s.posinf for s in found),
        neginf=sum(s.neginf for s in found),
        zeros=sum(s.zeros for s in found),
        subnormal=sum(s.subnormal for s in found),
        min=min((s.min for s in found if s.min is not None), default=None),
        max=max((s.max for s in found if s.max is not None), default=None),
        mean=mean,
        std=std,
        absmax=max((s.absmax for s in found if s.absmax is not None), default=None),
        l1=sum(s.l1 for s in found if s.l1 is not None),
        l2=sum(s.l2 * s.l2 for s in found if s.l2 is not None) ** 0.5,
        histogram=tuple(sorted(bins.items())),
    )


def kind_of(leaf: Leaf, kinds: Sequence[str], ckpt: Checkpoint) -> str:
    """What a tensor is drawn as: by its role, and by the classes of the modules around it."""
    if leaf.role == OPTIMIZER:
        return "optimizer"
    if leaf.role == EMA:
        return "EMA"
    nearest = kinds[-1].lower() if kinds else ""
    if "norm" in nearest:
        return "norm"
    if leaf.role == "buffers":
        return "buffer"
    if "embedding" in nearest:
        return "embedding"
    if any("attention" in k.lower() for k in kinds):
        return "attention"
    for word, kind in (("linear", "linear"), ("conv", "convolution"), ("lstm", "recurrent"), ("gru", "recurrent")):
        if word in nearest:
            return kind
    return "recurrent" if nearest in ("rnn", "rnncell") else "other"


# ---- distributions over depth ----

MOST_PANELS = 24
MOST_ROWS = 64


def panels_of(table: StatsTable, root: ModuleFacts) -> Iterable[Panel]:
    """For each place of a layer the magnitudes there, the places with most elements first; then what stands alone."""
    kinds = {leaf.name: leaf.kind for leaf in root.every_leaf()}
    places: dict[str, list[tuple[str, Stats]]] = {}
    for s in table:
        if s.histogram and len(s.name) < 400:
            found = LAYER.search(s.name)
            place = f"{s.name[: found.start()]}*{s.name[found.end() :]}" if found else s.name
            places.setdefault(place, []).append((found.group(1) if found else "", s))

    def rank(pair: tuple[str, list[tuple[str, Stats]]]) -> tuple[bool, bool, int]:
        rows = pair[1]
        return kinds.get(rows[0][1].name) in ("optimizer", "EMA"), len(rows) == 1, -sum(s.numel for _, s in rows)

    for place, rows in sorted(places.items(), key=rank)[:MOST_PANELS]:
        step = max(1, -(-len(rows) // MOST_ROWS))
        kind = next((kinds[s.name] for _, s in rows if s.name in kinds), "other")
        yield Panel(place, kind, len(rows), tuple((layer, s.name, s.histogram or ()) for layer, s in rows[::step]))
