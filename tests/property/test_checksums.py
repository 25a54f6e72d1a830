"""Sums of pieces are sums of the whole, and a file cut anywhere gives what lies before the cut."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import numpy as np
from forge import pickles as p
from forge.zips import DEFLATED, build, described, members
from hypothesis import given, settings
from hypothesis import strategies as st
from zlib_ng import zlib_ng

import pthparse
from pthparse.checksums import Part, combine, crc32s
from pthparse.source import MemorySource


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_combined_sums(first: bytes, second: bytes) -> None:
    assert combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 1 << 40))
def test_sums_of_parts_of_any_size_are_combined_as_zlib_ng_does(first: int, second: int, nbytes: int) -> None:
    assert combine(first, second, nbytes) == zlib_ng.crc32_combine(first, second, nbytes)


@given(st.binary(max_size=5000), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 2000)), max_size=30))
def test_parts_in_any_order(data: bytes, cuts: list[tuple[int, int]]) -> None:
    parts = [Part(at, n) for at, n in cuts if at + n <= len(data)]
    assert crc32s(MemorySource(data), parts) == [zlib.crc32(data[at : at + n]) for at, n, _ in parts]


VALUES = {f"t{i}": np.arange(i, 2 * i, dtype=np.float32) for i in range(1, 9)}
ROOT = p.pickle(p.dict_of({name: p.vector(name[1:], len(value)) for name, value in VALUES.items()}))
PLAIN = members(ROOT, {name[1:]: value.tobytes() for name, value in VALUES.items()})
FILES: dict[str, bytes] = {
    "torch": build([described(e) for e in PLAIN], eocd64=True),
    "large": build([described(e, large=True) for e in PLAIN]),
    "plain": build(PLAIN),
    "streamed": build([described(dataclasses.replace(e, method=DEFLATED)) for e in PLAIN]),
    "pickle last": build([described(e) for e in [*PLAIN[1:], PLAIN[0]]]),
}


@settings(max_examples=300)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_a_cut_gives_what_lies_before_it(kind: str, data: Any) -> None:
    whole = FILES[kind]
    at = data.draw(st.integers(0, len(whole)))
    report = pthparse.verify(whole[:at])
    assert report.ok == (at == len(whole))
    assert not any(m.status in ("wrong", "broken") for m in report.members)
    try:
        ckpt = pthparse.open(whole[:at], salvage=True)
    except pthparse.PthError:
        assert not report.tensors
        return
    assert list(ckpt) == list(VALUES) and set(ckpt) - set(ckpt.errors) == set(report.whole)
    for name, t in ckpt.items():
        if name in report.whole:
            assert np.array_equal(t.numpy(), VALUES[name])
        else:
            assert isinstance(t.error, pthparse.TruncatedError)
    if kind in ("torch", "large", "plain"):
        before = [name for name, value in VALUES.items() if 0 <= whole.find(value.tobytes()) <= at - value.nbytes]
        assert set(report.whole) <= set(before) | {name for name in VALUES if whole.count(VALUES[name].tobytes()) > 1}


@settings(max_examples=300)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_no_byte_and_no_cut_makes_another_error(kind: str, data: Any) -> None:
    whole = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(0, len(whole))) :]
    report = pthparse.verify(bytes(whole))
    assert report.verdict in ("ok", "damaged", "truncated", "unknown") and report.ok == (report.verdict == "ok")
    try:
        with pthparse.open(bytes(whole), salvage=True) as ckpt:
            for t in ckpt.values():
                try:
                    t.numpy(copy=True)
                except pthparse.PthError:
                    pass
            assert ckpt.audit().verdict and ckpt.verify().format
    except pthparse.PthError:
        pass
