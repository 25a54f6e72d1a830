"""One file that is written: whole, or what was there before. Several: test_converter.py."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pthparse.outputs import write


@pytest.mark.parametrize("name", ["out", "a" * 250], ids=len)
def test_a_file_is_replaced_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for data in (b"first", b"second"):
        write(path, [data[:2], data[2:]])
        assert path.read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write(path, parts())
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write(path, [b"all ", b"of it"])
    reader.join()
    assert found == [b"all of it"] and path.is_fifo()
