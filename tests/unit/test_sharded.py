"""Models in several files: one mapping over all, each file opened when it is asked for; files that do not fit."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import pickles as p
from forge import zips

import pthparse
from pthparse import sharded, source
from pthparse.cli import main

INDEX = "pytorch_model.bin.index.json"
VALUES = {f"layers.{i}.w": [float(i), i + 0.5, -float(i), 4.0] for i in range(6)}
FILES = {f"pytorch_model-{i + 1:05}-of-00003.bin": [f"layers.{i}.w", f"layers.{i + 3}.w"] for i in range(3)}
TOTAL = 6 * 16


def n_open() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def shard(names: list[str], values: dict[str, list[float]] = VALUES) -> bytes:
    records = {str(i): struct.pack("<4f", *values[n]) for i, n in enumerate(names)}
    return zips.checkpoint(p.pickle(p.dict_of({n: p.vector(str(i), 4) for i, n in enumerate(names)})), records)


def weight_map() -> dict[str, str]:
    """In another order than that of the files."""
    of = {n: f for f, names in FILES.items() for n in names}
    return {n: of[n] for n in VALUES}


def write_index(folder: Path, weights: dict[str, Any], total: Any = TOTAL) -> Path:
    path = folder / INDEX
    path.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weights}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, names in FILES.items():
        (tmp_path / name).write_bytes(shard(names))
    write_index(tmp_path, weight_map())
    return tmp_path


def opened(model: Any) -> list[str]:
    """The files that have been read so far."""
    return sorted(model._layout.files[i] for i in model._read)


# ---- one mapping over all ----


@pytest.mark.parametrize("how", ["directory", "index", "text"])
def test_one_mapping_over_all(folder: Path, how: str) -> None:
    path = {"directory": folder, "index": folder / INDEX, "text": str(folder)}[how]
    with pthparse.open(path) as model:
        assert (model.format, model.findings, dict(model.errors)) == ("sharded", (), {})
        assert list(model) == list(VALUES)  # the order of the index
        assert {n: t.numpy().tolist() for n, t in model.items()} == VALUES
        assert [t.name for t in model.values()] == list(VALUES)
        size = sum((folder / f).stat().st_size for f in (*FILES, INDEX))
        assert model.nbytes == size
        assert dict(model.root_values) == dict(model.metadata) == {}  # the total is the index's own business
        assert isinstance(model, pthparse.Checkpoint)


def test_numbered_files_need_no_index(folder: Path) -> None:
    (folder / INDEX).unlink()
    by_file = [n for names in FILES.values() for n in names]
    for path, siblings in ((folder, False), (folder / next(iter(FILES)), True)):
        with pthparse.open(path, siblings=siblings) as model:
            assert list(model) == by_file  # the order of the files
            assert {n: t.numpy().tolist() for n, t in model.items()} == VALUES
            assert model.nbytes == sum((folder / f).stat().st_size for f in FILES)
    with pthparse.open(folder / next(iter(FILES))) as alone:  # without `siblings` it is the file that was named
        assert list(alone) == ["layers.0.w", "layers.3.w"]


def test_only_the_file_that_is_needed_is_opened(folder: Path) -> None:
    with pthparse.open(folder) as model:
        assert opened(model) == []
        assert model["layers.4.w"].numpy().tolist() == VALUES["layers.4.w"]
        assert opened(model) == ["pytorch_model-00002-of-00003.bin"]
        assert len(model) == 6 and len(opened(model)) == 3
        with pytest.raises(KeyError, match="near: 'layers\\.0\\.w'"):
            model["layers.0.x"]


def test_branches_and_groups(tmp_path: Path) -> None:
    names = ["model/a.w", "model/b.w"]
    body = p.dict_of({"model": p.dict_of({"a.w": p.vector("0", 4), "b.w": p.vector("1", 4)})})
    records = {"0": bytes(16), "1": struct.pack("<4f", 1, 2, 3, 4)}
    (tmp_path / "x-00001-of-00002.pt").write_bytes(zips.checkpoint(p.pickle(body), records))
    (tmp_path / "x-00002-of-00002.pt").write_bytes(shard(["layers.0.w"]))
    with pthparse.open(tmp_path) as model:
        assert list(model) == [*names, "layers.0.w"]
        branch = model.group("model")
        assert list(branch) == ["a.w", "b.w"] and branch["b.w"].numpy().tolist() == [1, 2, 3, 4]
        assert branch["b.w"].name == "b.w" and list(model.state_dict()) == ["a.w", "b.w"]


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "MOST_OPEN", 3)
    names = [f"layers.{i}.w" for i in range(20)]
    values = {n: [float(i)] * 4 for i, n in enumerate(names)}
    for i, n in enumerate(names):
        (tmp_path / f"m-{i + 1:05}-of-00020.bin").write_bytes(shard([n], values))
    before = n_open()
    with pthparse.open(tmp_path, mmap=False) as model:
        for _ in range(2):
            assert {n: t.numpy().tolist() for n, t in model.items()} == values
            assert n_open() <= before + 3
        kept = model["layers.7.w"]
        table = model.stats()
        assert [s.max for s in table] == [float(i) for i in range(20)] and not table.errors
        (tmp_path / "m-00008-of-00020.bin").write_bytes(shard(["layers.7.w"], {"layers.7.w": [9.0] * 4}) + b"x")
        with pytest.raises(pthparse.TruncatedError, match="another file than the one that was opened"):
            kept.numpy()
    assert n_open() == before


def test_a_closed_model_says_so(folder: Path) -> None:
    with pthparse.open(folder) as model:
        t = model["layers.0.w"]
        array = t.numpy()
    assert model.closed and array.tolist() == VALUES["layers.0.w"]
    for ask in (t.numpy, lambda: model["layers.1.w"], model.capacity, model.audit, model.verify, lambda: len(model)):
        with pytest.raises(pthparse.PthError, match="closed"):
            ask()


# ---- what the files and the index say differently ----


def codes(model: Any) -> list[tuple[str, str | None]]:
    return [(f.code, f.member) for f in model.findings]


def test_a_missing_file(folder: Path) -> None:
    gone = "pytorch_model-00002-of-00003.bin"
    (folder / gone).unlink()
    with pthparse.open(folder) as model:
        assert model["layers.0.w"].numpy().tolist() == VALUES["layers.0.w"]
        with pytest.raises(pthparse.TruncatedError, match="not there"):
            model["layers.1.w"]
        assert list(model) == ["layers.0.w", "layers.2.w", "layers.3.w", "layers.5.w"]
        assert {n: e.code for n, e in model.errors.items()} == {
            "layers.1.w": "shard-missing",
            "layers.4.w": "shard-missing",
        }
        assert codes(model) == [("shard-missing", gone)]
        with pytest.raises(pthparse.TruncatedError):
            model["layers.1.w"]  # known by now
        assert [s.error is None for s in model.shards] == [True, False, True]
        assert model.audit().verdict == "malformed"
        report = model.verify()
        assert (report.verdict, report.tensors, len(report.whole)) == ("damaged", 6, 4)
        assert [(t.name, t.code) for t in report.damaged] == [
            ("layers.1.w", "shard-missing"),
            ("layers.4.w", "shard-missing"),
        ]


def test_a_missing_number(folder: Path) -> None:
    (folder / INDEX).unlink()
    (folder / "pytorch_model-00003-of-00003.bin").unlink()
    with pthparse.open(folder) as model:
        assert codes(model) == [("shard-missing", "pytorch_model-00003-of-00003.bin")] and len(model) == 4
        assert "the numbers of the others" in model.findings[0].message  # no index says so
    one = folder / "one"
    one.mkdir()
    (one / "x-00001-of-00001.bin").write_bytes(shard(["layers.0.w"]))
    assert pthparse.open(one).writer.text.endswith("in 1 file")


@pytest.mark.parametrize("indexed", [True, False])
def test_what_is_missing_is_passed_over_by_nobody(
    folder: Path, indexed: bool, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of the index, or a file of which nobody knows the names: what is made of the rest is not the model."""
    gone, out = "pytorch_model-00003-of-00003.bin", tmp_path_factory.mktemp("out")
    if not indexed:
        (folder / INDEX).unlink()
    whole = pthparse.manifest(folder)
    kept = (folder / gone).read_bytes()
    (folder / gone).unlink()
    lost = ["layers.2.w", "layers.5.w"] if indexed else [gone]
    with pthparse.open(folder) as model:
        assert list(model.lost) == (lost if indexed else [])
        assert {n: e.code for n, e in model.stats().errors.items()} == dict.fromkeys(lost, "shard-missing")
        assert model.stats(["layers.0.w"]).errors == {}
    found = pthparse.manifest(folder)
    assert found.model is None and [(e.name, e.code) for e in found.errors] == [(n, "shard-missing") for n in lost]
    assert not found.check(whole).ok
    with pytest.raises(pthparse.UnsupportedError, match=f"{len(lost)} of {4 + len(lost)} tensors cannot.*{gone}"):
        pthparse.convert(folder, out / "x.safetensors")
    assert not [*out.iterdir()]
    told = pthparse.convert(folder, out / "x.safetensors", skip=True)
    assert told.tensors == 4 and [s.name for s in told.skipped] == lost and gone in told.skipped[0].reason
    if indexed:  # it is known that they are not among these
        assert pthparse.convert(folder, out / "y.safetensors", include="layers.[0134].w").tensors == 4
    same = pthparse.diff(folder, folder)
    assert not same.same and not same.differs and [e.name for e in same.errors] == lost
    assert main(["diff", str(folder), str(folder)]) == 2 == main(["hash", str(folder)])
    assert main(["stats", str(folder)]) == 1
    for verb in ("ls", "capacity", "plan", "tree"):
        capsys.readouterr()
        assert main([verb, str(folder), "--json"]) == 0
        shown = capsys.readouterr()
        assert f"not all of the model is there; without {', '.join(lost)} (" in shown.err and json.loads(shown.out)
    if indexed:
        assert main(["show", str(folder), lost[0]]) == 2
        (out / gone).write_bytes(kept)
        found_diff = pthparse.diff(folder, out / gone)
        assert found_diff.added == () and [e.name for e in found_diff.errors] == lost and len(found_diff.removed) == 4


def test_what_is_missing_of_one_branch_is_not_missed_in_another(tmp_path: Path) -> None:
    data = zips.checkpoint(p.pickle(p.dict_of({"model": p.dict_of({"a": p.vector("0", 1)})})), {"0": bytes(4)})
    (tmp_path / "m-1.bin").write_bytes(data)
    write_index(tmp_path, {"model/a": "m-1.bin", "model/b": "m-2.bin", "optimizer/a": "m-2.bin"})
    with pthparse.open(tmp_path) as model:
        branch = model.state_dict()
        assert list(branch) == ["a"] and list(branch.lost) == ["b"]
        assert branch.hash().model is None and list(branch.stats().errors) == ["b"]
        assert model.group("optimizer").lost.keys() == {"a"} and not model.group("x").lost


@pytest.mark.parametrize("inner", ["", "inner"])
def test_the_audit_of_a_folder_knows_files_by_their_numbers(folder: Path, inner: str) -> None:
    """Without an index it says of them what the audit of the model says; one that names others keeps these apart."""
    top = folder
    if inner:
        (folder / inner).mkdir()
        for name in (*FILES, INDEX):
            (folder / name).rename(folder / inner / name)
        folder = folder / inner
    before = f"{inner}/" if inner else ""
    assert [f.code for f in pthparse.audit(top).findings] == []  # the index was read, and is no strange file
    (folder / INDEX).unlink()
    assert pthparse.audit(top).verdict == "clean"
    last = "pytorch_model-00003-of-00003.bin"
    other = VALUES | {"layers.0.w": [7.0, 7.0, 7.0, 7.0]}
    (folder / last).write_bytes(shard(["layers.2.w", "layers.5.w", "layers.0.w"], other))
    with pthparse.open(folder) as model:
        own = [(f.code, before + (f.member or ""), f.message) for f in model.audit().findings]
    report = pthparse.audit(top)
    assert report.verdict == "malformed" and [(f.code, f.member, f.message) for f in report.findings] == own
    (folder / "pytorch_model-00001-of-00003.bin").unlink()
    report = pthparse.audit(top)
    assert [(f.code, f.member) for f in report.findings] == [
        ("shard-missing", f"{before}pytorch_model-00001-of-00003.bin")
    ]
    assert (
        report.verdict == "malformed" and "of the 3 that their numbers tell there are 2" in report.findings[0].message
    )


def test_a_tensor_that_is_not_where_the_index_says(folder: Path) -> None:
    weights = weight_map() | {"layers.9.w": "pytorch_model-00001-of-00003.bin"}
    write_index(folder, weights)
    with pthparse.open(folder) as model:
        with pytest.raises(pthparse.FormatError, match=r"layers\.9\.w' is in pytorch_model-00001-of-00003\.bin, which"):
            model["layers.9.w"]
        assert list(model) == list(VALUES) and "layers.9.w" not in model
        assert codes(model) == [("shard-tensor", "pytorch_model-00001-of-00003.bin")]
        assert model.errors["layers.9.w"].code == "shard-tensor"
        assert model.audit().verdict == "malformed" and model.verify().verdict == "damaged"


def test_a_tensor_that_the_index_does_not_name(folder: Path) -> None:
    weights = weight_map()
    del weights["layers.4.w"]
    write_index(folder, weights, TOTAL)
    with pthparse.open(folder) as model:
        assert codes(model) == [("shard-unlisted", "pytorch_model-00002-of-00003.bin")]
        assert list(model)[-1] == "layers.4.w" and model["layers.4.w"].numpy().tolist() == VALUES["layers.4.w"]
        assert model.audit().verdict == "review"


@pytest.mark.parametrize("alike", [True, False])
def test_a_tensor_in_two_files(folder: Path, alike: bool) -> None:
    values = VALUES | {"layers.0.w": VALUES["layers.0.w"] if alike else [7.0, 7.0, 7.0, 7.0]}
    (folder / "pytorch_model-00003-of-00003.bin").write_bytes(shard(["layers.2.w", "layers.5.w", "layers.0.w"], values))
    with pthparse.open(folder) as model:
        assert model["layers.0.w"].numpy().tolist() == VALUES["layers.0.w"]  # where the index says
        last = "pytorch_model-00003-of-00003.bin"
        assert codes(model) == [("shard-unlisted", last), ("shard-twice", last)]
        told = next(f.message for f in model.findings if f.code == "shard-twice")
        assert ("equal" if alike else "other elements") in told
        assert len(model) == 6 and model.audit().verdict == "malformed"


@pytest.mark.parametrize("total", [TOTAL + 1, -1, "96", True, 1e300, [96]])
def test_a_wrong_total(folder: Path, total: Any) -> None:
    write_index(folder, weight_map(), total)
    with pthparse.open(folder) as model:
        assert codes(model) == [("shard-size", INDEX)]
        assert model.audit().verdict == "review"


@pytest.mark.parametrize("total", [TOTAL, float(TOTAL), None])
def test_a_right_total_or_none(folder: Path, total: Any) -> None:
    write_index(folder, weight_map(), total)
    assert pthparse.open(folder).findings == ()


@pytest.mark.parametrize(
    "name", ["../x.bin", "/etc/passwd", "sub/b.bin", "a\\b", "C:x", "..", "", "a\0b", "http://x/y"]
)
def test_names_that_leave_the_directory(folder: Path, name: str) -> None:
    (folder.parent / "x.bin").write_bytes(shard(["layers.0.w"]))
    write_index(folder, weight_map() | {"layers.0.w": name})
    with pthparse.open(folder) as model:
        with pytest.raises(pthparse.PthError):
            model["layers.0.w"]
        assert ("shard-name", INDEX) in codes(model)
        assert list(model)[:5] == [n for n in VALUES if n != "layers.0.w"]  # its own file has it, unlisted
        assert model.audit().verdict == "malformed"


def test_links_that_leave_the_directory_are_not_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.bin"
    first = folder / "pytorch_model-00001-of-00003.bin"
    elsewhere.write_bytes(first.read_bytes())
    first.unlink()
    first.symlink_to(elsewhere)
    with pthparse.open(folder) as model:
        assert codes(model) == [("shard-link", first.name)]
        with pytest.raises(pthparse.PthError, match="not there, or may not be opened"):
            model["layers.0.w"]


@pytest.mark.parametrize("kind", ["fifo", "directory", "garbage", "cut"])
def test_a_file_that_cannot_be_read(folder: Path, kind: str) -> None:
    first = folder / "pytorch_model-00001-of-00003.bin"
    whole = first.read_bytes()
    first.unlink()
    if kind == "fifo":
        os.mkfifo(first)
    elif kind == "directory":
        first.mkdir()
    else:
        first.write_bytes(b"no checkpoint at all" if kind == "garbage" else whole[: len(whole) // 2])
    with pthparse.open(folder) as model:
        with pytest.raises(pthparse.PthError):
            model["layers.0.w"]
        assert list(model) == ["layers.1.w", "layers.2.w", "layers.4.w", "layers.5.w"]
        assert codes(model) == [("shard-unreadable", first.name)]
        assert model["layers.4.w"].numpy().tolist() == VALUES["layers.4.w"]
        assert model.capacity().elements == 16
        assert model.audit().verdict in ("malformed", "review")
        assert not model.verify().ok


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"weight_map": {"w": 5}}',
        '{"weight_map": []}',
        "[" * 100_000,
        '{"weight_map": ' + "9" * 100_000 + "}",
        "\xff",
        "",
    ],
)
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / INDEX
    path.write_bytes(text.encode("latin-1"))
    for what in (path, tmp_path):
        with pytest.raises(pthparse.PthError) as e:
            pthparse.open(what)
        assert e.value.code == "shard-index"
        assert pthparse.verify(what).verdict == "unknown"


def test_a_key_that_stands_twice_is_told(folder: Path) -> None:
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text.replace('"layers.0.w"', '"layers.1.w": "x.bin", "layers.0.w"', 1))
    assert ("shard-index", INDEX) in codes(pthparse.open(folder))


# ---- which model is meant ----


def test_which_model_of_a_directory(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(pthparse.UnsupportedError, match="no checkpoint in it"):
        pthparse.open(empty)
    (empty / "only.pth").write_bytes(shard(["layers.0.w"]))
    assert pthparse.open(empty).format == "zip"  # the one file there is
    (empty / "other.pth").write_bytes(shard(["layers.1.w"]))
    with pytest.raises(pthparse.UnsupportedError, match=r"several models \(only\.pth, other\.pth"):
        pthparse.open(empty)
    (folder / "pytorch_model.bin").write_bytes(shard(["layers.0.w"]))
    with pthparse.open(folder) as model:
        assert len(model) == 6
        assert [f.code for f in model.findings] == ["several-models"] and INDEX in model.findings[0].message


def test_siblings_need_a_number(folder: Path) -> None:
    (folder / "alone.bin").write_bytes(shard(["layers.0.w"]))
    with pytest.raises(pthparse.UnsupportedError, match="no number in its name"):
        pthparse.open(folder / "alone.bin", siblings=True)


# ---- what is asked of the whole ----


def test_statistics_are_those_of_one_file(folder: Path, tmp_path: Path) -> None:
    whole = pthparse.open(shard(list(VALUES)))
    done = []
    table = pthparse.open(folder).stats(histogram=True, progress=lambda a, b: done.append((a, b)))
    assert [s.to_dict() for s in table] == [s.to_dict() for s in whole.stats(histogram=True)]
    assert done[-1] == (TOTAL, TOTAL) and done == sorted(done)
    quantiles = pthparse.open(folder).stats(["layers.5.w", "layers.0.w"], quantiles=[0.5])
    assert [(s.name, s.quantiles) for s in quantiles] == [
        ("layers.5.w", ((0.5, 4.5),)),
        ("layers.0.w", ((0.5, 0.25),)),
    ]


def test_capacity_sums_to_all_files(folder: Path) -> None:
    whole = pthparse.open(shard(list(VALUES))).capacity()
    with pthparse.open(folder) as model:
        found = model.capacity()
        assert sum(e.nbytes for e in found.ledger()) == found.file_bytes == model.nbytes
        assert (found.parameters, found.elements, found.tensor_bytes) == (24, 24, TOTAL)
        mine = [(g.name, g.tensors, g.elements, g.nbytes) for g in found.groups("module")]
        assert mine == [(g.name, g.tensors, g.elements, g.nbytes) for g in whole.groups("module")]
        assert [(g.name, g.tensors, g.nbytes) for g in found.groups("shard")] == [(f, 2, 32) for f in FILES]
        assert [(s.name, s.tensors, s.tensor_nbytes) for s in model.shards] == [(f, 2, 32) for f in FILES]
        assert model.plan().parameters == 24
    with pytest.raises(ValueError, match="by must be"):
        whole.groups("shard")


def test_the_audit_and_the_verification_name_the_file(folder: Path) -> None:
    second = folder / "pytorch_model-00002-of-00003.bin"
    data = bytearray(second.read_bytes())
    at = data.index(struct.pack("<4f", *VALUES["layers.4.w"]))
    data[at] ^= 1
    second.write_bytes(data)
    assert pthparse.audit(folder).findings == ()  # the index as well is read
    with pthparse.open(folder) as model:
        report = model.verify()
        assert report.verdict == "damaged" and [t.name for t in report.damaged] == ["layers.4.w"]
        assert [m.name for m in report.members if m.status == "wrong"] == [f"{second.name}!archive/data/1"]
        assert pthparse.verify(folder / INDEX).damaged == report.damaged
    hostile = p.dict_of({"layers.2.w": p.vector("0", 4), "x": p.call(p.glob("os", "system"), p.text("touch MARKER"))})
    (folder / "pytorch_model-00003-of-00003.bin").write_bytes(zips.checkpoint(p.pickle(hostile), {"0": bytes(16)}))
    with pthparse.open(folder) as model:
        report = model.audit()
        assert report.verdict == "dangerous"
        found = [g.member for g in report.globals if g.status == "dangerous"]
        assert found == ["pytorch_model-00003-of-00003.bin!archive/data.pkl"]
        assert ("os", "system") in [(g.module, g.name) for g in model.globals]
        assert pthparse.audit(folder).verdict == "dangerous"


@pytest.mark.parametrize("verb", ["info", "ls", "stats", "capacity", "audit", "verify", "plan"])
def test_every_verb_takes_a_model_in_several_files(folder: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder, folder / INDEX):
        assert main([verb, str(path)]) == 0
        text = capsys.readouterr().out
        assert text
        assert main([verb, "--json", str(path)]) == 0
        document = json.loads(capsys.readouterr().out)
        if verb in ("info", "verify"):
            assert document["nbytes"] == sum((folder / f).stat().st_size for f in (*FILES, INDEX))


def test_tables_by_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("info", "ls", "capacity"):
        assert main([verb, "--shard", str(folder)]) == 0
        text = capsys.readouterr().out
        assert all(file in text for file in FILES)
    assert main(["capacity", "--by", "shard", str(folder)]) == 0
    text = capsys.readouterr().out
    assert all(file in text for file in FILES)
    assert main(["ls", "--csv", "--shard", str(folder)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].endswith(",file") and rows[1].endswith("pytorch_model-00001-of-00003.bin")
    assert main(["capacity", "--shard", str(folder / next(iter(FILES)))]) == 2
    (folder / next(iter(FILES))).unlink()
    assert main(["info", "--shard", str(folder)]) == 0
    assert "missing" in capsys.readouterr().out


def test_reads_are_thread_safe(folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with pthparse.open(folder, mmap=False) as model, ThreadPoolExecutor(8) as pool:
        names = list(VALUES) * 20
        assert list(pool.map(lambda n: model[n].numpy().tolist(), names)) == [VALUES[n] for n in names]


def test_a_file_is_opened_once_more_when_its_turn_is_over(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 10)
    handles = source.Handles(1)
    files = [source.OneOfMany(str(tmp_path / name), handles) for name in "abc"]
    assert [bytes(f.window(2, 3)) for f in files] == [b"aaa", b"bbb", b"ccc"]
    assert [f._fd >= 0 for f in files] == [False, False, True]
    assert bytes(files[0].fill(bytearray(4), 0, 4)) == b"aaaa" and np.frombuffer(files[1].view(), "u1")[0] == ord("b")
    fd = files[2].borrow()
    assert bytes(files[0].window(0, 1)) == b"a" and files[2]._fd == fd  # in use, so it stays open
    files[2].close()
    assert os.pread(fd, 2, 0) == b"cc" and len(handles.open) == 2
    files[2].restore(fd)
    assert files[2]._fd < 0
    for f in files:
        f.close()
        with pytest.raises(pthparse.PthError, match="closed"):
            f.window(0, 1)
    assert not handles.open
