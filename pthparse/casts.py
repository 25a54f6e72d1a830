"""Elements of one floating type as another: rounded to nearest, ties to even, and at the ends as torch's `.to()`.

Every way but the one to float64 leads through float32, as in torch; so float64 to float16 is rounded twice, there and
here. What is too large becomes an infinity where the type has one (float16, bfloat16, float8_e5m2), the largest number
in float8_e4m3fn, and NaN in the `fnuz` types. NaN stays NaN; its other bits are not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _core
from .tensor import numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = {row[0]: i for i, row in enumerate(_core.DTYPES)}
# What elements can be cast to. float8_e8m0fnu has no sign and no zero: it is read, and not written.
TARGETS = (
    "float64", "float32", "float16", "bfloat16",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
)  # fmt: skip
FLOATS = frozenset((*TARGETS, "float8_e8m0fnu"))
# These are no numbers with a fraction, and are cast only where they are asked for by their names.
WHOLE = frozenset(("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"))
LARGEST_E4M3FN = 448.0


def cast_of(dtype: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What turns arrays into arrays of `dtype`, one of TARGETS."""
    import numpy as np

    wanted = numpy_dtype(DTYPES[dtype])

    def cast(array: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            if dtype == "float64" and array.dtype.kind in "iufb":  # ml_dtypes' are none of these
                return array.astype(wanted)
            wide = array if array.dtype == np.float32 else array.astype(np.float32)
            if dtype == "float8_e4m3fn":
                wide = np.clip(wide, -LARGEST_E4M3FN, LARGEST_E4M3FN)
            return wide if dtype == "float32" else wide.astype(wanted)

    return cast
