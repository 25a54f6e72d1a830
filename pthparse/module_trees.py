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

    __slots__ = (
        "_left",
        "below",
        "buffers",
        "names",
        "nbytes",
        "own",
        "params",
        "said",
        "shapes",
        "structure",
        "tensors",
    )

    def __init__(self) -> None:
        self._left = 0  # characters of modules' names
        self.names: list[str] = []
        self.below: list[list[int]] = []
        self.own: list[list[int]] = []
        self.said: list[Said] = []
        self.structure: list[int] = []
        self.params: list[int] = []
        self.nbytes: list[int] = []
        self.shapes: Sequence[tuple[int, ...]] = ()
        self.tensors: Sequence[str] = ()
        self.buffers: list[bool] = []  # of each tensor: is it one?

    def add(self, name: str, parent: int, said: Said = UNSAID) -> int:
        """A new module, below its parent; its row."""
        at = len(self.names)
        if at:
            self.below[parent].append(at)
        self.names.append(name)
        self.below.append([])
        self.own.append([])
        self.said.append(said)
        return at

    def add_names(
        self, names: Sequence[str], known: dict[str, int], owned: Mapping[int, bool], listed: Sequence[str] = ()
    ) -> None:
        """Modules by the names of tensors that are not owned yet; what lies in an object of the file stays in it.

        listed: names of modules that are there in any case, in their order.
        """
        if not self.names:
            known[""] = self.add("", 0)
        self._left = (1 << 20) + 4 * (sum(map(len, names)) + sum(map(len, listed)))
        for module in listed:
            if module not in known:
                self._row(module, known)
        for i, name in enumerate(names):
            if i not in owned:
                end = max(name.rfind("."), name.rfind("/"), 0)
                at = known.get(name[:end])
                self.own[self._row(name[:end], known) if at is None else at].append(i)

    def _row(self, module: str, known: dict[str, int]) -> int:
        """The row of a module, new if need be; of the module around it where no more are allowed."""
        ends: list[int] = []
        if len(module) < 2 * DEEPEST or module.count(".") + module.count("/") < DEEPEST:
            end = len(module)  # the way up is short: what is around it mostly is there
            while (at := known.get(module[:end])) is None:
                ends.append(end)
                end = max(module.rfind(".", 0, end), module.rfind("/", 0, end), 0)
        else:
            at, cuts = 0, list(_cuts(module))
            while cuts and (row := known.get(module[: cuts[0]])) is not None:
                at, cuts = row, cuts[1:]
            ends = cuts[::-1]
        while ends:
            end = ends.pop()
            self._left -= end
            if self._left < 0 or self.said[at].basis == STATED:
                break
            at = known[module[:end]] = self.add(module[:end], at)
        return at

    def settle(self, checkpoint: Names, owned: Mapping[int, bool]) -> None:
        """Sums and structures, from below. owned: of tensors that lie in an object of the file, is it a buffer?"""
        roles, elements, sizes = checkpoint._amounts()
        self.tensors, buffer = checkpoint._list, ROLES.index(BUFFERS)
        self.buffers = [role == buffer for role in roles]
        for i, is_buffer in owned.items():
            self.buffers[i] = is_buffer
        known: dict[Any, int] = {}
        shape_of, shapes = [], []
        for t in checkpoint._tensors():
            shapes.append(t.shape)
            shape_of.append(known.setdefault((shapes[-1], t.dtype), len(known)))
        self.shapes = shapes
        n = len(self.names)
        params, nbytes, structure = self.params, self.nbytes, self.structure = [0] * n, [0] * n, [0] * n
        names, tensors = self.names, self.tensors
        known = {}
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


def _cuts(module: str) -> Iterator[int]:
    """Where modules end in the name of one, the outermost first; no more than are allowed."""
    for levels, cut in enumerate(SEPARATOR.finditer(module, 1)):
        if levels == DEEPEST:
            return
        yield cut.start()
    yield len(module)
