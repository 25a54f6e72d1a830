"""`pthparse convert SRC DST`: the tensors of a checkpoint in a file that holds nothing else."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..casts import TARGETS
from ..converter import SHARED, Conversion
from ..converter import convert as convert_any
from ..errors import PthError, escape
from ..writers import FORMATS
from .audit import short
from .ls import natural
from .text import count, line, size
from .verb import CANNOT_SAY, Verb, print_json
from .verify import Bar, print_names

TIED = (
    "tied tensors (the same elements of one storage): first: stored once, under the first name, and in safetensors the "
    "other names are kept in __metadata__, as safetensors.torch.save_model does, so that tying them again is the "
    "loader's; copy: each is stored, which takes their bytes again; refuse: an error, also for those that only "
    "overlap. Default: first for safetensors, copy for npz and npy, which cannot say that a name was dropped"
)


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="SRC", help="whatever the other verbs open")
    parser.add_argument("dst", metavar="DST", help="NAME.safetensors, NAME.npz, or a folder")
    parser.add_argument("--to", choices=tuple(FORMATS), help="where the name of DST does not say it")
    parser.add_argument(
        "--max-shard-size", metavar="SIZE", help="5GB, 500MiB, bytes: several safetensors files and an index"
    )
    parser.add_argument(
        "--dtype",
        action="append",
        metavar="[NAME=]DTYPE",
        help=f"cast floating tensors, or those of a name or pattern; integers by their whole name alone: "
        f"{', '.join(TARGETS)}",
    )
    parser.add_argument("--include", action="append", metavar="PATTERN", help="only these, such as 'layers.*'")
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="not these")
    parser.add_argument(
        "--rename", action="append", nargs=2, metavar=("REGEX", "NEW"), help="in each name, such as '^module\\.' ''"
    )
    parser.add_argument("--shared", choices=SHARED, help=TIED)
    parser.add_argument(
        "--all", action="store_true", help="every tensor, optimizer state too; not the state dict alone"
    )
    parser.add_argument(
        "--skip",
        action="store_true",
        help="leave out what has no array or place (sparse, quantized, ...), or is damaged",
    )
    parser.add_argument(
        "--raw", action="store_true", help="npz, npy: bfloat16 and other types that numpy lacks as bare bytes"
    )
    parser.add_argument("--metadata", action="append", nargs=2, metavar=("KEY", "TEXT"), help="into __metadata__")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--no-verify", action="store_true", help="do not read the result back and compare it")
    parser.add_argument(
        "--threads", type=natural, metavar="N", help="default: as many as there are processors, 4 at most"
    )


def convert(args: argparse.Namespace) -> int:
    bar = Bar(args.file)
    try:
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
        bar.clear()
        if args.debug:
            raise
        print(f"pthparse convert: {escape(str(e))}", file=sys.stderr)
        return CANNOT_SAY
    finally:
        bar.clear()
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
    line(f"{path} -> {told.path}   {told.format}, {count(told.tensors, 'tensor')}, {size(told.nbytes)}; {checked}")
    if len(told.files) > 1:
        line(f"  {count(len(told.files), 'file')}: {short(told.files[0].path)} to {short(told.files[-1].path)}")
    if told.cast:
        kinds = sorted({f"{c.dtype} to {c.now}" for c in told.cast})
        line(f"  cast: {count(len(told.cast), 'tensor')}, {', '.join(kinds)}")
    print_names("renamed", [f"{r.name} to {r.now}" for r in told.renamed], False)
    print_names("stored once", [f"{d.name} is {d.kept}" for d in told.dropped], False)
    print_names("bare bytes", told.raw, False)
    for s in told.skipped:
        line(f"  skipped: {short(s.name)}: {short(s.reason)}")
    if told.left_out:
        line(f"  left out: {count(told.left_out, 'tensor')} that were not asked for")


VERB = Verb(
    convert,
    convert_arguments,
    "as safetensors, npz or .npy: streamed, compared, and there only when it is whole",
    "pthparse convert model.pth model.safetensors --dtype bfloat16",
)
