"""How this installation was built."""

from __future__ import annotations

import platform
import sys

from . import __version__, _core


def build_info() -> dict[str, object]:
    """Version, compiler and platform, for bug reports."""
    return {
        "version": __version__,
        "compiler": _core.COMPILER,
        "sanitized": _core.SANITIZED,
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "byteorder": sys.byteorder,
    }
