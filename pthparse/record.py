"""What the library tells: frozen records of plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any


class Record:
    """A frozen dataclass."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict of plain values."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]
