"""Source of traced modules: what a module calls its own, and what stays the interpreter's whatever stands around it."""

from typing import Any

import pytest
from forge import pickles as p

from pthparse import _core
from pthparse.dangers import Judge
from pthparse.limits import Limits
from pthparse.traced import suspicious

LINEAR = p.glob("torch.nn.modules.linear", "Linear")
MODULE = p.glob("torch.nn.modules.module", "Module")
SERIALIZATION = p.glob("torch", "serialization")


def new(cls: bytes, state: bytes) -> bytes:
    return cls + p.EMPTY_TUPLE + p.NEWOBJ + state + p.BUILD


def state(**groups: dict[str, bytes]) -> bytes:
    return p.dict_of({f"_{name}": p.dict_of(group) for name, group in groups.items()})


LEAF = new(LINEAR, p.dict_of({"in_features": p.integer(1)}))
INNER = new(MODULE, state(modules={"sys": LEAF}, parameters={"open": LEAF}))
TREE = state(modules={"os": INNER, "0": INNER, "x": LEAF}, buffers={"vars": LEAF})


def said(source: str, attributes: bytes = TREE) -> str | None:
    limits = _core.Limits(Limits())
    graph, error = _core.read_pickle(p.pickle(attributes), _core.Arena(limits), limits)
    assert error is None
    return suspicious(source, Judge(), graph, _core.Ref(graph.root))


def forward(*lines: str, given: str = "self, x") -> str:
    return f"\n\n\ndef forward({given}):\n" + "".join(f"    {line}\n" for line in lines) + "    return x\n    "


@pytest.mark.parametrize(
    "source",
    {
        "a parameter": forward("open_1 = open", given="self, open"),
        "with a type and a default": forward("y = sys + 1", given="self, x : List[int] = None, sys : int = 3"),
        "the rest of the parameters": forward("y = vars;  vars = None", given="self, x, *vars"),
        "a variable": forward("os = self.x(x);  x = None", "y = os + 1;  os = None"),
        "a variable with a type": forward("compile : torch.Tensor = x + 1", "y = compile"),
        "several": forward("open, sys, = torch.split(x, 1)", "y = open + sys"),
        "a submodule": forward("y = self.os(x)"),
        "inside of one": forward('y = getattr(self, "0").sys(x)', "z = self.os.open"),
        "a buffer": forward("y = x + self.vars"),
        "a name with underscores": forward("l__s___a = self.L__s___a__", "y = l__s___a"),
        "one in a text": forward('y = self.x(x, "a")', "z = self.os(y)"),
    }.items(),
    ids=lambda case: case[0],
)
def test_names_of_its_own(source: tuple[str, str]) -> None:
    assert said(source[1]) is None


EVIL = 'y = open("x", "w")'


@pytest.mark.parametrize(
    ("source", "word"),
    {
        "without such names": (forward(EVIL), "open"),
        "a default": (forward("y = x", given="self, x = open, open = None"), "open"),
        "a default in brackets": (forward(EVIL, given="self, x = [1, open]"), "open"),
        "a default in a text": (forward(EVIL, given='self, x = "a, open"'), "open"),
        "a lambda as default": (forward(EVIL, given="self, x = lambda a, open: 1"), "lambda"),
        "a type": (forward("y = x", given="self, x : os, os = None"), "os"),
        "the type of the result": ("def forward(self, x) -> os.x:\n    os = x\n", "os"),
        "behind the function": (forward(EVIL, given="self, open") + "\n" + EVIL, "open"),
        "before the function": (EVIL + forward("y = open", given="self, open"), "open"),
        "a second function": (forward("y = open", given="self, open") + "\ndef f(open):\n    " + EVIL, "open"),
        "a function in it": (forward("def f(open): pass", EVIL), "open"),
        "a class in it": (forward("class A: os = 1", "os.x"), "os"),
        "a global": (forward("global open", "open = 1", EVIL), "open"),
        "deleted": (forward("del open", EVIL, given="self, open"), "open"),
        "a loop": (forward("for open in x: pass", EVIL), "open"),
        "an argument on a line of its own": (forward("f(", "open = 1)", EVIL), "open"),
        "a bracket in a comment": (forward("f( # )", "open = 1) # (", EVIL), "open"),
        "a line that goes on": (forward("y = f(x) \\", "open = 1", EVIL), "open"),
        "a text of several lines": (forward('y = """', "open = 1", '"""', EVIL), "open"),
        "a text that is not closed": (forward("y = 'a", "open = 1", EVIL), "open"),
        "an end of line of another kind": (forward("y = 1 #\ropen = 1", EVIL), "open"),
        "a separator of another kind": (forward("y = 'a\u2028    open = 1'", EVIL), "open"),
        "an element": (forward("os[0] = 1", "os.x"), "os"),
        "an attribute": (forward("os.x = 1", "os.x"), "os"),
        "compared": (forward("open == 1", EVIL), "open"),
        "a part of something else": (forward("os = x", "y = torch.serialization.os.x"), "os"),
        "dunders": (forward("__x__ = self.os.__class__"), "__class__"),
        "a default that is called": (forward("y = x", given="self, open=open(1)"), "open"),
        "self is another": (forward("self = torch", "self.os(x)"), "os"),
        "self is given": (forward("self.os(x)", given="self, self"), "os"),
        "self is handed on": (forward("f(self)", "self.os(x)"), "os"),
        "parts are changed": (forward("m = self.x", "m._modules.clear()", "self.os(x)"), "os"),
        "parts are set": (forward("self.x = x", "self.os(x)"), "os"),
        "a part that is not there": (forward("self.sys(x)"), "sys"),
        "a part of a part that is not there": (forward("self.os.x.sys(x)"), "sys"),
        "a parameter's": (forward("self.os.open.sys(x)"), "sys"),
    }.values(),
    ids=lambda case: None,
)
def test_words_of_the_interpreter(source: str, word: str) -> None:
    assert said(source) == word


@pytest.mark.parametrize(
    "attributes",
    {
        "a module of Python": state(modules={"os": SERIALIZATION}),
        "an attribute before the part": p.dict_of({"os": SERIALIZATION, "_modules": p.dict_of({"os": LEAF})}),
        "two parts of one name": state(modules={"os": LEAF}, buffers={"os": SERIALIZATION}),
        "no dict": p.dict_of({"_modules": p.list_of([LEAF])}),
        "none": p.dict_of({}),
    }.values(),
    ids=lambda case: None,
)
def test_parts_that_are_something_else(attributes: bytes) -> None:
    assert said(forward("y = self.os(x)"), attributes) == "os"


@pytest.mark.parametrize(
    "inner",
    {
        "a stranger's class": new(p.glob("a.b", "C"), state(modules={"os": LEAF})),
        "made twice": new(MODULE, state(modules={"os": LEAF})) + state(modules={"os": SERIALIZATION}) + p.BUILD,
    }.values(),
    ids=lambda case: None,
)
def test_parts_of_parts_that_are_something_else(inner: bytes) -> None:
    assert said(forward("y = self.x.os(x)"), state(modules={"x": inner})) == "os"


def test_long_source_takes_no_longer() -> None:
    """Lines of blanks, names and paths by the hundred thousand: each is looked at once."""
    blanks = "    \n" * 100_000
    assert said(f"def forward(self, x):\n{blanks}open(1)\n") == "open"
    names = [f"os_{i} = self.os(x)" for i in range(20_000)]
    assert said(forward(*names, "os = x")) is None
    paths: list[Any] = [f"y = self.a{i}.os(x)" for i in range(20_000)]
    assert said(forward(*paths)) == "os"


def test_source_of_traced_modules() -> None:
    judge = Judge()
    forward = "\n\n\ndef forward(self, input : torch.Tensor):\n    input_1 = input\n"
    honest = forward + '    _0 = getattr(getattr(self.layers, "0"), "1")(input_1);  input_1 = None\n    return _0\n'
    assert suspicious(honest, judge) is None
    usual = "from math import inf\nimport torch\nimport torch.utils._pytree as pytree\nNoneType = type(None)"
    assert suspicious(f"{usual}\nfrom torchvision.ops import nms as nms\n{honest}", judge) is None
    for line in (
        "import os",
        "from os import system",
        "from torch import hub",
        "import torch as t",
        "import math, os",
        "x; import os",
    ):
        assert suspicious(f"{line}\n{honest}", judge) == line
    assert suspicious("from os import (\nsystem)", judge) == "from os import ("
    assert suspicious(honest + "    exec('x')", judge) == "exec"
    assert suspicious("x = ().__class__.__bases__", judge) == "__class__"
    assert suspicious("torch.load('x')", judge) == "torch.load"
    assert suspicious('getattr(torch, "load")("x")', judge) == "torch.load"
    assert suspicious("getattr(torch, 'lo' + 'ad')", judge) == "getattr"
