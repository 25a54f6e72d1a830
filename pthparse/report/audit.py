"""`pthparse audit FILE|DIR...`: what each would do to a loader, and one verdict."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..auditor import AuditedGlobal, AuditReport
from ..audits import audit as audit_any
from ..formats.base import Finding
from .text import count, line, size
from .verb import CANNOT_SAY, NO, Verb, complain, message, print_json

MOST_LINES = 40  # globals, and findings, of one file
SHORTENED = 300


def audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", help="a file, a directory, or the index of a model in several files")
    parser.add_argument("--sarif", action="store_true", help="SARIF 2.1.0, for code hosts and editors")
    parser.add_argument("--all", action="store_true", help="every global, also those that are known to be inert")


def audit(args: argparse.Namespace) -> int:
    reports, failed = [], []
    for path in args.file:
        try:
            report = audit_any(path)
        except OSError as e:
            complain(e, path, args.debug)
            failed.append({"file": path, "error": message(e, path)})
            continue
        reports.append(report)
        if not (args.json or args.sarif):
            print_report(report, args.all)
    if args.sarif:
        import json

        from ..sarif import sarif

        print(json.dumps(sarif(reports), ensure_ascii=True, indent=1))
    elif args.json:
        documents = [{"file": report.path, **report.to_dict()} for report in reports] + failed
        print_json(documents[0] if len(args.file) == 1 else {"files": documents})
    if any(report.verdict not in ("clean", "incomplete") for report in reports):
        return NO
    return CANNOT_SAY if failed or any(report.verdict == "incomplete" for report in reports) else 0


def print_report(report: AuditReport, everything: bool) -> None:
    for file in report.files:
        print_report(file, everything)
    known = f"{report.format}, " if report.format else ""
    held = f"{count(len(report.files), 'file')}, " if report.format == "directory" else ""
    line(f"{report.verdict.upper():<10} {report.path or '(memory)'}   {known}{held}{size(report.nbytes)}")
    if report.files or report.format == "directory":
        print_lines(finding_lines(report.findings), report.n_findings)
        return
    told = [g for g in report.globals if everything or g.status in ("dangerous", "unknown")]
    inert = report.n_globals - sum(g.status in ("dangerous", "unknown") for g in report.globals)
    print_lines((global_line(g) for g in told), len(told))
    print_lines(finding_lines(report.findings), report.n_findings)
    if report.code:
        more = f" and {len(report.code) - 5:,} more" if len(report.code) > 5 else ""
        line(f"  code: {', '.join(report.code[:5])}{more}")
    others = "all" if not told or everything else f"{inert:,} more"
    if report.n_globals and inert and not (everything and told):
        line(f"  {count(report.tensors, 'tensor')}; {count(report.n_globals, 'global')}, {others} understood and inert")
    elif report.tensors:
        line(f"  {count(report.tensors, 'tensor')}; {count(report.n_globals, 'global')}")


def print_lines(lines: Iterator[str], n: int) -> None:
    for i, text in enumerate(lines):
        if i == MOST_LINES:
            line(f"  and {n - i:,} more")
            break
        line(f"  {text}")


def global_line(g: AuditedGlobal) -> str:
    also = f" (now {g.python3})" if g.python3 else ""
    uses = f", {g.uses:,} times" if g.uses > 1 else ""
    where = f"{g.opcode} at byte {g.offset}{' of ' + short(g.member) if g.member else ''}{uses}"
    return f"{g.status}: {short(g.module)}.{short(g.name)}{also}{g.call or ''}: {g.reason} ({where})"


def finding_lines(findings: tuple[Finding, ...]) -> Iterator[str]:
    for f in findings:
        at = f" at byte {f.offset}" if f.offset is not None else ""
        text = f"{short(f.member)}{at}: {short(f.message)}" if f.member else f"{short(f.message)}{at}"
        yield f"{f.severity}: {text} [{f.code}]"


def short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= SHORTENED else f"{text[: SHORTENED - 3]}..."


VERB = Verb(
    audit,
    audit_arguments,
    "what it would do to a loader: verdict, globals, findings",
    "pthparse audit model.pth models/",
)
