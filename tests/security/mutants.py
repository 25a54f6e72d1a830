"""Small honest and hostile files, spoilt at random, through the audit and through open: is any of them ever hurt?

`python -m security.mutants N [SEED]`, in tests/, reads N of them. What counts: no exception but PthError, no signal,
none over a second of processor time, and no more than 64 MB above idle for all of them.
"""

from __future__ import annotations

import collections
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from forge.hostile import CATALOGUE

import pthparse

ZOO = Path(__file__).parents[1] / "data" / "zoo"
HONEST_BYTES, HOSTILE_BYTES = 16_000, 6_000  # of the files that are spoilt
SECONDS, MEGABYTES = 1.0, 64.0


@dataclass
class Seen:
    """What became of them; `slowest`: the file that took `worst` seconds."""

    n: int = 0
    opened: int = 0
    verdicts: collections.Counter[str] = field(default_factory=collections.Counter)
    worst: float = 0.0
    slowest: bytes = b""
    megabytes: float = 0.0


def seeds() -> list[bytes]:
    honest = [f.read_bytes() for f in sorted(ZOO.glob("*/*.pth")) if 0 < f.stat().st_size < HONEST_BYTES]
    hostile = [data for forged in CATALOGUE[::3] if 0 < len(data := forged.build()) < HOSTILE_BYTES]
    return honest + hostile


def spoil(data: bytes, others: list[bytes], r: random.Random) -> bytes:
    """Changes, deletes, inserts, copies and moves a few bytes; cuts; puts in some of another file."""
    out = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 4, 12))):
        if not out:
            break
        kind, i = r.random(), r.randrange(len(out))
        if kind < 0.45:
            out[i] = r.randrange(256)
        elif kind < 0.6:
            out[i] ^= 1 << r.randrange(8)
        elif kind < 0.72:
            del out[i : i + r.choice((1, 2, 4, 30))]
        elif kind < 0.84:
            out[i:i] = r.randbytes(r.choice((1, 2, 4, 8)))
        elif kind < 0.92:
            j, n = r.randrange(len(out)), r.choice((4, 16, 64))
            out[i : i + n] = out[j : j + n]
        elif kind < 0.96:
            del out[i:]
        else:
            other = r.choice(others)
            j = r.randrange(len(other))
            out[i:i] = other[j : j + r.choice((8, 64, 400))]
    return bytes(out)


def peak() -> float:
    """The most memory this process has had, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def look_at_all(data: bytes) -> bool:
    """Everything that can be asked of an open file. Was it opened?"""
    try:
        with pthparse.open(data) as ckpt:
            assert (ckpt.globals, ckpt.findings, ckpt.errors) is not None
            repr(ckpt.root)
            for t in ckpt.values():
                try:
                    t.numpy()
                except pthparse.PthError:
                    pass
    except pthparse.PthError:
        return False
    return True


def endure(n: int, seed: int = 0) -> Seen:
    files, r, seen = seeds(), random.Random(seed), Seen()
    for data in files:  # what is imported on first use, and what any of them takes as it is
        pthparse.audit(data)
        look_at_all(data)
    idle = peak()
    for i in range(n):
        data = spoil(r.choice(files), files, r)
        start = time.process_time()
        verdict = pthparse.audit(data).verdict
        if i % 4 == 0:
            seen.opened += look_at_all(data)
        took = time.process_time() - start
        if took > seen.worst:
            seen.worst, seen.slowest = took, data
        seen.verdicts[verdict] += 1
        seen.n += 1
    seen.megabytes = peak() - idle
    return seen


if __name__ == "__main__":
    begun = time.monotonic()
    found = endure(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(
        f"{found.n:,} mutants in {time.monotonic() - begun:.0f} s: worst {found.worst:.3f} s, +{found.megabytes:.1f} MB"
    )
    print(f"{found.opened:,} of {-(-found.n // 4):,} opened; {dict(found.verdicts)}")
    sys.exit(found.worst > SECONDS or found.megabytes > MEGABYTES)
