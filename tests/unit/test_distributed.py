"""Directories of torch.distributed.checkpoint, made by hand: chunks put together, and metadata that lie."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import directories as d
from forge import pickles as p
from forge import safetensors as st
from forge import zips

import pthparse
from pthparse import mosaics
from pthparse.chunked import ChunkedTensor
from pthparse.cli import main

WHOLE = np.arange(12, dtype=np.float32).reshape(3, 4)
LEFT, RIGHT = WHOLE[:, :2], WHOLE[:, 2:]
CUTS = [((0, 0), (3, 2)), ((0, 2), (3, 2))]


def build(
    folder: Path,
    *,
    cuts: Sequence[tuple[Sequence[Any], Sequence[Any]]] = CUTS,
    shape: Sequence[Any] = (3, 4),
    dtype: str = "float32",
    infos: Callable[[list[bytes]], list[bytes]] = list,
    places: Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]] = list,
) -> Path:
    """`model/w` in two chunks of two files, `model/b` in one, and the value `epoch`; a defect is one argument."""
    left, right = (d.chunk(x.reshape(-1).tolist(), (3, 2)) for x in (LEFT, RIGHT))
    bias, epoch = d.chunk([1, 2, 3], (3,)), zips.checkpoint(p.pickle(p.integer(7)), {})
    where = d.write(folder, {"__0_0.distcp": [left, epoch], "__1_0.distcp": [right, bias]})
    found = infos(
        [
            d.info(*where[f][i])
            for f, i in (("__0_0.distcp", 0), ("__1_0.distcp", 0), ("__1_0.distcp", 1), ("__0_0.distcp", 1))
        ]
    )
    keys = [d.index("model.w", (0, 0)), d.index("model.w", (0, 2)), d.index("model.b", (0,)), d.index("epoch", None)]
    items = {"model.w": d.tensor(shape, cuts, dtype), "model.b": d.tensor((3,), [((0,), (3,))]), "epoch": d.value()}
    paths = {"model.w": ("model", "w"), "model.b": ("model", "b"), "epoch": ("epoch",)}
    data = d.metadata(items, places(list(zip(keys, found, strict=True))), paths)
    (folder / ".metadata").write_bytes(data)
    return folder


def test_chunks_are_put_together(tmp_path: Path) -> None:
    with pthparse.open(build(tmp_path)) as model:
        assert (model.format, list(model), model.findings, dict(model.errors)) == (
            "distributed",
            ["model/w", "model/b"],
            (),
            {},
        )
        t = model["model/w"]
        assert isinstance(t, ChunkedTensor) and isinstance(model["model/b"], pthparse.Tensor)
        assert (t.shape, t.dtype, t.stride, t.numel, t.nbytes) == ((3, 4), "float32", (4, 1), 12, 48)
        assert t.numpy().tolist() == WHOLE.tolist() and not t.numpy().flags.writeable
        assert t.numpy(copy=True).flags.writeable and np.asarray(t, np.float64).tolist() == WHOLE.tolist()
        assert [c.numpy().tolist() for c in t.chunks] == [LEFT.tolist(), RIGHT.tolist()]
        assert [c.name for c in t.chunks] == ["model/w[0, 0]", "model/w[0, 2]"]
        assert dict(model.metadata) == {"epoch": 7} and model.root["epoch"] == 7
        assert model.root["model"]["b"].numpy().tolist() == [1, 2, 3]
        assert list(model.state_dict()) == ["w", "b"] and model.group("model")["w"].numpy().tolist() == WHOLE.tolist()
        assert model.nbytes == sum(f.stat().st_size for f in tmp_path.iterdir())
        assert [(s.name, s.tensors, s.tensor_nbytes) for s in model.shards] == [
            ("__0_0.distcp", 1, 24),
            ("__1_0.distcp", 2, 36),
        ]


def test_statistics_of_chunks_are_those_of_the_whole(tmp_path: Path) -> None:
    with pthparse.open(build(tmp_path)) as model:
        s = model.stats(histogram=True)["model/w"]
        assert (s.name, s.shape, s.numel, s.min, s.max, s.mean, s.zeros) == ("model/w", (3, 4), 12, 0, 11, 5.5, 1)
        assert s.std == pytest.approx(WHOLE.std()) and s.histogram == ((0, 1), (1, 2), (2, 4), (3, 4))
        assert model["model/w"].stats().l1 == 66
        found = model.stats(bins=3, quantiles=(0, 0.1, 0.5, 1))
        assert [s.name for s in found] == ["model/w", "model/b"] and not found.errors
        edges, counts = np.histogram(WHOLE.astype(np.float64), 3)[::-1]
        assert found["model/w"].values == (tuple(edges.tolist()), tuple(counts.tolist()))
        wanted = tuple((q, pytest.approx(float(np.quantile(WHOLE, q)))) for q in (0, 0.1, 0.5, 1))
        assert found["model/w"].quantiles == wanted == model["model/w"].stats(quantiles=(0, 0.1, 0.5, 1)).quantiles


def test_the_first_bad_element_is_told_by_its_place_in_the_whole(tmp_path: Path) -> None:
    build(tmp_path)
    values = RIGHT.copy()
    values[1, 0] = np.nan
    bias = d.chunk([1, 2, 3], (3,))
    d.write(tmp_path, {"__1_0.distcp": [d.chunk(values.reshape(-1).tolist(), (3, 2)), bias]})
    s = pthparse.open(tmp_path).stats()["model/w"]
    assert (s.nan, s.first_bad) == (1, 1 * 4 + 2)


def test_the_ledger_sums_to_all_files(tmp_path: Path) -> None:
    build(tmp_path)
    with (tmp_path / "__1_0.distcp").open("ab") as f:
        f.write(b"behind")
    with pthparse.open(tmp_path) as model:
        found = model.capacity()
        ledger = {e.kind: e.nbytes for e in found.ledger()}
        assert sum(ledger.values()) == model.nbytes == found.file_bytes
        assert ledger["tensor data"] == 60 and ledger["trailing"] == 6 and found.parameters == 15
        assert [(g.name, g.elements, g.nbytes) for g in found.groups("module")] == [("model", 15, 60)]
        # Each piece counts where it lies, not where the first one of its tensor does.
        assert [(g.name, g.nbytes) for g in found.groups("shard")] == [("__1_0.distcp", 36), ("__0_0.distcp", 24)]


@pytest.mark.parametrize("verb", ["info", "ls", "stats", "capacity", "verify", "plan"])
def test_every_verb_takes_one(tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path)
    assert main([verb, "--json", str(tmp_path)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert main([verb, str(tmp_path)]) == 0
    assert main(["show", str(tmp_path), "model/w[0:1]"]) == 0
    assert "0. 1. 2. 3." in capsys.readouterr().out


def test_a_save_of_each_process_alone(tmp_path: Path) -> None:
    build(tmp_path)
    left, right = (d.chunk(x.reshape(-1).tolist(), (3, 2)) for x in (LEFT, RIGHT))
    for rank, (piece, cut) in enumerate(zip((left, right), CUTS, strict=True)):
        file = f"__{rank}_0.distcp"
        where = d.write(tmp_path, {file: [piece]})[file][0]
        said = d.metadata({"w": d.tensor((3, 4), [cut])}, [(d.index("w", cut[0]), d.info(*where))])
        (tmp_path / f"__{rank}.metadata").write_bytes(said)
    (tmp_path / ".metadata").unlink()
    assert pthparse.open(tmp_path)["w"].numpy().tolist() == WHOLE.tolist()


def test_an_unfinished_save_is_named(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / ".metadata").rename(tmp_path / ".metadata.tmp")
    with pytest.raises(pthparse.UnsupportedError, match="unfinished save"):
        pthparse.open(tmp_path)
    assert pthparse.verify(tmp_path).verdict == "unknown"
    (tmp_path / ".metadata.tmp").unlink()
    with pytest.raises(pthparse.UnsupportedError, match=r"no \.metadata in it"):
        pthparse.open(tmp_path)


# ---- metadata that lie ----


def refused(folder: Path, name: str = "model/w") -> str:
    """The code of the error of one tensor; the others can be read."""
    with pthparse.open(folder) as model:
        assert model["model/b"].numpy().tolist() == [1, 2, 3]
        error = model.errors[name]
        with pytest.raises(pthparse.PthError) as e:
            model[name].numpy()
        assert e.value.code == error.code
        assert (not model.verify().ok and name in model.stats().errors) or name not in model
        json.dumps(model.audit().to_dict())
        assert sum(x.nbytes for x in model.capacity().ledger()) == model.nbytes
    return error.code


@pytest.mark.parametrize(
    ("what", "cuts"),
    {
        "a hole": [CUTS[0]],
        "an overlap": [((0, 0), (3, 2)), ((0, 1), (3, 2))],
        "an overlap and a hole": [((0, 0), (3, 2)), ((0, 0), (3, 2))],
        "beyond the end": [CUTS[0], ((0, 3), (3, 2))],
        "another number of dimensions": [((0,), (12,))],
        "none": [],
    }.items(),
)  # fmt: skip
def test_chunks_that_do_not_fit(tmp_path: Path, what: str, cuts: Any) -> None:
    keys = [d.index("model.w", a) for a, _ in cuts]

    def moved(places: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        infos = [info for _, info in places]
        return [*zip(keys, infos[: len(keys)], strict=True), *places[2:]]

    assert refused(build(tmp_path, cuts=cuts, places=moved)) == "dcp-chunk", what


def test_a_chunk_of_another_shape_or_dtype(tmp_path: Path) -> None:
    build(tmp_path)
    d.write(tmp_path, {"__0_0.distcp": [d.chunk(LEFT.reshape(-1).tolist(), (2, 3))]})
    assert refused(tmp_path) == "dcp-chunk"
    assert refused(build(tmp_path, dtype="float64")) == "dcp-chunk"


@pytest.mark.parametrize("file", ["../__0_0.distcp", "/etc/passwd", "a\\b", "..", "C:x"])
def test_files_outside_of_the_directory(tmp_path: Path, file: str) -> None:
    build(tmp_path, infos=lambda found: [d.info(file, 0, 10), *found[1:]])
    assert refused(tmp_path) == "shard-name"
    report = pthparse.audit(tmp_path)
    assert "shard-name" in [f.code for f in report.findings] and report.verdict == "malformed"


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "__0_0.distcp").unlink()
    assert refused(tmp_path) == "shard-missing"
    (found,) = pthparse.open(tmp_path).findings
    assert (found.code, found.member) == ("shard-missing", "__0_0.distcp") and "the metadata name" in found.message
    assert pthparse.audit(tmp_path).verdict == "malformed"


def with_values(folder: Path, *, first: int = 0, last: bytes = b"") -> dict[str, int]:
    """Two values, a safetensors file behind them with both tensors, and what follows; where that begins.

    first: how far before it the first tensor is said to be. last: an archive that is said to follow.
    """
    epoch, lr = (zips.checkpoint(p.pickle(p.integer(n)), {}) for n in (7, 8))
    rows = {"model.w": st.entry("F32", (3,), (0, 12)), "model.b": st.entry("F32", (2,), (12, 20))}
    tensors = st.build(rows, np.arange(5, dtype=np.float32).tobytes())
    (parts,) = d.write(folder, {"__0_0.distcp": [epoch, lr, tensors, last]}).values()
    at = parts[2][1]
    places = [d.info("__0_0.distcp", at - first, 12), d.info("__0_0.distcp", at, 8), *(d.info(*x) for x in parts[:2])]
    keys = [d.index("model.w", (0,)), d.index("model.b", (0,)), d.index("epoch", None), d.index("lr", None)]
    items = {"model.w": d.tensor((3,), [((0,), (3,))]), "model.b": d.tensor((2,), [((0,), (2,))])}
    items |= {"epoch": d.value(), "lr": d.value()}
    if last:
        keys.append(d.index("more", None))
        places.append(d.info(*parts[3]))
        items["more"] = d.value()
    (folder / ".metadata").write_bytes(d.metadata(items, list(zip(keys, places, strict=True)), None))
    return {"at": at, "size": (folder / "__0_0.distcp").stat().st_size}


def test_tensors_in_one_file_behind_values(tmp_path: Path) -> None:
    with_values(tmp_path)
    with pthparse.open(tmp_path) as model:
        assert model["model.w"].numpy().tolist() == [0, 1, 2] and model["model.b"].numpy().tolist() == [3, 4]
        assert dict(model.metadata) == {"epoch": 7, "lr": 8} and not model.findings and not model.errors
        ledger = {e.kind: e.nbytes for e in model.capacity().ledger()}
        assert sum(ledger.values()) == model.nbytes and ledger["tensor data"] == 20 and ledger["trailing"] == 0
        assert model.verify().ok and not model.stats().errors


def test_tensors_in_one_file_begin_at_one_place(tmp_path: Path) -> None:
    """The last one: a place that any part may name is no reason to look for another header."""
    with_values(tmp_path, first=1)
    with pthparse.open(tmp_path) as model:
        assert model["model.b"].numpy().tolist() == [3, 4] and list(model.errors) == ["model.w"]
        assert model.errors["model.w"].code == "dcp-chunk"
    with_values(tmp_path, last=zips.checkpoint(p.pickle(p.integer(9)), {}))
    with pthparse.open(tmp_path) as model:
        assert {e.code for e in model.errors.values()} == {"dcp-chunk"} and len(model.errors) == 2
    found = with_values(tmp_path)
    file = tmp_path / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[: found["at"]] + p.pickle(p.dict_of({})))  # no safetensors file, and no archive
    with pthparse.open(tmp_path) as model:
        assert {e.code for e in model.errors.values()} == {"dcp-chunk"} and model.audit().verdict == "malformed"


def test_a_file_of_one_is_sent_to_its_directory(tmp_path: Path) -> None:
    with pytest.raises(pthparse.FormatError, match="read with the others: open its directory"):
        pthparse.open(build(tmp_path) / "__0_0.distcp")


def test_a_link_that_leaves_the_directory(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    build(tmp_path)
    away = tmp_path_factory.mktemp("away") / "x"
    (tmp_path / "__0_0.distcp").rename(away)
    (tmp_path / "__0_0.distcp").symlink_to(away)
    assert refused(tmp_path) == "shard-missing"
    assert [f.code for f in pthparse.open(tmp_path).findings] == ["shard-link"]


@pytest.mark.parametrize(
    ("offset", "length", "code"),
    [(0, 1 << 40, "dcp-chunk"), (1 << 61, 10, None), (0, 20, None), (3, 500, None), (0, 0, None)],
)
def test_places_that_are_none(tmp_path: Path, offset: int, length: int, code: str | None) -> None:
    build(tmp_path, infos=lambda found: [d.info("__0_0.distcp", offset, length), *found[1:]])
    assert refused(tmp_path) == code or code is None


def test_transforms_are_not_undone(tmp_path: Path) -> None:
    more = p.list_of([p.text("zstd")])
    build(tmp_path, infos=lambda found: [d.info("__0_0.distcp", 0, 10, transform_descriptors=more), *found[1:]])
    assert refused(tmp_path) == "dcp-transform"


@pytest.mark.parametrize("shape", [(-1, 4), (p.text("3"), 4), (p.TRUE, 4), (1 << 40, 1 << 40)])
def test_sizes_that_are_none(tmp_path: Path, shape: Any) -> None:
    assert refused(build(tmp_path, shape=shape)) in ("dcp-metadata", "max_ndim")


@pytest.mark.parametrize(
    "root", [p.EMPTY_DICT, p.call(p.glob("os", "system"), p.text("touch MARKER")), b"", p.integer(1)]
)
def test_metadata_that_are_none(tmp_path: Path, root: bytes) -> None:
    build(tmp_path)
    (tmp_path / ".metadata").write_bytes(p.pickle(root) if root else b"")
    with pytest.raises(pthparse.PthError):
        pthparse.open(tmp_path)
    assert pthparse.audit(tmp_path).verdict in ("malformed", "review", "dangerous")
    assert pthparse.verify(tmp_path).verdict == "unknown"


def test_a_closed_model_says_so(tmp_path: Path) -> None:
    with pthparse.open(build(tmp_path)) as model:
        t = model["model/w"]
    for ask in (t.numpy, model.capacity, model.audit, model.verify):
        with pytest.raises(pthparse.PthError, match="closed"):
            ask()


def test_parts_that_share_bytes(tmp_path: Path) -> None:
    build(tmp_path)
    size = (tmp_path / "__0_0.distcp").stat().st_size
    build(tmp_path, infos=lambda found: [*found[:3], d.info("__0_0.distcp", 0, size)])
    with pthparse.open(tmp_path) as model:
        assert "dcp-overlap" in [f.code for f in model.findings]
        assert sum(e.nbytes for e in model.capacity().ledger()) == model.nbytes
        assert model.audit().verdict == "malformed"


CHUNKED = np.arange(7 * 5 * 6, dtype=np.float32).reshape(7, 5, 6)


def cut(shape: Sequence[int], *edges: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The chunks of a tensor that is cut at these places of each dimension."""
    sides = [[(a, b - a) for a, b in pairwise([0, *inner, n])] for n, inner in zip(shape, edges, strict=True)]
    return [(tuple(a for a, _ in box), tuple(n for _, n in box)) for box in product(*sides)]


def chunked(folder: Path, whole: Any, cuts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], **how: Any) -> Path:
    """The tensor `w` in these chunks, in two files; `turned`: each is stored from its last dimension to its first."""
    folder.mkdir()
    parts: dict[str, list[bytes]] = {"__0_0.distcp": [], "__1_0.distcp": []}
    order = []
    for i, (first, sizes) in enumerate(cuts):
        part = whole[tuple(slice(a, a + n) for a, n in zip(first, sizes, strict=True))]
        file = f"__{i % 2}_0.distcp"
        order.append((file, len(parts[file])))
        parts[file].append(turned(part) if how.get("turned") else d.chunk(part.reshape(-1).tolist(), part.shape))
    where = d.write(folder, parts)
    places = [(d.index("w", a), d.info(*where[file][k])) for (a, _), (file, k) in zip(cuts, order, strict=True)]
    (folder / ".metadata").write_bytes(d.metadata({"w": d.tensor(whole.shape, cuts)}, places))
    return folder


def turned(part: Any) -> bytes:
    strides = [int(np.prod(part.shape[:k])) for k in range(part.ndim)]
    root = p.tensor(p.storage("0", part.size), list(part.shape), strides)
    return zips.checkpoint(p.pickle(root), {"0": np.asfortranarray(part).tobytes("F")})


@pytest.fixture
def in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made of a tensor as a whole."""

    def together(*_: object, **__: object) -> None:
        raise AssertionError("the whole array was made")

    monkeypatch.setattr(ChunkedTensor, "numpy", together)


@pytest.mark.parametrize("band", [4, 100, 1 << 21])
@pytest.mark.parametrize(
    "edges",
    [([2, 6], [], []), ([], [1], []), ([], [], [2, 3]), ([3], [2, 4], []), ([1, 2, 3, 4, 5, 6], [2], [1, 5])],
    ids=["rows", "columns", "last", "grid", "blocks"],
)
@pytest.mark.parametrize("turned", [False, True], ids=["plain", "turned"])
def test_chunks_are_converted_hashed_and_compared_without_being_put_together(
    tmp_path: Path, in_bands: None, monkeypatch: pytest.MonkeyPatch, band: int, edges: Any, turned: bool
) -> None:
    monkeypatch.setattr(mosaics, "TILE", band)
    folder = chunked(tmp_path / "model", CHUNKED, cut(CHUNKED.shape, *edges), turned=turned)
    for dtype in (None, "float16"):
        pthparse.convert(folder, tmp_path / "one.safetensors", dtype=dtype, overwrite=True)
        with pthparse.open(tmp_path / "one.safetensors") as one:
            assert one["w"].numpy().tolist() == CHUNKED.tolist() and one["w"].dtype == (dtype or "float32")
    with pytest.raises(FileExistsError):
        pthparse.convert(folder, tmp_path / "one.safetensors")
    pthparse.convert(folder, tmp_path / "one.safetensors", overwrite=True)
    assert pthparse.manifest(folder).model == pthparse.manifest(tmp_path / "one.safetensors").model
    assert pthparse.diff(folder, tmp_path / "one.safetensors", values=False).same
    other = CHUNKED.copy()
    other[6, 4, 5] = -1
    again = chunked(tmp_path / "other", other, cut(CHUNKED.shape, [], [3], []))
    (changed,) = pthparse.diff(folder, again).changed
    assert (changed.equal, changed.max_abs, changed.worst) == (CHUNKED.size - 1, 210.0, (6, 4, 5))


def test_memory_does_not_grow_with_a_tensor_in_chunks(tmp_path: Path) -> None:
    """Columns of 8,192 x 2,048: 64 MiB, which need a few bands."""
    shape = (1 << 13, 1 << 11)
    whole = np.broadcast_to(np.arange(shape[1], dtype=np.float32), shape)
    folder = tmp_path / "model"
    folder.mkdir()
    cuts = cut(shape, [], [700, 1400])
    root = [p.tensor(p.storage("0", n * m), [n, m], [m, 1]) for _, (n, m) in cuts]
    data = [whole[:, a : a + m].tobytes() for (_, a), (_, m) in cuts]
    chunks = [zips.checkpoint(p.pickle(r), {"0": x}) for r, x in zip(root, data, strict=True)]
    where = d.write(folder, {"__0_0.distcp": chunks})["__0_0.distcp"]
    places = [(d.index("w", a), d.info(*x)) for (a, _), x in zip(cuts, where, strict=True)]
    (folder / ".metadata").write_bytes(d.metadata({"w": d.tensor(shape, cuts)}, places))
    del chunks, data
    pthparse.convert(tmp_path / "model", tmp_path / "warm.safetensors", dtype="bfloat16")  # what is imported
    tracemalloc.start()
    try:
        told = pthparse.convert(folder, tmp_path / "one.safetensors", threads=2)
        hashed = pthparse.manifest(folder, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told.nbytes == 64 << 20 and peak < 20 << 20
    assert hashed.model == pthparse.manifest(tmp_path / "one.safetensors").model
    with pthparse.open(tmp_path / "one.safetensors") as one:
        assert np.array_equal(one["w"].numpy(), whole)


def test_chunks_that_repeat_their_elements_cannot_fill_a_disk(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    n = 1 << 14
    chunk = zips.checkpoint(p.pickle(p.tensor(p.storage("0", 1), [n, n], [0, 0])), {"0": bytes(4)})
    where = d.write(folder, {"__0_0.distcp": [chunk, chunk]})["__0_0.distcp"]
    cuts = [((0, 0), (n, n)), ((0, n), (n, n))]
    places = [(d.index("w", a), d.info(*x)) for (a, _), x in zip(cuts, where, strict=True)]
    (folder / ".metadata").write_bytes(d.metadata({"w": d.tensor((n, 2 * n), cuts)}, places))
    few = pthparse.Limits(max_dense_bytes=5 * n * n)
    with pytest.raises(pthparse.PthError, match="max_dense_bytes"):
        pthparse.convert(folder, tmp_path / "x.safetensors", limits=few)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    found = pthparse.open(folder).stats(quantiles=(0.5,))
    assert found.errors["w"].code == "no-array" and not len(found)
    (error,) = pthparse.manifest(folder, limits=few).errors
    assert error.code == "max_dense_bytes"


def test_a_chunk_that_is_cut_off_meanwhile(tmp_path: Path) -> None:
    folder = chunked(tmp_path / "model", CHUNKED, cut(CHUNKED.shape, [], [2], [3]))
    with pthparse.open(folder) as model:
        list(model.values())
        model["w"].numpy()
        size = (folder / "__1_0.distcp").stat().st_size
        os.truncate(folder / "__1_0.distcp", size // 2)
        with pytest.raises(pthparse.PthError):
            pthparse.convert(model, tmp_path / "x.safetensors")
        (error,) = model.hash().errors
        assert error.name == "w"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
