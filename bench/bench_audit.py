"""How long a verdict takes, and what memory, beside the scanners that people use.

pip install -r bench/requirements.txt && python bench/bench_audit.py [FOLDER] [--runs N] [--seconds S]
FOLDER: what bench/make_data.py made

Each scanner gets the file as its own documentation says; fickling, which opens torch's zips only with torch at hand,
gets the pickle out of it. Verdicts stand beside the times: a scanner that gives none has not answered. Two views:

  in one process    everything imported, the files in the page cache: the median of N calls, or of what S seconds hold
  whole processes   each scanner's own command, as a shell starts it; and the peak of the memory of a call
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = ("model_weights", "state_dict_100mb", "many_20000", "many_100000")
A_TURN = 1.0  # seconds: short commands are run as often as it holds


# ---- the contestants: each gives a verdict as text ----


def with_pthparse(path: Path) -> str:
    import pthparse

    return pthparse.audit(path).verdict


def with_picklescan(path: Path) -> str:
    from picklescan.scanner import scan_file_path

    found = scan_file_path(str(path))
    if found.scan_err:
        return "error"
    return "clean" if found.issues_count == 0 and found.scanned_files else f"{found.issues_count} issues"


def with_modelscan(path: Path) -> str:
    from modelscan.modelscan import ModelScan

    summary = ModelScan().scan(str(path))["summary"]
    return "clean" if summary["total_issues"] == 0 else f"{summary['total_issues']} issues"


def with_fickling(path: Path) -> str:
    import zipfile

    from fickling.analysis import check_safety
    from fickling.fickle import Pickled

    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        return str(check_safety(Pickled.load(archive.read(name))).severity.name).lower()


CONTESTANTS: dict[str, Callable[[Path], str]] = {
    "pthparse": with_pthparse,
    "picklescan": with_picklescan,
    "modelscan": with_modelscan,
    "fickling": with_fickling,
}

BIN = Path(sys.executable).parent
COMMANDS = {
    "pthparse": [str(BIN / "pthparse"), "audit"],
    "picklescan": [str(BIN / "picklescan"), "-p"],
    "modelscan": [str(BIN / "modelscan"), "-p"],
    # Its own command wants a bare pickle.
    "fickling": [
        sys.executable,
        "-c",
        f"import sys; sys.path[:0] = [{str(HERE)!r}]; from pathlib import Path; from bench_audit import with_fickling; "
        "print(with_fickling(Path(sys.argv[1])))",
    ],
}

# ---- in a child each, so that one that hangs can be stopped ----

CHILD = """
import json, sys, time
sys.path.insert(0, {bench!r})
from pathlib import Path
import bench_audit
run, path, runs, seconds = bench_audit.CONTESTANTS[{name!r}], Path({path!r}), {runs}, {seconds}
verdict, times, start = "", [], time.perf_counter()
if runs > 1:
    run(Path({small!r}))  # its imports are not the work
while len(times) < runs and (not times or time.perf_counter() - start < seconds):
    before = time.perf_counter()
    verdict = run(path)
    times.append(time.perf_counter() - before)
status = Path("/proc/self/status").read_text()
print(json.dumps([verdict, times, int(status.split("VmHWM:")[1].split()[0]) * 1024]))
"""


def whole_process(name: str, path: Path, seconds: float) -> float | None:
    """Seconds of the command, or None if it takes too long."""
    start = time.perf_counter()
    try:
        subprocess.run([*COMMANDS[name], str(path)], capture_output=True, timeout=3 * seconds)
    except subprocess.TimeoutExpired:
        return None
    return time.perf_counter() - start


def child(name: str, path: Path, small: Path, runs: int, seconds: float) -> tuple[str, list[float], int]:
    """(verdict, seconds of each call, peak bytes)"""
    code = CHILD.format(bench=str(HERE), name=name, path=str(path), small=str(small), runs=runs, seconds=seconds)
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=3 * seconds)
    except subprocess.TimeoutExpired:
        return f"none in {3 * seconds:.0f} s", [], 0
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1][:26]}", [], 0
    verdict, times, peak = json.loads(done.stdout.splitlines()[-1])
    return verdict, times, peak


def measure(path: Path, small: Path, runs: int, seconds: float) -> dict[str, dict[str, Any]]:
    """In turns, so that all of them see the same machine."""
    rows: dict[str, dict[str, Any]] = {
        name: {"verdict": "", "calls": [], "wholes": [], "peak": 0} for name in CONTESTANTS
    }
    for name, row in rows.items():
        row["verdict"], row["calls"], row["peak"] = child(name, path, small, runs, seconds)
    for _ in range(3):
        for name, row in rows.items():
            start = time.perf_counter()
            while row["calls"] and (whole := whole_process(name, path, seconds)) is not None:
                row["wholes"].append(whole)
                if time.perf_counter() - start > A_TURN:
                    break
    return rows


def median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def told(seconds: float | None, ours: float | None) -> str:
    if seconds is None or not ours:
        return f"{'-':>12} {'':>10}"
    text = f"{seconds * 1e3:,.1f} ms" if seconds < 10 else f"{seconds:,.1f} s"
    return f"{text:>12} {seconds / ours:>8.1f} x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / ".data")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=40.0, help="for the calls of one scanner on one file")
    args = parser.parse_args()
    small = HERE.parent / "tests" / "data" / "lesson" / "lesson.pth"
    print(", ".join(f"{name} {version(name)}" for name in CONTESTANTS))
    for stem in FILES:
        path = args.folder / f"{stem}.pth"
        rows = measure(path, small, args.runs, args.seconds)
        ours = rows["pthparse"]
        assert ours["verdict"] == "clean", (stem, ours["verdict"])
        print(f"\n{path.name}: {path.stat().st_size:,} B")
        print(f"  {'':10}  {'verdict':34} {'in one process':>21} {'whole process':>23}  {'peak':>10}")
        for name, row in rows.items():
            print(
                f"  {name:10}  {row['verdict']:34} {told(median(row['calls']), median(ours['calls']))}"
                f" {told(median(row['wholes']), median(ours['wholes']))}  {row['peak'] / 1e6:>7.0f} MB"
            )


if __name__ == "__main__":
    main()
