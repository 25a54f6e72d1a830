"""Programs of torch.export, made by hand: weights, constants, the signature; and configs that lie."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from forge import zips
from forge.programs import SIGNATURE

import pthparse


def meta(dtype: Any, sizes: list[Any], strides: list[Any], offset: Any = 0) -> dict[str, Any]:
    def number(n: Any) -> Any:
        return {"as_int": n}

    return {
        "dtype": dtype,
        "sizes": [number(n) for n in sizes],
        "strides": [number(n) for n in strides],
        "storage_offset": number(offset),
        "requires_grad": True,
        "layout": 7,
    }


def row(record: Any, said: Any, **more: Any) -> dict[str, Any]:
    return {"path_name": record, "is_param": True, "use_pickle": False, "tensor_meta": said, **more}


WEIGHTS = {
    "w": row("weight_0", meta(7, [2, 2], [1, 2])),
    "tied": row("weight_0", meta(7, [2, 2], [1, 2])),
    "b": row("weight_1", meta(13, [3], [1], 1)),
}
RECORDS = {"weight_0": struct.pack("<4f", 1, 2, 3, 4), "weight_1": struct.pack("<4H", 0, 0x3F80, 0x4000, 0x4040)}


def program(weights: Any = None, *, model: Any = None, more: dict[str, bytes] | None = None) -> bytes:
    config = weights if isinstance(weights, bytes) else json.dumps({"config": weights or WEIGHTS}).encode()
    graph = {"graph_module": {"signature": SIGNATURE}, "torch_version": "2.13.0"} if model is None else model
    members = {f"m/data/weights/{n}": data for n, data in RECORDS.items()}
    members |= {
        "m/data/weights/model_weights_config.json": config,
        "m/data/constants/tensor_0": struct.pack("<2q", 5, 6),
        "m/data/constants/model_constants_config.json": json.dumps(
            {"config": {"c": row("tensor_0", meta(5, [2], [1]))}}
        ).encode(),
        "m/models/model.json": graph if isinstance(graph, bytes) else json.dumps(graph).encode(),
        "m/archive_format": b"pt2",
        "m/archive_version": b"0",
        "m/byteorder": b"little",
        "m/.data/version": b"6",
        **(more or {}),
    }
    return zips.build([zips.Entry(n, data) for n, data in members.items()])


def test_weights_constants_and_signature() -> None:
    ckpt = pthparse.open(program())
    assert (ckpt.format, list(ckpt), dict(ckpt.errors)) == ("pt2", ["w", "tied", "b", "constants/c"], {})
    assert ckpt["w"].numpy().tolist() == [[1, 3], [2, 4]] and ckpt["w"].stride == (1, 2)
    assert ckpt["b"].numpy().astype(float).tolist() == [1, 2, 3] and ckpt["b"].dtype == "bfloat16"
    assert ckpt["constants/c"].numpy().tolist() == [5, 6]
    assert ckpt["tied"].storage == ckpt["w"].storage
    assert dict(ckpt.metadata) == {
        "torch_version": "2.13.0",
        "inputs/parameter": "w",
        "inputs/buffer": "b",
        "inputs/user_input": "x, as_int",
        "outputs/user_output": "add",
    }
    assert ckpt.writer.text == "torch.export, torch 2.13.0"


def test_every_byte_is_for_something() -> None:
    data = program(more={"m/data/weights/left": bytes(10), "m/data/aotinductor/a.so": bytes(7)})
    ckpt = pthparse.open(data)
    ledger = {e.kind: e.nbytes for e in ckpt.capacity().ledger()}
    assert sum(ledger.values()) == len(data)
    assert (ledger["tensor data"], ledger["unused storage"]) == (16 + 6 + 16, 10 + 2)
    graph = next(m.nbytes for m in ckpt.members if m.name == "m/models/model.json")
    assert ledger["code"] == graph + 7
    assert ckpt.verify().ok


def test_the_graph_is_code_and_nothing_else_is_odd() -> None:
    report = pthparse.audit(program())
    assert report.verdict == "review" and report.code == ("m/models/model.json",) and not report.globals
    assert [f.code for f in report.findings if f.severity != "note"] == ["code"]
    report = pthparse.audit(program(more={"m/data/aotinductor/x.so": b"\x7fELF", "m/strange": b"?"}))
    assert "m/data/aotinductor/x.so" in report.code
    assert [(f.code, f.member) for f in report.findings if f.code == "zip-member"] == [("zip-member", "m/strange")]


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        ({"w": row("weight_0", meta(7, [3, 2], [2, 1]))}, "tensor-bounds"),
        ({"w": row("weight_0", meta(7, [4], [1], 1))}, "tensor-bounds"),
        ({"w": row("none", meta(7, [4], [1]))}, "storage-missing"),
        ({"w": row("../constants/tensor_0", meta(7, [4], [1]))}, "storage-missing"),
    ],
)
def test_a_tensor_that_does_not_fit_keeps_its_name(weights: Any, code: str) -> None:
    ckpt = pthparse.open(program({**weights, "b": WEIGHTS["b"]}))
    assert ckpt.errors["w"].code == code
    assert ckpt["b"].numpy().astype(float).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "weights",
    [
        b"{",
        b"[]",
        b'{"config": 5}',
        b"[" * 100_000,
        {"w": 5},
        {"w": {}},
        {"w": row(5, meta(7, [4], [1]))},
        {"w": row("weight_0", meta(7, [-1], [1]))},
        {"w": row("weight_0", meta(7, [1 << 62], [1]))},
        {"w": row("weight_0", meta(7, ["4"], [1]))},
        {"w": row("weight_0", meta(7, [True], [1]))},
        {"w": row("weight_0", meta(99, [4], [1]))},
        {"w": row("weight_0", meta("7", [4], [1]))},
        {"w": row("weight_0", {**meta(7, [4], [1]), "layout": 1})},
    ],
)
def test_configs_that_are_none(weights: Any) -> None:
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(program(weights))
    assert e.value.code in ("pt2-config", "tensor-dtype") and "model_weights_config.json" in str(e.value)
    assert pthparse.audit(program(weights)).verdict in ("malformed", "review")


@pytest.mark.parametrize(
    "model", [b"{", {}, {"graph_module": 5}, {"graph_module": {"signature": {"input_specs": [{}], "output_specs": []}}}]
)
def test_a_graph_that_is_none_keeps_nothing_from_being_read(model: Any) -> None:
    ckpt = pthparse.open(program(model=model))
    assert ckpt["w"].numpy().tolist() == [[1, 3], [2, 4]]
    assert [f.code for f in ckpt.findings] in (["signature"], ["pt2-config"])


def test_what_is_pickled_in_a_file_of_its_own_is_told() -> None:
    ckpt = pthparse.open(program({"w": row("weight_0", None, use_pickle=True), "b": WEIGHTS["b"]}))
    assert list(ckpt) == ["b", "constants/c"] and [f.code for f in ckpt.findings] == ["not-looked-into"]
