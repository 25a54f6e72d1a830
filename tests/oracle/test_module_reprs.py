"""Modules as they print themselves: `repr(model)` of torch against the tree of the file that was saved of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from oracle.judge import saved
from torch import nn

import pthparse


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy modules, TorchScript and old hooks say what they are
        yield


# ---- models as torchvision and others build them ----


class Block(nn.Module):
    """The bottleneck of a residual network."""

    def __init__(self, inner: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False, groups=2)
        self.bn2 = nn.BatchNorm2d(width, momentum=None)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv2d(inner, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(8, 8), Block(8, 8))
        self.layer2 = nn.Sequential(Block(8, 16, 2), Block(16, 16))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, 10)


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(True),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(4, 8, 3, padding=1),
            nn.ReLU(True),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(nn.Linear(8 * 49, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 10))


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.Hardswish(), nn.ReLU6(True)
            )
            for _ in range(4)
        )
        self.features.append(nn.Identity())
        self.features.extend([nn.SiLU(), nn.SiLU(inplace=True)])
        self.head = nn.Linear(8, 4, bias=False)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleDict({"a": nn.Conv2d(1, 4, 3, padding="same"), "b": nn.Conv2d(4, 8, 3, dilation=2)})
        self.pool = nn.AvgPool2d(2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, output_padding=1, bias=False)
        self.norm = nn.GroupNorm(2, 8, affine=False)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear")
        self.skip = None
        self.register_module("absent", None)
        self.weights = nn.ParameterList([torch.ones(2, 3), torch.ones(())])
        self.named = nn.ParameterDict({"x": torch.zeros(4), "y": torch.ones(1, 2, dtype=torch.float64)})


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(100, 16, padding_idx=0)
        self.h = nn.ModuleList(
            nn.ModuleDict({"ln_1": nn.LayerNorm(16), "attn": nn.MultiheadAttention(16, 2, batch_first=True)})
            for _ in range(3)
        )
        self.ln_f = nn.LayerNorm(16, bias=False)
        self.lm_head = nn.Linear(16, 100, bias=False)
        self.lm_head.weight = self.wte.weight


def weight_normed() -> nn.Module:
    return torch.nn.utils.weight_norm(nn.Linear(3, 4))  # the hooks of old, not the parametrization


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet": ResNet,
    "vgg": VGG,
    "mobilenet": MobileNet,
    "unet": UNet,
    "gpt": GPT,
    "weight_norm": weight_normed,
    "spectral_norm": lambda: torch.nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)),
    "transformer": lambda: nn.Transformer(16, 2, 2, 2, 32, batch_first=True),
    "encoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, activation=nn.GELU()), 3, nn.LayerNorm(16), enable_nested_tensor=False
    ),
    "decoder": lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 32), 2),
    "recurrent": lambda: nn.ModuleList(
        [
            nn.LSTM(4, 5, 2, bidirectional=True, dropout=0.1, batch_first=True),
            nn.LSTM(4, 5, proj_size=3, bias=False),
            nn.GRU(4, 5),
            nn.RNN(4, 5, nonlinearity="relu"),
            nn.RNNCell(4, 5, nonlinearity="relu"),
            nn.RNNCell(4, 5, bias=False),
            nn.LSTMCell(4, 5),
            nn.GRUCell(4, 5, bias=False),
        ]
    ),
    "embeddings": lambda: nn.ModuleList(
        [
            nn.Embedding(10, 3),
            nn.Embedding(10, 3, max_norm=1.0, norm_type=1.0, scale_grad_by_freq=True, sparse=True),
            nn.EmbeddingBag(10, 3),
            nn.EmbeddingBag(10, 3, mode="sum", padding_idx=2, max_norm=2.0),
            nn.Bilinear(2, 3, 4),
            nn.Bilinear(2, 3, 4, bias=False),
        ]
    ),
    "convolutions": lambda: nn.Sequential(
        nn.Conv1d(2, 4, 3),
        nn.Conv1d(2, 4, 3, padding="valid", padding_mode="circular"),
        nn.Conv3d(2, 4, (1, 2, 3), stride=(1, 2, 2), padding=(0, 1, 1), dilation=2, bias=False),
        nn.ConvTranspose1d(2, 4, 3, padding=1),
        nn.ConvTranspose3d(2, 4, 3, 2, 1, 1, groups=2),
        nn.Conv2d(2, 4, 3, padding_mode="reflect", padding=1),
    ),
    "norms": lambda: nn.Sequential(
        nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        nn.BatchNorm3d(4, eps=0.001),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm1d(4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.LayerNorm((2, 3), elementwise_affine=False),
        nn.RMSNorm(4),
        nn.RMSNorm((2, 4), eps=1e-6, elementwise_affine=False),
        nn.GroupNorm(2, 4),
        nn.LocalResponseNorm(5, k=2.0),
        nn.CrossMapLRN2d(5),
    ),
    "activations": lambda: nn.Sequential(
        nn.Threshold(0.1, 20, inplace=True), nn.ReLU(), nn.RReLU(), nn.Hardtanh(-2, 2), nn.ReLU6(), nn.Sigmoid(),
        nn.Hardsigmoid(), nn.Tanh(), nn.SiLU(), nn.Mish(inplace=True), nn.Hardswish(), nn.ELU(0.5), nn.CELU(),
        nn.SELU(), nn.GLU(), nn.GELU(), nn.GELU("tanh"), nn.Hardshrink(), nn.LeakyReLU(0.2, True), nn.LogSigmoid(),
        nn.Softplus(), nn.Softshrink(0.3), nn.PReLU(3), nn.Softsign(), nn.Tanhshrink(), nn.Softmin(),
        nn.Softmax(dim=-1), nn.Softmax2d(), nn.LogSoftmax(1),
    ),
    "pools": lambda: nn.Sequential(
        nn.MaxPool1d(2), nn.MaxPool2d((2, 3), ceil_mode=True), nn.MaxPool3d(2, dilation=2), nn.MaxUnpool1d(2),
        nn.MaxUnpool2d(2), nn.MaxUnpool3d(2), nn.AvgPool1d(2), nn.AvgPool2d(2, padding=1), nn.AvgPool3d(2),
        nn.FractionalMaxPool2d(2, output_ratio=0.5), nn.LPPool1d(2, 3), nn.LPPool2d(1.2, 2, ceil_mode=True),
        nn.LPPool3d(2, 2), nn.AdaptiveMaxPool1d(3), nn.AdaptiveMaxPool2d((None, 3)), nn.AdaptiveMaxPool3d(2),
        nn.AdaptiveAvgPool1d(1), nn.AdaptiveAvgPool3d((1, 2, 3)),
    ),
    "shapes": lambda: nn.Sequential(
        nn.Flatten(), nn.Unflatten(1, (2, 3)), nn.Fold((4, 5), 2), nn.Unfold((2, 3), padding=1), nn.PixelShuffle(2),
        nn.PixelUnshuffle(3), nn.ChannelShuffle(2), nn.Upsample((3, 4)), nn.Upsample(scale_factor=(2, 3)),
        nn.UpsamplingNearest2d(2), nn.UpsamplingBilinear2d(scale_factor=2), nn.Identity(), nn.Identity(3, x=4),
    ),
    "pads": lambda: nn.Sequential(
        nn.ConstantPad1d(1, 2.5), nn.ConstantPad2d((1, 2, 3, 4), 0), nn.ConstantPad3d(1, -1), nn.ZeroPad1d(1),
        nn.ZeroPad2d(2), nn.ZeroPad3d(1), nn.ReflectionPad1d(1), nn.ReflectionPad2d((1, 0, 1, 0)),
        nn.ReflectionPad3d(1), nn.ReplicationPad1d(1), nn.ReplicationPad2d(1), nn.ReplicationPad3d(1),
        nn.CircularPad1d(1), nn.CircularPad2d(1), nn.CircularPad3d(1),
    ),
    "dropouts": lambda: nn.Sequential(
        nn.Dropout(0.2), nn.Dropout1d(), nn.Dropout2d(inplace=True), nn.Dropout3d(0.25), nn.AlphaDropout(),
        nn.FeatureAlphaDropout(),
    ),
    "losses": lambda: nn.ModuleList(
        [nn.L1Loss(), nn.NLLLoss(), nn.CrossEntropyLoss(torch.ones(3), label_smoothing=0.1), nn.MSELoss(), nn.BCELoss(),
         nn.BCEWithLogitsLoss(), nn.HuberLoss(), nn.CTCLoss(), nn.TripletMarginLoss(), nn.KLDivLoss(),
         nn.CosineSimilarity(), nn.PairwiseDistance(), nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10])]
    ),
    "attention": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True, bias=False),
    "lists": lambda: nn.ModuleList(
        [nn.ModuleList(), nn.ModuleDict(), nn.Sequential(), *(nn.ModuleList([nn.Linear(2, 2)] * 3) for _ in range(2))]
    ),
    "lazy": lambda: nn.Sequential(
        nn.LazyLinear(4), nn.LazyConv2d(4, 3), nn.LazyBatchNorm1d(), nn.LazyConvTranspose1d(2, 3)
    ),
    "empty": nn.ParameterList,
    "one": lambda: nn.Linear(2, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_repr(name: str, zipped: bool) -> None:
    model = MODELS[name]()
    root = pthparse.open(saved(model, _use_new_zipfile_serialization=zipped)).modules
    assert repr(root) == repr(model)
    for path, module in model.named_modules(remove_duplicate=False):
        ours = root.find(path)
        assert ours is not None, path
        assert (ours.kind, ours.basis, ours.training) == (type(module).__name__, "stated", True)
        assert ours.class_name == f"{type(module).__module__}.{type(module).__qualname__}"
        assert [m.name.rpartition(".")[2] for m in ours.children] == list(module._modules)
        if not module._modules:
            assert repr(ours) == repr(module)


def assert_tensors(root: pthparse.Module, model: nn.Module, ckpt: Any) -> None:
    """Parameters and buffers of each module, by their names in the checkpoint, and no other ones."""
    for path, module in model.named_modules(remove_duplicate=False):
        ours = root.find(path)
        before = f"{path}." if path else ""
        lost = module._non_persistent_buffers_set
        assert ours.parameters == tuple(before + n for n, p in module._parameters.items() if p is not None)
        held = [n for n, b in module._buffers.items() if b is not None]
        assert ours.buffers == tuple(before + n for n in held if n not in lost)
        assert ours.transient == tuple(before + n for n in held if n in lost)
    assert sorted(n for m in root.walk() for n in (*m.parameters, *m.buffers)) == sorted(ckpt)


@pytest.mark.parametrize("name", [n for n in MODELS if n != "lazy"])
def test_tensors(name: str) -> None:
    model = MODELS[name]()
    ckpt = pthparse.open(saved(model))
    assert_tensors(ckpt.modules, model, ckpt)
    unique = {id(t): t.numel() for t in model.state_dict(keep_vars=True).values()}
    assert ckpt.modules.params == sum(unique.values())


class Odd(nn.Module):
    """Buffers that are not saved, tied weights, a module under two names, plain values of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scratch", torch.zeros(5), persistent=False)
        self.register_buffer("steps", torch.tensor(3))
        self.again = self.head
        self.sizes, self.act, self.table, self.none = [1, (2, 3)], nn.functional.gelu, {"a": 1.5}, None
        self.loose = torch.ones(2)
        self.dtype = torch.bfloat16


def test_what_it_is_made_of() -> None:
    model = Odd().eval()
    ckpt = pthparse.open(saved(model))
    root = ckpt.modules
    assert_tensors(root, model, ckpt)
    assert root.transient == ("scratch",) and root.buffers == ("steps",) and root.training is False
    assert root.config == {
        "sizes": (1, (2, 3)), "act": "torch._C._nn.gelu", "table": {"a": 1.5}, "none": None, "dtype": "bfloat16",
    }  # fmt: skip
    assert "not of torch.nn" in root.evidence and root.find("embed").evidence == ""
    assert [(m.name, m.params, m.nbytes) for m in root.children] == [
        ("embed", 40, 160),
        ("head", 0, 0),
        ("again", 0, 0),
    ]
    assert root.params == 41 and root.nbytes == 168


def test_modules_below_a_dict() -> None:
    model = MODELS["resnet"]()
    ckpt = pthparse.open(saved({"epoch": 3, "nets": {"a": model, "b": nn.Linear(2, 2)}, "ema": {"w": torch.ones(2)}}))
    root = ckpt.modules
    assert [m.name for m in root.children] == ["nets", "ema"] and root.basis == "unknown"
    ours = root.find("nets/a")
    assert repr(ours) == repr(model)
    assert ours.find("nets/a/layer1.0").kind == "Block"
    assert root.find("nets/b").parameters == ("nets/b/weight", "nets/b/bias")
    assert root.find("ema").parameters == ("ema/w",)
    assert repr(ckpt.group("nets").group("a").modules) == repr(model)
    assert sorted(n for m in root.walk() for n in (*m.parameters, *m.buffers)) == sorted(ckpt)


class Run:
    """An object that is no module, and holds some."""

    def __init__(self) -> None:
        self.model, self.more, self.n = nn.Linear(2, 3), {"x": [nn.ReLU()]}, 3


def test_modules_in_whatever_was_saved() -> None:
    import collections

    made: list[tuple[Any, dict[str, str]]] = [
        ([nn.Linear(2, 2), nn.ReLU()], {"0": "Linear", "1": "ReLU"}),
        (Run(), {"model": "Linear", "more/x/0": "ReLU"}),
        ({"run": (Run(), 1)}, {"run/0/model": "Linear", "run/0/more/x/0": "ReLU"}),
        (collections.deque([nn.Linear(1, 2)]), {"0": "Linear"}),
    ]
    for value, kinds in made:
        ckpt = pthparse.open(saved(value))
        assert {m.name: m.kind for m in ckpt.modules.walk() if m.basis == "stated"} == kinds
        assert sorted(n for m in ckpt.modules.walk() for n in (*m.parameters, *m.buffers)) == sorted(ckpt)


# ---- TorchScript ----


@pytest.mark.parametrize("name", ["vgg", "convolutions", "norms", "shapes", "dropouts", "one"])
def test_torchscript(name: str) -> None:
    """Scripted modules keep their constants in the code: enough to print what the module printed."""
    import io

    model = MODELS[name]()
    if name == "shapes":
        model = nn.Sequential(nn.Flatten(), nn.PixelShuffle(2), nn.ReLU(), nn.Softmax(dim=1), nn.Identity())
    if name == "norms":
        model = nn.Sequential(nn.BatchNorm1d(4), nn.LayerNorm((2, 3)), nn.GroupNorm(2, 4))
    if name == "vgg":
        model = nn.Sequential(*model.features, *model.classifier)
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(model), out)
    ckpt = pthparse.open(out.getvalue())
    assert repr(ckpt.modules) == repr(model)
    assert_tensors(ckpt.modules, model, ckpt)


def test_traced() -> None:
    """Tracing keeps no constants: what is there are the classes and the tensors."""
    import io

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)).eval()
    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, torch.ones(1, 3)), out)
    ckpt = pthparse.open(out.getvalue())
    assert_tensors(ckpt.modules, model, ckpt)
    assert repr(ckpt.modules) == repr(model)
    assert ckpt.modules.training is False and ckpt.modules.find("0").evidence.startswith("traced: ")


@pytest.mark.parametrize("tracer", ["fx", "dynamic quantization"])
def test_classes_that_are_made_or_replaced(tracer: str) -> None:
    model: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    if tracer == "fx":
        made = torch.fx.symbolic_trace(model)
        root = pthparse.open(saved(made)).modules
        assert root.class_name == "torch.fx.graph_module.GraphModule"
        assert [repr(m) for m in root.children] == [repr(m) for m in model.children()]
    else:
        made = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
        root = pthparse.open(saved(made)).modules
        assert root.find("0").class_name == "torch.ao.nn.quantized.dynamic.modules.linear.Linear"
        assert root.find("0._packed_params").parameters == ("0._packed_params._packed_params/1",)
        assert root.find("0._packed_params").buffers == ("0._packed_params._packed_params/0",)
    assert "not of torch.nn" in root.find("0" if tracer != "fx" else "").evidence
