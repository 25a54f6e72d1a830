"""Families by names alone: what a row must not have, and what is left unsaid. Models of torch are in tests/oracle."""

from __future__ import annotations

import numpy as np
import pytest
from forge import models

import pthparse

WIDTH = 8
LLAMA = {
    "embed_tokens.weight": (10, WIDTH),
    "layers.0.self_attn.q_proj.weight": (WIDTH, WIDTH),
    "layers.0.self_attn.k_proj.weight": (WIDTH, WIDTH),
    "layers.0.mlp.gate_proj.weight": (20, WIDTH),
    "layers.0.input_layernorm.weight": (WIDTH,),
}
QWEN = {
    **LLAMA,
    "layers.0.self_attn.q_proj.bias": (WIDTH,),
    "layers.0.post_attention_layernorm.weight": (WIDTH,),
}


def family(shapes: dict[str, tuple[int, ...]]) -> pthparse.Family | None:
    made = {f"model.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    with pthparse.open(models.zipped(made)) as ckpt:
        return ckpt.family


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (LLAMA, "LLaMA-like"),
        (QWEN, "Qwen2"),
        ({**QWEN, "layers.0.self_attn.o_proj.bias": (WIDTH,)}, "LLaMA-like"),
        ({**QWEN, "layers.0.self_attn.q_norm.weight": (4,)}, "Qwen3"),
    ],
    ids=["LLaMA", "Qwen2", "unless", "Qwen3"],
)
def test_the_first_row_that_matches_holds(shapes: dict[str, tuple[int, ...]], name: str) -> None:
    found = family(shapes)
    assert found is not None and found.name == name
    assert {"depth": 1, "width": WIDTH, "vocabulary": 10, "feed_forward": 20}.items() <= found.facts.items()
    assert found.to_dict()["facts"] == dict(found.facts)


def test_keys_are_told_where_they_are_narrower() -> None:
    for keys in (WIDTH, 4):
        found = family({**LLAMA, "layers.0.self_attn.k_proj.weight": (keys, WIDTH)})
        assert found is not None and found.facts.get("key_width") == (None if keys == WIDTH else keys)
        assert ("keys 4 wide" in found.text) == (keys == 4)


@pytest.mark.parametrize("name", [name for name in LLAMA if "k_proj" not in name])
def test_one_name_that_is_missing_is_no_family(name: str) -> None:
    assert family({n: shape for n, shape in LLAMA.items() if n != name}) is None
