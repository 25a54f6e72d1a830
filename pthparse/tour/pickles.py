"""Part 2: what tells the names: the first opcodes of the pickle beside their bytes, or the header of safetensors."""

from __future__ import annotations

from .opcodes import Instruction, instructions
from .opening import Subject, dims, hex_of, section, table
from .words import Own, Section, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..checkpoint import Checkpoint

MOST_OPCODES, FEW_OPCODES = 64, 16  # that are shown: at most, and before those of a tensor far behind
MOST_READ = 4000  # in search of it
MOST_BYTES = 1 << 20  # of a pickle that are looked at for them
MOST_INSIDE = 4  # archives in it that are named
FIRST_HEX = 6  # bytes of an opcode that are shown
LARGE = 10**18  # of a number that is shown in decimal
HEADER_TEXT = 240  # characters of a header
CLOSING = ("TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS", "ADDITEMS", "FROZENSET", "OBJ", "INST", "POP_MARK")
REBUILDS = ("_rebuild_tensor", "_rebuild_parameter", "_rebuild_qtensor", "_rebuild_sparse_tensor")


def structure(subject: Subject) -> Section:
    say, first = subject.say, subject.first
    if first is None:
        return section(say, 2, "structure", [say("structure.none")], {}, applies=False)
    if first.format == "safetensors":
        return _header(subject)
    pickles = first._box.pickles
    if not pickles:
        names = first._box.zip.names() if first._box.zip is not None else []
        inside = [n for n in names if n.endswith(".pt") and ("state_dict" in n or "data/weights/" in n)]
        told = say("structure.nested", member=inside[0]) if inside else say("structure.no-pickle")
        return section(say, 2, "structure", [told], {"inside": inside[:MOST_INSIDE]}, applies=False)
    pickle = pickles[0]
    graph = pickle.graph
    length = min(graph.end, MOST_BYTES)
    if pickle.offset is None:  # inflated
        data = memoryview(graph.source)[:length]
    else:
        data = memoryview(first._box.source.window(pickle.offset, length))
    found = list(instructions(data, MOST_READ))
    span = _first_tensor(found)
    head, tail = found[:MOST_OPCODES], []
    if span is not None and span[1] <= MOST_OPCODES:
        head = found[: span[1]]
    elif span is not None:
        head, tail = found[:FEW_OPCODES], found[max(span[0], FEW_OPCODES) : span[1]][:MOST_OPCODES]
    listed = [*head, *tail]
    names = len({row[:2] for row in graph.globals()})
    facts = {
        "member": pickle.member,
        "offset": pickle.offset,
        "nbytes": graph.end,
        "protocol": graph.proto,
        "opcodes": graph.n_ops,
        "globals": names,
        "listed": [
            {"offset": i.offset, "nbytes": i.nbytes, "bytes": i.raw.hex(" "), "opcode": i.name, "argument": _plain(i)}
            for i in listed
        ],
    }
    values = {"nbytes": graph.end, "n": graph.n_ops, "names": names, "protocol": graph.proto}
    known = f"structure.which.{first.format}"
    member = say(known) if say.has(known) else pickle.member or say("structure.file")
    more = graph.n_ops - (span[1] if tail and span else len(head))
    rows = [_row(say, i) for i in head]
    if tail:
        rows += [("...", "", "", say("more", n=found.index(tail[0]) - len(head))), *(_row(say, i) for i in tail)]
    where = say("structure.at", offset=pickle.offset) if pickle.offset is not None else say("structure.inflated")
    blocks = [
        say("structure.pickle", member=member, where=where, **values),
        say(f"structure.shown{'.apart' if tail else '.tensor' if span else ''}", shown=len(head)),
        table(say, ("head.byte", "head.raw", "head.opcode", "head.does"), "rlll", rows),
        _together(subject, first) if span else None,
        say("structure.more" if more > 1 else "structure.more.one", n=more) if more > 0 else None,
        say("structure.danger" if names else "structure.harmless", **values),
        say("structure.numbers") if first.format != "pickle" and len(first) else None,
    ]
    return section(say, 2, "structure", blocks, facts)


def _first_tensor(found: list[Instruction]) -> tuple[int, int] | None:
    """The opcodes of the first tensor, from its name to its call: no deeper in marks than what is called."""
    depth, level, begin = 0, None, 0
    for n, i in enumerate(found):
        depth += (i.name == "MARK") - (i.name in CLOSING)
        if level is None and isinstance(i.argument, str) and i.argument.rpartition(" ")[2].startswith(REBUILDS):
            level, begin = depth, max(0, n - (2 if i.name == "GLOBAL" else 4))  # a name before it, each with its memo
        if i.name == "REDUCE" and depth == level:
            return begin, n + 1
    return None


def _row(say: Words, i: Instruction) -> tuple[Any, ...]:
    return i.offset, Own(hex_of(i.raw, FIRST_HEX)), Own(i.name), _meaning(say, i)


def _together(subject: Subject, first: Checkpoint) -> Own | None:
    """The first tensor, as the opcodes told it."""
    t = next(iter(first.values()), None)
    if t is None or t.kind != "dense" or t._storage is None or t.error is not None:
        return None
    key = str(t.table.storage(t._storage)[1])
    told = {"name": subject.name(t), "dtype": t.dtype, "shape": dims(t.shape), "stride": dims(t._strides)}
    return subject.say("structure.together", key=key, skip=t.storage_offset, **told)


def _plain(i: Instruction) -> Any:
    return i.argument.hex() if isinstance(i.argument, bytes) else i.argument


def _meaning(say: Words, i: Instruction) -> str:
    argument = i.argument
    if isinstance(argument, int) and abs(argument) >= LARGE:  # shortened, as texts are
        argument = hex(argument)
    if isinstance(argument, bytes):
        argument = Own(hex_of(argument))
    if i.name == "GLOBAL":
        key = f"global.{argument.rpartition(' ')[2]}"
        argument = argument.replace(" ", ".", 1)
        if say.has(key):
            return Own(say.opcode(i.name, argument) + say("global", what=say(key)))
    return say.opcode(i.name, argument)


def _header(subject: Subject) -> Section:
    """safetensors: its header is JSON."""
    from ..formats.safetensors import LENGTH

    say, first = subject.say, subject.first
    assert first is not None
    box: Any = first._box
    text = bytes(box.source.window(LENGTH, 4 * HEADER_TEXT)).decode("utf-8", "replace")
    text = text[: max(0, min(HEADER_TEXT, box.header.json_end - LENGTH))]
    facts = {
        "member": "header",
        "offset": LENGTH,
        "nbytes": box.header.json_end - LENGTH,
        "tensors": len(first),
        "text": text,
        "length_bytes": bytes(box.source.window(0, LENGTH)).hex(" "),
    }
    blocks = [
        say(
            "structure.header",
            raw=Own(facts["length_bytes"]),
            n=box.data_start - LENGTH,
            json=facts["nbytes"],
            tensors=len(first),
        ),
        Own(say.escaped(text).replace("},", "},\n") + (" ..." if facts["nbytes"] > len(text) else "")),
        say("structure.header.note", start=box.data_start),
    ]
    return section(say, 2, "structure", blocks, facts, title="structure.title.header")
