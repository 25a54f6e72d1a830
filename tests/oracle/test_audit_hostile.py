"""torch as the judge of the audit: whatever it executes, out of a path or out of bytes, was called dangerous."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import torch
from forge.hostile import CATALOGUE

import pthparse

LARGEST = 3_000_000  # bytes of a file that is handed to torch
MEMORY = 8 << 30


def load(path: Path, by_bytes: bool) -> None:
    """In a process of its own, in the folder of the file: torch is allowed everything but to ask for help."""
    os.chdir(path.parent)
    signal.alarm(30)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for fd in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), fd)
    torch.load(io.BytesIO(path.read_bytes()) if by_bytes else path.name, weights_only=False)


def executed(folder: str) -> None:
    """Prints the numbers of the files that executed something, and how they were read."""
    for i, forged in enumerate(CATALOGUE):
        data = forged.build()
        if forged.row == 0 or len(data) > LARGEST:  # row 0 calls far more than a command
            continue
        for by_bytes in (False, True):
            path = Path(folder) / f"{i}-{by_bytes}" / "m.pth"
            path.parent.mkdir()
            path.write_bytes(data)
            child = os.fork()
            if child == 0:
                try:
                    load(path, by_bytes)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            if path.with_name("MARKER").exists():
                print(i, by_bytes)


def test_whatever_torch_executes_is_called_dangerous(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; from oracle.test_audit_hostile import executed as e; e(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-Wignore", "-c", code, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) > 150 and {by for _, by in rows} == {"False", "True"}
    for i, by_bytes in rows:
        data = CATALOGUE[int(i)].build()
        assert pthparse.audit(data).verdict == "dangerous", (CATALOGUE[int(i)].name, by_bytes)
