"""Statistics, verification and audit of a model in several files by a real cluster: the same as in one process."""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import pickles as p
from forge import zips

import pthparse

FILES, NUMEL = 4, 1 << 20
GLOBAL = p.glob("my.models", "Config")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    numbers = np.random.default_rng(0)
    weights = {}
    for i in range(FILES):
        name = f"model-{i + 1:05}-of-{FILES:05}.bin"
        values = {f"layers.{i}.{x}": numbers.standard_normal(NUMEL, np.float32).tobytes() for x in "ab"}
        tensors = {n: p.vector(str(k), NUMEL) for k, n in enumerate(values)}
        body = p.dict_of({**tensors, **({"config": GLOBAL} if i == 2 else {})})
        (path / name).write_bytes(zips.checkpoint(p.pickle(body), {str(k): v for k, v in enumerate(values.values())}))
        weights |= dict.fromkeys(values, name)
    damaged = path / f"model-00002-of-{FILES:05}.bin"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 3] ^= 1
    damaged.write_bytes(data)
    (path / "model.bin.index.json").write_text(json.dumps({"weight_map": weights}))
    return path


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the scheduler, about ports and the like
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client


def bits(table: pthparse.StatsTable) -> list[tuple[Any, ...]]:
    return [
        (s.name, s.nan, s.zeros, *(struct.pack("<d", x) for x in (s.min, s.max, s.mean, s.std, s.l1, s.l2)))
        for s in table
    ]


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_gives_the_same_bits(folder: Path, client: Any) -> None:
    executor = client.get_executor()
    with pthparse.open(folder) as model:
        alone = model.stats(histogram=True)
        found = model.stats(histogram=True, executor=executor)
        assert bits(found) == bits(alone) and [s.histogram for s in found] == [s.histogram for s in alone]
        assert model.verify(executor=executor).to_dict() == model.verify().to_dict()
        assert model.audit(executor).to_dict() == model.audit().to_dict()
    report = pthparse.verify(folder, executor=executor)
    assert (report.verdict, len(report.damaged), len(report.whole)) == ("damaged", 1, 2 * FILES - 1)
    audited = pthparse.audit(folder, executor=executor)
    assert audited.to_dict() == pthparse.audit(folder).to_dict()
    assert [(g.name, g.status) for g in audited.globals if g.status != "handled"] == [("Config", "unknown")]


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_compares_models(folder: Path, client: Any, tmp_path: Path) -> None:
    values = {f"layers.0.{x}": np.arange(NUMEL, dtype=np.float32) + (x == "b") for x in "ab"}
    tensors = {n: p.vector(str(k), NUMEL) for k, n in enumerate(values)}
    records = {str(k): v.tobytes() for k, v in enumerate(values.values())}
    other = tmp_path / "other.pth"
    other.write_bytes(zips.checkpoint(p.pickle(p.dict_of(tensors)), records))
    alone = pthparse.diff(folder, other)
    found = pthparse.diff(folder, other, executor=client.get_executor())
    assert found.to_dict() == alone.to_dict()
    assert {d.name for d in found.changed} == set(values) and len(found.removed) == 2 * (FILES - 1)


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_costs_time_and_not_the_result(folder: Path, client: Any) -> None:
    executor = client.get_executor()
    workers = client.scheduler_info()["workers"]
    victim = next(iter(client.run(os.getpid).values()))
    killed = threading.Event()

    def kill() -> None:
        time.sleep(0.05)
        os.kill(victim, signal.SIGKILL)
        killed.set()

    with pthparse.open(folder) as model:
        alone = bits(model.stats())
        killer = threading.Thread(target=kill)
        killer.start()
        while not killed.is_set():
            assert bits(model.stats(executor=executor)) == alone
        killer.join()
        assert bits(model.stats(executor=executor)) == alone
    left = client.run(os.getpid, on_error="ignore")  # the scheduler may not know yet that it is gone
    assert len(workers) == 2 and victim not in left.values()
