"""Honest files, as many kinds as there are: what torch.save and its kin write of whatever people give them.

CLEAN and REVIEW have what is saved, by the worst verdict that it may have; CONTAINERS, SAVERS and PACKERS how; scripts,
packages, exported and distributed make files of other writers; `anything(random)` is a tree of what is clean.
"""

from __future__ import annotations

import argparse
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import http
import io
import ipaddress
import itertools
import logging
import operator
import os
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import types
import typing
import uuid
import warnings
import zipfile
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from oracle.judge import Pair, saved
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import prune

Maker = Callable[[], Any]
LEGACY = {"_use_new_zipfile_serialization": False}

BYTES = torch.arange(96, dtype=torch.uint8).mul(37).add(11)
DTYPES = [
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32"),
    *("uint64", "complex32", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"),
    *("float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "bits8", "bits16"),
]


# ---- classes of a user, which a checkpoint may name ----


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Mode(enum.IntFlag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: Any


@dataclasses.dataclass
class Config:
    lr: float = 1e-3
    name: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    lr: float = 1e-3


class Tagged(torch.Tensor):
    """A subclass that only has a name, and perhaps attributes."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pathlib = nn.Linear(3, 3)
        self.open = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.pathlib(x) + self.open


class Named(nn.Module):
    """Names of functions and modules of Python, as people name layers, operating systems and openings."""

    def __init__(self) -> None:
        super().__init__()
        self.os = Inner()
        self.sys = nn.ReLU()
        self.layers = nn.Sequential(nn.Linear(3, 3), Inner())

    def forward(self, open, vars=None, *compile):  # see Traceable
        return self.layers(self.sys(self.os(open))) * 2


class Traceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):  # torch reads annotations, and those of this file are texts
        return self.drop(torch.relu(self.one(x))) + x.sum(dim=-1, keepdim=True)


def schedule(epoch: int) -> float:
    return 0.9**epoch


# ---- tensors ----


def quantized() -> dict[str, torch.Tensor]:
    x = torch.randn(4, 6)
    scales, zeros = torch.rand(4, dtype=torch.float64) + 0.1, torch.arange(4)
    return {
        **{str(d): torch.quantize_per_tensor(x, 0.05, 3, d) for d in (torch.qint8, torch.quint8, torch.qint32)},
        "view": torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)[1:].t(),
        "channel": torch.quantize_per_channel(x, scales, zeros, 0, torch.qint8),
        "float channel": torch.quantize_per_channel(x, scales.float(), torch.zeros(4), 0, torch.quint8),
        "packed": torch.quantize_per_channel(x, scales.float(), torch.zeros(4), 0, torch.quint4x2),
    }


def sparse() -> dict[str, torch.Tensor]:
    dense = torch.eye(6, 8)
    return {
        "coo": dense.to_sparse(),
        "coo not coalesced": torch.sparse_coo_tensor([[0, 0, 2], [1, 1, 3]], [1.0, 2.0, 3.0], (3, 4)),
        "coo empty": torch.sparse_coo_tensor(torch.empty(2, 0, dtype=torch.int64), torch.empty(0), (3, 4)),
        "coo hybrid": torch.randn(3, 4, 2).to_sparse(2),
        "coo grad": dense.to_sparse().requires_grad_(),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((2, 4)),
        "bsc": dense.to_sparse_bsc((3, 2)),
        "csr batch": torch.stack([torch.eye(3)] * 2).to_sparse_csr(),
        "csr int32": torch.sparse_csr_tensor(
            torch.tensor([0, 1, 2], dtype=torch.int32), torch.tensor([0, 1], dtype=torch.int32), torch.ones(2), (2, 2)
        ),
    }


def nested() -> dict[str, torch.Tensor]:
    parts = [torch.randn(2, 3), torch.randn(4, 3)]
    jagged = torch.nested.nested_tensor(parts, layout=torch.jagged)
    return {
        "strided": torch.nested.nested_tensor(parts),
        "jagged": jagged,
        "lengths": torch.nested.nested_tensor_from_jagged(
            torch.randn(6, 3), torch.tensor([0, 2, 6]), torch.tensor([1, 3])
        ),
        "grad": torch.nested.nested_tensor(parts, layout=torch.jagged, requires_grad=True),
    }


def parameters() -> dict[str, Any]:
    noted = nn.Parameter(torch.ones(2))
    noted.note = "kept"
    with_grad = torch.ones(3, requires_grad=True)
    (with_grad * 2).sum().backward()
    hooked = torch.ones(2)
    hooked.tag = 7
    return {
        "grad": nn.Parameter(torch.ones(2)),
        "frozen": nn.Parameter(torch.ones(2), requires_grad=False),
        "buffer": nn.Buffer(torch.ones(2)),
        "list": nn.ParameterList([torch.zeros(2)]).state_dict(),
        "noted": noted,
        "graded": with_grad,
        "hooked": hooked,
        "half": nn.Parameter(torch.ones(2, dtype=torch.float16)),
        "index": nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False),
    }


def views() -> dict[str, torch.Tensor]:
    base = torch.arange(120, dtype=torch.float32)
    return {
        "whole": base,
        "tied": base,
        "offset": base[17:40],
        "transposed": base.reshape(10, 12).t(),
        "stepped": base.reshape(10, 12)[::3, 1::2],
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 7),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.empty(0),
        "empty rows": torch.empty(3, 0, 5),
        "empty view": base[5:5],
        "window": base.as_strided((5, 4), (3, 1), 2),
        "channels last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "grad": torch.randn(3, requires_grad=True),
        "many dims": torch.randn([1] * 20 + [3]),
        "as bytes": torch.ones(4).view(torch.uint8),
        "conj": torch.randn(6, dtype=torch.complex64).conj(),
        "neg": torch._neg_view(torch.randn(5)),
        "imag": torch.randn(6, dtype=torch.complex64).conj().imag,
        "meta": torch.empty(3, 4, device="meta"),
        "meta grad": torch.empty(3, device="meta", requires_grad=True),
    }


def two_dtypes_of_one_storage() -> dict[str, torch.Tensor]:
    base = torch.arange(8, dtype=torch.int64)
    return {"as int": base, "as int again": base[2:]}


# ---- optimizers and schedulers ----


def optimizers() -> dict[str, Callable[[Any], torch.optim.Optimizer]]:
    classes = {
        name: cls
        for name, cls in vars(torch.optim).items()
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
    }
    extra: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
        "SGD momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        "Adam amsgrad": lambda p: torch.optim.Adam(p, amsgrad=True),
        "Adam capturable": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.1), foreach=False),
        "RMSprop centred": lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True),
    }
    return {**classes, **extra}


def stepped(make: Callable[[Any], torch.optim.Optimizer], name: str) -> Any:
    if name == "SparseAdam":
        table = nn.Embedding(5, 3, sparse=True)
        optimizer = make(table.parameters())
        table(torch.tensor([1, 2])).sum().backward()
        optimizer.step()
        return optimizer.state_dict()
    model = nn.Linear(3, 2, bias=False) if name == "Muon" else nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    groups: Any = model.parameters()
    if name not in ("LBFGS", "Muon"):
        groups = [
            {"params": list(p), "lr": 0.01 * (i + 1)}
            for i, p in enumerate([model[0].parameters(), model[1].parameters()])
        ]
    optimizer = make(groups)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def schedulers() -> dict[str, Maker]:
    s = torch.optim.lr_scheduler

    def made(make: Callable[[Any], Any]) -> Any:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], 0.1, momentum=0.9)
        scheduler = make(optimizer)
        optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, s.ReduceLROnPlateau) else []))
        return {"scheduler": scheduler.state_dict(), "optimizer": optimizer.state_dict()}

    makers: dict[str, Callable[[Any], Any]] = {
        "StepLR": lambda o: s.StepLR(o, 3),
        "MultiStepLR": lambda o: s.MultiStepLR(o, [3, 5]),
        "ExponentialLR": lambda o: s.ExponentialLR(o, 0.9),
        "CosineAnnealingLR": lambda o: s.CosineAnnealingLR(o, 10),
        "CosineAnnealingWarmRestarts": lambda o: s.CosineAnnealingWarmRestarts(o, 10),
        "ReduceLROnPlateau": s.ReduceLROnPlateau,
        "CyclicLR": lambda o: s.CyclicLR(o, 0.01, 0.1),
        "OneCycleLR": lambda o: s.OneCycleLR(o, 0.1, 10),
        "LambdaLR": lambda o: s.LambdaLR(o, [lambda e: 0.9**e]),
        "MultiplicativeLR": lambda o: s.MultiplicativeLR(o, lambda e: 0.9),
        "ConstantLR": s.ConstantLR,
        "LinearLR": s.LinearLR,
        "PolynomialLR": s.PolynomialLR,
        "SequentialLR": lambda o: s.SequentialLR(o, [s.ConstantLR(o), s.ExponentialLR(o, 0.9)], [2]),
        "ChainedScheduler": lambda o: s.ChainedScheduler([s.ConstantLR(o), s.ExponentialLR(o, 0.9)], o),
    }
    return {name: functools.partial(made, make) for name, make in makers.items()}


def training() -> dict[str, Any]:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "lr": 1e-3,
        "best": float("inf"),
        "loss": float("nan"),
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "history": [{"loss": 0.5, "accuracy": None}, {"loss": np.float64(0.25), "accuracy": 0.5}],
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
        "torch_version": torch.__version__,
        "ema": torch.optim.swa_utils.AveragedModel(model).state_dict(),
        "big": 1 << 100,
        "rng": {"torch": torch.get_rng_state(), "generator": torch.Generator().get_state(), "cuda": []},
    }


def lightning() -> dict[str, Any]:
    """What pytorch-lightning puts into its checkpoints."""
    return {
        **training(),
        "pytorch-lightning_version": "2.1.0",
        "global_step": 100,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "dirpath": "/a"}},
        "hyper_parameters": {"lr": 1e-3, "layers": [1, 2], "path": pathlib.Path("/data")},
        "hparams_name": "kwargs",
    }


# ---- plain values ----


def numpy_values() -> dict[str, Any]:
    rows = np.zeros(2, [("id", "<i4"), ("xy", "<f8", (2,))])
    return {
        **{f"scalar {t.__name__}": t(3) for t in (np.float64, np.float32, np.float16, np.int64, np.int8, np.uint16)},
        "scalar bool": np.bool_(True),
        "scalar complex": np.complex64(1 + 2j),
        "scalar text": np.str_("é"),
        "scalar bytes": np.bytes_(b"x"),
        "scalar date": np.datetime64("2024-02-03T04:05", "s"),
        "scalar span": np.timedelta64(3, "D"),
        "array": np.arange(6).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "view": np.arange(12).reshape(3, 4)[::2, ::2],
        "big endian": np.arange(4, dtype=">i4"),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "zero dims": np.array(3.0),
        "text": np.array(["a", "bcd"]),
        "bytes": np.array([b"a", b"bcd"]),
        "dates": np.array(["2024-01-01"], "M8[D]"),
        "objects": np.array([1, "two", None, [3]], dtype=object),
        "structured": rows,
        "one row": rows[0],
        "complex": np.array([1 + 2j]),
    }


def numpy_types() -> dict[str, Any]:
    return {
        "dtypes": [np.dtype(t) for t in ("f4", ">i8", "?", "U5", "S3", "M8[ns]", "O", "c16")],
        "structured": np.dtype([("a", "i4"), ("b", "f8", (2, 3)), ("c", [("d", "u1")])]),
    }


def plain_values() -> dict[str, Any]:
    east = datetime.timezone(datetime.timedelta(hours=5, minutes=30), "IST")
    tree: Any = {"self": None}
    shared = ["shared"]
    return {
        "numbers": [0, 1, -1, 255, 256, 65535, 65536, 2**31, -(2**31), 2**63, -(2**63), 1 << 2000, -(1 << 70)],
        "floats": [0.0, -0.0, 1e300, 5e-324, float("inf"), float("-inf"), float("nan")],
        "complex": [1j, complex(1, -2), complex("nan")],
        "singles": [None, True, False, Ellipsis, NotImplemented],
        "text": ["", "a", "é" * 300, "\ud800", "a\nb", "x" * 70000, "\U0001f600", "\\u0041"],
        "bytes": [b"", b"a", bytes(range(256)), b"x" * 300, b"y" * 70000],
        "bytearrays": [bytearray(), bytearray(b"abc"), bytearray(b"x" * 300)],
        "containers": [
            (),
            (1,),
            (1, 2),
            (1, 2, 3),
            tuple(range(10)),
            [],
            [[]],
            {},
            set(),
            {1, 2},
            frozenset(),
            frozenset([1]),
        ],
        "long list": list(range(3000)),
        "long dict": {i: str(i) for i in range(3000)},
        "long set": set(range(3000)),
        "keys": {1: 2, None: 3, (1, "a"): 4, 2.5: 5, b"k": 6, False: 7, frozenset([1]): 8},
        "shared": [shared, shared, {"again": shared}],
        "ordered": OrderedDict([("z", 1), ("a", OrderedDict())]),
        "default": [
            defaultdict(list, a=[1]),
            defaultdict(int),
            defaultdict(dict, {"x": {}}),
            defaultdict(None),
            defaultdict(set),
            defaultdict(float),
            defaultdict(str),
            defaultdict(tuple),
            defaultdict(OrderedDict),
            defaultdict(Counter),
            defaultdict(bool),
            defaultdict(deque),
        ],
        "counters": [Counter("abca"), Counter(), Counter({"x": 2.5})],
        "deques": [deque([1, 2]), deque([1, 2], 5), deque(), deque(maxlen=3)],
        "dates": [
            datetime.date(2024, 2, 29),
            datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
            datetime.datetime(2024, 2, 29, 1, 2, 3, 4, east),
            datetime.datetime(2024, 10, 27, 2, 30, fold=1),
            datetime.time(1, 2, 3),
            datetime.time(1, 2, tzinfo=east),
            datetime.timedelta(-1, 2, 3),
            datetime.UTC,
            east,
            datetime.timezone(datetime.timedelta(hours=-3)),
        ],
        "paths": [
            pathlib.Path("/a/b"),
            pathlib.Path(),
            pathlib.PurePosixPath("a"),
            pathlib.PureWindowsPath("C:\\a", "b"),
        ],
        "decimals": [
            decimal.Decimal("1.50"),
            decimal.Decimal("-Infinity"),
            decimal.Decimal("NaN"),
            decimal.Decimal("1E+30"),
        ],
        "fractions": [fractions.Fraction(1, 3), fractions.Fraction(-5), fractions.Fraction(1 << 80, 3)],
        "ranges": [range(3), range(10, 0, -2), range(1 << 70)],
        "slices": [slice(3), slice(None, None, 2), slice(1, 2, None), [slice("a", "b")]],
        "namespaces": [argparse.Namespace(lr=0.1, layers=[1]), types.SimpleNamespace(a=1, b="x"), argparse.Namespace()],
        "uuids": [uuid.UUID(int=5), uuid.uuid4(), uuid.uuid1()],
        "types": [int, str, float, list, dict, tuple, set, bytes, bool, object, complex, frozenset, bytearray],
        "tree": tree,
    }


def recursive() -> Any:
    loop: list[Any] = [1]
    loop.append(loop)
    ring: dict[str, Any] = {}
    ring["me"] = [ring]
    return [loop, ring]


def torch_values() -> dict[str, Any]:
    return {
        "sizes": [torch.Size([2, 3]), torch.Size([]), torch.ones(2, 3).shape],
        "devices": [torch.device("cpu"), torch.device("cuda", 1), torch.device("cuda:0"), torch.device("meta")],
        "dtypes": [getattr(torch, d) for d in DTYPES] + [torch.bool, torch.qint8, torch.quint4x2],
        "layouts": [torch.strided, torch.sparse_coo, torch.sparse_csr, torch.jagged],
        "formats": [torch.contiguous_format, torch.channels_last, torch.preserve_format, torch.channels_last_3d],
        "schemes": [torch.per_tensor_affine, torch.per_channel_affine, torch.per_tensor_symmetric],
        "version": torch.__version__,
        "classes": [torch.Tensor, nn.Parameter, torch.Size, torch.FloatStorage, torch.FloatTensor, nn.Buffer],
    }


def storages() -> dict[str, Any]:
    shared = torch.arange(4.0)
    return {
        "untyped": torch.arange(3.0).untyped_storage(),
        "typed": [shared.storage(), shared],
        "int": torch.arange(4).storage(),
        "empty": torch.empty(0).untyped_storage(),
    }


def states_of_random() -> dict[str, Any]:
    random.seed(3)
    return {
        "python": random.getstate(),
        "numpy legacy": np.random.RandomState(3).get_state(),
        "numpy legacy dict": np.random.RandomState(3).get_state(legacy=False),
        "numpy generator state": np.random.default_rng(3).bit_generator.state,
        "numpy mt state": np.random.Generator(np.random.MT19937(3)).bit_generator.state,
        "torch": torch.get_rng_state(),
        "torch generator": torch.Generator().manual_seed(3).get_state(),
    }


# ---- what is more than tensors and plain values ----


def on_disk() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        array = np.memmap(pathlib.Path(folder, "array"), np.float32, "w+", shape=(2, 3))
        array[:] = 1
        return [array, array[:, 1], np.memmap(pathlib.Path(folder, "objects"), "i4", "w+", shape=(1,))]


def strangers() -> dict[str, Maker]:
    def fx() -> Any:
        return torch.fx.symbolic_trace(Traceable())

    def config_module() -> Any:
        net = Net()
        net.config = Config()
        net.mode = Colour.RED
        net.logger = logging.getLogger("a.b")
        net.hook = functools.partial(schedule, 3)
        return net

    return {
        "enum": lambda: [Colour.RED, Colour.BLUE, {"k": Colour.RED}],
        "flags": lambda: [Mode.READ, Mode.READ | Mode.WRITE],
        "http status": lambda: http.HTTPStatus.OK,
        "named tuple": lambda: [Point(1, torch.ones(2)), Point(3, 4)],
        "dataclass": lambda: [Config(), Config(0.1, "b", (1, 2))],
        "slotted dataclass": Slotted,
        "logger": lambda: {"log": logging.getLogger("x.y"), "root": logging.getLogger()},
        "partial": lambda: [
            functools.partial(schedule, 3),
            functools.partial(int, base=2),
            functools.partial(torch.add, alpha=2),
        ],
        "function": lambda: [
            schedule,
            torch.relu,
            nn.functional.relu,
            torch.nn.init.xavier_uniform_,
            len,
            np.mean,
            torch.sigmoid,
            torch.tanh,
        ],
        "methods": lambda: ["".join, {}.get, [].append, torch.Tensor.add],
        "class method": lambda: [dict.fromkeys, OrderedDict.fromkeys, datetime.datetime.now],
        "attrgetter": lambda: operator.itemgetter(1),
        "exceptions": lambda: [ValueError("x"), KeyError("k"), RuntimeError()],
        "pattern": lambda: re.compile("a+"),
        "random": lambda: [random.Random(3)],
        "numpy random state": lambda: np.random.RandomState(3),
        "numpy generator": lambda: np.random.default_rng(3),
        "torch generator": lambda: torch.Generator().manual_seed(3),
        "numpy types": lambda: [np.float32, np.int64, np.ndarray, np.dtype],
        "numpy matrix": lambda: [np.matrix([[1, 2]]), np.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)])],
        "masked": lambda: np.ma.array([1, 2], mask=[0, 1]),
        "itertools": lambda: [iter([1, 2]), itertools.count(3), enumerate([1])],
        "chain map": lambda: collections.ChainMap({"a": 1}),
        "user dict": lambda: collections.UserDict(a=1),
        "zone": lambda: [zoneinfo.ZoneInfo("UTC"), datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC"))],
        "range iterator": lambda: iter(range(3)),
        "string io": lambda: [io.StringIO("x"), io.BytesIO(b"x")],
        "context": lambda: decimal.Context(),
        "ip": lambda: ipaddress.ip_address("127.0.0.1"),
        "mock module": lambda: config_module(),
        "module": Net,
        "module script mix": lambda: {"model": Net(), "optimizer": torch.optim.SGD(Net().parameters(), 0.1)},
        "optimizer": lambda: torch.optim.Adam(Net().parameters()),
        "scheduler": lambda: torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD(Net().parameters(), 0.1), schedule),
        "scheduler state": lambda: torch.optim.lr_scheduler.LambdaLR(
            torch.optim.SGD(Net().parameters(), 0.1), functools.partial(schedule)
        ).state_dict(),
        "dataset": lambda: torch.utils.data.TensorDataset(torch.ones(3)),
        "subset": lambda: torch.utils.data.Subset(torch.utils.data.TensorDataset(torch.ones(3)), [1]),
        "sampler": lambda: torch.utils.data.RandomSampler([1, 2]),
        "loader": lambda: torch.utils.data.DataLoader([1, 2]),
        "distribution": lambda: torch.distributions.Normal(torch.zeros(2), torch.ones(2)),
        "graph module": fx,
        "graph module in a dict": lambda: {"model": fx()},
        "fx graph": lambda: fx().graph,
        "graph module of functions": lambda: make_fx(torch.func.grad(lambda x: x.sin().cos().sum()))(torch.ones(3)),
        "graph module of dynamo": lambda: torch._dynamo.export(Net())(torch.ones(2, 3, 8, 8)).graph_module,
        "graph module of an export": lambda: torch.export.export(Net(), (torch.ones(2, 3, 8, 8),)).graph_module,
        "graph module with names of the interpreter's": lambda: torch.fx.symbolic_trace(Named()),
        "subclass": lambda: torch.ones(2).as_subclass(Tagged),
        "wrapper": lambda: Pair(torch.ones(2), torch.zeros(2)),
        "lazy": lambda: [nn.LazyLinear(3)],
        "data parallel": lambda: nn.DataParallel(Net()),
        "averaged": lambda: torch.optim.swa_utils.AveragedModel(Net()),
        "packed sequence": lambda: nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)]),
        "spectral": lambda: nn.utils.spectral_norm(nn.Linear(2, 2)),
        "old weight norm": lambda: nn.utils.weight_norm(nn.Linear(2, 2)),
        "pruned": lambda: prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
        "quantized module": lambda: torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 3)), {nn.Linear}),
        "quantized state": lambda: torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(3, 3)), {nn.Linear}
        ).state_dict(),
        "qconfig": lambda: torch.ao.quantization.get_default_qconfig("x86"),
        "transforms": lambda: nn.Sequential(nn.Flatten(), nn.ReLU()),
        "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16),
        "parameter list": lambda: nn.ParameterList([torch.ones(2)]),
        "module list": lambda: nn.ModuleList([nn.ReLU(), nn.Sequential(nn.Linear(1, 1))]),
        "loss": lambda: nn.CrossEntropyLoss(),
        "lambda module names": lambda: [nn.Linear, nn.ReLU, Net],
        "event": lambda: types.SimpleNamespace(net=Net()),
        "unions": lambda: [int | str, int | None, list[int] | torch.Tensor, Config | None | str],
        "memory map": on_disk,
        "maps": lambda: [map(int, ["1"]), map(schedule, range(3)), map(divmod, [3], [2])],
        "functions of paths": lambda: [os.path.join, functools.partial(os.path.join, "a"), os.path.basename],
        "generic alias": lambda: [list[int], dict[str, int]],
        "typing": lambda: [
            Any,
            typing.Union[int, str],  # noqa: UP007
        ],
    }


def each(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Maker]:
    """A file for each of several."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's prototypes
        return {f"{name} {key}": functools.partial(lambda key: {"v": make()[key]}, key) for key in make()}


REVIEW: dict[str, Maker] = strangers()
CLEAN: dict[str, Maker] = {
    **{f"dtype {d}": functools.partial(lambda d: {"w": BYTES.clone().view(getattr(torch, d))}, d) for d in DTYPES},
    "dtype bool": lambda: {"w": BYTES % 2 == 0},
    "views": views,
    **each("quantized", quantized),
    **each("sparse", sparse),
    **each("nested", nested),
    "parameters": parameters,
    "uninitialized": lambda: nn.LazyLinear(3).state_dict(),
    "lazy parameters": lambda: [nn.UninitializedParameter(), nn.parameter.UninitializedBuffer()],
    "tied": two_dtypes_of_one_storage,
    "tensor": lambda: torch.arange(6.0),
    "parameter": lambda: nn.Parameter(torch.ones(2)),
    "list of tensors": lambda: [torch.ones(2), (torch.zeros(1), {"x": torch.ones(3)})],
    "empty dict": dict,
    "empty list": list,
    "number": lambda: 3,
    "text": lambda: "text",
    "state dict": lambda: Net().state_dict(),
    "copied state dict": lambda: copy.deepcopy(Net().state_dict()),
    "prefixed": lambda: Net().state_dict(prefix="module."),
    "kept vars": lambda: Net().state_dict(keep_vars=True),
    "half": lambda: {k: v.half() if v.is_floating_point() else v for k, v in Net().state_dict().items()},
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16).state_dict(),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)).state_dict(),
    **{f"optimizer {n}": functools.partial(stepped, make, n) for n, make in optimizers().items()},
    **{f"scheduler {n}": make for n, make in schedulers().items()},
    "training": training,
    "lightning": lightning,
    **each("numpy", numpy_values),
    **each("numpy types", numpy_types),
    **each("plain", plain_values),
    "recursive": recursive,
    **each("torch", torch_values),
    "storages": storages,
    "storage": lambda: torch.arange(3.0).untyped_storage(),
    "states of random": states_of_random,
}


# ---- containers ----

CONTAINERS: dict[str, dict[str, Any]] = {
    "zip": {},
    **{f"zip protocol {n}": {"pickle_protocol": n} for n in (3, 4, 5)},
    "legacy": LEGACY,
    **{f"legacy protocol {n}": {**LEGACY, "pickle_protocol": n} for n in (3, 4, 5)},
}


def with_config(obj: Any, **options: Any) -> bytes:
    from torch.utils.serialization import config

    with config.patch({f"save.{k}": v for k, v in options.items()}):
        return saved(obj)


def without_checksums(obj: Any) -> bytes:
    torch.serialization.set_crc32_options(False)
    try:
        return saved(obj)
    finally:
        torch.serialization.set_crc32_options(True)


def without_data(obj: Any) -> bytes:
    with torch.serialization.skip_data():
        return saved(obj)


def rezipped(data: bytes, method: int, folders: bool = False, streamed: bool = False) -> bytes:
    """The same members by Python's zipfile: `streamed` to what cannot be sought, as with data descriptors."""
    out = io.BytesIO()
    if streamed:
        out.seekable = lambda: False  # type: ignore[method-assign]
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        if folders:
            for name in sorted(
                {str(p) + "/" for n in old.namelist() for p in pathlib.PurePosixPath(n).parents} - {"./"}
            ):
                new.mkdir(name)
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name) if method == zipfile.ZIP_STORED else name, old.read(name))
    return out.getvalue()


def by_mac(data: bytes) -> bytes:
    """As Finder packs a folder: extended attributes in a folder of their own, and a file of the folder's looks."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        folder, _, rest = old.namelist()[0].partition("/")
        new.mkdir(folder)
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr(f"{folder}/.DS_Store", b"\0\0\0\1Bud1" + bytes(100))
        new.writestr(f"__MACOSX/{folder}/._{rest}", bytes.fromhex("00051607000200004d6163204f532058") + bytes(80))
    return out.getvalue()


def by_zip(data: bytes, *options: str) -> bytes:
    """As the command packs a folder."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            old.extractall(f"{folder}/in")
            first = old.namelist()[0].partition("/")[0]
        subprocess.run(["zip", "-q", "-r", *options, "../out.zip", first], cwd=f"{folder}/in", check=True)
        return pathlib.Path(folder, "out.zip").read_bytes()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "stored": lambda d: rezipped(d, zipfile.ZIP_STORED),
    "deflated": lambda d: rezipped(d, zipfile.ZIP_DEFLATED),
    "folders": lambda d: rezipped(d, zipfile.ZIP_STORED, folders=True),
    "deflated folders": lambda d: rezipped(d, zipfile.ZIP_DEFLATED, folders=True),
    "streamed": lambda d: rezipped(d, zipfile.ZIP_STORED, streamed=True),
    "deflated streamed": lambda d: rezipped(d, zipfile.ZIP_DEFLATED, streamed=True),
    "mac": by_mac,
}
if shutil.which("zip"):
    PACKERS |= {
        "zip": by_zip,
        "zip -0": lambda d: by_zip(d, "-0"),
        "zip -X": lambda d: by_zip(d, "-X"),
        "zip -D": lambda d: by_zip(d, "-D"),
    }

# What settings of torch.save change in a file.
SAVERS: dict[str, Callable[[Any], bytes]] = {
    **{
        f"aligned to {n}": functools.partial(lambda n, o: with_config(o, storage_alignment=n), n)
        for n in (1, 2, 8, 64, 4096, 65536)
    },
    "no checksums": without_checksums,
}


# ---- other writers ----


def by_file(write: Callable[[str], Any], name: str = "m.pt") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, name)
        write(str(path))
        return path.read_bytes()


def scripts() -> dict[str, Callable[[], bytes]]:
    def script(module: Any, **how: Any) -> bytes:
        return bytes(by_file(lambda path: torch.jit.save(module, path, **how)))

    class Constants(nn.Module):
        __constants__ = ["n"]  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__()
            self.n = 3
            self.one = nn.Linear(2, 2)
            self.register_buffer("table", torch.arange(4))
            self.scale = torch.ones(2)
            self.names = ["a", "b"]

        def forward(self, x):
            return self.one(x) * self.n + self.scale + torch.tensor([1.0, 2.0])

    return {
        "script": lambda: script(torch.jit.script(Traceable())),
        "trace": lambda: script(torch.jit.trace(Traceable().eval(), torch.ones(2, 3))),
        "trace net": lambda: script(torch.jit.trace(Net().eval(), torch.ones(1, 3, 4, 4))),
        "script with files": lambda: script(
            torch.jit.script(Traceable()), _extra_files={"note.txt": b"kept", "a/b": b"\0"}
        ),
        "script of constants": lambda: script(torch.jit.script(Constants())),
        "frozen": lambda: script(torch.jit.freeze(torch.jit.script(Constants().eval()))),
        "lstm": lambda: script(torch.jit.script(nn.LSTM(2, 3))),
        "optimized for mobile": lambda: bytes(
            by_file(lambda path: torch.jit.script(Traceable())._save_for_lite_interpreter(path), "m.ptl")
        ),
        "script in a dict": lambda: saved({"weights": torch.jit.script(Traceable()).state_dict()}),
    }


def packages() -> dict[str, Callable[[], bytes]]:
    def package(path: str) -> None:
        with torch.package.PackageExporter(path) as exporter:
            exporter.extern("**")
            exporter.save_pickle("model", "model.pkl", {"w": torch.ones(2)})
            exporter.save_text("notes", "note.txt", "kept")

    return {"package": lambda: by_file(package)}


def exported() -> dict[str, Callable[[], bytes]]:
    def pt2(path: str) -> None:
        torch.export.save(torch.export.export(Traceable().eval(), (torch.ones(2, 3),)), path)

    return {"pt2": lambda: by_file(pt2, "m.pt2")}


def distributed() -> dict[str, bytes]:
    """The files of a distributed checkpoint."""
    import torch.distributed.checkpoint as dcp

    with tempfile.TemporaryDirectory() as folder:
        dcp.save({"model": Net().state_dict(), "epoch": 3}, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
        return {f"distributed {p.name}": p.read_bytes() for p in sorted(pathlib.Path(folder).iterdir())}


def several() -> bytes:
    out = io.BytesIO()
    for i in range(3):
        torch.save({"step": i, "w": torch.ones(2)}, out, **LEGACY)
    return out.getvalue()


# ---- trees of all of it ----


def anything(r: random.Random) -> Any:
    """Some of what is clean, put into containers at random; parts are shared."""
    made = [CLEAN[name]() for name in r.sample(sorted(CLEAN), 4)]
    for _ in range(r.randrange(1, 6)):
        some = [r.choice(made) for _ in range(r.randrange(1, 4))]
        kind = r.randrange(6)
        if kind == 0:
            made.append(some)
        elif kind == 1:
            made.append(tuple(some))
        elif kind == 2:
            made.append({f"key {i}": v for i, v in enumerate(some)})
        elif kind == 3:
            made.append(OrderedDict((i, v) for i, v in enumerate(some)))
        elif kind == 4:
            made.append(defaultdict(list, {"x": some}))
        else:
            made.append(argparse.Namespace(args=some, lr=r.random()))
    return made[-1]
