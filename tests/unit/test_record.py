"""Records: dataclasses to everybody who asks, though made without dataclasses."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from pthparse import AuditedGlobal, Finding, Limits
from pthparse.formats.base import Member

FINDING = Finding("gap", "review", None, 7, "a hole")


def test_positions_names_and_defaults() -> None:
    assert Finding("gap", severity="review", member=None, offset=7, message="a hole") == FINDING
    g = AuditedGlobal("os", "system", 1, None, 3, "GLOBAL", "dangerous", "runs a command")
    assert g.python3 is None and AuditedGlobal(**g.to_dict()) == g
    with pytest.raises(TypeError, match="message"):
        Finding("gap", "review", None, 7)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="more"):
        Finding("gap", "review", None, 7, "a hole", more=1)  # type: ignore[call-arg]
    assert repr(FINDING) == "Finding(code='gap', severity='review', member=None, offset=7, message='a hole')"


def test_equal_only_to_their_own_kind() -> None:
    assert Member("a", 0, 1, 1, "data") != Finding("a", 0, 1, 1, "data")  # type: ignore[arg-type]
    assert FINDING.to_dict() != FINDING and len({FINDING, copy.copy(FINDING)}) == 1
    assert Finding("gap", "review", None, 8, "a hole") != FINDING


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="offset"):
        FINDING.offset = 8  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="offset"):
        del FINDING.offset
    with pytest.raises(dataclasses.FrozenInstanceError):
        FINDING.new = 8  # type: ignore[attr-defined]


def test_what_dataclasses_says() -> None:
    assert dataclasses.is_dataclass(Finding) and dataclasses.is_dataclass(FINDING)
    fields = dataclasses.fields(AuditedGlobal)
    assert [f.name for f in fields][:3] == ["module", "name", "uses"]
    assert fields[-1].default is None and fields[0].default is dataclasses.MISSING
    assert dataclasses.asdict(FINDING) == FINDING.to_dict()
    assert dataclasses.replace(FINDING, offset=9).offset == 9
    match FINDING:
        case Finding("gap", _, _, offset):
            assert offset == 7
        case _:
            raise AssertionError


@pytest.mark.parametrize("record", [FINDING, Limits(max_members=5)])
def test_copies(record: Finding) -> None:
    for made in (copy.copy(record), copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert made == record and made is not record and hash(made) == hash(record)


def test_limits() -> None:
    assert Limits().max_members > 5 == Limits(max_members=5).max_members
    assert dataclasses.replace(Limits(max_members=5), max_depth=6) == Limits(max_members=5, max_depth=6)
    assert all(f.kw_only and f.default == getattr(Limits(), f.name) for f in dataclasses.fields(Limits))
    assert "max_members : " in (Limits.__doc__ or "")
    with pytest.raises(TypeError):
        Limits(5)
