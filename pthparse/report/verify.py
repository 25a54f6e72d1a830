"""`pthparse verify FILE...`: is each what its writer wrote, to the last byte?"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from ..verifier import VerifiedMember, VerifyReport
from ..verifier import verify as verify_any
from ..wording import count, cut, size
from .audit import print_findings
from .text import MOST_LINES, SHORT, head, line, listed, rest, short, wrong
from .verb import CANNOT_SAY, FILE, NO, Verb, each_file, print_documents

NAMES = 4  # tensors that are named in one line
CUT = {"storage-cut": "cut off", "shard-missing": "in files that are missing"}


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", metavar="FILE", help=FILE)
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


def print_report(report: VerifyReport, path: str, everything: bool) -> None:
    known = f"{report.format}, " if report.format else ""
    head(path, f"{known}{size(report.nbytes)}", report.verdict.upper())
    line(f"  {summed(report)}")
    print_findings(report.findings, len(report.findings))
    most = None if everything else MOST_LINES
    members = [m for m in report.members if everything or m.status in ("wrong", "broken")]
    for m in members[:most]:
        line(member_text(m), lead=f"  {m.status}: ")
    rest(len(members) - len(members[:most]))
    damaged = [t for t in report.damaged if t.code not in CUT]
    for t in damaged[:most]:
        line(wrong(t), lead="  damaged: ")
    rest(len(damaged) - len(damaged[:most]))
    names = {what: [t.name for t in report.damaged if t.code == code] for code, what in CUT.items()}
    for what, lost in {**names, "whole": report.whole if report.damaged else ()}.items():
        if lost:
            line(f"  {what}: {listed(lost, None if everything else NAMES)}")


def member_text(m: VerifiedMember) -> str:
    return short(m.name) + (f": {cut(m.message, SHORT)}" if m.message else "")


def summed(report: VerifyReport) -> str:
    """Members, tensors, and what is missing."""
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
    "is it what was written: every checksum, what is whole",
    "pthparse verify model.pth",
    "Whether the file is what its writer wrote, to the last byte: every checksum is computed anew, headers, "
    "directory and extents are compared, and the tensors that each damage reaches are named, as are those that are "
    "whole. The verdict is OK, DAMAGED, TRUNCATED, or UNKNOWN where the format has no checksums.",
    ("pthparse verify backups/*.pth", "pthparse verify download.pth --all  # every tensor that is whole"),
    no="DAMAGED or TRUNCATED",
)
