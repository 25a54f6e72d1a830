"""The command: what it prints of real files, its exit codes, and that no byte of a file acts on a terminal."""

from __future__ import annotations

import io
import json
import os
import pickle
import pty
import re
import subprocess
import sys
import termios
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._utils
from forge import pickles as p
from forge.zips import DEFLATED, Entry, build, checkpoint
from oracle.judge import Pair, saved
from torch import nn

from pthparse.cli import VERBS

DATA = Path(__file__).parents[1] / "data"
LESSON = str(DATA / "lesson" / "lesson.pth")
ZOO = DATA / "zoo" / "torch-2.13.0-py3.11"
TRAINING = str(ZOO / "training.pth")


VECTOR = p.vector("0", 16)


@pytest.fixture
def forged(tmp_path: Path) -> Callable[[bytes], str]:
    def write(root: bytes) -> str:
        path = tmp_path / "forged.pth"
        path.write_bytes(checkpoint(p.pickle(root, 4), {"0": np.arange(16, dtype=np.float32).tobytes()}))
        return str(path)

    return write


# ---- info ----


def test_info(run: Any) -> None:
    code, out, err = run("info", LESSON)
    assert (code, err) == (0, "")
    assert out.splitlines()[:3] == [
        f"{LESSON}   124,012 B (124.0 kB, 121.1 KiB)",
        "zip checkpoint, torch 2.7 or later (inferred), pickle protocol 2",
        "23,265 parameters in 111 tensors   float32",
    ]
    assert "layers.0-5 (6x)      6x 18  6x 3,344  6x 13,376  64.72 %" in out
    assert "(not tensor data)                        30,952  24.96 %" in out
    assert out.splitlines()[-3:] == [
        "ledger: 124,012 B = 93,060 tensor data + 15,166 pickle + 7,058 names and headers + 7,156 directory + 1,521 "
        "alignment padding + 51 other members",
        "audit: clean",
        f"explained step by step: pthparse explain {LESSON}",
    ]
    assert run(LESSON)[1] == out


def test_info_of_a_training_checkpoint(run: Any) -> None:
    _, out, _ = run(TRAINING)
    assert "model: 658 parameters and 9 elements of buffers\n6,806 elements in 55 tensors   float32 x 51, " in out
    assert "values: epoch = 7, loss = 0.125\n" in out
    assert "shared, counted once: model/head.weight = model/embed.weight" in out


def test_info_json(run: Any) -> None:
    code, out, _ = run("info", "--json", LESSON)
    facts = json.loads(out)
    assert code == 0 and facts["schema"] == 1
    assert (facts["nbytes"], facts["tensors"], facts["parameters"]) == (124_012, 111, 23_265)
    assert sum(facts["ledger"].values()) == facts["nbytes"] and held(facts) == 93_060
    assert facts["writer"] == {
        "inferred": True,
        "text": "torch 2.7 or later",
        "evidence": ["member .format_version: 2.7 or later"],
    }
    assert facts["groups"][0]["name"] == "layers.0-5" and facts["groups"][0]["copies"] == 6


def test_info_of_several_files(run: Any) -> None:
    _, out, _ = run("info", "--json", LESSON, TRAINING)
    assert [f["tensors"] for f in json.loads(out)["files"]] == [111, 55]
    assert run("info", LESSON, TRAINING)[1].count("(not tensor data)") == 2


@pytest.mark.parametrize("file", sorted(ZOO.glob("*.pth")), ids=lambda f: f.stem)
def test_info_counts_what_torch_counts(run: Any, file: Path) -> None:
    facts = json.loads(run("info", "--json", str(file))[1])
    entries = [e for e in json.loads(file.with_suffix(".json").read_text())["entries"] if e["kind"] == "tensor"]
    assert facts["tensors"] == len(entries) and facts["errors"] == 0
    assert facts["nbytes"] == file.stat().st_size
    assert sum(d["tensors"] for d in facts["dtypes"].values()) == len(entries)


def test_a_slice_drags_its_whole_storage_along(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    torch.save({"w": torch.zeros(1000, 1000)[:2]}, path)
    _, out, _ = run(str(path))
    rows = [line.split() for line in out.splitlines()]
    assert ["w", "1", "2,000", "8,000", "0.20", "%"] in rows
    assert any("seen by no tensor" in line and " 3,992,000 " in line for line in out.splitlines())


@pytest.mark.parametrize("file", sorted(DATA.glob("zoo/*/*.pth")), ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_the_ledger_adds_up(run: Any, file: Path) -> None:
    facts = json.loads(run("info", "--json", str(file))[1])
    assert sum(facts["ledger"].values()) == file.stat().st_size and min(facts["ledger"].values()) >= 0


def test_broken_tensors_are_listed(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(
        checkpoint(p.pickle(p.dict_of({"bad": p.vector("9", 4), "ok": p.vector("0", 4)})), {"0": bytes(16)})
    )
    code, out, _ = run(str(path))
    assert code == 0 and "1 tensor cannot be read:" in out and "tensor 'bad': the tensor's storage is not" in out


# ---- shares ----


class Device:
    """Pickled as torch pickles a tensor of a device that goes through numpy."""

    def __init__(self, array: np.ndarray, dtype: torch.dtype) -> None:
        self.args = (array, dtype, "xla:0", False)

    def __reduce__(self) -> tuple[Any, Any]:
        return torch._utils._rebuild_device_tensor_from_numpy, self.args


def wrappers() -> dict[str, Any]:
    weights, scales = torch.zeros(100, 10, dtype=torch.int8), torch.ones(100)
    return {
        "first": Pair(weights, scales),
        "second": Pair(weights, torch.ones(50)),
        "nested": Pair(Pair(weights, scales), torch.ones(1)),
        "view": weights[1:],
    }


def several_views() -> dict[str, Any]:
    base = torch.arange(200.0)
    return {"whole": base, "end": base[100:], "start": base[:150], "turned": base.reshape(10, 20).t(), "same": base}


def windows() -> dict[str, Any]:
    base = torch.arange(100.0)
    return {"middle": base[20:60], "later": base[40:80], "apart": base[90:]}


def sparse() -> dict[str, Any]:
    values, indices = torch.ones(2), torch.tensor([[0, 1]])
    pointers, columns = torch.tensor([0, 1, 2]), torch.tensor([1, 0])
    return {
        "coo": torch.sparse_coo_tensor(indices, values, (1 << 30,)),
        "again": torch.sparse_coo_tensor(indices, values, (3,)),
        "csr": torch.sparse_csr_tensor(pointers, columns, torch.ones(2), (2, 1 << 20)),
        "values": values,
    }


def quantized() -> dict[str, Any]:
    scales, zeros = torch.rand(40, dtype=torch.float64) + 0.1, torch.zeros(40, dtype=torch.int64)
    return {"q": torch.quantize_per_channel(torch.randn(40, 6), scales, zeros, 0, torch.qint8)}


def nested() -> dict[str, Any]:
    return {"n": torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)], layout=torch.jagged)}


def devices() -> dict[str, Any]:
    array = np.ones((20, 20), np.float32)
    return {"same": Device(array, torch.float32), "cast": Device(array, torch.bfloat16), "x": torch.ones(3)}


# What is saved; the bytes of the file that each tensor is credited with; and those that no tensor sees.
SHARES: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, int], int]] = {
    "expanded": (
        lambda: {"e": torch.zeros(1).expand(10_000), "r": torch.zeros(3, 1).expand(3, 500), "x": torch.zeros(10)},
        {"e": 4, "r": 12, "x": 40},
        0,
    ),
    "views": (several_views, {"whole": 800, "end": 0, "start": 0, "turned": 0, "same": 0}, 0),
    "windows": (windows, {"middle": 160, "later": 80, "apart": 40}, 120),
    "slice": (lambda: {"s": torch.zeros(1000)[:3]}, {"s": 12}, 3988),
    "sparse": (sparse, {"coo": 24, "again": 0, "csr": 24 + 16 + 8, "values": 0}, 0),
    "wrappers": (wrappers, {"first": 1400, "second": 200, "nested": 4, "view": 0}, 0),
    "meta": (
        lambda: {"m": torch.empty(1 << 20, device="meta"), "x": torch.ones(3)},
        {"m": 0, "x": 12},
        0,
    ),
    "devices": (devices, {"same": 0, "cast": 0, "x": 12}, 0),
    "quantized": (quantized, {"q": 240 + 320 + 320}, 0),
    "nested": (nested, {"n": 72 + 24}, 0),
    "storages": (lambda: {"s": torch.zeros(200).untyped_storage(), "x": torch.ones(3)}, {"x": 12}, 800),
    "nothing": (lambda: {"e": torch.zeros(0), "z": torch.zeros(2, 0, 5)}, {"e": 0, "z": 0}, 0),
}


def percents(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"(\S+) %", text)]


def held(facts: dict[str, Any]) -> int:
    """Bytes of all storages."""
    return int(facts["ledger"]["tensor data"] + facts["ledger"]["unused storage"])


def balanced(run: Any, path: Path, off: int = 0) -> dict[str, Any]:
    """What `info --json` says, if groups, unseen bytes and ledger fit together and no face shows more than all."""
    facts = json.loads(run("info", "--json", str(path))[1])
    total = facts["nbytes"]
    assert total == path.stat().st_size == sum(facts["ledger"].values())
    groups = sum(g["nbytes"] for g in facts["groups"])
    assert abs(groups + facts["ledger"]["unused storage"] - held(facts)) <= off
    assert groups == sum(d["nbytes"] for d in facts["dtypes"].values())
    assert groups == sum(s["nbytes"] for s in facts["sections"].values())
    assert all(g["share"] == g["nbytes"] / total <= 1 for g in facts["groups"])
    shown = run("info", str(path))[1]
    bars = [line.rsplit(" ", 1)[-1] for line in shown.splitlines() if line.endswith("#")]
    assert all(len(bar) <= 24 and bar.strip("#") == "" for bar in bars)
    table = shown[shown.rindex("\ngroup ") :]
    assert max(percents(table)) <= 100 and abs(sum(percents(table)) - 100) < 0.2
    tensors = json.loads(run("ls", "--json", str(path))[1])["tensors"]
    assert all(t["stored_nbytes"] <= held(facts) for t in tensors)
    listed = percents(run("ls", str(path))[1])
    assert len(listed) == len(tensors) and all(n <= 100 for n in listed)
    return facts


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.filterwarnings("ignore")
def test_shares_add_up(run: Any, tmp_path: Path, kind: str, container: str) -> None:
    make, expected, unseen = SHARES[kind]
    path = tmp_path / "m.pth"
    path.write_bytes(saved(make(), _use_new_zipfile_serialization=container == "zip"))
    facts = balanced(run, path)
    assert {g["name"]: g["nbytes"] for g in facts["groups"]} == expected
    assert facts["ledger"]["unused storage"] == unseen
    assert min(facts["ledger"].values()) >= 0


def deflated(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        return build([Entry(name, z.read(name), DEFLATED) for name in z.namelist()])


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.filterwarnings("ignore")
def test_shares_of_deflated_files(run: Any, tmp_path: Path, kind: str) -> None:
    """A tensor is credited with its part of the compressed bytes."""
    make, expected, _ = SHARES[kind]
    path = tmp_path / "m.pth"
    path.write_bytes(deflated(saved(make())))
    facts = balanced(run, path, off=4)
    with zipfile.ZipFile(path) as z:
        stored = sum(i.compress_size for i in z.infolist() if "/data/" in i.filename)
    assert held(facts) == stored
    found = {g["name"]: g["nbytes"] for g in facts["groups"]}
    assert found.keys() == expected.keys()
    assert {name: n > 0 for name, n in found.items()} == {name: n > 0 for name, n in expected.items()}


def test_columns_of_one_matrix_share_its_bytes_out(run: Any, tmp_path: Path) -> None:
    """Views that lie between each other's rows see all of the storage together."""
    whole = torch.randn(100, 100)
    path = tmp_path / "m.pth"
    path.write_bytes(saved({"q.w": whole[:, :50], "k.w": whole[:, 50:], "all.w": whole}))
    facts = json.loads(run("info", "--json", str(path))[1])
    assert {g["name"]: g["nbytes"] for g in facts["groups"]} == {"q": 20_000, "k": 20_000, "all": 0}
    assert facts["ledger"]["unused storage"] == 0


def test_the_ledger_counts_a_deflated_pickle_as_it_is_stored(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(deflated(saved({"w": torch.ones(2), "log": [f"step {i}" for i in range(2000)]})))
    ledger = json.loads(run("info", "--json", str(path))[1])["ledger"]
    with zipfile.ZipFile(path) as z:
        stored = {i.filename.split("/", 1)[1]: i.compress_size for i in z.infolist()}
    assert (ledger["tensor data"], ledger["pickle"]) == (stored["data/0"], stored["data.pkl"])
    assert sum(ledger.values()) == path.stat().st_size


@pytest.mark.filterwarnings("ignore")
def test_constants_of_torchscript_have_a_row(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.jit.save(torch.jit.freeze(torch.jit.script(nn.Linear(3, 2).eval())), path)
    facts = json.loads(run("info", "--json", str(path))[1])
    assert (facts["tensors"], facts["unnamed_nbytes"], facts["ledger"]["unused storage"]) == (0, 32, 0)
    assert held(facts) == 32
    assert re.search(r"\(constants of the code\) +32 ", run("info", str(path))[1])


@pytest.mark.filterwarnings("ignore")
def test_shares_of_what_pickle_wrote(run: Any, tmp_path: Path) -> None:
    """Every tensor has a storage of its own there, whatever it shared."""
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(several_views()))
    facts = balanced(run, path)
    assert {g["name"]: g["nbytes"] for g in facts["groups"]} == {
        **{"whole": 800, "end": 400, "start": 600, "turned": 800, "same": 0}
    }
    assert facts["ledger"]["unused storage"] == 400 + 200 and held(facts) == 4 * 800


@pytest.mark.parametrize("file", sorted(DATA.glob("zoo/*/*.pth")), ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_shares_add_up_in_the_zoo(run: Any, file: Path) -> None:
    facts = balanced(run, file)
    assert facts["tensors"] == sum(g["tensors"] for g in facts["groups"])
    assert facts["elements"] == sum(g["elements"] for g in facts["groups"])


# ---- parameters and buffers ----


class Tied(nn.Module):
    """Weights under two names, frozen ones, and buffers that are saved or not."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10)
        self.head.weight = self.embed.weight
        self.norm = nn.BatchNorm1d(50)
        self.frozen = nn.Linear(2, 3).requires_grad_(False)
        self.register_buffer("scratch", torch.zeros(1000), persistent=False)


COUNTED: dict[str, Callable[[], nn.Module]] = {
    "tied": Tied,
    "no buffers": lambda: nn.Linear(3, 4),
    "buffers alone": lambda: nn.BatchNorm1d(7, affine=False),
    "nothing": nn.ReLU,
    "traced": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(5))),
    "lazy": lambda: nn.Sequential(nn.LazyLinear(3), nn.BatchNorm1d(4)),
}


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore")
def test_parameters_and_buffers_of_a_whole_module(run: Any, tmp_path: Path, kind: str, zipped: bool) -> None:
    module, path = COUNTED[kind](), tmp_path / "m.pth"
    path.write_bytes(saved(module, _use_new_zipfile_serialization=zipped))
    sizes = {name: t.numel() for name, t in module.state_dict().items() if not nn.parameter.is_lazy(t)}
    parameters = sum(p.numel() for p in module.parameters() if not nn.parameter.is_lazy(p))
    buffers = sum(n for name, n in sizes.items() if name in dict(module.named_buffers()))
    facts = json.loads(run("info", "--json", str(path))[1])
    assert (facts["parameters"], facts["buffers"]) == (parameters, buffers)
    assert facts["elements"] == parameters + buffers
    text = run("info", str(path))[1].splitlines()[2]
    told = f"{parameters:,} parameters" + (f" and {buffers:,} elements of buffers" if buffers else "")
    assert text.startswith(f"{told} in {len(module.state_dict())} tensors")


def test_parameters_of_files_without_a_module(run: Any, tmp_path: Path) -> None:
    """Of a state_dict's buffers those are known that only buffers are called; an optimizer has no parameters."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    elements = sum(t.numel() for t in model.parameters())
    own = sum(t.numel() for t in model.buffers())
    whole = elements + own
    of_optimizer = sum(t.numel() for s in optimizer.state_dict()["state"].values() for t in s.values())
    cases: list[tuple[Any, int | None, int | None, int]] = [
        (model.state_dict(), elements, own, whole),
        ({"net": model, "epoch": 1}, elements, own, whole),
        ({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, elements, own, whole + of_optimizer),
        (optimizer.state_dict(), None, None, of_optimizer),
        ({"optimizer": optimizer.state_dict(), "epoch": 1}, None, None, of_optimizer),
    ]
    path = tmp_path / "m.pth"
    for obj, parameters, buffers, total in cases:
        path.write_bytes(saved(obj))
        facts = json.loads(run("info", "--json", str(path))[1])
        assert (facts["parameters"], facts["buffers"], facts["elements"]) == (parameters, buffers, total)
        told = run("info", str(path))[1].splitlines()[2:4]
        assert (f"{parameters or 0:,} parameters" in told[0]) == ("parameter" in told[0]) == (parameters is not None)
        assert f"{total:,} elements in" in told[0] + told[1] or parameters + own == total


@pytest.mark.parametrize("file", sorted(DATA.glob("zoo/*/whole_model.pth")), ids=lambda f: f.parent.name)
def test_parameters_and_buffers_of_whole_models_of_the_zoo(run: Any, file: Path) -> None:
    facts = json.loads(run("info", "--json", str(file))[1])
    entries = json.loads(file.with_suffix(".json").read_text())["entries"]
    of_buffers = ("running_mean", "running_var", "num_batches_tracked", "steps")
    sizes = {str(e["path"][-1]): int(np.prod(e["shape"])) for e in entries}
    buffers = sum(n for name, n in sizes.items() if name.endswith(of_buffers))
    shared = sum(sizes[s["name"]] for s in facts["shared"])
    assert facts["buffers"] == buffers > 0
    assert facts["parameters"] == sum(sizes.values()) - buffers - shared


@pytest.mark.parametrize("numel", [1 << 31, 1 << 59])
def test_bars_are_no_longer_than_the_whole_file(run: Any, forged: Any, numel: int) -> None:
    """An expanded tensor has more elements than the file has bytes."""
    code, out, _ = run("info", forged(p.dict_of({"a": p.tensor(p.storage("0", 16), [numel], [0])})))
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and ["a", "1", f"{numel:,}", "4", "0.60", "%"] in rows and max(map(len, rows)) < 30
    assert max(line.count("#") for line in out.splitlines()) <= 24


def test_a_name_of_a_thousand_components(run: Any, forged: Any) -> None:
    facts = json.loads(run("info", "--json", forged(p.dict_of({"a." * 10_000 + "b": VECTOR})))[1])
    (group,) = facts["groups"]
    assert (group["name"], group["elements"], group["nbytes"]) == (".".join("a" * 33), 16, 64)


def test_components_that_are_digits_elsewhere(run: Any, forged: Any) -> None:
    """Python's isdigit() is true of superscripts, and int() refuses them."""
    code, out, err = run("info", forged(p.dict_of({"a.\u00b2": VECTOR, "b": VECTOR, "a.\u0663": VECTOR})))
    assert (code, err) == (0, "") and "shared, counted once: b = a.\u00b2, a.\u0663 = a.\u00b2\n" in out
    assert ["a", "2", "16", "64"] in [line.split()[:4] for line in out.splitlines()]


def test_long_names_of_shared_tensors_are_listed_up_to_a_limit(run: Any, forged: Any) -> None:
    """One name of 300,000 characters, and 20,000 tensors that are the same."""
    names = p.dict_of({"k" * 300_000: VECTOR + p.put(0), "l": p.list_of([p.get(0)] * 20_000)})
    facts = json.loads(run("info", "--json", forged(names))[1])
    assert facts["n_shared"] == 20_000
    assert facts["shared"] == [{"name": f"l/{i}", "same_as": "k" * 300_000} for i in range(3)]


def test_long_groups_do_not_pad_the_others(run: Any, forged: Any) -> None:
    names = {"k" * 300_000 + "/x": VECTOR + p.put(0), **{f"{i}/a": p.get(0) for i in range(2000)}}
    code, out, _ = run("info", forged(p.dict_of(names)))
    lines = [line for line in out.splitlines() if "kkkk" not in line]
    assert code == 0 and "16 elements in 2,001 tensors   float32" in lines and max(map(len, lines)) < 200
    assert len(out) < 10 * 300_000


def test_jagged_tensors_in_each_other(run: Any, forged: Any) -> None:
    root = p.once(VECTOR, 0)
    for i in range(1200):
        root += p.once(p.jagged(values=p.get(i), offsets=p.get(0)), i + 1)
    facts = json.loads(run("info", "--json", forged(root + p.get(1200)))[1])
    assert (facts["tensors"], facts["elements"], facts["errors"]) == (1, 0, 1)
    assert facts["first_errors"][0]["error"].endswith("has other arguments than torch writes")


def test_one_large_state_of_many_tensors(run: Any, forged: Any) -> None:
    """500 wrappers that share a dict of 50,000 entries: what they are made of is looked for under a limit."""
    state = p.pairs([(p.integer(i), p.NONE) for i in range(50_000)])
    inner = p.glob("torch._utils", "_rebuild_wrapper_subclass")
    root = p.once(p.glob("torch._tensor", "_rebuild_from_type_v2"), 0)
    root += p.once(p.tuple_of([inner, p.glob("m", "C"), p.wrapper([16]), state]), 1)
    facts = json.loads(run("info", "--json", forged(root + p.list_of([p.get(0) + p.get(1) + p.REDUCE] * 500)))[1])
    assert (facts["tensors"], facts["elements"], facts["errors"]) == (500, 8000, 0)


UNPRINTED = p.long_integer(int.from_bytes(b"\x7f" * 3000, "little"))


def test_integers_that_python_does_not_print(run: Any, forged: Any) -> None:
    path, text = forged(p.dict_of({"epoch": UNPRINTED, "a": p.pairs([(UNPRINTED, p.NONE)])})), "<int of 23999 bits>"
    code, out, _ = run("info", path)
    assert code == 0 and f"epoch = '{text}'\n" in out
    assert json.loads(run("info", "--json", path)[1])["metadata"] == {"epoch": text}
    assert run("show", path, "epoch")[1].splitlines()[1] == text
    assert json.loads(run("show", "--json", path, "epoch")[1])["value"] == text
    assert run("show", path, "a")[1] == f"a   dict\n{{{text}: None}}\n"
    assert json.loads(run("show", "--json", path, "a")[1])["value"] == {text: None}


# ---- ls ----


def test_ls(run: Any) -> None:
    _, out, _ = run("ls", LESSON)
    lines = out.splitlines()
    assert lines[0].split() == ["name", "shape", "dtype", "bytes", "of", "file"]
    assert lines[1].split("  ")[0] == "embed.weight" and len(lines) == 112
    assert "6,208   5.01 %" in lines[1]


def test_ls_pattern_sort_limit(run: Any) -> None:
    _, out, _ = run("ls", LESSON, "layers.*.bias", "--sort", "size", "--limit", "3")
    names = [line.split()[0] for line in out.splitlines()[1:-1]]
    assert names == [f"layers.{i}.linear1.bias" for i in range(3)] and out.endswith("\nand 39 more\n")
    assert run("ls", LESSON, "--limit", "-1")[0] == 2
    facts = json.loads(run("ls", LESSON, "--json", "--sort", "name")[1])
    assert facts["found"] == 111
    assert [t["name"] for t in facts["tensors"]] == sorted(t["name"] for t in facts["tensors"])
    assert facts["tensors"][0].keys() >= {"name", "shape", "dtype", "numel", "nbytes", "kind", "layout"}


def test_ls_csv(run: Any) -> None:
    out = run("ls", LESSON, "embed*", "--csv")[1]
    assert out == "name,shape,dtype,numel,nbytes,stored_nbytes\nembed.weight,97x16,float32,1552,6208,6208\n"


@pytest.mark.parametrize(
    ("how", "printed"),
    [([], "name  shape  dtype  bytes  of file\n"), (["--csv"], "name,shape,dtype,numel,nbytes,stored_nbytes\n")],
    ids=["table", "csv"],
)
def test_ls_without_a_match_is_1(run: Any, how: list[str], printed: str) -> None:
    code, out, err = run("ls", LESSON, "fc.*x", *how)
    assert (code, out, err) == (1, printed, f"pthparse: {LESSON}: no tensor matches 'fc.*x'\n")
    code, out, err = run("ls", LESSON, "fc.*x", "--json")
    facts = json.loads(out)
    assert (code, facts["found"], facts["tensors"]) == (1, 0, []) and err.endswith("'fc.*x'\n")


def test_ls_of_no_tensors_at_all_is_fine(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(saved({"epoch": 1}))
    assert run("ls", str(path)) == (0, "name  shape  dtype  bytes  of file\n", "")


def test_ls_of_nothing(run: Any) -> None:
    code, out, err = run("ls", LESSON, "nothing*")
    assert code == 1 and len(out.splitlines()) == 1
    assert err == f"pthparse: {LESSON}: no tensor matches 'nothing*'\n"


def test_a_long_name_does_not_pad_the_others(run: Any, forged: Any) -> None:
    names = {"k" * 300_000: VECTOR + p.put(0), **{str(i): p.get(0) for i in range(2000)}}
    lines = run("ls", forged(p.dict_of(names)))[1].splitlines()
    assert lines[1].startswith("k" * 300_000 + "  [16]") and len(lines) == 2002
    assert [line.split()[:4] for line in lines[2:]] == [[str(i), "[16]", "float32", "64"] for i in range(2000)]
    assert max(map(len, lines[2:])) < 200


def test_a_shape_of_a_thousand_dimensions_does_not_pad_the_others(run: Any, forged: Any) -> None:
    wide = p.tensor(p.storage("0", 16), [1] * 1024, [1] * 1024)
    root = p.once(VECTOR, 0) + p.list_of([wide, *[p.get(0)] * 20_000])
    lines = run("ls", forged(root))[1].splitlines()
    assert "[" + ", ".join("1" * 1024) + "]" in lines[1] and len(lines) == 20_002
    assert lines[-1].split()[:4] == ["20000", "[16]", "float32", "64"]
    assert max(map(len, lines[2:])) < 300


def test_what_the_encoding_of_the_output_lacks_is_spelt_out(forged: Any) -> None:
    words = [sys.executable, "-m", "pthparse", "ls", forged(p.dict_of({"\xe9": VECTOR}))]
    done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[1].split()[:3] == [b"\\xe9", b"[16]", b"float32"]


def test_csv_of_names_with_separators(run: Any, forged: Any) -> None:
    out = run("ls", "--csv", forged(p.dict_of({'a\n\x1b,"': VECTOR})))[1]
    assert out.splitlines()[1:] == ['"a\\n\\x1b,""",16,float32,16,64,64']


# ---- show ----


def test_show_slice(run: Any) -> None:
    _, out, _ = run("show", LESSON, "embed.weight[0:2, ::8]")
    expected = torch.load(LESSON)["embed.weight"][0:2, ::8].numpy()
    assert np.array2string(expected, max_line_width=119) in out
    facts = json.loads(run("show", "--json", LESSON, "embed.weight[3, -1]")[1])
    assert facts["values"][""] == pytest.approx(torch.load(LESSON)["embed.weight"][3, -1].item())
    assert facts["storage"]["nbytes"] == 6208 and facts["stride"] == [16, 1]


@pytest.mark.parametrize(
    "bad",
    [
        *("embed.weight[x]", "embed.weight[1.5]", "embed.weight[0:1:2:3]", "embed.weight[999]"),
        *(
            "embed.weight[]",
            "embed.weight[0,]",
            "embed.weight[0,0,0]",
            "embed.weight[..., ...]",
            f"embed.weight[{10**20}]",
        ),
    ],
)
def test_show_bad_slice(run: Any, bad: str) -> None:
    code, out, err = run("show", LESSON, bad)
    assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith("pthparse: ")


@pytest.mark.parametrize("part", ["::0", "0:5:0", "1, ::-0"])
def test_a_step_of_zero_is_named(run: Any, part: str) -> None:
    code, out, err = run("show", LESSON, f"embed.weight[{part}]")
    step = part.rsplit(", ", 1)[-1]
    assert (code, out) == (2, "") and err == f"pthparse: {LESSON}: a step of 0: {step!r} [slice]\n"


HUGE = 10**5000
LONG = 10**4000


@pytest.fixture
def everything(tmp_path: Path) -> str:
    ring: dict[str, Any] = {"n": 1}
    ring["self"] = ring
    scales, zeros = torch.tensor([0.5, 0.25]), torch.tensor([0, 1])
    obj = {
        "w": torch.arange(12.0).reshape(3, 4),
        "scalar": torch.tensor(2.5),
        "sparse": torch.eye(3).to_sparse(),
        "csr": torch.eye(2).to_sparse_csr(),
        "meta": torch.empty(3, device="meta"),
        "per_tensor": torch.quantize_per_tensor(torch.ones(2, 3), 0.5, 1, torch.qint8),
        "per_channel": torch.quantize_per_channel(torch.ones(2, 3), scales, zeros, 0, torch.qint8),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.zeros(1)]),
        "complex": torch.tensor([1 + 2j, -3j]),
        "brain": torch.tensor([1.5, -2.0]).bfloat16(),
        "odd": torch.tensor([float("nan"), float("inf"), -float("inf"), 0.25]),
        "array": np.arange(6).reshape(2, 3),
        "words": np.array(["a", "bc"]),
        "dates": np.array(["2024-01-02", "NaT"], "M8[D]"),
        "storage": torch.arange(3.0).untyped_storage(),
        "ring": ring,
        "list": [ring, {"lr": 0.5}],
        "huge": HUGE,
        "long": LONG,
        "least": -(1 << 63) - 1,
    }
    path = tmp_path / "m.pth"
    path.write_bytes(saved(obj))
    return str(path)


SLICES: dict[str, Any] = {
    "w[0:0]": [],
    "w[::-1, 1]": [9.0, 5.0, 1.0],
    "w[..., ::2]": [[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]],
    "w[-1]": [8.0, 9.0, 10.0, 11.0],
    "w[1, 2]": 6.0,
    "w[5:2]": [],
    "scalar": 2.5,
    "scalar[...]": 2.5,
    "per_tensor[1]": [3, 3, 3],
    "per_channel[:, 0]": [2, 5],
    "complex[1:]": [[0.0, -3.0]],
    "brain[::-1]": [-2.0, 1.5],
    "odd": ["nan", "inf", "-inf", 0.25],
}


@pytest.mark.parametrize("name", SLICES)
@pytest.mark.filterwarnings("ignore")
def test_show_slices_of_every_kind(run: Any, everything: str, name: str) -> None:
    code, out, err = run("show", "--json", everything, name)
    assert (code, err) == (0, "") and json.loads(out)["values"][""] == SLICES[name]
    code, out, err = run("show", everything, name)
    assert (code, err) == (0, "") and out.startswith(f"{name.split('[')[0]}   ")


MADE_OF: dict[str, dict[str, Any]] = {
    "sparse": {"indices": [[0, 1, 2], [0, 1, 2]], "values": [1.0, 1.0, 1.0]},
    "csr": {"compressed_indices": [0, 1, 2], "plain_indices": [0, 1], "values": [1.0, 1.0]},
    "per_tensor": {"": [[3, 3, 3], [3, 3, 3]], "scale": 0.5, "zero_point": 1},
    "per_channel": {"": [[2, 2, 2], [5, 5, 5]], "scale": [0.5, 0.25], "zero_point": [0, 1]},
    "nested": {"[0]": [1.0, 1.0], "[1]": [0.0]},
    "meta": {},
}


@pytest.mark.parametrize("name", MADE_OF)
@pytest.mark.filterwarnings("ignore")
def test_show_what_tensors_are_made_of(run: Any, everything: str, name: str) -> None:
    assert json.loads(run("show", "--json", everything, name)[1])["values"] == MADE_OF[name]
    text = run("show", everything, name)[1]
    assert all(f"\n{part}:\n" in text for part in MADE_OF[name] if part) and ("no data" in text) == (name == "meta")


NO_SLICE = {
    "scalar[0]": "scalar[0]: too many indices for array: array is 0-dimensional, but 1 were indexed [slice]",
    "scalar[:]": "scalar[:]: too many indices for array: array is 0-dimensional, but 1 were indexed [slice]",
    "sparse[0]": "tensor 'sparse' is sparse: use .indices and .values, or .to_dense() [no-array]",
    "csr[0, 0]": "tensor 'csr' is sparse: use .indices and .values, or .to_dense() [no-array]",
    "nested[0]": "tensor 'nested' is nested: use .unbind(), or .values [no-array]",
    "meta[0]": "tensor 'meta' was saved without data (meta device) [no-array]",
    "per_tensor[2]": "per_tensor[2]: index 2 is out of bounds for axis 0 with size 2 [slice]",
}


@pytest.mark.parametrize("name", NO_SLICE)
@pytest.mark.parametrize("how", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.filterwarnings("ignore")
def test_what_has_no_slice_says_so_in_one_line(run: Any, everything: str, name: str, how: list[str]) -> None:
    assert run("show", *how, everything, name) == (2, "", f"pthparse: {everything}: {NO_SLICE[name]}\n")


@pytest.mark.filterwarnings("ignore")
def test_show_arrays_and_storages(run: Any, everything: str) -> None:
    def value(name: str) -> tuple[str, Any]:
        facts = json.loads(run("show", "--json", everything, name)[1])
        assert facts["path"] == name
        return facts["type"], facts["value"]

    assert value("array") == ("ndarray", [[0, 1, 2], [3, 4, 5]])
    assert value("words") == ("ndarray", ["a", "bc"])
    assert value("dates") == ("ndarray", ["2024-01-02", "NaT"])
    kind, storage = value("storage")
    assert kind == "Storage" and (storage["nbytes"], storage["dtype"], storage["tensors"]) == (12, "untyped", [])
    data = Path(everything).read_bytes()[storage["file_offset"] :][:12]
    assert np.frombuffer(data, np.float32).tolist() == [0, 1, 2]
    assert run("show", everything, "array")[1] == "array   ndarray int64 [2, 3]\n[[0 1 2]\n [3 4 5]]\n"
    assert run("show", everything, "storage")[1].startswith("storage   Storage\n{'key': ")


@pytest.mark.filterwarnings("ignore")
def test_show_values_that_hold_themselves(run: Any, everything: str) -> None:
    """Followed as far as a person would, and no further."""
    facts = json.loads(run("show", "--json", everything, "ring")[1])
    level, depth = facts["value"], 0
    while isinstance(level, dict):
        assert level["n"] == 1 and level.keys() == {"n", "self"}
        level, depth = level["self"], depth + 1
    assert depth == 50 and level.startswith("{'n': 1, 'self': {")
    assert run("show", everything, "ring")[1].startswith("ring   dict\n{'n': 1, 'self': {'n': 1, 'self': {")
    assert json.loads(run("show", "--json", everything, "ring/self/self/n")[1])["value"] == 1
    assert json.loads(run("show", "--json", everything, "list/0/self/n")[1])["value"] == 1
    assert json.loads(run("show", "--json", everything, "list/1")[1])["value"] == {"lr": 0.5}


@pytest.mark.filterwarnings("ignore")
def test_numbers_too_long_for_python_to_print(run: Any, everything: str) -> None:
    shown = f"<int of {HUGE.bit_length()} bits>"
    assert json.loads(run("show", "--json", everything, "huge")[1])["value"] == shown
    assert run("show", everything, "huge")[1].splitlines()[1] == shown
    assert json.loads(run("show", "--json", everything, "long")[1])["value"] == LONG
    assert json.loads(run("show", "--json", everything, "least")[1])["value"] == -(1 << 63) - 1
    metadata = json.loads(run("info", "--json", everything)[1])["metadata"]
    assert metadata == {"huge": shown, "long": LONG, "least": -(1 << 63) - 1}
    assert f"values: huge = {shown!r}, long = 1{'0' * 56}..., " in run("info", everything)[1]


def test_show_other_values(run: Any) -> None:
    assert "'betas': (0.9, 0.999)" in run("show", TRAINING, "optimizer/param_groups/0")[1]
    facts = json.loads(run("show", "--json", TRAINING, "optimizer/param_groups/0/lr")[1])
    assert (facts["type"], facts["value"]) == ("float", 0.001)
    assert "argparse.Namespace" in run("show", TRAINING, "args")[1]


@pytest.mark.parametrize("kind", ["quantized", "sparse", "bare_tensor", "tensors"])
def test_show_every_kind(run: Any, kind: str) -> None:
    listed = json.loads(run("ls", "--json", str(ZOO / f"{kind}.pth"))[1])["tensors"]
    for t in listed:
        code, out, err = run("show", str(ZOO / f"{kind}.pth"), t["name"])
        assert (code, err) == (0, "") and t["dtype"] in out
        assert run("show", "--json", str(ZOO / f"{kind}.pth"), t["name"])[0] == 0


def test_show_a_missing_name(run: Any) -> None:
    code, _, err = run("show", LESSON, "embed.weigth")
    assert code == 2 and err == f"pthparse: {LESSON}: no tensor or value 'embed.weigth'; near: 'embed.weight'\n"


CYCLE = p.once(p.text("a"), 1) + p.EMPTY_DICT + p.put(0) + p.get(1) + p.get(0) + b"s"


def test_show_a_value_that_holds_itself(run: Any, forged: Any) -> None:
    brief = "{'a': " * 6 + "{... 1 keys}" + "}" * 6
    assert run("show", forged(CYCLE), "a") == (0, f"a   dict\n{brief}\n", "")
    code, out, _ = run("show", "--json", forged(CYCLE), "a")
    value, levels = json.loads(out)["value"], 0
    while isinstance(value, dict):
        assert list(value) == ["a"]
        value, levels = value["a"], levels + 1
    assert (code, value, levels) == (0, brief, 50)
    assert run("show", forged(CYCLE), "a/a/a/a")[1] == f"a/a/a/a   dict\n{brief}\n"


def test_show_a_value_far_larger_than_the_pickle(run: Any, forged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 levels of a list that holds the one below twice."""
    monkeypatch.setattr("pthparse.report.text.MOST_VALUES", 10_000)
    path = forged(p.dict_of({"a": p.doubled(p.list_of([p.NONE]), lambda x: p.list_of([x, x]), 30)}))
    text = f"pthparse: {path}: more than 10,000 values: name a part of it [too-many-values]\n"
    assert run("show", "--json", path, "a") == (2, "", text)
    assert json.loads(run("show", "--json", path, "a" + "/0" * 28)[1])["value"] == [[[None], [None]]] * 2
    assert run("show", path, "a" + "/0" * 28)[1].splitlines()[1] == "[[[None], [None]], [[None], [None]]]"


def test_show_an_expanded_tensor(run: Any, forged: Any) -> None:
    """A terabyte of one number, of a dtype that numpy does not print by itself."""
    root = p.tensor(p.storage("0", 32, "BFloat16Storage"), [1 << 40], [0], 3)
    code, out, err = run("show", forged(p.dict_of({"a": root})), "a")
    assert (code, err) == (0, "") and out.splitlines()[0].startswith("a   bfloat16 [1099511627776]   ")
    assert out.splitlines()[3] == "[1 1 1 ... 1 1 1]"


def test_show_a_tensor_of_many_dimensions(run: Any, forged: Any) -> None:
    """Six of each of nine dimensions are ten million numbers: the first few are shown."""
    out = run("show", forged(p.dict_of({"a": p.tensor(p.storage("0", 16), [6] * 9, [0] * 9, 5)})), "a")[1]
    lines = out.splitlines()
    assert lines[0].startswith("a   float32 [6, 6, 6, 6, 6, 6, 6, 6, 6]   ")
    assert lines[3] == "(the first [0, 0, 0, 0, 0] of it)"
    assert lines[4] == "[[[[5. 5. 5. 5. 5. 5.]" and out.split("\nmean ")[0].count("5.") == 6**4


@pytest.mark.parametrize(
    "quantizer",
    [[p.NONE, p.text("x"), p.integer(0)], [p.NONE, p.integer(1), p.integer(0), p.raw(b"a")]],
    ids=["scale", "axis"],
)
@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "json"])
def test_show_a_quantizer_of_other_kinds(run: Any, forged: Any, quantizer: list[bytes], words: list[str]) -> None:
    path = forged(p.dict_of({"a": p.quantized(64, p.tuple_of(quantizer))}))
    place = f"pthparse: {path}!archive/data.pkl: tensor 'a': "
    assert run("show", *words, path, "a") == (2, "", f"{place}its quantizer is not as torch writes one [tensor-args]\n")


def test_show_parts_that_are_one_number_many_times(run: Any, forged: Any) -> None:
    longs = p.storage("0", 8, "LongStorage")
    sizes, offsets = p.tensor(longs, [5_000_000, 1], [0, 1]), p.tensor(longs, [5_000_000], [0])
    path = forged(p.nested(VECTOR, sizes, sizes, offsets))
    code, out, err = run("show", path, "")
    assert (code, out) == (2, "") and err.endswith("its sizes say more than is stored of them [tensor-args]\n")


def test_show_pieces_that_are_no_tensors(run: Any, forged: Any) -> None:
    path = forged(p.dict_of({"a": p.sparse("sparse_csr", p.NONE, p.NONE, VECTOR, p.ints([1, 1]))}))
    text = "its compressed_indices are no tensor as torch writes them [tensor-args]\n"
    assert run("show", path, "a") == (2, "", f"pthparse: {path}!archive/data.pkl: tensor 'a': {text}")


def test_show_a_slice_of_too_many_dimensions(run: Any, forged: Any) -> None:
    path = forged(p.dict_of({"a": VECTOR}))
    text = "too many indices for array: array is 1-dimensional, but 3 were indexed"
    assert run("show", path, "a[0,0,0]") == (2, "", f"pthparse: {path}: a[0,0,0]: {text} [slice]\n")


def test_show_an_index_that_is_a_digit_elsewhere(run: Any, forged: Any) -> None:
    path = forged(p.dict_of({"a": p.list_of([p.integer(1)])}))
    assert run("show", path, "a/\xb2") == (2, "", f"pthparse: {path}: no tensor or value 'a/\xb2'; near: 'a/0'\n")


def test_show_a_missing_name_beside_one_that_acts_on_a_terminal(run: Any, evil: str) -> None:
    code, out, err = run("show", evil, EVIL[:-2])
    assert (code, out) == (2, "") and "no tensor or value" in err and "near: " in err
    assert err[:-1].isprintable() and err.count("\n") == 1


# ---- errors, terminals, pipes ----


def test_errors_are_one_line(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 7\n")
    code, out, err = run("info", str(path))
    assert (code, out) == (2, "") and err.count("\n") == 1 and "git lfs pull" in err
    code, _, err = run("info", str(tmp_path / "none"))
    assert (code, err) == (2, f"pthparse: {tmp_path / 'none'}: No such file or directory\n")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_bad_file_of_several(run: Any, tmp_path: Path, at: int) -> None:
    """The others are told all the same; the code says that one could not be."""
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"hello")
    words = [LESSON, TRAINING]
    words.insert(at, str(bad))
    told = f"{bad}: no format of torch: the file begins with 'hello' at byte 0 [not-a-checkpoint]"
    code, out, err = run("info", *words)
    assert (code, err) == (2, f"pthparse: {told}\n")
    assert [line.split("   ")[0] for line in out.splitlines() if line.split("   ")[0] in words] == [LESSON, TRAINING]
    code, out, err = run("info", "--json", *words)
    assert (code, err) == (2, f"pthparse: {told}\n")
    files = json.loads(out)["files"]
    assert [f["file"] for f in files] == words and [f.get("tensors") for f in files if "error" not in f] == [111, 55]
    assert files[at] == {"file": str(bad), "error": told}


def test_only_bad_files(run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    words = [str(tmp_path / "none"), str(tmp_path / "empty")]
    code, out, err = run("info", *words)
    lines = err.splitlines()
    assert (code, out, len(lines)) == (2, "", 2)
    assert lines[0] == f"pthparse: {words[0]}: No such file or directory" and "[empty-file]" in lines[1]


@pytest.mark.parametrize(
    "words", [["info", LESSON], ["ls", LESSON], ["info", "--json", LESSON], ["show", LESSON, "fc.bias"]]
)
def test_a_full_disk_is_named_as_standard_output(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pthparse", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (2, "pthparse: standard output: No space left on device\n")


def test_no_words_print_the_help(run: Any) -> None:
    code, out, err = run()
    assert (code, out) == (2, "") and err.startswith("usage: pthparse VERB FILE...\n")
    assert all(f"\n  {verb} " in err for verb in VERBS) and "\nexit codes: 0 fine; 1 the answer is no; 2 " in err
    assert run("--help") == run("help") == (0, err, "")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "pthparse", "info", "--debug", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" in done.stderr and "empty-file" in done.stderr


@pytest.mark.parametrize("words", [[], ["info"], ["info", "--bad", LESSON], ["ls"], ["show", LESSON], ["--nope"]])
def test_bad_usage_is_2(run: Any, words: list[str]) -> None:
    code, out, err = run(*words)
    assert code == 2 and out == "" and err


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_is_answered_and_how(run: Any, verb: str) -> None:
    code, out, err = run(verb, "--help")
    assert (code, err) == (0, "") and run("help", verb) == (0, out, "")
    assert out.startswith(f"usage: pthparse {verb} [options] ")
    assert f"\n\nexamples:\n  pthparse {verb} " in out and "\n\nexit codes:\n  0  fine\n" in out
    if VERBS[verb]().about:
        assert max(map(len, out.splitlines())) <= 80
        assert "\n  1  the answer is no\n" not in out, "what is it that is answered by no?"


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_help_fits_a_terminal(run: Any, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = run("--help")[1].splitlines()
    assert max(map(len, lines)) <= min(int(columns), 100)


@pytest.mark.parametrize(
    ("word", "near"),
    [("nfo", "near: 'info'"), ("stat", "near: 'stats'"), ("cap", "near: 'capacity'"), ("compleation", "'completion'")],
)
def test_what_is_no_verb_and_no_file(run: Any, word: str, near: str) -> None:
    code, out, err = run(word)
    assert (code, out) == (2, "") and err.startswith(f"pthparse: '{word}' is neither a verb nor a file; ")
    assert near in err and err.count("\n") == 1
    assert run("xyzzyxyzzy")[2] == "pthparse: 'xyzzyxyzzy' is neither a verb nor a file\n"


def test_a_file_may_have_the_name_of_no_verb(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").write_bytes(Path(LESSON).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert run("model")[1].startswith("model   124,012 B ")
    assert "none.pth: No such file" in run("none.pth")[2]


def test_version(run: Any) -> None:
    assert run("--version")[1].startswith("pthparse 0.")


EVIL = "\x1b[31mred\x1b]0;title\x07[bold]x[/bold]\u202eabc\r\n"


@pytest.fixture
def evil(tmp_path: Path) -> str:
    path = tmp_path / "evil.pth"
    root = p.dict_of({EVIL: p.vector("0", 4), "note": p.text(EVIL)})
    path.write_bytes(checkpoint(p.pickle(root), {"0": bytes(16)}))
    return str(path)


def test_names_of_a_file_do_not_act_on_a_terminal(run: Any, evil: str) -> None:
    for words in (["info", evil], ["ls", evil], ["ls", "--csv", evil], ["show", evil, EVIL], ["show", evil, "note"]):
        code, out, err = run(*words)
        assert code == 0 and "\x1b" not in out + err and "\u202e" not in out + err and "\x07" not in out + err
    assert "[bold]x[/bold]" in run("ls", evil)[1]
    assert json.loads(run("ls", "--json", evil)[1])["tensors"][0]["name"] == EVIL


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=str)
def test_where_only_ascii_can_be_printed(tmp_path: Path, env: dict[str, str]) -> None:
    path = tmp_path / "\u6a21\u578b.pth"
    path.write_bytes(checkpoint(p.pickle(p.dict_of({"\u6743\u91cd": p.vector("0", 4)})), {"0": bytes(16)}))
    for words in (["info"], ["ls"], ["audit"], ["stats"], ["capacity"], ["verify"], ["hash", "--all"], ["show"]):
        named = [str(path), "\u91cd"] if words == ["show"] else [str(path)]
        done = subprocess.run(
            [sys.executable, "-m", "pthparse", *words, *named], env={**os.environ, **env}, capture_output=True
        )
        assert b"Traceback" not in done.stderr and done.returncode == (2 if words == ["show"] else 0)
        if "PYTHONIOENCODING" in env:
            assert (done.stdout + done.stderr).isascii()


def on_terminal(*words: str, columns: int = 100, **env: str) -> str:
    """What a terminal gets."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (40, columns))
    process = subprocess.Popen(
        [sys.executable, "-m", "pthparse", *words],
        stdout=follower,
        stdin=follower,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **env},
    )
    os.close(follower)
    out = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        out += part
    os.close(leader)
    assert process.wait() == 0
    return out.decode()


def test_on_a_terminal(evil: str) -> None:
    drawn = on_terminal("ls", LESSON)
    assert "\x1b[1m" in drawn and "embed.weight" in drawn
    assert "\x1b" not in on_terminal("ls", LESSON, NO_COLOR="1").replace("\x1b[1m", "").replace("\x1b[0m", "")
    shown = on_terminal("ls", evil)
    assert "\x1b[31m" not in shown and "\x1b]0;" not in shown and "[bold]x[/bold]" in shown


def cells(text: str) -> list[list[str]]:
    """Rows of tables, without colours and bars."""
    rows = [re.sub(r"\x1b\[[0-9;]*m", "", row).rstrip() for row in text.replace("\r", "").split("\n")]
    return [[c for c in re.split(r" {2,}", row) if c.strip("#▏▎▍▌▋▊▉█")] for row in rows]


@pytest.mark.parametrize("columns", [60, 40])
@pytest.mark.parametrize(
    "words", [["ls", LESSON], ["ls", TRAINING], ["capacity", LESSON, "--by", "module", "--depth", "3"]], ids=" ".join
)
def test_narrow_terminals_cut_names_and_no_digits(run: Any, words: list[str], columns: int) -> None:
    heads, *expected = [row for row in cells(run(*words)[1]) if row]
    shown, *found = [row for row in cells(on_terminal(*words, columns=columns)) if row]
    found, told = found[: len(expected)], " ".join(cell for row in found[len(expected) :] for cell in row)
    missing = told.removeprefix("no room for: ").partition(" (")[0].split(", ")
    assert [h for h in heads if h not in missing] == shown and len(found) == len(expected)
    for narrow, wide in zip(found, expected, strict=True):
        # A name may have lost its middle: its ends, and every number beside it, are there.
        ends = [
            (narrow[0][: dots.start()], narrow[0][dots.start() + 3 :]) for dots in re.finditer(r"(?=\.\.\.)", narrow[0])
        ]
        assert narrow[0] == wide[0] or any(wide[0].startswith(a) and wide[0].endswith(z) for a, z in ends)
        assert narrow[1:] == [cell for h, cell in zip(heads[1:], wide[1:], strict=True) if h not in missing]
        assert len(narrow[0]) >= min(12, len(wide[0]))


@pytest.mark.parametrize("columns", [60, 40])
def test_narrow_terminals_show_every_value(columns: int) -> None:
    shown = on_terminal("show", LESSON, "embed.weight[0:2]", columns=columns)
    body = shown.replace("\r", "").split("\n[[", 1)[1].split("\nmean ")[0]
    numbers = [float(n) for n in body.replace("[", " ").replace("]", " ").split()]
    expected = torch.load(LESSON)["embed.weight"][0:2].reshape(-1).tolist()
    assert numbers == pytest.approx(expected, rel=1e-6)
    assert max(map(len, body.split("\n"))) < columns


@pytest.mark.parametrize("words", ["ls LESSON", "ls --help", "--help", "stats LESSON --csv", "info --json LESSON"])
def test_a_closed_pipe_is_no_error(words: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pthparse", *words.replace("LESSON", LESSON).split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0
    process.stderr.close()


def test_parts_without_tensors(run: Any, tmp_path: Path) -> None:
    out = io.BytesIO()
    torch.save({"epoch": 3, "lr": float("nan")}, out)
    path = tmp_path / "m.pth"
    path.write_bytes(out.getvalue())
    assert "values: epoch = 3, lr = nan" in run(str(path))[1]
    facts = json.loads(run("--json", str(path))[1])
    assert facts["metadata"] == {"epoch": 3, "lr": "nan"} and facts["tensors"] == 0
