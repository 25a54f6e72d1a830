"""The audit of whatever it is: a file, a directory, a model in several files and its index."""

from __future__ import annotations

import os

from .auditor import INDEX, AuditReport, audit_source, refused
from .errors import PthError
from .limits import Limits
from .source import is_url, open_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


def audit(source: str | os.PathLike[str] | bytes | BinaryIO, *, limits: Limits | None = None) -> AuditReport:  # type: ignore[valid-type]
    """Says what a file, or every file of a directory, would do to a loader.

    Nothing in it is executed or imported. Whatever a file contains, this returns: a broken file is a verdict.

    Parameters
    ----------
    source : str, os.PathLike, bytes or seekable binary file
        Text may be a URL: see `pthparse.open`.
    limits : Limits, optional
        What the file may ask for; beyond, the verdict is 'incomplete' or worse.

    Raises
    ------
    OSError
        The file itself cannot be read.
    """
    limits = limits or Limits()
    if (isinstance(source, str) or hasattr(source, "__fspath__")) and is_whole(source):
        from .folders import audit_folder

        return audit_folder(source, limits)
    try:
        opened = open_source(source)
    except PthError as e:
        return refused(e)
    try:
        return audit_source(opened, limits)
    finally:
        opened.close()


def is_whole(path: str | os.PathLike[str]) -> bool:
    """A directory, or the index of a model in several files? Of what is far away, each file is by itself."""
    return not is_url(path) and (os.path.isdir(path) or os.fspath(path).endswith(INDEX))  # noqa: PTH112 - pathlib is slow to import
