"""Tensors on their way from one file to another, in pieces: copied as they lie, or gathered, changed and written.

What was written is read back while what it was made of is still at hand, and compared byte by byte.
"""

from __future__ import annotations

import bisect
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import FormatError
from .mosaics import Mosaic
from .pieces import Box, Lie, boxes, gather, runs
from .source import Source
from .team import crew, processors, share
from .writers.base import put

if TYPE_CHECKING:
    from numpy.typing import NDArray

COPY = 1 << 24  # bytes that a thread copies before it takes other ones
STEP = 1 << 19  # of these: bytes that are read and written at once
SMALL = 1 << 18  # bytes of a tensor that is read together with its neighbours
BATCH = 1 << 20  # bytes of those together
NEAR = 1 << 14  # bytes between two of them that are read along
MOST_THREADS = 4
SYNC = 1 << 24  # bytes after which the system is asked to bring them to the disk

Change = Callable[["NDArray[Any]"], "NDArray[Any]"]


class Move(NamedTuple):
    """A tensor: where its elements lie, what becomes of them (None: they stay), bytes of one then, where it goes.

    lie: the first byte, of those that are copied as they lie in the source.
    """

    name: str
    source: Source
    lie: int | Callable[[], Lie | Mosaic]
    change: Change | None
    itemsize: int
    nbytes: int
    offset: int


class Copy(NamedTuple):
    """Bytes that go as they lie.

    They are read and written half a MiB at a time, each from a round place in the new file on: that is faster than
    `copy_file_range` and `sendfile`, which hand on pages, since tensors begin at other places of a page here and there.
    """

    source: Source
    start: int
    offset: int
    nbytes: int

    def blocks(self) -> Iterator[tuple[int, Any]]:
        buffer = bytearray(min(STEP, self.nbytes))
        source = self.source
        if source.afar:  # all of it by one journey
            source = source.held([(self.start, self.start + self.nbytes)])
        at = 0
        while at < self.nbytes:
            length = min(STEP - (self.offset + at) % STEP, self.nbytes - at)
            data = source.fill(buffer, self.start + at, length)
            if len(data) < length:
                data = source.read(self.start + at, length)  # says what is missing
            yield self.offset + at, data
            at += length


class Batch(NamedTuple):
    """Small tensors that will stand one behind the other: (first byte in the source, bytes) of each."""

    source: Source
    offset: int
    parts: tuple[tuple[int, int], ...]

    @property
    def nbytes(self) -> int:
        return sum(n for _, n in self.parts)

    def blocks(self) -> Iterator[tuple[int, Any]]:
        out = bytearray(self.nbytes)
        rows, at = [], 0
        for start, n in self.parts:
            rows.append((start, n, at))
            at += n
        rows.sort()
        i = 0
        while i < len(rows):
            first, end, j = rows[i][0], rows[i][0] + rows[i][1], i + 1
            while j < len(rows) and rows[j][0] <= end + NEAR and rows[j][0] + rows[j][1] - first <= BATCH:
                end = max(end, rows[j][0] + rows[j][1])
                j += 1
            data = memoryview(self.source.read(first, end - first))
            for start, n, at in rows[i:j]:
                out[at : at + n] = data[start - first : start - first + n]
            i = j
        yield self.offset, out


class Piece(NamedTuple):
    """Elements that are gathered, or changed."""

    move: Move
    lie: Lie | Mosaic
    box: Box

    @property
    def nbytes(self) -> int:
        n = 1
        for _, few in self.box:
            n *= few
        return n * self.move.itemsize

    def blocks(self) -> Iterator[tuple[int, Any]]:
        import numpy as np

        move = self.move
        lie = self.lie
        found = lie.gather(self.box) if isinstance(lie, Mosaic) else gather(lie.part(self.box), move.source)
        made = found if move.change is None else move.change(found.reshape(-1))
        size = move.itemsize
        data = np.ascontiguousarray(made).reshape(-1).view(np.uint8).data
        for to, at, n in runs(lie.dims, self.box):
            yield move.offset + to * size, data[at * size : (at + n) * size]


Job = Copy | Batch | Piece


def jobs(moves: Iterable[Move]) -> Iterator[Job]:
    """The work, in the order of the file that is written. Where elements lie is looked up when their turn comes."""
    source: Source | None = None
    offset = size = 0
    parts: list[tuple[int, int]] = []

    def batch() -> Iterator[Job]:
        if source is not None and parts:
            yield Batch(source, offset, tuple(parts))
        parts.clear()

    for move in moves:
        if not move.nbytes:
            continue
        at = move.lie if isinstance(move.lie, int) else None
        lie = None if isinstance(move.lie, int) else move.lie()
        if isinstance(lie, Mosaic):
            for box in lie.boxes():
                yield Piece(move, lie, box)
            continue
        if lie is not None and move.change is None and lie.together and lie.swap == 1 and lie.data is None:
            at = lie.offset
        if at is not None and move.nbytes <= SMALL:
            if move.source is not source or offset + size != move.offset or size + move.nbytes > BATCH:
                yield from batch()
                source, offset, size = move.source, move.offset, 0
            parts.append((at, move.nbytes))
            size += move.nbytes
        elif at is not None:
            done = 0
            while done < move.nbytes:
                length = min(COPY - (move.offset + done) % COPY, move.nbytes - done)
                yield Copy(move.source, at + done, move.offset + done, length)
                done += length
        elif lie is not None:
            for box in boxes(lie):
                yield Piece(move, lie, box)
    yield from batch()


def write(
    moves: Sequence[Move], fd: int, path: str, verify: bool, threads: int | None, told: Callable[[int], None] | None
) -> None:
    """Writes tensors to a file. It has one writer at a time, and others read, gather, cast and compare meanwhile.

    verify: each block is read back at once, and compared with what it was made of, which is at hand then. The system is
    asked now and then to bring to the disk what there is, so that less is left to wait for at the end.

    Raises
    ------
    FormatError
        What was written reads back otherwise.
    """
    lock = threading.Lock()
    written = done = 0
    sync = getattr(os, "fdatasync", os.fsync)
    with ThreadPoolExecutor(1) as pool:
        syncing: Future[None] | None = None  # the system tells of an error once: it is never passed over

        def do(job: Job) -> None:
            nonlocal written, done, syncing
            buffer = bytearray(STEP if verify else 0)
            for offset, data in job.blocks():
                with lock:
                    put(fd, data, offset)
                if verify and not _equal(fd, offset, data, buffer):
                    i = bisect.bisect_right(moves, offset, key=lambda move: move.offset) - 1
                    message = f"tensor {moves[i].name!r}: what was written is not what was to be written"
                    raise FormatError("read-back", message, path=path)
            with lock:
                written, done = written + job.nbytes, done + job.nbytes
                if written >= SYNC and (syncing is None or syncing.done()):
                    if syncing is not None:
                        syncing.result()
                    written, syncing = 0, pool.submit(sync, fd)

        few = crew(sum(move.nbytes for move in moves), min(threads or processors(), MOST_THREADS))
        share(jobs(moves), lambda _: do, few, None if told is None else lambda: told(done))
        if syncing is not None:
            syncing.result()


def _equal(fd: int, offset: int, data: Any, buffer: bytearray) -> bool:
    """Are these the bytes of the file? Views are compared one byte at a time, bytes at the speed of memory."""
    whole = data.obj if isinstance(data, memoryview) else data
    if len(data) == len(buffer) and isinstance(whole, (bytes, bytearray)) and len(whole) == len(buffer):
        return _fill(fd, offset, buffer) == len(buffer) and buffer == whole
    return os.pread(fd, len(data), offset) == (bytes(data) if isinstance(data, memoryview) else data)


def _fill(fd: int, offset: int, buffer: bytearray) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [buffer], offset)
    data = os.pread(fd, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)
