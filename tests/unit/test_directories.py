"""Whole models by their URLs: on a web server that counts, and where a protocol can list; the same as on this disk."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from forge import directories as d
from forge import pickles as p
from forge import zips
from forge.web import Handler, Server, serve, sound

import pthparse
from pthparse.cli import main
from pthparse.directories import MOST_ENTRIES, Directory, locate
from pthparse.source import is_whole

pytest.importorskip("fsspec", reason="fsspec is not installed: URLs are not tested")
pytest.importorskip("aiohttp", reason="aiohttp is not installed: URLs are not tested")

import fsspec

from pthparse.remote import cache, http
from pthparse.remote.directory import RemoteDirectory, parts_of

INDEX = "pytorch_model.bin.index.json"
NUMEL = 20_000
NAMES = [f"layers.{i}.w" for i in range(6)]
FILES = {f"pytorch_model-{i + 1:05}-of-00003.bin": [NAMES[i], NAMES[i + 3]] for i in range(3)}
FIRST, SECOND, THIRD = FILES


def floats(i: int) -> bytes:
    return struct.pack(f"<{NUMEL}f", *((k % 100) * 0.5 - i for k in range(NUMEL)))


def shard(names: list[str]) -> bytes:
    records = {str(k): floats(NAMES.index(n)) for k, n in enumerate(names)}
    return zips.checkpoint(p.pickle(p.dict_of({n: p.vector(str(k), NUMEL) for k, n in enumerate(names)})), records)


def weights() -> dict[str, Any]:
    of = {n: f for f, names in FILES.items() for n in names}
    return {n: of[n] for n in NAMES}


def write_index(folder: Path, weight_map: dict[str, Any], total: int = 24 * NUMEL) -> None:
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map})
    (folder / INDEX).write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name, names in FILES.items():
        (path / name).write_bytes(shard(names))
    write_index(path, weights())
    return path


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serve(folder) as server:
        yield server


@pytest.fixture
def memory(folder: Path) -> Iterator[str]:
    """The same in fsspec's own memory, which can list."""
    fs = fsspec.filesystem("memory")
    put(fs, folder)
    yield "memory://models/m"
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def put(fs: Any, folder: Path, name: str = "m") -> None:
    fs.store.clear()
    for path in folder.rglob("*"):
        if path.is_file():
            fs.pipe(f"/models/{name}/{path.relative_to(folder)}", path.read_bytes())


def codes(findings: Any) -> list[tuple[str, str | None]]:
    return [(f.code, f.member) for f in findings]


def asked_for(server: Server) -> list[str]:
    return sorted({path.lstrip("/") for path in server.paths})


# ---- on a web server ----


def test_an_index_is_read_and_nothing_more(server: Server, folder: Path) -> None:
    with pthparse.open(server.root + INDEX) as model:
        assert model.format == "sharded" and model.path == server.root + INDEX
        size = (folder / INDEX).stat().st_size
        assert asked_for(server) == [INDEX] and server.sent == size and len(server.asked) == 1
        server.reset()
        t = model["layers.4.w"]
        assert asked_for(server) == [SECOND] and len(server.asked) == 2 and server.sent == 2 * 4096
        server.reset()
        assert t.numpy().tobytes() == floats(4)
        assert asked_for(server) == [SECOND] and server.sent < 4 * NUMEL + 4096
        server.reset()
        assert list(model) == NAMES and model.findings == () and not model.errors
        assert asked_for(server) == [FIRST, THIRD] and server.sent == 4 * 4096  # of their tensors nothing
        assert model.nbytes == sum(f.stat().st_size for f in folder.iterdir())
        assert [s.path for s in model.shards] == [server.root + f for f in FILES]


def test_numbered_files_need_no_index(server: Server, folder: Path) -> None:
    (folder / INDEX).unlink()
    with pthparse.open(server.root + FIRST, siblings=True) as model:
        assert list(model) == [n for names in FILES.values() for n in names]
        assert model["layers.5.w"].numpy().tobytes() == floats(5)
    with pthparse.open(server.root + FIRST) as alone:
        assert list(alone) == FILES[FIRST] and alone.format == "zip"


def test_what_stands_behind_the_name_goes_with_each(server: Server, folder: Path) -> None:
    url = server.root.replace("//", "//me:word@") + INDEX + "?signature=secret#part"
    with pthparse.open(url) as model:
        assert model["layers.0.w"].numpy().tobytes() == floats(0)
        assert set(server.paths) == {f"/{INDEX}?signature=secret", f"/{FIRST}?signature=secret"}
        assert {h["Authorization"][:5] for h in server.headers} == {"Basic"}
        (folder / SECOND).unlink()
        texts = [repr(model), str(model.path), str(model.errors["layers.1.w"]), *(s.path for s in model.shards)]
        texts += [json.dumps(r.to_dict()) for r in (pthparse.audit(url), pthparse.verify(url), model.audit())]
        assert not [text for text in texts if "secret" in text or "word@" in text]


VERBS = ["info", "ls", "capacity", "plan", "stats", "verify", "audit", "hash"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("where", ["web", "memory", "memory index"])
def test_verbs_say_the_same(
    verb: str, where: str, server: Server, memory: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = {"web": server.root + INDEX, "memory": memory, "memory index": f"{memory}/{INDEX}"}[where]
    path = folder if where == "memory" else folder / INDEX
    found = []
    for source, root in ((str(path), str(folder)), (url, server.root[:-1] if where == "web" else memory)):
        assert main([verb, "--json", source]) == 0
        found.append(json.loads(capsys.readouterr().out.replace(root, "HERE")))
        assert main([verb, source]) == 0 and capsys.readouterr().out
    assert found[0] == found[1]


def test_show_diff_and_convert(server: Server, memory: str, folder: Path, tmp_path: Path, capsys: Any) -> None:
    url = server.root + INDEX
    for source in (url, memory):
        assert main(["show", source, "layers.2.w[0:3]"]) == 0
        assert "-2." in capsys.readouterr().out
        assert main(["diff", str(folder), source]) == 0
        assert pthparse.convert(source, tmp_path / "m.safetensors", overwrite=True).tensors == 6
        with pthparse.open(tmp_path / "m.safetensors") as made, pthparse.open(folder) as here:
            assert {n: t.numpy().tobytes() for n, t in made.items()} == {
                n: t.numpy().tobytes() for n, t in here.items()
            }
    for verb in ("info", "ls", "capacity"):
        assert main([verb, "--shard", url]) == 0
        text = capsys.readouterr().out
        assert all(file in text for file in FILES)
    assert main(["ls", "--shard", "--csv", url + "?x=1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(f",{FIRST}")


def test_a_model_is_verified_and_audited_as_here(server: Server, folder: Path) -> None:
    data = bytearray((folder / SECOND).read_bytes())
    data[data.index(floats(4))] ^= 1
    (folder / SECOND).write_bytes(data)
    evil = p.dict_of({"layers.2.w": p.vector("0", 4), "x": p.call(p.glob("os", "system"), p.text("touch MARKER"))})
    (folder / THIRD).write_bytes(zips.checkpoint(p.pickle(evil), {"0": bytes(16)}))
    for ask in (pthparse.verify, pthparse.audit):
        here, there = ask(folder / INDEX), ask(server.root + INDEX)
        text = json.dumps(there.to_dict()).replace(server.root, f"{folder}/")
        assert json.loads(text) == json.loads(json.dumps(here.to_dict()))
    assert here.verdict == "dangerous" and here.globals == there.globals  # type: ignore[union-attr]


def test_what_is_read_of_many_files_comes_in_few_requests(server: Server, folder: Path, memory: str) -> None:
    """Each of these reads both tensors of each file, which lie together."""
    for ask in (
        lambda source: pthparse.open(source).stats()["layers.5.w"].l2,
        lambda source: pthparse.manifest(source).model,
        lambda source: pthparse.diff(folder, source).identical,
        lambda source: pthparse.diff(source, folder).identical,
        lambda source: pthparse.verify(source).checked_nbytes,
    ):
        server.reset()
        assert ask(server.root + INDEX) == ask(folder / INDEX) == ask(memory)
        assert len(server.asked) <= 1 + 3 * 6 and server.sent < 6 * 4 * NUMEL + 50_000
    values = struct.pack(f"<{NUMEL}f", *([0.5] * NUMEL))
    changed = zips.checkpoint(
        p.pickle(p.dict_of({n: p.vector(str(k), NUMEL) for k, n in enumerate(FILES[SECOND])})),
        {"0": values, "1": values},
    )
    old = pthparse.manifest(folder).tensors
    (folder / SECOND).write_bytes(changed)
    found, here = pthparse.diff(memory, server.root + INDEX), pthparse.diff(memory, folder / INDEX)
    assert {**found.to_dict(), "b": None} == {**here.to_dict(), "b": None}
    assert [d.name for d in found.changed] == FILES[SECOND] and found.identical == 4
    assert [t.name for t in pthparse.manifest(server.root + INDEX).tensors if t not in old] == FILES[SECOND]


# ---- what an index must not do ----


def test_a_missing_file(server: Server, folder: Path, memory: str) -> None:
    (folder / SECOND).unlink()
    fsspec.filesystem("memory").rm(f"/models/m/{SECOND}")
    reports = []
    for source in (folder / INDEX, server.root + INDEX, f"{memory}/{INDEX}"):
        with pthparse.open(source) as model:
            assert model["layers.0.w"].numpy().tobytes() == floats(0)
            for _ in range(2):
                with pytest.raises(pthparse.TruncatedError, match="not there") as e:
                    model["layers.1.w"]
                assert e.value.code == "shard-missing"
            assert codes(model.findings) == [("shard-missing", SECOND)] and len(model) == 4
            assert [s.error is None for s in model.shards] == [True, False, True]
            verified = model.verify()
            assert (verified.verdict, len(verified.whole)) == ("damaged", 4)
            assert [(t.name, t.code) for t in verified.damaged] == [(n, "shard-missing") for n in FILES[SECOND]]
            audits = [pthparse.audit(source), model.audit()]
            assert [codes(a.findings) for a in audits] == [[("shard-missing", SECOND)]] * 2
            reports.append([codes(verified.findings), [a.verdict for a in audits], model.capacity().elements])
    assert reports[0] == reports[1] == reports[2] and reports[0][1] == ["malformed"] * 2


@pytest.mark.parametrize(
    "name",
    [
        "../x.bin", "/etc/passwd", "sub/b.bin", "a\\b", "C:x", "..", ".", "", "a\0b", "http://x/y", "//host/x",
        "file:///etc/passwd", "memory://x.bin", "x.bin::http://host/y", "https:x",
    ],
)  # fmt: skip
def test_names_that_leave_the_directory(server: Server, folder: Path, memory: str, name: str) -> None:
    (folder.parent / "x.bin").write_bytes(shard(["layers.0.w"]))
    fs = fsspec.filesystem("memory")
    fs.pipe("/models/x.bin", shard(["layers.0.w"]))
    write_index(folder, weights() | {"layers.0.w": name})
    fs.pipe(f"/models/m/{INDEX}", (folder / INDEX).read_bytes())
    found = []
    for source in (folder / INDEX, server.root + INDEX, f"{memory}/{INDEX}"):
        with pthparse.open(source) as model:
            with pytest.raises(pthparse.PthError):
                model["layers.0.w"]
            report = pthparse.audit(source)
            assert ("shard-name", INDEX) in codes(report.findings)
            found.append((codes(model.findings), list(model), codes(report.findings), report.verdict))
            assert model.verify().verdict == "damaged"
    assert found[0] == found[1] == found[2] and found[0][3] == "malformed"
    assert asked_for(server) == sorted([INDEX, *FILES])


@pytest.mark.parametrize(
    "name", ["?x", "x#y", "%2e%2e%2fx.bin", "a b", "\u00e9", "*", "[x]", "x?y=1", "\ud800", "-", "~"]
)
def test_names_mean_themselves(server: Server, folder: Path, memory: str, name: str) -> None:
    """Of characters that mean something in a URL none does."""
    write_index(folder, weights() | {"layers.0.w": name, "layers.3.w": name})
    fs = fsspec.filesystem("memory")
    there = name != "\ud800"
    if there:
        (folder / FIRST).rename(folder / name)
        fs.pipe(f"/models/m/{name}", (folder / name).read_bytes())
    fs.pipe(f"/models/m/{INDEX}", (folder / INDEX).read_bytes())
    for source in (folder / INDEX, server.root + INDEX, f"{memory}/{INDEX}"):
        with pthparse.open(source) as model:
            if there:
                assert model["layers.0.w"].numpy().tobytes() == floats(0) and not model.findings
            else:
                assert codes(model.findings) == [("shard-missing", name)]


def test_an_index_is_bounded(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(handler: Handler, data: bytes, begin: int, end: int) -> None:
        handler.give(206, bytes(4096), Content_Range=f"bytes 0-4095/{1 << 40}")

    server.answer = endless
    with pytest.raises(pthparse.PthError, match="more than") as e:
        pthparse.open(server.root + INDEX)
    assert e.value.code == "shard-index" and len(server.asked) == 1 and server.sent <= 4096
    server.answer = None
    monkeypatch.setattr("pthparse.shards.INDEX_BYTES", 100)
    for source in (folder / INDEX, server.root + INDEX):
        with pytest.raises(pthparse.PthError, match="more than 100 bytes"):
            pthparse.open(source)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": {"w": 5}}', "[" * 100_000, "\xff", ""])
def test_an_index_that_is_none(server: Server, folder: Path, text: str) -> None:
    (folder / INDEX).write_bytes(text.encode("latin-1"))
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(server.root + INDEX)
    assert e.value.code == "shard-index" and e.value.path == server.root + INDEX
    assert pthparse.verify(server.root + INDEX).verdict == "unknown"
    assert pthparse.audit(server.root + INDEX).verdict == "malformed"


def test_faults_of_a_server_are_of_the_file_that_has_them(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PAUSE", 0.0)

    def faulty(handler: Handler, data: bytes, begin: int, end: int) -> None:
        handler.give(500) if SECOND in handler.path else sound(handler, data, begin, end)

    server.answer = faulty
    with pthparse.open(server.root + INDEX) as model:
        with pytest.raises(pthparse.PthError, match="cannot be opened: the server says 500"):
            model["layers.1.w"]
        assert len(model) == 4 and model["layers.5.w"].numpy().tobytes() == floats(5)
        assert codes(model.findings) == [("shard-unreadable", SECOND)]
        verified = model.verify()
        assert (verified.verdict, len(verified.whole), len(verified.damaged)) == ("unknown", 4, 2)
        assert model.audit().verdict == "incomplete"

    def whole(handler: Handler, data: bytes, begin: int, end: int) -> None:
        handler.give(200, bytes(1000)) if SECOND in handler.path else sound(handler, data, begin, end)

    server.answer = whole  # a server that has no ranges says nothing about the file
    assert pthparse.verify(server.root + INDEX).verdict == "unknown"
    assert pthparse.audit(server.root + INDEX).verdict == "incomplete"
    server.answer = lambda handler, data, begin, end: handler.give(404)
    with pytest.raises(FileNotFoundError):
        pthparse.open(server.root + INDEX)
    server.answer = lambda handler, data, begin, end: handler.give(200, bytes(1000))
    with pytest.raises(pthparse.PthError, match="gives no parts of files"):
        pthparse.open(server.root + INDEX)


def test_a_web_server_has_no_directories(server: Server) -> None:
    assert not is_whole(server.root) and is_whole(server.root + INDEX) and is_whole(server.root + INDEX + "?x#y")
    with pytest.raises(FileNotFoundError):
        pthparse.open(server.root)
    with pytest.raises(pthparse.UnsupportedError, match="name the index"):
        RemoteDirectory(server.root).names()


# ---- where a protocol can list ----


def test_a_directory_is_a_model(memory: str, folder: Path) -> None:
    for url in (memory, f"{memory}/"):
        with pthparse.open(url) as model:
            assert (model.format, list(model), model.findings) == ("sharded", NAMES, ())
            assert {n: t.numpy().tobytes() for n, t in model.items()} == {n: floats(i) for i, n in enumerate(NAMES)}
    fs = fsspec.filesystem("memory")
    fs.rm(f"/models/m/{INDEX}")
    with pthparse.open(memory) as model:
        assert list(model) == [n for names in FILES.values() for n in names]
    for name in FILES:
        fs.rm(f"/models/m/{name}")
    fs.pipe("/models/m/one.pth", shard(["layers.0.w"]))
    with pthparse.open(memory) as model:
        assert model.format == "zip" and model.path == f"{memory}/one.pth"
    fs.pipe("/models/m/two.pth", shard(["layers.0.w"]))
    with pytest.raises(pthparse.UnsupportedError, match=r"several models \(one\.pth, two\.pth"):
        pthparse.open(memory)


def test_a_directory_is_audited_to_its_end(memory: str, folder: Path) -> None:
    below = folder / "below"
    below.mkdir()
    evil = p.pickle(p.call(p.glob("os", "system"), p.text("touch MARKER")))
    (below / "evil.pkl").write_bytes(evil)
    (below / INDEX).write_text(json.dumps({"weight_map": {"w": "none.bin"}}))
    (folder / "readme.md").write_text("words")
    fs = fsspec.filesystem("memory")
    put(fs, folder)
    here, there = pthparse.audit(folder), pthparse.audit(memory)
    assert there.verdict == "dangerous" and [f.path for f in there.files] == [
        str(f.path).replace(str(folder), memory) for f in here.files
    ]
    assert codes(there.findings) == codes(here.findings)
    assert (there.globals, there.nbytes, there.tensors) == (here.globals, here.nbytes, here.tensors)


def test_a_distributed_checkpoint(memory: str, tmp_path: Path) -> None:
    folder = tmp_path / "dcp"
    folder.mkdir()
    pieces = [d.chunk([float(i), 2.0, 3.0, 4.0], (2, 2)) for i in range(2)]
    where = [d.write(folder, {f"__{i}_0.distcp": [piece]})[f"__{i}_0.distcp"][0] for i, piece in enumerate(pieces)]
    cuts = [((0, 0), (2, 2)), ((2, 0), (2, 2))]
    places = [(d.index("w", a), d.info(*x)) for (a, _), x in zip(cuts, where, strict=True)]
    (folder / ".metadata").write_bytes(d.metadata({"w": d.tensor((4, 2), cuts)}, places))
    fs = fsspec.filesystem("memory")
    put(fs, folder)
    with pthparse.open(memory) as there, pthparse.open(folder) as here:
        assert there.format == "distributed" and there["w"].numpy().tolist() == here["w"].numpy().tolist()
        assert there.nbytes == here.nbytes and there.capacity().to_dict() == here.capacity().to_dict()
        assert there.verify().verdict == here.verify().verdict == "ok"
        assert there.audit().verdict == here.audit().verdict == "review"
        assert [s.path for s in there.shards] == [f"{memory}/__{i}_0.distcp" for i in range(2)]
        assert there.stats()["w"].max == 4
    fs.rm("/models/m/__1_0.distcp")
    with pthparse.open(memory) as there:
        assert codes(there.findings) == [("shard-missing", "__1_0.distcp")]
        assert there.errors["w"].code == "shard-missing"
    bad = [(places[0][0], d.info("../x", 0, 10)), places[1]]
    fs.pipe("/models/m/.metadata", d.metadata({"w": d.tensor((4, 2), cuts)}, bad))
    assert ("shard-name", ".metadata") in codes(pthparse.audit(memory).findings)
    fs.mv("/models/m/.metadata", "/models/m/.metadata.tmp")
    with pytest.raises(pthparse.UnsupportedError, match="unfinished save"):
        pthparse.open(memory)


def test_a_directory_of_zero(memory: str) -> None:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    data = zips.checkpoint(p.pickle(p.dict_of({"module": p.dict_of({"w": p.vector("0", 2)})})), {"0": bytes(8)})
    fs.pipe("/models/m/step/mp_rank_00_model_states.pt", data)
    fs.pipe("/models/other/mp_rank_00_model_states.pt", data)
    fs.pipe("/models/m/latest", b"step\n")
    with pthparse.open(memory) as model:
        assert model.format == "deepspeed" and list(model.state_dict()) == ["w"]
    for tag in (b"../other", b"", b"none", b"latest", b"/models/other", b"\xff"):
        fs.pipe("/models/m/latest", tag)
        with pytest.raises(pthparse.UnsupportedError, match="no checkpoint in it"):
            pthparse.open(memory)


class Listing:
    """A filesystem whose listing is as it is told."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def invalidate_cache(self, path: str) -> None:
        pass

    def isdir(self, path: str) -> bool:
        return True

    def ls(self, path: str, detail: bool) -> Any:
        if isinstance(self.rows, Exception):
            raise self.rows
        return self.rows


def listed(monkeypatch: pytest.MonkeyPatch, rows: Any) -> RemoteDirectory:
    monkeypatch.setattr("pthparse.remote.directory.filesystem_of", lambda url: (Listing(rows), "b/m"))
    return RemoteDirectory("odd://b/m/")


def test_listings_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["b/m/", "b/m", "b/m/..", "b/m/.", "b/m/x", "../../etc/y", "b/m/a::b", "b/m/d/"]
    rows = [{"name": n, "type": "directory" if n.endswith("d/") else "file"} for n in names]
    rows += [{"name": "b/m/l", "type": "link"}, {"name": "b/m/m", "type": "file", "islink": True}]
    directory = listed(monkeypatch, [*rows, {"name": "b/m/s", "type": "socket"}])
    assert directory.entries() == [
        ("a::b", "file"), ("d", "folder"), ("l", "link"), ("m", "link"), ("s", "other"), ("x", "file"), ("y", "file"),
    ]  # fmt: skip
    assert directory.where("y") == "odd://b/m/y"
    found: list[tuple[str, str]] = []
    assert not directory.is_safe("l", lambda *told: found.append(told)) and found == [("shard-link", "l")]
    for name in ("a::b", "x/y"):
        for ask in (directory.where, directory.below):
            with pytest.raises(pthparse.UnsupportedError, match="means something else"):
                ask(name)
    rows = [{"name": "b/m/a::memory:", "type": "directory"}, {"name": "b/m/x::file:", "type": "file"}]
    listed(monkeypatch, rows)
    report = pthparse.audit("odd://b/m")
    wanted = [("unreadable", "a::memory:"), ("unreadable", "x::file:"), ("no-checkpoint", None)]
    assert codes(report.findings) == wanted and report.verdict == "incomplete"
    many = [{"name": f"b/m/{i}", "type": "file"} for i in range(MOST_ENTRIES + 1)]
    with pytest.raises(pthparse.UnsupportedError, match="more than 100,000 entries"):
        listed(monkeypatch, many).names()


def test_a_listing_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (PermissionError("no"), RuntimeError("x\x1b[2J")):
        directory = listed(monkeypatch, error)
        assert directory.present() is None  # who may not list may read
        with pytest.raises(OSError, match=r"no|x\\x1b\[2J"):
            directory.entries()
    assert pthparse.audit("odd://b/m").findings[0].code == "unreadable"


# ---- places ----


@pytest.mark.parametrize(
    ("url", "parts"),
    {
        "https://h/a/b.json": ("https://h/a/", "b.json", ""),
        "https://h/a/b%20c.json?x=/y#z": ("https://h/a/", "b c.json", "?x=/y"),
        "simplecache::https://h/a/b.json?q": ("simplecache::https://h/a/", "b.json", "?q"),
        "s3://bucket/a/b?c": ("s3://bucket/a/", "b?c", ""),
        "memory://b": ("memory://", "b", ""),
        "memory://": ("memory://", "", ""),
        "zip://a/b.json::https://h/x.zip?q": ("zip://a/", "b.json", "::https://h/x.zip?q"),
        "hf://me/repo@main/b": ("hf://me/repo@main/", "b", ""),
    }.items(),
)
def test_parts_of_urls(url: str, parts: tuple[str, str, str]) -> None:
    assert parts_of(url) == parts
    assert RemoteDirectory(parts[0], parts[2]).where(parts[1]) == url.partition("#")[0]


def test_a_model_in_an_archive(folder: Path, tmp_path: Path) -> None:
    """A chain of protocols: what stands behind the path goes with each file."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"m/{path.name}")
    url = f"zip://m/{INDEX}::{(tmp_path / 'm.zip').as_uri()}"
    with pthparse.open(url) as model:
        assert {n: t.numpy().tobytes() for n, t in model.items()} == {n: floats(i) for i, n in enumerate(NAMES)}
        assert model.verify().ok


def test_a_file_url_is_a_directory_of_this_machine(folder: Path) -> None:
    for url in (folder.as_uri(), (folder / INDEX).as_uri()):
        with pthparse.open(url) as model:
            assert list(model) == NAMES and type(locate(url).directory) is Directory
        assert pthparse.audit(url).verdict == "clean" and pthparse.verify(url).ok
    with pytest.raises(pthparse.UnsupportedError, match="another machine"):
        pthparse.open(f"file://host/{INDEX}")
    assert pthparse.audit(f"file://host/{INDEX}").verdict == "incomplete"


def test_links_keep_their_rule_when_they_are_opened(folder: Path, tmp_path: Path) -> None:
    """What was a file when it was looked at may be a link by now."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(shard(FILES[SECOND]))
    with pthparse.open(folder) as model:
        (folder / SECOND).unlink()
        (folder / SECOND).symlink_to(secret)
        with pytest.raises(pthparse.PthError, match="not followed"):
            model["layers.1.w"]
    inner = folder / "inner.bin"
    (folder / SECOND).unlink()
    inner.write_bytes(shard(FILES[SECOND]))
    (folder / SECOND).symlink_to("inner.bin")
    with pthparse.open(folder) as model:
        assert model["layers.1.w"].numpy().tobytes() == floats(1)
    (folder / INDEX).rename(tmp_path / INDEX)
    (folder / INDEX).symlink_to(tmp_path / INDEX)
    with pthparse.open(folder / INDEX) as model:  # whoever names a link means it
        assert list(model) == NAMES
    with pytest.raises(pthparse.PthError, match="not followed"):
        pthparse.open(folder)
    assert ("shard-link", INDEX) in codes(pthparse.audit(folder).findings)


def test_one_file_of_a_directory_may_be_no_link_out_of_it(tmp_path: Path) -> None:
    away, here = tmp_path / "away.pth", tmp_path / "here"
    here.mkdir()
    away.write_bytes(shard(["layers.0.w"]))
    (here / "x.pth").symlink_to(away)
    with pytest.raises(pthparse.UnsupportedError, match="leaves the directory"):
        pthparse.open(here)
    with pthparse.open(here / "x.pth") as ckpt:
        assert list(ckpt) == ["layers.0.w"]


# ---- what is kept ----


class Bytes:
    """Bytes far away, without the way."""

    head, state = b"", None

    def __init__(self, size: int) -> None:
        self.size, self.n = size, 0

    def fetch(self, parts: Any) -> None:
        for at, into in parts:
            self.n += 1
            into[:] = bytes((at + i) % 251 for i in range(len(into)))

    def changed(self) -> bool:
        return False


def test_what_all_files_keep_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT", 20_000)
    room = cache.Room()
    sources = [cache.RemoteSource(Bytes(1 << 20), str(i), room) for i in range(10)]
    for _ in range(2):
        for k, source in enumerate(sources):
            assert bytes(source.window(100 * k, 6000)) == bytes((100 * k + i) % 251 for i in range(6000))
            assert sum(s._held for s in sources) <= 20_000 and sum(room._held.values()) <= 20_000
            assert source._held >= 6000  # the one that was read last
    sources[9].close()
    assert sources[9] not in room._held


def test_descriptors_are_few(tmp_path: Path) -> None:
    names = [f"m-{i + 1:05}-of-00080.bin" for i in range(80)]
    for name in names:
        (tmp_path / name).write_bytes(zips.checkpoint(p.pickle(p.dict_of({name: p.vector("0", 4)})), {"0": bytes(16)}))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {n: n for n in names}}))
    before = len([*Path("/proc/self/fd").iterdir()])
    with serve(tmp_path) as server, pthparse.open(server.root + INDEX) as model:
        assert len(model) == len(model.stats()) == 80 and not model.findings
        assert len([*Path("/proc/self/fd").iterdir()]) - before < 64  # of both sides of the connections


def test_an_audit_follows_no_link_that_was_a_file(folder: Path, tmp_path: Path) -> None:
    """Between the look at it and its opening."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(shard(FILES[SECOND]))

    class Late(ThreadPoolExecutor):
        def submit(self, fn: Any, /, path: str, *args: Any) -> Any:  # type: ignore[override]
            if path.endswith(SECOND) and not Path(path).is_symlink():
                Path(path).unlink()
                Path(path).symlink_to(secret)
            return super().submit(fn, path, *args)

    with Late(1) as executor:
        report = pthparse.audit(folder / INDEX, executor=executor)
    found = next(f for f in report.files if (f.path or "").endswith(SECOND))
    assert report.verdict != "clean" and "shard-link" in {f.code for f in found.findings} and found.tensors == 0
