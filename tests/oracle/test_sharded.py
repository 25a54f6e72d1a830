"""Models in several files as real writers make them, against the same tensors in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import pthparse

FILES = 3


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    found = {f"layers.{i}.{n}": torch.randn(5, 7) for i in range(6) for n in ("weight", "other")}
    return found | {"half": torch.randn(9).half(), "brain": torch.randn(3, 3).bfloat16(), "n": torch.arange(4)}


def write(folder: Path, kind: str) -> None:
    """Every third tensor into the same file, as a writer that fills files by size would not: names are out of order."""
    whole = tensors()
    stem, ending = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    names = list(whole)
    weights: dict[str, str] = {}
    for i in range(FILES):
        part = {n: whole[n] for n in names[i::FILES]}
        file = f"{stem}-{i + 1:05}-of-{FILES:05}.{ending}"
        if kind == "safetensors":
            save_file(part, folder / file, {"format": "pt"})
        else:
            torch.save(part, folder / file, _use_new_zipfile_serialization=kind == "zip")
        weights |= dict.fromkeys(part, file)
    total = sum(t.numel() * t.element_size() for t in whole.values())
    said: dict[str, Any] = {"metadata": {"total_size": total}, "weight_map": {n: weights[n] for n in names}}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(said, indent=2))


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("with_index", [True, False])
def test_the_same_as_in_one_file(tmp_path: Path, kind: str, with_index: bool) -> None:
    write(tmp_path, kind)
    if not with_index:
        next(tmp_path.glob("*.index.json")).unlink()
    whole = tensors()
    torch.save(whole, tmp_path / "whole.pth")
    with pthparse.open(tmp_path / "whole.pth") as one:
        (tmp_path / "whole.pth").unlink()
        with pthparse.open(tmp_path) as model:
            assert set(model) == set(one) == set(whole) and not model.findings and not model.errors
            assert not with_index or list(model) == list(one)
            for name, t in one.items():
                mine = model[name]
                assert (mine.shape, mine.dtype, mine.numel) == (t.shape, t.dtype, t.numel)
                assert mine.numpy().tobytes() == t.numpy().tobytes()
            found = model.stats()
            assert [found[s.name].to_dict() for s in one.stats()] == [s.to_dict() for s in one.stats()]
            assert model.capacity().parameters == one.capacity().parameters
            assert sum(e.nbytes for e in model.capacity().ledger()) == model.nbytes
            assert model.verify().ok and model.audit().verdict == "clean"


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_converted_compared_and_hashed_as_one(tmp_path: Path, kind: str) -> None:
    """From several files to one and back to several: the same model all the way."""
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder, kind)
    pthparse.convert(folder, tmp_path / "one.safetensors")
    pthparse.convert(tmp_path / "one.safetensors", tmp_path / "again", max_shard_size=400)
    with pthparse.open(tmp_path / "again") as again:
        assert len(again.shards) > 2 and not again.findings
        assert {n: t.numpy().tobytes() for n, t in again.items()} == {
            n: t.contiguous().view(torch.uint8).numpy().tobytes() for n, t in tensors().items()
        }
        assert again.hash().model == pthparse.open(folder).hash().model
    assert pthparse.diff(folder, tmp_path / "again").same
    assert pthparse.diff(folder, tmp_path / "one.safetensors").same
