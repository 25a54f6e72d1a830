"""Honest files, spoilt by a seeded hand; and torch, in a process of its own, as the judge of those called clean.

`python -m oracle.mutants N [SEED [FOLDER]]`, in tests/, judges N of them and prints, and keeps, what is wrong.
"""

from __future__ import annotations

import collections
import io
import multiprocessing
import pickle
import pickletools
import random
import resource
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from oracle.judge import dtype_of, raw, saved
from torch import nn

import pthparse
from pthparse import _core

LEGACY = {"_use_new_zipfile_serialization": False}
MOST = 50_000  # elements whose bytes are compared
MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")  # of legacy files
STARTS = {row[0]: row[1] for row in _core.OPCODES}


# What torch says of a float8 tensor with gradients, which it has saved itself; and of dtypes that it cannot copy.
KNOWN = ("a leaf Variable that requires grad is being used in an in-place operation", "not implemented for 'UInt")


# ---- seeds ----


def dense() -> Any:
    base = torch.arange(8, dtype=torch.float32)
    return {
        "w": base.reshape(2, 4),
        "view": base[2:6].reshape(2, 2).t(),
        "half": torch.arange(3).to(torch.bfloat16),
        "n": torch.tensor(7),
        "flag": torch.tensor([True, False]),
    }


def optimizer() -> Any:
    return {
        "epoch": 3,
        "state": {0: {"step": torch.tensor(2.0), "exp_avg": torch.ones(2)}, 1: {"step": 300, "buf": None}},
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "amsgrad": False, "name": "all", "params": [0, 1]}],
        "best": -70000,
    }


def ordered() -> Any:
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.copy_(torch.arange(4.0).reshape(2, 2))
        module.bias.zero_()
    return module.state_dict()


def parameters() -> Any:
    noted = nn.Parameter(torch.ones(2))
    noted.note = "kept"
    return [
        nn.Parameter(torch.arange(3.0)),
        nn.Parameter(torch.zeros(2, dtype=torch.int32), requires_grad=False),
        noted,
        torch.tensor([1 + 2j, 3j]).conj(),
        torch._neg_view(torch.arange(3.0)),
        torch.ones(2, requires_grad=True),
    ]


def quantized() -> Any:
    x = torch.arange(6.0).reshape(2, 3)
    return {
        "tensor": torch.quantize_per_tensor(x, 0.5, 3, torch.quint8),
        "channel": torch.quantize_per_channel(
            x, torch.tensor([0.5, 0.25], dtype=torch.float64), torch.tensor([1, 2]), 0, torch.qint8
        ),
    }


def sparse() -> Any:
    return {
        "coo": torch.sparse_coo_tensor([[0, 1], [2, 0]], [1.0, 2.0], (2, 3)),
        "csr": torch.eye(2, 3).to_sparse_csr(),
        "bsc": torch.ones(2, 4).to_sparse_bsc((1, 2)),
    }


def others() -> Any:
    return {
        "u16": torch.arange(4).to(torch.uint16),
        "meta": torch.empty(2, 3, device="meta"),
        "lazy": nn.UninitializedParameter(),
        "f8": torch.ones(4).to(torch.float8_e5m2),
        "storage": torch.arange(2.0).storage(),
    }


SEEDS: dict[str, Callable[[], Any]] = {
    f.__name__: f for f in (dense, optimizer, ordered, parameters, quantized, sparse, others)
}
CONTAINERS: dict[str, Callable[[Any], bytes]] = {
    "zip": saved,
    "zip4": lambda obj: saved(obj, pickle_protocol=4),
    "legacy": lambda obj: saved(obj, **LEGACY),
    "legacy4": lambda obj: saved(obj, pickle_protocol=4, **LEGACY),
    "pickle0": lambda obj: pickle.dumps(obj, 0),
    "pickle2": lambda obj: pickle.dumps(obj, 2),
    "pickle4": lambda obj: pickle.dumps(obj, 4),
}


@dataclass
class Seed:
    """A file, and where in it the things are that can be spoilt."""

    name: str
    data: bytes
    pickle_at: tuple[int, int]
    ops: list[bytes]
    members: list[tuple[str, bytes]] = field(default_factory=list)
    heads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def zipped(self) -> bool:
        return bool(self.members)


def operations(data: bytes) -> list[bytes]:
    """A pickle, opcode by opcode; without frames, whose lengths would have to follow."""
    at = [pos for _, _, pos in pickletools.genops(data)]
    ops = [data[a:b] for a, b in zip(at, [*at[1:], len(data)], strict=True)]
    return [op for op in ops if op[0] != STARTS["FRAME"]]


def seed_of(name: str, data: bytes) -> Seed:
    with pthparse.open(data) as ckpt:
        box = ckpt._box
        root = box.pickles[0]
        begin, end = root.offset or 0, (root.offset or 0) + root.graph.end
    made = Seed(name, data, (begin, end), operations(data[begin:end]))
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            made.members = [(n, z.read(n)) for n in z.namelist()]
            made.heads = [(i.header_offset, i.header_offset + 30 + len(i.filename)) for i in z.infolist()]
            made.heads += [(z.start_dir, len(data))]
    return made


def seeds(names: Mapping[str, Callable[[], Any]] = SEEDS) -> list[Seed]:
    out = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, make in names.items():
            for container, write in CONTAINERS.items():
                torch.manual_seed(1)
                data = write(make())
                if told_by_torch(data)[0] == "loads":  # storages by themselves, of legacy files, torch does not
                    out.append(seed_of(f"{name} {container}", data))
    return out


# ---- what is spoilt ----


def zipped(members: list[tuple[str, bytes]]) -> bytes:
    """A sound archive of them, doubled names included."""
    out, directory = io.BytesIO(), io.BytesIO()
    for name, data in members:
        raw_name, at = name.encode(), out.tell()
        facts = struct.pack(
            "<HHHHHIIIHH", 20, 0x800, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(raw_name), 0
        )
        out.write(b"PK\3\4" + facts + raw_name + data)
        directory.write(b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, at) + raw_name)
    at, length = out.tell(), directory.tell()
    out.write(directory.getvalue())
    out.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(members), len(members), length, at, 0))
    return out.getvalue()


def with_pickle(seed: Seed, new: bytes) -> bytes:
    if seed.zipped:
        return zipped([(n, new if n.endswith("data.pkl") else d) for n, d in seed.members])
    begin, end = seed.pickle_at
    return seed.data[:begin] + new + seed.data[end:]


def some_byte(r: random.Random, old: int) -> int:
    return r.choice((old ^ (1 << r.randrange(8)), r.randrange(256), (old + 1) & 255, (old - 1) & 255, 0, 255))


def flip(r: random.Random, data: bytes, begin: int, end: int, times: int = 1) -> bytes:
    out = bytearray(data)
    for _ in range(times):
        at = r.randrange(begin, end)
        out[at] = some_byte(r, out[at])
    return bytes(out)


def anywhere(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    return flip(r, seed.data, 0, len(seed.data), r.choice((1, 1, 2, 5)))


def in_headers(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    begin, end = r.choice(seed.heads or [seed.pickle_at])
    return flip(r, seed.data, begin, end, r.choice((1, 1, 2)))


def in_end(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    return flip(r, seed.data, max(0, len(seed.data) - 98), len(seed.data), r.choice((1, 1, 2)))


def in_pickle(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    begin, end = seed.pickle_at
    new = seed.data[begin:end]
    return with_pickle(seed, flip(r, new, 0, len(new), r.choice((1, 1, 2))))


BARE = (
    *("MARK", "STOP", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "TUPLE", "TUPLE1"),
    *("TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "EMPTY_DICT", "DICT", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("EMPTY_SET", "ADDITEMS", "FROZENSET", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "BINPERSID", "MEMOIZE"),
)
SIMPLE = [bytes([STARTS[name]]) for name in BARE]
NUMBERS = [
    *(b"K\0", b"K\1", b"K\2", b"K\3", b"K\xff", b"M\0\1", b"J\xff\xff\xff\xff"),
    *(b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"\x8a\x09" + b"\xff" * 8 + b"\0"),
    *(b"G" + struct.pack(">d", 1.5), b"G" + struct.pack(">d", float("nan"))),
]
# Of other Pythons and torches than the judge is.
ELSEWHERE = ("pathlib._local", "torch.tensor", "_rebuild_sparse_csr_tensor")
GLOBALS = [f"c{m}\n{n}\n".encode() for m, n, _ in _core.GLOBALS if m not in ELSEWHERE and n not in ELSEWHERE] + [
    f"ctorch\n{n}\n".encode() for row in _core.DTYPES for n in (row[0], row[1]) if n and hasattr(torch, n)
]


def any_op(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    kind = r.randrange(8)
    if kind < 2:
        return r.choice(SIMPLE)
    if kind == 2:
        return r.choice(NUMBERS)
    if kind == 3:
        return r.choice(GLOBALS)
    if kind == 4:
        return r.choice((b"h", b"q")) + bytes([r.randrange(40)])
    return r.choice((seed if kind < 7 else r.choice(pool)).ops)


def in_ops(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    ops = list(seed.ops)
    for _ in range(r.choice((1, 1, 1, 2, 3))):
        at, kind = r.randrange(len(ops)), r.randrange(7)
        if kind == 0:
            ops[at] = any_op(r, seed, pool)
        elif kind == 1:
            ops.insert(at, any_op(r, seed, pool))
        elif kind == 2 and len(ops) > 1:
            del ops[at]
        elif kind == 3:
            other = r.randrange(len(ops))
            ops[at], ops[other] = ops[other], ops[at]
        elif kind == 4:  # another of the same kind
            ops[at] = r.choice([op for op in r.choice((seed, r.choice(pool))).ops if op[0] == ops[at][0]] or [ops[at]])
        elif kind == 5 and chr(ops[at][0]) in "c\x93":
            ops[at] = r.choice(GLOBALS)
        elif kind == 6 and chr(ops[at][0]) in "KMJGN\x88\x89\x8a":
            ops[at] = r.choice([*NUMBERS, b"N", b"\x88", b"\x89"])
    return with_pickle(seed, b"".join(ops))


def spliced(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    """A stretch of another pickle, or of its own, in the place of some opcodes."""
    source = r.choice((seed, r.choice(pool))).ops
    begin = r.randrange(len(source))
    piece = source[begin : begin + r.randrange(1, 30)]
    at = r.randrange(len(seed.ops))
    return with_pickle(seed, b"".join(seed.ops[:at] + piece + seed.ops[at + r.randrange(30) :]))


def in_numbers(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    """Sizes, strides, offsets, keys: other numbers and texts in their places."""
    ops = list(seed.ops)
    for _ in range(r.choice((1, 1, 2))):
        places = [i for i, op in enumerate(ops) if chr(op[0]) in "KMJGN\x88\x89\x8aIL"]
        texts = [i for i, op in enumerate(ops) if chr(op[0]) in "XV\x8c"]
        if places and r.random() < 0.7:
            ops[r.choice(places)] = r.choice([*NUMBERS, b"N", b"\x88", b"\x89", r.choice([ops[i] for i in places])])
        elif texts:
            ops[r.choice(texts)] = ops[r.choice(texts)]
    return with_pickle(seed, b"".join(ops))


def in_members(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    if not seed.zipped:
        return cut(r, seed, pool)
    members = list(seed.members)
    for _ in range(r.choice((1, 1, 2))):
        at, other, kind = r.randrange(len(members)), r.randrange(len(members)), r.randrange(7)
        name, data = members[at]
        if kind == 0:
            members[at], members[other] = (name, members[other][1]), (members[other][0], data)
        elif kind == 1:
            members.insert(other, members[at])
        elif kind == 2 and len(members) > 1:
            del members[at]
        elif kind == 3:
            members[at], members[other] = members[other], members[at]
        elif kind == 4:
            members[at] = (members[other][0], data)
        elif kind == 5:
            members[at] = (name.swapcase() if r.random() < 0.5 else name + r.choice("0x/"), data)
        elif data:
            members[at] = (name, data[: r.randrange(len(data))] if r.random() < 0.5 else data + bytes(r.randrange(9)))
    return zipped(members)


def cut(r: random.Random, seed: Seed, pool: list[Seed]) -> bytes:
    data = seed.data
    kind = r.randrange(4)
    at = r.randrange(1, len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data + bytes(r.randrange(256) for _ in range(r.randrange(1, 30)))
    if kind == 2:
        return data + r.choice(pool).data
    end = min(len(data), at + r.randrange(1, 20))
    return data[:at] + (data[end:] if r.random() < 0.5 else data[at:end] + data[at:])


KINDS = [anywhere, in_headers, in_end, in_pickle, in_pickle, in_ops, in_ops, in_ops, spliced, spliced, in_numbers,
         in_numbers, in_members, cut]  # fmt: skip


def mutants(n: int, seed: int, pool: list[Seed]) -> Iterator[tuple[str, bytes]]:
    r = random.Random(seed)
    for i in range(n):
        kind, chosen = r.choice(KINDS), r.choice(pool)
        made = kind(r, chosen, pool)
        if made != chosen.data:
            yield f"{seed}:{i} {kind.__name__} of {chosen.name}", made


# ---- the same facts of both ----


def component(key: Any, index: int) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool) or (isinstance(key, int) and -(1 << 63) <= key < 1 << 63):
        return str(key)
    return f"<key {index}>"


def tensors_of(obj: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """As pthparse walks; what holds itself is walked once on each way."""
    stack: list[tuple[str, Any, tuple[int, ...]]] = [("", obj, ())]
    while stack:
        path, value, above = stack.pop()
        if isinstance(value, torch.Tensor):
            yield path, value
        if isinstance(value, torch.Tensor) or id(value) in above or len(above) > 100:
            continue
        if isinstance(value, Mapping):
            pairs = [(component(k, i), v) for i, (k, v) in enumerate(value.items())]
        elif isinstance(value, (list, tuple, collections.deque, set, frozenset)):
            pairs = [(str(i), v) for i, v in enumerate(value)]
        else:
            continue
        stack += [(f"{path}/{k}" if above else k, v, (*above, id(value))) for k, v in reversed(pairs)]


class Fact(NamedTuple):
    """What both must say of a tensor."""

    kind: str
    dtype: str
    shape: tuple[int, ...]
    grad: bool
    parts: tuple[Any, ...]


def elements(t: Any, numel: int, whole: Callable[[], bytes]) -> Any:
    return whole() if numel <= MOST else "large"


def array_bytes(a: Any) -> bytes:
    """Of bools, what they mean: torch keeps other bytes than 0 and 1, or not."""
    return np.ascontiguousarray(a != 0 if a.dtype == bool else a).tobytes()


def fact_of_torch(t: torch.Tensor) -> Fact:
    def made(kind: str, *parts: Any) -> Fact:
        shape = () if kind in ("nested", "uninitialized") else tuple(t.shape)
        return Fact(kind, dtype_of(t), shape, t.requires_grad, parts)

    if isinstance(t, (nn.UninitializedParameter, nn.parameter.UninitializedBuffer)):
        return made("uninitialized")
    if t.is_meta:
        return made("meta", t.stride())
    if t.is_nested:
        return made("nested", raw(t._values if hasattr(t, "_values") and not callable(t._values) else t.values()))
    if t.layout == torch.sparse_coo:
        return made("sparse", raw(t._indices()), elements(t, t._values().numel(), lambda: raw(t._values())))
    if t.layout != torch.strided:
        by_row = t.layout in (torch.sparse_csr, torch.sparse_bsr)
        pointers = t.crow_indices() if by_row else t.ccol_indices()
        plain = t.col_indices() if by_row else t.row_indices()
        return made("sparse", raw(pointers), raw(plain), elements(t, t.values().numel(), lambda: raw(t.values())))
    if t.is_quantized:
        if t.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            scale, zero, axis = t.q_scale(), t.q_zero_point(), None
        else:
            scale, zero = t.q_per_channel_scales().tolist(), t.q_per_channel_zero_points().tolist()
            axis = t.q_per_channel_axis()
        return made("quantized", elements(t, t.numel(), lambda: raw(t)), scale, zero, axis)
    return made("dense", t.stride(), elements(t, t.numel(), lambda: raw(t if t.dtype != torch.bool else t != False)))  # noqa: E712


def fact_of_ours(t: pthparse.Tensor) -> Fact:
    def made(kind: str, *parts: Any) -> Fact:
        shape = () if kind in ("nested", "uninitialized") else tuple(t.shape)
        return Fact(kind, t.dtype, shape, t.requires_grad, parts)

    if t.kind == "uninitialized":
        return made("uninitialized")
    if t.kind == "meta":
        return made("meta", t.stride)
    if t.kind == "nested":
        return made("nested", array_bytes(t.values))
    if t.kind == "sparse":
        values = t.inner["values"]
        last = elements(t, values.numel, lambda: array_bytes(t.values))
        if t.layout == "sparse_coo":
            return made("sparse", array_bytes(t.indices), last)
        return made("sparse", array_bytes(t.compressed_indices), array_bytes(t.plain_indices), last)
    whole = elements(t, t.numel, lambda: array_bytes(t.numpy()))
    if t.kind == "quantized":
        scale, zero = t.scale, t.zero_point
        listed = [x.tolist() if isinstance(x, np.ndarray) else x for x in (scale, zero)]
        return made("quantized", whole, *listed, t.axis)
    if t.kind == "array":
        return made("dense", t.stride, whole)
    return made(t.kind, t.stride, whole)


def told_by_torch(data: bytes) -> tuple[str, Any]:
    """('loads', facts) or ('refuses', why). A bare pickle is loaded by pickle: torch.load knows none."""
    whole = data[:2] == b"PK" or (data[:1] == b"\x80" and MAGIC in data[:32])
    try:
        if whole:
            try:
                obj = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            except Exception:
                obj = torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
        else:
            obj = pickle.loads(data)
        return "loads", [(name, fact_of_torch(t)) for name, t in tensors_of(obj)]
    except Exception as e:
        return "refuses", f"{type(e).__name__}: {e}"[:300]


def told_by_us(data: bytes) -> tuple[str, Any]:
    try:
        with pthparse.open(data) as ckpt:
            return "loads", [(name, fact_of_ours(t)) for name, t in ckpt.items()]
    except Exception as e:
        return "refuses", f"{type(e).__name__}: {e}"[:300]


def work(connection: Any) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
    while True:
        data = connection.recv()
        if data is None:
            return
        connection.send([told_by_torch(d) for d in data])


class Judge:
    """torch in another process, which may die of what it is given."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.start()

    def start(self) -> None:
        self.ours, theirs = self.context.Pipe()
        self.process = self.context.Process(target=work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def __call__(self, files: list[bytes]) -> list[tuple[str, Any]]:
        try:
            self.ours.send(files)
            if not self.ours.poll(60):
                raise EOFError
            return list(self.ours.recv())
        except (EOFError, OSError):
            self.process.kill()
            self.process.join()
            self.start()
        if len(files) == 1:
            return [("refuses", "it died, or did not come back")]
        return [told for f in files for told in self([f])]

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *why: object) -> None:
        self.ours.send(None)
        self.process.join(10)
        self.process.kill()
        self.process.join()
        self.ours.close()


def same(ours: tuple[str, Any], theirs: tuple[str, Any], collide: bool) -> str | None:
    """What differs, or None."""
    if theirs[0] != "loads" and any(word in theirs[1] for word in KNOWN):
        return None
    if theirs[0] != "loads":
        return f"torch: {theirs[1]}"
    if ours[0] != "loads":
        return f"pthparse: {ours[1]}"
    # A key that stands twice has its first place and its last value in Python: order is not asked.
    mine, other = (sorted(told[1], key=repr) for told in (ours, theirs))
    if collide:
        mine, other = (sorted((("", fact) for _, fact in told[1]), key=repr) for told in (ours, theirs))
    if repr(mine) == repr(other):
        return None
    if all(sorted(x[i] for x in mine) == sorted(x[i] for x in other) for i in (0, 1)):
        return None  # in another order, as those of a set are
    if len(mine) != len(other):
        return f"{len(mine)} tensors, torch has {len(other)}: {[x[0] for x in mine][:9]} {[x[0] for x in other][:9]}"
    a, b = next((x, y) for x, y in zip(mine, other, strict=True) if repr(x) != repr(y))
    return f"{a!r:.220} torch: {b!r:.220}"


def judged(n: int, seed: int, pool: list[Seed], judge: Judge) -> Iterator[tuple[str, str, str | None, bytes]]:
    """(label, verdict, what is wrong, file) of every mutant."""
    waiting: list[tuple[str, bytes, bool]] = []

    def asked() -> Iterator[tuple[str, str, str | None, bytes]]:
        for (label, data, collide), theirs in zip(waiting, judge([d for _, d, _ in waiting]), strict=True):
            yield label, "clean", same(told_by_us(data), theirs, collide), data
        waiting.clear()

    for label, data in mutants(n, seed, pool):
        report = pthparse.audit(data)
        if report.verdict != "clean":
            yield label, report.verdict, None, data
            continue
        waiting.append((label, data, any(f.code == "names-collide" for f in report.findings)))
        if len(waiting) >= 50:
            yield from asked()
    yield from asked()


def main(n: int, seed: int = 1, folder: str | None = None) -> None:
    verdicts, wrong = collections.Counter[str](), 0
    with Judge() as judge:
        for label, verdict, why, data in judged(n, seed, seeds(), judge):
            verdicts[verdict] += 1
            if not why:
                continue
            wrong += 1
            print(f"{label}: {why}", flush=True)
            if folder:
                Path(folder, label.split()[0].replace(":", "_")).write_bytes(data)
    print(dict(verdicts), wrong, "wrong")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(*sys.argv[2:3] or [1]), *sys.argv[3:4])
