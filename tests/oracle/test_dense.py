"""Dense tensors of every dtype, view and container, as torch.load gives them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from oracle.judge import assert_dense, assert_same, loaded, named_tensors, raw, saved
from torch import nn

import pthparse

BYTES = torch.arange(96, dtype=torch.uint8).mul(37).add(11)
PLAIN = [
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"),
    *("uint16", "uint32", "uint64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2"),
    *("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
]
RAW = ["complex32", "float4_e2m1fn_x2", "bits8", "bits1x8", "bits2x4", "bits4x2", "bits16"]
# What torch calls in one container or the other must not change a tensor.
CONTAINERS: dict[str, dict[str, Any]] = {
    "zip": {},
    **{f"zip-protocol{n}": {"pickle_protocol": n} for n in (3, 4, 5)},
    "legacy": {"_use_new_zipfile_serialization": False},
    "legacy-protocol4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}


def of_dtype(name: str) -> torch.Tensor:
    return BYTES.clone().view(getattr(torch, name))


def views() -> dict[str, torch.Tensor]:
    base = torch.arange(120, dtype=torch.float32)
    return {
        "whole": base,
        "offset": base[17:40],
        "transposed": base.reshape(10, 12).t(),
        "stepped": base.reshape(10, 12)[::3, 1::2],
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 7),
        "broadcast": torch.tensor(3.0).expand(4, 5),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.empty(0),
        "empty_rows": torch.empty(3, 0, 5),
        "empty_view": base[5:5],
        "window": base.as_strided((5, 4), (3, 1), 2),
        "permuted": torch.randn(2, 3, 4, 5).permute(3, 1, 0, 2),
        "channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "many_dims": torch.randn([1] * 20 + [3]),
        "grad": torch.randn(3, requires_grad=True),
        "parameter": nn.Parameter(torch.randn(3)),
        "frozen": nn.Parameter(torch.randn(3), requires_grad=False),
    }


@pytest.mark.parametrize("container", CONTAINERS)
def test_views(container: str) -> None:
    ckpt = assert_same(saved(views(), **CONTAINERS[container]))
    shared = ("whole", "offset", "transposed", "stepped", "empty_view", "window")
    assert ckpt["offset"].storage.tensors == shared
    assert ckpt["offset"].storage.nbytes == 480


@pytest.mark.parametrize("name", [*PLAIN, "bool"])
@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_dtype(name: str, container: str) -> None:
    whole = of_dtype(name) if name != "bool" else BYTES % 2 == 0
    obj = {"whole": whole, "view": whole[1::2], "scalar": whole[2]}
    # torch writes legacy files of the newer dtypes, but does not read them: there the judge is what was saved.
    ckpt = assert_same(saved(obj, **CONTAINERS[container]), obj)
    expected = np.dtype(name) if name in np.sctypeDict else np.dtype(getattr(ml_dtypes, name))
    assert ckpt["whole"].numpy().dtype == expected


@pytest.mark.parametrize("name", RAW)
def test_raw_dtype(name: str) -> None:
    """What numpy cannot hold: halves for complex32, unsigned bytes for the rest, the same bytes in the same order."""
    theirs = of_dtype(name)
    ckpt = pthparse.open(saved({"whole": theirs, "view": theirs[4:20]}))
    for key, t in (("whole", theirs), ("view", theirs[4:20])):
        ours = ckpt[key]
        assert (ours.dtype, ours.shape, ours.stride) == (name, tuple(t.shape), t.stride())
        assert ours.nbytes == t.numel() * t.element_size()
        start = t.storage_offset() * t.element_size()
        expected = bytes(t.untyped_storage())[start : start + t.numel() * t.element_size()]
        assert ours.numpy().tobytes() == expected
        suffix = (2,) if name == "complex32" else ()
        assert ours.numpy().shape == (*t.shape, *suffix)


def test_every_dtype_of_torch_is_known_or_cannot_be_saved() -> None:
    ours = {row[0] for row in pthparse._core.DTYPES}
    for name in dir(torch):
        dtype = getattr(torch, name)
        if not isinstance(dtype, torch.dtype) or dtype_name(dtype) in ours:
            continue
        with pytest.raises((KeyError, RuntimeError, NotImplementedError)):
            saved(torch.empty(4, dtype=dtype))


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def test_conjugate_and_negative_views() -> None:
    z = torch.randn(6, dtype=torch.complex64)
    whole = torch.randn(4, dtype=torch.complex128)
    objects = {"conj": z.conj(), "neg": torch._neg_view(torch.randn(5)), "both": torch._neg_view(whole.conj())}
    for obj in objects.values():
        ckpt = pthparse.open(saved(obj))
        assert list(ckpt) == [""]
        assert_dense(ckpt[""], obj)
    assert_dense(pthparse.open(saved(z.conj().imag))[""], loaded(saved(z.conj().imag)))


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_conjugate_of_complex32() -> None:
    z = of_dtype("complex32").conj()
    ours = pthparse.open(saved({"z": z}))["z"]
    halves = torch.view_as_real(of_dtype("complex32").clone()).numpy().copy()
    halves[:, 1] *= -1
    assert ours.conj and np.array_equal(ours.numpy(), halves, equal_nan=True)


@pytest.mark.parametrize(
    "root",
    [
        torch.arange(6.0),
        nn.Parameter(torch.randn(2)),
        [torch.zeros(1), (torch.ones(2), {"x": torch.zeros(3)})],
        {7: {None: torch.ones(1), -5: torch.ones(2)}, True: torch.zeros(1), "a/b": torch.zeros(2)},
        OrderedDict(a=OrderedDict(b=torch.ones(2))),
        {},
        [],
    ],
    ids=["tensor", "parameter", "nested", "odd keys", "ordered", "empty dict", "empty list"],
)
@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_roots(root: Any, container: str) -> None:
    assert_same(saved(root, **CONTAINERS[container]))


def test_storages_shared_or_not() -> None:
    w = torch.randn(8, 4)
    ckpt = assert_same(saved({"a": w, "tied": w, "view": w[2:], "own": w.clone()}))
    assert ckpt["view"].storage.tensors == ("a", "tied", "view")
    assert ckpt["own"].storage.tensors == ("own",)
    assert [s.tensors for s in ckpt.storages] == [("a", "tied", "view"), ("own",)]
    assert np.shares_memory(ckpt["a"].numpy(), ckpt["view"].numpy())


def test_views_are_of_the_file_itself(tmp_path: Any) -> None:
    path = tmp_path / "m.pth"
    torch.save({"w": torch.arange(10.0)}, path)
    with pthparse.open(path) as ckpt:
        storage = ckpt["w"].storage
        assert path.read_bytes()[storage.file_offset :][: storage.nbytes] == raw(torch.arange(10.0))
        array = ckpt["w"].numpy()
        assert array.base is not None and np.asarray(ckpt["w"]).tolist() == list(range(10))
    assert array.tolist() == list(range(10))
    with pytest.raises(pthparse.PthError, match="closed"):
        ckpt["w"].numpy()


def rezipped(data: bytes, method: int, **change: bytes) -> bytes:
    """The same members by another writer: no padding, perhaps deflated, perhaps other contents."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change.get(name.split("/", 1)[1].replace("/", "_"), old.read(name)))
    return out.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zipped_again(method: int) -> None:
    obj = {**views(), "half": of_dtype("float16")}
    ckpt = assert_same(rezipped(saved(obj), method), loaded(saved(obj)))
    offset = ckpt["whole"].storage.file_offset
    assert (offset is None) == (method == zipfile.ZIP_DEFLATED)


def test_big_endian() -> None:
    """Written by a big-endian machine: swapped by storage class as torch does it, by dtype where it does not."""
    names = [n for n in [*PLAIN, "bool"] if n not in ("uint16", "uint32", "uint64")]
    obj = {n: of_dtype(n) if n != "bool" else BYTES % 2 == 0 for n in names}
    obj["view"] = obj["float32"][1::3]
    data = saved(obj)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        sizes = {}
        for n, t in obj.items():
            unit = t.element_size() // (2 if t.is_complex() else 1)
            key = pthparse.open(data)[n].storage.key
            sizes[f"data_{key}"] = np.frombuffer(z.read(f"archive/data/{key}"), f"u{unit}").byteswap().tobytes()
    ckpt = assert_same(rezipped(data, zipfile.ZIP_STORED, byteorder=b"big", **sizes), obj)
    assert ckpt.byteorder == "big"


def test_big_endian_of_an_untyped_storage_is_swapped_by_its_dtype() -> None:
    obj = {"n": torch.arange(5).to(torch.uint16)}
    swapped = np.arange(5, dtype=">u2").tobytes()
    data = rezipped(saved(obj), zipfile.ZIP_STORED, byteorder=b"big", data_0=swapped)
    assert pthparse.open(data)["n"].numpy().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("alignment", [1, 64, 4096, 65536])
def test_alignment(alignment: int) -> None:
    from torch.utils.serialization import config

    with config.patch("save.storage_alignment", alignment):
        data = saved(views())
    ckpt = assert_same(data)
    assert all(s.file_offset % alignment == 0 for s in ckpt.storages if s.nbytes)


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_by_pickle_itself(protocol: int) -> None:
    """pickle.dump of tensors: each storage is a whole legacy stream inside of the pickle."""
    obj = {"a": torch.arange(6.0).reshape(2, 3), "p": nn.Parameter(torch.ones(2)), "half": of_dtype("bfloat16")}
    data = pickle.dumps(obj, protocol)
    ckpt = assert_same(data, pickle.loads(data))
    assert ckpt.format == "pickle"


def test_several_objects_in_one_stream() -> None:
    out = io.BytesIO()
    for obj in ({"a": torch.ones(3)}, {"b": torch.zeros(2)}):
        torch.save(obj, out, _use_new_zipfile_serialization=False)
    ckpt = assert_same(out.getvalue(), {"a": torch.ones(3)})
    assert [f.code for f in ckpt.findings] == ["several-objects"]
    out.seek(ckpt.findings[0].offset)
    assert list(pthparse.open(out)) == ["b"]


def test_from_the_position_of_a_file(tmp_path: Any) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"x" * 100 + saved({"a": torch.arange(4.0)}))
    with path.open("rb") as f:
        f.seek(100)
        ckpt = pthparse.open(f)
        assert f.tell() == 100
        assert ckpt["a"].numpy().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_optimizer_and_scheduler(container: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    obj = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "epoch": 7,
        "history": [1.5, float("inf")],
    }
    data = saved(obj, **CONTAINERS[container])
    ckpt = assert_same(data)
    assert ckpt.root["optimizer"]["param_groups"] == obj["optimizer"]["param_groups"]
    assert ckpt.metadata["optimizer/param_groups/0/betas/1"] == 0.999
    assert ckpt.metadata["epoch"] == 7 and ckpt.metadata["history/1"] == float("inf")
    assert ckpt.root["scheduler"]["total_steps"] == 10
    assert list(ckpt.state_dict()) == list(model.state_dict())
    assert ckpt.root["model"]._metadata == model.state_dict()._metadata
    names = [n for n, _ in named_tensors(obj) if n.startswith("optimizer/state/0/")]
    assert "optimizer/state/0/exp_avg" in names and ckpt.group("optimizer").group("state")["0/exp_avg"].shape == (3, 4)
