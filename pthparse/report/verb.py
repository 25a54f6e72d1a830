"""What the verbs of the command share: their row in its table, JSON, and how an error is told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from ..errors import PthError, escape
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, TypeVar

    Found = TypeVar("Found")

    from ..checkpoint import Names

NO = 1
CANNOT_SAY = 2


# What every verb opens.
FILE = "a checkpoint; of a model in several files, its directory or index; or a URL"
GLOB = "a glob over names, such as 'layers.*.weight'"


class Verb(Record):
    """What a module of report/ gives to the table of cli.py.

    `help` is its line among the others, `about` what it answers in some sentences; examples may have a comment behind
    two spaces and a `#`. `no` is what exit code 1 says; without it there is none.
    """

    run: Callable[[argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None]
    help: str
    example: str
    about: str = ""
    examples: tuple[str, ...] = ()
    no: str = "the answer is no"


def natural(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"not a whole number: {text!r}")
    return int(text)


def print_json(document: dict[str, Any]) -> None:
    import json

    # Whole before its first byte is out: a program gets a document or none.
    print(json.dumps({"schema": 1, **document}, ensure_ascii=True, allow_nan=False, indent=1))


def print_csv(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Cells that are None are empty."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)


def print_documents(args: argparse.Namespace, documents: list[dict[str, Any]]) -> None:
    """What there is of each file that was asked for."""
    print_json(documents[0] if len(args.file) == 1 else {"files": documents})


def each_file(
    args: argparse.Namespace, read: Callable[..., Found], documents: list[dict[str, Any]]
) -> Iterator[tuple[str, Found]]:
    """What `read` finds in each file, with a bar meanwhile. What cannot be read is told, and is among the documents."""
    from .progress import Bar

    for path in args.file:
        try:
            with Bar(path) as bar:
                found = read(path, progress=bar.progress)
        except (PthError, OSError) as e:
            complain(e, path, args.debug)
            documents.append({"file": path, "error": message(e, path)})
            continue
        yield path, found


def tensor_row(t: Any) -> dict[str, Any]:
    from .summary import stored_nbytes

    return {
        "name": t.name,
        "shape": list(t.shape),
        "dtype": t.dtype,
        "numel": t.numel,
        "nbytes": t.nbytes,
        "stored_nbytes": stored_nbytes(t),
        "kind": t.kind,
        "layout": t.layout,
        "requires_grad": t.requires_grad,
    }


def tell(text: str) -> None:
    """Something that is no answer."""
    from .text import line

    line(f"pthparse: {text}", sys.stderr)


def tell_lost(names: Names, path: str) -> None:
    """What an answer leaves out, since a model in several files has not all of them."""
    from ..checkpoint import unread
    from .text import FEW, first_of, short

    lost = list(unread(names))
    if lost:
        told = first_of([short(name) for name in lost[:FEW]], len(lost))
        tell(f"{path}: not all of the model is there; without {told} (pthparse verify tells why)")


def complain(error: Exception, path: str, debug: bool) -> None:
    """One line on stderr, or all of it."""
    if debug:
        import traceback

        traceback.print_exception(error)
    else:
        tell(message(error, path))


def message(error: Exception, path: str) -> str:
    """One line."""
    if isinstance(error, OSError):
        return f"{escape(str(error.filename or 'standard output'))}: {error.strerror or error}"
    if isinstance(error, KeyError):
        return f"{escape(path)}: {error.args[0]}"
    text = str(error)
    return text if getattr(error, "path", None) else f"{escape(path)}: {text}"
