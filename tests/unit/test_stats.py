"""Statistics where files are odd: huge, big-endian, at any offset, forged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from forge import legacy, zips
from forge import pickles as p

import pthparse

DATA = Path(__file__).parents[1] / "data"
MANY = (1 << 31) + 9


def test_more_elements_than_31_bits_count(tmp_path: Path) -> None:
    """A hole of 2 GiB, with a few elements at its ends."""
    root = p.tensor(legacy.storage("0", MANY, cls="CharStorage"), [MANY], [1])
    head = legacy.stream(root, {"0": b""}, counts={"0": MANY}, itemsize=1)
    path = tmp_path / "hole.pth"
    with path.open("wb") as f:
        f.write(head + b"\x81\x02")
        f.truncate(len(head) + MANY)
        f.seek(len(head) + MANY - 1)
        f.write(b"\x7f")
    with pthparse.open(path) as ckpt:
        (s,) = ckpt.stats()
    assert (s.numel, s.zeros, s.min, s.max, s.l1) == (MANY, MANY - 3, -127, 127, 256)
    assert s.mean == pytest.approx(2 / MANY, rel=1e-12)


def test_big_endian() -> None:
    values = [1.5, -2.0, float("nan"), 0.0]
    entries = zips.members(p.pickle(p.dict_of({"w": p.vector("0", 4)})), {"0": struct.pack(">4f", *values)})
    entries[1].data = b"big"
    (s,) = pthparse.open(zips.build(entries)).stats(histogram=True)
    assert (s.nan, s.zeros, s.min, s.max, s.first_bad) == (1, 1, -2.0, 1.5, 2)
    assert s.histogram == ((0, 1), (1, 1))


def test_deflated() -> None:
    values = np.arange(300_000, dtype=np.float32)
    entries = zips.members(p.pickle(p.dict_of({"w": p.vector("0", values.size)})), {"0": values.tobytes()})
    entries[2].method = zips.DEFLATED
    (s,) = pthparse.open(zips.build(entries)).stats()
    assert (s.numel, s.min, s.max, s.l1) == (300_000, 0, 299_999, 299_999 * 150_000)


def test_numbers_of_half_a_byte() -> None:
    """Each code as often as the others, in more than one piece; stored and deflated."""
    data = bytes(range(256)) * 1200
    root = p.pickle(p.dict_of({"w": p.typed("float4_e2m1fn_x2", [len(data)], [1], len(data))}))
    found = []
    for method in (zips.STORED, zips.DEFLATED):
        entries = zips.members(root, {"0": data})
        entries[2].method = method
        (s,) = pthparse.open(zips.build(entries)).stats(histogram=True)
        found.append(s)
        assert (s.numel, s.zeros, s.min, s.max, s.mean) == (614_400, 76_800, -6, 6, 0)
        assert s.subnormal == 76_800 and s.histogram == ((-1, 76_800), (0, 153_600), (1, 153_600), (2, 153_600))
    assert found[0] == found[1]


@pytest.mark.parametrize("shift", range(1, 9))
def test_numbers_anywhere_in_the_file(shift: int, tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    root = p.pickle(p.dict_of({"w": p.vector("0", values.size), "v": p.vector("1", 3)}))
    data = zips.checkpoint(root, {"0": values.tobytes(), "1": bytes(12)}, prefix="a" * shift + "/")
    with pthparse.open(data) as ckpt:
        s = ckpt.stats()["w"]
    assert s.l1 == pytest.approx(np.abs(values.astype(float)).sum(), rel=1e-13) and s.max == values.max()


def test_damage_is_told_beside_what_is_sound() -> None:
    root = p.pickle(p.dict_of({"a": p.vector("0", 2), "b": p.vector("missing", 2), "c": p.vector("1", 99)}))
    found = pthparse.open(zips.checkpoint(root, {"0": struct.pack("<2f", 3, 4), "1": bytes(8)})).stats()
    assert [(s.name, s.l2) for s in found] == [("a", 5.0)]
    assert set(found.errors) == {"b", "c"} and all(isinstance(e, pthparse.FormatError) for e in found.errors.values())
    with pytest.raises(pthparse.FormatError):
        found["b"]


def test_a_closed_checkpoint() -> None:
    ckpt = pthparse.open(zips.checkpoint(p.pickle(p.dict_of({"a": p.vector("0", 2)})), {"0": bytes(8)}))
    ckpt.close()
    found = ckpt.stats()
    assert len(found) == 0 and found.errors["a"].code == "closed"


@pytest.mark.parametrize("path", sorted((DATA / "zoo").glob("*/*.pth")), ids=lambda f: f"{f.parent.name}/{f.name}")
def test_every_file_of_the_zoo(path: Path) -> None:
    """Whatever torch wrote has figures, or says that it has no data."""
    try:
        ckpt = pthparse.open(path)
    except pthparse.UnsupportedError:
        return
    with ckpt:
        found = ckpt.stats(histogram=True)
        assert all(e.code in ("no-data", "no-array", "numpy-ndim") for e in found.errors.values()), found.errors
        for s in found:
            assert s.numel == s.finite + s.nan + s.posinf + s.neginf
            assert s.histogram is not None and sum(n for _, n in s.histogram) == s.finite - s.zeros
            t = ckpt.get(s.name)
            if t is not None and t.kind == "dense" and t.dtype in ("float32", "float64") and s.finite:
                a = np.asarray(t.numpy(), np.float64)
                a = a[np.isfinite(a)]
                assert (s.min, s.max) == (a.min(), a.max())
                assert s.l2 == pytest.approx(np.linalg.norm(a), rel=1e-12)


def test_values_without_bins_are_told_of_their_tensor_alone() -> None:
    rows = {"far": [-1.7e308, 1.7e308], "near": [1e300, float(np.nextafter(1e300, 1e301))], "fine": [0.0, 1.0]}
    root = p.dict_of({n: p.tensor(p.storage(n, 2, "DoubleStorage"), [2], [1]) for n in rows})
    data = {n: np.array(values).tobytes() for n, values in rows.items()}
    with pthparse.open(zips.checkpoint(p.pickle(root), data)) as ckpt:
        found = ckpt.stats(bins=64)
        assert list(found.errors) == ["far", "near"] and found["fine"].values is not None
        with pytest.raises(pthparse.PthError, match=r"'far'.*too far apart"):
            ckpt["far"].stats(bins=4)
        assert found["fine"].values[1] == (1, *[0] * 62, 1) and len(ckpt.stats()) == 3
