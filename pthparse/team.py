"""Threads that do one work together, whose steps drop the GIL; and executors, other processes or a cluster's."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor

TICK = 0.1  # seconds between two calls of `tick`
MOST_THREADS = 64
AFAR = 8  # threads where most of the time is waiting for what is far away
ALONE = 1 << 22  # bytes that are not worth the start of threads
MOST_TASKS = 1024  # of an executor: those that are not done, or wait for one before them
MOST_SENT = 1 << 26  # bytes that these are sent

J = TypeVar("J")
K = TypeVar("K")


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


def crew(total: int, threads: int | None, afar: bool = False) -> int | None:
    """Threads for so many bytes, if nobody asks for another number; None: one for each processor."""
    return 1 if total < ALONE and not afar else threads or (AFAR if afar else None)


def share(
    jobs: Iterable[J],
    worker: Callable[[threading.Event], Callable[[J], None]],
    threads: int | None,
    tick: Callable[[], None] | None = None,
) -> None:
    """Does all jobs: each thread takes the next one as soon as it can. With one thread, the caller's own does them.

    worker: is called by each thread, and gives what does a job. The event says that the others have failed.
    """
    left = iter(jobs)
    lock, stopped = threading.Lock(), threading.Event()

    def work(after: Callable[[], None] | None = None) -> None:
        do, last = worker(stopped), time.monotonic()
        while not stopped.is_set():
            with lock:
                job = next(left, None)
            if job is None:
                return
            do(job)
            if after is not None and time.monotonic() - last >= TICK:
                after()
                last = time.monotonic()

    if threads != 1:
        together(work, stopped.set, threads, tick)
        return
    work(tick)
    if tick is not None:
        tick()


def bundles(jobs: Iterable[J], size: Callable[[J], int], least: int) -> Iterator[list[J]]:
    """Jobs one after the other, as many together as have so many bytes: files may be small and of any number."""
    bundle: list[J] = []
    total = 0
    for job in jobs:
        bundle.append(job)
        total += size(job)
        if total >= least:
            yield bundle
            bundle, total = [], 0
    if bundle:
        yield bundle


def call_all(calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """What each call gives back: function and arguments."""
    return [function(*arguments) for function, *arguments in calls]


def submit(executor: Executor, calls: Iterable[tuple[K, int, tuple[Any, ...]]]) -> Iterator[tuple[K, Any]]:
    """(what it is, what came of it) of each call, in their order; many of them wait or run meanwhile.

    calls: (what it is, bytes that are sent along, function and arguments). They are made when there is room for them:
    what a task gives back, and what some are sent, takes memory.
    """
    waiting: deque[tuple[K, int, Any]] = deque()
    sent = 0
    try:
        for key, nbytes, call in calls:
            while waiting and (len(waiting) >= MOST_TASKS or sent + nbytes > MOST_SENT):
                yield waiting[0][0], waiting[0][2].result()
                sent -= waiting.popleft()[1]
            waiting.append((key, nbytes, executor.submit(*call)))
            sent += nbytes
        while waiting:
            yield waiting[0][0], waiting[0][2].result()
            waiting.popleft()
    finally:
        for _, _, future in waiting:
            future.cancel()


def is_near(executor: Executor | None) -> bool:
    """Does it run in this process, so that nothing must be opened again?"""
    from concurrent.futures import ThreadPoolExecutor

    return isinstance(executor, ThreadPoolExecutor)
