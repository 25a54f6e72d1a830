"""What a checkpoint holds beside tensors: values as Python and torch load them, their paths, and answers as records."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import json
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.judge import loaded, saved
from torch import nn

import pthparse

LEGACY = {"_use_new_zipfile_serialization": False}
CONTAINERS = pytest.mark.parametrize(
    "how",
    [{}, {"pickle_protocol": 4}, LEGACY, {**LEGACY, "pickle_protocol": 5}],
    ids=["zip", "zip4", "legacy", "legacy5"],
)
PROTOCOLS = pytest.mark.parametrize("protocol", range(6))


# ---- paths of plain values ----


@CONTAINERS
def test_paths_of_keys_that_are_no_text(how: dict[str, Any]) -> None:
    """Small numbers, None and truth read as they are printed; other keys go by their place in the dict."""
    obj = {
        "n": {7: 1, -3: 2, None: 3, False: 4, 1 << 62: 5, "text": 6},
        "o": {(1, 2): "tuple", 2.5: "float", (1, (2, "x")): "nested", 1 << 70: "large", b"k": "bytes"},
    }
    ckpt = pthparse.open(saved(obj, **how))
    assert ckpt.root == loaded(saved(obj, **how)) == obj
    assert dict(ckpt.metadata) == {
        **{"n/7": 1, "n/-3": 2, "n/None": 3, "n/False": 4, f"n/{1 << 62}": 5, "n/text": 6},
        **{f"o/<key {i}>": value for i, value in enumerate(obj["o"].values())},
    }


@CONTAINERS
def test_paths_that_read_the_same_are_kept_apart(how: dict[str, Any]) -> None:
    obj = {1: 10, "1": 20, "a/b": 30, "a": {"b": 40}, "m": {None: 50, "None": 60, "x": {"y": 70}, "x/y": 80}}
    ckpt = pthparse.open(saved(obj, **how))
    assert list(ckpt.metadata.items()) == [
        *[("1", 10), ("1#2", 20), ("a/b", 30), ("a/b#2", 40)],
        *[("m/None", 50), ("m/None#2", 60), ("m/x/y", 70), ("m/x/y#2", 80)],
    ]
    assert ckpt.root == obj


def test_a_path_that_looks_told_apart_is_kept_too() -> None:
    ckpt = pthparse.open(saved({"a/b#2": 0, "a/b": 1, "a": {"b": 2}}))
    assert dict(ckpt.metadata) == {"a/b#2": 0, "a/b": 1, "a/b#3": 2}


def test_metadata_of_a_branch() -> None:
    model = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    obj = {"optimizer": optimizer.state_dict(), "optimizers": 3, "m": {1: "int", "1": "text", "t": torch.ones(2)}}
    ckpt = pthparse.open(saved(obj))
    branch = ckpt.group("optimizer")
    theirs = loaded(saved(obj))["optimizer"]["param_groups"][0]
    assert branch.metadata["param_groups/0/lr"] == theirs["lr"] == 0.5
    assert branch.metadata["param_groups/0/betas/1"] == theirs["betas"][1]
    below = branch.group("param_groups")
    assert below.metadata["0/eps"] == theirs["eps"]
    assert dict(below.metadata) == {
        name.removeprefix("param_groups/"): value
        for name, value in branch.metadata.items()
        if name.startswith("param_groups/")
    }
    assert set(branch.metadata) == {
        name.removeprefix("optimizer/") for name in ckpt.metadata if name.startswith("optimizer/")
    }
    assert list(branch) == [f"state/{i}/{name}" for i in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")]
    assert dict(ckpt.group("m").metadata) == {"1": "int", "1#2": "text"} and list(ckpt.group("m")) == ["t"]
    assert dict(ckpt.group("none").metadata) == {} and list(ckpt.group("none")) == []


texts = st.text("ab/ 1", max_size=3)
keys = st.one_of(
    texts,
    st.integers(-2, 2),
    st.none(),
    st.floats(allow_nan=False),
    st.tuples(st.integers(), texts),
    st.binary(max_size=2),
)
leaves = st.one_of(st.integers(), st.text(max_size=5), st.none(), st.booleans(), st.binary(max_size=4))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(keys, inner, max_size=5),
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(texts, inner, max_size=3).map(collections.OrderedDict),
    ),
    max_leaves=20,
)


def leaves_by_path(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """What the paths promise, said once more: every leaf, by the keys on the way."""
    if isinstance(value, dict) and value:
        found = []
        for i, (key, child) in enumerate(value.items()):
            part = key if isinstance(key, str) else str(key) if key is None or isinstance(key, int) else f"<key {i}>"
            found += leaves_by_path(child, (*path, part))
        return found
    if isinstance(value, (list, tuple)) and value:
        return [leaf for i, child in enumerate(value) for leaf in leaves_by_path(child, (*path, str(i)))]
    return [("/".join(path), value)]


def told_apart(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    times: collections.Counter[str] = collections.Counter()
    out = []
    for path, value in pairs:
        times[path] += 1
        out.append((path if times[path] == 1 else f"{path}#{times[path]}", value))
    return out


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=2), trees, max_size=4), st.integers(0, 5), st.booleans())
@settings(max_examples=200, deadline=None)
def test_metadata_is_every_leaf_by_its_path(root: dict[str, Any], protocol: int, by_torch: bool) -> None:
    data = saved(root, pickle_protocol=max(2, protocol)) if by_torch else pickle.dumps(root, protocol)
    theirs = loaded(data) if by_torch else pickle.loads(data)
    ckpt = pthparse.open(data)
    expected = told_apart(leaves_by_path(theirs)) if theirs else [("", {})]
    assert list(ckpt.metadata.items()) == expected
    assert [type(v) for v in ckpt.metadata.values()] == [type(v) for _, v in expected]
    for head in theirs:
        below = [(name[len(head) + 1 :], v) for name, v in expected if name.startswith(f"{head}/")]
        assert list(ckpt.group(head).metadata.items()) == below


# ---- values ----

HERE = pathlib.Path("/data/run 1/model.pth")
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30), "IST")
WEST = datetime.timezone(-datetime.timedelta(hours=3, seconds=1))
T = torch.arange(3.0)


@PROTOCOLS
def test_paths_of_files_are_text(protocol: int) -> None:
    posix = [HERE, pathlib.Path("a"), pathlib.PurePosixPath("a/../b"), pathlib.PurePosixPath("//a"), pathlib.Path()]
    windows = [pathlib.PureWindowsPath(p) for p in ("C:\\a\\b.pt", "C:\\", "C:a", "\\\\host\\share\\x", "a\\b", ".")]
    obj = {"paths": [*posix, *windows], "again": posix[0]}
    root = pthparse.open(pickle.dumps(obj, protocol)).root
    assert root == {"paths": [str(p) for p in obj["paths"]], "again": str(HERE)}


def test_concrete_windows_paths_are_text() -> None:
    """What a script on Windows saves is a WindowsPath, which other systems cannot even make."""
    data = pickle.dumps({"p": pathlib.PureWindowsPath("C:\\a", "b")}, 2).replace(b"PureWindowsPath", b"WindowsPath")
    assert b"\nWindowsPath\n" in data
    assert pthparse.open(data).root == {"p": "C:\\a\\b"}


@CONTAINERS
def test_paths_of_files_beside_tensors(how: dict[str, Any]) -> None:
    ckpt = pthparse.open(saved({"args": {"out": HERE, "old": pathlib.PureWindowsPath("D:\\x")}, "w": T}, **how))
    assert dict(ckpt.metadata) == {"args/out": str(HERE), "args/old": "D:\\x"}


TIMES: list[Any] = [
    *(EAST, WEST, datetime.UTC, datetime.timezone(datetime.timedelta(0), "Z")),
    datetime.datetime(2024, 2, 29, 13, 59, 1, 123456, EAST),
    datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=WEST),
    *(datetime.time(23, 59, 59, 999999, EAST), datetime.time(1, 2, tzinfo=datetime.UTC), datetime.time(0)),
    datetime.time(2, 30, tzinfo=WEST, fold=1),
]


def same_time(ours: Any, theirs: Any) -> None:
    """Equality of times looks neither at the name of their zone nor at the fold."""
    assert type(ours) is type(theirs) and ours == theirs and repr(ours) == repr(theirs)
    if not isinstance(theirs, datetime.timezone):
        assert (ours.tzinfo, ours.fold) == (theirs.tzinfo, theirs.fold)
        assert ours.tzname() == theirs.tzname()
    else:
        assert ours.tzname(None) == theirs.tzname(None)


@PROTOCOLS
@pytest.mark.parametrize("value", TIMES, ids=repr)
def test_times_with_zones(value: Any, protocol: int) -> None:
    data = pickle.dumps({"v": value, "w": T}, protocol)
    same_time(pthparse.open(data).root["v"], pickle.loads(data)["v"])
    how = {"pickle_protocol": max(2, protocol)}
    same_time(pthparse.open(saved({"v": value}, **how)).root["v"], loaded(saved({"v": value}, **how))["v"])


zones = st.builds(
    datetime.timezone,
    st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
    st.text("ABé+1", min_size=1, max_size=5),
)


@given(
    st.one_of(
        zones,
        st.datetimes(timezones=st.one_of(st.none(), zones)),
        st.times(timezones=st.one_of(st.none(), zones)),
        st.timedeltas(),
        st.dates(),
    ),
    st.integers(0, 5),
)
@settings(max_examples=200, deadline=None)
def test_any_time(value: Any, protocol: int) -> None:
    data = pickle.dumps([value], protocol)
    ours, theirs = pthparse.open(data).root[0], pickle.loads(data)[0]
    assert type(ours) is type(theirs) and ours == theirs and repr(ours) == repr(theirs)


@PROTOCOLS
@pytest.mark.parametrize("value", [np.str_(""), np.str_("é\n"), np.bytes_(b""), np.bytes_(b"x")], ids=repr)
def test_text_scalars_of_numpy(value: Any, protocol: int) -> None:
    data = pickle.dumps({"v": value}, protocol)
    ours, theirs = pthparse.open(data).root["v"], pickle.loads(data)["v"]
    assert type(ours) is type(theirs) and ours == theirs and ours.dtype == theirs.dtype


def objects(*shape: int) -> np.ndarray:
    """Of every kind that may stand in an array of objects."""
    out = np.empty(shape, object)
    kinds = [1, "text", None, [2, {"k": 3}], 1 << 80, b"raw", (4, "x"), 0.5, True, {}]
    out.reshape(-1)[:] = [kinds[i % len(kinds)] for i in range(out.size)]
    return out


@PROTOCOLS
@pytest.mark.parametrize("shape", [(1,), (4,), (2, 3), (3, 1), (2, 1, 5)], ids=str)
def test_arrays_of_objects_are_nested_lists(shape: tuple[int, ...], protocol: int) -> None:
    data = pickle.dumps({"v": objects(*shape), "after": 1}, protocol)
    ours, theirs = pthparse.open(data).root, pickle.loads(data)
    assert ours == {"v": theirs["v"].tolist(), "after": 1} and type(ours["v"]) is list


@CONTAINERS
def test_tensors_in_an_array_of_objects(how: dict[str, Any]) -> None:
    array = np.empty(2, object)
    array[:] = [{"w": T}, [T, "end"]]
    ckpt = pthparse.open(saved({"v": array}, **how))
    first, second = ckpt.root["v"]
    assert first["w"].numpy().tolist() == second[0].numpy().tolist() == [0, 1, 2] and second[1] == "end"


@CONTAINERS
def test_ordered_dicts_keep_class_order_and_odd_keys(how: dict[str, Any]) -> None:
    obj = collections.OrderedDict([("z", 1), (3, [2]), (None, collections.OrderedDict(b=1, a=T)), ((1, "x"), {})])
    obj.move_to_end("z")
    ckpt = pthparse.open(saved(obj, **how))
    theirs = loaded(saved(obj, **how))
    root = ckpt.root
    assert type(root) is collections.OrderedDict and list(root) == list(theirs) == [3, None, (1, "x"), "z"]
    assert type(root[None]) is collections.OrderedDict and list(root[None]) == ["b", "a"]
    assert root[None]["a"].numpy().tolist() == theirs[None]["a"].tolist()
    assert {k: root[k] for k in (3, (1, "x"), "z")} == {k: theirs[k] for k in (3, (1, "x"), "z")}


# ---- answers are records ----


class Net(nn.Module):
    """A class whose source goes into a legacy file."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.two = nn.Linear(2, 2)
        self.two.weight = self.one.weight


def records() -> dict[str, Any]:
    zipped, legacy = pthparse.open(saved(Net())), pthparse.open(saved(Net(), **LEGACY))
    twins = pthparse.open(saved({"a/b": T, "a": {"b": T}}))
    return {
        "Storage": zipped["two.weight"].storage,
        "Member": zipped.members[0],
        "Global": zipped.globals[0],
        "Writer": zipped.writer,
        "Finding": twins.findings[0],
        "ClassSource": legacy.sources[0],
    }


def plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(plain(v) for v in value)
    return value is None or type(value) in (str, int, float, bool)


@pytest.mark.parametrize("name", ["Storage", "Member", "Global", "Writer", "Finding", "ClassSource"])
def test_answers_are_frozen_records(name: str) -> None:
    record, again = records()[name], records()[name]
    assert type(record).__name__ == name and dataclasses.is_dataclass(record)
    fields = [f.name for f in dataclasses.fields(record)]
    facts = record.to_dict()
    assert facts == {f: getattr(record, f) for f in fields} and list(facts) == fields
    assert all(plain(value) for value in facts.values())
    assert json.loads(json.dumps(facts)).keys() == facts.keys()
    for field in fields:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field, None)
    assert record.to_dict() == facts and hash(record) == hash(type(record)(**facts))
    assert record == again and record != dataclasses.replace(record, **{fields[0]: "other"})


def test_what_the_records_say() -> None:
    told = {name: record.to_dict() for name, record in records().items()}
    assert told["Storage"].keys() == {"key", "nbytes", "file_offset", "tensors", "dtype", "device"}
    storage = told["Storage"]
    assert (storage["nbytes"], storage["tensors"]) == (16, ("one.weight", "two.weight"))
    assert (storage["dtype"], storage["device"]) == ("float32", "cpu")
    assert (told["Member"]["name"], told["Member"]["role"]) == ("archive/data.pkl", "pickle")
    net = {"module": __name__, "name": "Net", "uses": 1, "member": "archive/data.pkl"}
    assert {k: told["Global"][k] for k in net} == net
    assert (told["Writer"]["text"], told["Writer"]["protocol"]) == ("torch 2.7 or later", 2)
    assert (told["Finding"]["code"], told["Finding"]["severity"]) == ("names-collide", "note")
    assert told["ClassSource"]["cls"] == f"{__name__}.Net" and told["ClassSource"]["file"] == __file__
    assert told["ClassSource"]["text"].startswith("class Net(nn.Module):\n")
