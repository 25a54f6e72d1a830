"""What a checkpoint holds beside tensors, by path: the same paths that tensors have."""

from __future__ import annotations

from typing import Any

from .errors import LimitError
from .values import children

DEEPEST = 200  # levels: deeper values are left out


def plain_values(root: Any, pickle_nbytes: int) -> dict[str, Any]:
    """Path -> value of all leaves that are no tensor; containers on their own path are not entered again.

    Raises
    ------
    LimitError
        Shared containers or long keys make of a small pickle far more than it holds.
    """
    from .tensor import Storage, Tensor

    out: dict[str, Any] = {}
    times: dict[str, int] = {}
    stack: list[tuple[str, Any, tuple[int, ...]]] = [("", root, ())]
    left = 16 * pickle_nbytes + (1 << 16)  # characters of paths, and values
    while stack:
        path, value, above = stack.pop()
        if isinstance(value, (Tensor, Storage)) or id(value) in above or len(above) > DEEPEST:
            continue
        below: list[tuple[str, Any, tuple[int, ...]]] = []
        for name, child in children(value):
            left -= 1 + len(path) + len(name)
            if left < 0:
                raise LimitError("max_metadata", "the values by path would be far larger than the pickle")
            below.append((f"{path}/{name}" if path else name, child, (*above, id(value))))
        if below:
            stack += reversed(below)
            continue
        if path in out:  # two paths that read the same: told apart as names are
            n = times.get(path, 1) + 1
            while f"{path}#{n}" in out:
                n += 1
            times[path] = n
            path = f"{path}#{n}"
        out[path] = value
    return out
