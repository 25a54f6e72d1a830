"""`pthparse tree`: what is printed, what is folded and left out, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from forge import models, zips
from forge import pickles as p

from pthparse.report.tree import MOST_BELOW

DATA = Path(__file__).parents[1] / "data"
LESSON = str(DATA / "lesson" / "lesson.pth")
WHOLE = str(DATA / "zoo" / "torch-1.0.1-py2.7" / "whole_model.pth")


def forged(tmp_path: Path, *names: str) -> str:
    path = tmp_path / "m.pth"
    root = p.pickle(p.dict_of({name: p.vector("0", 4) for name in names}), 4)
    path.write_bytes(zips.checkpoint(root, {"0": np.ones(4, np.float32).tobytes()}))
    return str(path)


LESSON_TREE = """\
decoder of torch.nn layers: 6 layers, width 16, feed-forward 32, vocabulary 97 (inferred)
23,265 parameters, 93,060 B (93.1 kB, 90.9 KiB) of tensor data

module              what it is                                      parameters      bytes  of file
embed               ~ Embedding(97, 16)                                  1,552      6,208   5.01 %
layers              ~ ModuleList(6 x TransformerDecoderLayer)           20,064     80,256  64.72 %
  0-5 (6x)          ~ TransformerDecoderLayer(16, feed-forward 32)    6x 3,344  6x 13,376  64.72 %
    self_attn       ~ MultiheadAttention(16)                             1,088      4,352   3.51 %
      out_proj      ~ Linear(16 -> 16)                                     272      1,088   0.88 %
    multihead_attn  ~ MultiheadAttention(16)                             1,088      4,352   3.51 %
      out_proj      ~ Linear(16 -> 16)                                     272      1,088   0.88 %
    linear1         ~ Linear(16 -> 32)                                     544      2,176   1.75 %
    dropout         ~ Dropout
    linear2         ~ Linear(32 -> 16)                                     528      2,112   1.70 %
    norm1           ~ LayerNorm(16)                                         32        128   0.10 %
    norm2           ~ LayerNorm(16)                                         32        128   0.10 %
    norm3           ~ LayerNorm(16)                                         32        128   0.10 %
    dropout1        ~ Dropout
    dropout2        ~ Dropout
    dropout3        ~ Dropout
fc                  ~ Linear(16 -> 97)                                   1,649      6,596   5.32 %
~ inferred from names and shapes
"""


def test_what_is_left_out_is_summed(run: Any, tmp_path: Path) -> None:
    names = [f"m{chr(97 + i // 26)}{chr(97 + i % 26)}.w" for i in range(MOST_BELOW + 7)]
    (tmp_path / "m.pth").write_bytes(models.zipped({name: [1.0, 2.0, 3.0, 4.0] for name in names}))
    rows = run("tree", str(tmp_path / "m.pth"))[1].splitlines()
    assert rows[-3].split()[:4] == ["(7", "more)", "28", "112"] and "7 modules left out" in rows[-2]


def test_the_lesson(run: Any) -> None:
    code, out, err = run("tree", LESSON)
    assert (code, err) == (0, "")
    assert out.split("\n", 1)[1] == LESSON_TREE


def test_depth(run: Any) -> None:
    _, out, _ = run("tree", LESSON, "--depth", "1")
    assert [line.split()[0] for line in out.splitlines()[5:-1]] == ["embed", "layers", "fc"]
    _, out, _ = run("tree", LESSON, "layers", "--depth", "1")
    assert "layers: ModuleList(6 x TransformerDecoderLayer)" in out and "0-5 (6x)" in out and "self_attn" not in out


def test_expanded(run: Any) -> None:
    _, out, _ = run("tree", LESSON, "layers", "--expand", "--depth", "1")
    assert [line.split()[0] for line in out.splitlines() if "feed-forward 32)" in line] == list("012345")


def test_one_module(run: Any) -> None:
    code, out, _ = run("tree", LESSON, "layers.0.self_attn")
    lines = out.splitlines()
    assert code == 0 and lines[1] == "layers.0.self_attn: MultiheadAttention(16)"
    assert lines[2] == "inferred: in_proj_weight of three square matrices, and out_proj"
    assert lines[3] == "configuration: embed_dim = 16"
    assert lines[5].split() == ["in_proj_weight", "parameter", "float32", "[48,", "16]", "3,072"]


def test_source_of_old_files(run: Any) -> None:
    _, out, _ = run("tree", WHOLE, "blocks.1")
    assert "class __main__.Block, stated by the file, in training mode" in out
    assert "source code of its class, as saved (14 lines; text, not run):\n  | class Block(nn.Module):\n" in out


def test_stated(run: Any) -> None:
    _, out, _ = run("tree", WHOLE)
    assert "up      Linear(in_features=8, out_features=12, bias=True)" in out and "~" not in out and "?" not in out


def test_json(run: Any) -> None:
    code, out, _ = run("tree", LESSON, "--json", "--depth", "1")
    document = json.loads(out)
    assert code == 0 and document["schema"] == 1 and document["family"]["facts"]["depth"] == 6
    root = document["module"]
    assert [m["name"] for m in root["children"]] == ["embed", "layers", "fc"] and root["params"] == 23265
    assert root["children"][1]["left_out"] == 6 and root["children"][0]["config"] == {
        "num_embeddings": 97, "embedding_dim": 16,
    }  # fmt: skip
    _, out, _ = run("tree", LESSON, "layers", "--json")
    (layer,) = json.loads(out)["module"]["children"]
    assert (layer["name"], layer["label"], layer["copies"], layer["params"]) == ("layers.0", "0-5", 6, 3344)
    _, out, _ = run("tree", LESSON, "layers", "--json", "--expand")
    assert [m["label"] for m in json.loads(out)["module"]["children"]] == list("012345")
    _, out, _ = run("tree", LESSON, "layers.0", "--json")
    layer = json.loads(out)["module"]
    assert layer["kind"] == "TransformerDecoderLayer" and layer["children"][0]["parameters"] == [
        "layers.0.self_attn.in_proj_weight", "layers.0.self_attn.in_proj_bias",
    ]  # fmt: skip


def test_no_such_module(run: Any) -> None:
    code, out, err = run("tree", LESSON, "layers.9")
    assert (code, out) == (2, "") and "no module 'layers.9'; near: 'layers.5'" in err
    code, _, err = run("tree", LESSON, "\x1b[2J")
    assert code == 2 and "\x1b" not in err


def test_names_are_escaped(run: Any, tmp_path: Path) -> None:
    _, out, _ = run("tree", forged(tmp_path, "\x1b[2J.w", "\u202ex.w", "[bold].w", "n\nm.w"))
    assert "\x1b" not in out and "\u202e" not in out
    for told in ("\\x1b[2J", "\\u202ex", "[bold]", "n\\nm"):
        assert told in out


def test_much_is_left_out_and_said(run: Any, tmp_path: Path) -> None:
    file = forged(tmp_path, *(f"a{i}.w{i}" for i in range(100)))
    _, out, _ = run("tree", file)
    assert len([line for line in out.splitlines() if line.startswith("a")]) == 60 and "(40 more)" in out
    assert "40 modules left out, with all below: --expand shows them" in out
    _, out, _ = run("tree", file, "--expand")
    assert len([line for line in out.splitlines() if line.startswith("a")]) == 100 and "left out" not in out


def test_rows_in_all_are_limited(run: Any, tmp_path: Path) -> None:
    file = forged(tmp_path, *(f"a{i}.b{j}.w{i}" for i in range(40) for j in range(40)))
    _, out, _ = run("tree", file)
    assert 500 <= len(out.splitlines()) < 560 and "left out, with all below" in out


def test_a_name_of_any_length(run: Any, tmp_path: Path) -> None:
    _, out, _ = run("tree", forged(tmp_path, "n" * 100_000 + ".w"))
    assert max(map(len, out.splitlines())) < 400


def test_one_tensor(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("tree", forged(tmp_path, "weight"))
    assert code == 0 and out.splitlines()[-1].startswith("4 parameters, 16 B of tensor data")


def test_info_names_the_family(run: Any) -> None:
    _, out, _ = run("info", LESSON)
    told = "feed-forward 32, vocabulary 97 (inferred from layers.#.self_attn.in_proj_weight and 2 more names)"
    assert told in out


def test_an_optimizer_has_no_parameters(run: Any) -> None:
    _, out, _ = run("tree", str(DATA / "zoo" / "torch-1.6.0-py3.7" / "training.pth"))
    assert "\n6,771 elements, 11,928 B" in out and "  elements " in out and "parameters" not in out
