"""In which order checkpoints are, and by what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from forge import models
from forge import pickles as p

from pthparse.errors import PthError
from pthparse.series import GIVEN, Series

W = {"w": [1.0, 2.0]}


def steps(*sources: Any) -> tuple[list[tuple[str, int]], str]:
    series = Series(sources)
    series.close()
    return [(Path(s.path).name, s.step) for s in series.steps], series.basis


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def write(name: str, data: bytes | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(models.zipped(W) if data is None else data)
        return path

    return write


def test_what_the_files_say_comes_first(make: Any) -> None:
    a = make("9.pth", models.zipped(W, epoch=p.integer(1), step=p.integer(300)))
    b = make("1.safetensors", models.safe(W, step="1000", epoch="1"))
    assert steps(b, a) == ([("9.pth", 300), ("1.safetensors", 1000)], "by 'step' in each")
    c = make("2.pth", models.zipped(W, epoch=p.integer(7)))
    assert steps(c, a) == ([("9.pth", 1), ("2.pth", 7)], "by 'epoch' in each")


@pytest.mark.parametrize("value", [p.integer(-1), p.TRUE, p.text("x1"), p.text("٣"), p.text("9" * 30), p.NONE])
def test_values_that_are_no_steps(make: Any, value: bytes) -> None:
    a, b = (make(f"e{n}.pth", models.zipped(W, step=value)) for n in (10, 9))
    assert steps(a, b) == ([("e9.pth", 9), ("e10.pth", 10)], "by the numbers in their names")


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["epoch10.pth", "epoch2.pth"], [10, 2]),
        (["v2_step100.pth", "v2_step20.pth"], [100, 20]),
        (["epoch=0-step=200.ckpt", "epoch=0-step=30.ckpt"], [200, 30]),
        (["epoch=2-loss=0.50.ckpt", "epoch=1-loss=0.71.ckpt"], [2, 1]),
        (["checkpoint-500/model.bin", "checkpoint-60/model.bin"], [500, 60]),
        (["before.pth", "after.pth"], [0, 1]),
        (["a1.pth", "b1.pth"], [0, 1]),
        (["a1.pth", f"a{'9' * 40}.pth"], [0, 1]),
    ],
)
def test_numbers_in_names(make: Any, names: list[str], numbers: list[int]) -> None:
    found, basis = steps(*(make(name) for name in names))
    assert found == sorted(zip([Path(n).name for n in names], numbers, strict=True), key=lambda row: row[1])
    assert basis == (GIVEN if numbers == [0, 1] else "by the numbers in their names")


def test_one_alone(make: Any) -> None:
    assert steps(make("step_12.pth")) == ([("step_12.pth", 12)], "by the number in its name, 'step_12.pth'")
    assert steps(make("resnet18.pth")) == ([("resnet18.pth", 0)], GIVEN)


def test_what_has_no_path(tmp_path: Path) -> None:
    data = models.zipped(W)
    assert steps(data, {"w": None}) == ([("in memory 1", 0), ("in memory 2", 1)], GIVEN)
    with (tmp_path / "f").open("w+b") as file:
        file.write(data)
        file.seek(0)
        assert steps(file, data)[1] == GIVEN


def test_one_that_cannot_be_opened_is_an_error(make: Any, tmp_path: Path) -> None:
    with pytest.raises(PthError):
        Series([make("a.pth"), make("b.pth", b"nothing of the kind")])
    with pytest.raises(FileNotFoundError):
        Series([tmp_path / "none.pth"])
