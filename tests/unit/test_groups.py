"""Groups of tensors: what `info` shows as one row."""

from __future__ import annotations

from pthparse.report.groups import Group, fold


def folded(*names: str) -> list[tuple[str, int]]:
    return [(g.name, g.copies) for g in fold((name, "kind", 2, 8) for name in names)]


def test_equal_neighbours_are_one() -> None:
    assert fold([(f"l.{i}.{leaf}", "kind", 2, 8) for i in range(3) for leaf in "ab"]) == [Group("l.0-2", 3, 6, 12, 48)]
    assert folded("l.0.a", "l.1.a", "l.3.a", "l.4.a") == [("l.0-1", 2), ("l.3-4", 2)], "one is missing"
    assert folded("l.0.a", "l.1.a", "l.2.b", "l.3.b") == [("l.0-1", 2), ("l.2-3", 2)], "others lie below"


def test_little_that_repeats_is_one_row() -> None:
    assert folded("l.0.a", "l.1.b", "l.2.c", "x") == [("l", 1), ("x", 1)]


def test_a_prefix_of_all_is_looked_below() -> None:
    assert folded("net.a.w", "net.b.w") == [("net.a", 1), ("net.b", 1)]
