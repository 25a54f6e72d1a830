"""Threads that do one work together. What they do drops the GIL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

TICK = 0.1  # seconds between two calls of `tick`
MOST_THREADS = 64
ALONE = 1 << 22  # bytes that are not worth the start of threads

Job = TypeVar("Job")


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def together(
    work: Callable[[], None], stop: Callable[[], None], threads: int | None, tick: Callable[[], None] | None
) -> None:
    """Calls `work` in each of some threads, which ends when nothing is left to do; raises what one of them raised.

    stop: makes all of them end soon. It is called when one has failed, and at the end. tick: is called now and then,
    and at last, by the thread that called this.
    """
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as e:  # it is raised again where the work was asked for
            failed.append(e)
            stop()

    team = [
        threading.Thread(target=guarded, daemon=True) for _ in range(max(1, min(threads or processors(), MOST_THREADS)))
    ]
    try:
        for thread in team:
            thread.start()
        for thread in team:
            while thread.is_alive():
                thread.join(TICK if tick is not None else None)
                if tick is not None:
                    tick()
    finally:
        stop()
        for thread in team:
            if thread.ident is not None:
                thread.join()
    if failed:
        raise failed[0]
    if tick is not None:
        tick()


def work_off(
    jobs: Iterator[Job],
    do: Callable[[Job, threading.Event], int],
    total: int,
    threads: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Does jobs, by threads each of which takes the next one as soon as it can; raises what one of them raised.

    do: gives how many bytes are done by a job, of `total`. It may end early once the event is set: another has failed.
    progress: is called now and then with bytes done and `total`.
    """
    lock, stopped = threading.Lock(), threading.Event()
    done = 0

    def tick() -> None:
        if progress is not None:
            progress(min(done, total), total)

    def work(after: Callable[[], None] | None = None) -> None:
        nonlocal done
        while not stopped.is_set():
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            n = do(job, stopped)
            with lock:
                done += n
            if after is not None:
                after()

    if threads == 1 or total < ALONE:
        work(tick)
        tick()
    else:
        together(work, stopped.set, threads, None if progress is None else tick)
