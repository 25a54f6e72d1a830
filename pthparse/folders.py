"""Many files under audit: those below a directory, or those that the index of a model names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import _core
from .auditor import INDEX, MOST_GLOBALS, VERDICTS, AuditedGlobal, AuditReport, audit_source, refused
from .errors import PthError
from .formats.base import MOST_FINDINGS, NOT_READ, Finding
from .source import open_source

INDEX_BYTES = 1 << 26
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
        self.files: list[AuditReport] = []

    def find(self, code: str, member: str | None, message: str | None = None) -> None:
        severity, sentence = _core.FINDINGS[code]
        self.findings.append(Finding(code, severity, member, None, message or sentence))

    def file(self, path: Path, name: str, limits: Any, wanted: bool) -> None:
        """Audits one file. Not `wanted`: it may turn out to be none of ours."""
        try:
            source = open_source(path)
        except PthError as e:
            self.files.append(refused(e))
            return
        except OSError as e:
            self.find("unreadable", name, f"cannot be opened: {e.strerror}")
            return
        try:
            report = audit_source(source, limits)
        finally:
            source.close()
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
        verdicts = [f.verdict for f in self.files] + [f.severity for f in self.findings if f.severity != "note"]
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
            n_findings=len(self.findings),
            files=tuple(self.files),
        )


def audit_folder(path: str | os.PathLike[str], limits: Any) -> AuditReport:
    """Audits every checkpoint and pickle below a directory, or the files that an index names.

    Files of other kinds are passed by. Links are followed where they stay inside, or are those of a download cache.
    """
    top = Path(path)
    whole = Whole(str(top))
    if top.is_dir():
        for file, name in files_below(top, whole):
            if name.endswith(INDEX):
                check_index(file, name, whole)
            whole.file(file, name, limits, name.lower().endswith(CHECKPOINTS))
        if not whole.files:
            whole.find("no-checkpoint", None)
    else:
        for name in check_index(top, top.name, whole):
            if safe_link(top.parent / name, top.parent, whole, name):
                whole.file(top.parent / name, name, limits, True)
    return whole.report()


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
                if not safe_link(file, top, whole, name):
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


def safe_link(path: Path, top: Path, whole: Whole, name: str) -> bool:
    """Is it no link, or one that stays inside, or one of a download cache (snapshots/<revision>/x -> blobs/<hash>)?"""
    if not path.is_symlink():
        return True
    target, inside = Path(os.path.realpath(path)), Path(os.path.realpath(top))
    allowed = [inside]
    if inside.parent.name == "snapshots":
        allowed.append(inside.parent.parent / "blobs")
    if any(target.is_relative_to(folder) for folder in allowed):
        return True
    whole.find("shard-link", name)
    return False


def check_index(path: Path, name: str, whole: Whole) -> list[str]:
    """The files that an index names; what is wrong with it becomes findings."""
    import json

    doubled: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            doubled.append("a key stands twice")
        return made

    try:
        source = open_source(path)
        try:
            data = bytes(source.window(0, INDEX_BYTES + 1))
        finally:
            source.close()
        if len(data) > INDEX_BYTES:
            raise ValueError(f"more than {INDEX_BYTES} bytes")
        weights = json.loads(data, object_pairs_hook=pairs)["weight_map"]
        files = list(dict.fromkeys(weights.values()))
        if not all(isinstance(f, str) for f in files):
            raise TypeError("a file's name is no text")
    except (PthError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        whole.find("shard-index", name, f"{_core.FINDINGS['shard-index'][1]}: {str(e)[:200]}")
        return []
    if doubled:
        whole.find("shard-index", name, doubled[0])
    good = []
    for file in files:
        if file in ("", ".", "..") or any(c in file for c in "/\\\0:"):
            whole.find("shard-name", name, f"{_core.FINDINGS['shard-name'][1]}: {file[:200]!r}")
        elif not os.path.lexists(path.parent / file):
            whole.find("shard-missing", file)
        else:
            good.append(file)
    return good
