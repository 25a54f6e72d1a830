"""What fuzzing begins with: small files of the zoo and of tests/forge, made for each run, and the committed corpus.

The corpus holds what neither has: finds of earlier runs, and the inputs of faults that are mended.
"""

from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from forge import legacy, safetensors, tars, zips
from forge import pickles as p

HERE = Path(__file__).parent
ZOO = HERE.parent / "data" / "zoo"
TARGETS = sorted(f.stem for f in (HERE / "targets").glob("*.c"))
LONGEST = 4096
SLACK = bytes(96)  # behind a pickle whose place is as long as it is

VALUES = [
    None,
    [1, 2.5, True, (3, "s"), -1, 1 << 80, -(1 << 31), 300],
    {"a": {"b": [1, {"c": ()}]}, "\xe9": "\u20ac\U0001f600", 3: b"x"},
    [{1, 2}, frozenset((1, 2)), b"bytes" * 3, bytearray(b"y")],
    collections.OrderedDict(a=1, b=collections.defaultdict(list, {"x": [1]})),
    [[x, x] for x in ("shared", 7, ("t",))],
    complex(1, 2),
]
HEADERS = {
    "empty": {},
    "one": {"w": safetensors.entry()},
    "several": {
        "__metadata__": {"format": "pt", "\u00e9\n": '"\\\\'},
        "layer.0.weight": safetensors.entry("BF16", [2, 3], [0, 12]),
        "layer.0.bias": safetensors.entry("I64", [], [12, 20]),
        "\U0001f600": safetensors.entry("U8", [0, 7], [20, 20]),
        "packed": safetensors.entry("F4", [3, 4], [20, 26]),
        "six": safetensors.entry("F6_E3M2", [4], [26, 29]),
    },
    "unordered": {"z": safetensors.entry(offsets=[4, 8]), "a": safetensors.entry()},
    "twice": [("w", safetensors.entry()), ("w", safetensors.entry(offsets=[4, 8])), ("17", safetensors.entry())],
    "wrong": {
        "a": safetensors.entry("F32", [2], [0, 4]),
        "b": safetensors.entry("F99", [1], [4, 8]),
        "c": safetensors.entry("F32", [1], [8, 4]),
        "d": safetensors.entry("F32", [1 << 62, 4], [0, 0]),
        "e": safetensors.entry("F32", [1] * 70, [8, 12]),
    },
    "escapes": rb'{"\u0061\ud83d\ude00\/\b\f\n\r\t":{"\u0064type":"F\u00332","shape":[ 1 ],"data_offsets":[0,4]}} ',
}
VECTOR = p.vector("0", 16)
BY_VALUE = legacy.by_value(bytes(16))
PARAMETER = p.glob("torch._utils", "_rebuild_parameter")
# By opcodes that Python no longer writes, or never did.
OPCODES = {
    "strings": b"(S'a\\x41\\101\\n\\q\"'\nU\3\xff'\"T\1\0\0\0aV\\u20ac\\U0001f600\\\xe9\nt.",
    "numbers": b"(I-7\nI01\nI0x_1f\nL123456789012345678901234567890L\nF-1.5e3\nFnan\nM\xff\xff\x8b\2\0\0\0\1\2t.",
    "memo": p.pickle(b"".join(p.NONE + p.put((1 << 20) + i) for i in range(40)) + p.get((1 << 20) + 7)),
    "instances": b"((K\1ia\nB\n(cm\nC\nK\2o}b(la(d(K\1K\2d2tPid\nQ0.",
}
REBUILT = {
    "dict": p.dict_of({"a.weight": VECTOR, "a.bias": p.vector("1", 4), "n": p.integer(3)}),
    "nested": p.dict_of({"model": p.dict_of({"w": VECTOR}), "list": p.list_of([VECTOR, p.tuple_of([VECTOR])])}),
    "shared": p.once(VECTOR, 0) + p.list_of([p.get(0), p.dict_of({"x": p.get(0)})]),
    "strided": p.tensor(p.storage("0", 64), [2, 3, 4], [12, 4, 1], 3, grad=p.TRUE),
    "conj": p.tensor(p.storage("0", 8, "ComplexFloatStorage"), [2], [1], more=[p.dict_of({"conj": p.TRUE})]),
    "negative": p.tensor(p.storage("0", 4), [1, 0], [-1, 1]) + p.tensor(p.storage("0", 4), [1], [-1]) + b"\x86",
    "twice": p.pairs([(p.text("w"), VECTOR), (p.text("w"), p.vector("1", 4))]),
    "listed": p.call(
        p.glob("collections", "OrderedDict"),
        p.list_of([p.text("w") + p.tensor(p.storage("0", 4), [4], [1], more=[p.NONE]) + b"\x86"] * 2),
    ),
    "pairs": p.tensor(
        p.storage("0", 8, "ComplexFloatStorage"),
        [2],
        [1],
        more=[p.call(p.glob("collections", "OrderedDict"), p.list_of([p.text("conj") + p.TRUE + b"\x86"]))],
    ),
    "typed": p.typed("uint16", [4], [1], 64),
    "quantized": p.quantized(64, p.tuple_of([p.glob("torch", "per_tensor_affine"), p.NONE, p.integer(1)])),
    "sparse": p.sparse("sparse_coo", VECTOR, VECTOR, p.ints([2, 3]), p.TRUE),
    "csr": p.sparse("sparse_csr", VECTOR, VECTOR, VECTOR, p.ints([2, 3])),
    "nested_tensor": p.nested(VECTOR, p.tensor(p.storage("1", 4), [2, 2], [2, 1]), VECTOR, VECTOR),
    "jagged": p.jagged(values=VECTOR, offsets=VECTOR, requires_grad=p.FALSE),
    "subclass": p.subclass(p.wrapper([4]), p.dict_of({"inner": VECTOR, "_is_param": p.TRUE})),
    "parameter": p.call(PARAMETER, VECTOR, p.TRUE, p.ordered_dict()),
    "parameters": (PARAMETER + p.MARK) * 18 + VECTOR + (b"\x89)t" + p.REDUCE) * 18,
    "shapes": p.once(p.storage("0", 64), 0) + p.list_of(p.tensor(p.get(0), [1, n + 1], [n, 1]) for n in range(24)),
    "array": p.call(
        p.glob("torch._utils", "_rebuild_device_tensor_from_numpy"),
        p.numpy_array(p.numpy_dtype("f4"), bytes(16), [4]),
        *(p.glob("torch", "float32"), p.text("cpu"), p.FALSE),
    ),
    "by_value": p.tensor(p.call(p.glob("torch.storage", "_load_from_bytes"), p.raw(BY_VALUE)), [4], [1]),
    "meta": p.tensor(p.storage("9", 1 << 40, location="meta"), [1 << 20, 1 << 20], [1 << 20, 1]),
    "module": p.call(p.glob("m", "Net"))
    + p.dict_of(
        {
            "_parameters": p.dict_of({"w": VECTOR}),
            "_buffers": p.dict_of({"seen": VECTOR, "lost": VECTOR}),
            "_non_persistent_buffers_set": p.MARK + p.text("lost") + b"\x91",
            "_modules": p.dict_of({}),
        }
    )
    + p.BUILD,
    "script": p.glob("__torch__.m", "M")
    + p.EMPTY_TUPLE
    + p.NEWOBJ
    + p.dict_of({"w": VECTOR, "training": p.TRUE})
    + p.BUILD,
    "old": p.call(p.glob("torch", "FloatTensor"))
    + p.tuple_of([p.storage("0", 8), p.integer(0), p.ints([2, 4]), p.ints([4, 1])])
    + p.BUILD,
}


# Files that are no checkpoint, or one that only Python reads.
UNREAD = {
    "deflated.zip",
    "empty.zip",
    "gap.zip",
    "many.zip",
    "overlap.zip",
    "twice.zip",
    "1.0.1-torchscript.pth",
    "1.1.0-torchscript.pth",
}


def zoo() -> Iterator[tuple[str, bytes]]:
    for file in sorted(ZOO.glob("*/*.pth")):
        if file.stat().st_size <= 3 * LONGEST:
            yield f"{file.parent.name.split('-')[1]}-{file.stem}", file.read_bytes()


def zoo_pickles() -> Iterator[tuple[str, bytes]]:
    for name, data in zoo():
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as z:
                yield from ((name, z.read(n)) for n in z.namelist() if n.endswith("data.pkl"))


def tar(*tensors: bytes) -> bytes:
    storages = [tars.storage_record(101, bytes(64)), tars.storage_record(102, bytes(8), "LongStorage", itemsize=8)]
    root = p.dict_of({name: p.text(name) + p.BINPERSID for name in "1234"})
    out = tars.archive(root, storages, list(tensors), view_rows=tars.views([(103, 101, 4, 8), (104, 102, 1, 1)]))
    return out[: -(-len(out.rstrip(b"\0")) // 512) * 512]


def made() -> Iterator[tuple[str, str, bytes]]:
    """(target, name, input)."""
    pickles = {f"value{i}.{n}": pickle.dumps(v, n) for i, v in enumerate(VALUES) for n in range(6)}
    pickles |= OPCODES | {name: p.pickle(root) for name, root in REBUILT.items()} | dict(zoo_pickles())
    spans = bytes([4]) + struct.pack("<4H", 256, 64, 16, 0xF010)
    for name, data in pickles.items():
        yield "pickle", name, data
        if not name.startswith("value") and name not in OPCODES:
            yield "tensor", name, spans + data
    vector, view = REBUILT["dict"], p.tuple_of([p.text("v"), p.integer(0), p.integer(2)])
    data = {"0": bytes(64), "1": bytes(16)}
    for name, root in REBUILT.items():
        yield "file", f"{name}.pth", zips.checkpoint(p.pickle(root) + SLACK, {"0": bytes(range(256)), "1": bytes(16)})
    archives = {
        "plain": zips.checkpoint(p.pickle(vector), data),
        "zip64": zips.build(
            [*zips.members(p.pickle(vector), data), zips.Entry("archive/x", b"x", zip64=True)], eocd64=True
        ),
        "deflated": zips.build(
            [
                zips.Entry("a/data.pkl", p.pickle(vector), zips.DEFLATED),
                zips.Entry("a/data/0", bytes(64), zips.DEFLATED),
            ]
        ),
        "twice": zips.build([zips.Entry("a/data/0", b"1"), zips.Entry("A/DATA/0", b"2")]),
        "overlap": zips.build([zips.Entry("a/0", b"1" * 64), zips.Entry("a/1", b"2", lho=40)]),
        "many": zips.build([zips.Entry(f"a/{i:x}x", b"") for i in range(44)]),
        "comment": zips.checkpoint(p.pickle(p.NONE), {}, comment=b"c" * 9, suffix=b"more"),
        "gap": zips.build([zips.Entry("a/data.pkl", p.pickle(p.NONE), gap=bytes(7), local_extra=b"\0\0\4\0pad!")]),
        "empty": zips.build([]),
    }
    streams = {
        "plain": legacy.stream(vector, data),
        "protocol0": b"L119547037146038801333356L\n.I1001\n.(d." + p.pickle(p.NONE) + p.pickle(p.EMPTY_LIST),
        "view": legacy.stream(legacy.storage("0", 4, view), {"0": bytes(16)}),
        "one": legacy.by_value(bytes(16)),
        "none": legacy.stream(p.NONE, {}),
    }
    for name, archive in archives.items():
        yield "zip", f"{name}.zip", archive
        yield "file", f"{name}.zip", archive
    for name, stream in streams.items():
        yield "legacy", name, stream
        yield "file", f"{name}.legacy", stream
    archives_of_old = {
        "plain.tar": tar(tars.tensor_record(1, 101, [2, 3], [3, 1], 2), tars.tensor_record(2, 103, [8], [1])),
        "empty.tar": tar(tars.tensor_record(1, None, [], []), tars.tensor_record(2, None, [0, 5], [5, 1])),
        "wrong.tar": tar(tars.tensor_record(1, 104, [1], [1]), tars.tensor_record(2, 999, [2], [1])),
    }
    for name, archive in archives_of_old.items():
        yield "tar", name, archive
        yield "file", name, archive
    for name, header in HEADERS.items():
        yield "safetensors", name, safetensors.build(header)
    for name, whole in zoo():
        yield "file", f"{name}.pth", whole
        yield ("zip" if whole.startswith(b"PK") else "legacy"), name, whole


def write(folder: Path) -> dict[str, list[Path]]:
    """Target -> its inputs, written to `folder`."""
    out: dict[str, list[Path]] = {}
    for target, name, data in made():
        if len(data) <= 3 * LONGEST:
            path = folder / target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            out.setdefault(target, []).append(path)
    return out
