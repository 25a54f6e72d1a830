"""The pickle machine, opcode by opcode: what it reads is what Python reads; what Python refuses, it refuses."""

from __future__ import annotations

import pickle
import pickletools
import struct
from typing import Any

import pytest

import pthparse
from pthparse import _core
from pthparse.graph import thaw

LIMITS = pthparse.Limits()


def read(data: bytes) -> _core.Graph:
    limits = _core.Limits(LIMITS)
    graph, found = _core.read_pickle(data, _core.Arena(limits), limits)
    if found is not None:
        raise found
    return graph


def value(data: bytes) -> Any:
    graph = read(data)
    return thaw(graph, graph.root, lambda n: None, lambda n: None, LIMITS)


def error(data: bytes) -> pthparse.PthError:
    with pytest.raises(pthparse.PthError) as e:
        read(data)
    return e.value


def u32(n: int) -> bytes:
    return struct.pack("<I", n)


def u64(n: int) -> bytes:
    return struct.pack("<Q", n)


# For each opcode, pickles in which it does its work. They are run through Python too.
WORK: dict[str, list[bytes]] = {
    "MARK": [b"((t.", b"(K\x01(K\x02tt."],
    "STOP": [b"N."],
    "POP": [b"K\x01K\x020.", b"K\x01(0."],
    "POP_MARK": [b"K\x01(K\x02K\x031."],
    "DUP": [b"]2\x86."],
    "FLOAT": [b"F1.5\n.", b"F-1e300\n.", b"Finf\n.", b"F-nan\n."],
    "BINFLOAT": [b"G\x3f\xf8\0\0\0\0\0\0.", b"G\x7f\xf0\0\0\0\0\0\0."],
    "INT": [b"I7\n.", b"I-7\n.", b"I00\n.", b"I01\n.", b"I 5 \n.", b"I1_000\n.", b"I99999999999999999999\n."],
    "BININT": [b"J\xff\xff\xff\xff.", b"J\0\0\0\x80."],
    "BININT1": [b"K\xff."],
    "BININT2": [b"M\xff\xff."],
    "LONG": [b"L7L\n.", b"L7\n.", b"L-123456789012345678901234567890L\n.", b"L0L\n."],
    "LONG1": [b"\x8a\0.", b"\x8a\x01\xff.", b"\x8a\x0a" + b"\xff" * 9 + b"\x00."],
    "LONG4": [b"\x8b\0\0\0\0.", b"\x8b\x03\0\0\0\1\2\3.", b"\x8b" + u32(300) + b"\x01" * 300 + b"."],
    "NONE": [b"N."],
    "NEWTRUE": [b"\x88."],
    "NEWFALSE": [b"\x89."],
    "STRING": [b"S'abc'\n.", b'S"a\'b"\n.', b"S'a\\n\\x41\\\\'\n.", b"S''\n.", b"S'\\101\\0'\n."],
    "BINSTRING": [b"T\x03\0\0\0abc."],
    "SHORT_BINSTRING": [b"U\x03abc.", b"U\0."],
    "UNICODE": [b"Vab\xe9\n.", b"V\\u20ac\\U0001f600\n.", b"V\\n\\\\u0041\n.", b"V\n."],
    "BINUNICODE": [b"X\x04\0\0\0a\xe2\x82\xac.", b"X\x03\0\0\0\xed\xa0\x80.", b"X\0\0\0\0."],
    "SHORT_BINUNICODE": [b"\x8c\x01a."],
    "BINUNICODE8": [b"\x8d" + u64(3) + b"\xe2\x82\xac."],
    "BINBYTES": [b"B\x02\0\0\0\xff\0."],
    "SHORT_BINBYTES": [b"C\x02\xff\0."],
    "BINBYTES8": [b"\x8e" + u64(1) + b"x."],
    "BYTEARRAY8": [b"\x96" + u64(1) + b"x."],
    "EMPTY_LIST": [b"]."],
    "APPEND": [b"]K\x01a."],
    "APPENDS": [b"](K\x01K\x02e.", b"](e."],
    "LIST": [b"(l.", b"(K\x01K\x02l."],
    "EMPTY_TUPLE": [b")."],
    "TUPLE": [b"(t.", b"(K\x01K\x02K\x03K\x04t."],
    "TUPLE1": [b"K\x01\x85."],
    "TUPLE2": [b"K\x01K\x02\x86."],
    "TUPLE3": [b"K\x01K\x02K\x03\x87."],
    "EMPTY_DICT": [b"}."],
    "DICT": [b"(d.", b"(K\x01K\x02d."],
    "SETITEM": [b"}K\x01K\x02s.", b"}K\x01K\x02sK\x01K\x03s."],
    "SETITEMS": [b"}(K\x01K\x02K\x03K\x04u.", b"}(u."],
    "EMPTY_SET": [b"\x8f."],
    "ADDITEMS": [b"\x8f(K\x01K\x02\x90."],
    "FROZENSET": [b"(K\x01K\x02\x91.", b"(\x91."],
    "PUT": [b"]p5\ng5\n\x86.", b"]p0\n0g0\n."],
    "BINPUT": [b"]q\x05h\x05\x86."],
    "LONG_BINPUT": [b"]r\0\1\0\0j\0\1\0\0\x86."],
    "GET": [b"K\x07q\x010g1\n."],
    "BINGET": [b"K\x07q\x010h\x01."],
    "LONG_BINGET": [b"K\x07q\x010j\x01\0\0\0."],
    "MEMOIZE": [b"]\x94]\x94h\0h\x01\x87.", b"]q\x05K\x01\x940h\x01."],
    "PROTO": [b"\x80\x05N.", b"\x80\x02\x80\x04N."],
    "FRAME": [b"\x80\x04\x95" + u64(2) + b"N."],
    "REDUCE": [b"c__builtin__\ncomplex\n(K\x01K\x02tR.", b"ccollections\nOrderedDict\n)R."],
    "BUILD": [b"ccollections\nOrderedDict\n)R}X\x01\0\0\0aK\x01sb."],
    "GLOBAL": [b"c__builtin__\nset\n(]tR."],
    "STACK_GLOBAL": [b"\x8c\x08builtins\x8c\x03set\x93(]tR."],
    "NEWOBJ": [b"ccollections\nOrderedDict\n)\x81."],
    "NEWOBJ_EX": [b"ccollections\nOrderedDict\n)}\x92."],
    "INST": [b"(K\x01K\x02i__builtin__\ncomplex\n."],
    "OBJ": [b"(c__builtin__\ncomplex\nK\x01K\x02o."],
}
# These mean nothing without the process that wrote them, or without torch's own reader.
APART = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}


def test_every_opcode_has_work() -> None:
    assert set(WORK) | APART == {op.name for op in pickletools.opcodes}


def python(data: bytes) -> Any:
    return pickle.loads(data, encoding="utf-8")


@pytest.mark.parametrize(("name", "data"), [(n, d) for n, ds in WORK.items() for d in ds])
def test_read_as_python_reads_it(name: str, data: bytes) -> None:
    assert name in {op.name for op, _, _ in pickletools.genops(data)}
    mine, theirs = value(data), python(data)
    assert type(mine) is type(theirs)
    assert mine == theirs or (theirs != theirs and mine != mine)
    graph = read(data)
    assert graph.end == len(data)
    assert graph.n_ops == sum(1 for _ in pickletools.genops(data))


@pytest.mark.parametrize(("name", "data"), [(n, d) for n, ds in WORK.items() for d in ds])
def test_cut_short_is_an_error_at_every_byte(name: str, data: bytes) -> None:
    for n in range(len(data)):
        e = error(data[:n])
        assert isinstance(e, pthparse.PthError) and e.code.startswith("pickle-") and (e.offset or 0) <= n


def test_bytes_behind_stop_are_left_alone() -> None:
    assert read(b"N.garbage").end == 2


# What is refused, with the reason. Python refuses these too.
REFUSED: list[tuple[bytes, str]] = [
    (b"", "pickle-truncated"),
    (b".", "pickle-underflow"),
    (b"(.", "pickle-underflow"),
    (b"0.", "pickle-underflow"),
    (b"1.", "pickle-mark"),
    (b"t.", "pickle-mark"),
    (b"]e.", "pickle-mark"),
    (b"N2", "pickle-truncated"),
    (b"2.", "pickle-underflow"),
    (b"K\x01\x86.", "pickle-underflow"),
    (b"(K\x01a.", "pickle-underflow"),
    (b"K\x01K\x02a.", "pickle-target"),
    (b"NK\x02K\x03s.", "pickle-target"),
    (b"](K\x01K\x02u.", "pickle-target"),
    (b"}(K\x01u.", "pickle-odd"),
    (b"(K\x01d.", "pickle-odd"),
    (b"}]K\x01s.", "pickle-key"),
    (b"\x8f(]\x90.", "pickle-key"),
    (b"(]\x91.", "pickle-key"),
    (b"}]\x85K\x01s.", "pickle-key"),
    (b"}(\x96" + u64(1) + b"x\x85\x85Nu.", "pickle-key"),
    (b"\x8f(NN}\x86\x85\x90.", "pickle-key"),
    (b"(]\x85\x91.", "pickle-key"),
    (b"(N\x8f\x86Nd.", "pickle-key"),
    (b"g5\n.", "pickle-memo"),
    (b"h\x05.", "pickle-memo"),
    (b"j\xff\xff\xff\xff.", "pickle-memo"),
    (b"gx\n.", "pickle-number"),
    (b"Np-1\n.", "pickle-number"),
    (b"q\x05.", "pickle-underflow"),
    (b"\x94.", "pickle-underflow"),
    (b"I\n.", "pickle-number"),
    (b"I1.5\n.", "pickle-number"),
    (b"Iabc\n.", "pickle-number"),
    (b"I1__0\n.", "pickle-number"),
    (b"L1LL\n.", "pickle-number"),
    (b"Fx\n.", "pickle-number"),
    (b"F\n.", "pickle-number"),
    (b"F0x10\n.", "pickle-number"),
    (b"F nan \n.", "pickle-number"),
    (b"F1_0.5\n.", "pickle-number"),
    (b"Sabc\n.", "pickle-string"),
    (b"S'abc\n.", "pickle-string"),
    (b"S'\n.", "pickle-string"),
    (b"S 'a'\n.", "pickle-string"),
    (b"S'a'\r\n.", "pickle-string"),
    (b"S'\\x4'\n.", "pickle-string"),
    (b"V\\u12\n.", "pickle-utf8"),
    (b"V\\U00110000\n.", "pickle-utf8"),
    (b"X\x01\0\0\0\xff.", "pickle-utf8"),
    (b"X\x02\0\0\0\xc0\x80.", "pickle-utf8"),
    (b"X\x04\0\0\0\xf4\x90\x80\x80.", "pickle-utf8"),
    (b"X\xff\xff\xff\xffabc", "pickle-truncated"),
    (b"\x8e" + b"\xff" * 8 + b"x.", "pickle-truncated"),
    (b"\x8d" + u64(1 << 48) + b"x.", "pickle-truncated"),
    (b"T\xff\xff\xff\xff.", "pickle-length"),
    (b"\x8b\xff\xff\xff\xff.", "pickle-length"),
    (b"\x8a\x05\1.", "pickle-truncated"),
    (b"\x80\x06N.", "pickle-protocol"),
    (b"\xffN.", "pickle-opcode"),
    (b"K\x01K\x02\x93.", "pickle-global"),
    (b"c\nx\n.", "pickle-global"),
    (b"cx\n\n.", "pickle-global"),
    (b"(i\nx\n.", "pickle-global"),
    (b"cx\n\xff\n.", "pickle-utf8"),
    (b"c\xed\xa0\x80\nx\n.", "pickle-utf8"),
    (b"(i\xc3\xa9\nx\n.", "pickle-utf8"),
    (b"K\x01)R.", "pickle-call"),
    (b"cx\ny\nK\x01R.", "pickle-call"),
    (b"K\x01)\x81.", "pickle-call"),
    (b"c_codecs\nencode\n](X\x01\0\0\0aX\x06\0\0\0latin1eR.", "pickle-call"),
    (b"cx\ny\n)K\x01\x92.", "pickle-call"),
    (b"]K\x01b.", "pickle-target"),
    (b"(o.", "pickle-underflow"),
    (b"\x82\x01.", "pickle-ext"),
    (b"\x83\x01\0.", "pickle-ext"),
    (b"\x84\x01\0\0\0.", "pickle-ext"),
    (b"\x97.", "pickle-buffer"),
    (b"N\x98.", "pickle-buffer"),
    (b"\x95" + b"\xff" * 8 + b"N.", "pickle-truncated"),
]


@pytest.mark.parametrize(("data", "code"), REFUSED, ids=lambda v: repr(v)[:30])
def test_refused(data: bytes, code: str) -> None:
    assert error(data).code == code
    with pytest.raises(Exception):  # noqa: B017 - whatever Python raises for it
        python(data)


def test_build_on_what_has_no_state_is_refused() -> None:
    assert error(b"NNb.").code == "pickle-target"  # Python lets it pass, since the state is None


def test_integers_in_other_bases() -> None:
    assert value(b"I0x1f\n.") == python(b"I0x1f\n.") == 31


def test_errors_say_where_and_at_which_opcode() -> None:
    e = error(b"\x80\x02K\x01K\x02a.")
    assert (e.offset, e.opcode, e.code) == (6, "APPEND", "pickle-target")
    assert "(APPEND) at byte 6" in str(e)


def test_stop_with_nothing_to_give_is_named() -> None:
    assert (error(b"N0.").offset, error(b"N0.").opcode) == (2, "STOP")


def test_memo_indices_are_32_bits_in_lines_too() -> None:
    assert value(b"K\x05p4294967295\n0g4294967295\nj\xff\xff\xff\xff\x86.") == (5, 5)
    assert error(b"K\x05p4294967296\n.").code == "pickle-number"


def test_memo_indices_are_digits() -> None:
    for line in (b"+1", b" 1", b"1 ", b"1_0"):  # Python would take them
        assert error(b"Np" + line + b"\n.").code == error(b"Nq\x01g" + line + b"\n.").code == "pickle-number"


def test_names_of_other_alphabets() -> None:
    assert read(b"c\xc3\xa9\n\xed\x9f\xbf\n.").globals()[0][:2] == ("\xe9", "\ud7ff")


def test_persistent_ids() -> None:
    for data in (b"K\x05Q.", b"P5\n."):
        graph = read(data)
        assert graph.kind(graph.root) == _core.NODES["PERSID"]
        assert graph.persistent_id(graph.root) in (5, "5")


@pytest.mark.parametrize(
    ("data", "logged", "code"),
    [
        (
            b"cos\nsystem\n0cposix\nx\n(Vid\ntR",
            [("os", "system", "GLOBAL"), ("posix", "x", "GLOBAL")],
            "pickle-truncated",
        ),
        (b"\x8c\x01a\x8c\x01b\x93i", [("a", "b", "STACK_GLOBAL")], "pickle-line"),
        (b"(ia\nb\ns", [("a", "b", "INST")], "pickle-underflow"),
        (b"ia\nb\n", [("a", "b", "INST")], "pickle-mark"),
        (b"\x8c\x01aK\x01\x93.", [("a", "<computed>", "STACK_GLOBAL")], "pickle-global"),
        (b"C\x01a\x8c\x01b\x93.", [("<computed>", "b", "STACK_GLOBAL")], "pickle-global"),
        (b"\x82\x05.", [("copyreg", "extension 5", "EXT1")], "pickle-ext"),
        (b"\x83\x00\x01.", [("copyreg", "extension 256", "EXT2")], "pickle-ext"),
        (b"\x84\xff\xff\xff\xff.", [("copyreg", "extension 4294967295", "EXT4")], "pickle-ext"),
    ],
)
def test_globals_are_logged_though_the_pickle_breaks_off(
    data: bytes, logged: list[tuple[str, str, str]], code: str
) -> None:
    limits = _core.Limits(LIMITS)
    graph, found = _core.read_pickle(data, _core.Arena(limits), limits)
    assert [(module, name, op) for module, name, _, op in graph.globals()] == logged
    assert found is not None and found.code == code


def test_a_computed_operand_is_a_global_without_that_name() -> None:
    call = b"cm\nf\n)R"
    for data, names in (
        (call + b"\x8c\x01b\x93.", ("<computed>", "b")),
        (b"\x8c\x02os" + call + b"\x93.", ("os", "<computed>")),
        (call + call + b"\x93.", ("<computed>", "<computed>")),
        (b"\x8c\x05torchK\x01Q\x93.", ("torch", "<computed>")),
    ):
        graph = read(data)
        assert graph.globals()[-1][:2] == names
        assert graph.global_of(graph.root)[:3] == (*names, "UNKNOWN")


def test_python2_text_that_is_no_utf8_is_latin1() -> None:
    assert value(b"U\x02\xff\xe9.") == "\xff\xe9"
    assert read(b"U\x01a.").has_str8 and not read(b"X\x01\0\0\0a.").has_str8


def test_a_frame_that_ends_inside_of_an_opcode_is_noted() -> None:
    assert read(b"\x80\x04\x95" + u64(2) + b"K\x01.").frame_straddled is False
    assert read(b"\x80\x04\x95" + u64(1) + b"K\x01.").frame_straddled is True
    assert read(b"\x80\x04\x95" + u64(4) + b"K\x01.N").frame_straddled is True  # behind STOP
    assert read(b"\x95" + u64(0) + b"\x95" + u64(3) + b"K\x01.").frame_straddled is False


@pytest.mark.parametrize("outer", [1, 5, 9, 11])
def test_a_frame_that_begins_in_a_frame_is_noted(outer: int) -> None:
    """Even where the length of the inner one crosses the end of the outer: Python drops what is left of the frame."""
    assert read(b"\x95" + u64(outer) + b"\x95" + u64(2) + b"K\x01.").frame_straddled is True


def test_memo_of_a_huge_index_costs_nothing() -> None:
    limits = _core.Limits(LIMITS)
    arena = _core.Arena(limits)
    _core.read_pickle(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.", arena, limits)
    assert arena.used < 200_000


def test_the_budget_is_kept() -> None:
    data = b"(" + b"K\x01" * 100_000 + b"t."
    limits = _core.Limits(pthparse.Limits(max_arena_bytes=50_000))
    _, found = _core.read_pickle(data, _core.Arena(limits), limits)
    assert isinstance(found, pthparse.LimitError) and found.code == "max_arena_bytes"


def test_bytes_encoded_as_text_are_decoded_once_each() -> None:
    """A text shared by many calls stays a call where decoding it each time would fill the memory."""
    text = b"X" + u32(1000) + b"\xc3\xbf" * 500 + b"q\x000"
    call = b"c_codecs\nencode\n(h\0X\x06\0\0\0latin1tR"
    assert value(text + call + b".") == b"\xff" * 500
    many = read(text + b"(" + call * 1000 + b"t.")
    assert sum(isinstance(v, bytes) for v in many.items(many.root)) < 1000


def test_decimal_digits_beyond_pythons_own_limit_stay_text() -> None:
    huge = value(b"L" + b"9" * 5000 + b"L\n.")
    assert huge.cls == "builtins.int" and huge.args == ("<5000 digits>",)
    assert value(b"I0x" + b"f" * 5000 + b"\n.") == int("f" * 5000, 16)
