"""What every format that is written gives: which tensors it can hold, and which byte of a file is for what."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import FormatError


class Entry(NamedTuple):
    """A tensor as it is to be written: its name there, torch's name of its dtype, shape, bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class Wanted(NamedTuple):
    """What is to be written: the tensors, and how the files are named.

    notes: what is to be said beside the tensors. ties: names that are left out -> the name under which the same
    elements are kept. most: bytes of tensors in one file.
    """

    entries: Sequence[Entry]
    stem: str
    notes: Mapping[str, str]
    ties: Mapping[str, str]
    most: int | None


class Layout(NamedTuple):
    """A file, before it is written.

    places: where in the file each tensor begins, by its number among the entries, in the order of the file.
    seal: writes everything else, once the tensors are there.
    """

    name: str
    nbytes: int
    places: tuple[tuple[int, int], ...]
    seal: Callable[[int], None]


class Place(NamedTuple):
    """A tensor as a written file says: what it says of the type and shape, first byte, bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class Format:
    """A format. `raw`: what the format has no type for is stored as bare bytes, where the format can."""

    name = ""
    remembers = False  # can it say that a tensor is the same as another one?

    def __init__(self, raw: bool = False) -> None:
        self.raw = raw

    def refusal(self, entry: Entry) -> str | None:
        """Why it cannot hold a tensor, or None."""
        raise AssertionError("abstract")

    def is_raw(self, dtype: str) -> bool:
        """Are elements of a type stored as bare bytes?"""
        return False

    def layouts(self, wanted: Wanted) -> list[Layout]:
        """The files.

        Raises
        ------
        PthError
            The tensors cannot be told apart in the files.
        """
        raise AssertionError("abstract")

    def index(self, wanted: Wanted, layouts: Sequence[Layout]) -> tuple[str, bytes] | None:
        """Name and bytes of a file that says which tensor is in which of the others."""
        return None

    def said(self, entry: Entry) -> tuple[str, tuple[int, ...]]:
        """Type and shape that a file says of an entry."""
        raise AssertionError("abstract")

    def read_back(self, path: str) -> Mapping[str, Place]:
        """What a written file says, by the name of each tensor."""
        raise AssertionError("abstract")


def put(fd: int, data: Any, offset: int) -> None:
    """Writes all of it."""
    view = memoryview(data).cast("B")
    while view:
        n = os.pwrite(fd, view, offset)
        view, offset = view[n:], offset + n


def not_written(path: str, message: str) -> FormatError:
    """What is read back is not what was to be written."""
    return FormatError("read-back", f"what was written reads back wrong: {message}", path=path)
