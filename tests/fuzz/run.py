"""`make fuzz`: every target by libFuzzer, on all processors, for FUZZ_SECONDS each.

The corpus that grows is kept in .fuzz/; inputs that break a promise are kept there too, and named.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import build, seeds

WORK = Path(__file__).parents[2] / ".fuzz"


def run(target: str, program: Path, seconds: int, jobs: int) -> tuple[int, list[str]]:
    """(executions, the reports of those that found something)."""
    corpus, found = WORK / "corpus" / target, WORK / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    words = [program, corpus, WORK / "seeds" / target, seeds.HERE / "corpus" / target, f"-max_total_time={seconds}"]
    words += [
        f"-max_len={2 * seeds.LONGEST}",
        "-rss_limit_mb=1024",
        "-timeout=20",
        f"-artifact_prefix={found}/{target}-",
    ]
    env = {**os.environ, "ASAN_OPTIONS": build.BRIEF}
    runs = [
        subprocess.Popen([*map(str, words), "-print_final_stats=1"], stderr=-1, stdout=-3, env=env) for _ in range(jobs)
    ]
    logs = [process.communicate()[1].decode(errors="replace") for process in runs]
    counts = (re.search(r"number_of_executed_units: (\d+)", log) for log in logs)
    return sum(int(n[1]) for n in counts if n), [
        log for log, process in zip(logs, runs, strict=True) if process.returncode
    ]


def main() -> int:
    seconds, jobs = int(os.environ.get("FUZZ_SECONDS", "60")), int(os.environ.get("FUZZ_JOBS", os.cpu_count() or 1))
    compiler = build.clang()
    if compiler is None:
        sys.exit("make fuzz needs clang, for its libFuzzer")
    programs = build.fuzzers(compiler, WORK / "build")
    seeds.write(WORK / "seeds")
    total, reports = 0, []
    for target, program in programs.items():
        n, new = run(target, program, seconds, jobs)
        print(f"{target:8} {n:12,} executions, {n // seconds:8,} a second", flush=True)
        total, reports = total + n, reports + new
    print(f"{'all':8} {total:12,} executions, {len(reports)} findings")
    for report in reports:
        print(report[-3000:], file=sys.stderr)
    return 1 if reports else 0


if __name__ == "__main__":
    sys.exit(main())
