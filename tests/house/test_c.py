"""The rules of the house for C, read out of what the compiler makes: no I/O, no globals, no recursion."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import pthparse._core

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
SOURCES = sorted(CSRC.glob("*.c"))
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]
# All that the core may ask of the C library. It reads no file, prints nothing, and never ends the process.
ALLOWED = {"malloc", "realloc", "free", "memcpy", "memmove", "memset", "memcmp", "memchr", "strlen", "strcmp"}
MATHEMATICS = {"sqrt", "hypot", "ldexp"}  # of the kernels alone
ONLY_IN_THE_ARENA = {"malloc", "realloc", "calloc", "free"}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("objects")
    out = {}
    for source in SOURCES:
        out[source.stem] = folder / f"{source.stem}.o"
        flags = [
            "-std=c11",
            "-O1",
            "-fno-inline",
            "-fno-stack-protector",
            "-U_FORTIFY_SOURCE",
            "-fno-optimize-sibling-calls",
        ]
        subprocess.run([COMPILER, *flags, "-c", str(source), "-o", str(out[source.stem])], check=True)
    return out


def symbols(file: Path, *flags: str) -> list[tuple[str, str]]:
    """(kind, name) as nm gives them."""
    lines = subprocess.run(["nm", *flags, str(file)], capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split() for line in lines]
    return [(r[-2], r[-1].split("@")[0]) for r in rows if len(r) >= 2]


def test_every_name_that_leaves_a_file_is_prefixed(objects: dict[str, Path]) -> None:
    for file in objects.values():
        foreign = [n for _, n in symbols(file, "-g", "--defined-only") if not n.startswith("pth_")]
        assert foreign == [], file.name


def test_the_c_library_is_asked_for_little(objects: dict[str, Path]) -> None:
    for name, file in objects.items():
        wanted = {n for kind, n in symbols(file, "-u") if not n.startswith(("pth_", "_GLOBAL_OFFSET"))}
        allowed = ALLOWED if name == "arena" else ALLOWED - ONLY_IN_THE_ARENA
        allowed |= MATHEMATICS if name in ("stats", "pair") else set()
        assert wanted <= allowed, name


def test_nothing_writable_is_shared(objects: dict[str, Path]) -> None:
    for name, file in objects.items():
        writable = [(kind, n) for kind, n in symbols(file) if kind in "dDbBC"]
        # Tables of pointers are filled in once, by the loader, and read-only from then on.
        assert [n for _, n in writable if not is_relocated_table(file, n)] == [], name


def is_relocated_table(file: Path, name: str) -> bool:
    text = subprocess.run(["objdump", "-t", str(file)], capture_output=True, text=True, check=True).stdout
    return any(line.split()[-1] == name and ".data.rel.ro" in line for line in text.splitlines() if line.split())


@pytest.fixture(scope="module")
def calls(objects: dict[str, Path]) -> dict[str, set[str]]:
    """Function -> functions that it calls, of the whole core, out of the machine code."""
    graph: dict[str, set[str]] = {}
    for file in objects.values():
        text = subprocess.run(
            ["objdump", "-dr", "--no-show-raw-insn", str(file)], capture_output=True, text=True, check=True
        )
        current = ""
        for line in text.stdout.splitlines():
            if start := re.match(r"[0-9a-f]+ <([^>+]+)>:", line):
                current = start[1]
                graph.setdefault(current, set())
            elif target := re.search(r"\b(?:call|bl)q?\s.*<([^>+]+)>", line) or re.search(
                r"R_\w+(?:PLT32|CALL26)\s+([\w.]+)", line
            ):
                graph[current].add(target[1].split("-")[0].split("+")[0])
    return graph


def test_no_recursion(calls: dict[str, set[str]]) -> None:
    assert len(calls) > 100 and sum(map(len, calls.values())) > 200
    state: dict[str, int] = {}
    for start in calls:
        stack = [(start, iter(sorted(calls[start])))]
        if start in state:
            continue
        state[start] = 1
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[name] = 2
                stack.pop()
            elif following in calls and state.get(following) != 2:
                assert state.get(following) != 1, f"recursion: {[n for n, _ in stack]} -> {following}"
                state[following] = 1
                stack.append((following, iter(sorted(calls[following]))))


def test_the_module_exports_its_entry_alone() -> None:
    if sys.platform != "linux" or pthparse._core.SANITIZED:
        return
    exported = {n for kind, n in symbols(Path(pthparse._core.__file__), "-D", "--defined-only") if kind in "TDBR"}
    assert exported == {"PyInit__core"}


@pytest.mark.parametrize("path", [*SOURCES, *sorted(CSRC.glob("*.h"))], ids=lambda f: f.name)
def test_every_header_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    if path.suffix == ".h":
        assert text.startswith(f"/* {path.name} - "), "what it is, in its first line"
    else:
        first = next(line for line in text.splitlines() if line.startswith("#include"))
        own = path.stem.split("_")[0]  # kernel_avx2.c: of kernel.h
        assert first == f'#include "{own}.h"', "its own header first"
