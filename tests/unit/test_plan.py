"""Memory to run and to train: every figure from its formula, the KV cache from shapes and from a config."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from forge import pickles as p
from forge.zips import checkpoint

import pthparse
from pthparse.cli import main

DATA = Path(__file__).parents[1] / "data"


def write(folder: Path, shapes: dict[str, list[int]], config: Any = None) -> str:
    """A state dict of tensors that all look at one storage, each a little further on."""
    tensors = {}
    for i, (name, shape) in enumerate(shapes.items()):
        strides = [1] * len(shape)
        for k in reversed(range(len(shape) - 1)):
            strides[k] = strides[k + 1] * shape[k + 1]
        tensors[name] = p.tensor(p.storage("0", 4096), shape, strides, i)
    path = folder / "m.pth"
    path.write_bytes(checkpoint(p.pickle(p.dict_of(tensors)), {"0": struct.pack("<4096f", *[0.0] * 4096)}))
    if config is not None:
        (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return str(path)


def plan(path: str, **how: Any) -> pthparse.Plan:
    with pthparse.open(path) as ckpt:
        return ckpt.plan(**how)


def figures(found: pthparse.Plan) -> dict[str, int]:
    return {f.name: f.nbytes for f in (*found.weights, *found.run, *found.train)}


def test_sizes_at_each_precision(tmp_path: Path) -> None:
    """Matrices of 3 x 200 and 2 x 130, in groups of 128: 3 x 2 + 2 x 2; a vector of 5 stays at 16 bits."""
    found = plan(write(tmp_path, {"a.weight": [3, 200], "b.weight": [2, 10, 13], "a.bias": [5]}))
    assert (found.parameters, found.matrix_elements, found.cache) == (865, 860, None)
    assert {f.name: f.nbytes for f in found.weights} == {
        "as saved": 4 * 865,
        "float32": 4 * 865,
        "bfloat16, float16": 2 * 865,
        "float8": 860 + 4 * 2 + 2 * 5,
        "int8": 860 + 4 * 5 + 2 * 5,
        "int4": 430 + 2 * 10 + 2 * 5,
    }
    assert {f.name: f.nbytes for f in found.run} == {
        "run in bfloat16, float16": 1730,
        "run in float8": 878,
        "run in int8": 890,
        "run in int4": 460,
    }
    assert all(f.formula and f.source and not f.inferred for f in (*found.weights, *found.run, *found.train))


def test_memory_to_train(tmp_path: Path) -> None:
    found = plan(write(tmp_path, {"a.weight": [10, 10]}))
    assert {f.name: f.nbytes for f in found.train} == {
        "gradients, float32": 400,
        "AdamW moments, float32": 800,
        "train, float32, AdamW": 1600,
        "train, mixed 16/32 bit, AdamW": 1600,
        "train, mixed, float32 gradients": 1800,
        "train, all bfloat16, AdamW": 800,
    }


ATTENTION: dict[str, tuple[dict[str, list[int]], int, int, int]] = {
    # shapes, layers, elements for a token, elements for a token of the other sequence
    "split": (
        {f"model.layers.{i}.self_attn.{x}_proj.weight": [8 if x in "kv" else 32, 32] for i in range(3) for x in "qkvo"},
        3,
        3 * 16,
        0,
    ),
    "torch": (
        {f"layers.{i}.{a}.in_proj_weight": [48, 16] for i in range(2) for a in ("self_attn", "multihead_attn")},
        2,
        2 * 32,
        2 * 32,
    ),
    "GPT-2": ({"h.0.attn.c_attn.weight": [16, 48], "h.0.mlp.c_proj.weight": [48, 16]}, 1, 32, 0),
    "NeoX": ({"layers.0.attention.query_key_value.weight": [48, 16]}, 1, 32, 0),
    "one head for all": ({"h.0.self_attention.query_key_value.weight": [16 + 2 * 4, 16]}, 1, 8, 0),
    "an encoder beside it": (
        {"encoder.layers.0.self_attn.k_proj.weight": [8, 8], "decoder.layers.0.self_attn.k_proj.weight": [8, 8]},
        1,
        8,
        0,
    ),
}


@pytest.mark.parametrize("kind", ATTENTION)
def test_the_cache_by_shapes(tmp_path: Path, kind: str) -> None:
    shapes, layers, elements, cross = ATTENTION[kind]
    found = plan(write(tmp_path, shapes), tokens=100, batch=3)
    cache = found.cache
    assert cache is not None and cache.inferred
    assert (cache.layers, cache.elements, cache.cross_elements) == (layers, elements, cross)
    named = figures(found)
    assert named["KV cache, one token"] == 2 * elements
    assert named["KV cache, 100 tokens"] == 3 * 100 * 2 * elements
    assert named["run in int8 + KV cache"] == named["int8"] + 600 * elements
    assert named.get("KV cache, one token it attends to", 0) == 2 * cross
    assert all(f.inferred for f in found.run)


CONFIG = {
    "num_hidden_layers": 4,
    "hidden_size": 32,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def test_the_cache_by_a_config(tmp_path: Path) -> None:
    found = plan(write(tmp_path, {"w": [2, 2]}, CONFIG))
    assert found.cache is not None and not found.cache.inferred
    assert (found.cache.layers, found.cache.elements, found.tokens) == (4, 2 * 4 * 2 * 4, 512)
    assert figures(found)["KV cache, 512 tokens"] == 512 * 2 * 64
    assert found.cache.source == "config.json: 2 x 4 layers x 2 KV heads x 4"


@pytest.mark.parametrize(
    ("config", "elements"),
    [
        ({"n_layer": 2, "n_embd": 12, "n_head": 3}, 2 * 2 * 12),
        ({**CONFIG, "head_dim": 16}, 2 * 4 * 2 * 16),
        ({"text_config": CONFIG, "hidden_size": 5}, 64),
    ],
)
def test_other_configs(tmp_path: Path, config: dict[str, Any], elements: int) -> None:
    cache = plan(write(tmp_path, {"w": [2, 2]}, config)).cache
    assert cache is not None and cache.elements == elements


SAY_NOTHING: tuple[Any, ...] = (
    *("", "[1]", "[" * 100_000, "\xff{"),
    {**CONFIG, "num_hidden_layers": -1},
    {**CONFIG, "hidden_size": "32"},
    {**CONFIG, "num_attention_heads": True},
    {**CONFIG, "num_hidden_layers": 1 << 70},
)


@pytest.mark.parametrize("config", SAY_NOTHING, ids=range(len(SAY_NOTHING)))
def test_a_config_that_says_nothing(tmp_path: Path, config: Any) -> None:
    found = plan(write(tmp_path, {"w": [2, 2]}, config))
    assert found.cache is None
    assert isinstance(config, dict) or "config.json beside the file cannot be used" in found.notes[0]


def test_a_config_that_the_shapes_contradict(tmp_path: Path) -> None:
    found = plan(write(tmp_path, {"l.0.k_proj.weight": [4, 4], "l.0.v_proj.weight": [4, 4]}, CONFIG))
    assert found.cache is not None and found.cache.elements == 64
    assert "the shapes say 8 elements of KV cache for a token, config.json 64" in found.notes


def test_no_file_is_no_place_for_a_config() -> None:
    with pthparse.open((DATA / "lesson" / "lesson.pth").read_bytes()) as ckpt:
        found = ckpt.plan()
    assert found.cache is not None and found.cache.layers == 6 and found.tokens_source == "an example"


def test_an_optimizer_in_the_file() -> None:
    found = plan(str(DATA / "zoo" / "torch-2.13.0-py3.11" / "training.pth"))
    held = next(f for f in found.train if f.name == "optimizer state in this file")
    assert held.inferred and 0 < held.nbytes < 28_477 and found.buffer_bytes > 0


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write(tmp_path, {"a.in_proj_weight": [48, 16], "a.bias": [48]})
    assert main(["plan", path, "--tokens", "10"]) == 0
    out = capsys.readouterr().out
    for told in (
        "816 parameters: 768 in matrices, 48 in vectors",
        "float32            3,264  3.3 kB, 3.2 KiB  4 x 816",
        "1 x 10 tokens x 64",
        "ZeRO (Rajbhandari 2020), 3.1",
        "* inferred",
    ):
        assert told in out, told
    assert main(["plan", "--json", path]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == 816 and facts["cache"]["elements"] == 32
    assert {"name", "nbytes", "formula", "source", "inferred"} == set(facts["weights"][0])


def test_a_file_without_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(checkpoint(p.pickle(p.dict_of({"epoch": p.integer(1)})), {}))
    assert main(["plan", str(path)]) == 2
    assert "no parameters of a model are in it" in capsys.readouterr().out
