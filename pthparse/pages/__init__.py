"""A checkpoint as a page: one HTML file that needs nothing else; and as pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..wording import base_name

if TYPE_CHECKING:
    from typing import BinaryIO

    from ..checkpoint import Checkpoint

FIGURES = ("treemap", "tree", "histograms")


def title_of(path: Any) -> str:
    """What a page calls a file: its name, without the folder."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return base_name(text) or "checkpoint"


def page(
    source: str | os.PathLike[str] | bytes | BinaryIO | Checkpoint,
    *,
    title: str | None = None,
    stats: bool = True,
    other: str | os.PathLike[str] | bytes | BinaryIO | Checkpoint | None = None,
    other_title: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """A checkpoint as one HTML page, which needs nothing else and fetches nothing.

    The same file gives the same text.

    Parameters
    ----------
    source : whatever `pthparse.open` takes, or an opened checkpoint
    title : str, optional
        Default: the file's name, without its folder.
    stats : bool
        False: nothing is read but the structure, and a few elements of each tensor.
    other : the same as source, optional
        Shown beside it, with what is different.
    other_title : str, optional
    progress : callable, optional
        Called now and then with (bytes read, bytes to be read), for the statistics.

    Raises
    ------
    PthError
        A file cannot be read.
    """
    from ..checkpoint import Checkpoint
    from ..checkpoint import open as open_checkpoint
    from .facts import facts_of
    from .html import page_of

    if not isinstance(source, Checkpoint):
        with open_checkpoint(source, mmap=False) as opened:
            named = title or title_of(source)
            return page(opened, title=named, stats=stats, other=other, other_title=other_title, progress=progress)
    if other is not None and not isinstance(other, Checkpoint):
        with open_checkpoint(other, mmap=False) as opened:
            told = other_title or title_of(other)
            return page(source, title=title, stats=stats, other=opened, other_title=told, progress=progress)
    found = facts_of(source, title or title_of(source.path), stats, progress)
    if other is None:
        return page_of(found)
    from ..differ import diff

    beside = facts_of(other, other_title or title_of(other.path), False)
    return page_of(found, beside, diff(source, other))


def pictures(
    source: str | os.PathLike[str] | bytes | BinaryIO | Checkpoint,
    *,
    title: str | None = None,
    figures: Sequence[str] = FIGURES,
    to: str = "svg",
    stats: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, bytes]:
    """Pictures of a checkpoint, by their names: 'treemap', 'tree', 'histograms'.

    Parameters
    ----------
    source : whatever `pthparse.open` takes, or an opened checkpoint
    title : str, optional
        Default: the file's name, without its folder.
    figures : sequence of str
        These alone.
    to : 'svg', 'png' or 'pdf'
        The last two need the extra `pictures`.
    stats : bool
        False: no histograms, and no data is read.
    progress : callable, optional
        As for `page`.

    Raises
    ------
    PthError
        The file cannot be read, or has nothing to draw; UnsupportedError: the extra is not there.
    """
    from ..checkpoint import Checkpoint
    from ..checkpoint import open as open_checkpoint
    from .drawings import converter, drawings

    if not isinstance(source, Checkpoint):
        with open_checkpoint(source, mmap=False) as opened:
            named = title or title_of(source)
            return pictures(opened, title=named, figures=figures, to=to, stats=stats, progress=progress)
    convert = converter(to)
    from .facts import facts_of

    found = facts_of(source, title or title_of(source.path), stats and "histograms" in figures, progress)
    return {name: convert(text) for name, text in drawings(found, figures).items()}
