"""How far a verb has come: one line on stderr, if that is a terminal and the work takes longer than a second."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from ..wording import brief, cells, cut
from .screen import clean, on_terminal, width
from .text import BAR, bar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

PATIENCE = 1.0  # seconds without a word
EVERY = 0.1  # seconds between two of them


class Bar:
    """Drawn by `progress`, which is None where nobody would see it; gone when the work is done."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.start = self.last = time.monotonic()
        self.drawn = False
        seen = on_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
        self.progress: Callable[[int, int], None] | None = self._draw if seen else None

    def _draw(self, done: int, total: int) -> None:
        now = time.monotonic()
        passed = now - self.start
        if passed < PATIENCE or now - self.last < EVERY or total <= 0:
            return
        self.last, self.drawn = now, True
        rate = f"{brief(int(done / passed))}/s"
        told = f"  [{bar(done, total):{BAR}}] {100 * done // total:3d} %  {rate}"
        room = (width(sys.stderr) or 80) - cells(told) - 1
        print(f"\r\x1b[K{cut(clean(self.path, sys.stderr), max(5, room))}{told}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self.drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
