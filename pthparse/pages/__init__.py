"""A checkpoint as a page: one HTML file that needs nothing else; and as pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def _opened(source: Any, title: str | None) -> Iterator[tuple[Checkpoint, str]]:
    """A checkpoint, and what the page calls it; what was open stays open."""
    from ..checkpoint import Checkpoint
    from ..checkpoint import open as open_checkpoint

    if isinstance(source, Checkpoint):
        yield source, title or title_of(source.path)
        return
    with open_checkpoint(source, mmap=False) as opened:
        yield opened, title or title_of(source)


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
    from .facts import facts_of
    from .html import page_of

    with _opened(source, title) as (ckpt, named):
        found = facts_of(ckpt, named, stats, progress)
        if other is None:
            return page_of(found)
        from ..differ import diff

        with _opened(other, other_title) as (beside, told):
            return page_of(found, facts_of(beside, told, False), diff(ckpt, beside))


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
    from .drawings import converter, drawings
    from .facts import facts_of

    convert = converter(to)
    with _opened(source, title) as (ckpt, named):
        found = facts_of(ckpt, named, stats and "histograms" in figures, progress)
    return {name: convert(text) for name, text in drawings(found, figures).items()}
