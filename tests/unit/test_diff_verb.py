"""`pthparse diff` and `pthparse hash`: what is printed, and the exit codes."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from forge import pickles as p
from forge import zips

from pthparse.cli import main

LESSON = str(Path(__file__).parents[1] / "data" / "lesson" / "lesson.pth")


@pytest.fixture
def forged(tmp_path: Path) -> Any:
    def make(name: str, _tensors: dict[str, tuple[float, ...]], **values: bytes) -> str:
        path = tmp_path / name
        rows = {n: p.vector(str(i), len(v)) for i, (n, v) in enumerate(_tensors.items())}
        data = {str(i): struct.pack(f"<{len(v)}f", *v) for i, v in enumerate(_tensors.values())}
        path.write_bytes(zips.checkpoint(p.pickle(p.dict_of({**rows, **values})), data))
        return str(path)

    return make


def test_the_same(run: Any) -> None:
    assert run("diff", LESSON, LESSON) == (0, "SAME  111 tensors identical\n", "")


def test_a_table(run: Any, forged: Any) -> None:
    a = forged("a.pth", {"w": (1, 2, 4), "x": (1,), "old\x1b[1m": (7, 8), "gone": (5,)}, epoch=p.integer(1))
    b = forged("b.pth", {"w": (1, 2, 5), "x": (1, 1), "new": (7, 8), "more\u202e": (6, 6)}, epoch=p.integer(2))
    code, out, err = run("diff", a, b)
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == (
        "DIFFERENT  0 tensors identical, 1 changed, 1 reshaped, 1 renamed, 1 removed, 1 added, 1 value not the same"
    )
    assert lines[1:3] == ["", "changed:"] and lines[3].split()[:3] == ["name", "elements", "differ"]
    assert lines[4].split()[:5] == ["w", "3", "1", "1", "0.3333"] and lines[4].split()[-1] == "[2]"
    assert lines[5:] == [
        "",
        "reshaped: x: float32 [1] -> float32 [2]",
        "renamed: old\\x1b[1m -> new",
        "removed: gone",
        "added: more\\u202e",
        "value: epoch: 1 -> 2",
    ]


def test_equal_nans_do_not_differ(run: Any, forged: Any) -> None:
    a, b = forged("a.pth", {"w": (1, math.nan, 3)}), forged("b.pth", {"w": (2, math.nan, 3)})
    assert run("diff", a, b)[1].splitlines()[4].split()[:3] == ["w", "3", "1"]


def test_options(run: Any, forged: Any) -> None:
    a = forged("a.pth", {"w": (1, math.nan)}, epoch=p.integer(1))
    b = forged("b.pth", {"module.w": (1.5, math.nan)}, epoch=p.integer(2))
    words = ("diff", a, b, "--strip-prefix", "module.", "--tensors-only")
    assert run(*words)[0] == 1 and run(*words, "--atol", "0.5")[0] == 0
    assert run(*words, "--atol", "0.5", "--nan-differs")[0] == 1
    _, out, _ = run(*words, "--atol", "0.5")
    assert out.splitlines()[0] == "SAME  0 tensors identical, 1 close" and "w | module.w" in out
    for wrong in ("-1", "inf", "nan", "x"):
        with pytest.raises(SystemExit) as e:
            main([*words, f"--rtol={wrong}"])
        assert e.value.code == 2


def test_many_lines_are_cut(run: Any, forged: Any) -> None:
    a = forged("a.pth", {f"w{i}": (float(i),) for i in range(50)})
    b = forged("b.pth", {f"w{i}": (float(i + 1),) for i in range(50)})
    assert "\nand 10 more\n" in run("diff", a, b)[1] and len(run("diff", a, b, "--all")[1].splitlines()) == 54


def test_json(run: Any, forged: Any) -> None:
    a, b = forged("a.pth", {"w": (1, math.inf)}), forged("b.pth", {"w": (2, 1)})
    code, out, _ = run("diff", a, b, "--json")
    document = json.loads(out)
    assert code == 1 and document["schema"] == 1 and document["same"] is False and document["a"] == a
    row = document["changed"][0]
    assert (row["max_abs"], row["infinite"], row["worst"], row["max_ulp"]) == (1.0, 1, [0], 0x800000)


def test_cannot_say(run: Any, forged: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 nothing")
    for other in (str(tmp_path / "broken.pth"), str(tmp_path / "missing.pth")):
        code, out, err = run("diff", LESSON, other)
        assert (code, out) == (2, "") and err.startswith("pthparse: ") and Path(other).name in err
    root = p.pickle(p.dict_of({"w": p.vector("9", 2)}))
    (tmp_path / "gone.pth").write_bytes(zips.checkpoint(root, {}))
    code, out, _ = run("diff", forged("a.pth", {"w": (1, 2)}), str(tmp_path / "gone.pth"))
    assert code == 2 and out.splitlines()[0] == "UNKNOWN  0 tensors identical, 1 not compared"
    with pytest.raises(SystemExit) as e:
        main(["diff", LESSON])
    assert e.value.code == 2


# ---- hash ----


def test_hash(run: Any, forged: Any) -> None:
    a = forged("a.pth", {"w\x1b": (1, 2), "x": (3,), "tied": (3,)})
    code, out, err = run("hash", a, "--all")
    lines = out.splitlines()
    assert (code, err) == (0, "") and lines[0].endswith(f"  {a}   3 tensors") and len(lines[0].split()[0]) == 64
    assert [line.split()[1] for line in lines[1:4]] == ["tied", "w\\x1b", "x"]
    assert lines[4].startswith("  equal: tied, x (")


def test_several_files(run: Any, forged: Any) -> None:
    a = forged("a.pth", {"w": (1, 2), "x": (3,)})
    b = forged("b.pth", {"x": (3,), "w": (1, 2)})
    c = forged("c.pth", {"w": (1, 2), "y": (3,)})
    code, out, _ = run("hash", a, b)
    assert code == 0 and out.splitlines()[-1] == "all are the same model"
    lines = run("hash", a, c)[1].splitlines()
    assert lines[2] == "  equal in all 2 files: w" and lines[3].startswith(f"  equal: {a}: x, {c}: y (")
    assert " equal: w in all 2 files (" in run("hash", a, c, "--all")[1]
    documents = json.loads(run("hash", a, c, "--json")[1])["files"]
    assert documents[0]["model"] != documents[1]["model"]
    assert documents[0]["tensors"][1]["hash"] == documents[1]["tensors"][1]["hash"]


def test_a_manifest(run: Any, forged: Any, tmp_path: Path) -> None:
    a = forged("a.pth", {"w": (1, 2), "x": (3,), "z": (1,)})
    b = forged("b.pth", {"w": (1, 3), "x": (3,), "y": (1,)})
    written = tmp_path / "m.manifest"
    assert run("hash", a, "-o", str(written))[0] == 0
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.pth", "b.pth", "m.manifest"]
    code, out, _ = run("hash", a, "--check", str(written))
    assert code == 0 and out.startswith(f"OK         {a}   3 tensors hashed\n  model ") and len(out.splitlines()) == 2
    code, out, _ = run("hash", b, "--check", str(written))
    assert code == 1
    assert out.startswith(f"DIFFERENT  {b}   3 tensors hashed\n  model ")
    assert out.splitlines()[2:] == ["  changed: w", "  missing: z", "  new: y"]
    check = json.loads(run("hash", b, "--check", str(written), "--json")[1])["check"]
    assert (check["ok"], check["changed"]) == (False, ["w"])


def test_what_is_no_manifest_cannot_be_said(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text('{"kind": "other"}')
    code, out, err = run("hash", LESSON, "--check", str(path))
    assert (code, out) == (2, "") and "no manifest" in err and str(path) in err
    assert run("hash", LESSON, "--check", str(tmp_path / "none"))[0] == 2
    assert run("hash", LESSON, LESSON, "--check", str(path))[0] == 2
    assert run("hash", str(path))[0] == 2
    code, _, error = run("hash", LESSON, "-o", str(tmp_path / "no" / "folder"))
    assert code == 2 and f"{tmp_path / 'no' / 'folder'}: No such file" in error  # and no temporary name


def test_a_model_that_cannot_be_read_whole(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "gone.pth"
    path.write_bytes(zips.checkpoint(p.pickle(p.dict_of({"w": p.vector("9", 2)})), {}))
    code, out, _ = run("hash", str(path))
    assert code == 2 and out.splitlines()[0].startswith("-" * 64) and "cannot be read: w" in out
    assert run("hash", str(path), "-o", str(tmp_path / "m"))[0] == 2
    assert run("hash", str(path), "--check", str(tmp_path / "m"))[0] == 2
