"""Every protocol of fsspec but http: its own packages ask for the ranges, what comes is counted."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fsspec import AbstractFileSystem

from ..errors import PthError, UnsupportedError, escape
from .cache import cut

TIMEOUT = 120.0  # seconds for one request
AT_ONCE = 8  # requests
MARKS = ("ETag", "etag", "blob_id", "LastModified", "last_modified", "mtime", "updated", "created")
THREADED = frozenset(("hf",))  # protocols without an asynchronous package, whose requests share nothing


class FilesystemWire:
    """A file of one of fsspec's filesystems."""

    head = b""

    def __init__(self, fs: Any, name: str, path: str) -> None:
        self._fs, self._name, self._path = fs, name, path
        found = self._info()
        if found.get("type") == "directory":
            raise UnsupportedError("directory", "a directory: name one file in it", path=path)
        size = found.get("size")
        if not isinstance(size, int) or size < 0:
            raise UnsupportedError(
                "no-ranges", "its size is not known, so that no part of it can be asked for", path=path
            )
        self.size = size
        self.state = self._marks(found)
        # fsspec's own way opens the file, and would fetch some MB more than it is asked for.
        plain = getattr(getattr(fs, "cat_file", None), "__func__", None) is AbstractFileSystem.cat_file
        self._how = {"cache_type": "none"} if plain else {}
        protocols = getattr(fs, "protocol", ())
        self._threaded = not THREADED.isdisjoint((protocols,) if isinstance(protocols, str) else protocols)

    def _info(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._fs.info(self._name)
        except Exception as e:
            raise told(e, self._path) from e
        return found

    @staticmethod
    def _marks(found: dict[str, Any]) -> list[str]:
        return [str(found.get(name)) for name in ("size", *MARKS)]

    def changed(self) -> bool:
        self._fs.invalidate_cache(self._name)
        try:
            return self._marks(self._info()) != self.state
        except FileNotFoundError:
            return True

    def is_same(self, state: Any) -> bool:
        return bool(self.state == state)

    def fetch(self, parts: Sequence[tuple[int, memoryview]]) -> None:
        fs = self._fs
        try:
            if getattr(fs, "async_impl", False):
                asyncio.run_coroutine_threadsafe(self._together(parts), fs.loop).result()
                return
            if self._threaded and len(parts) > 1:
                with ThreadPoolExecutor(AT_ONCE) as executor:
                    list(executor.map(self._get, parts))
                return
            for part in parts:
                self._get(part)
        except PthError:
            raise
        except Exception as e:
            raise told(e, self._path) from e

    def _get(self, part: tuple[int, memoryview]) -> None:
        start, into = part
        self._fill(start, into, self._fs.cat_file(self._name, start=start, end=start + len(into), **self._how))

    async def _together(self, parts: Sequence[tuple[int, memoryview]]) -> None:
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(start: int, into: memoryview) -> None:
            async with turns, asyncio.timeout(TIMEOUT):
                data = await self._fs._cat_file(self._name, start=start, end=start + len(into))
            self._fill(start, into, data)

        await together([one(start, into) for start, into in parts])

    def _fill(self, start: int, into: memoryview, data: Any) -> None:
        if len(data) < len(into):
            raise cut(self._path, start, len(into), len(data))
        if len(data) > len(into):
            raise OSError(errno.EIO, f"{len(into)} bytes were asked for, {len(data)} came", self._path)
        into[:] = data


async def together(work: Sequence[Any]) -> None:
    """All of it; if one fails, the others are stopped, and no longer write anywhere."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def told(error: Exception, path: str) -> OSError:
    """As an error of the system, with the name of the file."""
    if isinstance(error, TimeoutError):
        return TimeoutError(errno.ETIMEDOUT, "no answer in time", path)
    text = escape(str(error))[:200] or type(error).__name__
    if isinstance(error, OSError):
        code = error.errno if error.errno and error.errno > 0 else None
        if code is None:
            code = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}.get(type(error), errno.EIO)
        if error.strerror or text in path:  # some say the name, and no more
            text = escape(error.strerror or os.strerror(code))
        return OSError(code, text, path)
    return OSError(errno.EIO, f"{type(error).__name__}: {text}", path)
