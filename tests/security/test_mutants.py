"""A few thousand of the mutants that `make mutants` makes by the million."""

from __future__ import annotations

from security import mutants

from pthparse._core import SANITIZED


def test_no_mutant_hurts() -> None:
    seen = mutants.endure(4000, seed=1)
    assert seen.worst < mutants.SECONDS
    assert SANITIZED or seen.megabytes < mutants.MEGABYTES  # sanitizers keep what was freed
    assert seen.opened > 100 and set(seen.verdicts) >= {"clean", "review", "malformed", "dangerous"}
