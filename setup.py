"""Builds the native core. What else there is to say stands in pyproject.toml.

Environment switches: PTHPARSE_SANITIZE=1 (address and undefined behaviour), PTHPARSE_COVERAGE=1 (gcov; not abi3),
PTHPARSE_DEBUG=1 (no optimisation, assertions), PTHPARSE_WERROR=1 (warnings are errors).
"""

import os
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent


def switch(name: str) -> bool:
    return os.environ.get(f"PTHPARSE_{name}", "0") not in ("", "0")


COVERAGE = switch("COVERAGE")
ABI3 = not COVERAGE and not sysconfig.get_config_var("Py_GIL_DISABLED")
MACROS = [("CYTHON_USE_SYS_MONITORING", "0")] if COVERAGE else []
if ABI3:
    MACROS.append(("Py_LIMITED_API", "0x030B0000"))

# What Cython generates is compiled by the same flags: -Wconversion, which it does not keep, is asked for in the tests.
GCC_FLAGS = [
    "-std=c11",
    "-O3",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wvla",
]
MSVC_FLAGS = ["/std:c11", "/O2"]


class Build(build_ext):
    """Chooses the flags when the compiler is known."""

    def build_extensions(self) -> None:
        unix = self.compiler.compiler_type != "msvc"
        flags, links = list(GCC_FLAGS if unix else MSVC_FLAGS), []
        if unix and switch("SANITIZE"):
            sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
            flags += [*sanitize, "-g", "-O1"]
            links += sanitize
        if unix and switch("DEBUG"):
            flags += ["-O0", "-g", "-UNDEBUG"]
        if unix and COVERAGE:
            flags += ["--coverage", "-O0"]
            links += ["--coverage"]
        if unix and not switch("SANITIZE") and not switch("DEBUG"):
            flags += ["-g0"]  # Python's own flags ask for symbols, which are most of a wheel
        if unix and switch("WERROR"):
            flags += ["-Werror"]
        for extension in self.extensions:
            extension.extra_compile_args = flags
            extension.extra_link_args = links
        super().build_extensions()


KERNELS = ("cpu", "kernel_*", "pair", "stats")
headers = sorted(str(p.relative_to(HERE)) for pattern in ("*.h", "defs/*.def") for p in (HERE / "csrc").glob(pattern))
kernels = sorted(f"csrc/{p.name}" for name in KERNELS for p in (HERE / "csrc").glob(f"{name}.c"))
reading = sorted({f"csrc/{p.name}" for p in (HERE / "csrc").glob("*.c")} - set(kernels))


def seam(name: str, sources: list[str]) -> Extension:
    return Extension(
        f"pthparse.{name}",
        [f"pthparse/{name}.pyx", *sources],
        include_dirs=["csrc", "pthparse"],
        depends=[*headers, "pthparse/_csrc.pxd", "pthparse/_seam.h"],
        define_macros=MACROS,
        py_limited_api=ABI3,
    )


directives = {
    "language_level": 3,
    "binding": True,
    "boundscheck": switch("DEBUG"),
    "wraparound": switch("DEBUG"),
    "linetrace": COVERAGE,
}

setup(
    ext_modules=cythonize([seam("_core", reading), seam("_kernels", kernels)], compiler_directives=directives),
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
)
