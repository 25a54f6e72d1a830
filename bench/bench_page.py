"""What the page of a checkpoint takes: work, memory, bytes, and the time until a browser has drawn it.

python bench/bench_page.py [FOLDER] [--runs N]     FOLDER: what bench/make_data.py made

Each run is a process of its own, `pthparse report FILE -o PAGE`, from a warm page cache: its processor time, with the
start of the interpreter, and its peak of memory. The page is looked at before anything is timed: it has the exact
size of the file and its number of parameters. The browser: a chromium without a window, if there is one, and selenium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pthparse

HERE = Path(__file__).parent
FILES = ("model_weights", "state_dict_100mb", "many_20000", "many_100000")
DRAWN = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"


def report(path: Path, page: Path, *words: str) -> tuple[float, float, int]:
    """Seconds that passed, seconds of work, and peak kB of one process."""
    start = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "pthparse", "report", str(path), "-o", str(page), *words],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, path
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def check(path: Path, page: Path) -> None:
    text = page.read_text("utf-8")
    with pthparse.open(path) as ckpt:
        assert f"{ckpt.nbytes:,}" in text and f"{ckpt.capacity().parameters:,}" in text
        assert ckpt.audit().verdict in text


def drawn(pages: list[Path], runs: int) -> list[float] | None:
    """Seconds from the command to open each until it is drawn."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if not (chromium and driver):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(word)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    out = []
    try:
        for page in pages:
            times = []
            for _ in range(runs + 1):  # the first one warms up
                start = time.perf_counter()
                browser.get(page.as_uri())
                browser.execute_async_script(DRAWN)
                times.append(time.perf_counter() - start)
            out.append(statistics.median(times[1:]))
    finally:
        browser.quit()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / ".data")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    paths = [args.folder / f"{name}.pth" for name in FILES if (args.folder / f"{name}.pth").exists()]
    with tempfile.TemporaryDirectory() as folder:
        rows, pages = [], []
        for path in paths:
            for words in ((), ("--no-stats",)):
                page = Path(folder) / f"{path.stem}{''.join(words)}.html"
                report(path, page, *words)
                check(path, page)
                found = [report(path, page, *words) for _ in range(args.runs)]
                wall, work, memory = (statistics.median(column) for column in zip(*found, strict=True))
                rows.append((f"{path.stem}{' '.join(('', *words))}", wall, work, memory / 1e3, page.stat().st_size))
                pages.append(page)
        seen = drawn(pages, args.runs)
    print(f"{'page of':32} {'seconds':>8} {'work s':>8} {'peak MB':>8} {'bytes':>10} {'drawn ms':>9}")
    for i, (name, wall, work, memory, size) in enumerate(rows):
        ms = f"{1e3 * seen[i]:9.0f}" if seen else f"{'-':>9}"
        print(f"{name:32} {wall:8.2f} {work:8.2f} {memory:8.0f} {size:10,} {ms}")


if __name__ == "__main__":
    main()
