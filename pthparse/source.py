"""Where the bytes come from: a path, a URL, bytes in memory, or an open file.

Metadata are read by `pread` into private memory: a file that is changed or cut meanwhile gives an error, never a fault.
Only tensor data are mapped, and only when an array without a copy is asked for.
"""

from __future__ import annotations

import io
import os
import stat
from _thread import allocate_lock as Lock  # threading itself takes longer to import

from .errors import FormatError, PthError, TruncatedError, UnsupportedError, escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, BinaryIO


class Source:
    """Bytes that can be read by offset.

    Attributes
    ----------
    path : str or None
        For messages and `Checkpoint.path`.
    size : int
        Bytes, when it was opened.
    afar : bool
        Does each read cost a journey? Then it pays to say beforehand what will be read.
    opened : object
        What tells this version of the file from another one; see `is_same`.
    """

    path: str | None = None
    size: int = 0
    base = 0  # where it begins in the file that `address` names
    mapped = True  # may view() map the file?
    afar = False
    opened: Any = None

    def window(self, offset: int, length: int) -> bytes | memoryview:
        """At most `length` bytes from `offset` on; fewer at the end."""
        raise AssertionError("abstract")

    def read(self, offset: int, length: int) -> bytes | memoryview:
        """Exactly `length` bytes; TruncatedError if they are not there."""
        data = self.window(offset, length)
        if len(data) != length:
            raise TruncatedError(
                "file-changed" if offset + length <= self.size else "file-truncated",
                f"{length} bytes are wanted, {len(data)} are there",
                path=self.path,
                offset=offset,
            )
        return data

    def fill(self, buffer: bytearray, offset: int, length: int) -> bytes | memoryview:
        """The same as `window`, for reading much: `buffer`, of at least `length` bytes, may be what is handed out."""
        return self.window(offset, length)

    def scatter(self, offsets: Iterable[int], length: int, out: memoryview, pitch: int) -> None:
        """`read` of each offset, into `out`: every `pitch` bytes of it."""
        for k, offset in enumerate(offsets):
            out[k * pitch : k * pitch + length] = self.read(offset, length)

    def prepare(self, extents: Iterable[tuple[int, int]]) -> None:
        """These (begin, end) will be read soon; what is far away is fetched together. Nothing is promised."""

    def held(self, extents: Iterable[tuple[int, int]]) -> Source:
        """A source to read these (begin, end) from, and no others: of what is far away, they in memory."""
        return self

    def view(self) -> Any:
        """A read-only buffer over everything, or None if there can be none."""
        return None

    def changed(self) -> bool:
        """Is it another file than when it was opened?"""
        return False

    def address(self) -> str | None:
        """How another process can open the file; None if it cannot."""
        return None

    def is_same(self, opened: Any) -> bool:
        """Is it the file that another process has opened?"""
        return bool(self.opened == opened)

    def close(self) -> None:
        """Buffers handed out stay valid."""


class SliceSource(Source):
    """A part of another source, as if it were a file of its own."""

    _whole: Source
    _offset: int

    def __init__(self, whole: Source, offset: int, length: int) -> None:
        self.path = whole.path
        self.size = max(0, min(length, whole.size - offset))
        if isinstance(whole, SliceSource):  # never a chain of them: pickles may follow each other by the thousand
            offset += whole._offset
            whole = whole._whole
        self._whole = whole
        self._offset = offset
        self.base = whole.base + offset
        self.afar, self.opened = whole.afar, whole.opened

    def prepare(self, extents: Iterable[tuple[int, int]]) -> None:
        self._whole.prepare(
            (self._offset + begin, self._offset + min(end, self.size)) for begin, end in extents if begin < self.size
        )

    def address(self) -> str | None:
        return self._whole.address()

    def held(self, extents: Iterable[tuple[int, int]]) -> Source:
        if not self.afar:
            return self
        inside = ((self._offset + begin, self._offset + min(end, self.size)) for begin, end in extents)
        return SliceSource(self._whole.held(inside), self._offset, self.size)

    def within(self) -> tuple[Source, int]:
        """What it is a part of, and where it begins there."""
        return self._whole, self._offset

    def window(self, offset: int, length: int) -> bytes | memoryview:
        return self._whole.window(self._offset + offset, min(length, max(0, self.size - offset)))

    def fill(self, buffer: bytearray, offset: int, length: int) -> bytes | memoryview:
        return self._whole.fill(buffer, self._offset + offset, min(length, max(0, self.size - offset)))

    def scatter(self, offsets: Iterable[int], length: int, out: memoryview, pitch: int) -> None:
        places = list(offsets)
        if places and max(places) + length > self.size:
            self.read(max(places), length)  # says what is missing
        self._whole.scatter((self._offset + offset for offset in places), length, out, pitch)


class MemorySource(Source):
    """Bytes in memory."""

    def __init__(self, data: Any) -> None:
        self._view = memoryview(data).cast("B").toreadonly()
        self.size = len(self._view)

    def window(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def view(self) -> memoryview:
        return self._view


class FileSource(Source):
    """A regular file, by descriptor; the part from `base` on."""

    def __init__(self, fd: int, path: str | None, base: int = 0) -> None:
        self._fd = fd
        self.base = base
        self._map: memoryview | None = None
        self._lock = Lock()
        self.path = path
        self.opened: tuple[int, int] = _state(fd)
        self.size = max(0, self.opened[0] - base)

    def _take(self) -> int:
        """The descriptor, until `_give`."""
        if self._fd < 0:
            raise closed(self.path)
        return self._fd

    def _give(self) -> None:
        pass

    def changed(self) -> bool:
        if self.closed:
            return False
        fd = self._take()
        try:
            return _state(fd) != self.opened
        finally:
            self._give()

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def window(self, offset: int, length: int) -> bytes:
        length = min(length, max(0, self.size - offset))
        fd = self._take()
        parts = []
        try:
            while length > 0:
                part = os.pread(fd, length, self.base + offset)
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                length -= len(part)
        except OSError as e:
            e.filename = self.path
            raise
        finally:
            self._give()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def address(self) -> str | None:
        return None if is_url(self.path) else self.path  # a path that only looks like one

    def borrow(self) -> int:
        """A descriptor that reads this file until `restore`, whoever closes the source meanwhile."""
        with self._lock:
            return os.dup(self._take())

    def restore(self, fd: int) -> None:
        os.close(fd)

    def fill(self, buffer: bytearray, offset: int, length: int) -> bytes | memoryview:
        if not hasattr(os, "preadv"):
            return self.window(offset, length)
        length = min(length, max(0, self.size - offset))
        fd = self._take()
        view = memoryview(buffer)[:length]
        have = 0
        try:
            while have < length:
                n = os.preadv(fd, [view[have:]], self.base + offset + have)
                if not n:
                    break
                have += n
        except OSError as e:
            e.filename = self.path
            raise
        finally:
            self._give()
        return view[:have]

    def scatter(self, offsets: Iterable[int], length: int, out: memoryview, pitch: int) -> None:
        if not hasattr(os, "preadv"):
            super().scatter(offsets, length, out, pitch)
            return
        last, fd = self.size - length, self._take()
        try:
            for k, offset in enumerate(offsets):
                part = out[k * pitch : k * pitch + length]
                if offset > last or os.preadv(fd, [part], self.base + offset) != length:
                    part[:] = self.read(offset, length)  # or says what is missing
        except OSError as e:
            e.filename = self.path
            raise
        finally:
            self._give()

    def view(self) -> memoryview | None:
        if not self.mapped:
            return None
        with self._lock:
            if self._map is None:
                fd = self._take()
                try:
                    import mmap

                    if os.fstat(fd).st_size <= self.base:
                        raise TruncatedError("file-changed", "nothing is left of the file", path=self.path)
                    whole = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
                finally:
                    self._give()
                self._map = memoryview(whole)[self.base :]
            return self._map

    def close(self) -> None:
        with self._lock:
            fd, self._fd, self._map = self._fd, -1, None
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


class Handles:
    """Bounds how many files are open: what was not used for longest is closed, and opened when it is needed."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: dict[OneOfMany, None] = {}  # in the order of their last use
        self.lock = Lock()

    def take(self, file: OneOfMany) -> int:
        with self.lock:
            if file.ended:
                raise closed(file.path)
            if file._fd < 0:
                file._fd = file.reopen()
            file.users += 1
            self.open.pop(file, None)
            self.open[file] = None
            if len(self.open) > self.most:
                for old in [f for f in self.open if not f.users][: len(self.open) - self.most]:
                    self.rest(old)
            return file._fd

    def rest(self, file: OneOfMany) -> None:
        self.open.pop(file, None)
        fd, file._fd, file._map = file._fd, -1, None  # arrays hold the map that they look at
        if fd >= 0:
            os.close(fd)

    def give(self, file: OneOfMany) -> None:
        with self.lock:
            file.users -= 1
            if file.ended and not file.users:
                self.rest(file)


class OneOfMany(FileSource):
    """A file whose descriptor may be given back between two reads; opened again, it must be the same file."""

    def __init__(self, path: str, handles: Handles, opens: Callable[[], FileSource] | None = None) -> None:
        self.users, self.ended, self.handles = 0, False, handles
        self._opens = opens or (lambda: open_path(path))
        found = self._opens()
        super().__init__(os.dup(found._fd), path)
        found.close()
        self._take()
        self._give()

    def reopen(self) -> int:
        found = self._opens()
        try:
            if found.opened != self.opened:
                raise TruncatedError("file-changed", "it is another file than the one that was opened", path=self.path)
            return os.dup(found._fd)
        finally:
            found.close()

    def _take(self) -> int:
        return self.handles.take(self)

    def _give(self) -> None:
        self.handles.give(self)

    def borrow(self) -> int:
        """Its one descriptor, which is not given back meanwhile: no more of them are open than are bounded."""
        return self._take()

    def restore(self, fd: int) -> None:
        self._give()

    @property
    def closed(self) -> bool:
        return self.ended

    def close(self) -> None:
        with self.handles.lock:
            self.ended = True
            if not self.users:
                self.handles.rest(self)

    def __del__(self) -> None:
        fd, self._fd = getattr(self, "_fd", -1), -1
        if fd >= 0:
            os.close(fd)


class StreamSource(Source):
    """A seekable binary file without a descriptor. Every read is a copy."""

    def __init__(self, file: BinaryIO, base: int) -> None:
        self._file = file
        self.base = base
        self._lock = Lock()
        self.size = max(0, file.seek(0, os.SEEK_END) - base)
        file.seek(base)

    def window(self, offset: int, length: int) -> bytes:
        with self._lock:
            back = self._file.tell()
            try:
                self._file.seek(self.base + offset)
                return self._file.read(min(length, max(0, self.size - offset)))
            finally:
                self._file.seek(back)


def _state(fd: int) -> tuple[int, int]:
    """Size and time of the last change, in ns."""
    found = os.fstat(fd)
    return found.st_size, found.st_mtime_ns


INDEX = ".index.json"  # how the name of the index of a model in several files ends


# Of files that are checkpoints by their names, which far away are not asked whether they are directories.
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pt2", ".ptl", ".pkl", ".tar")


def is_whole(path: Any) -> bool:
    """Is it the path of a directory, or of the index of a model in several files; or the URL of one?"""
    if not isinstance(path, (str, os.PathLike)):
        return False
    if isinstance(path, str) and is_afar(path):
        from .remote.directory import is_whole_url

        return is_whole_url(path)
    try:
        text = local_path(path)
    except PthError:  # whoever opens it says so
        return False
    return os.path.isdir(text) or text.endswith(INDEX)  # noqa: PTH112 - pathlib is slow to import


def is_afar(text: str) -> bool:
    """Is it a URL of what is not on this machine?"""
    return is_url(text) and not _is_file_url(text)


def _is_file_url(text: object) -> bool:
    return isinstance(text, str) and text[:7].lower() == "file://"


def local_path(path: str | os.PathLike[str]) -> str:
    """As text; of a `file://` URL, the path that it names."""
    text = os.fspath(path)
    if not isinstance(path, str) or not _is_file_url(path):
        return os.fsdecode(text)
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(path)
    if parts.netloc not in ("", "localhost"):
        raise UnsupportedError("url", f"a file of another machine ({escape(parts.netloc)})", path=path)
    return url2pathname(parts.path)


def closed(path: str | None) -> PthError:
    return PthError("closed", "the checkpoint is closed", path=path)


def open_again(address: str, opened: Any) -> Source:
    """What another process has opened.

    Raises
    ------
    TruncatedError
        It is another file now.
    """
    source = open_source(address)
    try:
        if not source.is_same(opened):
            raise TruncatedError("file-changed", "it is another file than the one that was opened", path=source.path)
    except BaseException:
        source.close()
        raise
    return source


def open_source(source: Any) -> Source:
    """A path, URL, bytes-like object or seekable binary file (from its current position on, as torch.load reads it).

    Text alone can be a URL. Who makes a path of names out of a file gives a `Path`, or asks `is_url`.
    """
    if isinstance(source, str) and is_url(source):
        return _open_url(source)
    if isinstance(source, (str, os.PathLike)):
        return open_path(os.fspath(source))
    if isinstance(source, io.BytesIO):
        return MemorySource(memoryview(source.getvalue())[source.tell() :])
    if _is_buffer(source):
        return MemorySource(source)
    if not (hasattr(source, "read") and hasattr(source, "seek")):
        raise TypeError(f"a path, bytes or a seekable binary file is wanted, not {type(source).__name__}")
    if isinstance(source, io.TextIOBase):
        raise TypeError("the file is open for text: open it with mode 'rb'")
    base = source.tell()
    try:
        fd = source.fileno()
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except (OSError, AttributeError):
        regular = False
    if regular and isinstance(source, (io.BufferedReader, io.BufferedRandom, io.FileIO)):
        name = getattr(source, "name", None)
        return FileSource(os.dup(fd), name if isinstance(name, str) else None, base)
    return StreamSource(source, base)


def is_url(text: object) -> bool:
    """Is it a URL (`https://...`, `simplecache::s3://...`), and no path? A letter and a colon are a drive."""
    if not isinstance(text, str) or "://" not in text:
        return False
    schemes = text.partition("://")[0].split("::")
    return all(
        len(s) > 1 and s.isascii() and s[0].isalpha() and s.replace("+", "").replace("-", "").replace(".", "").isalnum()
        for s in schemes
    )


def _open_url(url: str) -> Source:
    if _is_file_url(url):
        return open_path(local_path(url))
    from .remote import open_url

    return open_url(url)


def _is_buffer(source: Any) -> bool:
    try:
        memoryview(source)
    except TypeError:
        return False
    return True


def open_path(path: str | bytes, shown: str | None = None, follow: bool = True) -> FileSource:
    """shown: the path in messages. follow: False: a link is an error of the system."""
    name = shown or os.fsdecode(path)
    # O_NONBLOCK: a FIFO is refused instead of waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise UnsupportedError(
                "directory",
                "a directory: name one file in it (a model in several files has one checkpoint per file)",
                path=name,
            )
        if not stat.S_ISREG(mode):
            raise FormatError("not-a-file", "neither a file nor a link to one (FIFO, device, socket)", path=name)
        return FileSource(fd, name)
    except BaseException:
        os.close(fd)
        raise
