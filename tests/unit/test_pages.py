"""The page and the pictures: facts, areas, names as text, the same bytes again, what is left out said."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from forge import directories as d
from forge import models, zips
from forge import pickles as p

import pthparse
from pthparse.cli import main
from pthparse.pages import charts, samples
from pthparse.pages.facts import PageFacts, facts_of, together
from pthparse.pages.html import View, ridges_of
from pthparse.pages.labels import LETTER, labels
from pthparse.pages.strip import Span, _filled, strip_of
from pthparse.pages.tree import MOST_LEAVES, Leaf, Node
from pthparse.pages.treemap import Tile, squarified, treemap
from pthparse.pages.words import number, units

DATA = Path(__file__).parents[1] / "data"
LESSON = DATA / "lesson" / "lesson.pth"
ZOO = DATA / "zoo" / "torch-2.13.0-py3.11"
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "</style></title><b>",
    "{{ 7 * 7 }}{% raw %}",
    '" onmouseover="alert(1)',
    "a\u202eb\x1b[2Jc\x00d\nnew line",
    "&lt;plain&gt;",
    "x" * 100_000,
    ".".join("d" * 2000),
    "../../etc/passwd",
    "",
)


def floats(path: Path, tensors: dict[str, list[int]], values: Any = None) -> Path:
    """A state dict of float32 tensors, each in a storage of its own."""
    made, records = {}, {}
    for i, (name, shape) in enumerate(tensors.items()):
        n = int(np.prod(shape))
        held = np.arange(n, dtype="<f4") / 7 if values is None else np.full(n, values, "<f4")
        strides = [int(np.prod(shape[k + 1 :])) for k in range(len(shape))]
        made[name] = p.tensor(p.storage(str(i), n), shape, strides, 0)
        records[str(i)] = held.tobytes()
    path.write_bytes(zips.checkpoint(p.pickle(p.dict_of(made)), records))
    return path


def facts(path: Path, stats: bool = True) -> PageFacts:
    with pthparse.open(path, mmap=False) as ckpt:
        return facts_of(ckpt, path.name, stats)


def leaves_of(tile: Tile) -> list[Tile]:
    return [leaf for inner in tile.tiles for leaf in leaves_of(inner)] if tile.tiles else [tile]


class Reader(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside: dict[str, str] = {}
        self.at = ""
        self.feed(text)
        self.text = "".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.at = tag

    def handle_endtag(self, tag: str) -> None:
        self.at = ""

    def handle_data(self, data: str) -> None:
        if self.at in ("style", "script"):
            self.inside[self.at] = self.inside.get(self.at, "") + data
        else:
            self.words.append(data)


# ---- facts ----


def test_facts_of_the_lessons_small_model() -> None:
    found = facts(LESSON)
    assert (found.title, found.nbytes, found.tensors, found.shown) == ("lesson.pth", 124_012, 111, 111)
    assert (found.capacity.parameters, found.capacity.tensor_bytes) == (23_265, 93_060)
    assert (found.bad, found.looked, found.errors, found.folded) == ((0, 0), 111, 0, False)
    assert found.dtypes == (("float32", 111, 23_265),)
    by_name = {t.name: t for t in found.root.every_leaf()}
    embed = by_name["embed.weight"]
    with pthparse.open(LESSON) as ckpt:
        assert list(by_name) == list(ckpt)
        array = ckpt["embed.weight"].numpy()
        storage = ckpt["embed.weight"].storage
    assert storage is not None and embed.offset == storage.file_offset
    assert LESSON.read_bytes()[embed.offset : embed.offset + 4] == array.reshape(-1)[:1].tobytes()
    assert (embed.shape, embed.elements, embed.nbytes) == ((97, 16), 1552, 6208)
    assert embed.stats is not None and embed.stats.max == float(array.max())
    cells = [f"[{', '.join(number(float(x)) for x in row[:4])}, \u2026, {number(float(row[-1]))}]" for row in array]
    assert embed.values == (*cells[:3], "\u2026", cells[-1])
    assert embed.counts is not None and sum(embed.counts[0]) <= embed.counts[3] == 1552
    assert [(x.name, x.n) for x in found.panels if x.n == 1][:2] == [("embed.weight", 1), ("fc.weight", 1)]
    assert next(x for x in found.panels if x.name == "layers.*.linear1.weight").n == 6


def test_without_statistics_no_data_is_counted() -> None:
    found = facts(LESSON, stats=False)
    assert found.panels == () and found.remarks == () and not found.with_stats
    assert all(t.stats is None and t.counts is None and t.health == "" for t in found.root.every_leaf())
    assert next(iter(found.root.every_leaf())).values


def test_module_sums_are_those_of_their_tensors() -> None:
    found = facts(LESSON)
    assert sum(c.nbytes for c in found.root.children) == found.root.nbytes == 93_060
    for m in found.root.every_module():
        assert m.elements == sum(t.elements for t in m.every_leaf())


def test_a_value_far_out_in_a_large_tensor_is_read_alone(tmp_path: Path) -> None:
    path = floats(tmp_path / "m.pth", {"w": [300, 200]})
    with pthparse.open(path, mmap=False) as ckpt:
        t = ckpt["w"]
        assert samples.first_values(t)[-1] == f"[{number(8542.857)}, 8543, 8543, 8543, \u2026, 8571]"
        held = samples.sampled(t)
        assert held is not None and len(held) == samples.BLOCKS * samples.BLOCK
        assert held[0] == 0 and held[-1] == pytest.approx(59_999 / 7)


def test_values_of_every_kind_of_tensor_are_those_of_numpy() -> None:
    seen = set()
    for path in sorted(DATA.glob("zoo/*/tensors.pth")):
        with pthparse.open(path, mmap=False) as ckpt:
            for t in ckpt.values():
                if t.kind != "dense" or not t.numel or t.error:
                    continue
                array, rows = t.numpy(), samples.first_values(t)
                first = array.reshape(-1)[:1].astype(complex)[0] if array.dtype.kind == "c" else array.reshape(-1)[0]
                told = number(complex(first) if array.dtype.kind == "c" else samples._plain(first))
                assert rows[0].lstrip("[").startswith(told), (path, t.name)
                seen.add(t.dtype)
    assert {"float32", "bfloat16", "complex64", "bool", "int64"} <= seen


def test_a_tensor_of_the_other_byte_order_reads_the_same(tmp_path: Path) -> None:
    big = [f for f in DATA.glob("zoo/*/*big*.pth")]
    assert big or struct.pack(">f", 1.0) != struct.pack("<f", 1.0)
    for path in big:
        with pthparse.open(path, mmap=False) as ckpt:
            for t in ckpt.values():
                if t.kind == "dense" and t.dtype == "float32" and t.numel:
                    cell = samples._Cells(t)(*(0,) * len(t.shape))
                    assert cell == t.numpy().reshape(-1)[0]


# ---- the tree ----


def test_equal_layers_are_folded_and_sums_kept(tmp_path: Path) -> None:
    names = {f"layers.{i}.{x}.weight": [2, 3] for i in range(600) for x in ("a", "b")}
    found = facts(floats(tmp_path / "m.pth", {**names, "layers.7.a.weight": [5, 3], "head": [4]}))
    assert found.folded and found.tensors == 1201
    (layers,) = found.root.children
    assert [(c.label, c.copies) for c in layers.children] == [("0-6", 7), ("7", 1), ("8-599", 592)]
    assert [t.name for t in layers.children[2].every_leaf()] == ["layers.8-599.a.weight", "layers.8-599.b.weight"]
    assert [(t.copies, t.elements) for t in layers.children[2].every_leaf()] == [(592, 3552), (592, 3552)]
    assert found.root.elements == 1199 * 6 + 15 + 4 and found.shown_tensors == 1201 and found.tree_left == 0
    assert "1,201 tensors: layers of equal structure are folded" in pthparse.page(tmp_path / "m.pth")


def test_of_too_many_tensors_the_largest_and_the_sick_are_shown(tmp_path: Path) -> None:
    names = {f"{chr(97 + i % 26)}{i}.w": [1 + i % 9, 1 + i] for i in range(1500)}
    path = floats(tmp_path / "m.pth", names)
    data = bytearray(path.read_bytes())
    with pthparse.open(path, mmap=False) as ckpt:
        storage = ckpt["a0.w"].storage
    assert storage is not None and storage.file_offset is not None
    data[storage.file_offset : storage.file_offset + 4] = struct.pack("<f", float("nan"))
    path.write_bytes(data)
    found = facts(path)
    kept = {t.name for t in found.root.every_leaf()}
    assert len(kept) == MOST_LEAVES and "a0.w" in kept and found.tree_left == 1000
    assert sum(m.left_nbytes for m in found.root.every_module()) == found.root.nbytes - sum(
        t.nbytes for t in found.root.every_leaf()
    )
    page = pthparse.page(path)
    assert "1,000 are only counted" in page and "1,000 more: the list is too long" in page
    assert len(page) < 3_000_000


def test_figures_of_equal_layers_add_up() -> None:
    with pthparse.open(LESSON) as ckpt:
        names = [f"layers.{i}.linear1.weight" for i in range(6)]
        table = ckpt.stats(names, histogram=True)
        whole = np.concatenate([ckpt[n].numpy().reshape(-1) for n in names]).astype(float)
    found = together(list(table))
    assert found.mean == pytest.approx(whole.mean()) and found.std == pytest.approx(whole.std())
    assert (found.numel, found.min, found.max) == (whole.size, whole.min(), whole.max())
    assert sum(n for _, n in found.histogram or ()) == np.count_nonzero(whole)


# ---- areas ----


def test_areas_are_the_unique_bytes() -> None:
    for path in (LESSON, ZOO / "whole_model.pth", ZOO / "training.pth", ZOO / "tensors.pth"):
        found = facts(path, stats=False)
        root = treemap(found.tree, 1200, 560)
        assert root is not None
        tiles = leaves_of(root)
        held = {leaf.name: leaf.nbytes for leaf in found.tree.every_leaf()}
        assert sum(t.area for t in tiles) == pytest.approx(1200 * 560)
        for t in tiles:
            assert isinstance(t.what, Leaf)
            assert t.area / (1200 * 560) == pytest.approx(held[t.what.name] / found.tree.nbytes, rel=1e-6)
            assert t.x >= -1e-6 and t.x + t.w <= 1200 + 1e-6 and t.y >= -1e-6 and t.y + t.h <= 560 + 1e-6
        assert sum(held.values()) == found.tree.nbytes <= found.capacity.tensor_bytes


def test_tied_tensors_have_one_area() -> None:
    found = facts(ZOO / "state_dict.pth", stats=False)
    names = [n for s in found.capacity.shared if s.tied for n in s.names]
    held = {leaf.name: leaf.nbytes for leaf in found.tree.every_leaf()}
    assert names == ["embed.weight", "head.weight"]
    assert [held[n] for n in names] == [384, 0]


@pytest.mark.parametrize(
    "sizes", [[1], [10**30, 1], [2**i for i in range(900, 0, -1)], [5] * 700, list(range(400, 0, -1))], ids=str
)
def test_sizes_of_any_kind_find_their_places(sizes: list[int]) -> None:
    places = squarified(sizes, 0, 0, 1200, 560)
    assert len(places) == len(sizes)
    assert sum(w * h for _, _, w, h in places) == pytest.approx(1200 * 560)


def test_nothing_is_drawn_of_no_bytes() -> None:
    empty = Node("", "", 1, None, (), (), 0, 0, 0)
    assert treemap(empty, 10, 10) is None


def test_the_strip_holds_each_byte_once() -> None:
    for path in (LESSON, ZOO / "state_dict.pth", *sorted(DATA.glob("zoo/torch-1.1*/state_dict.pth"))):
        with pthparse.open(path, mmap=False) as ckpt:
            found, capacity, nbytes = strip_of(ckpt, 1200), ckpt.capacity(), ckpt.nbytes
        assert found.whole[0].begin == 0 and found.whole[-1].end == nbytes
        assert sum(x.width for x in found.whole) == pytest.approx(1200) == sum(x.width for x in found.rest)
        assert all(a.end == b.begin for a, b in zip(found.whole, found.whole[1:], strict=False))
        assert found.rest_nbytes == nbytes - capacity.tensor_bytes - capacity.wasted
        assert {x.kind for x in found.rest} >= {"pickle"}


def test_what_is_said_twice_is_drawn_once() -> None:
    rows = ((10, 20, "a"), (15, 25, "b"), (25, 30, "c"), (30, 99, "d"))
    spans = [Span(begin, end, "tensor", name) for begin, end, name in rows]
    assert [(s.begin, s.end, s.name) for s in _filled(spans, {}, 40)] == [
        *((0, 10, ""), (10, 20, "a"), (20, 25, ""), (25, 30, "c"), (30, 40, "")),
    ]


def test_labels_do_not_lie_on_each_other(tmp_path: Path) -> None:
    small = {f"block.{chr(97 + i // 10)}{i % 10}": [30, 30] for i in range(90)}
    tile = treemap(facts(floats(tmp_path / "m.pth", {**small, "embed.weight": [90, 30]})).tree, 300, 300)
    for root, least in ((tile, 20), (treemap(facts(LESSON).tree, 1200, 200), 4)):
        assert root is not None
        found = list(labels(root))
        boxes = [(label.x, label.y - 11, label.x + LETTER * len(label.text), label.y) for label in found]
        assert len(boxes) > least
        for i, (left, top, right, low) in enumerate(boxes):
            for other in boxes[:i]:
                assert right <= other[0] or other[2] <= left or low <= other[1] or other[3] <= top, (found[i], other)


def test_charts() -> None:
    assert charts.steps([0, 2, 4, 4], 40, 8) == "M0 8H10V4H20V0H40V8z"
    assert charts.steps([0, 0], 40, 8) == ""
    assert charts.ridge({-1: 1, 0: 2}, -1, 0, 10, 4, 5) == "M0 5L2.5 3 7.5 1 10 5z"
    assert charts.span_of([{-300: 1, -3: 5000, 1: 9}]) == (-4, 1)
    assert charts.span_of([{-7: 1, -5: 10, -3: 900, 1: 9}]) == (-6, 1), "but for a half per cent all are shown"
    panel = facts(LESSON).panels[0]
    rows = ridges_of(panel, 200).rows
    assert [r.layer for _, r in rows] == list("012345") and rows[0][0] < rows[-1][0]


def test_far_smaller_magnitudes_are_only_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(models.zipped({"w": np.array([1.5, 2.0**-20, 2.0**-40, 2.0**-90], np.float32)}))
    found = facts(path)
    drawn = View(found).magnitudes(next(iter(found.root.every_leaf())))
    assert drawn is not None and drawn[1:] == (-31, 0, 2)


def test_what_a_tensor_is_drawn_as(tmp_path: Path) -> None:
    found = facts(DATA / "zoo" / "torch-2.13.0-py3.11" / "whole_model.pth", stats=False)
    kinds = {t.name: t.kind for t in found.root.every_leaf()}
    assert kinds["conv.1.running_mean"] == kinds["conv.1.weight"] == "norm" and kinds["conv.0.weight"] == "convolution"
    assert kinds["blocks.0.steps"] == "buffer" and kinds["embed.weight"] == "embedding"


def test_numbers_in_words() -> None:
    assert [number(x) for x in (0.0, 12345.6, 1.5e-7, 3, None, float("nan"), True)] == [
        "0", "12,346", "1.5e-07", "3", "", "nan", "True",
    ]  # fmt: skip
    assert units(505_322_271) == "505.3 MB = 481.9 MiB" and units(999) == "999 bytes"


# ---- the page ----


def test_the_same_file_gives_the_same_page(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "lesson.pth"
    copy.parent.mkdir()
    shutil.copy(LESSON, copy)
    first = pthparse.page(LESSON)
    assert first == pthparse.page(copy) == pthparse.page(LESSON)
    assert str(tmp_path) not in first and len(first.encode()) < 300_000
    assert pthparse.page(LESSON.read_bytes(), title="lesson.pth") == first


def test_no_order_of_a_set_gets_into_the_page() -> None:
    path = str(ZOO / "training.pth")
    code = f"import pthparse, hashlib; print(hashlib.sha256(pthparse.page({path!r}).encode()).hexdigest())"
    told = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        told.add(done.stdout)
    assert told == {hashlib.sha256(pthparse.page(path).encode()).hexdigest() + "\n"}


def test_it_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    pthparse.page(LESSON, progress=lambda done, total: told.append((done, total)))
    assert told and told[-1] == (93_060, 93_060)
    told.clear()
    pthparse.pictures(LESSON, figures=("treemap",), progress=lambda done, total: told.append((done, total)))
    assert told == []


def test_the_policy_lets_in_our_own_style_and_script_alone() -> None:
    found = Reader(pthparse.page(LESSON))
    policy = next(str(a["content"]) for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")

    def named(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    style, script = named(found.inside["style"]), named(found.inside["script"])
    assert policy == (
        f"default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"
    )
    assert [tag for tag, _ in found.tags].count("script") == [tag for tag, _ in found.tags].count("style") == 1


@pytest.mark.parametrize("path", [LESSON, ZOO / "training.pth", ZOO / "whole_model.pth"], ids=lambda f: f.stem)
def test_nothing_is_fetched_and_nothing_stands_inline(path: Path) -> None:
    found = Reader(pthparse.page(path))
    for tag, attrs in found.tags:
        assert tag not in ("img", "link", "iframe", "object", "embed", "base", "form", "video", "audio")
        assert not [a for a in attrs if a.startswith("on") or a in ("style", "src", "srcset", "action")]
        assert str(attrs.get("href", "#")).startswith("#")
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for tag, a in found.tags if tag == "a"} <= {*ids, "-"}


def test_names_are_text_whatever_they_are(tmp_path: Path) -> None:
    names = {f"{n}.weight" if i % 2 else n: [3, 2] for i, n in enumerate(HOSTILE)}
    path = floats(tmp_path / "m<marquee>.pth", names)
    page = pthparse.page(path)
    found = Reader(page)
    tags = {tag for tag, _ in found.tags}
    assert "img" not in tags and [tag for tag, _ in found.tags].count("script") == 1
    assert "marquee" not in tags and "m<marquee>.pth" in found.text
    assert "<img src=x onerror=alert(1)>" in found.text and "{{ 7 * 7 }}{% raw %}" in found.text
    assert "a\\u202eb\\x1b[2Jc\\x00d\\nnew line" in found.text and "&lt;plain&gt;" in found.text
    assert "\u202e" not in page and "\x1b" not in page and "\x00" not in page
    assert "x" * 200 not in page and len(page) < 300_000
    assert not [a for _, attrs in found.tags for a in attrs if a.startswith("on")]
    for made in pthparse.pictures(path).values():
        ElementTree.fromstring(made)


def test_what_else_a_file_says_is_text_too(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\u202e"
    root = {evil: p.text(evil), "epoch": p.integer(3), "w": p.vector("0", 4), "f": p.glob("os", "system")}
    path = tmp_path / "m.pth"
    path.write_bytes(zips.checkpoint(p.pickle(p.dict_of(root)), {"0": bytes(16)}))
    page = pthparse.page(path)
    found = Reader(page)
    assert [tag for tag, _ in found.tags].count("script") == 1 and "\u202e" not in page
    assert "<script>alert(1)</script>\\u202e" in found.text
    assert "os.system" in found.text and "dangerous" in found.text


def test_no_data_no_map(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(zips.checkpoint(p.pickle(p.dict_of({"epoch": p.integer(3)})), {}))
    page = pthparse.page(path)
    assert "Where the bytes are" not in page and "epoch" in page
    with pytest.raises(pthparse.UnsupportedError, match="nothing for treemap"):
        pthparse.pictures(path, figures=("treemap",))


def test_a_damaged_tensor_has_its_reason(tmp_path: Path) -> None:
    good, bad = p.vector("0", 4), p.tensor(p.storage("1", 4), [9], [1], 0)
    path = tmp_path / "m.pth"
    path.write_bytes(zips.checkpoint(p.pickle(p.dict_of({"good": good, "bad": bad})), {"0": bytes(16), "1": bytes(16)}))
    text = Reader(pthparse.page(path)).text
    assert "1 tensor cannot be read." in text
    with pthparse.open(path) as ckpt:
        assert ckpt.errors["bad"].message in text and ckpt.errors["bad"].code in text
    assert "unreadable" in Reader(pthparse.page(path, stats=False)).text


def test_every_small_file_has_a_page() -> None:
    paths = sorted(DATA.glob("zoo/torch-2.1*/*.pth"))
    assert len(paths) > 20
    for path in paths:
        page = pthparse.page(path)
        with pthparse.open(path) as ckpt:
            assert f"{ckpt.nbytes:,}" in page and all(len(n) > 100 or n.split("/")[-1] in page for n in list(ckpt)[:5])


def test_a_model_in_several_files(tmp_path: Path) -> None:
    for i in range(2):
        floats(tmp_path / f"pytorch_model-{i + 1:05}-of-00002.bin", {f"layers.{i}.w": [4, 4]})
    floats(tmp_path / "pytorch_model-00002-of-00002.bin", {f"layers.1.{leaf}": [4, 4] for leaf in "wxyz"})
    names = {"layers.0.w": "pytorch_model-00001-of-00002.bin"}
    names |= {f"layers.1.{leaf}": "pytorch_model-00002-of-00002.bin" for leaf in "wxyz"}
    index = {"metadata": {"total_size": 320}, "weight_map": names}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    text = Reader(pthparse.page(tmp_path)).text
    assert "In 2 files" in text and "They need not be merged" in text and "pytorch_model-00002-of-00002.bin" in text
    with pthparse.open(tmp_path) as ckpt:
        ends = facts_of(ckpt, "m", False).shard_ends
    assert list(ends.values()) == [("layers.0.w", "layers.0.w"), ("layers.1.w", "layers.1.z")]
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    assert "missing" in Reader(pthparse.page(tmp_path)).text


def test_a_tensor_in_chunks_is_one(tmp_path: Path) -> None:
    cuts = [((0, 0), (3, 2)), ((0, 2), (3, 2))]
    parts = [d.chunk([0, 1, 4, 5, 8, 9], (3, 2)), d.chunk([2, 3, 6, 7, 10, 11], (3, 2))]
    (places,) = d.write(tmp_path, {"__0_0.distcp": parts}).values()
    keys = [d.index("model.w", at) for at, _ in cuts]
    data = [(key, d.info(*place)) for key, place in zip(keys, places, strict=True)]
    (tmp_path / ".metadata").write_bytes(d.metadata({"model.w": d.tensor((3, 4), cuts, "float32")}, data))
    found = facts(tmp_path)
    (t,) = found.root.every_leaf()
    assert (t.shape, t.nbytes, t.values) == ((3, 4), 48, ("[0, 1, 2, 3]", "[4, 5, 6, 7]", "[8, 9, 10, 11]"))
    assert t.shard == "__0_0.distcp" and "chunked" in Reader(pthparse.page(tmp_path)).text


def test_two_files_and_what_is_different(tmp_path: Path) -> None:
    a = floats(tmp_path / "a.pth", {"x.w": [4, 4], "y.w": [3], "gone": [2]})
    b = floats(tmp_path / "b.pth", {"x.w": [4, 4], "y.w": [3], "new<i>": [5]}, 1.5)
    text = Reader(pthparse.page(a, other=b)).text
    assert "What is different" in text and "2 changed" in text
    assert "1 only in the first" in text and "1 only in the second" in text and "new<i>" in text
    assert "a.pth" in text and "The same of b.pth" in text
    assert "The same" in Reader(pthparse.page(a, other=a)).text


# ---- the command ----


def test_what_is_open_stays_open_and_has_its_names() -> None:
    data = LESSON.read_bytes()
    assert "<h1>checkpoint</h1>" in pthparse.page(data, stats=False)
    with pthparse.open(LESSON, mmap=False) as ckpt:
        text = pthparse.page(ckpt, stats=False, other=io.BytesIO(data), other_title="the other")
        assert "<h1>lesson.pth</h1>" in text and "the other" in text and ">The same</h2>" in text
        assert pthparse.page(LESSON, title="mine", stats=False).count("<h1>mine</h1>") == 1
        assert not ckpt.closed and set(pthparse.pictures(ckpt, figures=("tree",), stats=False)) == {"tree"}


def test_report_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    out = tmp_path / "out.html"
    assert main(["report", str(LESSON), "-o", str(out)]) == 0
    assert out.read_text("utf-8") == pthparse.page(LESSON)
    assert capsys.readouterr().out.startswith(f"{out}   ")
    assert [f.name for f in tmp_path.iterdir()] == ["out.html"]
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(LESSON), "--no-stats", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    size = (tmp_path / "lesson.pth.html").stat().st_size
    assert told == {"schema": 1, "file": str(LESSON), "written": [{"path": "lesson.pth.html", "nbytes": size}]}
    assert (tmp_path / "lesson.pth.html").read_text("utf-8") == pthparse.page(LESSON, stats=False)


def test_report_of_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.pth"
    paths = [str(LESSON), str(ZOO / "state_dict.pth"), str(missing)]
    assert main(["report", *paths, "-o", str(tmp_path / "pages")]) == 2
    assert sorted(f.name for f in (tmp_path / "pages").iterdir()) == ["lesson.pth.html", "state_dict.pth.html"]
    assert "missing.pth" in capsys.readouterr().err


def test_report_of_two_sides(tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    other = str(ZOO / "state_dict.pth")
    assert main(["report", str(LESSON), "--diff", other, "-o", str(out)]) == 0
    assert out.read_text("utf-8") == pthparse.page(LESSON, other=other)


@pytest.mark.parametrize(
    "words", [["--figure", "tree"], ["--diff", "x", "--svg"], ["other", "--diff", "x"]], ids=" ".join
)
def test_what_does_not_go_together(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(LESSON), *words]) == 2
    assert "goes with" in capsys.readouterr().err


def test_what_is_read_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lesson.pth"
    shutil.copy(LESSON, path)
    assert main(["report", str(path), "-o", str(tmp_path / "." / "lesson.pth")]) == 2
    assert path.read_bytes() == LESSON.read_bytes() and "is what is read" in capsys.readouterr().err
    twin = tmp_path / "twin" / "lesson.pth"
    twin.parent.mkdir()
    shutil.copy(LESSON, twin)
    assert main(["report", str(path), str(twin), "-o", str(tmp_path / "pages")]) == 2
    assert "two reports" in capsys.readouterr().err


# ---- pictures ----

SVG = "{http://www.w3.org/2000/svg}"


def test_pictures_are_whole_svg(tmp_path: Path) -> None:
    made = pthparse.pictures(LESSON)
    assert list(made) == ["treemap", "tree", "histograms"] and made == pthparse.pictures(LESSON)
    drawn = {name: ElementTree.fromstring(data) for name, data in made.items()}
    words = {name: " ".join("".join(x.itertext()) for x in root.iter(f"{SVG}text")) for name, root in drawn.items()}
    assert "fc  " in words["treemap"] and "23,265 parameters" in words["treemap"]
    assert "self_attn" in words["tree"] and "6\u00d7" in words["tree"] and "[97 \u00d7 16]" in words["tree"]
    assert "layers.*.linear1.weight" in words["histograms"]
    assert len([*drawn["histograms"].iter(f"{SVG}path")]) >= 6 * 11
    for root in drawn.values():
        assert not [x for x in root.iter() if x.tag in (f"{SVG}script", f"{SVG}image", f"{SVG}a")]
        assert float(root.get("width", 0)) > 700 and float(root.get("height", 0)) > 100


def test_pictures_of_a_deep_model(tmp_path: Path) -> None:
    names = {f"model.layers.{i}.{x}.weight": [8, 8] for i in range(48) for x in ("attn.q", "attn.o", "mlp.up", "norm")}
    made = pthparse.pictures(floats(tmp_path / "m.pth", {"embed.weight": [50, 8], **names}))
    tree = ElementTree.fromstring(made["tree"])
    assert "48\u00d7" in " ".join("".join(x.itertext()) for x in tree.iter(f"{SVG}text"))
    assert float(tree.get("height", 0)) < 900
    labels = [x.text for x in ElementTree.fromstring(made["treemap"]).iter(f"{SVG}text")]
    assert sum(bool(re.match(r"(layers\.)?\d+( |$)", x or "")) for x in labels) == 48


def test_report_draws_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(LESSON), "--svg", "-o", str(tmp_path / "all")]) == 0
    assert sorted(f.name for f in (tmp_path / "all").iterdir()) == [
        f"lesson.pth-{x}.svg" for x in ("histograms", "tree", "treemap")
    ]
    one = tmp_path / "one.svg"
    assert main(["report", str(LESSON), "--svg", "--figure", "treemap", "-o", str(one)]) == 0
    assert one.read_bytes() == pthparse.pictures(LESSON, figures=("treemap",))["treemap"]


def test_png_and_pdf(tmp_path: Path) -> None:
    pytest.importorskip("cairosvg", reason="png and pdf pictures need cairosvg", exc_type=(ImportError, OSError))
    found = pthparse.pictures(LESSON, figures=("treemap",), to="png")["treemap"]
    assert found[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">2I", found[16:24]) == (2400, 1276)
    assert pthparse.pictures(LESSON, figures=("tree",), to="pdf")["tree"][:5] == b"%PDF-"
    with pytest.raises(ValueError, match="'svg', 'png' or 'pdf'"):
        pthparse.pictures(LESSON, to="gif")


def test_without_the_extra_it_says_what_to_install(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    assert main(["report", str(LESSON), "--png"]) == 2
    assert "pip install 'pthparse[pictures]'" in capsys.readouterr().err


def test_without_the_words_of_a_picture_templates_still_escape() -> None:
    """A filter that marks text as safe would let names through: there is none in the templates."""
    folder = Path(pthparse.__file__).parent / "pages" / "templates"
    for path in folder.glob("*"):
        assert not re.search(r"\|\s*safe|autoescape\s+false|Markup", path.read_text("utf-8")), path
