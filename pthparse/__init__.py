"""pthparse: opens PyTorch checkpoints without torch, and without running anything in them.

>>> import pthparse
>>> with pthparse.open("model.pth") as ckpt:  # doctest: +SKIP
...     for name, t in ckpt.items():
...         print(name, t.shape, t.dtype)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .auditor import AuditedGlobal, AuditReport
    from .audits import audit
    from .capacity import Capacity, CapacityGroup, LedgerEntry
    from .checkpoint import Checkpoint, open
    from .chunked import ChunkedTensor
    from .deepspeed import DeepSpeedCheckpoint, Partition
    from .distributed import DistributedCheckpoint
    from .errors import FormatError, LimitError, PthError, TruncatedError, UnsupportedError
    from .formats.base import Finding
    from .info import build_info
    from .limits import Limits
    from .plan import Plan
    from .sharded import Shard, ShardedCheckpoint
    from .stats import Stats, StatsTable
    from .tensor import Storage, Tensor
    from .values import GlobalName, Opaque
    from .verifier import DamagedTensor, VerifiedMember, VerifyReport, verify

__version__ = "0.1.0"

# Public name -> its module: imported on first use, so that `import pthparse` costs next to nothing.
_HOMES = {
    "AuditReport": "auditor",
    "AuditedGlobal": "auditor",
    "Capacity": "capacity",
    "CapacityGroup": "capacity",
    "Checkpoint": "checkpoint",
    "ChunkedTensor": "chunked",
    "DamagedTensor": "verifier",
    "DeepSpeedCheckpoint": "deepspeed",
    "DistributedCheckpoint": "distributed",
    "FormatError": "errors",
    "GlobalName": "values",
    "Finding": "formats.base",
    "LedgerEntry": "capacity",
    "LimitError": "errors",
    "Limits": "limits",
    "Opaque": "values",
    "Partition": "deepspeed",
    "Plan": "plan",
    "PthError": "errors",
    "Shard": "sharded",
    "ShardedCheckpoint": "sharded",
    "Stats": "stats",
    "StatsTable": "stats",
    "Storage": "tensor",
    "Tensor": "tensor",
    "TruncatedError": "errors",
    "UnsupportedError": "errors",
    "VerifiedMember": "verifier",
    "VerifyReport": "verifier",
    "audit": "audits",
    "build_info": "info",
    "open": "checkpoint",
    "verify": "verifier",
}

__all__ = [
    "AuditReport",
    "AuditedGlobal",
    "Capacity",
    "CapacityGroup",
    "Checkpoint",
    "ChunkedTensor",
    "DamagedTensor",
    "DeepSpeedCheckpoint",
    "DistributedCheckpoint",
    "Finding",
    "FormatError",
    "GlobalName",
    "LedgerEntry",
    "LimitError",
    "Limits",
    "Opaque",
    "Partition",
    "Plan",
    "PthError",
    "Shard",
    "ShardedCheckpoint",
    "Stats",
    "StatsTable",
    "Storage",
    "Tensor",
    "TruncatedError",
    "UnsupportedError",
    "VerifiedMember",
    "VerifyReport",
    "audit",
    "build_info",
    "open",
    "verify",
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
