"""What a notebook shows: text of a file is text, numbers are right, what is left out is said."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import directories as d
from forge import models, zips
from forge import pickles as p

import pthparse
from pthparse import notebook

LESSON = Path(__file__).parents[1] / "data" / "lesson" / "lesson.pth"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x1b[31m\u202e"
TAGS = {"div", "style", "table", "tr", "th", "td", "b", "i", "ul", "li", "details", "summary"}


class Reader(HTMLParser):
    """Rows of cells, all text, and a look at what may be there."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.told = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in TAGS and {name for name, _ in attrs} <= {"class", "style"}, (tag, attrs)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.told += data + "\n"
        if {"td", "th"} & {*self.open}:
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row[0] == first)


def shown(thing: Any) -> Reader:
    html = thing._repr_html_()
    assert "\x1b" not in html and "\u202e" not in html and len(html) < 60_000
    return Reader(html)


def test_a_checkpoint() -> None:
    with pthparse.open(LESSON) as ckpt:
        found = shown(ckpt)
    assert str(LESSON) in found.told and "124,012 B (124.0 kB, 121.1 KiB); 111 tensors" in found.told
    assert found.row("layers") == ["layers", "108", "20,064", "80,256", "64.72 %", ""]
    assert found.row("embed.weight") == ["embed.weight", "float32", "[97, 16]", "6,208"]
    assert "and 61 more tensors" in found.told
    assert "closed" in shown(ckpt).told


def test_a_tensor() -> None:
    w = np.arange(48, dtype=np.float32).reshape(6, 8) / 4
    with pthparse.open(models.zipped({"w": w, "b": w[0, :3], "cube": w.reshape(2, 3, 8), "s": np.float32(7)})) as ckpt:
        found = shown(ckpt["w"])
        assert "w\n" in found.told and "float32 [6, 8], 48 elements, 192 B" in found.told
        assert found.rows[1] == ["2", "2.25", "2.5", "2.75", "3", "3.25", "3.5", "..."]
        assert len(found.rows) == 6 and found.rows[5] == ["..."] * 8
        assert shown(ckpt["b"]).rows == [["0", "0.25", "0.5"]] and shown(ckpt["s"]).rows == [["7"]]
        cube = shown(ckpt["cube"])
        assert cube.rows[2][0] == "4" and len(cube.rows) == 3 and "of the first matrix" in cube.told
        t = ckpt["w"]
    assert "closed" in shown(t).told


@pytest.mark.parametrize(
    ("cls", "data", "cells"),
    [
        ("BFloat16Storage", b"\xc0\x3f\x00\xc0", ["1.5", "-2"]),
        ("LongStorage", np.array([3, -(2**60)]).tobytes(), ["3", "-1152921504606846976"]),
        ("BoolStorage", b"\1\0", ["True", "False"]),
        ("ComplexFloatStorage", np.array([1 + 2j, -1j], "<c8").tobytes(), ["1+2j", "-0-1j"]),
        ("FloatStorage", np.array([math.nan, -math.inf], "<f4").tobytes(), ["nan", "-inf"]),
    ],
)
def test_values_of_many_types(cls: str, data: bytes, cells: list[str]) -> None:
    with pthparse.open(zips.checkpoint(p.pickle(p.tensor(p.storage("0", 2, cls), [2], [1])), {"0": data})) as ckpt:
        assert shown(next(iter(ckpt.values()))).rows == [cells]


def test_tensors_without_an_array(tmp_path: Path) -> None:
    scheme = p.tuple_of([p.glob("torch", "per_tensor_affine"), p.integer(1), p.integer(0)])
    root = p.dict_of({"q": p.quantized(4, scheme), "gone": p.tensor(p.storage("0", 4), [9], [1])})
    with pthparse.open(zips.checkpoint(p.pickle(root), {"0": bytes(16)})) as ckpt:
        assert "quantized" in shown(ckpt["q"]).told and not shown(ckpt["q"]).rows
        assert "tensor 'gone'" in shown(ckpt["gone"]).told and "gone" in shown(ckpt).told
    rows = d.write(tmp_path, {"__0_0.distcp": [d.chunk([1, 2], (2,))]})["__0_0.distcp"]
    places = [(d.index("w", [0]), d.info(*rows[0]))]
    (tmp_path / ".metadata").write_bytes(d.metadata({"w": d.tensor((2,), [((0,), (2,))])}, places))
    with pthparse.open(tmp_path) as several:
        assert "float32 [2], 2 elements, 8 B" in shown(several["w"]).told
        assert shown(several).rows[-1] == ["w", "float32", "[2]", "8"]


def test_of_what_is_far_away_nothing_more_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    with pthparse.open(LESSON) as ckpt:
        near = shown(ckpt), shown(ckpt["fc.weight"])
        assert near[0].row("layers") and len(near[1].rows) > 1
        monkeypatch.setattr(type(ckpt._box.source), "afar", True)
        assert "64.72 %" not in shown(ckpt).told and "and 61 more tensors" in shown(ckpt).told
        assert shown(ckpt["fc.weight"]).rows == []


def test_capacity() -> None:
    with pthparse.open(LESSON) as ckpt:
        found = shown(ckpt.capacity())
    assert "23,265 parameters; 93,060 B (93.1 kB, 90.9 KiB) of tensor data in 111 tensors" in found.told
    assert found.row("model")[2:] == ["93,060", "75.04 %"] and found.row("fc")[1:5] == ["2", "1,649", "6,596", "5.32 %"]
    assert found.row("pickle")[2:] == ["1", "15,166"]


def test_statistics() -> None:
    with pthparse.open(models.zipped({"w": [1.0, -3.0, 0.0, math.nan, math.inf]})) as ckpt:
        found = shown(ckpt.stats())
    assert found.rows[0][0] == "name"
    assert found.rows[1] == ["w", "float32", "[5]", "-0.6667", "1.7", "-3", "1", "3.162", "1", "1", "1"]
    data = models.zipped({"w": [1.0]}).replace(p.ints([1]) + p.ints([1]), p.ints([9]) + p.ints([1]), 1)
    with pthparse.open(data) as ckpt:
        found = shown(ckpt.stats())
    assert "Statistics of 0 tensors" in found.told and "tensor 'w'" in found.told


def test_audits(tmp_path: Path) -> None:
    clean = shown(pthparse.audit(LESSON))
    assert f"CLEAN {LESSON}" in clean.told and "111 tensors, 3 globals, 0 findings" in clean.told
    (tmp_path / "a.pth").write_bytes(p.pickle(p.call(p.glob("os", "system"), p.text(EVIL))))
    (tmp_path / "b.pth").write_bytes(LESSON.read_bytes())
    evil = pthparse.audit(tmp_path / "a.pth")
    assert evil.verdict == "dangerous" and "DANGEROUS" in shown(evil).told and "os.system" in shown(evil).told
    both = shown(pthparse.audit(tmp_path))
    assert [row[1] for row in both.rows] == ["verdict", "dangerous", "clean"]


def test_hostile_names_are_text() -> None:
    many = {f"{EVIL}{i}": [1.0] for i in range(3)} | {"x" * 100_000: [2.0]}
    with pthparse.open(models.zipped(many, **{EVIL: p.integer(1)})) as ckpt:
        for thing in (*ckpt.values(), ckpt.capacity(), ckpt.audit()):
            shown(thing)
        told = shown(ckpt.stats()).told
        assert f"{'x' * 58}...{'x' * 59}\n" in told
        assert EVIL.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e") + "2\n" in told
        assert "<script>alert(1)</script>" in shown(ckpt).told


def test_what_is_left_out_is_said() -> None:
    n = notebook.MOST_ROWS + 7
    with pthparse.open(models.zipped({f"m{i}.w": [1.0] for i in range(n)})) as ckpt:
        assert "and 7 more tensors" in shown(ckpt).told and "and 7 more tensors" in shown(ckpt.stats()).told
        modules = f"and {n - notebook.MOST_GROUPS} more modules"
        assert modules in shown(ckpt).told and modules in shown(ckpt.capacity()).told
    calls = b"".join(p.call(p.glob("os", f"f{i}"), p.text("")) + p.POP for i in range(n))
    report = pthparse.audit(p.pickle(calls + p.NONE))
    more = len(report.reasons) - notebook.MOST_ROWS
    assert more >= 7 and f"and {more} more reasons" in shown(report).told
