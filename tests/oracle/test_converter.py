"""What is written, read by torch, the safetensors library and numpy: equal bit by bit to what torch loads."""

from __future__ import annotations

import filecmp
import io
import json
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from oracle.judge import dtype_of, loaded, raw, saved
from torch import nn

import pthparse
from pthparse import pieces
from pthparse.writers.safetensors import TYPES

ZOO = sorted((Path(__file__).parents[1] / "data" / "zoo").rglob("*.pth"))
LEGACY = {"_use_new_zipfile_serialization": False}
FLOATS = (
    "float64", "float32", "float16", "bfloat16",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
)  # fmt: skip
PLAIN = (
    *FLOATS, "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool", "complex64",
)  # fmt: skip
BITS = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32, 8: torch.uint64}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torch warns of its own prototypes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def tensor_of(dtype: str, n: int, seed: int = 0) -> torch.Tensor:
    """Any bits, NaN and all."""
    kind = getattr(torch, dtype)
    if dtype == "bool":
        return torch.arange(n) % 3 == 0
    size = torch.empty(0, dtype=kind).element_size()
    bits = np.random.default_rng(seed).integers(0, 256, n * size, dtype=np.uint8)
    return torch.from_numpy(bits).view(kind)


def assert_same(read: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert read.keys() == wanted.keys()
    for name, t in wanted.items():
        assert (dtype_of(read[name]), read[name].shape) == (dtype_of(t), t.shape), name
        assert raw(read[name]) == raw(t), name


# ---- safetensors ----


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
def test_every_dtype_as_the_library_writes_it(how: dict[str, Any], tmp_path: Path) -> None:
    """The very same file."""
    state = {f"{'zyx'[i % 3]}.{d}": tensor_of(d, 30, i).reshape(5, 6) for i, d in enumerate(PLAIN)}
    state |= {"": torch.ones(()), "none": torch.empty(0, 3), 'ä "\\\n\x7f': torch.arange(3)}
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    told = pthparse.convert(saved(state, **how), ours)
    safetensors.torch.save_file(state, theirs, {"format": "pt"})
    assert filecmp.cmp(ours, theirs, shallow=False)
    assert_same(safetensors.torch.load_file(ours), loaded(saved(state)))
    assert (told.tensors, told.nbytes, told.verified) == (len(state), sum(t.nbytes for t in state.values()), True)
    assert told.files[0].nbytes == ours.stat().st_size and not (told.cast or told.renamed or told.dropped)


def test_types_that_the_library_alone_names(tmp_path: Path) -> None:
    """Scales and pairs of four bits: torch reads them through safe_open, if at all."""
    state = {
        "scale": torch.arange(24, dtype=torch.uint8).reshape(4, 6).view(torch.float8_e8m0fnu),
        "pairs": torch.arange(8, dtype=torch.uint8).reshape(2, 4).view(torch.float4_e2m1fn_x2),
    }
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    pthparse.convert(saved(state), ours)
    safetensors.torch.save_file(state, theirs, {"format": "pt"})
    assert filecmp.cmp(ours, theirs, shallow=False)


@pytest.mark.parametrize("tile", [pieces.TILE, 512, 64], ids=["large", "512", "64"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8", "complex64"])
def test_every_way_to_lie(tile: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gathered in pieces of any size, cast or not."""
    monkeypatch.setattr(pieces, "TILE", tile)
    monkeypatch.setattr(pieces, "LINE", tile)
    monkeypatch.setattr(pieces, "GAP", tile // 16)
    whole = tensor_of(dtype, 7 * 9 * 11 * 4).reshape(7, 9, 11, 4)
    state = {
        "whole": whole,
        "transposed": whole.reshape(63, 44).t(),
        "columns": whole.reshape(63, 44)[:, 3:9],
        "channels": whole.permute(0, 3, 1, 2),
        "turned": whole.permute(3, 2, 1, 0),
        "mixed": whole[1:, ::2, :, 1].transpose(0, 2),
        "expanded": whole[0, 0, 0].expand(3, 5, 4),
        "inner": whole[0, 0, :, :1].expand(11, 6),
        "outer": whole[:, 0, 0, 0].expand(4, 7).t(),
        "windows": whole.reshape(-1).as_strided((20, 8), (3, 1), 5),
        "steps": whole.reshape(-1)[::5],
        "one": whole[2:3, 4:5, 6:7, 1:2],
        "single": whole[2, 4, 6, 1],
        "empty": whole[:0].transpose(0, 2),
    }
    path = tmp_path / "x.safetensors"
    pthparse.convert(saved(state), path, shared="copy")
    assert_same(safetensors.torch.load_file(path), state)
    if dtype == "bfloat16":
        pthparse.convert(saved(state), path, shared="copy", dtype="float32", overwrite=True)
        read = safetensors.torch.load_file(path)
        for name, t in state.items():
            wanted = t.to(torch.float32)
            assert torch.equal(read[name].nan_to_num(7.0), wanted.nan_to_num(7.0)), name


def test_conjugates_and_negatives(tmp_path: Path) -> None:
    z = torch.complex(torch.tensor([1.0, -0.0, float("inf")]), torch.tensor([0.0, -2.0, float("-inf")]))
    state = {"conj": z.conj(), "both": torch._neg_view(z.conj()), "neg": torch._neg_view(z.real.clone())}
    state |= {"imag": z.clone().conj().imag, "half": z.to(torch.complex64)[:0].conj()}
    path = tmp_path / "x.safetensors"
    pthparse.convert(saved(state), path, shared="copy")
    assert_same(safetensors.torch.load_file(path), state)


def test_tied_tensors_as_save_model_keeps_them(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(8, 4)
            self.head = nn.Linear(4, 8, bias=False)
            self.head.weight = self.embed.weight
            self.rest = nn.Linear(3, 3)

    model, path, theirs = Tied(), tmp_path / "x.safetensors", tmp_path / "theirs.safetensors"
    told = pthparse.convert(saved(model.state_dict()), path)
    assert [(d.name, d.kept) for d in told.dropped] == [("head.weight", "embed.weight")]
    safetensors.torch.save_model(model, str(theirs))
    with safetensors.safe_open(path, "pt") as a, safetensors.safe_open(theirs, "pt") as b:
        assert a.metadata() == {"format": "pt", **b.metadata()} and set(a.keys()) == set(b.keys())
    empty = Tied()
    assert safetensors.torch.load_model(empty, str(path)) == (set(), [])
    assert_same(dict(empty.state_dict()), dict(model.state_dict()))
    pthparse.convert(saved(model.state_dict()), path, shared="copy", overwrite=True)
    assert_same(safetensors.torch.load_file(path), dict(model.state_dict()))


def test_shards_and_their_index(tmp_path: Path) -> None:
    state = {f"layers.{i}.w": torch.randn(10, 10) for i in range(7)} | {
        "huge": torch.randn(50, 50),
        "tiny": torch.ones(1),
    }
    told = pthparse.convert(saved(state), tmp_path / "model", max_shard_size="1kB")
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": sum(t.nbytes for t in state.values())}
    assert list(index["weight_map"]) == sorted(state)
    names = [f"model-{i:05d}-of-00006.safetensors" for i in range(1, 7)]
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [*names, "model.safetensors.index.json"]
    assert [Path(f.path).name for f in told.files] == [*names, "model.safetensors.index.json"]
    read: dict[str, torch.Tensor] = {}
    for name in names:
        part = safetensors.torch.load_file(tmp_path / "model" / name)
        assert {index["weight_map"][n] for n in part} == {name} and not part.keys() & read.keys()
        read |= part
    assert_same(read, state)


@pytest.mark.parametrize("file", ZOO, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_every_file_of_the_zoo(file: Path, tmp_path: Path) -> None:
    """What can be written is what `Tensor.numpy()` gives; the rest is named."""
    with pthparse.open(file) as ckpt:
        path = tmp_path / "x.safetensors"
        can = [n for n, t in ckpt.items() if t.error is None and t.kind in ("dense", "array")]
        if not can:
            with pytest.raises(pthparse.UnsupportedError):
                pthparse.convert(ckpt, path, all=True, skip=True, shared="copy")
            return
        told = pthparse.convert(ckpt, path, all=True, skip=True, shared="copy")
        skipped = {s.name for s in told.skipped}
        read = dict(safetensors.deserialize(path.read_bytes()))
        assert told.tensors + len(skipped) == len(ckpt) and read.keys() == set(ckpt) - skipped
        for name, row in read.items():
            t = ckpt[name]
            doubled = t.dtype == "float4_e2m1fn_x2"
            assert TYPES[t.dtype] == row["dtype"]
            assert row["shape"] == ([*t.shape[:-1], 2 * t.shape[-1]] if doubled else list(t.shape))
            assert bytes(row["data"]) == np.ascontiguousarray(t.numpy()).tobytes(), name
        for name in skipped & set(can):
            assert "safetensors has no" in next(s.reason for s in told.skipped if s.name == name)


# ---- casts ----


@cache
def samples(dtype: str) -> torch.Tensor:
    """All numbers of small types; of large ones those next to every number of the small ones, and any bits."""
    if dtype in ("float16", "bfloat16"):
        return torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(getattr(torch, dtype))
    if dtype.startswith("float8"):
        return torch.arange(256, dtype=torch.int32).to(torch.uint8).view(getattr(torch, dtype))
    near = []
    for small in ("float16", "bfloat16", *FLOATS[4:]):
        x = samples(small).to(torch.float32)
        x = x[x.isfinite()].sort().values
        near += [x, (x[1:] + x[:-1]) / 2, x * 1.04]
    x = torch.cat(near).to(getattr(torch, dtype))
    inf = torch.tensor(float("inf"), dtype=x.dtype)
    any_bits = tensor_of(dtype, 1 << 16)
    return torch.cat([x, torch.nextafter(x, inf), torch.nextafter(x, -inf), any_bits, inf[None], -inf[None]])


@pytest.mark.parametrize("to", FLOATS)
def test_casts(to: str, tmp_path: Path) -> None:
    """The same bits as `.to()`, and NaN where it has NaN (whose bits differ even within torch)."""
    state = {d: samples(d) for d in (*FLOATS, "float8_e8m0fnu") if d != to}
    path = tmp_path / "x.safetensors"
    told = pthparse.convert(saved(state), path, dtype=to)
    read = safetensors.torch.load_file(path)
    assert len(told.cast) == len(state) and {c.now for c in told.cast} == {to}
    for name, t in state.items():
        wanted = t.to(getattr(torch, to))
        same = read[name].view(BITS[wanted.element_size()]) == wanted.view(BITS[wanted.element_size()])
        wide = read[name].to(torch.float32).isnan() & wanted.to(torch.float32).isnan()
        assert bool((same | wide).all()), (name, to, t[~(same | wide)][:5])


def test_integers_are_cast_by_their_whole_name_alone(tmp_path: Path) -> None:
    state = {
        "n": torch.tensor([1 << 53, (1 << 53) + 1, -7, (1 << 24) + 1]),
        "m": torch.arange(4),
        "b": torch.tensor([True, False]),
    }
    state |= {"x": torch.ones(2), "z": torch.ones(2, dtype=torch.complex64)}
    path = tmp_path / "x.safetensors"
    pthparse.convert(saved(state), path, dtype={"*": "bfloat16", "n": "float32", "b": "float16"})
    read = safetensors.torch.load_file(path)
    assert {n: dtype_of(t) for n, t in read.items()} == {
        "n": "float32", "m": "int64", "b": "float16", "x": "bfloat16", "z": "complex64",
    }  # fmt: skip
    assert torch.equal(read["n"], state["n"].to(torch.float32)) and torch.equal(read["b"], state["b"].to(torch.float16))


# ---- numpy ----


@pytest.mark.parametrize("to", ["npz", "npy"])
def test_numpy_reads_it(to: str, tmp_path: Path) -> None:
    state = {f"a/{d}": tensor_of(d, 24).reshape(4, 6) for d in PLAIN if not d.startswith(("bfloat", "float8"))}
    state |= {
        "t": state["a/float64"].t(),
        "scalar": torch.tensor(3),
        "none": torch.empty(0, 2),
        "z": torch.ones(2, dtype=torch.complex128),
    }
    told = pthparse.convert(saved(state), path := tmp_path / f"x.{to}", to=to)
    if to == "npz":
        with np.load(path, allow_pickle=False) as archive:
            read = dict(archive)
    else:
        rows = json.loads((path / "index.json").read_text())["tensors"]
        read = {n: np.load(path / row["file"], allow_pickle=False) for n, row in rows.items()}
        assert {n: (r["dtype"], tuple(r["shape"])) for n, r in rows.items()} == {
            n: (dtype_of(t), tuple(t.shape)) for n, t in state.items()
        }
    assert read.keys() == state.keys() and told.tensors == len(state) and not told.dropped
    for name, t in state.items():
        wanted = t.numpy()
        assert (read[name].dtype, read[name].shape) == (wanted.dtype, wanted.shape)
        assert read[name].tobytes() == np.ascontiguousarray(wanted).tobytes()


def test_what_numpy_lacks_is_refused_or_raw(tmp_path: Path) -> None:
    state = {"b": torch.randn(2, 3).to(torch.bfloat16), "f": torch.randn(4).to(torch.float8_e5m2), "h": torch.ones(2)}
    state["c"] = torch.randn(3, dtype=torch.complex64).to(torch.complex32)
    path = tmp_path / "x.npz"
    with pytest.raises(pthparse.UnsupportedError, match=r"numpy has no bfloat16: .*'b'; numpy has no float8_e5m2.*'f'"):
        pthparse.convert(saved(state), path)
    assert not list(tmp_path.iterdir())
    told = pthparse.convert(saved(state), path, raw=True)
    assert told.raw == ("b", "f", "c")
    with np.load(path) as read:
        assert read["b"].dtype == np.dtype("V2") and read["c"].shape == (3, 2)
        assert np.array_equal(read["b"].view(ml_dtypes.bfloat16).astype(np.float32), state["b"].float().numpy())
        assert read["f"].view(ml_dtypes.float8_e5m2).tobytes() == raw(state["f"])
        assert read["c"].tobytes() == raw(state["c"]) and read["h"].dtype == np.float32
    out = io.BytesIO()
    with pthparse.open(saved(state)) as ckpt:
        np.save(out, ckpt["b"].numpy())
    out.seek(0)
    assert np.load(out).tobytes() == raw(state["b"])  # as numpy itself saves it
