"""How long full statistics of a checkpoint take, beside numpy's and torch's passes and the plain read of its bytes.

python bench/bench_stats.py [FOLDER] [--runs N]     FOLDER: what bench/make_data.py made

Figures: min, max, mean, std, l2, counts of zeros, NaN and Inf, of every tensor; the file in the page cache, everything
imported. Ours are compared with numpy in double precision before anything is timed. Each time is the median of N runs,
taken in turn with its peers.

  pthparse              Checkpoint.stats(): reads the file, with as many threads as there are processors
  ... with histogram    the same, with magnitudes by power of two
  plain read            preadv into buffers of 1 MiB, with the same threads: what there is to reach
  numpy                 a pass for each figure over mapped arrays (half precision as float32)
  torch                 the same by torch, over tensors that it has loaded
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = ("model_weights", "model_bfloat16", "model_float16")
THREADS = len(os.sched_getaffinity(0))
READ = 1 << 20

Figures = dict[str, tuple[float, ...]]


def with_pthparse(path: Path, **how: Any) -> Figures:
    import pthparse

    with pthparse.open(path) as ckpt:
        return {
            s.name: (s.min, s.max, s.mean, s.std, s.l2, s.zeros, s.nan, s.posinf + s.neginf) for s in ckpt.stats(**how)
        }  # type: ignore[misc]


def of_array(a: Any) -> tuple[float, ...]:
    import numpy as np

    passes = (a.min(), a.max(), a.mean(), a.std(), np.linalg.norm(a.reshape(-1)))
    counts = (a.size - np.count_nonzero(a), np.count_nonzero(np.isnan(a)), np.count_nonzero(np.isinf(a)))
    return tuple(map(float, passes + counts))


def with_numpy(path: Path, dtype: Any = None) -> Figures:
    import numpy as np

    import pthparse

    with pthparse.open(path) as ckpt:
        out = {}
        for name, t in ckpt.items():
            a = t.numpy()
            out[name] = of_array(a if dtype is None and a.dtype == np.float32 else a.astype(dtype or np.float32))
        return out


def with_torch(tensors: dict[str, Any]) -> Figures:
    import torch

    out = {}
    for name, t in tensors.items():
        passes = (t.min(), t.max(), t.mean(), t.std(correction=0), torch.linalg.vector_norm(t))
        counts = ((t == 0).sum(), torch.isnan(t).sum(), torch.isinf(t).sum())
        out[name] = tuple(float(x) for x in passes + counts)
    return out


def plain_read(path: Path) -> None:
    """All bytes, by as many threads."""
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    part = -(-size // THREADS // READ) * READ

    def work(start: int) -> None:
        buffer = bytearray(READ)
        for at in range(start, min(start + part, size), READ):
            os.preadv(fd, [buffer], at)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(0, size, part)))
    os.close(fd)


def check(path: Path) -> None:
    """Ours against numpy in double precision."""
    import numpy as np

    ours, theirs = with_pthparse(path), with_numpy(path, np.float64)
    for name, figures in theirs.items():
        if not np.allclose(ours[name], figures, rtol=1e-10, atol=1e-13):
            raise SystemExit(f"{path.name}: {name}: {ours[name]}, numpy says {figures}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / ".data")
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    import torch

    for file in FILES:
        path = args.folder / f"{file}.pth"
        if not path.exists():
            continue
        check(path)
        tensors = torch.load(path, weights_only=True)
        contestants: dict[str, Callable[[], Any]] = {
            "pthparse": lambda path=path: with_pthparse(path),
            "pthparse, histogram": lambda path=path: with_pthparse(path, histogram=True),
            "plain read": lambda path=path: plain_read(path),
            "numpy": lambda path=path: with_numpy(path),
            "torch": lambda tensors=tensors: with_torch(tensors),
        }
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(args.runs):
            for name, work in contestants.items():
                start = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - start)
        size, ours = path.stat().st_size, statistics.median(times["pthparse"])
        print(f"{path.name}, {size / 1e6:.0f} MB, {THREADS} threads; all figures agree with numpy in double precision")
        for name, t in times.items():
            median = statistics.median(t)
            rate, ratio = size / median / 1e9, median / ours
            print(f"  {name:<20} {median * 1e3:8.1f} ms  {rate:6.2f} GB/s  {ratio:7.2f} x pthparse's time")


if __name__ == "__main__":
    main()
