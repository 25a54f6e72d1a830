"""`pthparse report FILE... -o out.html`: a page, or pictures, of a checkpoint."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ..checkpoint import open as open_checkpoint
from ..errors import UnsupportedError, escape
from ..outputs import write
from ..pages import FIGURES, page, pictures, title_of
from ..wording import size
from .text import line
from .verb import CANNOT_SAY, Verb, each_file, print_documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[int, int], None] | None

PICTURES = ("svg", "png", "pdf")


def report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="a file, or a folder for several; default: NAME.html in this folder"
    )
    parser.add_argument("--no-stats", action="store_true", help="read no tensor data: an instant page")
    parser.add_argument(
        "--diff", metavar="B", help="another checkpoint, shown beside the first one, and the difference"
    )
    kind = parser.add_mutually_exclusive_group()
    for name in PICTURES:
        extra = "" if name == "svg" else " (pip install 'pthparse[pictures]')"
        kind.add_argument(
            f"--{name}", action="store_const", dest="picture", const=name, help=f"pictures, not a page{extra}"
        )
    parser.add_argument(
        "--figure", action="append", choices=FIGURES, help="of the pictures these alone; OUT may then be a file"
    )


def report(args: argparse.Namespace) -> int:
    if args.figure and not args.picture:
        raise UnsupportedError("usage", "--figure goes with --svg, --png or --pdf", path=args.file[0])
    if args.diff and (args.picture or len(args.file) > 1):
        raise UnsupportedError("usage", "--diff goes with a page of one file", path=args.file[0])
    documents: list[dict[str, Any]] = []
    taken: set[Path] = set()

    def make(path: str, progress: Progress) -> list[dict[str, Any]]:
        made = _pictures_of(args, path, progress) if args.picture else _page_of(args, path, progress)
        return [_write(at, data, args, taken) for at, data in made]

    for path, written in each_file(args, make, documents):
        documents.append({"file": path, "written": written})
        if not args.json:
            for w in written:
                line(f"{w['path']}   {size(w['nbytes'])}")
    if args.json:
        print_documents(args, documents)
    return CANNOT_SAY if any("error" in told for told in documents) else 0


def _page_of(args: argparse.Namespace, path: str, progress: Progress) -> list[tuple[Path, bytes]]:
    with open_checkpoint(path, mmap=False) as ckpt:
        text = page(ckpt, title=title_of(path), stats=not args.no_stats, other=args.diff, progress=progress)
    name = f"{title_of(path)}.html"
    return [(_place(args, name, one=len(args.file) == 1), text.encode())]


def _pictures_of(args: argparse.Namespace, path: str, progress: Progress) -> list[tuple[Path, bytes]]:
    wanted = tuple(dict.fromkeys(args.figure or FIGURES))
    stats = not args.no_stats
    with open_checkpoint(path, mmap=False) as ckpt:
        made = pictures(ckpt, title=title_of(path), figures=wanted, to=args.picture, stats=stats, progress=progress)
    one = len(args.file) == 1 and len(wanted) == 1
    title = title_of(path)
    return [(_place(args, f"{title}-{name}.{args.picture}", one=one), data) for name, data in made.items()]


def _place(args: argparse.Namespace, name: str, one: bool) -> Path:
    """Where to: a name of ours in a folder, or the one that was asked for."""
    name = name.replace("/", "_")
    if args.output is None:
        return Path(name)
    out = Path(args.output)
    if one and not out.is_dir() and not args.output.endswith(("/", os.sep)):
        return out
    return out / name


def _write(path: Path, data: bytes, args: argparse.Namespace, taken: set[Path]) -> dict[str, Any]:
    """Whole or not at all; never onto what is read."""
    real = Path(os.path.realpath(path))
    if any(real == Path(os.path.realpath(source)) for source in (*args.file, *([args.diff] if args.diff else []))):
        raise UnsupportedError("same-file", f"'{escape(str(path))}' is what is read", path=args.file[0])
    if real in taken:
        raise UnsupportedError("same-name", f"two reports would be '{escape(str(path))}'", path=args.file[0])
    taken.add(real)
    if args.output is not None and not path.parent.exists():
        path.parent.mkdir(parents=True)
    write(path, [data])
    return {"path": str(path), "nbytes": len(data)}


VERB = Verb(
    report,
    report_arguments,
    "a page to look at: treemap, modules, distributions, the file byte by byte; or pictures of it",
    "pthparse report model.pth -o model.html",
    "One HTML file that needs nothing else and fetches nothing: where the bytes are, the modules, statistics and first "
    "values of each tensor, the file byte by byte, health, audit and plan. Or figures of it, for a slide or a paper.",
    (
        "pthparse report model.pth --no-stats  # instantly: no tensor is read",
        "pthparse report before.pth --diff after.pth -o both.html",
        "pthparse report model.pth --png --figure treemap -o treemap.png",
    ),
    no="",
)
