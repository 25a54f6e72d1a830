"""Hostile files in a series, and in a notebook: what leaves is a PthError or an answer, and nothing of them is HTML."""

from __future__ import annotations

from pathlib import Path

import pytest
from forge.hostile import CATALOGUE

import pthparse

LARGEST = 20_000  # bytes
EACH = 12  # of so many files one, in each of six tests


@pytest.mark.parametrize("start", range(0, EACH, 2))
def test_answers_or_errors_of_the_one_family(start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where a file that was executed would leave its mark
    followed = 0
    for forged in CATALOGUE[start::EACH]:
        data = forged.build()
        if len(data) > LARGEST:
            continue
        try:
            report = pthparse.drift([data, data], all=True)
        except pthparse.PthError:
            continue
        followed += 1
        assert all(x in (None, 0) for row in report.rows for x in row.change), forged.name
        with pthparse.open(data) as ckpt:
            shown = [ckpt._repr_html_(), *(t._repr_html_() for _, t in zip(range(8), ckpt.values(), strict=False))]
            shown += [ckpt.capacity()._repr_html_(), ckpt.stats()._repr_html_(), ckpt.audit()._repr_html_()]
        assert not any("<script" in html or "<img" in html for html in shown), forged.name
    assert followed > 10 and not [*tmp_path.iterdir()]
