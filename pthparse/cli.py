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
from .report.screen import NARROWEST, columns, wrap
from .report.verb import CANNOT_SAY, FILE, Verb, complain, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CANNOT = "cannot say: unreadable, unsupported, or bad usage"
EXIT_CODES = f"exit codes: 0 fine; 1 the answer is no; 2 {CANNOT}"
WORDS = ("help", "completion")  # that are no verbs: `pthparse help VERB`, `pthparse completion SHELL`


def _info() -> Verb:
    from .report import info

    return info.VERB


def _ls() -> Verb:
    from .report import ls

    return ls.VERB


def _tree() -> Verb:
    from .report import tree

    return tree.VERB


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


def _report() -> Verb:
    from .report import report

    return report.VERB


def _drift() -> Verb:
    from .report import drift

    return drift.VERB


def _export_tensorboard() -> Verb:
    from .report import export_tensorboard

    return export_tensorboard.VERB


# A new verb is a module of report/, a function and a word here. Only the one that is asked for is imported.
VERBS: dict[str, Callable[[], Verb]] = {
    "info": _info,
    "ls": _ls,
    "tree": _tree,
    "show": _show,
    "stats": _stats,
    "capacity": _capacity,
    "plan": _plan,
    "audit": _audit,
    "verify": _verify,
    "diff": _diff,
    "hash": _hash,
    "convert": _convert,
    "report": _report,
    "drift": _drift,
    "export-tensorboard": _export_tensorboard,
}

USAGE = (
    "usage: pthparse VERB FILE...",
    "       pthparse FILE         the same as pthparse info FILE",
    "       pthparse VERB --help  what it answers, examples, options, exit codes",
)
# What one may want to know, and the verbs that tell it; those named nowhere here come last.
GROUPS = {
    "what is in it": ("info", "ls", "tree", "show", "explain"),
    "how large, and why": ("capacity", "plan"),
    "is it sound": ("audit", "verify", "stats"),
    "two or more of them": ("diff", "hash", "drift"),
    "make something of it": ("convert", "report", "export-tensorboard"),
}


class Help(argparse.RawDescriptionHelpFormatter):
    """argparse makes one for each argument, and would import half of the library's shutil to know how wide it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=help_width())


def help_width() -> int:
    """Lines of prose longer than a hundred characters are hard to read."""
    return max(NARROWEST, min(columns() or 80, 100) - 2)


def prose(text: str, hang: int = 0) -> str:
    return "\n".join(wrap(text, help_width(), hang))


class Parser(argparse.ArgumentParser):
    def __init__(self, **how: Any) -> None:
        super().__init__(**{"formatter_class": Help, "add_help": False, **how})
        self._positionals.title = "what to open"

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        sys.stdout.flush()  # or a closed pipe is noticed when it is too late to be quiet
        super().exit(status, message)

    def error(self, message: str) -> NoReturn:
        self.exit(CANNOT_SAY, f"{self.prog}: {escape(message)}\n{self.prog} --help tells more\n")


class Overview(Parser):
    """All verbs, a line each. What the line says is in the verbs' modules, which are imported for it alone."""

    def format_help(self) -> str:
        grouped = {name for names in GROUPS.values() for name in names}
        groups = {**GROUPS, "more": tuple(name for name in VERBS if name not in grouped)}
        room = max(map(len, VERBS)) + 4
        parts = [
            "\n".join(prose(text, 9) for text in USAGE),
            prose("Says what is in a PyTorch checkpoint. Nothing in the file is executed."),
        ]
        for title, names in groups.items():
            rows = [f"  {n:<{room - 2}}{VERBS[n]().help}" for n in names if n in VERBS]
            if rows:
                parts.append("\n".join([f"{title}:", *(prose(row, room) for row in rows)]))
        parts += [
            prose(f"FILE is {FILE}. Every verb takes --json."),
            prose("pthparse completion SHELL (bash, zsh, fish) makes the shell complete verbs, options, names."),
            prose(EXIT_CODES),
        ]
        return "\n\n".join(parts) + "\n"


def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """Of one verb and its arguments, or of the names of all."""
    parser = Overview(prog="pthparse", usage="pthparse VERB FILE...")
    parser.add_argument("-h", "--help", action="help", help="this text")
    parser.add_argument("--version", action="version", version=f"pthparse {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for name in [verb] if verb in VERBS else VERBS:
        if name != verb:
            verbs.add_parser(name)
            continue
        found = VERBS[name]()
        about = prose(found.about or f"{found.help}.")
        sub = verbs.add_parser(name, prog=f"pthparse {name}", description=about, epilog=manual(found))
        found.arguments(sub)
        sub.usage = f"%(prog)s [options] {' '.join(usage(action) for action in sub._get_positional_actions())}"
        output = sub.add_argument_group("output")
        output.add_argument("--json", action="store_true", help="one JSON document, for programs")
        output.add_argument("--debug", action="store_true", help="the traceback of an error")
        output.add_argument("-h", "--help", action="help", help="this text")
    return parser


def usage(action: argparse.Action) -> str:
    """A positional argument in the line of usage."""
    word = str(action.metavar or action.dest).upper()
    if isinstance(action.nargs, int):
        return " ".join([word] * action.nargs)
    return {"+": f"{word}...", "*": f"[{word}...]", "?": f"[{word}]"}.get(action.nargs or "", word)


def manual(found: Verb) -> str:
    """What stands below the options: examples and exit codes."""
    examples = [f"  {example}" for text in (found.example, *found.examples) for example in text.split("; ")]
    codes = {"0": "fine", "1": found.no, "2": CANNOT}
    rows = [prose(f"  {code}  {what}", 5) for code, what in codes.items() if what]
    return "\n".join(["examples:", *examples, "", "exit codes:", *rows])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks is spelt out
            stream.reconfigure(errors="backslashreplace")
    try:
        return run(words)
    except BrokenPipeError:
        # The reader has seen enough. Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def run(words: list[str]) -> int:
    if not words or words == ["help"]:
        build_parser().print_help(sys.stdout if words else sys.stderr)
        return 0 if words else CANNOT_SAY
    if words[0] == "help":
        words = [words[1], "--help"]
    if words[0] == "completion":
        from .report.completion import completion

        return completion(words[1:])
    if words[0] not in VERBS and words[0] not in ("-h", "--help", "--version"):
        if is_no_file(words[0]):
            return complain_of(words[0])
        words.insert(0, "info")
    args = build_parser(words[0]).parse_args(words)
    files = args.file if isinstance(args.file, str) else args.file[0]
    try:
        code = VERBS[args.verb]().run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except (PthError, KeyError, OSError) as e:
        complain(e, files, args.debug)
        return CANNOT_SAY


def is_no_file(word: str) -> bool:
    """It looks like a verb, and is none."""
    return word.replace("-", "").isalnum() and not word.startswith("-") and not os.path.exists(word)  # noqa: PTH110


def complain_of(word: str) -> int:
    from .checkpoint import nearest

    begun = [name for name in VERBS if name.startswith(word)]
    near = f"; near: {', '.join(map(repr, begun))}" if begun else nearest(word, [*VERBS, *WORDS])
    tell(f"'{word}' is neither a verb nor a file{near}")
    return CANNOT_SAY


def command() -> NoReturn:
    """The command as a process of its own: too short for the collector of garbage to be of use."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        from .report.completion import complete

        complete(build_parser)
    gc.set_threshold(50_000)
    code = main()
    gc.freeze()  # or each object is looked at once more at exit
    sys.exit(code)
