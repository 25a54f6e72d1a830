"""Distributed checkpoints, made by hand: the pickle of their metadata, and their files."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import pickles as p
from . import zips

DCP = "torch.distributed.checkpoint"


def made(module: str, name: str, state: bytes | None) -> bytes:
    """An object of a class, with a state."""
    new = p.glob(f"{DCP}.{module}", name) + p.EMPTY_TUPLE + p.NEWOBJ
    return new if state is None else new + state + p.BUILD


def size(numbers: Sequence[Any]) -> bytes:
    items = [n if isinstance(n, bytes) else p.integer(n) for n in numbers]
    return p.call(p.glob("torch", "Size"), p.tuple_of(items))


def tensor(
    shape: Sequence[Any], chunks: Iterable[tuple[Sequence[Any], Sequence[Any]]], dtype: str = "float32"
) -> bytes:
    encoding = made("metadata", "_MEM_FORMAT_ENCODING", None)
    properties = p.tuple_of([p.glob("torch", dtype), p.text("strided"), p.FALSE, encoding, p.FALSE])
    parts = [
        made("metadata", "ChunkStorageMetadata", p.dict_of({"offsets": size(a), "sizes": size(b)})) for a, b in chunks
    ]
    state = {"properties": made("metadata", "TensorProperties", properties), "size": size(shape)}
    return made("metadata", "TensorStorageMetadata", p.dict_of({**state, "chunks": p.list_of(parts)}))


def value() -> bytes:
    return made("metadata", "BytesStorageMetadata", None)


def index(fqn: str, offset: Sequence[Any] | None) -> bytes:
    state = {"fqn": p.text(fqn), "index": p.NONE if offset is None else p.integer(0)}
    return made(
        "metadata", "MetadataIndex", p.dict_of({**state, **({"offset": size(offset)} if offset is not None else {})})
    )


def info(file: str, offset: int, length: int, **more: bytes) -> bytes:
    state = {"relative_path": p.text(file), "offset": p.integer(offset), "length": p.integer(length), **more}
    return made("filesystem", "_StorageInfo", p.dict_of(state))


def metadata(
    items: Mapping[str, bytes], places: Iterable[tuple[bytes, bytes]], paths: Mapping[str, Sequence[str]] | None = None
) -> bytes:
    said = {
        "state_dict_metadata": p.dict_of(items),
        "storage_data": p.pairs(places),
        "version": p.text("1.0.0"),
    }
    if paths is not None:
        said["planner_data"] = p.dict_of({n: p.tuple_of([p.text(x) for x in path]) for n, path in paths.items()})
    return p.pickle(made("metadata", "Metadata", p.dict_of(said)), 4)


def chunk(values: Sequence[float], shape: Sequence[int]) -> bytes:
    """The archive of one chunk of float32."""
    strides, n = [], 1
    for k in reversed(shape):
        strides.insert(0, n)
        n *= k
    root = p.tensor(p.storage("0", len(values)), list(shape), strides)
    return zips.checkpoint(p.pickle(root), {"0": struct.pack(f"<{len(values)}f", *values)})


def write(folder: Path, parts: Mapping[str, Sequence[bytes]]) -> dict[str, list[tuple[str, int, int]]]:
    """Writes files of parts one behind the other, and says where each lies."""
    out = {}
    for file, pieces in parts.items():
        at, places = 0, []
        for piece in pieces:
            places.append((file, at, len(piece)))
            at += len(piece)
        (folder / file).write_bytes(b"".join(pieces))
        out[file] = places
    return out
