"""Without torch, as under another Python than the tests' own, what needs it as the judge is left out, and said so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

HERE = Path(__file__).parent


def needs_torch(path: Path) -> bool:
    return any(line.startswith(("import torch", "from torch", "from oracle")) for line in path.read_text().splitlines())


TESTS = sorted(HERE.rglob("test_*.py"))
LEFT_OUT = [] if importlib.util.find_spec("torch") else [f for f in TESTS if needs_torch(f)]
collect_ignore = [str(f) for f in LEFT_OUT]


def pytest_report_header() -> str:
    names = ", ".join(str(f.relative_to(HERE)) for f in LEFT_OUT)
    return f"without torch, so left out: {names}" if LEFT_OUT else "torch is the judge"
