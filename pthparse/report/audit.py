"""`pthparse audit FILE|DIR...`: what each would do to a loader, and one verdict."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

from ..auditor import AuditedGlobal, AuditReport
from ..audits import audit as audit_any
from ..formats.base import Finding
from ..wording import count, cut, size
from .text import MOST_LINES, SHORT, head, line, listed, rest
from .verb import CANNOT_SAY, FILE, NO, Verb, each_file, print_documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CLEAN = "clean"
WORST_FIRST = ("dangerous", "malformed", "incomplete", "review", "note", CLEAN)  # verdicts and severities


def audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", metavar="FILE", help=f"{FILE}; or a directory, with all that is in it")
    parser.add_argument("--sarif", action="store_true", help="SARIF 2.1.0, for code hosts and editors")
    parser.add_argument(
        "--all",
        action="store_true",
        help="every global, also those that are known to be inert; every file of a directory, also clean ones",
    )


def audit(args: argparse.Namespace) -> int:
    reports: list[AuditReport] = []
    failed: list[dict[str, Any]] = []
    for _, report in each_file(args, lambda path, progress: audit_any(path), failed):
        reports.append(report)
        if not (args.json or args.sarif):
            print_report(report, args.all)
    if args.sarif:
        import json

        from ..sarif import sarif

        print(json.dumps(sarif(reports), ensure_ascii=True, indent=1))
    elif args.json:
        documents = [{"file": report.path, **report.to_dict()} for report in reports] + failed
        print_documents(args, documents)
    if any(report.verdict not in ("clean", "incomplete") for report in reports):
        return NO
    return CANNOT_SAY if failed or any(report.verdict == "incomplete" for report in reports) else 0


def print_report(report: AuditReport, everything: bool) -> None:
    known = f"{report.format}, " if report.format else ""
    several = report.files or report.format == "directory"
    held = f"{told_of(report.files)}, " if several else ""
    head(report.path or "(memory)", f"{known}{held}{size(report.nbytes)}", report.verdict.upper())
    if several:
        print_findings(report.findings, report.n_findings)
        for file in sorted(report.files, key=lambda file: WORST_FIRST.index(file.verdict)):
            if everything or file.verdict != CLEAN:
                print_report(file, everything)
        return
    told = [g for g in report.globals if everything or g.status in ("dangerous", "unknown")]
    inert = report.n_globals - sum(g.status in ("dangerous", "unknown") for g in report.globals)
    print_globals(told, everything)
    print_findings(report.findings, report.n_findings)
    if report.code:
        line(f"  code: {listed(report.code)}")
    others = "all" if not told or everything else f"{inert:,} more"
    if report.n_globals and inert and not (everything and told):
        line(f"  {count(report.tensors, 'tensor')}; {count(report.n_globals, 'global')}, {others} understood and inert")
    elif report.tensors:
        line(f"  {count(report.tensors, 'tensor')}; {count(report.n_globals, 'global')}")


def told_of(files: tuple[AuditReport, ...]) -> str:
    counts = Counter(file.verdict for file in files)
    verdicts = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in WORST_FIRST if counts[verdict])
    return count(len(files), "file") + (f" ({verdicts})" if files else "")


def print_globals(told: list[AuditedGlobal], everything: bool) -> None:
    """The dangerous ones first, each by itself; of the others, what is said of many is said once."""
    alike: dict[object, list[AuditedGlobal]] = {}
    for g in sorted(told, key=lambda g: g.status != "dangerous"):
        by_itself = everything or g.status == "dangerous"
        alike.setdefault(g if by_itself else (g.status, g.reason), []).append(g)
    print_alike(
        [(f"  {rows[0].status}: ", rows) for rows in alike.values()], of_global, of_globals, len(told), "globals"
    )


def print_findings(findings: tuple[Finding, ...], n: int) -> None:
    """The worst first; what is said of many members is said once."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for f in sorted(findings, key=lambda f: WORST_FIRST.index(f.severity)):
        alike.setdefault((f.severity, f.code, f.message), []).append(f)
    print_alike([(f"  {rows[0].severity}: ", rows) for rows in alike.values()], of_finding, of_findings, n, "findings")


def print_alike(
    groups: list[tuple[str, list[Any]]],
    of_one: Callable[[Any], str],
    of_many: Callable[[list[Any]], str],
    n: int,
    what: str,
) -> None:
    """Lines for those that are alike: one for three and more."""
    lines = []
    for lead, rows in groups:
        lines += [(lead, rows)] if len(rows) > 2 else [(lead, [row]) for row in rows]
    for lead, rows in lines[:MOST_LINES]:
        line(of_many(rows) if len(rows) > 2 else of_one(rows[0]), lead=lead)
    rest(n - sum(len(rows) for _, rows in lines[:MOST_LINES]), f" {what}")


def of_global(g: AuditedGlobal) -> str:
    also = f" (now {g.python3})" if g.python3 else ""
    uses = f", {g.uses:,} times" if g.uses > 1 else ""
    where = f"{g.opcode} at byte {g.offset}{' of ' + cut(g.member, SHORT) if g.member else ''}{uses}"
    return f"{cut(g.module, SHORT)}.{cut(g.name, SHORT)}{also}{g.call or ''}: {g.reason} ({where})"


def of_globals(rows: list[AuditedGlobal]) -> str:
    return f"{listed([f'{g.module}.{g.name}' for g in rows])}: {rows[0].reason} (--all says where)"


def of_finding(f: Finding) -> str:
    text = f"{cut(place(f), SHORT)}: {cut(f.message, SHORT)}" if f.member else cut(f.message, SHORT)
    at = f" at byte {f.offset}" if f.offset is not None and not f.member else ""
    return f"{text}{at} [{f.code}]"


def of_findings(rows: list[Finding]) -> str:
    return f"{cut(rows[0].message, SHORT)}: {listed([place(f) for f in rows], 2)} [{rows[0].code}]"


def place(f: Finding) -> str:
    at = f" at byte {f.offset}" if f.offset is not None else ""
    return f"{f.member or 'the file'}{at}"


VERB = Verb(
    audit,
    audit_arguments,
    "what it would do to a loader: verdict, globals, findings",
    "pthparse audit model.pth",
    "What loading the file would do, without loading it. The verdict is clean (tensors and plain containers alone),"
    " review (classes or functions that are not known, or an odd structure), dangerous (something that runs code or"
    " touches the system), malformed (unreadable, or readable in two ways) or incomplete (a limit was reached). "
    "Unknown is never clean.",
    (
        "pthparse audit downloads/ --json",
        "pthparse audit model.pth --sarif > audit.sarif",
        "pthparse audit model.pth && python train.py  # only if it is clean",
    ),
    no="a file is not clean",
)
