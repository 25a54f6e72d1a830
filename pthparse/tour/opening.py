"""What parts of the tour share: the file that is looked into, its tensors, and where they are looked for."""

from __future__ import annotations

from functools import cached_property
from itertools import islice

from ..errors import PthError
from ..wording import shape
from .elements import FLOATS, readable
from .words import Own, Section, Table, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..capacity import Capacity
    from ..checkpoint import Checkpoint, Names
    from ..tensor import Tensor

MOST_LOOKED_AT = 20_000  # tensors, in search of one to show
MOST_MADE_OF = 100  # tensors made of others, in search of one of those
MOST_ERROR = 300  # characters
DTYPES = ("float32", "bfloat16", "float16", "float64")


class Subject:
    """A checkpoint on tour."""

    def __init__(self, ckpt: Checkpoint, words: Words) -> None:
        self.ckpt, self.say = ckpt, words

    @cached_property
    def capacity(self) -> Capacity:
        return self.ckpt.capacity()

    @cached_property
    def several(self) -> bool:
        return hasattr(self.ckpt, "shards")

    @cached_property
    def first(self) -> Checkpoint | None:
        """The file itself, or the first of several that can be read."""
        ckpt: Any = self.ckpt
        return next((found for _, found in ckpt._each()), None) if self.several else self.ckpt

    @cached_property
    def model(self) -> Names:
        return self.ckpt.state_dict()

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The first of the model, under their whole names."""
        prefix = self.model.prefix
        return list(islice((t for t in self.ckpt.values() if t.name.startswith(prefix)), MOST_LOOKED_AT))

    @cached_property
    def by_name(self) -> dict[str, Tensor]:
        return {t.name: t for t in self.tensors}

    @cached_property
    def example(self) -> Tensor | None:
        """The tensor that is followed: the first float32, or of the next best type."""
        found = [t for t in self.tensors if readable(t)]
        if not found:
            others = [*self.tensors[:MOST_MADE_OF], *islice(self.ckpt.values(), MOST_MADE_OF)]
            found = [leaf for t in others for leaf in _leaves(t) if readable(leaf)]

        def worth(t: Tensor) -> tuple[bool, int]:
            order = DTYPES.index(t.dtype) if t.dtype in DTYPES else len(DTYPES) + (t.dtype not in FLOATS)
            return (t.kind != "dense", order)

        return min(found, key=worth, default=None)

    @cached_property
    def _kinds(self) -> dict[str, tuple[str, str]]:
        """Class and basis of each module that the module tree has."""
        try:
            root: Any = getattr(self.model, "modules", None)
            modules = () if root is None else islice(root.walk(), MOST_LOOKED_AT)
            return {m.name: (m.kind, m.basis) for m in modules if m.basis in ("stated", "inferred")}
        except PthError:
            return {}

    def kind_of(self, module: str) -> tuple[str, str]:
        """What class a module is of, and on whose word; ('', 'unknown') where the module tree says nothing."""
        return self._kinds.get(module[len(self.model.prefix) :], ("", "unknown"))

    def name(self, t: Any) -> str:
        """Of a tensor; a bare one has none."""
        return t.name or self.say("no-name")


def _leaves(t: Any) -> list[Tensor]:
    """The tensors with bytes of their own that it is made of."""
    try:
        return [] if t.error is not None else list(t.leaves())
    except PthError:
        return []


def hex_of(raw: bytes, most: int = 8) -> str:
    text = raw[:most].hex(" ")
    return f"{text} .." if len(raw) > most else text


def dims(sizes: Any) -> Own:
    return Own(shape(sizes))


def section(
    say: Words, part: int, key: str, blocks: list[Any], facts: dict[str, Any], applies: bool = True, title: str = ""
) -> Section:
    return Section(part, key, say(title or f"{key}.title"), applies, tuple(b for b in blocks if b), facts)


def unreadable(say: Words, part: int, key: str, error: PthError) -> Section:
    told = say.escaped(error.message[:MOST_ERROR])
    return section(say, part, key, [say("tensor.unreadable", error=told)], {}, applies=False)


def table(say: Words, heads: tuple[str, ...], right: str, rows: list[tuple[Any, ...]]) -> Table:
    """heads: keys of texts; right: a letter for each column, 'r' of those with numbers."""
    cells = tuple(tuple(say.format_field(cell, "") for cell in row) for row in rows)
    return Table(tuple(str(say(head)) if head else "" for head in heads), tuple(c == "r" for c in right), cells)
