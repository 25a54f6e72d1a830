"""What a file may ask for. Names, defaults and reasons are the rows of csrc/defs/limits.def."""

from __future__ import annotations

from dataclasses import field, make_dataclass

from . import _core

Limits = make_dataclass(
    "Limits",
    [
        (name, int, field(default=default, metadata={"unit": unit, "why": why}))
        for name, default, unit, why in _core.LIMITS
    ],
    frozen=True,
    kw_only=True,
)
Limits.__module__ = __name__
Limits.__doc__ = "Limits on what a file may ask for, each an int:\n\n" + "\n".join(
    f"{name} : {default:,} {unit}\n    {why}." for name, default, unit, why in _core.LIMITS
)
