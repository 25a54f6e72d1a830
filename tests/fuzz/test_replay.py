"""The fuzz targets without libFuzzer: the committed corpus, the seeds, and mutations of each that are always the same.

Then the core is spoilt on purpose: the targets must notice.
"""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from fuzz import build, seeds

COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]
FLAGS = ["-g1", "-O1", *build.sanitizers(COMPILER)]
TARGETS = seeds.TARGETS
# Changed inputs, in all: what a target does in some seconds.
MUTATIONS = {
    "pickle": 40_000,
    "tensor": 25_000,
    "zip": 40_000,
    "legacy": 25_000,
    "tar": 20_000,
    "file": 12_000,
    "safetensors": 40_000,
}


class Replay:
    """The programs, and what they are made of."""

    def __init__(self, folder: Path) -> None:
        helpers = [build.HERE / f"{name}.c" for name in ("check", "mutate", "replay")]
        self.folder = folder
        self.core = {f.name: o for f, o in self.objects(sorted(build.CSRC.glob("*.c")), "core")}
        self.helpers = [o for _, o in self.objects(helpers, "helpers")]
        self.targets = {f.stem: o for f, o in self.objects(build.TARGETS, "targets")}
        self.programs = {name: self.program(name, self.core, name) for name in self.targets}
        self.made = seeds.write(folder / "seeds")

    def objects(self, sources: list[Path], folder: str) -> list[tuple[Path, Path]]:
        return list(zip(sources, build.compile_all(COMPILER, FLAGS, sources, self.folder / folder), strict=True))

    def program(self, target: str, core: dict[str, Path], name: str) -> Path:
        return build.link(COMPILER, FLAGS, [self.targets[target], *self.helpers, *core.values()], self.folder / name)

    def start(self, target: str, files: list[Path], mutations: int, program: Path | None = None) -> Any:
        words = [program or self.programs[target], str(mutations), *files]
        env = {**os.environ, "ASAN_OPTIONS": build.BRIEF}
        return subprocess.Popen(list(map(str, words)), stdout=-1, stderr=-1, text=True, env=env)


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return Replay(tmp_path_factory.mktemp("fuzz"))


def counts(run: Any) -> list[int]:
    """(files, mutations, accepted, refused)."""
    out, err = run.communicate()
    assert run.returncode == 0, err[-3000:]
    return list(map(int, re.findall(r"\d+", out)))


def corpus(target: str) -> list[Path]:
    return sorted((build.HERE / "corpus" / target).iterdir())


def test_every_target_has_a_corpus() -> None:
    folders = sorted(f.name for f in (build.HERE / "corpus").iterdir())
    assert folders == TARGETS == sorted(MUTATIONS)
    files = [f for t in TARGETS for f in corpus(t)]
    assert len(files) >= 50 and sum(f.stat().st_size for f in files) < 300_000


def test_seeds(replay: Replay) -> None:
    """All is accepted that is sound."""
    for target, made in replay.made.items():
        unread = sum(f.name in seeds.UNREAD for f in made) if target == "file" else 0
        assert counts(replay.start(target, made, 0)) == [len(made), 0, len(made) - unread, unread], target


def test_corpus(replay: Replay) -> None:
    files, _, accepted, refused = map(sum, zip(*(counts(replay.start(t, corpus(t), 0)) for t in TARGETS), strict=True))
    assert files == sum(len(corpus(t)) for t in TARGETS) == accepted + refused
    assert accepted >= 20 and refused >= 20


def test_mutations(replay: Replay) -> None:
    inputs = {t: [*replay.made[t], *corpus(t)] for t in TARGETS}
    runs = {t: replay.start(t, inputs[t], -(-MUTATIONS[t] // len(inputs[t]))) for t in TARGETS}
    for target, run in runs.items():
        files, mutations, accepted, refused = counts(run)
        assert MUTATIONS[target] <= mutations == accepted + refused - files
        assert min(accepted, refused) > mutations // 50, target


# What a slip of the pen would make of the core, and the target that must see it.
SLIPS = [
    ("tensor", "tensor.c", "last >= elements", "last > elements"),
    ("tensor", "tensor.c", "size[i] < 0 || stride[i] < 0", "size[i] < 0"),
    ("tensor", "names.c", "more = !is_dropped(w, at);", "more = true;"),
    ("pickle", "pickle.c", "how == FILL_PAIRS && n % 2", "how == FILL_PAIRS && n > 99"),
    ("pickle", "pickle.c", "last->n += n;", ""),
    ("pickle", "graph.c", "c < 0xc2", "c < 0xc0"),
    ("zip", "zip.c", "if (e[owner].code == 0)", "if (e[owner].code == 1)"),
    ("zip", "zip.c", "capital >> 2", "capital >> 3"),
    ("legacy", "legacy.c", "pth_add(at, 8, &s->off)", "pth_add(at, 7, &s->off)"),
    ("tar", "tar.c", "end > root->len", "from > root->len"),
    ("safetensors", "safetensors.c", "bits / 8 != end - begin", "bits / 8 > end - begin"),
    ("safetensors", "safetensors.c", "value >= 0xd800 && value", "value >= 0xdc00 && value"),
    ("safetensors", "safetensors.c", "if (c < 0x20) return", "if (c < 0x01) return"),
    ("file", "names.c", "if (rc == 0) PTH_AT(pth_name", "PTH_AT(pth_name"),
]


@pytest.mark.parametrize(("target", "file", "right", "wrong"), SLIPS, ids=[f"{s[1]}: {s[2]}" for s in SLIPS])
def test_a_slip_is_seen(replay: Replay, target: str, file: str, right: str, wrong: str) -> None:
    text = (build.CSRC / file).read_text()
    assert text.count(right) == 1
    folder = replay.folder / "slip"
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(text.replace(right, wrong))
    (spoilt,) = build.compile_all(COMPILER, FLAGS, [folder / file], folder)
    program = replay.program(target, {**replay.core, file: spoilt}, "spoilt")
    run = replay.start(target, [*replay.made[target], *corpus(target)], 50, program)
    report = run.communicate()[1]
    assert run.returncode and ("broken promise" in report or "Sanitizer" in report)
