"""Zip archives: what any honest tool makes of a checkpoint is read; each defect has its own error or finding."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forge import pickles as p
from forge.zips import DEFLATED, Entry, build, members

import pthparse

DATA = np.arange(4, dtype=np.float32).tobytes()
PKL = p.pickle(p.dict_of({"w": p.vector("0", 4)}))


def sound(prefix: str = "archive/") -> list[Entry]:
    return members(PKL, {"0": DATA}, prefix=prefix)


def changed(index: int, **fields: object) -> list[Entry]:
    entries = sound()
    entries[index] = dataclasses.replace(entries[index], **fields)  # type: ignore[type-var]
    return entries


ROOT, ORDER, STORAGE, VERSION = range(4)


def check(data: bytes, *findings: str) -> pthparse.Checkpoint:
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["w"] and ckpt["w"].numpy().tolist() == [0, 1, 2, 3]
    assert ckpt["w"].numpy(copy=True).tolist() == [0, 1, 2, 3]
    assert tuple(f.code for f in ckpt.findings) == findings
    return ckpt


def refused(data: bytes) -> pthparse.PthError:
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(data)
    return e.value


def unreadable(data: bytes) -> pthparse.PthError:
    """The file opens; its tensor is an error, of its own."""
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["w"]
    with pytest.raises(pthparse.PthError) as e:
        ckpt["w"].numpy()
    assert "'w'" in str(e.value)
    return e.value


# ---- what is read ----


@pytest.mark.parametrize("prefix", ["archive/", "", "a/b/c/", "two.dots/", "ünï/", "/", "x" * 300 + "/"])
def test_any_prefix(prefix: str) -> None:
    # torch itself needs a folder.
    check(build(sound(prefix)), *(["zip-folder"] if not prefix else []))


def test_deflated() -> None:
    ckpt = check(build([dataclasses.replace(e, method=DEFLATED) for e in sound()]))
    assert ckpt["w"].storage.file_offset is None


def test_zip64() -> None:
    check(build([dataclasses.replace(e, zip64=True) for e in sound()], eocd64=True))
    check(build(sound(), eocd64=True))
    check(build([dataclasses.replace(e, zip64=True) for e in sound()]))


def test_comment_and_trailing_bytes() -> None:
    check(build(sound(), comment=b"made by hand"), "zip-comment")
    check(build(sound(), suffix=b"\0" * 10), "zip-trailing")


def test_signature_inside_of_the_comment() -> None:
    """The last end record that fits its comment counts, as everywhere."""
    check(build(sound(), comment=b"PK\x05\x06" + bytes(5)), "zip-comment")


def test_names_in_other_case_and_folders() -> None:
    entries = sound()
    entries[ROOT] = dataclasses.replace(entries[ROOT], name="archive/DATA.PKL")
    check(build([Entry("archive/", b""), *entries]))
    check(build([*sound(), Entry("__MACOSX/archive/._data.pkl", b"x"), Entry("__MACOSX/data.pkl", b"x")]))


def test_a_second_root_is_reported() -> None:
    assert "zip-roots" in [f.code for f in pthparse.open(build([*sound(), *sound("other/")])).findings]


def test_without_version_or_byteorder() -> None:
    check(build([sound()[ROOT], sound()[STORAGE]]))


def test_padding_and_alignment() -> None:
    check(build(changed(STORAGE, local_extra=struct.pack("<HH", 0x4246, 60) + b"Z" * 60)))


def test_keys_are_opaque() -> None:
    keys = ("94308821128336", "a/b", "00", "é")
    pkl = p.pickle(p.dict_of({k: p.vector(k, 4) for k in keys}))
    ckpt = pthparse.open(build(members(pkl, dict.fromkeys(keys, DATA))))
    assert [t.storage.key for t in ckpt.values()] == list(keys)
    assert all(t.numpy().tolist() == [0, 1, 2, 3] for t in ckpt.values())


def test_integer_key() -> None:
    pkl = p.pickle(p.dict_of({"w": p.tensor(p.storage(p.integer(0), 4), [4], [1])}))
    check(build(members(pkl, {"0": DATA})))


def test_storages_of_torch_1_4_lie_in_tensors() -> None:
    entries = [Entry("a/data.pkl", PKL), Entry("a/tensors/0", DATA), Entry("a/version", b"1\n")]
    assert check(build(entries)).writer.text == "torch 1.4"


def test_bytes_after_the_pickle_are_noted() -> None:
    check(build(changed(ROOT, data=PKL + b"more")), "pickle-trailing")


def test_a_larger_record_than_the_pickle_says_is_read() -> None:
    check(build(members(PKL, {"0": DATA + bytes(100)})))


def test_members() -> None:
    ckpt = pthparse.open(build(sound()))
    assert [(m.name, m.nbytes, m.role) for m in ckpt.members] == [
        ("archive/data.pkl", len(PKL), "pickle"),
        ("archive/byteorder", 6, "meta"),
        ("archive/data/0", 16, "storage"),
        ("archive/version", 2, "meta"),
    ]


# ---- defects of one storage: the other tensors stay readable ----

PAIR = p.pickle(p.dict_of({"w": p.vector("0", 4), "ok": p.vector("1", 4)}))


def pair(**fields: object) -> bytes:
    entries = members(PAIR, {"0": DATA, "1": DATA})
    entries[STORAGE] = dataclasses.replace(entries[STORAGE], **fields)  # type: ignore[type-var]
    return build(entries)


def before_one_outside() -> bytes:
    """The local header of the last member leads past the end of the file, and so does an encrypted member."""
    root, order, storage, *others = members(PAIR, {"0": DATA, "1": DATA})
    storage = dataclasses.replace(storage, local_name_len=60000)
    return build([root, order, *others, storage, Entry("archive/x", b"", flags=0x0801, lho=1 << 30)])


BROKEN: dict[str, tuple[bytes, str]] = {
    "missing": (build(members(PAIR, {"1": DATA})), "storage-missing"),
    "short": (build(members(PAIR, {"0": DATA[:12], "1": DATA})), "tensor-bounds"),
    "two sizes": (pair(usize=20), "zip-sizes"),
    "encrypted": (pair(flags=0x0801), "zip-encrypted"),
    "bzip2": (pair(method=12), "zip-method"),
    "no local header": (pair(local_signature=b"PK\x03\x05"), "zip-local"),
    "longer name in the local header": (pair(local_name_len=60000), "zip-extent"),
    "longer name, and a member that lies outside": (before_one_outside(), "zip-extent"),
    "past the end": (pair(csize=1 << 30, usize=1 << 30), "zip-extent"),
    "local header past the end": (pair(lho=1 << 30), "zip-extent"),
    "broken deflate": (pair(method=DEFLATED, csize=3), "zip-"),
    "deflate that lies about its size": (pair(method=DEFLATED, usize=16, data=bytes(4000)), "zip-deflate"),
    "deflate that holds less": (pair(method=DEFLATED, usize=1600), "zip-deflate"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_broken_storage(name: str) -> None:
    data, code = BROKEN[name]
    ckpt = pthparse.open(data)
    with pytest.raises(pthparse.PthError) as e:
        ckpt["w"].numpy()
    assert e.value.code.startswith(code), e.value
    assert ckpt["ok"].numpy().tolist() == [0, 1, 2, 3]


# ---- defects of the whole ----

WHOLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no end record": (lambda: build(sound())[:-22], "zip-end"),
    "cut in the end record": (lambda: build(sound())[:-1], "zip-end"),
    "cut in the data": (lambda: build(sound())[:100], "zip-end"),
    "directory past its end record": (lambda: build(sound(), dir_len=1 << 20), "zip-directory"),
    "directory elsewhere": (lambda: build(sound(), dir_off=4), "zip-prefix"),
    "bytes before the archive": (lambda: b"PK\x03\x04" + build(sound()), "zip-prefix"),
    "several disks": (lambda: build(sound(), disks=1), "zip-span"),
    "broken entry": (lambda: build(changed(1, signature=b"PK\x01\x03")), "zip-header"),
    "fewer entries than counted": (lambda: build(sound(), count=9), "zip-header"),
    "zip64 end record elsewhere": (lambda: build(sound(), eocd64=True, end_off=5), "zip-end64"),
    "the same name twice": (lambda: build([*sound(), Entry("archive/data/0", DATA)]), "zip-duplicate"),
    "encrypted root": (lambda: build(changed(ROOT, flags=0x0801)), "zip-encrypted"),
    "root by another method": (lambda: build(changed(ROOT, method=14)), "zip-method"),
    "root without local header": (lambda: build(changed(ROOT, local_signature=b"XXXX")[::-1]), "zip-local"),
    "byteorder unknown": (lambda: build(changed(ORDER, data=b"middle")), "zip-byteorder"),
    "root cut short": (lambda: build(changed(ROOT, data=PKL[:-1])), "pickle-truncated"),
    "overlapping members": (lambda: build(changed(STORAGE, lho=0)), "zip-"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_file_refused(name: str) -> None:
    make, code = WHOLE[name]
    try:
        e = refused(make())
    except pytest.fail.Exception:
        e = unreadable(make())
    assert e.code.startswith(code), e


def test_more_entries_than_counted() -> None:
    """torch sees only as many as are counted, and so do we."""
    ckpt = pthparse.open(build(sound(), count=2))
    assert [f.code for f in ckpt.findings] == ["zip-count"]
    assert ckpt.errors["w"].code == "storage-missing"


@pytest.mark.parametrize(
    ("field", "code"),
    [({"local_name": b"archive/data/7"}, "zip-local-name"), ({"local_method": 8}, "zip-local-method")],
)
def test_a_local_header_that_says_something_else_is_a_finding(field: dict[str, object], code: str) -> None:
    """torch believes the directory alone."""
    ckpt = pthparse.open(build(changed(STORAGE, **field)))
    assert ckpt["w"].numpy().tolist() == [0, 1, 2, 3]
    assert [(f.code, f.member) for f in ckpt.findings] == [(code, "archive/data/0")]


def test_error_names_file_member_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(build(changed(ROOT, data=b"\x80\x02\xff.")))
    with pytest.raises(pthparse.FormatError) as e:
        pthparse.open(path)
    assert (e.value.path, e.value.member, e.value.offset) == (str(path), "archive/data.pkl", 2)
    assert str(e.value) == f"{path}!archive/data.pkl: byte 255 is no pickle opcode at byte 2 [pickle-opcode]"


def test_deflate_bomb_is_stopped_by_its_limit() -> None:
    bomb = build(changed(ROOT, method=DEFLATED, data=PKL + bytes(10_000_000)))
    with pytest.raises(pthparse.LimitError) as e:
        pthparse.open(bomb, limits=pthparse.Limits(max_inflate_bytes=1_000_000))
    assert e.value.code in ("max_inflate_bytes", "max_pickle_bytes")


def test_limits_on_members_and_directory() -> None:
    for limits, code in (
        (pthparse.Limits(max_members=3), "max_members"),
        (pthparse.Limits(max_directory_bytes=100), "max_directory_bytes"),
    ):
        with pytest.raises(pthparse.PthError) as e:
            pthparse.open(build(sound()), limits=limits)
        assert e.value.code == code


def test_a_file_cut_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(build(members(PKL, {"0": DATA})))
    with pthparse.open(path) as ckpt, path.open("r+b") as f:
        f.truncate(60)
        with pytest.raises(pthparse.PthError):
            ckpt["w"].numpy(copy=True)


# ---- many local headers at once ----


def many(n: int, **odd: object) -> bytes:
    """n storages; `odd`: of the local header of the fourth."""
    root = p.pickle(p.dict_of({f"t{i}": p.vector(str(i), 4) for i in range(n)}))
    entries = members(root, {str(i): np.full(4, i, np.float32).tobytes() for i in range(n)})
    at = next(i for i, e in enumerate(entries) if e.name == "archive/data/3")
    entries[at] = dataclasses.replace(entries[at], **odd)  # type: ignore[type-var]
    return build(entries)


def test_all_local_headers_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ckpt = pthparse.open(many(500))
    box = ckpt._box
    reads: list[int] = []
    window = box.source.window
    monkeypatch.setattr(box.source, "window", lambda at, n: reads.append(n) or window(at, n))
    box.locate_many(500)
    assert len(reads) == 1 and box.zip.located == len(box.zip)
    assert all(box.zip.data_off(i) for i in range(len(box.zip)))
    box.locate_many(500)
    assert len(reads) == 1
    assert [t.numpy()[0] for t in ckpt.values()] == list(range(500))


def test_few_of_many_are_read_by_themselves() -> None:
    ckpt = pthparse.open(many(500))
    ckpt._box.locate_many(10)
    assert ckpt._box.zip.located == 0


def test_an_odd_header_among_many_is_told_when_it_is_its_turn() -> None:
    ckpt = pthparse.open(many(20, local_name=b"archive/data/7"))
    ckpt._box.locate_many(20)
    assert ckpt.findings == ()
    assert ckpt["t4"].numpy()[0] == 4 and ckpt.findings == ()
    assert ckpt["t3"].numpy()[0] == 3
    assert [f.code for f in ckpt.findings] == ["zip-local-name"]


def test_a_wrong_header_among_many_is_an_error_of_its_own_tensor() -> None:
    data = many(20, local_signature=b"PK\x03\x05")
    ckpt = pthparse.open(data)
    table = ckpt.stats()
    assert len(table) == 19 and list(table.errors) == ["t3"]
    with pytest.raises(pthparse.PthError) as alone:
        pthparse.open(data)["t3"].numpy()
    assert str(table.errors["t3"]) == str(alone.value) and alone.value.code == "zip-local"


def test_headers_of_a_file_that_was_cut_are_left_to_their_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(many(500))
    ckpt = pthparse.open(path, mmap=False)
    with path.open("r+b") as file:
        file.truncate(path.read_bytes().index(b"archive/data/250"))
    table = ckpt.stats()
    assert [s.name for s in table] == [f"t{i}" for i in range(250)] and [s.max for s in table] == list(range(250))
    assert list(table.errors) == [f"t{i}" for i in range(250, 500)]
    assert {e.code for e in table.errors.values()} == {"zip-local"}
