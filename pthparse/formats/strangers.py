"""What people hand over that is no checkpoint: named, with what to do.

Knowing them is a courtesy, so first bytes are enough.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import FormatError, PthError, UnsupportedError, escape
from ..source import Source
from .base import Container, Remain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

NUMPY = b"\x93NUMPY"
PACKED = (
    (b"\x1f\x8b", "gzip", "gzip-compressed: unpack it with `gunzip`"),
    (b"BZh", "bzip2", "bzip2-compressed: unpack it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "xz", "xz-compressed: unpack it with `unxz`"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd-compressed: unpack it with `unzstd`"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4-compressed: unpack it with `unlz4`"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "a 7z archive: unpack it with `7z x`"),
    (b"Rar!\x1a\x07", "rar", "a RAR archive: unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "hdf5", "an HDF5 file (Keras?): open it with h5py"),
    (b"GGUF", "gguf", "a GGUF file (llama.cpp), not a torch checkpoint"),
    (NUMPY, "npy", "a numpy array: open it with numpy.load"),
    (b"PYTORCH1", "pytorch1", "the container of the torch 1.0 previews, which no torch reads any more"),
    (b"PK\x05\x06", "empty-zip", "an empty zip: the save was interrupted, or nothing was put in"),
)


def probe(head: bytes) -> bool:
    return recognise(head) is not None


def container(source: Source, limits: Any) -> Container:
    return StrangeContainer(source, limits)


class StrangeContainer(Container):
    def read(self) -> NoReturn:
        head = bytes(self.source.window(0, 4096))
        self.leading_pickles()  # torch knows none of these formats, and runs what is there
        raise recognise(head, self.source) or unknown(self.source, head)

    def remains(self) -> Iterator[Remain]:
        if behind_header(bytes(self.source.window(0, 16))):
            yield Remain("(array)", 0, self.source, False)


def recognise(head: bytes, source: Source | None = None) -> PthError | None:
    """The error for something known, or None."""
    if not head:
        return FormatError("empty-file", "an empty file: the download or save did not happen")
    if head.startswith(b"version https://git-lfs"):
        import re

        size = re.search(rb"^size (\d{1,20})$", head, re.MULTILINE)
        real = f" (the real one has {int(size[1]):,} bytes)" if size else ""
        return FormatError("git-lfs-pointer", f"a Git LFS pointer, not the file itself{real}: run `git lfs pull`")
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return FormatError(
            "html-page", "an HTML page: the download gave an error or a login page, so download it again"
        )
    for magic, code, message in PACKED:
        if head.startswith(magic):
            return UnsupportedError(code, message)
    if head[4:8] == b"PTMF":
        return UnsupportedError(
            "flatbuffer", "TorchScript for mobile as a flatbuffer: save it with _use_flatbuffer=False"
        )
    if start.startswith(b"{") and b'"weight_map"' in head:
        return UnsupportedError("shard-index", "the index of a model in several files: open one of the files it names")
    if not head.strip(b"\x00") and (source is None or _all_zero(source)):
        return FormatError("all-zero", "nothing but zeros: the disk was full or the write was never finished")
    return None


def behind_header(head: bytes) -> int:
    """Where the data of a numpy array begin: arrays of objects are a pickle. 0: it is none."""
    if not head.startswith(NUMPY):
        return 0
    long = head[6:7] > b"\x01"
    return (12 if long else 10) + int.from_bytes(head[8 : 12 if long else 10], "little")


def _all_zero(source: Source) -> bool:
    """Looks at a few places: certainty would cost reading all of it."""
    spots = {0, source.size // 2, max(0, source.size - 4096)}
    return all(not bytes(source.window(at, 4096)).strip(b"\x00") for at in spots)


def unknown(source: Source, head: bytes) -> PthError:
    start = escape(head[:16].decode("latin-1"))
    return FormatError(
        "not-a-checkpoint", f"no format of torch: the file begins with '{start}'", path=source.path, offset=0
    )
