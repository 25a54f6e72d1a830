"""The tar of torch 0.1.9 and before, forged as the old source wrote it: torch still reads it, but writes it no more."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forge import pickles as p
from forge import tars

import pthparse

DATA = np.arange(6, dtype=np.float32).tobytes()
ROOT = p.dict_of({"w": p.text("1") + p.BINPERSID, "t": p.text("2") + p.BINPERSID, "epoch": p.integer(4)})
STORAGES = [tars.storage_record(101, DATA)]
TENSORS = [tars.tensor_record(1, 101, [2, 3], [3, 1]), tars.tensor_record(2, 101, [2, 2], [1, 2], 1)]


def archive(**how: object) -> bytes:
    return tars.archive(ROOT, STORAGES, TENSORS, **how)  # type: ignore[arg-type]


def by_torch(data: bytes, folder: Path) -> Any:
    path = folder / "ancient.pth"  # torch unpacks it, and wants a real file
    path.write_bytes(data)
    return torch.load(path, weights_only=False)


def test_read_as_torch_reads_it(tmp_path: Path) -> None:
    data = archive()
    ckpt = pthparse.open(data)
    theirs = by_torch(data, tmp_path)
    assert ckpt.format == "tar" and list(ckpt) == ["w", "t"]
    for name in ckpt:
        assert np.array_equal(ckpt[name].numpy(), theirs[name].numpy())
        assert ckpt[name].stride == theirs[name].stride()
    assert ckpt.metadata["epoch"] == 4
    assert ckpt["w"].storage.tensors == ("w", "t")
    assert data[ckpt["w"].storage.file_offset :][:24] == DATA


def test_storage_views(tmp_path: Path) -> None:
    views = tars.views([(103, 101, 2, 4)])
    root = p.dict_of({"v": p.text("1") + p.BINPERSID})
    data = tars.archive(root, STORAGES, [tars.tensor_record(1, 103, [4], [1])], view_rows=views)
    assert pthparse.open(data)["v"].numpy().tolist() == [2, 3, 4, 5]
    assert by_torch(data, tmp_path)["v"].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("member", ["sys_info", "pickle", "storages", "tensors"])
def test_a_missing_member_is_no_checkpoint(member: str) -> None:
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(archive(skip=member))
    assert e.value.code == "not-a-checkpoint"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (archive(twice="pickle"), "tar-duplicate"),
        (
            archive(n_storages=3),
            ("tar-storage", "pickle-truncated", "pickle-line", "pickle-opcode", "pickle-underflow"),
        ),
        (archive()[:2000], ("tar-extent", "not-a-checkpoint", "tar-cut")),
        (tars.archive(ROOT, STORAGES, TENSORS, view_rows=tars.views([(103, 101, -1, 4)])), "tar-storage"),
    ],
    ids=["twice", "count", "cut", "negative view"],
)
def test_refused(data: bytes, code: str | tuple[str, ...]) -> None:
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(data)
    assert e.value.code in ((code,) if isinstance(code, str) else code)


VIEWS = [(103, 101, 4, 4), (104, 999, 0, 1)]


@pytest.mark.parametrize(
    ("tensor", "code"),
    [
        (tars.tensor_record(2, 101, [7], [1]), "tensor-bounds"),
        (tars.tensor_record(2, 999, [2], [1]), "storage-missing"),
        (tars.tensor_record(2, 103, [1], [1]), "tensor-bounds"),
        (tars.tensor_record(2, 104, [1], [1]), "storage-missing"),
        (tars.tensor_record(2, None, [5], [1]), "tensor-bounds"),
        (tars.tensor_record(2, None, [0, -1], [1, 1]), "tensor-negative"),
        (tars.tensor_record(2, None, [1 << 62, 8], [8, 1]), "tensor-overflow"),
    ],
    ids=[
        "past its storage",
        "no storage",
        "view past its root",
        "view without root",
        "elements without a storage",
        "a negative size without a storage",
        "too many elements without a storage",
    ],
)
def test_a_wrong_tensor_is_wrong_alone(tensor: bytes, code: str) -> None:
    ckpt = pthparse.open(tars.archive(ROOT, STORAGES, [TENSORS[0], tensor], view_rows=tars.views(VIEWS)))
    assert {n: e.code for n, e in ckpt.errors.items()} == {"t": code}
    assert ckpt["w"].numpy().shape == (2, 3)


def test_a_tar_without_its_magic_is_a_tar_to_torch_and_here() -> None:
    """Python's tarfile takes the oldest tars by a checksum: what stands before it may be a pickle."""
    block = bytearray(archive()[:512])
    block[:100] = (p.pickle(p.text("a pickle, to whoever believes the first byte"))).ljust(100, b"\0")
    block[257:265] = bytes(8)
    block[148:156] = b" " * 8
    for total in (sum(block), sum(b - 256 * (b > 127) for b in block)):
        block[148:156] = b"%06o\0 " % (total % (1 << 18))
        data = bytes(block) + archive()[512:]
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as found:
            assert found.getnames()[0].startswith(("\x80", "\udc80"))
        report = pthparse.audit(data)
        assert (report.format, report.verdict) == ("tar", "malformed")
    block[148:156] = b"000001\0 "
    assert pthparse.audit(bytes(block)).format == "pickle"


@pytest.mark.parametrize(("size", "shape"), [([], (0,)), ([0, 5], (0, 5))])
def test_an_empty_tensor_has_no_storage(size: list[int], shape: tuple[int, ...]) -> None:
    empty = tars.tensor_record(2, None, size, size)
    ckpt = pthparse.open(tars.archive(ROOT, STORAGES, [TENSORS[0], empty]))
    assert ckpt["t"].shape == shape and ckpt["t"].numpy().shape == shape
