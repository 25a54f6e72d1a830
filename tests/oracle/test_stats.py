"""Statistics of files that torch wrote, against numpy in double precision over what torch loads."""

from __future__ import annotations

import concurrent.futures
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle.judge import saved

import pthparse
from pthparse.stats import Stats

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of its own prototypes
LEGACY = {"_use_new_zipfile_serialization": False}
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)


def doubles(t: torch.Tensor) -> np.ndarray[Any, Any]:
    """The elements in the order of their indices."""
    t = t.detach().resolve_conj().resolve_neg()
    if t.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return np.asarray(t.contiguous().numpy(), np.float64).reshape(-1)
    return np.asarray(t.to(torch.float64).numpy(), np.float64).reshape(-1)


def check(s: Stats, t: torch.Tensor) -> None:
    d = doubles(t)
    finite = d[np.isfinite(d)]
    assert (s.shape, s.numel) == (tuple(t.shape), t.numel())
    assert (s.nan, s.posinf, s.neginf) == (np.isnan(d).sum(), (d == np.inf).sum(), (d == -np.inf).sum())
    assert s.zeros == (d == 0).sum()
    if not len(finite):
        assert (s.min, s.max, s.mean, s.std, s.absmax, s.l1, s.l2) == (None,) * 7
        return
    assert (s.min, s.max, s.absmax) == (finite.min(), finite.max(), abs(finite).max())
    scale = abs(finite).mean()
    assert s.mean == pytest.approx(finite.mean(), rel=1e-12, abs=1e-13 * scale)
    assert s.std == pytest.approx(finite.std(), rel=1e-10, abs=1e-13 * scale)
    assert s.l1 == pytest.approx(abs(finite).sum(), rel=1e-12)
    assert s.l2 == pytest.approx(math.sqrt(math.fsum(finite * finite)), rel=1e-12)
    exponents = np.frexp(finite[finite != 0])[1] - 1
    assert s.histogram == tuple(zip(*(v.tolist() for v in np.unique(exponents, return_counts=True)), strict=True))


def stats_of(obj: Any, **how: Any) -> pthparse.StatsTable:
    with pthparse.open(saved(obj, **how)) as ckpt:
        return ckpt.stats(histogram=True)


def sample(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    if dtype == torch.bool:
        return torch.rand(shape, generator=g) < 0.3
    if dtype in INTEGERS:
        low = 0 if "u" in str(dtype).split(".")[1] else -100
        return torch.randint(low, 100, shape, generator=g).to(dtype)
    return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", [*FLOATS, *FLOAT8, *INTEGERS, torch.bool], ids=str)
def test_every_dtype(dtype: torch.dtype, how: dict[str, Any]) -> None:
    t = {"a": sample(dtype, 37, 21), "b": sample(dtype, 1), "c": sample(dtype), "d": sample(dtype, 0, 4)}
    found = stats_of(t, **how)
    assert [s.name for s in found] == list(t) and not found.errors
    for s in found:
        check(s, t[s.name])
        assert s.dtype == str(dtype).removeprefix("torch.")
        assert s.bfloat16_exact is None or dtype == torch.float32
        if dtype in INTEGERS and s.numel:
            assert type(s.min) is int and type(s.max) is int


def test_integers_are_exact() -> None:
    t = {
        "i": torch.tensor([2**63 - 1, -(2**63), 2**53 + 1]),
        "u": torch.tensor([2**64 - 1, 1], dtype=torch.uint64),
    }
    found = stats_of(t)
    assert (found["i"].min, found["i"].max) == (-(2**63), 2**63 - 1)
    assert (found["u"].min, found["u"].max) == (1, 2**64 - 1)


def views() -> dict[str, torch.Tensor]:
    base = sample(torch.float32, 40, 60)
    base[3, 5], base[7, 2], base[39, 59] = math.nan, math.inf, 0.0
    flat = sample(torch.float32, 5000)
    return {
        "whole": base,
        "transposed": base.t(),
        "rows": base[10:20],
        "columns": base[:, 7:29],
        "steps": base[::3, ::7],
        "one column": base[:, 5],
        "turned and cut": base.t()[3:31:2, 1:],
        "permuted": sample(torch.float32, 5, 6, 7).permute(2, 0, 1),
        "expanded": flat[:50].reshape(50, 1).expand(50, 30),
        "expanded in front": flat[100:110].expand(7, 10),
        "windows": flat[:1000].unfold(0, 30, 3),
        "scalar of many": flat[77].expand(3, 4),
        "negative": torch._neg_view(flat[:99]),
        "channels last": sample(torch.float32, 2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
def test_every_kind_of_view(how: dict[str, Any]) -> None:
    t = views()
    found = stats_of(t, **how)
    assert [s.name for s in found] == list(t) and not found.errors
    for s in found:
        check(s, t[s.name])
        bad = np.flatnonzero(~np.isfinite(doubles(t[s.name])))
        assert (s.first_bad is None) == (len(bad) == 0)
        if s.first_bad is not None:  # of one that is turned: the first as the bytes lie
            assert s.first_bad in bad and (s.name != "whole" or s.first_bad == bad[0])
    assert found["expanded"].repeats == 30 and found["scalar of many"].repeats == 12


def test_a_large_strided_view() -> None:
    """Rows further apart than a read, and many reads."""
    base = sample(torch.float32, 700, 3000)
    t = {"columns": base[:, 1000:1700], "far": base[:, :1], "rows": base[::300]}
    for s in stats_of(t):
        check(s, t[s.name])


def test_an_expanded_tensor_is_not_walked() -> None:
    found = stats_of({"w": torch.tensor([1.0, -3.0]).reshape(2, 1).expand(2, 1 << 40)})
    s = found["w"]
    assert (s.numel, s.repeats, s.min, s.max, s.mean, s.std) == (1 << 41, 1 << 40, -3.0, 1.0, -1.0, 2.0)
    assert s.l1 == 2.0**42 and s.l2 == pytest.approx(math.sqrt(10 * 2.0**40))
    assert s.histogram == ((0, 1 << 40), (1, 1 << 40))


def test_overlapping_windows_are_bounded() -> None:
    """A small file may say any number of them."""
    data = saved({"w": torch.arange(1 << 17).as_strided((1 << 16, 1 << 16), (1, 1))})
    with pthparse.open(data, limits=pthparse.Limits(max_dense_bytes=1 << 30)) as ckpt:
        found = ckpt.stats()
        assert len(found) == 0 and found.errors["w"].code == "max_dense_bytes"


def test_complex_numbers() -> None:
    for dtype in (torch.complex64, torch.complex128):
        t = torch.randn(500, dtype=dtype)
        t[3], t[4], t[5] = complex(math.nan, 1), complex(1, -math.inf), 0
        for view in (t, t.conj(), torch._neg_view(t)):
            s = stats_of({"z": view})["z"]
            z = view.resolve_conj().resolve_neg().numpy().astype(np.complex128)
            good = z[np.isfinite(z)]
            assert (s.nan, s.posinf, s.zeros, s.first_bad, s.min, s.max) == (1, 1, 1, 3, None, None)
            assert isinstance(s.mean, complex) and abs(s.mean - good.mean()) < 1e-12
            assert s.std == pytest.approx(good.std(), rel=1e-12)
            assert s.absmax == pytest.approx(abs(good).max(), rel=1e-15)
            assert s.l2 == pytest.approx(np.linalg.norm(good), rel=1e-12)


def test_quantized_by_integers_and_by_values() -> None:
    x = torch.randn(6, 50)
    tensors = {
        "tensor": torch.quantize_per_tensor(x, 0.05, 3, torch.qint8),
        "unsigned": torch.quantize_per_tensor(x, 0.05, 128, torch.quint8),
        "wide": torch.quantize_per_tensor(x, 0.001, 7, torch.qint32),
        "channel": torch.quantize_per_channel(x, torch.rand(6).double() + 0.1, torch.arange(6), 0, torch.qint8),
    }
    found = stats_of(tensors)
    ckpt = pthparse.open(saved(tensors))
    for name, q in tensors.items():
        assert np.array_equal(ckpt[name].dequantize(), q.dequantize().numpy())
        s = found[name]
        assert s.dtype == str(q.dtype).removeprefix("torch.") and s.integers is not None
        check(s, q.dequantize())
        ints = q.int_repr().numpy()
        assert (s.integers.min, s.integers.max) == (ints.min(), ints.max())
        assert s.integers.mean == pytest.approx(ints.mean(), rel=1e-12)


def test_tensors_made_of_tensors() -> None:
    dense = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, -3.0]])
    nested = torch.nested.nested_tensor([torch.ones(2, 2), torch.full((3, 2), 2.0)])
    found = stats_of({"coo": dense.to_sparse(), "csr": dense.to_sparse_csr(), "nested": nested})
    for name in ("coo", "csr"):
        assert (found[name].numel, found[name].min, found[name].max) == (3, -3.0, 2.0)
    assert (found["nested"].numel, found["nested"].l1) == (10, 16.0)


def test_what_has_no_data() -> None:
    found = stats_of({"meta": torch.empty(3, device="meta"), "w": torch.ones(2)})
    assert [s.name for s in found] == ["w"]
    assert isinstance(found.errors["meta"], pthparse.UnsupportedError)


def test_coinciding_tensors_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    w = torch.randn(100, 100)
    data = saved({"a": w, "b": w, "flat": w.reshape(-1), "turned": w.t(), "part": w[:50]})
    read: list[int] = []
    with pthparse.open(data) as ckpt:
        window = ckpt._box.source.window
        monkeypatch.setattr(ckpt._box.source, "window", lambda at, n: read.append(n) or window(at, n))
        found = ckpt.stats()
    assert found["a"].l2 == found["b"].l2 == found["flat"].l2 == found["turned"].l2
    assert sum(n for n in read if n > 10000) <= 40000 + 20000


# ---- whoever does the work ----


def large() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    return {
        "big": torch.randn(3000, 1000, generator=g),
        "half": torch.randn(999_999, generator=g).half(),
        "turned": torch.randn(700, 900, generator=g).t()[5:],
        "doubles": torch.randn(400_000, generator=g, dtype=torch.float64),
        "codes": torch.randint(0, 255, (300_000,), generator=g, dtype=torch.uint8),
        **{f"small.{i}": torch.randn(i, generator=g) for i in range(50)},
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stats") / "large.pth"
    torch.save(large(), path)
    return path


def test_the_same_bits_whoever_runs_it(file: Path) -> None:
    with pthparse.open(file) as ckpt:
        first = ckpt.stats(histogram=True, threads=1).to_dict()
        for s in ckpt.stats(histogram=True):
            check(s, large()[s.name])
        assert len(first["tensors"]) == 55 and not first["errors"]
        for threads in (2, 3, 7):
            assert ckpt.stats(histogram=True, threads=threads).to_dict() == first
        for isa in pthparse.build_info()["instruction_sets"]:  # type: ignore[attr-defined]
            assert ckpt.stats(histogram=True, isa=isa).to_dict() == first
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            assert ckpt.stats(histogram=True, executor=pool).to_dict() == first
            assert ckpt.stats(["big"], pool)["big"].mean == first["tensors"][0]["mean"]
        with concurrent.futures.ProcessPoolExecutor(2) as pool:
            assert ckpt.stats(histogram=True, executor=pool).to_dict() == first
            with pthparse.open(file.read_bytes()) as memory:
                assert memory.stats(histogram=True, executor=pool).to_dict() == first
            behind = file.with_name("behind.pth")
            behind.write_bytes(b"before" + file.read_bytes())
            with behind.open("rb") as f:
                f.seek(6)
                with pthparse.open(f) as part:
                    assert part.stats(histogram=True, executor=pool).to_dict() == first
    assert {n: s["mean"] for n, s in zip(large(), first["tensors"], strict=True)}["big"] == pytest.approx(
        float(large()["big"].double().mean()), abs=1e-12
    )


def test_progress_ends_at_all(file: Path) -> None:
    seen: list[tuple[int, int]] = []
    with pthparse.open(file) as ckpt:
        ckpt.stats(progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 1 and seen == sorted(seen) and seen[-1][0] == seen[-1][1] > 12_000_000


def test_a_file_that_is_cut_tells_which_tensors(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    path.write_bytes(file.read_bytes())
    with pthparse.open(path) as ckpt:
        whole = {s.name: s for s in ckpt.stats()}
        end = ckpt["half"].storage.file_offset or 0  # type: ignore[union-attr]
        with path.open("r+b") as f:
            f.truncate(end + 1000)
        found = ckpt.stats()
    # Of an empty one there is nothing to read.
    assert [s.name for s in found] == ["big", "small.0"] and found["big"] == whole["big"]
    assert set(found.errors) == set(whole) - {"big", "small.0"}
    assert all(isinstance(e, pthparse.TruncatedError) for e in found.errors.values())


# ---- figures, tables ----


def test_merge() -> None:
    t = torch.randn(10_001)
    t[5] = math.nan
    parts = {"a": t[:4000], "b": t[4000:]}
    found = stats_of(parts)
    both = found["a"].merge(found["b"])
    whole = stats_of({"t": t})["t"]
    for field in (
        "numel",
        "nan",
        "posinf",
        "zeros",
        "min",
        "max",
        "absmax",
        "first_bad",
        "histogram",
        "bfloat16_exact",
    ):
        assert getattr(both, field) == getattr(whole, field), field
    for field in ("mean", "std", "l1", "l2"):
        assert getattr(both, field) == pytest.approx(getattr(whole, field), rel=1e-13), field
    with pytest.raises(ValueError, match="float32 and float64"):
        found["a"].merge(stats_of({"d": torch.zeros(1, dtype=torch.float64)})["d"])


def test_table() -> None:
    found = stats_of({"a": torch.arange(4.0), "b": torch.tensor([1j]), "c": torch.tensor([math.nan])})
    assert len(found) == 3 and "a" in found and "x" not in found
    with pytest.raises(KeyError):
        found["x"]
    rows = found.to_numpy()
    assert rows["name"].tolist() == ["a", "b", "c"] and rows["numel"].tolist() == [4, 1, 1]
    assert rows["mean"].tolist()[:2] == [1.5, 0.0] and math.isnan(rows["mean"][2]) and math.isnan(rows["min"][1])
    assert rows["first_bad"].tolist() == [-1, -1, 0]
    assert [s.name for s in found.sorted("l2")] == ["a", "b", "c"]
    assert "_state" not in found["a"].to_dict()


def test_one_tensor() -> None:
    with pthparse.open(saved({"w": torch.arange(5.0), "m": torch.empty(1, device="meta")})) as ckpt:
        assert ckpt["w"].stats().mean == 2.0
        assert ckpt["w"].stats(histogram=True).histogram == ((0, 1), (1, 2), (2, 1))
        with pytest.raises(pthparse.UnsupportedError, match="without data"):
            ckpt["m"].stats()
        assert [s.name for s in ckpt.stats(["w"])] == ["w"]
        with pytest.raises(KeyError):
            ckpt.stats(["x"])


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float8_e4m3fn, *INTEGERS, torch.bool], ids=str)
def test_values_and_quantiles(dtype: torch.dtype) -> None:
    t = {"w": sample(dtype, 70, 90), "part": sample(dtype, 50, 60)[::2, 3:], "wide": sample(dtype, 9, 1).expand(9, 5)}
    if dtype in FLOATS:
        t["w"][3, 3], t["w"][4, 4], t["w"][5, 5] = math.nan, math.inf, -0.0
    wanted = (0.0, 0.01, 0.25, 0.5, 0.987, 1.0)
    with pthparse.open(saved(t)) as ckpt:
        found = ckpt.stats(bins=13, quantiles=wanted)
    for s in found:
        d = doubles(t[s.name])
        d = d[np.isfinite(d)]
        counts, edges = np.histogram(d, 13)
        assert s.values == (tuple(edges.tolist()), tuple(counts.tolist()))
        assert s.quantiles is not None and [q for q, _ in s.quantiles] == list(wanted)
        assert [x for _, x in s.quantiles] == pytest.approx(np.quantile(d, wanted), rel=1e-14, abs=1e-300)


def test_quantiles_of_what_has_none() -> None:
    t = {"z": torch.tensor([1j]), "n": torch.tensor([math.nan]), "w": torch.ones(2)}
    with pthparse.open(saved(t)) as ckpt:
        found = ckpt.stats(bins=3, quantiles=(0.5,))
        assert found["z"].quantiles is None and found["n"].values is None and found["w"].quantiles == ((0.5, 1.0),)
        with pytest.raises(ValueError, match="between 0 and 1"):
            ckpt.stats(quantiles=(2,))
