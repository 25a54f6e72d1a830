"""Ranges of a file on a web server. Each answer is checked against what was asked for, and no more is read than that.

The session is fsspec's, so that its configuration holds (headers, authentication, proxies); its own reading of ranges
would take the whole file from a server that has none.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Sequence
from typing import Any

import aiohttp

from ..errors import PthError, TruncatedError, UnsupportedError, escape
from .filesystem import together

HEAD = 4096  # bytes of the first request
AT_ONCE = 16  # requests
CONNECT, SILENCE = 15.0, 30.0  # seconds until a connection stands; without a byte
SLOWEST = 1 << 15  # bytes a second, over all of a request
ATTEMPTS, PAUSE = 3, 0.2  # of what may be a passing trouble; the pause is four times as long each time
PASSING = frozenset((429, 500, 502, 503, 504))
LONGEST = 1 << 62
RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
MEANINGS = {
    401: errno.EACCES, 403: errno.EACCES, 407: errno.EACCES, 404: errno.ENOENT, 408: errno.ETIMEDOUT,
    410: errno.ENOENT, 504: errno.ETIMEDOUT,
}  # fmt: skip


class HttpWire:
    """A file on a web server, by GET requests of ranges."""

    def __init__(self, fs: Any, url: str, path: str) -> None:
        self._fs, self._url, self._path = fs, url, path
        self.state: tuple[int, str | None, str | None] | None = None  # size, and the marks of this version
        self._changed = False
        self._web = url[:6].lower() == "https:"
        buffer = bytearray(HEAD)
        self._run([(0, memoryview(buffer))])
        assert self.state is not None
        self.size = self.state[0]
        self.head = bytes(buffer[: self.size])

    def changed(self) -> bool:
        return self._changed

    def fetch(self, parts: Sequence[tuple[int, memoryview]]) -> None:
        if self._changed:
            raise self._other(parts[0][0])
        self._run(parts)

    def _run(self, parts: Sequence[tuple[int, memoryview]]) -> None:
        """Has the loop of fsspec do it. Every request has an end, so this has one."""
        future = asyncio.run_coroutine_threadsafe(self._together(parts), self._fs.loop)
        try:
            future.result()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as e:
            if isinstance(e, PthError):
                raise
            raise self._told(e) from e
        except BaseException:
            future.cancel()
            raise

    async def _together(self, parts: Sequence[tuple[int, memoryview]]) -> None:
        session = await self._fs.set_session()
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(start: int, into: memoryview) -> None:
            async with turns:
                await self._persist(session, start, into)

        await together([one(start, into) for start, into in parts])

    async def _persist(self, session: Any, start: int, into: memoryview) -> None:
        """Once more, where a server was busy or a connection broke."""
        for left in reversed(range(ATTEMPTS)):
            try:
                if await self._get(session, start, into, left > 0):
                    return
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, aiohttp.ClientOSError) as e:
                if not left or isinstance(e, aiohttp.ClientConnectorError):
                    raise
            await asyncio.sleep(PAUSE * 4 ** (ATTEMPTS - 1 - left))

    async def _get(self, session: Any, start: int, into: memoryview, again: bool) -> bool:
        """One request; False: the server is busy, and may be asked again."""
        how = dict(self._fs.kwargs)
        headers = {**how.pop("headers", {})}
        headers |= {"Range": f"bytes={start}-{start + len(into) - 1}", "Accept-Encoding": "identity"}
        how["timeout"] = aiohttp.ClientTimeout(
            total=CONNECT + SILENCE + len(into) / SLOWEST, sock_connect=CONNECT, sock_read=SILENCE
        )
        async with session.get(self._fs.encode_url(self._url), headers=headers, **how) as answer:
            try:
                if again and answer.status in PASSING:
                    return False
                await self._read(answer, start, into)
            except BaseException:
                answer.close()  # what is left of the body is not waited for
                raise
            return True

    async def _read(self, answer: Any, start: int, into: memoryview) -> None:
        length = self._length(answer, start, len(into))
        at = 0
        async for chunk in answer.content.iter_any():
            if at + len(chunk) > length:
                raise OSError(errno.EPROTO, f"the server sends more than the {length} bytes that were asked for")
            into[at : at + len(chunk)] = chunk
            at += len(chunk)
        if at < length:
            raise OSError(errno.EPROTO, f"the server sends {at} of the {length} bytes that were asked for")

    def _length(self, answer: Any, start: int, wanted: int) -> int:
        """How many bytes follow, if this is the answer to what was asked."""
        if self._web and any(str(step.url.scheme) != "https" for step in (*answer.history, answer)):
            raise OSError(errno.EACCES, "the server leads from https to http")
        status, headers = answer.status, answer.headers
        part = headers.get("Content-Range", "")
        if self.state is None and (
            (status == 416 and part == "bytes */0") or (status == 200 and headers.get("Content-Length") == "0")
        ):
            self.state = 0, None, None
            return 0
        if status == 416 and self.state is not None:
            self._changed = True
            raise self._other(start)
        if status == 200:
            raise self._no_parts(self._whole(headers, wanted))
        if status != 206:
            reason = escape(str(answer.reason or ""))[:100]
            raise OSError(MEANINGS.get(status, errno.EIO), f"the server says {status} {reason}".rstrip())
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self._no_parts("the server compresses what it sends, against the request")
        told = RANGE.fullmatch(part)
        if told is None:
            said = escape(part)[:100] or "nothing"
            raise self._no_parts(f"the server does not say which part of how large a file it sends, but {said!r}")
        first, last, size = (int(n) for n in told.groups())
        if size > LONGEST:
            raise OSError(errno.EPROTO, f"the server says that the file has {size} bytes")
        self._compare(size, headers, start)
        if (first, last) != (start, min(start + wanted, size) - 1):
            asked = f"bytes {start}-{start + wanted - 1}"
            raise OSError(errno.EPROTO, f"{asked} were asked for, the server sends {first}-{last}")
        length = last - first + 1
        if headers.get("Content-Length", str(length)) != str(length):
            said = escape(headers["Content-Length"])[:20]
            raise OSError(errno.EPROTO, f"{length} bytes were asked for, the server announces {said}")
        return length

    def _no_parts(self, text: str) -> Exception:
        """At the first request, the server has no ranges; later, it has them and fails."""
        if self.state is None:
            return UnsupportedError("no-ranges", text, path=self._path)
        return OSError(errno.EPROTO, text)

    def _other(self, start: int) -> PthError:
        text = "the file on the server was changed while it was read"
        return TruncatedError("file-changed", text, path=self._path, offset=start)

    @staticmethod
    def _whole(headers: Any, wanted: int) -> str:
        held = headers.get("Content-Length", "")
        parts = [f"{int(held):,} bytes"] if held.isdecimal() and len(held) < 20 else []
        if kind := escape(headers.get("Content-Type", ""))[:60]:
            parts.append(kind)
        more = f" ({', '.join(parts)})" if parts else ""
        page = "if it is the page of a directory, name a file in it, or the index of a model in several; else "
        return (
            f"the server gives no parts of files: asked for {wanted} bytes it sends the whole{more}; "
            f"{page if kind.startswith('text/html') else ''}download it, and open the copy"
        )

    def _compare(self, size: int, headers: Any, start: int) -> None:
        """Is it still the same file?"""
        state = size, headers.get("ETag"), headers.get("Last-Modified")
        if self.state is None:
            self.state = state
        if not self.is_same(state):
            self._changed = True
            raise self._other(start)

    def is_same(self, state: Any) -> bool:
        """By the size and one mark that both have: servers that share the work need not agree on more."""
        mine = self.state
        assert mine is not None
        before, now = next((pair for pair in zip(mine[1:], state[1:], strict=True) if all(pair)), (None, None))
        return bool(state[0] == mine[0]) and before == now

    def _told(self, error: Exception) -> OSError:
        """As an error of the system, with the name of the file."""
        if isinstance(error, TimeoutError):
            return TimeoutError(errno.ETIMEDOUT, "the server does not answer in time", self._path)
        if isinstance(error, aiohttp.ClientConnectorError):
            code = error.errno if error.errno and error.errno > 0 else errno.EHOSTUNREACH
            return OSError(code, f"no connection: {escape(str(error))[:200]}", self._path)
        if isinstance(error, aiohttp.TooManyRedirects):
            return OSError(errno.ELOOP, "the server redirects again and again", self._path)
        if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionError)):
            return ConnectionResetError(errno.ECONNRESET, "the server closed the connection too early", self._path)
        if isinstance(error, OSError) and error.errno is not None:
            return OSError(error.errno, error.strerror or type(error).__name__, self._path)
        if isinstance(error, (ValueError, aiohttp.NonHttpUrlClientError)):  # of the URL's parts, or of a redirect's
            return OSError(errno.EINVAL, "not a URL that can be asked for, or one leads there", self._path)
        # Most errors of aiohttp spell the URL out, with what it hides.
        text = error.message if isinstance(error, aiohttp.ClientResponseError) else type(error).__name__
        return OSError(errno.EPROTO, f"not an answer of HTTP: {escape(text)[:200]}", self._path)
