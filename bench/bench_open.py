"""How long it takes to open a checkpoint and list every name, shape and dtype, and what memory that takes.

python bench/bench_open.py [FOLDER] [--runs N]     FOLDER: what bench/make_data.py made

Peers: torch.load(weights_only=True), mapped and not, and safetensors on the same tensors in its own format. All answers
are compared before anything is timed. Each figure is the median of N runs, taken in turn with its peers. Two views:

  in one process    everything imported, the files in the page cache: the work itself
  whole processes   what a shell sees; on small files most of the win over torch is `import torch`
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = ("model_weights", "many_20000", "many_100000")

Listing = list[tuple[str, tuple[int, ...], str]]


# ---- the contestants: each gives [(name, shape, dtype)] ----


def with_pthparse(path: Path) -> Listing:
    import pthparse

    with pthparse.open(path) as ckpt:
        return [(n, t.shape, t.dtype) for n, t in ckpt.items()]


def with_pthparse_safetensors(path: Path) -> Listing:
    return with_pthparse(path.with_suffix(".safetensors"))


def with_torch_mmap(path: Path) -> Listing:
    import torch

    return [(n, tuple(t.shape), str(t.dtype)[6:]) for n, t in torch.load(path, mmap=True, weights_only=True).items()]


def with_torch(path: Path) -> Listing:
    import torch

    return [(n, tuple(t.shape), str(t.dtype)[6:]) for n, t in torch.load(path, weights_only=True).items()]


SAFETENSORS_DTYPES = {"F32": "float32"}


def with_safetensors(path: Path) -> Listing:
    from safetensors import safe_open

    with safe_open(path.with_suffix(".safetensors"), "numpy") as f:
        slices = ((n, f.get_slice(n)) for n in f.keys())  # noqa: SIM118 - not a dict
        return [(n, tuple(s.get_shape()), SAFETENSORS_DTYPES[s.get_dtype()]) for n, s in slices]


CONTESTANTS: dict[str, Callable[[Path], Listing]] = {
    "pthparse": with_pthparse,
    "pthparse, safetensors": with_pthparse_safetensors,
    "torch, mmap": with_torch_mmap,
    "torch": with_torch,
    "safetensors": with_safetensors,
}


def check(path: Path) -> None:
    """All say the same of the file, or nothing is timed."""
    expected = sorted(with_torch_mmap(path))
    for name, contestant in CONTESTANTS.items():
        if sorted(contestant(path)) != expected:
            raise SystemExit(f"{name} lists {path.name} otherwise than torch does")


# ---- in one process ----


def in_process(path: Path, runs: int) -> dict[str, float]:
    """Median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(runs):
        for name, contestant in CONTESTANTS.items():
            # Small times are taken over several calls; large ones fill a run of their own.
            start = time.perf_counter()
            kept = contestant(path)
            once = time.perf_counter() - start
            del kept
            calls = max(1, min(50, int(0.05 / max(once, 1e-6))))
            if calls > 1:
                start = time.perf_counter()
                for _ in range(calls):
                    contestant(path)
                once = (time.perf_counter() - start) / calls
            times[name].append(once)
    return {name: statistics.median(t) for name, t in times.items()}


# ---- whole processes ----

# What runs in the child: time and the peak of its memory, above what was there before the work.
CHILD = """
import json, sys
sys.path.insert(0, {bench!r})
import numpy
from pathlib import Path
import bench_open
def peak():  # not getrusage: that remembers what this process was before exec
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
before = peak()
n = len(bench_open.CONTESTANTS[{name!r}](Path({path!r})))
print(json.dumps([n, peak() - before]))
"""


def in_a_process_of_its_own(name: str, path: Path) -> tuple[float, int]:
    """(seconds of the whole process, peak bytes above Python with numpy)"""
    code = CHILD.format(bench=str(HERE), name=name, path=str(path))
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    return seconds, json.loads(done.stdout)[1]


def whole_processes(path: Path, runs: int) -> dict[str, tuple[float, int]]:
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in CONTESTANTS}
    for _ in range(runs):
        for name in CONTESTANTS:
            found[name].append(in_a_process_of_its_own(name, path))
    return {
        name: (statistics.median(s for s, _ in rows), round(statistics.median(m for _, m in rows)))
        for name, rows in found.items()
    }


def process(words: list[str], runs: int) -> tuple[float, int]:
    """(median seconds, peak bytes) of a command."""
    # A small parent in between, since a child's peak counts from what its parent was.
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
    )
    times, peaks = [], []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
        peaks.append(int(subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True).stdout))
    return statistics.median(times), max(peaks)


def starting(folder: Path, runs: int) -> dict[str, Any]:
    """What it costs to begin: the import, and `pthparse info` on the 505 MB model."""
    bare, _ = process([sys.executable, "-c", "pass"], runs)
    numpy, _ = process([sys.executable, "-c", "import numpy"], runs)
    ours, _ = process([sys.executable, "-c", "import pthparse"], runs)
    info, peak = process([sys.executable, "-m", "pthparse", "info", str(folder / "model_weights.pth")], runs)
    return {"bare_s": bare, "numpy_s": numpy, "pthparse_s": ours, "info_s": info, "info_peak": peak}


# ---- the table ----


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.2f} ms" if seconds < 0.1 else f"{seconds * 1e3:,.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / ".data")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    import safetensors
    import torch

    import pthparse

    results: dict[str, Any] = {"torch": torch.__version__, "safetensors": safetensors.__version__}
    for stem in FILES:
        path = args.folder / f"{stem}.pth"
        check(path)
        with pthparse.open(path) as ckpt:
            n, pickle_nbytes = len(ckpt), ckpt.pickle_nbytes
        results[stem] = {
            "tensors": n,
            "nbytes": path.stat().st_size,
            "pickle_nbytes": pickle_nbytes,
            "in_process": in_process(path, args.runs),
            "processes": whole_processes(path, max(3, args.runs // 2)),
        }
    results["start"] = starting(args.folder, args.runs)
    if args.json:
        print(json.dumps(results, indent=1))
        return
    print(f"torch {results['torch']}, safetensors {results['safetensors']}, median of {args.runs}; answers equal")
    for stem in FILES:
        r = results[stem]
        print(f"\n{stem}.pth: {r['tensors']:,} tensors, {r['nbytes']:,} B, pickle {r['pickle_nbytes']:,} B")
        ours = r["in_process"]["pthparse"]
        whole = r["processes"]["pthparse"][0]
        print(f"  {'':12}  {'in one process':>26}  {'whole process':>22}  {'peak above numpy':>17}")
        for name, seconds in r["in_process"].items():
            whole_s, peak = r["processes"][name]
            print(
                f"  {name:12}  {milliseconds(seconds):>13} {seconds / ours:>10.1f} x"
                f"  {milliseconds(whole_s):>11} {whole_s / whole:>8.1f} x  {peak / 1e6:>14.1f} MB"
            )
        allowed = 8e6 + 12 * r["pickle_nbytes"]
        print(f"  memory allowed: 8 MB + 12 x pickle = {allowed / 1e6:.1f} MB")
    s = results["start"]
    above = {k: milliseconds(s[f"{k}_s"] - s["bare_s"]) for k in ("pthparse", "numpy", "info")}
    print(f"\nabove a bare interpreter: import pthparse {above['pthparse']}, import numpy {above['numpy']}")
    print(f"pthparse info on the 505 MB model: {above['info']}, peak {s['info_peak'] / 1e6:.1f} MB in all")


if __name__ == "__main__":
    main()
