"""A hash of each tensor and of the model that depends on nothing but names, dtypes, shapes and elements; manifests.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .contents import READ, Budget, Elements, lasting, leaves_of
from .errors import FormatError, LimitError, PthError, UnsupportedError, guard
from .limits import Limits
from .record import Record
from .source import Source, open_source
from .team import together

if TYPE_CHECKING:
    import os
    from typing import BinaryIO

CHUNK = 1 << 20
GAP = 1 << 14  # bytes between two tensors that are read along
TASK = 1 << 23  # bytes of a task for a thread
ALONE = 1 << 22  # bytes below which threads are not worth their start
SCHEMA = 1
ALGORITHM = "blake3-tensor-1"
MOST_MANIFEST_BYTES = 1 << 30
MOST_SHOWN = 200  # characters of what is wrong in a manifest
ELEMENTS, TENSOR, MODEL = b"pthparse elements 1\0", b"pthparse tensor 1\0", b"pthparse model 1\n"


class TensorHash(Record):
    """A tensor of a manifest; `hash`: 64 hexadecimal digits."""

    name: str
    hash: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class Unhashed(Record):
    """A tensor that cannot be read, and why."""

    name: str
    code: str
    message: str


class ManifestCheck(Record):
    """A model beside a manifest of it: names of tensors.

    Attributes
    ----------
    ok : bool
        Nothing differs, and all could be compared.
    changed, missing, new : tuple of str
        Those with another hash; those that the manifest alone has; those that it has not.
    unknown : tuple of str
        Those that cannot be read.
    """

    ok: bool
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]
    unknown: tuple[str, ...]


class Manifest(Record):
    """The hashes of a model.

    Attributes
    ----------
    path : str or None
        What was hashed; not written into the manifest itself.
    model : str or None
        The hash of all tensors with their names; None if one of them cannot be read.
    tensors : tuple of TensorHash
        By name.
    errors : tuple of Unhashed
        Tensors that cannot be read.
    """

    path: str | None
    model: str | None
    tensors: tuple[TensorHash, ...]
    errors: tuple[Unhashed, ...] = ()

    def to_json(self) -> str:
        """The manifest as text: one line a tensor, by name. The same tensors give the same text."""
        return "".join(self.lines())

    def lines(self) -> Iterator[str]:
        import json

        def text(value: Any) -> str:
            return json.dumps(value, ensure_ascii=True, allow_nan=False)

        yield f'{{\n "schema": {SCHEMA},\n "kind": "pthparse-manifest",\n "algorithm": {text(ALGORITHM)},\n'
        yield f' "model": {text(self.model)},\n "tensors": {{'
        between = "\n"
        for t in self.tensors:
            row = {"hash": t.hash, "dtype": t.dtype, "shape": list(t.shape), "nbytes": t.nbytes}
            yield f"{between}  {text(t.name)}: {text(row)}"
            between = ",\n"
        yield "\n }" if self.tensors else "}"
        if self.errors:
            yield ',\n "errors": {'
            between = "\n"
            for e in self.errors:
                yield f"{between}  {text(e.name)}: {text({'code': e.code, 'message': e.message})}"
                between = ",\n"
            yield "\n }"
        yield "\n}\n"

    def check(self, manifest: Manifest) -> ManifestCheck:
        """This model beside a manifest that was made before."""
        wanted = {t.name: t.hash for t in manifest.tensors}
        unread = {e.name for e in manifest.errors}
        have = {t.name: t.hash for t in self.tensors}
        failed = {e.name for e in self.errors}
        changed = tuple(n for n, h in have.items() if n in wanted and wanted[n] != h)
        missing = tuple(n for n in [*wanted, *sorted(unread)] if n not in have and n not in failed)
        new = tuple(n for n in [*have, *sorted(failed)] if n not in wanted and n not in unread)
        unknown = tuple(sorted((failed & (wanted.keys() | unread)) | (unread & have.keys())))
        return ManifestCheck(not (changed or missing or new or unknown), changed, missing, new, unknown)

    def equal_tensors(self) -> tuple[tuple[str, ...], ...]:
        """Names of tensors that are the same: groups of two and more."""
        groups: dict[str, list[str]] = {}
        for t in self.tensors:
            groups.setdefault(t.hash, []).append(t.name)
        return tuple(tuple(names) for names in groups.values() if len(names) > 1)


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


def model_hash(rows: Iterable[tuple[str, str]]) -> str:
    """Of names and the hashes of their tensors, in any order."""
    import json

    made = _blake3()(MODEL)
    for name, digest in sorted(rows):
        made.update(f"{json.dumps(name)} {digest}\n".encode("ascii"))
    return str(made.hexdigest())


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
    _run(list(known.values()), threads, progress)
    blake3, hashes = _blake3(), {}
    for name, head, parts in plan:
        error = next((part.error for _, part in parts if part.error is not None), None)
        if error is not None:
            errors[name] = error
            continue
        ends = b"".join(b"\0" + json.dumps(path).encode("ascii") + b"\0" + part.digest() for path, part in parts)
        hashes[name] = blake3(head + ends).digest()
    return hashes, errors


def _run(parts: list[_Part], threads: int | None, progress: Callable[[int, int], None] | None) -> None:
    total = sum(part.nbytes for part in parts)
    jobs = _jobs(parts)
    lock, stopped = threading.Lock(), threading.Event()
    done: list[int] = []

    def work() -> None:
        buffer = bytearray(READ)
        while not stopped.is_set():
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            done.append(job.run(buffer, stopped))

    tick = None if progress is None else lambda: progress(min(sum(done), total), total)
    if total <= ALONE or threads == 1:
        work()
        if tick is not None:
            tick()
    else:
        together(work, stopped.set, threads, tick)


class _Lying:
    """Chunks that lie in a source as they are wanted: reads of some of them at once."""

    def __init__(self, source: Source, reads: list[tuple[int, int, list[_Chunk]]]) -> None:
        self.source, self.reads = source, reads

    def run(self, buffer: bytearray, stopped: threading.Event) -> int:
        done = 0
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


# ---- a manifest that was written before ----


def read_manifest(source: str | os.PathLike[str] | bytes | BinaryIO) -> Manifest:
    """Reads a manifest that `Manifest.to_json` made.

    Raises
    ------
    PthError
        It is none, or not as it was written: the hash of the model is computed again.
    OSError
        The file cannot be read.
    """
    opened = open_source(source)
    try:
        if opened.size > MOST_MANIFEST_BYTES:
            raise LimitError("manifest", f"a manifest of {opened.size} bytes, {MOST_MANIFEST_BYTES} are allowed")
        data = bytes(opened.read(0, opened.size))
        with guard("a manifest"):
            return _manifest(_document(data))
    except PthError as e:
        raise e.at(opened.path) from None
    finally:
        opened.close()


def _document(data: bytes) -> Any:
    import json

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise _refused("a key stands in it twice")
        return found

    def constant(text: str) -> Any:
        raise _refused(f"{text} is no number of it")

    try:
        return json.loads(data.decode("ascii"), object_pairs_hook=pairs, parse_constant=constant, parse_float=constant)
    except UnicodeDecodeError as e:
        raise _refused(f"byte {e.start} is no ASCII") from None
    except json.JSONDecodeError as e:
        raise FormatError("manifest", f"no manifest: {e.msg}", offset=e.pos) from None


def _refused(message: str) -> FormatError:
    return FormatError("manifest", f"no manifest as it was written: {message}")


def _manifest(document: Any) -> Manifest:
    if not isinstance(document, dict) or document.get("kind") != "pthparse-manifest":
        raise FormatError("manifest", "no manifest: it says nothing of pthparse-manifest")
    schema, algorithm = document.get("schema"), document.get("algorithm")
    if schema != SCHEMA or algorithm != ALGORITHM or isinstance(schema, bool):
        told = f"schema {schema!r}, algorithm {algorithm!r}"[:MOST_SHOWN]
        raise UnsupportedError("manifest-schema", f"a manifest of {told}: schema {SCHEMA}, {ALGORITHM!r} is read")
    _only(document, "the manifest", ("schema", "kind", "algorithm", "model", "tensors"), ("errors",))
    rows = []
    for name, row in _dict(document["tensors"], "'tensors'").items():
        what = f"{name[:MOST_SHOWN]!r}"
        _only(_dict(row, what), what, ("hash", "dtype", "shape", "nbytes"))
        rows.append(TensorHash(name, _hash(row["hash"], what), *_description(row, what)))
    errors = []
    for name, row in _dict(document.get("errors", {}), "'errors'").items():
        what = f"{name[:MOST_SHOWN]!r}"
        _only(_dict(row, what), what, ("code", "message"))
        if not isinstance(row["code"], str) or not isinstance(row["message"], str):
            raise _refused(f"{what}: its error is no text")
        errors.append(Unhashed(name, row["code"], row["message"]))
    if {t.name for t in rows} & {e.name for e in errors}:
        raise _refused("a tensor has a hash and an error")
    rows.sort(key=lambda t: t.name)
    made = None if errors else model_hash((t.name, t.hash) for t in rows)
    if document["model"] != made:
        raise _refused("the hash of the model is not that of its tensors: it was changed")
    return Manifest(None, made, tuple(rows), tuple(errors))


def _dict(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _refused(f"{what} is no object")
    return value


def _only(row: dict[str, Any], what: str, wanted: tuple[str, ...], more: tuple[str, ...] = ()) -> None:
    if not {*wanted} <= row.keys() <= {*wanted, *more}:
        raise _refused(f"{what} has other keys than {', '.join(wanted)}")


def _hash(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise _refused(f"{what}: a hash is 64 digits of 0-9 and a-f")
    return value


def _description(row: dict[str, Any], what: str) -> tuple[str, tuple[int, ...], int]:
    dtype, shape, nbytes = row["dtype"], row["shape"], row["nbytes"]
    if not isinstance(dtype, str) or len(dtype) > MOST_SHOWN:
        raise _refused(f"{what}: its dtype is no name")
    if not isinstance(shape, list) or not all(type(n) is int and -1 <= n < 1 << 63 for n in shape):
        raise _refused(f"{what}: its shape is no list of sizes")
    if type(nbytes) is not int or not 0 <= nbytes < 1 << 64:
        raise _refused(f"{what}: its nbytes are no number of bytes")
    return dtype, tuple(shape), nbytes
