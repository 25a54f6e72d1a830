"""The formats, in the order in which they are tried: by content, never by name.

A new format is a new file and one word here.
"""

from __future__ import annotations

from ..errors import PthError
from ..source import Source
from .base import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    class Format(Protocol):
        """A module of this package: `probe` is cheap and never raises; `container` is one that is not read yet."""

        def probe(self, head: bytes) -> bool: ...

        def container(self, source: Source, limits: Any) -> Container: ...


HEAD = 4096


def archives() -> Iterator[Format]:
    """Formats that cannot be mistaken for a text or for numbers. Each is imported when those before it were not it."""
    from . import zip

    yield zip
    from . import tar

    yield tar
    from . import legacy

    yield legacy
    from . import safetensors

    yield safetensors


def others() -> Iterator[Format]:
    from . import strangers

    yield strangers
    from . import bare

    yield bare


def is_archive(head: bytes) -> bool:
    return any(fmt.probe(head) for fmt in archives())


def container(source: Source, limits: Any) -> Container:
    """Whatever it is, not read yet."""
    head = bytes(source.window(0, HEAD))
    for formats in (archives, others):
        for fmt in formats():
            if fmt.probe(head):
                return fmt.container(source, limits)
    from . import strangers

    return strangers.container(source, limits)


# Errors of files that end too early, or whose directory is lost, though other parts of them may be whole.
SALVAGEABLE = frozenset(
    (
        "zip-end",
        "zip-end64",
        "zip-directory",
        "zip-header",
        "zip-prefix",
        "legacy-extent",
        "tar-extent",
        "safetensors-extent",
    )
)


def read(source: Source, limits: Any, salvage: bool = False) -> Container:
    """Opens whatever it is; PthError if it is nothing that can be read."""
    box = container(source, limits)
    box.salvage = salvage
    try:
        box.load()
    except PthError as e:
        if (source.path or "").endswith(".distcp"):
            e.message = f"a file of a distributed checkpoint, read with the others: open its directory ({e.message})"
        elif e.code in SALVAGEABLE and not salvage:
            e.message += "; `pthparse verify` tells what is whole, open(..., salvage=True) reads that"
        raise
    return box
