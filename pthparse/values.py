"""What stands in a graph for things that are no plain Python values, and short texts of all of them."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator
from typing import Any

from .errors import escape


class GlobalName:
    """A class or function that the file names. It has not been looked up."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    def __repr__(self) -> str:
        return f"<global {escape(str(self))}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GlobalName) and (self.module, self.name) == (other.module, other.name)

    def __hash__(self) -> int:
        return hash((self.module, self.name))


class Opaque:
    """An object of a class that only the writer knew: what the file says about it.

    Attributes
    ----------
    cls : str
        'module.name' of what would have been called.
    args, kwargs : tuple, dict or None
        With what.
    state : object
        What BUILD gave it: mostly the dict of its attributes.
    items, pairs : list
        What was appended; what was set by key.

    `obj["lr"]`, `obj.get("lr")`, `"lr" in obj` and `obj.keys()` look into the attributes.
    """

    __slots__ = ("args", "callee", "items", "kwargs", "pairs", "state")

    def __init__(self, callee: Any, args: Any = (), kwargs: Any = None) -> None:
        self.callee = callee
        self.args = args
        self.kwargs = kwargs
        self.state: Any = None
        self.items: list[Any] = []
        self.pairs: list[tuple[Any, Any]] = []

    @property
    def cls(self) -> str:
        return str(self.callee) if isinstance(self.callee, GlobalName) else "<computed>"

    def attributes(self) -> dict[Any, Any]:
        """The attributes that the state gives, and the items set by key."""
        found: dict[Any, Any] = {}
        parts = self.state if isinstance(self.state, tuple) else (self.state,)
        for part in parts:
            if isinstance(part, dict):
                found.update(part)
        simple = (str, int, float, bytes, bool, type(None))
        found.update((key, value) for key, value in self.pairs if isinstance(key, simple))
        return found

    def first(self, n: int) -> list[tuple[Any, Any]]:
        """The first few attributes, whatever their number."""
        parts = self.state if isinstance(self.state, tuple) else (self.state,)
        pairs = itertools.chain(*(part.items() for part in parts if isinstance(part, dict)), self.pairs)
        return list(itertools.islice(pairs, n))

    def __getitem__(self, key: Any) -> Any:
        return self.attributes()[key]

    def get(self, key: Any, default: Any = None) -> Any:
        return self.attributes().get(key, default)

    def __contains__(self, key: Any) -> bool:
        return key in self.attributes()

    def keys(self) -> Iterator[Any]:
        return iter(self.attributes())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.attributes())

    def __repr__(self) -> str:
        return preview(self)


class _Brief:
    """Prints in short whatever it holds."""

    __slots__ = ()

    def __repr__(self) -> str:
        return preview(self)


# What stands for the containers of a graph that Python could not print in any time. Being subclasses, they are also
# given back without recursion, which deque and defaultdict are not.
class WideDict(_Brief, dict):  # type: ignore[type-arg]
    pass


class WideOrderedDict(_Brief, collections.OrderedDict):  # type: ignore[type-arg]
    pass


class WideDefaultDict(_Brief, collections.defaultdict):  # type: ignore[type-arg]
    pass


class WideCounter(_Brief, collections.Counter):  # type: ignore[type-arg]
    pass


class WideList(_Brief, list):  # type: ignore[type-arg]
    pass


class WideDeque(_Brief, collections.deque):  # type: ignore[type-arg]
    pass


class WideTuple(_Brief, tuple):  # type: ignore[type-arg]
    pass


class WideSet(_Brief, set):  # type: ignore[type-arg]
    pass


class WideFrozenSet(_Brief, frozenset):  # type: ignore[type-arg]
    pass


BRIEF: dict[type, Any] = {
    dict: WideDict, collections.OrderedDict: WideOrderedDict, collections.defaultdict: WideDefaultDict,
    collections.Counter: WideCounter, list: WideList, collections.deque: WideDeque, tuple: WideTuple, set: WideSet,
    frozenset: WideFrozenSet,
}  # fmt: skip


def type_name(value: Any) -> str:
    """'dict' of every dict, whether it prints in short or not."""
    plain = next((kind for kind, brief in BRIEF.items() if type(value) is brief), type(value))
    return plain.__name__


BRACKETS = ((tuple, "()"), ((set, frozenset), "{}"), ((list, collections.deque), "[]"))


def preview(value: Any, limit: int = 2000, depth: int = 6) -> str:
    """A short text of any value of a graph: cut in length and depth, names escaped. Linear in `limit`."""
    parts: list[str] = []
    left = limit
    stack: list[Any] = [(value, 0)]
    while stack:
        top = stack.pop()
        if isinstance(top, str):
            parts.append(top)
            left -= len(top)
            continue
        item, level = top
        if left <= 0:
            parts.append("...")
            break
        stack.extend(reversed(_pieces(item, level, depth)))
    return "".join(parts)


def _pieces(item: Any, level: int, depth: int) -> list[Any]:
    """Texts, and (value, level) of what is printed in between."""
    if isinstance(item, Opaque):
        out: list[Any] = [f"<{escape(item.cls)[:200]}"]
        shown = item.first(20) if level < depth else []
        for key, child in shown:
            out += [f" {_short(key, bare=True)}=", (child, level + 1)]
        if level < depth and not shown and isinstance(item.args, tuple):
            for child in item.args[:20]:
                out += [" ", (child, level + 1)]
        return [*out, ">"]
    if isinstance(item, dict):
        out = ["{"]
        for i, (key, child) in enumerate(item.items()):
            if i >= 50 or level >= depth:
                out.append(f"{', ' if i else ''}... {len(item)} keys")
                break
            out += [", " if i else "", f"{_short(key)}: ", (child, level + 1)]
        return [*out, "}"]
    for types, brackets in BRACKETS:
        if isinstance(item, types):
            out = [brackets[0]]
            for i, child in enumerate(item):
                if i >= 50 or level >= depth:
                    out.append(f"{', ' if i else ''}... {len(item)} items")
                    break
                out += [", " if i else "", (child, level + 1)]
            if len(item) == 1 and isinstance(item, tuple):
                out.append(",")
            return [*out, brackets[1]]
    return [_short(item, 500)]


def _short(item: Any, limit: int = 100, bare: bool = False) -> str:
    """The text of a single value; a container is not looked into. bare: a str without its quotes."""
    if isinstance(item, (str, bytes, bytearray)):
        text = escape(item[:limit]) if bare and isinstance(item, str) else repr(item[:limit])
        return text + ("..." if len(item) > limit else "")
    if isinstance(item, (Opaque, dict, list, tuple, set, frozenset, collections.deque)):
        return "..."
    if getattr(item, "size", 0) and type(item).__module__ == "numpy" and item.size > 200:
        return f"<array {item.dtype} {list(item.shape)}>"  # its own text would be as long as it is
    return escape(repr(item))[:limit]


def component(key: Any, index: int) -> str:
    """A key as a part of a path, as csrc/names.c writes it: what is no text or small number goes by its place."""
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool) or (isinstance(key, int) and -(1 << 63) <= key < 1 << 63):
        return str(key)
    return f"<key {index}>"


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """(component, child) of a container; nothing of a plain value."""
    if isinstance(value, Opaque):
        value = value.attributes()
    if isinstance(value, dict):
        for i, (key, child) in enumerate(value.items()):
            yield component(key, i), child
    elif isinstance(value, (list, tuple, collections.deque)):
        for i, child in enumerate(value):
            yield str(i), child


def class_of(pid: Any) -> GlobalName | None:
    """The class that a persistent id of old files stands for: ('module', class, file, source); a tar lacks the word."""
    if not isinstance(pid, tuple):
        return None
    named = len(pid) == 4 and isinstance(pid[0], str) and pid[0] == "module"
    found = pid[1] if named else pid[0] if len(pid) == 3 else None
    return found if isinstance(found, GlobalName) else None
