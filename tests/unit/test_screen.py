"""Texts on a terminal: none is wider than it, and what is cut or wrapped is what may be."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pthparse.report.screen import CLOSING, OPENING, clean, pad, width, wrap
from pthparse.report.text import LONGEST, Column, bar, blocks, first_of, fit, table, total
from pthparse.tour import en, zh
from pthparse.wording import cells, cut, first

WIDE = "\u6ce8\u610f\u529b"
WORDS = st.text(st.sampled_from("ab .,:[]0123456789" + WIDE + "\u0301"), max_size=200)


class Screen(io.StringIO):
    def __init__(self, encoding: str) -> None:
        super().__init__()
        self.told = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.told

    def isatty(self) -> bool:
        return True


@given(WORDS, st.integers(5, 100))
def test_what_is_cut_fits_and_keeps_its_ends(text: str, room: int) -> None:
    found = cut(text, room)
    assert cell_len(found) <= room and len(found) <= 4 * room
    if found != text:
        places = [i for i in range(len(found)) if found.startswith("...", i)]
        assert any(text.startswith(found[:i]) and text.endswith(found[i + 3 :]) for i in places)


@given(WORDS, st.integers(20, 100), st.integers(0, 10))
def test_what_is_wrapped_fits_and_loses_nothing(text: str, room: int, hang: int) -> None:
    rows = wrap(text, room, hang)
    assert all(cell_len(row) <= room for row in rows)
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")
    assert all(row.startswith(" " * hang) for row in rows[1:])


@pytest.mark.parametrize(
    "text", [WIDE * 100_000, "a" * 10**6, "a" + " " * 10**6, " " * 10**6, "1" * 10**6, "a " * 10**5]
)
def test_what_is_very_long_takes_no_longer(text: str) -> None:
    """Each step looks at a line of it: a step that looked at all of it would take minutes."""
    rows = wrap(text, 80)
    assert sum(map(len, rows)) - 2 * len(rows) <= len(text) and max(map(cells, rows), default=0) <= 80
    assert cells(cut(text, 40)) <= 40


@pytest.mark.parametrize("room", [20, 33, 80])
@pytest.mark.parametrize("lang", [en, zh], ids=["en", "zh"])
def test_lines_are_broken_where_they_may_be(lang: Any, room: int) -> None:
    for text in (t.replace("\n", " ") for t in lang.TEXTS.values()):
        rows = wrap(text, room, 0)
        assert all(cell_len(row) <= room for row in rows)
        assert "".join(rows).replace(" ", "") == text.replace(" ", "")
        if room >= 33 and not re.search(r"[^\s]{33}", text):
            assert not any(row[:1] in CLOSING - {*".,"} for row in rows[1:])
            assert not any(row[-1:] in OPENING for row in rows[:-1])


def test_chinese_is_broken_anywhere_but_at_marks() -> None:
    assert wrap("文件的大小，是", 10, 0) == ["文件的大", "小，是"]
    assert wrap("文（件的）大", 6, 0) == ["文（件", "的）大"]
    assert wrap("文字（件", 6, 0) == ["文字", "（件"] and wrap("文字abc", 5, 0) == ["文字", "abc"]
    assert wrap("共有 12 个张量", 9, 0) == ["共有", "12 个张量"]
    assert wrap("共有 12 个张量", 8, 0) == ["共有", "12 个张", "量"]


def test_a_number_stays_with_what_it_counts() -> None:
    assert wrap("a is 39.97 % of it", 10, 0) == ["a is", "39.97 % of", "it"]
    assert wrap("it is 12 x 3 = 36", 10, 0) == ["it is", "12 x 3 =", "36"]
    assert wrap("with the high byte first", 18, 0) == ["with the high byte", "first"]
    assert wrap("cut off, 1,234 bytes missing", 14) == ["cut off,", "  1,234 bytes", "  missing"]
    assert wrap("note: found at byte 12", 20) == ["note: found at", "  byte 12"]


def test_cells() -> None:
    assert (cells("abc"), cells(WIDE), cells("e\u0301"), cells("")) == (3, 6, 1, 0)
    assert pad(WIDE, 8) == WIDE + "  " and pad(WIDE, 8, True) == "  " + WIDE
    assert first(WIDE, 5) == WIDE[:2] and first("e" + "\u0301" * 1000, 3) == "e" + "\u0301" * 11


def test_clean() -> None:
    assert clean("a\x1b[31m\u202e", Screen("utf-8")) == "a\\x1b[31m\\u202e"
    assert (
        clean(WIDE, Screen("ascii")) == "\\u6ce8\\u610f\\u529b" and clean("\xe9" + WIDE, Screen("latin-1"))[0] == "\xe9"
    )


def test_width(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, found in (("132", 132), ("3", 20), ("", 80), ("x", 80)):
        monkeypatch.setenv("COLUMNS", told)
        monkeypatch.setattr("os.get_terminal_size", lambda: (_ for _ in ()).throw(OSError()))
        assert width(Screen("utf-8")) == found
    assert width(io.StringIO()) is None


COLUMNS = (
    Column("name", name=True),
    Column("shape"),
    Column("elements", right=True, spared=1),
    Column("bytes", right=True),
    Column("worst", right=True, spared=2),
    Column("why", prose=True),
    Column(""),
)


@given(
    st.tuples(*[st.integers(1, 300)] * 2, *[st.integers(1, 12)] * 3, st.integers(1, 300), st.just(24)),
    st.integers(48, 300),
)
def test_columns_fit_and_numbers_are_whole(widths: tuple[int, ...], room: int) -> None:
    found = fit(COLUMNS, widths, {6}, room)
    shown = {i: w for i, w in found.items() if w}
    assert total(shown) <= room and {0, 1, 3} <= shown.keys()
    assert all(shown[i] == widths[i] for i in (2, 3, 4) if i in shown)
    assert all(shown[i] >= min(widths[i], 12) for i in (0, 1))
    assert 5 in found, "prose is below its row where it is not beside it"
    if 4 in shown:
        assert 2 in shown, "the one that is spared first goes first"
    assert shown[0] <= LONGEST
    if sum(widths) + 12 <= room and widths[0] <= LONGEST:
        assert shown == dict(enumerate(widths))


def test_what_is_a_sum_of_others_is_dimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen("utf-8")
    table((Column("name", name=True), Column("why", prose=True)), [("(sum)", "x"), ("w", "y")], screen)
    assert screen.getvalue().splitlines()[1:] == ["\x1b[2m(sum)\x1b[0m  \x1b[2mx\x1b[0m", "w      \x1b[2my\x1b[0m"]


def test_bars_and_lists() -> None:
    assert (bar(1, 2), bar(0, 2), bar(1, 0)) == ("#" * 12, "", "")
    assert (blocks(0.5, 10), blocks(1, 3), blocks(0, 3)) == ("\u2588" * 5, "\u2588" * 3, "") and blocks(
        0.05, 10
    ) == "\u258c"
    assert (first_of(["a", "b"], 2), first_of(["a"], 1001)) == ("a, b", "a and 1,000 more")
