"""The command: `pthparse VERB FILE...`. Verbs print an answer on stdout, for people or as one JSON document.

Exit codes: 0 fine; 1 the answer is no; 2 cannot say (unreadable, unsupported, bad usage).
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence

from . import __version__
from .errors import PthError, escape
from .report.verb import CANNOT_SAY, Verb, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

EXIT_CODES = "exit codes: 0 fine; 1 the answer is no; 2 cannot say (unreadable, unsupported, bad usage)"


def _info() -> Verb:
    from .report import info

    return info.VERB


def _explain() -> Verb:
    from .report import explain

    return explain.VERB


def _ls() -> Verb:
    from .report import ls

    return ls.VERB


def _show() -> Verb:
    from .report import show

    return show.VERB


def _audit() -> Verb:
    from .report import audit

    return audit.VERB


def _stats() -> Verb:
    from .report import stats

    return stats.VERB


def _verify() -> Verb:
    from .report import verify

    return verify.VERB


def _capacity() -> Verb:
    from .report import capacity

    return capacity.VERB


def _plan() -> Verb:
    from .report import plan

    return plan.VERB


def _diff() -> Verb:
    from .report import diff

    return diff.VERB


def _hash() -> Verb:
    from .report import hash

    return hash.VERB


def _convert() -> Verb:
    from .report import convert

    return convert.VERB


# A new verb is a module of report/, a function and a word here. Only the one that is asked for is imported.
VERBS: dict[str, Callable[[], Verb]] = {
    "info": _info,
    "explain": _explain,
    "ls": _ls,
    "show": _show,
    "stats": _stats,
    "capacity": _capacity,
    "plan": _plan,
    "audit": _audit,
    "verify": _verify,
    "diff": _diff,
    "hash": _hash,
    "convert": _convert,
}


class Help(argparse.RawDescriptionHelpFormatter):
    """argparse makes one for each argument, and would import half of the library's shutil to know how wide it is."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size().columns
        except (OSError, ValueError):
            columns = 80
        super().__init__(prog, width=max(20, columns - 2))


class Parser(argparse.ArgumentParser):
    def __init__(self, **how: Any) -> None:
        super().__init__(**{"formatter_class": Help, **how})

    def error(self, message: str) -> NoReturn:
        self.exit(CANNOT_SAY, f"{self.prog}: {escape(message)}\n")


def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """Of one verb, or of all of them."""
    parser = Parser(
        prog="pthparse",
        description="Says what is in a PyTorch checkpoint. Nothing in the file is executed. "
        "`pthparse FILE` is `pthparse info FILE`. FILE may be a URL.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"pthparse {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in [verb] if verb else VERBS:
        found = VERBS[name]()
        sub = verbs.add_parser(
            name, help=found.help, description=found.help, epilog=f"example: {found.example}\n\n{EXIT_CODES}"
        )
        sub.add_argument("--json", action="store_true", help="one JSON document")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        found.arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks is spelt out
            stream.reconfigure(errors="backslashreplace")
    if not words:
        build_parser().print_help(sys.stderr)
        return CANNOT_SAY
    if words and words[0] not in VERBS and words[0] not in ("-h", "--help", "--version"):
        words.insert(0, "info")
    args = build_parser(words[0] if words[0] in VERBS else None).parse_args(words)
    files = args.file if isinstance(args.file, str) else args.file[0]
    try:
        code = VERBS[args.verb]().run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader has seen enough. Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (PthError, KeyError, OSError) as e:
        complain(e, files, args.debug)
        return CANNOT_SAY


def command() -> NoReturn:
    """The command as a process of its own: too short for the collector of garbage to be of use."""
    gc.set_threshold(50_000)
    code = main()
    gc.freeze()  # or each object is looked at once more at exit
    sys.exit(code)
