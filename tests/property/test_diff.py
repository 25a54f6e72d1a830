"""Random models: a copy does not differ, nothing but content counts for a hash, and what was changed is found."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from forge import pickles as p
from forge import zips
from hypothesis import given, settings
from hypothesis import strategies as st

import pthparse

NAMES = st.text(min_size=1, max_size=12)
VALUES = st.lists(st.floats(width=32), min_size=1, max_size=9)
MODELS = st.dictionaries(NAMES, VALUES, max_size=6)


def saved(
    model: dict[str, list[float]], order: list[str] | None = None, prefix: str = "archive/", gap: int = 0
) -> bytes:
    """gap: elements before and between the tensors, which share one storage."""
    names = list(model) if order is None else order
    if not gap:
        rows = {n: p.vector(str(i), len(model[n])) for i, n in enumerate(names)}
        data = {str(i): struct.pack(f"<{len(model[n])}f", *model[n]) for i, n in enumerate(names)}
        return zips.checkpoint(p.pickle(p.dict_of(rows)), data, prefix=prefix)
    flat: list[float] = []
    places = {}
    for n in names:
        flat += [7.0] * gap
        places[n] = len(flat)
        for value in model[n]:
            flat += [value] + [8.0] * (gap - 1)
    store = p.storage("0", len(flat))
    rows = {n: p.tensor(store, [len(model[n])], [gap], places[n]) for n in names}
    return zips.checkpoint(p.pickle(p.dict_of(rows)), {"0": struct.pack(f"<{len(flat)}f", *flat)}, prefix=prefix)


@settings(max_examples=40, deadline=None)
@given(MODELS, st.randoms(), st.integers(1, 4))
def test_nothing_but_content_counts(model: dict[str, list[float]], random: object, gap: int) -> None:
    order = list(model)
    random.shuffle(order)  # type: ignore[attr-defined]
    forms = [saved(model), saved(model, order, prefix="x/"), saved(model, order, gap=gap)]
    made = [pthparse.manifest(data) for data in forms]
    assert len({m.model for m in made}) == 1 and made[0].errors == ()
    assert all(m.tensors == made[0].tensors for m in made)
    assert pthparse.read_manifest(made[0].to_json().encode()).tensors == made[0].tensors
    for other in forms:
        report = pthparse.diff(forms[0], other)
        assert report.same and report.identical == len(model)
        assert not (report.close or report.changed or report.renamed or report.errors)


@settings(max_examples=40, deadline=None)
@given(MODELS, MODELS)
def test_what_was_changed_is_found(a: dict[str, list[float]], b: dict[str, list[float]]) -> None:
    model, other = {**a, "both": [1.0, 2.0]}, {**b, "both": [1.0, 3.0]}
    report = pthparse.diff(saved(model), saved(other))
    moved = {r.name for r in report.renamed}
    assert {*report.removed, *moved} == model.keys() - other.keys()
    assert {*report.added, *(r.name_b for r in report.renamed)} == other.keys() - model.keys()
    told = {d.name for d in report.changed + report.reshaped + report.close}
    common = model.keys() & other.keys()
    same = {
        n for n in common if struct.pack(f"{len(model[n])}f", *model[n]) == struct.pack(f"{len(other[n])}f", *other[n])
    }
    assert told == common - same and report.identical == len(same) and report.differs
    hashes = [{t.name: t.hash for t in pthparse.manifest(saved(m)).tensors} for m in (model, other)]
    assert {n for n in common if hashes[0][n] == hashes[1][n]} == same
    for r in report.renamed:
        assert np.array(model[r.name], np.float32).tobytes() == np.array(other[r.name_b], np.float32).tobytes()


@settings(max_examples=60, deadline=None)
@given(VALUES, VALUES, st.floats(0, 2), st.floats(0, 2))
def test_the_other_way_round(a: list[float], b: list[float], rtol: float, atol: float) -> None:
    n = min(len(a), len(b))
    x, y = saved({"w": a[:n]}), saved({"w": b[:n]})
    one, other = pthparse.diff(x, y, rtol=rtol, atol=atol), pthparse.diff(y, x, rtol=rtol, atol=atol)
    assert one.identical == other.identical
    for d, e in zip(one.changed + one.close, other.changed + other.close, strict=True):
        assert (d.equal, d.max_abs, d.max_rel, d.max_ulp) == (e.equal, e.max_abs, e.max_rel, e.max_ulp)
        assert d.mean_abs == pytest.approx(e.mean_abs) and (d.cosine is None) == (e.cosine is None)
        if not rtol:
            assert d.far == e.far
