"""Directories of DeepSpeed's ZeRO, made by hand: the model's weights mapped, the optimizer's partitions by group."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from forge import pickles as p
from forge import zips

import pthparse
from pthparse.cli import main

MODEL, OPTIM = "mp_rank_{:02}_model_states.pt", "zero_pp_rank_{}_mp_rank_00_optim_states.pt"
RANKS = 3


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def write_model(folder: Path, rank: int = 0) -> None:
    tensors = {"a.weight": p.vector("0", 4), "b.bias": p.vector("1", 2)}
    root = {"module": p.dict_of(tensors), "ds_version": p.text("0.14.2"), "global_steps": p.integer(7)}
    records = {"0": floats(1, 2, 3, 4), "1": floats(5, 6)}
    (folder / MODEL.format(rank)).write_bytes(zips.checkpoint(p.pickle(p.dict_of(root)), records))


def write_optimizer(folder: Path, rank: int, count: int = RANKS) -> None:
    groups = p.list_of([p.vector("0", 2), p.vector("1", 1)])
    state = {"single_partition_of_fp32_groups": groups, "zero_stage": p.integer(2), "partition_count": p.integer(count)}
    root = {"optimizer_state_dict": p.dict_of(state), "ds_version": p.text("0.14.2")}
    records = {"0": floats(rank, rank + 0.5), "1": floats(-rank)}
    (folder / OPTIM.format(rank)).write_bytes(zips.checkpoint(p.pickle(p.dict_of(root)), records))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "global_step7"
    inner.mkdir()
    (tmp_path / "latest").write_text("global_step7\n")
    write_model(inner)
    for rank in range(RANKS):
        write_optimizer(inner, rank)
    return inner


def test_the_weights_of_the_model(folder: Path) -> None:
    for path in (folder, folder.parent):  # `latest` says which
        with pthparse.open(path) as model:
            assert (model.format, model.findings, dict(model.errors)) == ("deepspeed", (), {})
            weights = model.state_dict()
            assert {n: t.numpy().tolist() for n, t in weights.items()} == {"a.weight": [1, 2, 3, 4], "b.bias": [5, 6]}
            assert "mp_rank_00_model_states/module/a.weight" in model
            assert model.metadata["mp_rank_00_model_states.pt/global_steps"] == 7
            assert model.metadata["ds_version"] == "0.14.2"  # all of them say so
            assert model.writer.text == "DeepSpeed 0.14.2, in 4 files"
            assert model.capacity().parameters == 6 and model.verify().ok and model.audit().verdict == "clean"
            assert sum(e.nbytes for e in model.capacity().ledger()) == model.nbytes


def test_partitions_by_group(folder: Path) -> None:
    for rank in (10, 9):  # in the order of the numbers
        write_optimizer(folder, rank, 5)
    with pthparse.open(folder) as model:
        found = [(q.group, q.rank, q.numel, q.nbytes) for q in model.partitions]
        assert found == [(g, r, 2 - g, 8 - 4 * g) for g in (0, 1) for r in (0, 1, 2, 9, 10)]
        assert [model[q.name].numpy()[0] for q in model.partitions if q.group == 0] == [0, 1, 2, 9, 10]
        roles = {g.name: g.elements for g in model.capacity().groups("role")}
        assert roles == {"parameters": 6, "optimizer state": 15}
        assert not model.findings


@pytest.mark.parametrize("count", [RANKS + 1, 2])
def test_another_number_of_partitions_than_is_said(folder: Path, count: int) -> None:
    for rank in range(RANKS):
        write_optimizer(folder, rank, count)
    with pthparse.open(folder) as model:
        assert [f.code for f in model.findings] == ["zero-partitions"]
        assert model.audit().verdict == "malformed" and model.verify().verdict == "damaged"
        assert model.hash().model is None and model.state_dict().hash().model is not None
        report = pthparse.diff(model, model)
        assert not report.same and [(e.name, e.code) for e in report.errors] == [("partitions", "zero-partitions")]


def test_a_model_cut_over_several_processes_stays_apart(folder: Path) -> None:
    write_model(folder, 1)
    with pthparse.open(folder) as model:
        assert model.state_dict() is model
        assert sum(n.endswith("a.weight") for n in model) == 2 and not model.findings


@pytest.mark.parametrize("text", ["../other", "/etc", "", "none", "global_step7/..", "\xff\xff", "x" * 1000])
def test_a_latest_that_leads_away(folder: Path, text: str) -> None:
    top = folder.parent
    (top / "latest").write_bytes(text.encode("latin-1"))
    (top.parent / "other").mkdir(exist_ok=True)
    write_model(top.parent / "other")
    with pytest.raises(pthparse.UnsupportedError, match="no checkpoint in it"):
        pthparse.open(top)


def test_a_link_that_leads_away(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    away = tmp_path_factory.mktemp("away") / "x.pt"
    (folder / OPTIM.format(1)).rename(away)
    (folder / OPTIM.format(1)).symlink_to(away)
    with pthparse.open(folder) as model:
        assert [f.code for f in model.findings] == ["shard-link", "zero-partitions"]
        assert len(model.partitions) == 4


@pytest.mark.parametrize("verb", ["info", "ls", "stats", "capacity", "verify", "audit"])
def test_every_verb_takes_one(folder: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, str(folder)]) == 0
    assert capsys.readouterr().out
