"""The opcodes of a pickle one by one, with the bytes they stand in: a listing, of the beginning alone. Nothing is run.

Names and bytes are those of the core's table; what follows each opcode is told here (pickletools in Python's library
tells the same, and reads on as long as a file wants).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .. import _core
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 1 << 16  # bytes of a line that are looked through for its end
MOST_TEXT = 400  # bytes of a text, or of bytes, that are handed out
NAMES = {byte: name for name, byte, _ in _core.OPCODES}

# What follows an opcode: a number, as struct has it; a length, as struct has it, and so many bytes; or lines of text.
NUMBERS = {
    "PROTO": "<B", "BININT1": "<B", "BINGET": "<B", "BINPUT": "<B", "EXT1": "<B", "BININT2": "<H", "EXT2": "<H",
    "BININT": "<i", "EXT4": "<i", "LONG_BINGET": "<I", "LONG_BINPUT": "<I", "FRAME": "<Q", "BINFLOAT": ">d",
}  # fmt: skip
TEXTS = {"SHORT_BINUNICODE": "<B", "BINUNICODE": "<I", "BINUNICODE8": "<Q"}
BYTES = {
    "SHORT_BINBYTES": "<B", "BINBYTES": "<I", "BINBYTES8": "<Q", "BYTEARRAY8": "<Q", "SHORT_BINSTRING": "<B",
    "BINSTRING": "<i",
}  # fmt: skip
LONGS = {"LONG1": "<B", "LONG4": "<i"}
LINES = {
    "INT": 1, "LONG": 1, "FLOAT": 1, "STRING": 1, "UNICODE": 1, "GET": 1, "PUT": 1, "PERSID": 1, "GLOBAL": 2, "INST": 2,
}  # fmt: skip


class Instruction(Record):
    """An opcode: its first byte in the pickle, its bytes (of long ones the first), how many they are, what it says."""

    offset: int
    raw: bytes
    nbytes: int
    name: str
    argument: Any


def instructions(data: memoryview | bytes, most: int) -> Iterator[Instruction]:
    """The first of a pickle, up to STOP; it ends before one that is unknown or not whole."""
    data = memoryview(data)
    at = 0
    for _ in range(most):
        name = NAMES.get(data[at]) if at < len(data) else None
        if name is None:
            return
        found = _argument(name, data, at + 1)
        if found is None or found[1] > len(data):
            return
        argument, end = found
        yield Instruction(at, bytes(data[at : min(end, at + MOST_TEXT)]), end - at, name, argument)
        at = end
        if name == "STOP":
            return


def _argument(name: str, data: memoryview, at: int) -> tuple[Any, int] | None:
    """What an opcode says, and where it ends; None: that is not there."""
    form = NUMBERS.get(name)
    if form is not None:
        n = struct.calcsize(form)
        return (struct.unpack_from(form, data, at)[0], at + n) if at + n <= len(data) else None
    form = TEXTS.get(name) or BYTES.get(name) or LONGS.get(name)
    if form is not None:
        n = struct.calcsize(form)
        if at + n > len(data):
            return None
        length = struct.unpack_from(form, data, at)[0]
        if length < 0:
            return None
        raw = bytes(data[at + n : at + n + min(length, MOST_TEXT)])
        if name in TEXTS:
            return raw.decode("utf-8", "replace"), at + n + length
        if name in BYTES:
            return raw, at + n + length
        return int.from_bytes(raw, "little", signed=True), at + n + length
    lines = []
    for _ in range(LINES.get(name, 0)):
        end = bytes(data[at : at + LONGEST]).find(b"\n")
        if end < 0:
            return None
        lines.append(bytes(data[at : at + min(end, MOST_TEXT)]).decode("utf-8", "replace"))
        at += end + 1
    return " ".join(lines) if lines else None, at
