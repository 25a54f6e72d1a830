"""torch as the judge of what differs, by how much, and of what has the same hash."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from forge import pickles as p
from forge import tars
from oracle.honest import nested, parameters, quantized, sparse, views
from oracle.judge import dtype_of, raw, saved

import pthparse

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64]
COMPLEX = [torch.complex32, torch.complex64, torch.complex128]
LEGACY = {"_use_new_zipfile_serialization": False}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """torch warns of its own prototypes."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def only(a: torch.Tensor, b: torch.Tensor, **how: Any) -> tuple[pthparse.DiffReport, pthparse.TensorDiff | None]:
    r = pthparse.diff(saved({"t": a}), saved({"t": b}), **how)
    assert r.errors == ()
    rows = r.changed + r.recast + r.reshaped + r.close
    return r, rows[0] if rows else None


def judged(d: pthparse.TensorDiff, a: torch.Tensor, b: torch.Tensor) -> None:
    """By torch in double precision, over finite pairs."""
    wide = torch.complex128 if a.is_complex() else torch.float64
    x, y = a.to(wide).reshape(-1), b.to(wide).reshape(-1)
    ok = torch.isfinite(x) & torch.isfinite(y)
    x, y = x[ok], y[ok]
    apart = (x - y).abs()
    size = torch.maximum(x.abs(), y.abs())
    share = torch.where(size > 0, apart / size, 0.0)
    assert d.equal == int((a.to(wide) == b.to(wide)).sum())
    assert (d.max_abs, d.mean_abs) == pytest.approx((float(apart.max()), float(apart.mean())), rel=1e-12)
    assert (d.max_rel, d.mean_rel) == pytest.approx((float(share.max()), float(share.mean())), rel=1e-12)
    if not float(apart.max()):
        assert d.worst is None and d.max_ulp in (0, None)
    elif not a.is_complex():
        assert d.cosine == pytest.approx(float(torch.nn.functional.cosine_similarity(x, y, dim=0)), rel=1e-12)
        assert d.worst == np.unravel_index(int((a.to(wide) - b.to(wide)).abs().nan_to_num(0, 0, 0).argmax()), a.shape)


@pytest.mark.parametrize("dtype", [*FLOATS, *FLOAT8, *COMPLEX], ids=str)
def test_floats(dtype: torch.dtype) -> None:
    wide = torch.complex128 if dtype.is_complex else torch.float64
    base = torch.randn(11, 501, dtype=wide)
    a = base.to(dtype)
    b = (base + torch.randn(base.shape) * 0.1 * (torch.rand(base.shape) < 0.3)).to(dtype)
    r, d = only(a, b)
    assert d is not None and r.changed == (d,)
    judged(d, a, b)


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool], ids=str)
def test_integers(dtype: torch.dtype) -> None:
    a, b = (torch.randint(0, 2 if dtype == torch.bool else 100, (50, 70)).to(dtype) for _ in range(2))
    _, d = only(a, b)
    assert d is not None
    judged(d, a, b)


@pytest.mark.parametrize("to", [*FLOATS, torch.int32, torch.complex64], ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_of_two_dtypes(dtype: torch.dtype, to: torch.dtype) -> None:
    a = (torch.randn(3000) * 10).to(dtype)
    b = a.to(to)
    r, d = only(a, b)
    if dtype == to:
        assert r.same and r.identical == 1
        return
    assert d is not None and r.recast == (d,) and not r.same
    if not to.is_complex:
        judged(d, a, b)


@pytest.mark.parametrize("equal_nan", [True, False])
@pytest.mark.parametrize(("rtol", "atol"), [(0, 0), (1e-2, 0), (0, 1e-2), (1e-3, 1e-3), (1e-5, 1e-8)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128], ids=str)
def test_close_is_as_torch_has_it(dtype: torch.dtype, rtol: float, atol: float, equal_nan: bool) -> None:
    base = torch.randn(5000, dtype=dtype)
    other = base * (1 + torch.randn(5000) * 10.0 ** torch.randint(-9, 0, (5000,)))
    special = torch.tensor([0.0, -0.0, torch.nan, torch.inf, -torch.inf, 1.0], dtype=dtype)
    pairs = torch.cartesian_prod(special, special)
    a, b = torch.cat([base, pairs[:, 0]]), torch.cat([other.to(dtype), pairs[:, 1]])
    close = torch.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    _, d = only(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)
    # torch rounds the bound to the dtype; of random numbers at most a few lie so near to it.
    slack = 3 if dtype == torch.float32 and rtol else 0
    assert d is not None and abs(d.far - int((~close).sum())) <= slack
    for part in (slice(0, 500), slice(5000, None)):
        same = torch.allclose(a[part], b[part], rtol=rtol, atol=atol, equal_nan=equal_nan)
        assert only(a[part].clone(), b[part].clone(), rtol=rtol, atol=atol, equal_nan=equal_nan)[0].same == same


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_steps_between_neighbours(dtype: torch.dtype) -> None:
    """nextafter walks as many steps as are told."""
    a = torch.randn(1000).to(dtype)
    b = a.clone()
    view = {8: torch.int64, 4: torch.int32, 2: torch.int16}[dtype.itemsize]
    b.view(view)[17] += 5
    _, d = only(a, b)
    assert d is not None and d.max_ulp == 5 and d.worst == (17,)
    if dtype in (torch.float64, torch.float32):
        step = a[17]
        for _ in range(5):
            step = torch.nextafter(step, b[17])
        assert step == b[17]


def kinds() -> dict[str, Any]:
    return {**views(), **quantized(), **sparse(), **nested(), **{f"p {k}": v for k, v in parameters().items()}}


def test_a_copy_of_every_kind_of_tensor_does_not_differ() -> None:
    data, old = saved(kinds()), saved(kinds())
    r = pthparse.diff(data, data[:])
    assert r.same and r.errors == () and r.close == () and r.identical == len(pthparse.open(data))
    made = pthparse.manifest(data)
    assert made.errors == () and made.model is not None and pthparse.manifest(old).errors == ()


def test_the_elements_are_those_of_torch() -> None:
    """Of every view the same hash as of its contiguous copy, which is another layout in the file."""
    found = {t.name: t.hash for t in pthparse.manifest(saved(views())).tensors}
    copies = {
        n: t if t.is_meta else t.detach().resolve_conj().resolve_neg().contiguous().clone() for n, t in views().items()
    }
    torch.manual_seed(0)
    own = {n: t for n, t in views().items()}
    torch.manual_seed(0)
    again = {n: t for n, t in views().items()}
    for name, t in own.items():
        copy = again[name]
        whole = (
            copy
            if copy.is_meta
            else copy.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
        )
        a, b = (pthparse.manifest(saved({"t": x})).tensors[0] for x in (t, whole))
        assert (a.hash, a.dtype) == (b.hash, dtype_of(t)), name
    assert len(found) == len(copies)


def tar_of(tensors: dict[str, torch.Tensor]) -> bytes:
    """As the first versions of torch wrote them."""
    storages = [tars.storage_record(i, raw(t)) for i, t in enumerate(tensors.values())]
    rows = [tars.tensor_record(i + 100, i, list(t.shape), list(t.stride())) for i, t in enumerate(tensors.values())]
    named = p.dict_of({n: p.text(str(i + 100)) + p.BINPERSID for i, n in enumerate(tensors)})
    return tars.archive(named, storages, rows)


def test_no_container_changes_a_hash() -> None:
    tensors = {"w": torch.randn(5, 7), "b": torch.randn(5), "z": torch.zeros(3)}
    forms = {
        "zip": saved(tensors),
        "legacy": saved(tensors, **LEGACY),
        "protocol": saved(tensors, pickle_protocol=4),
        "order": saved(dict(reversed(tensors.items()))),
        "tar": tar_of(tensors),
        "shared": saved({**tensors, "w": torch.cat([torch.zeros(3, 7), tensors["w"]])[3:]}),
        "turned": saved({**tensors, "w": tensors["w"].t().contiguous().t()}),
        "parameters": saved({n: torch.nn.Parameter(t) for n, t in tensors.items()}),
    }
    found = {how: pthparse.manifest(data) for how, data in forms.items()}
    assert len({m.model for m in found.values()}) == 1 and found["zip"].model is not None
    for how, data in forms.items():
        r = pthparse.diff(forms["zip"], data)
        assert r.same and r.identical == 3, how
    assert pthparse.diff(forms["tar"], saved({**tensors, "b": torch.zeros(5)})).changed[0].name == "b"


def test_dtypes_have_their_own_hashes() -> None:
    hashes = set()
    for dtype in [*FLOATS, *FLOAT8, *INTEGERS, *COMPLEX, torch.bool]:
        made = pthparse.manifest(saved({"t": torch.zeros(8, dtype=dtype)}))
        assert made.errors == () and made.tensors[0].dtype == dtype_of(torch.zeros(1, dtype=dtype))
        hashes.add(made.tensors[0].hash)
    assert len(hashes) == len(FLOATS + FLOAT8 + INTEGERS + COMPLEX) + 1


def test_sparse_tensors_by_their_parts() -> None:
    a = torch.sparse_coo_tensor([[0, 2], [1, 3]], [1.0, 2.0], (3, 4))
    b = torch.sparse_coo_tensor([[0, 2], [1, 3]], [1.0, 2.5], (3, 4))
    c = torch.sparse_coo_tensor([[0, 1], [1, 3]], [1.0, 2.0], (3, 4))
    _, d = only(a, b)
    assert d is not None and (d.parts, d.max_abs, d.numel) == (("values",), 0.5, 2)
    _, d = only(a, c)
    assert d is not None and (d.parts, d.max_abs) == (("indices",), 0.0)
    r, d = only(a, a.to_dense())
    assert d is not None and r.changed == (d,) and d.numel == 0


def test_the_kind_is_told_where_it_is_all_that_differs() -> None:
    """Of a sparse tensor and a dense one no elements are compared, and a row of zeros would say nothing."""
    kinds = {
        "sparse_csr -> tensor": (torch.eye(3).to_sparse_csr(), torch.eye(3)),
        "meta -> tensor": (torch.empty(3, 3, device="meta"), torch.eye(3)),
        "sparse_csr -> sparse_csc": (torch.eye(3).to_sparse_csr(), torch.eye(3).to_sparse_csc()),
    }
    for told, (a, b) in kinds.items():
        _, row = only(a, b)
        assert row is not None and told in row.parts
