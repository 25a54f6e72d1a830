"""Tensors that are more than bytes and strides: quantized, sparse, nested, without data, wrapped."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch._utils
from oracle.judge import Pair, assert_dense, dtype_of, loaded, raw, saved
from torch import nn

import pthparse

LEGACY = {"_use_new_zipfile_serialization": False}
CONTAINERS = pytest.mark.parametrize("how", [{}, LEGACY, {"pickle_protocol": 4}], ids=["zip", "legacy", "protocol4"])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torch warns of its own prototypes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def only(obj: Any, **how: Any) -> pthparse.Tensor:
    ckpt = pthparse.open(saved({"t": obj}, **how))
    assert list(ckpt) == ["t"] and not ckpt.errors
    return ckpt["t"]


def assert_described(ours: pthparse.Tensor, theirs: torch.Tensor) -> None:
    assert (ours.dtype, ours.shape) == (dtype_of(theirs), tuple(theirs.shape))
    assert ours.requires_grad == theirs.requires_grad
    assert ours.layout == str(theirs.layout).removeprefix("torch.")


# ---- quantized ----


@CONTAINERS
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32])
def test_per_tensor(dtype: torch.dtype, how: dict[str, Any]) -> None:
    theirs = torch.quantize_per_tensor(torch.randn(4, 6) * 3, 0.05, 3, dtype)
    ours = only(theirs, **how)
    assert_described(ours, theirs)
    assert (ours.kind, ours.quantization, ours.axis) == ("quantized", "per_tensor_affine", None)
    assert (ours.scale, ours.zero_point) == (theirs.q_scale(), theirs.q_zero_point())
    assert ours.stride == theirs.stride()
    assert ours.numpy().tobytes() == raw(theirs)
    assert np.array_equal(ours.dequantize(), theirs.dequantize().numpy())


@CONTAINERS
@pytest.mark.parametrize("axis", [0, 1])
def test_per_channel(axis: int, how: dict[str, Any]) -> None:
    n = (4, 6)[axis]
    scales, zeros = torch.rand(n, dtype=torch.float64) + 0.01, torch.arange(n)
    theirs = torch.quantize_per_channel(torch.randn(4, 6), scales, zeros, axis, torch.qint8)
    ours = only(theirs, **how)
    assert (ours.quantization, ours.axis) == ("per_channel_affine", axis)
    assert np.array_equal(ours.scale, scales.numpy()) and np.array_equal(ours.zero_point, zeros.numpy())
    # torch's last bit depends on whether the processor multiplies and adds in one step.
    np.testing.assert_allclose(ours.dequantize(), theirs.dequantize().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("dtype", "per_byte"), [(torch.quint4x2, 2), (torch.quint2x4, 4)])
def test_packed(dtype: torch.dtype, per_byte: int) -> None:
    scales, zeros = torch.full((3,), 0.5), torch.zeros(3)
    values = torch.arange(24.0).reshape(3, 8) / 4
    theirs = torch.quantize_per_channel(values, scales, zeros, 0, dtype)
    ours = only(theirs)
    assert ours.shape == (3, 8) and ours.nbytes == 24 // per_byte
    assert ours.numpy().dtype == np.uint8 and ours.numpy().shape == (24 // per_byte,)
    assert ours.zero_point.dtype.kind == "f"
    # torch cannot give the values of quint2x4 back: rounded and held to what the bits can say, they are these.
    expected = np.clip(np.rint(values.numpy() / 0.5), 0, 2 ** (8 // per_byte) - 1) * 0.5
    assert np.array_equal(ours.dequantize(), expected)


def test_quantized_views_and_parameters() -> None:
    whole = torch.quantize_per_tensor(torch.randn(6, 4), 0.1, 0, torch.qint8)
    ckpt = pthparse.open(saved({"whole": whole, "view": whole[2:].t()}))
    assert ckpt["view"].stride == (1, 4) and ckpt["view"].storage_offset == 8
    assert ckpt["view"].numpy().tobytes() == raw(whole[2:].t())


# ---- sparse ----


def coo(*shape: int, dims: int = 2) -> torch.Tensor:
    return (
        torch.randn(shape) * (torch.rand(shape[:dims]) > 0.6).reshape(*shape[:dims], *[1] * (len(shape) - dims))
    ).to_sparse(dims)


SPARSE: dict[str, Callable[[], torch.Tensor]] = {
    "coo": lambda: coo(5, 7),
    "coo-hybrid": lambda: coo(5, 7, 3),
    "coo-empty": lambda: torch.sparse_coo_tensor(torch.empty(2, 0, dtype=torch.int64), torch.empty(0), (3, 4)),
    "coo-duplicates": lambda: torch.sparse_coo_tensor([[0, 0, 2], [1, 1, 3]], [1.0, 2.0, 3.0], (3, 4)),
    "coo-int": lambda: torch.sparse_coo_tensor([[0, 0], [1, 1]], [5, 6], (3, 4)),
    "coo-bfloat16": lambda: torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.5, 2.0], (3, 4), dtype=torch.bfloat16),
    "coo-complex": lambda: torch.sparse_coo_tensor([[0, 1]], [1 + 2j, 3j], (4,)),
    "coo-zero-dims": lambda: torch.sparse_coo_tensor(
        torch.empty(0, 2, dtype=torch.int64), [[1.0, 2.0], [3.0, 4.0]], (2,)
    ),
    "csr": lambda: coo(5, 7).to_sparse_csr(),
    "csr-batch": lambda: torch.stack([torch.eye(3), torch.eye(3).flip(0)]).to_sparse_csr(),
    "csr-dense": lambda: (torch.eye(4)[..., None] * torch.randn(4, 4, 2)).to_sparse_csr(dense_dim=1),
    "csc": lambda: coo(5, 7).to_sparse_csc(),
    "bsr": lambda: torch.randn(6, 8).tril().to_sparse_bsr((2, 4)),
    "bsc": lambda: torch.randn(6, 8).tril().to_sparse_bsc((3, 2)),
}


@CONTAINERS
@pytest.mark.parametrize("kind", SPARSE)
def test_sparse(kind: str, how: dict[str, Any]) -> None:
    torch.manual_seed(3)
    theirs = loaded(saved(SPARSE[kind](), **how))
    ours = only(theirs, **how)
    assert_described(ours, theirs)
    assert ours.kind == "sparse"
    dense = ours.to_dense()
    expected = theirs.to_dense()
    assert dense.shape == tuple(expected.shape)
    assert np.ascontiguousarray(dense).tobytes() == raw(expected)
    if kind.startswith("coo"):
        assert np.array_equal(ours.indices, theirs._indices().numpy())
        assert np.ascontiguousarray(ours.values).tobytes() == raw(theirs._values())
    else:
        by_row = "csr" in kind or "bsr" in kind
        compressed = theirs.crow_indices() if by_row else theirs.ccol_indices()
        plain = theirs.col_indices() if by_row else theirs.row_indices()
        assert np.array_equal(ours.compressed_indices, compressed.numpy())
        assert np.array_equal(ours.plain_indices, plain.numpy())
    with pytest.raises(pthparse.UnsupportedError, match="to_dense"):
        ours.numpy()


def test_dense_is_limited() -> None:
    huge = torch.sparse_coo_tensor([[0], [0]], [1.0], (1 << 30, 1 << 20))
    with pytest.raises(pthparse.LimitError) as e:
        only(huge).to_dense()
    assert e.value.code == "max_dense_bytes"
    assert only(huge).values.tolist() == [1.0]


def test_expanded_tensors_are_not_filled_in_by_accident() -> None:
    wide = only(torch.zeros(1).expand(1 << 20, 1 << 20))
    assert wide.numpy().shape == (1 << 20, 1 << 20)
    with pytest.raises(pthparse.LimitError):
        wide.numpy(copy=True)


# ---- nested ----


@CONTAINERS
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested(layout: torch.layout, how: dict[str, Any]) -> None:
    parts = [torch.randn(2, 5), torch.randn(4, 5), torch.randn(1, 5)]
    theirs = torch.nested.nested_tensor(parts, layout=layout)
    ours = only(theirs, **how)
    assert (ours.kind, ours.dtype) == ("nested", "float32")
    assert ours.shape == ((3, -1, -1) if layout == torch.strided else (3, -1, 5))
    assert ours.numel == 35 and ours.nbytes == 140
    for mine, part in zip(ours.unbind(), parts, strict=True):
        assert np.array_equal(mine, part.numpy())
    assert ours.values.size == 35


def test_jagged_with_lengths() -> None:
    values = torch.randn(10, 3)
    theirs = torch.nested.nested_tensor_from_jagged(values, torch.tensor([0, 4, 10]), torch.tensor([2, 5]))
    parts = only(theirs).unbind()
    assert [p.shape for p in parts] == [(2, 3), (5, 3)]
    assert np.array_equal(parts[1], values[4:9].numpy())


# ---- gradients of what is no plain tensor ----


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("layout", ["csr", "csc", "bsr", "bsc"])
@CONTAINERS
def test_requires_grad_of_compressed_sparse(layout: str, grad: bool, how: dict[str, Any]) -> None:
    blocks = [(2, 2)] if layout in ("bsr", "bsc") else []
    theirs = getattr(torch.eye(4), f"to_sparse_{layout}")(*blocks).requires_grad_(grad)
    ours = only(theirs, **how)
    assert ours.layout == f"sparse_{layout}"
    assert ours.requires_grad is loaded(saved(theirs, **how)).requires_grad is grad
    assert ours.to_dense().tolist() == torch.eye(4).tolist()


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=["strided", "jagged"])
def test_requires_grad_of_nested(layout: torch.layout, grad: bool) -> None:
    parts = [torch.randn(2, 3), torch.randn(4, 3)]
    theirs = torch.nested.nested_tensor(parts, layout=layout, requires_grad=grad)
    ours = only(theirs)
    assert ours.requires_grad is loaded(saved(theirs)).requires_grad is grad
    assert [a.tolist() for a in ours.unbind()] == [p.tolist() for p in parts]


# ---- without data ----


@CONTAINERS
def test_meta(how: dict[str, Any]) -> None:
    theirs = torch.empty(1 << 30, 1 << 10, device="meta", dtype=torch.bfloat16)
    ours = only(theirs, **how)
    assert_described(ours, theirs)
    assert (ours.kind, ours.device, ours.stride) == ("meta", "meta", theirs.stride())
    with pytest.raises(pthparse.UnsupportedError, match="without data"):
        ours.numpy()


def test_meta_parameter() -> None:
    ours = only(nn.Parameter(torch.empty(3, device="meta")))
    assert (ours.kind, ours.parameter, ours.requires_grad) == ("meta", True, True)


def test_fake() -> None:
    """A fake tensor claims a device, and its storage is a hole of the right size."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        obj = {"t": torch.empty(4, 3)}
        out = io.BytesIO()
        with torch.serialization.skip_data(materialize_fake_tensors=True):
            torch.save(obj, out)
    ckpt = pthparse.open(out.getvalue())
    assert ckpt["t"].shape == (4, 3) and ckpt["t"].storage.nbytes == 48
    assert ckpt["t"].numpy().shape == (4, 3)


def test_lazy_parameters() -> None:
    module = nn.LazyLinear(3)
    ckpt = pthparse.open(saved(module))
    assert list(ckpt) == ["weight", "bias"]
    assert ckpt["weight"].kind == "uninitialized" and ckpt["weight"].shape == ()
    assert ckpt["weight"].parameter and ckpt["weight"].requires_grad
    theirs = loaded(saved(module))
    assert [t.requires_grad for t in ckpt.values()] == [p.requires_grad for p in theirs.parameters()] == [True, True]
    assert [t.dtype for t in ckpt.values()] == [dtype_of(p) for p in theirs.parameters()]
    with pytest.raises(pthparse.UnsupportedError, match="lazy"):
        ckpt["weight"].numpy()


# ---- subclasses ----


class Tagged(torch.Tensor):
    """A tensor with a class of its own."""


@CONTAINERS
def test_subclass_with_data(how: dict[str, Any]) -> None:
    theirs = torch.randn(3).as_subclass(Tagged)
    theirs.note = "hi"
    ours = only(theirs, **how)
    assert ours.kind == "dense" and ours.subclass == f"{__name__}.Tagged"
    assert np.array_equal(ours.numpy(), theirs.as_subclass(torch.Tensor).numpy())


@CONTAINERS
def test_wrapper(how: dict[str, Any]) -> None:
    theirs = Pair(torch.randn(2, 3), torch.arange(4))
    ours = only(theirs, **how)
    assert (ours.kind, ours.subclass, ours.shape) == ("subclass", "oracle.judge.Pair", (2, 3))
    assert list(ours.inner) == ["a", "b"]
    assert_dense(ours.inner["a"], theirs.a)
    assert_dense(ours.inner["b"], theirs.b)
    with pytest.raises(pthparse.UnsupportedError, match="inner"):
        ours.numpy()


class Tensors(Pair):
    """A wrapper whose inner tensors lie in a dict, a list and another wrapper."""

    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        self.parts = {"first": a, "rest": [b, (a,)]}
        self.pair = Pair(a, b)
        self.note = "hi"
        self.sizes = [1, 2, 3]


class Trained(Pair):
    """A wrapper that nn.Parameter takes: it can be detached."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is torch.ops.aten.detach.default
        return cls(args[0].a, args[0].b)


class Special(nn.Parameter):
    """A parameter with a class of its own."""


@pytest.mark.parametrize("grad", [True, False])
@CONTAINERS
def test_parameter_of_a_subclass(grad: bool, how: dict[str, Any]) -> None:
    """nn.Parameter of a tensor with a class of its own marks the object, and keeps its class."""
    obj = {
        "tagged": nn.Parameter(torch.ones(2).as_subclass(Tagged), requires_grad=grad),
        "wrapped": nn.Parameter(Trained(torch.ones(2, 3), torch.arange(4)), requires_grad=grad),
        "special": Special(torch.ones(2), requires_grad=grad),
        "plain": torch.ones(2).as_subclass(Tagged),
        "pair": Trained(torch.ones(2, 3), torch.arange(4)),
    }
    data = saved(obj, **how)
    theirs = loaded(data)
    ckpt = pthparse.open(data)
    assert [t.parameter for t in ckpt.values()] == [isinstance(t, nn.Parameter) for t in theirs.values()]
    assert [t.parameter for t in ckpt.values()] == [True, True, True, False, False]
    assert [t.requires_grad for t in ckpt.values()] == [t.requires_grad for t in theirs.values()]
    assert ckpt["tagged"].subclass == f"{__name__}.Tagged" and ckpt["wrapped"].subclass == f"{__name__}.Trained"
    assert list(ckpt["wrapped"].inner) == ["a", "b"]


def test_parameters_of_a_module_with_subclasses() -> None:
    module = nn.Module()
    module.weight = nn.Parameter(Trained(torch.ones(2, 3), torch.arange(4)))
    module.bias = nn.Parameter(torch.ones(2).as_subclass(Tagged))
    module.register_buffer("steps", torch.ones(2).as_subclass(Tagged))
    ckpt = pthparse.open(saved(module))
    assert list(ckpt) == list(module.state_dict())
    assert [t.parameter for t in ckpt.values()] == [True, True, False]


@CONTAINERS
def test_inner_tensors_in_containers_of_a_wrapper(how: dict[str, Any]) -> None:
    theirs = Tensors(torch.randn(2, 3), torch.arange(4))
    ours = only(theirs, **how)
    a, b = theirs.pair.a, theirs.pair.b
    expected = {"parts/first": a, "parts/rest/0": b, "parts/rest/1/0": a}
    inner = dict(ours.inner)
    pair = inner.pop("pair")
    assert (ours.kind, list(inner)) == ("subclass", list(expected))
    for path, t in expected.items():
        assert_dense(inner[path], t)
        assert inner[path].name == f"t.{path}"
    assert (pair.kind, pair.name, list(pair.inner)) == ("subclass", "t.pair", ["a", "b"])
    assert_dense(pair.inner["b"], b)
    again = loaded(saved(theirs, **how)).__dict__
    assert list(ours.attributes) == list(again) == ["parts", "pair", "note", "sizes"]
    assert (ours.attributes["note"], ours.attributes["sizes"]) == (again["note"], again["sizes"]) == ("hi", [1, 2, 3])
    assert ours.attributes["parts"]["rest"][0].numpy().tolist() == [0, 1, 2, 3]


@CONTAINERS
def test_attributes_of_tensors(how: dict[str, Any]) -> None:
    """What was set on a tensor, a parameter and a subclass; of a plain tensor there is nothing."""
    obj = {
        "tensor": torch.ones(2),
        "parameter": nn.Parameter(torch.ones(2)),
        "subclass": torch.ones(2).as_subclass(Tagged),
        "bare": torch.ones(2),
    }
    for t in list(obj.values())[:3]:
        t.note, t.table, t.limits = "hi", {"a": torch.zeros(5)}, (1, None)
    data = saved(obj, **how)
    ckpt, again = pthparse.open(data), loaded(data)
    for name in ("tensor", "parameter", "subclass"):
        ours, theirs = ckpt[name], again[name].__dict__
        assert list(ours.attributes) == list(theirs) == ["note", "table", "limits"]
        assert (ours.attributes["note"], ours.attributes["limits"]) == (theirs["note"], theirs["limits"])
        assert ours.attributes["table"]["a"].numpy().tolist() == theirs["table"]["a"].tolist()
        assert list(ours.inner) == ["table/a"] and ours.numpy().tolist() == [1, 1]
    assert ckpt["bare"].attributes == {} and ckpt["bare"].inner == {}


def test_storage_names_what_shares_it_through_parts() -> None:
    values, indices = torch.ones(2), torch.tensor([[0, 1]])
    obj = {
        "first": torch.sparse_coo_tensor(indices, values, (3,)),
        "second": torch.sparse_coo_tensor(indices, values, (4,)),
        "values": values,
        "wrapper": Pair(values, torch.zeros(3)),
        "deep": Pair(Pair(torch.zeros(1), values[1:]), torch.zeros(4)),
        "alone": torch.ones(2),
    }
    ckpt = pthparse.open(saved(obj))
    assert list(ckpt) == list(obj)
    shared = ("first", "second", "values", "wrapper", "deep")
    assert ckpt["values"].storage.tensors == shared
    assert ckpt["first"].inner["values"].storage.tensors == shared
    assert ckpt["first"].inner["indices"].storage.tensors == ("first", "second")
    assert ckpt["deep"].inner["a"].inner["b"].storage.tensors == shared
    assert ckpt["wrapper"].inner["b"].storage.tensors == ("wrapper",)
    assert ckpt["alone"].storage.tensors == ("alone",)
    assert [s.tensors for s in ckpt.storages if len(s.tensors) > 1] == [shared, ("first", "second")]
    assert ckpt["first"].storage is None and ckpt["wrapper"].storage is None


# ---- what torch casts on its way ----


class Call:
    """Pickled as the call of a function of torch."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.args


CAST = torch.tensor([[1.5, 2.25, -3.1], [100.7, 0.1, 448.0]])
DTYPES = ["bfloat16", "float16", "float64", "float32", "int32", "int64", "float8_e4m3fn"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("grad", [False, True])
@CONTAINERS
def test_tensor_of_another_device_is_cast(dtype: str, grad: bool, how: dict[str, Any]) -> None:
    """Devices without a serializer of their own go through numpy or the CPU, with the dtype beside the data."""
    wanted = getattr(torch, dtype)
    rest = (wanted, "cpu", grad and wanted.is_floating_point)
    obj = {
        "numpy": Call(torch._utils._rebuild_device_tensor_from_numpy, CAST.numpy(), *rest),
        "tensor": Call(torch._utils._rebuild_device_tensor_from_cpu_tensor, CAST, *rest),
        "view": Call(torch._utils._rebuild_device_tensor_from_cpu_tensor, CAST.t()[1:], *rest),
    }
    data = saved(obj, **how)
    theirs, ckpt = loaded(data), pthparse.open(data)
    assert list(ckpt) == list(theirs) and not ckpt.errors
    if how == LEGACY:  # torch casts before it has read the data, and gives what was in the memory: there we are right
        cast = CAST.to(wanted, copy=True).requires_grad_(rest[2])
        theirs = {"numpy": cast, "tensor": cast, "view": CAST.t()[1:].to(wanted, copy=True).requires_grad_(rest[2])}
    for name, t in theirs.items():
        ours = ckpt[name]
        assert (ours.dtype, ours.shape, ours.requires_grad) == (dtype_of(t), tuple(t.shape), t.requires_grad)
        assert (ours.itemsize, ours.nbytes) == (t.element_size(), t.numel() * t.element_size())
        array = ours.numpy()
        assert array.dtype.name == dtype and not array.flags.writeable
        assert np.ascontiguousarray(array).tobytes() == raw(t)
        own = ours.numpy(copy=True)
        assert own.flags.writeable and np.ascontiguousarray(own).tobytes() == raw(t)


def test_device_of_a_tensor_that_is_cast() -> None:
    numpy = Call(torch._utils._rebuild_device_tensor_from_numpy, CAST.numpy(), torch.bfloat16, "xla:1", True)
    tensor = Call(torch._utils._rebuild_device_tensor_from_cpu_tensor, CAST, torch.bfloat16, "hpu:0", False)
    ckpt = pthparse.open(saved({"numpy": numpy, "tensor": tensor}))
    assert [(t.device, t.dtype, t.requires_grad) for t in ckpt.values()] == [
        ("xla:1", "bfloat16", True),
        ("hpu:0", "bfloat16", False),
    ]
    assert ckpt["numpy"].numpy().tobytes() == ckpt["tensor"].numpy().tobytes() == raw(CAST.bfloat16())


def test_buffers() -> None:
    ours = only(nn.Buffer(torch.ones(2), persistent=True))
    assert ours.numpy().tolist() == [1, 1] and not ours.parameter


def test_parameter_with_state() -> None:
    theirs = nn.Parameter(torch.ones(2))
    theirs.tag = 5
    ours = only(theirs)
    assert ours.parameter and ours.requires_grad and ours.numpy().tolist() == [1, 1]


@pytest.fixture
def one_rank(tmp_path: Any) -> Iterator[None]:
    import torch.distributed as dist

    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_dtensor(one_rank: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    whole = torch.randn(4, 3)
    for placement in (Shard(0), Replicate()):
        ours = only(distribute_tensor(whole, mesh, [placement]))
        assert (ours.kind, ours.subclass, ours.shape) == ("subclass", "torch.distributed.tensor.DTensor", (4, 3))
        assert np.array_equal(ours.inner["_local_tensor"].numpy(), whole.numpy())
        assert np.array_equal(ours.numpy(), whole.numpy())


# ---- storages, return types, other things of torch ----


def test_other_things_of_torch() -> None:
    obj = {
        "size": torch.Size([2, 3]),
        "device": torch.device("cuda", 1),
        "dtype": torch.bfloat16,
        "layout": torch.sparse_csr,
        "storage": torch.arange(3.0).storage(),
        "untyped": torch.arange(3.0).untyped_storage(),
        "top": torch.tensor([1.0, 2.0]).max(0),
        "generator": torch.Generator().manual_seed(1).get_state(),
    }
    root = pthparse.open(saved(obj)).root
    assert root["size"] == (2, 3) and root["device"] == "cuda:1"
    assert (root["dtype"], root["layout"]) == ("bfloat16", "sparse_csr")
    assert root["storage"].nbytes == 12 and root["storage"].dtype == "float32"
    assert root["untyped"].nbytes == 12
    assert root["generator"].shape == (5056,)


def test_device_is_text() -> None:
    data = saved({"t": torch.zeros(2)}).replace(b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00npu")
    assert pthparse.open(data)["t"].device == "npu"
