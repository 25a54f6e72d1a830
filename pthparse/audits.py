"""The audit of whatever it is: a file, a directory, a model in several files and its index."""

from __future__ import annotations

import os

from .auditor import AuditReport, audit_source, refused
from .errors import PthError
from .limits import Limits
from .source import is_whole, open_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import BinaryIO


def audit(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    limits: Limits | None = None,  # type: ignore[valid-type]
    executor: Executor | None = None,
) -> AuditReport:
    """Says what a file, or every file of a directory, would do to a loader.

    Nothing in it is executed or imported. Whatever a file contains, this returns: a broken file is a verdict.

    Parameters
    ----------
    source : str, os.PathLike, bytes or seekable binary file
        Text may be a URL: see `pthparse.open`.
    limits : Limits, optional
        What the file may ask for; beyond, the verdict is 'incomplete' or worse.
    executor : concurrent.futures.Executor, optional
        Who audits the files of a directory or of a model in several: other processes, a cluster's.

    Raises
    ------
    OSError
        The file itself cannot be read.
    """
    limits = limits or Limits()
    if is_whole(source):
        from .folders import audit_folder

        return audit_folder(source, limits, executor)  # type: ignore[arg-type]
    try:
        opened = open_source(source)
    except PthError as e:
        return refused(e)
    try:
        return audit_source(opened, limits)
    finally:
        opened.close()
