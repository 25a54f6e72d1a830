"""Honest files are not called anything else: tensors and plain values are clean, all others are for review at most.

PTHPARSE_HONEST=N makes N trees at random in the place of some.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import honest
from oracle.judge import saved

import pthparse
from pthparse.auditor import VERDICTS

ROUNDS = int(os.environ.get("PTHPARSE_HONEST", "40"))
ZOO = sorted(Path(__file__).parents[1].glob("data/*/**/*.pth"))
# torch finds no name for a memory format but one that leads through another module, which may be any.
ODD = {("torch formats", "zip protocol 4"), ("torch formats", "zip protocol 5")}
ODD |= {("torch formats", f"legacy protocol {n}") for n in (4, 5)} | {("torch formats", f"pickle {n}") for n in (4, 5)}
# Below protocol 2 a frozen dataclass is made by a function that takes any class.
ODD |= {(f"nested {kind}", f"pickle {n}") for kind in ("jagged", "grad") for n in (0, 1)}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's prototypes
        yield


def assert_at_most(worst: str, data: bytes, what: str) -> pthparse.AuditReport:
    report = pthparse.audit(data)
    assert VERDICTS.index(report.verdict) <= VERDICTS.index(worst), f"{what}: {report.verdict}: {report.reasons[:5]}"
    return report


def written(obj: Any, protocols: range) -> Iterator[tuple[str, bytes]]:
    """Of what can be written in that way at all."""
    ways: dict[str, Callable[[], bytes]] = {
        **{n: functools.partial(saved, obj, **how) for n, how in honest.CONTAINERS.items()},
        **{f"pickle {n}": functools.partial(pickle.dumps, obj, n) for n in protocols},
    }
    for name, write in ways.items():
        try:
            yield name, write()
        except (TypeError, AttributeError, pickle.PicklingError, RuntimeError):
            continue


@pytest.mark.parametrize("name", honest.CLEAN)
def test_tensors_and_plain_values_are_clean(name: str) -> None:
    n = 0
    for how, data in written(honest.CLEAN[name](), range(6)):
        assert_at_most("review" if (name, how) in ODD else "clean", data, f"{name}, {how}")
        n += 1
    assert n >= 4


@pytest.mark.parametrize("name", honest.REVIEW)
def test_classes_and_functions_are_for_review(name: str) -> None:
    # Below protocol 2 torch's own objects may end the process.
    seen = {
        assert_at_most("review", data, f"{name}, {how}").verdict
        for how, data in written(honest.REVIEW[name](), range(2, 6))
    }
    assert seen


@pytest.mark.parametrize("name", honest.PACKERS)
@pytest.mark.parametrize("what", ["state dict", "training", "views", "quantized channel"])
def test_zipped_again(name: str, what: str) -> None:
    data = honest.PACKERS[name](saved(honest.CLEAN[what]()))
    report = assert_at_most("review" if name == "mac" else "clean", data, name)
    if name == "mac":  # torch does not read an archive with a member beside its folder
        assert {f.code for f in report.findings} == {"zip-member"}
        with pytest.raises(RuntimeError, match="not in a subdirectory"):
            torch.load(io.BytesIO(data))


@pytest.mark.parametrize("name", honest.SAVERS)
@pytest.mark.parametrize("what", ["state dict", "views", "optimizer Adam"])
def test_settings_of_torch(name: str, what: str) -> None:
    assert_at_most("clean", honest.SAVERS[name](honest.CLEAN[what]()), name)


def test_without_data() -> None:
    assert_at_most("clean", honest.without_data(honest.Net().state_dict()), "skip_data")


OTHERS = {**honest.scripts(), **honest.packages(), **honest.exported()}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_writers(name: str) -> None:
    report = assert_at_most("review", OTHERS[name](), name)
    assert (report.verdict == "clean") == (name in ("script in a dict", "package"))


def test_distributed_checkpoints() -> None:
    files = honest.distributed()
    assert {name.rpartition(".")[2] for name in files} == {"metadata", "distcp"}
    for name, data in files.items():
        report = assert_at_most("review", data, name)
        if name.endswith(".distcp"):
            assert [f.code for f in report.findings if f.severity != "note"] == ["zip-several"]
            assert report.tensors == len(honest.Net().state_dict())


def test_several_objects_in_one_stream() -> None:
    report = assert_at_most("review", honest.several(), "several")
    assert {f.code for f in report.findings} == {"several-objects", "embedded"} and report.tensors == 3


@pytest.mark.parametrize("file", ZOO, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_zoo(file: Path) -> None:
    code = file.stem.startswith(("whole_model", "torchscript"))
    report = pthparse.audit(file)
    assert report.verdict == "clean" or (code and report.verdict == "review"), report.reasons


def test_anything() -> None:
    r = random.Random(7)
    for i in range(ROUNDS):
        for how, data in written(honest.anything(r), range(2, 6, 3)):
            if (report := pthparse.audit(data)).verdict != "clean":
                formats = [g for g in report.globals if g.status == "unknown"]
                assert formats and all("_format" in g.name or "channels_last" in g.name for g in formats), (
                    i,
                    how,
                    report.reasons,
                )
