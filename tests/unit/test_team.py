"""Jobs that threads take one after the other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pthparse import team
from pthparse.team import work_off


@pytest.mark.parametrize("threads", [1, 3, None])
def test_each_job_is_done_once(threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "ALONE", 1)
    done: list[int] = []
    told: list[tuple[int, int]] = []

    def do(job: int, _: threading.Event) -> int:
        done.append(job)
        return job

    work_off(iter(range(1, 101)), do, 5050, threads, lambda *now: told.append(now))
    assert sorted(done) == list(range(1, 101))
    assert told[-1] == (5050, 5050) and told == sorted(told)


def test_few_bytes_need_no_threads() -> None:
    seen: set[int] = set()

    def do(job: int, _: threading.Event) -> int:
        seen.add(threading.get_ident())
        return 1

    work_off(iter(range(9)), do, team.ALONE - 1, 4, None)
    assert seen == {threading.get_ident()}


def test_one_that_fails_ends_the_others() -> None:
    ended = threading.Event()

    def do(job: Any, stopped: threading.Event) -> int:
        if job == 0:
            raise ValueError("no")
        assert stopped.wait(30)  # or this test fails for it
        ended.set()
        return 0

    with pytest.raises(ValueError, match="no"):
        work_off(iter([1, 0, 2, 3]), do, team.ALONE, 2, None)
    assert ended.is_set()


def test_jobs_that_cannot_be_made() -> None:
    def jobs() -> Any:
        yield 1
        raise KeyError("gone")

    for threads in (1, 3):
        with pytest.raises(KeyError, match="gone"):
            work_off(jobs(), lambda job, _: 1, team.ALONE, threads, None)
