"""A hash of each tensor and of the model that depends on nothing but names, dtypes, shapes and elements.

The hash is BLAKE3, with 32 bytes:

    chunk     of 1 MiB of the elements, in the order of their indices, little-endian, complex numbers as two
    elements  of "pthparse elements 1\\0", the number of bytes (8 bytes, little-endian) and the hashes of all chunks
    tensor    of "pthparse tensor 1\\0", what it is as JSON (one line, no spaces, ASCII), and for each part in turn
              "\\0", its name as JSON, "\\0" and the hash of its elements
    model     of "pthparse model 1\\n" and for each tensor, by name, a line: name as JSON, a space, the hash in hex

What a dense tensor is, is `[["","tensor",dtype,[shape]]]`, and its one part has the name "". Quantized, sparse and
nested tensors and wrappers have a part for each tensor that they are made of; what has no data has none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .contents import READ, Budget, Elements, lasting, leaves_of
from .errors import PthError, guard
from .limits import Limits
from .manifests import Manifest, TensorHash, Unhashed, model_hash
from .source import Source
from .team import work_off

if TYPE_CHECKING:
    import os
    from typing import BinaryIO

CHUNK = 1 << 20
GAP = 1 << 14  # bytes between two tensors that are read along
TASK = 1 << 23  # bytes of a task for a thread
ELEMENTS, TENSOR = b"pthparse elements 1\0", b"pthparse tensor 1\0"


def manifest(
    source: str | os.PathLike[str] | bytes | BinaryIO | Mapping[str, Any],
    *,
    limits: Limits | None = None,  # type: ignore[valid-type]
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Hashes all tensors of a model.

    Two models with the same names, dtypes, shapes and elements have the same hashes, whatever the container, the order,
    strides and sharing, and whoever wrote them.

    Parameters
    ----------
    source : whatever `pthparse.open` takes, or a mapping of names to tensors
    limits : Limits, optional
        What a file may ask for.
    threads : int, optional
        Default: one for each processor that this process may use. They change no bit.
    progress : callable, optional
        Called now and then with (bytes read, bytes to be read).

    Raises
    ------
    PthError
        The file cannot be read. What is wrong with one tensor stands in `errors`.
    OSError
        The file itself cannot be read.
    """
    if isinstance(source, Mapping):
        return manifest_of(source, threads, progress)
    from .checkpoint import open as open_checkpoint

    with open_checkpoint(source, limits=limits, mmap=False) as ckpt:
        return manifest_of(ckpt, threads, progress)


def manifest_of(
    tensors: Mapping[str, Any],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """The same of an opened checkpoint, or of any mapping."""
    names = sorted(tensors)
    hashes, errors = hashes_of([(name, tensors[name]) for name in names], threads, progress)
    rows = []
    for name in names:
        if name in hashes:
            t = tensors[name]
            nbytes = t.nbytes if t.nbytes >= 0 else 0
            rows.append(TensorHash(name, hashes[name].hex(), str(t.dtype), tuple(map(int, t.shape)), nbytes))
    model = None if errors else model_hash((t.name, t.hash) for t in rows)
    unread = tuple(Unhashed(name, errors[name].code, errors[name].message) for name in names if name in errors)
    return Manifest(getattr(tensors, "path", None), model, tuple(rows), unread)


def _blake3() -> Any:
    from blake3 import blake3

    return blake3


# ---- the work ----


class _Part:
    """Elements that are hashed once, whoever has them."""

    __slots__ = ("chunks", "elements", "error", "index", "nbytes", "owner")

    def __init__(self, owner: Any, index: int, elements: Elements) -> None:
        self.owner, self.index = owner, index
        self.elements: Elements | None = elements if lasting(owner, elements) else None
        self.nbytes = elements.nbytes
        self.chunks = bytearray(32 * -(-self.nbytes // CHUNK))
        self.error: PthError | None = None

    def found(self) -> Elements:
        return self.elements if self.elements is not None else leaves_of(self.owner)[1][self.index][1]

    def digest(self) -> bytes:
        made: bytes = _blake3()(ELEMENTS + self.nbytes.to_bytes(8, "little") + self.chunks).digest()
        return made


# A chunk that is read with others: its part, its number, where it begins in the bytes at hand, its length.
_Chunk = tuple[_Part, int, int, int]


def hashes_of(
    tensors: Sequence[tuple[str, Any]],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, bytes], dict[str, PthError]]:
    """The hashes of tensors by name, and what is wrong with the others."""
    import json

    plan: list[tuple[str, bytes, list[tuple[str, _Part]]]] = []
    errors: dict[str, PthError] = {}
    known: dict[Any, _Part] = {}
    budget = Budget()
    for name, t in tensors:
        try:
            words, leaves = leaves_of(t, budget)
            parts = []
            for index, (path, elements) in enumerate(leaves):
                part = known.get(elements.key)
                if part is None:
                    budget.take(t, elements)
                    part = known[elements.key] = _Part(t, index, elements)
                parts.append((path, part))
        except PthError as e:
            errors[name] = e
            continue
        head = TENSOR + json.dumps(words, separators=(",", ":")).encode("ascii")
        plan.append((name, head, parts))
    todo = list(known.values())
    work_off(_jobs(todo), lambda job, stopped: job.run(stopped), sum(part.nbytes for part in todo), threads, progress)
    blake3, hashes = _blake3(), {}
    for name, head, parts in plan:
        error = next((part.error for _, part in parts if part.error is not None), None)
        if error is not None:
            errors[name] = error
            continue
        ends = b"".join(b"\0" + json.dumps(path).encode("ascii") + b"\0" + part.digest() for path, part in parts)
        hashes[name] = blake3(head + ends).digest()
    return hashes, errors


class _Lying:
    """Chunks that lie in a source as they are wanted: reads of some of them at once."""

    def __init__(self, source: Source, reads: list[tuple[int, int, list[_Chunk]]]) -> None:
        self.source, self.reads = source, reads

    def run(self, stopped: threading.Event) -> int:
        done, buffer = 0, bytearray(max(nbytes for _, nbytes, _ in self.reads))
        for offset, nbytes, chunks in self.reads:
            if stopped.is_set():
                break
            self._read(buffer, offset, nbytes, chunks)
            done += sum(n for _, _, _, n in chunks)
        return done

    def _read(self, buffer: bytearray, offset: int, nbytes: int, chunks: list[_Chunk]) -> None:
        blake3 = _blake3()
        try:
            view = memoryview(self.source.fill(buffer, offset, nbytes))
            if len(view) < nbytes:
                self.source.read(offset, nbytes)  # says what is missing
        except PthError as e:
            if len(chunks) == 1:
                chunks[0][0].error = e
                return
            for part, number, at, n in chunks:  # one of them is the cause
                self._read(buffer, offset + at, n, [(part, number, 0, n)])
            return
        for part, number, at, n in chunks:
            part.chunks[32 * number : 32 * number + 32] = blake3(view[at : at + n]).digest()


class _Gathered:
    """A part whose elements must be brought together first."""

    def __init__(self, part: _Part) -> None:
        self.part = part

    def run(self, stopped: threading.Event) -> int:
        part, blake3 = self.part, _blake3()
        try:
            with guard("its elements"):
                at = 0
                for block in part.found().blocks(CHUNK):
                    part.chunks[at : at + 32] = blake3(block).digest()
                    at += 32
                    if stopped.is_set():
                        break
        except PthError as e:
            part.error = e
        return part.nbytes


def _jobs(parts: list[_Part]) -> Iterator[_Lying | _Gathered]:
    lying: dict[Source, list[tuple[int, int, _Part, Elements]]] = {}
    for i, part in enumerate(parts):
        held = part.elements
        if held is not None and held.plain:
            lying.setdefault(held.source, []).append((held.offset, i, part, held))
        elif part.nbytes:
            yield _Gathered(part)
    for source, rows in lying.items():
        rows.sort(key=lambda row: row[:2])
        reads: list[tuple[int, int, list[_Chunk]]] = []
        size = 0
        for read in _reads(rows):
            reads.append(read)
            size += read[1]
            if size >= TASK:
                yield _Lying(source, reads)
                reads, size = [], 0
        if reads:
            yield _Lying(source, reads)


def _reads(rows: list[tuple[int, int, _Part, Elements]]) -> Iterator[tuple[int, int, list[_Chunk]]]:
    """Chunks that lie one behind the other, as many at once as one read takes."""
    chunks: list[_Chunk] = []
    start = end = 0
    for offset, _, part, _ in rows:
        for number, at in enumerate(range(0, part.nbytes, CHUNK)):
            first, n = offset + at, min(CHUNK, part.nbytes - at)
            if chunks and (first < start or first > end + GAP or max(end, first + n) - start > READ):
                yield start, end - start, chunks
                chunks = []
            if not chunks:
                start = end = first
            chunks.append((part, number, first - start, n))
            end = max(end, first + n)
    if chunks:
        yield start, end - start, chunks
