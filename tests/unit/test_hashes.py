"""Hashes and manifests: values by hand, what they depend on, and what a manifest that was changed is told."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from forge import pickles as p
from forge import zips

import pthparse
from pthparse.hashes import CHUNK

EIGHT = struct.pack("<8f", *range(8))
SIX = EIGHT[:24]


def opened(values: dict[str, bytes], **storages: bytes) -> pthparse.Checkpoint:
    return pthparse.open(zips.checkpoint(p.pickle(p.dict_of(values)), {k[1:]: v for k, v in storages.items()}))


def by_hand(data: bytes, dtype: str, shape: list[int]) -> str:
    """As the module says it."""
    chunks = b"".join(blake3(data[i : i + CHUNK]).digest() for i in range(0, len(data), CHUNK))
    elements = blake3(b"pthparse elements 1\0" + struct.pack("<Q", len(data)) + chunks).digest()
    words = json.dumps([["", "tensor", dtype, shape]], separators=(",", ":")).encode()
    return str(blake3(b"pthparse tensor 1\0" + words + b'\0""\0' + elements).hexdigest())


def test_by_hand() -> None:
    with opened({"w": p.vector("0", 6), "b": p.vector("1", 2)}, _0=SIX, _1=EIGHT[:8]) as ckpt:
        found = ckpt.hash()
    w, b = by_hand(SIX, "float32", [6]), by_hand(EIGHT[:8], "float32", [2])
    assert [(t.name, t.hash, t.dtype, t.shape, t.nbytes) for t in found.tensors] == [
        ("b", b, "float32", (2,), 8),
        ("w", w, "float32", (6,), 24),
    ]
    assert found.model == blake3(f'pthparse model 1\n"b" {b}\n"w" {w}\n'.encode()).hexdigest()
    assert found.errors == ()


def test_several_chunks() -> None:
    data = np.random.default_rng(0).standard_normal(CHUNK // 2 + 3).astype(np.float32).tobytes()
    with opened({"w": p.vector("0", len(data) // 4)}, _0=data) as ckpt:
        assert {ckpt.hash(threads=n).tensors[0].hash for n in (1, 2, 5)} == {by_hand(data, "float32", [len(data) // 4])}


def test_how_elements_lie_does_not_count() -> None:
    store = p.storage("0", 8)
    same = {
        "plain": p.tensor(p.storage("1", 6), [2, 3], [3, 1]),
        "turned": p.tensor(store, [2, 3], [1, 2]),
        "stepped": p.tensor(p.storage("2", 12), [2, 3], [6, 2]),
    }
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T.tobytes() + bytes(8)
    stepped = np.repeat(np.arange(6, dtype=np.float32), 2).tobytes()
    with opened(same, _0=turned, _1=SIX, _2=stepped) as ckpt:
        found = ckpt.hash()
    assert {t.hash for t in found.tensors} == {by_hand(SIX, "float32", [2, 3])}
    assert found.equal_tensors() == (("plain", "stepped", "turned"),)


def test_an_expanded_tensor_is_its_elements() -> None:
    with opened({"e": p.tensor(p.storage("0", 8), [3, 2], [0, 1], 1)}, _0=EIGHT) as ckpt:
        assert ckpt.hash().tensors[0].hash == by_hand(EIGHT[4:12] * 3, "float32", [3, 2])


def test_shape_dtype_and_name_count() -> None:
    rows = [p.vector("0", 6), p.tensor(p.storage("0", 6), [2, 3], [3, 1]), p.vector("1", 6)]
    other = SIX[:-1] + b"\0"
    tensor_hashes, models = set(), set()
    for row in rows:
        with opened({"w": row}, _0=SIX, _1=other) as ckpt:
            tensor_hashes.add(ckpt.hash().tensors[0].hash)
            models.add(ckpt.hash().model)
    with opened({"v": rows[0]}, _0=SIX) as ckpt:
        assert ckpt.hash().tensors[0].hash in tensor_hashes and ckpt.hash().model not in models
    ints = p.tensor(p.storage("0", 6, "IntStorage"), [6], [1])
    with opened({"w": ints}, _0=SIX) as ckpt:
        tensor_hashes.add(ckpt.hash().tensors[0].hash)
    assert len(tensor_hashes) == 4 and len(models) == 3


def test_parts_of_a_quantized_tensor() -> None:
    def quantized(scale: bytes, zero: int = 3) -> str:
        scheme = p.glob("torch", "per_tensor_affine")
        value = p.quantized(4, p.tuple_of([scheme, scale, p.integer(zero)]))
        with opened({"q": value}, _0=b"\1\2\3\4") as ckpt:
            found = ckpt.hash()
            assert found.errors == ()
            return found.tensors[0].hash

    half, quarter = (b"G" + struct.pack(">d", x) for x in (0.5, 0.25))
    assert len({quantized(half), quantized(quarter), quantized(half, 4)}) == 3
    assert quantized(half) == quantized(half)


def test_bits_behind_the_last_element_do_not_count() -> None:
    def packed(data: bytes) -> str:
        numbers = p.tuple_of([p.glob("torch", "per_tensor_affine"), b"G" + struct.pack(">d", 0.5), p.integer(0)])
        value = p.quantized(4, numbers, "QUInt4x2Storage", [3])
        with opened({"q": value}, _0=data) as ckpt:
            assert ckpt["q"].dtype == "quint4x2" and ckpt["q"].nbytes == 2 and ckpt.hash().errors == ()
            return ckpt.hash().tensors[0].hash

    assert packed(b"\x21\x03\0\0") == packed(b"\x21\xf3\xff\xff") != packed(b"\x21\x04\0\0")


def test_large_tensors_that_lie_otherwise() -> None:
    """More than is gathered at once, in three dimensions, of which none lies as it is counted."""
    shape = (150, 190, 200)
    m = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    n = m.size
    forms = {"plain": (m, (190 * 200, 200, 1)), "turned": (m.transpose(2, 0, 1).copy(), (190, 1, 150 * 190))}
    found = set()
    for data, strides in forms.values():
        with opened({"w": p.tensor(p.storage("0", n), list(shape), list(strides))}, _0=data.tobytes()) as ckpt:
            made = ckpt.hash()
            assert made.errors == ()
            found.add(made.tensors[0].hash)
    assert found == {by_hand(m.tobytes(), "float32", list(shape))}


def test_tensors_without_data_are_described() -> None:
    def meta(n: int) -> pthparse.Manifest:
        args = [p.glob("torch", "float32"), p.ints([n]), p.ints([1]), p.FALSE]
        with opened({"m": p.call(p.glob("torch._utils", "_rebuild_meta_tensor_no_storage"), *args)}) as ckpt:
            return ckpt.hash()

    assert meta(3).errors == () and meta(3) == meta(3) and meta(3).model != meta(4).model


def test_a_big_endian_file_has_the_same_hash() -> None:
    root = p.pickle(p.dict_of({"w": p.vector("0", 6)}))
    big = np.arange(6, dtype=">f4").tobytes()
    entries = [
        e if e.name != "archive/byteorder" else zips.Entry(e.name, b"big") for e in zips.members(root, {"0": big})
    ]
    with pthparse.open(zips.build(entries)) as ckpt:
        assert ckpt.byteorder == "big" and ckpt.hash().tensors[0].hash == by_hand(SIX, "float32", [6])


def test_any_mapping() -> None:
    class Foreign:
        dtype, shape, nbytes = "float32", (6,), 24

        def numpy(self) -> Any:
            return np.frombuffer(SIX, np.float32)

    found = pthparse.manifest({"w": Foreign()})
    assert found.tensors[0].hash == by_hand(SIX, "float32", [6]) and found.path is None


def test_what_cannot_be_read_is_told() -> None:
    with opened({"gone": p.vector("9", 6), "w": p.vector("0", 6)}, _0=SIX) as ckpt:
        found = ckpt.hash()
    assert [t.name for t in found.tensors] == ["w"] and found.model is None
    assert [(e.name, e.code) for e in found.errors] == [("gone", "storage-missing")]
    again = pthparse.read_manifest(found.to_json().encode())
    assert [e.name for e in again.errors] == ["gone"] and again.model is None
    assert found.check(again).unknown == ("gone",) and not found.check(again).ok
    with opened({"gone": p.vector("9", 6), "w": p.vector("0", 6)}, _0=SIX, _9=SIX) as ckpt:
        whole = ckpt.hash()
    for check in (whole.check(again), found.check(whole)):  # unread then, or now: nobody can tell
        assert (check.ok, check.changed, check.missing, check.new, check.unknown) == (False, (), (), (), ("gone",))
    # Whether it was there before cannot be told: it is not known to be new.
    check = found.check(made())
    assert (check.new, check.unknown, check.ok) == ((), ("gone",), False)


# ---- manifests ----


def made() -> pthparse.Manifest:
    with opened({"w": p.vector("0", 6), "a\n\u202e\ud800": p.vector("1", 2)}, _0=SIX, _1=EIGHT[:8]) as ckpt:
        return ckpt.hash()


def test_a_manifest_is_read_as_it_was_written() -> None:
    text = made().to_json()
    assert text.isascii() and len(text.splitlines()) == 10
    assert text.splitlines()[7].startswith('  "w": {"hash": "')
    again = pthparse.read_manifest(text.encode())
    assert again == made() and again.to_json() == text
    check = made().check(again)
    assert (check.ok, check.changed, check.missing, check.new, check.unknown) == (True, (), (), (), ())


def test_what_a_check_says() -> None:
    before = made()
    with opened({"w": p.vector("0", 6), "new": p.vector("0", 6)}, _0=bytes(24)) as ckpt:
        check = ckpt.hash().check(before)
    assert (check.ok, check.changed, check.missing, check.new) == (False, ("w",), ("a\n\u202e\ud800",), ("new",))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(made().to_json())
    change(document)
    return json.dumps(document).encode()


ROW = "w"
WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "kind": lambda d: d.update(kind="other"),
    "schema": lambda d: d.update(schema=2),
    "schema true": lambda d: d.update(schema=True),
    "algorithm": lambda d: d.update(algorithm="md5"),
    "more keys": lambda d: d.update(more=1),
    "no tensors": lambda d: d.pop("tensors"),
    "tensors a list": lambda d: d.update(tensors=[]),
    "model": lambda d: d.update(model="0" * 64),
    "no model": lambda d: d.update(model=None),
    "hash changed": lambda d: d["tensors"][ROW].update(hash="0" * 64),
    "hash short": lambda d: d["tensors"][ROW].update(hash="ab"),
    "hash upper": lambda d: d["tensors"][ROW].update(hash="A" * 64),
    "hash a number": lambda d: d["tensors"][ROW].update(hash=5),
    "row a list": lambda d: d["tensors"].update({ROW: []}),
    "row more": lambda d: d["tensors"][ROW].update(more=1),
    "shape": lambda d: d["tensors"][ROW].update(shape=["a"]),
    "shape true": lambda d: d["tensors"][ROW].update(shape=[True]),
    "shape huge": lambda d: d["tensors"][ROW].update(shape=[1 << 80]),
    "nbytes": lambda d: d["tensors"][ROW].update(nbytes=-1),
    "dtype": lambda d: d["tensors"][ROW].update(dtype=["x"]),
    "errors": lambda d: d.update(errors={"x": {"code": 1, "message": ""}}),
    "both": lambda d: d.update(errors={ROW: {"code": "", "message": ""}}, model=None),
    "a number with a point": lambda d: d.update(schema=1.0),
    "NaN": lambda d: d["tensors"][ROW].update(nbytes=float("nan")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_manifest_that_was_changed(name: str) -> None:
    with pytest.raises(pthparse.PthError) as e:
        pthparse.read_manifest(changed(WRONG[name]))
    assert e.value.code in ("manifest", "manifest-schema")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[" * 200_000, b"\xff", b"[]", b"5", b'{"a":1,"a":2}', b"1" * 10_000, made().to_json().encode()[:-3]],
    ids=range(9),
)
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(pthparse.PthError):
        pthparse.read_manifest(data)


def test_a_key_that_stands_twice() -> None:
    row = next(line for line in made().to_json().splitlines() if '"w"' in line)
    text = made().to_json().replace(row, f"{row},\n{row}")
    with pytest.raises(pthparse.FormatError, match="twice"):
        pthparse.read_manifest(text.encode())
