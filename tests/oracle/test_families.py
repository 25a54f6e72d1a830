"""Families by the names of their tensors: small models with the names of well-known ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from oracle.judge import saved
from oracle.models import FAMILIES, N, V, build, linear, opened, state

import pthparse
from pthparse.families import FAMILIES as TABLE
from pthparse.families import Row


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name: str) -> None:
    found = opened(state(name)).family
    assert found is not None and found.name == name
    assert dict(found.facts) == FAMILIES[name][0]
    assert found.text.startswith(f"{name}: ")
    assert all(
        part.endswith((".weight", "logit_scale", "running_mean", "anchors")) for part in found.evidence.split(", ")
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name.replace(" ", "-"))
def test_no_row_is_hidden_by_another(row: Row) -> None:
    """The names that a family needs, and no others, make that family: in a file, and below a prefix."""
    names = [name.split("|")[0] for name in row.needs.split()]
    for prefix in ("", "state_dict.model."):
        tensors = {f"{prefix}{n.replace('#', i)}": torch.ones(2, 3, 1, 1) for n in names for i in "01"}
        found = opened(tensors).family
        assert found is not None and (found.name == row.name or row.name == "ResNet" == found.name.split()[0])
        assert all(value in (1, 2, 3, 4, 8, False) or isinstance(value, tuple) for value in found.facts.values())


def test_text_and_evidence() -> None:
    found = opened(state("GPT-2")).family
    assert found.text == "GPT-2: 2 layers, width 16, feed-forward 64, vocabulary 50, 24 positions"
    assert found.evidence == (
        "transformer.wte.weight, transformer.wpe.weight, transformer.h.#.attn.c_attn.weight, "
        "transformer.h.#.mlp.c_fc.weight"
    )
    assert found.to_dict()["facts"]["depth"] == 2


def test_tied_head() -> None:
    model = build(FAMILIES["GPT-2"][1])
    model.lm_head.weight = model.transformer.wte.weight
    found = opened(model.state_dict()).family
    assert found.facts["tied"] is True and found.text.endswith("; output layer tied to the embedding")
    tensors = state("GPT-2")
    del tensors["lm_head.weight"]
    found = opened(tensors).family
    assert "tied" not in found.facts and found.text.endswith("it is tied to the embedding, or left out")


def test_heads_from_rotary_frequencies() -> None:
    """Older LLaMA files keep them: half as many as a head is wide."""
    parts = {**FAMILIES["LLaMA-like"][1], "model.layers.#.self_attn.rotary_emb.inv_freq": lambda: torch.ones(2)}
    facts = opened(build(parts).state_dict()).family.facts
    assert (facts["heads"], facts["key_heads"]) == (4, 2)
    parts["model.layers.#.self_attn.rotary_emb.inv_freq"] = lambda: torch.ones(5)  # no head is so wide
    assert "heads" not in opened(build(parts).state_dict()).family.facts


def test_qwen2_is_told_by_its_biases() -> None:
    def small() -> torch.nn.Module:
        return linear(8, bias=True)

    parts = dict(FAMILIES["LLaMA-like"][1])
    for part in ("q", "k", "v"):
        parts[f"model.layers.#.self_attn.{part}_proj"] = (lambda: linear(N, bias=True)) if part == "q" else small
    assert opened(build(parts).state_dict()).family.name == "Qwen2"


def test_family_below_a_container() -> None:
    found = opened({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state("ViT").items()}}).family
    assert found.name == "ViT" and found.facts["classes"] == 10
    assert found.evidence.startswith("state_dict/module.patch_embed.proj.weight")


def test_the_lesson() -> None:
    found = pthparse.open(Path(__file__).parents[1] / "data" / "lesson" / "lesson.pth").family
    assert dict(found.facts) == {"depth": 6, "width": 16, "feed_forward": 32, "vocabulary": 97, "tied": False}


def test_heads_that_the_file_states() -> None:
    """A model that was saved whole: its attention says how many heads it has."""
    model = torch.nn.Module()
    model.embed = torch.nn.Embedding(V, N)
    model.layers = torch.nn.ModuleList(torch.nn.TransformerDecoderLayer(N, 4, 32) for _ in range(2))
    found = pthparse.open(saved(model)).family
    assert dict(found.facts) == {"depth": 2, "width": N, "feed_forward": 32, "vocabulary": V, "heads": 4}
    assert "heads" not in opened(model.state_dict()).family.facts


@pytest.mark.parametrize("taken", ["transformer.wpe.weight", "transformer.h.#.mlp.c_fc.weight"])
def test_all_names_are_needed(taken: str) -> None:
    kept = {k: v for k, v in state("GPT-2").items() if not any(k == taken.replace("#", i) for i in "01")}
    assert opened(kept).family is None


def test_no_family() -> None:
    assert opened({"weight": torch.ones(2, 2), "a.b": torch.ones(1)}).family is None
    assert opened({}).family is None
    assert opened({"h.0.attn.c_attn.weight": torch.ones(V, N), "wte.weight": torch.ones(V, N)}).family is None


def test_shapes_that_do_not_fit() -> None:
    """Names of GPT-2 over tensors of other dimensions: what cannot be read off is left out."""
    tensors = {k: torch.ones(()) for k in state("GPT-2")}
    found = opened(tensors).family
    assert found.name == "GPT-2" and dict(found.facts) == {"depth": 2, "tied": False}


def test_many_names_are_no_family() -> None:
    tensors = {f"a{i}.weight": torch.ones(1) for i in range(200)}
    tensors |= {"x" * 100_000: torch.ones(1), "." * 1000: torch.ones(1), "0" * 400: torch.ones(1)}
    assert opened(tensors).family is None
