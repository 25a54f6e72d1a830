"""`pthparse stats` and the figures of `pthparse show`: what is printed, and the exit codes."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from forge import pickles as p
from forge import zips

from pthparse.report.stats import print_magnitudes

LESSON = str(Path(__file__).parents[1] / "data" / "lesson" / "lesson.pth")


def forged(tmp_path: Path, *values: float) -> str:
    path = tmp_path / "m.pth"
    root = p.pickle(p.dict_of({"w\x1b[1m": p.vector("0", len(values)), "ok": p.vector("1", 2)}))
    path.write_bytes(zips.checkpoint(root, {"0": struct.pack(f"<{len(values)}f", *values), "1": bytes(8)}))
    return str(path)


def test_a_table(run: Any) -> None:
    code, out, err = run("stats", LESSON, "embed*")
    assert (code, err) == (0, "")
    head, row = out.splitlines()
    assert head.split() == ["name", "dtype", "shape", "mean", "std", "min", "max", "l2", "zeros", "NaN", "Inf"]
    assert row.split()[:6] == ["embed.weight", "float32", "[97,", "16]", "0.04201", "1.03"]
    assert row.split()[6:] == ["-3.154", "4.101", "40.6", "0", "0", "0"]


def test_sorted_and_cut(run: Any) -> None:
    code, out, _ = run("stats", LESSON, "--sort", "std", "--limit", "2")
    names = [line.split()[0] for line in out.splitlines()]
    assert code == 0 and names[:2] == ["name", "embed.weight"] and out.endswith("\nand 109 more\n")
    _, out, _ = run("stats", LESSON, "--sort", "name", "--limit", "1")
    assert out.splitlines()[1].startswith("embed.weight")


def test_json(run: Any) -> None:
    code, out, _ = run("stats", LESSON, "embed*", "--json", "--histogram")
    document = json.loads(out)
    row = document["tensors"][0]
    assert code == 0 and document["schema"] == 1 and document["remarks"] == []
    assert row["name"] == "embed.weight" and row["numel"] == 97 * 16 and row["std"] == pytest.approx(1.0297, abs=1e-4)
    assert sum(n for _, n in row["histogram"]) == 97 * 16
    assert "histogram" not in json.loads(run("stats", LESSON, "embed*", "--json")[1])["tensors"][0]


def test_csv(run: Any) -> None:
    code, out, _ = run("stats", LESSON, "embed*", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and rows[0]["shape"] == "97x16" and float(rows[0]["mean"]) == pytest.approx(0.042, abs=1e-4)


def test_health(run: Any, tmp_path: Path) -> None:
    assert run("stats", LESSON, "--health")[:2] == (0, "111 tensors: 0 errors, 0 notes\n")
    code, out, _ = run("stats", forged(tmp_path, 1, math.nan, math.inf), "--health")
    assert code == 1
    assert out.splitlines() == [
        "2 tensors: 2 errors, 0 notes",
        "error  w\\x1b[1m: 1 of 3 are NaN, the first at [1] [nan]",
        "error  w\\x1b[1m: 1 of 3 are infinite [inf]",
    ]
    code, out, _ = run("stats", forged(tmp_path, 1, math.nan), "--health", "--json")
    assert (
        code == 1
        and [r["code"] for r in json.loads(out)["remarks"]] == ["nan"]
        and "tensors" not in out.split('"remarks"')[0]
    )


def test_errors_make_the_exit_code_without_health_too(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("stats", forged(tmp_path, 1, math.nan))
    assert code == 1 and out.endswith("\n2 tensors: 1 error, 0 notes: --health tells them\n")
    assert run("stats", forged(tmp_path, 1, 2))[0] == 0
    assert run("stats", str(tmp_path / "none.pth"))[0] == 2
    assert run("stats", LESSON, "nothing*")[0] == 1


def test_show_has_figures_and_bars(run: Any) -> None:
    _, out, _ = run("show", LESSON, "embed.weight")
    assert "mean 0.04201, std 1.03, min -3.154, max 4.101, l1 " in out and "2^-1  ####" in out
    _, out, _ = run("show", LESSON, "embed.weight[0]", "--json")
    assert json.loads(out)["stats"]["numel"] == 16


def test_bars(capsys: pytest.CaptureFixture[str]) -> None:
    print_magnitudes(((-100, 5), (-3, 1), (0, 4), (1, 2)), most=6)
    assert capsys.readouterr().out.splitlines() == [
        "       2^1  ##########                2",
        "       2^0  ###################       4",
        "      2^-1                            0",
        "      2^-2                            0",
        "      2^-3  #####                     1",
        "      2^-4                            0",
        "    < 2^-4  ########################  5",
    ]
