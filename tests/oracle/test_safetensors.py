"""The safetensors library as the judge: what it writes is read equal, and what pthparse calls clean it takes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from forge import safetensors as st
from hypothesis import example, given, settings
from hypothesis import strategies as some
from oracle.judge import dtype_of, raw
from torch import nn

import pthparse
from pthparse import _core

TORCH = {d: getattr(torch, _core.DTYPES[i][0]) for d, (i, _) in _core.SAFETENSORS.items() if not d.startswith("F6_")}
# The library writes no dtype but these, and has not always written all of them.
WRITTEN = set(safetensors.torch._TYPES.values()) if hasattr(safetensors.torch, "_TYPES") else set(TORCH.values())


def random_tensor(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    count = int(np.prod(shape)) * dtype.itemsize
    data = torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8)
    return data.view(dtype).reshape(shape)


def assert_same(ours: pthparse.Tensor, theirs: torch.Tensor) -> None:
    assert (ours.dtype, ours.shape, ours.stride) == (dtype_of(theirs), tuple(theirs.shape), theirs.stride())
    array = ours.numpy()
    assert array.tobytes() == raw(theirs) and ours.numpy(copy=True).tobytes() == array.tobytes()
    assert ours.storage is not None and ours.storage.nbytes == len(raw(theirs)) == ours.nbytes


def test_the_dtypes_are_those_of_the_library() -> None:
    known = set(safetensors.torch._TYPES)
    assert known <= set(_core.SAFETENSORS) and {d: TORCH[d] for d in known} == safetensors.torch._TYPES
    with pytest.raises(safetensors.SafetensorError, match="unknown variant") as e:
        safetensors.deserialize(st.build({"w": st.entry("?")}, bytes(4)))
    names = str(e.value).split("expected one of ")[1]
    assert {word.strip("`, ") for word in names.split(" at ")[0].split()} == set(_core.SAFETENSORS)


def test_files_of_the_library(tmp_path: Path) -> None:
    torch.manual_seed(1)
    shapes = ((3, 4), (), (0,), (2, 0, 3), (1, 1, 5, 2))
    state = {
        f"{dtype_of(torch.empty(0, dtype=d))}.{i}": random_tensor(d, s)
        for d in sorted(WRITTEN, key=str)
        for i, s in enumerate(shapes)
        if s or d != torch.float4_e2m1fn_x2
    }
    assert len(state) > 60
    path = tmp_path / "all.safetensors"
    safetensors.torch.save_file(state, path, metadata={"format": "pt", "\u00e9\n": '"\\\u2028'})
    ckpt = pthparse.open(path)
    assert set(ckpt) == set(state) and not ckpt.findings and not ckpt.errors
    assert dict(ckpt.metadata) == {"format": "pt", "\u00e9\n": '"\\\u2028'}
    for name, t in state.items():
        assert_same(ckpt[name], t)
    with safetensors.safe_open(path, "pt") as f:
        for name in f.keys():  # noqa: SIM118
            assert_same(ckpt[name], f.get_tensor(name))
    assert ckpt.audit().verdict == "clean" and pthparse.verify(path).ok
    assert sum(e.nbytes for e in ckpt.capacity().ledger()) == path.stat().st_size
    starts = [t.storage.file_offset for t in ckpt.values() if t.storage]
    assert starts == sorted(starts)  # the library's header is in the order of the data


def test_a_model(tmp_path: Path) -> None:
    """Of tied weights the library keeps one; a state dict with both is refused there."""
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7, bias=False), nn.BatchNorm1d(7)).half()
    model[1].weight = model[0].weight
    with pytest.raises(RuntimeError, match="share memory"):
        safetensors.torch.save_file(model.state_dict(), tmp_path / "m")
    safetensors.torch.save_model(model, str(tmp_path / "m"))
    ckpt = pthparse.open(tmp_path / "m")
    kept = safetensors.torch.load_file(tmp_path / "m")
    assert set(ckpt) == set(kept) and len(kept) == len(model.state_dict()) - 1
    for name, t in kept.items():
        assert_same(ckpt[name], t)
    assert ckpt.metadata == {"0.weight": "1.weight"} or ckpt.metadata == {"1.weight": "0.weight"}
    capacity = ckpt.capacity()
    assert capacity.parameters == 28 + 14 and capacity.buffers == 15


def test_statistics_are_torchs(tmp_path: Path) -> None:
    state = {"a": torch.randn(1000), "b": torch.randn(40, 25).bfloat16(), "c": torch.randint(-9, 9, (100,))}
    safetensors.torch.save_file(state, tmp_path / "m")
    found = pthparse.open(tmp_path / "m").stats()
    for name, t in state.items():
        assert found[name].mean == pytest.approx(float(t.double().mean()), rel=1e-12)
        assert (found[name].min, found[name].max) == (float(t.min()), float(t.max()))


# ---- headers that nobody would write ----

LIBRARY = {**{d: d for d in _core.SAFETENSORS}, "?": "F99"}
NAMES = some.one_of(some.sampled_from(["w", "v", "", "0", "__metadata__"]), some.text(max_size=6))
NUMBERS = some.one_of(
    some.integers(0, 5), some.integers(-1, 40), some.sampled_from([1 << 31, 1 << 62, (1 << 63) - 1, 1 << 64]),
    some.sampled_from([True, None, 1.0, "1", [1], {}]),
)  # fmt: skip


@some.composite
def headers(draw: Any) -> tuple[list[tuple[str, Any]], int]:
    """Tensors one behind the other, of which some are then spoilt; and how many bytes of data there are."""
    at, pairs = 0, []
    for name in draw(some.lists(NAMES.filter(lambda n: n != "__metadata__"), max_size=4)):
        dtype = draw(some.sampled_from(sorted(LIBRARY)))
        shape = draw(some.lists(some.integers(0, 4), max_size=3))
        bits = _core.SAFETENSORS.get(dtype, (0, 8))[1]
        size = -(-int(np.prod(shape, dtype=np.int64)) * bits // 8)
        row: dict[str, Any] = st.entry(LIBRARY[dtype], shape, [at, at + size])
        at += size
        if draw(some.integers(0, 9)) == 0:
            field = draw(some.sampled_from(["dtype", "shape", "data_offsets", "more"]))
            row[field] = draw(some.one_of(NUMBERS, some.lists(NUMBERS, max_size=3), some.text(max_size=3)))
        pairs.append((name, row))
    if draw(some.booleans()):
        pairs.append(
            ("__metadata__", draw(some.dictionaries(some.text(max_size=3), some.text(max_size=3), max_size=2)))
        )
    pairs = draw(some.permutations(pairs))
    if draw(some.integers(0, 7)) == 0:
        pairs.append(
            (draw(NAMES), draw(some.one_of(NUMBERS, some.dictionaries(some.text(max_size=2), NUMBERS, max_size=2))))
        )
    return pairs, max(0, at + draw(some.sampled_from([0] * 12 + [1, -1])))


def judge(data: bytes) -> dict[str, dict[str, Any]] | None:
    """What the library reads; None: it refuses the file."""
    try:
        return dict(safetensors.deserialize(data))
    except (safetensors.SafetensorError, UnicodeDecodeError):
        return None


def compare(data: bytes) -> str:
    """One file by both. What pthparse takes without a finding the library takes, and with equal bytes."""
    theirs = judge(data)
    try:
        ckpt = pthparse.open(data)
    except pthparse.PthError:
        assert pthparse.audit(data).verdict != "clean"
        return "refused"
    errors = ckpt.errors
    assert sum(e.nbytes for e in ckpt.capacity().ledger()) == len(data)
    if ckpt.findings or errors:
        assert ckpt.audit().verdict != "clean"
        return "odd"
    assert ckpt.audit().verdict == "clean" and pthparse.verify(data).ok
    assert theirs is not None and theirs.keys() == set(ckpt)
    for name, t in ckpt.items():
        dtype, shape = theirs[name]["dtype"], list(theirs[name]["shape"])
        assert t.dtype == _core.DTYPES[_core.SAFETENSORS[dtype][0]][0]
        assert list(t.shape) == (shape if dtype != "F4" else [*shape[:-1], shape[-1] // 2])
        assert t.numpy().tobytes() == bytes(theirs[name]["data"])
    return "clean"


@settings(max_examples=400, deadline=None)
@given(headers())
@example(([("w", st.entry())], 4))
@example(([("w", st.entry()), ("w", st.entry())], 4))
@example(([("w", st.entry("U8", [1 << 40, 1 << 40, 0], [0, 0]))], 0))
def test_any_header(made: tuple[list[tuple[str, Any]], int]) -> None:
    pairs, n = made
    compare(st.build(pairs, random.Random(n).randbytes(n)))


def test_spoilt_bytes() -> None:
    """Every byte of a small header, changed and left out; and pieces of JSON put in."""
    header = st.dumped(
        {"__metadata__": {"a": "b"}, "w": st.entry("F32", [2, 1], [0, 8]), "v": st.entry("U8", [3], [8, 11])}
    )
    data = bytes(range(1, 12))
    rng, told = random.Random(5), {"clean": 0, "odd": 0, "refused": 0}
    pieces = [
        b'"',
        b"\\",
        b"{",
        b"}",
        b",",
        b":",
        b"0",
        b"1",
        b"-",
        b".",
        b" ",
        b"\0",
        b"\x80",
        b"e",
        b"u",
        b"[",
        b"]",
        b"\n",
    ]
    for i in range(len(header)):
        for new in (b"", *rng.sample(pieces, 6), header[i : i + 1] + rng.choice(pieces), bytes([rng.randrange(256)])):
            told[compare(st.build(header[:i] + new + header[i + 1 :], data))] += 1
    assert told["refused"] > 500 and min(told.values()) > 20, told


def test_what_the_library_takes_is_refused_for_a_reason() -> None:
    """Where pthparse is stricter: nothing that a writer makes."""
    stricter = {
        "safetensors-field": st.build({"w": st.entry(more=1)}, bytes(4)),
        "safetensors-json": st.build({"__metadata__": None, "w": st.entry()}, bytes(4)),
    }
    for code, data in stricter.items():
        assert judge(data) is not None
        with pytest.raises(pthparse.FormatError) as e:
            pthparse.open(data)
        assert e.value.code == code
    assert judge(st.build(b'{"w":["F32",[1],[0,4]]}', bytes(4))) is not None
    for header in ([("w", st.entry()), ("w", st.entry())], [("__metadata__", [("a", "1"), ("a", "2")])]):
        data = st.build(header, bytes(4) if header[0][0] == "w" else b"")
        assert judge(data) is not None and pthparse.audit(data).verdict == "malformed"


@pytest.mark.parametrize("shape", [(3, 10), (2,), (0, 4)])
def test_halves_of_bytes(shape: tuple[int, ...], tmp_path: Path) -> None:
    t = torch.arange(int(np.prod(shape)), dtype=torch.uint8).reshape(shape).view(torch.float4_e2m1fn_x2)
    safetensors.torch.save_file({"w": t}, tmp_path / "m")
    ours = pthparse.open(tmp_path / "m")["w"]
    assert_same(ours, t)
    assert (
        json.loads(bytes((tmp_path / "m").read_bytes()[8:]).split(b"}}")[0] + b"}}")["w"]["shape"][-1] == 2 * shape[-1]
    )
