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
    from .converter import Conversion, convert
    from .deepspeed import DeepSpeedCheckpoint, Partition
    from .differ import DiffReport, Renamed, TensorDiff, Uncompared, ValueDiff, diff
    from .distributed import DistributedCheckpoint
    from .drifter import DriftEvent, DriftReport, DriftRow, drift
    from .errors import FormatError, LimitError, PthError, TruncatedError, UnsupportedError
    from .events import EventFile, export_tensorboard
    from .families import Family
    from .formats.base import Finding
    from .hashes import manifest
    from .info import build_info
    from .limits import Limits
    from .manifests import Manifest, ManifestCheck, TensorHash, Unhashed, read_manifest
    from .modules import Module
    from .pages import page, pictures
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
    "Conversion": "converter",
    "DamagedTensor": "verifier",
    "DeepSpeedCheckpoint": "deepspeed",
    "DiffReport": "differ",
    "DistributedCheckpoint": "distributed",
    "DriftEvent": "drifter",
    "DriftReport": "drifter",
    "DriftRow": "drifter",
    "EventFile": "events",
    "Family": "families",
    "Finding": "formats.base",
    "FormatError": "errors",
    "GlobalName": "values",
    "LedgerEntry": "capacity",
    "LimitError": "errors",
    "Limits": "limits",
    "Manifest": "manifests",
    "ManifestCheck": "manifests",
    "Module": "modules",
    "Opaque": "values",
    "Partition": "deepspeed",
    "Plan": "plan",
    "PthError": "errors",
    "Renamed": "differ",
    "Shard": "sharded",
    "ShardedCheckpoint": "sharded",
    "Stats": "stats",
    "StatsTable": "stats",
    "Storage": "tensor",
    "Tensor": "tensor",
    "TensorDiff": "differ",
    "TensorHash": "manifests",
    "TruncatedError": "errors",
    "Uncompared": "differ",
    "Unhashed": "manifests",
    "UnsupportedError": "errors",
    "ValueDiff": "differ",
    "VerifiedMember": "verifier",
    "VerifyReport": "verifier",
    "audit": "audits",
    "build_info": "info",
    "convert": "converter",
    "diff": "differ",
    "drift": "drifter",
    "export_tensorboard": "events",
    "manifest": "hashes",
    "open": "checkpoint",
    "page": "pages",
    "pictures": "pages",
    "read_manifest": "manifests",
    "verify": "verifier",
}

__all__ = [
    "AuditReport",
    "AuditedGlobal",
    "Capacity",
    "CapacityGroup",
    "Checkpoint",
    "ChunkedTensor",
    "Conversion",
    "DamagedTensor",
    "DeepSpeedCheckpoint",
    "DiffReport",
    "DistributedCheckpoint",
    "DriftEvent",
    "DriftReport",
    "DriftRow",
    "EventFile",
    "Family",
    "Finding",
    "FormatError",
    "GlobalName",
    "LedgerEntry",
    "LimitError",
    "Limits",
    "Manifest",
    "ManifestCheck",
    "Module",
    "Opaque",
    "Partition",
    "Plan",
    "PthError",
    "Renamed",
    "Shard",
    "ShardedCheckpoint",
    "Stats",
    "StatsTable",
    "Storage",
    "Tensor",
    "TensorDiff",
    "TensorHash",
    "TruncatedError",
    "Uncompared",
    "Unhashed",
    "UnsupportedError",
    "ValueDiff",
    "VerifiedMember",
    "VerifyReport",
    "audit",
    "build_info",
    "convert",
    "diff",
    "drift",
    "export_tensorboard",
    "manifest",
    "open",
    "page",
    "pictures",
    "read_manifest",
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
