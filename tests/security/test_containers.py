"""Attacks through the container: names, sizes and members that are made to mislead, to crash or to cost without end.

Where the attack is on time or memory, the sizes are such that what falls for it hangs: nothing is timed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import legacy
from forge import pickles as p
from forge.zips import DEFLATED, Entry, build, checkpoint, described, members, model_json, torchscript

import pthparse
from pthparse.formats import zip as zip_format

DATA = np.arange(16, dtype=np.float32).tobytes()
VECTOR = p.vector("0", 16)


def refused(data: bytes) -> pthparse.PthError:
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(data)
    return e.value


# ---- archives without a directory ----

HEAD = build([described(e) for e in members(p.pickle(p.dict_of({"w": p.vector("0", 1 << 20)})), {})])
HEAD = HEAD[: HEAD.index(b"PK\1\2")]


def local(name: bytes, flags: int = 8) -> bytes:
    return b"PK\3\4" + struct.pack("<5H3I2H", 0, flags, 0, 0, 0, 0, 0, 0, len(name), 0) + name


@pytest.mark.parametrize(
    "rest",
    [
        local(b"x") + b"PK\7\x08" * (1 << 20),
        local(b"x") + (b"PK\7\x08" + bytes(12) + b"PK\3\4") * 200_000,
        (local(b"archive/data/0") + b"PK\7\x08" + bytes(12) + b"PK\3\4") * 50_000 + bytes(5 << 20),
        (local(b"archive/data/0") + b"PK\7\x08" + b"\1" * 12) * 50_000 + bytes(5 << 20),
        local(b"x") * 100_000,
        local(b"x", 0) * 50_000,
        local(b"x" * 60_000, 0) * 100,
        local(b"x")[:26] + b"\xff\xff\xff\xff" * 20_000,
    ],
    ids=["descriptors", "followed", "far hints", "lost bytes", "headers", "members", "names", "lengths"],
)
def test_a_walk_over_headers_is_linear(rest: bytes) -> None:
    ckpt = pthparse.open(HEAD + rest, salvage=True)
    assert list(ckpt) == ["w"] and ckpt["w"].error is not None
    assert not pthparse.verify(HEAD + rest).ok


def test_names_that_only_a_pickle_gives_do_not_multiply() -> None:
    """A folder of 60,000 bytes before each of 20,000 keys."""
    root = p.pickle(p.dict_of({f"w{i}": p.vector(str(i), 4) for i in range(20_000)}))
    data = build([described(e) for e in members(root, {}, prefix="f" * 60_000 + "/")])
    ckpt = pthparse.open(data[: data.index(b"PK\1\2")], salvage=True)
    assert len(ckpt) == len(ckpt.errors) == 20_000


# ---- names of members ----


def named(names: list[bytes]) -> bytes:
    """A sound checkpoint whose members have these names: the pickle, the storage, and others of no bytes."""
    contents = itertools.chain([p.pickle(VECTOR), DATA], itertools.repeat(b""))
    return build([Entry("", data, name_bytes=name) for name, data in zip(names, contents, strict=False)])


@pytest.mark.parametrize("prefix", [b"\xff/", b"\xed\xa0\x80/", b"a\xe9/b/"], ids=["latin", "surrogate", "inside"])
def test_a_prefix_that_is_not_utf8(prefix: bytes) -> None:
    ckpt = pthparse.open(named([prefix + b"data.pkl", prefix + b"data/0"]))
    assert not ckpt.errors and ckpt[""].numpy().tolist() == list(range(16))


@pytest.mark.parametrize("letter", ["\u212a", "\uff4b"], ids=["kelvin", "fullwidth"])
def test_a_letter_that_only_unicode_folds_to_k_makes_no_root(letter: str) -> None:
    """torch folds ASCII alone: another reader must not see a root where torch sees none."""
    entries = members(p.pickle(p.text("evil")), {})
    entries[0].name = f"archive/data.p{letter}l"
    assert refused(build(entries)).code == "not-a-checkpoint"


def colliding(n_pairs: int) -> list[bytes]:
    """Texts of 16 bytes a pair, all of one hash under h = (h ^ word) * C; h ^= h >> 32, whatever seed and C.

    Bit 63 of a word comes out as bits 63 and 31 of h, and is taken back by bits 63 and 31 of the next word.
    """
    plain, flipped = b"a" * 16, b"a" * 7 + b"\xe1" + b"a" * 3 + b"\xe1" + b"a" * 3 + b"\xe1"
    # The first two pairs are left alone: 2^(n - 2) texts are enough.
    return [plain * 2 + b"".join(row) for row in itertools.product((plain, flipped), repeat=n_pairs - 2)]


def test_member_names_that_collide_under_a_multiplicative_hash() -> None:
    """Both the table of duplicates and that of storage keys take them."""
    keys = colliding(17)[:20_000]
    names = [b"archive/" + key for key in keys]
    ckpt = pthparse.open(named([b"archive/data.pkl", b"archive/data/0", *names]))
    assert ckpt[""].numpy().tolist() == list(range(16))
    assert len(ckpt.members) == len({m.name for m in ckpt.members}) == 20_002
    assert [m.nbytes for m in ckpt.members][1:4] == [64, 0, 0]


def test_storage_keys_that_collide_under_a_multiplicative_hash() -> None:
    keys = colliding(18)[:40_000]
    texts = [b"T" + struct.pack("<I", len(key)) + key for key in keys]
    entries = members(p.pickle(p.list_of(p.tensor(p.storage(t, 1), [1], [1]) for t in (texts[0], texts[-1]))), {})
    entries += [Entry("", struct.pack("<f", i), name_bytes=b"archive/data/" + key) for i, key in enumerate(keys)]
    ckpt = pthparse.open(build(entries))
    assert [t.numpy().tolist() for t in ckpt.values()] == [[0], [39_999]]


# ---- what is compressed ----


def deflated(entries: list[Entry], index: int = 0) -> list[Entry]:
    entries[index].method = DEFLATED
    return entries


@pytest.mark.parametrize(
    "bomb", [b"(" + b"]" * 20_000_000 + b"t", b"K\x000" * 10_000_000 + b"N"], ids=["lists", "dropped numbers"]
)
def test_a_pickle_that_deflates_to_next_to_nothing(bomb: bytes) -> None:
    e = refused(build(deflated(members(p.pickle(bomb), {}))))
    assert (type(e), e.code, e.member) == (pthparse.LimitError, "max_inflate_ratio", "archive/data.pkl")


def test_constants_that_deflate_to_next_to_nothing() -> None:
    entries = torchscript(p.text("a" * 20_000_000))
    e = refused(build(deflated(entries, -1)))
    assert (type(e), e.code, e.member) == (pthparse.LimitError, "max_inflate_ratio", "archive/constants.pkl")


def test_a_pickle_of_a_mebibyte_may_deflate_to_anything() -> None:
    root = "a" * ((1 << 20) - 100)
    assert pthparse.open(build(deflated(members(p.pickle(p.text(root)), {})))).root == root


def test_a_storage_of_zeros_may_deflate_to_anything() -> None:
    entries = members(p.pickle(p.vector("0", 1 << 20)), {"0": bytes(1 << 22)})
    array = pthparse.open(build(deflated(entries, 2)))[""].numpy()
    assert array.shape == (1 << 20,) and not array.any()


def test_to_list_storages_inflates_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of zeros lies in a megabyte: only who asks for its elements may pay for them."""
    ckpt = pthparse.open(build(deflated(members(p.pickle(VECTOR), {"0": DATA}), 2)))
    monkeypatch.setattr(zip_format.zlib, "decompressobj", lambda wbits: pytest.fail("inflated"))
    assert [(s.key, s.nbytes, s.file_offset, s.tensors) for s in ckpt.storages] == [("0", 64, None, ("",))]
    assert ckpt[""].storage.file_offset is None
    monkeypatch.undo()
    assert ckpt[""].numpy().tolist() == list(range(16))


# ---- storages pickled by value ----


def by_value(data: bytes, junk: bytes = b"") -> bytes:
    return p.call(p.glob("torch.storage", "_load_from_bytes"), p.raw(legacy.by_value(data, junk)))


def by_text(data: bytes) -> bytes:
    text = p.call(p.glob("_codecs", "encode"), p.text(legacy.by_value(data).decode("latin-1")), p.text("latin1"))
    return p.call(p.glob("torch.storage", "_load_from_bytes"), text)


NOISE = random.Random(0).randbytes(1 << 17)
LONG_ROOT = p.pickle(p.text("Z" * 1_000_000))

CONSTANTS: dict[str, Callable[[], list[Entry]]] = {
    "behind a longer pickle": lambda: torchscript(p.tuple_of([p.tensor(by_value(DATA), [16], [1])]), LONG_ROOT),
    "beside a deflated pickle": lambda: deflated(torchscript(p.tuple_of([p.tensor(by_value(DATA), [16], [1])]))),
    "deflated": lambda: deflated(torchscript(p.tuple_of([p.tensor(by_value(DATA), [16], [1])]), LONG_ROOT), -1),
    "as text": lambda: torchscript(p.tuple_of([p.tensor(by_text(DATA), [16], [1])])),
    "as text, deflated": lambda: deflated(torchscript(p.tuple_of([p.tensor(by_text(DATA), [16], [1])])), -1),
}


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("copy", [False, True])
def test_constants_are_made_of_their_own_pickle(name: str, copy: bool) -> None:
    """Never of the bytes that lie at the same place of data.pkl, or behind its end."""
    (tensor,) = pthparse.open(build(CONSTANTS[name]())).constants
    assert tensor.numpy(copy=copy).tolist() == list(range(16))


def test_constants_far_larger_than_the_pickle_beside_them() -> None:
    entries = torchscript(p.tuple_of([p.tensor(by_value(NOISE), [1 << 15], [1])]))
    for index in (0, -1):
        (tensor,) = pthparse.open(build(deflated(entries, index))).constants
        assert tensor.numpy().tobytes() == NOISE


def test_a_storage_by_value_is_read_once_for_all_its_tensors() -> None:
    """100,000 opcodes before the storage, and 20,000 calls that share it."""
    rebuild, arguments = p.glob("torch._utils", "_rebuild_tensor_v2"), [by_value(DATA, b"N0" * 100_000)]
    arguments += [p.integer(0), p.ints([16]), p.ints([1]), p.FALSE, p.NONE]
    root = p.once(rebuild, 0) + p.once(p.tuple_of(arguments), 1)
    ckpt = pthparse.open(p.pickle(root + p.list_of([p.get(0) + p.get(1) + p.REDUCE] * 20_000)))
    assert len(ckpt) == 20_000 and not ckpt.errors and len(ckpt.storages) == 1
    assert ckpt["19999"].numpy().tolist() == list(range(16))


# ---- keys of storages ----


def test_a_key_longer_than_any_name_is_no_key() -> None:
    """40,000 tensors that share one storage, whose key of 1,600,000 bytes would be looked up for each."""
    lost = [p.storage("k" * 1_600_000, 4), p.integer(0), p.ints([4]), p.ints([1]), p.FALSE, p.NONE]
    root = p.once(p.glob("torch._utils", "_rebuild_tensor_v2"), 0) + p.once(p.tuple_of(lost), 1)
    root += p.list_of([VECTOR, *[p.get(0) + p.get(1) + p.REDUCE] * 40_000])
    ckpt = pthparse.open(checkpoint(p.pickle(root), {"0": DATA, "other": b""}))
    assert len(ckpt) == 40_001 and ckpt["0"].numpy().tolist() == list(range(16))
    errors = ckpt.errors
    assert len(errors) == 40_000 and {e.code for e in errors.values()} == {"storage-missing"}


def test_a_long_key_of_the_legacy_format() -> None:
    """Its list of keys names a storage that no persistent id can: so no size is known."""
    key = "k" * 400_000
    pid = [p.text("storage"), p.glob("torch", "FloatStorage"), p.text(key), p.text("cpu"), p.integer(4), p.NONE]
    root = p.once(p.tuple_of(pid), 0) + p.list_of([p.get(0) + p.BINPERSID] * 40_000)
    e = refused(legacy.stream(root, {key: bytes(16)}))
    assert (type(e), e.code) == (pthparse.FormatError, "legacy-unused")


# ---- TorchScript ----

ROW = {"dims": ["16"], "strides": ["1"], "offset": "0", "dataType": "FLOAT", "data": {"key": "tensors/0"}}


def module(**parts: object) -> dict[str, object]:
    return {"tensors": [ROW, ROW], "mainModule": parts}


def test_model_json() -> None:
    """The sound file that the defects below are made of."""
    ckpt = pthparse.open(model_json(module(parameters=[{"name": "w", "tensorId": 1}]), DATA))
    assert list(ckpt) == ["w"] and ckpt["w"].numpy().tolist() == list(range(16))


@pytest.mark.parametrize(
    "main",
    [
        {"parameters": [{"name": "w", "tensorId": -1}]},
        {"parameters": [{"name": "w", "tensorId": 2}]},
        {"parameters": [{"name": "w", "tensorId": []}]},
        {"parameters": [1]},
        {"parameters": 1},
        {"attributes": [1]},
        {"attributes": [{"type": "Tensor", "id": -1}]},
        {"submodules": [1]},
    ],
    ids=repr,
)
def test_model_json_of_other_shapes(main: dict[str, Any]) -> None:
    e = refused(model_json(module(**main), DATA))
    assert (type(e), e.code, e.member) == (pthparse.FormatError, "torchscript-json", "a/model.json")


def test_model_json_whose_names_would_fill_the_memory() -> None:
    names = [{"name": str(i), "tensorId": 0} for i in range(100_000)]
    main = {"submodules": [{"name": "n" * 60_000, "parameters": names}]}
    e = refused(model_json(module(**main), DATA))
    assert (type(e), e.code) == (pthparse.LimitError, "max_name_bytes")


@pytest.mark.parametrize("levels", [500, 100_000])
def test_model_json_of_many_levels(levels: int) -> None:
    """Python's own reader of JSON recurses, and so does what prints such a name."""
    text = json.dumps(module(parameters=[{"name": "@", "tensorId": 0}])).replace('"@"', "[" * levels + "]" * levels)
    data = build([Entry("a/model.json", text.encode()), Entry("a/tensors/0", DATA)])
    if levels == 500:
        assert list(pthparse.open(data)) == ["[" * levels + "]" * levels]
        return
    e = refused(data)
    assert (type(e), e.code) == (pthparse.FormatError, "torchscript-json")


def test_code_of_blank_lines() -> None:
    """What looks for the lists of a class must not begin again at every line."""
    blank = b'class A(Module):\n __parameters__ = ["w", ]\n __buffers__ = []\n' + b"\n" * 500_000
    root = p.glob("__torch__", "A") + p.EMPTY_TUPLE + p.NEWOBJ + p.dict_of({"w": VECTOR, "x": VECTOR}) + p.BUILD
    entries = [*torchscript(p.EMPTY_TUPLE, p.pickle(root), __torch__=blank), Entry("archive/data/0", DATA)]
    ckpt = pthparse.open(build(entries))
    assert ckpt.format == "torchscript" and list(ckpt) == ["w"]
    assert ckpt["w"].numpy().tolist() == list(range(16))


def test_a_script_module_of_one_tensor_under_endless_names() -> None:
    """5,000 lists in each other, and in the last the tensor 5,000 times: names of 10,000 bytes each."""
    deep = p.once(VECTOR, 0) + p.EMPTY_LIST * 5000 + p.MARK + p.get(0) * 5000 + b"e" + b"a" * 4999
    root = p.glob("__torch__", "M") + p.EMPTY_TUPLE + p.NEWOBJ + p.EMPTY_DICT + p.text("l") + deep + b"s" + p.BUILD
    code = b"class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n"
    entries = [*torchscript(p.EMPTY_TUPLE, p.pickle(root), __torch__=code), Entry("archive/data/0", DATA)]
    e = refused(build(entries))
    assert (type(e), e.code) == (pthparse.LimitError, "max_name_bytes")


# ---- files that change under the reader ----


@pytest.mark.parametrize("left", [5000, 0])
def test_a_file_cut_after_a_tensor_was_copied(tmp_path: Path, left: int) -> None:
    """Its local header is known by then: the mapping alone can tell, and must before it is touched."""
    path = tmp_path / "m.pth"
    path.write_bytes(checkpoint(p.pickle(p.vector("0", 1 << 20)), {"0": bytes(1 << 22)}))
    with pthparse.open(path) as ckpt:
        assert not ckpt[""].numpy(copy=True).any()
        os.truncate(path, left)
        for copy in (False, True):
            with pytest.raises(pthparse.TruncatedError) as e:
                ckpt[""].numpy(copy=copy)
            assert e.value.code == "file-changed" and e.value.path == str(path)


@pytest.mark.parametrize("left", [100, 0])
def test_a_file_cut_before_its_checkpoint(tmp_path: Path, left: int) -> None:
    """A file that is read from its 100th byte on, and loses everything behind that."""
    path = tmp_path / "m.pth"
    path.write_bytes(b"x" * 100 + checkpoint(p.pickle(p.vector("0", 1 << 20)), {"0": bytes(1 << 22)}))
    with path.open("rb") as f:
        f.seek(100)
        cold = pthparse.open(f)
        f.seek(100)
        warm = pthparse.open(f)
        assert not warm[""].numpy(copy=True).any()
        os.truncate(path, left)
        for ckpt, code in ((cold, "zip-local"), (warm, "file-changed")):
            with pytest.raises(pthparse.FormatError) as e:
                ckpt[""].numpy()
            assert e.value.code == code
        cold.close()
        warm.close()
