"""CRC-32 of parts of files: large ones in pieces, small ones many at once, in threads that need no GIL, or elsewhere.

Data are read into one buffer a thread, small enough to stay in the processor's cache between the reading and the sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import FormatError, PthError, TruncatedError
from .source import MemorySource, SliceSource, Source, open_again
from .team import AFAR, bundles, call_all, is_near, share, submit

if TYPE_CHECKING:
    from concurrent.futures import Executor

BUFFER = 1 << 20
PIECE = 1 << 24  # of a large part: what a thread takes at once
AHEAD = 1 << 22  # of a file that is far away: what a thread fetches at once
TASK = 1 << 23  # of what is done elsewhere
FEW_BYTES = 1 << 22  # not worth a thread
POLYNOMIAL = 0xEDB88320  # of zip, its lowest bit the highest power


class Part(NamedTuple):
    """Bytes of the file, and, where they are deflated, how many they become."""

    offset: int
    stored: int
    inflated: int | None = None


class _Piece(NamedTuple):
    part: int
    offset: int
    length: int
    inflated: int | None


_Sum = tuple[int, int, int, int]  # part, offset, length, CRC


@lru_cache(1)
def _library() -> Any:
    """zlib-ng where it is installed; the same functions of Python's own zlib are right too, and slower."""
    try:
        from zlib_ng import zlib_ng

        return zlib_ng
    except ImportError:
        import zlib

        return zlib


# ---- the arithmetic: a CRC is a polynomial over GF(2), and bytes that follow multiply it by a power of x ----


def _times(a: int, b: int) -> int:
    """a * b modulo the polynomial; a must not be 0."""
    product, bit = 0, 1 << 31
    while True:
        if a & bit:
            product ^= b
            if not a & (bit - 1):
                return product
        bit >>= 1
        b = (b >> 1) ^ POLYNOMIAL if b & 1 else b >> 1


@lru_cache(256)
def _power(nbytes: int) -> int:
    """x to the power of as many bits."""
    power, square = 1 << 31, 1 << 23  # 1 and x^8
    while nbytes:
        if nbytes & 1:
            power = _times(square, power)
        square = _times(square, square)
        nbytes >>= 1
    return power


def combine(first: int, second: int, nbytes: int) -> int:
    """The CRC-32 of two stretches of bytes, of the CRC-32 of each; `nbytes`: length of the second."""
    return _times(_power(nbytes), first) ^ second


# ---- the work ----


def crc32s(
    source: Source,
    parts: Sequence[Part],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[int | PthError]:
    """The CRC-32 of each part, of what it holds when it is inflated; FormatError for one that cannot be.

    Memory: a MiB a thread, and what inflating takes, whatever the sizes of parts.

    Parameters
    ----------
    threads : int, optional
        Default: one for each processor that this process may use.
    progress : callable, optional
        Called now and then with (bytes read, bytes in all), by the thread that called this.

    Raises
    ------
    TruncatedError
        The file was cut since it was opened.
    OSError
        It cannot be read.
    """
    (found,) = crc32s_of([(source, parts)], threads, progress)
    if isinstance(found, Exception):
        raise found
    return found


Sums = list["int | PthError"]


def crc32s_of(
    files: Sequence[tuple[Source, Sequence[Part]]],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> list[Sums | TruncatedError | OSError]:
    """The same of several files as one work. What keeps a file from being read is in its place.

    executor: who reads them; each must be able to open what has an address.
    """
    work = [_File(source, parts) for source, parts in files]
    total = sum(file.total for file in work)
    afar = any(file.source.afar for file in work)
    least = TASK if executor is not None else 0  # of a task
    jobs: Iterator[tuple[_File, _Batch]] = ((file, batch) for file in work for batch in file.batches(least))

    def tick() -> None:
        if progress is not None:
            progress(sum(file.done for file in work), total)

    if executor is not None and is_near(executor):
        for _ in submit(executor, (((), 0, (_run_near, *job)) for job in jobs)):
            tick()
    else:
        if executor is not None:
            jobs = iter(_elsewhere(jobs, executor, tick))
        few = 1 if total <= FEW_BYTES and not afar else threads or (AFAR if afar else None)
        share(jobs, _worker, few, None if progress is None else tick)
    return [file.result() for file in work]


_Batch = list[list[_Piece]]


def _worker(stopped: threading.Event) -> Callable[[tuple[_File, _Batch]], None]:
    buffer = bytearray(BUFFER)
    return lambda job: job[0].run(job[1], buffer, stopped)


def _run_near(file: _File, batch: _Batch) -> None:
    file.run(batch, bytearray(BUFFER), threading.Event())


def _elsewhere(
    jobs: Iterator[tuple[_File, _Batch]], executor: Executor, tick: Callable[[], None]
) -> list[tuple[_File, _Batch]]:
    """Has the others do what they can; what is left is to be done here."""
    here: list[tuple[_File, _Batch]] = []

    def there() -> Iterator[tuple[_File, _Batch, tuple[Any, ...]]]:
        for file, batch in jobs:
            source = file.source
            address = source.address()
            if address is None:
                here.append((file, batch))
            else:
                yield file, batch, (sum_elsewhere, address, source.base, source.size, source.opened, batch)

    def nbytes(row: tuple[_File, _Batch, tuple[Any, ...]]) -> int:
        return sum(piece.length for pieces in row[1] for piece in pieces)

    together = bundles(there(), nbytes, TASK)
    calls = (([file for file, _, _ in rows], 0, (call_all, [call for _, _, call in rows])) for rows in together)
    for files, came in submit(executor, calls):
        for file, one in zip(files, came, strict=True):
            file.take(*one)
        tick()
    return here


def sum_elsewhere(
    address: str, base: int, size: int, opened: Any, batch: _Batch
) -> tuple[list[_Sum], dict[int, PthError], TruncatedError | OSError | None]:
    """Sums of pieces, in another process, which opens the file itself; what failed; what kept it from being read."""
    file = _File(MemorySource(b""), ())
    try:
        source = open_again(address, opened)
    except (TruncatedError, OSError) as e:
        return [], {}, e
    try:
        file.source = SliceSource(source, base, size) if base else source
        file.run(batch, bytearray(BUFFER), threading.Event())
    finally:
        source.close()
    return file.sums, file.failed, file.error


class _File:
    """What the threads share of one: the sums of the pieces that are done."""

    def __init__(self, source: Source, parts: Sequence[Part]) -> None:
        self.source, self.parts = source, parts
        self.total = sum([stored for _, stored, _ in parts])
        self.lock = threading.Lock()
        self.sums: list[_Sum] = []
        self.failed: dict[int, PthError] = {}
        self.error: TruncatedError | OSError | None = None
        self.done = 0  # bytes

    def _pieces(self) -> Iterator[list[_Piece]]:
        """In the order of the file: neighbours that fit into one buffer, or one piece."""
        together: list[_Piece] = []
        start = 0
        rows = [(offset, i, stored, inflated) for i, (offset, stored, inflated) in enumerate(self.parts)]
        for offset, i, stored, inflated in sorted(rows, key=itemgetter(0)):
            small = inflated is None and stored <= BUFFER
            if together and (not small or offset + stored - start > BUFFER):
                yield together
                together = []
            if small:
                start = together[0].offset if together else offset
                together.append(_Piece(i, offset, stored, None))
            elif inflated is not None:
                yield [_Piece(i, offset, stored, inflated)]
            else:
                for at in range(0, stored, PIECE):
                    yield [_Piece(i, offset + at, min(PIECE, stored - at), None)]
        if together:
            yield together

    def batches(self, least: int) -> Iterator[_Batch]:
        """What a thread takes at once: of a file that is far away as much as is worth a request."""
        least = max(least, AHEAD) if self.source.afar else least
        batch: _Batch = []
        size = 0
        for pieces in self._pieces():
            batch.append(pieces)
            size += sum(piece.length for piece in pieces)
            if size >= least:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def run(self, batch: _Batch, buffer: bytearray, stopped: threading.Event) -> None:
        """Sums pieces, unless the file cannot be read."""
        sums: list[_Sum] = []
        try:
            if self.error is None:
                source = self._held(batch)
                for pieces in batch:
                    sums += self._sum(pieces, buffer, source, stopped)
        except (TruncatedError, OSError) as e:
            self.take([], {}, e)
        self.take(sums, {}, None)

    def take(self, sums: list[_Sum], failed: dict[int, PthError], error: TruncatedError | OSError | None) -> None:
        with self.lock:
            self.sums += sums
            self.failed |= failed
            self.error = self.error or error
            self.done += sum(length for _, _, length, _ in sums)

    def _held(self, batch: _Batch) -> Source:
        if not self.source.afar:
            return self.source
        whole = (piece for pieces in batch for piece in pieces if piece.length <= BUFFER)  # others by steps
        return self.source.held((piece.offset, piece.offset + piece.length) for piece in whole)

    def _sum(self, pieces: list[_Piece], buffer: bytearray, source: Source, stopped: threading.Event) -> list[_Sum]:
        first, last = pieces[0], pieces[-1]
        if first.inflated is not None:
            try:
                crc = self._inflated(first, buffer, stopped)
            except FormatError as e:
                if isinstance(e, TruncatedError):
                    raise
                self.take([], {first.part: e}, None)
                return []
        elif last.offset + last.length - first.offset <= BUFFER:
            data = memoryview(self._read(first.offset, last.offset + last.length - first.offset, buffer, source))
            crc32, start = _library().crc32, first.offset
            return [(part, at, n, crc32(data[at - start : at - start + n])) for part, at, n, _ in pieces]
        else:
            crc = 0
            for data in self._chunks(first, buffer, stopped):
                crc = _library().crc32(data, crc)
        return [(first.part, first.offset, first.length, crc)]

    def _chunks(self, piece: _Piece, buffer: bytearray, stopped: threading.Event) -> Iterator[Any]:
        at, end = piece.offset, piece.offset + piece.length
        source, ahead = self.source, at
        while at < end and not stopped.is_set():
            if source.afar and at >= ahead:
                ahead = min(at + AHEAD, end)
                source = self.source.held([(at, ahead)])
            data = self._read(at, min(BUFFER, end - at), buffer, source)
            yield data
            at += len(data)

    def _read(self, offset: int, length: int, buffer: bytearray, source: Source) -> bytes | memoryview:
        data = source.fill(buffer, offset, length)
        if len(data) < length:
            raise TruncatedError(
                "file-changed",
                f"the file was cut while it was read: {length} bytes are wanted, {len(data)} are there",
                path=self.source.path,
                offset=offset,
            )
        return data

    def _inflated(self, piece: _Piece, buffer: bytearray, stopped: threading.Event) -> int:
        """By steps of a buffer, and never more than was announced."""
        library = _library()
        wanted, crc, held = piece.inflated or 0, 0, 0
        inflater = library.decompressobj(-15)
        try:
            for data in self._chunks(piece, buffer, stopped):
                rest: Any = data
                while not stopped.is_set():
                    made = inflater.decompress(rest, BUFFER)
                    crc, held = library.crc32(made, crc), held + len(made)
                    rest = inflater.unconsumed_tail
                    if held > wanted or inflater.eof or (not rest and len(made) < BUFFER):
                        break
                if inflater.unused_data or held > wanted:
                    break
        except library.error as e:
            raise FormatError("zip-deflate", f"broken compressed data: {e}") from None
        if held != wanted or not inflater.eof or inflater.unused_data:
            more = "more" if held > wanted or inflater.unused_data else f"{held}"
            raise FormatError("zip-deflate", f"{wanted} bytes are announced, the compressed data hold {more}")
        return int(crc)

    def result(self) -> Sums | TruncatedError | OSError:
        if self.error is not None:
            return self.error
        out: Sums = [0] * len(self.parts)
        for part, _, length, crc in sorted(self.sums):
            before = out[part]
            assert isinstance(before, int)
            out[part] = combine(before, crc, length) if before else crc
        for part, error in self.failed.items():
            out[part] = error
        return out
