"""The core's run of a pickle and the machine's, made comparable: globals, end, error, flags, the graph from its
root."""

from __future__ import annotations

import multiprocessing
import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from differential import machine, mutants

from pthparse import Limits, _core, errors

# enum pth_kind, in order; the kinds that Python knows by name are checked below.
PLAIN_KINDS = ("none", "bool", "bool", "int", "int", "int", "float", "float", "str", "str8", "bytes")
OTHER_KINDS = ("bytearray", "tuple", "frozenset", "list", "set", "dict", "global", "object", "persid")
KINDS = PLAIN_KINDS + OTHER_KINDS
for _name, _kind in _core.NODES.items():
    assert KINDS[_kind] == {"INTTEXT": "int"}.get(_name, _name.lower())

LIMITS = _core.Limits(Limits())
LEAVES = set(PLAIN_KINDS)
Row = tuple[Any, ...]
Plain = tuple[str, Any]


def plain(value: Any) -> Plain:
    """A plain value as Python sees it: what the core hands out of the slots of a call."""
    return type(value).__name__, struct.pack(">d", value) if isinstance(value, float) else value


class CoreView:
    """The core's graph: a handle is the id of a node, or a plain value."""

    def __init__(self, graph: _core.Graph) -> None:
        self.g = graph

    def leaf(self, id: int) -> Plain | None:
        """Of a node in a container: its kind and its bytes."""
        kind = KINDS[self.g.kind(id)]
        if kind in ("str", "str8", "bytes"):
            return kind, self.g.slice(id)
        if kind not in LEAVES:
            return (kind, ()) if kind == "tuple" and not self.g.n_items(id) else None
        value = self.g.value(id)
        if isinstance(value, _core.Ref):  # a literal beyond 64 bits
            return kind, int(self.g.slice(id).removesuffix(b"L"), 0)
        return kind, plain(value)[1]

    def slot(self, value: Any) -> Plain | int:
        """Of a slot of a call."""
        if not isinstance(value, _core.Ref):
            return plain(value)
        leaf = self.leaf(value.id)
        return value.id if leaf is None else leaf

    def row(self, id: int) -> tuple[Row, list[list[Plain | int]]]:
        """What a node says of itself, and its lists of handles."""
        kind = KINDS[self.g.kind(id)]
        if kind == "bytearray":
            return (kind, self.g.slice(id)), []
        if kind == "global":
            return (kind, *self.g.global_of(id)[:2]), []
        if kind == "persid":
            return (kind,), [[self.slot(self.g.persistent_id(id))]]
        if kind == "object":
            how, callee, args, kwargs, *done = self.g.call(id)
            slots = [[callee, args, *([] if kwargs is None else [kwargs])], *done]
            return (kind, how), [[self.slot(x) for x in slot] for slot in slots]
        return (kind,), [[id if leaf is None else leaf for id in self.g.ids(id) for leaf in [self.leaf(id)]]]


class MachineView:
    """The machine's: a handle is a Node, or a plain value."""

    def leaf(self, node: machine.Node) -> Plain | None:
        if node.kind in LEAVES:
            return node.kind, node.value
        return (node.kind, ()) if node.kind == "tuple" and not node.items else None

    def slot(self, node: machine.Node) -> Plain | machine.Node:
        kind, value = node.kind, node.value
        if kind in ("str", "str8"):
            return "str", machine.shown(value)
        if kind == "int":
            small = -(1 << 63) <= value < 1 << 64
            return ("int" if small or value.bit_length() <= 14000 else "LongInteger", value)
        if kind == "none":
            return "NoneType", None
        leaf = self.leaf(node)
        return node if leaf is None else leaf

    def row(self, node: machine.Node) -> tuple[Row, list[list[Plain | machine.Node]]]:
        kind = node.kind
        if kind == "bytearray":
            return (kind, node.value), []
        if kind == "global":
            return (kind, *node.value), []
        if kind == "persid":
            return (kind,), [[self.slot(node.value)]]
        if kind == "object":
            how, *call = node.value
            slots = [[x for x in call if x is not None], node.items, node.pairs, node.states]
            return (kind, how), [[self.slot(x) for x in slot] for slot in slots]
        both = node.pairs if kind == "dict" else node.items
        return (kind,), [[x if leaf is None else leaf for x in both for leaf in [self.leaf(x)]]]


def canonical(view: Any, root: Any) -> list[Row]:
    """The graph as rows in the order in which a walk by breadth meets them; a row names others by number."""
    leaf = view.leaf(root)
    if leaf is not None:
        return [leaf]
    numbers, queue = {root: 0}, [root]
    rows = []
    for node in queue:  # grows
        own, lists = view.row(node)
        row = []
        for handles in lists:
            row.append(out := [])
            for h in handles:
                if isinstance(h, tuple):
                    out.append(h)
                    continue
                if h not in numbers:
                    numbers[h] = len(queue)
                    queue.append(h)
                out.append(numbers[h])
        rows.append((own, row))
    return rows


@dataclass
class Seen:
    """One run, as it is compared."""

    globals: list[tuple[str, str, int, str]]
    error: tuple[int, str | None] | None
    end: int | None = None
    flags: tuple[int, bool, bool, int] | None = None
    graph: list[Row] | None = None


def core(data: bytes) -> Seen:
    graph, error = _core.read_pickle(data, _core.Arena(LIMITS), LIMITS)
    if error is not None:
        assert isinstance(error, errors.PthError) and not isinstance(error, errors.LimitError), error
        return Seen(graph.globals(), (error.offset, error.opcode))
    flags = graph.proto, graph.has_str8, graph.frame_straddled, graph.n_ops
    return Seen(graph.globals(), None, graph.end, flags, canonical(CoreView(graph), graph.root))


def judged(out: machine.Outcome) -> Seen:
    if out.root is None:
        return Seen(out.globals, out.error)
    flags = out.proto, out.has_str8, out.frame_straddled, out.n_ops
    return Seen(out.globals, None, out.end, flags, canonical(MachineView(), out.root))


def difference(data: bytes) -> str | None:
    """What the two do not agree on, in words."""
    out = machine.run(data)
    ours, theirs = core(data), judged(out)
    if ours == theirs:
        return None
    lines = [f"{data!r}", f"the machine says: {out.why or 'accepted'}"]
    for name in Seen.__dataclass_fields__:
        a, b = getattr(ours, name), getattr(theirs, name)
        if a != b:
            lines += [f"  {name}: core    {a}", f"  {name}: machine {b}"]
    return "\n".join(lines)


@dataclass
class Tally:
    """Of many mutants."""

    n: int = 0
    accepted: int = 0
    ops: int = 0
    n_bytes: int = 0
    small: int = 0  # below 500 bytes
    refusals: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        n = max(self.n, 1)
        sizes = f"{self.ops / n:.1f} opcodes and {self.n_bytes / n:.0f} bytes each"
        return f"{self.n:,} pickles, {self.accepted / n:.1%} accepted, {sizes}, {len(self.differences)} differences"


def compare(start: int, stop: int) -> Tally:
    """The mutants of these numbers."""
    tally = Tally()
    for i in range(start, stop):
        data = mutants.mutant(i)
        out = machine.run(data)
        tally.n += 1
        tally.ops += out.n_ops
        tally.n_bytes += len(data)
        tally.small += len(data) < 500
        tally.accepted += out.root is not None
        tally.refusals[out.why] += 1
        if core(data) != judged(out):
            tally.differences.append(f"mutant {i}: {difference(data)}")
    return tally


CHUNK = 5000


def compare_all(n: int, workers: int) -> Iterator[Tally]:
    """The same in other processes: what is known after each part."""
    total = Tally()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        starts = range(0, n, CHUNK)
        for tally in pool.map(compare, starts, (min(n, start + CHUNK) for start in starts)):
            total.add(tally)
            yield total
