"""Modules as an attacker would write them: shared, endless, deep, wide and named to be slow.

Nothing is timed: what falls for one of these hangs or fills the memory.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import pickles as p
from forge.hostile import CATALOGUE
from forge.zips import build, checkpoint, torchscript

import pthparse
from pthparse.module_trees import DEEPEST
from pthparse.stated import walk_of
from pthparse.values import GlobalName, Opaque

ZOO = Path(__file__).parents[1] / "data" / "zoo"
DATA = np.arange(16, dtype=np.float32).tobytes()
VECTOR = p.vector("0", 16)
MODULE = p.glob("evil", "Module") + p.EMPTY_TUPLE + p.NEWOBJ
EMPTY = p.dict_of({"_parameters": p.EMPTY_DICT, "_buffers": p.EMPTY_DICT, "_modules": p.EMPTY_DICT}) + p.BUILD


def opened(root: bytes) -> pthparse.Checkpoint:
    return pthparse.open(checkpoint(p.pickle(root, 4), {"0": DATA}))


def module(modules: Mapping[str, bytes], cls: str = "Module", **more: bytes) -> bytes:
    """An object as torch pickles a module. more: `_parameters`, `_buffers` and whatever else it has."""
    state = {"_parameters": p.EMPTY_DICT, "_buffers": p.EMPTY_DICT, **more, "_modules": p.dict_of(modules)}
    return p.glob("evil", cls) + p.EMPTY_TUPLE + p.NEWOBJ + p.dict_of(state) + p.BUILD


def opaque(modules: dict[Any, Any]) -> Opaque:
    """The same as a value of a graph."""
    out = Opaque(GlobalName("evil", "Module"))
    out.state = {"_parameters": {}, "_buffers": {}, "_modules": modules}
    return out


def size(ckpt: pthparse.Checkpoint) -> int:
    return sum(1 for _ in ckpt.modules.walk())


def test_a_module_that_is_its_own_child() -> None:
    state = {"_parameters": p.dict_of({"w": VECTOR}), "_buffers": p.EMPTY_DICT, "_modules": p.dict_of({"me": p.get(1)})}
    root = opened(p.once(MODULE, 1) + p.get(1) + p.dict_of(state) + p.BUILD).modules
    assert root.parameters == ("w",) and root.params == 16
    (child,) = root.children
    assert (child.name, child.kind, child.children) == ("me", "Module", ())
    assert child.evidence == "it holds itself: not followed a second time"
    assert repr(root) == "Module(\n  (me): Module()\n)"


def test_a_cycle_of_modules() -> None:
    def state(other: int) -> bytes:
        return p.dict_of(
            {"_parameters": p.EMPTY_DICT, "_buffers": p.EMPTY_DICT, "_modules": p.dict_of({"x": p.get(other)})}
        )

    made = p.once(MODULE, 1) + p.once(MODULE, 2) + p.get(1) + state(2) + p.BUILD + p.POP + p.get(2) + state(1) + p.BUILD
    assert [m.name for m in opened(made).modules.walk()] == ["", "x", "x.x"]


def test_a_module_shared_twice_at_each_of_40_levels() -> None:
    """As a tree, 2^40 modules."""
    above = lambda below: module({"a": below, "b": below})  # noqa: E731
    ckpt = opened(p.doubled(MODULE + EMPTY, above, 40))
    assert 40 < size(ckpt) <= 1000 + ckpt.pickle_nbytes // 8 + 1
    assert any("shared so often" in m.evidence for m in ckpt.modules.walk())
    assert len(repr(ckpt.modules)) < 1 << 22


def test_nesting_of_a_hundred_thousand_levels() -> None:
    value = opaque({})
    for _ in range(100_000):
        value = opaque({"a": value})
    tree = walk_of(value, {}, 1 << 20, (), {}).tree
    assert len(tree.names) == DEEPEST + 1 and "more than 100 levels" in tree.said[-1].evidence
    while value.state["_modules"]:  # given back one by one
        value = value.state["_modules"]["a"]


def test_deep_nesting_in_a_file() -> None:
    shared = p.once(p.glob("evil", "Module"), 1) + p.once(p.EMPTY_DICT, 2)
    shared += b"".join(p.once(p.text(key), i) for i, key in enumerate(("_parameters", "_modules", "a"), 3))
    before = p.get(1) + p.EMPTY_TUPLE + p.NEWOBJ + p.EMPTY_DICT + p.MARK + p.get(3) + p.get(2) + p.get(4)
    before += p.EMPTY_DICT + p.get(5)
    ckpt = opened(shared + before * 10_000 + MODULE + EMPTY + (b"su" + p.BUILD) * 10_000)
    found = list(ckpt.modules.walk())
    assert len(found) == DEEPEST + 1 and found[-1].name == ".".join("a" * DEEPEST)
    assert "more than 100 levels" in found[-1].evidence
    assert repr(ckpt.modules).count("(a): ") == DEEPEST
    assert ckpt.modules.to_dict()["children"][0]["name"] == "a"


def test_deep_nesting_keeps_its_tensors() -> None:
    """What lies too deep is counted, and belongs to the deepest module that is told."""
    root = module({}, _parameters=p.dict_of({"w": VECTOR}))
    for _ in range(2 * DEEPEST):
        root = module({"a": root})
    ckpt = opened(root)
    (name,) = ckpt
    deepest = ckpt.modules.find(".".join("a" * DEEPEST))
    assert (*deepest.parameters, *deepest.buffers) == (name,) and ckpt.modules.params == 16


def test_names_of_many_components() -> None:
    names = {".".join("a" * 100_000): VECTOR, "." * 5000: VECTOR, "a..b": VECTOR, ".c": VECTOR, "/": VECTOR, "": VECTOR}
    ckpt = opened(p.dict_of(names))
    found = [n for m in ckpt.modules.walk() for n in (*m.parameters, *m.buffers)]
    assert sorted(found) == sorted(ckpt) and len(found) == 6
    assert max(m.name.count(".") for m in ckpt.modules.walk()) <= 2 * DEEPEST


def test_modules_whose_names_are_long() -> None:
    """A name of 100 kB at each of 100 levels: as many bytes of names as levels squared."""
    key, root = p.get(9), MODULE + EMPTY
    for _ in range(DEEPEST):
        below = p.pairs([(key, root)])
        state = p.dict_of({"_parameters": p.EMPTY_DICT, "_buffers": p.EMPTY_DICT})
        root = MODULE + state + p.MARK + p.text("_modules") + below + b"u" + p.BUILD
    ckpt = opened(p.once(p.text("k" * 100_000), 9) + root)
    assert sum(len(m.name) for m in ckpt.modules.walk()) <= (1 << 20) + 4 * ckpt.pickle_nbytes
    assert any("left out" in m.evidence for m in ckpt.modules.walk())
    names = {".".join(["k" * 2000] * level): VECTOR for level in range(1, 90)}
    ckpt = opened(p.dict_of(names))
    assert sum(len(m.name) for m in ckpt.modules.walk()) < (1 << 20) + 8 * sum(map(len, names))


def test_one_state_of_many_objects() -> None:
    """Many modules with one dict of many values: the core refuses it, and it is not looked at without end either."""
    state = {"_parameters": p.EMPTY_DICT, "_buffers": p.EMPTY_DICT, "_modules": p.EMPTY_DICT}
    state |= {f"v{i}": p.NONE for i in range(5000)}
    parts = {str(i): p.glob("evil", "M") + p.EMPTY_TUPLE + p.NEWOBJ + p.get(5) + p.BUILD for i in range(400)}
    with pytest.raises(pthparse.LimitError):
        opened(p.once(p.dict_of(state), 5) + module(parts))
    shared = {"_parameters": {}, "_buffers": {}, "_modules": {}, **{f"v{i}": None for i in range(5000)}}
    below = [opaque({}) for _ in range(400)]
    for one in below:
        one.state = shared
    root = opaque(dict(enumerate(below)))
    tree = walk_of(root, {}, 4000, (), {}).tree
    assert len(tree.names) == 401 and len(tree.said[1].config) == 64 and not tree.said[-1].config


def test_huge_values_in_a_configuration() -> None:
    wide = p.doubled(p.list_of([p.integer(1)] * 90), lambda x: p.list_of([x] * 90), 6)  # 90^7 numbers
    values = {"text": p.text("x" * 1_000_000), "many": p.list_of([p.NONE] * 1000), "wide": wide, "ok": p.integer(3)}
    values |= {"tuple": p.ints([1, 2]), "number": p.long_integer(10**400)}
    root = opened(module({}, "Linear", **values)).modules
    assert set(root.config) == {"text", "ok", "tuple", "number"}
    assert len(root.config["text"]) == 1003 and root.config["tuple"] == (1, 2)


def test_torchs_own_class_with_odd_attributes() -> None:
    """What a table prints of an object is as short as it must be, whatever its attributes are."""
    odd = {
        "in_features": p.text("\x1b[2J" + "y" * 10_000), "out_features": p.list_of([p.integer(1)] * 10_000),
        "bias": MODULE + EMPTY,
    }  # fmt: skip
    state = {"_parameters": p.NONE, "_buffers": p.list_of([]), "_modules": p.ints([1]), **odd}
    made = p.glob("torch.nn.modules.linear", "Linear") + p.EMPTY_TUPLE + p.NEWOBJ + p.dict_of(state) + p.BUILD
    root = opened(made).modules
    assert root.kind == "Linear" and root.children == () and len(root.text) < 3000
    assert "\x1b" not in root.text and "\x1b" not in repr(root)


@pytest.mark.parametrize("kind", ["ParameterList", "Conv2d", "LSTM", "LayerNorm", "Upsample", "GroupNorm", "Embedding"])
def test_torchs_own_class_without_attributes(kind: str) -> None:
    made = p.glob("torch.nn.modules.x", kind) + p.EMPTY_TUPLE + p.NEWOBJ
    state = {"_parameters": p.dict_of({"w": p.NONE}), "_modules": p.EMPTY_DICT, "training": p.text("yes")}
    root = opened(made + p.dict_of(state) + p.BUILD).modules
    assert root.kind == kind and root.text.startswith(f"{kind}(") and root.training is None


def test_a_list_of_parameters_that_is_shared() -> None:
    """Its text has thousands of lines, and a module holds it thousands of times."""
    names = [str(i) for i in range(3000)]
    unsaved = p.call(p.glob("__builtin__", "set"), p.list_of(map(p.text, names)))
    state = {"_buffers": p.dict_of({name: p.get(7) for name in names}), "_non_persistent_buffers_set": unsaved}
    state |= {"_parameters": p.EMPTY_DICT, "_modules": p.EMPTY_DICT}
    made = p.glob("torch.nn.modules.container", "ParameterList") + p.EMPTY_TUPLE + p.NEWOBJ + p.dict_of(state) + p.BUILD
    root = module({str(i): p.get(8) for i in range(4000)})
    ckpt = opened(p.once(VECTOR, 7) + p.once(made, 8) + root)
    assert len(ckpt) == 0 and len(ckpt.modules.children) == 4000
    assert len(repr(ckpt.modules)) < 1 << 28


def test_a_parameter_and_a_buffer_of_one_name() -> None:
    ckpt = opened(module({}, _parameters=p.dict_of({"w": VECTOR}), _buffers=p.dict_of({"w": VECTOR})))
    assert list(ckpt) == ["w", "w#2"]
    assert (ckpt.modules.parameters, ckpt.modules.buffers) == (("w",), ("w#2",))


def test_names_that_act_on_a_terminal() -> None:
    root = opened(module({"\x1b[31m": module({}, "\u202eevil"), "a.b": module({}), "/": module({})})).modules
    assert [m.name for m in root.children] == ["\x1b[31m", "a.b", "/"]
    assert repr(root).isascii() and "\x1b" not in repr(root)
    assert root.find("a.b").kind == "Module"


def test_a_list_of_modules_that_lies() -> None:
    """`_metadata` of a state dict is taken for a list of modules only if it names all that have tensors."""

    def state_dict(listed: bytes) -> bytes:
        tensors = p.MARK + p.text("a.w") + VECTOR + b"u"
        return p.ordered_dict() + tensors + p.dict_of({"_metadata": listed}) + p.BUILD

    names = {name: p.EMPTY_DICT for name in ("", "a", "a.drop", ".".join("z" * 100_000))}
    found = [m.name for m in opened(state_dict(p.dict_of(names))).modules.walk()]
    assert found[:3] == ["", "a", "a.drop"] and len(found) == 3 + DEEPEST
    for wrong in (p.dict_of({"b": p.EMPTY_DICT}), p.integer(3), p.pairs([(p.integer(1), p.NONE)])):
        assert [m.name for m in opened(state_dict(wrong)).modules.walk()] == ["", "a"]


def test_code_that_is_made_to_be_slow() -> None:
    """Constants are read by one pattern, line by line, each of at most 200 characters."""
    code = b"class A(Module):\n  x : Final[int] = 3\n  y : Final[Tuple[int, int]] = (1, 2)\n"
    code += b'  s : Final[str] = "zeros"\n  f : Final[float] = 1.5\n  n : Final[NoneType] = None\n'
    code += b"  z : Final[int] = " + b"(" * 190 + b"\n" + b"  w : Final[" * 5000 + b"\n  e : Final[int] = __import__\n"
    made = p.glob("__torch__", "A") + p.EMPTY_TUPLE + p.NEWOBJ + p.dict_of({"training": p.TRUE}) + p.BUILD
    root = pthparse.open(build(torchscript(p.EMPTY_TUPLE, p.pickle(made), **{"__torch__": code}))).modules
    assert dict(root.config) == {"x": 3, "y": (1, 2), "s": "zeros", "f": 1.5, "n": None}
    assert (root.kind, root.class_name, root.training) == ("A", "A", True)


def test_the_catalogue_of_hostile_files() -> None:
    """Of each file that opens, every tensor lies in one module; else it is an error of the family."""
    opened_files = 0
    for forged in (f for f in CATALOGUE if 27 <= f.row < 50 or 61 <= f.row < 70):  # of pickles and of tensors
        try:
            ckpt = pthparse.open(forged.build())
            root, family = ckpt.modules, ckpt.family
        except pthparse.PthError:
            continue
        opened_files += 1
        found = [name for m in root.walk() for name in (*m.parameters, *m.buffers)]
        assert sorted(found) == sorted(ckpt), forged.name
        assert repr(root) and family is None, forged.name
    assert opened_files > 50


def test_spoilt_models() -> None:
    """Bytes of the pickles of whole models changed at random: what still opens has each tensor in one module."""
    rng, opened_files = random.Random(0), 0
    files = [file.read_bytes() for file in sorted(ZOO.glob("*/whole_model.pth"))]
    for _ in range(200):
        data = bytearray(rng.choice(files))
        start = data.find(b"\x80\x02")
        for _ in range(rng.choice((1, 2, 4))):
            at = rng.randrange(start, min(start + 8000, len(data)))
            data[at] = rng.choice((rng.randrange(256), *b"(.0RbsutQq]})N\x81\x86jh2"))
        try:
            ckpt = pthparse.open(bytes(data))
            root = ckpt.modules
        except pthparse.PthError:
            continue
        opened_files += 1
        found = [name for m in root.walk() for name in (*m.parameters, *m.buffers)]
        assert sorted(found) == sorted(ckpt) and repr(root)
    assert opened_files > 50
