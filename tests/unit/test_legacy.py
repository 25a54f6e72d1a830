"""The legacy stream: its five pickles, its storages and views; each defect has its own error."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from forge import legacy
from forge import pickles as p

import pthparse

DATA = np.arange(6, dtype=np.float32).tobytes()


def one(**how: object) -> bytes:
    return legacy.stream(p.dict_of({"w": legacy.vector("0", 6)}), {"0": DATA}, **how)  # type: ignore[arg-type]


def code(data: bytes) -> str:
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(data)
    return e.value.code


def test_sound() -> None:
    ckpt = pthparse.open(one())
    assert ckpt.format == "legacy" and not ckpt.findings
    assert ckpt["w"].numpy().tolist() == [0, 1, 2, 3, 4, 5]
    assert [m.name for m in ckpt.members] == [
        "magic", "version", "sys_info", "object", "storage_keys", "storage 0",
    ]  # fmt: skip
    assert ckpt["w"].storage.file_offset == len(one()) - 24


def test_views_of_storages() -> None:
    """Up to 0.4, a storage could be a view of another: its elements lie in the root's."""
    view = p.tuple_of([p.text("77"), p.integer(2), p.integer(3)])
    root = p.dict_of({
        "whole": legacy.vector("0", 6),
        "view": p.tensor(legacy.storage("0", 6, view), [3], [1]),
    })  # fmt: skip
    ckpt = pthparse.open(legacy.stream(root, {"0": DATA}))
    assert ckpt["view"].numpy().tolist() == [2, 3, 4]
    assert ckpt["view"].storage.tensors == ("whole", "view")
    assert ckpt["view"].storage.nbytes == 12
    assert ckpt["view"].storage.file_offset == ckpt["whole"].storage.file_offset + 8


@pytest.mark.parametrize(("offset", "size"), [(4, 3), (-1, 3), (7, 0), (1 << 62, 1)])
def test_a_view_outside_of_its_storage_is_wrong_alone(offset: int, size: int) -> None:
    view = p.tuple_of([p.text("77"), p.integer(offset), p.integer(size)])
    root = p.dict_of({
        "whole": legacy.vector("0", 6),
        "view": p.tensor(legacy.storage("0", 6, view), [size], [1]),
    })  # fmt: skip
    ckpt = pthparse.open(legacy.stream(root, {"0": DATA}))
    assert list(ckpt.errors) == ["view"] and ckpt["whole"].numpy().size == 6


def test_sources_of_modules_are_passed_over() -> None:
    module = p.tuple_of([p.text("module"), p.glob("__main__", "Net"), p.text("net.py"), p.text("class Net: ...")])
    cls = module + p.BINPERSID
    state = p.dict_of({"_parameters": p.dict_of({"w": legacy.vector("0", 6)})})
    root = cls + p.EMPTY_TUPLE + p.NEWOBJ + state + p.BUILD
    ckpt = pthparse.open(legacy.stream(root, {"0": DATA}))
    assert [t.numpy().size for t in ckpt.values()] == [6]


def test_several_storages_in_the_order_of_the_keys() -> None:
    root = p.dict_of({"a": legacy.vector("9", 2), "b": legacy.vector("1", 3)})
    ckpt = pthparse.open(legacy.stream(root, {"1": DATA[:12], "9": DATA[12:20]}))
    assert ckpt["a"].numpy().tolist() == [3, 4] and ckpt["b"].numpy().tolist() == [0, 1, 2]


def test_bytes_behind_are_noted() -> None:
    assert [f.code for f in pthparse.open(one(suffix=b"x" * 9)).findings] == ["legacy-trailing"]
    assert [f.code for f in pthparse.open(one(suffix=one())).findings] == ["several-objects"]


REFUSED = {
    "magic": (one(magic=p.pickle(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x18")), "not-a-checkpoint"),
    "version": (one(version=p.pickle(p.integer(1002))), "legacy-version"),
    "keys are no list": (one(keys=p.dict_of({"0": p.NONE})), "legacy-keys"),
    "a key twice": (one(keys=p.EMPTY_LIST + p.MARK + p.text("0") * 2 + b"e"), "legacy-keys"),
    "a key of no tensor": (one(keys=p.EMPTY_LIST + p.MARK + p.text("0") + p.text("5") + b"e"), "legacy-unused"),
    "another count before the storage": (one(counts={"0": 5}), "legacy-numel"),
    "cut in the storage": (one()[:-1], "legacy-extent"),
    "cut before the count": (one()[:-30], "legacy-extent"),
    "cut in the pickles": (one()[:120], "pickle-truncated"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, expected = REFUSED[name]
    if expected == "not-a-checkpoint":
        assert list(pthparse.open(data)) == []  # a bare pickle of one number, with bytes behind it
    else:
        assert code(data) == expected


def test_a_storage_without_key_is_wrong_alone() -> None:
    root = p.dict_of({"w": legacy.vector("0", 6), "lost": legacy.vector("8", 6)})
    ckpt = pthparse.open(legacy.stream(root, {"0": DATA}))
    assert {n: e.code for n, e in ckpt.errors.items()} == {"lost": "storage-missing"}


def test_error_says_which_pickle_and_where() -> None:
    broken = legacy.MAGIC + legacy.VERSION + legacy.SYS_INFO + b"\x80\x02\xff."
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(broken)
    assert e.value.code == "pickle-opcode" and e.value.offset == len(broken) - 2


def test_magic_number_as_text_at_protocol_0() -> None:
    magic = b"L119547037146038801333356L\n."
    data = legacy.stream(
        p.dict_of({"w": legacy.vector("0", 6)}), {"0": DATA}, magic=magic, version=b"I1001\n.", sys_info=b"N."
    )
    assert pthparse.open(data)["w"].numpy().size == 6


def test_huge_counts_cost_nothing() -> None:
    root = p.dict_of({"w": p.tensor(legacy.storage("0", 1 << 60), [1 << 60], [1])})
    assert code(legacy.stream(root, {"0": DATA})) in ("legacy-extent", "storage-id")
    assert code(one()[: -24 - 8] + struct.pack("<q", -1) + DATA) == "legacy-numel"
