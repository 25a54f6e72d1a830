"""Attacks through the object graph: what Python would hash, print, copy, name or give back without end, or not at all.

Where the attack is on time or memory, the sizes are such that what falls for it hangs: nothing is timed.
"""

from __future__ import annotations

import collections
import decimal
import itertools
import math
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from forge import pickles as p
from forge.zips import checkpoint

import pthparse
from pthparse.graph import GlobalName, Opaque

DATA = np.arange(16, dtype=np.float32).tobytes()
VECTOR = p.vector("0", 16)
CALL = p.EMPTY_TUPLE + p.REDUCE


def opened(root: bytes) -> pthparse.Checkpoint:
    return pthparse.open(checkpoint(p.pickle(root, 4), {"0": DATA}))


def root_of(root: bytes) -> Any:
    return opened(root).root


def root_error(root: bytes) -> pthparse.PthError:
    """The file opens, and its tensors are listed; its values are refused."""
    ckpt = opened(p.list_of([VECTOR]) + root + b"\x86")
    assert list(ckpt) == ["0/0"] and ckpt["0/0"].numpy().tolist() == list(range(16))
    with pytest.raises(pthparse.PthError) as e:
        ckpt.root  # noqa: B018
    assert e.value.member == "archive/data.pkl"
    return e.value


def vector(n: int) -> bytes:
    """One that is known by its length."""
    return p.tensor(p.storage("0", 16), [n], [1])


# ---- keys: what Python hashes ----


def pair(x: bytes) -> bytes:
    return x + x + b"\x86"


def frozen(x: bytes) -> bytes:
    return p.MARK + x + x + b"\x85" + b"\x91"


def unknown(x: bytes) -> bytes:
    """An object with two keys in its state that each hold the object below."""
    state = p.pairs([(x + p.integer(i) + b"\x86", p.NONE) for i in (1, 2)])
    return p.glob("a", "B") + CALL + state + p.BUILD


HEAVY = {
    "tuples": p.pairs([(p.doubled(p.NONE + b"\x85", pair, 40), p.NONE)]),
    "frozensets": p.doubled(p.MARK + p.NONE + b"\x91", frozen, 40),
    "unknown objects": p.doubled(p.glob("a", "B") + CALL, unknown, 40),
    "in a set": p.MARK + p.doubled(p.NONE + b"\x85", pair, 40) + b"\x91",
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_key_of_a_trillion_values(name: str) -> None:
    """Forty levels of two: Python hashes shared values as often as they are met."""
    e = root_error(HEAVY[name])
    assert (type(e), e.code) == (pthparse.LimitError, "heavy-key")


def test_keys_of_many_levels() -> None:
    ((key, value),) = root_of(p.pairs([(p.NONE + b"\x85" * 900, p.integer(5))])).items()
    assert value == 5 and hash(key) and list(key) == [key[0]]
    e = root_error(p.pairs([(p.NONE + b"\x85" * 20_000, p.integer(5))]))
    assert (type(e), e.code) == (pthparse.LimitError, "max_depth")


def test_an_object_that_is_a_key_of_its_own_state() -> None:
    root = root_of(p.glob("a", "B") + CALL + p.put(0) + p.pairs([(p.get(0), p.NONE)]) + p.BUILD)
    assert list(root.keys()) == [root] and root[root] is None
    assert repr(root) == "<a.B ...=None>"


def test_an_object_that_is_in_a_key_of_its_own_state() -> None:
    key = p.once(p.glob("a", "B") + CALL, 0) + p.once(p.get(0) + b"\x85", 1)
    root = root_of(key + p.get(0) + p.pairs([(p.get(1), p.TRUE)]) + p.BUILD)
    assert list(root.keys()) == [(root,)] and root[(root,)] is True and repr(root) == "<a.B ...=True>"
    assert opened(key + p.get(0) + p.pairs([(p.get(1), p.TRUE)]) + p.BUILD).metadata == {"<key 0>": True}


# Python's integers hash to their value modulo this.
MODULUS = (1 << 61) - 1


def equal_hashes(n: int) -> list[bytes]:
    return [p.long_integer(MODULUS * (i + 1)) for i in range(n)]


COLLIDING = {
    "dict": p.pairs([(k, p.NONE) for k in equal_hashes(40_000)]),
    "many dicts": p.list_of([p.pairs([(k, p.NONE) for k in equal_hashes(999)])] * 70),
    "set": b"\x8f" + p.MARK + b"".join(equal_hashes(40_000)) + b"\x90",
    "frozenset": p.MARK + b"".join(equal_hashes(40_000)) + b"\x91",
    "many sets of one list": (
        p.once(p.list_of(equal_hashes(999)) + b"\x85", 0)
        + p.once(p.glob("builtins", "set"), 1)
        + p.list_of([p.get(1) + p.get(0) + p.REDUCE] * 300)
    ),
    "dict of a list of pairs": p.call(
        p.glob("collections", "OrderedDict"), p.list_of(k + p.NONE + b"\x86" for k in equal_hashes(40_000))
    ),
}


@pytest.mark.parametrize("name", COLLIDING)
def test_integers_of_one_hash(name: str) -> None:
    e = root_error(COLLIDING[name])
    assert (type(e), e.code) == (pthparse.LimitError, "hash-collisions")


def test_a_few_equal_hashes_are_chance() -> None:
    assert len({hash(MODULUS * i) for i in range(1, 65)}) == 1
    assert root_of(p.pairs([(k, p.NONE) for k in equal_hashes(64)])) == {MODULUS * i: None for i in range(1, 65)}


def test_one_long_key_again_and_again() -> None:
    """80,000 pairs whose key is the same text of a megabyte and more: to hash it is to read it."""
    key, long = p.once(p.text("k" * 1_600_000), 0), "k" * 1_600_000
    ckpt = opened(key + p.pairs([(p.get(0), p.NONE)] * 80_000))
    assert list(ckpt) == []
    ckpt = opened(key + p.once(VECTOR, 1) + p.pairs([(p.get(0), p.get(1))] * 80_000))
    assert list(ckpt) == [long] and ckpt[long].numpy().tolist() == list(range(16))


# ---- keys: which tensor a dict keeps ----


def ordered(pairs: list[tuple[bytes, bytes]], later: bytes = b"") -> bytes:
    return p.call(p.glob("collections", "OrderedDict"), p.list_of(k + v + b"\x86" for k, v in pairs)) + later


A = p.text("a")
KEPT = {
    "one run": p.pairs([(A, VECTOR), (A, vector(2))]),
    "two runs": p.EMPTY_DICT + A + VECTOR + b"s" + A + vector(2) + b"s",
    "list of pairs": ordered([(A, VECTOR), (A, vector(2))]),
    "list of lists": p.call(
        p.glob("collections", "OrderedDict"), p.list_of([p.list_of([A, VECTOR]), p.list_of([A, vector(2)])])
    ),
    "list of pairs, then set": ordered([(A, VECTOR)], A + vector(2) + b"s"),
    "dict, then set": p.call(p.glob("collections", "OrderedDict"), p.pairs([(A, VECTOR)])) + A + vector(2) + b"s",
    "three spellings": p.pairs([(A, VECTOR), (b"U\x01a", vector(3)), (b"V\\u0061\n", vector(2))]),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_last_of_equal_keys_counts(name: str) -> None:
    """A name leads to the tensor that Python's dict would keep, and to no other."""
    ckpt = opened(KEPT[name])
    assert list(ckpt) == ["a"] and not ckpt.findings
    assert ckpt["a"].numpy().tolist() == ckpt.root["a"].numpy().tolist() == [0, 1]


def real(value: float) -> bytes:
    return b"G" + struct.pack(">d", value)


ONE_KEY = {
    "int and bool": (p.integer(1), p.TRUE),
    "bool and int": (p.TRUE, p.integer(1)),
    "two spellings of an int": (p.integer(1), p.long_integer(1)),
    "int and float": (p.integer(1), real(1.0)),
    "bool and float": (p.FALSE, real(0.0)),
    "two zeros": (real(0.0), real(-0.0)),
    "a half": (real(0.5), real(0.5)),
    "bytes": (b"C\x02ab", b"B\x02\0\0\0ab"),
    "long integers": (p.long_integer(1 << 80), p.long_integer(1 << 80)),
}
TWO_KEYS = {
    "int and text": (p.integer(1), p.text("1")),
    "text and bytes": (p.text("ab"), b"C\x02ab"),
    "neighbours": (p.integer((1 << 53) + 1), real(2.0**53)),
    "halves": (real(0.5), real(-0.5)),
    "no numbers": (real(math.nan), real(math.nan)),
}


@pytest.mark.parametrize("name", ONE_KEY)
def test_keys_that_are_one_to_python(name: str) -> None:
    first, second = ONE_KEY[name]
    ckpt = opened(p.pairs([(first, VECTOR), (second, vector(2))]))
    assert [t.numpy().tolist() for t in ckpt.values()] == [[0, 1]]
    assert [t.numpy().tolist() for t in ckpt.root.values()] == [[0, 1]]


@pytest.mark.parametrize("name", TWO_KEYS)
def test_keys_that_are_two_to_python(name: str) -> None:
    first, second = TWO_KEYS[name]
    ckpt = opened(p.pairs([(first, VECTOR), (second, vector(2))]))
    assert [t.numel for t in ckpt.values()] == [t.numel for t in ckpt.root.values()] == [16, 2]


def test_long_texts_that_are_one_key_are_told_apart() -> None:
    """They are compared by identity: both tensors have a name, and it is said."""
    key = p.text("k" * 5000)
    ckpt = opened(p.pairs([(key, VECTOR), (p.text("k" * 5000), vector(2))]))
    assert [ckpt[name].numel for name in ("k" * 5000, "k" * 5000 + "#2")] == [16, 2]
    assert [f.code for f in ckpt.findings] == ["names-collide"]


def test_keys_of_python_2_that_collide_under_a_multiplicative_hash() -> None:
    """See test_containers: such texts need not be UTF-8."""
    plain, flipped = b"a" * 16, b"a" * 7 + b"\xe1" + b"a" * 3 + b"\xe1" + b"a" * 3 + b"\xe1"
    keys = [b"".join(row) for row in itertools.product((plain, flipped), repeat=16)]
    texts = [b"T" + struct.pack("<I", len(k)) + k for k in keys]
    ckpt = opened(p.once(VECTOR, 0) + p.pairs([(text, p.get(0)) for text in texts]))
    assert list(ckpt) == [k.decode("latin-1") for k in keys]


# ---- the memo ----


def test_memo_indices_that_collide_under_a_multiplicative_hash() -> None:
    """100,000 indices beyond the pickle's length, all in 2,048 of 262,144 slots under index * 2^64 / golden ratio."""
    numbers = np.arange(1 << 22, 18 << 20, dtype=np.uint64)
    slots = numbers * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32) & np.uint64((1 << 18) - 1)
    indices = numbers[slots < 2048].tolist()[:100_000]
    assert len(indices) == 100_000
    kept = b"".join(p.once(p.integer(i), index) for i, index in enumerate(indices))
    assert root_of(kept + p.list_of(map(p.get, indices))) == list(range(100_000))


# ---- depth: what Python gives back by recursion ----


def inside(name: str, levels: int) -> bytes:
    """Levels of one class, each the only content of the one above."""
    if name == "list":
        return p.EMPTY_LIST * levels + b"a" * (levels - 1)
    if name == "tuple":
        return p.EMPTY_TUPLE + b"\x85" * (levels - 1)
    if name == "arguments":
        return p.once(p.glob("m", "Unknown"), 0) + p.get(0) * levels + CALL + b"\x85R" * (levels - 1)
    between, fill = {"deque": (b"", b"a"), "Unknown": (b"", b"b")}.get(name, (p.integer(0), b"s"))
    made = p.get(0) + CALL
    return p.once(p.glob("collections", name), 0) + made + (between + made) * (levels - 1) + fill * (levels - 1)


PRINTED = {
    "list": (200_000, "[[[[[[[... 1 items]]]]]]]"),
    "deque": (200_000, "[[[[[[[... 1 items]]]]]]]"),
    "tuple": (200_000, "(((((((... 1 items,),),),),),),)"),
    "OrderedDict": (200_000, "{0: {0: {0: {0: {0: {0: {... 1 keys}}}}}}}"),
    "defaultdict": (200_000, "{0: {0: {0: {0: {0: {0: {... 1 keys}}}}}}}"),
    "Unknown": (50_000, "<collections.Unknown>"),
    "arguments": (50_000, "<m.Unknown <m.Unknown <m.Unknown <m.Unknown <m.Unknown <m.Unknown <m.Unknown>>>>>>>"),
}

GIVE_BACK = """
import sys, pthparse
ckpt = pthparse.open(sys.stdin.buffer.read())
root = ckpt.root
print(root)
del root, ckpt
print("given back")
"""


@pytest.mark.parametrize("name", PRINTED)
def test_many_levels_are_made_printed_and_given_back(name: str) -> None:
    """In a process of its own: CPython's deallocation of some containers recurses, and would end it."""
    levels, printed = PRINTED[name]
    data = checkpoint(p.pickle(inside(name, levels)), {})
    done = subprocess.run([sys.executable, "-c", GIVE_BACK], input=data, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [printed, "given back"]


@pytest.mark.parametrize("name", ["list", "tuple", "OrderedDict", "defaultdict", "Counter", "deque"])
def test_deep_containers_are_what_they_were(name: str) -> None:
    """What stands for them prints in short, and is a list, deque, ... all the same."""
    kind = {"list": list, "tuple": tuple}.get(name) or getattr(collections, name)
    level, levels = root_of(inside(name, 5000)), 1
    while level:
        assert isinstance(level, kind) and len(level) == 1
        level, levels = level[0], levels + 1
    assert isinstance(level, kind) and levels == 5000


# ---- print ----


def test_one_long_text_a_thousand_times_is_printed_in_short() -> None:
    root = root_of(p.once(p.text("x" * 500_000), 0) + p.list_of([p.get(0)] * 20_000))
    assert len(root) == 20_000 and root[0] is root[-1] and len(root[0]) == 500_000
    assert repr(root).startswith("['xxx") and len(repr(root)) < 10_000


def test_one_large_object_many_times_is_printed_in_short() -> None:
    state = p.pairs([(p.integer(i), p.NONE) for i in range(60_000)])
    root = root_of(p.once(p.glob("a", "B") + CALL + state + p.BUILD, 0) + p.list_of([p.get(0)] * 20_000))
    assert len(root) == 20_000 and root[0] is root[-1] and len(list(root[0].keys())) == 60_000
    assert repr(root).startswith("[<a.B 0=None 1=None ") and len(repr(root)) < 10_000


def test_the_deepest_plain_list_is_printed_by_python_itself() -> None:
    """What is deeper prints in short: so it can be printed from deep in a program too."""
    root = root_of(b"]" * 240 + b"a" * 239)

    def printed(frames: int) -> str:
        return printed(frames - 1) if frames else repr(root)

    assert type(root) is list and printed(500) == "[" * 240 + "]" * 240


# ---- values by path ----

WIDE = {
    "a long key over many values": p.pairs([(p.text("k" * 300_000), p.list_of([p.NONE] * 20_000))]),
    "long keys in each other": (
        p.once(p.text("k" * 3000), 0) + (p.EMPTY_DICT + p.get(0)) * 150 + p.list_of([p.NONE] * 20_000) + b"s" * 150
    ),
    "a shared container": p.doubled(p.list_of([p.NONE, p.TRUE]), lambda x: p.list_of([x, x]), 30),
}


@pytest.mark.parametrize("name", WIDE)
def test_metadata_far_larger_than_the_pickle(name: str) -> None:
    ckpt = opened(WIDE[name])
    assert list(ckpt) == [] and ckpt.root
    with pytest.raises(pthparse.LimitError) as e:
        ckpt.metadata  # noqa: B018
    assert e.value.code == "max_metadata"


def test_metadata_of_a_container_that_is_shared_a_little() -> None:
    ckpt = opened(p.doubled(p.list_of([p.NONE, p.TRUE]), lambda x: p.list_of([x, x]), 5))
    paths = ["/".join(path) for path in itertools.product("01", repeat=6)]
    assert dict(ckpt.metadata) == {path: [None, True][int(path[-1])] for path in paths}


NAMES = {
    "lists in each other": p.once(VECTOR, 0) + p.EMPTY_LIST * 14_000 + p.list_of([p.get(0)] * 14_000) + b"a" * 14_000,
    "a shared container": p.doubled(VECTOR, lambda x: p.list_of([x, x]), 40),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_far_longer_than_the_pickle(name: str) -> None:
    with pytest.raises(pthparse.LimitError) as e:
        opened(NAMES[name])
    assert e.value.code == "max_name_bytes"


# ---- globals ----


def test_one_long_global_many_times() -> None:
    """20,000 STACK_GLOBALs of one text of 300,000 bytes: its name is made once."""
    texts = p.once(p.text("m" * 300_000), 0) + p.once(p.text("n"), 1)
    ckpt = opened(texts + p.list_of([p.get(0) + p.get(1) + b"\x93"] * 20_000))
    (found,) = ckpt.globals
    assert (found.module, found.name, found.uses) == ("m" * 300_000, "n", 20_000)
    assert len(ckpt.root) == 20_000 and set(ckpt.root) == {GlobalName("m" * 300_000, "n")}


def test_a_persistent_id_that_is_a_number() -> None:
    root = root_of(p.integer(5) + p.BINPERSID)
    assert isinstance(root, Opaque) and (root.cls, root.args) == ("pickle.persistent_id", (5,))


# ---- integers that Python does not print ----

HUGE = int.from_bytes(b"\x7f" * 3000, "little")
HUGE_NODE = p.long_integer(HUGE)


def test_a_huge_integer_is_itself_and_prints_in_short() -> None:
    ckpt = opened(p.dict_of({"epoch": HUGE_NODE}))
    assert ckpt.root == ckpt.metadata == {"epoch": HUGE}
    assert repr(ckpt.root) == "{'epoch': <int of 23999 bits>}"
    assert str(ckpt.root["epoch"]) == f"{ckpt.root['epoch']}" == "<int of 23999 bits>"


def test_a_huge_integer_as_key() -> None:
    ckpt = opened(p.pairs([(HUGE_NODE, p.TRUE)]))
    assert ckpt.root == {HUGE: True} and ckpt.metadata == {"<key 0>": True}
    assert repr(root_of(p.glob("a", "B") + CALL + p.pairs([(HUGE_NODE, p.NONE)]) + p.BUILD)) == (
        "<a.B <int of 23999 bits>=None>"
    )
    assert list(opened(p.pairs([(HUGE_NODE, VECTOR)]))) == ["<key 0>"]


def test_a_huge_integer_as_key_of_a_storage() -> None:
    pid = p.storage(HUGE_NODE, 16)
    root = root_of(pid)
    assert root.cls == "pickle.persistent_id" and root.args[0][2] == HUGE
    assert repr(root) == (
        "<pickle.persistent_id ('storage', <global torch.FloatStorage>, <int of 23999 bits>, 'cpu', 16)>"
    )
    ckpt = opened(p.dict_of({"t": p.tensor(pid, [2], [1]), "ok": VECTOR}))
    assert {n: e.code for n, e in ckpt.errors.items()} == {"t": "storage-id"}
    assert "'t'" in str(ckpt.errors["t"]) and ckpt["ok"].numpy().tolist() == list(range(16))


def test_a_huge_integer_in_hexadecimal() -> None:
    assert root_of(b"L0x" + b"f" * 900_000 + b"\n").bit_length() == 3_600_000


def test_a_float_of_a_million_digits() -> None:
    assert root_of(b"F" + b"1" * 900_000 + b"\n") == math.inf
    assert root_of(b"F0." + b"3" * 900_000 + b"\n") == pytest.approx(1 / 3)


# ---- values that their classes refuse, or pay for without end ----


def test_counters() -> None:
    """Filled key by key they hold the numbers; made of a list they would count it, which is not read."""
    counter = p.glob("collections", "Counter")
    assert root_of(p.call(counter) + A + p.integer(5) + b"s") == collections.Counter({"a": 5})
    counted = root_of(p.call(counter, p.list_of([p.text("ab")] * 2)))
    assert (counted.cls, counted.args) == ("collections.Counter", (["ab", "ab"],))


def test_containers_that_all_hold_each_other_are_printed_in_short() -> None:
    """Python would print each of the 30! ways through them."""
    lists = b"".join(p.once(b"]", i) for i in range(30))
    root = root_of(
        lists + b"".join(p.get(i) + b"(" + b"".join(map(p.get, range(30))) + b"e0" for i in range(30)) + p.get(0)
    )
    assert len(root) == 30 and root[29][28][0] is root
    assert repr(root).startswith("[[[[[[") and len(repr(root)) < 3000


def test_containers_below_an_unknown_object_are_weighed_too() -> None:
    """What is asked of the object may be printed by itself."""
    lists = p.once(b"]", 0) + b"".join(p.once(b"](" + p.get(i) * 2 + b"e", i + 1) for i in range(60))
    root = root_of(lists + p.glob("m", "C") + b")R" + p.dict_of({"x": p.get(60)}) + b"b")
    assert root["x"][0] is root["x"][1] and repr(root["x"]).startswith("[[[[[[") and len(repr(root["x"])) < 3000


def test_a_counter_that_holds_itself_can_be_printed() -> None:
    counter = p.once(p.call(p.glob("collections", "Counter")), 0)
    root = root_of(counter + p.get(0) + A + p.get(0) + b"s")
    assert root["a"] is root and isinstance(root, collections.Counter) and list(root) == ["a"]
    assert repr(root).startswith("{'a': {'a': ") and "1 keys" in repr(root)
    assert repr(root_of(p.call(p.glob("collections", "Counter")) + A + p.integer(5) + b"s")) == "Counter({'a': 5})"


def test_texts_of_numpy_that_are_no_code_points() -> None:
    dtype, data = p.numpy_dtype("U1"), b"\xff\xff\xff\x7f"
    for made in (p.numpy_scalar(dtype, data), p.numpy_array(dtype, data, [1])):
        root = root_of(made)
        assert isinstance(root, Opaque) and data in root.args and "\\x7f" in repr(root)
    assert root_of(p.numpy_scalar(dtype, b"a\0\0\0")) == "a"


TIME = struct.pack("<q", 0x0807060504030201)


@pytest.mark.parametrize("unit", [("ns", 0), ("ns", -1), ("as", 1 << 31), ("generic", 1), ("eons", 1)], ids=repr)
def test_times_of_numpy_in_units_that_it_refuses(unit: tuple[str, int]) -> None:
    """numpy divides by the number of a unit when it prints, and reads past its table of names."""
    for made in (p.numpy_scalar(p.numpy_dtype("M8", unit), TIME), p.numpy_array(p.numpy_dtype("m8", unit), TIME, [1])):
        root = root_of(made)
        assert isinstance(root, Opaque) and TIME in root.args and "numpy.dtype" in repr(root)


@pytest.mark.parametrize("unit", [("s", 25), ("ns", (1 << 31) - 1), ("D", (1 << 31) - 1), ("Y", 7)], ids=repr)
def test_times_of_numpy_in_units_that_it_knows(unit: tuple[str, int]) -> None:
    name, number = unit
    expected = np.frombuffer(TIME, f"<M8[{number}{name}]")
    made = root_of(p.numpy_array(p.numpy_dtype("M8", unit), TIME, [1]))
    assert made.dtype == expected.dtype and made.tobytes() == TIME
    assert root_of(p.numpy_scalar(p.numpy_dtype("M8", unit), TIME)) == expected[0]


def test_texts_of_no_bytes() -> None:
    """A billion of them lie in no bytes; numpy makes them one byte wide."""
    root = root_of(p.numpy_array(p.numpy_dtype("S0"), b"", [300_000_000]))
    assert root.shape == (300_000_000,) and root[0] == root[-1] == b""


def test_a_fraction_in_scientific_notation() -> None:
    """Its power of ten would be worked out in full; a Decimal keeps it as it is."""
    text = p.text("1e99999999")
    fraction = root_of(p.call(p.glob("fractions", "Fraction"), text))
    assert (fraction.cls, fraction.args) == ("fractions.Fraction", ("1e99999999",))
    assert root_of(p.call(p.glob("decimal", "Decimal"), text)) == decimal.Decimal("1e99999999")


@pytest.mark.parametrize("kind", ["builtins list", "collections deque", "builtins set", "builtins tuple"])
def test_containers_made_of_a_range(kind: str) -> None:
    made = p.call(p.glob("builtins", "range"), p.integer(10**9))
    if kind.split()[1] in ("set", "tuple"):  # are made of lists and tuples alone
        root = root_of(p.call(p.glob(*kind.split()), made))
        assert (root.cls, root.args) == (kind.replace(" ", "."), (range(10**9),))
        return
    e = root_error(p.call(p.glob(*kind.split()), made))
    assert (type(e), e.code) == (pthparse.LimitError, "graph-copies")


def test_a_list_made_of_a_tensor() -> None:
    ckpt = opened(p.dict_of({"ok": VECTOR, "list": p.call(p.glob("builtins", "list"), VECTOR)}))
    assert ckpt["ok"].numpy().tolist() == list(range(16))
    with pytest.raises(pthparse.FormatError) as e:
        ckpt.root  # noqa: B018
    assert e.value.code == "value-refused"


def test_bytearrays_in_an_encoding_that_python_2_never_wrote() -> None:
    root = root_of(p.call(p.glob("builtins", "bytearray"), p.text("\xe9"), p.text("utf-8")))
    assert (root.cls, root.args) == ("builtins.bytearray", ("\xe9", "utf-8"))
    assert root_of(p.call(p.glob("builtins", "bytearray"), p.text("\xe9"), p.text("latin-1"))) == b"\xe9"
