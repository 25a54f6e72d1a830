"""Checkpoints of one training in the order of their steps: which step each is of, and how that is known."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .checkpoint import open as open_checkpoint
from .errors import escape
from .limits import Limits
from .record import Record

if TYPE_CHECKING:
    from .checkpoint import Names

KEYS = ("step", "global_step", "iteration", "epoch")  # where trainings keep it, among the root's own values
DIGITS = re.compile("[0-9]+")
NAMED = re.compile("(?:step|iter|iteration|epoch|checkpoint|ckpt)[-_=.]?([0-9]{1,18})(?![0-9])", re.IGNORECASE)
MOST = 1 << 63
GIVEN = "as they were given"


def each_of(sources: Any) -> list[Any]:
    """One source, or several."""
    several = isinstance(sources, Iterable) and not isinstance(sources, (str, bytes, os.PathLike, Mapping))
    return [*sources] if several and not hasattr(sources, "read") else [sources]


class Step(Record):
    """A checkpoint of a series: its path, or what stands for it, and its step."""

    path: str
    step: int


class Series:
    """Checkpoints in the order of their steps, opened one by one.

    Attributes
    ----------
    steps : tuple of Step
    basis : str
        How the steps are known: "by 'step' in each", 'by the numbers in their names', 'as they were given'.
    """

    def __init__(self, sources: Iterable[Any], limits: Limits | None = None) -> None:  # type: ignore[valid-type]
        given = list(sources)
        self._limits = limits
        # What can be read only once, or is open already, stays as it is; a file is opened when it is its turn.
        self._stack = ExitStack()
        self._sources: list[Any] = []
        try:
            values: list[Mapping[str, Any]] = []
            for source in given:
                if not isinstance(source, (str, os.PathLike, Mapping)):
                    source = self._stack.enter_context(open_checkpoint(source, limits=limits, mmap=False))
                self._sources.append(source)
                with ExitStack() as stack:
                    values.append(_values(self.open(len(values), stack)))
        except BaseException:
            self.close()
            raise
        paths = [_path(source) for source in self._sources]
        numbers, self.basis = _numbers(values, paths)
        order = sorted(range(len(given)), key=lambda i: numbers[i])
        self._sources = [self._sources[i] for i in order]
        self.steps = tuple(Step(paths[i] or f"in memory {i + 1}", numbers[i]) for i in order)

    def __len__(self) -> int:
        return len(self._sources)

    def open(self, i: int, stack: ExitStack, everything: bool = True) -> Names:
        """One of them, until the stack ends; or its model alone, where it can tell it from the rest."""
        found: Any = self._sources[i]
        if not isinstance(found, Mapping):
            found = stack.enter_context(open_checkpoint(found, limits=self._limits, mmap=False))
        model: Names = found if everything or not hasattr(found, "state_dict") else found.state_dict()
        return model

    def close(self) -> None:
        self._stack.close()


def _path(source: Any) -> str:
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else getattr(source, "path", None)
    return "" if path is None else os.fsdecode(path)


def _values(ckpt: Any) -> Mapping[str, Any]:
    """What may hold a step: the plain values of the root alone, which cost nothing."""
    found: Mapping[str, Any] | None = getattr(ckpt, "root_values", None)
    return found if found is not None else getattr(ckpt, "metadata", {})


def _numbers(values: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> tuple[list[int], str]:
    """A number for each, no two the same, and where it is from."""
    for key in KEYS:
        found = [_whole(v.get(key)) for v in values]
        if _apart(found):
            return found, f"by '{key}' in each"  # type: ignore[return-value]
    # The names of the files, then those of the folders that they are in.
    parts = [re.split(r"[/\\]", path.rstrip("/\\")) for path in paths]
    for place in (-1, -2):
        names = [p[place] if len(p) >= -place else "" for p in parts]
        if len(names) == 1:
            named = NAMED.findall(names[0])
            if named:
                return [int(named[-1])], f"by the number in its name, '{escape(names[0])}'"
            continue
        runs = [DIGITS.findall(name) for name in names]
        for column in range(min(map(len, runs), default=0)):
            found = [int(run[column]) if len(run[column]) <= 18 else None for run in runs]
            if _apart(found):
                return found, "by the numbers in their names"  # type: ignore[return-value]
    return list(range(len(paths))), GIVEN


def _apart(found: Sequence[int | None]) -> bool:
    return bool(found) and None not in found and len({*found}) == len(found)


def _whole(value: Any) -> int | None:
    """A number of steps; safetensors have texts alone."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    return value if type(value) is int and 0 <= value < MOST else None
