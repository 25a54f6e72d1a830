"""Models in several files that are hostile: in one file of them, in their index, in their names, in what lies there.

A file is the same attack by itself and as a part of a model; nothing that stands beside it is spoilt by it.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from forge import directories as d
from forge import pickles as p
from forge import zips
from forge.hostile import CATALOGUE, Forged

import pthparse
from pthparse import shards
from pthparse.auditor import VERDICTS
from pthparse.cli import main

VALUES = [1.0, 2.0, 3.0, 4.0]
GOOD = zips.checkpoint(p.pickle(p.dict_of({"good": p.vector("0", 4)})), {"0": struct.pack("<4f", *VALUES)})
INDEX = "pytorch_model.bin.index.json"
# Tensors, other containers, output; but for those that try the limits of time, one by one in test_audit.py.
FORGED = [f for f in CATALOGUE if 61 <= f.row <= 80 and "300,000" not in f.name]
# Control characters, those that turn the direction of writing or have no width, and halves of pairs.
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def by_index(folder: Path, data: bytes) -> str:
    (folder / "a.bin").write_bytes(GOOD)
    (folder / "b.bin").write_bytes(data)
    weights = {"good": "a.bin", "w": "b.bin"}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 16}, "weight_map": weights}))
    return "good"


def by_number(folder: Path, data: bytes) -> str:
    (folder / "m-00001-of-00002.bin").write_bytes(GOOD)
    (folder / "m-00002-of-00002.bin").write_bytes(data)
    return "good"


def by_zero(folder: Path, data: bytes) -> str:
    (folder / "mp_rank_00_model_states.pt").write_bytes(GOOD)
    (folder / "mp_rank_01_model_states.pt").write_bytes(data)
    return "mp_rank_00_model_states/good"


def by_metadata(folder: Path, data: bytes) -> str:
    d.write(folder, {"__0_0.distcp": [d.chunk(VALUES, (4,))], "__1_0.distcp": [data]})
    size = (folder / "__0_0.distcp").stat().st_size
    places = [(d.index("good", (0,)), d.info("__0_0.distcp", 0, size))]
    places += [(d.index("w", (0,)), d.info("__1_0.distcp", 0, len(data)))]
    whole = d.tensor((4,), [((0,), (4,))])
    (folder / ".metadata").write_bytes(d.metadata({"good": whole, "w": whole}, places))
    return "good"


def far(folder: Path, data: bytes) -> str:
    return by_index(folder, data)


KINDS: dict[str, Callable[[Path, bytes], str]] = {
    "an index": by_index,
    "numbers": by_number,
    "ZeRO": by_zero,
    "distributed": by_metadata,
    "far away": far,
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Where a directory of a kind is opened: the same path, or its copy far away."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: URLs are not tested")
    fs = fsspec.filesystem("memory")

    def found(kind: str) -> Any:
        if kind != "far away":
            return tmp_path
        fs.store.clear()
        for file in tmp_path.iterdir():
            fs.pipe(f"/hostile/{file.name}", file.read_bytes())
        return "memory://hostile"

    yield found
    fs.store.clear()


def ask_everything(model: Any) -> None:
    """Nothing but the library's own errors, whatever is asked."""
    asks: list[Callable[[], Any]] = [
        lambda: list(model), lambda: dict(model.errors), lambda: model.findings, lambda: model.shards,
        lambda: model.stats(histogram=True), lambda: model.hash(), lambda: dict(model.metadata), lambda: model.globals,
        lambda: model.capacity().ledger(), lambda: model.plan(), lambda: model.root, lambda: model.members,
    ]  # fmt: skip
    asks += [t.numpy for t in model.values()]
    for ask in asks:
        try:
            ask()
        except pthparse.PthError as e:
            assert e.code
            str(e)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_is_as_hostile_in_a_model(kind: str, tmp_path: Path, place: Any) -> None:
    for forged in FORGED:
        check(forged, kind, tmp_path, place)
    assert len(FORGED) > 120
    assert not [*Path.cwd().glob("MARKER")]


@cache
def by_itself(forged: Forged) -> tuple[bytes, str, bool]:
    """The file, its verdict, and whether it is what was written."""
    data = forged.build()
    return data, pthparse.audit(data).verdict, pthparse.verify(data).ok


def check(forged: Forged, kind: str, folder: Path, place: Any) -> None:
    data, alone, sound = by_itself(forged)
    name = KINDS[kind](folder, data)
    path = place(kind)
    report = pthparse.audit(path)
    assert VERDICTS.index(report.verdict) >= VERDICTS.index(alone), forged.name
    if forged.verdict != "clean":
        assert report.verdict != "clean", forged.name
    found = {(g.module, g.name, g.status) for g in report.globals}
    assert forged.globals <= found, forged.name
    with pthparse.open(path) as model:
        ask_everything(model)
        assert model[name].numpy().tolist() == VALUES, forged.name
        assert sum(e.nbytes for e in model.capacity().ledger()) == model.nbytes, forged.name
        verified = model.verify()
        assert name in verified.whole, forged.name
        if not sound:
            assert not verified.ok, forged.name
        assert VERDICTS.index(model.audit().verdict) >= VERDICTS.index(alone), forged.name


# ---- 76, 77: what lies where a file should be ----

PARTS = {
    "an index": [INDEX, "b.bin"],
    "numbers": ["m-00002-of-00002.bin"],
    "ZeRO": ["mp_rank_01_model_states.pt"],
    "distributed": [".metadata", "__1_0.distcp"],
}
ROWS = [(kind, part) for kind, parts in PARTS.items() for part in parts]


def fifo(path: Path, away: Path) -> None:
    os.mkfifo(path)


def directory(path: Path, away: Path) -> None:
    path.mkdir()


def link_out(path: Path, away: Path) -> None:
    path.symlink_to(away)


def relative_link(path: Path, away: Path) -> None:
    path.symlink_to(os.path.relpath(away, path.parent))


def device(path: Path, away: Path) -> None:
    path.symlink_to("/dev/zero")


def process(path: Path, away: Path) -> None:
    path.symlink_to("/proc/self/environ")


def circle(path: Path, away: Path) -> None:
    path.symlink_to(path.name)


def link_to_fifo(path: Path, away: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


def over_a_link(path: Path, away: Path) -> None:
    """Through a folder that is a link itself."""
    (path.parent / "sub").symlink_to(away.parent)
    path.symlink_to(f"sub/{away.name}")


def dangling(path: Path, away: Path) -> None:
    path.symlink_to("nothing")


def empty(path: Path, away: Path) -> None:
    path.write_bytes(b"")


OBSTACLES = [
    fifo, directory, link_out, relative_link, device, process, circle, link_to_fifo, over_a_link, dangling, empty,
]  # fmt: skip


@pytest.mark.parametrize(("kind", "part"), ROWS)
@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda f: f.__name__)
def test_what_is_no_file_of_the_model_is_not_read(
    kind: str, part: str, obstacle: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    folder, away = tmp_path / "model", tmp_path / "away" / "x"
    folder.mkdir()
    away.parent.mkdir()
    name = KINDS[kind](folder, GOOD)
    (folder / part).rename(away)  # a good one, but for where it lies
    obstacle(folder / part, away)
    if obstacle is not directory or kind == "distributed" or part == "b.bin":  # others are directories, and no more
        assert pthparse.audit(folder).verdict != "clean"
    try:
        assert pthparse.verify(folder).verdict != "ok"
        with pthparse.open(folder) as model:
            assert part not in (INDEX, ".metadata")
            assert model[name].numpy().tolist() == VALUES
            assert [n for n in model if "rank_01" in n or n == "w"] == [] or kind == "distributed"
            assert kind != "distributed" or isinstance(model.errors["w"], pthparse.PthError)
            ask_everything(model)
            assert not model.verify().ok and model.audit().verdict != "clean"
    except (pthparse.PthError, OSError) as e:
        assert part in (INDEX, ".metadata")
        assert isinstance(e, pthparse.PthError) or obstacle in (circle, dangling)


@pytest.mark.parametrize("obstacle", [fifo, directory, link_out, device, circle, dangling, empty])
def test_what_latest_may_not_be(obstacle: Callable[[Path, Path], None], tmp_path: Path) -> None:
    """It names the directory of a ZeRO model; neither it nor that leads away."""
    top, away = tmp_path / "model", tmp_path / "away"
    (top / "step").mkdir(parents=True)
    away.mkdir()
    by_zero(away, GOOD)
    (away / "latest").write_text("step")
    obstacle(top / "latest", away / "latest")
    by_zero(top / "step", GOOD)
    with pytest.raises(pthparse.UnsupportedError, match="no checkpoint in it"):
        pthparse.open(top)
    (top / "latest").rmdir() if obstacle is directory else (top / "latest").unlink()
    (top / "latest").write_text("out")
    (top / "out").symlink_to(away)
    with pytest.raises(pthparse.UnsupportedError, match="no checkpoint in it"):
        pthparse.open(top)
    (top / "latest").write_text("step")
    with pthparse.open(top) as model:
        assert model.format == "deepspeed" and len(model) == 2


# ---- 76: the index ----


def index_with(more: str) -> str:
    return '{"weight_map": {"good": "a.bin", "w": "b.bin"}, "metadata": ' + more + "}"


@pytest.mark.parametrize(
    ("text", "words"),
    {
        index_with("[" * 90_000 + "]" * 90_000): "recursion",
        index_with("[" + "[]," * 200_000 + "[]]"): "more lists, objects or names",
        index_with("[" + "1.5," * 1_100_000 + "1]"): "more lists, objects or names",
        json.dumps({"weight_map": {str(i): f"{i}.bin" for i in range(100_001)}}): "100,001 files; 99,999 are allowed",
        index_with("1" + "0" * 5000): "integer string conversion",
        '{"weight_map": {"w": null}}': "no text",
        '{"weight_map": {"w": ["a.bin"]}}': "no text",
        '{"weight_map": "a.bin"}': "no weight_map",
        '{"metadata": {}}': "weight_map",
        "null": "no weight_map",
        '"weight_map"': "no weight_map",
        "NaN": "no weight_map",
        "\ufeff{}": "weight_map",
    }.items(),
    ids=range(13),
)
def test_an_index_that_is_none_or_asks_for_much(tmp_path: Path, text: str, words: str, place: Any) -> None:
    by_index(tmp_path, GOOD)
    (tmp_path / INDEX).write_text(text)
    for path in (tmp_path, tmp_path / INDEX, f"{place('far away')}/{INDEX}"):
        with pytest.raises(pthparse.PthError, match=words) as e:
            pthparse.open(path)
        assert e.value.code == "shard-index"
    report = pthparse.audit(tmp_path)
    assert report.verdict == "malformed" and "shard-index" in {f.code for f in report.findings}


def test_keys_that_stand_twice(tmp_path: Path) -> None:
    by_index(tmp_path, GOOD)
    for text in (
        '{"weight_map": {"good": "a.bin", "good": "b.bin"}}',
        '{"weight_map": {"good": "b.bin"}, "weight_map": {"good": "a.bin"}}',
        '{"metadata": {"total_size": 1, "total_size": 16}, "weight_map": {"good": "a.bin"}}',
    ):
        (tmp_path / INDEX).write_text(text)
        for report in (pthparse.audit(tmp_path / INDEX), pthparse.open(tmp_path).audit()):
            assert report.verdict == "malformed" and "a key stands twice" in [f.message for f in report.findings]


def test_many_names_that_are_not_there_take_little(tmp_path: Path) -> None:
    """Of a small file, which has one of them."""
    by_index(tmp_path, GOOD)
    names = {f"n{i}": "a.bin" for i in range(50_000)} | {"good": "a.bin"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    with pthparse.open(tmp_path) as model:
        assert list(model) == ["good"] and len(model.lost) == 50_000
        assert len(set(map(id, model.lost.values()))) <= 1001 and len(model.findings) <= 1000
        with pytest.raises(pthparse.PthError, match="shard-tensor"):
            model["n49999"]


@pytest.mark.parametrize("total", [1 << 80, -(1 << 80), 1e308, float("inf"), float("nan"), 10**4000, True, None, "x"])
def test_absurd_totals(tmp_path: Path, total: Any) -> None:
    by_index(tmp_path, GOOD)
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": {"good": "a.bin"}})
    (tmp_path / INDEX).write_text(text)
    with pthparse.open(tmp_path) as model:
        assert [f.code for f in model.findings] == ([] if total is None else ["shard-size"])
        assert all(len(f.message) < 300 for f in model.findings)


# ---- 61 to 63: what the metadata of a distributed checkpoint say ----


@pytest.mark.parametrize("field", ["shape", "offsets", "sizes"])
@pytest.mark.parametrize(
    "value",
    [p.text("4"), p.NONE, p.TRUE, p.integer(-1), p.integer(1 << 62), p.integer(1 << 64), p.integer(-(1 << 64)),
     b"G@\x10\0\0\0\0\0\0"],
    ids=["text", "None", "True", "-1", "2^62", "2^64", "-2^64", "4.0"],
)  # fmt: skip
def test_numbers_of_chunks_that_are_none(tmp_path: Path, field: str, value: bytes) -> None:
    by_metadata(tmp_path, d.chunk(VALUES, (4,)))
    said = {"shape": [4], "offsets": [0], "sizes": [4], field: [value]}
    size = (tmp_path / "__0_0.distcp").stat().st_size
    places = [(d.index(n, (0,)), d.info(f"__{i}_0.distcp", 0, size)) for i, n in enumerate(("good", "w"))]
    items = {"good": d.tensor((4,), [((0,), (4,))]), "w": d.tensor(said["shape"], [(said["offsets"], said["sizes"])])}
    (tmp_path / ".metadata").write_bytes(d.metadata(items, places))
    with pthparse.open(tmp_path) as model:
        assert model["good"].numpy().tolist() == VALUES and isinstance(model.errors["w"], pthparse.PthError)
        ask_everything(model)
        assert not model.verify().ok and model.audit().verdict in ("malformed", "review")


@pytest.mark.parametrize("shape", [(1 << 32, 1 << 32), (1 << 61, 8), (0, 1 << 62), (3,), (4, 1), (), (1,) * 200])
def test_products_that_wrap_and_other_ranks(tmp_path: Path, shape: Any) -> None:
    by_metadata(tmp_path, d.chunk(VALUES, (4,)))
    size = (tmp_path / "__0_0.distcp").stat().st_size
    places = [(d.index(n, (0,)), d.info(f"__{i}_0.distcp", 0, size)) for i, n in enumerate(("good", "w"))]
    items = {"good": d.tensor((4,), [((0,), (4,))]), "w": d.tensor(shape, [((0,), (4,))])}
    (tmp_path / ".metadata").write_bytes(d.metadata(items, places))
    with pthparse.open(tmp_path) as model:
        assert model["good"].numpy().tolist() == VALUES and isinstance(model.errors["w"], pthparse.PthError)
        ask_everything(model)


@pytest.mark.parametrize("at", [-1, 1 << 63, 1 << 70, "x"])
@pytest.mark.parametrize("what", ["offset", "length"])
def test_places_in_files_that_are_none(tmp_path: Path, at: Any, what: str) -> None:
    by_metadata(tmp_path, d.chunk(VALUES, (4,)))
    size = (tmp_path / "__0_0.distcp").stat().st_size
    value = p.text(at) if isinstance(at, str) else p.integer(at)
    state = {"relative_path": p.text("__1_0.distcp"), "offset": p.integer(0), "length": p.integer(size), what: value}
    bad = d.made("filesystem", "_StorageInfo", p.dict_of(state))
    places = [(d.index("good", (0,)), d.info("__0_0.distcp", 0, size)), (d.index("w", (0,)), bad)]
    whole = d.tensor((4,), [((0,), (4,))])
    (tmp_path / ".metadata").write_bytes(d.metadata({"good": whole, "w": whole}, places))
    with pthparse.open(tmp_path) as model:
        assert model["good"].numpy().tolist() == VALUES and model.errors["w"].code == "dcp-chunk"
        ask_everything(model)


# ---- 78, 79: holes, files that change ----


def test_a_hole_costs_nothing(tmp_path: Path) -> None:
    """A file of 8 GiB, nearly all of it a hole, as a part of each kind of model."""
    for kind, part in (("an index", "b.bin"), ("ZeRO", "mp_rank_01_model_states.pt"), ("distributed", "__1_0.distcp")):
        folder = tmp_path / kind
        folder.mkdir()
        name = KINDS[kind](folder, b"")
        with (folder / part).open("r+b") as file:
            file.truncate(8 << 30)
        with pthparse.open(folder) as model:
            assert model[name].numpy().tolist() == VALUES and model.nbytes > 8 << 30
            assert sum(e.nbytes for e in model.capacity().ledger()) == model.nbytes
            assert [n for n in model if n == "w" and kind != "distributed"] == []
        assert pthparse.audit(folder).verdict != "clean"


@pytest.mark.parametrize(("kind", "part"), [row for row in ROWS if row[1] not in (INDEX, ".metadata")])
def test_a_file_that_is_cut_while_it_is_open(kind: str, part: str, tmp_path: Path) -> None:
    name = KINDS[kind](tmp_path, d.chunk(VALUES, (4,)) if kind == "distributed" else GOOD.replace(b"good", b"w\0\0\0"))
    with pthparse.open(tmp_path, mmap=False) as model:
        names = list(model)
        other = next(n for n in names if n != name)
        t = model[other]
        os.truncate(tmp_path / part, 100)
        with pytest.raises(pthparse.FormatError):
            t.numpy()
        assert isinstance(model.stats().errors[other], pthparse.FormatError) and not model.verify().ok
        assert model[name].numpy().tolist() == VALUES


# ---- 80: names ----

NASTY = ["\x1b[2J", "a\nb", "\x07", "\u202ecod.exe", "[red]x[bold]", "x\r", "\u200b", "a\tb", "\x9b31m"]


@pytest.mark.parametrize("name", [*NASTY, "\ud800"])
def test_names_do_not_act_on_a_terminal(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of tensors in an index, of files in it, of files that lie there, of chunks."""
    indexed, chunked = tmp_path / "indexed", tmp_path / "chunked"
    indexed.mkdir()
    chunked.mkdir()
    by_index(indexed, GOOD)
    weights = {"good": "a.bin", name: "a.bin", f"{name}1": f"{name}.bin", f"{name}2": f"../{name}"}
    (indexed / INDEX).write_text(json.dumps({"metadata": {name: name}, "weight_map": weights}))
    if "\ud800" not in name:
        (indexed / f"{name}.pth").write_bytes(GOOD)
        (indexed / f"{name}.bin").write_bytes(GOOD)
    by_metadata(chunked, d.chunk(VALUES, (4,)))
    size = (chunked / "__0_0.distcp").stat().st_size
    whole = d.tensor((4,), [((0,), (4,))])
    places = [(d.index(name, (0,)), d.info(f"{name}.distcp", 0, size))]
    (chunked / ".metadata").write_bytes(d.metadata({name: whole, "good": whole}, places))
    for folder in (indexed, chunked):
        for verb in (["info", "--shard"], ["ls", "--shard"], ["ls", "--csv"], ["capacity", "--shard"], ["stats"],
                     ["verify", "--all"], ["audit"], ["hash"], ["diff", str(folder)]):  # fmt: skip
            assert main([*verb, str(folder)]) in (0, 1, 2)
            said = capsys.readouterr()
            assert RAW.search(said.out + said.err) is None, (verb, said)
            if verb[0] not in ("diff", "ls"):
                assert main([verb[0], "--json", str(folder)]) in (0, 1, 2)
                said = capsys.readouterr()
                assert RAW.search(said.out + said.err) is None, verb
                json.loads(said.out)


def test_limits_of_an_index_are_as_they_are_told() -> None:
    assert (shards.INDEX_BYTES, shards.MOST_SHARDS, shards.MOST_NAMES) == (1 << 26, 99_999, 1 << 20)
