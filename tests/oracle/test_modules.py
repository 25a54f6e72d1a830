"""Whole models: the names that their state_dict() has, from a pickled module and from TorchScript."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from oracle.judge import assert_dense, assert_same, raw, saved
from torch import nn

import pthparse


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript and quantization announce their end
        yield


class Tied(nn.Module):
    """Shared weights, buffers of both kinds, a module twice, names that look like others."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("scratch", torch.zeros(5), persistent=False)
        self.register_parameter("absent", None)
        self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.blocks.append(self.blocks[0])
        self.table = nn.ModuleDict({"a": nn.BatchNorm1d(4), "b": nn.PReLU()})
        self.loose = [torch.ones(2)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "tied": Tied,
    "transformer": lambda: nn.Transformer(16, 2, 2, 2, 32),
    "lstm": lambda: nn.LSTM(4, 5, 2, bidirectional=True),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3)
    ),
    "parametrized": lambda: torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
    "parameter_list": lambda: nn.ParameterList([torch.zeros(2), torch.ones(3)]),
    "parameter_dict": lambda: nn.ParameterDict({"x": torch.zeros(2), "y": torch.ones(3)}),
    "empty": nn.Identity,
    "attention": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True),
}
# torch refuses to pickle what parametrizations make of a module.
PICKLED = [name for name in MODULES if name != "parametrized"]


@pytest.mark.parametrize("name", PICKLED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pickled_module(name: str, zipped: bool) -> None:
    module = MODULES[name]()
    ckpt = assert_same(saved(module, _use_new_zipfile_serialization=zipped), module)
    assert list(ckpt) == list(module.state_dict())


@pytest.mark.parametrize("name", MODULES)
def test_state_dict(name: str) -> None:
    module = MODULES[name]()
    ckpt = assert_same(saved(module.state_dict()))
    assert list(ckpt) == list(module.state_dict())


def test_module_below_a_dict() -> None:
    module = MODULES["convolutions"]()
    ckpt = assert_same(saved({"model": module, "epoch": 3}))
    assert list(ckpt.state_dict()) == list(module.state_dict())
    assert ckpt.metadata["epoch"] == 3


def test_attributes_of_a_module_are_reached_by_path() -> None:
    root = pthparse.open(saved(Tied())).root
    assert root.cls == f"{__name__}.Tied" and root["training"] is True
    assert root["loose"][0].numpy().tolist() == [1, 1]
    assert root["_modules"]["embed"]["num_embeddings"] == 10


# ---- TorchScript ----


def scripted(module: nn.Module, mobile: bool = False) -> bytes:
    script = torch.jit.script(module)
    if mobile:
        return bytes(script._save_to_buffer_for_lite_interpreter(_use_flatbuffer=False))
    out = io.BytesIO()
    torch.jit.save(script, out)
    return out.getvalue()


class Constants(nn.Module):
    """Tensors in attributes and constants, beside parameters and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("mean", torch.randn(3))
        self.loose = torch.ones(2)
        self.names = ["a", "b"]
        self.sizes = [1, 2, 3]
        self.rate = 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x - self.mean) + self.loose * self.rate + torch.tensor([[7.0, 8.0]])


SCRIPTED = ["transformer", "lstm", "convolutions", "attention"]


@pytest.mark.parametrize("name", SCRIPTED)
@pytest.mark.parametrize("mobile", [False, True], ids=["jit", "ptl"])
def test_torchscript(name: str, mobile: bool) -> None:
    module = MODULES[name]().eval()
    data = scripted(module, mobile)
    ckpt = pthparse.open(data)
    assert ckpt.format == "torchscript"
    theirs = torch.jit.load(io.BytesIO(data)).state_dict() if not mobile else module.state_dict()
    assert list(ckpt) == list(theirs)
    for key, t in theirs.items():
        assert ckpt[key].shape == tuple(t.shape) and ckpt[key].stride == t.stride()
        assert np.ascontiguousarray(ckpt[key].numpy()).tobytes() == raw(t)


@pytest.mark.parametrize("mobile", [False, True], ids=["jit", "ptl"])
def test_attributes_and_constants(mobile: bool) -> None:
    ckpt = pthparse.open(scripted(Constants(), mobile))
    expected = ["mean", "linear.weight", "linear.bias"]
    # A mobile file holds no list of buffers beside its code, which torch still writes: the names are the same.
    assert sorted(ckpt) == sorted(expected)
    root = ckpt.root
    assert root["sizes"] == [1, 2, 3] and root["names"] == ["a", "b"] and root["rate"] == 0.5
    assert root["loose"].numpy().tolist() == [1, 1]


def test_traced_and_frozen() -> None:
    module = MODULES["convolutions"]().eval()
    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 3, 8, 8)), out)
    assert list(pthparse.open(out.getvalue())) == list(module.state_dict())
    out = io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.script(module)), out)
    ckpt = pthparse.open(out.getvalue())
    assert list(ckpt) == []
    constants = [c for c in ckpt.constants if isinstance(c, pthparse.Tensor)]
    assert {(8, 3, 3, 3), (3,)} <= {c.shape for c in constants}
    assert raw(module[3].bias) in [c.numpy().tobytes() for c in constants]


def test_script_with_extra_files() -> None:
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), out, _extra_files={"config.json": b"{}", "data.pkl.txt": b"x"})
    assert list(pthparse.open(out.getvalue())) == ["weight", "bias"]


def test_quantized_module() -> None:
    from torch.ao.nn.quantized import Linear

    module = Linear(4, 3)
    ckpt = pthparse.open(saved(module.state_dict()))
    packed = [t for t in ckpt.values() if t.kind == "quantized"]
    assert len(packed) == 1 and packed[0].shape == (3, 4)
    assert np.array_equal(packed[0].dequantize(), module.weight().dequantize().numpy())


def test_full_module_of_the_lesson() -> None:
    layer = nn.TransformerDecoderLayer(16, 2, 32)
    module = nn.Sequential(nn.Embedding(20, 16), nn.TransformerDecoder(layer, 2), nn.Linear(16, 20))
    ckpt = pthparse.open(saved(module))
    for name, p in module.named_parameters():
        assert_dense(ckpt[name], p)
