"""Types of the seam to the kernels."""

from numpy import float64, int64
from numpy.typing import NDArray

PIECE: int
PAIR_PIECE: int
WIDE: int
PIECE_LAYOUT: str
STATS_LAYOUT: str
READ_LAYOUT: str
RUNS_LAYOUT: str
PAIR_LAYOUT: str
ISAS: tuple[str, ...]

def parts(dtype: int) -> int: ...
def measure(
    isa: int, data: bytes | bytearray | memoryview, pieces: bytes, histogram: bool = False
) -> tuple[bytes, tuple[tuple[int, int], ...]]: ...
def measure_file(
    isa: int, fd: int, base: int, reads: bytes, pieces: bytes, histogram: bool = False
) -> tuple[int, bytes, list[tuple[tuple[int, int], ...]]]: ...
def count_values(values: NDArray[float64], edges: NDArray[float64], counts: NDArray[int64]) -> None: ...
def fold(records: bytes, width: int, is_signed: bool) -> bytes: ...
def compare(
    isa: int,
    a: bytes | bytearray | memoryview,
    b: bytes | bytearray | memoryview,
    type_a: int,
    type_b: int,
    n: int,
    tolerance: tuple[float, float, bool],
) -> bytes: ...
def compare_files(
    isa: int,
    fd_a: int,
    base_a: int,
    fd_b: int,
    base_b: int,
    runs: bytes,
    tolerance: tuple[float, float, bool],
    forced: bool,
) -> tuple[int, bytes]: ...
def fold_pairs(records: bytes) -> bytes: ...
