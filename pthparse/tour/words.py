"""The words of a language, with values put into them: what comes out of a file is escaped and shortened on its way."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from ..errors import escape
from ..record import Record
from ..wording import printable, share, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LANGUAGES = ("en", "zh")
NAME = 40  # cells of a text out of a file


class Own(str):
    """Text that is already fit to be shown: our own, or escaped."""

    __slots__ = ()


class Words(Formatter):
    """A language.

    Texts are templates: `{n}` is a number with separators, or a text out of a file, escaped and shortened; `{n:d}` has
    no separators; `{n:#byte}` counts, `{n:#size}` has both units, `{pair:#share}` is what per cent one number is of
    another.
    """

    def __init__(self, lang: str) -> None:
        if lang == "en":
            from . import en as words
        elif lang == "zh":
            from . import zh as words  # type: ignore[no-redef]
        else:
            raise ValueError(f"lang must be one of {', '.join(LANGUAGES)}, not {lang!r}")
        self.lang = lang
        self.texts: Mapping[str, str] = words.TEXTS
        self.nouns: Mapping[str, tuple[str, str]] = words.NOUNS
        self.opcodes: Mapping[str, str] = words.OPCODES

    def __call__(self, key: str, /, **values: Any) -> Own:
        return Own(self.vformat(self.texts[key], (), values))

    def opcode(self, name: str, argument: Any) -> Own:
        """What an opcode does."""
        return Own(self.vformat(self.opcodes[name], (), {"argument": argument}))

    def has(self, key: str) -> bool:
        return key in self.texts

    def share(self, part: int, whole: int) -> Own:
        return Own(share(part, whole))

    def escaped(self, text: str) -> Own:
        """A text out of a file, of any length."""
        return Own(escape(text))

    def format_field(self, value: Any, spec: str) -> str:
        if isinstance(value, Own):
            return value
        if isinstance(value, str):
            return printable(value, NAME)
        if spec == "#share":
            return share(*value)
        if spec == "#size":
            return self.size(value)
        if spec.startswith("#"):
            one, many = self.nouns[spec[1:]]
            return (one if value == 1 else many).format(f"{value:,}")
        if spec:
            return format(value, spec)
        if isinstance(value, bool) or value is None:
            return str(value)
        if isinstance(value, int):
            return f"{value:,}"
        return format(value, ".7g") if isinstance(value, float) else self.format_field(str(value), "")

    def size(self, n: int) -> str:
        """Exact bytes first, both units named."""
        exact = self.format_field(n, "#byte")
        both = units(n)
        return self.texts["size"].format(exact=exact, decimal=both[0], binary=both[1]) if both else exact


class Table(Record):
    """Rows of text under heads. A column of numbers is aligned to the right; the last one may be wrapped."""

    heads: tuple[str, ...]
    right: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(Record):
    """A part of the tour.

    Attributes
    ----------
    part : int
        Its number; the same for every file and language.
    key : str
        Its name; the same for every file and language.
    title : str
    applies : bool
        False: the file has nothing for it, and `blocks` say why.
    blocks : tuple of str and Table
        Paragraphs and tables, in their order. All text is fit for a terminal.
    facts : dict
        The same as plain values, whatever the language.
    """

    part: int
    key: str
    title: str
    applies: bool
    blocks: tuple[Any, ...]
    facts: dict[str, Any]

    @property
    def text(self) -> str:
        """Its paragraphs, with an empty line between them."""
        return "\n\n".join(block for block in self.blocks if isinstance(block, str))

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the text, and the tables apart."""
        tables = [{"heads": list(b.heads), "rows": [list(r) for r in b.rows]} for b in self.blocks if type(b) is Table]
        told = {"part": self.part, "key": self.key, "title": self.title, "applies": self.applies}
        return {**told, "text": self.text, "tables": tables, "facts": self.facts}
