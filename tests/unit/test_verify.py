"""Checksums, extents, and what is left of a broken file: one defect a file, and what is said of it."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import legacy, tars
from forge import pickles as p
from forge.zips import DEFLATED, Entry, build, described, members

import pthparse
from pthparse import checksums
from pthparse.cli import main
from pthparse.source import FileSource, MemorySource, open_source

DATA = Path(__file__).parents[1] / "data"
LESSON = DATA / "lesson" / "lesson.pth"
ZOO = sorted((DATA / "zoo").rglob("*.pth"))
A, B = (np.arange(i, i + 4, dtype=np.float32).tobytes() for i in (1, 5))
PKL = p.pickle(p.dict_of({"a": p.vector("0", 4), "b": p.vector("1", 4)}))
ROOT, ORDER, FIRST, SECOND, VERSION = range(5)
VALUES = {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8]}


def entries(described_too: bool = True) -> list[Entry]:
    plain = members(PKL, {"0": A, "1": B})
    return [described(e) for e in plain] if described_too else plain


SOUND = build(entries(), eocd64=True)


def changed(index: int, **fields: Any) -> bytes:
    rows = entries()
    rows[index] = replace(rows[index], **fields)
    return build(rows)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def statuses(report: pthparse.VerifyReport) -> dict[str, str]:
    return {m.name.removeprefix("archive/"): m.status for m in report.members if m.status != "ok"}


def codes(report: pthparse.VerifyReport) -> tuple[str, ...]:
    return tuple(f.code for f in report.findings)


# ---- sound files ----


@pytest.mark.parametrize("file", ZOO, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_every_file_of_the_zoo_is_ok(file: Path) -> None:
    report = pthparse.verify(file)
    assert report.ok and report.verdict == "ok" and not report.damaged and not report.missing_nbytes
    assert {m.status for m in report.members} <= ({"ok"} if zipfile.is_zipfile(file) else {"unchecked"})
    with pthparse.open(file) as ckpt:
        assert report.whole == tuple(ckpt) and report.tensors == len(ckpt)
        kept = ckpt.findings
        assert ckpt.verify().to_dict() == report.to_dict() and ckpt.findings == kept


def test_all_bytes_of_members_are_checked() -> None:
    report = pthparse.verify(SOUND)
    held = [PKL, b"little", A, B, b"3\n"]
    assert report.checked_nbytes == sum(map(len, held)) and report.nbytes == len(SOUND)
    assert [m.nbytes for m in report.members] == list(map(len, held))
    assert [SOUND[m.offset :][:4] for m in report.members] == [b"PK\3\4"] * 5


def test_checksums_of_torch_that_were_not_written() -> None:
    nothing = [replace(described(e, crc=0), crc=0) for e in entries(False)]
    report = pthparse.verify(build(nothing))
    assert report.ok and set(statuses(report).values()) == {"unchecked"} and len(statuses(report)) == 5
    assert report.checked_nbytes == 0
    skipped = entries()
    for i in (FIRST, SECOND):  # skip_data(): the data were to be filled in later
        skipped[i] = replace(described(entries(False)[i], crc=0), crc=0)
    report = pthparse.verify(build(skipped))
    assert report.ok and statuses(report) == {"data/0": "unchecked", "data/1": "unchecked"}


@pytest.mark.parametrize("index", [ROOT, FIRST])
def test_one_zero_among_checksums_is_wrong(index: int) -> None:
    rows = entries()
    rows[index] = replace(described(entries(False)[index], crc=0), crc=0)
    report = pthparse.verify(build(rows))
    assert report.verdict == "damaged" and list(statuses(report).values()) == ["wrong"]


@pytest.mark.parametrize("data", [A, b"", os.urandom(3 << 19), bytes(5 << 20)], ids=["short", "empty", "long", "zeros"])
def test_deflated_members_are_inflated(data: bytes) -> None:
    rows = [replace(e, method=DEFLATED) for e in members(p.pickle(p.NONE), {"0": data})]
    report = pthparse.verify(build(rows))
    assert report.ok and not statuses(report)


@pytest.mark.parametrize("make", [open_source, lambda f: open_source(f.read_bytes())], ids=["file", "bytes"])
@pytest.mark.parametrize("threads", [1, 3])
def test_large_parts_are_summed_in_pieces(tmp_path: Path, make: Any, threads: int, monkeypatch: Any) -> None:
    import zlib

    monkeypatch.setattr(checksums, "PIECE", (1 << 20) + 4096)
    monkeypatch.setattr(checksums, "FEW_BYTES", 0)
    path = tmp_path / "file"
    data = os.urandom(5_000_000)
    path.write_bytes(data)
    cuts = [(0, 3_000_001), (3_000_001, 7), (3_000_008, 0), (3_000_008, 600_000), (3_700_000, 1_300_000)]
    seen: list[tuple[int, int]] = []
    found = checksums.crc32s(
        make(path), [checksums.Part(*c) for c in cuts], threads, lambda done, total: seen.append((done, total))
    )
    assert found == [zlib.crc32(data[at : at + n]) for at, n in cuts]
    total = sum(n for _, n in cuts)
    assert seen[-1] == (total, total) and [d for d, _ in seen] == sorted(d for d, _ in seen)


class Elsewhere(Executor):
    """As processes are: a task is what can be pickled."""

    tasks = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.tasks += 1
        done: Future[Any] = Future()
        done.set_result(pickle.loads(pickle.dumps((fn, args)))[0](*args, **kwargs))
        return done


@pytest.mark.parametrize("data", [SOUND, flipped(SOUND, SOUND.index(A)), SOUND[:-200], b"none"])
def test_a_file_alone_takes_an_executor_as_several_do(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    executor, alone = Elsewhere(), pthparse.verify(path)
    assert pthparse.verify(path, executor=executor) == alone
    assert executor.tasks == bool(alone.members)
    if alone.verdict in ("ok", "damaged"):
        with pthparse.open(path) as ckpt:
            assert ckpt.verify(executor=executor).to_dict() == alone.to_dict() and executor.tasks == 2
            assert ckpt.audit(executor=executor) == ckpt.audit()


def test_without_zlib_ng_the_answers_are_the_same(monkeypatch: Any) -> None:
    import zlib

    with_it = pthparse.verify(SOUND), pthparse.verify(flipped(SOUND, SOUND.index(A)))
    monkeypatch.setattr(checksums, "_library", lambda: zlib)
    assert (pthparse.verify(SOUND), pthparse.verify(flipped(SOUND, SOUND.index(A)))) == with_it


# ---- damage ----


def test_a_flipped_byte_of_data_is_found() -> None:
    report = pthparse.verify(flipped(SOUND, SOUND.index(A) + 5))
    assert not report.ok and report.verdict == "damaged"
    assert statuses(report) == {"data/0": "wrong"}
    assert report.whole == ("b",) and [t.name for t in report.damaged] == ["a"]
    assert report.damaged[0].member == "archive/data/0" and report.damaged[0].code == "zip-crc"


def test_tensors_that_share_damaged_bytes_are_all_named() -> None:
    pid = p.storage("0", 4)
    root = p.pickle(
        p.dict_of({"a": p.tensor(pid, [4], [1]), "t": p.tensor(pid, [2, 2], [2, 1]), "b": p.vector("1", 4)})
    )
    data = build([described(e) for e in members(root, {"0": A, "1": B})])
    report = pthparse.verify(flipped(data, data.index(A)))
    assert [t.name for t in report.damaged] == ["a", "t"] and report.whole == ("b",)


def test_with_its_pickle_damaged_no_tensor_can_be_vouched_for() -> None:
    at = SOUND.index(b"a", SOUND.index(PKL) + PKL.index(b"X"))  # the name of the first tensor
    report = pthparse.verify(flipped(SOUND, at))
    assert statuses(report) == {"data.pkl": "wrong"} and "zip-crc" in codes(report)
    assert [t.member for t in report.damaged] == ["archive/data.pkl"] * 2 and not report.whole


def test_a_pickle_too_broken_to_read_leaves_the_other_members_checked() -> None:
    at = SOUND.index(PKL) + len(PKL) - 1
    report = pthparse.verify(flipped(SOUND, at))
    assert report.verdict == "damaged" and statuses(report) == {"data.pkl": "wrong"}
    assert len(report.members) == 5 and report.tensors == 0 and codes(report)[-1].startswith("pickle-")


@pytest.mark.parametrize(
    ("data", "status", "finding"),
    [
        (changed(FIRST, crc=7), {"data/0": "wrong"}, "zip-local-crc"),
        (changed(FIRST, local_crc=7), {}, "zip-local-crc"),
        (build([*entries()[:2], described(entries(False)[2], crc=7), *entries()[3:]]), {}, "zip-local-crc"),
        (changed(FIRST, local_csize=99, local_usize=99), {}, "zip-local-sizes"),
        (changed(FIRST, local_name=b"archive/data/x"), {}, "zip-local-name"),
        (changed(FIRST, local_signature=b"PK\3\5"), {"data/0": "broken"}, "zip-local"),
        (changed(FIRST, after=b""), {}, "zip-descriptor"),
        (changed(FIRST, local_extra=b"FB\4\0ZZYZ"), {}, "zip-padding"),
        (changed(FIRST, csize=17, usize=17), {"data/0": "wrong"}, "zip-local-sizes"),
        (changed(FIRST, csize=15, usize=15), {"data/0": "wrong"}, "zip-gap"),
        (changed(FIRST, csize=1 << 20, usize=1 << 20), {"data/0": "broken"}, "zip-extent"),
        (changed(SECOND, lho=0), {"data.pkl": "broken", "data/1": "broken"}, "zip-overlap"),
    ],
    ids=[
        "crc of the directory", "crc of the header", "crc of the descriptor", "sizes of the header", "name",
        "signature", "no descriptor", "padding", "longer", "shorter", "far too long", "overlap",
    ],
)  # fmt: skip
def test_each_part_that_disagrees_is_damage(data: bytes, status: dict[str, str], finding: str) -> None:
    report = pthparse.verify(data)
    assert report.verdict == "damaged" and statuses(report) == status
    assert finding in codes(report) or any(finding in (m.message or "") for m in report.members) or status


# Bytes that nothing is compared with: versions, dates, attributes; the length of the archive's comment is a finding.
def unread(data: bytes) -> set[int]:
    out: set[int] = set()
    for signature, fields in ((b"PK\3\4", ((4, 2), (10, 4))), (b"PK\1\2", ((4, 4), (12, 4), (36, 6)))):
        at = data.find(signature)
        while at >= 0:
            out |= {at + f + i for f, n in fields for i in range(n)}
            at = data.find(signature, at + 1)
    end64, end = data.index(b"PK\6\6"), data.index(b"PK\5\6")
    return out | {end64 + i for i in range(12, 16)} | {end + i for i in (20, 21)}


def test_no_flipped_byte_is_missed() -> None:
    quiet = [i for i in range(len(SOUND)) if pthparse.verify(flipped(SOUND, i)).ok]
    assert set(quiet) <= unread(SOUND)


def test_deflated_members_that_do_not_inflate() -> None:
    rows = members(PKL, {"0": A * 100, "1": B})
    rows[FIRST] = replace(rows[FIRST], method=DEFLATED)
    packed = rows[FIRST].packed()
    data = build(rows)
    at = data.index(packed)
    for i in range(len(packed)):
        report = pthparse.verify(flipped(data, at + i))
        assert statuses(report) == {"data/0": "wrong"} and "a" not in report.whole, i
    for usize in (399, 401, 1 << 20):
        rows[FIRST] = replace(rows[FIRST], usize=usize)
        assert statuses(pthparse.verify(build(rows)))["data/0"] == "wrong"
    rows[FIRST] = replace(rows[FIRST], usize=None, csize=len(packed) - 1)
    assert statuses(pthparse.verify(build(rows)))["data/0"] == "wrong"


def test_a_member_of_another_method_or_behind_a_limit_is_not_compared() -> None:
    rows = members(PKL, {"0": bytes(5000), "1": B})
    rows[FIRST] = replace(rows[FIRST], method=DEFLATED)
    report = pthparse.verify(build(rows), limits=pthparse.Limits(max_inflate_bytes=4000))
    assert report.verdict == "unknown" and statuses(report) == {"data/0": "unchecked"}
    encrypted = pthparse.verify(changed(FIRST, flags=0x0801))
    assert not encrypted.ok and statuses(encrypted) == {"data/0": "unchecked"}


# ---- cut short: zip ----


def begin(data: bytes, name: str) -> int:
    """Of the data of a member."""
    at = data.index(f"archive/{name}".encode())
    return at + len(f"archive/{name}")


CUTS: dict[str, tuple[int, tuple[str, ...], int]] = {
    "in the end record": (len(SOUND) - 5, ("a", "b"), 0),
    "before the directory": (SOUND.index(b"PK\1\2"), ("a", "b"), 0),
    "in the directory": (SOUND.index(b"PK\1\2") + 70, ("a", "b"), 0),
    "in the last header": (begin(SOUND, "version") - 20, ("a", "b"), 0),
    "in the last member": (begin(SOUND, "version") + 1, ("a", "b"), 0),
    "before a descriptor": (begin(SOUND, "data/1") + 16, ("a", "b"), 0),
    "in a descriptor": (begin(SOUND, "data/1") + 20, ("a", "b"), 0),
    "in the data": (begin(SOUND, "data/1") + 15, ("a",), 1),
    "before the data": (begin(SOUND, "data/1"), ("a",), 16),
    "in a name": (begin(SOUND, "data/1") - 3, ("a",), 16),
    "before a header": (begin(SOUND, "data/1") - 30 - len("archive/data/1"), ("a",), 16),
    "before all data": (begin(SOUND, "data/0") - 60, (), 32),
    "behind the pickle": (begin(SOUND, "data.pkl") + len(PKL) + 16, (), 32),
}


@pytest.mark.parametrize("cut", CUTS)
def test_what_is_whole_of_a_zip_that_is_cut(cut: str) -> None:
    at, whole, missing = CUTS[cut]
    data = SOUND[:at]
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(data)
    assert "salvage=True" in str(e.value) and "pthparse verify" in str(e.value)
    ckpt = pthparse.open(data, salvage=True)
    assert list(ckpt) == ["a", "b"] and "salvaged" in [f.code for f in ckpt.findings]
    assert set(ckpt.errors) == {"a", "b"} - set(whole)
    assert all(isinstance(error, pthparse.TruncatedError) for error in ckpt.errors.values())
    for name in whole:
        assert ckpt[name].numpy().tolist() == VALUES[name] == ckpt[name].numpy(copy=True).tolist()
    for name in ckpt.errors:
        with pytest.raises(pthparse.TruncatedError, match="the file ends before"):
            ckpt[name].numpy()
        storage = ckpt[name].storage
        assert storage is not None and storage.file_offset is None and storage.nbytes == 16
    assert all(m.offset < len(data) for m in ckpt.members)
    assert sum(e.nbytes for e in ckpt.capacity().ledger()) == len(data)
    report = pthparse.verify(data)
    assert report.verdict == "truncated" and not report.ok and report.missing_nbytes == missing
    assert report.whole == whole and report.tensors == 2
    assert all(t.code == "storage-cut" for t in report.damaged)
    assert ckpt.verify() == report
    assert ckpt.audit().verdict == "malformed"


@pytest.mark.parametrize("at", [40, begin(SOUND, "data.pkl") + 30, begin(SOUND, "data.pkl") + len(PKL) - 1])
def test_with_its_pickle_cut_nothing_has_a_name(at: int) -> None:
    with pytest.raises(pthparse.TruncatedError):
        pthparse.open(SOUND[:at], salvage=True)
    report = pthparse.verify(SOUND[:at])
    assert report.verdict == "truncated" and report.tensors == 0


def test_a_pickle_that_comes_last_may_be_cut_off() -> None:
    """As torch.jit.save orders members: storages first."""
    rows = entries()
    data = build([rows[FIRST], rows[SECOND], rows[ROOT], rows[VERSION]])
    report = pthparse.verify(data[: begin(data, "data.pkl") + 5])
    assert report.verdict == "truncated" and report.tensors == 0
    assert [(m.name, m.status) for m in report.members] == [
        ("archive/data/0", "ok"), ("archive/data/1", "ok"), ("archive/data.pkl", "truncated"),
    ]  # fmt: skip
    at = data.index(b"archive/version") - 30
    assert pthparse.verify(data[:at]).whole == ("a", "b")


@pytest.mark.parametrize("how", ["plain", "deflated", "zip64", "streamed"])
def test_zips_of_other_writers_are_salvaged(how: str) -> None:
    rows = entries(False)
    if how == "deflated":
        rows = [replace(e, method=DEFLATED) for e in rows]
    elif how == "streamed":
        rows = [described(replace(e, method=DEFLATED)) for e in rows]
    elif how == "zip64":
        rows = [described(e, large=True) for e in rows]
    data = build(rows)
    with pthparse.open(data[: data.index(b"PK\1\2")], salvage=True) as ckpt:
        assert {name: t.numpy().tolist() for name, t in ckpt.items()} == VALUES
    cut = data.index(b"archive/version") - 40
    assert pthparse.verify(data[:cut]).whole in (("a", "b"), ("a",))


def test_sizes_of_64_bits_in_a_local_header() -> None:
    """As torch writes members of 4 GiB and more: both sizes all ones, the second number of the extra field 0."""
    rows = entries()
    for i, data in ((FIRST, A), (SECOND, B)):
        rows[i] = replace(
            described(entries(False)[i], large=True),
            local_csize=0xFFFFFFFF,
            local_usize=0xFFFFFFFF,
            local_extra=struct.pack("<HHQQ", 1, 16, len(data), 0),
        )
    whole = build(rows)
    ckpt = pthparse.open(whole[: whole.index(b"PK\1\2")], salvage=True)
    assert {name: t.numpy().tolist() for name, t in ckpt.items()} == VALUES
    cut = pthparse.verify(whole[: whole.index(B) + 3])
    assert cut.whole == ("a",) and cut.missing_nbytes == 13


def test_a_lost_directory_is_not_a_cut() -> None:
    data = SOUND.replace(b"PK\1\2", b"PK\1\3", 1)
    report = pthparse.verify(data)
    assert report.verdict == "damaged" and report.whole == ("a", "b") and not report.missing_nbytes
    assert {name: t.numpy().tolist() for name, t in pthparse.open(data, salvage=True).items()} == VALUES


def test_bytes_lost_in_the_middle() -> None:
    """The members before and behind the place are whole."""
    at = SOUND.index(A)
    data = SOUND[: at + 4] + SOUND[at + 9 :]
    report = pthparse.verify(data)
    assert not report.ok and "b" in report.whole and "a" not in report.whole
    assert pthparse.open(data, salvage=True)["b"].numpy().tolist() == VALUES["b"]


def test_damage_in_what_is_left() -> None:
    data = flipped(SOUND, SOUND.index(A))[: SOUND.index(B) + 4]
    report = pthparse.verify(data)
    assert report.verdict == "truncated" and {t.name: t.code for t in report.damaged} == {
        "a": "zip-crc",
        "b": "storage-cut",
    }


def test_salvage_changes_nothing_of_a_whole_file() -> None:
    ckpt = pthparse.open(SOUND, salvage=True)
    assert not ckpt.findings and {name: t.numpy().tolist() for name, t in ckpt.items()} == VALUES


def test_every_cut_of_the_lesson_keeps_what_lies_before_it() -> None:
    data = LESSON.read_bytes()
    with pthparse.open(LESSON) as ckpt:
        ends = {}
        for name, t in ckpt.items():
            assert t.storage is not None and t.storage.file_offset is not None
            ends[name] = t.storage.file_offset + t.storage.nbytes
        whole = {name: t.numpy(copy=True) for name, t in ckpt.items()}
    for at in [*range(20000, len(data) - 22, 9973), *ends.values(), *(end - 1 for end in ends.values())]:
        ckpt = pthparse.open(data[:at], salvage=True)
        assert set(ckpt) - set(ckpt.errors) == {name for name, end in ends.items() if end <= at}
        for name in ckpt.keys() - ckpt.errors.keys():
            assert np.array_equal(ckpt[name].numpy(), whole[name])


def test_limits_hold_for_what_is_salvaged() -> None:
    with pytest.raises(pthparse.LimitError):
        pthparse.open(SOUND[:-30], salvage=True, limits=pthparse.Limits(max_members=3))
    assert pthparse.verify(SOUND[:-30], limits=pthparse.Limits(max_members=3)).verdict == "unknown"


def test_a_pickle_that_names_endless_storages() -> None:
    root = p.pickle(p.dict_of({"a": p.vector("0", 4), **{f"x{i}": p.vector(f"9{i}", 1 << 60) for i in range(20)}}))
    data = build([described(e) for e in members(root, {"0": A})])[:-30]
    ckpt = pthparse.open(data, salvage=True)
    assert set(ckpt) - set(ckpt.errors) == {"a"} and ckpt["a"].numpy().tolist() == VALUES["a"]


# ---- cut short: legacy and tar ----

STREAM = legacy.stream(p.dict_of({"a": legacy.vector("0", 4), "b": legacy.vector("1", 4)}), {"0": A, "1": B})


@pytest.mark.parametrize(
    ("lost", "whole"),
    [(1, ("a",)), (16, ("a",)), (17, ("a",)), (24, ("a",)), (25, ()), (40, ()), (48, ())],
)
def test_what_is_whole_of_a_legacy_stream_that_is_cut(lost: int, whole: tuple[str, ...]) -> None:
    data = STREAM[:-lost]
    with pytest.raises(pthparse.TruncatedError, match="salvage=True"):
        pthparse.open(data)
    ckpt = pthparse.open(data, salvage=True)
    assert list(ckpt) == ["a", "b"] and [f.code for f in ckpt.findings] == ["salvaged"]
    assert all(isinstance(e, pthparse.TruncatedError) for e in ckpt.errors.values())
    assert {n: ckpt[n].numpy().tolist() for n in ckpt if n not in ckpt.errors} == {n: VALUES[n] for n in whole}
    report = pthparse.verify(data)
    assert report.verdict == "truncated" and report.whole == whole and report.missing_nbytes == lost
    assert report == ckpt.verify()


def test_a_legacy_stream_has_no_checksums() -> None:
    report = pthparse.verify(STREAM)
    assert report.ok and report.checked_nbytes == 0 and {m.status for m in report.members} == {"unchecked"}
    counted = STREAM[: -len(B) - 8] + struct.pack("<q", 5) + B
    report = pthparse.verify(counted)
    assert report.verdict == "damaged" and codes(report) == ("legacy-numel",)


@pytest.mark.parametrize("at", [30, 100, len(STREAM) - 60])
def test_with_its_pickles_cut_a_stream_has_no_names(at: int) -> None:
    report = pthparse.verify(STREAM[:at])
    assert report.verdict == "truncated" and report.tensors == 0
    with pytest.raises(pthparse.TruncatedError):
        pthparse.open(STREAM[:at], salvage=True)


TAR = tars.archive(
    p.dict_of({"a": p.text("1") + p.BINPERSID, "b": p.text("2") + p.BINPERSID}),
    [tars.storage_record(101, A), tars.storage_record(102, B)],
    [tars.tensor_record(1, 101, [4], [1]), tars.tensor_record(2, 102, [4], [1])],
    last="storages",
)


@pytest.mark.parametrize(
    ("at", "whole"),
    [
        (TAR.index(B) + 17, ("a", "b")),
        (TAR.index(B) + 16, ("a", "b")),
        (TAR.index(B) + 15, ("a",)),
        (TAR.index(B) - 4, ("a",)),
        (TAR.index(B) - 20, ("a",)),
        (TAR.index(A) + 16, ("a",)),
        (TAR.index(A) + 15, ()),
    ],
)
def test_what_is_whole_of_a_tar_that_is_cut(at: int, whole: tuple[str, ...]) -> None:
    data = TAR[:at]
    with pytest.raises(pthparse.TruncatedError, match="salvage=True"):
        pthparse.open(data)
    ckpt = pthparse.open(data, salvage=True)
    assert list(ckpt) == ["a", "b"] and [f.code for f in ckpt.findings] == ["salvaged"]
    assert all(isinstance(e, pthparse.TruncatedError) for e in ckpt.errors.values())
    assert {n: ckpt[n].numpy().tolist() for n in ckpt if n not in ckpt.errors} == {n: VALUES[n] for n in whole}
    report = pthparse.verify(data)
    assert report.verdict == "truncated" and report.whole == whole
    assert {m.name: m.status for m in report.members}["storages"] == "truncated"


@pytest.mark.parametrize("at", range(600, TAR.index(A) - 100, 512))
def test_a_tar_that_ends_before_its_storages(at: int) -> None:
    assert pthparse.verify(TAR[:at]).verdict == "truncated"


def test_a_whole_tar() -> None:
    assert pthparse.verify(TAR).ok and pthparse.open(TAR, salvage=True).findings == ()


# ---- what is no checkpoint, what changes, what fails ----


@pytest.mark.parametrize(
    ("data", "verdict", "code"),
    [
        (b"hello world, this is no model", "unknown", "not-a-checkpoint"),
        (b"", "unknown", "empty-file"),
        (b"\x1f\x8b" + bytes(50), "unknown", "gzip"),
        (build([Entry("a/readme.txt", b"hi")]), "unknown", "not-a-checkpoint"),
        (build([Entry("a.npy", b"hi")]), "unknown", "npz"),
        (build([replace(Entry("a.npy", b"hi"), crc=9)]), "damaged", "npz"),
        (SOUND + SOUND, "unknown", "zip-several"),
        (p.pickle(p.dict_of({"x": p.integer(1)})), "ok", None),
        (p.pickle(p.dict_of({"x": p.integer(1)}))[:-1], "truncated", "pickle-truncated"),
    ],
    ids=["text", "empty", "gzip", "zip", "npz", "damaged npz", "several", "pickle", "cut pickle"],
)
def test_other_files(data: bytes, verdict: str, code: str | None) -> None:
    report = pthparse.verify(data)
    assert report.verdict == verdict and codes(report) == (() if code is None else (code,))


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    report = pthparse.verify(tmp_path)
    assert report.verdict == "unknown" and codes(report) == ("directory",)
    with pytest.raises(FileNotFoundError):
        pthparse.verify(tmp_path / "nowhere")


def test_a_closed_checkpoint() -> None:
    ckpt = pthparse.open(SOUND)
    ckpt.close()
    with pytest.raises(pthparse.PthError, match="closed"):
        ckpt.verify()


def big(path: Path) -> Path:
    rows = members(p.pickle(p.dict_of({"a": p.vector("0", 2 << 20)})), {"0": os.urandom(8 << 20)})
    path.write_bytes(build(rows))
    return path


@pytest.mark.parametrize("change", ["cut", "written"])
def test_a_file_that_changes_meanwhile(tmp_path: Path, change: str, monkeypatch: Any) -> None:
    path = big(tmp_path / "x.pth")
    fill, once = FileSource.fill, threading.Event()

    def meanwhile(self: FileSource, buffer: bytearray, offset: int, length: int) -> Any:
        if not once.is_set():
            once.set()
            if change == "cut":
                os.truncate(path, 1 << 20)
            else:
                path.write_bytes(path.read_bytes() + b"x")
        return fill(self, buffer, offset, length)

    monkeypatch.setattr(FileSource, "fill", meanwhile)
    report = pthparse.verify(path)
    assert report.verdict == "unknown" and "file-changed" in codes(report)


def test_an_error_of_the_disk_reaches_the_caller(tmp_path: Path, monkeypatch: Any) -> None:
    def broken(self: FileSource, buffer: bytearray, offset: int, length: int) -> Any:
        raise OSError(5, "Input/output error", "x.pth")

    monkeypatch.setattr(FileSource, "fill", broken)
    with pytest.raises(OSError, match="Input/output"):
        pthparse.verify(big(tmp_path / "x.pth"), threads=2)


def test_files_and_buffers_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"before" + SOUND)
    report = pthparse.verify(SOUND)

    with path.open("rb") as file:
        file.seek(6)
        assert replace_path(pthparse.verify(file)) == report
    assert pthparse.verify(io.BytesIO(SOUND)) == report
    with zipfile.ZipFile(io.BytesIO(build([Entry("x", SOUND)]))) as archive, archive.open("x") as stream:
        assert pthparse.verify(stream) == report  # seekable, and without a descriptor
    assert MemorySource(SOUND).fill(bytearray(4), 0, 4) == SOUND[:4]


def replace_path(report: pthparse.VerifyReport) -> pthparse.VerifyReport:
    import dataclasses

    return dataclasses.replace(report, path=None)


# ---- the command ----


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    def call(*files: bytes | str) -> tuple[int, str, str]:
        words = []
        for i, file in enumerate(files):
            if isinstance(file, bytes):
                (tmp_path / f"{i}.pth").write_bytes(file)
            words.append(str(tmp_path / f"{i}.pth") if isinstance(file, bytes) else file)
        code = main(["verify", *words])
        out, err = capsys.readouterr()
        return code, out.replace(f"{tmp_path}/", ""), err

    return call


def test_what_the_command_says(run: Any) -> None:
    code, out, err = run(SOUND)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("OK         0.pth   zip, ")
    assert out.splitlines()[1:] == ["  5 of 5 checksums right; all 2 tensors whole"]
    code, out, err = run(flipped(SOUND, SOUND.index(A)))
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0].startswith("DAMAGED    0.pth")
    assert lines[1] == "  4 of 5 checksums right; 1 of 2 tensors whole"
    assert lines[2].startswith("  wrong: archive/data/0: the checksum of its bytes is ")
    assert lines[3].startswith("  damaged: a: the checksum of its bytes is ") and lines[3].endswith("[zip-crc]")
    assert lines[4:] == ["  whole: b"]


def test_what_the_command_says_of_a_cut_file(run: Any) -> None:
    code, out, err = run(SOUND[: SOUND.index(B) + 6])
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0].startswith("TRUNCATED  0.pth")
    assert lines[1] == "  3 of 3 checksums right, 1 part truncated; 1 of 2 tensors whole; 10 bytes missing"
    assert lines[2].startswith("  malformed: no end-of-central-directory record: ")
    assert lines[3:] == ["  cut off: b", "  whole: a"]


def test_exit_codes_of_several_files(run: Any) -> None:
    assert run(SOUND, STREAM)[0] == 0
    assert run(SOUND, b"no checkpoint")[0] == 2
    assert run(b"no checkpoint", SOUND[:-30])[0] == 1
    code, out, err = run(SOUND, "nowhere.pth")
    assert code == 2 and "nowhere.pth: No such file or directory" in err and out.startswith("OK ")


def test_json(run: Any) -> None:
    code, out, _ = run(flipped(SOUND, SOUND.index(A)), "--json")
    document = json.loads(out)
    assert code == 1 and document["schema"] == 1
    assert (document["ok"], document["verdict"], document["tensors"]) == (False, "damaged", 2)
    assert [m["status"] for m in document["members"]] == ["ok", "ok", "wrong", "ok", "ok"]
    assert document["damaged"][0]["name"] == "a" and document["whole"] == ["b"]
    code, out, _ = run(SOUND, STREAM, "--json")
    assert code == 0 and [f["format"] for f in json.loads(out)["files"]] == ["zip", "legacy"]


def test_all_parts_are_shown_on_demand(run: Any) -> None:
    code, out, _ = run(SOUND, "--all")
    assert code == 0 and "  ok: archive/data/1\n" in out


def test_names_are_escaped(run: Any) -> None:
    root = p.pickle(p.dict_of({"\x1b[31m": p.vector("0", 4)}))
    rows = [described(e) for e in members(root, {"0": A}, prefix="\x1b[0m/")]
    data = build(rows)
    for spoilt in (flipped(data, data.index(A)), data[: data.index(A) + 2]):
        code, out, _ = run(spoilt, "--all")
        assert code == 1 and "\x1b" not in out and "\\x1b[31m" in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_after_a_second(tmp_path: Path, monkeypatch: Any) -> None:
    from pthparse.report import progress

    path = big(tmp_path / "x\x1b.pth")
    monkeypatch.setattr("sys.stderr", Terminal())
    assert main(["verify", str(path)]) == 0
    assert progress.sys.stderr.getvalue() == ""
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert main(["verify", str(path)]) == 0
    drawn = progress.sys.stderr.getvalue()
    assert "100 %" in drawn and drawn.endswith("\r\x1b[K") and "\\x1b.pth" in drawn
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stderr", Terminal())
    assert main(["verify", str(path)]) == 0
    assert max(map(len, progress.sys.stderr.getvalue().split("\r\x1b[K"))) < 80
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stderr", Terminal())
    assert main(["verify", str(path)]) == 0 and progress.sys.stderr.getvalue() == ""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert main(["verify", str(path)]) == 0 and progress.sys.stderr.getvalue() == ""
