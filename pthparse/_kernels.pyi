"""Types of the seam to the kernels."""

PIECE: int
WIDE: int
PIECE_LAYOUT: str
STATS_LAYOUT: str
READ_LAYOUT: str
ISAS: tuple[str, ...]

def parts(dtype: int) -> int: ...
def measure(
    isa: int, data: bytes | bytearray | memoryview, pieces: bytes, histogram: bool = False
) -> tuple[bytes, tuple[tuple[int, int], ...]]: ...
def measure_file(
    isa: int, fd: int, base: int, reads: bytes, pieces: bytes, histogram: bool = False
) -> tuple[int, bytes, list[tuple[tuple[int, int], ...]]]: ...
def fold(records: bytes, width: int, is_signed: bool) -> bytes: ...
