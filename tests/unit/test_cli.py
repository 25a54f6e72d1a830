"""The command: what it prints of real files, its exit codes, and that no byte of a file acts on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forge import pickles as p
from forge.zips import checkpoint

from pthparse.cli import main

DATA = Path(__file__).parents[1] / "data"
LESSON = str(DATA / "lesson" / "lesson.pth")
ZOO = DATA / "zoo" / "torch-2.13.0-py3.11"
TRAINING = str(ZOO / "training.pth")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = main(list(words))
        except SystemExit as e:
            code = int(e.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


# ---- info ----


def test_info(run: Any) -> None:
    code, out, err = run("info", LESSON)
    assert (code, err) == (0, "")
    assert out.splitlines()[:3] == [
        f"{LESSON}   124,012 B (124.0 kB, 121.1 KiB)",
        "zip checkpoint, torch 2.7 or later (inferred), pickle protocol 2",
        "23,265 parameters in 111 tensors   float32",
    ]
    assert "layers.0-5 (6x)      6x 18  6x 3,344  6x 13,376  64.72 %" in out
    assert "(not tensor data)                        30,952  24.96 %" in out
    assert out.splitlines()[-1] == "ledger: 124,012 B = 93,060 tensor data + 15,166 pickles + 15,786 container"
    assert run(LESSON)[1] == out


def test_info_of_a_training_checkpoint(run: Any) -> None:
    _, out, _ = run(TRAINING)
    assert "model: 667 parameters\n6,806 elements in 55 tensors   float32 x 51, uint8 x 1, int64 x 3" in out
    assert "values: epoch = 7, loss = 0.125\n" in out
    assert "shared, counted once: model/head.weight = model/embed.weight" in out


def test_info_json(run: Any) -> None:
    code, out, _ = run("info", "--json", LESSON)
    facts = json.loads(out)
    assert code == 0 and facts["schema"] == 1
    assert (facts["nbytes"], facts["tensors"], facts["parameters"]) == (124_012, 111, 23_265)
    assert sum(facts["ledger"].values()) == facts["nbytes"] and facts["ledger"]["data"] == 93_060
    assert facts["writer"] == {
        "inferred": True,
        "text": "torch 2.7 or later",
        "evidence": ["member .format_version: 2.7 or later"],
    }
    assert facts["groups"][0]["name"] == "layers.0-5" and facts["groups"][0]["copies"] == 6


def test_info_of_several_files(run: Any) -> None:
    _, out, _ = run("info", "--json", LESSON, TRAINING)
    assert [f["tensors"] for f in json.loads(out)["files"]] == [111, 55]
    assert run("info", LESSON, TRAINING)[1].count("(not tensor data)") == 2


@pytest.mark.parametrize("file", sorted(ZOO.glob("*.pth")), ids=lambda f: f.stem)
def test_info_counts_what_torch_counts(run: Any, file: Path) -> None:
    facts = json.loads(run("info", "--json", str(file))[1])
    entries = [e for e in json.loads(file.with_suffix(".json").read_text())["entries"] if e["kind"] == "tensor"]
    assert facts["tensors"] == len(entries) and facts["errors"] == 0
    assert facts["nbytes"] == file.stat().st_size
    assert sum(d["tensors"] for d in facts["dtypes"].values()) == len(entries)


def test_a_slice_drags_its_whole_storage_along(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    torch.save({"w": torch.zeros(1000, 1000)[:2]}, path)
    _, out, _ = run(str(path))
    rows = [line.split() for line in out.splitlines()]
    assert ["w", "1", "2,000", "8,000", "0.20", "%"] in rows
    assert any("seen by no tensor" in line and " 3,992,000 " in line for line in out.splitlines())


@pytest.mark.parametrize("file", sorted(DATA.glob("zoo/*/*.pth")), ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_the_ledger_adds_up(run: Any, file: Path) -> None:
    facts = json.loads(run("info", "--json", str(file))[1])
    assert sum(facts["ledger"].values()) == file.stat().st_size and min(facts["ledger"].values()) >= 0


def test_broken_tensors_are_listed(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(
        checkpoint(p.pickle(p.dict_of({"bad": p.vector("9", 4), "ok": p.vector("0", 4)})), {"0": bytes(16)})
    )
    code, out, _ = run(str(path))
    assert code == 0 and "1 tensor cannot be read:" in out and "tensor 'bad': the tensor's storage is not" in out


# ---- ls ----


def test_ls(run: Any) -> None:
    _, out, _ = run("ls", LESSON)
    lines = out.splitlines()
    assert lines[0].split() == ["name", "shape", "dtype", "bytes", "share"]
    assert lines[1].split("  ")[0] == "embed.weight" and len(lines) == 112
    assert "6,208  5.01 %" in lines[1]


def test_ls_pattern_sort_limit(run: Any) -> None:
    _, out, _ = run("ls", LESSON, "layers.*.bias", "--sort", "size", "--limit", "3")
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert names == [*(f"layers.{i}.linear1.bias" for i in range(3)), "(39"]  # more)
    assert run("ls", LESSON, "--limit", "-1")[0] == 2
    facts = json.loads(run("ls", LESSON, "--json", "--sort", "name")[1])
    assert facts["found"] == 111
    assert [t["name"] for t in facts["tensors"]] == sorted(t["name"] for t in facts["tensors"])
    assert facts["tensors"][0].keys() >= {"name", "shape", "dtype", "numel", "nbytes", "kind", "layout"}


def test_ls_csv(run: Any) -> None:
    out = run("ls", LESSON, "embed*", "--csv")[1]
    assert out == "name,shape,dtype,numel,nbytes,stored_nbytes\nembed.weight,97x16,float32,1552,6208,6208\n"


def test_ls_of_nothing(run: Any) -> None:
    code, out, err = run("ls", LESSON, "nothing*")
    assert code == 1 and len(out.splitlines()) == 1
    assert err == f"pthparse: {LESSON}: no tensor matches 'nothing*'\n"


# ---- show ----


def test_show_slice(run: Any) -> None:
    _, out, _ = run("show", LESSON, "embed.weight[0:2, ::8]")
    expected = torch.load(LESSON)["embed.weight"][0:2, ::8].numpy()
    assert np.array2string(expected, max_line_width=119) in out
    facts = json.loads(run("show", "--json", LESSON, "embed.weight[3, -1]")[1])
    assert facts["values"][""] == pytest.approx(torch.load(LESSON)["embed.weight"][3, -1].item())
    assert facts["storage"]["nbytes"] == 6208 and facts["stride"] == [16, 1]


@pytest.mark.parametrize("bad", ["embed.weight[x]", "embed.weight[1.5]", "embed.weight[0:1:2:3]", "embed.weight[999]"])
def test_show_bad_slice(run: Any, bad: str) -> None:
    code, out, err = run("show", LESSON, bad)
    assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith("pthparse: ")


def test_show_other_values(run: Any) -> None:
    assert "'betas': (0.9, 0.999)" in run("show", TRAINING, "optimizer/param_groups/0")[1]
    facts = json.loads(run("show", "--json", TRAINING, "optimizer/param_groups/0/lr")[1])
    assert (facts["type"], facts["value"]) == ("float", 0.001)
    assert "argparse.Namespace" in run("show", TRAINING, "args")[1]


@pytest.mark.parametrize("kind", ["quantized", "sparse", "bare_tensor", "tensors"])
def test_show_every_kind(run: Any, kind: str) -> None:
    listed = json.loads(run("ls", "--json", str(ZOO / f"{kind}.pth"))[1])["tensors"]
    for t in listed:
        code, out, err = run("show", str(ZOO / f"{kind}.pth"), t["name"])
        assert (code, err) == (0, "") and t["dtype"] in out
        assert run("show", "--json", str(ZOO / f"{kind}.pth"), t["name"])[0] == 0


def test_show_a_missing_name(run: Any) -> None:
    code, _, err = run("show", LESSON, "embed.weigth")
    assert code == 2 and err == f"pthparse: {LESSON}: no tensor or value 'embed.weigth'; near: 'embed.weight'\n"


# ---- errors, terminals, pipes ----


def test_errors_are_one_line(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 7\n")
    code, out, err = run("info", str(path))
    assert (code, out) == (2, "") and err.count("\n") == 1 and "git lfs pull" in err
    code, _, err = run("info", str(tmp_path / "none"))
    assert (code, err) == (2, f"pthparse: {tmp_path / 'none'}: No such file or directory\n")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "pthparse", "info", "--debug", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" in done.stderr and "empty-file" in done.stderr


@pytest.mark.parametrize("words", [[], ["info"], ["info", "--bad", LESSON], ["ls"], ["show", LESSON], ["--nope"]])
def test_bad_usage_is_2(run: Any, words: list[str]) -> None:
    code, out, err = run(*words)
    assert code == 2 and out == "" and err


@pytest.mark.parametrize("verb", ["info", "ls", "show"])
def test_help_has_an_example(run: Any, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0 and f"example: pthparse {verb} " in out and "exit codes: 0 fine" in out


def test_version(run: Any) -> None:
    assert run("--version")[1].startswith("pthparse 0.")


EVIL = "\x1b[31mred\x1b]0;title\x07[bold]x[/bold]\u202eabc\r\n"


@pytest.fixture
def evil(tmp_path: Path) -> str:
    path = tmp_path / "evil.pth"
    root = p.dict_of({EVIL: p.vector("0", 4), "note": p.text(EVIL)})
    path.write_bytes(checkpoint(p.pickle(root), {"0": bytes(16)}))
    return str(path)


def test_names_of_a_file_do_not_act_on_a_terminal(run: Any, evil: str) -> None:
    for words in (["info", evil], ["ls", evil], ["ls", "--csv", evil], ["show", evil, EVIL], ["show", evil, "note"]):
        code, out, err = run(*words)
        assert code == 0 and "\x1b" not in out + err and "\u202e" not in out + err and "\x07" not in out + err
    assert "[bold]x[/bold]" in run("ls", evil)[1]
    assert json.loads(run("ls", "--json", evil)[1])["tensors"][0]["name"] == EVIL


def on_terminal(*words: str, **env: str) -> str:
    """What a terminal of 100 columns gets."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pthparse", *words],
        stdout=follower,
        stdin=follower,
        env={**os.environ, "COLUMNS": "100", "TERM": "xterm-256color", **env},
    )
    os.close(follower)
    out = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        out += part
    os.close(leader)
    assert process.wait() == 0
    return out.decode()


def test_on_a_terminal(evil: str) -> None:
    drawn = on_terminal("ls", LESSON)
    assert "\x1b[1m" in drawn and "embed.weight" in drawn
    assert "\x1b" not in on_terminal("ls", LESSON, NO_COLOR="1").replace("\x1b[1m", "").replace("\x1b[0m", "")
    shown = on_terminal("ls", evil)
    assert "\x1b[31m" not in shown and "\x1b]0;" not in shown and "[bold]x[/bold]" in shown


def test_a_closed_pipe_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pthparse", "ls", LESSON], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0
    process.stderr.close()


def test_parts_without_tensors(run: Any, tmp_path: Path) -> None:
    out = io.BytesIO()
    torch.save({"epoch": 3, "lr": float("nan")}, out)
    path = tmp_path / "m.pth"
    path.write_bytes(out.getvalue())
    assert "values: epoch = 3, lr = nan" in run(str(path))[1]
    facts = json.loads(run("--json", str(path))[1])
    assert facts["metadata"] == {"epoch": 3, "lr": "nan"} and facts["tensors"] == 0
