"""A source that is far away: what was fetched is kept for a while, and neighbours are fetched together."""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from ..errors import TruncatedError
from ..source import Source, closed

BLOCK = 1 << 12  # the least that is fetched: a small part's header with what follows it
LARGE = 1 << 20  # reads from here on are not kept: they are data
NEAR = 1 << 14  # bytes between two parts that are fetched along rather than by another request
KEPT = 1 << 25  # bytes of the cache
PREPARED = 1 << 24  # bytes that are fetched beforehand at once
PART = 1 << 23  # bytes of one request; what is larger is fetched by several at the same time


class Wire(Protocol):
    """How bytes come here: a protocol.

    Attributes
    ----------
    size : int
        Bytes of the file.
    head : bytes
        Its first bytes, as far as finding out its size has brought them.
    state : object
        What tells this version of the file from another one.
    """

    size: int
    head: bytes
    state: Any

    def fetch(self, parts: Sequence[tuple[int, memoryview]]) -> None:
        """Fills each buffer with the bytes from an offset on, several at the same time; raises if it cannot fill one.

        PthError: the file is another one now, and nothing else. OSError: whatever else keeps it from being read.
        """

    def changed(self) -> bool:
        """Is it another file than when it was opened?"""

    def is_same(self, state: Any) -> bool:
        """Is it the file of this state?"""


class Room:
    """Bounds what the files of a model keep together: the one that was read least lately forgets first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[RemoteSource, int] = OrderedDict()

    def keep(self, source: RemoteSource, nbytes: int) -> None:
        """It keeps so many bytes now."""
        late = []
        with self._lock:
            self._held.pop(source, None)
            if nbytes:
                self._held[source] = nbytes
            total = sum(self._held.values()) if len(self._held) > 1 else 0
            while total > KEPT and len(self._held) > 1:
                first, n = self._held.popitem(last=False)
                late.append(first)
                total -= n
        for first in late:
            first.forget()


class RemoteSource(Source):
    """A file that is read by ranges; threads may share it.

    Memory: 32 MiB of what was read last, in all files of one `room`, and what a caller asks for.
    """

    afar = True

    def __init__(self, wire: Wire, path: str, room: Room | None = None, address: str | None = None) -> None:
        self._wire: Wire | None = wire
        self._room, self._address = room, address
        self.path, self.opened = path, wire.state
        self.size = wire.size
        self._lock = threading.Lock()
        self._parts: OrderedDict[int, memoryview] = OrderedDict()  # by first byte, the oldest first
        self._starts: list[int] = []
        self._held = 0
        self._next, self._block = -1, BLOCK  # where a read would go on, and how much would be fetched then
        if wire.head:
            self._keep([(0, memoryview(wire.head))])

    # ---- what is here ----

    def _at(self, offset: int) -> memoryview | None:
        """What is kept from an offset on."""
        i = bisect_right(self._starts, offset)
        if not i:
            return None
        start = self._starts[i - 1]
        part = self._parts[start]
        self._parts.move_to_end(start)
        return part[offset - start :] if offset < start + len(part) else None

    def _lookup(self, begin: int, end: int) -> tuple[list[tuple[int, memoryview]], list[tuple[int, int]]]:
        """What is kept of a range, and what is missing of it."""
        found, missing = [], []
        with self._lock:
            at = begin
            while at < end:
                part = self._at(at)
                if part is not None:
                    part = part[: end - at]
                    found.append((at, part))
                    at += len(part)
                    continue
                i = bisect_right(self._starts, at)
                stop = min(end, self._starts[i]) if i < len(self._starts) else end
                missing.append((at, stop))
                at = stop
        return found, missing

    def _keep(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        with self._lock:
            for start, part in parts:
                before = self._parts.pop(start, None)
                if before is None:
                    insort(self._starts, start)
                elif len(before) > len(part):
                    part = before
                self._held += len(part) - (0 if before is None else len(before))
                self._parts[start] = part
            while self._held > KEPT and len(self._parts) > 1:
                start, part = self._parts.popitem(last=False)
                self._held -= len(part)
                del self._starts[bisect_right(self._starts, start) - 1]
            held = self._held
        if self._room is not None:
            self._room.keep(self, held)

    def forget(self) -> None:
        """What is kept is fetched again, if it is asked for."""
        with self._lock:
            self._parts.clear()
            self._starts.clear()
            self._held = 0

    # ---- what is not ----

    def _fetch(self, parts: list[tuple[int, memoryview]]) -> None:
        wire = self._wire
        if wire is None:
            raise closed(self.path)
        wire.fetch(
            [
                (start + at, into[at : at + PART])
                for start, into in parts
                for at in range(0, len(into), PART)
                if len(into)
            ]
        )

    def _load(self, extents: Iterable[tuple[int, int]]) -> list[tuple[int, memoryview]]:
        """Some ranges, neighbours together; as many as are fetched beforehand at once."""
        joined: list[tuple[int, int]] = []
        size = 0
        for begin, end in sorted((max(0, begin), min(end, self.size)) for begin, end in extents):
            near = bool(joined) and begin <= joined[-1][1] + NEAR
            more = max(0, end - (joined[-1][1] if near else begin))
            if size + more > PREPARED or not more:
                continue
            size += more
            if near:
                joined[-1] = joined[-1][0], end
            else:
                joined.append((begin, end))
        made = [(at, memoryview(bytearray(stop - at))) for at, stop in joined]
        if made:
            self._fetch(made)
        return [(at, part.toreadonly()) for at, part in made]

    def prepare(self, extents: Iterable[tuple[int, int]]) -> None:
        missing = [hole for begin, end in extents for hole in self._lookup(max(0, begin), min(end, self.size))[1]]
        self._keep(self._load(missing))

    def held(self, extents: Iterable[tuple[int, int]]) -> Source:
        return Held(self, self._load(extents))

    def window(self, offset: int, length: int) -> bytes | memoryview:
        length = min(length, max(0, self.size - offset))
        if self._wire is None:
            raise closed(self.path)
        if length <= 0:
            return b""
        end = offset + length
        found, missing = self._lookup(offset, end)
        if not missing and len(found) == 1:
            return found[0][1]
        out = memoryview(bytearray(length))
        for at, part in found:
            out[at - offset : at - offset + len(part)] = part
        if length >= LARGE:
            self._fetch([(at, out[at - offset : stop - offset]) for at, stop in missing])
            return out.toreadonly()
        made = []
        for at, stop in missing:
            stop = max(stop, min(at + self._following(at), self.size)) if stop == end else stop
            made.append((at, memoryview(bytearray(stop - at))))
        if made:
            self._fetch(made)
            self._next = made[-1][0] + len(made[-1][1])
        for at, part in made:
            few = min(len(part), end - at)
            out[at - offset : at - offset + few] = part[:few]
        self._keep((at, part.toreadonly()) for at, part in made)
        return out.toreadonly()

    def _following(self, at: int) -> int:
        """How much to fetch at least: more and more while one read follows the other."""
        self._block = min(self._block * 2, LARGE) if at == self._next else BLOCK
        return self._block

    def changed(self) -> bool:
        return self._wire is not None and self._wire.changed()

    def address(self) -> str | None:
        return self._address

    def is_same(self, opened: Any) -> bool:
        return self._wire is not None and self._wire.is_same(opened)

    def close(self) -> None:
        self._wire = None
        self.forget()
        if self._room is not None:
            self._room.keep(self, 0)


class Held(Source):
    """Parts of another source that one reader has fetched for itself; whatever else is asked for is that one's."""

    afar = True

    def __init__(self, whole: RemoteSource, parts: list[tuple[int, memoryview]]) -> None:
        self.path, self.size = whole.path, whole.size
        self._whole = whole
        self._parts = parts
        self._starts = [start for start, _ in parts]

    def held(self, extents: Iterable[tuple[int, int]]) -> Source:
        return self

    def window(self, offset: int, length: int) -> bytes | memoryview:
        i = bisect_right(self._starts, offset)
        if i:
            start, part = self._parts[i - 1]
            if offset + length <= start + len(part):
                return part[offset - start : offset - start + length]
        return self._whole.window(offset, length)


def cut(path: str, offset: int, wanted: int, got: int) -> TruncatedError:
    """The file has become shorter than it was."""
    text = f"the file was cut while it was read: {wanted} bytes are wanted, {got} are there"
    return TruncatedError("file-changed", text, path=path, offset=offset)
