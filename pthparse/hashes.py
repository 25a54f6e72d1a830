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

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from .contents import READ, Budget, Elements, lasting, leaves_of
from .errors import PthError, guard
from .limits import Limits
from .manifests import Manifest, TensorHash, Unhashed, model_hash
from .source import Source, open_again
from .team import bundles, call_all, crew, is_near, share, submit
from .tensor import Tensor
from .walks import line_of, locate

if TYPE_CHECKING:
    import os
    from concurrent.futures import Executor
    from typing import BinaryIO

CHUNK = 1 << 20
GAP = 1 << 14  # bytes between two tensors that are read along
TASK = 1 << 23  # bytes of a task for a thread
ELEMENTS, TENSOR = b"pthparse elements 1\0", b"pthparse tensor 1\0"
NAMELESS = b'\0""\0'  # of the only part


def manifest(
    source: str | os.PathLike[str] | bytes | BinaryIO | Mapping[str, Any],
    *,
    limits: Limits | None = None,  # type: ignore[valid-type]
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> Manifest:
    """Hashes all tensors of a model.

    Two models with the same names, dtypes, shapes and elements have the same hashes, whatever the container, the order,
    strides and sharing, and whoever wrote them. Of tied tensors, which safetensors keeps once, all names count that
    its `__metadata__` tells.

    Parameters
    ----------
    source : whatever `pthparse.open` takes, or a mapping of names to tensors
    limits : Limits, optional
        What a file may ask for.
    threads : int, optional
        Default: one for each processor that this process may use. They change no bit.
    progress : callable, optional
        Called now and then with (bytes read, bytes to be read).
    executor : concurrent.futures.Executor, optional
        Who hashes what lies in files: other processes, a cluster's. Each must be able to open them.

    Raises
    ------
    PthError
        The file cannot be read. What is wrong with one tensor stands in `errors`.
    OSError
        The file itself cannot be read.
    """
    if isinstance(source, Mapping):
        return manifest_of(source, threads, progress, executor)
    from .checkpoint import open as open_checkpoint

    with open_checkpoint(source, limits=limits, mmap=False) as ckpt:
        return manifest_of(ckpt, threads, progress, executor)


def manifest_of(
    tensors: Mapping[str, Any],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> Manifest:
    """The same of an opened checkpoint, or of any mapping."""
    from .checkpoint import ties_of, unread

    found = [(name, tensors[name]) for name in sorted(tensors)]
    hashes, errors = hashes_of(found, threads, progress, executor)
    errors |= unread(tensors)
    rows = []
    for name, t in found:
        if name in hashes:
            shape = t.shape if isinstance(t, Tensor) else tuple(map(int, t.shape))
            rows.append(TensorHash(name, hashes[name].hex(), str(t.dtype), shape, max(0, t.nbytes)))
    ties = ties_of(tensors)
    if ties:
        known = {row.name: row for row in rows}
        rows += [TensorHash(n, *known[kept]._values()[1:]) for n, kept in ties.items() if kept in known]
        rows.sort(key=lambda row: row.name)
    model = None if errors else model_hash((t.name, t.hash) for t in rows)
    failed = tuple(Unhashed(name, errors[name].code, errors[name].message) for name in sorted(errors))
    return Manifest(getattr(tensors, "path", None), model, tuple(rows), failed)


@cache
def _blake3() -> Any:
    from blake3 import blake3

    return blake3


# ---- the work ----


class _Part:
    """Elements that are hashed once, whoever has them. at: their first byte in the source, if they lie as wanted."""

    __slots__ = ("at", "chunks", "elements", "error", "index", "nbytes", "owner", "source")

    def __init__(self, nbytes: int, source: Source, at: int | None) -> None:
        self.nbytes, self.source, self.at = nbytes, source, at
        self.chunks = bytearray(32 * -(-nbytes // CHUNK))
        self.error: PthError | None = None
        self.owner: Any = None
        self.index = 0
        self.elements: Elements | None = None

    @staticmethod
    def of(owner: Any, index: int, elements: Elements) -> _Part:
        """Of the `index`-th leaf of a tensor."""
        kept = lasting(owner, elements)
        part = _Part(elements.nbytes, elements.source, elements.offset if kept and elements.plain else None)
        part.owner, part.index, part.elements = owner, index, elements if kept else None
        return part

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
    executor: Executor | None = None,
) -> tuple[dict[str, bytes], dict[str, PthError]]:
    """The hashes of tensors by name, and what is wrong with the others."""
    plan: list[tuple[str, bytes, Sequence[tuple[str, _Part]]]] = []
    errors: dict[str, PthError] = {}
    known: dict[Any, _Part] = {}
    heads: dict[Any, bytes] = {}
    budget = Budget()
    locate([t for _, t in tensors])
    for name, t in tensors:
        parts: Sequence[tuple[str, _Part]]
        try:
            line = line_of(t) if isinstance(t, Tensor) else None
            if line is not None:  # most are, and there may be very many
                at, nbytes, _, _ = line
                key: Any = t.table.home.box.source, *line
                part = known.get(key)
                if part is None:
                    budget.take_bytes(t, nbytes)
                    part = known[key] = _Part(nbytes, key[0], at)
                parts = (("", part),)
                what = t.dtype, t.shape
                head = heads.get(what)
                if head is None:
                    head = heads[what] = _head((("", "tensor", *what),))
            else:
                words, leaves = leaves_of(t, budget)
                parts = []
                for index, (path, elements) in enumerate(leaves):
                    part = known.get(elements.key)
                    if part is None:
                        budget.take(t, elements)
                        part = known[elements.key] = _Part.of(t, index, elements)
                    parts.append((path, part))
                head = _head(words)
        except PthError as e:
            errors[name] = e
            continue
        plan.append((name, head, parts))
    _run(list(known.values()), threads, progress, executor)
    blake3, hashes = _blake3(), {}
    for name, head, parts in plan:
        for path, part in parts:
            if part.error is not None:
                errors[name] = part.error
                break
            head += (b"\0" + json.dumps(path).encode("ascii") + b"\0" if path else NAMELESS) + part.digest()
        else:
            hashes[name] = blake3(head).digest()
    return hashes, errors


def _head(words: tuple[Any, ...]) -> bytes:
    """What a hash of a tensor begins with: what it is."""
    return TENSOR + json.dumps(words, separators=(",", ":")).encode("ascii")


def _run(
    parts: list[_Part],
    threads: int | None,
    progress: Callable[[int, int], None] | None,
    executor: Executor | None,
) -> None:
    total = sum(part.nbytes for part in parts)
    done: list[int] = []
    jobs = _jobs(parts)
    tick = None if progress is None else lambda: progress(min(sum(done), total), total)
    if executor is not None:
        jobs = iter(_elsewhere(jobs, executor, done, tick))

    def worker(stopped: threading.Event) -> Callable[[list[_Lying | _Gathered]], None]:
        buffer = bytearray(READ)
        return lambda bundle: done.extend(job.run(buffer, stopped) for job in bundle)

    afar = any(part.at is not None and part.source.afar for part in parts)
    share(bundles(jobs, lambda job: job.nbytes, 0 if afar else TASK), worker, crew(total, threads, afar), tick)


def _elsewhere(
    jobs: Iterator[_Lying | _Gathered], executor: Executor, done: list[int], tick: Callable[[], None] | None
) -> list[_Lying | _Gathered]:
    """Has the others do what they can; what is left is to be done here."""
    here: list[_Lying | _Gathered] = []
    near = is_near(executor)

    def there() -> Iterator[tuple[Any, tuple[Any, ...]]]:
        for job in jobs:
            address = job.source.address() if isinstance(job, _Lying) else None
            if near:
                yield job, (_run_near, job)
            elif address is None or not isinstance(job, _Lying):
                here.append(job)
            else:
                rows = [(job.source.base + at, nbytes, [c[2:] for c in chunks]) for at, nbytes, chunks in job.reads]
                yield job, (hash_elsewhere, address, job.source.opened, rows)

    together = bundles(there(), lambda row: row[0].nbytes, TASK)
    calls = (([job for job, _ in rows], 0, (call_all, [call for _, call in rows])) for rows in together)
    for bundle, came in submit(executor, calls):
        for job, one in zip(bundle, came, strict=True):
            if one is None:  # who reads it again says why
                here.append(job)
            else:
                done.append(one if near else job.take(one))
        if tick is not None:
            tick()
    return here


def _run_near(job: _Lying | _Gathered) -> int:
    return job.run(bytearray(READ), threading.Event())


def hash_elsewhere(address: str, opened: Any, rows: list[tuple[int, int, list[tuple[int, int]]]]) -> bytes | None:
    """Hashes of chunks, in another process, which opens the file itself; None: it cannot read all of them."""
    try:
        source = open_again(address, opened)
    except (PthError, OSError):
        return None
    blake3, out, buffer = _blake3(), [], bytearray(max(nbytes for _, nbytes, _ in rows))
    try:
        source = source.held((at, at + nbytes) for at, nbytes, _ in rows) if source.afar else source
        for at, nbytes, chunks in rows:
            view = memoryview(source.fill(buffer, at, nbytes))
            if len(view) < nbytes:
                return None
            out += [blake3(view[first : first + n]).digest() for first, n in chunks]
    except (PthError, OSError):
        return None
    finally:
        source.close()
    return b"".join(out)


class _Lying:
    """Chunks that lie in a source as they are wanted: reads of some of them at once."""

    def __init__(self, source: Source, reads: list[tuple[int, int, list[_Chunk]]]) -> None:
        self.source, self.reads = source, reads
        self.nbytes = sum(n for _, _, chunks in reads for _, _, _, n in chunks)

    def run(self, buffer: bytearray, stopped: threading.Event) -> int:
        done, source = 0, self.source
        if source.afar:
            try:
                source = source.held((at, at + nbytes) for at, nbytes, _ in self.reads)
            except PthError:  # each read by itself says so
                pass
        for offset, nbytes, chunks in self.reads:
            if stopped.is_set():
                break
            self._read(source, buffer, offset, nbytes, chunks)
            done += sum(n for _, _, _, n in chunks)
        return done

    def _read(self, source: Source, buffer: bytearray, offset: int, nbytes: int, chunks: list[_Chunk]) -> None:
        blake3 = _blake3()
        try:
            view = memoryview(source.fill(buffer, offset, nbytes))
            if len(view) < nbytes:
                source.read(offset, nbytes)  # says what is missing
        except PthError as e:
            if len(chunks) == 1:
                chunks[0][0].error = e
                return
            for part, number, at, n in chunks:  # one of them is the cause
                self._read(source, buffer, offset + at, n, [(part, number, 0, n)])
            return
        for part, number, at, n in chunks:
            part.chunks[32 * number : 32 * number + 32] = blake3(view[at : at + n]).digest()

    def take(self, digests: bytes) -> int:
        """What others have made of it."""
        rows = [chunk for _, _, chunks in self.reads for chunk in chunks]
        for i, (part, number, _, _) in enumerate(rows):
            part.chunks[32 * number : 32 * number + 32] = digests[32 * i : 32 * i + 32]
        return self.nbytes


class _Gathered:
    """A part whose elements must be brought together first."""

    def __init__(self, part: _Part) -> None:
        self.part, self.nbytes = part, part.nbytes

    def run(self, buffer: bytearray, stopped: threading.Event) -> int:
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
    lying: dict[Source, list[tuple[int, int, _Part]]] = {}
    for i, part in enumerate(parts):
        if part.at is not None:
            lying.setdefault(part.source, []).append((part.at, i, part))
        elif part.nbytes:
            yield _Gathered(part)
    for source, rows in lying.items():
        rows.sort()
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


def _reads(rows: list[tuple[int, int, _Part]]) -> Iterator[tuple[int, int, list[_Chunk]]]:
    """Chunks that lie one behind the other, as many at once as one read takes."""
    chunks: list[_Chunk] = []
    start = end = 0
    for offset, _, part in rows:
        for at in range(0, part.nbytes, CHUNK):
            first, n = offset + at, min(CHUNK, part.nbytes - at)
            if chunks and (first < start or first > end + GAP or max(end, first + n) - start > READ):
                yield start, end - start, chunks
                chunks = []
            if not chunks:
                start = end = first
            chunks.append((part, at // CHUNK, first - start, n))
            end = max(end, first + n)
    if chunks:
        yield start, end - start, chunks
