"""Whole models: the names that their state_dict() has, from a pickled module and from TorchScript."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from oracle.judge import assert_dense, assert_same, dtype_of, raw, saved
from torch import nn

import pthparse
from pthparse import _core


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


# ---- modules that say how they are to be made again ----


@pytest.mark.parametrize("how", [{}, {"pickle_protocol": 5}, {"_use_new_zipfile_serialization": False}], ids=str)
def test_module_traced_by_fx(how: dict[str, Any]) -> None:
    """Its parts lie in an argument of the function that would compile its code."""
    module = torch.fx.symbolic_trace(MODULES["convolutions"]())
    ckpt = assert_same(saved({"net": module, "epoch": 2}, **how), {"net": module})
    assert list(ckpt.state_dict()) == list(module.state_dict())
    assert ckpt.metadata["epoch"] == 2
    ckpt = assert_same(saved(module, **how), module)
    assert list(ckpt) == list(module.state_dict())
    assert ckpt["1.running_mean"].parameter is False and ckpt["0.weight"].parameter is True


def packed_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Weight and bias of each packed module, by the names that packed weights have."""
    found: dict[str, torch.Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, torch.ao.nn.quantized.modules.linear.LinearPackedParams):
            weight, bias = part._weight_bias()
            found[f"{name}._packed_params/0"] = weight
            found[f"{name}._packed_params/1"] = bias
    return found


def assert_packed(ours: pthparse.Tensor, theirs: torch.Tensor) -> None:
    assert ours.error is None
    assert (ours.dtype, ours.shape, ours.stride) == (dtype_of(theirs), tuple(theirs.shape), theirs.stride())
    assert ours.kind == ("quantized" if theirs.is_quantized else "dense")
    assert ours.numpy().tobytes() == raw(theirs)
    if theirs.is_quantized:
        assert np.array_equal(ours.dequantize(), theirs.dequantize().numpy())


@pytest.mark.parametrize("how", [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}], ids=str)
def test_packed_weights_of_dynamic_quantization(how: dict[str, Any]) -> None:
    floats = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 5, bias=True)))
    module = torch.ao.quantization.quantize_dynamic(floats, {nn.Linear}, dtype=torch.qint8)
    expected = packed_tensors(module)
    prefixes = ("0._packed_params._packed_params", "2.0._packed_params._packed_params")
    assert list(expected) == [f"{p}/{i}" for p in prefixes for i in (0, 1)]
    ckpt = pthparse.open(saved(module, **how))
    assert list(ckpt) == list(expected) and not ckpt.errors
    for name, theirs in expected.items():
        assert_packed(ckpt[name], theirs)


def test_packed_weights_of_a_recurrent_module() -> None:
    floats = nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 4))
    module = torch.ao.quantization.quantize_dynamic(floats, {nn.Linear, nn.LSTM}, dtype=torch.qint8)
    ckpt = pthparse.open(saved(module))
    assert list(ckpt)[:2] == [f"0._packed_params._packed_params/{i}" for i in (0, 1)]
    of_lstm = [t for name, t in ckpt.items() if name.startswith("1._all_weight_values.0.param/")]
    assert len(of_lstm) == len(ckpt) - 2
    quantized = {t.shape: t for t in of_lstm if t.kind == "quantized"}
    assert set(quantized) == {(16, 3), (16, 4)}
    for name, shape in (("weight_ih_l0", (16, 3)), ("weight_hh_l0", (16, 4))):
        # A step of the quantizer is the most that a weight may have moved.
        theirs = getattr(floats[1], name).detach().numpy()
        t = quantized[shape]
        assert np.abs(t.dequantize() - theirs).max() <= t.scale
    biases = [raw(getattr(floats[1], name)) for name in ("bias_ih_l0", "bias_hh_l0")]
    assert {t.numpy().tobytes() for t in of_lstm if t.kind == "dense"} == set(biases)


def test_packed_weights_of_static_quantization() -> None:
    stubs = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
    floats = nn.Sequential(stubs[0], nn.Linear(6, 2), nn.ReLU(), stubs[1]).eval()
    floats.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")
    prepared = torch.ao.quantization.prepare(floats)
    prepared(torch.randn(5, 6))
    module = torch.ao.quantization.convert(prepared)
    packed = packed_tensors(module)
    assert list(packed) == [f"1._packed_params._packed_params/{i}" for i in (0, 1)]
    stubbed = {name: module.state_dict()[name] for name in ("0.scale", "0.zero_point")}
    ckpt = pthparse.open(saved(module))
    assert list(ckpt) == [*stubbed, *packed] and not ckpt.errors
    for name, theirs in {**stubbed, **packed}.items():
        assert_packed(ckpt[name], theirs)


# ---- classes of whole modules in legacy files ----


def source_of(cls: type) -> tuple[str, str, str]:
    return f"{cls.__module__}.{cls.__qualname__}", inspect.getsourcefile(cls) or "", inspect.getsource(cls)


def test_legacy_file_names_its_classes_and_holds_their_source() -> None:
    module = nn.Sequential(Tied(), nn.ReLU(), nn.Linear(2, 2))
    ckpt = pthparse.open(saved(module, _use_new_zipfile_serialization=False))
    root = ckpt.root
    assert root.cls == "torch.nn.modules.container.Sequential"
    assert [m.cls for m in root["_modules"].values()] == [
        f"{__name__}.Tied",
        "torch.nn.modules.activation.ReLU",
        "torch.nn.modules.linear.Linear",
    ]
    below = root["_modules"]["0"]["_modules"]
    assert [m.cls.rsplit(".", 1)[1] for m in below.values()] == ["Embedding", "Linear", "ModuleList", "ModuleDict"]
    in_order = [nn.Sequential, Tied, nn.Embedding, nn.Linear, nn.ModuleList, nn.ModuleDict, nn.BatchNorm1d, nn.PReLU]
    assert [(s.cls, s.file, s.text) for s in ckpt.sources] == [source_of(c) for c in [*in_order, nn.ReLU]]


def test_zip_file_holds_no_source() -> None:
    ckpt = pthparse.open(saved(Tied()))
    assert ckpt.sources == () and ckpt.root.cls == f"{__name__}.Tied"


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


class Buffers(nn.Module):
    """Buffers, and nothing to do."""

    def __init__(self, **buffers: torch.Tensor) -> None:
        super().__init__()
        for name, t in buffers.items():
            self.register_buffer(name, t)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def of_dtype(name: str) -> torch.Tensor:
    """96 bytes of it, whatever they mean; what is quantized by a quantizer."""
    dtype = getattr(torch, name)
    if name in ("quint4x2", "quint2x4"):
        scales, zeros = torch.full((3,), 0.5), torch.zeros(3)
        return torch.quantize_per_channel(torch.arange(24.0).reshape(3, 8) / 4, scales, zeros, 0, dtype)
    if name.startswith("q"):
        return torch.quantize_per_tensor(torch.linspace(-3, 3, 24).reshape(3, 8), 0.05, 3, dtype)
    whole = torch.arange(96, dtype=torch.uint8).mul(37).add(11)
    return whole % 2 == 0 if name == "bool" else whole.view(dtype)


EVERY_DTYPE = [row[0] for row in _core.DTYPES if row[0] != "untyped"]


def assert_bytes(ours: pthparse.Tensor, theirs: torch.Tensor) -> None:
    """The same place in the storage, and the same bytes there: so much can be said of every dtype."""
    assert ours.error is None
    assert (ours.dtype, ours.shape) == (dtype_of(theirs), tuple(theirs.shape))
    assert (ours.stride, ours.storage_offset) == (theirs.stride(), theirs.storage_offset())
    start = ours.storage_offset * ours.itemsize
    assert ours.numpy().tobytes() == bytes(theirs.untyped_storage())[start : start + ours.nbytes]
    assert ours.numpy(copy=True).tobytes() == ours.numpy().tobytes()


@pytest.mark.parametrize("name", EVERY_DTYPE)
@pytest.mark.parametrize("mobile", [False, True], ids=["jit", "ptl"])
def test_torchscript_buffer_of_every_dtype(name: str, mobile: bool) -> None:
    """The dtype stands in the storage class, or, where there is none, in the call that rebuilds the tensor."""
    whole = of_dtype(name)
    buffers = {"whole": whole} if whole.is_quantized else {"whole": whole, "view": whole[4:8], "scalar": whole[3]}
    data = scripted(Buffers(**buffers), mobile)
    # torch writes the packed ones, and refuses to load them; a mobile module has no state_dict().
    judged = not mobile and name not in ("quint4x2", "quint2x4")
    expected = torch.jit.load(io.BytesIO(data)).state_dict() if judged else buffers
    ckpt = pthparse.open(data)
    assert list(ckpt) == list(buffers) == list(expected) and not ckpt.errors
    for key, theirs in expected.items():
        assert_bytes(ckpt[key], theirs)
        assert ckpt[key].storage.nbytes == theirs.untyped_storage().nbytes()
    assert ckpt["whole"].storage.tensors == tuple(buffers)


def test_torchscript_quantized_per_channel() -> None:
    scales, zeros = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64), torch.tensor([0, 3, -2])
    t = torch.quantize_per_channel(torch.linspace(-3, 3, 24).reshape(3, 8), scales, zeros, 0, torch.qint8)
    data = scripted(Buffers(q=t))
    theirs = torch.jit.load(io.BytesIO(data)).state_dict()["q"]
    ours = pthparse.open(data)["q"]
    assert (ours.kind, ours.quantization, ours.axis) == ("quantized", "per_channel_affine", theirs.q_per_channel_axis())
    assert np.array_equal(ours.scale, theirs.q_per_channel_scales().numpy())
    assert np.array_equal(ours.zero_point, theirs.q_per_channel_zero_points().numpy())
    assert ours.numpy().tobytes() == raw(theirs)


def sparse_matrix() -> torch.Tensor:
    return torch.tensor([[0.0, 1.5, 0.0, 0.0], [2.0, 0.0, 0.0, -3.0], [0.0, 0.0, 0.0, 0.0]])


def test_torchscript_coo_buffer() -> None:
    whole = sparse_matrix().to_sparse()
    doubled = torch.sparse_coo_tensor([[0, 0, 2], [1, 1, 3]], [1.0, 2.0, 3.0], (3, 4))
    data = scripted(Buffers(whole=whole, hybrid=sparse_matrix().to_sparse(1), doubled=doubled))
    ckpt = pthparse.open(data)
    theirs = torch.jit.load(io.BytesIO(data)).state_dict()
    assert list(ckpt) == list(theirs) and not ckpt.errors
    for name, t in theirs.items():
        ours = ckpt[name]
        assert (ours.kind, ours.layout, ours.shape) == ("sparse", "sparse_coo", tuple(t.shape))
        assert (ours.dtype, ours.requires_grad, ours.device) == (dtype_of(t), t.requires_grad, str(t.device))
        assert ours.indices.tolist() == t._indices().tolist()
        assert ours.values.tolist() == t._values().tolist()
        assert ours.to_dense().tolist() == t.to_dense().tolist()


def test_torchscript_csr_buffer() -> None:
    data = scripted(Buffers(whole=sparse_matrix().to_sparse_csr(), halves=sparse_matrix().half().to_sparse_csr()))
    ckpt = pthparse.open(data)
    theirs = torch.jit.load(io.BytesIO(data)).state_dict()
    assert list(ckpt) == list(theirs) and not ckpt.errors
    for name, t in theirs.items():
        ours = ckpt[name]
        assert (ours.kind, ours.layout, ours.shape) == ("sparse", "sparse_csr", tuple(t.shape))
        assert (ours.dtype, ours.requires_grad, ours.device) == (dtype_of(t), t.requires_grad, str(t.device))
        assert ours.compressed_indices.tolist() == t.crow_indices().tolist()
        assert ours.plain_indices.tolist() == t.col_indices().tolist()
        assert ours.values.tolist() == t.values().tolist()
        assert ours.to_dense().tolist() == t.to_dense().tolist()


@pytest.mark.parametrize("layout", ["csc", "bsr", "bsc"])
def test_torchscript_writes_no_other_compressed_layout(layout: str) -> None:
    """What cannot be written needs no reader: the day that torch writes it, this says so."""
    t = getattr(sparse_matrix()[:2], f"to_sparse_{layout}")(*([(1, 2)] if layout != "csc" else []))
    with pytest.raises(NotImplementedError, match="storage"):
        scripted(Buffers(t=t))


@pytest.mark.parametrize("mobile", [False, True], ids=["jit", "ptl"])
def test_torchscript_meta_buffer(mobile: bool) -> None:
    buffers = {"plain": torch.empty(3, 4, device="meta"), "turned": torch.empty(5, 2, device="meta").half().t()}
    data = scripted(Buffers(**buffers, real=torch.ones(2)), mobile)
    theirs = torch.jit.load(io.BytesIO(data)).state_dict() if not mobile else buffers
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["plain", "turned", "real"] and not ckpt.errors
    for name in buffers:
        ours, t = ckpt[name], theirs[name]
        assert t.is_meta and (ours.kind, ours.device) == ("meta", "meta")
        assert (ours.dtype, ours.shape, ours.stride) == (dtype_of(t), tuple(t.shape), t.stride())
        with pytest.raises(pthparse.UnsupportedError, match="without data"):
            ours.numpy()
    assert ckpt["real"].numpy().tolist() == [1, 1]


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
