"""Two models beside each other: what is found, with figures by hand."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import pickles as p
from forge import zips

import pthparse
from pthparse import _kernels, metadata
from pthparse.differ import _bare as bare
from pthparse.differ import _stripped as stripped
from pthparse.metadata import plain_values
from pthparse.pairs import RUN


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def file(values: dict[str, bytes], *storages: bytes, deflated: bool = False) -> bytes:
    entries = zips.members(p.pickle(p.dict_of(values)), {str(i): data for i, data in enumerate(storages)})
    if deflated:
        entries = [zips.replace(e, method=zips.DEFLATED) if "/data/" in e.name else e for e in entries]
    return zips.build(entries)


def vector(data: bytes, key: str = "0") -> bytes:
    return p.vector(key, len(data) // 4)


def of_vectors(**tensors: bytes) -> bytes:
    return file({n: vector(t, str(i)) for i, (n, t) in enumerate(tensors.items())}, *tensors.values())


def test_figures_by_hand() -> None:
    a, b = floats(1, 2, 0, -4, 5), floats(1, 2.5, 0, -4, 4)
    r = pthparse.diff(of_vectors(w=a, same=a), of_vectors(w=b, same=a))
    assert (r.same, r.differs, r.identical, len(r.changed)) == (False, True, 1, 1)
    d = r.changed[0]
    assert (d.name, d.name_b, d.numel, d.equal, d.far) == ("w", "w", 5, 3, 2)
    assert (d.max_abs, d.mean_abs) == (1.0, pytest.approx(0.3))
    assert (d.max_rel, d.mean_rel) == (pytest.approx(0.2), pytest.approx(0.08))
    dot, aa, bb = 1 + 5 + 16 + 20, 1 + 4 + 16 + 25, 1 + 6.25 + 16 + 16
    assert d.cosine == pytest.approx(dot / math.sqrt(aa * bb), rel=1e-15)
    assert d.max_ulp == 0x40A00000 - 0x40800000 and d.worst == (4,) and d.parts == ()
    assert (r.close, r.reshaped, r.recast, r.removed, r.added, r.renamed, r.values, r.errors) == ((),) * 8


def test_tolerances() -> None:
    a, b = of_vectors(w=floats(1, 100)), of_vectors(w=floats(1.5, 101))
    assert pthparse.diff(a, b, atol=1).same and not pthparse.diff(a, b, atol=0.9).same
    assert pthparse.diff(a, b, rtol=0.34).same and not pthparse.diff(a, b, rtol=0.33).same
    r = pthparse.diff(a, b, atol=1)
    assert (r.identical, len(r.close), r.close[0].max_abs, r.close[0].far) == (0, 1, 1.0, 0)
    for wrong in ({"rtol": -1.0}, {"atol": math.inf}, {"rtol": math.nan}):
        with pytest.raises(ValueError, match="below zero"):
            pthparse.diff(a, b, **wrong)


def test_nan_is_equal_to_nan_by_choice() -> None:
    a, b = of_vectors(w=floats(math.nan, 1)), of_vectors(w=floats(math.nan, 2))
    assert pthparse.diff(a, a).same
    r = pthparse.diff(a, a, equal_nan=False)
    assert not r.same and (r.changed[0].far, r.changed[0].nan_pairs, r.changed[0].max_abs) == (1, 1, 0)
    assert pthparse.diff(a, b).changed[0].far == 1 and pthparse.diff(a, b, equal_nan=False).changed[0].far == 2
    assert pthparse.diff(b, of_vectors(w=floats(1, 2))).changed[0].nan_mismatches == 1
    with pthparse.open(a) as ckpt:  # the same elements of the same file are not read
        assert pthparse.diff(ckpt, ckpt).same and not pthparse.diff(ckpt, ckpt, equal_nan=False).same


def test_zeros_of_both_signs_are_close() -> None:
    r = pthparse.diff(of_vectors(w=floats(0.0, 1)), of_vectors(w=floats(-0.0, 1)))
    assert r.same and r.identical == 0 and r.close[0].equal == 2 and r.close[0].max_ulp == 0


def test_names() -> None:
    x, y, z = floats(1, 2), floats(3, 4), floats(5, 6)
    a, b = of_vectors(keep=x, old=y, gone=z), of_vectors(keep=x, new=y, more=floats(7, 8))
    r = pthparse.diff(a, b)
    assert (r.removed, r.added) == (("gone",), ("more",)) and r.differs
    assert [(n.name, n.name_b) for n in r.renamed] == [("old", "new")]


def test_equal_tensors_are_renamed_by_how_their_names_end() -> None:
    zero = floats(0, 0)
    a = of_vectors(**{"l1.bias": zero, "l1.other": zero, "l2.bias": zero})
    b = of_vectors(**{"k2.bias": zero, "k1.other": zero, "k1.bias": zero})
    r = pthparse.diff(a, b)
    assert {(n.name, n.name_b) for n in r.renamed} == {
        ("l1.bias", "k1.bias"), ("l1.other", "k1.other"), ("l2.bias", "k2.bias"),
    }  # fmt: skip


def test_prefixes() -> None:
    x, y = floats(1, 2), floats(3, 4)
    a, b = of_vectors(w=x, v=y), of_vectors(**{"_orig_mod.module.w": x, "module.v": y})
    assert not pthparse.diff(a, b).same and len(pthparse.diff(a, b).renamed) == 2
    assert pthparse.diff(a, b, strip_prefix=("module.", "_orig_mod.")).same
    assert pthparse.diff(b, a, strip_prefix=["_orig_mod.", "module."]).identical == 2
    twice = of_vectors(**{"w": x, "module.w": y})
    assert pthparse.diff(twice, twice, strip_prefix="module.").identical == 2
    assert stripped(dict.fromkeys(("w", "module.w", "module.v"), 0), ("module.",)) == {
        **{"w": "w", "module.w": "module.w", "v": "module.v"},  # of two that would be one, the second is as it was
    }
    assert bare("module.module.", ("module.",)) == "module." and bare("a", ("",)) == "a"


def test_shapes_and_dtypes() -> None:
    six, data = [p.tensor(p.storage("0", 6), s, t) for s, t in (([6], [1]), ([2, 3], [3, 1]))], floats(*range(6))
    r = pthparse.diff(file({"w": six[0]}, data), file({"w": six[1]}, data))
    assert len(r.reshaped) == 1 and (r.reshaped[0].shape_b, r.reshaped[0].equal) == ((2, 3), 6)
    r = pthparse.diff(file({"w": vector(data)}, data), file({"w": p.vector("0", 2)}, data[:8]))
    assert r.reshaped[0].numel == 0 and r.reshaped[0].max_abs is None
    doubles = p.tensor(p.storage("0", 6, "DoubleStorage"), [6], [1])
    wide = struct.pack("<6d", 0, 1, 2, 3, 4, 5.5)
    r = pthparse.diff(file({"w": vector(data)}, data), file({"w": doubles}, wide))
    assert not r.same and (r.recast[0].dtype_b, r.recast[0].equal, r.recast[0].max_abs) == ("float64", 5, 0.5)
    assert r.recast[0].max_ulp is None


def test_strided_and_deflated_against_plain() -> None:
    rng = np.random.default_rng(4)
    m = rng.standard_normal((700, 500)).astype(np.float32)  # more than a run
    plain = file({"w": p.tensor(p.storage("0", m.size), [700, 500], [500, 1])}, m.tobytes())
    turned = file({"w": p.tensor(p.storage("0", m.size), [700, 500], [1, 700])}, m.T.copy().tobytes())
    deflated = file({"w": p.tensor(p.storage("0", m.size), [700, 500], [500, 1])}, m.tobytes(), deflated=True)
    for other in (turned, deflated):
        assert pthparse.diff(plain, other).identical == 1
    m[699, 2] += 1
    changed = file({"w": p.tensor(p.storage("0", m.size), [700, 500], [500, 1])}, m.tobytes())
    rows = [pthparse.diff(x, changed).changed[0] for x in (plain, turned, deflated)]
    assert rows[0] == rows[1] == rows[2] and rows[0].worst == (699, 2) and rows[0].equal == m.size - 1


def test_files_and_memory_and_any_number_of_threads_give_the_same_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    n = 2 * RUN + 77
    x = {k: rng.standard_normal(n).astype(np.float32) for k in "abcd"}
    y = {k: v.copy() for k, v in x.items()}
    y["b"] += 1e-3
    y["c"][-1] = 9  # the runs before it are equal
    files = [of_vectors(**{k: v.tobytes() for k, v in side.items()}) for side in (x, y)]
    paths = [tmp_path / name for name in ("a.pth", "b.pth")]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    first = pthparse.diff(*files, threads=1)
    assert (first.identical, [d.name for d in first.changed]) == (2, ["b", "c"])
    assert first.changed[1].cosine == pytest.approx(
        float(x["c"].astype(float) @ y["c"].astype(float))
        / math.sqrt(float((x["c"].astype(float) ** 2).sum()) * float((y["c"].astype(float) ** 2).sum())),
        rel=1e-13,
    )
    streams = [io.BytesIO(data) for data in files]
    for sides, threads in ((paths, 1), (paths, 2), (paths, 7), (streams, 3)):
        r = pthparse.diff(*sides, threads=threads)
        assert (r.changed, r.identical) == (first.changed, 2)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8"])
def test_one_other_element_anywhere_in_a_run(tmp_path: Path, dtype: str) -> None:
    """Runs are read several pieces at once: those before the first that differs count as those behind it do."""
    n, piece = RUN + 100, _kernels.PAIR_PIECE
    x = (np.arange(n) % 100).astype(dtype)
    paths = [tmp_path / name for name in ("a.pth", "b.pth")]
    names = {"float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage", "uint8": "ByteStorage"}

    def put(array: Any, path: Path) -> None:
        tensor = p.tensor(p.storage("0", n, names[dtype]), [n], [1])
        path.write_bytes(file({"w": tensor}, array.tobytes()))

    put(x, paths[0])
    for at in (0, piece - 1, piece, 2 * piece, 3 * piece + 7, RUN - 1, RUN, n - 1):
        y = x.copy()
        y[at] += 1
        put(y, paths[1])
        (d,) = pthparse.diff(*paths).changed
        assert (d.numel, d.equal, d.max_abs, d.mean_abs, d.worst) == (n, n - 1, 1, 1 / n, (at,)), at


def test_many_small_tensors_of_which_some_differ(tmp_path: Path) -> None:
    sides: list[dict[str, bytes]] = [{f"t{i}": floats(i, i + 1, -i) for i in range(400)} for _ in range(2)]
    for i in (399, 0, 17):
        sides[1][f"t{i}"] = floats(i, i + 2, -i)
    sides[1]["t5"] = floats(5, 6)  # another shape
    for name, tensors in zip("ab", sides, strict=True):
        (tmp_path / name).write_bytes(of_vectors(**tensors))
    found = pthparse.diff(tmp_path / "a", tmp_path / "b")
    in_memory = pthparse.diff(of_vectors(**sides[0]), of_vectors(**sides[1]))
    assert [d.name for d in found.changed] == ["t0", "t17", "t399"] and [d.name for d in found.reshaped] == ["t5"]
    assert found.identical == 396 and {d.max_abs for d in found.changed} == {1}
    assert (found.changed, found.reshaped, found.identical) == (
        in_memory.changed,
        in_memory.reshaped,
        in_memory.identical,
    )
    assert pthparse.diff(tmp_path / "a", tmp_path / "b", equal_nan=False).changed == found.changed


def test_what_becomes_unreadable_is_told_tensor_by_tensor(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.pth", "b.pth")]
    for path in paths:
        path.write_bytes(of_vectors(**{f"t{i}": floats(*range(256)) for i in range(100)}))
    with pthparse.open(paths[0], mmap=False) as a, pthparse.open(paths[1], mmap=False) as b:
        for ckpt in (a, b):
            ckpt._box.locate_many(100)
        with paths[1].open("r+b") as file:
            file.truncate(paths[1].stat().st_size // 2)
        found = pthparse.diff(a, b, values=False)
    assert 40 < found.identical < 60 and found.identical + len(found.errors) == 100
    assert {e.code for e in found.errors} == {"file-changed"}
    assert [e.name for e in found.errors] == [f"t{i}" for i in range(found.identical, 100)]


def test_a_tensor_that_cannot_be_had_is_told_and_no_more() -> None:
    class Lost(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            if name == "b":
                raise pthparse.FormatError("shard-missing", "is not there")
            return super().__getitem__(name)

    with pthparse.open(of_vectors(a=floats(1), b=floats(2), c=floats(3))) as ckpt:
        found = pthparse.diff(ckpt, Lost(ckpt.items()))
    assert found.identical == 2 and [(e.name, e.code) for e in found.errors] == [("b", "shard-missing")]


def test_tensors_that_overlap_are_compared_within_a_budget(tmp_path: Path) -> None:
    views = {f"t{i}": p.tensor(p.storage("0", 1000), [1000 - i], [1], i) for i in range(40)}
    paths = [tmp_path / name for name in ("a.pth", "b.pth")]
    for path in paths:
        path.write_bytes(file(views, floats(*range(1000))))
    found = pthparse.diff(*paths, limits=pthparse.Limits(max_dense_bytes=1))
    assert found.identical and found.errors and {e.code for e in found.errors} == {"max_dense_bytes"}
    assert found.identical + len(found.errors) == 40
    assert pthparse.diff(*paths).identical == 40


def test_progress_ends_with_all(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    data = of_vectors(w=bytes(1 << 23))
    paths = [tmp_path / name for name in ("a.pth", "b.pth")]
    for path in paths:
        path.write_bytes(data)
    assert pthparse.diff(*paths, progress=lambda *n: seen.append(n)).same
    assert seen[-1] == (1 << 24, 1 << 24)


def test_plain_values() -> None:
    def training(**values: bytes) -> bytes:
        return file({"w": p.vector("0", 2), **values}, floats(1, 2))

    def real(x: float) -> bytes:
        return b"G" + struct.pack(">d", x)

    a = training(epoch=p.integer(3), lr=real(0.1), nan=real(math.nan), only=p.text("x"), opt=p.dict_of({"b": p.TRUE}))
    b = training(epoch=p.integer(4), lr=real(0.1), nan=real(math.nan), opt=p.dict_of({"b": p.integer(1)}))
    r = pthparse.diff(a, b)
    assert [(v.path, v.kind, v.a, v.b) for v in r.values] == [
        ("epoch", "changed", 3, 4), ("only", "removed", "x", None), ("opt/b", "changed", True, 1),
    ]  # fmt: skip
    assert r.values_count and not r.same and r.differs and pthparse.diff(a, b, values=False).same
    with pthparse.open(a) as ckpt:
        one_sided = pthparse.diff(a, dict(ckpt.items()))
    assert [v.kind for v in one_sided.values] == ["removed"] * 5
    assert one_sided.same and not one_sided.values_count
    assert not pthparse.diff(a, training()).same


def test_values_of_equal_pickles_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def training(epoch: int, weights: bytes = floats(1, 2)) -> bytes:
        nan = b"G" + struct.pack(">d", math.nan)
        return file({"w": p.vector("0", 2), "epoch": p.integer(epoch), "nan": nan}, weights)

    made: list[Any] = []
    monkeypatch.setattr(metadata, "plain_values", lambda *a: made.append(a) or plain_values(*a))
    r = pthparse.diff(training(3), training(3, floats(1, 3)))
    assert (r.values, len(r.changed), made) == ((), 1, [])
    r = pthparse.diff(training(3), training(4))
    assert [(v.path, v.a, v.b) for v in r.values] == [("epoch", 3, 4)]
    assert len(made) == 2


def test_values_that_cannot_be_told() -> None:
    class Wide(dict[str, Any]):
        @property
        def metadata(self) -> Any:
            raise pthparse.LimitError("max_metadata", "too many")

    r = pthparse.diff(Wide(), {})
    assert not r.same and not r.differs and [(e.name, e.code) for e in r.errors] == [("plain values", "max_metadata")]


def test_quantized_tensors() -> None:
    def quantized(data: bytes, scale: float, cls: str = "QInt8Storage") -> bytes:
        numbers = [p.glob("torch", "per_tensor_affine"), b"G" + struct.pack(">d", scale), p.integer(0)]
        return file({"q": p.quantized(4, p.tuple_of(numbers), cls)}, data)

    a = quantized(b"\1\2\3\4", 0.5)
    assert pthparse.diff(a, a).identical == 1
    r = pthparse.diff(a, quantized(b"\1\2\3\5", 0.5))
    assert (r.changed[0].max_abs, r.changed[0].parts, r.changed[0].worst) == (1.0, ("integers",), (3,))
    r = pthparse.diff(a, quantized(b"\1\2\3\4", 0.25))
    assert (r.changed[0].max_abs, r.changed[0].parts) == (0.0, ("scale",))
    r = pthparse.diff(a, quantized(b"\1\2\3\4", 0.5, "QUInt8Storage"))
    assert r.recast[0].dtype_b == "quint8"
    r = pthparse.diff(a, file({"q": p.vector("0", 4)}, floats(1, 2, 3, 4)))
    assert r.recast[0].numel == 0


def test_what_cannot_be_compared_is_told() -> None:
    ok, gone = file({"w": p.vector("0", 2)}, floats(1, 2)), file({"w": p.vector("9", 2)}, floats(1, 2))
    r = pthparse.diff(ok, gone)
    assert not r.same and not r.differs and [(e.name, e.code) for e in r.errors] == [("w", "storage-missing")]


def test_tied_tensors_are_read_once_and_told_each() -> None:
    def tied(data: bytes) -> bytes:
        return file({"a": p.vector("0", 2), "b": p.vector("0", 2)}, data)

    r = pthparse.diff(tied(floats(1, 2)), tied(floats(1, 3)))
    assert [d.name for d in r.changed] == ["a", "b"] and r.changed[0].max_abs == r.changed[1].max_abs == 1


def test_empty_models_and_tensors() -> None:
    empty = file({"e": p.tensor(p.storage("0", 0), [0, 3], [3, 1])}, b"")
    assert pthparse.diff(empty, empty).identical == 1 and pthparse.diff({}, {}).same
    assert pthparse.diff(empty, {}).removed == ("e",)


def test_the_report_is_plain() -> None:
    found: Any = pthparse.diff(of_vectors(w=floats(1)), of_vectors(w=floats(2))).to_dict()
    assert found["changed"][0]["max_abs"] == 1.0 and found["same"] is False
    assert list(found)[:4] == ["a", "b", "same", "identical"]
