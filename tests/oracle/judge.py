"""torch as the judge: what torch.load gives, against what pthparse gives of the same file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

import pthparse


def saved(obj: Any, **how: Any) -> bytes:
    """The file that torch.save writes of it."""
    out = io.BytesIO()
    torch.save(obj, out, **how)
    return out.getvalue()


def loaded(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=False)


def named_tensors(obj: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of what torch loaded, by the path that pthparse promises."""
    if isinstance(obj, torch.Tensor):
        yield path, obj
    elif isinstance(obj, nn.Module):
        # keep_vars: state_dict() would detach, and requires_grad would be lost.
        for name, t in obj.state_dict(keep_vars=True).items():
            yield f"{path}/{name}" if path else name, t
    elif isinstance(obj, Mapping):
        for key, value in obj.items():
            yield from named_tensors(value, f"{path}/{key}" if path else str(key))
    elif isinstance(obj, (list, tuple)):
        for i, value in enumerate(obj):
            yield from named_tensors(value, f"{path}/{i}" if path else str(i))


def raw(t: torch.Tensor) -> bytes:
    """The elements in C order as bytes, whatever the dtype."""
    t = t.detach().resolve_conj().resolve_neg()
    if t.is_quantized:
        t = t.int_repr()
    return (
        t.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy().tobytes()
        if t.numel()
        else b""
    )


def dtype_of(t: torch.Tensor) -> str:
    return str(t.dtype).removeprefix("torch.")


def assert_dense(ours: pthparse.Tensor, theirs: torch.Tensor) -> None:
    """The same tensor: everything that torch knows of a strided one."""
    assert ours.error is None
    assert (ours.dtype, ours.shape, ours.numel) == (dtype_of(theirs), tuple(theirs.shape), theirs.numel())
    assert (ours.stride, ours.storage_offset) == (theirs.stride(), theirs.storage_offset())
    assert ours.requires_grad == theirs.requires_grad
    assert ours.itemsize == theirs.element_size()
    assert ours.parameter == isinstance(theirs, nn.Parameter)
    assert (ours.conj, ours.neg) == (theirs.is_conj(), theirs.is_neg())
    view = ours.numpy()
    assert not view.flags.writeable
    assert np.ascontiguousarray(view).tobytes() == raw(theirs)
    own = ours.numpy(copy=True)
    assert own.flags.writeable and np.ascontiguousarray(own).tobytes() == raw(theirs)


def assert_same(data: bytes, theirs: Any = None) -> pthparse.Checkpoint:
    """Every tensor of the file is torch's, in torch's order. Gives the checkpoint, still open."""
    expected = list(named_tensors(loaded(data) if theirs is None else theirs))
    ckpt = pthparse.open(data)
    assert list(ckpt) == [name for name, _ in expected]
    assert not ckpt.errors
    for name, theirs_t in expected:
        assert_dense(ckpt[name], theirs_t)
    return ckpt


class Pair(torch.Tensor):
    """A wrapper: its data lie in two inner tensors."""

    @staticmethod
    def __new__(cls, a: torch.Tensor, b: torch.Tensor) -> Pair:
        return torch.Tensor._make_wrapper_subclass(cls, a.shape, dtype=a.dtype, device=a.device)

    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        self.a, self.b = a, b

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("never computed with")
