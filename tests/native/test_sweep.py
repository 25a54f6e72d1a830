"""The C core alone, under the address and undefined-behaviour sanitizers, on every spoilt version of small files.

Without `PTHPARSE_SWEEP=all`, which takes many minutes, the larger files of the zoo are left out.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
from forge import legacy, safetensors, tars
from forge import pickles as p

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
ZOO = ROOT / "tests" / "data" / "zoo"
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wvla", "-Wshadow", "-Werror"]
SANITIZED = ["-g", "-O2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ALL = os.environ.get("PTHPARSE_SWEEP") == "all"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of its own prototypes
COMPILERS = [c for c in ("gcc", "clang", "clang-19", "clang-16", "clang-14") if shutil.which(c)]


def sources() -> list[str]:
    return sorted(str(f) for f in CSRC.glob("*.c"))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_compiles_without_a_warning(compiler: str, level: str) -> None:
    for source in sources():
        done = subprocess.run([compiler, *STRICT, level, "-fsyntax-only", source], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("native") / "sweep"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    code = str(Path(__file__).with_name("sweep.c"))
    subprocess.run([compiler, "-std=c11", *SANITIZED, f"-I{CSRC}", code, *sources(), "-lm", "-o", str(out)], check=True)
    return out


SECOND = [("\n", safetensors.entry("F32", [], [12, 16])), ("\n", safetensors.entry("F4", [8], [16, 20]))]


def tar() -> bytes:
    root = p.dict_of({"a": p.text("1") + p.BINPERSID})
    return tars.archive(root, [tars.storage_record(101, bytes(24))], [tars.tensor_record(1, 101, [2, 3], [3, 1])])


def zipped(obj: object, **how: object) -> bytes:
    out = io.BytesIO()
    torch.save(obj, out, **how)
    return out.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One small file of each kind."""
    state = {"w": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)}
    rich = {
        "csr": torch.eye(2).to_sparse_csr(),
        "q": torch.quantize_per_tensor(torch.ones(2), 0.5, 1, torch.qint8),
        "p": torch.nn.Parameter(torch.ones(2)),
        "n": {"x": [1, 2.5, None, True, (3, "s")], "big": 1 << 80},
        "v": torch.ones(4, dtype=torch.uint16),
    }
    made = {
        "zip": zipped(state),
        "zip4": zipped(state, pickle_protocol=4),
        "legacy": zipped(state, _use_new_zipfile_serialization=False),
        "legacy-forged": legacy.stream(p.dict_of({"w": legacy.vector("0", 4)}), {"0": bytes(16)}),
        "tar": tar(),
        "safetensors": safetensors.build(
            [("__metadata__", {"a": "\u00e9"}), ("w", safetensors.entry("BF16", [2, 3], [0, 12])), *SECOND], bytes(20)
        ),
        "rich": zipped(rich),
        "nested": pickle.dumps({"t": torch.ones(2)}, 4),
        "nested0": pickle.dumps({"t": torch.ones(2)}, 0),
        **{f"pickle{n}": pickle.dumps([rich["n"], {1, 2}, frozenset("a"), b"x", bytearray(b"y")], n) for n in range(6)},
    }
    folder = tmp_path_factory.mktemp("small")
    for name, data in made.items():
        (folder / name).write_bytes(data)
    out = sorted(folder.iterdir())
    return out + [f for f in sorted(ZOO.glob("*/*.pth")) if f.stat().st_size < 30_000]


# Cases grow with the square of the length: up to where a mode takes a minute or two. Only single bytes are left out of
# the longer half of the zoo.
LARGEST = {"truncate": 30_000, "bytes": 7_000, "alloc": 30_000, "budget": 30_000}


def swept(sweep: Path, mode: str, files: list[Path]) -> tuple[int, int]:
    """(cases, cases that were read) of all files, by as many processes as there are processors."""
    ordered = sorted(files, key=lambda f: f.stat().st_size)
    workers = os.cpu_count() or 1
    shares = [share for share in (ordered[i::workers] for i in range(workers)) if share]
    runs = [subprocess.Popen([sweep, mode, *share], stdout=-1, stderr=-1, text=True) for share in shares]
    counts = []
    for run in runs:
        out, err = run.communicate()
        assert run.returncode == 0, err[-3000:]
        counts.append(tuple(map(int, re.findall(r"\d+", out))))
    return sum(c[0] for c in counts), sum(c[1] for c in counts)


@pytest.mark.parametrize("mode", LARGEST)
def test_sweep(sweep: Path, files: list[Path], mode: str) -> None:
    chosen = [f for f in files if ALL or f.stat().st_size <= LARGEST[mode]]
    assert len(chosen) >= 60
    cases, read = swept(sweep, mode, chosen)
    assert cases > 100 and (read > 0 or mode == "truncate")


def test_the_whole_files_are_read(sweep: Path, files: list[Path]) -> None:
    """What is spoilt must have been sound: with a budget large enough each is read to its end."""
    for file in files:
        done = subprocess.run([str(sweep), "budget", str(file)], capture_output=True, text=True, check=True)
        assert int(re.findall(r"\d+", done.stdout)[1]) > 0, file.name
