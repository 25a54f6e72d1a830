"""The tree under a model's modules: columns, a row for each module, and how names make one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from .capacity import BUFFERS, ROLES

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
        self.buffers: list[bool] = []  # of each tensor: is it one?

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

    def add_names(self, names: Sequence[str], known: dict[str, int], owned: Mapping[int, bool]) -> None:
        """Modules by the names of tensors that are not owned yet; what lies in an object of the file stays in it."""
        if not self.names:
            known[""] = self.add("", 0)
        left = (1 << 20) + 4 * sum(map(len, names))  # characters of modules' names
        for i, name in enumerate(names):
            if i in owned:
                continue
            at = known.get(name[: max(name.rfind("."), name.rfind("/"), 0)])
            if at is None:
                at = 0
                for end in _cuts(name):
                    module = name[:end]
                    row = known.get(module)
                    if row is None:
                        left -= end
                        if left < 0 or self.said[at].basis == STATED:
                            break
                        row = known[module] = self.add(module, at)
                    at = row
            self.own[at].append(i)

    def settle(self, checkpoint: Names, owned: Mapping[int, bool]) -> None:
        """Sums and structures, from below. owned: of tensors that lie in an object of the file, is it a buffer?"""
        roles, elements, sizes = checkpoint._amounts()
        self.tensors, buffer = checkpoint._list, ROLES.index(BUFFERS)
        self.buffers = [role == buffer for role in roles]
        for i, is_buffer in owned.items():
            self.buffers[i] = is_buffer
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


def _cuts(name: str) -> Iterator[int]:
    """Where the modules that a name lies in end, the outermost first; no more than are allowed."""
    for levels, cut in enumerate(SEPARATOR.finditer(name, 1)):
        if levels == DEEPEST:
            return
        yield cut.start()
