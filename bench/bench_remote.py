"""What is asked of a web server: requests, and bytes that it sends.

python bench/bench_remote.py [FILE...]     besides sparse models of 2 GB, of 100 and of 5,000 tensors, and in 100 files

A file may be the index of a model in several.

The server is one of this machine and counts. Each answer is compared with that of the file itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pthparse

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from forge.web import Server, serve
from forge.zips import sparse


def metadata(ckpt: pthparse.Checkpoint) -> int:
    """Bytes of the end records, the directory, and all members but storages."""
    held = sum(m.stored_nbytes for m in ckpt.members if m.role != "storage") + ckpt.nbytes
    held -= sum(s.nbytes for s in ckpt.shards) if isinstance(ckpt, pthparse.ShardedCheckpoint) else ckpt.nbytes
    return held + next(e.nbytes for e in ckpt.capacity().ledger() if e.kind == "directory")


def same(a: object, b: object, what: str) -> None:
    if a != b:
        raise SystemExit(f"{what} is not the same from afar")


@contextmanager
def counted(server: Server, what: str, of: int | None = None) -> Iterator[None]:
    server.reset()
    yield
    times = "" if of is None else f"   {server.sent / of:.3f} x of {of:,}"
    print(f"  {what:<8} {len(server.asked):6,} requests   {server.sent:14,} B{times}")


def measure(path: Path) -> None:
    several = path.name.endswith(".index.json")
    with serve(path.parent if several else path) as server, pthparse.open(path) as here:
        print(f"{path.name}   {here.nbytes:,} B")
        url = server.root + path.name if several else server.url
        with counted(server, "open", metadata(here)):
            ckpt = pthparse.open(url)
            tables = [[(name, t.shape, t.dtype) for name, t in c.items()] for c in (ckpt, here)]
        same(*tables, "the table")
        name = max(here, key=lambda n: here[n].nbytes)
        with counted(server, "tensor", here[name].nbytes):
            array = ckpt[name].numpy()
        same(array.tobytes(), here[name].numpy().tobytes(), name)
        with counted(server, "stats", here.nbytes):
            stats = ckpt.stats()
        same([*stats], [*here.stats()], "stats")
        ckpt.close()
        with counted(server, "audit"):
            report = pthparse.audit(url)
        same(told(report, url), told(pthparse.audit(path), str(path)), "the audit")
        with counted(server, "verify", here.nbytes):
            verified = pthparse.verify(url)
        same(told(verified, url), told(pthparse.verify(path), str(path)), "the verification")


def told(report: pthparse.AuditReport | pthparse.VerifyReport, place: str) -> str:
    """What a report says, wherever the files are."""
    return json.dumps(report.to_dict()).replace(place, "").replace(place.rpartition("/")[0], "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="*", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for n in (100, 5000):
            path = Path(folder) / f"{n}_tensors.pth"
            sparse(path, {f"layers.{i // 4}.mlp.{i % 4}.weight": 500_000_000 // n for i in range(n)})
            measure(path)
            path.unlink()
        weights = {}
        for i in range(100):
            name = f"model-{i + 1:05}-of-00100.bin"
            sparse(Path(folder) / name, {f"layers.{i}.{k}": 1_000_000 for k in range(5)})
            weights |= {f"layers.{i}.{k}": name for k in range(5)}
        index = Path(folder) / "model.bin.index.json"
        index.write_text(json.dumps({"metadata": {"total_size": 2_000_000_000}, "weight_map": weights}))
        measure(index)
    for path in args.file:
        measure(path)


if __name__ == "__main__":
    main()
