"""A call out of a graph as one short line: what a file would have a loader call, with what."""

from __future__ import annotations

from . import _core
from .errors import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 8  # arguments or items of one container
DEEPEST = 3
TEXT = 80  # characters of one text
BRACKETS = (("TUPLE", "(", ")"), ("LIST", "[", "]"), ("SET", "{", "}"), ("FROZENSET", "{", "}"), ("DICT", "{", "}"))


def literal(graph: Any, node: int, width: int) -> str:
    """The arguments of a call, in brackets: plain values as Python writes them, the rest by its name."""
    if graph.kind(node) != _core.NODES["OBJECT"]:
        return ""
    args = graph.call(node)[2]
    text = _one(graph, args, 0) if isinstance(args, _core.Ref) else "()"
    return text if len(text) <= width else f"{text[: width - 4]}...)"


def _one(graph: Any, value: Any, depth: int) -> str:
    if not isinstance(value, _core.Ref):
        if isinstance(value, str):
            return repr(escape(value[:TEXT])) + ("..." if len(value) > TEXT else "")
        if isinstance(value, bytes):
            return repr(value[:TEXT]) + ("..." if len(value) > TEXT else "")
        return repr(value)[:TEXT]
    kind = graph.kind(value.id)
    if kind == _core.NODES["GLOBAL"]:
        return escape(".".join(graph.global_of(value.id)[:2])[:TEXT])
    if depth >= DEEPEST:
        return "..."
    if kind == _core.NODES["OBJECT"]:
        _, callee, args, *_ = graph.call(value.id)
        return f"{_one(graph, callee, depth + 1)}{_one(graph, args, depth + 1)}"
    for name, left, right in BRACKETS:
        if kind == _core.NODES[name]:
            n = graph.n_items(value.id)
            items = [_one(graph, item, depth + 1) for item in graph.first_items(value.id, MOST)]
            if name == "DICT":
                items = [f"{k}: {v}" for k, v in zip(items[::2], items[1::2], strict=False)]
            more = ", ..." if n > MOST else "," if name == "TUPLE" and n == 1 else ""
            return f"{left}{', '.join(items)}{more}{right}"
    return "..."
