"""Where parameters and bytes are: the ledger of every kind of file, groups, roles, what is shared and wasted."""

from __future__ import annotations

import json
import pickle
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forge import legacy, tars
from forge import pickles as p
from forge.hostile import CATALOGUE, Forged
from forge.zips import DEFLATED, Entry, build, checkpoint, members, torchscript

import pthparse
from pthparse import _core
from pthparse.cli import main

DATA = Path(__file__).parents[1] / "data"
FILES = sorted(DATA.rglob("*.pth"))
FLOATS = struct.pack("<16f", *range(16))
KINDS = (
    "tensor data", "unused storage", "pickle", "names and headers", "directory", "alignment padding", "other members",
    "code", "trailing",
)  # fmt: skip


def ledger_of(ckpt: pthparse.Checkpoint) -> dict[str, int]:
    """Bytes by kind, without those that have none; all of them are the file."""
    entries = ckpt.capacity().ledger()
    assert tuple(e.kind for e in entries) == KINDS
    assert sum(e.nbytes for e in entries) == ckpt.nbytes and min(e.nbytes for e in entries) >= 0
    return {e.kind: e.nbytes for e in entries if e.nbytes}


def ledger(data: bytes) -> dict[str, int]:
    with pthparse.open(data) as ckpt:
        return ledger_of(ckpt)


def test_the_lesson_to_the_byte() -> None:
    with pthparse.open(DATA / "lesson" / "lesson.pth") as ckpt:
        capacity = ckpt.capacity()
        assert ledger_of(ckpt) == {
            "tensor data": 93_060,
            "pickle": 15_166,
            "names and headers": 7_058,
            "directory": 7_156,
            "alignment padding": 1_521,
            "other members": 51,
        }
    assert (capacity.file_bytes, capacity.tensor_bytes, capacity.parameters) == (124_012, 93_060, 23_265)
    assert (capacity.tensors, capacity.elements, capacity.buffers, capacity.wasted) == (111, 23_265, 0, 0)
    assert {e.kind: e.count for e in capacity.ledger()}["names and headers"] == 117
    shares = {g.name: (g.elements, g.nbytes) for g in capacity.groups()}
    assert shares == {"layers": (20_064, 80_256), "fc": (1_649, 6_596), "embed": (1_552, 6_208)}
    assert [g.share for g in capacity.groups()] == [80_256 / 124_012, 6_596 / 124_012, 6_208 / 124_012]
    assert capacity.groups()[0].parameter_share == 20_064 / 23_265


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_the_ledger_is_the_file(file: Path) -> None:
    """Whatever was looked at before, and what torch wrote is trailing nowhere."""
    with pthparse.open(file) as ckpt:
        found = ledger_of(ckpt)
        ckpt.audit()
        assert ledger_of(ckpt) == found and ckpt.nbytes == file.stat().st_size
        capacity = ckpt.capacity()
    assert found.get("tensor data", 0) == capacity.tensor_bytes and "trailing" not in found
    for by in ("module", "dtype", "role"):
        groups = capacity.groups(by)
        assert sum(g.nbytes for g in groups) + capacity.unnamed_bytes == capacity.tensor_bytes
        assert sum(g.elements for g in groups) == capacity.elements
        assert sum(g.tensors for g in groups) == capacity.tensors
    assert sum(r.nbytes for r in capacity.why) == capacity.file_bytes


@pytest.mark.parametrize("file", CATALOGUE, ids=lambda f: f"{f.row}-{f.name[:60]}")
def test_the_ledger_of_hostile_files(file: Forged) -> None:
    """It adds up if they open; if not, the error is of the family."""
    try:
        with pthparse.open(file.build()) as ckpt:
            ledger_of(ckpt)
            json.dumps(ckpt.capacity().to_dict())
            ckpt.plan().to_dict()
    except pthparse.PthError:
        pass


# ---- zips ----

ROOT = p.pickle(p.dict_of({"w": p.vector("0", 16)}))
SOUND = checkpoint(ROOT, {"0": FLOATS})


def more_than_sound(data: bytes) -> dict[str, int]:
    """How a ledger differs from that of the sound archive."""
    found, sound = ledger(data), ledger(SOUND)
    return {k: found.get(k, 0) - sound.get(k, 0) for k in KINDS if found.get(k, 0) != sound.get(k, 0)}


def entries() -> list[Entry]:
    return members(ROOT, {"0": FLOATS})


def changed(index: int, **how: Any) -> bytes:
    made = entries()
    for name, value in how.items():
        setattr(made[index], name, value)
    return build(made)


def test_a_sound_archive() -> None:
    names = ("archive/data.pkl", "archive/byteorder", "archive/data/0", "archive/version")
    text = sum(map(len, names))
    assert ledger(SOUND) == {
        "tensor data": 64,
        "pickle": len(ROOT),
        "names and headers": 4 * 30 + text,
        "directory": 4 * 46 + text + 22,
        "other members": len(b"little") + len(b"3\n"),
    }


ZIPS: dict[str, tuple[Callable[[], bytes], dict[str, int]]] = {
    "behind the archive": (lambda: build(entries(), suffix=b"x" * 100), {"trailing": 100}),
    "a comment": (lambda: build(entries(), comment=b"hello"), {"directory": 5}),
    "zip64": (lambda: build(entries(), eocd64=True), {"directory": 56 + 20}),
    "a gap": (lambda: changed(2, gap=b"x" * 33), {"trailing": 33}),
    "before the first": (lambda: changed(0, gap=b"PK\3\4" + b"x" * 29), {"trailing": 33}),
    "padding": (lambda: changed(2, local_extra=b"FB\x04\0ZZZZ"), {"alignment padding": 8}),
    "another field": (lambda: changed(2, local_extra=b"\x99\x99\x04\0ZZZZ"), {"names and headers": 8}),
    "both": (
        lambda: changed(2, local_extra=b"\x99\x99\0\0FB\x04\0ZZZZ"),
        {"names and headers": 4, "alignment padding": 8},
    ),
    "a descriptor": (lambda: changed(2, flags=0x0808, after=b"PK\7\x08" + b"x" * 12), {"names and headers": 16}),
    "behind a pickle": (lambda: changed(0, data=ROOT + b"x" * 50), {"trailing": 50}),
    "a storage of nobody": (
        lambda: build([*entries(), Entry("archive/data/1", bytes(400))]),
        {"unused storage": 400, "names and headers": 44, "directory": 60},
    ),
    "a storage too long": (lambda: changed(2, data=FLOATS + bytes(36)), {"unused storage": 36}),
    "another member": (
        lambda: build([*entries(), Entry("notes.txt", bytes(10))]),
        {"other members": 10, "names and headers": 39, "directory": 55},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ZIPS)
def test_what_is_odd_about_a_zip(kind: str) -> None:
    make, expected = ZIPS[kind]
    assert more_than_sound(make()) == expected


def test_deflated_members() -> None:
    made = entries()
    made[0].method = made[2].method = DEFLATED
    found = ledger(build(made))
    assert (found["pickle"], found["tensor data"]) == (len(made[0].packed()), len(made[2].packed()))


def test_members_over_each_other() -> None:
    """Two names for the same bytes: they are counted once."""
    made = entries()
    twin = Entry("archive/twin", FLOATS, lho=None)
    data = build([*made, twin])
    assert more_than_sound(data)["other members"] == 64
    twin.lho = SOUND.index(b"PK\3\4", SOUND.index(b"archive/byteorder"))
    try:
        found = ledger(build([*made, twin]))
    except pthparse.PthError:
        return
    assert sum(found.values()) == len(build([*made, twin]))


def test_code_of_torchscript() -> None:
    source = b"class A(Module):\n  __parameters__ = []\n  __buffers__ = []\n"
    found = ledger(build(torchscript(p.EMPTY_TUPLE, m=source)))
    assert found["code"] == len(source)
    assert found["pickle"] == len(p.pickle(p.EMPTY_TUPLE)) + len(p.pickle(p.NONE))


# ---- the others ----


def test_a_legacy_stream() -> None:
    data = legacy.stream(p.dict_of({"w": legacy.vector("0", 16)}), {"0": FLOATS}, suffix=b"x" * 9)
    assert ledger(data) == {
        "tensor data": 64,
        "names and headers": 8,
        "trailing": 9,
        "pickle": len(data) - 64 - 8 - 9,
    }


def test_a_slice_in_a_legacy_stream() -> None:
    view = p.tensor(legacy.storage("0", 16), [2], [1], 4)
    found = ledger(legacy.stream(p.dict_of({"w": view}), {"0": FLOATS}))
    assert (found["tensor data"], found["unused storage"]) == (8, 56)


def test_an_ancient_tar() -> None:
    root = p.dict_of({"w": p.text("2") + p.BINPERSID})
    data = tars.archive(root, [tars.storage_record(1, FLOATS)], [tars.tensor_record(2, 1, [4, 2], [4, 1])])
    found = ledger(data)
    pickles = len(p.pickle(root)) + len(legacy.SYS_INFO)
    assert (found["tensor data"] + found["unused storage"], found["tensor data"], found["pickle"]) == (64, 32, pickles)
    assert set(found) == {"tensor data", "unused storage", "pickle", "names and headers", "alignment padding"}
    behind = ledger(data + b"junk")
    assert behind["trailing"] == 4 and behind["alignment padding"] == found["alignment padding"]


def test_a_bare_pickle() -> None:
    data = pickle.dumps({"a": [1, 2, 3]}, 2)
    assert ledger(data) == {"pickle": len(data)}
    assert ledger(data + b"x" * 5) == {"pickle": len(data), "trailing": 5}


def test_a_closed_checkpoint() -> None:
    ckpt = pthparse.open(SOUND)
    ckpt.close()
    with pytest.raises(pthparse.PthError, match="closed"):
        ckpt.capacity()


# ---- tensors ----


def test_views_between_each_others_rows() -> None:
    """Halves of a matrix by columns leave nothing unused; one of them leaves the other."""
    left, right = p.tensor(p.storage("0", 16), [4, 2], [4, 1]), p.tensor(p.storage("0", 16), [4, 2], [4, 1], 2)
    both = pthparse.open(checkpoint(p.pickle(p.dict_of({"l": left, "r": right})), {"0": FLOATS})).capacity()
    assert (both.tensor_bytes, both.wasted) == (64, 0)
    assert [(s.names, s.tied, s.nbytes) for s in both.shared] == [(("l", "r"), False, 64)]
    # The last row ends where the half does: the two elements behind it are in nobody's extent.
    one = pthparse.open(checkpoint(p.pickle(p.dict_of({"l": left, "again": left})), {"0": FLOATS})).capacity()
    assert (one.tensor_bytes, one.wasted, one.parameters, one.clean_bytes) == (32, 32, 8, one.file_bytes - 32)
    assert [(u.key, u.nbytes, u.unused, u.names) for u in one.unused] == [("0", 64, 32, ("l", "again"))]
    assert [s.tied for s in one.shared] == [True]


def nested_names() -> pthparse.Capacity:
    tree = {"a.x.w": 16, "a.y.w": 8, "a.y.b": 4, "b": 2}
    root = p.dict_of({"model": p.dict_of({n: p.tensor(p.storage("0", 64), [k], [1]) for n, k in tree.items()})})
    return pthparse.open(checkpoint(p.pickle(root), {"0": FLOATS * 4})).capacity()


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (None, {"model/a", "model"}),
        (1, {"model"}),
        (2, {"model/a", "model"}),
        (3, {"model/a.x", "model/a.y", "model"}),
        (9, {"model/a.x", "model/a.y", "model"}),
    ],
)
def test_groups_by_depth(depth: int | None, expected: set[str]) -> None:
    capacity = nested_names()
    assert {g.name for g in capacity.groups(depth=depth)} == expected
    assert sum(g.elements for g in capacity.groups(depth=depth)) == 30
    assert capacity.wasted == 256 - 64


def test_groups_are_asked_for_rightly() -> None:
    with pytest.raises(ValueError, match="by must be"):
        nested_names().groups("size")
    with pytest.raises(ValueError, match="at least 1"):
        nested_names().groups(depth=0)


def test_roles_of_a_training_checkpoint() -> None:
    with pthparse.open(DATA / "zoo" / "torch-2.13.0-py3.11" / "training.pth") as ckpt:
        capacity = ckpt.capacity()
    roles = {g.name: (g.tensors, g.elements) for g in capacity.groups("role")}
    assert (capacity.parameters, capacity.buffers) == (658, 9)
    assert roles["parameters"][1] == 658 and roles["buffers"] == (3, 9)
    assert capacity.elements == sum(n for _, n in roles.values()) == 6_806
    assert [(s.names, s.tied) for s in capacity.shared] == [(("model/embed.weight", "model/head.weight"), True)]


def test_sums_that_need_more_than_64_bits() -> None:
    """A tensor of expanded elements may count 2^60; many of them more than any column holds."""
    big = p.tensor(p.storage("0", 16), [1 << 60], [0])
    names = {f"m.{i}": p.tensor(p.storage("0", 16), [1 << 60], [0], i % 16) for i in range(40)}
    capacity = pthparse.open(checkpoint(p.pickle(p.dict_of({**names, "n": big})), {"0": FLOATS})).capacity()
    assert capacity.elements == 16 * (1 << 60) and capacity.tensor_bytes == 64
    assert json.loads(json.dumps(capacity.to_dict()))["parameters"] == 1 << 64


def test_the_core_gives_a_byte_to_the_first_kind_that_claims_it() -> None:
    made = _core.Ledger(_core.Arena(_core.Limits(pthparse.Limits())), 100)
    for begin, end, kind in ((0, 50, "other members"), (40, 60, "pickle"), (45, 300, "directory"), (45, 47, "code")):
        made.claim(begin, end, kind)
    assert {k: (n, c) for k, n, c in made.settle() if n or c} == {
        "pickle": (20, 1),
        "directory": (40, 1),
        "other members": (40, 1),
        "code": (0, 1),
    }


# ---- the command ----


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    def call(*words: str) -> str:
        assert main(list(words)) == 0
        return capsys.readouterr().out

    return call  # type: ignore[return-value]


def test_the_command(run: Any) -> None:
    out = re.sub(" +", " ", run("capacity", str(DATA / "lesson" / "lesson.pth")))
    for told in (
        "23,265 parameters; 93,060 B (93.1 kB, 90.9 KiB) of tensor data in 111 tensors",
        "model 93,060 75.04 % 23,265 parameters in 111 tensors, 4 bytes each",
        "layers 108 20,064 80,256 64.72 % 86.24 %",
        "alignment padding 117 1,521 1.23 %",
        "124,012 100.00 % the file's size",
    ):
        assert told in out, told


def test_the_command_by_module(run: Any) -> None:
    lines = run("capacity", str(DATA / "lesson" / "lesson.pth"), "--by", "module", "--depth", "2").splitlines()
    assert len(lines) == 1 + 8 and lines[1].startswith("layers.0 ")
    facts = json.loads(run("capacity", str(DATA / "lesson" / "lesson.pth"), "--json", "--by", "module", "--depth", "2"))
    assert [g["name"] for g in facts["groups"]["module"]][:2] == ["layers.0", "layers.1"]
    assert sum(e["nbytes"] for e in facts["ledger"]) == facts["file_bytes"] == 124_012


def test_names_are_escaped(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    view = p.tensor(p.storage("0", 16), [2], [1])
    path.write_bytes(checkpoint(p.pickle(p.dict_of({"\x1b[2Ja": view, "b\x07": view})), {"0": FLOATS}))
    out = run("capacity", str(path))
    assert "\x1b" not in out and "\x07" not in out and "\\x1b[2Ja = b\\x07: the same elements, 8 B" in out
    assert "56 of 64 B in storage 0 of \\x1b[2Ja, b\\x07" in out
