"""Random object graphs through pickle and torch.save: our root is what Python itself loads."""

from __future__ import annotations

import collections
import copy
import datetime
import decimal
import fractions
import io
import pathlib
import pickle
import uuid
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.judge import raw, saved

import pthparse

PROTOCOLS = st.integers(0, 5)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(-(1 << 2100), 1 << 2100),
    st.floats(),
    st.text(),
    st.text(st.characters(), max_size=20),  # with lone surrogates
    st.binary(),
    st.complex_numbers(),
)
keys = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False), st.binary(max_size=9))
keys = st.one_of(keys, st.tuples(keys, keys), st.frozensets(st.integers(), max_size=3))


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(keys, inner, max_size=5),
        st.dictionaries(keys, inner, max_size=5).map(collections.OrderedDict),
        st.sets(keys, max_size=5),
        st.frozensets(keys, max_size=5),
        st.lists(inner, max_size=4).map(lambda x: collections.deque(x, maxlen=9)),
        st.lists(st.text(max_size=2)).map(collections.Counter),
        st.binary().map(bytearray),
        st.tuples(inner).map(lambda x: [x[0], x[0], {"again": x[0]}]),  # shared
    )


values = st.recursive(scalars, containers, max_leaves=25)


def same(a: Any, b: Any) -> bool:
    """Equal, with types and NaN."""
    if isinstance(b, torch.Tensor):
        return isinstance(a, pthparse.Tensor) and np.array_equal(a.numpy(), b.detach().numpy(), equal_nan=True)
    if type(a) is not type(b):
        return False
    if isinstance(b, dict):
        return len(a) == len(b) and all(
            same(x, y) and same(a[x], b[y]) for x, y in zip(a.keys(), b.keys(), strict=True)
        )
    if isinstance(b, (list, tuple, collections.deque)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(b, float):
        return a == b or (a != a and b != b)
    if isinstance(b, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    return bool(a == b)


def root_of(data: bytes) -> Any:
    return pthparse.open(data).root


@given(values, PROTOCOLS)
@settings(max_examples=400, deadline=None)
def test_pickled(value: Any, protocol: int) -> None:
    data = pickle.dumps([value], protocol)
    assert same(root_of(data), pickle.loads(data))


@given(values, st.booleans(), st.integers(2, 5))
@settings(max_examples=150, deadline=None)
def test_saved_by_torch(value: Any, zipped: bool, protocol: int) -> None:
    obj = {"value": value, "tensor": torch.arange(3.0)}
    data = saved(obj, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    assert same(root_of(data), obj)


@given(values)
@settings(max_examples=100, deadline=None)
def test_the_slow_pickler_says_the_same(value: Any) -> None:
    """pickle.py's own writer picks other opcodes and memo entries than the C one."""
    for protocol in range(6):
        out = io.BytesIO()
        pickle._Pickler(out, protocol).dump([value])  # type: ignore[attr-defined]
        assert same(root_of(out.getvalue()), [value])


OTHERS = [
    datetime.datetime(2024, 2, 29, 13, 59, 1, 123456),
    datetime.datetime(2024, 2, 29, 13, 59, fold=1, tzinfo=datetime.UTC),
    datetime.datetime(1999, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
    datetime.date(1, 1, 1),
    datetime.time(23, 59, 59, 999999),
    datetime.timedelta(-3, 7, 9),
    decimal.Decimal("1.50"),
    decimal.Decimal("-Infinity"),
    fractions.Fraction(-3, 7),
    slice(1, None, 2),
    range(3, 10, 2),
    ...,
    NotImplemented,
    collections.defaultdict(None, {"a": 1}),
    np.float32(1.5),
    np.int64(-7),
    np.bool_(True),
    np.complex64(1 + 2j),
    np.datetime64("2024-01-02T03:04"),
    np.timedelta64(5, "ms"),
    np.str_("text"),
    np.bytes_(b"raw"),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", OTHERS, ids=lambda v: f"{type(v).__name__}-{v!s:.20}")
def test_plain_objects(value: Any, protocol: int) -> None:
    data = pickle.dumps({"v": value}, protocol)
    mine, value = root_of(data)["v"], pickle.loads(data)["v"]
    assert type(mine) is type(value) and (mine is value or mine == value)
    if isinstance(value, datetime.datetime):
        assert (mine.fold, mine.tzinfo) == (value.fold, value.tzinfo)


ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(20)[::3],
    np.array(5.0),
    np.empty((0, 3)),
    np.arange(4, dtype=">f8"),
    np.array(["a", "bcd"]),
    np.array([b"x", b"yz"]),
    np.array([True, False]),
    np.array(["2024-01-01", "NaT"], "M8[D]"),
    np.array([1 + 2j]),
    np.arange(3, dtype=np.float16),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_numpy_arrays(array: np.ndarray, protocol: int) -> None:
    mine = root_of(pickle.dumps([array, array.dtype], protocol))
    assert mine[1] == array.dtype
    assert mine[0].dtype == array.dtype and mine[0].shape == array.shape
    assert mine[0].tobytes() == array.tobytes()
    assert mine[0].flags.f_contiguous == array.flags.f_contiguous or array.ndim < 2


def test_arrays_of_objects_are_lists_and_records_stay_opaque() -> None:
    objects = np.array([[1, "x"], [None, [2]]], object)
    root = root_of(pickle.dumps({"o": objects, "r": np.zeros(2, "i4,f4"), "n": 3}))
    assert root["o"] == [[1, "x"], [None, [2]]]
    assert root["r"].cls.endswith("_reconstruct")
    assert root["n"] == 3


def test_paths_are_text() -> None:
    windows = ["C:\\x\\y", "C:\\", "C:a", "a/b", "."]
    posix = ["/a/b", ".", "//x/y", "a//b"]
    paths = [*map(pathlib.PurePosixPath, posix), *map(pathlib.PureWindowsPath, windows)]
    assert root_of(pickle.dumps(paths)) == [str(path) for path in paths]


class Custom:
    """What a training script defines for itself."""

    def __init__(self) -> None:
        self.rate = 0.1
        self.inner = {"x": [1, 2]}


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a, self.b = 1, "two"


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize("protocol", range(6))
def test_unknown_classes_are_opaque(protocol: int) -> None:
    value = [Custom(), Point(1, 2), uuid.UUID(int=5), print]
    root = root_of(pickle.dumps(value, protocol))
    assert root[0].cls == f"{__name__}.Custom"
    assert root[0]["rate"] == 0.1 and root[0]["inner"] == {"x": [1, 2]}
    assert set(root[0].keys()) == {"rate", "inner"} and "rate" in root[0] and root[0].get("none", 3) == 3
    assert root[1].cls == f"{__name__}.Point"
    assert root[2]["int"] == 5
    assert str(root[3]) in ("builtins.print", "__builtin__.print")
    if protocol >= 2:
        assert root_of(pickle.dumps(Slotted(), protocol))["b"] == "two"


def test_cycles_can_be_made_printed_and_walked() -> None:
    a: list[Any] = [1]
    a.append({"self": a})
    obj = Custom()
    obj.me = obj  # type: ignore[attr-defined]
    ckpt = pthparse.open(forged_deep(100_000))
    assert len(repr(ckpt.root)) < 5000
    assert ckpt.metadata is not None
    root = root_of(pickle.dumps({"a": a, "o": obj}))
    assert root["a"][1]["self"] is root["a"] and root["o"]["me"] is root["o"]
    assert "Custom" in repr(root["o"]) and len(repr(root)) < 5000
    assert copy.copy(root["a"])[0] == 1
    assert pthparse.open(pickle.dumps({"a": a, "o": obj})).metadata["a/0"] == 1


def forged_deep(levels: int) -> bytes:
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


def test_shared_a_billion_times() -> None:
    """30 levels of a list that holds the one below twice: printed and walked in no time."""
    value: list[Any] = ["x"]
    for _ in range(60):
        value = [value, value]
    ckpt = pthparse.open(pickle.dumps(value))
    assert len(repr(ckpt.root)) < 5000
    assert len(ckpt) == 0


shapes = st.lists(st.integers(0, 4), max_size=4)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_views(data: st.DataObject) -> None:
    """Random sizes, strides and offsets, such as as_strided makes."""
    n = data.draw(st.integers(1, 60))
    dtype = data.draw(st.sampled_from([torch.float32, torch.int16, torch.float64, torch.bfloat16, torch.uint8]))
    base = torch.arange(n).to(dtype)
    size = data.draw(shapes)
    stride = [data.draw(st.integers(0, 6)) for _ in size]
    offset = data.draw(st.integers(0, n - 1))
    reach = offset + sum((s - 1) * d for s, d in zip(size, stride, strict=True)) if all(size) else offset
    if reach >= n:
        return
    view = base.as_strided(size, stride, offset)
    ours = pthparse.open(saved(view))[""]
    assert (ours.shape, ours.stride, ours.storage_offset) == (tuple(size), tuple(stride), offset)
    assert np.ascontiguousarray(ours.numpy()).tobytes() == raw(view)
    assert np.ascontiguousarray(ours.numpy(copy=True)).tobytes() == raw(view)
