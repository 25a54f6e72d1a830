"""How fast every checksum of a checkpoint is recomputed, beside reading alone and zlib, and what memory it takes.

python bench/bench_verify.py [FOLDER] [--runs N] [--threads N] [--sparse GB]     FOLDER: what bench/make_data.py made

All have the same threads, and read by the same calls into buffers of the same size, in turn, from a warm page cache:

  read       os.preadv alone: the rate that nothing can exceed
  pthparse   pthparse.verify, whole: the directory, the pickle, every header, every checksum, every tensor
  zlib       the same pieces through zlib.crc32
  zipfile    ZipFile.testzip of the standard library, which has one thread

All answers are compared before anything is timed. --sparse makes a checkpoint of that many GB of holes, and tells the
peak of memory of `pthparse verify` on it: how large a file is must not matter.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pthparse
from pthparse import checksums

HERE = Path(__file__).parent
FILES = ("model_weights", "state_dict_100mb", "many_20000")
Extents = list[tuple[int, int]]


def extents(path: Path) -> dict[str, tuple[int, int, int]]:
    """Name -> (where the data begin, bytes, checksum) of each member, as the standard library reads the directory."""
    out = {}
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            file.seek(info.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            out[info.filename] = (info.header_offset + 30 + name + extra, info.file_size, info.CRC)
    return out


def sweep(path: Path, threads: int, work: Callable[[memoryview, int], int]) -> None:
    """Reads the whole file by pieces; `work` is given each buffer and what it made of the one before."""
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    pieces = iter(range(0, size, checksums.PIECE))
    lock = threading.Lock()

    def run() -> None:
        view = memoryview(bytearray(checksums.BUFFER))
        while True:
            with lock:
                at = next(pieces, None)
            if at is None:
                return
            end, made = min(size, at + checksums.PIECE), 0
            while at < end:
                n = os.preadv(fd, [view[: end - at]], at)
                made = work(view[:n], made)
                at += n

    team = [threading.Thread(target=run) for _ in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    os.close(fd)


def contestants(path: Path, threads: int) -> dict[str, Callable[[], Any]]:
    def with_zipfile() -> None:
        with zipfile.ZipFile(path) as archive:
            archive.testzip()

    return {
        "read": lambda: sweep(path, threads, lambda view, made: 0),
        "pthparse": lambda: pthparse.verify(path, threads=threads),
        "zlib": lambda: sweep(path, threads, zlib.crc32),
        "zipfile": with_zipfile,
    }


def check(path: Path, threads: int) -> None:
    """Every member's sum is that of zlib, the file is said to be right, and with one bit turned it is not."""
    members = extents(path)
    data = path.read_bytes()
    assert all(zlib.crc32(data[at : at + n]) == crc for at, n, crc in members.values())
    report = pthparse.verify(path, threads=threads)
    assert report.ok and {m.name for m in report.members if m.status == "ok"} == set(members)
    name, (at, n, _) = max(members.items(), key=lambda item: ("/data/" in item[0], item[1][1]))
    spoilt = bytearray(data)
    spoilt[at + n // 2] ^= 1
    found = pthparse.verify(bytes(spoilt), threads=threads)
    assert [m.name for m in found.members if m.status != "ok"] == [name] and len(found.damaged) > 0


def timed(path: Path, threads: int, runs: int) -> dict[str, float]:
    """Median seconds of each."""
    times: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, contestant in contestants(path, threads).items():
            start = time.perf_counter()
            contestant()
            times.setdefault(name, []).append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


# ---- memory ----

# A small parent in between, since a child's peak counts from what its parent was.
CHILD = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
)


def peak(words: list[str]) -> int:
    return int(subprocess.run([sys.executable, "-c", CHILD, *words], capture_output=True, check=True).stdout)


def sparse(path: Path, nbytes: int) -> None:
    """A checkpoint with one storage of holes, whose checksum is right, byte by byte as torch lays one out."""
    numel = nbytes // 4
    size = numel * 4
    words = b"\x8a\x08" + struct.pack("<q", numel)
    pid = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpu" + words + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + b"K\0(" + words + b"t(K\1t\x89}tR"
    root = b"\x80\2}X\1\0\0\0w" + tensor + b"s."
    crc, block = 0, 1 << 26
    zeros = zlib.crc32(bytes(block))
    for _ in range(size // block):
        crc = checksums.combine(crc, zeros, block)
    crc = checksums.combine(crc, zlib.crc32(bytes(size % block)), size % block)
    rows = []
    with path.open("wb") as file:
        for name, data, length, total in (
            (b"a/data.pkl", root, len(root), zlib.crc32(root)),
            (b"a/version", b"3\n", 2, zlib.crc32(b"3\n")),
            (b"a/data/0", None, size, crc),
        ):
            at = file.tell()
            extra = struct.pack("<HHQQ", 1, 16, length, length)
            head = struct.pack("<HHHHHIIIHH", 45, 0x800, 0, 0, 0, total, 2**32 - 1, 2**32 - 1, len(name), len(extra))
            file.write(b"PK\3\4" + head + name + extra)
            if data is None:
                file.seek(length, os.SEEK_CUR)
            else:
                file.write(data)
            rows.append((name, length, total, at))
        start = file.tell()
        for name, length, total, at in rows:
            extra = struct.pack("<HHQQQ", 1, 24, length, length, at)
            head = struct.pack("<HHHHHHIII", 45, 45, 0x800, 0, 0, 0, total, 2**32 - 1, 2**32 - 1)
            head += struct.pack("<HHHHHII", len(name), len(extra), 0, 0, 0, 0, 2**32 - 1)
            file.write(b"PK\1\2" + head + name + extra)
        end = file.tell()
        file.write(b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, len(rows), len(rows), end - start, start))
        file.write(b"PK\6\7" + struct.pack("<IQI", 0, end, 1))
        file.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0))


def memory(folder: Path, gigabytes: float, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / "sparse.pth"
        sparse(path, int(gigabytes * 1e9))
        code = f"import pthparse; r = pthparse.verify({str(path)!r}, threads={threads}); print(r.ok, r.checked_nbytes)"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        if said[0] != "True" or int(said[1]) < gigabytes * 1e9 - 4:
            raise SystemExit(f"the sparse file is not what it should be: {said}")
        bare = peak([sys.executable, "-c", "pass"])
        start = time.perf_counter()
        whole = peak([sys.executable, "-m", "pthparse", "verify", str(path)])
        return {
            "nbytes": path.stat().st_size,
            "seconds": time.perf_counter() - start,
            "bare": bare,
            "peak": whole,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / ".data")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sparse", type=float, default=0, metavar="GB")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results: dict[str, Any] = {"threads": args.threads, "library": checksums._library().__name__}
    for stem in FILES:
        path = args.folder / f"{stem}.pth"
        if not path.exists():
            continue
        check(path, args.threads)
        results[stem] = {
            "nbytes": path.stat().st_size,
            **{f"{n} threads": timed(path, n, args.runs) for n in sorted({1, args.threads})},
        }
    if args.sparse:
        results["sparse"] = memory(args.folder, args.sparse, args.threads)
    if args.json:
        print(json.dumps(results, indent=1))
        return
    print(f"checksums by {results['library']}, median of {args.runs}; answers equal")
    for stem in FILES:
        if stem not in results:
            continue
        nbytes = results[stem].pop("nbytes")
        print(f"\n{stem}.pth: {nbytes:,} B")
        for threads, times in results[stem].items():
            ours = times["pthparse"]
            for name, seconds in times.items():
                rate = f"{nbytes / seconds / 1e9:6.2f} GB/s"
                print(f"  {threads}  {name:9} {seconds * 1e3:9.1f} ms  {rate}  {seconds / ours:6.2f} x the time")
            of_read, of_zlib = times["read"] / ours, times["zlib"] / ours
            print(f"  {threads}  pthparse at {of_read:.2f} of the read rate, {of_zlib:.2f} x zlib")
    if args.sparse:
        s = results["sparse"]
        above = (s["peak"] - s["bare"]) / 1e6
        print(f"\n{s['nbytes']:,} B of holes: {s['seconds']:.1f} s, peak {s['peak'] / 1e6:.1f} MB in all, "
              f"{above:.1f} MB above Python alone")  # fmt: skip


if __name__ == "__main__":
    main()
