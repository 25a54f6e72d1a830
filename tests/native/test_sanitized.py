"""The tests that need no torch, on a build with the sanitizers: what the seam does with the core's memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import TESTS, needs_torch

ROOT = Path(__file__).parents[2]
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]
GROUPS = ("unit", "property", "security")
# What prints, draws, fetches or goes from file to file hands the core the same bytes as the rest does.
FACES = re.compile(
    r"test_(\w+_verb|audits|cli|completion|converter|deepspeed|differ|directories|distributed|drifter|events|explain|hashes"
    r"|models|modules|notebook|pages|pages_browser|plan|remote|screen|series|sharded|snapshots|team|traced)\.py"
)
SLOW = "not many_levels"  # of Python's own objects


def runtime() -> Path | None:
    """The library that must be loaded before Python itself."""
    asked = subprocess.run([COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True)
    found = Path(asked.stdout.strip())
    return found if asked.returncode == 0 and found.is_absolute() else None


def test_on_a_build_with_sanitizers(tmp_path: Path) -> None:
    library = runtime()
    if library is None:
        pytest.skip(f"{COMPILER} has no libasan.so")
    words = ["setup.py", "-q", "build", f"--build-base={tmp_path / 'base'}", f"--build-lib={tmp_path / 'lib'}"]
    env = {**os.environ, "PTHPARSE_SANITIZE": "1"}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    # test_audit measures memory, which the sanitizers multiply.
    chosen = [f for f in TESTS if f.parent.name in GROUPS and f.name != "test_audit.py" and not FACES.fullmatch(f.name)]
    tests = [str(f) for f in chosen if not needs_torch(f)]
    assert len(tests) >= 6
    # Leaks of the interpreter are not ours to find: the sweep looks for those of the core.
    env |= {"LD_PRELOAD": str(library), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    env |= {"PYTHONPATH": str(tmp_path / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
    code = (
        "import gc, sys, pytest; from pthparse._core import SANITIZED; assert SANITIZED; r = pytest.main(sys.argv[1:])"
    )
    options = ["-q", "-p", "no:cacheprovider", "-k", SLOW]
    run = [sys.executable, "-P", "-c", f"{code}; gc.collect(); sys.exit(r)", *options, *tests]
    done = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert " passed" in done.stdout
