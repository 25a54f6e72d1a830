"""`pthparse ls FILE [PATTERN]`: the tensors, a line each."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ..checkpoint import open as open_checkpoint
from ..errors import escape
from ..source import is_afar
from ..wording import shape, share
from .screen import on_terminal
from .summary import stored_nbytes
from .text import Column, rest, table
from .verb import FILE, GLOB, NO, Verb, natural, print_csv, print_json, tell, tell_lost, tensor_row

FIELDS = ("name", "shape", "dtype", "numel", "nbytes", "stored_nbytes")
MOST_ROWS = 1000  # on a terminal
ALL = ": a pipe gets all, --limit N the first N"

SORTS: dict[str, Callable[[Any], Any]] = {
    "name": lambda t: t.name,
    "size": lambda t: (-stored_nbytes(t), -t.nbytes),
    "shape": lambda t: tuple(-n for n in t.shape),
    "dtype": lambda t: t.dtype,
}


def ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=FILE)
    parser.add_argument("pattern", nargs="?", metavar="PATTERN", help=GLOB)
    parser.add_argument("--sort", choices=("file", *SORTS), default="file", help="default: the order of the file")
    parser.add_argument("--shard", action="store_true", help="the file that each one is in")
    parser.add_argument("--csv", action="store_true", help="comma-separated values")
    parser.add_argument("--limit", type=natural, metavar="N", help="the first N only")


def ls(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file) as ckpt:
        tell_lost(ckpt, args.file)
        tensors = [t for n, t in ckpt.items() if args.pattern is None or fnmatchcase(n, args.pattern)]
        if args.sort != "file":
            tensors.sort(key=SORTS[args.sort])
        found = len(tensors)
        tensors = tensors[: args.limit]
        if args.json:
            rows = [{**tensor_row(t), **({"file": file_of(t)} if args.shard else {})} for t in tensors]
            print_json({"file": args.file, "nbytes": ckpt.nbytes, "found": found, "tensors": rows})
        elif args.csv:
            print_csv((*FIELDS, "file") if args.shard else FIELDS, (csv_row(t, args.shard) for t in tensors))
        else:
            shown = on_screen(tensors, args.limit)
            print_tensors(shown, ckpt.nbytes, args.shard)
            rest(found - len(shown), ALL if args.limit is None else "", indent=0)
    if args.pattern is not None and not found:
        tell(f"{args.file}: no tensor matches '{args.pattern}'")
        return NO
    return 0


def csv_row(t: Any, with_file: bool) -> list[Any]:
    row = [escape(t.name), "x".join(map(str, t.shape)), t.dtype, t.numel, t.nbytes, stored_nbytes(t)]
    return [*row, escape(file_of(t))] if with_file else row


def on_screen(rows: list[Any], limit: int | None) -> list[Any]:
    """What a terminal gets of them if nothing else is asked for; a pipe gets all."""
    return rows[:MOST_ROWS] if limit is None and on_terminal(sys.stdout) else rows


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
        Column("dtype", spared=1),
        Column("bytes", right=True),
        Column("of file", right=True, spared=2),
    ]
    if with_file:
        heads.append(Column("file", kept=40))
    rows = []
    for t in tensors:
        nbytes = stored_nbytes(t)
        kind = "" if t.kind in ("dense", "array") else f" {t.kind}" if t.layout == "strided" else f" {t.layout}"
        dtype = "?" if t.error is not None and t.dtype == "untyped" else t.dtype
        cells = (t.name, shape(t.shape), dtype + kind, f"{nbytes:,}", share(nbytes, total))
        rows.append((*cells, file_of(t)) if with_file else cells)
    table(heads, rows, sys.stdout)


VERB = Verb(
    ls,
    ls_arguments,
    "the tensors: name, shape, dtype, bytes, share",
    "pthparse ls model.pth 'layers.*' --sort size",
    "The tensors, a line each, in the order of the file: name, shape, dtype, the bytes of the file that hold its "
    "elements, and how much of the file these are. A terminal gets the first thousand, a pipe all.",
    (
        "pthparse ls model.pth | grep bias",
        "pthparse ls model.pth --csv > tensors.csv",
        "pthparse ls llama-7b/ --shard  # which file each one is in",
    ),
    no="no tensor matches PATTERN",
)
