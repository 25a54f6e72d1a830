"""Python source in a traced module: torch runs it on loading, so it may say no more than tracing writes."""

from __future__ import annotations

import re

from . import _core
from .dangers import Judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Words that a traced module has no use for, but as names of its own.
FOREIGN = re.compile(
    r"\b__\w+__\b|\b(?:exec|eval|compile|open|getattr|setattr|delattr|globals|locals|vars|breakpoint|os|sys|subprocess"
    r"|socket|shutil|importlib|builtins|pickle|marshal|ctypes|pathlib|lambda)\b|\btorch\.(?:load|save|hub|jit|package|utils)\b"
)
IMPORT = re.compile(r"(?:from ([\w.]+) )?import ([\w.]+)(?: as (\w+))?")
DEEPEST = 32  # modules in modules
PARTS = ("_modules", "_parameters", "_buffers")
USUAL = frozenset(("__getitem__", "__init__"))

# One function and nothing beside it, no statement over two lines: what is assigned is local, and `self` is the module.
HEAD = re.compile(r"\s*def forward\(self((?:, [^()\n]*)?)\)(?: -> [\w.\[\], ]+)?: *\n((?: {4}[^\n]*\n| {0,3}\n)*) *")
PARAMETER = re.compile(r", \*{0,2}(\w+)")
INNER = re.compile(r"\[[^\[\]]*\]")  # of an annotation
TARGETS = re.compile(r"\w+(?:, ?\w+)*,?")
# What would make names mean something else.
ELSEWHERE = re.compile(
    r"\b(?:global|nonlocal|def|class|lambda|del|for|with|as|match|_modules|_parameters|_buffers)\b|[\\#]|[\"\']{3}"
)
TEXT = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
BARE_SELF = re.compile(r"\bself\b(?!\.)|[\w.]\.self\b")
PATH = re.compile(r"(?<![\w.])self((?:\.\w+)+)")
EQUALS = re.compile(r"(?<![=!<>:])=(?!=)")


def suspicious(source: str, judge: Judge, graph: Any = None, body: Any = None) -> str | None:
    """The first word of Python source that does more than a traced module does: imports, calls of the interpreter.

    graph, body: the attributes of the module, to see what is named after `self`.
    """
    kept = []
    for line in source.splitlines():
        if re.search(r"\b(?:import|from)\b", line):
            found = IMPORT.fullmatch(line.strip())
            if found is None or judge.imports(*found.groups()):
                return " ".join(line.split()[:4])[:80]
        else:
            kept.append(line)
    text = "\n".join(kept) + "\n"
    for _ in range(DEEPEST):  # self.layers.0, as torch writes it
        text, n = re.subn(r'\bgetattr\(([\w.]+), "(\w+)"\)', r"\1.\2", text)
        if n == 0:
            break
    words = [m for m in FOREIGN.finditer(text) if m[0] not in USUAL]
    if words and source.isascii() and not re.search("[\r\f\v]", source):
        own = _own_names(text, graph, body)
        words = [m for m in words if m.start() not in own]
    return words[0][0] if words else None


def _own_names(text: str, graph: Any, body: Any) -> set[int]:
    """Where such words are parameters and variables of the one function, or parts of the module.

    The rules are narrower than Python's own: what does not look as torch writes it has no names of its own.
    """
    head = HEAD.fullmatch(text)
    if head is None or ELSEWHERE.search(head[2]):
        return set()
    given, n = head[1], 1
    while n:
        given, n = INNER.subn(_blank, given)
    lines = TEXT.sub(_blank, head[2])
    if re.search("[\"'\\[\\]{}\\\\#]", given) or re.search("[\"']", lines) or BARE_SELF.search(lines):
        return set()
    variables = _assigned(lines)
    if variables is None:
        return set()
    parameters = {m.start(1) + head.start(1): m[1] for m in PARAMETER.finditer(given)}
    variables |= set(parameters.values())
    if "self" in variables:
        return set()
    at, inside = head.start(2), _Inside(graph, body)
    bare = re.finditer(r"(?<![\w.])\w+", lines)
    places = set(parameters) | {at + m.start() for m in bare if m[0] in variables}
    for m in PATH.finditer(lines):
        parts, start = m[1].split(".")[1:], at + m.start(1) + 1
        for i, part in enumerate(parts[:DEEPEST]):
            if FOREIGN.fullmatch(part) and inside.has(parts[: i + 1]):
                places.add(start)
            start += len(part) + 1
    return places


def _blank(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _assigned(lines: str) -> set[str] | None:
    """The variables that statements begin with; None: a statement is more than a line, or sets something else."""
    names: set[str] = set()
    for line in lines.split("\n"):
        for statement in line.split(";"):
            depth, outer = 0, []
            for c in statement:
                depth += (c in "([{") - (c in ")]}")
                if depth < 0:
                    return None
                outer.append(" " if depth else c)
            if depth:
                return None
            *targets, _ = EQUALS.split("".join(outer))
            for target in (whole.partition(" : ")[0].strip() for whole in targets):
                if not TARGETS.fullmatch(target):
                    return None
                names.update(re.findall(r"\w+", target))
    return names


class _Inside:
    """The parts of a module that is pickled as a call with its attributes, as `self.name` finds them."""

    def __init__(self, graph: Any, body: Any) -> None:
        self.graph, self.body = graph, body
        self.known: dict[int, dict[Any, Any]] = {}

    def has(self, path: list[str]) -> bool:
        """Is there a submodule, parameter or buffer of this name, and nothing else of that name?"""
        attributes = self.dict_of(self.body)
        for i, name in enumerate(path):
            groups = [self.dict_of(attributes.get(own)) for own in PARTS]
            found = [(own, group[name]) for own, group in zip(PARTS, groups, strict=True) if name in group]
            if name in attributes or len(found) != 1 or not self.is_made(found[0][1]):
                return False
            if i + 1 == len(path):
                return True
            attributes = self.state_of(found[0][1]) if found[0][0] == "_modules" else {}
        return False

    def is_made(self, value: Any) -> bool:
        return isinstance(value, _core.Ref) and self.graph.kind(value.id) == _core.NODES["OBJECT"]

    def state_of(self, module: Any) -> dict[Any, Any]:
        """The attributes of a module of torch's own."""
        _, made_by, _, _, _, _, states = self.graph.call(module.id)
        if isinstance(made_by, _core.Ref) and self.graph.kind(made_by.id) == _core.NODES["PERSID"]:
            given = self.graph.persistent_id(made_by.id)  # a class beside its source, in legacy files
            parts = self.graph.items(given.id) if isinstance(given, _core.Ref) else []
            made_by = parts[1] if len(parts) == 4 and parts[0] == "module" else None
        if not isinstance(made_by, _core.Ref) or self.graph.kind(made_by.id) != _core.NODES["GLOBAL"]:
            return {}
        ours = self.graph.global_of(made_by.id)[0].startswith("torch.nn.modules.")
        return self.dict_of(states[0]) if ours and len(states) == 1 else {}

    def dict_of(self, value: Any) -> dict[Any, Any]:
        """What a mapping holds, by the texts among its keys."""
        if not isinstance(value, _core.Ref):
            return {}
        made = self.known.get(value.id)
        if made is None:
            made = self.known[value.id] = {k: v for k, v in self.graph.pairs(value.id) if isinstance(k, str)}
        return made
