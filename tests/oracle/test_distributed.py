"""Directories that torch.distributed.checkpoint writes, by one process and by four: the same as unsharded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pthparse
from pthparse.chunked import ChunkedTensor

WRITE = """
import os, sys
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.filesystem import FileSystemWriter, SerializationFormat
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor


def state():
    torch.manual_seed(0)
    net = {"embed.weight": torch.randn(100, 16), "head.weight": torch.randn(101, 16).to(torch.bfloat16)}
    net |= {"bias": torch.randn(7), "scalar": torch.tensor(3.5), "empty": torch.empty(0, 3)}
    net["grid.weight"] = torch.randn(33, 27)
    moments = {"exp_avg": torch.randn(100, 15), "step": torch.tensor(5.0)}
    return {"model": net, "optim": {"state": {"0": moments}, "lr": 0.1}, "epoch": 3, "note": "hello"}


def safetensors(path):
    return FileSystemWriter(path, serialization_format=SerializationFormat.SAFETENSORS)


def run(rank, n, path, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(n))
    dist.init_process_group("gloo", rank=rank, world_size=n)
    mesh, saved = init_device_mesh("cpu", (n,)), state()
    for key in ("embed.weight", "head.weight"):
        saved["model"][key] = distribute_tensor(saved["model"][key], mesh, [Shard(0)])
    grid = init_device_mesh("cpu", (2, n // 2))
    saved["model"]["grid.weight"] = distribute_tensor(saved["model"]["grid.weight"], grid, [Shard(0), Shard(1)])
    moments = saved["optim"]["state"]["0"]
    moments["exp_avg"] = distribute_tensor(moments["exp_avg"], mesh, [Shard(1)])
    dcp.save(saved, checkpoint_id=path)
    tensors = {"model": saved["model"], "optim": {"state": saved["optim"]["state"]}}
    dcp.save(tensors, storage_writer=safetensors(path + "-safetensors"))
    dcp.save(saved, storage_writer=safetensors(path + "-values"))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, port = sys.argv[1], int(sys.argv[2])
    torch.save(state(), folder + "/whole.pth")
    dcp.save(state(), checkpoint_id=folder + "/one", no_dist=True)
    mp.spawn(run, args=(4, folder + "/four", port), nprocs=4)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("distributed")
    (path / "write.py").write_text(WRITE)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    words = [sys.executable, path / "write.py", path, str(port)]
    subprocess.run([*map(str, words)], check=True, env=environment, capture_output=True, timeout=300)
    return path


@pytest.mark.parametrize("how", ["safetensors", "values"])
def test_the_other_layout(folder: Path, how: str) -> None:
    """A safetensors file for each process, behind plain values if there are some: no tensor has a place of its own."""
    with pthparse.open(folder / f"four-{how}") as model, pthparse.open(folder / "whole.pth") as whole:
        assert set(model) == set(whole) and not model.findings and not model.errors
        assert dict(model.metadata) == (dict(whole.metadata) if how == "values" else {})
        assert pthparse.diff(model, whole, values=how == "values").same
        for name, t in whole.items():
            assert model[name].numpy().tobytes() == t.numpy().tobytes()
        assert sum(e.nbytes for e in model.capacity().ledger()) == model.nbytes
        assert model.capacity().parameters == whole.capacity().parameters
        assert model.verify().ok and not model.stats().errors
        assert model.audit().verdict == "review"
    for file in (folder / f"four-{how}").glob("*.distcp"):
        assert pthparse.audit(file).verdict == ("review" if file.read_bytes().startswith(b"PK") else "clean")


@pytest.mark.parametrize("how", ["one", "four"])
def test_the_same_as_unsharded(folder: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pthparse.open(folder / how) as model, pthparse.open(folder / "whole.pth") as whole:
        assert model.format == "distributed" and not model.findings and not model.errors
        assert set(model) == set(whole)
        for name, t in whole.items():
            mine, theirs = model[name].numpy(), t.numpy()
            assert (mine.shape, mine.dtype, mine.tobytes()) == (theirs.shape, theirs.dtype, theirs.tobytes())
        assert {n: len(t.chunks) for n, t in model.items() if t.kind == "chunked"} == (
            {"model/embed.weight": 4, "model/head.weight": 4, "model/grid.weight": 4, "optim/state/0/exp_avg": 4}
            if how == "four"
            else {}
        )
        assert dict(model.metadata) == dict(whole.metadata) == {"optim/lr": 0.1, "epoch": 3, "note": "hello"}
        assert model.root["optim"]["lr"] == 0.1 and set(model.root["model"]) == set(whole.root["model"])
        mine_stats, capacity = model.stats(), model.capacity()
        for s in whole.stats():
            found = mine_stats[s.name]
            assert (found.numel, found.min, found.max, found.zeros) == (s.numel, s.min, s.max, s.zeros)
            assert s.mean is None or np.isclose(float(found.l2 or 0), float(s.l2 or 0), rtol=1e-12)
        assert sum(e.nbytes for e in capacity.ledger()) == model.nbytes
        assert capacity.parameters == whole.capacity().parameters
        quantiles, theirs = model.stats(quantiles=(0.1, 0.5), bins=4), whole.stats(quantiles=(0.1, 0.5), bins=4)
        assert [(s.quantiles, s.values) for s in quantiles] == [
            (theirs[s.name].quantiles, theirs[s.name].values) for s in quantiles
        ]
        assert model.verify().ok and model.audit().verdict == "review"

        def as_a_whole(*_: object, **__: object) -> None:
            raise AssertionError("chunks were put together as a whole")

        monkeypatch.setattr(ChunkedTensor, "numpy", as_a_whole)
        assert pthparse.diff(model, whole).same and model.hash().model == whole.hash().model
        written = folder / f"{how}.safetensors"
        pthparse.convert(model, written, all=True)
        assert pthparse.diff(written, whole, values=False).same
