"""The tour: its numbers against the library's own, the opcodes against pickletools, both languages, every container."""

from __future__ import annotations

import io
import json
import math
import pickle
import pickletools
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pytest
from forge import directories, legacy, safetensors, tars, zips
from forge import pickles as p
from forge.hostile import CATALOGUE
from rich.cells import cell_len

import pthparse
from pthparse import _core
from pthparse.cli import main
from pthparse.report.explain import language
from pthparse.tour import LANGUAGES, PARTS, Tour, en, explain, sizes, tour_of, zh
from pthparse.tour.elements import FLOATS, bits_of, number
from pthparse.tour.opcodes import BYTES, LINES, LONGS, MOST_TEXT, NUMBERS, TEXTS, instructions
from pthparse.tour.words import Words

DATA = Path(__file__).parents[1] / "data"
LESSON = DATA / "lesson" / "lesson.pth"
ZOO = sorted((DATA / "zoo").glob("*/*.pth"))
NEW = DATA / "zoo" / "torch-2.13.0-py3.11"


def facts(tour: Tour, key: str) -> dict[str, Any]:
    return tour.sections[PARTS.index(key)].facts


def whole(tour: Tour) -> str:
    """All that it says, tables too."""
    cells = [
        block if isinstance(block, str) else "\n".join(" | ".join(row) for row in block.rows)
        for section in tour.sections
        for block in (section.title, *section.blocks)
    ]
    return "\n".join(cells)


def built(values: dict[str, np.ndarray[Any, Any]], cls: str = "FloatStorage", **how: Any) -> bytes:
    """A state dict of arrays."""
    records = {str(i): a.tobytes() for i, a in enumerate(values.values())}
    items = {
        name: p.tensor(p.storage(str(i), a.size, cls), list(a.shape), [s // a.itemsize for s in a.strides])
        for i, (name, a) in enumerate(values.items())
    }
    return zips.checkpoint(p.pickle(p.dict_of(items)), records, **how)


def tour_of_bytes(data: bytes, lang: str = "en") -> Tour:
    with pthparse.open(data) as ckpt:
        return tour_of(ckpt, lang)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = main(["explain", *words])
        except SystemExit as e:
            code = int(e.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


# ---- real files ----


@pytest.mark.parametrize("file", ZOO, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_its_numbers_are_those_of_the_library(file: Path) -> None:
    tours = [explain(file, lang) for lang in LANGUAGES]
    assert len({repr([s.facts for s in t.sections]) for t in tours}) == 1
    assert [s.applies for s in tours[0].sections] == [s.applies for s in tours[1].sections]
    assert [s.key for s in tours[0].sections] == list(PARTS)
    data = file.read_bytes()
    with pthparse.open(file) as ckpt:
        c = ckpt.capacity()
        size = facts(tours[0], "capacity")
        assert (size["parameters"], size["file_bytes"], size["tensor_bytes"]) == (
            c.parameters,
            len(data),
            c.tensor_bytes,
        )
        assert size["everything_else"] == len(data) - c.tensor_bytes - c.wasted
        assert sum(size["ledger"].values()) == len(data)
        for tour in tours:
            for n in (c.parameters, c.tensor_bytes, size["everything_else"], *size["ledger"].values()):
                assert not n or f"{n:,}" in whole(tour)
        for part in facts(tours[0], "container")["parts"]:
            assert data[part["begin"] : part["end"]][:8].hex(" ") == part["first_bytes"]
        check_tensor(facts(tours[0], "tensor"), ckpt, data)
        check_linear(facts(tours[0], "linear"), ckpt)
        check_embedding(facts(tours[0], "embedding"), ckpt)
        check_opcodes(facts(tours[0], "structure"), data)


def check_tensor(told: dict[str, Any], ckpt: pthparse.Checkpoint, data: bytes) -> None:
    if not told:
        assert not any(t.kind in ("dense", "quantized") and t.numel for t in ckpt.values())
        return
    t = ckpt.get(told["name"])
    for e in told["elements"]:
        raw = bytes.fromhex(e["bytes"])
        assert len(raw) == told["itemsize"]
        if e["offset"] is not None:
            assert data[e["offset"] :][: len(raw)] == raw
        if t is not None and told["dtype"] != "bool":
            assert float(t.numpy()[tuple(e["index"])]) == e["value"]


def check_linear(told: dict[str, Any], ckpt: pthparse.Checkpoint) -> None:
    if "y" not in told:
        return
    w = ckpt[told["weight"]].numpy().astype(np.float64)
    x = np.zeros(told["inputs"])
    x[: len(told["x"])] = told["x"]
    b = ckpt[told["bias"]].numpy()[0] if told["bias"] else 0.0
    assert (told["outputs"], told["inputs"]) == w.shape
    assert told["y"] == pytest.approx(float(w[0] @ x + b), rel=1e-12)


def check_embedding(told: dict[str, Any], ckpt: pthparse.Checkpoint) -> None:
    if told:
        t = ckpt[told["name"]]
        assert (told["vocabulary"], told["width"]) == t.shape and told["elements"] == t.numel
        assert np.array_equal(t.numpy()[:3, :4], np.array(told["rows"], np.float32))


def check_opcodes(told: dict[str, Any], data: bytes) -> None:
    if "listed" not in told:
        return
    judged = {at: opcode.name for opcode, _, at in pickletools.genops(data[told["offset"] :][: told["nbytes"]])}
    assert told["listed"] and told["opcodes"] == len(judged)
    assert all(judged[ours["offset"]] == ours["opcode"] for ours in told["listed"])
    assert [i["offset"] for i in told["listed"]] == sorted(i["offset"] for i in told["listed"])


def test_the_zoo_shows_every_part() -> None:
    """No check above passes by being left out of every file."""
    tours = [explain(f) for f in (NEW / "state_dict.pth", NEW / "whole_model.pth")]
    assert all(s.applies for tour in tours for s in tour.sections)
    assert facts(tours[1], "embedding")["output"] == {"name": "head.weight", "tied": True}


# ---- the lesson ----

GROUP = {
    "self_attn.in_proj_weight": 1536 * 512,
    "self_attn.in_proj_bias": 1536,
    "self_attn.out_proj.weight": 512 * 512,
    "self_attn.out_proj.bias": 512,
    "multihead_attn.in_proj_weight": 1536 * 512,
    "multihead_attn.in_proj_bias": 1536,
    "multihead_attn.out_proj.weight": 512 * 512,
    "multihead_attn.out_proj.bias": 512,
    "linear1.weight": 2048 * 512,
    "linear1.bias": 2048,
    "linear2.weight": 2048 * 512,
    "linear2.bias": 512,
    **{f"norm{i}.{leaf}": 512 for i in (1, 2, 3) for leaf in ("weight", "bias")},
}
SHAPES = {"embed.weight": (98631, 512), "fc.weight": (98631, 512)}


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lesson's state dict in its true size, of holes: it takes no room on the disk."""
    numels = {"embed.weight": 98631 * 512}
    numels |= {f"layers.{i}.{name}": n for i in range(6) for name, n in GROUP.items()}
    numels |= {"fc.weight": 98631 * 512, "fc.bias": 98631}
    path = tmp_path_factory.mktemp("lesson") / "model_weights.safetensors"
    header, at = {}, 0
    for name, n in numels.items():
        header[name] = {"dtype": "F32", "shape": list(SHAPES.get(name, (n,))), "data_offsets": [at, at + 4 * n]}
        at += 4 * n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (38_403 - 8 - len(text))  # as much as all that is no tensor takes in torch's own file
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return path


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_lessons_numbers(run: Any, lesson: Path, lang: str) -> None:
    code, out, err = run(str(lesson), "--lang", lang)
    assert (code, err) == (0, "")
    assert lesson.stat().st_size == 505_322_271
    text = re.sub(r"\s+", " ", out)
    for told in (
        "126,320,967",
        "505,283,868",
        "38,403",
        "98631 x 512 = 50,499,072",
        "39.97 %",
        "40.05 %",
        "25,283,868",
    ):
        assert told in text, told


def test_the_small_lesson(run: Any) -> None:
    code, out, _ = run(str(LESSON), "--lang", "en")
    with pthparse.open(LESSON) as ckpt:
        ledger = {e.kind: e.nbytes for e in ckpt.capacity().ledger()}
    assert (
        code == 0
        and "It has 23,265 parameters, all of type float32" in out
        and "23,265 x 4 = 93,060" in re.sub(r"\s+", " ", out)
        and "30,952 bytes" in out
    )
    for kind, n in ledger.items():
        assert not n or re.search(rf"^  {kind} +{n:,}  ", out, re.MULTILINE)
    assert "layers.0.linear1.weight is a matrix W" in out
    assert "rounding" not in facts(explain(LESSON), "capacity"), "it would explain less than the structure does"


# ---- the command ----


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("file", [LESSON, NEW / "whole_model.pth", NEW / "quantized.pth"], ids=lambda f: f.stem)
def test_no_line_is_wider_than_it_may_be(run: Any, file: Path, lang: str, width: int, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(file.parent)
    code, out, _ = run(file.name, "--lang", lang)
    lines = out.splitlines()
    assert code == 0 and "\x1b" not in out
    for line in lines[: lines.index(str(Words(lang)("outro")))]:
        assert cell_len(line) <= width, line
        assert line == line.rstrip()


def test_json_has_stable_keys(run: Any) -> None:
    code, out, _ = run(str(LESSON), "--json", "--lang", "zh")
    told = json.loads(out)
    assert code == 0 and list(told) == ["schema", "file", "lang", "title", "intro", "sections", "outro", "steps"]
    assert [s["part"] for s in told["sections"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    for s in told["sections"]:
        assert list(s) == ["part", "key", "title", "applies", "text", "tables", "facts"]
    other = json.loads(run(str(LESSON), "--json", "--lang", "en")[1])
    assert [s["facts"] for s in told["sections"]] == [s["facts"] for s in other["sections"]]
    assert told["steps"][0]["words"] == ["show", "FILE", "embed.weight[0, :4]"]


def test_one_part_alone(run: Any) -> None:
    _, out, _ = run(str(LESSON), "--part", "5", "--lang", "en")
    assert "\n5. The embedding: one row a token\n" in out and "1. The container" not in out and "Next:" not in out
    assert run(str(LESSON), "--part", "9")[0] == 2 and run(str(LESSON), "--lang", "fr")[0] == 2
    with pytest.raises(ValueError, match="part must be 1 to 8"):
        explain(LESSON, part=0)
    with pytest.raises(ValueError, match="lang must be one of en, zh"):
        explain(LESSON, lang="fr")


@pytest.mark.parametrize(
    ("said", "lang"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "zh_TW.UTF-8", "LANG": "C"}, "zh"),
        ({"LC_ALL": "", "LANG": "zh"}, "zh"),
        ({}, "en"),
    ],
)
def test_the_language_of_the_environment(run: Any, said: dict[str, str], lang: str, monkeypatch: Any) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert language() == lang
    assert str(Words(lang)("capacity.title")) in run(str(LESSON))[1]


def test_chinese_is_not_chosen_where_it_cannot_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    for encoding, lang in (("ascii", "en"), ("latin-1", "en"), ("gbk", "zh"), ("utf-8", "zh")):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert language() == lang


def test_a_terminal_that_knows_ascii_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, encoding="ascii"))
    assert main(["explain", str(LESSON), "--lang", "en"]) == 0
    assert b"23,265" in out.getvalue()


def test_on_a_terminal_heads_are_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["explain", str(LESSON), "--lang", "en", "--part", "8"]) == 0
    assert "\x1b[1m8. Why large models are in several files\x1b[0m\n" in out.getvalue()
    assert all(len(re.sub(r"\x1b\[\d*m", "", line)) <= 100 for line in out.getvalue().splitlines())


def test_info_points_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(LESSON)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"pthparse explain {LESSON}")


@pytest.mark.parametrize(
    "data", [b"", b"PK\3\4", b"version https://git-lfs", b"\x80\x02}q\x00", LESSON.read_bytes()[:5000]]
)
def test_a_broken_file_is_the_usual_error(run: Any, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(data)
    code, out, err = run(str(path))
    assert (code, out) == (2, "") and err.startswith(f"pthparse: {path}") and err.count("\n") == 1
    assert run(str(tmp_path / "none.pth"))[0] == 2


# ---- the opcodes ----

VALUES = [
    OrderedDict(a=1, b=[1.5, None, True, False, 2**40, -(2**70), 2**3000, 70_000, -1, 300]),
    {
        "text": "wörter 词元",
        "long": "x" * 5000,
        "bytes": b"\x00\xff",
        "more": b"y" * 300,
        "set": {1},
        "frozen": frozenset([2]),
    },
    [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), complex(1, 2), bytearray(b"abc"), range(3), "line\nbreak", [1] * 300],
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_opcodes_are_those_of_pickletools(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    ours, theirs = list(instructions(data, 1 << 20)), list(pickletools.genops(data))
    assert [(i.offset, i.name) for i in ours] == [(at, opcode.name) for opcode, _, at in theirs]
    assert ours[-1].name == "STOP" and sum(i.nbytes for i in ours) == len(data)
    for i, (opcode, argument, at) in zip(ours, theirs, strict=True):
        assert i.raw == data[at : at + i.nbytes][:MOST_TEXT]
        if i.name in ("GLOBAL", "INST"):
            assert i.argument == argument
        elif isinstance(argument, (int, float)) and not isinstance(i.argument, str):
            assert i.argument == argument or i.nbytes > MOST_TEXT
        elif opcode.arg is None:
            assert i.argument is None


def test_every_opcode_is_told_as_long_as_pickletools_says() -> None:
    by_name = {o.name: o for o in pickletools.opcodes}
    for name, _, _ in _core.OPCODES:
        told = any(name in table for table in (NUMBERS, TEXTS, BYTES, LONGS, LINES))
        assert told == (by_name[name].arg is not None), name


def test_the_first_tensor_is_listed_however_far_down_it_is() -> None:
    for file in (NEW / "whole_model.pth", NEW / "training.pth", NEW / "state_dict.proto4.pth", NEW / "state_dict.pth"):
        listed = facts(explain(file), "structure")["listed"]
        names = [i["opcode"] for i in listed]
        assert names[0] == "PROTO" and names[-1] == "REDUCE" and "BINPERSID" in names and len(listed) <= 80
        texts = [i["argument"] for i in listed]
        assert any(t in ("embed.weight", "weight") for t in texts), file
        assert "torch FloatStorage" in texts or "FloatStorage" in texts


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_listing_ends_before_what_is_not_whole(cut: int) -> None:
    data = pickle.dumps(["some text", 1 << 100], 2)
    found = list(instructions(data[:-cut], 100))
    assert [i.name for i in found] == [i.name for i in instructions(data, 100)][: len(found)]
    assert sum(i.nbytes for i in found) <= len(data) - cut


@pytest.mark.parametrize(
    "data",
    [b"X\xff\xff\xff\xff", b"T\xff\xff\xff\xff", b"\x8b\xff\xff\xff\xff", b"cno line", b"\xff", b"", b"J\0", b"I" * 9],
)
def test_lengths_that_lie(data: bytes) -> None:
    assert list(instructions(data, 100)) == []


def test_a_listing_is_bounded() -> None:
    assert len(list(instructions(b"(" * 1000, 48))) == 48
    (one,) = instructions(b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20), 1)
    assert len(one.raw) == len(one.argument) == MOST_TEXT and one.nbytes == 5 + (1 << 20)


# ---- bytes and numbers ----


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_float_in_its_parts(dtype: str) -> None:
    size = sum(FLOATS[dtype]) // 8 + 1
    rng = np.random.default_rng(3)
    for raw in [bytes(size), bytes([255]) * size, *(rng.bytes(size) for _ in range(300))]:
        value, bits = number(raw, dtype), bits_of(raw, dtype)
        assert (
            isinstance(value, float) and bits.bits.replace(" ", "") == f"{int.from_bytes(raw, 'little'):0{8 * size}b}"
        )
        if bits.kind == "nan":
            assert math.isnan(value)
        elif bits.kind == "infinite":
            assert math.isinf(value) and (value < 0) == bool(bits.sign)
        else:
            assert math.copysign(1, value) == (-1) ** bits.sign
            assert math.ldexp(bits.significand, bits.power) * (-1) ** bits.sign == value
        assert str(number(raw[::-1], dtype, big=True)) == str(value)


@pytest.mark.parametrize(
    ("cls", "dtype"),
    [
        ("DoubleStorage", "<f8"),
        ("HalfStorage", "<f2"),
        ("LongStorage", "<i8"),
        ("CharStorage", "i1"),
        ("BoolStorage", "?"),
    ],
)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_other_types(cls: str, dtype: str, lang: str) -> None:
    a = np.array([[1, 0, 3], [1, 2, 0]], dtype)
    tour = tour_of_bytes(built({"w": a}, cls), lang)
    assert [e["value"] for e in facts(tour, "tensor")["elements"]] == [float(v) for v in (*a[0], *a[1, :1], a[1, 2])]
    assert ("bits" in facts(tour, "tensor")) == (a.dtype.kind == "f")


def test_big_endian() -> None:
    entries = zips.members(p.pickle(p.dict_of({"w": p.vector("0", 3)})), {"0": struct.pack(">3f", 1.5, -2, 3)})
    for e in entries:
        if e.name.endswith("byteorder"):
            e.data = b"big"
    tour = tour_of_bytes(zips.build(entries))
    told = facts(tour, "tensor")
    assert [e["value"] for e in told["elements"]] == [1.5, -2, 3] and told["elements"][0]["bytes"] == "3f c0 00 00"
    assert told["bits"]["exponent"] == 127 and "big endian" in whole(tour)


def test_deflated() -> None:
    entries = zips.members(p.pickle(p.dict_of({"w": p.vector("0", 3)})), {"0": struct.pack("<3f", 1.5, -2, 3)})
    for e in entries:
        e.method = zips.DEFLATED
    tour = tour_of_bytes(zips.build(entries))
    told = facts(tour, "tensor")
    assert [(e["offset"], e["value"]) for e in told["elements"]] == [(None, 1.5), (None, -2), (None, 3)]
    assert "compressed" in whole(tour) and facts(tour, "structure")["offset"] is None


def test_a_view_begins_where_its_offset_says() -> None:
    root = p.dict_of({"v": p.tensor(p.storage("0", 6), [2, 2], [1, 2], offset=1)})
    data = zips.checkpoint(p.pickle(root), {"0": struct.pack("<6f", *range(6))})
    tour = tour_of_bytes(data)
    told = facts(tour, "tensor")
    assert f"begins 1 element later, at byte {told['file_offset'] + 4:,}." in whole(tour)
    assert [(e["index"], e["value"]) for e in told["elements"]] == [([0, 0], 1), ([0, 1], 3), ([1, 0], 2), ([1, 1], 4)]
    assert [e["offset"] - told["file_offset"] for e in told["elements"]] == [4, 12, 8, 16]


# ---- layers ----

W = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_a_linear_layer_is_told_by_its_bias() -> None:
    told = facts(tour_of_bytes(built({"a.weight": W, "a.bias": np.array([10, 0, 0], np.float32)})), "linear")
    assert (told["weight"], told["bias"], told["inputs"], told["outputs"]) == ("a.weight", "a.bias", 4, 3)
    assert told["y"] == 0 * 1 + 1 * 2 + 2 * -1 + 3 * 0.5 + 10


def test_whose_word_it_is_that_a_layer_is_one(monkeypatch: Any) -> None:
    with pthparse.open(NEW / "whole_model.pth") as ckpt:
        tree = hasattr(ckpt, "modules")
        assert facts(tour_of(ckpt), "linear")["basis"] == ("stated" if tree else "shape")
    with pthparse.open(built({"a.weight": W, "a.bias": np.ones(3, np.float32)})) as ckpt:
        assert facts(tour_of(ckpt), "linear")["basis"] == ("inferred" if hasattr(ckpt, "modules") else "shape")


def test_many_tensors_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = pthparse.Checkpoint.state_dict
    monkeypatch.setattr(pthparse.Checkpoint, "state_dict", lambda self: calls.append(1) or real(self))
    with pthparse.open(built({f"l{i}.{leaf}": W for i in range(200) for leaf in ("weight", "proj.weight")})) as ckpt:
        tour_of(ckpt)
    assert len(calls) < 10


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_linear_layer_without_a_bias_is_told_by_its_name(lang: str) -> None:
    tour = tour_of_bytes(built({"layers.0.q_proj.weight": W}), lang)
    told = facts(tour, "linear")
    assert (told["bias"], told["b"], told["parameters"], told["y"]) == (None, None, 12, 0 + 2 - 2 + 1.5)
    assert "b[0]" not in whole(tour)


@pytest.mark.parametrize(
    "values",
    [
        {"conv.weight": W.reshape(3, 4, 1, 1), "conv.bias": W[:, 0]},
        {"a.weight": W},
        {"a.weight": W, "a.bias": np.ones(5, np.float32)},
        {"norm.weight": W[0], "norm.bias": W[0]},
        # GPT-2's way round: of the square one nobody can say which it is
        {
            "c_attn.weight": W,
            "c_attn.bias": np.ones(4, np.float32),
            "c_proj.weight": W[:, :3].copy(),
            "c_proj.bias": W[:, 0].copy(),
        },
    ],
    ids=lambda v: ",".join(v),
)
def test_what_is_no_linear_layer(values: dict[str, np.ndarray[Any, Any]]) -> None:
    tour = tour_of_bytes(built({k: np.ascontiguousarray(v) for k, v in values.items()}))
    assert not tour.sections[3].applies and "There is no linear layer" in tour.sections[3].text


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["wte.weight", "wpe.weight"], "wte.weight"),
        (["model.embed_tokens.weight"], "model.embed_tokens.weight"),
        (
            ["embeddings.position_embeddings.weight", "embeddings.word_embeddings.weight"],
            "embeddings.word_embeddings.weight",
        ),
        (["pos_embed.weight"], None),
        (["token_type_embeddings.weight"], None),
        (["patch_embed.proj.weight"], None),
        (["fc.weight"], None),
    ],
)
def test_which_table_is_that_of_the_tokens(names: list[str], found: str | None) -> None:
    tour = tour_of_bytes(built({name: W for name in names}))
    assert facts(tour, "embedding").get("name") == found and tour.sections[4].applies == (found is not None)


def test_of_several_tables_the_longest_is_that_of_the_tokens() -> None:
    tables = {"lang_embed.weight": 2, "tok_embed.weight": 9, "word_embed.weight": 5}
    tour = tour_of_bytes(built({name: np.ones((rows, 3), np.float32) for name, rows in tables.items()}))
    assert facts(tour, "embedding")["name"] == "tok_embed.weight"


def test_numbers_that_are_none() -> None:
    tour = tour_of_bytes(built({"embed.weight": np.full((3, 4), np.nan, np.float32)}))
    assert "it is no number (NaN)" in whole(tour) and "[nan, nan, nan, nan]" in whole(tour)


def test_a_terminal_without_chinese_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert main(["explain", str(LESSON), "--lang", "zh"]) == 2
    assert "has no Chinese characters" in capsys.readouterr().err


# ---- every container ----


def sharded(folder: Path) -> Path:
    names = {}
    for i in range(3):
        file = f"model-{i + 1:05}-of-00003.bin"
        (folder / file).write_bytes(built({f"layers.{i}.weight": W + i, f"layers.{i}.bias": W[:, 0] + i}))
        names |= {f"layers.{i}.{leaf}": file for leaf in ("weight", "bias")}
    text = json.dumps({"metadata": {"total_size": 3 * (48 + 12)}, "weight_map": names})
    (folder / "model.bin.index.json").write_text(text)
    return folder


def distributed(folder: Path) -> Path:
    left, right = (directories.chunk(x.reshape(-1).tolist(), (3, 2)) for x in (W[:, :2], W[:, 2:]))
    where = directories.write(folder, {"__0_0.distcp": [left], "__1_0.distcp": [b"junk", right]})
    places = [directories.info(*where["__0_0.distcp"][0]), directories.info(*where["__1_0.distcp"][1])]
    cuts = [((0, 0), (3, 2)), ((0, 2), (3, 2))]
    keys = [directories.index("w", begin) for begin, _ in cuts]
    data = directories.metadata({"w": directories.tensor((3, 4), cuts)}, list(zip(keys, places, strict=True)))
    (folder / ".metadata").write_bytes(data)
    return folder


def deepspeed(folder: Path) -> Path:
    root = {"module": p.dict_of({"a.weight": p.vector("0", 12)}), "global_steps": p.integer(7)}
    model = zips.checkpoint(p.pickle(p.dict_of(root)), {"0": W.tobytes()})
    (folder / "mp_rank_00_model_states.pt").write_bytes(model)
    state = {"single_partition_of_fp32_groups": p.list_of([p.vector("0", 2)]), "partition_count": p.integer(1)}
    root = {"optimizer_state_dict": p.dict_of(state)}
    optimizer = zips.checkpoint(p.pickle(p.dict_of(root)), {"0": W.tobytes()[:8]})
    (folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(optimizer)
    return folder


def exported(folder: Path) -> Path:
    def numbers(*values: int) -> list[dict[str, int]]:
        return [{"as_int": n} for n in values]

    meta = {"dtype": 7, "sizes": numbers(3, 4), "strides": numbers(4, 1), "storage_offset": {"as_int": 0}}
    meta |= {"requires_grad": True, "layout": 7}
    weight = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": meta}
    graph = {"graph_module": {"signature": {"input_specs": [], "output_specs": []}}, "torch_version": "2.13.0"}
    members = {
        "m/archive_format": b"pt2",
        "m/models/model.json": json.dumps(graph).encode(),
        "m/data/weights/weight_0": W.tobytes(),
        "m/data/weights/model_weights_config.json": json.dumps({"config": {"w": weight}}).encode(),
        "m/.data/version": b"6",
        "m/byteorder": b"little",
        "m/data/sample_inputs/model.pt": b"PK",
    }
    return written(folder, zips.build([zips.Entry(name, data) for name, data in members.items()]))


def tar(folder: Path) -> Path:
    root = p.dict_of({"w": p.text("1") + p.BINPERSID})
    data = tars.archive(root, [tars.storage_record(101, W.tobytes())], [tars.tensor_record(1, 101, [3, 4], [4, 1])])
    return written(folder, data)


def old_stream(folder: Path) -> Path:
    return written(folder, legacy.stream(p.dict_of({"w": legacy.vector("k", 4)}), {"k": W.tobytes()[:16]}))


def bare(folder: Path) -> Path:
    return written(folder, p.pickle(p.dict_of({"epoch": p.integer(3)})))


def header(folder: Path) -> Path:
    return written(folder, safetensors.build({"w": safetensors.entry("F32", (3, 4), (0, 48))}, W.tobytes()))


def empty(folder: Path) -> Path:
    return written(folder, zips.checkpoint(p.pickle(p.dict_of({})), {}))


def vectors(folder: Path) -> Path:
    return written(folder, built({"norm.weight": W[0], "norm.bias": W[1]}))


def nothing(folder: Path) -> Path:
    return written(folder, built({"w": np.zeros((0, 4), np.float32)}))


def written(folder: Path, data: bytes) -> Path:
    path = folder / "file.pth"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(
    ("make", "form", "left_out"),
    [
        (sharded, "sharded", "embedding"),
        (distributed, "distributed", "linear embedding"),
        (deepspeed, "deepspeed", "linear embedding"),
        (exported, "pt2", "structure linear embedding"),
        (tar, "tar", "linear embedding"),
        (old_stream, "legacy", "linear embedding"),
        (bare, "pickle", "tensor linear embedding"),
        (header, "safetensors", "linear embedding"),
        (empty, "zip", "tensor linear embedding"),
        (vectors, "zip", "linear embedding"),
        (nothing, "zip", "tensor linear embedding"),
    ],
)
def test_every_container(
    run: Any, tmp_path: Path, make: Callable[[Path], Path], form: str, left_out: str, lang: str
) -> None:
    path = make(tmp_path)
    code, out, err = run(str(path), "--lang", lang)
    assert (code, err) == (0, "")
    tour = explain(path, lang)
    assert facts(tour, "container")["format"] == form and facts(tour, "container")["parts"]
    assert [s.key for s in tour.sections if not s.applies] == left_out.split()
    for section in tour.sections:
        assert section.text and str(section.title) in out
    told = facts(tour, "tensor")
    file = Path(told.get("file") or path)
    for e in told.get("elements", ()):
        assert file.read_bytes()[e["offset"] :][:4].hex(" ") == e["bytes"]
    for part in facts(tour, "container")["parts"]:
        looked = Path(facts(tour, "container")["file"]["path"]).read_bytes()
        assert looked[part["begin"] : part["end"]][:8].hex(" ") == part["first_bytes"]


def test_several_files_are_looked_into(tmp_path: Path) -> None:
    tour = explain(sharded(tmp_path))
    assert [f["tensors"] for f in facts(tour, "container")["files"]] == [2, 2, 2]
    assert facts(tour, "shards") == {
        "several": True,
        "nbytes": sum(f.stat().st_size for f in tmp_path.iterdir()),
        "files": 3,
        "one": {"name": "layers.0.weight", "nbytes": 48, "share": 48 / facts(tour, "capacity")["file_bytes"]},
    }
    assert "need not be merged" in whole(tour)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_files_that_are_missing(run: Any, tmp_path: Path, lang: str) -> None:
    sharded(tmp_path)
    files = sorted(tmp_path.glob("*.bin"))
    files[0].unlink()
    tour = explain(tmp_path, lang)
    assert facts(tour, "tensor")["file"] == str(files[1]) and facts(tour, "linear")["weight"] == "layers.1.weight"
    assert tour.sections[0].blocks[2].rows[0] == (files[0].name, "0", "0", str(Words(lang)("files.error")))
    for file in files[1:]:
        file.unlink()
    code, out, _ = run(str(tmp_path), "--lang", lang)
    assert code == 0 and str(Words(lang)("container.none")) in out and str(Words(lang)("structure.none")) in out


def test_a_chunk_is_followed_where_it_lies(tmp_path: Path) -> None:
    told = facts(explain(distributed(tmp_path)), "tensor")
    assert told["name"] == "w[0, 0]" and Path(told["file"]).name == "__0_0.distcp"
    assert [e["value"] for e in told["elements"]] == [0, 1, 4, 5, 9]


def test_layers_in_chunks(tmp_path: Path) -> None:
    pieces = [W[:2], W[2:], W[:2] + 1, W[2:] + 1, W[:, 0]]
    parts = [directories.chunk(x.reshape(-1).tolist(), x.shape) for x in pieces]
    where = directories.write(tmp_path, {"__0_0.distcp": parts[::2], "__1_0.distcp": parts[1::2]})
    places = [where["__0_0.distcp"][i // 2] if i % 2 == 0 else where["__1_0.distcp"][i // 2] for i in range(5)]
    cuts = [((0, 0), (2, 4)), ((2, 0), (1, 4))]
    names = ["embed.weight", "embed.weight", "fc.weight", "fc.weight", "fc.bias"]
    begins = [cuts[0][0], cuts[1][0], cuts[0][0], cuts[1][0], (0,)]
    keys = [directories.index(name, begin) for name, begin in zip(names, begins, strict=True)]
    items = {name: directories.tensor((3, 4), cuts) for name in names[:4]}
    items["fc.bias"] = directories.tensor((3,), [((0,), (3,))])
    rows = list(zip(keys, [directories.info(*place) for place in places], strict=True))
    (tmp_path / ".metadata").write_bytes(directories.metadata(items, rows))
    tour = explain(tmp_path)
    assert facts(tour, "embedding")["rows"] == W.tolist()
    assert facts(tour, "embedding")["output"]["name"] == "fc"
    assert facts(tour, "linear")["y"] == float((W + 1)[0] @ [1, 2, -1, 0.5])


def test_a_program_has_no_pickle(tmp_path: Path) -> None:
    tour = explain(exported(tmp_path))
    assert "There is no pickle in this file" in tour.sections[1].text and facts(tour, "structure") == {"inside": []}
    assert [r["what"] for r in facts(tour, "container")["parts"]][1:5] == ["member", "code", "storage", "config"]


def test_a_model_is_packed_as_writers_pack() -> None:
    values = {f"w{i}": np.zeros(n, np.float32) for i, n in enumerate((9000, 100, 100, 2000, 1100, 50))}
    told = facts(tour_of_bytes(built(values)), "shards")
    assert told["limit"] == 13_000
    assert told["files"] == [
        {"nbytes": 36_000, "tensors": 1},
        {"nbytes": 8_800, "tensors": 3},
        {"nbytes": 4_600, "tensors": 2},
    ]


# ---- what is not there ----


def test_what_a_training_checkpoint_has() -> None:
    told = facts(explain(NEW / "training.pth"), "absent")
    assert told["optimizer_tensors"] == 33 and told["optimizer_nbytes"] == 4332
    assert (told["code"], told["gradients"], told["values"]) == ("none", 0, ["epoch", "loss"])


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (NEW / "state_dict.pth", "none"),
        (NEW / "whole_model.pth", "classes"),
        (NEW / "torchscript.pth", "script"),
        (NEW.parent / "torch-1.1.0-py3.6" / "whole_model.pth", "source"),
    ],
    ids=lambda v: v if isinstance(v, str) else v.stem,
)
def test_whose_code_is_in_it(file: Path, code: str) -> None:
    assert facts(explain(file), "absent")["code"] == code


def test_gradients_are_seen_where_they_are() -> None:
    tour = tour_of_bytes(built({"w": W, "w.grad": W}))
    assert facts(tour, "absent")["gradients"] == 1 and "1 tensor with such a name" in whole(tour)


def test_shapes_of_many_dimensions_are_passed_by() -> None:
    tour = tour_of_bytes(built({"deep": np.zeros((1,) * 60, np.float32), "flat": np.ones(2, np.float32)}))
    assert facts(tour, "tensor")["name"] == "flat" and len(whole(tour)) < 12_000


# ---- hostile files ----

NAMES = {
    "escape": "\x1b[31mred\x07",
    "bidi": "a\u202eb\u2066c",
    "lines": "a\nb\rc\x85d\u2028e",
    "format": "{0.__class__}{name}{",
    "markup": "[bold]x[/bold][link=http://a]",
    "long": "n" * 100_000,
    "wide": "嵌入层" * 60,
    "empty": "",
    "quote": "it's; rm -rf $HOME",
}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("kind", NAMES)
def test_names_are_text(run: Any, tmp_path: Path, kind: str, lang: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    name = NAMES[kind]
    Path("m.pth").write_bytes(built({f"{name}.weight": W, f"{name}.bias": W[:, 0].copy(), f"{name}embed.weight": W}))
    code, out, _ = run("m.pth", "--lang", lang)
    assert code == 0 and all(c.isprintable() for line in out.split("\n") for c in line)
    lines = out.split("\n")
    assert all(cell_len(line) <= 80 for line in lines[: lines.index(str(Words(lang)("outro")))])
    assert len(out) < 30_000
    told = json.loads(run("m.pth", "--json", "--lang", lang)[1])
    assert told["sections"][2]["facts"]["name"] == f"{name}.weight"


@pytest.mark.parametrize("row", sorted({f.row for f in CATALOGUE} - {22}))  # bombs take seconds to be forged
def test_hostile_files_are_told_or_refused(row: int) -> None:
    for forged in (f for f in CATALOGUE if f.row == row):
        try:
            tour = tour_of_bytes(forged.build(), LANGUAGES[row % 2])
        except pthparse.PthError:
            continue
        text = whole(tour)
        assert all(c.isprintable() or c == "\n" for c in text), forged.name
        assert len(text) < 40_000, forged.name


# ---- texts ----


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_template_can_be_filled(lang: str) -> None:
    say = Words(lang)
    for key, template in say.texts.items():
        specs = [(name, spec) for _, name, spec, _ in Formatter().parse(template) if name is not None]
        values = {name: (1, 2) if spec == "#share" else 3 for name, spec in specs}
        assert say(key, **values) or key == "space"
        assert all(spec in ("", "d", "#size", "#share") or spec[1:] in say.nouns for _, spec in specs), key


def test_a_large_file_would_be_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "COMMON_LIMIT", 50_000)
    for lang in LANGUAGES:
        told = explain(LESSON, lang).sections[7].text
        assert str(Words(lang)("pieces.large", size=124_012, limit=50_000, n=3)) in told


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("table", ["TEXTS", "NOUNS", "OPCODES"])
def test_both_languages_say_the_same(table: str) -> None:
    ours, theirs = getattr(en, table), getattr(zh, table)
    assert list(ours) == list(theirs)
    for key in ours:
        texts = (ours[key], theirs[key]) if table != "NOUNS" else ("".join(ours[key]), "".join(theirs[key]))
        assert fields(texts[0]) == fields(texts[1]), key
        assert all(texts) or key == "space"


def test_every_opcode_has_words() -> None:
    assert set(en.OPCODES) == {name for name, _, _ in _core.OPCODES}


def test_every_ledger_kind_has_words() -> None:
    for kind in _core.LEDGER:
        assert f"ledger.{kind}" in en.TEXTS and f"ledger.{kind}.means" in en.TEXTS


def test_values_are_put_into_words() -> None:
    say = Words("en")
    assert say.vformat("{n:#tensor} {m:#tensor} {k} {d:d}", (), {"n": 1, "m": 1234, "k": 5678, "d": 5678}) == (
        "1 tensor 1,234 tensors 5,678 5678"
    )
    assert say.vformat("{s}", (), {"s": "a\x1b" + "b" * 100}) == "a\\x1b" + "b" * 13 + "..." + "b" * 19
    assert say.size(505_322_271) == "505,322,271 bytes (505.3 MB, 481.9 MiB)" and say.size(1) == "1 byte"
    assert Words("zh").size(1234) == "1,234 字节（1.2 kB，1.2 KiB）"
