"""Small models with the names that well-known ones have, of torch's own layers: their state dicts, and the truth."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

import pthparse

N, V, P = 16, 50, 24  # width, vocabulary, positions


class RMSNorm(nn.Module):
    """As LLaMA's own code has it: a class that is not torch's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class Conv1D(nn.Module):
    """GPT-2's layer, whose matrix is transposed."""

    def __init__(self, out: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, out))
        self.bias = nn.Parameter(torch.zeros(out))


class Holder(nn.Module):
    """What other modules lie in."""


def linear(out: int, inner: int = N, bias: bool = False) -> nn.Linear:
    return nn.Linear(inner, out, bias=bias)


def build(parts: Mapping[str, Any], layers: int = 2) -> nn.Module:
    """A model of modules, parameters and buffers by their names; '#' in one: of every layer."""
    root = Holder()
    for name, made in parts.items():
        for i in range(layers) if "#" in name else (0,):
            *path, last = name.replace("#", str(i)).split(".")
            at = root
            for part in path:
                if part not in at._modules:
                    at.add_module(part, Holder())
                at = at._modules[part]
            value = made() if callable(made) and not isinstance(made, nn.Module) else made
            if isinstance(value, nn.Parameter):
                at.register_parameter(last, value)
            elif isinstance(value, torch.Tensor):
                at.register_buffer(last, value)
            else:
                at.add_module(last, value)
    return root


def below(prefix: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": made for name, made in parts.items()}


def norm() -> nn.Module:
    return nn.LayerNorm(N)


def rms() -> nn.Module:
    return RMSNorm(N)


def square() -> nn.Module:
    return linear(N, bias=True)


def words() -> nn.Module:
    return nn.Embedding(V, N)


def vector(n: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(n))


LLAMA_LAYER = {
    "self_attn.q_proj": lambda: linear(N), "self_attn.k_proj": lambda: linear(8), "self_attn.v_proj": lambda: linear(8),
    "self_attn.o_proj": lambda: linear(N), "mlp.gate_proj": lambda: linear(44), "mlp.up_proj": lambda: linear(44),
    "mlp.down_proj": lambda: linear(N, 44), "input_layernorm": rms,
    "post_attention_layernorm": rms,
}  # fmt: skip
LLAMA = {
    "model.embed_tokens": words, **below("model.layers.#", LLAMA_LAYER),
    "model.norm": rms, "lm_head": lambda: linear(V),
}  # fmt: skip
EXPERT = {"w1": lambda: linear(20), "w2": lambda: linear(N, 20), "w3": lambda: linear(20)}
ATTENTION = {
    "q_proj": square, "k_proj": lambda: linear(N), "v_proj": square,
    "out_proj": square,
}  # fmt: skip
WIDE = {"fc1": lambda: linear(4 * N, bias=True), "fc2": lambda: linear(N, 4 * N, bias=True)}
BERT_ATTENTION = {
    **below("self", {k: square for k in ("query", "key", "value")}),
    "output.dense": square, "output.LayerNorm": norm,
}  # fmt: skip
BERT_LAYER = {
    **below("attention", BERT_ATTENTION), "intermediate.dense": lambda: linear(4 * N, bias=True),
    "output.dense": lambda: linear(N, 4 * N, bias=True), "output.LayerNorm": norm,
}  # fmt: skip
T5_FF = {"DenseReluDense.wi_0": lambda: linear(32), "DenseReluDense.wi_1": lambda: linear(32),
         "DenseReluDense.wo": lambda: linear(N, 32), "layer_norm": rms}  # fmt: skip
QKVO = {k: lambda: linear(N) for k in "qkvo"}
RES = {"in_layers.0": lambda: nn.GroupNorm(4, N), "in_layers.2": lambda: nn.Conv2d(N, N, 3, padding=1),
       "emb_layers.1": lambda: linear(N, 64, True), "out_layers.0": lambda: nn.GroupNorm(4, N),
       "out_layers.3": lambda: nn.Conv2d(N, N, 3, padding=1)}  # fmt: skip


def residual(inner: int, width: int) -> dict[str, Any]:
    return {
        "conv1": lambda: nn.Conv2d(inner, width, 3, bias=False), "bn1": lambda: nn.BatchNorm2d(width),
        "conv2": lambda: nn.Conv2d(width, width, 3, bias=False), "bn2": lambda: nn.BatchNorm2d(width),
    }  # fmt: skip


RESNET18: dict[str, Any] = {"conv1": lambda: nn.Conv2d(3, 64, 7, bias=False), "bn1": lambda: nn.BatchNorm2d(64)}
for stage, (come, go) in enumerate(((64, 64), (64, 8), (8, 8), (8, 8)), 1):
    RESNET18 |= below(f"layer{stage}.0", residual(come, go)) | below(f"layer{stage}.1", residual(go, go))
RESNET18["fc"] = lambda: linear(10, 8, True)

# Family -> (its facts, its parts).
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "GPT-2": (
        {"depth": 2, "width": N, "feed_forward": 64, "vocabulary": V, "positions": P, "tied": False},
        {
            "transformer.wte": words, "transformer.wpe": lambda: nn.Embedding(P, N),
            **below("transformer.h.#", {
                "ln_1": norm, "attn.c_attn": lambda: Conv1D(3 * N, N), "attn.c_proj": lambda: Conv1D(N, N),
                "ln_2": norm,
                "mlp.c_fc": lambda: Conv1D(4 * N, N), "mlp.c_proj": lambda: Conv1D(N, 4 * N),
            }), "transformer.ln_f": norm, "lm_head": lambda: linear(V),
        },
    ),
    "LLaMA-like": (
        {"depth": 2, "width": N, "feed_forward": 44, "vocabulary": V, "key_width": 8, "tied": False}, LLAMA
    ),
    "Qwen3": (
        {"depth": 2, "width": N, "feed_forward": 44, "vocabulary": V, "key_width": 8, "heads": 4, "key_heads": 2},
        {**{k: v for k, v in LLAMA.items() if k != "lm_head"},
         "model.layers.#.self_attn.q_norm": lambda: RMSNorm(4), "model.layers.#.self_attn.k_norm": lambda: RMSNorm(4)},
    ),
    "Mixtral": (
        {"depth": 2, "width": N, "feed_forward": 20, "vocabulary": V, "experts": 2, "key_width": 8, "tied": False},
        {**{k: v for k, v in LLAMA.items() if "mlp" not in k},
         "model.layers.#.block_sparse_moe.gate": lambda: linear(2),
         **below("model.layers.#.block_sparse_moe.experts.0", EXPERT),
         **below("model.layers.#.block_sparse_moe.experts.1", EXPERT)},
    ),
    "GPT-NeoX": (
        {"depth": 2, "width": N, "feed_forward": 64, "vocabulary": V, "tied": False},
        {"gpt_neox.embed_in": words, **below("gpt_neox.layers.#", {
            "input_layernorm": norm, "post_attention_layernorm": norm,
            "attention.query_key_value": lambda: linear(3 * N, bias=True), "attention.dense": square,
            "mlp.dense_h_to_4h": lambda: linear(4 * N, bias=True), "mlp.dense_4h_to_h": lambda: linear(N, 4 * N, True),
        }), "gpt_neox.final_layer_norm": norm, "embed_out": lambda: linear(V)},
    ),
    "BLOOM": (
        {"depth": 2, "width": N, "feed_forward": 64, "vocabulary": V},
        {"word_embeddings": words, "word_embeddings_layernorm": norm, **below("h.#", {
            "input_layernorm": norm, "post_attention_layernorm": norm,
            "self_attention.query_key_value": lambda: linear(3 * N, bias=True),
            "self_attention.dense": square,
            "mlp.dense_h_to_4h": lambda: linear(4 * N, bias=True), "mlp.dense_4h_to_h": lambda: linear(N, 4 * N, True),
        }), "ln_f": norm},
    ),
    "ChatGLM2": (
        {"depth": 2, "width": N, "feed_forward": 20, "vocabulary": V, "tied": False},
        {"transformer.embedding.word_embeddings": words, **below("transformer.encoder.layers.#", {
            "input_layernorm": rms, "post_attention_layernorm": rms,
            "self_attention.query_key_value": lambda: linear(24, bias=True), "self_attention.dense": lambda: linear(N),
            "mlp.dense_h_to_4h": lambda: linear(40), "mlp.dense_4h_to_h": lambda: linear(N, 20),
        }), "transformer.encoder.final_layernorm": rms, "transformer.output_layer": lambda: linear(V)},
    ),
    "BERT-like": (
        {"depth": 2, "width": N, "feed_forward": 64, "vocabulary": V, "positions": P},
        {"bert.embeddings.word_embeddings": words,
         "bert.embeddings.position_embeddings": lambda: nn.Embedding(P, N),
         "bert.embeddings.token_type_embeddings": lambda: nn.Embedding(2, N), "bert.embeddings.LayerNorm": norm,
         **below("bert.encoder.layer.#", BERT_LAYER), "bert.pooler.dense": square},
    ),
    "T5": (
        {"encoder_depth": 2, "depth": 2, "width": N, "feed_forward": 32, "vocabulary": V, "heads": 4},
        {"shared": words, **below("encoder.block.#.layer.0.SelfAttention", QKVO),
         "encoder.block.0.layer.0.SelfAttention.relative_attention_bias": lambda: nn.Embedding(32, 4),
         "encoder.block.#.layer.0.layer_norm": rms, **below("encoder.block.#.layer.1", T5_FF),
         **below("decoder.block.#.layer.0.SelfAttention", QKVO),
         **below("decoder.block.#.layer.1.EncDecAttention", QKVO),
         **below("decoder.block.#.layer.2", T5_FF)},
    ),
    "Whisper": (
        {"encoder_depth": 2, "depth": 2, "width": N, "feed_forward": 64, "vocabulary": V, "mel_bins": 80},
        {"model.encoder.conv1": lambda: nn.Conv1d(80, N, 3), "model.encoder.conv2": lambda: nn.Conv1d(N, N, 3),
         **below("model.encoder.layers.#.self_attn", ATTENTION), **below("model.encoder.layers.#", WIDE),
         "model.encoder.layers.#.self_attn_layer_norm": norm,
         "model.decoder.embed_tokens": words,
         **below("model.decoder.layers.#.self_attn", ATTENTION),
         **below("model.decoder.layers.#.encoder_attn", ATTENTION),
         **below("model.decoder.layers.#", WIDE)},
    ),
    "OPT": (
        {"depth": 2, "width": N, "feed_forward": 64, "vocabulary": V},
        {"model.decoder.embed_tokens": words,
         "model.decoder.embed_positions": lambda: nn.Embedding(P, N),
         **below("model.decoder.layers.#.self_attn", ATTENTION), **below("model.decoder.layers.#", WIDE)},
    ),
    "CLIP": (
        {"depth": 2, "width": N, "vocabulary": V, "vision_depth": 2, "vision_width": N, "patch": 4},
        {"logit_scale": lambda: vector(1), "text_model.embeddings.token_embedding": words,
         **below("text_model.encoder.layers.#.self_attn", ATTENTION), **below("text_model.encoder.layers.#.mlp", WIDE),
         "vision_model.embeddings.patch_embedding": lambda: nn.Conv2d(3, N, 4, bias=False),
         **below("vision_model.encoder.layers.#.self_attn", ATTENTION),
         **below("vision_model.encoder.layers.#.mlp", WIDE),
         "visual_projection": lambda: linear(8), "text_projection": lambda: linear(8)},
    ),
    "ViT": (
        {"depth": 2, "width": N, "feed_forward": 64, "patch": 4, "classes": 10},
        {"cls_token": lambda: nn.Parameter(torch.ones(1, 1, N)), "pos_embed": lambda: nn.Parameter(torch.ones(1, 5, N)),
         "patch_embed.proj": lambda: nn.Conv2d(3, N, 4), **below("blocks.#", {
             "norm1": norm, "attn.qkv": lambda: linear(3 * N, bias=True), "attn.proj": square,
             "norm2": norm, **below("mlp", WIDE)}), "norm": norm, "head": lambda: linear(10, bias=True)},
    ),
    "ResNet-18": ({"blocks": 8, "stages": (2, 2, 2, 2), "bottleneck": False, "classes": 10}, RESNET18),
    "diffusion U-Net": (
        {"width": N, "channels": 4, "context": 12},
        {"time_embed.0": lambda: linear(64, bias=True), "time_embed.2": lambda: linear(64, 64, True),
         "input_blocks.0.0": lambda: nn.Conv2d(4, N, 3), **below("input_blocks.1.0", RES),
         **below("input_blocks.1.1.transformer_blocks.0", {
             **below("attn1", {k: lambda: linear(N) for k in ("to_q", "to_k", "to_v")}),
             "attn1.to_out.0": square, "attn2.to_q": lambda: linear(N),
             "attn2.to_k": lambda: linear(N, 12), "attn2.to_v": lambda: linear(N, 12),
             "attn2.to_out.0": square}),
         **below("middle_block.0", RES), **below("output_blocks.0.0", RES), "out.2": lambda: nn.Conv2d(N, 4, 3)},
    ),
    "YOLOv8 or later": (
        {"bins": 16},
        {"model.0.conv": lambda: nn.Conv2d(3, 8, 3, bias=False), "model.0.bn": lambda: nn.BatchNorm2d(8),
         "model.22.cv2.0.0.conv": lambda: nn.Conv2d(8, 16, 3, bias=False),
         "model.22.cv2.0.0.bn": lambda: nn.BatchNorm2d(16),
         "model.22.dfl.conv": lambda: nn.Conv2d(16, 1, 1, bias=False)},
    ),
}  # fmt: skip


def state(name: str) -> dict[str, torch.Tensor]:
    return build(FAMILIES[name][1]).state_dict()


def opened(state: Any) -> pthparse.Checkpoint:
    """A file of it, as read here; without the list of modules that state_dict() keeps."""
    out = io.BytesIO()
    torch.save(dict(state), out)
    return pthparse.open(out.getvalue())


MADE: dict[str, Callable[[], nn.Module]] = {
    name: lambda parts=parts: build(parts) for name, (_, parts) in FAMILIES.items()
}
