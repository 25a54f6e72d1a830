"""What is hostile is called so: each file of forge/hostile.py, by the library, the command and a reader of values.

Nothing is executed: Python's own audit events are watched, and no file MARKER appears.
Run as a script, it tells how long each file takes.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forge import hostile
from forge import pickles as p
from forge.hostile import CATALOGUE, DATA, EVIL, GOOD, Forged
from forge.zips import checkpoint

import pthparse
from pthparse import audits
from pthparse.auditor import MOST_GLOBALS

TESTS = Path(__file__).parents[1]
IDS = [f"{f.row}-{f.name[:60]}" for f in CATALOGUE]
MOST_BYTES = 64 << 20  # of memory above an idle interpreter, for any one of the files,
PER_BYTE = 40  # and for each of its bytes: one of them may be a level of nesting, which takes a hundred
SECONDS = 10  # until a file counts as one that hangs; it takes a tenth of that at most
CODES = {"clean": 0, "incomplete": 2}
# Control characters, those that turn the direction of writing or have no width, and halves of pairs.
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

COMMON = f"""
import io, json, os, signal, sys
import pthparse
folder, seconds = sys.argv[1], {SECONDS}
FILES = sorted(os.listdir(folder), key=int)
def one(name):
    signal.alarm(seconds)
    sys.stderr.write(name + "\\n")  # the last one is to blame
    return os.path.join(folder, name)
def peak():  # not ru_maxrss, which counts the process that this one was forked from
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
def done(answer):
    signal.alarm(0)
    print(json.dumps(answer))
"""

# Two rounds: the first one imports what the second one may not.
AUDIT = f"""
idle, allowed, answers, events, watching = None, 0, {{}}, [], False
def hook(event, args):
    if watching:
        events.append((event, str(args[0]) if args else ""))
def look(name):
    report = pthparse.audit(one(name))
    found = [(g.module, g.name, g.status) for g in report.globals if g.status not in ("handled", "harmless")]
    report.to_json(), report.to_sarif(), report.reasons
    return dict(verdict=report.verdict, globals=found, n=report.n_globals,
                codes=sorted({{f.code for f in report.findings}}))
look(FILES[0])
idle = peak()
for name in FILES:
    look(name)
    allowed = max(allowed, {MOST_BYTES} + {PER_BYTE} * min(os.path.getsize(os.path.join(folder, name)), 1 << 20))
    assert peak() - idle <= allowed, (name, peak() - idle)
sys.addaudithook(hook)
for name in FILES:
    events.clear()
    watching = True
    answers[name] = look(name)
    watching = False
    answers[name]["events"] = sorted(set(events))
done(answers)
"""

COMMAND = """
from contextlib import redirect_stdout
from pthparse.cli import main
def run(*words):
    out = io.StringIO()
    with redirect_stdout(out):
        code = main(words)
    return code, out.getvalue()
answers = {}
for name in FILES:
    path = one(name)
    text, document, sarif = run("audit", path), run("audit", path, "--json"), run("audit", path, "--sarif")
    answers[name] = dict(text=text[1], codes=[text[0], document[0], sarif[0]], json=document[1], sarif=sarif[1])
    json.loads(document[1]), json.loads(sarif[1])
answers["left"] = os.listdir(".")
done(answers)
"""

# Everything that a reader gives out. Whatever a file holds, the errors are of one family.
READ = """
seconds *= 12  # values of many levels are made of classes of our own
answers = {}
def tried(what):
    try:
        return what()
    except pthparse.PthError as e:
        str(e), repr(e)
        return None
def read(ckpt):
    repr(ckpt), list(ckpt)[:5], ckpt.findings, ckpt.errors, ckpt.globals, ckpt.members
    tried(lambda: repr(ckpt.root)[:10])
    tried(lambda: repr(ckpt.metadata)[:10])
    tried(lambda: repr(ckpt.state_dict())[:10])
    for name in list(ckpt)[:2000]:
        t = tried(lambda: ckpt[name])
        if t is not None:
            repr(t), tried(lambda: t.storage)
            tried(lambda: t.numpy())
            tried(lambda: t.to_dense()) if t.kind == "sparse" else None
for name in FILES:
    path = one(name)
    ckpt = tried(lambda: pthparse.open(path))
    answers[name] = ckpt is not None
    if ckpt is not None:
        read(ckpt)
        ckpt.close()
answers["left"] = os.listdir(".")
done(answers)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of the catalogue, by their numbers."""
    made = tmp_path_factory.mktemp("hostile")
    for i, forged in enumerate(CATALOGUE):
        (made / str(i)).write_bytes(forged.build())
    return made


def ran(script: str, folder: Path, cwd: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", COMMON + script, folder], cwd=cwd, capture_output=True, text=True)
    last = done.stderr.splitlines()
    blamed = [IDS[int(line)] for line in last if line.isdigit()][-1:]
    assert done.returncode == 0, (blamed, [line for line in last if not line.isdigit()])
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def audited(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ran(AUDIT, folder, tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module")
def commanded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ran(COMMAND, folder, tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize("i", range(len(CATALOGUE)), ids=IDS)
def test_verdict(i: int, audited: dict[str, Any], folder: Path) -> None:
    forged, said = CATALOGUE[i], audited[str(i)]
    if forged.verdict == "not clean":
        assert said["verdict"] != "clean"
    else:
        assert said["verdict"] == forged.verdict
    found = {tuple(row) for row in said["globals"]}
    if len(forged.globals) > MOST_GLOBALS:
        assert len(found) == MOST_GLOBALS and found < forged.globals and said["n"] >= len(forged.globals)
    else:
        assert found == forged.globals
    assert forged.findings <= set(said["codes"])
    allowed = {("open", str(folder / str(i)))}
    rest = {tuple(event) for event in said["events"]} - allowed
    assert {event for event, _ in rest} <= {"builtins.id", "sys._getframe"}


@pytest.mark.parametrize("i", range(len(CATALOGUE)), ids=IDS)
def test_command(i: int, commanded: dict[str, Any], audited: dict[str, Any]) -> None:
    said, verdict = commanded[str(i)], audited[str(i)]["verdict"]
    assert said["codes"] == [CODES.get(verdict, 1)] * 3
    assert said["text"].startswith(verdict.upper())
    for text in (said["text"], said["json"], said["sarif"]):
        assert not RAW.search(text)


def test_nothing_is_left_behind(commanded: dict[str, Any]) -> None:
    assert commanded["left"] == []


def test_a_reader_raises_errors_of_one_family(folder: Path, tmp_path: Path) -> None:
    answers = ran(READ, folder, tmp_path)
    assert answers["left"] == []
    opened = {CATALOGUE[int(name)].verdict for name, was in answers.items() if name != "left" and was}
    assert {"clean", "review", "dangerous"} <= opened


SHOWN = [i for i, f in enumerate(CATALOGUE) if f.row in (5, 17, 33, 43, 52, 70, 73, 74, 80)][::6]


@pytest.mark.parametrize("i", SHOWN, ids=[IDS[i] for i in SHOWN])
def test_a_process_of_its_own(i: int, folder: Path, tmp_path: Path, audited: dict[str, Any]) -> None:
    words = [sys.executable, "-m", "pthparse", "audit", str(folder / str(i))]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == CODES.get(audited[str(i)]["verdict"], 1) and done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_every_row_has_its_files() -> None:
    of_files = {76, 77, 78, 79}  # below
    assert {f.row for f in CATALOGUE} == set(range(81)) - of_files
    assert len({(f.row, f.name) for f in CATALOGUE}) == len(CATALOGUE) >= 660


def test_an_evil_file_is_never_called_by_a_lesser_name() -> None:
    """Of all files in which a function that runs something can be seen."""
    for forged in CATALOGUE:
        assert (forged.verdict == "dangerous") >= any(g[2] == "dangerous" for g in forged.globals)


# ---- the same bytes by other ways ----


@pytest.mark.parametrize("name", ["a.safetensors", "a.txt", "a", "a.py", "a.json", "a.pth"])
def test_content_decides(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for data in (hostile.BAD, hostile.stream(hostile.BAD)):
        path.write_bytes(data)
        report = pthparse.audit(path)
        assert report.verdict == "dangerous" and EVIL in {(g.module, g.name, g.status) for g in report.globals}
        whole = pthparse.audit(tmp_path)
        assert whole.verdict == "dangerous" and [f.verdict for f in whole.files] == ["dangerous"]


def test_an_open_checkpoint_is_audited_as_its_file(folder: Path) -> None:
    told = 0
    for i, forged in enumerate(CATALOGUE):
        if forged.row not in (5, 9, 18, 29, 33, 43, 48, 70, 73, 74):
            continue
        try:
            ckpt = pthparse.open(folder / str(i))
        except pthparse.PthError:
            continue
        with ckpt:
            report, again = pthparse.audit(folder / str(i)), ckpt.audit()
            assert (again.verdict, again.n_globals) == (report.verdict, report.n_globals), forged.name
            told += 1
    assert told > 50


# ---- the file system ----


@pytest.fixture
def alarm() -> Iterator[None]:
    """What waits for ever is killed."""

    def stop(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.pth")
    report = pthparse.audit(tmp_path / "m.pth")
    assert (report.verdict, [f.code for f in report.findings]) == ("malformed", ["not-a-file"])
    with pytest.raises(pthparse.FormatError):
        pthparse.open(tmp_path / "m.pth")
    whole = pthparse.audit(tmp_path)
    assert [f.code for f in whole.findings] == ["special-file", "no-checkpoint"] and whole.verdict == "review"


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/random"])
def test_a_device_is_not_read(device: str, tmp_path: Path) -> None:
    assert stat.S_ISCHR(Path(device).stat().st_mode)
    (tmp_path / "m.pth").symlink_to(device)
    report = pthparse.audit(tmp_path / "m.pth")
    assert (report.verdict, [f.code for f in report.findings]) == ("malformed", ["not-a-file"])


@pytest.mark.usefixtures("alarm")
def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.pth").symlink_to("b.pth")
    (tmp_path / "b.pth").symlink_to("a.pth")
    (tmp_path / "here").symlink_to(".")
    with pytest.raises(OSError):
        pthparse.audit(tmp_path / "a.pth")
    assert pthparse.audit(tmp_path).verdict != "clean"
    (tmp_path / "m.pth").write_bytes(hostile.stream(hostile.BAD))
    report = pthparse.audit(tmp_path)
    assert report.verdict == "dangerous"
    assert [Path(f.path or "").name for f in report.files] == ["m.pth"]


def test_links_that_leave(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "good.pth").write_bytes(hostile.stream(GOOD))
    assert pthparse.audit(inside).verdict == "clean"
    (outside / "m.pth").write_bytes(hostile.stream(hostile.BAD))
    for target in (outside, outside / "m.pth", Path("/proc/self/mem")):
        (inside / "link").symlink_to(target)
        report = pthparse.audit(inside)
        assert report.verdict == "review" and "shard-link" in {f.code for f in report.findings}, target
        (inside / "link").unlink()


def test_a_linked_folder_of_a_download_cache_is_looked_into(tmp_path: Path) -> None:
    """snapshots/<revision>/x may lead to blobs/: whatever is there is a part of the model."""
    blobs, here = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    (blobs / "f").mkdir(parents=True)
    here.mkdir(parents=True)
    (here / "good.pth").write_bytes(hostile.stream(GOOD))
    (blobs / "f" / "m.pth").write_bytes(hostile.stream(hostile.BAD))
    (here / "x").symlink_to("../../blobs/f")
    assert pthparse.audit(here).verdict != "clean"


def test_files_of_the_system() -> None:
    """A size of 0, and bytes all the same."""
    assert pthparse.audit("/proc/self/maps").verdict == "malformed"


INDEX = "pytorch_model.bin.index.json"
BAD_INDEXES = {
    "parent": ('{"weight_map": {"a": "../m.bin"}}', "shard-name"),
    "absolute": ('{"weight_map": {"a": "/etc/passwd"}}', "shard-name"),
    "drive": ('{"weight_map": {"a": "C:m.bin"}}', "shard-name"),
    "backslash": ('{"weight_map": {"a": "..\\\\m.bin"}}', "shard-name"),
    "NUL": ('{"weight_map": {"a": "m.bin\\u0000.bin"}}', "shard-name"),
    "missing": ('{"weight_map": {"a": "n.bin"}}', "shard-missing"),
    "half a pair": ('{"weight_map": {"a": "\\ud800"}}', "shard-missing"),
    "a key twice": ('{"weight_map": {"a": "m.bin", "a": "x.bin"}}', "shard-index"),
    "the map twice": ('{"weight_map": {"a": "x.bin"}, "weight_map": {"a": "m.bin"}}', "shard-index"),
    "deep": ('{"weight_map": ' + "[" * 200_000 + "]" * 200_000 + "}", "shard-index"),
    "no map": ('{"weight_map": 5}', "shard-index"),
    "no JSON": ("{", "shard-index"),
    "a number": ('{"weight_map": {"a": 5}}', "shard-index"),
    "a list": ('{"weight_map": {"a": ["m.bin"]}}', "shard-index"),
    "digits": ('{"weight_map": ' + "9" * 100_000 + "}", "shard-index"),
    "empty": ("", "shard-index"),
}


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("name", BAD_INDEXES)
def test_an_index(name: str, tmp_path: Path) -> None:
    text, code = BAD_INDEXES[name]
    (tmp_path / "m.bin").write_bytes(hostile.stream(GOOD))
    (tmp_path / INDEX).write_text(text)
    for path in (tmp_path, tmp_path / INDEX):
        report = pthparse.audit(path)
        assert report.verdict == "malformed" and code in {f.code for f in report.findings}
        json.loads(report.to_json())
    sound = {n: "m.bin" for n in pthparse.open(tmp_path / "m.bin")}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": sound}))
    assert pthparse.audit(tmp_path / INDEX).verdict == "clean"
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {**sound, "another": "m.bin"}}))
    assert pthparse.audit(tmp_path / INDEX).verdict == "malformed"


@pytest.mark.usefixtures("alarm")
def test_an_index_that_names_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "m.bin", "b": "d.bin", "c": "l.bin"}}')
    os.mkfifo(tmp_path / "m.bin")
    (tmp_path / "d.bin").mkdir()
    (tmp_path / "l.bin").symlink_to("/dev/zero")
    report = pthparse.audit(tmp_path / INDEX)
    codes = [f.code for f in report.findings] + [f.code for file in report.files for f in file.findings]
    assert report.verdict == "malformed" and codes == ["shard-link", "not-a-file", "directory"]


@pytest.mark.usefixtures("alarm")
def test_an_index_of_many_names(tmp_path: Path) -> None:
    names = {str(i): f"{i % 99_999}.bin" for i in range(200_000)}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    report = pthparse.audit(tmp_path / INDEX)
    assert report.verdict == "malformed" and len(report.findings) <= 1000 and report.n_findings == 99_999
    names["a"] = "a.bin"  # more than five digits can number
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    (finding,) = pthparse.audit(tmp_path / INDEX).findings
    assert finding.code == "shard-index" and "it names 100,000 files; 99,999 are allowed" in finding.message


def sparse(path: Path, head: bytes, size: int, tail: bytes = b"") -> Path:
    with path.open("wb") as f:
        f.write(head)
        f.truncate(size)
        f.seek(size)
        f.write(tail)
    return path


HUGE = 8 << 30
HOLES = {
    "zeros": (b"", b"", "malformed"),
    "a zip without a directory": (hostile.stream(hostile.BAD)[:300], b"", "dangerous"),
    "a zip, then zeros": (hostile.stream(hostile.BAD), b"", "dangerous"),
    "a bare pickle, then zeros": (hostile.BAD, b"", "dangerous"),
    "a pickle on both sides": (GOOD, hostile.BAD, "malformed"),
    "a tar, then zeros": (hostile.tarred(("a.pkl", hostile.BAD)), b"", "dangerous"),
    "a legacy file, then zeros": (hostile.legacy.stream(hostile.SYSTEM, {}), b"", "dangerous"),
    "a magic number": (hostile.legacy.MAGIC, b"", "malformed"),
    "a gap in a zip": (b"PK\x03\x04", hostile.stream(hostile.BAD), "malformed"),
}

HOLE = """
idle = None
pthparse.audit(one(FILES[0]))
idle = peak()
answers = {name: pthparse.audit(one(name)).verdict for name in FILES[1:]}
answers["bytes"] = peak() - idle
done(answers)
"""


def test_files_of_holes(tmp_path: Path) -> None:
    """8 GiB that take no room on the disk: what is read is in proportion to the structure."""
    (tmp_path / "0").write_bytes(hostile.stream(GOOD))
    for i, (head, tail, _) in enumerate(HOLES.values(), 1):
        sparse(tmp_path / str(i), head, HUGE, tail)
    answers = ran(HOLE, tmp_path, tmp_path)
    assert answers.pop("bytes") <= MOST_BYTES
    assert {name: answers[str(i)] for i, name in enumerate(HOLES, 1)} == {n: row[2] for n, row in HOLES.items()}


def test_a_pickle_behind_a_large_storage(tmp_path: Path) -> None:
    """No size is too large to be looked at."""
    size = 1 << 30
    head = checkpoint(p.pickle(p.vector("0", size // 4)), {"0": b""})
    made = bytearray(hostile.with_entries(hostile.field(hostile.STORAGE, csize=size, usize=size, crc=0)))
    assert made and head
    archive = big_storage(size)
    path = sparse(tmp_path / "m.pth", archive[0], len(archive[0]) + size, archive[1])
    assert pthparse.audit(path).verdict == "clean"
    path = sparse(tmp_path / "m.pth", archive[0], len(archive[0]) + size, archive[1] + hostile.BAD)
    assert pthparse.audit(path).verdict == "dangerous"


def big_storage(size: int) -> tuple[bytes, bytes]:
    """A checkpoint whose storage is a hole: what stands before it and behind it."""
    small = 1 << 12
    whole = checkpoint(p.pickle(p.vector("0", size // 4)), {"0": bytes(small)})
    at = whole.index(b"archive/data/0") + len(b"archive/data/0")
    head, tail = bytearray(whole[:at]), bytearray(whole[at + small :])
    grown = size - small
    local = whole.index(b"archive/data/0") - 30
    head[local + 18 : local + 26] = size.to_bytes(4, "little") * 2
    entry = tail.index(b"archive/data/0") - 46
    tail[entry + 20 : entry + 28] = size.to_bytes(4, "little") * 2
    last = tail.rindex(b"archive/version") - 46
    for place in (last + 42, len(tail) - 6):
        tail[place : place + 4] = (int.from_bytes(tail[place : place + 4], "little") + grown).to_bytes(4, "little")
    return bytes(head), bytes(tail)


# ---- files that change while they are read ----


@pytest.mark.parametrize("left", [0, 100, 300, 5000])
@pytest.mark.parametrize("forged", ["zip", "legacy", "tar"])
def test_a_file_that_is_cut(left: int, forged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its opening and its reading: never a fault, and never clean."""
    path = tmp_path / "m.pth"
    path.write_bytes(large(forged))
    opened = audits.open_source

    def cut(source: Any) -> Any:
        made = opened(source)
        os.truncate(path, left)
        return made

    assert pthparse.audit(path).verdict == "clean"
    monkeypatch.setattr(audits, "open_source", cut)
    report = pthparse.audit(path)
    assert report.verdict in ("incomplete", "malformed") and "file-changed" in {f.code for f in report.findings}


def large(forged: str) -> bytes:
    data = bytes(1 << 20)
    if forged == "zip":
        return checkpoint(p.pickle(p.dict_of({"w": p.vector("0", 1 << 18)})), {"0": data})
    if forged == "legacy":
        return hostile.legacy.stream(hostile.legacy.vector("0", 1 << 18), {"0": data})
    record = hostile.tars.storage_record(1, data)
    return hostile.tars.archive(hostile.TARRED, [record], [hostile.tars.tensor_record(2, 1, [1 << 18], [1])])


@pytest.mark.parametrize("forged", ["zip", "legacy", "tar"])
def test_a_file_that_is_changed(forged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may have read something else: incomplete."""
    path = tmp_path / "m.pth"
    path.write_bytes(large(forged))
    opened = audits.open_source

    def changed(source: Any) -> Any:
        made = opened(source)
        now = path.stat()
        os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns + 10))
        return made

    monkeypatch.setattr(audits, "open_source", changed)
    report = pthparse.audit(path)
    assert report.verdict == "incomplete" and [f.code for f in report.findings] == ["file-changed"]


def test_a_checkpoint_whose_file_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(large("zip"))
    with pthparse.open(path) as ckpt:
        os.truncate(path, 200)
        report = ckpt.audit()
    assert report.verdict in ("incomplete", "malformed") and "file-changed" in {f.code for f in report.findings}


# ---- how long it takes ----


def seconds(forged: Forged) -> float:
    data = forged.build()
    start = time.perf_counter()
    pthparse.audit(data)
    return time.perf_counter() - start


if __name__ == "__main__":
    for spent, name in sorted(zip(map(seconds, CATALOGUE), IDS, strict=True), reverse=True)[:20]:
        print(f"{spent:8.3f} s  {name}")
    assert len(DATA) == 64
