"""Directories that DeepSpeed's ZeRO writes: the model's weights, and the partitions of its optimizer, a file a process.

`mp_rank_00_model_states.pt` holds the model under `module` (with ZeRO 1 and 2 its 16-bit weights, with ZeRO 3 what was
not partitioned); `zero_pp_rank_0_mp_rank_00_optim_states.pt` a partition of each group of parameters, flattened and in
float32, with its moments (deepspeed/utils/zero_to_fp32.py). `latest` beside the directories names the last one.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from . import _core
from .checkpoint import Branch, Names, Writer
from .errors import PthError, TruncatedError
from .formats.base import Finding
from .record import Record
from .sharded import ShardedCheckpoint, n_files

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

OPTIMIZER = "optimizer_state_dict"
GROUPS = ("single_partition_of_fp32_groups", "fp32_flat_groups")  # of ZeRO 1 and 2, of ZeRO 3
PARTITION = re.compile(rf"(.*?pp_rank_(\d+)_mp_rank_(\d+)_optim_states)/{OPTIMIZER}/({'|'.join(GROUPS)})/(\d+)")
MODEL = re.compile(r"mp_rank_\d+_model_states/module/")


class Partition(Record):
    """A part of a group of parameters, flattened and in float32, as one process kept it."""

    group: int
    rank: int
    model_rank: int
    name: str
    numel: int
    nbytes: int


class DeepSpeedCheckpoint(ShardedCheckpoint):
    """A ZeRO directory as one: names begin with that of the file, without its ending.

    `state_dict()` are the model's own weights, where one file has them; `partitions` what the optimizer kept.
    """

    @property
    def format(self) -> str:
        return "deepspeed"

    @cached_property
    def partitions(self) -> tuple[Partition, ...]:
        """By group, then by the rank of the process: joined in this order they are the group (ZeRO 1 and 2)."""
        found = []
        for name, t in self.items():
            m = PARTITION.fullmatch(name)
            if m is not None:
                found.append(Partition(int(m[5]), int(m[2]), int(m[3]), name, t.numel, t.nbytes))
        return tuple(sorted(found, key=lambda p: (p.group, p.model_rank, p.rank)))

    def state_dict(self) -> Names:
        heads = {m[0] for n in self._list if (m := MODEL.match(n)) is not None}
        return Branch(self, heads.pop()) if len(heads) == 1 else self

    @cached_property
    def _between(self) -> list[Finding]:
        """Are there as many partitions as the processes say?"""
        return [*super()._between, *self._apart]

    @cached_property
    def _apart(self) -> list[Finding]:
        counts = {count for _, ckpt in self._each() for count in _partition_counts(ckpt)}
        ranks = {p.rank for p in self.partitions}
        if counts and ranks and max(counts) != len(ranks):
            severity, sentence = _core.FINDINGS["zero-partitions"]
            told = f"{sentence}: {max(counts)} are said, of {len(ranks)} there are files"
            return [Finding("zero-partitions", severity, None, None, told)]
        return []

    def _gone(self, prefix: str = "") -> dict[str, PthError]:
        gone = super()._gone(prefix)
        if self._apart and not prefix:  # the model's own weights are whole without the optimizer
            gone["partitions"] = TruncatedError(self._apart[0].code, self._apart[0].message, path=self.path)
        return gone

    @cached_property
    def writer(self) -> Writer:
        first = next((ckpt for _, ckpt in self._each()), None)
        proto = first.writer.protocol if first is not None else 0
        versions = {str(v)[:40] for _, ckpt in self._each() for k, v in ckpt.root_values.items() if k == "ds_version"}
        version = f" {versions.pop()}" if len(versions) == 1 else ""
        evidence = ("files named as DeepSpeed names those of its processes",)
        return Writer(f"DeepSpeed{version}, in {n_files(len(self._layout.files))}", proto, evidence)


def _partition_counts(ckpt: Checkpoint) -> list[int]:
    """What a file says of the number of processes that share the optimizer."""
    found = []
    for path, value in ckpt.metadata.items():
        head, _, rest = path.partition("/")
        if head == OPTIMIZER and rest.split("/")[0] == "partition_count" and type(value) is int:
            found.append(value)
    return found
