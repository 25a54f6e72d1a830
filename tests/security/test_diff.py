"""Files made for those who compare or hash: tensors of any size out of few bytes, many that overlap, cut files.

Where the attack is on time or memory, the sizes are such that what falls for it hangs: nothing is timed.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from forge import pickles as p
from forge import zips
from forge.hostile import CATALOGUE

import pthparse

DATA = struct.pack("<16f", *range(16))
STORE = p.storage("0", 16)


def checkpoint(values: dict[str, bytes], storage: bytes = DATA) -> bytes:
    return zips.checkpoint(p.pickle(p.dict_of(values), 4), {"0": storage})


def codes(data: bytes, **limits: int) -> tuple[list[str], list[str]]:
    """Of errors, by who hashes and by who compares."""
    more = {"limits": pthparse.Limits(**limits)} if limits else {}
    made, report = pthparse.manifest(data, **more), pthparse.diff(data, data[:], **more)
    assert not report.same and not report.differs
    return [e.code for e in made.errors], [e.code for e in report.errors]


@pytest.mark.parametrize("stride", [[0, 0], [0, 1]], ids=["expanded", "rows"])
def test_2_to_the_40_elements_of_a_few_bytes(stride: list[int]) -> None:
    data = checkpoint({"w": p.tensor(STORE, [1 << 37, 8], stride)})
    assert codes(data) == (["max_dense_bytes"],) * 2


def test_windows_that_overlap() -> None:
    data = checkpoint({"w": p.tensor(p.storage("0", 1 << 20), [1 << 19, 1 << 19], [1, 1])}, bytes(1 << 22))
    assert codes(data) == (["max_dense_bytes"],) * 2


def test_few_tensors_that_are_expanded_are_read() -> None:
    data = checkpoint({"w": p.tensor(STORE, [1000, 8], [0, 1])})
    assert pthparse.diff(data, data[:]).same and pthparse.manifest(data).errors == ()


def test_many_tensors_of_the_same_bytes() -> None:
    """Each of them is as large as the file, and no two are the same elements: their sum is quadratic in the file."""
    n = 1 << 20
    rows = {f"w{i}": p.tensor(p.storage("0", n), [n - i], [1], i) for i in range(5000)}
    data = checkpoint(rows, bytes(4 * n))
    made = pthparse.manifest(data, limits=pthparse.Limits(max_dense_bytes=1 << 24))
    assert {e.code for e in made.errors} == {"max_dense_bytes"} and 0 < len(made.tensors) < 20
    report = pthparse.diff(data, data[:], limits=pthparse.Limits(max_dense_bytes=1 << 24))
    assert {e.code for e in report.errors} == {"max_dense_bytes"} and 0 < report.identical < 20


def test_a_member_that_is_inflated_for_each_tensor() -> None:
    root = p.pickle(p.dict_of({f"w{i}": p.tensor(p.storage("0", 1 << 20), [1], [1], i) for i in range(5000)}), 4)
    entries = zips.members(root, {"0": bytes(1 << 22)})
    packed = [zips.replace(e, method=zips.DEFLATED) if e.name.endswith("/data/0") else e for e in entries]
    limits = pthparse.Limits(max_dense_bytes=1 << 24, max_inflate_ratio=10_000)
    made = pthparse.manifest(zips.build(packed), limits=limits)
    assert {e.code for e in made.errors} == {"max_dense_bytes"} and 0 < len(made.tensors) < 20


def test_many_names_of_one_tensor_are_one_read() -> None:
    data = checkpoint({f"w{i}": p.tensor(STORE, [16], [1]) for i in range(20_000)})
    made = pthparse.manifest(data)
    assert len({t.hash for t in made.tensors}) == 1 and made.errors == ()


def test_equal_tensors_of_any_number_are_renamed_in_their_order() -> None:
    rows = [{f"{side}{i}": p.tensor(STORE, [16], [1]) for i in range(20_000)} for side in "ab"]
    report = pthparse.diff(checkpoint(rows[0]), checkpoint(rows[1]))
    assert len(report.renamed) == 20_000 and (report.renamed[9].name, report.renamed[9].name_b) == ("a9", "b9")


def test_a_tensor_made_of_itself_many_times() -> None:
    level = p.vector("0", 16)
    state = {f"x{i}": p.get(0) for i in range(40)}
    out = p.once(level, 0)
    for _ in range(10):
        out += p.once(p.subclass(p.wrapper([1]), p.dict_of(state)), 0)
    data = zips.checkpoint(p.pickle(p.dict_of({}) + p.POP + out + p.dict_of({"w": p.get(0)}), 4), {"0": DATA})
    made = pthparse.manifest(data)
    assert [e.code for e in made.errors] == ["max_parts"]
    assert [e.code for e in pthparse.diff(data, data[:]).errors] == ["max_parts"]


def test_a_file_that_is_cut_while_it_is_open(tmp_path: Path) -> None:
    a, b = tmp_path / "a.pth", tmp_path / "b.pth"
    values = {"first": p.tensor(p.storage("0", 1 << 18), [1 << 18], [1]), "z": p.tensor(STORE, [4], [1])}
    whole = zips.checkpoint(p.pickle(p.dict_of(values), 4), {"0": bytes(1 << 20)})
    for path in (a, b):
        path.write_bytes(whole)
    with pthparse.open(a) as one, pthparse.open(b) as other:
        with b.open("r+b") as file:
            file.truncate(100_000)
        report = pthparse.diff(one, other)
        assert [e.code for e in report.errors] == ["file-changed"] and report.identical == 1
        made = other.hash()
        assert [e.code for e in made.errors] == ["file-changed"] and len(made.tensors) == 1
    with pthparse.open(a) as one:
        one.close()
        assert [e.code for e in pthparse.diff(one, a).errors] == ["closed", "closed"]


def test_a_cut_file_is_an_error_and_no_answer(tmp_path: Path) -> None:
    whole = checkpoint({"w": p.tensor(STORE, [16], [1])})
    for n in range(0, len(whole) - 1, 7):
        with pytest.raises(pthparse.PthError):
            pthparse.diff(whole, whole[:n])
        with pytest.raises(pthparse.PthError):
            pthparse.manifest(whole[:n])


def test_a_hash_does_not_confuse_names_and_parts() -> None:
    """What is joined cannot be cut elsewhere: names that hold the marks of the text that is hashed."""
    x, y = struct.pack("<2f", 1, 2), struct.pack("<2f", 3, 4)
    seen = set()
    digest = pthparse.manifest(checkpoint({"a": p.vector("0", 2)}, x)).tensors[0].hash
    for names in (["a", "b"], [f'a" {digest}\n"b', "c"], ["a\n", "b"], ["a\0", "b"], ['a"', "b"]):
        rows = {names[0]: p.vector("0", 2), names[1]: p.vector("1", 2)}
        made = pthparse.manifest(zips.checkpoint(p.pickle(p.dict_of(rows)), {"0": x, "1": y}))
        seen.add(made.model)
        assert pthparse.read_manifest(made.to_json().encode()) == made
    assert len(seen) == 5


def test_every_forged_file_gives_an_answer_or_an_error_of_the_family() -> None:
    answers = 0
    for forged in CATALOGUE[::2]:
        data = forged.build()
        if len(data) > 50_000:
            continue
        try:
            with pthparse.open(data) as ckpt:
                report, made = pthparse.diff(ckpt, data), ckpt.hash()
        except pthparse.PthError:
            continue
        answers += 1
        assert not report.differs and not report.close, forged.name
        assert {e.name for e in made.errors} <= {e.name for e in report.errors}, forged.name
        assert pthparse.read_manifest(made.to_json().encode()).check(made).ok == (not made.errors), forged.name
    assert answers > 200
