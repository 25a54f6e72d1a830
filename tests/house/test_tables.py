"""Each fact stands once, in csrc/defs, and equals what pickletools, numpy and torch say."""

from __future__ import annotations

import pickletools
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

import pthparse
from pthparse import _core, errors, graph

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
PYTHON = "".join(f.read_text() for f in sorted((ROOT / "pthparse").rglob("*.py*")) if f.suffix in (".py", ".pyx"))
CODE = "".join(f.read_text() for f in sorted(CSRC.glob("*.[ch]")))


def test_opcodes_are_those_of_pickletools() -> None:
    assert {(n, c, p) for n, c, p in _core.OPCODES} == {(o.name, ord(o.code), o.proto) for o in pickletools.opcodes}


def test_dtypes_are_those_of_torch() -> None:
    ours = {row[0] for row in _core.DTYPES}
    theirs = {str(d).removeprefix("torch.") for d in vars(torch).values() if isinstance(d, torch.dtype)}
    assert theirs <= ours
    assert ours - theirs == {"untyped"}  # the bytes of an UntypedStorage


@pytest.mark.parametrize("row", [r for r in _core.DTYPES if r[0] != "untyped"], ids=lambda r: r[0])
@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_a_dtype_has_the_size_of_torch_and_numpy(row: tuple[str, str, int, int, int, str, bool]) -> None:
    name, storage, itemsize, packing, swap, numpy_name, ml = row
    assert getattr(torch, name).itemsize == itemsize
    element = np.dtype(getattr(ml_dtypes, numpy_name) if ml else numpy_name)
    assert element.itemsize * (2 if name == "complex32" else 1) == itemsize
    assert swap in (1, itemsize, itemsize // 2) and (swap == itemsize // 2) == name.startswith("complex")
    assert packing in (1, 2, 4)
    if hasattr(torch, storage):  # the others are TorchScript's alone: tests/oracle asks it
        assert getattr(torch, storage).dtype == getattr(torch, name)


def test_every_storage_class_of_torch_is_known() -> None:
    ours = {row[1] for row in _core.DTYPES}
    theirs = {n for n in dir(torch) if n.endswith("Storage") and n not in ("Storage", "TypedStorage")}
    assert theirs <= ours and len(ours) == len(_core.DTYPES)


def test_globals_are_sorted_and_known_once() -> None:
    names = [(m, n) for m, n, _ in _core.GLOBALS]
    assert names == sorted(names) and len(set(names)) == len(names)
    assert {meaning for _, _, meaning in _core.GLOBALS} <= set(_core.MEANINGS)


def test_every_meaning_is_used() -> None:
    for meaning in _core.MEANINGS:
        assert f"PTH_G_{meaning}" in CODE or f'"{meaning}"' in PYTHON, meaning


def test_every_reader_has_a_meaning() -> None:
    assert set(graph.READERS) <= set(_core.MEANINGS)


def test_every_error_is_raised_somewhere_and_reads_well() -> None:
    codes = [row[2] for row in _core.ERRORS]
    assert len(set(codes)) == len(codes)
    for name, cls, code, text in _core.ERRORS:
        assert re.search(rf"\bPTH_E_{name}\b", CODE), f"{name} is never raised"
        assert issubclass(getattr(errors, cls), pthparse.PthError)
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*|max_[a-z_]+", code)
        assert "{" not in text.format(want=1, have=2) and not text.endswith(".")


def test_every_finding_is_made_somewhere() -> None:
    rows = re.findall(
        r'^X\((\w+), "([a-z-]+)", (\w+), "(.*)"\)$', (CSRC / "defs" / "findings.def").read_text(), re.MULTILINE
    )
    assert len(rows) == len(_core.FINDINGS) > 40
    for name, code, severity, text in rows:
        assert _core.FINDINGS[code] == (severity.lower(), text) and not text.endswith(".")
        assert f"PTH_F_{name}" in CODE or f'"{code}"' in PYTHON, code
        assert severity in ("NOTE", "REVIEW", "INCOMPLETE", "MALFORMED", "DANGEROUS")


def test_dangers_are_sorted_and_known_once() -> None:
    rows = list(_core.dangers())
    assert rows == sorted(rows) and len(rows) > 150
    assert not set(rows) & {(m, n) for m, n, meaning in _core.GLOBALS if meaning in _core.HANDLED} - {
        ("torch.storage", "_load_from_bytes")
    }


def test_errors_carry_what_they_know() -> None:
    e = _core.error_of(1, offset=7, opcode="BUILD").at("file.pth", "data.pkl")
    assert (e.path, e.member, e.offset, e.opcode) == ("file.pth", "data.pkl", 7, "BUILD")
    assert str(e).startswith("file.pth!data.pkl: ") and str(e).endswith(f"(BUILD) at byte 7 [{e.code}]")
    assert isinstance(e, ValueError)


def test_limits_are_the_table() -> None:
    limits = pthparse.Limits()
    for name, default, unit, why in _core.LIMITS:
        assert getattr(limits, name) == default and unit and why
        assert re.search(rf"\b{name}\b", CODE + PYTHON), f"{name} limits nothing"
        assert name in (pthparse.Limits.__doc__ or "")
    with pytest.raises(AttributeError):
        limits.max_ndim = 5  # type: ignore[misc]


def test_layouts_are_torchs() -> None:
    assert set(_core.LAYOUTS) <= {
        str(v).removeprefix("torch.") for v in vars(torch).values() if isinstance(v, torch.layout)
    }
