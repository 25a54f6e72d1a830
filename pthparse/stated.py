"""Modules as the file states them: objects of a pickled model, or of TorchScript, with their classes.

A module is an object with `_parameters` and `_modules` among its attributes, whatever its class; of TorchScript, an
object of a class of its code. It is described once however often it is shared, and is a row under each of its names.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .errors import escape
from .module_reprs import extra_repr, sizes
from .module_trees import DEEPEST, STATED, Said, Tree
from .tensor import Tensor
from .values import GlobalName, Opaque, children, component

if TYPE_CHECKING:
    from .checkpoint import ClassSource

SCRIPT, PARAMETERS = "__torch__.", "__parameters__"
MANGLED = re.compile(r"___torch_mangle_\d+\.")
TRACED = "reduce_graph_module"  # what torch.fx would make its modules again by
HOLDERS = (dict, list, tuple, collections.deque, Opaque)  # what a module may lie in
MOST_BRANCHES = 64  # of a root, that are looked at
MOST_CONFIG = 64  # values of one module
MOST_ITEMS = 100  # of one value
LONGEST = 1000  # characters of one text
TOO_DEEP = f"modules below it are left out: more than {DEEPEST} levels"
TOO_MANY = "modules below it are left out: shared so often that there would be too many"
INERT = {(module, name) for module, name, meaning in _core.GLOBALS if meaning != "GRAPH_MODULE"}
NO_VALUE = object()
A_CYCLE = "it holds itself: not followed a second time"
NOT_TORCHS = "a class that is not of torch.nn: what it may add to its text is not known"
TRACED_CLASS = "traced: the constants of its class are not in the file; sizes are those of its tensors"
OF_TORCH = ("torch.nn.modules.", "torch.nn.parallel.")


class _Object(NamedTuple):
    """What there is to know of a module's object, whatever its name."""

    said: Said
    tensors: tuple[tuple[str, bool], ...]  # own names, and is it a buffer
    below: tuple[tuple[str, Any], ...]


class Walk:
    """Makes rows of the modules that a value holds.

    Attributes
    ----------
    tree : Tree
    known : dict
        Name -> row.
    owned : dict
        Place of a tensor among the names -> is it a buffer?
    """

    def __init__(
        self,
        index: Mapping[str, int],
        nbytes: int,
        sources: Sequence[ClassSource],
        constants: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.given = index, nbytes, sources, constants
        self.root: Any = None
        self.tree = Tree()
        self.known = {"": self.tree.add("", 0)}
        self.index = index
        self.sources = {source.cls: source.text for source in sources}
        self.constants = constants
        self.objects: dict[int, _Object] = {}
        self.rows_left = 1000 + nbytes // 8
        self.text_left = (1 << 20) + 4 * nbytes  # characters of names
        self.steps_left = 1_000_000 + 16 * nbytes  # attributes and values that are looked at
        self.owned: dict[int, bool] = {}

    def run(self, root: Any) -> None:
        """Modules anywhere in the containers of a value."""
        self.root = root
        stack: list[tuple[str, Any, int]] = [("", root, 0)]
        seen: set[int] = set()
        while stack:
            path, value, depth = stack.pop()
            if is_module(value):
                self.module(path, value, depth)
            elif isinstance(value, HOLDERS) and id(value) not in seen and depth < DEEPEST and self.steps_left > 0:
                seen.add(id(value))
                held = [*children(value)]
                self.steps_left -= len(held)
                inner = [(name, v) for name, v in held if isinstance(v, HOLDERS)]
                self.text_left -= len(inner) * (len(path) + 1) + sum(len(name) for name, _ in inner)
                if self.text_left > 0:
                    stack += [(f"{path}/{n}" if path else n, v, depth + 1) for n, v in reversed(inner)]

    def below(self, prefix: str, index: Mapping[str, int]) -> Walk:
        """Of what lies below a path, 'a/b/', by the names that it has there."""
        value = self.root
        for part in prefix.rstrip("/").split("/"):
            value = next((v for name, v in children(value) if name == part), None)
        return walk_of(value, index, *self.given[1:])

    def container(self, path: str) -> int:
        """The row of what a module lies in."""
        at, end = 0, 0
        while end < len(path):
            end = path.find("/", end + 1)
            end = len(path) if end < 0 else end
            at = self.known.get(path[:end], -1) if path[:end] in self.known else self._add(path[:end], at, Said())
        return at

    def _add(self, name: str, parent: int, said: Said) -> int:
        self.rows_left -= 1
        at = self.tree.add(name, parent, said)
        self.known.setdefault(name, at)
        return at

    def module(self, path: str, value: Opaque, depth: int) -> None:
        """A module that lies in no other one, and all below it."""
        stack: list[tuple[str, Any, int, int, str]] = []
        on_path: set[int] = set()
        parent = self.container(path.rpartition("/")[0]) if path else 0
        stack.append((path, value, parent, depth, "/" if path else ""))
        while stack:
            name, found, parent, depth, joint = stack.pop()
            if joint == "leave":
                on_path.discard(parent)
                continue
            if not isinstance(found, Opaque):
                self._add(name, parent, Said(basis=STATED, text="None"))
                continue
            one = self.objects.get(id(found)) or self.describe(found)
            cut = A_CYCLE if id(found) in on_path else ""
            if one.below and not cut:
                size = sum(len(name) + 1 + len(key) for key, _ in one.below)
                if depth >= DEEPEST:
                    cut = TOO_DEEP
                elif len(one.below) > self.rows_left - len(stack) or size > self.text_left:
                    cut = TOO_MANY
                else:
                    self.text_left -= size
            said = one.said._replace(evidence=cut) if cut else one.said
            if not name:
                at = 0
                self.tree.said[0] = said
            else:
                at = self._add(name, parent, said)
            if cut != A_CYCLE:
                self._own(at, name + joint if name else "", one)
            if one.below and not cut:
                on_path.add(id(found))
                stack.append(("", None, id(found), 0, "leave"))
                before = name + joint if name else ""
                stack += [(before + key, m, at, depth + 1, ".") for key, m in reversed(one.below)]

    def _own(self, at: int, before: str, one: _Object) -> None:
        """Finds its tensors among the names; those that are not there are not saved with a state_dict."""
        transient = []
        self.steps_left -= len(one.tensors)
        for leaf, is_buffer in one.tensors if self.steps_left > 0 else ():
            name = before + leaf
            i = self.index.get(name)
            if i in self.owned:  # a parameter and a buffer of one name
                i = self.index.get(f"{name}#2")
            if i is not None and i not in self.owned:
                self.tree.own[at].append(i)
                self.owned[i] = is_buffer
            elif is_buffer and self.text_left > 0:
                self.text_left -= len(name)
                transient.append(name)
        if transient:
            self.tree.said[at] = self.tree.said[at]._replace(transient=tuple(transient))

    # ---- one object ----

    def describe(self, found: Opaque) -> _Object:
        cls = class_of_module(found)
        state = attributes_of(found)
        self.steps_left -= len(state) + sum(len(v) for v in state.values() if isinstance(v, (dict, set)))
        if self.steps_left < 0:
            state = {}
        one = self._script(state, cls) if cls.startswith(SCRIPT) else self._pickled(state, cls)
        self.objects[id(found)] = one
        return one

    def _pickled(self, state: Mapping[Any, Any], cls: str) -> _Object:
        parameters, buffers, below = (_dict(state.get(key)) for key in ("_parameters", "_buffers", "_modules"))
        tensors = [(component(k, i), False) for i, (k, v) in enumerate(parameters.items()) if isinstance(v, Tensor)]
        held = [(component(k, i), True) for i, (k, v) in enumerate(buffers.items()) if isinstance(v, Tensor)]
        parts = {**buffers, **parameters}
        said = self._said(cls, state, parts)
        inner = [(component(k, i), m) for i, (k, m) in enumerate(below.items()) if m is None or is_module(m)]
        return _Object(said, (*tensors, *held), tuple(inner))

    def _script(self, state: Mapping[Any, Any], cls: str) -> _Object:
        parts = {k: v for k, v in state.items() if isinstance(v, Tensor)}
        told, plain = self.constants.get(cls, {}), MANGLED.sub("", cls).removeprefix(SCRIPT)
        known, constants = told.get(PARAMETERS), {k: v for k, v in told.items() if k != PARAMETERS}
        tensors = [
            (component(k, i), not v.requires_grad if known is None else k not in known)
            for i, (k, v) in enumerate(parts.items())
        ]
        inner = [(component(k, i), m) for i, (k, m) in enumerate(state.items()) if is_script(m)]
        traced = sizes(plain.rpartition(".")[2], parts) if not constants and plain.startswith(OF_TORCH) else {}
        said = self._said(plain, {**constants, **traced, **state}, parts)
        return _Object(said._replace(evidence=TRACED_CLASS) if traced else said, tuple(tensors), tuple(inner))

    def _said(self, cls: str, state: Mapping[Any, Any], parts: Mapping[Any, Any]) -> Said:
        kind = cls.rpartition(".")[2]
        extra = extra_repr(kind, state, parts) if cls.startswith(OF_TORCH) else ""
        training = state.get("training")
        return Said(
            kind=kind,
            basis=STATED,
            evidence="" if cls.startswith(OF_TORCH) else NOT_TORCHS,
            text=f"{escape(kind)}({' '.join(extra.split())})",
            class_name=cls,
            config=MappingProxyType(dict(self._config(state))),
            extra=extra,
            training=training if isinstance(training, bool) else None,
            source=self.sources.get(cls),
        )

    # ---- configuration ----

    def _config(self, state: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
        """Attributes that are plain values; those that begin with '_' are torch's own affairs."""
        left = MOST_CONFIG
        for key, value in state.items():
            if isinstance(key, str) and key[:1] != "_" and key != "training" and len(key) <= LONGEST and left:
                plain = self._plain(value, 3)
                if plain is not NO_VALUE:
                    left -= 1
                    yield key, plain

    def _plain(self, value: Any, depth: int) -> Any:
        """A copy of a plain value, or NO_VALUE."""
        self.steps_left -= 1
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            return value if len(value) <= LONGEST else value[:LONGEST] + "..."
        if isinstance(value, GlobalName):
            return str(value)[:LONGEST]
        if not isinstance(value, (list, tuple, dict)) or not depth or len(value) > MOST_ITEMS or self.steps_left < 0:
            return NO_VALUE
        items = [self._plain(item, depth - 1) for item in (value.values() if isinstance(value, dict) else value)]
        if NO_VALUE in items:
            return NO_VALUE
        if isinstance(value, dict):
            return dict(zip(value, items, strict=True)) if all(isinstance(key, str) for key in value) else NO_VALUE
        return tuple(items)


def listed(graph: Any, thaw: Callable[[int], Any]) -> list[str]:
    """Names of all modules, as `state_dict()` lists them with their versions; of the root, or of what lies in it."""
    found: list[str] = []
    places = [("", graph.root)]
    if graph.kind(graph.root) == _core.NODES["DICT"]:
        items = graph.first_items(graph.root, 2 * MOST_BRANCHES)
        pairs = zip(items[::2], items[1::2], strict=False)
        places = [(f"{key}/", v.id) for key, v in pairs if isinstance(key, str) and isinstance(v, _core.Ref)]
    for prefix, node in places:
        if graph.kind(node) != _core.NODES["OBJECT"]:
            continue
        _, callee, _, _, _, _, states = graph.call(node)
        if not isinstance(callee, _core.Ref) or graph.kind(callee.id) != _core.NODES["GLOBAL"]:
            continue
        if graph.global_of(callee.id)[2] != "ORDERED_DICT":
            continue
        for state in states:
            value = thaw(state.id) if isinstance(state, _core.Ref) else None
            names = value.get("_metadata") if isinstance(value, dict) else None
            if isinstance(names, dict):
                found += [prefix + name if name else prefix[:-1] for name in names if isinstance(name, str)]
    return found


def is_class_of_modules(module: str, name: str) -> bool:
    """May an object of this class be a module? What the names of torch's own files say of it; unknown classes may."""
    return (module, name) not in INERT and not (name.endswith("Storage") and module.startswith("torch"))


def is_module(value: Any) -> bool:
    if not isinstance(value, Opaque):
        return False
    state = attributes_of(value)
    return ("_parameters" in state and "_modules" in state) or is_script(value)


def is_script(value: Any) -> bool:
    return isinstance(value, Opaque) and isinstance(value.state, dict) and value.cls.startswith(SCRIPT)


def attributes_of(value: Opaque) -> Mapping[Any, Any]:
    """The attributes of an object, without a copy."""
    if value.cls.endswith(TRACED) and isinstance(value.args, tuple) and value.args and isinstance(value.args[0], dict):
        return value.args[0]
    return _dict(value.state)


def class_of_module(value: Opaque) -> str:
    """Its class, as 'module.Class'."""
    if value.cls.endswith(TRACED):
        name = attributes_of(value).get("_graphmodule_cls_name")
        return f"torch.fx.graph_module.{name if isinstance(name, str) else 'GraphModule'}"
    return value.cls


def _dict(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def walk_of(
    root: Any,
    index: Mapping[str, int],
    nbytes: int,
    sources: Sequence[ClassSource],
    constants: Mapping[str, Mapping[str, Any]],
) -> Walk:
    """All modules that a value holds. nbytes: of its pickle, which bounds how many there may be."""
    walk = Walk(index, nbytes, sources, constants)
    walk.run(root)
    return walk
