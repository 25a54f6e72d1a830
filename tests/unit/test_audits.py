"""The audit: what it says of files, directories and indices, as a report, as text, as JSON and as SARIF."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from forge import legacy, safetensors, zips
from forge import pickles as p

import pthparse
from pthparse import _core
from pthparse.cli import main
from pthparse.dangers import Judge

DATA = Path(__file__).parents[1] / "data"
LESSON = DATA / "lesson" / "lesson.pth"
FLOATS = struct.pack("<4f", 0, 1, 2, 3)
SOUND = zips.checkpoint(p.pickle(p.dict_of({"w": p.vector("0", 4)})), {"0": FLOATS})
COMMAND = p.call(p.glob("os", "system"), p.text("touch MARKER"))


def hostile(root: bytes) -> bytes:
    return zips.checkpoint(p.pickle(root), {})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str) -> tuple[int, str, str]:
        code = main(["audit", *words])
        return (code, *capsys.readouterr())

    return call


# ---- one file ----


def test_a_state_dict_is_clean() -> None:
    report = pthparse.audit(LESSON)
    assert (report.verdict, report.format, report.nbytes, report.tensors) == ("clean", "zip", 124_012, 111)
    assert (report.findings, report.code, report.files, report.reasons) == ((), (), (), [])
    assert [(g.module, g.name, g.uses, g.status) for g in report.globals] == [
        ("collections", "OrderedDict", 1, "handled"),
        ("torch._utils", "_rebuild_tensor_v2", 1, "handled"),
        ("torch", "FloatStorage", 1, "handled"),
    ]


@pytest.mark.parametrize("file", sorted(DATA.glob("zoo/*/*.pth")), ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_the_zoo(file: Path) -> None:
    """What torch 1.0 to 2.15 wrote: clean, but for what brings classes or code along."""
    report = pthparse.audit(file)
    with_code = file.stem in ("whole_model", "torchscript")
    assert report.verdict == ("review" if with_code else "clean"), report.reasons
    assert {f.severity for f in report.findings} <= ({"note", "review"} if with_code else set())
    described = file.parent.name in ("torch-1.0.1-py2.7", "torch-1.1.0-py3.6")  # by model.json alone
    assert bool(report.code) == (file.stem == "torchscript" and not described)
    with pthparse.open(file) as ckpt:
        before = ckpt.findings
        assert ckpt.audit() == report and ckpt.findings == before
    with file.open("rb") as opened:
        assert pthparse.audit(opened) == report
    assert pthparse.audit(file.read_bytes()) == dataclasses.replace(report, path=None)


def test_a_global_is_told_with_all_that_is_known_of_it() -> None:
    report = pthparse.audit(hostile(p.dict_of({"a": COMMAND, "b": p.glob("os", "system")})))
    assert report.verdict == "dangerous"
    (found,) = report.globals
    assert (found.module, found.name, found.uses, found.member) == ("os", "system", 2, "archive/data.pkl")
    assert (found.opcode, found.offset, found.status) == ("GLOBAL", 10, "dangerous")
    assert (found.call, found.python3) == ("('touch MARKER',)", None)
    assert "commands" in found.reason and report.reasons == [f"os.system: {found.reason}"]
    assert found.to_dict()["module"] == "os" and report.to_dict()["globals"][0] == found.to_dict()


def test_names_of_python_2_are_shown_as_both() -> None:
    report = pthparse.audit(p.pickle(p.call(p.glob("commands", "getoutput"), p.text("id")), 2))
    assert [(g.module, g.name, g.python3, g.status) for g in report.globals] == [
        ("commands", "getoutput", "subprocess.getoutput", "dangerous")
    ]


@pytest.mark.parametrize(
    ("module", "name", "status"),
    [
        ("os", "system", "dangerous"),
        ("os.path", "join", "dangerous"),
        ("posix", "system", "dangerous"),
        ("__builtin__", "eval", "dangerous"),
        ("torch.serialization", "os.system", "dangerous"),
        ("torch", "serialization.os.system", "dangerous"),
        ("torch", "os", "dangerous"),
        ("numpy", "sys", "dangerous"),
        ("collections", "OrderedDict.__init__.__globals__", "dangerous"),
        ("numpy", "__builtins__", "dangerous"),
        ("<computed>", "x", "dangerous"),
        ("x", "<computed>", "dangerous"),
        ("torch", "_utils._rebuild_tensor_v2", "unknown"),
        ("my.models", "Net", "unknown"),
        ("functools", "partial", "unknown"),
        ("osx", "system", "unknown"),
        ("torch", "nn.Module", "unknown"),
    ],
)
def test_statuses(module: str, name: str, status: str) -> None:
    assert Judge()(module, name, "UNKNOWN")[0] == status


def test_every_global_that_is_handled_is_told_so() -> None:
    judge = Judge()
    for module, name, meaning in _core.GLOBALS:
        status, reason, _ = judge(module, name, meaning)
        assert (status in ("handled", "harmless")) == (meaning in _core.HANDLED) and reason


def test_every_row_of_the_dangers_is_found() -> None:
    judge = Judge()
    for (module, name), (severity, reason) in _core.dangers().items():
        assert severity in ("dangerous", "unknown") and reason
        assert judge.danger(module, "anything" if name == "*" else name) == (severity, reason)


def test_a_broken_file_is_a_verdict() -> None:
    for data, code in ((b"", "empty-file"), (b"\x80\x02", "pickle-truncated"), (SOUND[:300], "zip-end")):
        report = pthparse.audit(data)
        assert report.verdict == "malformed" and code in [f.code for f in report.findings], data


def test_globals_before_an_error_are_told() -> None:
    for data in (b"\x80\x02" + COMMAND + b"\xff", legacy.MAGIC + p.pickle(COMMAND), SOUND[:4] + b"junk"):
        report = pthparse.audit(data)
        assert report.verdict == ("malformed" if b"junk" in data else "dangerous")
    members = [zips.Entry("archive/data.pkl", p.pickle(COMMAND)), zips.Entry("archive/version", b"3\n")]
    cut = zips.build(members)[:-30]
    report = pthparse.audit(cut)
    assert report.verdict == "dangerous" and {f.code for f in report.findings} >= {"zip-end", "zip-carved", "embedded"}


def test_a_limit_is_incomplete_and_never_clean() -> None:
    limits = pthparse.Limits(max_globals=1)
    report = pthparse.audit(hostile(p.list_of([p.glob("a", "b"), p.glob("c", "d")])), limits=limits)
    assert report.verdict == "incomplete"
    assert ("max_globals", "incomplete") in [(f.code, f.severity) for f in report.findings]
    inner = hostile(COMMAND)
    for _ in range(3):
        inner = zips.build([zips.Entry("archive/data.pkl", p.pickle(p.NONE)), zips.Entry("archive/in.pt", inner)])
    assert pthparse.audit(inner).verdict == "dangerous"
    shallow = pthparse.audit(inner, limits=pthparse.Limits(max_nesting=1))
    assert shallow.verdict == "incomplete" and "max_nesting" in [f.code for f in shallow.findings]
    evil = [zips.Entry("archive/data.pkl", p.pickle(p.NONE)), zips.Entry("archive/data.pkl", p.pickle(p.NONE))]
    evil += [zips.Entry(f"archive/{i}.pkl", p.pickle(p.NONE)) for i in range(9)]
    stopped = pthparse.audit(zips.build(evil), limits=pthparse.Limits(max_parts=5))  # what was found before stays
    assert stopped.verdict == "malformed" and {"max_parts", "zip-duplicate"} <= {f.code for f in stopped.findings}
    many = b"N." * 30
    assert "max_parts" in [f.code for f in pthparse.audit(many, limits=pthparse.Limits(max_parts=5)).findings]


def test_what_follows_is_looked_through() -> None:
    for data in (
        p.pickle(p.NONE) + p.pickle(COMMAND),
        p.pickle(p.NONE) + bytes(5000) + p.pickle(COMMAND),
        SOUND + p.pickle(COMMAND),
        legacy.stream(p.dict_of({"w": legacy.vector("0", 4)}), {"0": FLOATS}, suffix=p.pickle(COMMAND)),
        zips.checkpoint(p.pickle(p.NONE) + p.pickle(COMMAND), {}),
    ):
        report = pthparse.audit(data)
        (found,) = [g for g in report.globals if g.status == "dangerous"]
        assert report.verdict == "dangerous" and (found.module, found.name) == ("os", "system")
        assert "(behind" in str(found.member)
        if "archive/" not in str(found.member):  # a place in the file
            assert data[found.offset :].startswith(b"cos\nsystem\n")


def test_a_file_that_changes_meanwhile_is_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(SOUND)
    states = iter([(len(SOUND), 1), (len(SOUND), 2)])
    monkeypatch.setattr("pthparse.source._state", lambda fd: next(states))
    report = pthparse.audit(path)
    assert report.verdict == "incomplete" and [f.code for f in report.findings] == ["file-changed"]


def test_a_file_cut_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(zips.checkpoint(p.pickle(p.dict_of({"w": p.vector("0", 40_000)})), {"0": bytes(160_000)}))
    with pthparse.open(path, mmap=False) as ckpt:
        os.truncate(path, 5000)
        with pytest.raises(pthparse.TruncatedError) as e:
            ckpt["w"].numpy()
        assert e.value.code == "file-changed"
        assert ckpt.audit().verdict == "incomplete"


def test_without_a_map_arrays_are_copies(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(SOUND)
    with pthparse.open(path, mmap=False) as ckpt:
        array = ckpt["w"].numpy()
        path.write_bytes(SOUND.replace(FLOATS, bytes(16)))
    assert array.tolist() == [0, 1, 2, 3]


def test_a_closed_checkpoint_says_so() -> None:
    ckpt = pthparse.open(SOUND)
    ckpt.close()
    with pytest.raises(pthparse.PthError, match="closed"):
        ckpt.audit()


# ---- many files ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.pth").write_bytes(SOUND)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.bin").write_bytes(SOUND)
    (tmp_path / "README.md").write_text("import me: a text that begins like a pickle\n")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_directory(folder: Path) -> None:
    report = pthparse.audit(folder)
    assert (report.verdict, report.format, report.tensors) == ("clean", "directory", 2)
    assert [Path(f.path or "").name for f in report.files] == ["a.pth", "b.bin"]
    (folder / "notes.txt").write_bytes(p.pickle(COMMAND, None))
    report = pthparse.audit(str(folder))
    assert report.verdict == "dangerous" and len(report.files) == 3
    assert [(g.name, g.member) for g in report.globals if g.status == "dangerous"] == [("system", "notes.txt")]
    (folder / "empty").mkdir()
    alone = pthparse.audit(folder / "empty")
    assert (alone.verdict, [f.code for f in alone.findings]) == ("review", ["no-checkpoint"])


def test_what_is_no_file_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe.pth")
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(folder)
        s.bind("socket")
    report = pthparse.audit(folder)
    assert [(f.code, f.member) for f in report.findings] == [("special-file", "pipe.pth"), ("special-file", "socket")]
    assert report.verdict == "review"
    alone = pthparse.audit(folder / "pipe.pth")
    assert (alone.verdict, alone.findings[0].code) == ("malformed", "not-a-file")


def test_links_are_followed_inside_and_in_a_cache_of_downloads(tmp_path: Path) -> None:
    blob = tmp_path / "models" / "blobs" / "0123"
    snapshot = tmp_path / "models" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    blob.parent.mkdir()
    blob.write_bytes(SOUND)
    (tmp_path / "secret.bin").write_bytes(SOUND)
    (snapshot / "model.bin").symlink_to("../../blobs/0123")
    (snapshot / "again.bin").symlink_to("model.bin")
    report = pthparse.audit(snapshot)
    assert (report.verdict, len(report.files), report.findings) == ("clean", 2, ())
    (snapshot / "out.bin").symlink_to(tmp_path / "secret.bin")
    report = pthparse.audit(snapshot)
    assert [(f.code, f.member) for f in report.findings] == [("shard-link", "out.bin")] and len(report.files) == 2
    (snapshot / "loop.bin").symlink_to("loop.bin")
    assert ("special-file", "loop.bin") in [(f.code, f.member) for f in pthparse.audit(snapshot).findings]


def index(folder: Path, text: str) -> Path:
    path = folder / "pytorch_model.bin.index.json"
    path.write_text(text)
    return path


def test_an_index(folder: Path) -> None:
    names = {"w": "a.pth", "y": "c.bin"}
    (folder / "c.bin").write_bytes(zips.checkpoint(p.pickle(p.dict_of({"y": p.vector("0", 4)})), {"0": FLOATS}))
    report = pthparse.audit(index(folder, json.dumps({"metadata": {}, "weight_map": names})))
    assert (report.verdict, report.findings) == ("clean", ())
    assert [Path(f.path or "").name for f in report.files] == ["a.pth", "c.bin"]


@pytest.mark.parametrize("name", ["../x.bin", "/etc/passwd", "sub/b.bin", "a\\b", "C:x", "..", "", "a\0b"])
def test_an_index_that_leaves_its_directory(folder: Path, name: str) -> None:
    report = pthparse.audit(index(folder, json.dumps({"weight_map": {"w": name}})))
    assert (report.verdict, [f.code for f in report.findings], report.files) == ("malformed", ["shard-name"], ())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "shard-index"),
        ("[]", "shard-index"),
        ('{"weight_map": {"w": 5}}', "shard-index"),
        ('{"weight_map": []}', "shard-index"),
        ('{"weight_map": {"w": "a.pth", "w": "a.pth"}}', "shard-index"),
        ('{"weight_map": {"w": "none.bin"}}', "shard-missing"),
        ("[" * 100_000, "shard-index"),
    ],
)
def test_a_broken_index(folder: Path, text: str, code: str) -> None:
    path = index(folder, text)
    for source in (path, folder):
        report = pthparse.audit(source)
        assert report.verdict == "malformed" and code in [f.code for f in report.findings]


# ---- the command ----


def test_the_command_of_a_clean_file(run: Any) -> None:
    assert run(str(LESSON)) == (
        0,
        f"CLEAN      {LESSON}   zip, 124,012 B (124.0 kB, 121.1 KiB)\n"
        "  111 tensors; 3 globals, all understood and inert\n",
        "",
    )
    assert "handled: torch._utils._rebuild_tensor_v2" in run("--all", str(LESSON))[1]


def test_the_command_says_what_and_where(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(hostile(p.dict_of({"w": COMMAND})))
    code, out, err = run(str(path), str(LESSON))
    assert (code, err) == (1, "")
    assert out.splitlines()[0].startswith(f"DANGEROUS  {path}   zip, ")
    assert (
        "  dangerous: os.system('touch MARKER',): runs commands, touches files (GLOBAL at byte 10 of archive/data.pkl)"
        in out
    )
    assert "CLEAN      " in out


def test_exit_codes(run: Any, tmp_path: Path) -> None:
    bad, limited = tmp_path / "bad.pth", tmp_path / "limited.pth"
    bad.write_bytes(b"\x80\x02.")
    inner = p.pickle(p.NONE)
    for _ in range(12):
        inner = zips.build([zips.Entry("archive/data.pkl", p.pickle(p.NONE)), zips.Entry("archive/in.pt", inner)])
    limited.write_bytes(inner)
    assert pthparse.audit(limited).verdict == "incomplete"
    assert run(str(LESSON))[0] == 0
    assert run(str(bad))[0] == 1
    assert run(str(limited))[0] == 2
    assert run(str(limited), str(bad))[0] == 1
    code, out, err = run(str(tmp_path / "none.pth"), str(LESSON))
    assert code == 2 and "No such file" in err and out.startswith("CLEAN")


def test_json_and_sarif(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "b\x1bad.pth"
    path.write_bytes(hostile(p.list_of([p.glob("os", "system"), p.glob("m", "f")])))
    code, out, _ = run(str(path), "--json")
    document = json.loads(out)
    assert code == 1 and out.isascii() and "\x1b" not in out
    assert (document["schema"], document["verdict"], document["file"]) == (1, "dangerous", str(path))
    assert {"globals", "findings", "code", "n_globals", "n_findings", "files", "nbytes", "tensors"} <= set(document)
    assert json.loads(pthparse.audit(path).to_json())["globals"] == document["globals"]
    both = json.loads(run(str(path), str(LESSON), "--json")[1])
    assert [d["verdict"] for d in both["files"]] == ["dangerous", "clean"]
    code, out, _ = run(str(path), str(LESSON), "--sarif")
    log = json.loads(out)
    assert (code, log["version"], log["runs"][0]["tool"]["driver"]["name"]) == (1, "2.1.0", "pthparse")
    results = log["runs"][0]["results"]
    assert [(r["ruleId"], r["level"]) for r in results][:2] == [
        ("dangerous-global", "error"),
        ("unknown-global", "warning"),
    ]
    place = results[0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"].endswith("b%1Bad.pth")
    assert place["logicalLocations"][0]["fullyQualifiedName"] == "archive/data.pkl at byte 4"
    assert {r["ruleId"] for r in results} == {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]}
    assert pthparse.audit(path).to_sarif()["runs"][0]["results"] == results


def test_names_of_a_file_do_not_act_on_a_terminal(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(hostile(p.call(p.glob("m\x1b[31m", "f\u202e"), p.text("\x1b]0;x\x07"))))
    for words in ([], ["--all"], ["--json"], ["--sarif"]):
        out = run(str(path), *words)[1]
        assert out.replace("\n", "").isprintable(), words


def test_ten_thousand_findings_are_counted(tmp_path: Path) -> None:
    entries = [zips.Entry("archive/data.pkl", p.pickle(p.NONE)), zips.Entry("archive/version", b"3\n")]
    entries += [zips.Entry(f"archive/{i}.x", b"?") for i in range(10_000)]
    report = pthparse.audit(zips.build(entries))
    assert (report.verdict, len(report.findings), report.n_findings) == ("review", 1000, 10_000)


def test_archives_before_a_safetensors_file() -> None:
    """Plain values before tensors, as a distributed checkpoint may keep them: each part is looked at by itself."""

    def value(pickle: bytes) -> bytes:
        return zips.build(zips.members(pickle, {}), eocd64=True)

    value_of, tensors = value(p.pickle(p.integer(7))), safetensors.build({"a": safetensors.entry()}, bytes(4))
    bad = value(p.pickle(p.call(p.glob("os", "system"), p.text("x"))))
    for data, verdict in (
        (value_of * 2 + tensors, "review"),
        (value_of + bad + tensors, "dangerous"),
        (value_of * 2 + tensors + b"more", "malformed"),
        (value_of * 2 + bytes(8) + b"{", "malformed"),
        (value_of * 2 + b"\xff" * 8 + b"{", "malformed"),
        (b"x" + value_of * 2 + tensors, "malformed"),
    ):
        assert pthparse.audit(data).verdict == verdict, data[-40:]
