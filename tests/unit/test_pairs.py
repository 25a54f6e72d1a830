"""The kernels of pairs: every instruction set gives the same bits, and these are what numpy says."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pthparse import _core, _kernels
from pthparse.pairs import NOWHERE, Figures

DTYPES = [row[0] for row in _core.DTYPES]
EXACT = (0.0, 0.0, True)
RUN, PIECE = 4096, _kernels.PAIR_PIECE
FLOATS = ("float64", "float32", "float16", "bfloat16")
FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def numpy_type(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name) if name.startswith(("bfloat", "float8")) else name)


def compared(a: Any, b: Any, types: tuple[str, str], tolerance: Any = EXACT, n: int | None = None) -> Figures:
    """By all instruction sets, which must agree."""
    x, y = a.tobytes(), b.tobytes()
    ids = [DTYPES.index(t) for t in types]
    records = {
        _kernels.compare(isa, x, y, *ids, a.size if n is None else n, tolerance) for isa in range(len(_kernels.ISAS))
    }
    assert len(records) == 1
    return Figures(*struct.unpack(_kernels.PAIR_LAYOUT, records.pop()))


def check(a: Any, b: Any, types: tuple[str, str], tolerance: Any = EXACT) -> Figures:
    """Beside numpy in double precision."""
    f = compared(a, b, types, tolerance)
    with np.errstate(all="ignore"):
        x, y = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(x) & np.isfinite(y)
        nan_x, nan_y = np.isnan(x), np.isnan(y)
        d = np.abs(x - y)
        close = (x == y) | (nan_x & nan_y & tolerance[2])
        close |= np.isfinite(d) & (d <= tolerance[1] + tolerance[0] * np.abs(y))
    assert (f.n, f.equal, f.far) == (a.size, int((x == y).sum()), int((~close).sum()))
    assert (f.nan_both, f.nan_one) == (int((nan_x & nan_y).sum()), int((nan_x != nan_y).sum()))
    assert f.infinite == int((~finite & ~nan_x & ~nan_y & (x != y)).sum()) and f.finite == int(finite.sum())
    if not f.finite:
        assert (f.at, f.most, f.sum) == (NOWHERE, 0, 0)
        return f
    d, x, y = np.where(finite, d, 0), np.where(finite, x, 0), np.where(finite, y, 0)
    size = np.maximum(np.abs(x), np.abs(y))
    share = np.divide(d, size, out=np.zeros_like(d), where=size > 0)
    assert (f.most, f.most_relative) == (d.max(), share.max())
    assert f.at == (int(d.argmax()) if d.max() else NOWHERE)
    for ours, terms in ((f.sum, d), (f.relative, share), (f.dot, x * y), (f.aa, x * x), (f.bb, y * y), (f.dd, d * d)):
        assert ours == pytest.approx(math.fsum(terms), rel=1e-12, abs=1e-14 * math.fsum(np.abs(terms)))
    return f


@pytest.mark.parametrize("n", [1, 15, 16, 17, RUN, RUN + 1, PIECE, 2 * PIECE + 12345])
@pytest.mark.parametrize("dtype", FLOATS)
def test_floats(dtype: str, n: int) -> None:
    rng = np.random.default_rng(n)
    a = rng.standard_normal(n)
    b = a + 1e-2 * rng.standard_normal(n) * (rng.random(n) < 0.5)
    a, b = a.astype(numpy_type(dtype)), b.astype(numpy_type(dtype))
    for tolerance in (EXACT, (1e-3, 1e-4, True), (0.5, 0.0, False)):
        check(a, b, (dtype, dtype), tolerance)


@pytest.mark.parametrize("dtype", [*FLOATS, *FLOAT8])
def test_what_is_not_finite(dtype: str) -> None:
    values = [0.0, -0.0, 1.0, -1.5, math.nan, math.inf, -math.inf, 2.0]
    pairs = np.array([(x, y) for x in values for y in values] * 100).astype(numpy_type(dtype))
    for equal_nan in (True, False):
        check(pairs[:, 0].copy(), pairs[:, 1].copy(), (dtype, dtype), (0.1, 0.0, equal_nan))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: str) -> None:
    rng = np.random.default_rng(1)
    low, high = (-100, 100) if dtype[0] == "i" else (0, 100)
    a, b = (rng.integers(low, high, 10_000).astype(dtype) for _ in range(2))
    check(a, b, (dtype, dtype))
    check(a, b, (dtype, dtype), (0.0, 7.0, True))


def test_wide_integers_are_told_apart() -> None:
    for dtype, most in (("int64", 2**63 - 1), ("uint64", 2**64 - 1)):
        a = np.array([most, most - 1, 5], dtype)
        b = np.array([most - 1, most - 1, 5], dtype)
        f = compared(a, b, (dtype, dtype))
        assert (f.equal, f.far, f.most, f.at) == (2, 1, 1.0, 0)
    low, high = np.array([-(2**63)], "int64"), np.array([2**63 - 1], "int64")
    assert compared(low, high, ("int64", "int64")).most == 2.0**64


@pytest.mark.parametrize(
    "types", [("float32", "bfloat16"), ("bfloat16", "float16"), ("int64", "float32"), ("bool", "uint8")]
)
def test_of_two_types(types: tuple[str, str]) -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(0, 2, 9000) if "bool" in types else np.round(rng.standard_normal(9000) * 9) / 4
    f = check(values.astype(numpy_type(types[0])), values.astype(numpy_type(types[1])), types)
    assert f.steps == 0 and f.equal > 0


def test_complex_numbers() -> None:
    rng = np.random.default_rng(3)
    a = rng.standard_normal(5000) + 1j * rng.standard_normal(5000)
    b = a + 0.01j
    a[7], b[7], a[8] = complex(math.nan, 1), complex(1, math.nan), complex(math.inf, 0)
    for dtype in ("complex64", "complex128"):
        x, y = a.astype(dtype), b.astype(dtype)
        f = compared(x, y, (dtype, dtype), (0.0, 0.02, True))
        ok = np.isfinite(x) & np.isfinite(y)
        wide, other = x[ok].astype(complex), y[ok].astype(complex)
        assert (f.nan_both, f.infinite, f.finite, f.far) == (1, 1, 4998, 1)
        assert f.most == pytest.approx(np.abs(wide - other).max(), rel=1e-13)
        assert f.dot == pytest.approx((wide * other.conj()).real.sum(), rel=1e-12)
    halves = np.array([1, 2, 3, 4], np.float16), np.array([1, 2, 3, 5], np.float16)
    f = compared(*halves, ("complex32", "complex32"), n=2)
    assert (f.equal, f.most, f.at, f.aa, f.bb) == (1, 1.0, 1, 30.0, pytest.approx(39.0))


def test_steps_by_hand() -> None:
    one = np.float32(1)
    above = np.nextafter(one, np.float32(2))
    cases = [(one, above, 1), (one, -one, 2 * 0x3F800000), (np.float32(0), np.float32(-0.0), 0)]
    cases += [
        (np.float32(1e-45), np.float32(-1e-45), 2),
        (np.float32(3.4028235e38), np.float32(-3.4028235e38), 0xFEFFFFFE),
    ]
    for x, y, steps in cases:
        a, b = np.array([x, 1], np.float32), np.array([y, 1], np.float32)
        assert compared(a, b, ("float32", "float32")).steps == steps
    huge = np.array([1.7976931348623157e308]), np.array([-1.7976931348623157e308])
    f = compared(*huge, ("float64", "float64"))
    assert (f.steps, f.most, f.most_relative, f.far) == (2 * 0x7FEFFFFFFFFFFFFF, math.inf, 2.0, 1)
    a, b = np.array([0x38, 0x01], np.uint8), np.array([0x39, 0x81], np.uint8)
    assert compared(a, b, ("float8_e4m3fn", "float8_e4m3fn")).steps == 2
    assert compared(np.array([1, 2], np.int8), np.array([5, 2], np.int8), ("int8", "int8")).steps == 0


def test_codes_that_share_a_byte() -> None:
    a, b = np.array([0x21, 0x03], np.uint8), np.array([0x25, 0xF3], np.uint8)  # 1 2 3 | 5 2 3, and half a byte to spare
    f = compared(a, b, ("quint4x2", "quint4x2"), n=3)
    assert (f.n, f.equal, f.most, f.at) == (3, 2, 4.0, 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_nan_among_many_numbers(dtype: str) -> None:
    a = np.ones(3 * RUN).astype(numpy_type(dtype))
    b = a.copy()
    a[RUN + 5] = math.nan
    b[RUN + 7] = 2
    f = check(a, b, (dtype, dtype))
    assert (f.nan_one, f.far, f.at) == (1, 2, RUN + 7) and f.steps > 0


def test_squares_beyond_a_double() -> None:
    a, b = np.full(100, 1e200), np.full(100, 1e200)
    b[3] = 1.5e200
    f = compared(a, b, ("float64", "float64"))
    assert (f.equal, f.far, f.most, f.at, f.aa) == (99, 1, 0.5e200, 3, math.inf)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=1, max_size=40), st.floats(0, 1))
def test_any_floats(rows: list[tuple[float, float]], rtol: float) -> None:
    a, b = np.array(rows, np.float32).T.copy()
    check(a, b, ("float32", "float32"), (rtol, 0.0, True))


def test_folding_is_in_order() -> None:
    one = np.array([1.0, 2.0, 4.0])
    parts = [
        _kernels.compare(0, one.tobytes(), (one + k).tobytes(), 0, 0, 3, EXACT)
        for k in (0, 3, 3)
    ]  # fmt: skip
    f = Figures(*struct.unpack(_kernels.PAIR_LAYOUT, _kernels.fold_pairs(b"".join(parts))))
    assert (f.n, f.equal, f.sum, f.most, f.at) == (9, 3, 18.0, 3.0, 3)
    empty = Figures(*struct.unpack(_kernels.PAIR_LAYOUT, _kernels.fold_pairs(b"")))
    assert (empty.n, empty.at) == (0, NOWHERE)


@pytest.mark.parametrize("name", ["complex128", "float32", "uint8", "quint4x2"])
def test_runs_of_two_files(tmp_path: Path, name: str) -> None:
    """What is read together, pieces at a time, is what `compare` says of the bytes in memory, wherever they differ."""
    dtype = DTYPES.index(name)
    itemsize, packing = _core.DTYPES[dtype][2:4]
    most = 9 * PIECE + 1 if itemsize < 16 else 2 * PIECE + 1
    x = np.random.default_rng(7).integers(0, 60, -(-most // packing) * itemsize, np.uint8).tobytes()
    (tmp_path / "a").write_bytes(b"a" * 100 + x)
    lengths = (0, 1, PIECE - 1, PIECE, PIECE + 1, most)
    for n in lengths:
        nbytes = -(-n // packing) * itemsize
        for at in {0, nbytes // 2, nbytes - 1, None} if n else {None}:
            y = bytearray(x[:nbytes])
            if at is not None:
                y[at] ^= 1
            (tmp_path / "b").write_bytes(b"b" * 3 + y)
            with (tmp_path / "a").open("rb") as a, (tmp_path / "b").open("rb") as b:
                row = struct.pack(_kernels.RUNS_LAYOUT, 60, 1, n, dtype, dtype)
                for forced in (False, True):
                    done, record = _kernels.compare_files(0, a.fileno(), 40, b.fileno(), 2, row, EXACT, forced)
                    whole = _kernels.compare(0, x[:nbytes], bytes(y), dtype, dtype, n, EXACT)
                    wanted = whole if forced or at is not None else _kernels.fold_pairs(b"")
                    assert (done, record) == (1, wanted), (n, at, forced)
                cut = struct.pack(_kernels.RUNS_LAYOUT, 60, 1, n + packing, dtype, dtype)
                assert _kernels.compare_files(0, a.fileno(), 40, b.fileno(), 2, row + cut, EXACT, False)[0] == 1


def test_the_seam_refuses_what_does_not_lie_in_the_data() -> None:
    data = bytes(16)
    for isa, a, b, n in ((0, data, data, 5), (0, data, bytes(8), 4), (99, data, data, 4), (-1, data, data, 4)):
        with pytest.raises(ValueError, match=r"."):
            _kernels.compare(isa, a, b, 1, 1, n, EXACT)
    with pytest.raises(ValueError, match="type"):
        _kernels.compare(0, data, data, 1, 10_000, 1, EXACT)
    with pytest.raises(ValueError, match="multiple of 16"):
        _kernels.compare(0, memoryview(data)[4:], data, 1, 1, 3, EXACT)
    with pytest.raises(ValueError, match="cut"):
        _kernels.fold_pairs(bytes(5))
    with pytest.raises(ValueError, match="cut"):
        _kernels.compare_files(0, 0, 0, 0, 0, bytes(5), EXACT, False)
    untyped = DTYPES.index("untyped")
    with pytest.raises(ValueError, match="no numbers"):
        _kernels.compare(0, data, data, untyped, untyped, 1, EXACT)


@pytest.mark.parametrize("forced", [False, True])
def test_runs_of_two_files_one_by_one_and_together(tmp_path: Path, forced: bool) -> None:
    """Small runs are read many at once: near and far, forwards and back, equal and not."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal(200_000).astype(np.float32)
    b = a.copy()
    b[rng.integers(0, a.size, 40)] += 1
    paths = tmp_path / "a", tmp_path / "b"
    for path, data in zip(paths, (a, b), strict=True):
        path.write_bytes(data.tobytes())
    f32, i32 = DTYPES.index("float32"), DTYPES.index("int32")
    runs = [(4 * at, 4 * at, n, f32, f32) for at in range(0, 60_000, 100) for n in (100, 1)]
    runs += [(4 * at, 4 * at + 4 * k, 50, f32, f32) for at in range(190_000, 100_000, -9_000) for k in (0, 7)]
    runs += [(0, 0, 60_000, f32, f32), (0, 0, 10, f32, i32), (400_000, 0, 0, f32, f32), (8, 8, 1000, i32, i32)]
    layout = struct.Struct(_kernels.RUNS_LAYOUT)
    with paths[0].open("rb") as x, paths[1].open("rb") as y:
        files = x.fileno(), 0, y.fileno(), 0

        def work(rows: list[Any]) -> tuple[int, bytes]:
            packed = b"".join(layout.pack(*row) for row in rows)
            return _kernels.compare_files(0, *files, packed, EXACT, forced)

        done, records = work(runs)
        alone = [work([row]) for row in runs]
        assert done == len(runs) and records == b"".join(record for _, record in alone)
        same = [a[r[0] // 4 :][: r[2]].tobytes() == b[r[1] // 4 :][: r[2]].tobytes() and r[3] == r[4] for r in runs]
        size = len(records) // len(runs)
        counts = [struct.unpack_from("=Q", records, i * size)[0] for i in range(len(runs))]
        assert counts == [0 if equal and not forced else row[2] for equal, row in zip(same, runs, strict=True)]
        beyond = [(799_900, 799_900, 25, f32, f32), (799_990, 799_990, 25, f32, f32), (0, 0, 1, f32, f32)]
        assert work(beyond)[0] == 1  # where the file ends it ends
