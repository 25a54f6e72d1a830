"""A tour of a checkpoint in plain words: what stands where, and what it means. Texts are in en.py and zh.py."""

from __future__ import annotations

from ..checkpoint import open as open_checkpoint
from ..record import Record
from .words import LANGUAGES, Section, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import Any

    from ..checkpoint import Checkpoint
    from .opening import Subject

__all__ = ["LANGUAGES", "PARTS", "Section", "Tour", "Words", "explain", "tour_of"]

PARTS = ("container", "structure", "tensor", "linear", "embedding", "capacity", "absent", "shards")
LONGEST_NAME = 60  # that is shown in a command


class Tour(Record):
    """A checkpoint explained, in the order of the file.

    Attributes
    ----------
    lang : str
        'en' or 'zh'.
    title, intro : str
    sections : tuple of Section
        One for each part, or the one that was asked for.
    outro : str
    steps : tuple of (tuple of str, str)
        What to try next: words of a command, in which FILE stands for the file, and what it answers.
    """

    lang: str
    title: str
    intro: str
    sections: tuple[Section, ...]
    outro: str
    steps: tuple[tuple[tuple[str, ...], str], ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict of plain values."""
        steps = [{"words": list(words), "text": text} for words, text in self.steps]
        return {**super().to_dict(), "sections": [s.to_dict() for s in self.sections], "steps": steps}


def explain(source: str | os.PathLike[str], lang: str = "en", part: int | None = None) -> Tour:
    """A tour of a checkpoint, for people who want to understand it. Reads a few of its numbers.

    Parameters
    ----------
    source : str or os.PathLike
        Whatever `pthparse.open` opens by a path.
    lang : 'en' or 'zh'
    part : int, optional
        1 to 8: this part alone.

    Raises
    ------
    PthError
        The file cannot be read.
    """
    with open_checkpoint(source, mmap=False) as ckpt:
        return tour_of(ckpt, lang, part)


def tour_of(ckpt: Checkpoint, lang: str = "en", part: int | None = None) -> Tour:
    """A tour of an open checkpoint: see `explain`."""
    from . import absent, containers, followed, layers, opening, pickles, sizes

    say = Words(lang)
    subject = opening.Subject(ckpt, say)
    makers = (
        containers.container,
        pickles.structure,
        followed.followed,
        layers.linear,
        layers.embedding,
        sizes.sizes,
        absent.absent,
        sizes.pieces,
    )
    if part is not None and not 1 <= part <= len(makers):
        raise ValueError(f"part must be 1 to {len(makers)}, not {part}")
    chosen = makers if part is None else makers[part - 1 : part]
    sections = tuple(make(subject) for make in chosen)
    steps = tuple(_steps(subject)) if part is None else ()
    return Tour(
        lang,
        say("title", size=ckpt.nbytes),
        say("intro.several" if subject.several else "intro"),
        sections,
        say("outro") if steps else "",
        steps,
    )


def _steps(subject: Subject) -> Iterator[tuple[tuple[str, ...], str]]:
    say, t = subject.say, subject.example
    if t is not None and t.name in subject.ckpt and t.name.isprintable() and len(t.name) <= LONGEST_NAME:
        index = [*["0"] * (len(t.shape) - 1), ":4"] if t.shape else []
        yield ("show", "FILE", f"{t.name}[{', '.join(index)}]" if index and t.name else t.name), say("outro.show")
    for verb in (*(("tree",) if hasattr(subject.ckpt, "modules") else ()), "ls", "capacity", "audit"):
        yield (verb, "FILE"), say(f"outro.{verb}")
