"""How this installation was built."""

from __future__ import annotations

import platform
import sys

from . import __version__, _core


def build_info() -> dict[str, object]:
    """Version, compiler, platform, and the instruction sets that the kernels can use here: the last is the best."""
    from . import _kernels

    return {
        "version": __version__,
        "compiler": _core.COMPILER,
        "sanitized": _core.SANITIZED,
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "byteorder": sys.byteorder,
        "instruction_sets": list(_kernels.ISAS),
    }
