"""How fast a checkpoint becomes a safetensors file, beside torch with the safetensors library, and beside a plain copy.

python bench/bench_convert.py [FOLDER] [--runs N] [--sparse GB] [--to FOLDER]     FOLDER: what bench/make_data.py made

In turn, from a warm page cache, each to a new file that is removed again:

  copy            shutil.copyfile of the same bytes
  copy, synced    the same and fsync: what pthparse does before a file gets its name
  pthparse        pthparse.convert: written, synced, read back and compared, renamed
  not read back   the same with verify=False
  torch           torch.load and safetensors.torch.save_file, which neither syncs nor compares

Results are compared before anything is timed. --sparse makes a checkpoint of that many GB of holes, and tells the peak
of memory of `pthparse convert` on it: how large a tensor is must not matter.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from bench_verify import peak, sparse

import pthparse

HERE = Path(__file__).parent
FILES = ("model_weights", "many_20000")


def by_torch(src: Path, dst: Path) -> None:
    safetensors.torch.save_file(torch.load(src, weights_only=True), dst, {"format": "pt"})


def copied(src: Path, dst: Path) -> None:
    shutil.copyfile(src, dst)


def synced(src: Path, dst: Path) -> None:
    shutil.copyfile(src, dst)
    fd = os.open(dst, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


CONTESTANTS: dict[str, Callable[[Path, Path], Any]] = {
    "copy": copied,
    "copy, synced": synced,
    "pthparse": lambda src, dst: pthparse.convert(src, dst),
    "not read back": lambda src, dst: pthparse.convert(src, dst, verify=False),
    "torch": by_torch,
}


def check(src: Path, folder: Path) -> None:
    """The same file as torch and the library write, byte by byte."""
    ours, theirs = folder / "ours.safetensors", folder / "theirs.safetensors"
    by_torch(src, theirs)
    for verify in (True, False):
        pthparse.convert(src, ours, verify=verify, overwrite=True)
        if not filecmp.cmp(ours, theirs, shallow=False):
            raise SystemExit(f"{src}: not what torch writes")
    ours.unlink()
    theirs.unlink()


def timed(src: Path, folder: Path, runs: int) -> dict[str, list[float]]:
    """Seconds of each, run by run."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    dst = folder / "out.safetensors"
    for _ in range(runs):
        for name, contestant in CONTESTANTS.items():
            os.sync()
            start = time.perf_counter()
            contestant(src, dst)
            times[name].append(time.perf_counter() - start)
            dst.unlink()
    return times


def ratio(times: dict[str, list[float]], of: str, to: str) -> float:
    return statistics.median(a / b for a, b in zip(times[of], times[to], strict=True))


TORCH = (
    "import sys, torch, safetensors.torch as s; s.save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])"
)


def memory(src: Path, folder: Path, words: list[str]) -> dict[str, int]:
    """Peak bytes of whole processes."""
    dst = folder / "out.safetensors"
    command = [sys.executable, "-m", "pthparse", "convert", str(src), str(dst), "--overwrite", *words]
    return {"bare": peak([sys.executable, "-c", "import numpy"]), "pthparse": peak(command)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / ".data")
    parser.add_argument("--to", type=Path, help="where to write; default: beside the source")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sparse", type=float, default=0, metavar="GB")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=args.to or args.folder) as temporary:
        folder = Path(temporary)
        for stem in FILES:
            src = args.folder / f"{stem}.pth"
            if not src.exists():
                continue
            check(src, folder)
            times = timed(src, folder, args.runs)
            results[stem] = {
                "seconds": {name: statistics.median(t) for name, t in times.items()},
                "of the copy": ratio(times, "copy", "pthparse"),
                "of the synced copy": ratio(times, "copy, synced", "pthparse"),
                "of torch": ratio(times, "torch", "pthparse"),
                "memory": memory(src, folder, [])
                | {"torch": peak([sys.executable, "-c", TORCH, str(src), str(folder / "out.safetensors")])},
            }
        if args.sparse:
            src = folder / "sparse.pth"
            sparse(src, int(args.sparse * 1e9))
            start = time.perf_counter()
            results["sparse"] = memory(src, folder, [])
            results["sparse"]["seconds"] = time.perf_counter() - start
            results["sparse"]["cast"] = memory(src, folder, ["--dtype", "float8_e5m2", "--no-verify"])["pthparse"]
    if args.json:
        print(json.dumps(results, indent=1))
        return
    print(f"median of {args.runs}; files equal to those of torch and the safetensors library")
    for stem in FILES:
        if stem not in results:
            continue
        r = results[stem]
        print(f"\n{stem}.pth")
        for name, seconds in r["seconds"].items():
            print(f"  {name:15} {seconds * 1e3:9.1f} ms")
        print(
            f"  {r['of the copy']:.2f} of the rate of a plain copy, {r['of the synced copy']:.2f} of a synced one, "
            f"{r['of torch']:.2f} x as fast as torch"
        )
        m = r["memory"]
        above = {name: (m[name] - m["bare"]) / 1e6 for name in ("pthparse", "torch")}
        print(f"  memory above Python with numpy: {above['pthparse']:.1f} MB; torch {above['torch']:.1f} MB")
    if args.sparse:
        s = results["sparse"]
        print(
            f"\n{args.sparse:g} GB of holes: {s['seconds']:.1f} s, {(s['pthparse'] - s['bare']) / 1e6:.1f} MB above "
            f"Python with numpy; cast to float8: {(s['cast'] - s['bare']) / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
