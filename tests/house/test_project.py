"""The project as a whole: commands, pins and papers that must agree."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import pthparse
from pthparse.cli import main

ROOT = Path(__file__).parents[2]


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == pthparse.__version__
    needed = {re.split(r"[>=<]", d)[0] for d in project["dependencies"]}
    assert needed == {"blake3", "jinja2", "numpy", "ml_dtypes", "rich", "squarify", "zlib-ng"}


def test_torch_is_pinned() -> None:
    assert "torch==2.13.0" in (ROOT / "tests" / "requirements.txt").read_text().splitlines()


def test_ci_runs_the_readmes_command() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in script if line and not line.startswith(("#", "set ", "cd "))] == ["make test"]
    assert "make test" in (ROOT / "README.md").read_text()


def test_the_readme_shows_what_the_demo_prints(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["info", "tests/data/lesson/lesson.pth"]) == 0
    printed = [f"    {line}".rstrip() for line in capsys.readouterr().out.splitlines()]
    assert len(printed) > 8 and "\n".join(printed) in (ROOT / "README.md").read_text()


def test_no_unfinished_marks() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    for pattern in ("pthparse/**/*.py", "pthparse/*.pyx", "csrc/*.[ch]", "tests/**/*.py", "bench/*.py"):
        for path in ROOT.glob(pattern):
            if path != Path(__file__):
                assert not marks.search(path.read_text()), path


def test_files_of_the_build_are_not_committed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:  # an sdist has no history
        return
    for name in listed.stdout.splitlines():
        assert not name.endswith((".so", ".o", ".pyc", "_core.c")), name


def test_architecture_names_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [p.stem for p in (ROOT / "csrc").glob("*.h")]
    rooms += [p.stem for p in (ROOT / "pthparse").iterdir() if p.suffix == ".py" and not p.stem.startswith("__")]
    rooms += [p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and not p.name.startswith("__")]
    for room in rooms:
        assert re.search(rf"\b{room}\b", text), room
