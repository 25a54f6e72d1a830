"""pthparse: opens PyTorch checkpoints without torch, and without running anything in them.

>>> import pthparse
>>> with pthparse.open("model.pth") as ckpt:  # doctest: +SKIP
...     for name, t in ckpt.items():
...         print(name, t.shape, t.dtype)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, open
    from .errors import FormatError, LimitError, PthError, TruncatedError, UnsupportedError
    from .info import build_info
    from .limits import Limits
    from .tensor import Storage, Tensor
    from .values import GlobalName, Opaque

__version__ = "0.1.0"

# Public name -> its module: imported on first use, so that `import pthparse` costs next to nothing.
_HOMES = {
    "Checkpoint": "checkpoint",
    "FormatError": "errors",
    "GlobalName": "values",
    "LimitError": "errors",
    "Limits": "limits",
    "Opaque": "values",
    "PthError": "errors",
    "Storage": "tensor",
    "Tensor": "tensor",
    "TruncatedError": "errors",
    "UnsupportedError": "errors",
    "build_info": "info",
    "open": "checkpoint",
}

__all__ = [
    "Checkpoint",
    "FormatError",
    "GlobalName",
    "LimitError",
    "Limits",
    "Opaque",
    "PthError",
    "Storage",
    "Tensor",
    "TruncatedError",
    "UnsupportedError",
    "build_info",
    "open",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pthparse' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"pthparse.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
