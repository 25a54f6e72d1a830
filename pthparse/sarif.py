"""Audits as SARIF 2.1.0, the format that code hosts and editors read findings from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from . import _core
from .errors import escape
from .source import is_url

if TYPE_CHECKING:
    from .auditor import AuditReport

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {
    "dangerous": "error",
    "malformed": "error",
    "incomplete": "warning",
    "review": "warning",
    "unknown": "warning",
}
GLOBAL_RULES = {
    "dangerous-global": "a class or function that is known to run code or touch the system",
    "unknown-global": "a class or function that is not known",
}


def sarif(reports: Iterable[AuditReport]) -> dict[str, Any]:
    """One run over all reports and the files inside of them."""
    from . import __version__

    results = [result for report in reports for result in _results(report)]
    used = dict.fromkeys(result["ruleId"] for result in results)
    sentences = {code: sentence for code, (_, sentence) in _core.FINDINGS.items()} | GLOBAL_RULES
    rules = [{"id": code, "shortDescription": {"text": sentences.get(code, code)}} for code in used]
    driver = {"name": "pthparse", "version": __version__, "rules": rules}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _results(report: AuditReport) -> Iterator[dict[str, Any]]:
    for file in report.files:
        yield from _results(file)
    for g in () if report.files else report.globals:
        if g.status in LEVELS:
            text = f"{g.module}.{g.name}{g.call or ''}: {g.reason}"
            yield _result(f"{g.status}-global", LEVELS[g.status], text, report.path, g.member, g.offset)
    for f in report.findings:
        yield _result(f.code, LEVELS.get(f.severity, "note"), f.message, report.path, f.member, f.offset)


def _result(
    rule: str, level: str, text: str, path: str | None, member: str | None, offset: int | None
) -> dict[str, Any]:
    safe = "/:?=&%@" if is_url(path) else "/"  # a URL is one already
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(path or "memory", safe=safe, errors="replace")}}
    if offset is not None and member is None:
        physical["region"] = {"byteOffset": offset}
    place: dict[str, Any] = {"physicalLocation": physical}
    if member is not None:
        at = f" at byte {offset}" if offset is not None else ""
        place["logicalLocations"] = [{"fullyQualifiedName": escape(member) + at}]
    return {"ruleId": rule, "level": level, "message": {"text": escape(text)}, "locations": [place]}
