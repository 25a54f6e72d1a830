"""`pthparse convert SRC DST`: the tensors of a checkpoint in a file that holds nothing else."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..casts import TARGETS
from ..converter import SHARED, Conversion
from ..converter import convert as convert_any
from ..errors import PthError
from ..wording import count, cut, size
from ..writers import FORMATS
from .progress import Bar
from .text import SHORT, first_of, head, line, short, some
from .verb import CANNOT_SAY, FILE, Verb, natural, print_json, tell

NAMES = 4  # in one line
TERMINATED = 128 + signal.SIGTERM  # as shells have it
TIED = (
    "tied tensors (the same elements of one storage): first: stored once, under the first name, and in safetensors the "
    "other names are kept in __metadata__, as safetensors.torch.save_model does, so that tying them again is the "
    "loader's; copy: each is stored, which takes their bytes again; refuse: an error, also for those that only "
    "overlap. Default: first for safetensors, copy for npz and npy, which cannot say that a name was dropped"
)


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="SRC", help=FILE)
    parser.add_argument("dst", metavar="DST", help="NAME.safetensors, NAME.npz, or a folder")
    target = parser.add_argument_group("what is written")
    target.add_argument("--to", choices=tuple(FORMATS), help="where the name of DST does not say it")
    target.add_argument(
        "--max-shard-size", metavar="SIZE", help="5GB, 500MiB, bytes: several safetensors files and an index"
    )
    target.add_argument("--metadata", action="append", nargs=2, metavar=("KEY", "TEXT"), help="into __metadata__")
    target.add_argument("--overwrite", action="store_true", help="replace what is there")
    target.add_argument("--no-verify", action="store_true", help="do not read the result back and compare it")
    target.add_argument(
        "--threads", type=natural, metavar="N", help="default: as many as there are processors, 4 at most"
    )
    chosen = parser.add_argument_group("which tensors")
    chosen.add_argument("--include", action="append", metavar="PATTERN", help="only these, such as 'layers.*'")
    chosen.add_argument("--exclude", action="append", metavar="PATTERN", help="not these")
    chosen.add_argument(
        "--all", action="store_true", help="every tensor, optimizer state too; not the state dict alone"
    )
    chosen.add_argument(
        "--skip",
        action="store_true",
        help="leave out what has no array or place (sparse, quantized, ...), or is damaged",
    )
    made = parser.add_argument_group("what becomes of them")
    made.add_argument(
        "--dtype",
        action="append",
        metavar="[NAME=]DTYPE",
        help=f"cast floating tensors, or those of a name or pattern; integers by their whole name alone: "
        f"{', '.join(TARGETS)}",
    )
    made.add_argument(
        "--rename", action="append", nargs=2, metavar=("REGEX", "NEW"), help="in each name, such as '^module\\.' ''"
    )
    made.add_argument("--shared", choices=SHARED, help=TIED)
    made.add_argument(
        "--raw", action="store_true", help="npz, npy: bfloat16 and other types that numpy lacks as bare bytes"
    )


@contextmanager
def cleaning() -> Iterator[None]:
    """A process that is asked to end, as a scheduler does, removes what it has begun to write."""
    if threading.current_thread() is not threading.main_thread():  # no other has signals
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def convert(args: argparse.Namespace) -> int:
    try:
        with cleaning(), Bar(args.file) as bar:
            told = convert_any(
                args.file,
                args.dst,
                to=args.to,
                max_shard_size=args.max_shard_size,
                dtype=dtypes(args.dtype or []),
                include=args.include or (),
                exclude=args.exclude or (),
                rename=[(a, b) for a, b in args.rename or []],
                shared=args.shared,
                all=args.all,
                skip=args.skip,
                raw=args.raw,
                metadata={k: v for k, v in args.metadata or []},
                overwrite=args.overwrite,
                verify=not args.no_verify,
                threads=args.threads or None,
                progress=bar.progress,
            )
    except PthError:
        raise
    except ValueError as e:  # of the arguments
        if args.debug:
            raise
        tell(str(e))
        return CANNOT_SAY
    if args.json:
        print_json({"file": args.file, **told.to_dict()})
    else:
        print_conversion(told, args.file)
    return 0


def dtypes(words: list[str]) -> Any:
    """One for all, or one for each pattern; the last one without a pattern is for the rest."""
    if not words:
        return None
    rules = dict(word.rsplit("=", 1) for word in words if "=" in word)
    plain = [word for word in words if "=" not in word]
    return plain[-1] if plain and not rules else rules | ({"*": plain[-1]} if plain else {})


def print_conversion(told: Conversion, path: str) -> None:
    checked = "read back and equal" if told.verified else "not read back"
    head(told.path, f"{told.format}, {count(told.tensors, 'tensor')}, {size(told.nbytes)}; {checked}")
    line(f"  made of {path}")
    if len(told.files) > 1:
        line(f"  {count(len(told.files), 'file')}: {short(told.files[0].path)} to {short(told.files[-1].path)}")
    if told.cast:
        kinds = sorted({f"{c.dtype} to {c.now}" for c in told.cast})
        line(f"  cast: {count(len(told.cast), 'tensor')}, {', '.join(kinds)}")
    for what, texts, n in (
        ("renamed", [f"{short(r.name)} to {short(r.now)}" for r in told.renamed[:NAMES]], len(told.renamed)),
        ("stored once", [f"{short(d.name)} is {short(d.kept)}" for d in told.dropped[:NAMES]], len(told.dropped)),
        ("bare bytes", [short(name) for name in told.raw[:NAMES]], len(told.raw)),
    ):
        if n:
            line(f"  {what}: {first_of(texts, n)}")
    some((f"{short(s.name)}: {cut(s.reason, SHORT)}" for s in told.skipped), len(told.skipped), lead="skipped: ")
    if told.left_out:
        line(f"  left out: {count(told.left_out, 'tensor')} not asked for")


VERB = Verb(
    convert,
    convert_arguments,
    "to safetensors, npz or .npy; in one file or several",
    "pthparse convert model.pth model.safetensors",
    "Writes the tensors of a checkpoint, and nothing else of it, as safetensors (one file, or several and an "
    "index), npz, or a folder of .npy. Memory does not grow with the file; what was written is read back and "
    "compared, and is there only when it is whole. Nothing is replaced unless --overwrite says so.",
    (
        "pthparse convert model.pth small.safetensors --dtype bfloat16",
        "pthparse convert model.pth out/ --to safetensors --max-shard-size 5GB",
        "pthparse convert model.pth embed.npz --include 'embed.*'",
    ),
    no="",
)
