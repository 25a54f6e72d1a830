"""A directory of .npy files, one a tensor, with an index.json that tells which is which."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from ..casts import DTYPES
from ..errors import UnsupportedError
from ..tensor import MAX_NUMPY_DIMS, numpy_dtype
from .base import Entry, Format, Layout, Place, Wanted, put
from .safetensors import encodable

# What numpy has itself; of everything else it can hold the bytes.
OWN = frozenset((
    "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
    "complex64", "complex128",
))  # fmt: skip
ALIGNED = 64
MOST_FILE_NAME = 255 - len("..pthparse-00000000.tmp")
INDEX = "index.json"


class Arrays(Format):
    """What a single array and several of them have in common."""

    def refusal(self, entry: Entry) -> str | None:
        if not self.raw and entry.dtype not in OWN:
            return f"numpy has no {entry.dtype}: cast it (float32 holds every bfloat16 and float8), or ask for raw"
        if len(self.said(entry)[1]) > MAX_NUMPY_DIMS:
            return f"numpy has at most {MAX_NUMPY_DIMS} dimensions"
        if not encodable(entry.name):
            return f"no file can have the name {entry.name!a}: rename it"
        return None

    def is_raw(self, dtype: str) -> bool:
        return dtype not in OWN

    def said(self, entry: Entry) -> tuple[str, tuple[int, ...]]:
        """What t.numpy() would be saved as: types of ml_dtypes as bare bytes, complex32 as pairs of float16."""
        dtype = numpy_dtype(DTYPES[entry.dtype])
        native = dtype.kind != "V" and dtype.name in OWN
        text = dtype.str.replace(">", "<").replace("=", "<") if native else f"|V{dtype.itemsize}"
        return text, (*entry.shape, 2) if entry.dtype == "complex32" else entry.shape


def header(descr: str, shape: tuple[int, ...]) -> bytes:
    """What stands before the elements: a multiple of 64 bytes."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    text += b" " * (-(len(text) + 11) % ALIGNED) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


def read_header(file: object) -> tuple[str, tuple[int, ...]]:
    """The same, read by numpy; the file stands at the elements then."""
    from numpy.lib import format as npy

    npy.read_magic(file)  # type: ignore[arg-type]
    shape, _, dtype = npy.read_array_header_1_0(file)  # type: ignore[arg-type]
    return dtype.str, shape


class Npy(Arrays):
    name = "npy"

    def refusal(self, entry: Entry) -> str | None:
        reason = super().refusal(entry)
        if reason is None and len(file_name(entry.name)) > MOST_FILE_NAME:
            return f"its name is too long for one of a file ({len(file_name(entry.name))} bytes): rename it"
        return reason

    def layouts(self, wanted: Wanted) -> list[Layout]:
        out, known = [], dict[str, str]()
        for i, entry in enumerate(wanted.entries):
            head, name = header(*self.said(entry)), file_name(entry.name)
            twin = known.setdefault(name.casefold(), entry.name)
            if twin != entry.name:
                raise UnsupportedError(
                    "names-clash", f"{twin!a} and {entry.name!a} are one file where case is not told apart: rename one"
                )
            out.append(Layout(name, len(head) + entry.nbytes, ((i, len(head)),), partial(put, data=head, offset=0)))
        return out

    def index(self, wanted: Wanted, layouts: Sequence[Layout]) -> tuple[str, bytes] | None:
        entries = wanted.entries
        rows = {
            entries[i].name: {"file": layout.name, "dtype": entries[i].dtype, "shape": entries[i].shape}
            for layout in layouts
            for i, _ in layout.places
        }
        return INDEX, (json.dumps({"tensors": rows}, indent=1) + "\n").encode()

    def read_back(self, path: str) -> Mapping[str, Place]:
        with Path(path).open("rb") as file:
            dtype, shape = read_header(file)
            at = file.tell()
            return {"": Place(dtype, shape, at, file.seek(0, 2) - at)}


def file_name(name: str) -> str:
    """A name that leads nowhere else, hides nothing, and can be turned back: other characters as %XX."""
    safe = quote(name, safe=" !#$&'()+,;=@[]^_`{}~-.", errors="strict")
    return ("%2E" + safe[1:] if safe.startswith(".") else safe) + ".npy"
