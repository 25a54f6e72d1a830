"""`pthparse drift`: what is printed, the picture, and the exit codes."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from forge import models

from pthparse.cli import main
from pthparse.report import drift, heatmap

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<img src=x onerror=alert(1)>\"'&\x1b[31m\u202e"
ESCAPED = "<img src=x onerror=alert(1)>\"'&\\x1b[31m\\u202e"
MADE: list[dict[str, Any]] = [
    {"layers.0.w": [3.0, 4.0], "layers.1.w": [1.0, 0.0], "still": [1.0], "zero": [0.0]},
    {"layers.0.w": [3.0, 4.5], "layers.1.w": [1.0, 1.0], "still": [1.0], "zero": [2.0]},
    {"layers.0.w": [3.0, 4.5], "layers.1.w": [1.0, 2.0], "still": [1.0], "zero": [3.0], EVIL: [1.0]},
]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"e{i}.pth" for i in (8, 9, 10)]
    for path, tensors in zip(paths, MADE, strict=True):
        path.write_bytes(models.zipped(tensors))
    return [str(path) for path in paths]


def test_the_table(run: Any, files: list[str]) -> None:
    code, out, err = run("drift", *reversed(files))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "3 checkpoints, ordered by the numbers in their names:"
    assert [line.split() for line in lines[1:4]] == [[str(n), path] for n, path in zip((8, 9, 10), files, strict=True)]
    rows = [line.split() for line in lines[6:11]]
    assert lines[5].split()[0] == "name" and rows == [
        ["layers.1.w", "2.236", "200", "%", "0.4472", "100", "%", "at", "9", "#+"],
        ["layers.0.w", "5.408", "10", "%", "0.9985", "10", "%", "at", "9", "#_"],
        ["still", "1", "0", "1.0000", "0", "__"],
        ["zero", "3", "from", "0", "-", "50", "%", "at", "10", "##"],
        [*ESCAPED.split(), "1", "-", "-", "-"],
    ]
    assert lines[11] == f"step 10, appears: {ESCAPED} float32 [1]"
    assert run("drift", *files, "--limit", "2")[1].count(" at 9 ") == 2
    assert "  and 3 more (--limit, --depth, --csv)" in run("drift", *files, "--limit", "2")[1]


def test_modules_and_orders(run: Any, files: list[str]) -> None:
    out = run("drift", *files, "--depth", "1", "--sort", "name")[1].splitlines()
    assert [line.split()[:2] for line in out[6:10]] == [
        ["<img", "src=x"],
        ["layers", "2"],
        ["still", "1"],
        ["zero", "1"],
    ]


def test_json(run: Any, files: list[str]) -> None:
    code, out, _ = run("drift", *files, "--json")
    told = json.loads(out)
    assert code == 0 and told["schema"] == 1 and told["basis"] == "by the numbers in their names"
    assert [s["step"] for s in told["steps"]] == [8, 9, 10]
    rows = {row["name"]: row for row in told["rows"]}
    assert rows["layers.1.w"]["change"] == [None, 1.0, pytest.approx(math.sqrt(0.5))]
    assert rows["layers.1.w"]["total"] == 2.0 and rows["layers.1.w"]["largest_at"] == 1
    assert rows["zero"]["change"] == [None, "inf", 0.5]
    assert told["events"] == [{"at": 2, "kind": "appears", "name": EVIL, "text": "float32 [1]"}]


def test_csv(run: Any, files: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run("drift", *files, "--csv", "--sort", "file")[1])))
    assert len(rows) == 3 * 5 and rows[0]["name"] == "layers.0.w" and rows[0]["change"] == ""
    assert (rows[1]["step"], float(rows[1]["change"])) == ("9", 0.1)
    assert rows[-1]["name"] == ESCAPED


def test_the_picture(run: Any, files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "drift.svg"
    assert run("drift", *files, "--svg", str(out))[0] == 0
    root = ElementTree.fromstring(out.read_text())
    assert {e.tag for e in root.iter()} == {SVG + t for t in ("svg", "style", "text", "rect", "title")}
    texts = [e.text for e in root.iter(SVG + "text")]
    assert "layers.0.w" in texts and {"9", "10"} <= set(texts) and any(t and "onerror" in t for t in texts)
    cells = [e for e in root.iter(SVG + "rect") if e.find(SVG + "title") is not None]
    told = {e.findtext(SVG + "title"): e.get("fill") for e in cells}
    assert len(cells) == 5 * 2
    assert told["layers.1.w, step 9: 100 %"] == told["zero, step 9: from 0"] == "#fde725"  # the most
    assert told["layers.0.w, step 9: 10 %"] == "#440154"  # the least
    assert told["layers.0.w, step 10: 0"] == heatmap.UNCHANGED
    assert not any(a.lower().startswith("on") or "href" in a for e in root.iter() for a in e.attrib)
    first = out.read_bytes()
    assert run("drift", *files, "--svg", str(out), "--threads", "1")[0] == 0 and out.read_bytes() == first


def test_colours_are_shares_of_a_logarithmic_scale(run: Any, tmp_path: Path) -> None:
    moved = {"little": 1e-4, "some": 1e-2, "much": 1.0}
    for i in range(2):
        (tmp_path / f"{i}.pth").write_bytes(models.zipped({n: [1.0 + i * x] for n, x in moved.items()}))
    run("drift", *(str(tmp_path / f"{i}.pth") for i in range(2)), "--svg", str(tmp_path / "a.svg"))
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root is not None
    titled = {e.findtext(SVG + "title", "").partition(",")[0]: e.get("fill") for e in root.iter(SVG + "rect")}
    assert [titled[n] for n in moved] == ["#440154", "#21918c", "#fde725"]


def test_many_checkpoints_are_listed_in_part(run: Any, tmp_path: Path) -> None:
    files = [tmp_path / f"e{i}.pth" for i in range(9)]
    for i, file in enumerate(files):
        file.write_bytes(models.zipped({"w": [1.0 + i]}))
    lines = run("drift", *map(str, files))[1].splitlines()
    assert [line.split()[0] for line in lines[1:9]] == ["0", "1", "2", "3", "...", "6", "7", "8"] and not lines[9]
    lines = run("drift", *map(str, files[:8]))[1].splitlines()
    assert [line.split()[0] for line in lines[1:9]] == list("01234567")


def test_a_picture_of_many_rows_is_cut(run: Any, tmp_path: Path) -> None:
    files = []
    for i in range(2):
        files.append(str(tmp_path / f"{i}.pth"))
        Path(files[-1]).write_bytes(models.zipped({f"w{k:03}": [1.0 + i * k] for k in range(heatmap.MOST_ROWS + 5)}))
    out = tmp_path / "drift.svg"
    assert run("drift", *files, "--svg", str(out))[0] == 0
    text = out.read_text()
    assert "5 with smaller changes are left out" in text
    assert "w004" not in text and "w005" in text and text.index("w005") < text.index("w006")


def test_what_cannot_be_said(run: Any, files: list[str], tmp_path: Path) -> None:
    assert run("drift", files[0]) == (2, "", "pthparse: drift: a series has two checkpoints at least\n")
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"no checkpoint at all")
    code, out, err = run("drift", files[0], str(bad))
    assert (code, out) == (2, "") and err.startswith("pthparse: ") and "bad.pth" in err
    assert run("drift", *files, "--svg", str(tmp_path / "none" / "x.svg"))[0] == 2
    with pytest.raises(SystemExit) as e:
        main(["drift", *files, "--sort", "colour"])
    assert e.value.code == 2


def test_sparklines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drift.sparkline([0.0, 1.0]) == "_#"
    monkeypatch.setattr(drift, "draws", lambda stream: True)
    assert drift.sparkline([None, None]) == "" and drift.sparkline([0.0, 0.0]) == "▁▁"
    assert drift.sparkline([1.0, None, 0.5, math.inf]) == "█ ▅█"
    many = drift.sparkline([0.0] * 99 + [1.0])
    assert len(many) == drift.WIDEST and many[-1] == "█" and set(many[:-1]) == {"▁"}


def test_what_happens_to_many_is_told_in_one_line(run: Any, tmp_path: Path) -> None:
    files = []
    for i in range(2):
        files.append(str(tmp_path / f"{i}.pth"))
        tensors = {f"w{k}": [1.0] * (1 + i) for k in range(9)} | {f"{'ab'[i]}{k}": [1.0] for k in range(2)}
        Path(files[-1]).write_bytes(models.zipped(tensors))
    lines = run("drift", *files)[1].splitlines()
    assert lines[-4:-1] == [
        "step 1, appears: b0 float32 [1]; b1 float32 [1]",
        "step 1, reshaped: " + "; ".join(f"w{k} float32 [1] -> float32 [2]" for k in range(5)) + " and 4 more",
        "step 1, vanishes: a0 float32 [1]; a1 float32 [1]",
    ]
