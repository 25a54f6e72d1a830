"""Tensors on their way from one file to another, in pieces: copied as they lie, or gathered, changed and written.

The same pieces are gone through twice: to write them, and to compare what was written with what was to be written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import FormatError
from .pieces import Box, Lie, boxes, gather, runs
from .source import FileSource, SliceSource, Source
from .team import together
from .writers.base import put

if TYPE_CHECKING:
    from numpy.typing import NDArray

COPY = 1 << 24  # bytes that are copied from file to file at once
READ = 1 << 19  # bytes of a buffer that is compared, or copied where the system does not copy
SMALL = 1 << 18  # bytes of a tensor that is read together with its neighbours
BATCH = 1 << 20  # bytes of those together
NEAR = 1 << 14  # bytes between two of them that are read along
ALONE = 1 << 22  # bytes that are not worth a thread
MOST_THREADS = 4

Change = Callable[["NDArray[Any]"], "NDArray[Any]"]


class Move(NamedTuple):
    """A tensor: where its elements lie, what becomes of them (None: they stay), bytes of one then, where it goes."""

    name: str
    source: Source
    lie: Callable[[], Lie]
    change: Change | None
    itemsize: int
    nbytes: int
    offset: int


class Copy(NamedTuple):
    """Bytes that go as they lie."""

    source: Source
    start: int
    offset: int
    nbytes: int

    def blocks(self) -> Iterator[tuple[int, Any]]:
        buffer = bytearray(min(READ, self.nbytes))
        for at in range(0, self.nbytes, READ):
            length = min(READ, self.nbytes - at)
            data = self.source.fill(buffer, self.start + at, length)
            if len(data) < length:
                data = self.source.read(self.start + at, length)  # says what is missing
            yield self.offset + at, data

    def write(self, fd: int) -> None:
        done = self._by_the_system(fd)
        for offset, data in Copy(self.source, self.start + done, self.offset + done, self.nbytes - done).blocks():
            put(fd, data, offset)

    def _by_the_system(self, fd: int) -> int:
        """How many bytes the system copied from file to file. Where it cannot, or there are none, the rest is read."""
        source, start = self.source, self.start
        if isinstance(source, SliceSource):
            start += source._offset
            source = source._whole
        if not isinstance(source, FileSource) or not hasattr(os, "copy_file_range"):
            return 0
        here, done = source.duplicate(), 0
        try:
            while done < self.nbytes:
                n = os.copy_file_range(here, fd, self.nbytes - done, source.base + start + done, self.offset + done)
                if not n:
                    break
                done += n
        except OSError as e:
            if e.errno in NO_ROOM:
                raise
        finally:
            os.close(here)
        return done


# What another way of writing would not help against: no space, a quota, a limit on files.
NO_ROOM = frozenset((28, 122, 27))


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

    def write(self, fd: int) -> None:
        for offset, data in self.blocks():
            put(fd, data, offset)


class Piece(NamedTuple):
    """Elements that are gathered, or changed."""

    move: Move
    lie: Lie
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
        found = gather(self.lie, move.source, self.box)
        if self.lie.swap > 1:
            found = found.reshape(-1).view(f"u{self.lie.swap}").byteswap()
        made = found if move.change is None else move.change(found.reshape(-1))
        size = move.itemsize
        data = np.ascontiguousarray(made).reshape(-1).view(np.uint8).data
        for to, at, n in runs(self.lie.dims, self.box):
            yield move.offset + to * size, data[at * size : (at + n) * size]

    def write(self, fd: int) -> None:
        for offset, data in self.blocks():
            put(fd, data, offset)


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
        lie = move.lie()
        plain = move.change is None and lie.together and lie.swap == 1 and lie.data is None
        if plain and move.nbytes <= SMALL:
            if move.source is not source or offset + size != move.offset or size + move.nbytes > BATCH:
                yield from batch()
                source, offset, size = move.source, move.offset, 0
            parts.append((lie.offset, move.nbytes))
            size += move.nbytes
        elif plain:
            for at in range(0, move.nbytes, COPY):
                yield Copy(move.source, lie.offset + at, move.offset + at, min(COPY, move.nbytes - at))
        else:
            for box in boxes(lie):
                yield Piece(move, lie, box)
    yield from batch()


class Work:
    """Jobs that threads take, one after the other."""

    def __init__(self, moves: Sequence[Move], do: Callable[[Job], None], told: Callable[[int], None] | None) -> None:
        self.total = sum(move.nbytes for move in moves)
        self.jobs = jobs(moves)
        self.do, self.told = do, told
        self.lock = threading.Lock()
        self.done = 0
        self.stopped = False

    def run(self, threads: int | None) -> None:
        """Does all of it; raises what one of the jobs raised."""
        if threads == 1 or self.total < ALONE:
            self._run(self._tick)
        else:
            together(self._run, self._stop, min(threads or MOST_THREADS, MOST_THREADS), self._tick)
        self._tick()

    def _stop(self) -> None:
        self.stopped = True

    def _tick(self) -> None:
        if self.told is not None:
            self.told(self.done)

    def _run(self, tick: Callable[[], None] | None = None) -> None:
        while not self.stopped:
            with self.lock:
                job = next(self.jobs, None)
            if job is None:
                return
            self.do(job)
            with self.lock:
                self.done += job.nbytes
            if tick is not None:
                tick()


def write(moves: Sequence[Move], fd: int, threads: int | None, told: Callable[[int], None] | None) -> None:
    """Writes tensors to a file. What is copied is copied by one thread at a time: a file has one writer."""
    lock = threading.Lock()

    def do(job: Job) -> None:
        if isinstance(job, Copy):
            with lock:
                job.write(fd)
        else:
            job.write(fd)

    Work(moves, do, told).run(threads)


def compare(moves: Sequence[Move], fd: int, path: str, threads: int | None, told: Callable[[int], None] | None) -> None:
    """Reads tensors back, and compares every byte with what it was made of.

    Raises
    ------
    FormatError
        They differ.
    """
    import bisect

    starts = [move.offset for move in moves]

    def do(job: Job) -> None:
        for offset, data in job.blocks():
            # Views are compared one byte at a time, bytes at the speed of memory.
            if os.pread(fd, len(data), offset) != (bytes(data) if isinstance(data, memoryview) else data):
                i = bisect.bisect_right(starts, offset) - 1
                raise FormatError(
                    "read-back", f"tensor {moves[i].name!r}: what was written is not what was to be written", path=path
                )

    Work(moves, do, told).run(threads)
