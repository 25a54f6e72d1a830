"""The formats, in the order in which they are tried: by content, never by name.

A new format is a new file and one word here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..source import Source
from . import bare, legacy, strangers, tar, zip
from .base import Container

if TYPE_CHECKING:
    from typing import Protocol

    class Format(Protocol):
        """A module of this package: `probe` is cheap and never raises; `container` is one that is not read yet."""

        def probe(self, head: bytes) -> bool: ...

        def container(self, source: Source, limits: Any) -> Container: ...


FORMATS: tuple[Format, ...] = (zip, tar, legacy, strangers, bare)

HEAD = 4096


def is_archive(head: bytes) -> bool:
    """A format that cannot be mistaken for a text or for numbers?"""
    return any(fmt.probe(head) for fmt in (zip, tar, legacy))


def container(source: Source, limits: Any) -> Container:
    """Whatever it is, not read yet."""
    head = bytes(source.window(0, HEAD))
    for fmt in FORMATS:
        if fmt.probe(head):
            return fmt.container(source, limits)
    return strangers.container(source, limits)


def read(source: Source, limits: Any) -> Container:
    """Opens whatever it is; PthError if it is nothing that can be read."""
    box = container(source, limits)
    box.load()
    return box
