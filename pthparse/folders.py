"""Many files under audit: those below a directory, or those that the index of a model names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from . import _core
from .auditor import MOST_GLOBALS, VERDICTS, AuditedGlobal, AuditReport, audit_source, refused
from .directories import FILE, FOLDER, LINK, OTHER, Directory, Located, locate
from .errors import PthError
from .formats.base import MOST_FINDINGS, NOT_READ, Finding, finding_of
from .shards import METADATA, NUMBERED, Layout, index_layout, is_distributed
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
AFAR = 16  # files that are audited at once where most of the time is waiting

Wanted = tuple[str, str, bool]  # how whoever opens it names a file, its name here, is it sure to be one of ours?


class Whole:
    """What is found out about all of them together."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self.more: dict[str, int] = {}  # those behind the first thousand, by severity
        self.files: list[AuditReport] = []
        self.names: list[str] = []  # of these, below the top
        self.indexes: set[str] = set()  # those that were read

    def find(self, code: str, member: str | None, message: str | None = None) -> None:
        severity, sentence = _core.FINDINGS[code]
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(code, severity, member, None, message or sentence))
        else:  # an index may name any number of files
            self.more[severity] = self.more.get(severity, 0) + 1

    def audit(self, wanted: Iterable[Wanted], limits: Any, executor: Executor | None, top: Directory) -> None:
        if executor is None and top.afar:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(AFAR) as threads:
                self.audit(wanted, limits, threads, top)
            return
        if executor is None:
            for path, name, sure in wanted:
                self.take(name, audit_path(path, limits, top.top), sure)
            return
        futures = [(name, executor.submit(audit_path, path, limits, top.top), sure) for path, name, sure in wanted]
        for name, future, sure in futures:
            self.take(name, future.result(), sure)

    def take(self, name: str, report: AuditReport | str | None, wanted: bool) -> None:
        """What came of one file: its report, or why it could not be opened; None: it is not there."""
        if report is None:
            self.find("shard-missing", name)
            return
        if isinstance(report, str):
            self.find("unreadable", name, f"cannot be opened: {report}")
            return
        strange = {f.code for f in report.findings} & {*NOT_READ, "not-a-checkpoint", "empty-file", "html-page"}
        if strange and not (report.globals or report.code or wanted):
            if strange & NOT_READ and name not in self.indexes:
                self.find("not-looked-into", name)
            return
        self.files.append(report)
        self.names.append(name)

    def told(self, findings: Iterable[Finding], folder: str = "") -> None:
        """What is wrong between the files, but what was said of one of them already."""
        said = {"shard-missing": {f.member for f in self.findings if f.code == "shard-missing"}}
        said["shard-unreadable"] = set(self.names)  # its own report says it
        for f in findings:
            member = folder + (f.member or "") or None
            if member not in said.get(f.code, ()):
                self.findings.append(Finding(f.code, f.severity, member, f.offset, f.message))

    def report(self) -> AuditReport:
        rows: dict[tuple[str, str], AuditedGlobal] = {}
        for file, name in zip(self.files, self.names, strict=True):
            for g in file.globals:
                place = f"{name.rpartition('/')[2]}!{g.member or ''}".rstrip("!")
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


def audit_path(path: str, limits: Any, top: str | None) -> AuditReport | str | None:
    """Of one file, in whatever process; a text if the system does not give it, None if it has none.

    top: what a link that it may be by now must not leave.
    """
    try:
        folder, name = os.path.split(path)
        source = open_source(path) if top is None else Directory(folder, top).open(name)
    except PthError as e:
        return refused(e)
    except FileNotFoundError:
        return None
    except OSError as e:
        return str(e.strerror or e)
    try:
        return audit_source(source, limits)
    except OSError as e:  # on the way here
        return str(e.strerror or e)
    finally:
        source.close()


def audit_folder(
    source: str | os.PathLike[str] | Located, limits: Any, executor: Executor | None = None
) -> AuditReport:
    """Audits every checkpoint and pickle below a directory, or the files that an index names.

    Files of other kinds are passed by. Links are followed where they stay inside, or are those of a download cache.
    """
    asked = source if isinstance(source, Located) else locate(source)
    text, top, index = asked
    whole = Whole(text)
    if index is None:
        found = list(files_below(top, whole))
        indexes = [row for row in found if row[2].endswith(INDEX)]
        layouts = [
            (check_index(folder, file, name, whole), name[: len(name) - len(file)]) for folder, file, name in indexes
        ]
        wanted = [(folder.where(file), name, name.lower().endswith(CHECKPOINTS)) for folder, file, name in found]
        whole.indexes = {row[2] for row, (layout, _) in zip(indexes, layouts, strict=True) if layout is not None}
        layouts += numbered_files(found, layouts, whole)
        whole.audit(wanted, limits, executor, top)
        for layout, before in layouts:
            compare_index(layout, before, limits, whole)
        if not whole.files:
            whole.find("no-checkpoint", None)
        if is_distributed(top):
            compare_metadata(asked, limits, whole)
    else:
        layout = check_index(top, index, index, whole, True)
        named = [] if layout is None else [name for name in layout.files if name not in layout.missing]
        whole.audit([(top.where(name), name, True) for name in named], limits, executor, top)
        compare_index(layout, "", limits, whole)
    return whole.report()


def audit_shards(model: ShardedCheckpoint, executor: Executor | None) -> AuditReport:
    """The same of the files of an open model, and of what they and the index say differently."""
    layout = model._layout
    whole = Whole(layout.path)
    whole.findings += layout.findings
    paths = [(model._path_of(i), name) for i, name in enumerate(layout.files)]
    wanted = [(path, name, True) for path, name in paths if path is not None]
    whole.audit(wanted, model._limits, executor, layout.directory)
    whole.told(model._between)
    return whole.report()


def compare_metadata(asked: Located, limits: Any, whole: Whole) -> None:
    """What the metadata of a distributed checkpoint say, and the directory has not."""
    from .distributed import DistributedCheckpoint

    try:
        with DistributedCheckpoint(asked, limits, False) as model:
            whole.findings += [*model._layout.findings, *model._between]
            for label, read in zip(model._layout.files, model._all, strict=True):
                if isinstance(read, PthError) and label not in model._layout.missing:
                    whole.findings.append(finding_of(read, label))
    except PthError as e:
        whole.findings.append(finding_of(e, e.member))
    except OSError as e:
        whole.find("unreadable", METADATA, f"cannot be opened: {e.strerror}")


def compare_index(layout: Layout | None, folder: str, limits: Any, whole: Whole) -> None:
    """Do the files have the tensors that an index says? folder: how the names of files begin in findings."""
    from .sharded import ShardedCheckpoint

    if layout is None or len(layout.missing) == len(layout.files):
        return
    try:
        with ShardedCheckpoint(layout, limits, False) as model:
            whole.told(model._between, folder)
    except (PthError, OSError):  # told already
        pass


def files_below(top: Directory, whole: Whole) -> Iterator[tuple[Directory, str, str]]:
    """(directory, name in it, name below the top) of all regular files, in the order of their names."""
    stack, n = [(top, "")], 0
    while stack:
        directory, before = stack.pop()
        try:
            entries = directory.entries()
        except OSError as e:
            whole.find("unreadable", before.rstrip("/") or ".", f"cannot be listed: {e.strerror}")
            continue
        folders = []
        for file, kind in entries:
            n += 1
            name = before + file
            if n > MOST_FILES:
                whole.find("too-many-files", None)
                return
            try:
                directory.where(file)
                if kind == FOLDER:
                    folders.append((directory.below(file), f"{name}/"))
                    continue
                if kind == LINK:
                    if not directory.is_safe(file, whole.find, name):
                        continue
                    kind = directory.kind(file)
                    if kind == FOLDER and not directory.stays(file):
                        whole.find("shard-link", name)  # a folder elsewhere: what is in it is not seen here
                if kind == FILE:
                    yield directory, file, name
                elif kind == OTHER:
                    whole.find("special-file", name)
            except OSError as e:
                whole.find("unreadable", name, f"cannot be opened: {e.strerror}")
            except PthError as e:
                whole.find("unreadable", name, f"cannot be opened: {e.message}")
        stack += reversed(folders)


def numbered_files(
    found: list[tuple[Directory, str, str]], indexed: list[tuple[Layout | None, str]], whole: Whole
) -> list[tuple[Layout, str]]:
    """Files of a model by the numbers in their names, where no index names them; that one is missing is a finding."""
    named = {before + file for layout, before in indexed if layout is not None for file in layout.files}
    families: dict[tuple[str, str, int, str], tuple[Directory, set[int]]] = {}
    for folder, file, name in found:
        m = NUMBERED.fullmatch(file)
        if m is not None and name not in named:
            key = name[: len(name) - len(file)], m[1], int(m[3]), m[4]
            families.setdefault(key, (folder, set()))[1].add(int(m[2]))
    out = []
    for (before, stem, count, ending), (folder, numbers) in families.items():
        files = {i: f"{stem}-{i:05}-of-{count:05}{ending}" for i in sorted(numbers)}
        absent = next((i for i in range(1, count + 1) if i not in numbers), None)
        if absent is not None:
            first = f"{before}{stem}-{absent:05}-of-{count:05}{ending}"
            there = sum(1 <= i <= count for i in numbers)
            told = f"a file of the model is not there: of the {count:,} that their numbers tell there are {there:,}"
            whole.find("shard-missing", first, told)
        if len(files) > 1:
            here = tuple(files.values())
            out.append((Layout(folder.path, folder, None, 0, here, frozenset(), None, {}, ()), before))
    return out


def check_index(directory: Directory, index: str, name: str, whole: Whole, given: bool = False) -> Layout | None:
    """The files that an index names; what is wrong with it becomes findings. name: the index's in findings."""
    try:
        return index_layout(index, directory, index, given, whole.find, name)
    except PthError:  # told already
        return None
    except OSError as e:
        if given:
            raise
        whole.find("unreadable", name, f"cannot be opened: {e.strerror}")
        return None
