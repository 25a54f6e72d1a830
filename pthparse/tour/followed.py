"""Part 3: one tensor, from its name through its storage to its bytes and its numbers."""

from __future__ import annotations

from ..errors import PthError, guard
from ..tensor import Tensor
from ..wording import base_name
from .elements import FLOATS, Bits, Element, bits_of, elements_at, first_indices, place_of
from .opening import Subject, dims, hex_of, section, table, unreadable
from .words import Own, Section, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_ELEMENTS = 6
# How an exponent is to be read.
EXPONENTS = {"normal": "means", "subnormal": "low", "zero": "low", "infinite": "high", "nan": "high"}
WORTH_BITS = ("normal", "subnormal")


def followed(subject: Subject) -> Section:
    say, t = subject.say, subject.example
    if t is None:
        return section(say, 3, "tensor", [say("tensor.none")], {}, applies=False)
    try:
        place = place_of(t)
        found = elements_at(t, _indices(t), place)
    except PthError as e:
        return unreadable(say, 3, "tensor", e)
    key = str(t.table.storage(t._storage or 0)[1] or "")
    facts: dict[str, Any] = {
        "name": t.name,
        "shape": list(t.shape),
        "stride": list(t._strides),
        "dtype": t.dtype,
        "itemsize": t.itemsize,
        "numel": t.numel,
        "nbytes": t.nbytes,
        "storage": key,
        "member": place.member,
        "file": place.path,
        "storage_offset": t.storage_offset,
        "file_offset": place.offset,
        "elements": [
            {"index": list(e.index), "offset": e.offset, "bytes": e.raw.hex(" "), "value": e.value} for e in found
        ],
    }
    values: dict[str, Any] = {"name": subject.name(t), "shape": dims(t.shape), "stride": dims(t._strides), "key": key}
    values |= {"dtype": t.dtype, "numel": t.numel, "nbytes": t.nbytes, "itemsize": t.itemsize, "skip": t.storage_offset}
    blocks: list[Any] = [say("tensor.name", product=_product(t), **values)]
    if t.name not in subject.ckpt:
        blocks.append(say("tensor.piece"))
    if place.member:
        blocks.append(say("tensor.member", member=place.member, **values))
    elif key and key != t.name:
        blocks.append(say("tensor.key", **values))
    if place.offset is None:
        blocks.append(say("tensor.inflated", **values))
    else:
        first = place.offset + t.storage_offset * t.itemsize
        told = {"begin": place.offset, "first": first, **values}
        blocks.append(say("tensor.offset" if t.storage_offset else "tensor.start", **told))
        if subject.several:
            blocks.append(say("tensor.file", file=base_name(place.path)))
    rows = [(_index(e), "-" if e.offset is None else e.offset, Own(e.raw.hex(" ")), _number(e.value)) for e in found]
    blocks.append(table(say, ("head.element", "head.byte", "head.raw", "head.number"), "lrlr", rows))
    last = found[-1]
    if t.shape and last.offset is not None and place.offset is not None:
        steps = " + ".join(f"{i} x {s}" for i, s in zip(last.index, t._strides, strict=True))
        steps = f"{steps} + {t.storage_offset}" if t.storage_offset else steps
        told = {"index": _index(last), "steps": Own(steps), "begin": place.offset, "at": last.offset}
        blocks.append(say("tensor.address", itemsize=t.itemsize, **told))
    blocks.append(say("tensor.big" if place.swapped else "tensor.little") if t.itemsize > 1 else None)
    if t.dtype in FLOATS:
        chosen = next((e for e in found if bits_of(e.raw, t.dtype, place.swapped).kind in WORTH_BITS), found[0])
        bits = bits_of(chosen.raw, t.dtype, place.swapped)
        facts["bits"] = {"index": list(chosen.index), **bits.to_dict()}
        blocks += _bits(say, chosen, bits, t.dtype, place.swapped)
    elif t.kind == "quantized":
        blocks.append(_quantized(say, t, found[0], facts))
    else:
        blocks.append(say("tensor.integer", itemsize=t.itemsize, bits=8 * t.itemsize))
    return section(say, 3, "tensor", blocks, facts)


def _indices(t: Tensor) -> list[tuple[int, ...]]:
    """The first ones, and one of the next row."""
    shape = t.shape
    found = first_indices(shape, MOST_ELEMENTS - 2)
    if len(shape) > 1 and shape[-2] > 1:
        found.append((*(0 for _ in shape[:-2]), 1, 0))
    found.append(tuple(n - 1 for n in shape))
    return list(dict.fromkeys(found))


def _product(t: Tensor) -> Own:
    if len(t.shape) < 2:
        return Own(f"{t.numel:,}")
    return Own(f"{' x '.join(map(str, t.shape))} = {t.numel:,}")


def _index(e: Element) -> Own:
    return Own("[" + ", ".join(map(str, e.index)) + "]")


def _number(value: float | int) -> Own:
    return Own(f"{value:.9g}" if isinstance(value, float) else str(value))


def _bits(say: Words, e: Element, bits: Bits, dtype: str, swapped: bool) -> list[Any]:
    turned = e.raw if swapped else e.raw[::-1]
    values = {**bits.to_dict(), "index": _index(e), "turned": Own(hex_of(turned)), "n": 8 * len(e.raw)}
    values |= {"bits": Own(bits.bits), "dtype": dtype, "scale": 1 << bits.mantissa_bits, "value": _number(e.value)}
    lines = [say("bits.split", **values)]
    rows: list[tuple[Any, ...]] = [
        (say("bits.sign"), 1, Own(bits.bits.split()[0]), say(f"bits.sign.{bits.sign}")),
        (
            say("bits.exponent"),
            bits.exponent_bits,
            Own(bits.bits.split()[1]),
            say(f"bits.exponent.{EXPONENTS[bits.kind]}", **values),
        ),
        (say("bits.mantissa"), bits.mantissa_bits, Own(bits.bits.split()[2]), say("bits.mantissa.means", **values)),
    ]
    sign = "-" if bits.sign else ""
    values["product"] = Own(f"{sign}2^{bits.power} x {bits.significand:.9g}")
    return [*lines, table(say, ("", "head.bits", "", "head.means"), "lrll", rows), say(f"bits.{bits.kind}", **values)]


def _quantized(say: Words, t: Tensor, e: Element, facts: dict[str, Any]) -> Own | None:
    """An integer that stands for (integer - zero point) x scale."""
    try:
        with guard("its scales"):
            scale, zero, axis = t.scale, t.zero_point, t.axis
            if axis is not None:
                at = e.index[axis]
                scale, zero = scale[at], float(zero[at]) if zero.dtype.kind == "f" else int(zero[at])
            scale = float(scale)
    except PthError:
        return None
    facts["quantization"] = {"scale": float(scale), "zero_point": zero, "value": (e.value - zero) * scale}
    values = {"q": _number(e.value), "zero": _number(zero), "scale": _number(scale)}
    return say("tensor.quantized", value=_number((e.value - zero) * scale), **values)
