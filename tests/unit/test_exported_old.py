"""Programs of torch.export before 2.8, made by hand: files of torch.save in a zip, and what lies."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from forge import pickles as p
from forge import zips
from forge.packages import build, resource
from forge.programs import SIGNATURE
from forge.web import serve

import pthparse

ONES, TWOS = struct.pack("<4f", 1, 2, 3, 4), struct.pack("<4f", 5, 6, 7, 8)
OF_2_1 = {
    "inputs_to_parameters": {"arg0_1": "w"},
    "inputs_to_buffers": {"arg1_1": "b"},
    "user_inputs": ["arg2_1"],
    "user_outputs": ["add"],
    "buffers_to_mutate": {},
    "backward_signature": None,
}


def turned(key: str) -> bytes:
    return p.tensor(p.storage(key, 4), [2, 2], [1, 2])


def saved(root: bytes, *storages: bytes) -> bytes:
    return zips.checkpoint(p.pickle(root), {str(i): data for i, data in enumerate(storages)})


STATE = saved(p.dict_of({"w": turned("0"), "b": p.vector("1", 4), "tied": turned("0")}), ONES, TWOS)
CONSTANTS = saved(p.dict_of({"c": p.vector("0", 4), "other": p.integer(3)}), TWOS)
INPUTS = saved(p.tuple_of([p.tuple_of([p.vector("0", 4)]), p.EMPTY_DICT]), ONES)


def program(
    state: bytes = STATE,
    constants: bytes | None = CONSTANTS,
    *,
    signature: Any = None,
    graph: Any = None,
    ending: str = "pt",
    method: int = zips.STORED,
    prefix: str = "",
    more: dict[str, bytes] | None = None,
) -> bytes:
    said = graph if graph is not None else {"graph_module": {"signature": signature or SIGNATURE}}
    members = {
        "serialized_exported_program.json": said if isinstance(said, bytes) else json.dumps(said).encode(),
        f"serialized_state_dict.{ending}": state,
        **({} if constants is None else {f"serialized_constants.{ending}": constants}),
        "serialized_example_inputs.pt": INPUTS,
        "version": b"8.2",
        **(more or {}),
    }
    return zips.build([zips.Entry(prefix + n, data, method) for n, data in members.items()])


def test_weights_constants_and_signature() -> None:
    data = program(graph={"graph_module": {"signature": SIGNATURE}, "torch_version": "2.7.1"})
    ckpt = pthparse.open(data)
    assert (ckpt.format, list(ckpt), dict(ckpt.errors)) == ("pt2", ["w", "b", "tied", "constants/c"], {})
    assert ckpt["w"].numpy().tolist() == [[1, 3], [2, 4]] and ckpt["w"].stride == (1, 2)
    assert ckpt["b"].numpy().tolist() == ckpt["constants/c"].numpy().tolist() == [5, 6, 7, 8]
    assert ckpt["w"].storage is not None and ckpt["w"].storage.tensors == ("w", "tied")
    at = ckpt["constants/c"].storage
    assert at is not None and at.file_offset is not None and data[at.file_offset :][:16] == TWOS
    assert dict(ckpt.metadata) == {
        "torch_version": "2.7.1",
        "inputs/parameter": "w",
        "inputs/buffer": "b",
        "inputs/user_input": "x, as_int",
        "outputs/user_output": "add",
    }
    assert ckpt.writer.text == "torch.export, torch 2.7.1" and "before 2.8" in ckpt.writer.evidence[0]
    assert pthparse.open(program()).writer.text == "torch.export, torch 2.1 to 2.7"


def test_the_layout_of_2_1() -> None:
    ckpt = pthparse.open(program(constants=None, signature=OF_2_1, ending="json"))
    assert list(ckpt) == ["w", "b", "tied"]
    assert dict(ckpt.metadata) == {
        "inputs/parameter": "w",
        "inputs/buffer": "b",
        "inputs/user_input": "arg2_1",
        "outputs/user_output": "add",
    }
    assert (ckpt.capacity().parameters, ckpt.capacity().buffers) == (4, 4)
    assert ckpt.audit().verdict == "review"


def test_a_folder_and_files_without_anything() -> None:
    assert list(pthparse.open(program(prefix="m/"))) == ["w", "b", "tied", "constants/c"]
    assert list(pthparse.open(program(b"", b""))) == []
    assert list(pthparse.open(program(constants=b""))) == ["w", "b", "tied"]


def test_the_layout_of_2_8_0() -> None:
    members = {
        "m/archive_format": b"pt2",
        "m/archive_version": b"0",
        "m/models/model.json": json.dumps({"graph_module": {"signature": SIGNATURE}}).encode(),
        "m/data/weights/model.pt": STATE,
        "m/data/constants/model.pt": CONSTANTS,
        "m/data/sample_inputs/model.pt": INPUTS,
        "m/.data/version": b"6",
    }
    data = zips.build([zips.Entry(n, d) for n, d in members.items()])
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["w", "b", "tied", "constants/c"] and ckpt.metadata["inputs/parameter"] == "w"
    assert ckpt.writer.text == "torch.export, torch 2.8" and ckpt.verify().ok
    assert sum(e.nbytes for e in ckpt.capacity().ledger()) == len(data)
    assert [f.code for f in ckpt.audit().findings if f.severity != "note"] == ["code"]
    members["m/data/weights/second.pt"] = STATE
    ckpt = pthparse.open(zips.build([zips.Entry(n, d) for n, d in members.items()]))
    assert [n for n in ckpt if n.endswith("w")] == ["model/w", "second/w"] and "model/constants/c" in ckpt


def test_roles_are_the_signatures() -> None:
    capacity = pthparse.open(program()).capacity()
    assert {g.name: (g.tensors, g.elements) for g in capacity.groups("role")} == {
        "parameters": (2, 4),
        "buffers": (1, 4),
        "other": (1, 4),
    }
    spec = {"buffer": {"arg": {"name": "x"}, "buffer_name": "c", "persistent": False}}
    held = {"input_specs": [spec], "output_specs": []}
    capacity = pthparse.open(program(signature=held)).capacity()
    assert {g.name: g.tensors for g in capacity.groups("role")} == {"parameters": 3, "buffers": 1}


def test_every_byte_is_for_something() -> None:
    data = program(more={"extra_files/note.txt": b"kept"})
    ckpt = pthparse.open(data)
    ledger = {e.kind: e.nbytes for e in ckpt.capacity().ledger()}
    assert sum(ledger.values()) == len(data) and ledger["tensor data"] == 3 * 16
    assert ledger["code"] == len(json.dumps({"graph_module": {"signature": SIGNATURE}}))
    pickles = [m.nbytes for m in ckpt.members if m.role == "pickle"]
    assert ledger["pickle"] == sum(pickles) and len(pickles) == 2
    assert ("serialized_state_dict.pt!archive/data/0", "storage") in {(m.name, m.role) for m in ckpt.members}
    wasted = saved(p.dict_of({"w": p.tensor(p.storage("0", 4), [2], [1])}), ONES, TWOS)
    capacity = pthparse.open(program(wasted)).capacity()
    assert capacity.wasted == 8 + 16 and sum(e.nbytes for e in capacity.ledger()) == capacity.file_bytes


def test_damage_has_names() -> None:
    data = program()
    assert pthparse.verify(data).ok
    at = data.index(ONES)
    report = pthparse.verify(data[:at] + b"?" + data[at + 1 :])
    assert {(t.name, t.member) for t in report.damaged} == {
        (name, "serialized_state_dict.pt!archive/data/0") for name in ("w", "tied")
    }
    assert report.whole == ("b", "constants/c")
    at = data.index(p.text("other"))
    report = pthparse.verify(data[: at + 5] + b"u" + data[at + 6 :])
    assert [(t.name, t.member) for t in report.damaged] == [("constants/c", "serialized_constants.pt!archive/data.pkl")]


def test_the_files_in_it_are_judged() -> None:
    assert pthparse.audit(program()).verdict == "review"  # the graph is code
    bad = saved(p.dict_of({"w": turned("0"), "x": p.call(p.glob("os", "system"), p.text("id"))}), ONES)
    for data in (program(bad), program(constants=bad), program(more={"serialized_example_inputs.pt": bad})):
        report = pthparse.audit(data)
        assert report.verdict == "dangerous" and any(g.name == "system" for g in report.globals)
    report = pthparse.audit(program(more={"strange": b"?"}))
    assert [f.member for f in report.findings if f.code == "zip-member"] == ["strange"]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (b"{}", "pt2-config"),
        (b"PK\x03\x04", "zip-end"),
        (STATE[:-30], "zip-end"),
        (zips.build([zips.Entry("a/readme.txt", b"hi")]), "not-a-checkpoint"),
        (program(), "not-a-checkpoint"),
        (build({"a.pkl": resource(p.NONE)}), "not-a-checkpoint"),
        (zips.checkpoint(b"\x80\x02(", {}), "pickle-truncated"),
    ],
)
def test_what_is_no_file_of_torch_save(state: bytes, code: str) -> None:
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(program(state))
    assert e.value.code == code and (e.value.member or "").startswith("serialized_state_dict.pt")
    assert pthparse.audit(program(state)).verdict != "clean" and not pthparse.verify(program(state)).ok


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (p.tensor(p.storage("9", 4), [4], [1]), "storage-missing"),
        (p.tensor(p.storage("0", 5), [5], [1]), "storage-missing"),
        (p.tensor(p.storage("0", 4), [4], [1], 1), "tensor-bounds"),
        (p.tensor(p.storage("../../serialized_constants.pt", 4), [4], [1]), "storage-missing"),
    ],
)
def test_a_tensor_that_does_not_fit_keeps_its_name(value: bytes, code: str) -> None:
    data = program(saved(p.dict_of({"bad": value, "w": turned("1")}), ONES, ONES))
    ckpt = pthparse.open(data)
    assert ckpt.errors["bad"].code == code and ckpt["w"].numpy().tolist() == [[1, 3], [2, 4]]
    assert not pthparse.verify(data).ok and pthparse.audit(data).verdict == "malformed"


def test_a_storage_that_is_shorter_than_it_says() -> None:
    value = p.tensor(p.storage("0", 5), [4], [1])
    data = program(saved(p.dict_of({"bad": value, "w": p.vector("1", 4)}), ONES, TWOS))
    ckpt = pthparse.open(data)
    assert list(ckpt.errors) == ["bad"] and ckpt["w"].numpy().tolist() == [5, 6, 7, 8]
    assert [(f.code, f.member) for f in ckpt.findings] == [("storage-size", "serialized_state_dict.pt!archive/data/0")]
    assert pthparse.audit(data).verdict == "malformed" and not pthparse.verify(data).ok


def test_two_tensors_of_one_name() -> None:
    held = p.pairs([(p.integer(1), p.vector("0", 4)), (p.text("1"), p.vector("1", 4))])
    ckpt = pthparse.open(program(saved(held, ONES, TWOS), constants=None))
    assert list(ckpt) == ["1"] and ckpt["1"].numpy().tolist() == [1, 2, 3, 4]
    assert [f.code for f in ckpt.findings] == ["names-collide"]


def test_what_is_no_plain_tensor_is_told() -> None:
    q = p.quantized(4, p.tuple_of([p.glob("torch", "per_tensor_affine"), b"G" + struct.pack(">d", 0.5), p.integer(0)]))
    ckpt = pthparse.open(program(saved(p.dict_of({"q": q, "w": turned("0")}), ONES)))
    assert list(ckpt) == ["w", "constants/c"]
    assert [(f.code, f.member) for f in ckpt.findings] == [("not-looked-into", "serialized_state_dict.pt")]


def test_compressed_files_are_told_of() -> None:
    with pytest.raises(pthparse.UnsupportedError, match=r"unpack it, and open 'serialized_state_dict.pt'"):
        pthparse.open(program(method=zips.DEFLATED))
    inside = zips.members(p.pickle(p.dict_of({"w": turned("0")})), {"0": ONES})
    packed = [zips.Entry(e.name, e.data, zips.DEFLATED) for e in inside]
    ckpt = pthparse.open(program(zips.build(packed)))
    assert ckpt.errors["w"].code == "storage-missing" and ckpt.findings[0].code == "pt2"


@pytest.mark.parametrize("graph", [b"{", b"[]", {}, {"graph_module": {"signature": {"inputs_to_parameters": 5}}}])
def test_a_graph_that_is_none_keeps_nothing_from_being_read(graph: Any) -> None:
    ckpt = pthparse.open(program(graph=graph))
    assert ckpt["w"].numpy().tolist() == [[1, 3], [2, 4]]
    assert [f.code for f in ckpt.findings] in (["signature"], ["pt2-config"])


def test_both_byte_orders_are_refused() -> None:
    inside = [e for e in zips.members(p.pickle(p.dict_of({})), {}) if "byteorder" not in e.name]
    big = zips.build([*inside, zips.Entry("archive/byteorder", b"big")])
    with pytest.raises(pthparse.FormatError, match="both byte orders"):
        pthparse.open(program(constants=big))


def test_the_same_tensors_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(program(constants=None))
    (tmp_path / "m.pth").write_bytes(STATE)
    assert pthparse.manifest(tmp_path / "m.pt2").model == pthparse.manifest(tmp_path / "m.pth").model
    assert not pthparse.diff(tmp_path / "m.pt2", tmp_path / "m.pth").changed
    with pthparse.open(tmp_path / "m.pt2") as ckpt:
        assert ckpt.stats()["b"].max == 8
    pthparse.convert(tmp_path / "m.pt2", tmp_path / "m.safetensors")
    with pthparse.open(tmp_path / "m.safetensors") as ckpt:
        assert ckpt["w"].numpy().tolist() == [[1, 3], [2, 4]]


def test_from_afar() -> None:
    data = program()
    with serve(data) as server, pthparse.open(server.url) as ckpt:
        assert list(ckpt) == ["w", "b", "tied", "constants/c"]
        assert ckpt["b"].numpy().tolist() == ckpt["constants/c"].numpy().tolist() == [5, 6, 7, 8]
        assert ckpt.verify().ok and sum(e.nbytes for e in ckpt.capacity().ledger()) == len(data)


def test_without_weights_it_is_named() -> None:
    data = zips.build([zips.Entry("serialized_exported_program.json", b"{}"), zips.Entry("version", b"8.2")])
    with pytest.raises(pthparse.UnsupportedError, match="without its weights") as e:
        pthparse.open(data)
    assert e.value.code == "pt2"
