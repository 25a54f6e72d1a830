"""No mutant of an honest file is clean unless torch loads it, and then with the tensors that are read here.

PTHPARSE_MUTANTS=N judges N in the place of some; `oracle.mutants` says how they are made.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import mutants
from oracle.judge import saved
from torch import nn

import pthparse
from pthparse.auditor import VERDICTS

N = int(os.environ.get("PTHPARSE_MUTANTS", "4000"))
SEVERITIES = {"note", *VERDICTS}


@pytest.fixture(scope="module")
def judge() -> Iterator[mutants.Judge]:
    with mutants.Judge() as made:
        yield made


@pytest.fixture(scope="module")
def pool() -> list[mutants.Seed]:
    return mutants.seeds()


def test_the_seeds_are_clean_and_read_alike(pool: list[mutants.Seed], judge: mutants.Judge) -> None:
    assert len(pool) >= 44 and {s.zipped for s in pool} == {True, False}
    for seed in pool:
        assert pthparse.audit(seed.data).verdict == "clean", seed.name
        theirs = judge([seed.data])[0]
        assert mutants.same(mutants.told_by_us(seed.data), theirs, False) is None, seed.name
        assert len(theirs[1]) > 1
        again = mutants.with_pickle(seed, b"".join(seed.ops))
        assert pthparse.audit(again).verdict == "clean", seed.name


def test_what_is_clean_loads_alike(pool: list[mutants.Seed], judge: mutants.Judge) -> None:
    verdicts: dict[str, int] = {}
    wrong = []
    for label, verdict, why, _ in mutants.judged(N, 11, pool, judge):
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        if why:
            wrong.append(f"{label}: {why}")
    assert not wrong, "\n".join(wrong[:20])
    assert verdicts["clean"] > N // 20 and verdicts["malformed"] > N // 4, verdicts


# ---- holes that mutants found, each as its own file ----


def pickled(*calls: bytes) -> bytes:
    return b"\x80\x02" + b"".join(calls) + b"."


class Edited:
    """A pickle of torch, with one stretch of it in the place of another."""

    def __init__(self, obj: Any, old: bytes, new: bytes, **how: Any) -> None:
        seed = mutants.seed_of("", saved(obj, **how))
        whole = b"".join(seed.ops)
        assert whole.count(old) >= 1, old
        self.data = mutants.with_pickle(seed, whole.replace(old, new, 1))

    @property
    def codes(self) -> set[str]:
        return {f.code for f in pthparse.audit(self.data).findings if f.severity != "note"}


LEGACY = {"_use_new_zipfile_serialization": False}
NOTED = nn.Parameter(torch.ones(2))
NOTED.note = torch.zeros(2)
HOLES: dict[str, tuple[str, Callable[[], Edited]]] = {
    "an attribute that is the tensor's own data": (
        "call-arguments",
        lambda: Edited([NOTED], b"X\x04\0\0\0note", b"X\x04\0\0\0data"),
    ),
    "an attribute of the interpreter": (
        "call-arguments",
        lambda: Edited([NOTED], b"X\x04\0\0\0note", b"X\x09\0\0\0__class__"),
    ),
    "a view flag that is false": (
        "call-arguments",
        lambda: Edited([torch._neg_view(torch.ones(2))], b"negq\x0c\x88", b"negq\x0c\x89"),
    ),
    "gradients of integers": (
        "call-arguments",
        lambda: Edited([torch.arange(3)], b"\x89", b"\x88"),
    ),
    "a size that is a bool": ("tensor-args", lambda: Edited([torch.ones(1)], b"K\1\x85", b"\x88\x85")),
    "an offset that is a bool": ("call-arguments", lambda: Edited([torch.ones(1)], b"QK\0", b"Q\x89")),
    "a persistent id of six parts in a zip": (
        "persistent-id",
        lambda: Edited([torch.ones(2)], b"K\2tq\6Q", b"K\2Ntq\6Q"),
    ),
    "a persistent id of five parts in a legacy file": (
        "persistent-id",
        lambda: Edited([torch.ones(2)], b"K\2Nt", b"K\2t", **LEGACY),
    ),
    "a device that is none": ("persistent-id", lambda: Edited([torch.ones(2)], b"X\3\0\0\0cpu", b"X\3\0\0\0pcu")),
    "a memo index that fills the memory": (
        "pickle-memo",
        lambda: Edited([1, 2], b"]q\0", b"]r\0\0\0\x70"),
    ),
    "a protocol in the middle": ("pickle-proto", lambda: Edited([1, 2], b"K\1K\2", b"K\1\x80\3K\2")),
    "a name of Python 2 in protocol 4": (
        "",
        lambda: Edited([range(3)], b"\x8c\x08builtins", b"\x8c\x0b__builtin__", pickle_protocol=4),
    ),
    "a key that cannot be hashed": (
        "key",
        lambda: Edited({"a": 1}, b"X\1\0\0\0aq\1", b"ccollections\nOrderedDict\n)Rq\1"),
    ),
    "pairs that are added to the list of a dict that was made of it": (
        "call-arguments",
        lambda: Edited(
            [torch.ones(1)], b"]q\0", b"ccollections\nOrderedDict\n]q\x77\x85Rh\x77]K\1aK\2aa0]q\0", pickle_protocol=2
        ),
    ),
}


@pytest.mark.parametrize("name", HOLES)
def test_holes(name: str) -> None:
    code, make = HOLES[name]
    edited = make()
    assert pthparse.audit(edited.data).verdict != "clean"
    assert not code or code in edited.codes, edited.codes


def test_attributes_that_may_not_be_set_are_those_of_torch() -> None:
    """What has a setter, or none, in torch.Tensor: the names of the table, and those that only look so."""
    from pathlib import Path

    table = Path(__file__).parents[2].joinpath("csrc", "defs", "attributes.def").read_text()
    ours = {line.split('"')[1] for line in table.splitlines() if line.startswith("X(")}
    theirs = {
        n
        for n in dir(torch.Tensor)
        if not n.startswith("__") and any(hasattr(type(vars(c).get(n)), "__set__") for c in torch.Tensor.__mro__)
    }
    assert theirs <= ours


def test_a_member_that_is_marked_as_a_folder() -> None:
    """miniz, and so torch, reads nothing of it, and says nothing."""
    data = bytearray(saved({"w": torch.ones(3)}))
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"archive/data/0"))
    data[entry + 38] |= 0x10
    report = pthparse.audit(bytes(data))
    assert report.verdict == "malformed" and [f.code for f in report.findings] == ["zip-as-folder"]


# ---- whatever the bytes ----

BYTES = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 1 << 30).map(lambda n: next(iter(mutants.mutants(9, n, POOL)), ("", b""))[1]),
)
POOL: list[mutants.Seed] = []


def assert_whole(report: pthparse.AuditReport) -> None:
    assert report.verdict in VERDICTS
    assert {f.severity for f in report.findings} <= SEVERITIES
    facts = report.to_dict()
    assert json.loads(report.to_json()) == {"schema": 1, **json.loads(json.dumps(facts))}
    sarif = report.to_sarif()
    assert json.loads(json.dumps(sarif)) == sarif and sarif["version"] == "2.1.0"
    assert (report.verdict == "clean") == (not report.reasons)


def test_any_bytes(tmp_path: Any, pool: list[mutants.Seed]) -> None:
    POOL[:] = pool
    path = tmp_path / "m.pth"

    @given(BYTES)
    @settings(max_examples=150, deadline=None)
    def check(data: bytes) -> None:
        report = pthparse.audit(data)
        assert_whole(report)
        assert pthparse.audit(data) == report and pthparse.audit(io.BytesIO(data)) == report
        path.write_bytes(data)
        of_path = pthparse.audit(path)
        assert of_path.path == str(path)
        assert {**of_path.to_dict(), "path": None} == report.to_dict()
        try:
            ckpt = pthparse.open(data)
        except pthparse.PthError:
            assert report.verdict != "clean"
            return
        with ckpt:
            assert ckpt.audit() == report

    check()


@given(
    st.recursive(st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.binary()), st.lists), st.integers(0, 5)
)
@settings(max_examples=100, deadline=None)
def test_any_plain_value_is_clean(value: Any, protocol: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert pthparse.audit(pickle.dumps([value], protocol)).verdict == "clean"
        assert pthparse.audit(saved([value], pickle_protocol=max(2, protocol))).verdict == "clean"
