"""What is written and what is refused, and that a file appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from forge import legacy, safetensors
from forge import pickles as p
from forge.zips import DEFLATED, build, checkpoint, members

import pthparse
from pthparse import converter, outputs, team, transfer
from pthparse.cli import main
from pthparse.converter import nbytes_of
from pthparse.writers import Entry, Wanted, npz
from pthparse.writers.npy import file_name

A, B = (np.arange(i, i + 4, dtype=np.float32).tobytes() for i in (1, 5))


def model(names: dict[str, bytes], storages: dict[str, bytes] | None = None) -> bytes:
    return checkpoint(p.pickle(p.dict_of(names)), {"0": A, "1": B} if storages is None else storages)


PLAIN = model({"a": p.vector("0", 4), "b": p.vector("1", 4)})


def read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header and elements of a safetensors file, by a reader of its own."""
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + n])
    assert n % 8 == 0 and data[8:9] == b"{"
    rows = {k: v["data_offsets"] for k, v in head.items() if k != "__metadata__"}
    return head, {k: data[8 + n + a : 8 + n + b] for k, (a, b) in rows.items()}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- where from, where to ----


def test_sources_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(PLAIN)
    with pthparse.open(PLAIN) as ckpt, (tmp_path / "m.pth").open("rb") as file:
        sources: list[Any] = [PLAIN, tmp_path / "m.pth", str(tmp_path / "m.pth"), file, ckpt, dict(ckpt)]
        for i, source in enumerate(sources):
            told = pthparse.convert(source, tmp_path / f"{i}.safetensors")
            assert read(tmp_path / f"{i}.safetensors")[1] == {"a": A, "b": B}
            assert told.source == (str(tmp_path / "m.pth") if i in (1, 2, 3) else None)
        told = pthparse.convert({"x": ckpt["b"]}, tmp_path / "one.safetensors")
        assert read(tmp_path / "one.safetensors")[1] == {"x": B} and told.tensors == 1


def test_the_state_dict_alone(tmp_path: Path) -> None:
    training = model(
        {
            "model": p.dict_of({"w": p.vector("0", 4)}),
            "optimizer": p.dict_of({"m": p.vector("1", 4)}),
            "epoch": p.integer(3),
        }
    )
    path = tmp_path / "x.safetensors"
    told = pthparse.convert(training, path)
    assert read(path)[1] == {"w": A} and told.left_out == 1
    told = pthparse.convert(training, path, all=True, overwrite=True)
    assert read(path)[1] == {"model/w": A, "optimizer/m": B} and told.left_out == 0
    with pthparse.open(training) as ckpt:
        pthparse.convert(ckpt.group("optimizer"), path, overwrite=True)
    assert read(path)[1] == {"m": B}


def test_the_name_says_the_format(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for dst, how, made in (
        ("x.SafeTensors", {}, "x.safetensors"),
        ("folder", {}, "folder/model.safetensors"),
        ("there", {}, "there/model.safetensors"),
        ("x.npz", {}, "x.npz"),
        ("arrays", {"to": "npy"}, "arrays/a.npy"),
        ("shards/", {"max_shard_size": 16}, "shards/model-00002-of-00002.safetensors"),
        ("y.safetensors", {"max_shard_size": "16B"}, "y-00001-of-00002.safetensors"),
        ("z.safetensors", {"max_shard_size": "1GB"}, "z.safetensors"),
    ):
        told = pthparse.convert(PLAIN, f"{tmp_path}/{dst}", **how)
        assert (tmp_path / made).is_file() and str(tmp_path / made) in [f.path for f in told.files]
        assert all(Path(f.path).stat().st_size == f.nbytes for f in told.files)
    for dst, how in (("x.pt", {}), ("x", {"to": "npz"}), ("x.npz", {"max_shard_size": 1}), ("x", {"to": "gguf"})):
        with pytest.raises(ValueError, match=r"npz|gguf"):
            pthparse.convert(PLAIN, tmp_path / dst, **how)
    with pytest.raises(FileNotFoundError):
        pthparse.convert(PLAIN, tmp_path / "no" / "x.safetensors")
    with pytest.raises(ValueError, match="the name"):  # no name is not the folder one happens to be in
        pthparse.convert(PLAIN, "")
    assert not [n for n in left_in(tmp_path) if outputs.MARK in n]


def test_sizes() -> None:
    assert [nbytes_of(s) for s in ("5GB", "500MiB", "1.5 kb", 7, "12", "3B")] == [5 * 10**9, 500 << 20, 1500, 7, 12, 3]
    for wrong in ("", "GB", "-1", "5 apples", 0, "0GB", "1e3", "9" * 400 + ".5GB", "9" * 5000):
        with pytest.raises(ValueError, match="a size is"):
            nbytes_of(wrong)


# ---- which, as what, under which names ----


def test_names_are_chosen_and_changed(tmp_path: Path) -> None:
    data = model({f"module.{n}": p.vector("0", 4) for n in ("a.w", "a.b", "c.w")})
    path = tmp_path / "x.safetensors"

    def names(**how: Any) -> list[str]:
        pthparse.convert(data, path, overwrite=True, shared="copy", **how)
        return sorted(read(path)[1])

    assert names(include="*.w") == ["module.a.w", "module.c.w"]
    assert names(include=["*.w", "*.b"], exclude="module.a.*") == ["module.c.w"]
    assert names(rename=[(r"^module\.", ""), (r"(\w)\.w", r"\1.weight")]) == ["a.b", "a.weight", "c.weight"]
    assert names(rename={"module.a.w": "first"}) == ["first", "module.a.b", "module.c.w"]
    told = pthparse.convert(data, path, overwrite=True, rename={"module.a.w": "first"}, include="*.a.w")
    assert [(r.name, r.now) for r in told.renamed] == [("module.a.w", "first")] and told.left_out == 2
    for how, error in (
        ({"include": "nothing"}, KeyError),
        ({"exclude": ["*.x"]}, KeyError),
        ({"rename": {"nothing": "x"}}, KeyError),
        ({"exclude": "*"}, pthparse.UnsupportedError),
        ({"rename": [(r"\.[ac]\.", ".")]}, pthparse.UnsupportedError),
        ({"rename": [("(", "")]}, ValueError),
        ({"rename": [("a", r"\9")]}, ValueError),
        ({"dtype": "int8"}, ValueError),
        ({"dtype": {"*.x": "float16"}}, KeyError),
        ({"shared": "maybe"}, ValueError),
        ({"metadata": {"k": 1}}, ValueError),
        ({"metadata": {"k": "\udcff"}}, ValueError),
    ):
        before = path.read_bytes()
        with pytest.raises(error):
            pthparse.convert(data, path, overwrite=True, **how)
        assert path.read_bytes() == before and left_in(tmp_path) == ["x.safetensors"]


def test_metadata_is_kept_and_ties_are_told(tmp_path: Path) -> None:
    data = model({"a": p.vector("0", 4), "b": p.vector("0", 4), "format": p.vector("0", 4), "c": p.vector("1", 4)})
    path = tmp_path / "x.safetensors"
    told = pthparse.convert(data, path, metadata={"license": "ä", "b": "mine"})
    head, tensors = read(path)
    assert head["__metadata__"] == {"format": "pt", "license": "ä", "b": "mine"}
    assert tensors == {"a": A, "c": B} and [d.name for d in told.dropped] == ["b", "format"]
    pthparse.convert(data, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        assert sorted(arrays) == ["a", "b", "c", "format"]
    with pytest.raises(pthparse.UnsupportedError, match="'a' and 'b'; 'a' and 'format'") as e:
        pthparse.convert(data, path, shared="refuse", overwrite=True)
    assert e.value.code == "shared-tensors"


def test_tied_are_the_same_elements_in_the_same_shape(tmp_path: Path) -> None:
    pid = p.storage("0", 4)
    data = model({"w": p.tensor(pid, [2, 2], [2, 1]), "t": p.tensor(pid, [2, 2], [1, 2]), "flat": p.vector("0", 4),
                  "half": p.tensor(pid, [2], [1]), "again": p.tensor(pid, [2, 2], [2, 1])})  # fmt: skip
    path = tmp_path / "x.safetensors"
    told = pthparse.convert(data, path)
    assert [(d.name, d.kept) for d in told.dropped] == [("again", "w")]
    assert read(path)[1] == {"w": A, "t": A[:4] + A[8:12] + A[4:8] + A[12:], "flat": A, "half": A[:8]}
    told = pthparse.convert(data, path, dtype={"again": "float16"}, overwrite=True)
    assert not told.dropped  # no longer the same


@pytest.mark.parametrize("size", [None, "16B"], ids=["one file", "shards"])
def test_a_model_whose_tensors_are_tied_is_what_it_was_made_of(tmp_path: Path, size: str | None) -> None:
    """Names that were left out count where the file says under which other one their elements are."""
    stored = {"0": bytes(range(16)), "1": bytes(range(16, 32))}
    data = model({"a": p.vector("0", 4), "b": p.vector("1", 4), "tied": p.vector("1", 4)}, stored)
    apart = model({"a": p.vector("0", 4), "b": p.vector("1", 4), "tied": p.vector("0", 4)}, stored)
    made = tmp_path / ("m.safetensors" if size is None else "m")
    pthparse.convert(data, made, max_shard_size=size)
    with pthparse.open(made) as ckpt:
        assert list(ckpt) == ["a", "b"] and ckpt.hash().model == pthparse.manifest(data).model
        assert [t.name for t in ckpt.hash().tensors] == ["a", "b", "tied"]
        for sides in ((data, ckpt), (ckpt, data)):
            r = pthparse.diff(*sides)
            assert (r.same, r.identical, r.removed, r.added) == (True, 3, (), ())
        assert pthparse.diff(ckpt, ckpt).identical == 2
        r = pthparse.diff(apart, ckpt)
        assert [(d.name, d.name_b) for d in r.changed] == [("tied", "b")] and r.identical == 2
        assert ckpt.hash().model != pthparse.manifest(apart).model


def test_what_metadata_only_say_is_tied_is_not() -> None:
    header = {
        "__metadata__": {"x": "y", "a": "b", "c": "a"},
        "a": safetensors.entry(),
        "b": safetensors.entry(offsets=(4, 8)),
    }
    data = safetensors.build(header, bytes(8))
    with pthparse.open(data) as ckpt:  # what it has under a name is that, and what it has not is nothing
        assert [t.name for t in ckpt.hash().tensors] == ["a", "b", "c"]
        other = model({"x": p.vector("1", 1), "a": p.vector("0", 1)}, {"0": bytes(4), "1": b"\0\0\x80?"})
        report = pthparse.diff(other, ckpt)
        assert (report.removed, report.added, report.identical) == (("x",), ("b",), 1)


def test_shards_tell_the_ties_of_their_own_tensors(tmp_path: Path) -> None:
    data = model({"a": p.vector("0", 4), "b": p.vector("1", 4), "tied": p.vector("1", 4)})
    pthparse.convert(data, tmp_path / "m", max_shard_size=16)
    heads = [read(path)[0]["__metadata__"] for path in sorted((tmp_path / "m").glob("*.safetensors"))]
    assert heads == [{"format": "pt"}, {"format": "pt", "tied": "b"}]
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 32 and list(index["weight_map"]) == ["a", "b"]


# ---- what cannot be written ----


def test_all_that_has_no_array_is_named_at_once(tmp_path: Path) -> None:
    names = {
        "good": p.vector("0", 4),
        "quantized": p.quantized(4, p.tuple_of([p.glob("torch", "per_tensor_affine"), p.integer(1), p.integer(0)])),
        "sub": p.subclass(p.wrapper([4]), p.dict_of({"x": p.vector("0", 4), "y": p.vector("1", 4)})),
        "wide": p.tensor(p.storage("1", 4), [9], [1]),
        "half": p.tensor(p.storage("2", 2, "ComplexDoubleStorage"), [2], [1]),
    }
    data = model(names, {"0": A, "1": B, "2": A + B})
    path = tmp_path / "x.safetensors"
    with pytest.raises(pthparse.UnsupportedError, match="4 of 5 tensors cannot be written") as e:
        pthparse.convert(data, path)
    assert all(f"'{name}'" in str(e.value) for name in names if name != "good") and "'good'" not in str(e.value)
    assert not left_in(tmp_path)
    told = pthparse.convert(data, path, skip=True)
    assert {s.name: s.reason.split(":")[0] for s in told.skipped} == {
        "quantized": "is quantized (qint8)",
        "sub": "is a tensor subclass ('m.C') that is made of others",
        "wide": "is damaged",
        "half": "safetensors has no complex128",
    }
    assert read(path)[1] == {"good": A}
    with pytest.raises(pthparse.UnsupportedError, match="none of the tensors"):
        pthparse.convert(data, path, skip=True, exclude="good", overwrite=True)


def test_elements_that_are_stored_once_cannot_fill_a_disk(tmp_path: Path) -> None:
    data = model({"huge": p.tensor(p.storage("0", 4), [1 << 20, 1 << 20], [0, 0]), "ok": p.vector("1", 4)})
    with pytest.raises(pthparse.UnsupportedError, match="'huge'") as e:
        pthparse.convert(data, tmp_path / "x.safetensors")
    assert "max_dense_bytes" in str(e.value) and not left_in(tmp_path)
    pthparse.convert(data, tmp_path / "x.safetensors", skip=True)
    assert read(tmp_path / "x.safetensors")[1] == {"ok": B}


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("\ud800", "safetensors"), ("\ud800", "npz"), ("\ud800", "npy"), ("__metadata__", "safetensors"),
        ("../../x", "npz"), ("a/../b", "npz"), ("/x", "npz"), ("a\\b", "npz"), ("a\0b", "npz"),
        ("x" * 70_000, "npz"), ("x" * 300, "npy"), ("/" * 90, "npy"),
    ],
)  # fmt: skip
def test_names_that_a_format_cannot_have(name: str, to: str, tmp_path: Path) -> None:
    data = model({name: p.vector("0", 4), "b": p.vector("1", 4)})
    with pytest.raises(pthparse.UnsupportedError, match="not-convertible"):
        pthparse.convert(data, tmp_path / f"x.{to}", to=to)
    told = pthparse.convert(data, tmp_path / f"x.{to}", to=to, skip=True)
    assert [s.name for s in told.skipped] == [name] and told.tensors == 1
    with pytest.raises(pthparse.UnsupportedError, match="'b': "):
        pthparse.convert(PLAIN, tmp_path / f"y.{to}", to=to, rename={"b": name})


def test_names_of_files_lead_nowhere_else(tmp_path: Path) -> None:
    names = ["../../up", "/root", ".hidden", "..", "a\\b", "a\0b", "%2F", "ä", "a b", "index.json", "con:x"]
    pthparse.convert(model({n: p.vector("0", 4) for n in names}), tmp_path / "x", to="npy")
    assert left_in(tmp_path) == ["x"]
    rows = json.loads((tmp_path / "x" / "index.json").read_text())["tensors"]
    assert list(rows) == names and {r["file"] for r in rows.values()} | {"index.json"} == set(left_in(tmp_path / "x"))
    assert all(re.fullmatch(r"[^/\\\0.:][^/\\\0:]*\.npy", file_name(n)) for n in names)
    with pytest.raises(pthparse.UnsupportedError, match="case"):
        pthparse.convert(model({"A": p.vector("0", 4), "a": p.vector("1", 4)}), tmp_path / "y", to="npy")
    (tmp_path / "m.pth").write_bytes(model({"a": p.vector("0", 4), "a.npy": p.vector("1", 4)}))
    with pytest.raises(pthparse.UnsupportedError, match=r"m\.pth: 'a' and 'a\.npy' are one to numpy"):
        pthparse.convert(tmp_path / "m.pth", tmp_path / "y.npz")


# ---- ways to lie ----


def test_deflated_big_endian_and_other_containers(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    rows = members(p.pickle(p.dict_of({"a": p.vector("0", 4), "b": p.vector("1", 4)})), {"0": A, "1": B})
    for row in rows:
        if "/data/" in row.name:
            row.method = DEFLATED
    pthparse.convert(build(rows), path)
    assert read(path)[1] == {"a": A, "b": B}
    for row in rows:
        if row.name.endswith("byteorder"):
            row.data = b"big"
    pthparse.convert(build(rows), path, overwrite=True)
    assert read(path)[1]["a"] == np.frombuffer(A, ">f4").astype("<f4").tobytes()


def test_large_tensors_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied by several jobs, by threads, beside small ones that are read together."""
    monkeypatch.setattr(transfer, "COPY", 1 << 12)
    monkeypatch.setattr(transfer, "STEP", 1 << 10)
    monkeypatch.setattr(transfer, "SMALL", 1 << 8)
    monkeypatch.setattr(team, "ALONE", 1)
    monkeypatch.setattr(transfer, "SYNC", 1 << 13)
    rng = np.random.default_rng(1)
    stored = {str(i): rng.bytes(4 * (7 + 997 * (i % 3 == 0) * i)) for i in range(20)}
    data = model({f"t{i}": p.vector(i, len(b) // 4) for i, b in stored.items()}, stored)
    (tmp_path / "m.pth").write_bytes(data)
    seen: list[tuple[int, int]] = []
    for threads in (1, 3):
        pthparse.convert(
            tmp_path / "m.pth",
            tmp_path / "x.safetensors",
            threads=threads,
            overwrite=True,
            progress=lambda *told: seen.append(told),
        )
        assert read(tmp_path / "x.safetensors")[1] == {f"t{i}": b for i, b in stored.items()}
        total = sum(map(len, stored.values()))
        assert seen[-1] == (total, total) and [done for done, _ in seen] == sorted(done for done, _ in seen)
        seen.clear()


@pytest.mark.parametrize("how", [{}, {"dtype": "float16"}, {"include": "turned"}, {"include": "repeated"}], ids=str)
def test_memory_does_not_grow_with_a_tensor(how: dict[str, Any], tmp_path: Path) -> None:
    side = 1 << 12
    pid = p.storage("0", side * side)
    names = {
        "plain": p.tensor(pid, [side * side], [1]),
        "turned": p.tensor(pid, [side, side], [1, side]),
        "repeated": p.tensor(pid, [side, side], [0, 1]),
    }
    src = tmp_path / "m.pth"
    src.write_bytes(model(names, {"0": bytes(4 * side * side)}))
    pthparse.convert(PLAIN, tmp_path / "y.npz")  # what is imported is no part of it
    tracemalloc.start()
    try:
        told = pthparse.convert(src, tmp_path / "x.safetensors", **({"include": "plain"} | how), threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told.nbytes == (2 if "dtype" in how else 4) * side * side and peak < 24 << 20


def test_a_zip_of_more_than_four_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arrays of holes, the second one beyond the reach of 32 bits."""
    n = (1 << 32) + 64
    (layout,) = npz.Npz().layouts(
        Wanted([Entry("a", "uint8", (n,), n), Entry("b", "uint8", (4,), 4)], "x", {}, {}, None)
    )
    monkeypatch.setattr(npz, "crc32s", lambda source, parts: [0] * len(parts))
    path = tmp_path / "x.npz"
    with path.open("w+b") as file:
        file.truncate(layout.nbytes)
        layout.seal(file.fileno())
    assert path.stat().st_size == layout.nbytes
    with zipfile.ZipFile(path) as archive:
        assert [(i.filename, i.file_size) for i in archive.infolist()] == [("a.npy", n + 128), ("b.npy", 132)]
    places = npz.Npz().read_back(str(path))
    assert {k: (v.offset, v.nbytes) for k, v in places.items()} == {
        name: (at, size) for name, (_, at), size in zip("ab", layout.places, (n, 4), strict=True)
    }
    assert all(at % 64 == 0 for _, at in layout.places)


# ---- whole or not at all ----


def test_what_is_there_stays(tmp_path: Path) -> None:
    src, dst = tmp_path / "m.pth", tmp_path / "x.safetensors"
    src.write_bytes(PLAIN)
    dst.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        pthparse.convert(src, dst)
    assert dst.read_bytes() == b"mine"
    dst.unlink()
    dst.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        pthparse.convert(src, dst)
    pthparse.convert(src, dst, overwrite=True)
    assert not dst.is_symlink() and read(dst)[1] == {"a": A, "b": B}
    for make in (os.link, os.symlink):
        dst.unlink()
        make(src, dst)
        with pytest.raises(FileExistsError, match="source itself"):
            pthparse.convert(src, dst, overwrite=True)
    assert src.read_bytes() == PLAIN and left_in(tmp_path) == ["m.pth", "x.safetensors"]


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    """The temporary ones are no longer, and an error tells of the name that was asked for."""
    for name, how in (
        ("ä" * 121 + "b.safetensors", {}),
        ("c" * 228 + ".safetensors", {"max_shard_size": 16}),
        ("d" * 255, {"to": "npy"}),
    ):
        pthparse.convert(PLAIN, tmp_path / name, **how)
        pthparse.convert(PLAIN, tmp_path / name, overwrite=True, **how)
    assert len(left_in(tmp_path)) == 1 + 2 + 1 + 1 and not [n for n in left_in(tmp_path) if outputs.MARK in n]
    for name, how in (
        ("x" * 244 + ".safetensors", {}),
        ("x" * 256, {"to": "npy"}),
        ("x" * 229 + ".safetensors", {"max_shard_size": 16}),
    ):
        long = tmp_path / name
        with pytest.raises(OSError) as e:
            pthparse.convert(PLAIN, long, **how)
        assert e.value.errno == errno.ENAMETOOLONG and outputs.MARK not in str(e.value)
        assert str(e.value.filename).startswith(str(long).removesuffix(".safetensors"))
    assert len(left_in(tmp_path)) == 5


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    for name, make in (("x.npz", os.mkfifo), ("m/model.safetensors", Path.mkdir)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        make(tmp_path / name)
        with pytest.raises(FileExistsError, match="no file"):
            pthparse.convert(PLAIN, tmp_path / name.removesuffix("/model.safetensors"), overwrite=True)
    assert left_in(tmp_path) == ["m", "x.npz"] and left_in(tmp_path / "m") == ["model.safetensors"]
    for to in ("safetensors", "npy"):
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match="no folder"):
            pthparse.convert(PLAIN, tmp_path / "file", to=to, overwrite=True)


def test_tensors_of_other_readers(tmp_path: Path) -> None:
    """Whatever has dtype, shape and numpy(); an array that is not what it said is refused."""
    other: Any = SimpleNamespace(dtype="int16", shape=(2, 3), numpy=lambda: np.arange(6, dtype=np.int16).reshape(2, 3))
    wrong: Any = SimpleNamespace(dtype="int16", shape=(2, 3), numpy=lambda: np.arange(5, dtype=np.int16))
    pthparse.convert({"x": other}, tmp_path / "x.safetensors", dtype={"x": "float32"})
    assert read(tmp_path / "x.safetensors")[1]["x"] == np.arange(6, dtype=np.float32).tobytes()
    told = pthparse.convert({"x": other, "y": np.ones(3), "z": 3}, tmp_path / "y.safetensors", skip=True)  # type: ignore[dict-item]
    assert [(s.name, s.reason) for s in told.skipped] == [
        ("y", "is a ndarray, and no tensor"), ("z", "is a int, and no tensor"),
    ]  # fmt: skip
    with pytest.raises(pthparse.UnsupportedError, match="its array int16"):
        pthparse.convert({"x": wrong}, tmp_path / "z.safetensors")
    assert left_in(tmp_path) == ["x.safetensors", "y.safetensors"]


def test_a_name_that_is_taken_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dst = tmp_path / "x.safetensors"
    monkeypatch.setattr(converter._Writing, "_unchanged", lambda self: dst.write_bytes(b"theirs"))
    with pytest.raises(FileExistsError):
        pthparse.convert(PLAIN, dst)
    assert dst.read_bytes() == b"theirs" and left_in(tmp_path) == ["x.safetensors"]


def test_a_model_is_replaced_as_a_whole(tmp_path: Path) -> None:
    pthparse.convert(PLAIN, tmp_path / "m", max_shard_size=16)
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(FileExistsError):
        pthparse.convert(PLAIN, tmp_path / "m")
    pthparse.convert(PLAIN, tmp_path / "m", overwrite=True)
    assert left_in(tmp_path / "m") == ["config.json", "model.safetensors"]
    pthparse.convert(PLAIN, tmp_path / "m", max_shard_size=16, overwrite=True)
    assert left_in(tmp_path / "m") == [
        "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]  # fmt: skip


def test_a_folder_of_arrays_is_replaced_if_it_holds_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    pthparse.convert(PLAIN, tmp_path / "x", to="npy")
    with pytest.raises(FileExistsError):
        pthparse.convert(PLAIN, tmp_path / "x", to="npy")
    pthparse.convert(PLAIN, tmp_path / "x", to="npy", overwrite=True, include="a")
    assert left_in(tmp_path / "x") == ["a.npy", "index.json"] and left_in(tmp_path) == ["x"]
    (tmp_path / "x" / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="other files"):
        pthparse.convert(PLAIN, tmp_path / "x", to="npy", overwrite=True)
    assert left_in(tmp_path / "x") == ["a.npy", "index.json", "thesis.tex"]
    (tmp_path / "x" / "thesis.tex").unlink()
    (tmp_path / "x" / "sub.npy").mkdir()  # whatever its name: what is in it would be set aside with it
    with pytest.raises(FileExistsError, match="other files"):
        pthparse.convert(PLAIN, tmp_path / "x", to="npy", overwrite=True)
    assert left_in(tmp_path / "x") == ["a.npy", "index.json", "sub.npy"] and left_in(tmp_path) == ["x"]


def test_the_index_is_the_last_to_get_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    order: list[str] = []
    place = outputs._place

    def placed(here: Path, there: Path) -> None:
        order.append(there.name)
        place(here, there)
        if len(order) == 3:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(outputs, "_place", placed)
    with pytest.raises(OSError, match="Input/output"):
        pthparse.convert(PLAIN, tmp_path / "m", max_shard_size=16)
    assert order[2] == "model.safetensors.index.json" and not left_in(tmp_path / "m")[1:]


@pytest.mark.parametrize("to", ["safetensors", "npz", "npy"])
def test_a_wrong_byte_is_found(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = transfer.put

    def spoilt(fd: int, data: Any, offset: int) -> None:
        wrong = bytearray(data)
        wrong[-1] ^= 1
        put(fd, wrong, offset)

    monkeypatch.setattr(transfer, "put", spoilt)
    with pytest.raises(pthparse.FormatError, match="what was written is not what was to be written") as e:
        pthparse.convert(PLAIN, tmp_path / f"x.{to}", to=to)
    assert e.value.code == "read-back" and not left_in(tmp_path)
    told = pthparse.convert(PLAIN, tmp_path / f"x.{to}", to=to, verify=False)
    assert not told.verified


@pytest.mark.parametrize("to", ["safetensors", "npz", "npy"])
def test_a_disk_that_is_full(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: Any, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left") as e:
            pthparse.convert(PLAIN, tmp_path / f"x.{to}", to=to)
    assert e.value.errno == errno.ENOSPC and str(tmp_path) in str(e.value) and not left_in(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_frsize=1, f_blocks=9, f_bavail=9))
    with pytest.raises(OSError, match="9 are free"):
        pthparse.convert(PLAIN, tmp_path / f"x.{to}", to=to)
    assert not left_in(tmp_path)


@pytest.mark.parametrize("when", ["meanwhile", "at the last", "at the end"])
def test_a_disk_that_is_full_when_all_was_written(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems take bytes first and look for a place later, and say once that there was none."""

    def full(fd: int) -> None:
        monkeypatch.undo()  # said once
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "SYNC", {"meanwhile": 1, "at the last": 1 << 20, "at the end": 1 << 30}[when])
    monkeypatch.setattr(os, "fsync" if when == "at the end" else "fdatasync", full)
    src = tmp_path / "m.pth"
    src.write_bytes(model({f"t{i}": p.vector("0", 1 << 17) for i in range(2)}, {"0": bytes(1 << 19)}))
    with pytest.raises(OSError, match="No space left") as e:
        pthparse.convert(src, tmp_path / "x.safetensors", threads=1, shared="copy")
    assert e.value.errno == errno.ENOSPC and str(tmp_path) in str(e.value) and left_in(tmp_path) == ["m.pth"]


CHILD = """
import sys, pthparse
pthparse.convert(sys.argv[1], f"{sys.argv[2]}/out.safetensors")
print("ready", flush=True)
for i in range(1000):
    pthparse.convert(sys.argv[1], f"{sys.argv[2]}/out{i}.safetensors")
    pthparse.convert(sys.argv[1], f"{sys.argv[2]}/model{i}", max_shard_size="1MB")
"""


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """The system says so to a real process, in the middle of the file."""
    src = tmp_path / "m.pth"
    src.write_bytes(model({"a": p.vector("0", 1 << 16)}, {"0": bytes(1 << 18)}))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    for to in ("safetensors", "npz"):
        words = [sys.executable, "-m", "pthparse", "convert", str(src), str(tmp_path / f"x.{to}")]
        done = subprocess.run(words, capture_output=True, text=True, preexec_fn=limited)
        assert done.returncode == 2 and "File too large" in done.stderr and left_in(tmp_path) == ["m.pth"]


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Every file that has its name is whole; every folder is there with all of it; the rest has a telling name."""
    src = tmp_path / "m.pth"
    rng = np.random.default_rng(5)
    stored = {str(i): rng.bytes(1 << 20) for i in range(4)}
    src.write_bytes(model({f"t{i}": p.vector(i, 1 << 18) for i in stored}, stored))
    pthparse.convert(src, tmp_path / "whole.safetensors")
    pthparse.convert(src, tmp_path / "whole", max_shard_size="1MB")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    shards = {f.name: f.read_bytes() for f in (tmp_path / "whole").iterdir()}
    assert len(shards) == 5
    chance = random.Random(8)
    killed = 0
    for k in range(8):
        folder = tmp_path / str(k)
        folder.mkdir()
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(src), str(folder)], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.2))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for path in folder.iterdir():
            if re.fullmatch(r"out\d*\.safetensors", path.name):
                assert path.read_bytes() == whole
            elif re.fullmatch(r"model\d+", path.name):
                assert {f.name: f.read_bytes() for f in path.iterdir()} == shards
            else:
                assert re.fullmatch(r"\.(out\d+\.safetensors|model\d+)\.pthparse-[0-9a-f]{8}\.tmp", path.name)
                killed += 1
    assert killed >= 4  # in the middle of something


WAITING = """
import sys, time
from pthparse import cli, converter
def write(*_):
    print("ready", flush=True)
    time.sleep(60)
converter.transfer.write = write
sys.argv[1:] = ["convert", *sys.argv[1:]]
cli.command()
"""


def test_asked_to_end_it_leaves_nothing(tmp_path: Path) -> None:
    src = tmp_path / "m.pth"
    src.write_bytes(PLAIN)
    words = [sys.executable, "-c", WAITING, str(src), str(tmp_path / "x.safetensors")]
    child = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    assert len(left_in(tmp_path)) == 2
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 128 + signal.SIGTERM and left_in(tmp_path) == ["m.pth"]
    child.stdout.close()


def test_the_source_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src = tmp_path / "m.pth"
    src.write_bytes(PLAIN)
    check = converter._Writing._unchanged

    def touched(self: Any) -> None:
        os.utime(src, (1, 1))
        check(self)

    monkeypatch.setattr(converter._Writing, "_unchanged", touched)
    with pytest.raises(pthparse.FormatError, match="was changed"):
        pthparse.convert(src, tmp_path / "x.safetensors")
    assert left_in(tmp_path) == ["m.pth"]


def test_a_file_that_is_cut_meanwhile(tmp_path: Path) -> None:
    src = tmp_path / "m.pth"
    src.write_bytes(PLAIN)
    with pthparse.open(src) as ckpt:
        list(ckpt.values())
        os.truncate(src, 200)
        with pytest.raises(pthparse.PthError):
            pthparse.convert(ckpt, tmp_path / "x.safetensors")
    with pytest.raises(pthparse.PthError, match="closed"):
        pthparse.convert(ckpt, tmp_path / "x.safetensors")
    assert left_in(tmp_path) == ["m.pth"]


# ---- the command ----


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, dst = tmp_path / "m.pth", tmp_path / "x.safetensors"
    src.write_bytes(model({"m.a": p.vector("0", 4), "m.b": p.vector("1", 4), "m.c": p.vector("1", 4)}))
    words = ["convert", str(src), str(dst), "--dtype", "float16", "--dtype", "m.b=float64", "--rename", r"^m\.", "n."]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["format"], told["tensors"], told["nbytes"]) == (1, "safetensors", 3, 8 + 8 + 32)
    assert told["cast"][1] == {"name": "n.b", "dtype": "float32", "now": "float64"} and told["verified"]
    assert told["files"] == [{"path": str(dst), "nbytes": dst.stat().st_size, "tensors": 3}]
    assert {k: v["dtype"] for k, v in read(dst)[0].items() if k[0] == "n"} == {"n.b": "F64", "n.a": "F16", "n.c": "F16"}
    assert main(words) == 2 and "is there already" in capsys.readouterr().err
    assert main(["convert", str(src), str(dst), "--overwrite", "--metadata", "k", "v"]) == 0
    out = capsys.readouterr().out
    assert "2 tensors, 32 B; read back and equal" in out and "stored once: m.c is m.b" in out
    assert read(dst)[0]["__metadata__"] == {"format": "pt", "k": "v", "m.c": "m.b"}
    for wrong in (["--dtype", "int4"], ["--max-shard-size", "many"], ["--include", "zzz"], ["--rename", "(", ""]):
        assert main(["convert", str(src), str(dst), "--overwrite", *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["convert", str(tmp_path / "none.pth"), str(dst)]) == 2
    assert "none.pth" in capsys.readouterr().err


def test_the_command_escapes_what_a_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = tmp_path / "m.pth"
    src.write_bytes(
        model({"\x1b[2J": p.tensor(p.storage("1", 4), [9], [1]), "b": p.vector("0", 4), "\x1b]0;": p.vector("0", 4)})
    )
    assert main(["convert", str(src), str(tmp_path / "x.safetensors")]) == 2
    assert main(["convert", str(src), str(tmp_path / "x.safetensors"), "--skip"]) == 0
    found = capsys.readouterr()
    assert "\x1b" not in found.out + found.err and "\\x1b[2J" in found.out and "\\x1b[2J" in found.err


def test_views_of_one_storage_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """Of the legacy format: storages that begin somewhere in another one."""

    def view(key: str, first: int, step: int) -> bytes:
        pid = legacy.storage("0", 8, p.tuple_of([p.text(key), p.integer(first), p.integer(4)]))
        return p.tensor(pid, [4 // step], [step])

    root = p.dict_of({"a": view("7", 0, 1), "b": view("8", 4, 1), "c": view("7", 0, 2), "d": view("8", 4, 2)})
    data = legacy.stream(root, {"0": np.arange(8, dtype=np.float32).tobytes()})
    assert pthparse.convert(data, tmp_path / "a.safetensors").dropped == ()
    with pthparse.open(tmp_path / "a.safetensors") as ckpt:
        found = {name: t.numpy().tolist() for name, t in ckpt.items()}
    assert found == {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7], "c": [0, 2], "d": [4, 6]}
    done = pthparse.convert(data, tmp_path / "b.safetensors", shared="refuse", include=["a", "d"])
    assert done.tensors == 2
