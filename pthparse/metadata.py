"""What a checkpoint holds beside tensors, as a flat table of plain values."""

from __future__ import annotations

import collections
from typing import Any

from .graph import Opaque

PLAIN = (str, bytes, bytearray, int, float, complex, bool, type(None))
MOST = 1_000_000  # values: a shared container is walked once for each of its paths


def plain_values(root: Any) -> dict[str, Any]:
    """Path -> value of all leaves that are no tensor; containers on their own path are not entered again."""
    from .tensor import Storage, Tensor

    out: dict[str, Any] = {}
    stack: list[tuple[str, Any, tuple[int, ...]]] = [("", root, ())]
    steps = 0
    while stack and steps < MOST:
        path, value, above = stack.pop()
        steps += 1
        if isinstance(value, (Tensor, Storage)):
            continue
        children: list[tuple[str, Any]]
        if isinstance(value, dict):
            children = [(key_text(k), v) for k, v in value.items()]
        elif isinstance(value, (list, tuple, collections.deque)):
            children = [(str(i), v) for i, v in enumerate(value)]
        elif isinstance(value, Opaque) and value.attributes():
            children = [(key_text(k), v) for k, v in value.attributes().items()]
        else:
            out[path] = value
            continue
        if not children:
            out[path] = value
        if id(value) in above or len(above) > 200:
            continue
        inner = (*above, id(value))
        stack += [(f"{path}/{k}" if path else k, v, inner) for k, v in reversed(children)]
    return out


def key_text(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)[:200]
