"""A pickle's graph as Python values: inert and complete.

Design
  What is plain data becomes what Python itself would load: dict, list, tuple, set, OrderedDict, numpy arrays, dates.
  Everything else becomes an Opaque that tells what the file would have called. Nothing is imported by a name out of
  the file. The graph may be cyclic, shared a million times, or a million levels deep, so nothing here recurses:
    1. find the nodes that can be reached;
    2. build them in the order of their ids: what is immutable names only earlier nodes, what is mutable begins empty;
    3. fill the mutable ones.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import FormatError, LimitError, PthError, escape

if TYPE_CHECKING:
    pass

(INTTEXT, BYTEARRAY, TUPLE, FROZENSET, LIST, SET, DICT, GLOBAL, OBJECT, PERSID) = _core.NODES.values()

NUMPY_KINDS = "biufcSUVmM"
# Two keys of the same hash in a row are chance, thousands are an attack on Python's dict.
MANY_KEYS = 1000
WIDE = 10_000_000


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


# What stands for a container that Python could not print in any time: the same type, printed in short.
class WideDict(dict):  # type: ignore[type-arg]
    def __repr__(self) -> str:
        return preview(self)


class WideList(list):  # type: ignore[type-arg]
    def __repr__(self) -> str:
        return preview(self)


class WideTuple(tuple):  # type: ignore[type-arg]
    def __repr__(self) -> str:
        return preview(self)


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
        children: list[Any] = []
        if isinstance(item, Opaque):
            children = [f"<{escape(item.cls)}"]
            shown = item.attributes()
            if level < depth and shown:
                for key, child in list(shown.items())[:20]:
                    children += [f" {escape(str(key))[:100]}=", (child, level + 1)]
            elif level < depth and item.args and isinstance(item.args, tuple):
                for child in item.args[:20]:
                    children += [" ", (child, level + 1)]
            children.append(">")
        elif isinstance(item, dict):
            children = ["{"]
            for i, (key, child) in enumerate(item.items()):
                if i >= 50 or level >= depth:
                    children.append(f", ... {len(item)} keys" if i else f"... {len(item)} keys")
                    break
                name = repr(key)[:100] if isinstance(key, (str, int, float, bytes)) else "..."
                children += [", " if i else "", f"{name}: ", (child, level + 1)]
            children.append("}")
        elif isinstance(item, (list, tuple, set, frozenset, collections.deque)):
            opening, closing = (
                ("(", ")")
                if isinstance(item, tuple)
                else ("{", "}")
                if isinstance(item, (set, frozenset))
                else ("[", "]")
            )
            children = [opening]
            for i, child in enumerate(item):
                if i >= 50 or level >= depth:
                    children.append(f", ... {len(item)} items" if i else f"... {len(item)} items")
                    break
                children += [", " if i else "", (child, level + 1)]
            children.append(closing)
        elif isinstance(item, int) and not isinstance(item, bool) and item.bit_length() > 512:
            children = [f"<int of {item.bit_length()} bits>"]
        elif isinstance(item, (str, bytes, bytearray)):
            children = [repr(item[:200]) + ("..." if len(item) > 200 else "")]
        else:
            children = [escape(repr(item))[:500]]
        stack.extend(reversed(children))
    return "".join(parts)


def thaw(graph: Any, root: int, tensor: Callable[[int], Any], storage: Callable[[int], Any], limits: Any) -> Any:
    """The value of a node. `tensor(node)` gives a tensor or None, `storage(node)` what a persistent id stands for."""
    value = graph.value(root)
    if not isinstance(value, _core.Ref):
        return value
    return _Thaw(graph, tensor, storage, limits).run(root)


class _Thaw:
    def __init__(self, graph: Any, tensor: Callable[[int], Any], storage: Callable[[int], Any], limits: Any) -> None:
        self.graph = graph
        self.tensor = tensor
        self.storage = storage
        self.limits = limits
        self.made: dict[int, Any] = {}
        self.kinds: dict[int, int] = {}
        self.parts: dict[int, Any] = {}
        self.fills: list[tuple[Callable[..., None], Any, Any]] = []
        self.attributes: list[tuple[Callable[..., None], Any, Any]] = []  # read out of states that were filled
        self.depth: dict[int, int] = {}
        self.wide = False
        self.copies = 4 * len(graph.source) + 1_000_000
        self.nesting = 0

    def run(self, root: int) -> Any:
        self._reach(root)
        self.wide = self._is_wide(root)
        for node in sorted(self.parts):
            self.made[node] = self._build(node)
        for fill, target, parts in [*self.fills, *self.attributes]:
            try:
                fill(target, parts)
            except PthError:
                raise
            except (TypeError, ValueError, OverflowError) as e:
                raise FormatError("graph-value", f"a container that Python could not build: {escape(str(e))}") from None
        return self.made[root]

    # ---- 1. what can be reached ----

    def _reach(self, root: int) -> None:
        graph, stack = self.graph, [root]
        while stack:
            node = stack.pop()
            if node in self.parts or node in self.made:
                continue
            tensor = self.tensor(node)
            if tensor is not None:
                self.made[node] = tensor
                continue
            kind = self.kinds[node] = graph.kind(node)
            parts: Any
            if kind in (TUPLE, FROZENSET, LIST, SET, DICT):
                parts = graph.items(node)
                stack += [p.id for p in parts if type(p) is _core.Ref]
            elif kind == OBJECT:
                parts = graph.call(node)
                _, callee, args, kwargs, items, pairs, states = parts
                for group in ((callee, args, kwargs), items, pairs, states):
                    stack += [p.id for p in group if type(p) is _core.Ref]
            elif kind == PERSID:
                parts = graph.persistent_id(node)
                if type(parts) is _core.Ref:
                    stack.append(parts.id)
            else:
                parts = None
            self.parts[node] = parts

    def _children(self, node: int) -> list[int]:
        parts = self.parts.get(node)
        if parts is None or type(parts) is _core.Ref:
            return [] if parts is None else [parts.id]
        if self.kinds[node] == OBJECT:
            _, callee, args, kwargs, items, pairs, states = parts
            parts = [callee, args, kwargs, *items, *pairs, *states]
        return [p.id for p in parts if type(p) is _core.Ref]

    def _size(self, node: int) -> int:
        parts = self.parts.get(node)
        return len(parts) if isinstance(parts, list) else 1

    def _is_wide(self, root: int) -> bool:
        """Would printing it as a tree take forever, or too many levels? Counted in one walk over the graph."""
        weight: dict[int, int] = {}
        depth: dict[int, int] = {}
        stack: list[tuple[int, list[int] | None]] = [(root, None)]
        while stack:
            node, children = stack.pop()
            if children is None:
                if node in weight:
                    continue
                weight[node] = 1  # on the way: a cycle is printed as "..."
                depth[node] = 0
                children = self._children(node)
                stack.append((node, children))
                stack += [(c, None) for c in children if c not in weight]
            else:
                weight[node] = min(10**15, 1 + self._size(node) + sum(weight[c] for c in children))
                depth[node] = 1 + max((depth[c] for c in children), default=0)
        self.depth = depth
        return weight[root] > WIDE + 100 * len(weight) or depth[root] > self.limits.max_depth // 4

    # ---- 2. build ----

    def value(self, part: Any) -> Any:
        return self.made[part.id] if type(part) is _core.Ref else part

    def values(self, parts: Any) -> list[Any]:
        made, ref = self.made, _core.Ref
        return [made[p.id] if type(p) is ref else p for p in parts]

    def hashable(self, part: Any) -> Any:
        """A dict key or set member: what would be hashed by deep recursion is refused, what has no hash is wrapped."""
        value = self.value(part)
        if type(part) is _core.Ref:
            if self.depth.get(part.id, 0) > self.limits.max_depth:
                raise LimitError(
                    "max_depth", f"a key of {self.depth[part.id]} levels, {self.limits.max_depth} are allowed"
                )
            try:
                hash(value)
            except TypeError:
                return Opaque("unhashable", (value,))
        return value

    def keys(self, parts: list[Any]) -> list[Any]:
        keys = [p if type(p) is not _core.Ref else self.hashable(p) for p in parts]
        if len(keys) > MANY_KEYS and len({hash(k) for k in keys}) < len(keys) // 2:
            raise LimitError("hash-collisions", f"{len(keys)} keys of very few hashes: made to be slow")
        return keys

    def _build(self, node: int) -> Any:
        kind, parts = self.kinds[node], self.parts[node]
        if kind == TUPLE:
            return (WideTuple if self.wide else tuple)(self.values(parts))
        if kind == LIST:
            out: Any = WideList() if self.wide else []
            self.fills.append((self._fill_list, out, parts))
            return out
        if kind == DICT:
            out = WideDict() if self.wide else {}
            self.fills.append((self._fill_pairs, out, parts))
            return out
        if kind == SET:
            out = set()
            self.fills.append((self._fill_set, out, parts))
            return out
        if kind == FROZENSET:
            return frozenset(self.keys(parts))
        if kind == BYTEARRAY:
            return bytearray(self.graph.slice(node))
        if kind == INTTEXT:
            return self._long_integer(node)
        if kind == GLOBAL:
            return self._global(node)
        if kind == PERSID:
            found = self.storage(node)
            return found if found is not None else Opaque(GlobalName("pickle", "persistent_id"), (self.value(parts),))
        return self._object(node, parts)

    def _long_integer(self, node: int) -> Any:
        text = self.graph.slice(node).decode("ascii")
        digits = text.lstrip("+-")
        # Decimal digits cost their square to read; Python itself draws a line.
        if len(digits) > 4300 and not digits[:2].lower().startswith(("0x", "0o", "0b")):
            return Opaque(GlobalName("builtins", "int"), (f"<{len(digits)} digits>",))
        return int(text, 0)

    def _global(self, node: int) -> Any:
        module, name, meaning, dtype = self.graph.global_of(node)
        if meaning == "DTYPE":
            return _core.DTYPES[dtype][0]
        if meaning == "ELLIPSIS":
            return ...
        if meaning == "NOT_IMPLEMENTED":
            return NotImplemented
        return GlobalName(module, name)

    def _object(self, node: int, parts: Any) -> Any:
        _, callee, args, kwargs, items, pairs, states = parts
        meaning = ""
        if type(callee) is _core.Ref and self.kinds.get(callee.id) == GLOBAL:
            meaning = self.graph.global_of(callee.id)[2]
        arguments = self.value(args)
        if meaning == "RECONSTRUCTOR" and isinstance(arguments, tuple) and len(arguments) == 3:
            # How protocols 0 and 1 write an object: _reconstructor(its class, a base, the base's value).
            out = Opaque(arguments[0], () if arguments[2] is None else arguments[2:])
            if states:
                self.fills.append((self._fill_opaque, out, (items, pairs, states)))
            return out
        read = READERS.get(meaning)
        named = kwargs is not None and not self._is_empty_dict(kwargs)
        if read is not None and isinstance(arguments, tuple) and not named:
            try:
                found = read(self, arguments, parts)
            except (TypeError, ValueError, IndexError, OverflowError, KeyError, ArithmeticError, MemoryError) as e:
                if isinstance(e, LimitError):
                    raise
                found = None
            if found is not None:
                return found
        out = Opaque(self.value(callee), arguments, None if kwargs is None else self.value(kwargs))
        if items or pairs or states:
            self.fills.append((self._fill_opaque, out, (items, pairs, states)))
        return out

    def _is_empty_dict(self, part: Any) -> bool:
        return type(part) is _core.Ref and self.kinds.get(part.id) == DICT and not self.parts[part.id]

    # ---- 3. fill ----

    def _fill_list(self, out: Any, parts: list[Any]) -> None:
        out.extend(self.values(parts))

    def _fill_pairs(self, out: Any, parts: list[Any]) -> None:
        out.update(zip(self.keys(parts[::2]), self.values(parts[1::2]), strict=True))

    def _fill_set(self, out: Any, parts: list[Any]) -> None:
        out.update(self.keys(parts))

    def _fill_ordered(self, out: Any, parts: Any) -> None:
        made_from, pairs = parts
        self.spend(made_from)
        if isinstance(made_from, dict):
            out.update(made_from)
        elif isinstance(made_from, (list, tuple)):
            for pair in made_from:
                key, value = pair
                out[key] = value
        self._fill_pairs(out, pairs)

    def _fill_metadata(self, out: Any, states: list[Any]) -> None:
        """state_dict() keeps the versions of modules as an attribute of its OrderedDict."""
        for state in self.values(states):
            for part in state if isinstance(state, tuple) else (state,):
                if isinstance(part, dict) and "_metadata" in part:
                    out._metadata = part["_metadata"]

    def _fill_sequence(self, out: Any, parts: Any) -> None:
        made_from, items = parts
        self.spend(made_from)
        out.extend(made_from)
        out.extend(self.values(items))

    def spend(self, value: Any) -> None:
        """Counts what is copied: a writer copies nothing twice, an attacker one large value many times."""
        self.copies -= len(value) if hasattr(value, "__len__") else 0
        if self.copies < 0:
            raise LimitError("graph-copies", "one value is copied so often that it would fill the memory")

    def _fill_opaque(self, out: Opaque, parts: Any) -> None:
        items, pairs, states = parts
        out.items = self.values(items)
        out.pairs = list(zip(self.values(pairs[::2]), self.values(pairs[1::2]), strict=True))
        made = self.values(states)
        out.state = made[0] if len(made) == 1 else made or None

    # ---- what is known ----

    def _mapping(self, args: tuple[Any, ...], parts: Any, out: Any, made_from: Any) -> Any:
        self.fills.append((self._fill_ordered, out, (made_from, parts[5])))
        if parts[6] and hasattr(out, "__dict__"):
            self.attributes.append((self._fill_metadata, out, parts[6]))
        return out

    def ordered_dict(self, args: tuple[Any, ...], parts: Any) -> Any:
        return self._mapping(args, parts, collections.OrderedDict(), args[0] if args else ())

    def plain_dict(self, args: tuple[Any, ...], parts: Any) -> Any:
        return self._mapping(args, parts, {}, args[0] if args else ())

    def default_dict(self, args: tuple[Any, ...], parts: Any) -> Any:
        return self._mapping(args, parts, collections.defaultdict(None), args[1] if len(args) > 1 else ())

    def counter(self, args: tuple[Any, ...], parts: Any) -> Any:
        return self._mapping(args, parts, collections.Counter(), args[0] if args else ())

    def deque(self, args: tuple[Any, ...], parts: Any) -> Any:
        maxlen = args[1] if len(args) > 1 else None
        if maxlen is not None and (not isinstance(maxlen, int) or not 0 <= maxlen < 1 << 62):
            return None
        out: Any = collections.deque(maxlen=maxlen)
        self.fills.append((self._fill_sequence, out, (args[0] if args else (), parts[4])))
        return out

    def a_list(self, args: tuple[Any, ...], parts: Any) -> Any:
        out: list[Any] = []
        self.fills.append((self._fill_sequence, out, (args[0] if args else (), parts[4])))
        return out

    def _contents(self, parts: Any) -> list[Any] | None:
        """Items of the list or tuple that is the one argument: lists are still empty while things are built."""
        args = self.graph.items(parts[2].id) if type(parts[2]) is _core.Ref else []
        if not args:
            return []
        inner = args[0]
        if type(inner) is not _core.Ref or self.kinds.get(inner.id) not in (LIST, TUPLE, SET, FROZENSET):
            return None
        contents = list(self.parts[inner.id])
        self.spend(contents)
        return contents

    def a_set(self, args: tuple[Any, ...], parts: Any) -> Any:
        contents = self._contents(parts)
        if contents is None:
            return None
        out: set[Any] = set()
        self.fills.append((self._fill_set, out, contents))
        return out

    def a_frozenset(self, args: tuple[Any, ...], parts: Any) -> Any:
        contents = self._contents(parts)
        return None if contents is None else frozenset(self.keys(contents))

    def a_tuple(self, args: tuple[Any, ...], parts: Any) -> Any:
        contents = self._contents(parts)
        return None if contents is None else tuple(self.values(contents))

    def a_bytes(self, args: tuple[Any, ...], parts: Any) -> Any:
        if not args:
            return b""
        self.spend(args[0])
        return bytes(args[0]) if isinstance(args[0], (bytes, bytearray)) else None

    def a_bytearray(self, args: tuple[Any, ...], parts: Any) -> Any:
        if not args:
            return bytearray()
        self.spend(args[0])
        if isinstance(args[0], str) and len(args) == 2:
            return bytearray(args[0].encode("latin-1"))
        return bytearray(args[0]) if isinstance(args[0], bytes) else None

    def encode(self, args: tuple[Any, ...], parts: Any) -> Any:
        """_codecs.encode(text, 'latin1') that the core left alone."""
        text, encoding = args
        self.spend(text)
        return text.encode("latin-1") if isinstance(text, str) and encoding in ("latin1", "latin-1") else None

    def a_complex(self, args: tuple[Any, ...], parts: Any) -> Any:
        return complex(*args) if all(isinstance(a, (int, float)) for a in args) else None

    def a_slice(self, args: tuple[Any, ...], parts: Any) -> Any:
        return slice(*args)

    def a_range(self, args: tuple[Any, ...], parts: Any) -> Any:
        return range(*args) if all(type(a) is int for a in args) else None

    def size(self, args: tuple[Any, ...], parts: Any) -> Any:
        return args[0] if isinstance(args[0], tuple) else self.a_tuple(args, parts)

    def device(self, args: tuple[Any, ...], parts: Any) -> Any:
        return ":".join(str(a) for a in args) if all(isinstance(a, (str, int)) for a in args) else None

    def layout(self, args: tuple[Any, ...], parts: Any) -> Any:
        return args[0].removeprefix("torch.") if isinstance(args[0], str) else None

    def unwrap(self, args: tuple[Any, ...], parts: Any) -> Any:
        return args[0]

    def path(self, args: tuple[Any, ...], parts: Any) -> Any:
        return "/".join(args).replace("//", "/") if args and all(isinstance(a, str) for a in args) else None

    def windows_path(self, args: tuple[Any, ...], parts: Any) -> Any:
        return "\\".join(a.rstrip("\\") for a in args) if args and all(isinstance(a, str) for a in args) else None

    def decimal(self, args: tuple[Any, ...], parts: Any) -> Any:
        from decimal import Decimal

        return Decimal(args[0]) if isinstance(args[0], str) and len(args[0]) < 1000 else None

    def fraction(self, args: tuple[Any, ...], parts: Any) -> Any:
        from fractions import Fraction

        if len(args) == 2 and all(type(a) is int for a in args):
            return Fraction(*args)
        return (
            Fraction(args[0])
            if isinstance(args[0], str) and len(args[0]) < 1000 and "e" not in args[0].lower()
            else None
        )

    def date(self, args: tuple[Any, ...], parts: Any) -> Any:
        import datetime

        b = _packed(args[0])
        return datetime.date(b[0] << 8 | b[1], b[2], b[3]) if len(b) == 4 else None

    def datetime(self, args: tuple[Any, ...], parts: Any) -> Any:
        import datetime

        b = _packed(args[0])
        zone = args[1] if len(args) > 1 else None
        if len(b) != 10 or not (zone is None or isinstance(zone, datetime.timezone)):
            return None
        return datetime.datetime(
            b[0] << 8 | b[1], b[2] & 127, b[3], b[4], b[5], b[6], b[7] << 16 | b[8] << 8 | b[9], zone, fold=b[2] >> 7
        )

    def time(self, args: tuple[Any, ...], parts: Any) -> Any:
        import datetime

        b = _packed(args[0])
        if len(b) != 6 or len(args) > 1:
            return None
        return datetime.time(b[0] & 127, b[1], b[2], b[3] << 16 | b[4] << 8 | b[5], fold=b[0] >> 7)

    def timedelta(self, args: tuple[Any, ...], parts: Any) -> Any:
        import datetime

        return datetime.timedelta(*args) if all(type(a) is int for a in args) else None

    def timezone(self, args: tuple[Any, ...], parts: Any) -> Any:
        import datetime

        return datetime.timezone(args[0]) if len(args) == 1 and isinstance(args[0], datetime.timedelta) else None

    # ---- numpy: from an allow-list of plain kinds, byte order and size checked ----

    def numpy_dtype(self, args: tuple[Any, ...], parts: Any) -> Any:
        """dtype('f4', False, True) + BUILD (3, '<', ...): the byte order is in the state."""
        import numpy as np

        code = args[0]
        if parts[6] and type(parts[6][-1]) is _core.Ref:
            self._ensure(parts[6][-1].id)
        if (
            not isinstance(code, str)
            or not code
            or code[0] not in NUMPY_KINDS + "?"
            or (not code[1:].isdigit() and code[1:])
        ):
            return GlobalName("numpy", "dtype") if code != "O8" else np.dtype(object)
        order = "|"
        if parts[6]:
            state = self.value(parts[6][-1])
            order = (
                state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "=") else "|"
            )
            if isinstance(state, tuple) and len(state) > 4 and (state[2] is not None or state[3] is not None):
                return None  # sub-arrays and records stay opaque
            if code[0] in "mM" and isinstance(state, tuple) and len(state) > 8:
                return _time_dtype(code, order, state[8])
        return np.dtype(("" if order == "|" else order) + code)

    def numpy_scalar(self, args: tuple[Any, ...], parts: Any) -> Any:
        import numpy as np

        dtype, data = args
        if not isinstance(dtype, np.dtype) or dtype.hasobject:
            return None
        data = data.encode("latin-1") if isinstance(data, str) else data
        if not isinstance(data, (bytes, bytearray)) or len(data) != dtype.itemsize:
            return None
        return np.frombuffer(bytes(data), dtype, 1)[0]

    def numpy_array(self, args: tuple[Any, ...], parts: Any) -> Any:
        """_reconstruct(ndarray, (0,), b'b') + BUILD (1, shape, dtype, is_fortran, data)."""
        if not parts[6]:
            return None
        states = parts[6][-1]
        if type(states) is not _core.Ref:
            return None
        self._ensure(states.id)
        state = self.value(states)
        if not isinstance(state, tuple) or len(state) != 5:
            return None
        import numpy as np

        _, shape, dtype, fortran, data = state
        if isinstance(dtype, np.dtype) and dtype.hasobject and isinstance(data, list):
            return None  # an array of objects: its list is in the state
        self.spend(data)
        return _array(data, dtype, shape, "F" if fortran else "C")

    def numpy_buffer(self, args: tuple[Any, ...], parts: Any) -> Any:
        data, dtype, shape, order = args
        self.spend(data)
        return _array(data, dtype, shape, order)

    def _ensure(self, node: int) -> None:
        """Builds the state of an array or dtype before its turn: it stands behind them in the file."""
        todo = [node]
        order: set[int] = set()
        while todo and len(order) < 1000 and self.nesting < 8:
            n = todo.pop()
            if n not in self.made and n not in order:
                order.add(n)
                todo += self._children(n)
        self.nesting += 1
        for n in sorted(order):
            if n not in self.made:
                self.made[n] = self._build(n)
        self.nesting -= 1


def _packed(value: Any) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def _time_dtype(code: str, order: str, metadata: Any) -> Any:
    """datetime64 and timedelta64: their unit is in the state, as (dict, (unit, number, ...))."""
    unit = metadata[1] if isinstance(metadata, tuple) and len(metadata) == 2 else None
    if not isinstance(unit, tuple) or len(unit) < 2 or type(unit[0]) not in (str, bytes) or type(unit[1]) is not int:
        return None
    import numpy as np

    name = unit[0] if isinstance(unit[0], str) else unit[0].decode("ascii")
    if name not in ("generic", "Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"):
        return None
    text = code if name == "generic" else f"{code}[{unit[1]}{name}]"
    return np.dtype(("" if order == "|" else order) + text)


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    import numpy as np

    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(dtype, np.dtype) or dtype.hasobject or dtype.kind not in NUMPY_KINDS or order not in ("C", "F"):
        return None
    if not isinstance(data, (bytes, bytearray)) or not isinstance(shape, tuple) or len(shape) > 32:
        return None
    if not all(type(n) is int and n >= 0 for n in shape):
        return None
    if math.prod(shape) * dtype.itemsize != len(data):
        raise FormatError("numpy-size", f"an array of {math.prod(shape) * dtype.itemsize} bytes in {len(data)} bytes")
    return np.ndarray(shape, dtype, bytes(data) if data else None, order=order)


READERS: dict[str, Callable[..., Any]] = {
    "BYTEARRAY": _Thaw.a_bytearray,
    "BYTES": _Thaw.a_bytes,
    "CODECS_ENCODE": _Thaw.encode,
    "COMPLEX": _Thaw.a_complex,
    "COUNTER": _Thaw.counter,
    "DATE": _Thaw.date,
    "DATETIME": _Thaw.datetime,
    "DECIMAL": _Thaw.decimal,
    "DEFAULT_DICT": _Thaw.default_dict,
    "DEQUE": _Thaw.deque,
    "DICT": _Thaw.plain_dict,
    "FRACTION": _Thaw.fraction,
    "FROZENSET": _Thaw.a_frozenset,
    "LAYOUT": _Thaw.layout,
    "LIST": _Thaw.a_list,
    "NUMPY_DTYPE": _Thaw.numpy_dtype,
    "NUMPY_FROMBUFFER": _Thaw.numpy_buffer,
    "NUMPY_RECONSTRUCT": _Thaw.numpy_array,
    "NUMPY_SCALAR": _Thaw.numpy_scalar,
    "ORDERED_DICT": _Thaw.ordered_dict,
    "PATH": _Thaw.path,
    "RANGE": _Thaw.a_range,
    "SET": _Thaw.a_set,
    "SLICE": _Thaw.a_slice,
    "TIME": _Thaw.time,
    "TIMEDELTA": _Thaw.timedelta,
    "TIMEZONE": _Thaw.timezone,
    "TORCH_DEVICE": _Thaw.device,
    "TORCH_SIZE": _Thaw.size,
    "TUPLE": _Thaw.a_tuple,
    "UNWRAP": _Thaw.unwrap,
    "WINDOWS_PATH": _Thaw.windows_path,
}
