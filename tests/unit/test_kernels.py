"""The kernels: every instruction set gives the same bits, and these are what exact arithmetic says."""

from __future__ import annotations

import math
import struct
from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pthparse import _core, _kernels
from pthparse.stats import STATE, Row

DTYPES = [row[0] for row in _core.DTYPES]
FLOATS = ("float64", "float32", "float16", "bfloat16")
FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
ALL_ISAS = range(len(_kernels.ISAS))
RUN, PIECE = 4096, _kernels.PIECE


def numpy_type(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name) if name.startswith(("bfloat", "float8")) else name)


def measure(a: np.ndarray[Any, Any], dtype: str, isa: int, shift: int = 0, zero: int = 0) -> tuple[bytes, Any]:
    """The folded record of an array that lies `shift` bytes behind an aligned address, and its magnitudes."""
    buffer = bytearray(shift) + bytearray(np.ascontiguousarray(a).tobytes())
    pieces = b"".join(
        struct.pack(_kernels.PIECE_LAYOUT, shift + i * a.itemsize, min(PIECE, a.size - i), zero, DTYPES.index(dtype), 0)
        for i in range(0, a.size, PIECE)
    )
    records, bins = _kernels.measure(isa, buffer, pieces, True)
    return _kernels.fold(records, _kernels.parts(DTYPES.index(dtype)), dtype == "int64"), bins


def check(a: np.ndarray[Any, Any], dtype: str, shift: int = 0) -> Row:
    """Equal on all instruction sets; counts and extremes exact; sums as math.fsum has them."""
    found = [measure(a, dtype, isa, shift) for isa in ALL_ISAS]
    assert all(other == found[0] for other in found)
    (_, bins), row = found[0], Row(*STATE.unpack(found[0][0]))
    with np.errstate(invalid="ignore"):
        d = a.astype(np.float64)
    finite = d[np.isfinite(d)].tolist()
    assert (row.n, row.nan) == (a.size, np.isnan(d).sum())
    assert (row.posinf, row.neginf, row.zeros) == ((d == np.inf).sum(), (d == -np.inf).sum(), (d == 0).sum())
    bad = np.flatnonzero(~np.isfinite(d))
    assert row.first == (bad[0] if len(bad) else (1 << 64) - 1)
    if finite:
        total, size = math.fsum(finite), math.fsum(map(abs, finite))
        assert (row.min, row.max) == (min(finite), max(finite))
        assert math.copysign(1, row.min) == 1 or row.min < 0  # minus zero is zero
        assert abs(row.sum + row.sum_low - total) <= 2e-14 * size
        assert row.l1 + row.l1_low == pytest.approx(size, rel=1e-13)
        mean = total / len(finite)
        spread = math.fsum((x - mean) ** 2 for x in finite)
        # What is lost by a mean that is rounded cannot be asked for.
        assert abs(row.spread + row.spread_low - spread) <= 1e-11 * spread + len(finite) * (abs(mean) * 4e-16) ** 2
    counts = Counter(math.frexp(x)[1] - 1 for x in finite if x)
    assert bins == tuple(sorted(counts.items()))
    return row


def spoilt(a: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """With NaN, both infinities, both zeros and subnormal ones in between."""
    a = a.copy()
    tiny = np.finfo(a.dtype).smallest_subnormal if a.dtype.kind == "f" else ml_dtypes.finfo(a.dtype).smallest_subnormal
    for value in (math.nan, math.inf, -math.inf, 0.0, -0.0, tiny):
        a[rng.random(a.size) < 0.05] = value
    return a


SIZES = [*range(1, 70), RUN - 1, RUN, RUN + 1, RUN + 17, 3 * RUN, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5]


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_of_every_length(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for n in SIZES:
        a = rng.standard_normal(n).astype(numpy_type(dtype))
        check(a, dtype)
        check(spoilt(a, rng), dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_of_every_length(dtype: str) -> None:
    rng = np.random.default_rng(2)
    limits = np.iinfo(dtype)
    for n in SIZES:
        check(rng.integers(0, 5, n).astype(dtype), dtype)
        a = rng.integers(limits.min, limits.max, n, dtype=dtype, endpoint=True)
        row = check(a, dtype)
        if dtype in ("int64", "uint64"):
            least, most = np.array([row.least, row.most], np.uint64).view(dtype).tolist()
            assert (least, most) == (int(a.min()), int(a.max()))


@pytest.mark.parametrize("dtype", [*FLOATS, "int16", "int32", "int64"])
def test_any_alignment(dtype: str) -> None:
    rng = np.random.default_rng(3)
    a = (rng.standard_normal(RUN + 21) * 100).astype(numpy_type(dtype))
    states = {measure(a, dtype, isa, shift) for isa in ALL_ISAS for shift in (0, 1, 2, 3, 4, 7, 8, 13, 33)}
    assert len(states) == 1


@pytest.mark.parametrize("dtype", ("float16", "bfloat16", *FLOAT8))
def test_every_code(dtype: str) -> None:
    """All 65,536 of half precision, all 256 of float8: as numbers, and each alone."""
    kind = numpy_type(dtype)
    codes = np.arange(65536, dtype=np.uint16) if kind.itemsize == 2 else np.arange(256, dtype=np.uint8)
    check(codes.view(kind), dtype)
    check(np.random.default_rng(4).permutation(codes).view(kind), dtype)
    for code in codes[:: max(1, len(codes) // 509)]:
        check(np.array([code], codes.dtype).view(kind), dtype)
    info: Any = np.finfo(kind) if dtype == "float16" else ml_dtypes.finfo(kind)
    with np.errstate(invalid="ignore"):
        values = codes.view(kind).astype(np.float64)
    row = check(codes.view(kind), dtype)
    assert row.subnormal == ((values != 0) & (abs(values) < float(info.smallest_normal))).sum()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "make",
    {
        "cancels": lambda r, n: np.where(np.arange(n) % 2, -1.0, 1.0) * (1 + r.random(n) * 1e-3),
        "huge mean": lambda r, n: 3e4 + r.standard_normal(n),
        "constant": lambda r, n: np.full(n, 3.1),
        "one outlier first": lambda r, n: np.r_[3e4, r.standard_normal(n - 1)],
        "one outlier last": lambda r, n: np.r_[r.standard_normal(n - 1), -3e4],
        "steps": lambda r, n: np.repeat(r.standard_normal(n // 50 + 1), 50)[:n] * 100,
        "of all sizes": lambda r, n: r.standard_normal(n) * 2.0 ** r.integers(-14, 15, n),
        "zeros": lambda r, n: np.zeros(n),
        "minus zeros": lambda r, n: np.full(n, -0.0),
        "no finite one": lambda r, n: np.full(n, np.nan),
    }.values(),
)
def test_adversarial_numbers(dtype: str, make: Any) -> None:
    rng = np.random.default_rng(5)
    for n in (50, RUN + 3, PIECE + RUN + 7):
        row = check(make(rng, n).astype(numpy_type(dtype)), dtype)
        if row.min == row.max:
            assert row.spread == row.spread_low == 0


def test_doubles_at_their_ends() -> None:
    big, tiny = np.finfo(np.float64).max, np.finfo(np.float64).smallest_subnormal
    for isa in ALL_ISAS:
        row = Row(*STATE.unpack(measure(np.array([big, big, -big]), "float64", isa)[0]))
        assert (row.min, row.max, row.nan, row.posinf, row.first) == (-big, big, 0, 0, (1 << 64) - 1)
        row = Row(*STATE.unpack(measure(np.array([tiny, -tiny, 0.0]), "float64", isa)[0]))
        assert (row.subnormal, row.zeros, row.l1) == (2, 1, 2 * tiny)


@pytest.mark.parametrize("dtype", ("complex64", "complex128", "complex32"))
def test_complex(dtype: str) -> None:
    rng = np.random.default_rng(6)
    half = {"complex64": np.float32, "complex128": np.float64, "complex32": np.float16}[dtype]
    for n in (1, 15, 1024, 1025, 5000):
        parts = rng.standard_normal((n, 2)).astype(half)
        parts[rng.random(n) < 0.1] = 0
        parts[rng.random(n) < 0.1, 1] = np.nan
        parts[rng.random(n) < 0.1, 0] = -np.inf
        a = parts.reshape(-1).view(f"V{2 * parts.itemsize}")
        found = {measure(a, dtype, isa) for isa in ALL_ISAS}
        assert len(found) == 1
        real, imag, size = (Row(*row) for row in STATE.iter_unpack(found.pop()[0]))
        z = parts[:, 0].astype(float) + 1j * parts[:, 1].astype(float)
        z.real, z.imag = parts[:, 0], parts[:, 1]
        good = z[np.isfinite(z)]
        assert size.n == n and size.nan == np.isnan(z).sum() and size.posinf == (np.isinf(z) & ~np.isnan(z)).sum()
        assert size.zeros == (z == 0).sum()
        if len(good):
            assert real.sum + real.sum_low == pytest.approx(good.real.sum(), abs=1e-10)
            assert imag.sum + imag.sum_low == pytest.approx(good.imag.sum(), abs=1e-10)
            assert size.max == pytest.approx(abs(good).max(), rel=1e-15)
            assert size.l1 + size.l1_low == pytest.approx(abs(good).sum(), rel=1e-12)


@pytest.mark.parametrize(("dtype", "bits"), [("quint4x2", 4), ("quint2x4", 2)])
def test_parts_of_bytes(dtype: str, bits: int) -> None:
    rng = np.random.default_rng(7)
    for n in (1, 2, 3, 7, 8, 1001):
        values = rng.integers(0, 1 << bits, n)
        padded = np.r_[values, np.zeros(-n % (8 // bits), int)].reshape(-1, 8 // bits)
        data = (padded << (np.arange(8 // bits) * bits)).sum(axis=1).astype(np.uint8).tobytes()
        piece = struct.pack(_kernels.PIECE_LAYOUT, 0, n, 3, DTYPES.index(dtype), 0)
        row = Row(*STATE.unpack(_kernels.measure(0, data, piece)[0]))
        assert (row.n, row.sum) == (n, (values - 3).sum())
        assert (row.min, row.max, row.zeros) == (values.min() - 3, values.max() - 3, (values == 3).sum())


def test_wide_floats_are_told_from_upcast_ones() -> None:
    exact = np.random.default_rng(8).standard_normal(3 * RUN).astype(ml_dtypes.bfloat16).astype(np.float32)
    for at in (None, 0, RUN, 3 * RUN - 1):
        a = exact.copy()
        if at is not None:
            a[at] = np.float32(1) / 3
        assert check(a, "float32").flags == (0 if at is None else _kernels.WIDE)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(width=32), min_size=1, max_size=400), st.integers(0, 16))
def test_any_floats(values: list[float], shift: int) -> None:
    check(np.array(values, np.float32), "float32", shift)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_cuts_between_pieces_change_nothing(data: Any) -> None:
    """Records of pieces, made in any groups and folded once: the same bits."""
    a = np.random.default_rng(9).standard_normal(5 * PIECE + 1234).astype(np.float32)
    whole = measure(a, "float32", 0)[0]
    cuts = sorted(data.draw(st.sets(st.integers(1, 5))))
    records = b""
    for start, end in zip([0, *cuts], [*cuts, 6], strict=True):
        part = a[start * PIECE : end * PIECE]
        pieces = b"".join(
            struct.pack(_kernels.PIECE_LAYOUT, 4 * i, min(PIECE, part.size - i), 0, DTYPES.index("float32"), 0)
            for i in range(0, part.size, PIECE)
        )
        records += _kernels.measure(data.draw(st.sampled_from(list(ALL_ISAS))), part.tobytes(), pieces)[0]
    assert _kernels.fold(records, 1, False) == whole


@pytest.mark.parametrize(
    "piece",
    [
        (0, 5, 0, 1, 0),
        (1, 4, 0, 1, 0),
        (1 << 63, 1, 0, 1, 0),
        (17, 0, 0, 1, 0),
        (0, PIECE + 1, 0, 8, 0),
        (0, 1, 0, 99, 0),
    ],
)
def test_pieces_outside_of_the_data_are_refused(piece: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="piece"):
        _kernels.measure(0, bytes(16), struct.pack(_kernels.PIECE_LAYOUT, *piece))


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="cut"):
        _kernels.measure(0, b"", bytes(23))
    with pytest.raises(ValueError, match="cut"):
        _kernels.fold(bytes(STATE.size * 2), 3, False)
    with pytest.raises(ValueError, match="instruction set"):
        _kernels.measure(len(_kernels.ISAS), b"", b"")
    assert Row(*STATE.unpack(_kernels.fold(b"", 1, False))).n == 0


def test_the_baseline_is_always_there() -> None:
    assert _kernels.ISAS[0] == "baseline"


@pytest.mark.parametrize("bins", [1, 2, 7, 64, 1000])
def test_values_are_counted_as_numpy_counts_them(bins: int) -> None:
    rng = np.random.default_rng(bins)
    for scale in (1, 1e-300, 1e300, 1e-7):
        values = rng.standard_normal(5000) * scale
        low, high = float(values.min()), float(values.max())
        edges = np.linspace(low, high, bins + 1)
        values = np.concatenate([values, edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
        counts = np.ones(bins, np.int64)
        _kernels.count_values(np.concatenate([values, [np.nan, np.inf, -np.inf]]), edges, counts)
        assert (counts - 1).tolist() == np.histogram(values, bins, (low, high))[0].tolist()
    integers = rng.integers(-5, 6, 300).astype(np.float64)
    counts = np.zeros(bins, np.int64)
    _kernels.count_values(integers, np.linspace(-5, 5, bins + 1), counts)
    assert counts.tolist() == np.histogram(integers, bins, (-5, 5))[0].tolist()


def test_bins_need_edges() -> None:
    values, counts = np.zeros(3), np.zeros(4, np.int64)
    for edges in (np.linspace(0, 1, 4), np.zeros(5), np.linspace(1, 0, 5), np.full(5, np.nan)):
        with pytest.raises(ValueError, match="edge"):
            _kernels.count_values(values, edges, counts)
    with pytest.raises(ValueError, match="edge"):
        _kernels.count_values(values, np.zeros(1), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="wide"):
        _kernels.count_values(values, np.array([-1.5e308, -1e308, 0, 1e308, 1.5e308]), counts)
