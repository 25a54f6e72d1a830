"""What is written for TensorBoard: its own reader reads it, and the numbers are numpy's."""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import directories as d
from forge import models, zips
from forge import pickles as p

import pthparse
from pthparse import events
from pthparse.cli import main
from pthparse.errors import PthError, UnsupportedError

READER = "tensorboard.backend.event_processing.event_accumulator"
reader: Any = pytest.importorskip(READER, reason="tensorboard is not installed: what is written for it is not tested")
LESSON = Path(__file__).parents[1] / "data" / "lesson" / "lesson.pth"
EVIL = "<script>alert(1)</script>\x1b[31m\u202e"


def read(logdir: Path) -> Any:
    found = reader.EventAccumulator(str(logdir), size_guidance={"histograms": 0, "scalars": 0})
    found.Reload()
    return found


def scalars(found: Any, tag: str) -> list[tuple[int, float]]:
    return [(e.step, e.value) for e in found.Scalars(tag)]


def histogram(found: Any, tag: str, at: int = 0) -> Any:
    return found.Histograms(tag)[at].histogram_value


def filled(h: Any) -> dict[float, float]:
    """Where each bin that is not empty ends, and how many are in it."""
    return {end: n for end, n in zip(h.bucket_limit, h.bucket, strict=True) if n}


def test_values_are_numpys(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    w = rng.standard_normal((40, 50)).astype(np.float32)
    w[0, :5] = 0
    w[1, :4] = math.nan, math.inf, -math.inf, math.nan
    made = pthparse.export_tensorboard(models.zipped({"layer.w": w}), tmp_path, bins=30)
    found = read(tmp_path)
    assert (made.tensors, made.histograms, made.scalars, made.errors) == (1, 1, 6, ())
    assert made.path == str(tmp_path / events.NAME)
    finite = w[np.isfinite(w)].astype(np.float64)
    wanted = {
        "mean": finite.mean(), "std": finite.std(), "l2": np.linalg.norm(finite), "absmax": np.abs(finite).max(),
        "zeros": 5 / 2000, "nan": 2,
    }  # fmt: skip
    assert set(found.Tags()["scalars"]) == {f"{n}/layer.w" for n in wanted}
    for name, value in wanted.items():
        assert scalars(found, f"{name}/layer.w") == [(0, pytest.approx(float(value), rel=1e-6))]
    h = histogram(found, "values/layer.w")
    counts, edges = np.histogram(finite, 30)
    assert filled(h) == {float(edges[i + 1]): n for i, n in enumerate(counts) if n}
    assert h.bucket_limit == sorted({*h.bucket_limit}) and not any(a == b == 0 for a, b in pairwise(h.bucket))
    assert (h.min, h.max, h.num) == (finite.min(), finite.max(), finite.size) and sum(h.bucket) == h.num
    assert h.sum == pytest.approx(finite.sum(), rel=1e-12)
    # A bin begins where the one before it ends: of those between, one of nothing stays.
    pthparse.export_tensorboard(models.zipped({"gap": np.array([0, 1, 10], np.float32)}), tmp_path / "gap", bins=10)
    gap = histogram(read(tmp_path / "gap"), "values/gap")
    assert (list(gap.bucket_limit), list(gap.bucket)) == ([1, 2, 9, 10], [1, 1, 0, 1])
    assert h.sum_squares == pytest.approx((finite**2).sum(), rel=1e-12)


def test_a_series_by_step(tmp_path: Path) -> None:
    paths = []
    for step in (900, 1000):
        paths.append(tmp_path / f"s{step}.pth")
        paths[-1].write_bytes(models.zipped({"w": [1.0, step / 100]}, global_step=p.integer(step)))
    made = pthparse.export_tensorboard([paths[1], paths[0]], tmp_path / "run")
    assert made.basis == "by 'global_step' in each" and [s.step for s in made.steps] == [900, 1000]
    found = read(tmp_path / "run")
    assert scalars(found, "absmax/w") == [(900, 9.0), (1000, 10.0)]
    assert [e.step for e in found.Histograms("values/w")] == [900, 1000]
    assert {e.wall_time for e in found.Scalars("mean/w")} == {0.0}


def test_the_same_bytes_and_nothing_beside(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pthparse.export_tensorboard(LESSON, tmp_path / name)
    a, b = ((tmp_path / name / events.NAME).read_bytes() for name in ("a", "b"))
    assert a == b and [f.name for f in (tmp_path / "a").iterdir()] == [events.NAME]
    found = read(tmp_path / "a")
    assert len(found.Tags()["histograms"]) == 111 and len(found.Tags()["scalars"]) == 6 * 111
    assert histogram(found, "values/embed.weight").num == 97 * 16


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pthparse.export_tensorboard(LESSON, tmp_path / "a")
    monkeypatch.setattr(events, "BATCH", 7)
    pthparse.export_tensorboard(LESSON, tmp_path / "b", threads=1)
    assert (tmp_path / "a" / events.NAME).read_bytes() == (tmp_path / "b" / events.NAME).read_bytes()


def test_hostile_names_are_told_apart(tmp_path: Path) -> None:
    long = "x" * 5000
    names = [EVIL, EVIL.replace("\x1b", "\\x1b"), long + "a" + long, long + "b" + long]
    pthparse.export_tensorboard(models.zipped({n: [float(i)] for i, n in enumerate(names)}), tmp_path)
    found = read(tmp_path)
    tags = {t.removeprefix("mean/"): scalars(found, t)[0][1] for t in found.Tags()["scalars"] if t.startswith("mean/")}
    shown = "<script>alert(1)</script>\\x1b[31m\\u202e"
    cut = f"{'x' * 248}...{'x' * 249}"
    assert tags == {shown: 0.0, shown + "#2": 1.0, cut: 2.0, cut + "#2": 3.0}


def test_the_state_dict_alone(tmp_path: Path) -> None:
    root = p.dict_of({"model": p.dict_of({"w": p.vector("0", 1)}), "optimizer": p.dict_of({"m": p.vector("1", 1)})})
    data = zips.checkpoint(p.pickle(root), {"0": bytes(4), "1": bytes(4)})
    for name, tags in (("a", ["values/w"]), ("b", ["values/model/w", "values/optimizer/m"])):
        pthparse.export_tensorboard(data, tmp_path / name, all=name == "b")
        assert read(tmp_path / name).Tags()["histograms"] == tags


def test_what_has_no_histogram_is_said(tmp_path: Path) -> None:
    kinds = {
        "c": ("ComplexFloatStorage", np.array([3 + 4j, 0], "<c8")),
        "far": ("DoubleStorage", np.array([-1.7e308, 1.7e308])),
        "near": ("DoubleStorage", np.array([1e300, np.nextafter(1e300, 1e301)])),
        "nan": ("FloatStorage", np.array([math.nan], "<f4")),
        "same": ("FloatStorage", np.array([2, 2, 2], "<f4")),
    }
    rows = {n: p.tensor(p.storage(n, a.size, cls), [a.size], [1]) for n, (cls, a) in kinds.items()}
    rows["q"] = p.quantized(4, p.tuple_of([p.glob("torch", "per_tensor_affine"), p.integer(1), p.integer(0)]))
    rows["gone"] = p.tensor(p.storage("same", 3), [9], [1])
    storages = {n: a.tobytes() for n, (_, a) in kinds.items()} | {"0": bytes([1, 2, 3, 255])}
    data = zips.checkpoint(p.pickle(p.dict_of(rows)), storages)
    made = pthparse.export_tensorboard(data, tmp_path)
    found = read(tmp_path)
    assert {e.name for e in made.errors} == {"c", "far", "near", "gone"}
    assert set(found.Tags()["histograms"]) == {"values/same", "values/q"}
    assert scalars(found, "l2/c") == [(0, 5.0)] and "mean/c" not in found.Tags()["scalars"]
    assert scalars(found, "nan/nan") == [(0, 1.0)] and "mean/nan" not in found.Tags()["scalars"]
    assert scalars(found, "mean/near") == [(0, math.inf)]  # what TensorBoard holds has single precision
    same = histogram(found, "values/same")
    assert (same.min, same.max, sum(same.bucket)) == (2, 2, 3)
    assert (histogram(found, "values/q").min, histogram(found, "values/q").max) == (-1, 3)


def test_tensors_in_chunks(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    folder = tmp_path / "dcp"
    folder.mkdir()
    halves = [d.chunk(half.ravel().tolist(), (2, 3)) for half in (values[:2], values[2:])]
    rows = d.write(folder, {"__0_0.distcp": halves})["__0_0.distcp"]
    places = [(d.index("w", [2 * i, 0]), d.info(*row)) for i, row in enumerate(rows)]
    tensor = d.tensor((4, 3), [((0, 0), (2, 3)), ((2, 0), (2, 3))])
    (folder / ".metadata").write_bytes(d.metadata({"w": tensor}, places))
    made = pthparse.export_tensorboard(folder, tmp_path / "run", bins=11)
    h = histogram(read(tmp_path / "run"), "values/w")
    assert not made.errors and [*filled(h).values()] == [1] * 10 + [2] and h.sum == 66


def test_nothing_is_left_of_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = tmp_path / "1.pth", tmp_path / "2.pth"
    good.write_bytes(models.zipped({"w": [1.0]}))
    bad.write_bytes(b"no checkpoint")
    with pytest.raises(PthError):
        pthparse.export_tensorboard([good, bad], tmp_path / "run")
    monkeypatch.setattr(events, "_scalars", lambda s: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pthparse.export_tensorboard([good], tmp_path / "run")
    assert not [*(tmp_path / "run").iterdir()]


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    pthparse.export_tensorboard(models.zipped({"w": [1.0]}), tmp_path)
    first = (tmp_path / events.NAME).read_bytes()
    with pytest.raises(FileExistsError):
        pthparse.export_tensorboard(models.zipped({"v": [1.0]}), tmp_path)
    assert (tmp_path / events.NAME).read_bytes() == first
    pthparse.export_tensorboard(models.zipped({"v": [1.0]}), tmp_path, overwrite=True)
    assert read(tmp_path).Tags()["histograms"] == ["values/v"]


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'pthparse\[tensorboard\]'"):
        pthparse.export_tensorboard(LESSON, tmp_path / "run")
    assert main(["export-tensorboard", str(LESSON), str(tmp_path / "run")]) == 2
    assert "pip install 'pthparse[tensorboard]'" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_bad_arguments(tmp_path: Path) -> None:
    for sources, bins in (([], 64), (LESSON, 0), (LESSON, 10**9)):
        with pytest.raises(ValueError, match=r"bins|no checkpoints"):
            pthparse.export_tensorboard(sources, tmp_path, bins=bins)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["export-tensorboard", str(LESSON), run]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"1 checkpoint -> {run}/{events.NAME}",
        f"  step 0         {LESSON}",
        "steps as they were given; 111 histograms, 666 scalars",
        f"to see it: tensorboard --logdir {run}",
    ]
    assert main(["export-tensorboard", str(LESSON), run]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["export-tensorboard", str(LESSON), run, "--overwrite", "--bins", "8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["histograms"], told["steps"]) == (1, 111, [{"path": str(LESSON), "step": 0}])
    assert len(histogram(read(tmp_path / "run"), "values/fc.weight").bucket) == 8
    assert main(["export-tensorboard", str(LESSON), run, "--overwrite", "--bins", "0"]) == 2
    assert capsys.readouterr().err == "pthparse: export-tensorboard: 1 to 10,000 bins\n"


def test_arrays_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="checkpoint"):
        pthparse.export_tensorboard({"w": np.ones(3)}, tmp_path)
    with pthparse.open(LESSON) as ckpt:
        made = pthparse.export_tensorboard([ckpt, ckpt.group("layers")], tmp_path)
    assert made.tensors == 111
