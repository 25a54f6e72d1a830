"""Many files under audit: those below a directory, or those that the index of a model names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _core
from .auditor import MOST_GLOBALS, VERDICTS, AuditedGlobal, AuditReport, audit_source, refused
from .errors import PthError
from .formats.base import MOST_FINDINGS, NOT_READ, Finding, finding_of
from .shards import entries_of, index_layout, is_distributed, is_plain, read_index, safe_link
from .source import INDEX, open_source

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .sharded import ShardedCheckpoint

# Files that are told of whatever is in them; others are if they turn out to be checkpoints or pickles.
CHECKPOINTS = (
    ".pt",
    ".pth",
    ".bin",
    ".safetensors",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".p",
    ".th",
    ".tar",
    ".mar",
    ".joblib",
    ".dat",
)
MOST_FILES = 100_000


class Whole:
    """What is found out about all of them together."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self.more: dict[str, int] = {}  # those behind the first thousand, by severity
        self.files: list[AuditReport] = []

    def find(self, code: str, member: str | None, message: str | None = None) -> None:
        severity, sentence = _core.FINDINGS[code]
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(code, severity, member, None, message or sentence))
        else:  # an index may name any number of files
            self.more[severity] = self.more.get(severity, 0) + 1

    def audit(self, wanted: Iterable[tuple[Path, str, bool]], limits: Any, executor: Executor | None) -> None:
        """Audits files: (path, name here, is it sure to be one of ours?)."""
        if executor is None:
            for path, name, sure in wanted:
                self.take(name, audit_path(str(path), limits), sure)
            return
        futures = [(name, executor.submit(audit_path, str(path), limits), sure) for path, name, sure in wanted]
        for name, future, sure in futures:
            self.take(name, future.result(), sure)

    def take(self, name: str, report: AuditReport | str, wanted: bool) -> None:
        """What came of one file: its report, or why it could not be opened."""
        if isinstance(report, str):
            self.find("unreadable", name, f"cannot be opened: {report}")
            return
        strange = {f.code for f in report.findings} & {*NOT_READ, "not-a-checkpoint", "empty-file", "html-page"}
        if strange and not (report.globals or report.code or wanted):
            if strange & NOT_READ:
                self.find("not-looked-into", name)
            return
        self.files.append(report)

    def report(self) -> AuditReport:
        rows: dict[tuple[str, str], AuditedGlobal] = {}
        for file in self.files:
            for g in file.globals:
                place = f"{Path(file.path or '').name}!{g.member or ''}".rstrip("!")
                first = rows.get((g.module, g.name))
                if first is None and len(rows) < MOST_GLOBALS:
                    rows[g.module, g.name] = AuditedGlobal(**{**g.to_dict(), "member": place})
                elif first is not None:
                    rows[g.module, g.name] = AuditedGlobal(**{**first.to_dict(), "uses": first.uses + g.uses})
        severities = {f.severity for f in self.findings} | self.more.keys()
        verdicts = [f.verdict for f in self.files] + [s for s in severities if s != "note"]
        return AuditReport(
            path=self.path,
            verdict=max(verdicts, key=VERDICTS.index, default="clean"),
            format="directory",
            nbytes=sum(f.nbytes for f in self.files),
            tensors=sum(f.tensors for f in self.files),
            globals=tuple(rows.values()),
            findings=tuple(self.findings[:MOST_FINDINGS]),
            code=tuple(name for f in self.files for name in f.code)[:MOST_FINDINGS],
            n_globals=len(rows),
            n_findings=len(self.findings) + sum(self.more.values()),
            files=tuple(self.files),
        )


def audit_path(path: str, limits: Any) -> AuditReport | str:
    """Of one file, in whatever process; a text if the system does not give it."""
    try:
        source = open_source(path)
    except PthError as e:
        return refused(e)
    except OSError as e:
        return str(e.strerror or e)
    try:
        return audit_source(source, limits)
    finally:
        source.close()


def audit_folder(path: str | os.PathLike[str], limits: Any, executor: Executor | None = None) -> AuditReport:
    """Audits every checkpoint and pickle below a directory, or the files that an index names.

    Files of other kinds are passed by. Links are followed where they stay inside, or are those of a download cache.
    """
    top = Path(path)
    whole = Whole(str(top))
    if top.is_dir():
        found = [(file, name, name.lower().endswith(CHECKPOINTS)) for file, name in files_below(top, whole)]
        for file, name, _ in found:
            if name.endswith(INDEX):
                check_index(file, name, whole)
                compare_index(file, name[: len(name) - len(file.name)], limits, whole)
        whole.audit(found, limits, executor)
        if not whole.files:
            whole.find("no-checkpoint", None)
        if is_distributed(top):
            compare_metadata(top, limits, whole)
    else:
        named = [
            (top.parent / name, name, True)
            for name in check_index(top, top.name, whole)
            if safe_link(top.parent / name, top.parent, whole.find, name)
        ]
        whole.audit(named, limits, executor)
        compare_index(top, "", limits, whole)
    return whole.report()


def audit_shards(model: ShardedCheckpoint, executor: Executor | None) -> AuditReport:
    """The same of the files of an open model, and of what they and the index say differently."""
    layout = model._layout
    whole = Whole(layout.path)
    whole.findings += layout.findings
    there = [(Path(layout.folder, name), name, True) for name in layout.files if name not in layout.missing]
    whole.audit(there, model._limits, executor)
    whole.findings += [f for f in model._between if f.code != "shard-unreadable"]  # its own report says it
    return whole.report()


def compare_metadata(top: Path, limits: Any, whole: Whole) -> None:
    """What the metadata of a distributed checkpoint say, and the directory has not."""
    from .distributed import DistributedCheckpoint

    try:
        with DistributedCheckpoint(top, limits, False) as model:
            whole.findings += [*model._layout.findings, *model._between]
    except PthError as e:
        whole.findings.append(finding_of(e, e.member))


def compare_index(path: Path, folder: str, limits: Any, whole: Whole) -> None:
    """Do the files have the tensors that an index says? folder: how the names of files begin in findings."""
    from .sharded import ShardedCheckpoint

    try:
        with ShardedCheckpoint(index_layout(str(path), path), limits, False) as model:
            for f in model._between:
                if f.code != "shard-unreadable":
                    member = folder + (f.member or "")
                    whole.findings.append(Finding(f.code, f.severity, member, f.offset, f.message))
    except PthError:  # told already
        pass


def files_below(top: Path, whole: Whole) -> Iterator[tuple[Path, str]]:
    """(path, name below the top) of all regular files, in the order of their names."""
    stack, n = [top], 0
    while stack:
        folder = stack.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError as e:
            whole.find("unreadable", str(folder.relative_to(top)), f"cannot be listed: {e.strerror}")
            continue
        folders = []
        for entry in entries:
            n += 1
            file = folder / entry.name
            name = str(file.relative_to(top))
            if n > MOST_FILES:
                whole.find("too-many-files", None)
                return
            if entry.is_dir(follow_symlinks=False):
                folders.append(file)
                continue
            try:
                if not safe_link(file, top, whole.find, name):
                    continue
                if file.is_file():
                    yield file, name
                elif not file.is_dir():
                    whole.find("special-file", name)
                elif not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(top)):
                    whole.find("shard-link", name)  # a folder elsewhere: what is in it is not seen here
            except OSError as e:
                whole.find("unreadable", name, f"cannot be opened: {e.strerror}")
        stack += reversed(folders)


def check_index(path: Path, name: str, whole: Whole) -> list[str]:
    """The files that an index names; what is wrong with it becomes findings."""
    weights, _, _ = read_index(path, name, whole.find)
    good, present = [], entries_of(path.parent)
    for file in dict.fromkeys((weights or {}).values()):
        if not is_plain(file, name, whole.find):
            continue
        if file not in present:
            whole.find("shard-missing", file)
        else:
            good.append(file)
    return good
