"""A directory with the files of a model, here or far away: what is in it, and its files by their names.

Names come out of files, so each is one plain name; nothing here leaves the directory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import _core
from .errors import UnsupportedError
from .source import FileSource, Handles, OneOfMany, is_afar, local_path, open_path

if TYPE_CHECKING:
    from .source import Source

MOST_ENTRIES = 100_000
FILE, FOLDER, LINK, OTHER = "file", "folder", "link", "other"

Find = Callable[..., None]  # (code, member, message=None)


class Directory:
    """One of this machine. `names` and what asks for it raise OSError where it cannot be listed.

    Attributes
    ----------
    path : str
        For messages.
    top : str or None
        The directory that links may not leave: this one, or one above; None where there are no links.
    afar : bool
        Does each question cost a journey?
    """

    afar = False

    def __init__(self, path: str, top: str | None = None) -> None:
        self.path = path
        self.top: str | None = path if top is None else top  # links may lead to whatever is below

    # ---- what is in it ----

    def entries(self) -> list[tuple[str, str]]:
        """(name, kind) in the order of names."""
        with os.scandir(self.path) as entries:
            return sorted((entry.name, _kind(entry)) for entry in entries)

    def names(self) -> list[str]:
        """In their order.

        Raises
        ------
        UnsupportedError
            There are too many.
        """
        names = [name for name, _ in self.entries()]
        if len(names) > MOST_ENTRIES:
            raise UnsupportedError("directory", f"a directory of more than {MOST_ENTRIES:,} entries", path=self.path)
        return names

    def present(self) -> frozenset[str] | None:
        """The names in it, at once: an index may ask for any number of them. None: only asking for a file tells."""
        try:
            return frozenset(os.listdir(self.path))  # noqa: PTH208
        except OSError:  # whoever opens a file says so
            return frozenset()

    def kind(self, name: str) -> str:
        """Of a link, what it leads to."""
        path = Path(self.where(name))
        return FILE if path.is_file() else FOLDER if path.is_dir() else OTHER

    def is_safe(self, name: str, find: Find, told: str | None = None) -> bool:
        """Is it no link, or one that stays inside, or one of a download cache (snapshots/<revision>/x -> blobs/<hash>)?

        told: its name in findings.
        """
        path = self.where(name)
        if not os.path.islink(path) or self._allows(os.path.realpath(path)):  # noqa: PTH114
            return True
        find("shard-link", told or name)
        return False

    def _allows(self, target: str) -> bool:
        inside = Path(os.path.realpath(self.top or self.path))
        allowed = [inside]
        if inside.parent.name == "snapshots":
            allowed.append(inside.parent.parent / "blobs")
        return any(Path(target).is_relative_to(folder) for folder in allowed)

    def stays(self, name: str) -> bool:
        """Is what a link leads to below the directory?"""
        return Path(os.path.realpath(self.where(name))).is_relative_to(os.path.realpath(self.top or self.path))

    # ---- what is named ----

    def where(self, name: str) -> str:
        """How whoever opens it names it, in another process too."""
        return str(Path(self.path, name))

    def shown(self, name: str) -> str:
        """The same for messages."""
        return self.where(name)

    def size(self, name: str) -> int:
        return os.stat(self._path(name)).st_size  # noqa: PTH116

    def open(self, name: str, given: bool = False) -> Source:
        """given: somebody named this file, not only the directory, so a link is followed wherever it leads."""
        return open_path(self._path(name)) if given else self._open(name)

    def _path(self, name: str) -> str:
        path = self.where(name)
        try:
            os.fsencode(path)
        except UnicodeEncodeError:  # no file can have such a name
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        return path

    def _open(self, name: str) -> FileSource:
        """A link is followed by its rule at the moment of opening, whatever it was when it was looked at."""
        path = target = self._path(name)
        if os.path.islink(path):  # noqa: PTH114
            target = os.path.realpath(path)
            if not self._allows(target):
                raise UnsupportedError("shard-link", _core.FINDINGS["shard-link"][1], path=path)
        return open_path(target, path, follow=False)

    def opener(self, most: int) -> Callable[[str], Source]:
        """Opens files by their names, of which no more than `most` are open at a time."""
        handles = Handles(most)
        return lambda name: OneOfMany(self.where(name), handles, lambda: self._open(name))

    def below(self, name: str) -> Directory:
        """A directory in it."""
        return Directory(self.where(name), self.top)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return LINK
    return FOLDER if entry.is_dir(follow_symlinks=False) else FILE if entry.is_file(follow_symlinks=False) else OTHER


class Located(NamedTuple):
    """What was asked for: as a text for messages, its directory, and the name of the file if it is one."""

    text: str
    directory: Directory
    name: str | None


def locate(source: str | os.PathLike[str]) -> Located:
    """The directory that is named, or that of a file, and the file's name."""
    if isinstance(source, str) and is_afar(source):
        from .remote.directory import locate_url

        return locate_url(source)
    text = local_path(source)
    top = Path(text)
    if top.is_dir():
        return Located(text, Directory(str(top)), None)
    return Located(text, Directory(str(top.parent)), top.name)
