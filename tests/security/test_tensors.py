"""Attacks through one tensor, or what many share: shapes, parts and calls that numpy refuses, or that cost without end.

Where the attack is on time or memory, the sizes are such that what falls for it hangs: nothing is timed.
"""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from forge import pickles as p
from forge import tars
from forge.zips import checkpoint

import pthparse
from pthparse import _core
from pthparse.tensor import numpy_dtype

DATA = np.arange(16, dtype=np.float32).tobytes()
BYTES = bytes(range(64))
VECTOR = p.vector("0", 16)
REBUILD = p.glob("torch._utils", "_rebuild_tensor_v2")


def opened(root: bytes, storage: bytes = DATA, **more: bytes) -> pthparse.Checkpoint:
    return pthparse.open(checkpoint(p.pickle(root, 4), {"0": storage, **more}))


def tensor(root: bytes, storage: bytes = DATA, **more: bytes) -> pthparse.Tensor:
    return opened(root, storage, **more)[""]


def index_tensor(size: list[int], stride: list[int], key: str = "0") -> bytes:
    """Of int64, in a storage of eight."""
    return p.tensor(p.storage(key, 8, "LongStorage"), size, stride)


def calls(arguments: list[bytes], n: int) -> bytes:
    """n tensors that share one tuple of arguments."""
    return p.once(REBUILD, 0) + p.once(p.tuple_of(arguments), 1) + p.list_of([p.get(0) + p.get(1) + p.REDUCE] * n)


# ---- views that numpy refuses ----


def test_a_conjugate_of_no_dimensions_is_an_array() -> None:
    t = tensor(p.tensor(p.storage("0", 8, "ComplexFloatStorage"), [], [], 1, more=[p.dict_of({"conj": p.TRUE})]))
    for copy in (False, True):
        array = t.numpy(copy=copy)
        assert isinstance(array, np.ndarray) and array.shape == () and array.dtype == np.complex64
        assert array[()] == 2 - 3j and array.flags.writeable is copy


def test_a_negative_of_no_dimensions_is_an_array() -> None:
    t = tensor(p.tensor(p.storage("0", 16), [], [], 5, more=[p.dict_of({"neg": p.TRUE})]))
    assert isinstance(t.numpy(), np.ndarray) and t.numpy().shape == () and t.numpy()[()] == -5


NO_NUMBERS = ("bool", "qint8", "quint8", "qint32", "quint4x2", "quint2x4", "float4_e2m1fn_x2")
NO_NUMBERS += ("bits8", "bits1x8", "bits2x4", "bits4x2", "bits16")
NO_NUMBERS += tuple(f"{sign}int{n}" for sign in ("", "u") for n in range(1, 8))
NUMBERS = [i for i, row in enumerate(_core.DTYPES) if row[0] not in (*NO_NUMBERS, "untyped")]


@pytest.mark.parametrize("index", NUMBERS, ids=lambda i: _core.DTYPES[i][0])
def test_a_negative_of_every_number(index: int) -> None:
    name = _core.DTYPES[index][0]
    plain = tensor(p.typed(name, [4], [1], 64), BYTES).numpy()
    array = tensor(p.typed(name, [4], [1], 64, p.dict_of({"neg": p.TRUE})), BYTES).numpy()
    assert array.dtype == numpy_dtype(index) and array.shape == plain.shape
    assert array.tobytes() == np.negative(plain).tobytes()


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_a_negative_of_what_is_no_number_is_refused(name: str) -> None:
    """Packed and quantized bytes would be negated as bytes."""
    t = tensor(p.typed(name, [4], [1], 64, p.dict_of({"neg": p.TRUE})), BYTES)
    with pytest.raises(pthparse.FormatError) as e:
        t.numpy()
    assert e.value.code == "tensor-view" and "tensor ''" in str(e.value)


@pytest.mark.parametrize("name", ["float32", "int8", "bool", "bits8"])
def test_a_conjugate_of_what_is_not_complex_is_refused(name: str) -> None:
    t = tensor(p.typed(name, [4], [1], 64, p.dict_of({"conj": p.TRUE})), BYTES)
    with pytest.raises(pthparse.FormatError) as e:
        t.numpy()
    assert e.value.code == "tensor-view"


def test_no_elements_in_more_dimensions_than_memory() -> None:
    """torch may hold such a shape, numpy multiplies what is not zero."""
    t = tensor(p.tensor(p.storage("0", 16), [1 << 62, 1 << 62, 0], [1, 1, 1]))
    assert t.shape == (1 << 62, 1 << 62, 0) and t.numel == 0
    with pytest.raises(pthparse.FormatError) as e:
        t.numpy()
    assert e.value.code == "value-refused"


@pytest.mark.parametrize("copy", [False, True])
def test_strides_of_single_elements_mean_nothing(copy: bool) -> None:
    most = (1 << 63) - 1
    assert tensor(p.tensor(p.storage("0", 16), [1], [most], 3)).numpy(copy=copy).tolist() == [3]
    t = tensor(p.tensor(p.storage("0", 16), [2, 1], [1, most], 3))
    assert t.stride == (1, most) and t.numpy(copy=copy).tolist() == [[3], [4]]
    assert tensor(p.tensor(p.storage("0", 16), [1] * 40, [1] * 40)).numpy(copy=copy).shape == (1,) * 40


def test_a_negative_size_has_no_length() -> None:
    t = tensor(p.tensor(p.storage("0", 16), [-2], [1]))
    assert t.error is not None and t.error.code == "tensor-negative"
    assert t.shape == (-2,) and len(t) == 0


def test_a_negative_size_of_the_tar_format() -> None:
    ckpt = pthparse.open(
        tars.archive(p.text("5") + p.BINPERSID, [tars.storage_record(1, DATA)], [tars.tensor_record(5, 1, [-2], [1])])
    )
    assert {n: e.code for n, e in ckpt.errors.items()} == {"": "tensor-negative"}


@pytest.mark.parametrize(("cls", "packing"), [("QUInt4x2Storage", 2), ("QUInt2x4Storage", 4)])
def test_no_packed_elements_are_no_bytes(cls: str, packing: int) -> None:
    """Not the one byte at their offset, wherever that lies."""
    for offset in (0, 1):
        first = (p.storage("0", 64, cls), p.integer(offset), p.ints([0]), p.ints([1]))
        quantizer = p.tuple_of([p.glob("torch", "per_tensor_affine"), p.integer(1), p.integer(0)])
        t = tensor(p.call(p.glob("torch._utils", "_rebuild_qtensor"), *first, quantizer, p.FALSE, p.ordered_dict()))
        assert t.numpy().tolist() == t.numpy(copy=True).tolist() == [] and t.numpy().dtype == np.uint8
        assert t.dequantize().tolist() == [] and t.nbytes == 0


# ---- quantizers ----

AFFINE = p.glob("torch", "per_tensor_affine")
QUANTIZERS = {
    "scale is a text": ([AFFINE, p.text("x"), p.integer(0)], "scale", "tensor-args"),
    "scale is a dict": ([AFFINE, p.EMPTY_DICT, p.integer(0)], "scale", "tensor-args"),
    "scale is nothing": ([AFFINE, p.NONE, p.integer(0)], "scale", "tensor-args"),
    "scale holds bytes": ([AFFINE, p.tuple_of([p.raw(b"\xdc"), p.text("a")]), p.integer(0)], "scale", "value-refused"),
    "scale is ragged": ([AFFINE, p.tuple_of([p.text("a"), p.EMPTY_LIST]), p.integer(0)], "scale", "value-refused"),
    "scale is a matrix": ([AFFINE, p.list_of([p.ints([1]), p.ints([2])]), p.integer(0)], "scale", "tensor-args"),
    "zero point is a text": ([AFFINE, p.integer(1), p.text("u")], "zero_point", "tensor-args"),
    "zero point is huge": ([AFFINE, p.integer(1), p.integer(1 << 70)], "zero_point", "tensor-args"),
    "axis is bytes": ([AFFINE, p.integer(1), p.integer(0), p.raw(b"a")], "axis", "tensor-args"),
    "axis is a boolean": ([AFFINE, p.integer(1), p.integer(0), p.TRUE], "axis", "tensor-args"),
    "too short": ([AFFINE, p.integer(1)], "scale", "tensor-args"),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizers_of_other_kinds(name: str) -> None:
    items, attribute, code = QUANTIZERS[name]
    t = tensor(p.quantized(64, p.tuple_of(items)), BYTES)
    assert t.numpy().tolist() == [0, 1, 2, 3]
    for ask in (lambda: getattr(t, attribute), t.dequantize):
        with pytest.raises(pthparse.FormatError) as e:
            ask()
        assert e.value.code == code


def test_the_quantizer_that_they_are_made_of() -> None:
    t = tensor(p.quantized(64, p.tuple_of([AFFINE, p.integer(2), p.integer(1)])), BYTES)
    assert (t.quantization, t.scale, t.zero_point, t.axis) == ("per_tensor_affine", 2, 1, None)
    assert t.dequantize().tolist() == [-2, 0, 2, 4]


@pytest.mark.parametrize("axis", [-1, 1, 1 << 40])
def test_channels_of_a_dimension_that_is_not_there(axis: int) -> None:
    scales = p.tensor(p.storage("1", 4, "DoubleStorage"), [4], [1])
    zeros = p.tensor(p.storage("2", 4, "LongStorage"), [4], [1])
    quantizer = p.tuple_of([p.glob("torch", "per_channel_affine"), scales, zeros, p.integer(axis)])
    t = tensor(p.quantized(64, quantizer), BYTES, **{"1": struct.pack("<4d", 1, 2, 3, 4), "2": bytes(32)})
    assert t.scale.tolist() == [1, 2, 3, 4] and t.axis == axis
    with pytest.raises(pthparse.FormatError) as e:
        t.dequantize()
    assert e.value.code == "tensor-args"


# ---- devices ----


@pytest.mark.parametrize(("device", "text"), [(p.integer(7), "7"), (p.raw(b"cpu"), "b'cpu'"), (p.NONE, "cpu")])
def test_devices_that_are_no_text(device: bytes, text: str) -> None:
    t = tensor(p.subclass(p.wrapper([16], device), p.dict_of({"a": VECTOR})))
    assert t.kind == "subclass" and t.device == text


def test_a_device_far_longer_than_the_pickle() -> None:
    device = p.once(p.text("x" * 300_000), 0) + p.list_of([p.get(0)] * 20_000)
    text = tensor(p.subclass(p.wrapper([16], device), p.dict_of({"a": VECTOR}))).device
    assert text.startswith("['xxx") and text.endswith("...") and len(text) < 2000


# ---- tensors made of tensors ----

I64 = struct.pack("<8q", *range(8))


def test_a_sparse_tensor_without_its_parts() -> None:
    t = tensor(p.call(p.glob("torch._utils", "_rebuild_sparse_tensor"), p.text("torch.sparse_coo"), VECTOR))
    assert t.error is not None and t.error.code == "tensor-args" and t.inner == {}
    short = tensor(p.sparse("sparse_csr", VECTOR))
    assert short.error is not None and short.error.code == "tensor-args"


@pytest.mark.parametrize("layout", ["sparse_csr", "sparse_coo"])
def test_pieces_that_are_no_tensors(layout: str) -> None:
    wrong = [p.NONE] * (1 if layout == "sparse_coo" else 2)
    t = tensor(p.sparse(layout, *wrong, VECTOR, p.ints([1, 1])))
    first, other = ("indices", "plain_indices") if layout == "sparse_coo" else ("compressed_indices", "indices")
    with pytest.raises(pthparse.FormatError) as e:
        getattr(t, first)
    assert e.value.code == "tensor-args" and "tensor ''" in str(e.value)
    with pytest.raises(AttributeError, match=f"a sparse {layout} tensor has no '{other}'"):
        getattr(t, other)


def test_a_sparse_tensor_of_sparse_values() -> None:
    """The dtype of the values must be known before that of what they are values of."""
    inner = p.sparse("sparse_coo", index_tensor([1, 2], [2, 1], "1"), p.vector("0", 2), p.ints([5]))
    t = tensor(p.sparse("sparse_coo", index_tensor([1, 2], [2, 1], "1"), inner, p.ints([5])), DATA, **{"1": I64})
    assert t.error is not None and t.error.code == "tensor-args"
    with pytest.raises(pthparse.FormatError) as e:
        t.to_dense()
    assert e.value.code == "tensor-args"


N = 20_000_000
EXPANDED = {
    "coo": (
        p.sparse("sparse_coo", index_tensor([1, N], [0, 0]), p.tensor(p.storage("0", 16), [N], [0]), p.ints([1])),
        "indices",
    ),
    "csr": (
        p.sparse(
            "sparse_csr",
            index_tensor([N, 1], [0, 1]),
            index_tensor([N, 0], [0, 1]),
            p.tensor(p.storage("0", 16), [N, 0], [0, 1]),
            p.ints([N, 0, 0]),
        ),
        "compressed_indices",
    ),
}


@pytest.mark.parametrize("name", EXPANDED)
def test_indices_that_are_one_number_many_times(name: str) -> None:
    """A stride of 0: 20 million indices in eight bytes."""
    root, piece = EXPANDED[name]
    t = tensor(root, bytes(64))
    assert t.error is None
    with pytest.raises(pthparse.FormatError) as e:
        t.to_dense()
    assert e.value.code == "tensor-args" and f"its {piece} say more than is stored of them" in str(e.value)


def test_parts_that_are_one_number_many_times() -> None:
    sizes, offsets = index_tensor([N, 1], [0, 1]), index_tensor([N], [0])
    t = tensor(p.nested(VECTOR, sizes, sizes, offsets), bytes(64))
    assert t.error is None and t.shape == (N, -1)
    with pytest.raises(pthparse.FormatError) as e:
        t.unbind()
    assert e.value.code == "tensor-args" and "its sizes say more than is stored of them" in str(e.value)


def test_many_devices_in_each_other() -> None:
    """1,200 levels of a tensor that holds the one below twice."""
    root = p.once(VECTOR, 0)
    for i in range(1200):
        root += p.once(p.sparse("sparse_coo", p.get(i), p.get(i), p.ints([1])), i + 1)
    t = tensor(root + p.get(1200))
    assert t.device == "cpu" and [leaf.numel for leaf in t.leaves()] == [16]
    assert t.error is not None and t.error.code == "tensor-args"


def test_jagged_tensors_in_each_other() -> None:
    """What is made of such has no shape that could be told, and no elements that could be counted."""
    root = p.once(VECTOR, 0)
    for i in range(1200):
        root += p.once(p.jagged(values=p.get(i), offsets=p.get(0)), i + 1)
    t = tensor(root + p.get(1200))
    assert (t.kind, t.shape, t.numel, t.nbytes) == ("nested", (), 0, 0)
    assert t.error is not None and t.error.code == "tensor-args"
    ckpt = opened(
        p.once(VECTOR, 0) + p.jagged(values=p.get(0), offsets=index_tensor([3], [1], "1")), DATA, **{"1": I64}
    )
    assert ckpt[""].shape == (2, -1) and ckpt[""].numel == 16


def test_nested_shapes_that_double() -> None:
    """30 levels, each asked more than once for the shape of the one below."""
    root = p.once(p.vector("0", 1), 0) + p.once(p.tensor(p.storage("0", 16), [0], [1]), 1)
    for i in range(1, 61, 2):
        root += p.once(p.jagged(values=p.get(i), offsets=p.get(0), _ragged_idx=p.integer(9)), i + 1)
        root += p.once(p.nested(p.get(0), p.get(i + 1), p.get(0), p.get(0)), i + 2)
    t = tensor(root + p.get(61))
    assert (t.kind, t.shape) == ("nested", ())
    assert t.error is not None and t.error.code == "tensor-args"


def test_wrappers_in_each_other() -> None:
    root = p.once(VECTOR, 0)
    for i in range(1200):
        root += p.once(p.subclass(p.wrapper([16]), p.dict_of({"a": p.get(i)})), i + 1)
    t = tensor(root + p.get(1200))
    with pytest.raises(pthparse.UnsupportedError) as e:
        t.numpy()
    assert e.value.code == "no-array" and [leaf.numpy().tolist() for leaf in t.leaves()] == [list(range(16))]
    one = tensor(p.subclass(p.wrapper([16]), p.dict_of({"a": VECTOR})))
    assert one.numpy().tolist() == list(range(16))


def test_parts_below_keys_that_are_tensors() -> None:
    """Such a key goes by its place: its text would ask the tensor for its own parts, without end."""
    keyed = p.pairs([(p.jagged(values=VECTOR, offsets=VECTOR), VECTOR), (p.integer(7), VECTOR)])
    t = tensor(p.subclass(p.wrapper([16]), p.dict_of({"d": keyed})))
    assert [(path, part.name) for path, part in t.inner.items()] == [("d/<key 0>", ".d/<key 0>"), ("d/7", ".d/7")]
    turn = p.once(p.wrapper([16]), 0) + p.once(p.EMPTY_DICT, 1)
    again = p.once(p.subclass(p.get(0), p.get(1)), 2) + p.get(1) + p.get(2) + p.get(2) + b"s0"
    itself = tensor(turn + again + p.get(2))
    assert repr(itself) == "<Tensor '' float32 [16]>" and itself.leaves() == []


def test_an_array_of_another_dtype_than_its_tensor() -> None:
    """torch makes the tensor of the array's elements, in the dtype that the call gives."""
    array = p.numpy_array(p.numpy_dtype("i8"), struct.pack("<4q", 1, 2, 3, 4), [4])
    rest = (p.glob("torch", "float32"), p.text("xla:0"), p.FALSE)
    t = tensor(p.call(p.glob("torch._utils", "_rebuild_device_tensor_from_numpy"), array, *rest))
    assert t.dtype == "float32" and t.numpy().dtype == np.float32 and t.numpy().tolist() == [1, 2, 3, 4]
    assert t.nbytes == t.numpy().nbytes == 16


# ---- what many tensors share ----


def test_one_dict_of_metadata_in_many_calls() -> None:
    """50,000 pairs, looked through for two keys by each of 20,000 tensors."""
    metadata = p.pairs([(p.integer(1), p.integer(1))] * 50_000)
    arguments = [p.storage("0", 16), p.integer(0), p.ints([16]), p.ints([1]), p.FALSE, p.NONE, metadata]
    ckpt = opened(calls(arguments, 20_000))
    assert len(ckpt) == 20_000 and {e.code for e in ckpt.errors.values()} == {"tensor-args"}
    arguments[-1] = p.dict_of({"neg": p.TRUE})
    assert opened(calls(arguments, 2))["1"].numpy().tolist() == [-i for i in range(16)]


def test_sizes_of_a_thousand_dimensions_in_many_calls() -> None:
    """100,000 tensors that share their sizes and strides: 16 KiB each, which are kept once."""
    ones = p.ints([1] * 1024)
    arguments = [p.storage("0", 16), p.integer(0), ones, ones, p.FALSE, p.NONE]
    data = checkpoint(p.pickle(calls(arguments, 100_000)), {"0": DATA})
    ckpt = pthparse.open(data, limits=pthparse.Limits(max_arena_bytes=200_000_000))
    assert len(ckpt) == 100_000 and not ckpt.errors
    assert ckpt["99999"].shape == ckpt["99999"].stride == (1,) * 1024


def test_one_storage_of_many_names() -> None:
    """Each of 100,000 tensors tells who shares its storage: all of them, by one and the same tuple."""
    ckpt = opened(p.once(VECTOR, 0) + p.list_of([p.get(0)] * 100_000))
    found = {id(t.storage.tensors): t.storage.tensors for t in ckpt.values()}
    assert list(found.values()) == [tuple(map(str, range(100_000)))]


def test_one_state_of_many_wrappers() -> None:
    """500 wrappers that share a dict of 50,000 entries: what is thawed for all of them is bounded by the file."""
    state = p.pairs([(p.integer(i), p.NONE) for i in range(50_000)])
    inner = p.once(p.glob("torch._utils", "_rebuild_wrapper_subclass"), 2)
    arguments = [p.get(2), p.glob("m", "C"), p.wrapper([16]), state]
    root = inner + p.once(p.glob("torch._tensor", "_rebuild_from_type_v2"), 0) + p.once(p.tuple_of(arguments), 1)
    ckpt = opened(root + p.list_of([p.get(0) + p.get(1) + p.REDUCE] * 500))
    assert len(ckpt) == 500 and dict(ckpt["0"].inner) == {}
    with pytest.raises(pthparse.LimitError) as e:
        [t.inner for t in ckpt.values()]
    assert e.value.code == "parts"


@pytest.mark.parametrize("spelling", ["set", "call"])
@pytest.mark.parametrize("kept", [0, 1])
def test_50000_buffers_that_are_not_saved(spelling: str, kept: int) -> None:
    """A module's list of buffers that state_dict() leaves out is looked through once, not for every buffer."""
    names = [p.text(f"b{i}") for i in range(50_000)]
    listed = p.MARK + b"".join(names)
    unsaved = b"\x8f" + listed + b"\x90" if spelling == "set" else p.call(p.glob("builtins", "set"), p.list_of(names))
    saved = [(p.text("kept"), p.get(0))] * kept
    buffers = p.pairs([*((name, p.get(0)) for name in names), *saved])
    parts = {"_parameters": p.EMPTY_DICT, "_buffers": buffers, "_modules": p.EMPTY_DICT}
    state = p.dict_of({**parts, "_non_persistent_buffers_set": unsaved})
    ckpt = opened(p.once(VECTOR, 0) + p.glob("m", "Net") + p.EMPTY_TUPLE + p.NEWOBJ + state + p.BUILD)
    assert ckpt.whole_module and list(ckpt) == ["kept"] * kept
    assert len(ckpt.root["_buffers"]) == 50_000 + kept and len(ckpt.root["_non_persistent_buffers_set"]) == 50_000
    assert all(t.numpy().tolist() == list(range(16)) for t in ckpt.values())


# ---- names ----


def test_near_names_are_looked_for_among_few() -> None:
    """160,000 names of the same 60 letters: only a look at each place could tell how far they are from another."""
    shuffle, letters = random.Random(1), "abcdefghijklmnopqrstuvwxyzabcd"
    halves = ["".join(shuffle.sample(letters, 30)) for _ in range(400)]
    names = [letters * 2 + "x", *(a + b for a in halves for b in halves)]
    ckpt = opened(p.once(VECTOR, 0) + p.pairs([(p.text(n), p.get(0)) for n in names]))
    assert len(ckpt) == 160_001
    with pytest.raises(KeyError) as e:
        ckpt[letters * 2]
    assert e.value.args[0].startswith(f"no tensor '{letters * 2}'; near: '{names[0]}'")
