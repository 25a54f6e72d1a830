"""safetensors: a header of JSON, then the tensors, in the order that the safetensors library gives them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ..errors import LimitError
from .base import Entry, Format, Layout, Place, Wanted, not_written, put

# torch's name -> the format's: in the order of the library, by alignment first.
TYPES = {
    "uint64": "U64", "int64": "I64", "float64": "F64", "complex64": "C64", "float32": "F32", "uint32": "U32",
    "int32": "I32", "bfloat16": "BF16", "float16": "F16", "uint16": "U16", "int16": "I16",
    "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int8": "I8", "uint8": "U8", "float4_e2m1fn_x2": "F4",
    "bool": "BOOL",
}  # fmt: skip
RANKS = {dtype: i for i, dtype in enumerate(TYPES)}
MOST_HEADER = 100_000_000  # bytes that the library reads
NOTES = "__metadata__"


class Safetensors(Format):
    """One file, or several and an index of them."""

    name = "safetensors"
    remembers = True

    def refusal(self, entry: Entry) -> str | None:
        if entry.dtype not in TYPES:
            return f"safetensors has no {entry.dtype}"
        if entry.name == NOTES or not encodable(entry.name):
            return f"safetensors cannot have the name {entry.name!a}: rename it"
        if entry.dtype == "float4_e2m1fn_x2" and not entry.shape:
            return "safetensors has no single pair of float4"
        return None

    def layouts(self, wanted: Wanted) -> list[Layout]:
        shards = split(wanted.entries, wanted.most)
        out = []
        for i, shard in enumerate(shards):
            name = f"{wanted.stem}-{i + 1:05d}-of-{len(shards):05d}" if len(shards) > 1 else wanted.stem
            out.append(self._layout(wanted, shard, f"{name}.safetensors"))
        return out

    def _layout(self, wanted: Wanted, shard: list[int], name: str) -> Layout:
        entries, notes, ties = wanted.entries, wanted.notes, wanted.ties
        order = sorted(shard, key=lambda i: (RANKS[entries[i].dtype], entries[i].name.encode()))
        kept = {entries[i].name for i in shard}
        told = {NOTES: {**notes, **{k: v for k, v in ties.items() if v in kept and k not in notes}}}
        rows = [json.dumps(told, ensure_ascii=False, separators=(",", ":"))[1:-1]]
        quoted = json.JSONEncoder(ensure_ascii=False).encode
        at, places = 0, []
        for i in order:
            (dtype, shape), end = self.said(entries[i]), at + entries[i].nbytes
            sizes = ",".join(map(str, shape))
            rows.append(
                f'{quoted(entries[i].name)}:{{"dtype":"{dtype}","shape":[{sizes}],"data_offsets":[{at},{end}]}}'
            )
            places.append((i, at))
            at = end
        text = f"{{{','.join(rows)}}}".encode()
        text += b" " * (-len(text) % 8)
        if len(text) > MOST_HEADER:
            raise LimitError(
                "header-size", f"a header of {len(text)} bytes, readers take {MOST_HEADER}: ask for several files"
            )
        start = 8 + len(text)
        head = struct.pack("<Q", len(text)) + text
        return Layout(name, start + at, tuple((i, start + at) for i, at in places), partial(put, data=head, offset=0))

    def index(self, wanted: Wanted, layouts: Sequence[Layout]) -> tuple[str, bytes] | None:
        if len(layouts) < 2:
            return None
        entries, stem = wanted.entries, wanted.stem
        files = {entries[i].name: layout.name for layout in layouts for i, _ in layout.places}
        total = sum(entry.nbytes for entry in entries)
        told = {"metadata": {"total_size": total}, "weight_map": files}
        return f"{stem}.safetensors.index.json", (json.dumps(told, indent=2, sort_keys=True) + "\n").encode()

    def said(self, entry: Entry) -> tuple[str, tuple[int, ...]]:
        shape = entry.shape
        if entry.dtype == "float4_e2m1fn_x2":  # torch counts pairs, the format numbers
            shape = (*shape[:-1], 2 * shape[-1])
        return TYPES[entry.dtype], shape

    def read_back(self, path: str) -> Mapping[str, Place]:
        with Path(path).open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = file.seek(0, 2)
            if length > min(MOST_HEADER, size - 8):
                raise not_written(path, "its header is cut")
            file.seek(8)
            told = json.loads(file.read(length))
        told.pop(NOTES, None)
        at, out = 0, {}
        for name, row in told.items():
            begin, end = row["data_offsets"]
            if begin != at or end < begin:
                raise not_written(path, f"{name!a} begins at byte {begin} of the data, not {at}")
            at = end
            out[name] = Place(row["dtype"], tuple(row["shape"]), 8 + length + begin, end - begin)
        if 8 + length + at != size:
            raise not_written(path, f"{size} bytes, its header speaks of {8 + length + at}")
        return out


def encodable(name: str) -> bool:
    """Is it text? Names out of a pickle may hold halves of characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def split(entries: Sequence[Entry], most: int | None) -> list[list[int]]:
    """Tensors of each file, in their order: as many as make `most` bytes, and at least one."""
    shards: list[list[int]] = [[]]
    size = 0
    for i, entry in enumerate(entries):
        if most is not None and shards[-1] and size + entry.nbytes > most:
            shards.append([])
            size = 0
        shards[-1].append(i)
        size += entry.nbytes
    return shards
