"""The rules of the house for Python, kept by tests: arrows one way, nothing of the file executed, faces alone print."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pthparse"
ZOO = ROOT / "tests" / "data" / "zoo"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Floors of the house: a module imports from its own floor and those below. None: from anywhere.
FLOORS = {
    "errors": 0,
    "wording": 0,
    "record": 1,
    "team": 0,
    "values": 1,
    "_core": 1,
    "_kernels": 1,
    "limits": 2,
    "remote": 2,
    "source": 2,
    "checksums": 3,
    "info": 2,
    "stats": 2,
    "formats": 3,
    "graph": 3,
    "shards": 3,
    "sparse": 3,
    "directories": 2,
    "pieces": 3,
    "walks": 3,
    "mosaics": 3,
    "distribution": 3,
    "engine": 4,
    "tensor": 4,
    "contents": 5,
    "casts": 4,
    "outputs": 2,
    "writers": 5,
    "transfer": 5,
    "health": 5,
    "chunked": 5,
    "metadata": 5,
    "dangers": 5,
    "traced": 5,
    "literal": 5,
    "sarif": 5,
    "auditor": 6,
    "capacity": 6,
    "module_reprs": 5,
    "module_trees": 6,
    "kinds": 5,
    "inference": 6,
    "stated": 6,
    "modules": 6,
    "families": 6,
    "plan": 6,
    "checkpoint": 7,
    "folders": 7,
    "sharded": 7,
    "distributed": 7,
    "deepspeed": 7,
    "hashes": 7,
    "manifests": 5,
    "pairs": 6,
    "verifier": 7,
    "tour": 8,
    "audits": 8,
    "differ": 8,
    "series": 8,
    "drifter": 8,
    "events": 8,
    "notebook": 1,
    "converter": 8,
    "pages": 8,
    "report": 9,
    "cli": 10,
    "__main__": 11,
}
FACES = ("report", "cli", "__main__")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, int]]:
    """Modules of this package that a file imports at run time, with the line."""
    found = []
    depth = len(path.relative_to(PACKAGE).parts)
    tree = ast.parse(path.read_text())
    hidden = {
        id(n)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for n in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.level == 0 or id(node) in hidden:
            continue
        if node.level < depth:  # inside of a package of its own: formats, report
            continue
        names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
        found += [(name, node.lineno) for name in names if name in FLOORS]
    return found


def test_every_room_has_a_floor() -> None:
    assert {room(f) for f in MODULES} - {"__init__"} == set(FLOORS) - {"_core", "_kernels"}


@pytest.mark.parametrize("path", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    if room(path) == "__init__":
        return
    for name, lineno in imports(path):
        assert FLOORS[name] <= FLOORS[room(path)], f"{path.name}:{lineno} imports {name}"


def test_the_seam_imports_errors_alone() -> None:
    lines = (PACKAGE / "_core.pyx").read_text().splitlines()
    assert [line for line in lines if line.startswith(("from . ", "from .", "import "))] == [
        "from ._csrc cimport *",
        "import os",
        "from . import errors as _errors",
    ]


def test_what_frees_memory_keeps_what_it_lies_in() -> None:
    """The collector clears attributes before __dealloc__: the arena would be gone before its pools are given back."""
    text = (PACKAGE / "_core.pyx").read_text()
    classes = re.findall(r"^((?:@\S+\n)*)cdef class (\w+).*\n((?: .*\n|\n)*)", text, re.MULTILINE)
    freeing = {name: marks for marks, name, body in classes if "def __dealloc__" in body}
    assert len(freeing) >= 6 and set(freeing.values()) == {"@cython.no_gc_clear\n"}, freeing


BANNED = {"torch", "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "importlib", "runpy"}


@pytest.mark.parametrize(
    "path", [*MODULES, PACKAGE / "_core.pyx", PACKAGE / "_kernels.pyx"], ids=lambda f: str(f.relative_to(PACKAGE))
)
def test_nothing_is_imported_that_could_execute(path: Path) -> None:
    if path.suffix == ".pyx":
        assert not [n for n in BANNED if f"import {n}" in path.read_text()]
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not BANNED & {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            # The package's own names are looked up in a table of constants.
            allowed = path.name == "__init__.py" and node.module == "importlib"
            assert allowed or (node.module or "").split(".")[0] not in BANNED
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__")


@pytest.mark.parametrize("path", [f for f in MODULES if room(f) not in FACES], ids=lambda f: f.name)
def test_faces_alone_print(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "sys.exit", "exit", "warnings.warn")
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("sys.stdout", "sys.stderr")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


WATCH = f"""
import glob, sys
import pthparse
events = []
def read_all():
    for file in sorted(glob.glob({str(ZOO)!r} + "/*/*.pth")):
        with pthparse.open(file) as ckpt:
            assert ckpt.root is not None and ckpt.metadata is not None and ckpt.globals is not None
            for t in ckpt.values():
                if t.kind in ("dense", "quantized"):
                    t.numpy(); t.numpy(copy=True)
read_all()  # numpy, ml_dtypes and our own modules are imported on first use
sys.addaudithook(lambda event, args: events.append((event, args)))
read_all()
seen = list(events)
assert "torch" not in sys.modules
assert all(str(args[0]).endswith(".pth") for event, args in seen if event == "open")
assert all(args[0].split(".")[0] in ("numpy", "pthparse", "ml_dtypes") for event, args in seen if event == "import")
print(*sorted(set(event for event, _ in seen)))
"""


def test_nothing_of_a_file_is_executed_imported_or_opened() -> None:
    """Python's own audit events, while all of the zoo is read: the files are opened and mapped, and nothing more."""
    listing = {"glob.glob", "glob.glob/2", "os.scandir", "os.listdir"}
    harmless = {"open", "mmap.__new__", "import", "builtins.id", "sys._getframe"}
    assert set(python(WATCH).split()) <= listing | harmless


def test_import_is_light() -> None:
    """Even numpy waits until an array is asked for."""
    loaded = python("import sys, pthparse; print(*sorted(sys.modules))").split()
    assert not {"numpy", "rich", "ml_dtypes", "torch", "argparse", "mmap", "json"} & set(loaded)
    opened = f"import sys, pthparse; c = pthparse.open({str(ROOT / 'tests/data/lesson/lesson.pth')!r}); "
    loaded = python(opened + "[t.shape for t in c.values()]; print(*sorted(sys.modules))").split()
    assert not {"numpy", "rich", "ml_dtypes", "torch"} & set(loaded)


def test_the_command_starts_light() -> None:
    """Modules that take longer to import than most files to audit."""
    file = str(ROOT / "tests/data/lesson/lesson.pth")
    code = f"import sys; from pthparse.cli import main; main(['audit', {file!r}]); print(*sorted(sys.modules))"
    loaded = python(code).split()
    assert "pthparse.auditor" in loaded
    heavy = {"numpy", "dataclasses", "inspect", "json", "shutil", "typing", "threading"}
    unasked = {"pthparse.folders", "pthparse.formats.legacy", "pthparse.formats.strangers", "pthparse.formats.bare"}
    assert not (heavy | unasked) & set(loaded)


def test_public_names_are_there_and_documented() -> None:
    import pthparse

    assert sorted(pthparse.__all__) == pthparse.__all__
    assert set(pthparse.__all__) <= set(dir(pthparse))
    for name in pthparse.__all__:
        value = getattr(pthparse, name)
        assert value.__doc__, name
        assert value.__module__.startswith("pthparse"), name
    with pytest.raises(AttributeError):
        pthparse.no_such_name  # noqa: B018


@pytest.mark.parametrize("path", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
    name = ".".join(["pthparse", *path.relative_to(PACKAGE).with_suffix("").parts])
    if path.stem != "__main__":
        importlib.import_module(name.removesuffix(".__init__"))


def test_the_stub_names_what_the_seam_has() -> None:
    from pthparse import _core

    tree = ast.parse((PACKAGE / "_core.pyi").read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            cls = getattr(_core, node.name)
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    assert hasattr(cls, item.name), f"{node.name}.{item.name}"
        elif isinstance(node, ast.FunctionDef):
            assert hasattr(_core, node.name), node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assert hasattr(_core, node.target.id), node.target.id
    public = {n for n in vars(_core) if not n.startswith("_") and n not in ("os", "Buffer")}
    named = {n.name for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
    named |= {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    assert public <= named
