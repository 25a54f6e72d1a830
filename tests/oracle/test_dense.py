"""Dense tensors of every dtype, view and container, as torch.load gives them."""

from __future__ import annotations

import io
import mmap
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


def held(ckpt: pthparse.Checkpoint) -> int:
    """Bytes of all storages; those of all kinds are the file."""
    ledger = {e.kind: e.nbytes for e in ckpt.capacity().ledger()}
    assert sum(ledger.values()) == ckpt.nbytes
    return ledger["tensor data"] + ledger["unused storage"]


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


@pytest.mark.parametrize("kind", ["mmap", "memoryview", "part of a memoryview", "bytearray", "numpy", "frozen numpy"])
@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_sources_in_memory(kind: str, container: str, tmp_path: Any) -> None:
    """Whatever lies in memory is a source, and an array is a view of it."""
    data = saved(views(), **CONTAINERS[container])
    expected = loaded(data)
    (tmp_path / "m").write_bytes(data)
    with (tmp_path / "m").open("rb") as f:
        sources: dict[str, Any] = {
            "mmap": mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ),
            "memoryview": memoryview(data),
            "part of a memoryview": memoryview(b"xyz" + data + b"xyz")[3:-3],
            "bytearray": bytearray(data),
            "numpy": np.frombuffer(data, np.uint8).copy(),
            "frozen numpy": np.frombuffer(data, np.uint8),
        }
    source = sources[kind]
    ckpt = pthparse.open(source)
    assert (ckpt.path, ckpt.nbytes) == (None, len(data))
    assert list(ckpt) == list(expected)
    for name, theirs in expected.items():
        assert_dense(ckpt[name], theirs)
    assert np.shares_memory(ckpt["whole"].numpy(), np.frombuffer(source, np.uint8))


def two_zips(writer: str) -> tuple[bytes, bytes]:
    """Two checkpoints of one size that differ in their data alone."""
    pair = tuple(saved({"w": torch.full((4,), float(n))}) for n in (1, 2))
    if writer == "another":
        pair = tuple(rezipped(data, zipfile.ZIP_STORED) for data in pair)
    assert len(pair[0]) == len(pair[1])
    return pair[0], pair[1]


@pytest.mark.parametrize(("writer", "code"), [("torch", "zip-end64"), ("another", "zip-prefix")])
def test_two_zips_back_to_back(writer: str, code: str) -> None:
    """torch gives the tensors of the first one, zipfile those of the second: nobody can say which is meant."""
    first, second = two_zips(writer)
    assert loaded(first + second)["w"].tolist() == [1, 1, 1, 1]
    with pytest.raises(pthparse.FormatError) as e:
        pthparse.open(first + second)
    assert e.value.code == code
    assert [pthparse.open(data)["w"].numpy()[0] for data in (first, second)] == [1, 2]


# ---- storages saved by themselves ----

WRITERS: dict[str, Any] = {
    **{name: lambda obj, how=how: saved(obj, **how) for name, how in CONTAINERS.items()},
    **{f"pickle{n}": lambda obj, n=n: pickle.dumps(obj, n) for n in range(6)},
}
STORAGES = pytest.mark.filterwarnings("ignore:TypedStorage")


def assert_storage(ours: Any, theirs: Any, data: bytes, dtype: str) -> None:
    assert isinstance(ours, pthparse.Storage)
    assert (ours.nbytes, ours.dtype, ours.device) == (theirs.nbytes(), dtype, str(theirs.device))
    if ours.file_offset is not None:
        held = theirs if isinstance(theirs, torch.UntypedStorage) else theirs.untyped()
        assert data[ours.file_offset :][: ours.nbytes] == bytes(held)


@STORAGES
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("typed", [False, True], ids=["untyped", "typed"])
def test_storages_alone(writer: str, typed: bool) -> None:
    tensors = {"a": torch.arange(7.0), "b": torch.arange(5, dtype=torch.int16), "c": torch.ones(3).bool()}
    obj = {name: t.storage() if typed else t.untyped_storage() for name, t in tensors.items()}
    data = WRITERS[writer](obj)
    ckpt = pthparse.open(data)
    assert list(ckpt) == [] and list(ckpt.root) == list(obj) and not ckpt.findings
    # torch writes untyped storages into these, and cannot load them: there the judge is what was saved.
    judged = typed or writer.startswith("zip")
    theirs = obj if not judged else pickle.loads(data) if writer.startswith("pickle") else loaded(data)
    for name, t in tensors.items():
        assert_storage(ckpt.root[name], theirs[name], data, str(t.dtype).removeprefix("torch.") if typed else "untyped")
    assert ckpt.storages == tuple(ckpt.root.values())
    assert [s.tensors for s in ckpt.storages] == [(), (), ()]
    assert held(ckpt) == 28 + 10 + 3
    as_bytes = writer not in (
        "pickle0",
        "pickle1",
        "pickle2",
    )  # these write bytes as text: they lie nowhere as they are
    assert [s.file_offset is not None for s in ckpt.storages] == [as_bytes] * 3


@STORAGES
@pytest.mark.parametrize("writer", WRITERS)
def test_storage_beside_its_tensor(writer: str) -> None:
    whole = torch.arange(12, dtype=torch.uint8)
    obj = {"s": whole.untyped_storage(), "t": whole, "view": whole[4:8]}
    data = WRITERS[writer](obj)
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["t", "view"]
    assert_dense(ckpt["t"], whole)
    assert_dense(ckpt["view"], whole[4:8])
    root = ckpt.root["s"]
    assert isinstance(root, pthparse.Storage) and root.nbytes == 12
    apart = writer.startswith("pickle")  # pickle itself writes the storage anew for each that has it
    assert root.tensors == (() if apart else ("t", "view"))
    assert [s.nbytes for s in ckpt.storages] == [12] * (3 if apart else 1)
    assert held(ckpt) == (36 if apart else 12)


@STORAGES
@pytest.mark.parametrize("writer", WRITERS)
def test_storage_as_the_root(writer: str) -> None:
    data = WRITERS[writer](torch.arange(5.0).untyped_storage())
    ckpt = pthparse.open(data)
    assert_storage(ckpt.root, torch.arange(5.0).untyped_storage(), data, "untyped")
    assert list(ckpt) == [] and ckpt.storages == (ckpt.root,) and held(ckpt) == 20


# ---- after close() ----


@pytest.mark.parametrize("source", ["path", "memory", "stream"])
@pytest.mark.parametrize("writer", ["zip", "legacy", "pickle4"])
def test_nothing_is_read_after_close(source: str, writer: str, tmp_path: Any) -> None:
    obj = {
        "w": torch.arange(6.0).reshape(2, 3),
        "s": torch.eye(3).to_sparse(),
        "c": torch.ones(2, dtype=torch.complex64).conj(),
    }
    data = WRITERS[writer](obj)
    (tmp_path / "m").write_bytes(data)
    sources: dict[str, Any] = {
        "path": tmp_path / "m",
        "memory": data,
        "stream": io.BufferedReader(io.BytesIO(data)),
    }
    ckpt = pthparse.open(sources[source])
    tensors = dict(ckpt)
    kept = tensors["w"].numpy()
    ckpt.close()
    assert ckpt.closed
    w, s = tensors["w"], tensors["s"]
    reads: list[Any] = [
        *(lambda: w.storage, lambda: ckpt.storages, lambda: ckpt["w"].storage, lambda: s.inner["values"].storage),
        *(w.numpy, lambda: w.numpy(copy=True), lambda: np.asarray(w), lambda: s.values, s.to_dense),
        lambda: tensors["c"].numpy(),
    ]
    for read in reads:
        with pytest.raises(pthparse.PthError) as e:
            read()
        assert e.value.code == "closed"
    assert kept.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert list(ckpt) == list(obj) and (w.shape, w.dtype, w.stride) == ((2, 3), "float32", (3, 1))
    ckpt.close()
    assert ckpt.closed


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
