"""A slow, plain interpreter of pickle, written from CPython's pickle.py, _pickle.c and pickletools: the core's judge.

It executes and imports nothing: calls, globals and persistent ids are inert records. Where pickle.py and _pickle.c
disagree, _pickle.c is right, for it is what torch.load runs on. Where the core differs on purpose, "Stricter:" or
"Laxer:" says why, and the outcome is marked; of all the others, _pickle.c itself is asked in the tests.
"""

from __future__ import annotations

import math
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
COMPUTED = "<computed>"
HIGHEST_PROTOCOL = 5
MAX_INDEX = (1 << 32) - 1

REDUCE, NEWOBJ, NEWOBJ_EX, OBJ, INST = range(5)

# Kinds that Python cannot hash, whatever they hold.
UNHASHABLE = {"list", "dict", "set", "bytearray"}
# What stands for anything at all: the result of a call, and what a persistent id names.
UNKNOWN = {"object", "persid"}
TEXT = {"str", "str8"}


class Node:
    """An inert value; two places of a pickle share it if they hold the same Node.

    value    of a leaf; (module, name) of a global; (how, callable, arguments, keywords) of a call; a persistent id
    items    of a tuple, list, set; what was appended to a call
    pairs    key, value, key, value ... of a dict; what was set in a call
    states   what BUILD gave a call
    """

    __slots__ = ("hashable", "items", "kind", "pairs", "states", "value")

    def __init__(self, kind: str, value: Any = None) -> None:
        self.kind = kind
        self.value = value
        self.hashable = kind not in UNHASHABLE
        self.items: list[Node] = []
        self.pairs: list[Node] = []
        self.states: list[Node] = []


NONE, TRUE, FALSE, EMPTY_TUPLE = Node("none"), Node("bool", True), Node("bool", False), Node("tuple")


class Refused(Exception):
    """The opcode at work cannot be run."""


class Stricter(Refused):
    """Python might run it."""


@dataclass
class Outcome:
    """What a pickle did, up to its STOP or to the opcode that was refused."""

    globals: list[tuple[str, str, int, str]] = field(default_factory=list)
    end: int | None = None  # the byte behind STOP; None after an error
    error: tuple[int, str | None] | None = None  # byte and name of the opcode that was refused
    why: str = ""
    stricter: bool = False  # Python might not have refused it
    laxer: bool = False  # Python might have refused it
    n_ops: int = 0
    proto: int = 0
    has_str8: bool = False
    frame_straddled: bool = False
    root: Node | None = None


def shown(data: bytes) -> str:
    """A text of unknown encoding, as people are shown it."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


FLOAT = re.compile(rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|infinity|nan)", re.I)
ESCAPES = {ord(k): ord(v) for k, v in zip("\\'\"bftnrva", "\\'\"\b\f\t\n\r\v\a", strict=True)}


def unescaped(data: bytes) -> bytes:
    """What _PyBytes_DecodeEscape makes of the inside of a quoted string."""
    out = bytearray()
    at = 0
    while at < len(data):
        c = data[at]
        at += 1
        if c != 0x5C:
            out.append(c)
            continue
        if at == len(data):
            raise Refused("a trailing backslash")
        c = data[at]
        if c in ESCAPES:
            out.append(ESCAPES[c])
            at += 1
        elif c == 0x0A:  # a line continued; no line of a pickle holds one
            at += 1
        elif 0x30 <= c <= 0x37:
            octal = re.match(rb"[0-7]{1,3}", data[at:])
            assert octal
            out.append(int(octal[0], 8) & 0xFF)
            at += len(octal[0])
        elif c == 0x78:
            if not re.match(rb"[0-9a-fA-F]{2}", data[at + 1 :]):
                raise Refused("two hexadecimal digits are wanted")
            out.append(int(data[at + 1 : at + 3], 16))
            at += 3
        else:  # the backslash stays
            out.append(0x5C)
    return bytes(out)


class Machine:
    """One run."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pos = 0
        self.op_at = 0
        self.stack: list[Node] = []
        self.marks: list[int] = []
        self.fence = 0  # nothing is popped below it
        self.memo: dict[int, Node] = {}
        self.frame_end = 0
        self.encoded = 0
        self.out = Outcome()

    # ---- bytes ----

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.pos:
            raise Refused("truncated")
        self.pos += n
        return self.data[self.pos - n : self.pos]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def signed(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little", signed=True)

    def line(self) -> bytes:
        at = self.data.find(b"\n", self.pos)
        if at < 0:
            raise Refused("no end of line")
        return self.take(at + 1 - self.pos)[:-1]

    def filled_line(self) -> bytes:
        line = self.line()
        if not line:
            raise Refused("an empty line")
        return line

    # ---- stack ----

    def push(self, node: Node) -> None:
        self.stack.append(node)

    def need(self, n: int) -> None:
        if len(self.stack) - n < self.fence:
            raise Refused("underflow")

    def pop(self) -> Node:
        self.need(1)
        return self.stack.pop()

    def mark(self) -> None:
        self.fence = len(self.stack)
        self.marks.append(self.fence)

    def unmark(self) -> int:
        """Where the items behind the last MARK begin; the MARK is gone."""
        if not self.marks:
            raise Refused("no MARK")
        at = self.marks.pop()
        self.fence = self.marks[-1] if self.marks else 0
        return at

    def cut(self, at: int) -> list[Node]:
        items = self.stack[at:]
        del self.stack[at:]
        return items

    # ---- opcodes that push ----

    def integer(self, literal: bytes) -> int:
        """As Python reads it: blanks around, underscores, prefixes.

        Stricter: a leading zero ("010"), which _pickle.c takes for an octal number and pickle.py refuses; and a NUL,
        which ends the number for _pickle.c and which pickle.py refuses. Two readers would see two values. Two
        characters other than "00" and "01" that are worth 0 or 1 ("+1") are a bool for _pickle.c, and the same number
        for pickle.py: a number here.
        """
        try:
            return int(literal, 0)
        except ValueError:
            raise Stricter("no integer") from None

    def op_int(self) -> None:
        line = self.filled_line()
        if line in (b"00", b"01"):
            self.push(TRUE if line == b"01" else FALSE)
        else:
            self.push(Node("int", self.integer(line)))

    def op_long(self) -> None:
        self.push(Node("int", self.integer(self.filled_line().removesuffix(b"L"))))

    def op_float(self) -> None:
        """No blanks or underscores, as in _pickle.c. Laxer: "1e999" is infinite, as in pickle.py; no pickler writes it,
        and whoever reads it reads this. Stricter: a NUL, as in integers."""
        line = self.filled_line()
        if not FLOAT.fullmatch(line):
            raise Stricter("no float") if b"\0" in line else Refused("no float")
        value = float(line)
        self.out.laxer |= math.isinf(value) and b"n" not in line.lower()
        self.push(Node("float", struct.pack(">d", value)))

    def op_binfloat(self) -> None:
        self.push(Node("float", self.take(8)))

    def twos_complement(self, size: int) -> None:
        if size < 0:
            raise Refused("negative length")
        self.push(Node("int", int.from_bytes(self.take(size), "little", signed=True)))

    def str8(self, size: int) -> None:
        if size < 0:
            raise Refused("negative length")
        self.out.has_str8 = True
        self.push(Node("str8", self.take(size)))

    def op_string(self) -> None:
        line = self.line()
        if len(line) < 2 or line[0] != line[-1] or line[:1] not in b"'\"":
            raise Refused("not quoted")
        self.out.has_str8 = True
        self.push(Node("str8", unescaped(line[1:-1])))

    def op_unicode(self) -> None:
        try:
            text = self.line().decode("raw-unicode-escape")
        except UnicodeDecodeError:
            raise Refused("no raw-unicode-escape") from None
        self.push(Node("str", text.encode("utf-8", "surrogatepass")))

    def text(self, size: int) -> None:
        data = self.take(size)
        try:
            data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise Refused("not UTF-8") from None
        self.push(Node("str", data))

    # ---- containers ----

    def check_hashable(self, nodes: list[Node]) -> None:
        if not all(n.hashable for n in nodes):
            raise Refused("unhashable")

    def make_tuple(self, items: list[Node]) -> Node:
        if not items:
            return EMPTY_TUPLE
        node = Node("tuple")
        node.items = items
        node.hashable = all(n.hashable for n in items)  # of all that it can ever hold: it is immutable
        return node

    def tuple_of(self, n: int) -> None:
        self.need(n)
        self.push(self.make_tuple(self.cut(len(self.stack) - n)))

    def op_tuple(self) -> None:
        self.push(self.make_tuple(self.cut(self.unmark())))

    def op_list(self) -> None:
        node = Node("list")
        node.items = self.cut(self.unmark())
        self.push(node)

    def op_dict(self) -> None:
        node = Node("dict")
        node.pairs = self.cut(self.unmark())
        if len(node.pairs) % 2:
            raise Refused("odd")
        self.check_hashable(node.pairs[::2])
        self.push(node)

    def op_frozenset(self) -> None:
        node = Node("frozenset")
        node.items = self.cut(self.unmark())
        self.check_hashable(node.items)
        self.push(node)

    def fill(self, at: int, kind: str) -> None:
        """Puts what stands from `at` on into the value below, a `kind` or the result of a call.

        Stricter: SETITEM on a list, APPEND on a bytearray and the like, which Python can do and no pickler writes.
        """
        if at <= self.fence:
            raise Refused("underflow")
        target = self.stack[at - 1]
        if len(self.stack) == at:  # Python looks at the target only if there is something to put in
            return
        items = self.stack[at:]
        if kind == "dict" and len(items) % 2:
            raise Refused("odd")
        if target.kind not in (kind, "object"):
            raise Stricter("target")
        if kind != "list" and target.kind == kind:
            self.check_hashable(items[::2] if kind == "dict" else items)
        del self.stack[at:]
        (target.pairs if kind == "dict" else target.items).extend(items)

    # ---- globals and calls ----

    def log_global(self, module: str, name: str) -> Node:
        self.out.globals.append((module, name, self.op_at, NAMES[self.data[self.op_at]]))
        return Node("global", (module, name))

    def names(self, encoding: str) -> Node:
        module, name = self.filled_line(), self.filled_line()
        try:
            return self.log_global(module.decode(encoding), name.decode(encoding))
        except UnicodeDecodeError:
            raise Refused(f"not {encoding}") from None

    def op_stack_global(self) -> None:
        """Laxer: a name that a call made is unknown here, and may well be a text. A name that is no text ends the
        run, but is worth a line of the log too."""
        self.need(2)
        module, name = parts = self.cut(len(self.stack) - 2)
        node = self.log_global(*(shown(n.value) if n.kind in TEXT else COMPUTED for n in parts))
        if not all(n.kind in TEXT or n.kind in UNKNOWN for n in (module, name)):
            raise Refused("no text")
        self.out.laxer |= not all(n.kind in TEXT for n in (module, name))
        self.push(node)

    def extension(self, size: int) -> None:
        """Nobody's registry is here; Python fails too unless it finds the code in its own."""
        self.log_global("copyreg", f"extension {self.number(size)}")
        raise Refused("extension")

    def call(self, how: int, callee: Node, args: Node, kwargs: Node | None = None) -> None:
        """What may be called: a global, or what a call or a persistent id gave. Laxer: arguments that a call gave may
        be a tuple."""
        if callee.kind != "global" and callee.kind not in UNKNOWN:
            raise Refused("callable")
        if args.kind not in ("tuple", "object"):
            raise Refused("arguments")
        self.out.laxer |= args.kind == "object"
        self.push(Node("object", (how, callee, args, kwargs)))

    def op_reduce(self) -> None:
        self.need(2)
        callee, args = self.cut(len(self.stack) - 2)
        if not self.latin1(callee, args):
            self.call(REDUCE, callee, args)

    def latin1(self, callee: Node, args: Node) -> bool:
        """_codecs.encode(text, "latin1") is how bytes are written below protocol 3: bytes, as long as all such bytes
        are no more than the pickle."""
        if callee.kind != "global" or callee.value != ("_codecs", "encode") or args.kind != "tuple":
            return False
        if [n.kind in TEXT for n in args.items] != [True, True] or args.items[0].kind != "str":
            return False
        if args.items[1].value not in (b"latin1", b"latin-1"):
            return False
        try:
            data = args.items[0].value.decode("utf-8", "surrogatepass").encode("latin-1")
        except UnicodeEncodeError:
            return False
        if self.encoded + len(data) > len(self.data):
            return False
        self.encoded += len(data)
        self.push(Node("bytes", data))
        return True

    def op_newobj(self) -> None:
        self.need(2)
        self.call(NEWOBJ, *self.cut(len(self.stack) - 2))

    def op_newobj_ex(self) -> None:
        """Laxer: keywords that a call gave may be a dict. Whether its keys are texts is a question to the class."""
        self.need(3)
        callee, args, kwargs = self.cut(len(self.stack) - 3)
        if kwargs.kind not in ("dict", "object"):
            raise Refused("keywords")
        self.out.laxer |= kwargs.kind == "object" or any(n.kind not in TEXT for n in kwargs.pairs[::2])
        self.call(NEWOBJ_EX, callee, args, kwargs)

    def op_inst(self) -> None:
        """The global first: it is logged even where the MARK is missing."""
        callee = self.names("ascii")
        self.call(INST, callee, self.make_tuple(self.cut(self.unmark())))

    def op_obj(self) -> None:
        items = self.cut(self.unmark())
        if not items:
            raise Refused("underflow")
        self.call(OBJ, items[0], self.make_tuple(items[1:]))

    def op_build(self) -> None:
        """Stricter: only on what a call made. Python would also set attributes of a class or a function."""
        self.need(2)
        state = self.stack.pop()
        if self.stack[-1].kind != "object":
            raise Stricter("target")
        self.stack[-1].states.append(state)

    def op_persid(self) -> None:
        line = self.line()
        if not line.isascii():
            raise Refused("not ASCII")
        self.push(Node("persid", Node("str", line)))

    # ---- memo ----

    def index_line(self) -> int:
        """Stricter: decimal digits. int() would also take blanks, a sign and underscores, which no pickler writes."""
        line = self.line()
        if not re.fullmatch(rb"[0-9]+", line):
            raise Stricter("no index")
        return int(line)

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise Refused("memo")
        self.push(self.memo[index])

    def put(self, index: int) -> None:
        """Stricter: indices are 32 bits. Python has an array of pointers, and no memory for more."""
        self.need(1)
        if index > MAX_INDEX:
            raise Stricter("memo")
        self.memo[index] = self.stack[-1]

    # ---- the rest ----

    def op_pop(self) -> None:
        if self.marks and self.fence == len(self.stack):
            self.unmark()
        else:
            self.pop()

    def op_stop(self) -> None:
        self.out.root = self.pop()
        self.out.end = self.pos
        self.out.frame_straddled |= self.pos < self.frame_end

    def op_dup(self) -> None:
        self.need(1)
        self.push(self.stack[-1])

    def op_proto(self) -> None:
        proto = self.number(1)
        if proto > HIGHEST_PROTOCOL:
            raise Refused("protocol")
        self.out.proto = max(proto, self.out.proto)

    def op_frame(self) -> None:
        """A frame that is longer than the rest is refused, as by all readers. One that ends amid an opcode, begins in
        another or ends behind STOP is noted: pickle.py refuses the first two, and _pickle.c drops what is left of the
        frame if it reads from a file, and does not if it reads from memory."""
        size = self.number(8)
        if size > len(self.data) - self.pos:
            raise Refused("truncated")
        self.out.frame_straddled |= self.op_at < self.frame_end
        self.frame_end = self.pos + size

    def buffer(self) -> None:
        """Stricter: torch.load has no buffers out of band to give, and READONLY_BUFFER only ever follows one. Python
        would make a memoryview of any bytes."""
        raise Stricter("buffer")

    def run(self) -> Outcome:
        out = self.out
        try:
            while out.end is None:
                self.op_at = self.pos
                op = self.take(1)[0]
                out.n_ops += 1
                framed, frame_end = self.op_at < self.frame_end, self.frame_end
                step = STEPS.get(op)
                if step is None:
                    raise Refused("no opcode")
                try:
                    step(self)
                finally:
                    out.frame_straddled |= framed and self.pos > frame_end
        except Refused as e:
            out.error = self.op_at, NAMES.get(self.data[self.op_at]) if self.op_at < len(self.data) else None
            out.why, out.stricter = str(e), isinstance(e, Stricter)
        return out


STEPS: dict[int, Callable[[Machine], Any]] = {
    ord(code): step
    for code, step in {
        ".": Machine.op_stop,
        "(": Machine.mark,
        "0": Machine.op_pop,
        "1": lambda m: m.cut(m.unmark()),
        "2": Machine.op_dup,
        "N": lambda m: m.push(NONE),
        "\x88": lambda m: m.push(TRUE),
        "\x89": lambda m: m.push(FALSE),
        "I": Machine.op_int,
        "L": Machine.op_long,
        "F": Machine.op_float,
        "G": Machine.op_binfloat,
        "J": lambda m: m.push(Node("int", m.signed(4))),
        "K": lambda m: m.push(Node("int", m.number(1))),
        "M": lambda m: m.push(Node("int", m.number(2))),
        "\x8a": lambda m: m.twos_complement(m.number(1)),
        "\x8b": lambda m: m.twos_complement(m.signed(4)),
        "S": Machine.op_string,
        "T": lambda m: m.str8(m.signed(4)),
        "U": lambda m: m.str8(m.number(1)),
        "V": Machine.op_unicode,
        "X": lambda m: m.text(m.number(4)),
        "\x8c": lambda m: m.text(m.number(1)),
        "\x8d": lambda m: m.text(m.number(8)),
        "B": lambda m: m.push(Node("bytes", m.take(m.number(4)))),
        "C": lambda m: m.push(Node("bytes", m.take(m.number(1)))),
        "\x8e": lambda m: m.push(Node("bytes", m.take(m.number(8)))),
        "\x96": lambda m: m.push(Node("bytearray", m.take(m.number(8)))),
        ")": lambda m: m.push(EMPTY_TUPLE),
        "\x85": lambda m: m.tuple_of(1),
        "\x86": lambda m: m.tuple_of(2),
        "\x87": lambda m: m.tuple_of(3),
        "t": Machine.op_tuple,
        "\x91": Machine.op_frozenset,
        "]": lambda m: m.push(Node("list")),
        "}": lambda m: m.push(Node("dict")),
        "\x8f": lambda m: m.push(Node("set")),
        "l": Machine.op_list,
        "d": Machine.op_dict,
        "a": lambda m: m.fill(len(m.stack) - 1, "list"),
        "e": lambda m: m.fill(m.unmark(), "list"),
        "s": lambda m: m.fill(len(m.stack) - 2, "dict"),
        "u": lambda m: m.fill(m.unmark(), "dict"),
        "\x90": lambda m: m.fill(m.unmark(), "set"),
        "c": lambda m: m.push(m.names("utf-8")),
        "\x93": Machine.op_stack_global,
        "\x82": lambda m: m.extension(1),
        "\x83": lambda m: m.extension(2),
        "\x84": lambda m: m.extension(4),
        "R": Machine.op_reduce,
        "\x81": Machine.op_newobj,
        "\x92": Machine.op_newobj_ex,
        "i": Machine.op_inst,
        "o": Machine.op_obj,
        "b": Machine.op_build,
        "P": Machine.op_persid,
        "Q": lambda m: m.push(Node("persid", m.pop())),
        "g": lambda m: m.get(m.index_line()),
        "h": lambda m: m.get(m.number(1)),
        "j": lambda m: m.get(m.number(4)),
        "p": lambda m: m.put(m.index_line()),
        "q": lambda m: m.put(m.number(1)),
        "r": lambda m: m.put(m.number(4)),
        "\x94": lambda m: m.put(len(m.memo)),
        "\x80": Machine.op_proto,
        "\x95": Machine.op_frame,
        "\x97": Machine.buffer,
        "\x98": Machine.buffer,
    }.items()
}


def run(data: bytes) -> Outcome:
    """Runs the pickle at the start of `data`."""
    return Machine(data).run()
