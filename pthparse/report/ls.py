"""`pthparse ls FILE [PATTERN]`: the tensors, a line each."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ..checkpoint import open as open_checkpoint
from ..errors import escape
from ..source import is_afar
from .summary import stored_nbytes
from .text import Column, line, shape, share, table
from .verb import NO, Verb, print_json, tensor_row

SORTS: dict[str, Callable[[Any], Any]] = {
    "name": lambda t: t.name,
    "size": lambda t: (-stored_nbytes(t), -t.nbytes),
    "shape": lambda t: tuple(-n for n in t.shape),
    "dtype": lambda t: t.dtype,
}


def natural(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"not a number of lines: {text!r}")
    return int(text)


def ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument("pattern", nargs="?", help="glob over names, such as 'layers.*.weight'")
    parser.add_argument("--sort", choices=("file", *SORTS), default="file", help="default: the order of the file")
    parser.add_argument("--shard", action="store_true", help="the file that each one is in")
    parser.add_argument("--csv", action="store_true", help="comma-separated values")
    parser.add_argument("--limit", type=natural, metavar="N", help="the first N only")


def ls(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file) as ckpt:
        tensors = [t for n, t in ckpt.items() if args.pattern is None or fnmatchcase(n, args.pattern)]
        if args.sort != "file":
            tensors.sort(key=SORTS[args.sort])
        found = len(tensors)
        tensors = tensors[: args.limit]
        if args.json:
            rows = [{**tensor_row(t), **({"file": file_of(t)} if args.shard else {})} for t in tensors]
            print_json({"file": args.file, "nbytes": ckpt.nbytes, "found": found, "tensors": rows})
        elif args.csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            heads = ("name", "shape", "dtype", "numel", "nbytes", "stored_nbytes")
            writer.writerow((*heads, "file") if args.shard else heads)
            for t in tensors:
                dims = "x".join(map(str, t.shape))
                row = (escape(t.name), dims, t.dtype, t.numel, t.nbytes, stored_nbytes(t))
                writer.writerow((*row, escape(file_of(t))) if args.shard else row)
        else:
            print_tensors(tensors, ckpt.nbytes, args.shard)
            if found > len(tensors):
                line(f"({found - len(tensors):,} more)")
    if args.pattern is not None and not found:
        print(f"pthparse: {escape(args.file)}: no tensor matches '{escape(args.pattern)}'", file=sys.stderr)
        return NO
    return 0


def file_of(t: Any) -> str:
    """The name of the file that a tensor is in; of one in chunks, of the first of its files, and how many more."""
    if t.kind == "chunked":
        names = list(dict.fromkeys(file_of(chunk) for chunk in t.chunks)) if t.error is None else []
        return f"{names[0]} (+{len(names) - 1})" if len(names) > 1 else "".join(names)
    path = t._home.box.source.path or ""
    if is_afar(path):
        from ..remote.directory import parts_of

        return parts_of(path)[1]
    return os.path.basename(path)  # noqa: PTH119 - as text, as it was given


def print_tensors(tensors: Sequence[Any], total: int, with_file: bool) -> None:
    heads = [
        Column("name", name=True),
        Column("shape"),
        Column("dtype"),
        Column("bytes", right=True),
        Column("share", right=True),
    ]
    if with_file:
        heads.append(Column("file", name=True))
    rows = []
    for t in tensors:
        nbytes = stored_nbytes(t)
        kind = "" if t.kind in ("dense", "array") else f" {t.kind}" if t.layout == "strided" else f" {t.layout}"
        dtype = "?" if t.error is not None and t.dtype == "untyped" else t.dtype
        cells = (t.name, shape(t.shape), dtype + kind, f"{nbytes:,}", share(nbytes, total))
        rows.append((*cells, file_of(t)) if with_file else cells)
    table(heads, rows, sys.stdout)


VERB = Verb(
    ls, ls_arguments, "the tensors: name, shape, dtype, bytes, share", "pthparse ls model.pth 'layers.*' --sort size"
)
