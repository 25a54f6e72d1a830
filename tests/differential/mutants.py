"""Pickles to compare on: of the zoo, of forged files and of random Python objects, and what accidents make of them.

All is seeded: `mutant(i)` is the same pickle wherever the same Python runs.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import functools
import io
import itertools
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from forge import legacy, tars
from forge import pickles as p

ZOO = Path(__file__).parents[1] / "data" / "zoo"
OPS = {ord(op.code): op for op in pickletools.opcodes}
STRANGER = b"ctorch\nFloatStorage\n"  # what stands for a memo entry that was cut off, and was no text
SMALL = 420

# ---- opcode by opcode ----

Tokens = tuple[bytes, ...]


def token_end(data: bytes, at: int) -> int | None:
    """Where the opcode at `at` ends, its argument included; None: not here."""
    op = OPS.get(data[at])
    if op is None:
        return None
    at += 1
    if op.arg is None:
        return at
    n = op.arg.n
    if n == pickletools.UP_TO_NEWLINE:
        for _ in range(2 if op.name in ("GLOBAL", "INST") else 1):
            at = data.find(b"\n", at) + 1
            if at == 0:
                return None
        return at
    if n < 0:
        size = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}.get(n, 4)
        n = size + int.from_bytes(data[at : at + size], "little")
    return at + n if at + n <= len(data) else None


def tokens_of(data: bytes) -> Tokens:
    """Opcodes with their arguments, up to STOP."""
    out, at = [], 0
    while at < len(data):
        end = token_end(data, at)
        if end is None:
            return (*out, data[at:])
        out.append(data[at:end])
        at = end
        if out[-1] == b".":
            break
    return tuple(out)


def spans(tokens: Tokens) -> list[tuple[int, int]]:
    """The runs of tokens that push one value."""
    stack: list[tuple[int, bool]] = []  # where the value begins; is it a MARK?
    out = []
    for i, token in enumerate(tokens):
        op = OPS.get(token[0])
        if op is None or op.name in ("STOP", "PROTO", "FRAME"):
            continue
        before, start = list(op.stack_before), i
        if pickletools.markobject in before:
            while stack and not stack[-1][1]:
                start = min(start, stack.pop()[0])
            if not stack:
                break
            start = min(start, stack.pop()[0])
            before = before[: before.index(pickletools.markobject)]
        if len(before) > len(stack):
            break
        for _ in before:
            start = min(start, stack.pop()[0])
        stack += [(start, kind is pickletools.markobject) for kind in op.stack_after]
        if len(op.stack_after) == 1 and op.stack_after[0] is not pickletools.markobject:
            out.append((start, i + 1))
    return out


def memo_index(token: bytes) -> int:
    return int(token[1:-1]) if token[0] in b"gp" else int.from_bytes(token[1:], "little")


def excerpts(tokens: Tokens, rng: Random, n: int) -> list[Tokens]:
    """Values out of the midst of a pickle, each a pickle of its own."""
    numbered, seen = [], 0
    cut_off: dict[int, bytes] = {}
    for before, token in itertools.pairwise((b"", *tokens)):
        if token == b"\x94":  # MEMOIZE counts: here it would count anew
            token = p.put(seen)
            seen += 1
        if token[0] in b"pqr":
            cut_off[memo_index(token)] = before if before[0] in b"XSTUV\x8c\x8d" else STRANGER
        numbered.append(token)
    found = [(a, b) for a, b in spans(tokens) if b - a > 3 and sum(map(len, tokens[a:b])) < SMALL]
    out = []
    for a, b in rng.sample(found, min(n, len(found))):
        known, kept = set(), []
        for token in numbered[a:b]:
            if token[0] in b"pqr":
                known.add(memo_index(token))
            kept.append(cut_off[memo_index(token)] if token[0] in b"ghj" and memo_index(token) not in known else token)
        out.append((*kept, b"."))
    return out


# ---- the pickles to begin with ----


def pickles_in(stream: bytes, n: int) -> list[bytes]:
    """The first pickles of a stream."""
    out = []
    for _ in range(n):
        size = sum(map(len, tokens_of(stream)))
        out.append(stream[:size])
        stream = stream[size:]
    return out


def pickles_of_file(data: bytes) -> list[bytes]:
    if data[:2] != b"PK":
        return pickles_in(data, 5)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        return [z.read(name) for name in sorted(z.namelist()) if name.endswith(".pkl")]


@functools.cache
def zoo() -> dict[str, list[bytes]]:
    return {str(f.relative_to(ZOO)): pickles_of_file(f.read_bytes()) for f in sorted(ZOO.rglob("*.pth"))}


@functools.cache
def forged() -> list[bytes]:
    root = p.dict_of({"a": legacy.vector("0", 4), "b": p.doubled(p.text("x"), lambda v: p.tuple_of([v, v]), 5)})
    stream = legacy.stream(root, {"0": bytes(16)})
    return [
        *pickles_in(stream, 5),
        *(
            p.pickle(value)
            for value in (legacy.vector("1", 2), legacy.storage("0", 3), p.ints([1, 70000, -5, 1 << 40]))
        ),
        p.pickle(p.tensor(legacy.storage("0", 6), [2, 3], [3, 1])),
        p.pickle(p.pairs([(p.integer(1), p.NONE), (p.TRUE, p.raw(b"\x00\xff"))])),
        tars.views([(1, 2, 3, 4)]),
        tars.storage_record(101, b""),
        tars.tensor_record(1, 101, [2], [1]),
    ]


class Custom:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, value: Any) -> None:
        self.a, self.b = value, "b"


class Named:
    """Made by __newobj_ex__."""

    def __new__(cls, *, name: str = "") -> Named:
        return object.__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, str]]:
        return (), {"name": "n"}


class OldStyle:
    """As classes of Python 2 were written: INST, or OBJ."""

    def __reduce__(self) -> Any:
        return OldStyle, ()


class Elsewhere:
    """A value that the pickler hands to persistent_id."""


TEXTS = ["", "a", "conv1.weight", "é", "\ud800", "x" * 70, "line\nbreak", "\\u0041", "\U0001f600", "nul\0"]
INTS = [0, 1, 255, 256, -1, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**63, -(2**63), 2**64, 2**200, -(2**2100)]
FLOATS = [0.0, -0.0, 1.5, 1e300, float("inf"), float("nan"), 5e-324]


def leaf(rng: Random) -> Any:
    match rng.randrange(12):
        case 0 | 1 | 2:
            return rng.choice(TEXTS)
        case 3 | 4:
            return rng.choice(INTS)
        case 5:
            return rng.choice(FLOATS)
        case 6:
            return rng.randbytes(rng.choice([0, 1, 3, 20, 300]) if rng.random() < 0.3 else 4)
        case 7:
            return bytearray(rng.randbytes(rng.randrange(6)))
        case 8:
            return rng.choice([None, True, False, ()])
        case 9:
            return rng.choice([Custom, print, collections.OrderedDict, Slotted, int])
        case 10:
            return rng.choice(
                [datetime.date(2024, 2, 29), decimal.Decimal("1.5"), fractions.Fraction(3, 7), 1 + 2j, range(5)]
            )
        case _:
            return rng.choice([Elsewhere(), Named(), OldStyle(), datetime.datetime(2024, 2, 29, 13, 59)])


def value(rng: Random, depth: int) -> Any:
    if depth == 0 or rng.random() < 0.2:
        return leaf(rng)
    some = [value(rng, depth - 1) for _ in range(rng.randrange(5))]
    keys = [rng.choice([*TEXTS, *INTS, None, True, (1, "k"), b"bytes"]) for _ in some]
    match rng.randrange(11):
        case 0 | 1:
            return some
        case 2:
            return tuple(some)
        case 3 | 4:
            return dict(zip(keys, some, strict=True))
        case 5:
            return collections.OrderedDict(zip(keys, some, strict=True))
        case 6:
            return rng.choice([set, frozenset])(keys)
        case 7:
            return rng.choice([Custom, Slotted])(some)
        case 8:
            return [some, some, {"again": some}]
        case 9:
            some.append(rng.choice([some, {"round": some}, (some,), Custom(some)]))
            return some
        case _:
            return rng.choice(
                [
                    collections.deque(some),
                    collections.Counter(keys),
                    collections.defaultdict(list, zip(keys, some, strict=True)),
                ]
            )


class _Persistent:
    def persistent_id(self, obj: Any) -> Any:
        return ("storage", Custom, "0", "cpu", 4) if isinstance(obj, Elsewhere) else None


class Fast(_Persistent, pickle.Pickler):
    pass


class Slow(_Persistent, pickle._Pickler):  # type: ignore[name-defined,misc]
    pass


def pickled(obj: Any, protocol: int, pickler: type[Any]) -> bytes:
    out = io.BytesIO()
    pickler(out, protocol).dump(obj)
    return out.getvalue()


@functools.cache
def python() -> list[bytes]:
    """Random objects by Python's two picklers, at all protocols."""
    rng = Random(2)
    out = []
    for _ in range(150):
        obj = value(rng, rng.randrange(1, 5))
        for protocol in range(6):
            try:
                out.append(pickled(obj, protocol, rng.choice([Fast, Slow])))
            except (pickle.PicklingError, TypeError):  # a persistent id that is no text, in protocol 0; slots, below 2
                continue
    return out


@functools.cache
def seeds() -> tuple[list[Tokens], list[Tokens]]:
    """(whole pickles and excerpts of them, values without STOP to put elsewhere)"""
    rng = Random(1)
    whole = [*forged(), *(data for datas in zoo().values() for data in datas), *python()]
    out: dict[Tokens, None] = {}
    for data in whole:
        tokens = tokens_of(data)
        if len(data) < SMALL:
            out[tokens] = None
        else:
            out.update(dict.fromkeys(excerpts(tokens, rng, 12)))
    small = list(out)
    large = [tokens for data in whole if SMALL <= len(data) < 4000 for tokens in [tokens_of(data)]]
    values: dict[Tokens, None] = {}
    for tokens in small:
        values.update(dict.fromkeys(tokens[a:b] for a, b in spans(tokens) if sum(map(len, tokens[a:b])) < 120))
    return small + rng.sample(large, min(len(large), len(small) // 60)), list(values)


# ---- accidents ----

LINES = [
    *(
        b"0",
        b"1",
        b"00",
        b"01",
        b"-1",
        b"007",
        b"010",
        b"0x1F",
        b"0b1",
        b"0o7",
        b"1_0",
        b" 5",
        b"5 ",
        b"5L",
        b"L",
        b"",
        b"+3",
    ),
    *(
        b"1.5",
        b"-inf",
        b"nan",
        b"1e999",
        b"1e",
        b".5",
        b"5.",
        b"'a'",
        b'"b"',
        b"'\\x41\\n\\101'",
        b"'\\x4'",
        b"'",
        b"'a\\'",
        b" 'a'",
        b"'a'\r",
        b"'\\777\\z'",
    ),
    *(
        b"\\u0041",
        b"\\ud83d\\ude00",
        b"\\U00110000",
        b"\\\\u0041",
        b"\\u00",
        b"\xe9",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"torch",
        b"\0",
    ),
    *(
        b"4294967294",
        b"4294967295",
        b"4294967296",
        b"9223372036854775808",
        b"99999999999999999999",
        b"-0",
        b"1\x005",
        b"000",
    ),
]
SIZES = [0, 0, 1, 1, 2, 3, 4, 7, 255]
BYTES = [0, 1, 2, 0x0A, 0x28, 0x2E, 0x7F, 0x80, 0xFF]


def payload(rng: Random, n: int) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(n)
    if kind == 1:
        return ("é" * n).encode()[:n]
    if kind == 2 and n > 2:
        return b"\xed\xa0\x80".ljust(n, b"u")
    return b"latin1_torch"[:n].ljust(n, b"k")


def argument(op: pickletools.OpcodeInfo, rng: Random) -> bytes:
    """An argument of the right shape."""
    if op.arg is None:
        return b""
    n = op.arg.n
    if n == pickletools.UP_TO_NEWLINE:
        if op.name in ("GLOBAL", "INST"):
            return rng.choice(
                [
                    b"torch\nTensor\n",
                    b"_codecs\nencode\n",
                    b"\xc3\xa9\nx\n",
                    rng.choice(LINES) + b"\n" + rng.choice(LINES) + b"\n",
                ]
            )
        if op.name in ("GET", "PUT") and rng.random() < 0.8:
            return b"%d\n" % rng.randrange(4)
        return rng.choice(LINES) + b"\n"
    if n < 0:
        size = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}.get(n, 4)
        data = payload(rng, rng.choice(SIZES))
        return len(data).to_bytes(size, "little") + data
    if op.name in ("BINGET", "BINPUT", "LONG_BINGET", "LONG_BINPUT"):
        return rng.choice([0, 1, 2, 3, 255, (1 << 8 * n) - 1] if rng.random() < 0.2 else [0, 1, 2]).to_bytes(
            n, "little"
        )
    if op.name == "FRAME":
        return struct.pack("<Q", rng.choice([0, 1, 5, 20, 100, 1 << 63]))
    if op.name == "PROTO":
        return bytes([rng.choice([0, 1, 2, 3, 4, 5, 6])])
    return bytes(rng.choice(BYTES) for _ in range(n)) if rng.random() < 0.5 else rng.randbytes(n)


CODES = sorted(OPS)


def token(rng: Random) -> bytes:
    code = rng.choice(CODES)
    return bytes([code]) + argument(OPS[code], rng)


@functools.cache
def alike(code: int) -> list[int]:
    """Opcodes that take the same argument."""
    arg = OPS[code].arg
    return [c for c, op in OPS.items() if c != code and (op.arg.n if op.arg else 0) == (arg.n if arg else 0)]


def spoil_bytes(data: bytes, rng: Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if not out:
            break
        at = rng.randrange(len(out))
        match rng.randrange(8):
            case 0 | 1:
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                out[at] = rng.choice(BYTES)
            case 3:
                out[at] = rng.randrange(256)
            case 4:
                del out[at]
            case 5:
                out.insert(at, rng.choice(CODES))
            case 6:
                end = min(len(out), at + rng.randrange(1, 12))
                out[at:at] = out[at:end]
            case _:
                if rng.random() < 0.5:
                    del out[at:]
                else:
                    out[at] = min(255, max(0, out[at] + rng.choice([-1, 1])))
    return bytes(out)


def spoil_tokens(tokens: Tokens, rng: Random) -> bytes:
    everything, values = seeds()
    out = list(tokens)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if not out:
            break
        at = rng.randrange(len(out))
        match rng.randrange(12):
            case 0 | 1:  # another opcode, the same argument
                others = alike(out[at][0]) if out[at][0] in OPS else CODES
                if others:
                    out[at] = bytes([rng.choice(others)]) + out[at][1:]
            case 2:  # another argument
                if out[at][0] in OPS:
                    out[at] = out[at][:1] + argument(OPS[out[at][0]], rng)
            case 3:
                del out[at]
            case 4:
                out.insert(at, token(rng))
            case 5:
                out.insert(at, out[rng.randrange(len(out))])
            case 6:
                other = rng.randrange(len(out))
                out[at], out[other] = out[other], out[at]
            case 7 | 8 | 9:  # another value in the place of one
                found = spans(tuple(out))
                if found:
                    a, b = rng.choice(found)
                    out[a:b] = rng.choice(values)
            case 10:  # the beginning of one, the end of another
                other = rng.choice(everything)
                out[at:] = other[rng.randrange(len(other)) :]
            case _:  # a part twice
                end = min(len(out), at + rng.randrange(1, 8))
                out[at:at] = out[at:end]
    return b"".join(out)


# ---- programs ----

PUSHES = [ord(c) for c in "NIJKMLFGSTUVXBC)]}cPgh\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x96"]
STACK_TEXT = [p.text("torch"), p.text("_codecs"), b"\x8c\x06encode", b"U\x05Class", p.text("é")]
HASHABLE = set("tsbighp")


class Program:
    """Opcodes at random, each of which may stand where it stands: most of the time."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.out: list[bytes] = []
        self.stack: list[
            str
        ] = []  # l, d, e (set), t (hashable tuple), x (other), s (text), b (bytes), i, g, h (call), p
        self.memo: dict[int, str] = {}

    def emit(self, code: bytes, taken: int, *pushed: str) -> None:
        self.out.append(code)
        if taken:
            del self.stack[-taken:]
        self.stack += pushed

    def above(self) -> list[str]:
        """What lies above the last MARK."""
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] == "(":
                return self.stack[i + 1 :]
        return list(self.stack)

    def push(self) -> None:
        rng = self.rng
        match rng.randrange(14):
            case 0 | 1:
                self.emit(rng.choice(STACK_TEXT), 0, "s")
            case 2:
                self.emit(
                    rng.choice([b"V" + rng.choice(LINES[:12]) + b"\n", b"S'a'\n", b"\x8c\x01a", b"U\x01\xff"]), 0, "s"
                )
            case 3 | 4:
                ints = [
                    b"K\x05",
                    b"M\x00\x01",
                    b"J\xff\xff\xff\xff",
                    b"I7\n",
                    b"I01\n",
                    b"L12L\n",
                    b"\x8a\x01\x80",
                    b"\x8b\0\0\0\0",
                ]
                self.emit(rng.choice([*ints, b"\x8a\x09" + rng.randbytes(9), b"I99999999999999999999\n"]), 0, "i")
            case 5:
                self.emit(rng.choice([b"N", b"\x88", b"\x89", b"F1.5\n", b"G" + rng.randbytes(8)]), 0, "i")
            case 6:
                self.emit(rng.choice([b"C\x02ab", p.raw(b"\0"), b"\x8e\x01\0\0\0\0\0\0\0z"]), 0, "b")
            case 7:
                self.emit(b"\x96\x01\0\0\0\0\0\0\0z", 0, "x")
            case 8:
                self.emit(b")", 0, "t")
            case 9 | 10:
                code, kind = rng.choice([(b"]", "l"), (b"}", "d"), (b"\x8f", "e")])
                self.emit(code, 0, kind)
            case 11 | 12:
                self.emit(rng.choice([b"ctorch\nTensor\n", b"c_codecs\nencode\n", b"ca\nb\n"]), 0, "g")
            case _:
                if self.memo and rng.random() < 0.8:
                    index = rng.choice(list(self.memo))
                    code = rng.choice([b"h%c" % index, b"g%d\n" % index, p.get(index)])
                    self.emit(code, 0, self.memo[index])
                else:
                    self.emit(b"Pkey\n", 0, "p")

    def call(self) -> None:
        """A callable, its arguments, and REDUCE or one of its kin."""
        rng = self.rng
        self.emit(rng.choice([b"ctorch\nTensor\n", b"c_codecs\nencode\n", b"c\xc3\xa9\nb\n"]), 0, "g")
        n = rng.randrange(4)
        if rng.random() < 0.2:
            self.out.insert(len(self.out) - 1, b"(")
            for _ in range(n):
                self.push()
            self.emit(b"o", n + 1, "h")
            return
        self.emit(b"(", 0, "(")
        if rng.random() < 0.3:
            self.emit(p.text("h\xe9") + p.text("latin1"), 0)
        for _ in range(n):
            self.push()
        if rng.random() < 0.1:
            self.emit(b"itorch\nOld\n", n + 1, "h")
            return
        self.emit(b"t" if rng.random() < 0.96 else rng.choice([b"l", b"\x91"]), n + 1, "x")
        if rng.random() < 0.2:
            self.emit(b"}", 0, "d")
            self.emit(b"\x92", 3, "h")
        else:
            self.emit(rng.choice([b"R", b"R", b"\x81"]), 2, "h")

    def step(self) -> None:
        rng, above = self.rng, self.above()
        n = len(above)
        marked = n < len(self.stack)
        below = self.stack[-n - 2] if marked and len(self.stack) > n + 1 else ""
        match rng.randrange(24):
            case 0 | 1 | 2 | 3 | 4:
                self.push()
            case 5 | 6:
                self.emit(b"(", 0, "(")
            case 7 if n:
                index = rng.randrange(4)
                code = rng.choice([b"q%c" % index, b"p%d\n" % index, p.put(index), b"\x94"])
                self.memo[len(self.memo) if code == b"\x94" else index] = above[-1]
                self.emit(code, 0)
            case 8 if n:
                self.emit(b"2", 0, above[-1])
            case 9 if n:
                self.emit(b"0", 1)
            case 10 if n and rng.random() < 0.4:
                self.emit(b"Q", 1, "p")
            case 11 if n:
                k = rng.randint(1, min(3, n))
                self.emit(bytes([0x84 + k]), k, "t" if set(above[-k:]) <= HASHABLE else "x")
            case 12 if marked and n:
                self.emit(b"t", n + 1, "t" if set(above) <= HASHABLE else "x")
            case 13 if marked:
                self.emit(b"l", n + 1, "l")
            case 14 if marked and n % 2 == 0 and set(above[::2]) <= HASHABLE:
                self.emit(b"d", n + 1, "d")
            case 15 if marked and set(above) <= HASHABLE:
                self.emit(b"\x91", n + 1, "t")
            case 16 | 17 if marked and below in tuple("ldeh"):
                if below in "lh":
                    self.emit(b"e", n + 1)
                elif below == "e" and set(above) <= HASHABLE:
                    self.emit(b"\x90", n + 1)
                elif below == "d" and n % 2 == 0 and set(above[::2]) <= HASHABLE:
                    self.emit(b"u", n + 1)
            case 18 if n > 1 and above[-2] in "lh":
                self.emit(b"b" if above[-2] == "h" and rng.random() < 0.6 else b"a", 1)
            case 18 | 19 if n > 2 and above[-3] in "dh" and above[-2] in HASHABLE:
                self.emit(b"s", 2)
            case 20 | 21:
                self.call()
            case 22 if n > 1 and above[-1] in "sh" and above[-2] in "sh":
                self.emit(b"\x93", 2, "g")
            case 23 if rng.random() < 0.15:
                self.emit(token(rng), 0)  # whatever it does
            case _:
                if marked and rng.random() < 0.1:
                    self.emit(b"1", n + 1)

    def finish(self) -> None:
        while "(" in self.stack:
            n = len(self.above())
            self.emit(self.rng.choice([b"t", b"l"]), n + 1, "x")
        if not self.stack:
            self.emit(b"N", 0, "i")
        while len(self.stack) > 1:
            k = min(3, len(self.stack))
            self.emit(bytes([0x84 + k]), k, "x")
        self.out.append(b".")

    def frames(self) -> None:
        """Frames round runs of opcodes; some a byte too short or too long, some in others."""
        at = 0
        for _ in range(self.rng.randrange(1, 4)):
            if at >= len(self.out):
                break
            at = self.rng.randrange(at, len(self.out))
            end = self.rng.randint(at, len(self.out))
            size = sum(map(len, self.out[at:end])) + self.rng.choice([0, 0, 0, 0, 0, -1, 1, 3])
            self.out.insert(at, b"\x95" + struct.pack("<Q", max(size, 0)))
            at = end + 1 if self.rng.random() < 0.8 else at + 1


def program(rng: Random) -> bytes:
    made = Program(rng)
    if rng.random() < 0.4:
        made.emit(bytes([0x80, rng.choice([0, 2, 3, 4, 5])]), 0)
    for _ in range(rng.randrange(3, 60)):
        made.step()
    made.finish()
    if rng.random() < 0.3:
        made.frames()
    data = b"".join(made.out)
    return spoil_bytes(data, rng) if rng.random() < 0.15 else data


def mutant(i: int) -> bytes:
    rng = Random(i)
    kind = rng.randrange(10)
    if kind < 3:
        return program(rng)
    tokens = rng.choice(seeds()[0])
    return spoil_bytes(b"".join(tokens), rng) if kind < 6 else spoil_tokens(tokens, rng)
