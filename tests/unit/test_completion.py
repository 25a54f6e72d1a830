"""What shells complete: the scripts are sound, and bash is driven as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from forge import pickles as p
from forge import zips

import pthparse
from pthparse.cli import VERBS, main
from pthparse.report.completion import HOW, MOST, names, shortened

pytest.importorskip("argcomplete", reason="argcomplete is an extra: pip install 'pthparse[completion]'")
LESSON = Path(__file__).parents[1] / "data" / "lesson" / "lesson.pth"
EVIL = "a\x1b[31m"
# A word for each line that is typed: what bash then has to choose from.
ASK = """
eval "$(pthparse completion bash)"
COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
read -ra COMP_WORDS <<< "$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_python_argcomplete pthparse
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed")
    (folder / "bin").mkdir()
    command = folder / "bin" / "pthparse"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pthparse "$@"\n')
    command.chmod(0o755)
    shutil.copy(LESSON, folder / "lesson.pth")
    rows = {f"blocks.{i}.{kind}": p.vector("0", 4) for i in range(60) for kind in ("weight", "bias")}
    data = zips.checkpoint(p.pickle(p.dict_of({**rows, EVIL: p.vector("0", 4)})), {"0": bytes(16)})
    (folder / "many.pth").write_bytes(data)
    return folder


@pytest.fixture
def typed(folder: Path) -> Any:
    def ask(line: str) -> list[str]:
        if shutil.which("bash") is None:
            pytest.skip("no bash here")
        env = {
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(pthparse.__file__).parents[1]),
        }
        done = subprocess.run(
            ["bash", "--norc", "-c", ASK, "ask", line], cwd=folder, env=env, capture_output=True, text=True
        )
        assert done.stderr == ""
        return [word.rstrip() for word in done.stdout.splitlines() if word]

    return ask


@pytest.mark.parametrize("shell", HOW)
def test_the_script_is_one_of_its_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "pthparse" in script and "_ARGCOMPLETE" in script
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pthparse ", [*VERBS]),
        ("pthparse cap", ["capacity"]),
        ("pthparse ls --sh", ["--shard"]),
        ("pthparse ls --sort s", ["size", "shape"]),
        ("pthparse show le", ["lesson.pth"]),
        ("pthparse show lesson.pth emb", ["embed.weight"]),
        ("pthparse stats lesson.pth layers.5.norm3.", ["layers.5.norm3.weight", "layers.5.norm3.bias"]),
        ("pthparse show none.pth emb", []),
        ("pthparse completion ", [*HOW]),
    ],
)
def test_bash_completes(typed: Any, line: str, words: list[str]) -> None:
    assert typed(line) == words


def test_many_names_are_completed_part_by_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = Namespace(file=str(folder / "many.pth"))
    assert names("bl", file) == [f"blocks.{i}." for i in range(60)]
    assert names("blocks.7.", file) == ["blocks.7.weight", "blocks.7.bias"]
    assert names("a", file) == [], "what acts on a terminal is not offered"
    assert len(shortened([f"{i}.w" for i in range(5000)], 0)) == MOST
    assert shortened([f"{side}.{i}/w" for i in range(100) for side in "ab"], 0) == ["a.", "b."]
    assert shortened([f"{side}/{i}.w" for i in range(100) for side in "ab"], 0) == ["a/", "b/"]
    assert capsys.readouterr() == ("", "")


def test_nothing_is_fetched_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pthparse.checkpoint.open", None)
    assert names("a", Namespace(file="https://example.org/model.pth")) == []


def test_what_is_no_checkpoint_has_no_names(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04 nothing")
    assert names("", Namespace(file=str(tmp_path / "x.pth"))) == []


@pytest.mark.parametrize("words", [[], ["sh"], ["bash", "zsh"], ["x\x1b"]])
def test_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *words]) == 2
    out, err = capsys.readouterr()
    assert (
        out == "" and err.startswith("pthparse: completion: one of bash, zsh, fish is wanted, ") and "\x1b" not in err
    )


def test_help_says_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "--help"]) == main(["help", "completion"]) == 0
    assert capsys.readouterr().out.count('eval "$(pthparse completion bash)"  # in ~/.bashrc') == 2


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'pthparse[completion]'" in capsys.readouterr().err
