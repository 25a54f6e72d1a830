"""The core against the machine, on sound pickles and on tens of thousands of spoilt ones; the machine against Python.

`PTHPARSE_DIFFERENTIAL=1000000`, or `make differential`, compares that many, on all processors.
"""

from __future__ import annotations

import codecs
import io
import os
import pickle
import time
import warnings
from random import Random
from typing import Any

import pytest
from differential import machine, mutants
from differential.compare import Tally, compare, compare_all, difference

N = int(os.environ.get("PTHPARSE_DIFFERENTIAL", "30000"))
FEW = 30000


@pytest.mark.parametrize("name", mutants.zoo())
def test_zoo(name: str) -> None:
    for data in mutants.zoo()[name]:
        assert machine.run(data).error is None
        assert difference(data) is None


def test_forged() -> None:
    for data in mutants.forged():
        assert machine.run(data).error is None
        assert difference(data) is None


def test_of_python() -> None:
    assert len(mutants.python()) > 700
    for data in mutants.python():
        assert machine.run(data).end == len(data)
        assert difference(data) is None


def test_excerpts_are_whole_pickles() -> None:
    """What the mutants begin with: many, small, sound."""
    seeds, values = mutants.seeds()
    assert len(seeds) > 2000 and len(values) > 4000
    for tokens in seeds:
        assert machine.run(b"".join(tokens)).error is None


def test_a_mutant_is_its_number() -> None:
    assert [mutants.mutant(i) for i in range(200)] == [mutants.mutant(i) for i in range(200)]
    assert len({mutants.mutant(i) for i in range(200)}) > 190


def test_mutants(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    total = Tally()
    if N <= FEW:
        total = compare(0, N)
    else:
        for i, total in enumerate(compare_all(N, os.cpu_count() or 1)):
            if i % 10 == 0 or total.n == N:
                with capsys.disabled():
                    print(f"\n{total}, {time.monotonic() - began:.0f} s", end="", flush=True)
    assert total.n == N
    assert not total.differences, "\n\n".join(total.differences[:5])
    # Comparing refusals at the first opcode would prove little.
    assert 0.3 < total.accepted / N < 0.8
    assert total.ops / N > 15 and total.small / N > 0.9
    assert len(total.refusals) > 20, "each way to be refused is met"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of backslashes that escape nothing
def test_strings_are_unescaped_as_python_does() -> None:
    rng = Random(3)
    failed = 0
    for _ in range(5000):
        text = b"".join(
            rng.choices([b"\\", b"x", b"4", b"1", b"7", b"n", b"'", b"e", b"\xff", b"q"], k=rng.randrange(9))
        )
        try:
            wanted = codecs.escape_decode(text)[0]
        except ValueError:
            failed += 1
            with pytest.raises(machine.Refused):
                machine.unescaped(text)
        else:
            assert machine.unescaped(text) == wanted
    assert 500 < failed < 2500


class Anything(type):
    """Of what stands for all globals, results of calls and persistent objects: a class to be called and filled."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls

    def append(cls, value: Any) -> None: ...
    def extend(cls, values: Any) -> None: ...
    def add(cls, value: Any) -> None: ...
    def __setitem__(cls, key: Any, value: Any) -> None: ...
    def __setstate__(cls, state: Any) -> None: ...


class Thing(metaclass=Anything):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls


class EncodeMeta(Anything):
    def __call__(cls, *args: Any) -> Any:
        match args:
            case (str(text), "latin1" | "latin-1"):
                try:
                    return text.encode("latin-1")
                except UnicodeEncodeError:
                    return Thing
        return Thing


class Encode(metaclass=EncodeMeta):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return Thing


class Harmless(pickle.Unpickler):
    """Python's own unpickler, in C, to which no name means anything."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin-1")
        self.globals: list[tuple[str, str]] = []

    def find_class(self, module: str, name: str) -> Any:
        self.globals.append((module, name))
        return Encode if (module, name) == ("_codecs", "encode") else Thing

    def persistent_load(self, pid: Any) -> Any:
        return Thing


def python_accepts(data: bytes) -> tuple[bool, list[tuple[str, str]]]:
    unpickler = Harmless(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes that escape nothing
        try:
            unpickler.load()
        except Exception:
            return False, unpickler.globals
    return True, unpickler.globals


def test_the_machine_is_pythons() -> None:
    """Where it is neither stricter nor laxer on purpose, Python accepts and refuses the same, and asks for the same
    names."""
    asked = agreed = 0
    for i in range(20000):
        data = mutants.mutant(i)
        run = machine.Machine(data)
        out = run.run()
        if max(run.memo, default=0) > 1 << 20:  # Python would make an array of that length
            continue
        accepted = out.root is not None
        if out.error is not None and out.error[1] == "BYTEARRAY8":  # cut short: Python 3.11 complains of itself
            continue
        if out.stricter or out.frame_straddled or (accepted and out.laxer):
            continue
        asked += 1
        theirs, names = python_accepts(data)
        assert theirs == accepted, f"mutant {i}: {data!r}: {out.why or 'accepted'}"
        if accepted and not out.has_str8:
            assert names == [g[:2] for g in out.globals], f"mutant {i}: {data!r}"
            agreed += 1
    assert asked > 17000 and agreed > 7000
