"""The modules of a model, as a tree: stated where the file says their classes, else by the names of the tensors.

Design
  A tree is columns (`module_trees.py`), a row for each module, the outer ones first; a `Module` is a row of it, made
  when it is asked for. `stated.py` makes rows by walking the objects of a pickled module, `Tree.add_names` by cutting
  names at their dots. Nothing recurses, and what sharing or nesting could multiply is bounded: levels, modules,
  characters of names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import escape
from .inference import infer
from .module_trees import STATED, Said, Tree
from .record import Record
from .wording import is_number

if TYPE_CHECKING:
    from .checkpoint import Names


LONGEST = 1 << 27  # characters that are put together to print a tree


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
        One line: stated, as the model's own repr has it; '?' of what is not known.
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
        return self._said.text or "?"

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
            number = int(label) if is_number(label) else -1
            if number > 0 and number == last + 1 and structure == tree.structure[at]:
                out[-1][1:] = label, out[-1][2] + 1
            else:
                out.append([at, label, 1])
            last, structure = number, tree.structure[at]
        return tuple(
            (Module(tree, at), label if n == 1 else f"{tree.names[at][cut:]}-{label}", n) for at, label, n in out
        )

    def label(self, child: Module) -> str:
        """What the name of a child adds to this one's."""
        return child.name[len(self.name) + 1 :] if self.name else child.name

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
        """All of it, as the model itself would print."""
        return whole_text(self._tree, self._at)


def whole_text(tree: Tree, root: int) -> str:
    """What torch's `repr` gives of a module: from below, lists of equal modules folded."""
    order, stack = [], [root]
    while stack:
        at = stack.pop()
        order.append(at)
        stack += tree.below[at]
    texts: dict[int, str] = {}
    left = LONGEST
    for at in reversed(order):
        said, cut = tree.said[at], len(tree.names[at]) + 1 if tree.names[at] else 0
        below = [(escape(tree.names[child][cut:]), texts.pop(child)) for child in tree.below[at]]
        if said.kind == "ModuleList" or (said.basis != STATED and _is_numbered([label for label, _ in below])):
            inner, lines = list(_runs(below)), []
        else:
            inner, lines = [f"({label}): {text}" for label, text in below], said.extra.split("\n") if said.extra else []
        if left < 0 or (not inner and len(lines) < 2):
            texts[at] = Module(tree, at).text if left >= 0 else f"{escape(said.kind[:100]) or '?'}(...)"
            left -= len(texts[at])
            continue
        lines += [text.replace("\n", "\n  ") for text in inner]
        texts[at] = f"{escape(said.kind) or '?'}(\n  " + "\n  ".join(lines) + "\n)"
        left -= len(texts[at])
    return texts[root]


def _is_numbered(labels: list[str]) -> bool:
    return len(labels) > 1 and all(label == str(i) for i, label in enumerate(labels))


def _runs(below: list[tuple[str, str]]) -> Iterator[str]:
    """Lines of a ModuleList: neighbours that print the same, as one."""
    first = 0
    for i in range(1, len(below) + 1):
        if i == len(below) or below[i][1] != below[first][1]:
            n = i - first
            yield f"({first}): {below[first][1]}" if n == 1 else f"({first}-{i - 1}): {n} x {below[first][1]}"
            first = i


def modules_of(checkpoint: Names) -> Module:
    """The tree of a checkpoint, or of a branch of one; PthError as `Checkpoint.capacity` says."""
    walk = checkpoint._stated()
    names = checkpoint._list
    if walk is None:
        tree = Tree()
        tree.add_names(names, {}, {}, _believed(checkpoint._listed(), names))
        tree.settle(checkpoint, {})
    else:
        tree = walk.tree
        tree.add_names(names, walk.known, walk.owned)
        tree.settle(checkpoint, walk.owned)
    infer(tree, tree.shapes)
    return Module(tree, 0)


def _believed(listed: list[str], names: Sequence[str]) -> list[str]:
    """The list of modules in a state dict, if it names all that have tensors: keys are renamed, and it is forgotten."""
    there = {*listed}
    return listed if all(name[: max(name.rfind("."), name.rfind("/"), 0)] in there for name in names) else []
