"""CRC-32 of parts of a file: large ones in pieces, small ones many at once, in threads that need no GIL.

Data are read into one buffer a thread, small enough to stay in the processor's cache between the reading and the sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .errors import FormatError, PthError, TruncatedError
from .source import Source
from .team import together

BUFFER = 1 << 19
PIECE = 1 << 24  # of a large part: what a thread takes at once
AHEAD = 1 << 22  # of a file that is far away: what a thread fetches at once
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

    Memory: half a MiB a thread, and what inflating takes, whatever the sizes of parts.

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
    work = _Work(source, parts)
    if work.total <= FEW_BYTES:
        work.run()
    else:
        tick = None if progress is None else lambda: progress(sum(work.done), work.total)
        together(work.run, work.stop, threads, tick)
    return work.result()


class _Work:
    """What the threads share: the pieces that are left, and the sums of those that are done."""

    def __init__(self, source: Source, parts: Sequence[Part]) -> None:
        self.source, self.parts = source, parts
        self.total = sum(part.stored for part in parts)
        self.pieces = self._pieces()
        self.lock = threading.Lock()
        self.sums: list[list[tuple[int, int, int, int]]] = []  # of each thread: part, offset, length, CRC
        self.failed: dict[int, PthError] = {}
        self.done: list[int] = []  # bytes of each thread
        self.stopped = False

    def _pieces(self) -> Iterator[list[_Piece]]:
        """In the order of the file: neighbours that fit into one buffer, or one piece."""
        together: list[_Piece] = []
        start = 0
        for i in sorted(range(len(self.parts)), key=lambda i: self.parts[i].offset):
            offset, stored, inflated = self.parts[i]
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

    def run(self) -> None:
        """One thread: takes pieces until none is left."""
        buffer = bytearray(BUFFER)
        sums: list[tuple[int, int, int, int]] = []
        with self.lock:
            me = len(self.done)
            self.done.append(0)
            self.sums.append(sums)
        while not self.stopped:
            with self.lock:
                batch = self._batch()
            if not batch:
                return
            source = self._held(batch)
            for pieces in batch:
                for piece, crc in self._sum(pieces, buffer, me, source):
                    sums.append((piece.part, piece.offset, piece.length, crc))

    def _batch(self) -> list[list[_Piece]]:
        """What a thread takes next: of a file that is far away as much as is worth a request."""
        batch: list[list[_Piece]] = []
        size = 0
        while not batch or (self.source.afar and size < AHEAD):
            pieces = next(self.pieces, None)
            if pieces is None:
                break
            batch.append(pieces)
            size += sum(piece.length for piece in pieces)
        return batch

    def _held(self, batch: list[list[_Piece]]) -> Source:
        if not self.source.afar:
            return self.source
        whole = (piece for pieces in batch for piece in pieces if piece.length <= BUFFER)  # others by steps
        return self.source.held((piece.offset, piece.offset + piece.length) for piece in whole)

    def stop(self) -> None:
        self.stopped = True

    def _sum(self, pieces: list[_Piece], buffer: bytearray, me: int, source: Source) -> Iterator[tuple[_Piece, int]]:
        first, last = pieces[0], pieces[-1]
        if first.inflated is not None:
            try:
                yield first, self._inflated(first, buffer, me)
            except FormatError as e:
                if isinstance(e, TruncatedError):
                    raise
                self.failed[first.part] = e
        elif last.offset + last.length - first.offset <= BUFFER:
            data = memoryview(self._read(first.offset, last.offset + last.length - first.offset, buffer, source))
            crc32 = _library().crc32
            for piece in pieces:
                at = piece.offset - first.offset
                yield piece, crc32(data[at : at + piece.length])
                self.done[me] += piece.length
        else:
            crc = 0
            for data in self._chunks(first, buffer, me):
                crc = _library().crc32(data, crc)
            yield first, crc

    def _chunks(self, piece: _Piece, buffer: bytearray, me: int) -> Iterator[Any]:
        at, end = piece.offset, piece.offset + piece.length
        source, ahead = self.source, at
        while at < end and not self.stopped:
            if source.afar and at >= ahead:
                ahead = min(at + AHEAD, end)
                source = self.source.held([(at, ahead)])
            data = self._read(at, min(BUFFER, end - at), buffer, source)
            yield data
            at += len(data)
            self.done[me] += len(data)

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

    def _inflated(self, piece: _Piece, buffer: bytearray, me: int) -> int:
        """By steps of a buffer, and never more than was announced."""
        library = _library()
        wanted, crc, held = piece.inflated or 0, 0, 0
        inflater = library.decompressobj(-15)
        try:
            for data in self._chunks(piece, buffer, me):
                rest: Any = data
                while not self.stopped:
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

    def result(self) -> list[int | PthError]:
        out: list[int | PthError] = [0] * len(self.parts)
        for part, _, length, crc in sorted(row for rows in self.sums for row in rows):
            before = out[part]
            assert isinstance(before, int)
            out[part] = combine(before, crc, length) if before else crc
        for part, error in self.failed.items():
            out[part] = error
        return out
