"""Manifests: the hashes of a model as a text that is written, read, and compared with another model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .errors import FormatError, LimitError, PthError, UnsupportedError, guard
from .record import Record
from .source import open_source

if TYPE_CHECKING:
    import os
    from typing import BinaryIO

SCHEMA = 1
ALGORITHM = "blake3-tensor-1"
MOST_BYTES = 1 << 30
MOST_SHOWN = 200  # characters of what is wrong
MODEL = b"pthparse model 1\n"


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
        new = tuple(n for n in have if n not in wanted and n not in unread)
        # What could not be read is not told from what was there before: it may be a file with any of the names.
        unknown = tuple(sorted(failed | (unread & have.keys())))
        return ManifestCheck(not (changed or missing or new or unknown), changed, missing, new, unknown)

    def equal_tensors(self) -> tuple[tuple[str, ...], ...]:
        """Names of tensors that are the same: groups of two and more."""
        groups: dict[str, list[str]] = {}
        for t in self.tensors:
            groups.setdefault(t.hash, []).append(t.name)
        return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def model_hash(rows: Iterable[tuple[str, str]]) -> str:
    """Of names and the hashes of their tensors, in any order."""
    import json

    from blake3 import blake3

    made = blake3(MODEL)
    told = json.JSONEncoder().encode
    for name, digest in sorted(rows):
        made.update(f"{told(name)} {digest}\n".encode("ascii"))
    return str(made.hexdigest())


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
        if opened.size > MOST_BYTES:
            raise LimitError("manifest", f"a manifest of {opened.size} bytes, {MOST_BYTES} are allowed")
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
