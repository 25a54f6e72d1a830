"""What a file may ask for. Names, defaults and reasons are the rows of csrc/defs/limits.def."""

from __future__ import annotations

from . import _core
from .record import Record, RecordType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _limits() -> Any:
    body: dict[str, Any] = {name: default for name, default, _, _ in _core.LIMITS}
    body |= {"__annotations__": dict.fromkeys(body, int), "__module__": __name__, "__qualname__": "Limits"}
    body["__doc__"] = "Limits on what a file may ask for, each an int:\n\n" + "\n".join(
        f"{name} : {default:,} {unit}\n    {why}." for name, default, unit, why in _core.LIMITS
    )
    return RecordType("Limits", (Record,), body, kw_only=True)


Limits = _limits()
