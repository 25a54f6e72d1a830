"""The tree of modules by names: rows, sums, folding, and what a Module gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from forge import pickles as p
from forge import safetensors
from forge.zips import checkpoint

import pthparse

DATA = Path(__file__).parents[1] / "data"
LESSON = DATA / "lesson" / "lesson.pth"
ZOO = DATA / "zoo"


def opened(names: dict[str, bytes]) -> pthparse.Checkpoint:
    data = np.arange(64, dtype=np.float32).tobytes()
    return pthparse.open(checkpoint(p.pickle(p.dict_of(names), 4), {"0": data, "1": data}))


def vector(n: int, key: str = "0") -> bytes:
    return p.tensor(p.storage(key, 64), [n], [1])


def names(root: pthparse.Module) -> list[str]:
    return [m.name for m in root.walk()]


def test_by_names() -> None:
    root = opened({"a.b.w": vector(3), "a.v": vector(2, "1"), "c.w": vector(4), "x": vector(1)}).modules
    assert names(root) == ["", "a", "a.b", "c"]
    assert root.parameters == ("x",) and root.find("a").parameters == ("a.v",)
    assert [root.label(m) for m in root.children] == ["a", "c"]
    assert root.find("a").label(root.find("a.b")) == "b"
    assert root.find("a.b").find("a.b") is not None and root.find("a.b").find("c") is None
    assert root.find("no") is None and root.find("a.b.w") is None


def test_sums_count_what_is_shared_once() -> None:
    """Two names of the same elements: the first is credited; a part of a storage takes its own bytes."""
    root = opened({"a.w": vector(8), "b.w": vector(8), "c.w": vector(4, "1")}).modules
    assert [(m.params, m.nbytes) for m in root.children] == [(8, 32), (0, 0), (4, 16)]
    assert (root.params, root.nbytes) == (12, 48)


def test_containers_are_joined_by_slashes() -> None:
    ckpt = opened(
        {"epoch": p.integer(3), "model": p.dict_of({"l.w": vector(2)}), "optimizer": p.dict_of({"m": vector(2)})}
    )
    assert names(ckpt.modules) == ["", "model", "model/l", "optimizer"]
    assert ckpt.modules.find("model/l").parameters == ("model/l.w",)
    branch = ckpt.state_dict().modules
    assert names(branch) == ["", "l"] and branch.find("l").parameters == ("l.w",) and branch.params == 2


def test_folding() -> None:
    made = {f"l.{i}.w": vector(3) for i in (0, 1, 2)} | {"l.3.w": vector(4), "l.4.w": vector(4), "l.6.w": vector(4)}
    made |= {"l.x.w": vector(4), "l.y.w": vector(4), "l.07.w": vector(4)}
    folded = opened(made).modules.find("l").folded()
    assert [(m.name, label, n) for m, label, n in folded] == [
        ("l.0", "0-2", 3), ("l.3", "3-4", 2), ("l.6", "6", 1), ("l.x", "x", 1), ("l.y", "y", 1), ("l.07", "07", 1),
    ]  # fmt: skip


def test_folding_compares_what_lies_below() -> None:
    made = {"0.a.w": vector(3), "1.b.w": vector(3), "2.b.w": vector(3), "3.b.v": vector(3)}
    assert [label for _, label, _ in opened(made).modules.folded()] == ["0", "1-2", "3"]
    assert [label for _, label, _ in opened({"a.w": vector(3), "0.w": vector(3)}).modules.folded()] == ["a", "0"]


def stated() -> bytes:
    square = p.tensor(p.storage("0", 64), [4, 4], [4, 1])
    state = {"_parameters": p.dict_of({"weight": square}), "_buffers": p.EMPTY_DICT, "_modules": p.EMPTY_DICT}
    linear = p.glob("torch.nn.modules.linear", "Linear") + p.EMPTY_TUPLE + p.NEWOBJ
    return linear + p.dict_of(state) + p.BUILD


def test_no_name_makes_a_module_in_one_that_is_stated() -> None:
    root = opened({"a": stated(), "a/b.w": vector(2)}).modules
    assert names(root) == ["", "a"] and root.children[0].parameters == ("a/weight", "a/b.w")


def test_what_is_stated_tells_what_is_around_it() -> None:
    root = opened({name: stated() for name in ("q_proj", "k_proj", "v_proj", "out_proj")}).modules
    assert (root.kind, root.basis) == ("Attention", "inferred") and {m.basis for m in root.children} == {"stated"}


def test_order_is_that_of_the_file() -> None:
    assert names(opened({"z.w": vector(1), "a.w": vector(1), "z.a.w": vector(1)}).modules) == ["", "z", "z.a", "a"]


def test_modules_without_tensors_are_listed_by_a_state_dict() -> None:
    listed = p.dict_of({name: p.dict_of({"version": p.integer(1)}) for name in ("", "drop", "a", "a.relu")})
    tensors = p.MARK + p.text("a.w") + vector(2) + b"u"
    root = p.ordered_dict() + tensors + p.dict_of({"_metadata": listed}) + p.BUILD
    found = opened({"state_dict": root}).modules
    assert names(found) == ["", "state_dict", "state_dict/drop", "state_dict/a", "state_dict/a.relu"]
    assert found.find("state_dict/drop").evidence == "the state dict lists it: it has no tensors"


def test_buffers_by_their_names() -> None:
    made = {f"bn.{n}": vector(4) for n in ("weight", "bias", "running_mean", "running_var")}
    root = opened(made).modules
    assert root.find("bn").parameters == ("bn.weight", "bn.bias")
    assert root.find("bn").buffers == ("bn.running_mean", "bn.running_var")
    assert root.find("bn").kind == "BatchNorm" and root.find("bn").text == "BatchNorm(4)"


def test_a_module_is_a_record() -> None:
    root = pthparse.open(LESSON).modules
    module = root.find("layers.0")
    assert module == root.find("layers.0") and hash(module) == hash(root.find("layers.0"))
    assert module != root.find("layers.1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        module._at = 3
    told = module.to_dict()
    assert told["name"] == "layers.0" and told["kind"] == "TransformerDecoderLayer" and told["basis"] == "inferred"
    assert told["config"] == {"d_model": 16, "dim_feedforward": 32} and told["params"] == 3344
    assert [child["name"] for child in told["children"]][:2] == ["layers.0.self_attn", "layers.0.multihead_attn"]
    assert set(told) == {
        "name", "kind", "class_name", "basis", "evidence", "config", "text", "parameters", "buffers", "transient",
        "children", "training", "source", "params", "nbytes",
    }  # fmt: skip


def test_printed_whole() -> None:
    text = repr(pthparse.open(LESSON).modules)
    assert text.startswith(
        "?(\n  (embed): Embedding(97, 16)\n  (layers): ModuleList(\n    (0-5): 6 x TransformerDecoderLayer(\n"
    )


def test_legacy_files_hold_the_source() -> None:
    root = pthparse.open(ZOO / "torch-1.0.1-py2.7" / "whole_model.pth").modules
    block = root.find("blocks.0")
    assert (block.kind, block.class_name, block.basis) == ("Block", "__main__.Block", "stated")
    assert block.source.startswith("class Block(nn.Module):\n")
    assert root.find("blocks.0.norm").source is None or "LayerNorm" in root.find("blocks.0.norm").source


@pytest.mark.parametrize("file", sorted(ZOO.glob("*/*.pth")), ids=lambda f: f"{f.parent.name}/{f.name}")
def test_every_tensor_lies_in_one_module(file: Path) -> None:
    with pthparse.open(file) as ckpt:
        root = ckpt.modules
        found = [n for m in root.walk() for n in (*m.parameters, *m.buffers)]
        assert sorted(found) == sorted(ckpt) and len(found) == len(ckpt)
        assert root.params == sum(row[2] for row in ckpt.capacity().each())
        assert root.nbytes == sum(row[3] for row in ckpt.capacity().each())
        if file.name == "whole_model.pth":
            assert root.basis == "stated" and root.training is not None


def test_safetensors_and_shards(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    data = safetensors.build({"l.0.weight": entry}, bytes(24))
    assert names(pthparse.open(data).modules) == ["", "l", "l.0"]
    for i in (1, 2):
        made = safetensors.build({f"l.{i}.weight": entry}, bytes(24))
        (tmp_path / f"model-0000{i}-of-00002.safetensors").write_bytes(made)
    with pthparse.open(tmp_path) as model:
        assert names(model.modules) == ["", "l", "l.1", "l.2"] and model.modules.params == 12
        assert model.family is None


def test_closed() -> None:
    ckpt = pthparse.open(LESSON)
    ckpt.close()
    with pytest.raises(pthparse.PthError):
        ckpt.modules  # noqa: B018
