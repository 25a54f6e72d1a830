"""How long it takes to compare two checkpoints, beside torch.load of both and the same figures by torch; to hash one.

python bench/bench_diff.py [FOLDER] [--runs N] [--work FOLDER]     FOLDER: what bench/make_data.py made

Both models are copies of model_weights.pth, written just now: how the page cache holds a file depends on how it came
there, and one that it holds in small pages is read at two thirds of the rate. In the second one nothing was changed, or
every thousandth element of three tensors, or of all of them. Figures of each tensor that differs: pairs that are equal,
largest and mean absolute and relative difference, cosine. All of them are compared before anything is timed. Each time
is the median of N runs, taken in turn, and so is each ratio.

  pthparse      pthparse.diff of two paths
  torch         torch.load of both, then torch.equal, and of those that differ the figures: of float32 in float32
  torch mmap    the same with torch.load(mmap=True)
  read          os.preadv of both files with as many threads: the rate that nothing can exceed
  hash          pthparse.manifest of one file, beside hashlib over the same chunks with as many threads
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench_verify import peak

import pthparse

HERE = Path(__file__).parent
THREADS = len(os.sched_getaffinity(0))
READ = 1 << 20
SOME = ("embed.weight", "layers.3.linear1.weight", "fc.bias")

Figures = dict[str, tuple[float, ...]]


def with_pthparse(a: Path, b: Path) -> Figures:
    rows = pthparse.diff(a, b).changed
    return {d.name: (d.equal, d.max_abs, d.mean_abs, d.max_rel, d.mean_rel, d.cosine or 0) for d in rows}  # type: ignore[misc]


def of_torch(x: Any, y: Any) -> tuple[float, ...]:
    import torch

    apart = (x - y).abs()
    share = apart / torch.maximum(x.abs(), y.abs())
    share = torch.where(apart == 0, 0, share)
    cosine = torch.nn.functional.cosine_similarity(x.reshape(-1), y.reshape(-1), dim=0)
    return tuple(map(float, ((x == y).sum(), apart.max(), apart.mean(), share.max(), share.mean(), cosine)))


def with_torch(a: Path, b: Path, dtype: Any = None, **how: Any) -> Figures:
    import torch

    one, other = (torch.load(path, weights_only=True, **how) for path in (a, b))
    out = {}
    for name, x in one.items():
        y = other[name]
        if not torch.equal(x, y):
            out[name] = of_torch(x, y) if dtype is None else of_torch(x.to(dtype), y.to(dtype))
    return out


def read(paths: list[Path], use: Callable[[memoryview], object] | None = None) -> None:
    """All bytes, by as many threads."""

    def work(job: tuple[int, int, int]) -> None:
        fd, first, last = job
        buffer = bytearray(READ)
        for at in range(first, last, READ):
            n = os.preadv(fd, [buffer], at)
            if use is not None:
                use(memoryview(buffer)[:n])

    fds = [os.open(path, os.O_RDONLY) for path in paths]
    jobs = []
    for fd in fds:
        size = os.fstat(fd).st_size
        part = -(-size // THREADS // READ) * READ
        jobs += [(fd, at, min(at + part, size)) for at in range(0, size, part)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, jobs))
    for fd in fds:
        os.close(fd)


def edited(source: Path, target: Path, names: tuple[str, ...] | None) -> None:
    """A copy with other numbers in some tensors; None: in all."""
    import numpy as np

    shutil.copy(source, target)
    with pthparse.open(source) as ckpt:
        for name, t in ckpt.items():
            if names is None or name in names:
                assert t.storage is not None and t.storage.file_offset is not None
                data = np.memmap(target, np.float32, "r+", t.storage.file_offset, (t.numel,))
                data[::1000] = data[::1000] * np.float32(1.001) + np.float32(1e-6)
                data.flush()


def check(a: Path, b: Path, expected: int) -> None:
    """Ours against torch in double precision."""
    import torch

    ours, theirs = with_pthparse(a, b), with_torch(a, b, torch.float64, mmap=True)
    if list(ours) != list(theirs) or len(ours) != expected:
        raise SystemExit(f"{len(ours)} tensors differ, torch says {len(theirs)}, {expected} were changed")
    for name, figures in theirs.items():
        if not all(abs(x - y) <= 1e-12 * max(1, abs(y)) for x, y in zip(ours[name], figures, strict=True)):
            raise SystemExit(f"{name}: {ours[name]}, torch says {figures}")


def timed(contestants: dict[str, Callable[[], Any]], runs: int, nbytes: int) -> None:
    """In turn; prints medians, and how long processors were busy: which other load of the machine changes less."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, work in contestants.items():
            start, busy = time.perf_counter(), time.process_time()
            work()
            times[name].append((time.perf_counter() - start, time.process_time() - busy))
    for name, rows in times.items():
        seconds, busy = (statistics.median(column) for column in zip(*rows, strict=True))
        ratio = statistics.median(row[0] / own[0] for row, own in zip(rows, times["pthparse"], strict=True))
        rate = nbytes / seconds / 1e9
        print(f"  {name:<12} {seconds * 1e3:8.1f} ms  {rate:6.2f} GB/s  {ratio:6.2f} x pthparse's time  ", end="")
        print(f"{busy * 1e3:8.1f} ms of processors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / ".data")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, help="where the second model is written; default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        a, b = Path(folder) / "a.pth", Path(folder) / "b.pth"
        shutil.copy(args.folder / "model_weights.pth", a)
        for what, names, expected in (("nothing", (), 0), ("some", SOME, len(SOME)), ("all", None, 111)):
            edited(a, b, names)
            check(a, b, expected)
            print(f"{what} differs ({expected} of 111 tensors), {THREADS} threads; all figures agree with torch's")
            timed(
                {
                    "pthparse": lambda: with_pthparse(a, b),
                    "torch": lambda: with_torch(a, b),
                    "torch mmap": lambda: with_torch(a, b, mmap=True),
                    "read": lambda: read([a, b]),
                },
                args.runs,
                2 * a.stat().st_size,
            )
            words = [sys.executable, "-m", "pthparse", "diff", str(a), str(b)]
            print(f"  peak memory of the command: {peak(words) / 1e6:.1f} MB")
        print("hash of one model")
        timed(
            {
                "pthparse": lambda: pthparse.manifest(a),
                "sha256": lambda: read([a], lambda data: hashlib.sha256(data).digest()),
                "blake2b": lambda: read([a], lambda data: hashlib.blake2b(data, digest_size=32).digest()),
                "read": lambda: read([a]),
            },
            args.runs,
            a.stat().st_size,
        )
        print(f"  peak memory of the command: {peak([sys.executable, '-m', 'pthparse', 'hash', str(a)]) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
