"""torch as the judge of sums: parameters, buffers, shared storages, slices with their base, EMA and optimizer state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from oracle.judge import dtype_of, loaded, named_tensors, saved
from torch import nn

import pthparse


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(self.embed(x)))
        return out


MODELS: dict[str, Callable[[], nn.Module]] = {
    "tied": Tied,
    "convolutions": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1, bias=False)),
    "attention": lambda: nn.TransformerDecoderLayer(16, 2, 32),
    "half": lambda: nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5)).half(),
    "several dtypes": lambda: nn.Sequential(nn.Linear(7, 5).bfloat16(), nn.Linear(5, 3).double()),
}
CONTAINERS = [True, False]
HOW: dict[str, Callable[[nn.Module], Any]] = {
    "state_dict": lambda m: m.state_dict(),
    "kept": lambda m: m.state_dict(keep_vars=True),
    "module": lambda m: m,
    "branch": lambda m: {"epoch": 3, "state_dict": m.state_dict()},
}


def unique(tensors: Iterator[torch.Tensor]) -> dict[Any, torch.Tensor]:
    return {(t.data_ptr(), t.storage_offset(), tuple(t.shape), t.stride()): t for t in tensors if t.numel()}


def storage_bytes(tensors: Iterator[torch.Tensor]) -> int:
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("zipped", CONTAINERS, ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore")
def test_parameters_and_buffers(model: str, how: str, zipped: bool) -> None:
    module = MODELS[model]()
    data = saved(HOW[how](module), _use_new_zipfile_serialization=zipped)
    capacity = pthparse.open(data).capacity()
    assert capacity.parameters == sum(p.numel() for p in module.parameters())
    assert capacity.buffers == sum(b.numel() for b in module.buffers())
    state = list(module.state_dict().values())
    assert capacity.tensor_bytes == storage_bytes(iter(state)) and capacity.wasted == 0
    own = unique(iter(state)).values()
    by_dtype = {g.name: (g.elements, g.nbytes) for g in capacity.groups("dtype")}
    for dtype in {dtype_of(t) for t in own}:
        of_it = [t for t in own if dtype_of(t) == dtype]
        assert by_dtype[dtype] == (sum(t.numel() for t in of_it), sum(t.nbytes for t in of_it))
    assert sum(e.nbytes for e in capacity.ledger()) == len(data)


@pytest.mark.parametrize("zipped", CONTAINERS, ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad])
@pytest.mark.filterwarnings("ignore")
def test_training_with_an_average(kind: Any, zipped: bool) -> None:
    model = Tied()
    optimizer = kind(model.parameters(), lr=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
    model(torch.randint(0, 50, (6,))).sum().backward()
    optimizer.step()
    obj = {
        "model": model.state_dict(),
        "model_ema": copy.deepcopy(model).state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    capacity = pthparse.open(saved(obj, _use_new_zipfile_serialization=zipped)).capacity()
    roles = {g.name: g for g in capacity.groups("role")}
    parameters = sum(p.numel() for p in model.parameters())
    state = [t for _, t in named_tensors(optimizer.state_dict()["state"])]
    assert capacity.parameters == roles["parameters"].elements == parameters
    assert capacity.buffers == roles["buffers"].elements == sum(b.numel() for b in model.buffers())
    assert roles["EMA copy"].elements == parameters + capacity.buffers
    assert roles["optimizer state"].elements == sum(t.numel() for t in state)
    assert roles["optimizer state"].nbytes == sum(t.nbytes for t in state)
    assert roles["other"].nbytes == obj["rng"].nbytes
    assert {r.what for r in capacity.why} == {"model", "buffers", "EMA copy", "optimizer state", "other", "structure"}
    tied = {s.names for s in capacity.shared if s.tied}
    assert tied == {(f"{m}/embed.weight", f"{m}/head.weight") for m in ("model", "model_ema")}


def slices() -> dict[str, torch.Tensor]:
    base, other = torch.randn(40, 30), torch.randn(100)
    return {
        "row": base[3],
        "overlapping": base[3:5],
        "columns": base[10:20, ::2],
        "same": base[3],
        "turned": base[30:].t(),
        "end": other[90:],
        "scalar": other[5],
        "alone": torch.ones(7),
        "expanded": torch.ones(1).expand(1000),
        "empty": torch.ones(0),
    }


@pytest.mark.parametrize("zipped", CONTAINERS, ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore")
def test_what_a_clean_copy_saves(zipped: bool) -> None:
    """Bytes that are looked at, counted by marking them; the rest is waste, and gone from a file of clones."""
    obj = slices()
    capacity = pthparse.open(saved(obj, _use_new_zipfile_serialization=zipped)).capacity()
    touched: dict[int, torch.Tensor] = {}
    for t in obj.values():
        storage = t.untyped_storage()
        marks = touched.setdefault(storage.data_ptr(), torch.zeros(storage.nbytes() // 4, dtype=torch.bool))
        marks[torch.as_strided(torch.arange(len(marks)), t.shape, t.stride(), t.storage_offset()).flatten()] = True
    used = 4 * sum(int(marks.sum()) for marks in touched.values())
    assert capacity.tensor_bytes == used
    assert capacity.wasted == storage_bytes(iter(obj.values())) - used
    assert sum(u.unused for u in capacity.unused) == capacity.wasted
    apart = {k: t for k, t in obj.items() if k not in ("overlapping", "same", "expanded")}
    clones = saved({k: t.clone() for k, t in apart.items()}, _use_new_zipfile_serialization=zipped)
    assert pthparse.open(clones).capacity().wasted == 0


def test_a_slice_of_a_large_base() -> None:
    base = torch.zeros(10_000)
    data, clean = saved({"w": base[:10]}), saved({"w": base[:10].clone()})
    capacity = pthparse.open(data).capacity()
    assert (capacity.wasted, capacity.tensor_bytes, capacity.parameters) == (39_960, 40, 10)
    assert abs(capacity.clean_bytes - len(clean)) <= 64  # the padding may differ
    assert loaded(data)["w"].untyped_storage().nbytes() == 40_000
