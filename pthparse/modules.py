"""The modules of a model, as a tree: stated where the file says their classes, else by the names of the tensors.

Design
  A tree is columns, a row for each module, the outer ones first; a `Module` is a row of it, made when it is asked for.
  `stated.py` makes rows by walking the objects of a pickled module, `_by_names` by cutting names at their dots. Nothing
  recurses, and what sharing or nesting could multiply is bounded: levels, modules, characters of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from .capacity import BUFFERS, ROLES
from .errors import escape
from .record import Record

if TYPE_CHECKING:
    from .checkpoint import Names

STATED, INFERRED, UNKNOWN = "stated", "inferred", "unknown"
DEEPEST = 100  # levels of modules: what lies deeper belongs to the last one
SEPARATOR = re.compile("[./]")
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Said(NamedTuple):
    """What is known of a module beside its name and its tensors."""

    kind: str = ""
    basis: str = UNKNOWN
    evidence: str = ""
    text: str = ""
    class_name: str | None = None
    config: Mapping[str, Any] = NOTHING
    extra: str = ""  # lines of extra_repr
    training: bool | None = None
    source: str | None = None
    transient: tuple[str, ...] = ()


UNSAID = Said()


class Tree:
    """Columns, a row for each module; a parent stands before its children.

    Attributes
    ----------
    names : list of str
    below : list of list of int
        Rows of the children.
    own : list of list of int
        Places of the module's tensors among the names of the checkpoint.
    said : list of Said
    structure : list of int
        Equal where class, text, shapes and what lies below are.
    params, nbytes : list of int
    """

    __slots__ = ("below", "buffers", "names", "nbytes", "own", "params", "said", "structure", "tensors")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.below: list[list[int]] = []
        self.own: list[list[int]] = []
        self.said: list[Said] = []
        self.structure: list[int] = []
        self.params: list[int] = []
        self.nbytes: list[int] = []
        self.tensors: Sequence[str] = ()
        self.buffers: Sequence[int] = ()  # of each tensor: is it one?

    def add(self, name: str, parent: int, said: Said = UNSAID) -> int:
        """A new module, below its parent; its row."""
        at = len(self.names)
        self.names.append(name)
        self.below.append([])
        self.own.append([])
        self.said.append(said)
        if at:
            self.below[parent].append(at)
        return at

    def settle(self, checkpoint: Names) -> None:
        """Sums and structures, from below."""
        roles, elements, sizes = checkpoint._amounts()
        self.tensors, buffer = checkpoint._list, ROLES.index(BUFFERS)
        self.buffers = [role == buffer for role in roles]
        shapes: dict[Any, int] = {}
        shape_of = [shapes.setdefault((t.shape, t.dtype), len(shapes)) for t in checkpoint._tensors()]
        n = len(self.names)
        params, nbytes, structure = self.params, self.nbytes, self.structure = [0] * n, [0] * n, [0] * n
        names, tensors = self.names, self.tensors
        known: dict[Any, int] = {}
        for at in range(n - 1, -1, -1):
            cut = len(names[at]) + 1 if at else 0
            said = self.said[at]
            key: list[Any] = [said.class_name, said.text, said.extra]
            elements_here = nbytes_here = 0
            for i in self.own[at]:
                elements_here += elements[i]
                nbytes_here += sizes[i]
                key += (tensors[i][cut:], shape_of[i])
            key.append(None)
            for child in self.below[at]:
                elements_here += params[child]
                nbytes_here += nbytes[child]
                key += (names[child][cut:], structure[child])
            params[at], nbytes[at] = elements_here, nbytes_here
            structure[at] = known.setdefault(tuple(key), len(known))


class Module(Record):
    """A module of the model, and those below it.

    Attributes
    ----------
    name : str
        'layers.0.self_attn'; '' of the root. Tensors are named by it, a dot (or, of containers, a slash) and their own.
    kind : str
        Its class in short, 'Linear'; '' if it is not known.
    class_name : str or None
        'torch.nn.modules.linear.Linear', if the file states it.
    basis : str
        'stated', 'inferred' (from names and shapes), 'unknown'.
    evidence : str
        What it was inferred from, or what it may be.
    config : Mapping
        Plain values of the object, or of what is inferred those that follow for sure.
    text : str
        One line: stated, as the model's own repr has it.
    parameters, buffers : tuple of str
        Names of the checkpoint's tensors that lie directly in it.
    transient : tuple of str
        Buffers that are in the file, and that `state_dict()` leaves out: no names of the checkpoint.
    children : tuple of Module
        In order.
    training : bool or None
    source : str or None
        The source code of its class, where the file holds it. Text, never run.
    params, nbytes : int
        Elements, and bytes of the file, of the tensors in it and below; what is shared counts where it is first.
    """

    _tree: Tree
    _at: int

    @property
    def name(self) -> str:
        return self._tree.names[self._at]

    @property
    def _said(self) -> Said:
        return self._tree.said[self._at]

    @property
    def kind(self) -> str:
        return self._said.kind

    @property
    def class_name(self) -> str | None:
        return self._said.class_name

    @property
    def basis(self) -> str:
        return self._said.basis

    @property
    def evidence(self) -> str:
        return self._said.evidence

    @property
    def config(self) -> Mapping[str, Any]:
        return self._said.config

    @property
    def text(self) -> str:
        return self._said.text or escape(self.name[max(self.name.rfind("."), self.name.rfind("/")) + 1 :])

    @property
    def parameters(self) -> tuple[str, ...]:
        tree = self._tree
        return tuple([tree.tensors[i] for i in tree.own[self._at] if not tree.buffers[i]])

    @property
    def buffers(self) -> tuple[str, ...]:
        tree = self._tree
        return tuple([tree.tensors[i] for i in tree.own[self._at] if tree.buffers[i]])

    @property
    def transient(self) -> tuple[str, ...]:
        return self._said.transient

    @property
    def children(self) -> tuple[Module, ...]:
        return tuple([Module(self._tree, at) for at in self._tree.below[self._at]])

    @property
    def training(self) -> bool | None:
        return self._said.training

    @property
    def source(self) -> str | None:
        return self._said.source

    @property
    def params(self) -> int:
        return self._tree.params[self._at]

    @property
    def nbytes(self) -> int:
        return self._tree.nbytes[self._at]

    def walk(self) -> Iterator[Module]:
        """This one and all below, each before those below it."""
        tree, stack = self._tree, [self._at]
        while stack:
            at = stack.pop()
            yield Module(tree, at)
            stack += reversed(tree.below[at])

    def find(self, name: str) -> Module | None:
        """The module of a full name, here or below."""
        names, below = self._tree.names, self._tree.below
        stack = [self._at]
        while stack:
            at = stack.pop()
            if names[at] == name:
                return Module(self._tree, at)
            if not at or name[: len(names[at]) + 1] in (names[at] + ".", names[at] + "/"):
                stack += reversed(below[at])
        return None

    def folded(self) -> tuple[tuple[Module, str, int], ...]:
        """(the first of them, label, how many): children; numbered neighbours of equal structure as one: '0-5', 6."""
        tree = self._tree
        cut = len(self.name) + 1 if self.name else 0
        out: list[list[Any]] = []
        last, structure = -1, -1
        for at in tree.below[self._at]:
            label = tree.names[at][cut:]
            number = int(label) if label.isascii() and label.isdecimal() and len(label) < 10 else -1
            if number > 0 and number == last + 1 and structure == tree.structure[at]:
                out[-1][1:] = label, out[-1][2] + 1
            else:
                out.append([at, label, 1])
            last, structure = number, tree.structure[at]
        return tuple(
            (Module(tree, at), label if n == 1 else f"{tree.names[at][cut:]}-{label}", n) for at, label, n in out
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict of plain values, with all that lies below."""
        return {
            "name": self.name,
            "kind": self.kind,
            "class_name": self.class_name,
            "basis": self.basis,
            "evidence": self.evidence,
            "config": dict(self.config),
            "text": self.text,
            "parameters": self.parameters,
            "buffers": self.buffers,
            "transient": self.transient,
            "training": self.training,
            "source": self.source,
            "params": self.params,
            "nbytes": self.nbytes,
            "children": tuple(child.to_dict() for child in self.children),
        }

    def __repr__(self) -> str:
        return self.text


def modules_of(checkpoint: Names) -> Module:
    """The tree of a checkpoint, or of a branch of one; PthError as `Checkpoint.capacity` says."""
    tree = _by_names(checkpoint._list)
    tree.settle(checkpoint)
    return Module(tree, 0)


# ---- from names ----


def _by_names(names: Sequence[str]) -> Tree:
    tree = Tree()
    tree.add("", 0)
    known = {"": 0}
    left = (1 << 20) + 4 * sum(map(len, names))  # characters of modules' names
    for i, name in enumerate(names):
        at = known.get(name[: max(name.rfind("."), name.rfind("/"), 0)])
        if at is None:
            at = 0
            for end in _cuts(name):
                module = name[:end]
                row = known.get(module)
                if row is None:
                    left -= end
                    if left < 0:
                        break
                    row = known[module] = tree.add(module, at)
                at = row
        tree.own[at].append(i)
    return tree


def _cuts(name: str) -> Iterator[int]:
    """Where the modules that a name lies in end, the outermost first; no more than are allowed."""
    for levels, cut in enumerate(SEPARATOR.finditer(name, 1)):
        if levels == DEEPEST:
            return
        yield cut.start()
