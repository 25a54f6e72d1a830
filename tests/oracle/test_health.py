"""What is said of the numbers of a checkpoint: of fresh models nothing, of each defect its own remark."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from oracle.judge import saved
from torch import nn

import pthparse
from pthparse.health import Remark, health


def remarks(obj: Any) -> list[Remark]:
    with pthparse.open(saved(obj)) as ckpt:
        return health(ckpt.stats(), ckpt)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(100, 200), nn.LayerNorm(200), nn.Linear(200, 5)),
        lambda: nn.Sequential(nn.Conv2d(3, 64, 7), nn.BatchNorm2d(64), nn.PReLU(), nn.GroupNorm(4, 64)),
        lambda: nn.TransformerDecoderLayer(64, 4, 128),
        lambda: nn.LSTM(64, 64, 2, bidirectional=True),
        lambda: nn.Embedding(1000, 64, padding_idx=0),
        lambda: nn.MultiheadAttention(64, 4, bias=True),
        lambda: nn.Linear(300, 300).half(),
        lambda: nn.Linear(300, 300).to(torch.bfloat16),
    ],
)
def test_a_fresh_model_has_none(make: Any) -> None:
    torch.manual_seed(0)
    assert remarks(make().state_dict()) == []


def defects() -> dict[str, tuple[torch.Tensor, str, str, str]]:
    """Name: the tensor, and the severity, code and message of its remark."""
    nan, inf, rows, far = noise(20, 30), noise(20, 30), noise(50, 40), noise(100, 100)
    nan[3, 4] = nan[7, 7] = math.nan
    inf[19, 29] = -math.inf
    rows[10:13] = 0
    far[0, 0] = 90
    small = noise(100, 100).half() * 1e-5
    return {
        "nan": (nan, "error", "nan", "2 of 600 are NaN, the first at [3, 4]"),
        "inf": (inf, "error", "inf", "1 of 600 are infinite, the first at [19, 29]"),
        "zero": (torch.zeros(4, 5), "note", "all-zero", "all elements are zero"),
        "same": (torch.full((4, 5), 0.25), "note", "constant", "all elements are 0.25"),
        "rows": (rows, "note", "dead-rows", "3 of 50 rows are zero"),
        "small": (small, "note", "subnormal", "are subnormal in float16"),
        "large": (noise(20, 20) * 1e5, "note", "overflow-float16", "float16 ends at 65504"),
        "wide": (noise(20, 20) * 300, "note", "overflow-float8", "float8_e4m3fn ends at 448"),
        "far": (far, "note", "outlier", "67 standard deviations from the mean"),
    }


@pytest.mark.parametrize("name", defects())
def test_each_defect_has_its_remark(name: str) -> None:
    t, severity, code, message = defects()[name]
    found = remarks({"other": noise(30, 30), name: t})
    assert [(r.name, r.severity, r.code) for r in found] == [(name, severity, code)]
    assert message in found[0].message


def test_vectors_may_be_constant() -> None:
    assert remarks({"bias": torch.zeros(50), "weight": torch.ones(50), "token": torch.zeros(1, 1, 50)}) == []


def test_an_upcast_file() -> None:
    w = {"a": noise(40, 40).bfloat16().float(), "b": noise(40, 40).bfloat16().float()}
    assert [(r.name, r.code) for r in remarks(w)] == [("", "upcast")]
    assert remarks({**w, "c": noise(4, 4)}) == []


def test_integers_and_masks_are_no_numbers_to_worry_about() -> None:
    assert remarks({"steps": torch.tensor(0), "ids": torch.arange(5000).reshape(50, 100), "m": noise(9, 9) > 0}) == []
