"""Tensors as a pickle describes them: each wrong field makes one of them an error, and its neighbour stays readable."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import pickles as p
from forge.zips import DEFLATED, build, checkpoint, members, replace

import pthparse
from pthparse.walks import line_of, locate

ZOO = Path(__file__).parent.parent / "data" / "zoo"
DATA = np.arange(8, dtype=np.float32).tobytes()


def opened(tensor: bytes, **how: object) -> pthparse.Checkpoint:
    pkl = p.pickle(p.dict_of({"t": tensor, "ok": p.vector("1", 8)}))
    return pthparse.open(checkpoint(pkl, {"0": DATA, "1": DATA}), **how)  # type: ignore[arg-type]


def code(tensor: bytes, **how: object) -> str:
    ckpt = opened(tensor, **how)
    assert ckpt["ok"].numpy().tolist() == list(range(8))
    assert list(ckpt) == ["t", "ok"] and list(ckpt.errors) == ["t"]
    error = ckpt["t"].error
    assert error is not None and "'t'" in str(error)
    with pytest.raises(pthparse.PthError) as e:
        ckpt["t"].numpy()
    assert e.value.code == error.code
    return error.code


PID = p.storage("0", 8)
HUGE = 1 << 62

WRONG: dict[str, tuple[bytes, str]] = {
    "past the end": (p.tensor(PID, [9], [1]), "tensor-bounds"),
    "past the end by stride": (p.tensor(PID, [3, 3], [3, 1]), "tensor-bounds"),
    "past the end by offset": (p.tensor(PID, [8], [1], 1), "tensor-bounds"),
    "negative size": (p.tensor(PID, [-1], [1]), "tensor-negative"),
    "negative stride": (p.tensor(PID, [2], [-1]), "tensor-negative"),
    "negative offset": (p.tensor(PID, [1], [1], -1), "tensor-negative"),
    "extent of 2^62 x 4": (p.tensor(PID, [HUGE], [4]), "tensor-overflow"),
    "product of sizes": (p.tensor(PID, [1 << 32, 1 << 32], [0, 0]), "tensor-overflow"),
    "bytes beyond 2^63": (p.tensor(PID, [HUGE], [0]), "tensor-overflow"),
    "offset near 2^63": (p.tensor(PID, [2], [1], (1 << 63) - 1), "tensor-bounds"),
    "offset beyond 2^63": (p.tensor(PID, [2], [1], 1 << 64), "tensor-args"),
    "size beyond 2^63": (p.tensor(PID, [1 << 64], [1]), "tensor-args"),
    "more sizes than strides": (p.tensor(PID, [2, 2], [1]), "tensor-args"),
    "sizes are text": (p.tensor(PID, p.text("22"), [1]), "tensor-args"),
    "a size is text": (p.tensor(PID, p.tuple_of([p.text("2")]), [1]), "tensor-args"),
    "storage is a number": (p.tensor(p.integer(5), [2], [1]), "tensor-args"),
    "too few arguments": (p.call(p.glob("torch._utils", "_rebuild_tensor_v2"), PID), "tensor-args"),
    "unknown storage class": (p.tensor(p.storage("0", 8, "OddStorage"), [2], [1]), "storage-class"),
    "missing storage": (p.tensor(p.storage("7", 8), [2], [1]), "storage-missing"),
    "storage longer than its record": (p.tensor(p.storage("0", 9), [9], [1]), "tensor-bounds"),
    "persistent id is a text": (p.tensor(p.text("0") + p.BINPERSID, [2], [1]), "storage-text"),
    "persistent id of three": (p.tensor(p.tuple_of([p.text("storage")] * 3) + p.BINPERSID, [2], [1]), "storage-id"),
    "negative elements": (p.tensor(p.storage("0", p.integer(-8)), [2], [1]), "storage-id"),
    "unknown dtype": (
        p.call(
            p.glob("torch._utils", "_rebuild_tensor_v3"),
            p.storage("0", 32, "UntypedStorage"),
            *(p.integer(0), p.ints([2]), p.ints([1]), p.FALSE, p.ordered_dict(), p.glob("torch", "float1024")),
        ),
        "tensor-dtype",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_alone(name: str) -> None:
    tensor, expected = WRONG[name]
    assert code(tensor) == expected


def test_too_many_dimensions() -> None:
    assert code(p.tensor(PID, [1] * 1025, [1] * 1025)) == "max_ndim"
    assert code(p.tensor(PID, [1] * 9, [1] * 9), limits=pthparse.Limits(max_ndim=8)) == "max_ndim"
    many = opened(p.tensor(PID, [1] * 65, [1] * 65))["t"]
    assert len(many.shape) == 65
    with pytest.raises(pthparse.UnsupportedError) as e:
        many.numpy()
    assert e.value.code == "numpy-ndim"


def test_wrapped_too_deep() -> None:
    tensor = p.vector("0", 8)
    for _ in range(40):
        tensor = p.call(p.glob("torch._utils", "_rebuild_parameter"), tensor, p.TRUE, p.ordered_dict())
    assert code(tensor) == "tensor-nesting"


def test_zero_elements_need_no_storage_bytes() -> None:
    ckpt = opened(p.tensor(PID, [0, 1 << 40], [1 << 40, 1]))
    assert ckpt["t"].shape == (0, 1 << 40) and ckpt["t"].numpy().shape == (0, 1 << 40)


def test_no_stride_goes_on_for_ever() -> None:
    t = opened(p.tensor(PID, [1 << 40], [0], 3))["t"]
    assert t.numel == 1 << 40 and t.numpy()[1 << 39] == 3


@pytest.mark.parametrize("rebuild", ["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"])
def test_rebuild_functions(rebuild: str) -> None:
    first = [p.storage("0", 8), p.integer(1), p.ints([3]), p.ints([2])]
    more = {"_rebuild_tensor": [], "_rebuild_tensor_v2": [p.TRUE, p.ordered_dict()]}.get(
        rebuild, [p.TRUE, p.ordered_dict(), p.glob("torch", "float32")]
    )
    pid = p.storage("0", 32, "UntypedStorage") if rebuild.endswith("v3") else first[0]
    t = opened(p.call(p.glob("torch._utils", rebuild), pid, *first[1:], *more))["t"]
    assert t.numpy().tolist() == [1, 3, 5] and t.requires_grad == bool(more)


def test_old_spellings() -> None:
    """FloatTensor and Parameter before there were rebuild functions: an empty object and its state."""
    state = p.tuple_of([PID, p.integer(2), p.ints([2]), p.ints([1])])
    old = p.call(p.glob("torch", "FloatTensor")) + state + p.BUILD
    assert opened(old)["t"].numpy().tolist() == [2, 3]
    parameter = p.call(p.glob("torch.nn.parameter", "Parameter"), p.vector("0", 8), p.TRUE)
    t = opened(parameter)["t"]
    assert t.parameter and t.requires_grad and t.numpy().size == 8


def test_sizes_as_list_and_as_torch_size() -> None:
    as_list = p.EMPTY_LIST + p.MARK + p.integer(2) + b"e"
    as_size = p.call(p.glob("torch", "Size"), p.ints([2]))
    for size in (as_list, as_size):
        assert opened(p.tensor(PID, size, [1]))["t"].shape == (2,)


def test_hooks_and_unknown_metadata_are_ignored() -> None:
    t = opened(p.tensor(PID, [2], [1], hooks=p.call(p.glob("evil", "hook")), more=[p.dict_of({"x": p.NONE})]))["t"]
    assert t.numpy().tolist() == [0, 1]


def test_one_storage_by_two_dtypes() -> None:
    """torch takes the first class for the key; here each tensor has its own."""
    both = p.dict_of({"a": p.vector("0", 8), "b": p.tensor(p.storage("0", 16, "HalfStorage"), [16], [1])})
    ckpt = pthparse.open(checkpoint(p.pickle(both), {"0": DATA}))
    assert ckpt["a"].numpy().tobytes() == ckpt["b"].numpy().tobytes() == DATA
    assert ckpt["b"].dtype == "float16" and ckpt["a"].storage.tensors == ("a", "b")


def test_names() -> None:
    t = p.vector("0", 8)
    pairs = [
        (p.text("a.b"), t),
        (p.text("a/b"), t),
        (p.text("a"), p.dict_of({"b": t})),
        (p.integer(-3), t),
        (p.TRUE, t),
        (p.NONE, t),
        (b"G\x40\x04\0\0\0\0\0\0", t),
        (p.ints([1, 2]), t),
        (p.text(""), t),
        (p.text("\x1b[2J\n"), t),
        (p.text("\ud800"), t),
        (p.text("list"), p.EMPTY_LIST + p.MARK + t + p.tuple_of([t]) + b"e"),
    ]
    root = p.EMPTY_DICT + p.MARK + b"".join(k + v for k, v in pairs) + b"u"
    ckpt = pthparse.open(checkpoint(p.pickle(root), {"0": DATA}))
    odd = ["-3", "True", "None", "<key 6>", "<key 7>", "", "\x1b[2J\n", "\ud800"]
    assert list(ckpt) == ["a.b", "a/b", "a/b#2", *odd, "list/0", "list/1/0"]
    assert [f.code for f in ckpt.findings] == ["names-collide"]
    assert "a/b#2" in ckpt and ckpt["a/b#2"].name == "a/b#2"
    assert "\x1b" not in repr(ckpt["\x1b[2J\n"])


def test_a_parameter_and_a_buffer_of_one_name() -> None:
    """torch refuses to make such a module; a file can say it all the same."""
    t, state = p.vector("0", 8), {"_buffers": p.EMPTY_DICT, "_modules": p.EMPTY_DICT, "_parameters": p.EMPTY_DICT}
    for part in ("_parameters", "_buffers"):
        state[part] = p.dict_of({"w": t})
    root = p.call(p.glob("m", "Net")) + p.dict_of(state) + p.BUILD
    ckpt = pthparse.open(checkpoint(p.pickle(root), {"0": DATA}))
    assert list(ckpt) == ["w", "w#2"] and [f.code for f in ckpt.findings] == ["names-collide"]


def test_a_missing_name_tells_the_nearest() -> None:
    ckpt = opened(p.vector("0", 8))
    with pytest.raises(KeyError, match="no tensor 'okk'; near: 'ok'"):
        ckpt["okk"]
    assert ckpt.get("none") is None and 5 not in ckpt


def test_shared_containers_are_limited_by_names() -> None:
    """Forty levels of a pair of the same pair: 2^40 names for one tensor."""
    root = p.vector("0", 8) + b"q\x000h\0"
    for _ in range(40):
        root = root + b"2\x86"
    with pytest.raises(pthparse.LimitError) as e:
        pthparse.open(checkpoint(p.pickle(root), {"0": DATA}))
    assert e.value.code in ("max_names", "max_name_bytes")


def test_a_container_that_holds_itself() -> None:
    root = p.EMPTY_DICT + b"q\x01" + p.text("t") + p.vector("0", 8) + b"s" + p.text("me") + b"h\x01s"
    ckpt = pthparse.open(checkpoint(p.pickle(root), {"0": DATA}))
    assert list(ckpt) == ["t"] and ckpt.root["me"] is ckpt.root


def test_mapping() -> None:
    ckpt = opened(p.vector("0", 8))
    assert len(ckpt) == 2 and [n for n, _ in ckpt.items()] == ["t", "ok"]
    assert [t.name for t in ckpt.values()] == ["t", "ok"] and dict(ckpt).keys() == {"t", "ok"}
    assert np.array_equal(np.asarray(ckpt["t"]), ckpt["t"].numpy())
    assert np.asarray(ckpt["t"], dtype=np.float64).dtype == np.float64
    assert len(ckpt["t"]) == 8 and repr(ckpt["t"]) == "<Tensor 't' float32 [8]>"
    assert "in memory" in repr(ckpt)


def test_arrays_outlive_the_checkpoint(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "m.pth"
    path.write_bytes(checkpoint(p.pickle(p.dict_of({"t": p.vector("0", 8)})), {"0": DATA}))
    with pthparse.open(path) as ckpt:
        array, tensor = ckpt["t"].numpy(), ckpt["t"]
    assert ckpt.closed and "closed" in repr(ckpt)
    del ckpt
    gc.collect()
    assert array.tolist() == list(range(8))
    with pytest.raises(pthparse.PthError) as e:
        tensor.numpy()
    assert e.value.code == "closed" and tensor.shape == (8,)


SCRIPT = Path(__file__).parent.parent / "data" / "zoo" / "torch-2.13.0-py3.11" / "torchscript.pth"


@pytest.mark.parametrize("source", [checkpoint(p.pickle(p.dict_of({"t": p.vector("0", 8)})), {"0": DATA}), SCRIPT])
def test_a_checkpoint_is_given_back_without_the_collector(source: Any) -> None:
    """Whatever was asked of it: the table holds tens of megabytes, and the file a descriptor."""
    gc.disable()
    try:
        ckpt = pthparse.open(source)
        asked = [list(ckpt.values()), ckpt.root, ckpt.storages, ckpt.metadata, ckpt.constants]
        array = ckpt[next(iter(ckpt))].numpy()
        gone, home, box = weakref.ref(ckpt), weakref.ref(ckpt._home), weakref.ref(ckpt._box)
        del ckpt
        assert gone() is None and home() is not None  # tensors need it
        del asked
        assert home() is None and box() is None
    finally:
        gc.enable()
    assert array.size > 0


def test_reads_from_many_threads() -> None:
    ckpt = opened(p.vector("0", 8))

    def read(_: int) -> bool:
        return ckpt["t"].numpy().sum() == 28 and len(ckpt.root) == 2 and ckpt.storages[0].nbytes == 32

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(2000)))


# ---- where most elements lie ----


def line(tensor: bytes, data: bytes = DATA, **how: Any) -> tuple[int, ...] | None:
    pkl = p.pickle(p.dict_of({"t": tensor}))
    return line_of(pthparse.open(checkpoint(pkl, {"0": data}, **how))["t"])


def test_what_lies_in_line_is_told_by_its_first_byte() -> None:
    pkl = p.pickle(p.dict_of({"t": p.tensor(PID, [2, 3], [3, 1], 1)}))
    data = checkpoint(pkl, {"0": DATA})
    with pthparse.open(data) as ckpt:
        t = ckpt["t"]
        assert t._line is None  # its local header was not read yet
        start = data.index(DATA)
        assert line_of(t) == t._line == (start + 4, 24, 6, 1)
    assert line_of(t) is None


def test_what_is_done_more_to_has_no_line() -> None:
    assert line(p.vector("0", 8)) is not None
    assert line(p.tensor(PID, [2, 1, 4], [4, 77, 1])) is not None  # a step along one element means nothing
    for sizes, strides in ([2, 4], [1, 2]), ([4], [2]), ([3, 4], [0, 1]), ([0], [1]):
        assert line(p.tensor(PID, sizes, strides)) is None, (sizes, strides)
    conj = p.tensor(p.storage("0", 4, "ComplexFloatStorage"), [4], [1], more=[p.dict_of({"conj": p.TRUE})])
    assert line(conj) is None
    assert line(p.tensor(p.storage("0", 4, "ComplexFloatStorage"), [4], [1])) is not None
    for tensor, code in WRONG.values():
        assert line(tensor) is None, code


def test_deflated_and_foreign_elements_have_no_line() -> None:
    entries = members(p.pickle(p.dict_of({"t": p.vector("0", 8)})), {"0": DATA})
    data = build([replace(e, method=DEFLATED) if e.name.endswith("/0") else e for e in entries])
    assert line_of(pthparse.open(data)["t"]) is None
    assert pthparse.open(data)["t"].numpy().tolist() == list(range(8))
    big = [replace(e, data=b"big") if e.name.endswith("byteorder") else e for e in entries]
    ckpt = pthparse.open(build(big))
    assert ckpt.byteorder == "big" and line_of(ckpt["t"]) is None


@pytest.mark.parametrize("path", sorted(ZOO.glob("*/*.pth")), ids=lambda f: "/".join(f.parts[-2:]))
def test_lines_are_the_elements(path: Path) -> None:
    """Of all files of the zoo; those of most dense tensors are known."""
    data = path.read_bytes()
    with pthparse.open(path) as ckpt:
        locate(list(ckpt.values()))
        for t in ckpt.values():
            found = line_of(t)
            plain = t.kind == "dense" and not t.error and t.numel and ckpt.byteorder == "little"
            if found is not None:
                at, nbytes, n, _ = found
                assert (t.kind, n, nbytes) == ("dense", t.numel, t.nbytes)
                assert data[at : at + nbytes] == t.numpy(copy=True).tobytes()
            elif plain and t.dtype == "float32" and ckpt.format in ("zip", "torchscript"):
                assert not t.numpy().flags.c_contiguous or t._cast is not None
