"""A directory that is far away: its files by URLs, and what is in it where the protocol can tell."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ..directories import FILE, FOLDER, LINK, OTHER, Directory, Find, Located
from ..errors import PthError, UnsupportedError
from ..source import ENDINGS, INDEX
from . import filesystem_of, is_web, open_url, shown
from .cache import Room

if TYPE_CHECKING:
    from ..source import Source

KINDS = {"file": FILE, "directory": FOLDER, "link": LINK}


class RemoteDirectory(Directory):
    """What stands before the names of the files in their URLs, and what behind: a query, or what they lie in."""

    afar = True

    def __init__(self, before: str, after: str = "") -> None:
        super().__init__(shown(before + after))
        self.top = None
        self._before, self._after = before, after
        self._web = is_web(before)

    # ---- what is in it ----

    @cached_property
    def _listing(self) -> list[tuple[str, str]]:
        if self._web:
            text = "a web server does not tell what is in it: name the index"
            raise UnsupportedError("directory", text, path=self.path)
        before = self._before if self._before.endswith("://") else self._before.rstrip("/")
        fs, path = filesystem_of(before + self._after)
        try:
            fs.invalidate_cache(path)
            rows = fs.ls(path, detail=True)
            found = {
                str(row["name"]).rstrip("/").rpartition("/")[2]: KINDS.get("link" if row.get("islink") else row["type"])
                for row in rows
                if str(row["name"]).strip("/") != path.strip("/")  # the directory itself, as some tell it
            }
        except Exception as e:  # whatever the protocol's package says
            raise _told(e, self.path) from e
        return sorted((name, kind or OTHER) for name, kind in found.items() if name not in ("", ".", ".."))

    def entries(self) -> list[tuple[str, str]]:
        return self._listing

    def present(self) -> frozenset[str] | None:
        if self._web:
            return None
        try:
            return frozenset(name for name, _ in self._listing)
        except OSError:  # who may read a file need not be allowed to list
            return None

    def kind(self, name: str) -> str:
        return OTHER

    def is_safe(self, name: str, find: Find, told: str | None = None) -> bool:
        """A link of another machine leads nobody knows where."""
        if self._web or (name, LINK) not in self._links:
            return True
        find("shard-link", told or name)
        return False

    @cached_property
    def _links(self) -> frozenset[tuple[str, str]]:
        try:
            return frozenset(row for row in self._listing if row[1] == LINK)
        except OSError:
            return frozenset()

    def stays(self, name: str) -> bool:
        return False

    # ---- what is named ----

    def where(self, name: str) -> str:
        return self._before + self._quoted(name) + self._after

    def _quoted(self, name: str) -> str:
        if "::" in name or "/" in name:
            raise UnsupportedError("url", f"a name that means something else in a URL: {name[:200]!r}", path=self.path)
        return quote(name, safe="", errors="replace") if self._web else name

    def shown(self, name: str) -> str:
        return shown(self.where(name))

    def size(self, name: str) -> int:
        source = self.open(name)
        source.close()
        return source.size

    def open(self, name: str, given: bool = False) -> Source:
        return open_url(self.where(name))

    def opener(self, most: int) -> Callable[[str], Source]:
        """Nothing is open between two reads; what is kept of all of them together is bounded."""
        room = Room()
        return lambda name: open_url(self.where(name), room)

    def below(self, name: str) -> Directory:
        return RemoteDirectory(f"{self._before}{self._quoted(name)}/", self._after)


def _told(error: Exception, path: str) -> OSError:
    from .filesystem import told  # it needs fsspec, which is there if it could raise

    return told(error, path)


def parts_of(url: str) -> tuple[str, str, str]:
    """What stands before the last name of a URL's path, the name, and what stands behind it."""
    start = url.index("://") + 3
    web = is_web(url)
    ends = [at for mark in (("::", "?", "#") if web else ("::",)) if (at := url.find(mark, start)) >= 0]
    end = min(ends, default=len(url))
    slash = max(url.rfind("/", start, end) + 1, start)
    name, after = url[slash:end], url[end:]
    return url[:slash], unquote(name) if web else name, after.partition("#")[0] if web else after


def is_whole_url(url: str) -> bool:
    """Is it the index of a model in several files, or, where the protocol knows such, a directory?"""
    name = parts_of(url)[1]
    if name.endswith(INDEX):
        return True
    if is_web(url) or name.lower().endswith(ENDINGS):
        return False
    try:
        fs, path = filesystem_of(url)
        return bool(fs.isdir(path))
    except PthError:  # whoever opens it says so
        return False
    except Exception as e:  # whatever the protocol's package says
        raise _told(e, shown(url)) from e


def locate_url(url: str) -> Located:
    """The directory that is named, or that of a file, and the file's name."""
    before, name, after = parts_of(url)
    if name and (name.endswith(INDEX) or not is_whole_url(url)):
        return Located(shown(url), RemoteDirectory(before, after), name)
    return Located(shown(url), RemoteDirectory(f"{before}{name}/" if name else before, after), None)
