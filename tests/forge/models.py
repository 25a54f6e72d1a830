"""Small models out of numpy arrays of float32, in the containers that people have them in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import pickles as p
from . import safetensors as st
from . import zips

Arrays = Mapping[str, Any]  # of float32, or what becomes that


def _bytes(array: Any) -> bytes:
    return np.asarray(array, "<f4").tobytes()


def zipped(tensors: Arrays, **values: bytes) -> bytes:
    """A state dict as torch saves it, with pickled values beside its tensors."""
    rows = {}
    for key, (name, array) in enumerate(tensors.items()):
        shape = np.shape(array)
        strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
        rows[name] = p.tensor(p.storage(str(key), math.prod(shape)), list(shape), strides)
    data = {str(key): _bytes(array) for key, array in enumerate(tensors.values())}
    return zips.checkpoint(p.pickle(p.dict_of({**rows, **values})), data)


def safe(tensors: Arrays, **metadata: str) -> bytes:
    """A safetensors file."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, array in tensors.items():
        more = _bytes(array)
        header[name] = st.entry("F32", list(np.shape(array)), (len(data), len(data) + len(more)))
        data += more
    return st.build(header, data)


def sharded(folder: Path, tensors: Arrays) -> Path:
    """A tensor a file, and an index."""
    folder.mkdir()
    weights = {}
    for i, (name, array) in enumerate(tensors.items()):
        weights[name] = f"pytorch_model-{i + 1:05}-of-{len(tensors):05}.bin"
        (folder / weights[name]).write_bytes(zipped({name: array}))
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    return folder
