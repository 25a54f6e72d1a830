"""`pthparse verify FILE...`: is each what its writer wrote, to the last byte?"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ..errors import PthError
from ..verifier import Progress, VerifiedMember, VerifyReport
from ..verifier import verify as verify_any
from .audit import MOST_LINES, finding_lines, print_lines, short
from .text import BAR, count, line, on_terminal, size
from .verb import CANNOT_SAY, NO, Verb, complain, message, print_json

Found = TypeVar("Found")
PATIENCE = 1.0  # seconds without a word
NAMES = 4  # tensors that are named in one line
CUT = {"storage-cut": "cut off", "shard-missing": "in files that are missing"}


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+")
    parser.add_argument("--all", action="store_true", help="every member and tensor, also those that are whole")


def verify(args: argparse.Namespace) -> int:
    reports: list[VerifyReport] = []
    documents: list[dict[str, Any]] = []
    for path, report in each_file(args, verify_any, documents):
        reports.append(report)
        documents.append({"file": path, **report.to_dict()})
        if not args.json:
            print_report(report, path, args.all)
    if args.json:
        print_documents(args, documents)
    if any(report.verdict in ("damaged", "truncated") for report in reports):
        return NO
    return 0 if len(reports) == len(args.file) and all(report.ok for report in reports) else CANNOT_SAY


def each_file(
    args: argparse.Namespace, read: Callable[..., Found], documents: list[dict[str, Any]]
) -> Iterator[tuple[str, Found]]:
    """What `read` finds in each file, with a bar meanwhile. What cannot be read is told, and is among the documents."""
    for path in args.file:
        bar = Bar(path)
        try:
            found = read(path, progress=bar.progress)
        except (PthError, OSError) as e:
            bar.clear()
            complain(e, path, args.debug)
            documents.append({"file": path, "error": message(e, path)})
            continue
        finally:
            bar.clear()
        yield path, found


def print_documents(args: argparse.Namespace, documents: list[dict[str, Any]]) -> None:
    print_json(documents[0] if len(args.file) == 1 else {"files": documents})


class Bar:
    """On stderr, if that is a terminal, and the work takes longer than a second."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.start = time.monotonic()
        self.drawn = False
        self.progress: Progress | None = self._draw if on_terminal(sys.stderr) else None

    def _draw(self, done: int, total: int) -> None:
        passed = time.monotonic() - self.start
        if passed < PATIENCE or not total:
            return
        filled = "#" * (BAR * done // total)
        told = f"{100 * done // total:3d} %  {done / passed / 1e9:.1f} GB/s"
        print(f"\r\x1b[K{short(self.path)[-40:]!a}  [{filled:{BAR}}] {told}", end="", file=sys.stderr, flush=True)
        self.drawn = True

    def clear(self) -> None:
        if self.drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self.drawn = False


def print_report(report: VerifyReport, path: str, everything: bool) -> None:
    known = f"{report.format}, " if report.format else ""
    line(f"{report.verdict.upper():<10} {path}   {known}{size(report.nbytes)}")
    print_lines(finding_lines(report.findings), len(report.findings))
    told = [m for m in report.members if everything or m.status in ("wrong", "broken")]
    print_some((member_line(m) for m in told), len(told), everything)
    damaged = [t for t in report.damaged if t.code not in CUT]
    print_some((f"damaged: {t.name}: {short(t.message)} [{t.code}]" for t in damaged), len(damaged), everything)
    for code, what in CUT.items():
        print_names(what, [t.name for t in report.damaged if t.code == code], everything)
    if report.damaged:
        print_names("whole", report.whole, everything)
    line(f"  {summed(report)}")


def print_some(lines: Iterable[str], n: int, everything: bool) -> None:
    for i, text in enumerate(lines):
        if i == MOST_LINES and not everything:
            line(f"  and {n - i:,} more")
            break
        line(f"  {text}")


def print_names(what: str, names: Sequence[str], everything: bool) -> None:
    """In one line."""
    shown = [short(name) for name in (names if everything else names[:NAMES])]
    more = f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
    if names:
        line(f"  {what}: {', '.join(shown)}{more}")


def member_line(m: VerifiedMember) -> str:
    return f"{m.status}: {short(m.name)}" + (f": {short(m.message)}" if m.message else "")


def summed(report: VerifyReport) -> str:
    """The last line: members, tensors, and what is missing."""
    counts = Counter(m.status for m in report.members)
    parts = []
    if counts["ok"]:
        compared = counts["ok"] + counts["wrong"]
        parts.append(f"{counts['ok']:,} of {count(compared, 'checksum')} right")
    parts += [f"{count(counts[status], 'part')} {status}" for status in ("broken", "truncated") if counts[status]]
    if counts["unchecked"]:
        parts.append(f"{count(counts['unchecked'], 'part')} without a checksum")
    words = ", ".join(parts) or "no part could be read"
    if report.tensors:
        whole = f"{len(report.whole):,} of {count(report.tensors, 'tensor')} whole"
        words += f"; {'all ' + count(report.tensors, 'tensor') + ' whole' if not report.damaged else whole}"
    if report.missing_nbytes:
        words += f"; {count(report.missing_nbytes, 'byte')} missing"
    return words


VERB = Verb(
    verify,
    verify_arguments,
    "every checksum and every extent; what is whole of a broken file",
    "pthparse verify model.pth",
)
