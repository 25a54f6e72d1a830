"""Files that appear whole or not at all: written under temporary names beside their own, synced, then renamed.

A temporary name is `.NAME.pthparse-XXXXXXXX.tmp`, so what a killed run leaves is known for what it is. A folder that is
not there yet is made under such a name too, and appears with everything in it. One that is replaced is set aside for
the time of two renames, as `.NAME.pthparse-old-XXXXXXXX.tmp`: a crash in between leaves both, under these names.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = ".pthparse-"
LONGEST = 255  # bytes of a name, of most file systems


class Outputs:
    """Files of one folder that get their names together.

    fresh: the folder itself is new, or replaces the one that is there.
    """

    def __init__(self, folder: Path, *, fresh: bool) -> None:
        self.folder, self.fresh = folder, fresh
        self.mark = f"{MARK}{secrets.token_hex(4)}.tmp"
        self.made: dict[str, Path] = {}  # name -> where it is now
        self.named: list[Path] = []
        self.work = folder
        if fresh:
            with told_of(folder):
                self.work = folder.parent / hidden(folder.name, self.mark)
                self.work.mkdir()

    def create(self, name: str) -> int:
        """A new file, open for reading and writing."""
        with told_of(self.folder / name):
            path = self.work / (name if self.fresh else hidden(name, self.mark))
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        self.made[name] = path
        return fd

    def commit(self, names: Sequence[str], *, overwrite: bool, stale: Collection[Path] = ()) -> None:
        """Gives the files their names, in this order; `stale` ones, of what is replaced, are removed.

        The files must be synced already.

        Raises
        ------
        FileExistsError
            Another file has got one of the names meanwhile; nothing is left then.
        """
        if self.fresh:
            sync(self.work)
            self._commit_folder(overwrite)
            sync(self.folder.parent)
            return
        # What says that the old ones belong together goes first: in between there is no model rather than a mixed one.
        for path in stale if len(names) > 1 else ():
            if path.suffix == ".json":
                path.unlink(missing_ok=True)
        for name in names:
            path = self.folder / name
            if overwrite:
                self.made[name].replace(path)
            else:
                _place(self.made[name], path)
            self.named.append(path)
            del self.made[name]
        for path in stale:
            if path.name not in names:
                path.unlink(missing_ok=True)
        self.named = []
        sync(self.folder)

    def _commit_folder(self, overwrite: bool) -> None:
        old = self.folder.parent / hidden(self.folder.name, f"{MARK}old-{self.mark[len(MARK) :]}")
        if overwrite and os.path.lexists(self.folder):
            self.folder.rename(old)
        try:
            self.work.rename(self.folder)  # onto an empty folder, or onto nothing
        except BaseException:
            if old.exists():
                old.rename(self.folder)
            raise
        self.made = {}
        self.fresh = False
        _remove(old)

    def discard(self) -> None:
        """Removes whatever was not committed. May be called at any time, and twice."""
        for path in (*self.made.values(), *self.named):
            with suppress(OSError):
                path.unlink()
        if self.fresh:
            _remove(self.work)
        self.made, self.named = {}, []


def write(path: Path, parts: Iterable[bytes]) -> None:
    """One file of bytes, in the place of what had its name."""
    if path.exists() and not path.is_file():  # a pipe, a terminal
        with path.open("wb") as file:
            file.writelines(parts)
        return
    outputs = Outputs(path.parent, fresh=False)
    try:
        with os.fdopen(outputs.create(path.name), "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        outputs.commit([path.name], overwrite=True)
    except BaseException:
        outputs.discard()
        raise


def hidden(name: str, mark: str) -> str:
    """A temporary name. Of a long one it has the end, which tells the files of a model apart."""
    data, room = os.fsencode(name), LONGEST - len(mark) - 1
    if len(data) > LONGEST:  # said now, and not when everything was written
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return f".{data[-room:].decode(errors='ignore')}{mark}"


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """What the system says to a temporary name, of the one that was asked for."""
    try:
        yield
    except OSError as e:
        e.filename = str(path)
        raise


def _place(here: Path, there: Path) -> None:
    """A rename that replaces nothing."""
    try:
        os.link(here, there)
    except FileExistsError:
        raise
    except OSError:  # no second names on this file system
        if os.path.lexists(there):
            raise FileExistsError(17, "File exists", str(there)) from None
        here.rename(there)
    else:
        here.unlink()


def _remove(folder: Path) -> None:
    """A flat folder of ours."""
    with suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def sync(path: Path) -> None:
    """What was written to a file, or the names in a folder, to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as e:
        if not path.is_dir():  # not every file system can sync a folder
            e.filename = str(path)
            raise
    finally:
        os.close(fd)
