"""The tar that torch.save wrote up to 0.1.9 (torch/serialization.py, legacy_load).

Its members are sys_info, pickle, storages and tensors.
"""

from __future__ import annotations

from typing import Any

from .. import _core
from ..errors import FormatError, LimitError, PthError, TruncatedError
from ..source import Source
from .base import Container, Member, growing

BLOCK = 512
WANTED = (b"sys_info", b"pickle", b"storages", b"tensors")


def probe(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def read(source: Source, limits: Any) -> Container:
    try:
        box = TarContainer(source, limits)
        box.read()
    except PthError as e:
        raise e.at(source.path) from None
    return box


class TarContainer(Container):
    format = "tar"

    def read(self) -> None:
        self.entries = self._entries()
        if not all(name in self.entries for name in WANTED):
            raise FormatError(
                "not-a-checkpoint",
                "a tar archive that torch did not write: unpack it and open the checkpoint inside",
                path=self.source.path,
            )
        tar = _core.Tar(self.arena, self.c_limits)
        self._read_storages(tar)
        tar.tensors(self.source.read(*self._span(b"tensors")))
        self.store = tar.finish()
        offset, size = self._span(b"pickle")
        graph = self.parse(self.source.read(offset, size), "pickle", offset)
        self.tensors = self.read_tensors(graph, self.store)
        offset, size = self._span(b"sys_info")
        self.parse(self.source.read(offset, size), "sys_info", offset)

    def _entries(self) -> dict[bytes, tuple[int, int]]:
        """Name -> (offset, size); extended headers have other types and are passed by."""
        entries: dict[bytes, tuple[int, int]] = {}
        at, size = 0, self.source.size
        while at + BLOCK <= size and len(entries) < self.limits.max_members:
            header = _core.tar_header(self.source.read(at, BLOCK))
            if header is None:
                break
            name, length, is_file = header
            if at + BLOCK + length > size:
                raise TruncatedError(
                    "tar-extent",
                    f"the member would end at byte {at + BLOCK + length}, the file ends at {size}",
                    offset=at,
                )
            if is_file:
                if name in entries:
                    raise FormatError("tar-duplicate", f"two members {name[:20]!r}", offset=at)
                entries[name] = (at + BLOCK, length)
            at += BLOCK + -(-length // BLOCK) * BLOCK
        return entries

    def _span(self, name: bytes) -> tuple[int, int]:
        offset, size = self.entries[name]
        if size > self.limits.max_pickle_bytes:
            allowed = self.limits.max_pickle_bytes
            raise LimitError("max_pickle_bytes", f"{size} bytes, {allowed} are allowed", member=name.decode())
        return offset, size

    def _read_storages(self, tar: Any) -> None:
        at, size = self.entries[b"storages"]
        end = at + size
        n, used = growing(self.source, at, min(size, 1 << 20), tar.count)
        at += used
        for _ in range(n):
            start = at
            at = growing(
                self.source, start, min(end - start, 1 << 20), lambda data, start=start: tar.storage(data, start, end)
            )
        tar.views(self.source.read(at, end - at))

    def members(self) -> tuple[Member, ...]:
        roles = {b"storages": "storage", b"pickle": "pickle", b"sys_info": "pickle", b"tensors": "meta"}
        return tuple(
            Member(name.decode("utf-8", "backslashreplace"), offset, size, size, roles.get(name, "other"))
            for name, (offset, size) in self.entries.items()
        )

    def writer(self) -> str:
        self.evidence.append("a tar with members storages and tensors: the format before 0.1.10")
        return "torch 0.1.9 or earlier"
