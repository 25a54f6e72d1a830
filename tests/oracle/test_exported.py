"""Programs that torch.export saves: the tensors, and the signature, are torch's own."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._export.serde.schema import SCHEMA_VERSION
from torch._export.serde.serialize import serialize

import pthparse

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's, of what it is asked to save


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.tied = self.linear.weight
        self.turned = nn.Parameter(torch.randn(3, 4).t())
        self.register_buffer("shift", torch.arange(3).to(torch.bfloat16))
        self.register_buffer("left", torch.ones(3), persistent=False)
        self.constant = torch.tensor([1, 2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.shift + x @ self.tied.T + x @ self.turned + self.left + self.constant.sum()


@pytest.fixture(scope="module")
def exported() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(Net(), (torch.randn(2, 4),))


def assert_the_same(path: Path, exported: Any) -> None:
    with pthparse.open(path) as ckpt:
        wanted = {**exported.state_dict, **{f"constants/{n}": t for n, t in exported.constants.items()}}
        assert set(ckpt) == set(wanted) and not ckpt.errors
        for name, t in wanted.items():
            mine = ckpt[name]
            assert (mine.shape, mine.stride) == (tuple(t.shape), t.stride())
            assert mine.numpy().tobytes() == t.detach().contiguous().view(torch.uint8).numpy().tobytes()
        assert ckpt.metadata["inputs/user_input"] == "x"
        assert set(str(ckpt.metadata["inputs/parameter"]).split(", ")) == set(dict(exported.named_parameters()))
        assert ckpt.metadata["torch_version"] == torch.__version__
        capacity = ckpt.capacity()
        assert sum(e.nbytes for e in capacity.ledger()) == ckpt.nbytes and ckpt.verify().ok
        roles = {name: role for name, role, _, _ in capacity.each()}
        assert {n for n, role in roles.items() if role == "parameters"} == set(dict(exported.named_parameters()))
        assert {n for n, role in roles.items() if role == "buffers"} == {"shift", "constants/left"}
        assert roles["constants/constant"] == "other"
        assert capacity.parameters == 12 + 3 + 12 and capacity.buffers == 6  # tied ones once
        assert ckpt.audit().verdict == "review"


def test_the_same_as_torch(tmp_path: Path, exported: Any) -> None:
    torch.export.save(exported, tmp_path / "m.pt2")
    assert_the_same(tmp_path / "m.pt2", exported)


def test_as_torch_wrote_them_before_2_8(tmp_path: Path, exported: Any) -> None:
    path, made = tmp_path / "m.pt2", serialize(exported)
    with zipfile.ZipFile(path, "w") as file:  # torch/export/__init__.py of 2.7
        file.writestr("serialized_exported_program.json", made.exported_program)
        file.writestr("serialized_state_dict.pt", made.state_dict)
        file.writestr("serialized_constants.pt", made.constants)
        file.writestr("serialized_example_inputs.pt", made.example_inputs)
        file.writestr("version", ".".join(map(str, SCHEMA_VERSION)))
        file.writestr("extra_files/note.txt", "kept")
    read = torch.export.load(path)  # this torch still reads them: they are what they are said to be
    assert set(read.state_dict) == set(exported.state_dict) and set(read.constants) == set(exported.constants)
    assert_the_same(path, exported)


def test_as_torch_wrote_them_in_2_8_0(tmp_path: Path, exported: Any) -> None:
    """Records for each tensor were not there yet: the files of torch.save lay in the new archive."""
    torch.export.save(exported, tmp_path / "m.pt2")
    path, made = tmp_path / "older.pt2", serialize(exported)
    writer = torch._C.PyTorchFileWriter(str(path))
    with zipfile.ZipFile(tmp_path / "m.pt2") as file:
        for name in file.namelist():
            inside = name.partition("/")[2]
            if not inside.startswith(("data/weights/", "data/constants/", ".data/", "byteorder")):
                writer.write_record(inside, file.read(name), len(file.read(name)))
    writer.write_record("data/weights/model.pt", made.state_dict, len(made.state_dict))
    writer.write_record("data/constants/model.pt", made.constants, len(made.constants))
    writer.write_end_of_file()
    assert set(torch.export.load(path).state_dict) == set(exported.state_dict)
    assert_the_same(path, exported)


def test_as_torch_wrote_them_in_2_1(tmp_path: Path, exported: Any) -> None:
    made = serialize(exported)
    said = json.loads(made.exported_program)
    signature = exported.graph_signature
    said["graph_module"]["signature"] = {
        "inputs_to_parameters": dict(signature.inputs_to_parameters),
        "inputs_to_buffers": {k: v for k, v in signature.inputs_to_buffers.items() if v != "left"},
        "user_inputs": list(signature.user_inputs),
        "user_outputs": list(signature.user_outputs),
        "buffers_to_mutate": {},
        "backward_signature": None,
    }
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("serialized_exported_program.json", json.dumps(said))
        file.writestr("serialized_state_dict.json", made.state_dict)
        file.writestr("version", "1")
    with pthparse.open(path) as ckpt:
        assert list(ckpt) == list(exported.state_dict) and not ckpt.errors
        assert set(str(ckpt.metadata["inputs/parameter"]).split(", ")) == set(dict(exported.named_parameters()))
        assert ckpt.metadata["inputs/buffer"] == "shift" and ckpt.metadata["inputs/user_input"] == "x"
        assert (ckpt.capacity().parameters, ckpt.capacity().buffers) == (12 + 3 + 12, 3)
        assert ckpt["shift"].numpy().astype(float).tolist() == [0, 1, 2]
