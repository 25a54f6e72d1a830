"""A pickle's graph as Python values: inert and complete.

Design
  What is plain data becomes what Python itself would load: dict, list, tuple, set, OrderedDict, numpy arrays, dates.
  Everything else becomes an Opaque that tells what the file would have called. Nothing is imported by a name out of
  the file. The graph may be cyclic, shared a million times, or a million levels deep, so nothing here recurses:
    1. find the nodes that can be reached;
    2. weigh them: how deep each is, and how large it would be written out as a tree;
    3. build them in the order of their ids: what is immutable names only earlier nodes, what is mutable begins empty;
    4. fill the mutable ones.
  What Python would print, hash or give back by recursion is bounded by the weights: containers of a heavy graph are of
  subclasses that print in short, and a heavy dict key is refused.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from typing import Any

from . import _core
from .errors import FormatError, LimitError, guard
from .values import BRIEF, GlobalName, Opaque, class_of

(INTTEXT, BYTEARRAY, TUPLE, FROZENSET, LIST, SET, DICT, GLOBAL, OBJECT, PERSID) = _core.NODES.values()

NUMPY_KINDS = "biufcSUVmM"
# Equal hashes: a few in one dict are chance, many are an attack on Python's dict.
SAME_HASH = 64
# What Python may print: items and texts of the graph written out as a tree.
WIDE = 10_000_000
# What it may hash for one key.
HEAVY_KEY = 10_000


def thaw(
    graph: Any,
    root: int,
    tensor: Callable[[int], Any],
    storage: Callable[[int], Any],
    limits: Any,
    most: int | None = None,
) -> Any:
    """The value of a node.

    `tensor(node)` and `storage(node)` give a tensor or a storage, or None. LimitError if more than `most` nodes can be
    reached.
    """
    value = graph.value(root)
    if not isinstance(value, _core.Ref):
        return value
    with guard("a value of the pickle"):
        return _Thaw(graph, tensor, storage, limits, most).run(root)


class _Thaw:
    def __init__(
        self,
        graph: Any,
        tensor: Callable[[int], Any],
        storage: Callable[[int], Any],
        limits: Any,
        most: int | None,
    ) -> None:
        self.graph = graph
        self.tensor = tensor
        self.storage = storage
        self.limits = limits
        self.most = most
        self.made: dict[int, Any] = {}
        self.kinds: dict[int, int] = {}
        self.parts: dict[int, Any] = {}
        self.fills: list[tuple[Callable[..., None], Any, Any]] = []
        self.attributes: list[tuple[Callable[..., None], Any, Any]] = []  # read out of states that were filled
        self.weight: dict[int, int] = {}
        self.depth: dict[int, int] = {}
        self.wide = False
        self.copies = 4 * len(graph.source) + 1_000_000
        self.nesting = 0

    def run(self, root: int) -> Any:
        self._reach(root)
        for node in (root, *self.parts):
            self._weigh(node)
        self.wide = (
            max(self.weight.values(), default=0) > WIDE + 100 * len(self.weight)
            or max(self.depth.values(), default=0) > self.limits.max_depth // 4
            or self._is_cyclic()
        )
        for node in sorted(self.parts):
            if node not in self.made:
                self.made[node] = self._build(node)
        for fill, target, parts in [*self.fills, *self.attributes]:
            fill(self, target, parts)
        return self.made[root]

    def new(self, kind: Any, *args: Any) -> Any:
        """A container, of a kind that prints in short if the graph is wide."""
        return (BRIEF.get(kind, kind) if self.wide else kind)(*args)

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
            if self.most is not None and len(self.parts) >= self.most:
                raise LimitError("parts", f"what it is made of has more than {self.most} values")
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
        return [p.id for p in self._values_of(node) if type(p) is _core.Ref]

    def _values_of(self, node: int) -> Any:
        """What a node names, as Refs, and its leaves."""
        parts = self.parts.get(node)
        kind = self.kinds.get(node)
        if parts is None:
            return ()
        if kind == PERSID:
            return (parts,)
        if kind == OBJECT:
            _, callee, args, kwargs, items, pairs, states = parts
            return (callee, args, kwargs, *items, *pairs, *states)
        return parts

    # ---- 2. how heavy it is ----

    def _weigh(self, root: int) -> None:
        """Items and lengths of texts below each node, written out as a tree, and levels. One walk over the graph."""
        weight, depth = self.weight, self.depth
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
                leaves = sum(
                    1 + len(p) // 8 if isinstance(p, (str, bytes)) else 1
                    for p in self._values_of(node)
                    if type(p) is not _core.Ref
                )
                weight[node] = min(10**15, 1 + leaves + sum(weight[c] for c in children))
                depth[node] = 1 + max((depth[c] for c in children), default=0)

    def _is_cyclic(self) -> bool:
        """Do containers hold themselves? Python would print every way through them, and the weights know but one.

        Objects of unknown classes do not count: they print in short themselves.
        """
        on_path: dict[int, bool] = {}  # False: finished
        stack = [(node, False) for node in self.parts]
        while stack:
            node, left = stack.pop()
            if left:
                on_path[node] = False
            elif node not in on_path and not self._is_opaque(node):
                on_path[node] = True
                stack.append((node, True))
                below = self._children(node)
                if any(on_path.get(c) for c in below):
                    return True
                stack += [(c, False) for c in below if c not in on_path]
        return False

    def _is_opaque(self, node: int) -> bool:
        return self.kinds.get(node) == OBJECT and self._meaning(self.parts[node][1]) not in READERS

    def _meaning(self, callee: Any) -> str:
        """What the function or class that is called means, or ''."""
        known = type(callee) is _core.Ref and self.kinds.get(callee.id) == GLOBAL
        return str(self.graph.global_of(callee.id)[2]) if known else ""

    # ---- 3. build ----

    def value(self, part: Any) -> Any:
        return self.made[part.id] if type(part) is _core.Ref else part

    def values(self, parts: Any) -> list[Any]:
        made, ref = self.made, _core.Ref
        return [made[p.id] if type(p) is ref else p for p in parts]

    def hashable(self, part: Any) -> Any:
        """A dict key or set member: what would be hashed by deep recursion is refused, what has no hash is wrapped."""
        value = self.value(part)
        if type(part) is not _core.Ref or isinstance(value, Opaque):
            return value
        depth, weight = self.depth.get(part.id, 0), self.weight.get(part.id, 0)
        if depth > self.limits.max_depth:
            raise LimitError("max_depth", f"a key of {depth} levels, {self.limits.max_depth} are allowed")
        if weight > HEAVY_KEY:
            raise LimitError("heavy-key", f"a key of {weight} values, {HEAVY_KEY} are allowed")
        try:
            hash(value)
        except TypeError:
            return Opaque("unhashable", (value,))
        return value

    def keys(self, parts: list[Any]) -> list[Any]:
        keys = [p if type(p) is not _core.Ref else self.hashable(p) for p in parts]
        if len(keys) > SAME_HASH:
            (_, most), *_ = collections.Counter(map(hash, keys)).most_common(1)
            if most > SAME_HASH:
                raise LimitError("hash-collisions", f"{most} keys of one hash: made to be slow")
        return keys

    def _build(self, node: int) -> Any:
        kind, parts = self.kinds[node], self.parts[node]
        if kind == TUPLE:
            return self.new(tuple, self.values(parts))
        if kind == LIST:
            out: Any = self.new(list)
            self.fills.append((_Thaw._fill_list, out, parts))
            return out
        if kind == DICT:
            out = self.new(dict)
            self.fills.append((_Thaw._fill_pairs, out, parts))
            return out
        if kind == SET:
            out = self.new(set)
            self.fills.append((_Thaw._fill_set, out, parts))
            return out
        if kind == FROZENSET:
            return self.new(frozenset, self.keys(parts))
        if kind == BYTEARRAY:
            return bytearray(self.graph.slice(node))
        if kind == INTTEXT:
            return self._long_integer(node)
        if kind == GLOBAL:
            return self._global(node)
        if kind == PERSID:
            found = self.storage(node)
            if found is None:
                found = class_of(self.value(parts))
            return found if found is not None else Opaque(GlobalName("pickle", "persistent_id"), (self.value(parts),))
        return self._object(node, parts)

    def _long_integer(self, node: int) -> Any:
        text = self.graph.slice(node).decode("ascii")
        digits = text.lstrip("+-")
        # Decimal digits cost their square to read; Python itself draws a line.
        if len(digits) > 4300 and not digits[:2].lower().startswith(("0x", "0o", "0b")):
            return Opaque(GlobalName("builtins", "int"), (f"<{len(digits)} digits>",))
        return _core.integer(int(text, 0))

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
        meaning = self._meaning(callee)
        arguments = self.value(args)
        if meaning == "RECONSTRUCTOR" and isinstance(arguments, tuple) and len(arguments) == 3:
            # How protocols 0 and 1 write an object: _reconstructor(its class, a base, the base's value).
            out = Opaque(arguments[0], () if arguments[2] is None else arguments[2:])
            if items or pairs or states:
                self.fills.append((_Thaw._fill_opaque, out, (items, pairs, states)))
            return out
        if meaning == "LOAD_FROM_BYTES" and (found := self.storage(node)) is not None:
            return found
        read = READERS.get(meaning)
        named = kwargs is not None and not self._is_empty_dict(kwargs)
        if read is not None and isinstance(arguments, tuple) and not named:
            try:
                found = read(self, arguments, parts)
            except LimitError:
                raise
            except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, SystemError):
                found = None  # not as its class writes it: then it is opaque
            if found is not None:
                return found
        out = Opaque(self.value(callee), arguments, None if kwargs is None else self.value(kwargs))
        if items or pairs or states:
            self.fills.append((_Thaw._fill_opaque, out, (items, pairs, states)))
        return out

    def _is_empty_dict(self, part: Any) -> bool:
        return type(part) is _core.Ref and self.kinds.get(part.id) == DICT and not self.parts[part.id]

    # ---- 4. fill ----

    def _fill_list(self, out: Any, parts: list[Any]) -> None:
        out.extend(self.values(parts))

    def _fill_pairs(self, out: Any, parts: list[Any]) -> None:
        self._update(out, zip(self.keys(parts[::2]), self.values(parts[1::2]), strict=True))

    def _update(self, out: Any, pairs: Any) -> None:
        # What a Counter calls update() would count.
        (dict.update if isinstance(out, collections.Counter) else type(out).update)(out, pairs)

    def _fill_set(self, out: Any, parts: list[Any]) -> None:
        out.update(self.keys(parts))

    def _fill_ordered(self, out: Any, parts: Any) -> None:
        made_from, pairs = parts
        source = self.value(made_from)
        self.spend(source)
        if isinstance(source, dict):
            self._update(out, source)
        elif isinstance(source, (list, tuple)):
            flat: list[Any] = []
            for pair in self.parts[made_from.id]:
                items = self.parts.get(pair.id) if type(pair) is _core.Ref else None
                if not isinstance(items, list) or len(items) != 2:
                    raise FormatError("graph-value", "a dict made of something else than pairs")
                flat += items
            self._fill_pairs(out, flat)
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

    def _argument(self, parts: Any, index: int) -> Any:
        """The part of the graph that is a call's argument, or None."""
        args = self.parts.get(parts[2].id) if type(parts[2]) is _core.Ref else None
        return args[index] if isinstance(args, list) and index < len(args) else None

    def _mapping(self, kind: Any, parts: Any, made_from: Any) -> Any:
        out = self.new(kind)
        self.fills.append((_Thaw._fill_ordered, out, (made_from, parts[5])))
        if parts[6] and hasattr(out, "__dict__"):
            self.attributes.append((_Thaw._fill_metadata, out, parts[6]))
        return out

    def ordered_dict(self, args: tuple[Any, ...], parts: Any) -> Any:
        return self._mapping(collections.OrderedDict, parts, self._argument(parts, 0))

    def plain_dict(self, args: tuple[Any, ...], parts: Any) -> Any:
        return self._mapping(dict, parts, self._argument(parts, 0))

    def default_dict(self, args: tuple[Any, ...], parts: Any) -> Any:
        return self._mapping(collections.defaultdict, parts, self._argument(parts, 1))

    def counter(self, args: tuple[Any, ...], parts: Any) -> Any:
        if args and not isinstance(args[0], dict):
            return None
        made_from = self._argument(parts, 0)
        counts = [*parts[5], *(self.parts.get(made_from.id) or () if type(made_from) is _core.Ref else ())]
        # Python prints a Counter by way of a new dict each time: one that holds itself would never end.
        plain = not any(type(part) is _core.Ref for part in counts)
        return self._mapping(collections.Counter if plain else BRIEF[collections.Counter], parts, made_from)

    def deque(self, args: tuple[Any, ...], parts: Any) -> Any:
        maxlen = args[1] if len(args) > 1 else None
        if maxlen is not None and (not isinstance(maxlen, int) or not 0 <= maxlen < 1 << 62):
            return None
        out: Any = self.new(collections.deque, (), maxlen)
        self.fills.append((_Thaw._fill_sequence, out, (args[0] if args else (), parts[4])))
        return out

    def a_list(self, args: tuple[Any, ...], parts: Any) -> Any:
        out: list[Any] = self.new(list)
        self.fills.append((_Thaw._fill_sequence, out, (args[0] if args else (), parts[4])))
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
        out: set[Any] = self.new(set)
        self.fills.append((_Thaw._fill_set, out, contents))
        return out

    def a_frozenset(self, args: tuple[Any, ...], parts: Any) -> Any:
        contents = self._contents(parts)
        return None if contents is None else self.new(frozenset, self.keys(contents))

    def a_tuple(self, args: tuple[Any, ...], parts: Any) -> Any:
        contents = self._contents(parts)
        return None if contents is None else self.new(tuple, self.values(contents))

    def a_bytes(self, args: tuple[Any, ...], parts: Any) -> Any:
        if not args:
            return b""
        self.spend(args[0])
        return bytes(args[0]) if isinstance(args[0], (bytes, bytearray)) else None

    def a_bytearray(self, args: tuple[Any, ...], parts: Any) -> Any:
        if not args:
            return bytearray()
        self.spend(args[0])
        if isinstance(args[0], str) and len(args) == 2 and args[1] in ("latin1", "latin-1"):
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
        return slice(*args) if all(a is None or type(a) is int for a in args) else None

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
        from pathlib import PurePosixPath

        return str(PurePosixPath(*args)) if all(isinstance(a, str) for a in args) else None

    def windows_path(self, args: tuple[Any, ...], parts: Any) -> Any:
        from pathlib import PureWindowsPath

        return str(PureWindowsPath(*args)) if all(isinstance(a, str) for a in args) else None

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
        zone = args[1] if len(args) > 1 else None
        if len(b) != 6 or not (zone is None or isinstance(zone, datetime.timezone)):
            return None
        return datetime.time(b[0] & 127, b[1], b[2], b[3] << 16 | b[4] << 8 | b[5], zone, fold=b[0] >> 7)

    def timedelta(self, args: tuple[Any, ...], parts: Any) -> Any:
        import datetime

        return datetime.timedelta(*args) if all(type(a) is int for a in args) else None

    def timezone(self, args: tuple[Any, ...], parts: Any) -> Any:
        import datetime

        named = len(args) == 2 and isinstance(args[1], str)
        return datetime.timezone(*args) if len(args) == 1 or named else None

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
        if not isinstance(data, (bytes, bytearray)) or len(data) != dtype.itemsize or not _is_text(data, dtype):
            return None
        return np.ndarray((), dtype, bytes(data))[()] if data else dtype.type()

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
        if isinstance(dtype, np.dtype) and dtype.hasobject:
            return self._object_array(states.id, shape, fortran)
        self.spend(data)
        return _array(data, dtype, shape, "F" if fortran else "C")

    def numpy_buffer(self, args: tuple[Any, ...], parts: Any) -> Any:
        data, dtype, shape, order = args
        self.spend(data)
        return _array(data, dtype, shape, order)

    def _object_array(self, state: int, shape: Any, fortran: Any) -> Any:
        """An array of objects as nested lists, in C order; its flat list is still to be filled."""
        flat = self.parts[state][4]
        if type(flat) is not _core.Ref or self.kinds.get(flat.id) != LIST or not isinstance(shape, tuple) or fortran:
            return None
        contents = self.parts[flat.id]
        self.spend(contents)
        if not all(type(n) is int and n > 0 for n in shape) or len(shape) > 32 or math.prod(shape) != len(contents):
            return None
        out = self.new(list)
        self.fills.append((_Thaw._fill_nested, out, (contents, shape or (1,))))
        return out

    def _fill_nested(self, out: Any, parts: Any) -> None:
        contents, shape = parts
        level = self.values(contents)
        for n in reversed(shape[1:]):
            level = [level[i : i + n] for i in range(0, len(level), n)]
        out.extend(level)

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


def _is_text(data: Any, dtype: Any) -> bool:
    """numpy's U holds any 32 bits, and cannot show what is no code point."""
    if dtype.kind != "U" or not data:
        return True
    import numpy as np

    return bool((np.frombuffer(bytes(data), np.dtype("u4").newbyteorder(dtype.byteorder)) < 0x110000).all())


def _packed(value: Any) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def _time_dtype(code: str, order: str, metadata: Any) -> Any:
    """datetime64 and timedelta64: their unit is in the state, as (dict, (unit, number, ...))."""
    unit = metadata[1] if isinstance(metadata, tuple) and len(metadata) == 2 else None
    if not isinstance(unit, tuple) or len(unit) < 2 or type(unit[0]) not in (str, bytes) or type(unit[1]) is not int:
        return None
    import numpy as np

    name = unit[0] if isinstance(unit[0], str) else unit[0].decode("ascii")
    if not 1 <= unit[1] < 1 << 31 or name not in (
        "Y",
        "M",
        "W",
        "D",
        "h",
        "m",
        "s",
        "ms",
        "us",
        "ns",
        "ps",
        "fs",
        "as",
    ):
        return None
    return np.dtype(("" if order == "|" else order) + f"{code}[{unit[1]}{name}]")


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
    if not _is_text(data, dtype):
        return None
    return np.ndarray(shape, dtype, bytes(data), order=order) if data else np.zeros(shape, dtype, order)


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
