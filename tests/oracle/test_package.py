"""Packages that torch.package writes, and what its importer makes of them: tensors, names, what is shared."""

from __future__ import annotations

import io
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.package.package_exporter
from torch import nn
from torch.package import PackageExporter, PackageImporter, sys_importer

import pthparse

from . import honest
from .judge import assert_dense, named_tensors

SOURCE = '''
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.norm = nn.BatchNorm1d(3)
        self.tied = self.layers[0].weight
        self.register_buffer("kept", torch.arange(3).to(torch.bfloat16))
        self.register_buffer("left", torch.ones(2), persistent=False)


class Held:
    """Pickled by what it says to the package: its tensor is a resource of its own."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce_package__(self, exporter):
        name = f"{exporter.get_unique_id()}.pkl"
        exporter.save_pickle("held", name, self.tensor)
        return unheld, (name,)


def unheld(importer, name):
    return Held(importer.load_pickle("held", name))
'''


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A package of Python code that no other test has."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "packed_code").mkdir()
    (folder / "packed_code" / "__init__.py").write_text("")
    (folder / "packed_code" / "net.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    try:
        import packed_code.net

        yield packed_code.net
    finally:
        sys.path.remove(str(folder))


def packed(path: Path, fill: Callable[[PackageExporter], None], **how: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with PackageExporter(str(path), **how) as exporter:
            exporter.intern("packed_code.**")
            fill(exporter)
    return path


def loaded(path: Path, *resource: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PackageImporter(str(path)).load_pickle(*resource)


def assert_whole(ckpt: pthparse.Checkpoint) -> None:
    assert not ckpt.errors and ckpt.format == "package"
    assert sum(e.nbytes for e in ckpt.capacity().ledger()) == ckpt.nbytes
    assert ckpt.verify().ok


@pytest.mark.parametrize("protocol", [3, 4])
def test_one_state_dict_has_its_plain_names(tmp_path: Path, protocol: int) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    given = {
        "w": base,
        "turned": base.T,
        "part": base[1:3, 2:],
        "scalar": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "half": torch.randn(3).half(),
        "bits": torch.tensor([True, False]),
        "complex": torch.randn(2, dtype=torch.complex64),
        "p": nn.Parameter(torch.ones(2)),
        "more": {"epoch": 3, "list": [torch.ones(1)]},
    }
    path = packed(tmp_path / "m.pt", lambda e: e.save_pickle("model", "model.pkl", given, pickle_protocol=protocol))
    with pthparse.open(path) as ckpt:
        expected = dict(named_tensors(loaded(path, "model", "model.pkl")))
        assert list(ckpt) == list(expected)
        for name, t in expected.items():
            assert_dense(ckpt[name], t)
        assert ckpt["part"].storage == ckpt["turned"].storage
        assert ckpt.metadata["more/epoch"] == 3 and ckpt.root["more"]["epoch"] == 3
        assert ckpt.writer.text.startswith("torch.package, Python 3.")
        assert_whole(ckpt)
        assert ckpt.audit().verdict == pthparse.audit(path).verdict == "clean"  # no code in it


def test_a_module_has_the_names_of_its_state_dict(tmp_path: Path, code: Any) -> None:
    path = packed(tmp_path / "m.pt", lambda e: e.save_pickle("model", "model.pkl", code.Net()))
    # Packed again, as the importer knows its class: under a mangled name.
    net = PackageImporter(str(path))
    again = packed(
        tmp_path / "again.pt",
        lambda e: e.save_pickle("other", "net.pkl", net.load_pickle("model", "model.pkl")),
        importer=(net, sys_importer),
    )
    for file, resource in ((path, ("model", "model.pkl")), (again, ("other", "net.pkl"))):
        with pthparse.open(file) as ckpt:
            expected = loaded(file, *resource).state_dict(keep_vars=True)
            assert list(ckpt) == list(expected) and "left" not in ckpt
            for name, t in expected.items():
                assert_dense(ckpt[name], t)
            assert ckpt.whole_module
            assert (ckpt.capacity().parameters, ckpt.capacity().buffers) == (2 * 12 + 6, 3 + 3 + 3 + 1)
            assert_whole(ckpt)
            report = ckpt.audit()
            assert report.verdict == "review" and any(m.endswith("packed_code/net.py") for m in report.code)
            assert any(m.name.endswith("packed_code/net.py") and m.role == "code" for m in ckpt.members)


def test_several_pickles_share_what_they_share(tmp_path: Path, code: Any) -> None:
    net = code.Net()
    held = code.Held(torch.full((2,), 7.0))

    def fill(e: PackageExporter) -> None:
        e.save_pickle("model", "model.pkl", net)
        e.save_pickle("other", "weights.pkl", {"w": net.layers[1].weight, "own": torch.ones(5), "epoch": 4})
        e.save_pickle("other", "held.pkl", {"h": held, "again": [held]})
        e.save_pickle("other", "named_by_nobody", [net.kept])
        e.save_text("notes", "note.txt", "collections\ntorch\n")
        e.save_binary("notes", "bytes", b"\x80\x03 no pickle")

    path = packed(tmp_path / "m.pt", fill)
    resources = [("model", "model.pkl"), ("other", "weights.pkl"), ("held", "0.pkl"), ("other", "named_by_nobody")]
    with pthparse.open(path) as ckpt:
        importer = PackageImporter(str(path))
        expected = {
            f"{package}/{name}" + (f"/{n}" if n else ""): t
            for package, name in resources
            for n, t in named_tensors(importer.load_pickle(package, name))
        }
        assert set(ckpt) == set(expected)
        for name, t in expected.items():
            assert_dense(ckpt[name], t)
        assert ckpt.metadata["other/weights.pkl/epoch"] == 4
        assert str(ckpt.metadata["other/held.pkl/h"]).count("packed_code.net.unheld") == 1
        assert ckpt["other/weights.pkl/w"].storage == ckpt["model/model.pkl/layers.1.weight"].storage
        capacity = ckpt.capacity()
        shared = {s.names for s in capacity.shared}
        assert ("model/model.pkl/layers.1.weight", "other/weights.pkl/w") in shared
        # Tied ones count once; what lies beside the model is no parameter of it.
        assert (capacity.parameters, capacity.buffers) == (2 * 12 + 6, 3 + 3 + 3 + 1)
        assert list(ckpt.state_dict()) == list(net.state_dict())
        assert_whole(ckpt)
        report = ckpt.audit()
        assert report.verdict == "review"
        assert {f.code for f in report.findings if f.severity == "review"} == {"code", "reducer"}
        assert {(m.name.partition("/")[2], m.role) for m in ckpt.members} >= {
            ("notes/note.txt", "other"),
            ("notes/bytes", "other"),
            ("other/named_by_nobody", "pickle"),
            (".data/extern_modules", "meta"),
        }


def test_the_same_tensors_elsewhere(tmp_path: Path, code: Any) -> None:
    """Converted, hashed and compared with the file that torch.save writes of them."""
    net = code.Net()
    path = packed(tmp_path / "m.pt", lambda e: e.save_pickle("model", "model.pkl", net))
    torch.save(net.state_dict(), tmp_path / "m.pth")
    assert pthparse.manifest(path).model == pthparse.manifest(tmp_path / "m.pth").model
    found = pthparse.diff(path, tmp_path / "m.pth")
    assert not found.changed and not found.added and not found.removed
    pthparse.convert(path, tmp_path / "m.safetensors")
    with pthparse.open(tmp_path / "m.safetensors") as ckpt:
        assert ckpt["norm.weight"].numpy().tolist() == [1, 1, 1]


def test_scripts_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their storages lie among the others, under keys that torch spells with the ending of their members."""
    monkeypatch.setattr(torch.package.package_exporter, "_gate_torchscript_serialization", False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(nn.Linear(2, 3))
    path = packed(tmp_path / "m.pt", lambda e: e.save_pickle("model", "model.pkl", {"m": script, "w": script.weight}))
    with pthparse.open(path) as ckpt:
        below = ".data/ts_code/0/data.pkl"
        assert set(ckpt) == {f"{below}/weight", f"{below}/bias", "model/model.pkl/w"} and not ckpt.errors
        assert ckpt[f"{below}/bias"].numpy().tobytes() == script.bias.detach().numpy().tobytes()
        assert ckpt[f"{below}/weight"].numpy().tobytes() == script.weight.detach().numpy().tobytes()
        assert_whole(ckpt)
        assert {g.name for g in ckpt.capacity().groups()} == {".data", "model"}
        assert ckpt.audit().verdict == "review"


def test_no_spoilt_package_is_clean_unless_torch_loads_what_is_shown(tmp_path: Path) -> None:
    given = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16), "epoch": 3}
    path = packed(tmp_path / "m.pt", lambda e: e.save_pickle("model", "model.pkl", given))
    seed, r, clean = path.read_bytes(), random.Random(5), 0
    for _ in range(3000):
        data = bytearray(seed)
        for _ in range(r.choice((1, 1, 2))):
            i, j, n = r.randrange(len(data)), r.randrange(len(data)), r.randrange(1, 12)
            data[i : i + n] = r.choice((data[j : j + n], bytes(n), bytes((data[i] ^ 1 << r.randrange(8),))))
        if bytes(data) == seed or pthparse.audit(bytes(data)).verdict != "clean":
            continue
        clean += 1
        theirs = PackageImporter(io.BytesIO(bytes(data))).load_pickle("model", "model.pkl")
        ckpt = pthparse.open(bytes(data))
        assert ckpt.metadata["epoch"] == theirs["epoch"]
        for name, t in named_tensors(theirs):
            assert_dense(ckpt[name], t)
    assert clean > 20, clean


def test_what_is_clean_is_clean_in_a_package(tmp_path: Path) -> None:
    packs: dict[str, str] = {}
    for i, (name, make) in enumerate(honest.CLEAN.items()):
        path = tmp_path / f"{i}.pt"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with PackageExporter(str(path)) as exporter:
                    exporter.extern("**")
                    exporter.save_pickle("model", "model.pkl", make())
        except Exception:  # what torch.package has no pickler for
            continue
        report = pthparse.audit(path)
        packs[name] = report.verdict if report.verdict == "clean" else f"{report.verdict}: {report.reasons[:3]}"
    assert len(packs) > 100, len(packs)
    assert {name: told for name, told in packs.items() if told != "clean"} == {}
