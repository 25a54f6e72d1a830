"""Every entry of each file of the zoo: torch 1.0 to 2.15 under Python 2.7 to 3.13, described by the .json beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pthparse

ZOO = Path(__file__).parent.parent / "data" / "zoo"
FILES = sorted(ZOO.glob("*/*.pth"))
ENTRIES = {f: json.loads(f.with_suffix(".json").read_text())["entries"] for f in FILES}


def sha256(array: np.ndarray) -> str:
    """Of the elements in C order, little endian."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def follow(root: Any, path: list[Any]) -> Any:
    for key in path:
        root = root[key]
    return root


def check_tensor(t: pthparse.Tensor, entry: dict[str, Any], of_state_dict: bool = False) -> None:
    assert (t.dtype, list(t.shape)) == (entry["dtype"], entry["shape"])
    # state_dict() detaches its tensors; the file of a whole model says which of them are parameters.
    assert t.requires_grad == (t.parameter if of_state_dict else entry["requires_grad"])
    if entry.get("layout", "strided") == "strided":
        assert list(t.stride) == entry["stride"]
        assert t.storage_offset == entry["offset"]
        assert sha256(t.numpy()) == entry["sha256"]
        assert sha256(t.numpy(copy=True)) == entry["sha256"]
    elif entry["layout"] == "quantized":
        assert t.kind == "quantized"
        assert sha256(t.numpy()) == entry["sha256"]
    else:
        assert t.layout == entry["layout"]
        assert t.to_dense().shape == tuple(entry["shape"])


def test_the_zoo_is_whole() -> None:
    assert len(FILES) == 97
    assert sum(len(e) for e in ENTRIES.values()) == 1958


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_every_entry(file: Path) -> None:
    whole = "whole_model" in file.name or "torchscript" in file.name
    with pthparse.open(file) as ckpt:
        assert not ckpt.errors and not ckpt.findings
        names = []
        for entry in ENTRIES[file]:
            path = entry["path"]
            if entry["kind"] == "tensor":
                names.append("/".join(str(p) for p in path))
                check_tensor(ckpt[names[-1]], entry, "whole_model" in file.name)
                if not whole:
                    check_tensor(follow(ckpt.root, path), entry)
            elif entry["kind"] == "value":
                assert follow(ckpt.root, path) == entry["value"]
                assert type(follow(ckpt.root, path)) in (type(entry["value"]), np.float64)
            elif entry["type"] == "ndarray":
                assert isinstance(follow(ckpt.root, path), np.ndarray)
            else:
                assert follow(ckpt.root, path).cls.rsplit(".", 1)[-1] == entry["type"]
        # torch 1.10 saved a conjugate view without saying so: what it meant is not known, so it has no entry.
        unknown = {"complex.conj"} - set(names)
        assert sorted(set(ckpt) - unknown) == sorted(names)
        if "whole_model" in file.name:
            assert list(ckpt) == names


def test_namespace_and_numpy_of_a_training_checkpoint() -> None:
    with pthparse.open(ZOO / "torch-2.13.0-py3.11" / "training.pth") as ckpt:
        assert ckpt.root["args"].cls == "argparse.Namespace"
        assert ckpt.metadata["optimizer/param_groups/0/betas/1"] == 0.999
        assert list(ckpt.state_dict())[:2] == ["embed.weight", "blocks.0.steps"]
        assert ckpt["model/embed.weight"].storage.tensors == ("model/embed.weight", "model/head.weight")


WHOLE = [f for f in FILES if "whole_model" in f.name]
# The modules of the zoo's model, in the order in which state_dict() meets them; each class once.
CLASSES = (
    "__main__.Net", "sparse.Embedding", "container.ModuleList", "__main__.Block", "normalization.LayerNorm",
    "linear.Linear", "activation.ReLU", "dropout.Dropout", "container.Sequential", "conv.Conv2d",
    "batchnorm.BatchNorm2d", "pooling.MaxPool2d",
)  # fmt: skip
FULL = [c if c.startswith("__main__") else f"torch.nn.modules.{c}" for c in CLASSES]


def modules(module: pthparse.Opaque) -> list[pthparse.Opaque]:
    below = [m for m in module["_modules"].values() if m is not None]
    return [module, *(inner for m in below for inner in modules(m))]


@pytest.mark.parametrize("file", WHOLE, ids=lambda f: f.parent.name)
def test_classes_of_whole_models_are_named(file: Path) -> None:
    """Legacy files name a class by a persistent id, with its source; zips name it as pickle does, without."""
    with pthparse.open(file) as ckpt:
        found = [m.cls for m in modules(ckpt.root)]
        assert found[0] == "__main__.Net" and found.count("__main__.Block") == 2
        assert list(dict.fromkeys(found)) == FULL
        if ckpt.format == "zip":
            assert ckpt.sources == ()
            return
        assert [s.cls for s in ckpt.sources] == FULL
        held = file.read_bytes()
        for source in ckpt.sources:
            module, name = source.cls.rsplit(".", 1)
            where = "make_zoo.py" if module == "__main__" else f"{module.replace('.', '/')}.py"
            assert source.file.endswith(where)
            assert source.text.startswith(f"class {name}(") and source.text.endswith("\n")
            assert source.text.encode() in held


def test_whole_models_of_both_containers_are_in_the_zoo() -> None:
    formats = []
    for file in WHOLE:
        with pthparse.open(file) as ckpt:
            formats.append(ckpt.format)
    assert (formats.count("legacy"), formats.count("zip")) == (3, 5)
