"""Work of many files as one: who does it changes no bit, executors get tasks of all files at once, few are open."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import pickles as p
from forge import zips
from forge.web import serve

import pthparse
from pthparse import checksums, engine, hashes, pairs, sharded, source, team

FILES, EACH = 30, 70_000  # files; elements of each of two tensors
NAMES = [f"model-{i + 1:05}-of-{FILES:05}.bin" for i in range(FILES)]
INDEX = "model.bin.index.json"


def write(folder: Path, change: float = 0.0) -> Path:
    folder.mkdir()
    numbers = np.random.default_rng(0)
    weights = {}
    for i, name in enumerate(NAMES):
        values = {f"layers.{i}.{x}": numbers.standard_normal(EACH, np.float32) for x in "ab"}
        if i % 7 == 3:
            values[f"layers.{i}.b"][::100] += np.float32(change)
        tensors = p.dict_of({n: p.vector(str(k), EACH) for k, n in enumerate(values)})
        records = {str(k): v.tobytes() for k, v in enumerate(values.values())}
        (folder / name).write_bytes(zips.checkpoint(p.pickle(tensors), records))
        weights |= dict.fromkeys(values, name)
    (folder / INDEX).write_text(json.dumps({"weight_map": weights}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    top = tmp_path_factory.mktemp("models")
    return write(top / "a"), write(top / "b", 0.125)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a task is of one file, and all of them are worth threads."""
    for module in (engine, pairs, hashes, checksums):
        monkeypatch.setattr(module, "TASK", 1 << 18)
    monkeypatch.setattr(team, "ALONE", 0)
    monkeypatch.setattr(checksums, "FEW_BYTES", 0)


class Waiting(Executor):
    """Does nothing until somebody asks for a result: then all that was submitted, the last first."""

    def __init__(self) -> None:
        self.tasks: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.most = self.done = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert not kwargs
        future = Asking(self)
        self.tasks.append((future, fn, args))
        return future

    def run(self) -> None:
        self.most = max(self.most, len(self.tasks))
        tasks, self.tasks = self.tasks, []
        for future, fn, args in reversed(tasks):
            self.done += 1
            try:
                Future.set_result(future, fn(*args))
            except BaseException as e:
                Future.set_exception(future, e)


class Asking(Future[Any]):
    def __init__(self, executor: Waiting) -> None:
        super().__init__()
        self.executor = executor

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            self.executor.run()
        return super().result(timeout)


def bits(table: pthparse.StatsTable) -> list[tuple[Any, ...]]:
    return [(s.name, s.nan, s.zeros, s.histogram, *(struct.pack("<d", getattr(s, n)) for n in FIGURES)) for s in table]


FIGURES = ("min", "max", "mean", "std", "l1", "l2")


def stats(a: Path, b: Path, **how: Any) -> Any:
    with pthparse.open(a) as model:
        return bits(model.stats(histogram=True, **how))


def verified(a: Path, b: Path, **how: Any) -> Any:
    return pthparse.verify(a, **how).to_dict()


def different(a: Path, b: Path, **how: Any) -> Any:
    return pthparse.diff(a, b, **how).to_dict()


def hashed(a: Path, b: Path, **how: Any) -> Any:
    return pthparse.manifest(a, **how).to_dict()


WORK = {"stats": stats, "verify": verified, "diff": different, "hash": hashed}


@pytest.fixture(scope="module")
def alone(folders: tuple[Path, Path]) -> dict[str, Any]:
    return {name: ask(*folders, threads=1) for name, ask in WORK.items()}


def test_what_one_thread_says_is_right(folders: tuple[Path, Path], alone: dict[str, Any]) -> None:
    with pthparse.open(folders[0]) as model:
        each = [bits(pthparse.open(folders[0] / name).stats(histogram=True, threads=1)) for name in NAMES]
        assert alone["stats"] == [row for rows in each for row in rows]
        assert alone["hash"]["model"] == model.hash(threads=1).model
    assert alone["verify"]["verdict"] == "ok" and len(alone["verify"]["whole"]) == 2 * FILES
    assert [d["name"] for d in alone["diff"]["changed"]] == [f"layers.{i}.b" for i in range(3, FILES, 7)]


@pytest.mark.parametrize("work", WORK)
def test_threads_change_no_bit(work: str, folders: tuple[Path, Path], alone: dict[str, Any]) -> None:
    done: list[tuple[int, int]] = []
    assert WORK[work](*folders, threads=2, progress=lambda *n: done.append(n)) == alone[work]
    assert done == sorted(done) and done[-1][0] == done[-1][1] >= 2 * FILES * EACH * 4
    assert WORK[work](*folders, threads=7) == alone[work]


@pytest.mark.parametrize("work", WORK)
def test_an_executor_has_tasks_of_all_files_at_once(
    work: str, folders: tuple[Path, Path], alone: dict[str, Any]
) -> None:
    executor, done = Waiting(), []
    assert WORK[work](*folders, executor=executor, progress=lambda *n: done.append(n)) == alone[work]
    assert executor.most >= FILES and executor.done >= FILES
    assert done == sorted(done) and done[-1][0] == done[-1][1]


@pytest.mark.parametrize("work", WORK)
def test_small_files_share_a_task(
    work: str, folders: tuple[Path, Path], alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (engine, pairs, hashes, checksums):
        monkeypatch.setattr(module, "TASK", 1 << 23)
    executor = Waiting()
    assert WORK[work](*folders, executor=executor) == alone[work]
    assert 2 <= executor.done < FILES / 2


@pytest.mark.parametrize("work", WORK)
def test_tasks_in_flight_are_bounded(
    work: str, folders: tuple[Path, Path], alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team, "MOST_TASKS", 4)
    executor = Waiting()
    assert WORK[work](*folders, executor=executor) == alone[work] and executor.most <= 4


def test_other_processes_and_threads_change_no_bit(folders: tuple[Path, Path], alone: dict[str, Any]) -> None:
    with ProcessPoolExecutor(2) as processes, ThreadPoolExecutor(3) as threads:
        for executor in (processes, threads):
            assert {name: ask(*folders, executor=executor) for name, ask in WORK.items()} == alone


def test_other_processes_fetch_from_afar_themselves(folders: tuple[Path, Path], alone: dict[str, Any]) -> None:
    with serve(folders[0]) as server, ProcessPoolExecutor(2) as executor:
        url = server.root + INDEX
        assert stats(url, url, executor=executor) == alone["stats"]  # type: ignore[arg-type]
        verified = pthparse.verify(url, executor=executor)
        assert verified.ok and verified.checked_nbytes == alone["verify"]["checked_nbytes"]
        assert pthparse.manifest(url, executor=executor).model == alone["hash"]["model"]
        agents = {h.get("User-Agent") for h in server.headers}
        assert len(agents) == 1 and len(server.paths) > 3 * FILES


def n_open() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("how", ["threads", "executor"])
def test_few_files_are_open(
    work: str, how: str, folders: tuple[Path, Path], alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at each opening, in the thread that opens."""
    monkeypatch.setattr(sharded, "MOST_OPEN", 5)
    seen: list[int] = []
    opened = source.open_path

    def counting(*args: Any, **kwargs: Any) -> Any:
        made = opened(*args, **kwargs)
        seen.append(n_open())
        return made

    monkeypatch.setattr("pthparse.directories.open_path", counting)
    with ThreadPoolExecutor(4) as executor:
        executor.submit(int).result()
        before = n_open()
        given = {"threads": 4} if how == "threads" else {"executor": executor}
        assert WORK[work](*folders, **given) == alone[work]
    models = 2 if work == "diff" else 1
    # And one that is being opened, by each of four threads, and the list of descriptors that is read just then.
    assert len(seen) > FILES and max(seen) - before <= models * 5 + 2 * 4 + 4
    assert n_open() <= before


def test_a_file_that_cannot_be_read_stops_no_other(folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    data = (folder / NAMES[4]).read_bytes()
    (folder / NAMES[4]).write_bytes(data[: len(data) // 2])
    (folder / NAMES[6]).unlink()
    bad = bytearray((folder / NAMES[9]).read_bytes())
    bad[len(bad) // 2] ^= 1
    (folder / NAMES[9]).write_bytes(bad)
    alone = pthparse.verify(folder, threads=1)
    assert alone.verdict == "damaged" and len(alone.whole) + len(alone.damaged) == 2 * FILES
    assert len(alone.whole) >= 2 * (FILES - 3)
    with ProcessPoolExecutor(2) as executor:
        for how in ({"threads": 5}, {"executor": executor}, {"executor": Waiting()}):
            assert pthparse.verify(folder, **how).to_dict() == alone.to_dict()  # type: ignore[arg-type]


def test_a_file_that_changes_meanwhile(folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    with pthparse.open(folder) as model:
        assert len(model) == 2 * FILES
        (folder / NAMES[8]).write_bytes(b"x" * 100)
        for how in ({}, {"executor": Waiting()}):
            report = model.verify(**how)
            assert report.verdict == "unknown" and not report.damaged
            assert "file-changed" in {f.code for f in report.findings}


# ---- the tools ----


def test_jobs_are_shared() -> None:
    done: list[int] = []
    begun: list[int] = []

    def worker(stopped: threading.Event) -> Callable[[int], None]:
        begun.append(threading.get_ident())
        return done.append

    team.share(range(100), worker, 3)
    assert sorted(done) == list(range(100)) and len(begun) == 3
    begun.clear()
    ticks: list[int] = []
    team.share(range(5), worker, 1, lambda: ticks.append(len(done)))
    assert begun == [threading.get_ident()] and ticks == [105] and done[100:] == list(range(5))


def test_what_one_raises_ends_all() -> None:
    def jobs() -> Iterator[int]:
        yield from range(1_000_000)

    def do(n: int) -> None:
        if n == 50:
            raise KeyError(n)

    left = jobs()
    with pytest.raises(KeyError):
        team.share(left, lambda _: do, 4)
    assert next(left) < 999_999
    with pytest.raises(KeyError):
        team.share(range(60), lambda _: do, 1)


def test_results_come_in_order_and_what_is_sent_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "MOST_SENT", 100)
    executor = Waiting()
    calls = ((i, 30, (pow, i, 2)) for i in range(20))
    assert list(team.submit(executor, calls)) == [(i, i * i) for i in range(20)]
    assert executor.most == 3
    alone = Waiting()
    assert list(team.submit(alone, ((i, 1000, (pow, i, 2)) for i in range(3)))) == [(0, 0), (1, 1), (2, 4)]
    assert alone.most == 1


def test_what_is_not_wanted_any_more_is_cancelled() -> None:
    executor = Waiting()
    results = team.submit(executor, ((i, 0, (divmod, i, i - 2)) for i in range(5)))
    with pytest.raises(ZeroDivisionError):
        list(results)
    waiting = Waiting()
    running = team.submit(waiting, ((i, 0, (pow, i, 2)) for i in range(3000)))
    assert next(running) == (0, 0)
    waiting.submit(pow, 1, 1)
    running.close()  # type: ignore[attr-defined]
    assert waiting.most == team.MOST_TASKS


def test_bundles() -> None:
    assert list(team.bundles([3, 1, 5, 2, 2], int, 4)) == [[3, 1], [5], [2, 2]]
    assert list(team.bundles([1, 1], int, 0)) == [[1], [1]] and list(team.bundles([], int, 4)) == []
    assert list(team.bundles([1, 2], int, 9)) == [[1, 2]]
    assert team.call_all([(pow, 2, 3), (max, 1, 4)]) == [8, 4]


def test_few_bytes_need_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "ALONE", 100)
    assert [team.crew(n, threads) for n, threads in ((99, 4), (100, 4), (100, None), (100, 1))] == [1, 4, None, 1]
    assert team.crew(1, None, afar=True) == team.AFAR and team.crew(1, 3, afar=True) == 3


def test_jobs_that_cannot_be_made() -> None:
    def jobs() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    for threads in (1, 3):
        with pytest.raises(KeyError, match="gone"):
            team.share(jobs(), lambda _: lambda job: None, threads)
