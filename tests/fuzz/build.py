"""Compiles the targets: with libFuzzer for `make fuzz`, with replay.c, by any compiler, for the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
TARGETS = sorted((HERE / "targets").glob("*.c"))
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wvla", "-Werror", f"-I{CSRC}", f"-I{HERE}"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Comparisons are not traced: the mutators know what is compared with, and the runs are twice as many.
COVERED = ["-fsanitize=fuzzer-no-link", "-fno-sanitize-coverage=trace-cmp"]
# Blocks come and go a hundred thousand times a second: the sanitizer need not remember each for long.
BRIEF = "malloc_context_size=1:quarantine_size_mb=1"


def clang() -> str | None:
    return next((c for c in ("clang", "clang-19", "clang-16", "clang-14") if shutil.which(c)), None)


def sanitizers(compiler: str) -> list[str]:
    """None where the compiler has no such library."""
    asked = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True)
    return SANITIZED if Path(asked.stdout.strip()).is_absolute() or "clang" in compiler else []


def compile_all(compiler: str, flags: list[str], sources: Iterable[Path], folder: Path) -> list[Path]:
    """One object file a source."""

    def compile_one(source: Path) -> Path:
        out = folder / f"{source.parent.name}-{source.stem}.o"
        subprocess.run([compiler, *STRICT, *flags, "-c", str(source), "-o", str(out)], check=True)
        return out

    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources))


def link(compiler: str, flags: list[str], objects: Iterable[Path], out: Path) -> Path:
    subprocess.run([compiler, *flags, *map(str, objects), "-lm", "-o", str(out)], check=True)
    return out


def fuzzers(compiler: str, folder: Path) -> dict[str, Path]:
    """Target -> program. Only the core and the targets are watched, not what checks them."""
    flags = ["-g", "-O2", *SANITIZED]
    watched = compile_all(compiler, [*flags, *COVERED], [*CSRC.glob("*.c"), *TARGETS], folder)
    others = compile_all(compiler, flags, [HERE / "check.c", HERE / "mutate.c"], folder)
    targets, core = watched[-len(TARGETS) :], watched[: -len(TARGETS)]
    return {
        source.stem: link(compiler, [*SANITIZED, "-fsanitize=fuzzer"], [target, *core, *others], folder / source.stem)
        for source, target in zip(TARGETS, targets, strict=True)
    }
