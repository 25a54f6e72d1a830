"""Kinds inferred from state dicts, against the classes that models were built of: unknown is allowed, wrong is not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle.models import FAMILIES, MADE, Conv1D, Holder, RMSNorm, build, opened
from oracle.test_module_reprs import MODELS, Block
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

import pthparse


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Kinds that are no classes of torch, and what may stand behind them. Holder: a class that a model brings itself.
KINDS: dict[str, Any] = {
    "BatchNorm": _NormBase,  # an InstanceNorm that keeps statistics has the same tensors, and the evidence says so
    "Embedding": (nn.Embedding, nn.EmbeddingBag),
    "RMSNorm": (nn.RMSNorm, RMSNorm),
    "Conv1D": Conv1D,
    **dict.fromkeys(("Attention", "FeedForward", "TransformerLayer", "MixtureOfExperts", "LoRA Linear"), Holder),
}


class Generator(nn.Module):
    """Of a GAN: kernels without biases that are all transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(10, 32, 4, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip


class Segmenter(nn.Module):
    """Goes down and up again."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.up1 = nn.ConvTranspose2d(8, 8, 2, 2)
        self.up2 = nn.ConvTranspose2d(8, 4, 2, 2)
        self.up3 = nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=4), nn.GroupNorm(2, 4), nn.Conv2d(4, 8, 1))
        self.conv_last = nn.Conv2d(8, 8, 1)


class Mixed(nn.Module):
    """One of each, under names that say nothing."""

    def __init__(self) -> None:
        super().__init__()
        made = (
            nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(3, 4, bias=False), nn.Embedding(5, 3), nn.EmbeddingBag(5, 3),
            nn.Bilinear(2, 3, 4), nn.Bilinear(2, 3, 4, bias=False), nn.Conv1d(2, 4, 3), nn.Conv1d(4, 4, 3),
            nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3, groups=4), nn.Conv3d(2, 4, 3),
            nn.ConvTranspose1d(2, 4, 3), nn.ConvTranspose2d(2, 4, 3), nn.ConvTranspose3d(2, 4, 3, bias=False),
            nn.ConvTranspose2d(4, 4, 3), nn.BatchNorm1d(4), nn.BatchNorm2d(4, affine=False),
            nn.BatchNorm2d(4, track_running_stats=False),
            nn.InstanceNorm2d(4, affine=True), nn.LayerNorm(4), nn.LayerNorm((2, 3)), nn.LayerNorm(4, bias=False),
            nn.RMSNorm(4), nn.GroupNorm(2, 4), nn.PReLU(), nn.PReLU(4), nn.LSTM(3, 4, 2, bidirectional=True),
            nn.LSTM(3, 4, bias=False, proj_size=2), nn.GRU(3, 4), nn.RNN(3, 4), nn.RNN(4, 4), nn.LSTMCell(3, 4),
            nn.GRUCell(3, 4), nn.RNNCell(3, 4, bias=False), nn.MultiheadAttention(8, 2),
            nn.ParameterList([torch.ones(2)]),
            nn.MultiheadAttention(8, 2, kdim=3, vdim=5, add_bias_kv=True), nn.MultiheadAttention(8, 2, bias=False),
            nn.TransformerEncoderLayer(8, 2, 16), nn.TransformerDecoderLayer(8, 2, 16, bias=False),
            nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.ModuleList([nn.Linear(2, 2)]),
        )  # fmt: skip
        for i, module in enumerate(made):
            self.add_module(f"m{chr(97 + i // 26)}{chr(97 + i % 26)}", module)


class Speech(nn.Module):
    """As speech models begin: a GroupNorm under the name of another norm."""

    def __init__(self) -> None:
        super().__init__()
        first = Holder()
        first.conv = nn.Conv1d(1, 8, 10, bias=False)
        first.layer_norm = nn.GroupNorm(8, 8)
        self.conv_layers = nn.ModuleList([first])
        self.shared = nn.Linear(8, 32, bias=False)
        self.layer_norm = nn.LayerNorm(8)


class Adapted(nn.Module):
    """A layer with an adapter, as peft nests it."""

    def __init__(self) -> None:
        super().__init__()
        holder = Holder()
        holder.base_layer = nn.Linear(6, 8)
        holder.lora_A = nn.ModuleDict({"default": nn.Linear(6, 2, bias=False)})
        holder.lora_B = nn.ModuleDict({"default": nn.Linear(2, 8, bias=False)})
        self.q_proj = holder


def weight_normed() -> nn.Module:
    return nn.Sequential(
        torch.nn.utils.weight_norm(nn.Conv2d(3, 4, 3)), torch.nn.utils.spectral_norm(nn.Linear(3, 4)),
        torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
    )  # fmt: skip


TRUTH: dict[str, Callable[[], nn.Module]] = {
    **{name: made for name, made in MODELS.items() if name != "lazy"}, **MADE, "generator": Generator,
    "segmenter": Segmenter, "mixed": Mixed, "speech": Speech, "adapted": Adapted, "normed": weight_normed,
}  # fmt: skip


def right(kind: str, module: nn.Module) -> bool:
    classes = KINDS.get(kind) or getattr(nn, kind)
    own = type(module).__module__.startswith("torch.nn.utils") or type(module).__name__.startswith("Parametrized")
    return isinstance(module, classes) or (own and kind == "Linear")


@pytest.mark.parametrize("listed", [True, False], ids=["with the list of modules", "names alone"])
@pytest.mark.parametrize("name", TRUTH)
def test_no_kind_is_wrong(name: str, listed: bool) -> None:
    from oracle.judge import saved

    model = TRUTH[name]()
    state = model.state_dict()
    ckpt = pthparse.open(saved(state)) if listed else opened(state)
    modules = dict(model.named_modules(remove_duplicate=False))
    for found in ckpt.modules.walk():
        assert found.basis == ("inferred" if found.kind else "unknown") and found.class_name is None
        if found.kind:
            assert found.evidence and found.text.startswith(found.kind)
            assert right(found.kind, modules[found.name]), (found.name, found.kind, type(modules[found.name]))
    if listed and state:
        assert {m.name for m in ckpt.modules.walk()} == set(modules)


def kinds(model: nn.Module) -> dict[str, str]:
    return {m.name: m.kind for m in opened(model.state_dict()).modules.walk()}


def test_each_of_torchs_layers() -> None:
    """Under names that say nothing: what the shapes alone tell, and what they leave open."""
    model = Mixed()
    found = kinds(model)
    told = [found[name] or f"? {type(module).__name__}" for name, module in model.named_children()]
    assert told == [
        "Linear", "Linear", "? Linear", "? Embedding", "? EmbeddingBag", "? Bilinear", "? Bilinear", "? Conv1d",
        "? Conv1d", "Conv2d", "? Conv2d", "Conv2d", "Conv3d", "? ConvTranspose1d", "ConvTranspose2d",
        "? ConvTranspose3d", "? ConvTranspose2d", "BatchNorm", "BatchNorm", "? BatchNorm2d", "? InstanceNorm2d",
        "? LayerNorm", "? LayerNorm", "? LayerNorm", "? RMSNorm", "? GroupNorm", "? PReLU", "? PReLU", "LSTM", "LSTM",
        "GRU", "RNN", "RNN", "LSTMCell", "GRUCell", "RNNCell", "MultiheadAttention", "ParameterList",
        "MultiheadAttention", "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer",
        "? Sequential", "? ModuleList",
    ]  # fmt: skip


def test_what_it_may_be_is_said() -> None:
    root = opened(Mixed().state_dict()).modules
    evidence = {m.evidence for m in root.walk() if not m.kind and m.evidence}
    assert evidence == {
        "a matrix alone: Linear without bias, or Embedding",
        "three dimensions: Conv1d, ConvTranspose1d or Bilinear",
        "a kernel alone, or as many outputs as inputs: Conv2d or ConvTranspose2d",
        "a kernel alone, or as many outputs as inputs: Conv3d or ConvTranspose3d",
        "two equal vectors: LayerNorm, GroupNorm, or a batch norm without statistics",
        "a vector: RMSNorm, LayerNorm without bias, or PReLU",
        "numbered: ModuleList or Sequential",
    }


def test_configuration() -> None:
    root = opened(Mixed().state_dict()).modules
    assert dict(root.find("maa").config) == {"out_features": 4, "in_features": 3}
    assert root.find("maa").text == "Linear(3 -> 4)"
    assert root.find("maj").text == "Conv2d(2 -> 4, 3x3)"
    lstm = root.find("mbc")
    assert dict(lstm.config) == {
        "hidden_size": 4, "input_size": 3, "num_layers": 2, "bidirectional": True, "bias": True,
    }  # fmt: skip
    assert dict(root.find("mbm").config) == {"embed_dim": 8, "kdim": 3, "vdim": 5}
    assert dict(root.find("mbp").config) == {"d_model": 8, "dim_feedforward": 16}


def test_the_lesson_is_inferred_whole() -> None:
    """Every kind: embedding, decoder layers and their list, attention, norms, dropouts, the output layer."""
    root = pthparse.open(Path(__file__).parents[1] / "data" / "lesson" / "lesson.pth").modules
    layer = {
        "": "TransformerDecoderLayer", "self_attn": "MultiheadAttention", "self_attn.out_proj": "Linear",
        "multihead_attn": "MultiheadAttention", "multihead_attn.out_proj": "Linear", "linear1": "Linear",
        "dropout": "Dropout", "linear2": "Linear", "norm1": "LayerNorm", "norm2": "LayerNorm", "norm3": "LayerNorm",
        "dropout1": "Dropout", "dropout2": "Dropout", "dropout3": "Dropout",
    }  # fmt: skip
    expected = {"": "", "embed": "Embedding", "layers": "ModuleList"}
    for i in range(6):
        expected |= {f"layers.{i}.{part}".rstrip("."): kind for part, kind in layer.items()}
    assert {m.name: m.kind for m in root.walk()} == {**expected, "fc": "Linear"}
    assert [(m.name, label, n) for m, label, n in root.find("layers").folded()] == [("layers.0", "0-5", 6)]
    assert root.find("embed").text == "Embedding(97, 16)"


def test_blocks() -> None:
    found = kinds(build(FAMILIES["LLaMA-like"][1]))
    assert [found[n] for n in ("model.layers.0", "model.layers.0.self_attn", "model.layers.0.mlp")] == [
        "TransformerLayer", "Attention", "FeedForward",
    ]  # fmt: skip
    assert [found[n] for n in ("model.layers.1.input_layernorm", "model.norm", "model.embed_tokens", "lm_head")] == [
        "RMSNorm", "RMSNorm", "Embedding", "Linear",
    ]  # fmt: skip
    found = kinds(build(FAMILIES["GPT-2"][1]))
    parts = ("attn", "attn.c_attn", "attn.c_proj", "mlp", "mlp.c_proj", "ln_1")
    assert [found[f"transformer.h.0.{part}"] for part in parts] == [
        "Attention", "Conv1D", "Conv1D", "FeedForward", "Conv1D", "LayerNorm",
    ]  # fmt: skip
    found = kinds(build(FAMILIES["BERT-like"][1]))
    assert [found[f"bert.encoder.layer.0{n}"] for n in ("", ".attention", ".attention.self", ".output.LayerNorm")] == [
        "TransformerLayer", "Attention", "Attention", "LayerNorm",
    ]  # fmt: skip
    found = kinds(build(FAMILIES["Mixtral"][1]))
    assert found["model.layers.0.block_sparse_moe"] == "MixtureOfExperts"
    assert found["model.layers.0.block_sparse_moe.experts.1"] == "FeedForward"
    for name, layers in (("Whisper", "model.decoder.layers"), ("OPT", "model.decoder.layers")):
        found = kinds(build(FAMILIES[name][1]))
        assert (found[f"{layers}.0"], found[f"{layers}.0.self_attn"]) == ("TransformerLayer", "Attention")
    root = opened(build(FAMILIES["OPT"][1]).state_dict()).modules
    layers = root.find("model.decoder.layers")
    assert (layers.kind, layers.text, layers.evidence) == (
        "", "2 x TransformerLayer", "numbered: ModuleList or Sequential",
    )  # fmt: skip
    found = kinds(build(FAMILIES["ViT"][1]))
    assert [found[f"blocks.0{n}"] for n in ("", ".attn", ".mlp", ".norm1")] == [
        "TransformerLayer", "Attention", "FeedForward", "LayerNorm",
    ]  # fmt: skip


def test_kernels_by_the_norm_behind_them() -> None:
    found = kinds(Generator())
    assert [found[f"main.{i}"] for i in (0, 1, 3, 4, 6)] == [
        "ConvTranspose2d", "BatchNorm", "ConvTranspose2d", "BatchNorm", "",
    ]  # fmt: skip
    found = kinds(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)))
    assert found["0"] == "Conv2d"
    assert Block(4, 8).conv1.bias is None and kinds(Block(4, 8))["conv1"] == "Conv2d"


def test_weights_under_normalisation() -> None:
    root = opened(weight_normed().state_dict()).modules
    assert [root.find(n).text for n in "012"] == ["Conv2d(3 -> 4, 3x3)", "Linear(3 -> 4)", "Linear(3 -> 4)"]
    assert root.find("0").evidence.endswith("under weight_norm")


# ---- adapters and quantised packs: tensors with the names and shapes that their writers give them ----

Z = torch.zeros
INT = torch.int32
PACKS: dict[str, tuple[str, dict[str, torch.Tensor]]] = {
    "peft": ("LoRA", {"lora_A.weight": Z(4, 16), "lora_B.weight": Z(32, 4)}),
    "peft, named": ("LoRA", {"lora_A.default.weight": Z(4, 16), "lora_B.default.weight": Z(32, 4)}),
    "peft, merged": (
        "LoRA Linear", {"base_layer.weight": Z(32, 16), "lora_A.a.weight": Z(4, 16), "lora_B.a.weight": Z(32, 4)}
    ),
    "loralib": ("LoRA Linear", {"weight": Z(32, 16), "lora_A": Z(4, 16), "lora_B": Z(32, 4)}),
    "GPTQ": (
        "GPTQ Linear",
        {"qweight": Z(16, 64, dtype=INT), "qzeros": Z(2, 8, dtype=INT), "scales": Z(2, 64), "g_idx": Z(128, dtype=INT)},
    ),
    "AWQ": ("AWQ Linear", {"qweight": Z(128, 8, dtype=INT), "qzeros": Z(2, 8, dtype=INT), "scales": Z(2, 64)}),
    "8 bit": ("Int8 Linear", {"weight": Z(8, 16, dtype=torch.int8), "SCB": Z(8), "weight_format": Z((), dtype=INT)}),
    "4 bit": (
        "4-bit Linear",
        {"weight": Z(64, 1, dtype=torch.uint8), "weight.absmax": Z(2), "weight.quant_map": Z(16),
         "weight.quant_state.bitsandbytes__nf4": Z(80, dtype=torch.uint8)},
    ),
    "float8": ("FP8 Linear", {"weight": Z(256, 128), "weight_scale_inv": Z(2, 1)}),
    "unlike": ("", {"lora_A.weight": Z(4, 16), "lora_B.weight": Z(32, 5)}),
    "no pack": ("", {"qweight": Z(3, 5, dtype=INT), "qzeros": Z(2, 8, dtype=INT), "scales": Z(2, 64)}),
}  # fmt: skip


@pytest.mark.parametrize("pack", PACKS)
def test_packs(pack: str) -> None:
    kind, parts = PACKS[pack]
    found = opened({f"layers.0.q_proj.{leaf}": t for leaf, t in parts.items()}).modules.find("layers.0.q_proj")
    assert found.kind == kind
    if "lora" in found.evidence:
        assert found.config["rank"] == 4 and found.text == f"{kind}(16 -> 32, rank 4)"


def test_torchs_quantised_layers() -> None:
    floats = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model = torch.ao.quantization.quantize_dynamic(floats, {nn.Linear}, dtype=torch.qint8)
    assert opened(model.state_dict()).modules.find("0").kind == "Quantized Linear"
    root = opened(model.state_dict()).modules
    assert not root.find("0._packed_params").kind and not root.find("0._packed_params._packed_params").kind


def test_lists_of_tensors_are_no_modules() -> None:
    root = opened({"list": [Z(2), Z(2)], "net": {"plist.0": Z(2), "plist.1": Z(3)}}).modules
    assert {m.name: m.kind for m in root.walk()} == {"": "", "list": "", "net": "", "net/plist": "ParameterList"}
    root = opened({"a": {"l": [Z(2), Z(2)]}, "b": {"l.0": Z(2), "l.1": Z(2)}}).modules
    assert (root.find("a/l").kind, root.find("b/l").kind) == ("", "ParameterList")
