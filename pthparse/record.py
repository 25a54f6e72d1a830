"""What the library tells: frozen records of plain values."""

from __future__ import annotations

from typing import Any


class Record:
    """A frozen dataclass."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict of plain values."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}  # type: ignore[attr-defined]


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    return tuple(map(_plain, value)) if type(value) is tuple else value
