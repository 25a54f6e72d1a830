"""Files that are no checkpoints: each is named, and the message says what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

import pthparse


def zip_of(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members.items():
            z.writestr(name, data)
    return out.getvalue()


def tar_of(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=np.zeros(2))
    return out.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 505322271\n"

STRANGERS: dict[str, tuple[bytes, str, str]] = {
    "lfs": (LFS, "git-lfs-pointer", "505,322,271 bytes): run `git lfs pull`"),
    "html": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "html-page", "download it again"),
    "html with a mark": (b"\xef\xbb\xbf\n <HTML>", "html-page", "HTML page"),
    "gzip": (gzip.compress(b"x"), "gzip", "gunzip"),
    "bzip2": (bz2.compress(b"x"), "bzip2", "bunzip2"),
    "xz": (lzma.compress(b"x"), "xz", "unxz"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00", "zstd", "unzstd"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "7z", "7z x"),
    "rar": (b"Rar!\x1a\x07\x01\x00", "rar", "unpack"),
    "empty": (b"", "empty-file", "empty file"),
    "zeros": (bytes(100_000), "all-zero", "zeros"),
    "index": (b'{"metadata": {}, "weight_map": {}}', "shard-index", "one of the files"),
    "gguf": (b"GGUF\x03\0\0\0", "gguf", "llama.cpp"),
    "hdf5": (b"\x89HDF\r\n\x1a\n\0", "hdf5", "h5py"),
    "npy": (b"\x93NUMPY\x01\0", "npy", "numpy.load"),
    "npz": (npz(), "npz", "numpy.load"),
    "flatbuffer": (b"\x1c\0\0\0PTMF", "flatbuffer", "_use_flatbuffer=False"),
    "preview": (b"PYTORCH1....", "pytorch1", "1.0 previews"),
    "pt2": (zip_of(**{"m/archive_format": b"pt2", "m/models/model.json": b"{}"}), "pt2", "torch.export"),
    "old pt2": (zip_of(**{"serialized_exported_program.json": b"{}"}), "pt2", "torch.export"),
    "zip": (zip_of(**{"a/readme.txt": b"hi", "a/model.pth": b"x"}), "not-a-checkpoint", "a/model.pth"),
    "empty zip": (zip_of(), "empty-zip", "empty zip"),
    "tar": (tar_of("model.pth"), "not-a-checkpoint", "tar archive"),
    "text": (b"hello world, this is no model", "not-a-checkpoint", "begins with 'hello world, thi'"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "not-a-checkpoint", "no format of torch"),
    "json": (b'{"a": 1}', "not-a-checkpoint", "begins with"),
    "python": (b"import torch\n", "not-a-checkpoint", "begins with 'import torch"),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("where", ["bytes", "file"])
def test_named_with_advice(name: str, where: str, tmp_path: Path) -> None:
    data, code, advice = STRANGERS[name]
    source: bytes | Path = data
    if where == "file":
        source = tmp_path / "model.pth"
        source.write_bytes(data)
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(source)
    assert e.value.code == code and advice in str(e.value)
    if where == "file":
        assert str(e.value).startswith(f"{source}: ") and e.value.path == str(source)


def test_directory_missing_file_and_pipe(tmp_path: Path) -> None:
    with pytest.raises(pthparse.UnsupportedError, match="a directory") as e:
        pthparse.open(tmp_path)
    assert e.value.code == "directory"
    with pytest.raises(FileNotFoundError):
        pthparse.open(tmp_path / "none.pth")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(pthparse.FormatError, match="FIFO"):
        pthparse.open(tmp_path / "pipe")


def test_what_is_no_source_at_all() -> None:
    for source in (3, None, io.StringIO("text"), object()):
        with pytest.raises(TypeError):
            pthparse.open(source)  # type: ignore[arg-type]


def test_control_characters_of_a_file_do_not_reach_the_message() -> None:
    with pytest.raises(pthparse.FormatError) as e:
        pthparse.open(b"?\x1b[31m\xe2\x80\xae")
    assert "\x1b" not in str(e.value) and "\\x1b" in str(e.value)
