"""Norms and changes over a series: the numbers are numpy's, whatever the containers."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import models, zips
from forge import pickles as p

import pthparse
from pthparse import drifter
from pthparse.drifter import DriftReport, DriftRow
from pthparse.errors import PthError

SHAPES = {"layers.0.w": (300, 7), "layers.0.b": (7,), "layers.1.w": (2, 3, 4), "head": (5,)}


def trained(n: int, size: float = 0.1) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    now = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    out = [now]
    for _ in range(n - 1):
        now = {k: (v + size * rng.standard_normal(v.shape)).astype(np.float32) for k, v in now.items()}
        out.append(now)
    return out


def by_name(report: DriftReport) -> dict[str, DriftRow]:
    return {row.name: row for row in report.rows}


def change(a: Any, b: Any) -> float:
    x, y = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    return float(np.linalg.norm(x - y) / np.linalg.norm(x))


def cosine(a: Any, b: Any) -> float:
    x, y = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-12)


def check(row: DriftRow, values: list[Any]) -> None:
    for i, now in enumerate(values):
        assert row.norm[i] == near(float(np.linalg.norm(np.ravel(now).astype(np.float64))))
        if i:
            assert row.change[i] == near(change(values[i - 1], now))
            assert row.cosine[i] == near(cosine(values[i - 1], now))
            assert row.change_from_first[i] == near(change(values[0], now))
            assert row.cosine_from_first[i] == near(cosine(values[0], now))
    assert row.change[0] is row.cosine[0] is row.change_from_first[0] is row.cosine_from_first[0] is None


@pytest.fixture
def series(tmp_path: Path) -> Any:
    def write(models_: list[dict[str, Any]]) -> list[Path]:
        paths = [tmp_path / f"epoch{i}.pth" for i in range(len(models_))]
        for path, tensors in zip(paths, models_, strict=True):
            path.write_bytes(models.zipped(tensors))
        return paths

    return write


@pytest.mark.parametrize("size", [0.1, 1e-6])
def test_figures_are_numpys(series: Any, size: float) -> None:
    """Also of changes that a sum of products would not tell from rounding."""
    made = trained(4, size)
    report = pthparse.drift(reversed(series(made)))
    assert [s.step for s in report.steps] == [0, 1, 2, 3] and not report.events and not report.errors
    assert [row.name for row in report.rows] == list(SHAPES)
    for name, row in by_name(report).items():
        check(row, [m[name] for m in made])
        assert row.total == row.change_from_first[3] and row.tensors == 1
        assert row.largest == max((row.change[i], i) for i in (1, 2, 3))
    assert pthparse.drift(series(made), threads=1) == report


def test_modules(series: Any) -> None:
    made = trained(3)
    rows = by_name(pthparse.drift(series(made), depth=1))
    assert {name: row.tensors for name, row in rows.items()} == {"layers": 3, "head": 1}
    check(rows["layers"], [np.concatenate([v.ravel() for k, v in m.items() if k != "head"]) for m in made])
    assert set(by_name(pthparse.drift(series(made), depth=2))) == {"layers.0", "layers.1", "head"}


def test_containers_may_be_mixed(tmp_path: Path) -> None:
    made = trained(4)
    values = {"epoch": p.integer(2), "optimizer": p.dict_of({"lr": p.integer(1)})}
    (tmp_path / "e1.safetensors").write_bytes(models.safe(made[1]))
    (tmp_path / "e2.pth").write_bytes(models.zipped(made[2], **values))
    sources: list[Any] = [models.sharded(tmp_path / "e0", made[0]), tmp_path / "e1.safetensors", tmp_path / "e2.pth"]
    report = pthparse.drift(sources)
    assert report.basis == "by the numbers in their names"
    with pthparse.open(models.zipped(made[3])) as opened:
        whole = pthparse.drift([*sources[:2], opened, made[0]])
    for name, row in by_name(report).items():
        check(row, [m[name] for m in made[:3]])
    for name, row in by_name(whole).items():
        check(row, [made[i][name] for i in (0, 1, 3, 0)])
        assert row.change_from_first[3] == 0


def test_the_state_dict_alone(tmp_path: Path) -> None:
    paths = []
    for i in range(2):
        w, m = (p.vector(str(k), 2) for k in range(2))
        root = p.dict_of({"model": p.dict_of({"w": w}), "optimizer": p.dict_of({"m": m})})
        data = {"0": np.array([3, 4 + i], "<f4").tobytes(), "1": np.array([1, 1], "<f4").tobytes()}
        paths.append(tmp_path / f"{i}.pth")
        paths[-1].write_bytes(zips.checkpoint(p.pickle(root), data))
    assert {n: r.norm[0] for n, r in by_name(pthparse.drift(paths)).items()} == {"w": 5.0}
    both = by_name(pthparse.drift(paths, all=True))
    assert both["model/w"].change == (None, 0.2) and both["optimizer/m"].change == (None, 0.0)


def test_what_stays_the_same(series: Any) -> None:
    made = trained(4)
    made[2]["head"] = made[1]["head"]
    made[1]["layers.0.b"] = made[0]["layers.0.b"]
    rows = by_name(pthparse.drift(series(made)))
    for name in ("head", "layers.0.b"):
        check(rows[name], [m[name] for m in made])
    assert rows["head"].change[2] == 0 and rows["head"].cosine[2] == 1
    assert rows["layers.0.b"].change_from_first[1] == 0
    same = by_name(pthparse.drift(series([made[0]] * 3)))
    assert all(row.change[1:] == row.change_from_first[1:] == (0, 0) for row in same.values())
    assert same["head"].norm[0] == same["head"].norm[2] == near(float(np.linalg.norm(made[0]["head"].astype(float))))


def test_tensors_that_come_and_go(series: Any) -> None:
    made: list[dict[str, Any]] = [
        {"a": [3.0, 4.0], "b": [1.0]},
        {"a": [3.0, 4.0, 0.0], "c": [2.0]},
        {"a": [3.0, 4.0, 5.0], "b": [2.0], "c": [1.0]},
    ]
    report = pthparse.drift(series(made))
    assert {(e.at, e.kind, e.name, e.text) for e in report.events} == {
        (1, "vanishes", "b", "float32 [1]"),
        (1, "reshaped", "a", "float32 [2] -> float32 [3]"),
        (1, "appears", "c", "float32 [1]"),
        (2, "appears", "b", "float32 [1]"),
    }
    rows = by_name(report)
    assert rows["a"].norm == (5, 5, near(math.sqrt(50))) and rows["a"].change == (None, None, 1.0)
    assert rows["a"].change_from_first == (None, None, None) and rows["a"].total is None
    assert rows["b"].norm == (1, None, 2) and rows["b"].change == (None, None, None)
    assert rows["b"].change_from_first == (None, None, 1.0)
    assert rows["c"].norm == (None, 2, 1) and rows["c"].change == (None, None, 0.5)


def test_recast() -> None:
    a = {"w": np.array([1, 2], np.float32)}
    b = {"w": np.array([1, 2], np.float64)}
    report = pthparse.drift([a, b])
    assert [(e.kind, e.text) for e in report.events] == [("recast", "float32 [2] -> float64 [2]")]
    assert report.rows[0].change == (None, 0.0) and report.rows[0].cosine[1] == 1


def test_from_zero_and_to_zero(series: Any) -> None:
    rows = by_name(pthparse.drift(series([{"w": [0.0, 0.0], "x": [1.0]}, {"w": [1.0, 0.0], "x": [0.0]}])))
    assert rows["w"].change == (None, math.inf) and rows["w"].cosine == (None, None)
    assert rows["w"].largest == (math.inf, 1)
    assert rows["x"].change == (None, 1.0) and rows["x"].cosine == (None, None) and rows["x"].norm == (1, 0)


def test_what_is_not_finite_is_left_out(series: Any) -> None:
    made = [{"w": [3.0, 4.0, math.nan]}, {"w": [3.0, math.inf, 4.0]}, {"w": [3.0, math.inf, 4.0]}]
    row = pthparse.drift(series(made)).rows[0]
    assert row.norm == (5, 5, 5)  # of all that is finite in each
    assert row.change == (None, 0.0, 0.0) and row.cosine[1] == 1  # of the pair of 3.0 alone


def test_what_cannot_be_followed(tmp_path: Path, series: Any) -> None:
    scheme = p.tuple_of([p.glob("torch", "per_tensor_affine"), p.integer(1), p.integer(0)])
    root = p.dict_of({"q": p.quantized(4, scheme), "w": p.vector("1", 1)})
    data = zips.checkpoint(p.pickle(root), {"0": b"1234", "1": bytes(4)})
    report = pthparse.drift([data, data])
    assert [row.name for row in report.rows] == ["w"]
    assert [(e.name, e.code) for e in report.errors] == [("q", "no-array")] and "quantized" in report.errors[0].message


def test_a_damaged_tensor_is_told(series: Any) -> None:
    good = models.zipped({"w": [1.0, 2.0], "x": [1.0]})
    bad = models.zipped({"w": [1.0], "x": [2.0]}).replace(p.ints([1]) + p.ints([1]), p.ints([9]) + p.ints([1]), 1)
    with pthparse.open(bad) as ckpt:
        assert list(ckpt.errors) == ["w"]
    report = pthparse.drift([good, bad])
    rows = by_name(report)
    assert [e.name for e in report.errors] == ["w"] and rows["x"].change == (None, 1.0)
    assert rows["w"].norm[1] is None and rows["w"].change == (None, None)


def test_orders(series: Any) -> None:
    made = [
        {"b": [1.0, 0.0], "a": [1.0, 0.0], "z": [0.0, 0.0], "gone": [1.0]},
        {"b": [3.0, 0.0], "a": [1.0, 1.0], "z": [1.0, 0.0]},
        {"b": [1.5, 0.0], "a": [1.0, 1.0], "z": [9.0, 0.0]},
    ]
    report = pthparse.drift(series(made))
    orders = {key: "".join(row.name[0] for row in report.sorted(key)) for key in drifter.SORTS}
    assert orders == {
        "file": "bazg",
        "name": "abgz",
        "change": "abzg",
        "step": "zbag",
        "norm": "zbag",
        "cosine": "abzg",
    }
    with pytest.raises(ValueError, match="change"):
        report.sorted("colour")


def test_tied_tensors_and_those_of_no_elements(series: Any) -> None:
    w = p.vector("0", 2)
    root = p.pickle(p.dict_of({"w": w, "tied": w}))
    files = [zips.checkpoint(root, {"0": np.array(v, "<f4").tobytes()}) for v in ([3, 4], [3, 5])]
    rows = by_name(pthparse.drift(files))
    assert rows["w"].change == rows["tied"].change == (None, 0.2)
    empty = {"e": np.zeros((0, 3), np.float32)}
    row = pthparse.drift([empty, empty]).rows[0]
    assert row.norm == (0, 0) and row.change == (None, 0)


def test_bad_arguments(series: Any) -> None:
    paths = series(trained(2))
    for sources in ([], paths[:1], str(paths[0]), paths[0], io.BytesIO(paths[0].read_bytes())):
        with pytest.raises(ValueError, match="two checkpoints"):
            pthparse.drift(sources)
    with pytest.raises(ValueError, match="depth"):
        pthparse.drift(paths, depth=0)
    paths[1].write_bytes(b"no checkpoint")
    with pytest.raises(PthError):
        pthparse.drift(paths)


def test_files_are_open_three_at_a_time_and_then_closed(series: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = series(trained(6))
    before, most = len([*Path("/proc/self/fd").iterdir()]), []
    measured = drifter.measure

    def counting(*args: Any, **how: Any) -> Any:
        most.append(len([*Path("/proc/self/fd").iterdir()]))
        return measured(*args, **how)

    monkeypatch.setattr(drifter, "measure", counting)
    pthparse.drift(paths)
    assert len(most) == 6 and max(most) <= before + 4  # and the listing itself
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_progress_and_plain_values(series: Any) -> None:
    told: list[tuple[int, int]] = []
    report = pthparse.drift(series(trained(3)), progress=lambda done, total: told.append((done, total)))
    assert told and told[-1][0] == told[-1][1] and all(0 <= done <= total for done, total in told)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["steps"][2]["step"] == 2 and plain["rows"][0]["name"] == "layers.0.w"


def test_squares_beyond_a_double_are_no_figures() -> None:
    a, b = {"w": np.array([1e200, 1.0])}, {"w": np.array([2e200, 1.0])}
    row = pthparse.drift([a, b]).rows[0]
    assert row.norm == (math.inf, math.inf) and row.change == (None, None) and row.cosine == (None, None)


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool", "complex64", "float16"])
def test_other_dtypes(dtype: str) -> None:
    a, b = (np.array(v).astype(dtype) for v in ([1, 0, 1, 1], [1, 1, 0, 1]))
    row = pthparse.drift([{"n": a}, {"n": b}]).rows[0]
    assert row.norm == (near(math.sqrt(3)),) * 2
    assert row.change == (None, near(math.sqrt(2 / 3))) and row.cosine == (None, near(2 / 3))
