"""`pthparse show FILE NAME[SLICE]`: the values of one tensor, or of anything else in the file."""

from __future__ import annotations

import argparse
import math
import re
import sys
from typing import Any

from ..checkpoint import nearest
from ..checkpoint import open as open_checkpoint
from ..errors import PthError, UnsupportedError, escape
from ..record import Record
from ..stats import Stats
from ..values import children, type_name
from ..wording import shape, size
from .screen import width
from .stats import json_row, print_figures
from .text import FEW, head, jsonable, line, listed
from .verb import FILE, Verb, print_json, tensor_row

INTEGER = re.compile(r"[+-]?\d{1,18}")


def show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=FILE)
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a tensor, with a slice if wanted: 'embed.weight[0:5, ::2]'; or the path of another value",
    )


def parse_slice(text: str) -> tuple[Any, ...]:
    """numpy's basic indexing: integers, slices and '...', nothing else."""
    out: list[Any] = []
    for raw in text.split(","):
        part = raw.strip()
        if part == "...":
            out.append(...)
        elif ":" in part:
            ends = [p.strip() for p in part.split(":")]
            if len(ends) > 3 or not all(p == "" or INTEGER.fullmatch(p) for p in ends):
                raise UnsupportedError("slice", f"not a slice: {part!r}")
            found = slice(*(int(p) if p else None for p in ends))
            if found.step == 0:
                raise UnsupportedError("slice", f"a step of 0: {part!r}")
            out.append(found)
        elif INTEGER.fullmatch(part):
            out.append(int(part))
        else:
            raise UnsupportedError("slice", f"not an index: {part!r} (integers, slices and ... are)")
    return tuple(out)


def find(ckpt: Any, name: str) -> tuple[Any, tuple[Any, ...] | None]:
    """A tensor and the slice behind its name. A name that ends in brackets itself is found first."""
    if name in ckpt:
        return ckpt[name], None
    stem, bracket, rest = name.rpartition("[")
    if bracket and rest.endswith("]") and stem in ckpt:
        return ckpt[stem], parse_slice(rest[:-1])
    return None, None


def value_at(ckpt: Any, path: str) -> Any:
    """A value of the graph by its path; KeyError names what is near."""
    value, left = ckpt.root, path
    while left:
        below = dict(children(value))
        name = next((n for n in sorted(below, key=len, reverse=True) if left == n or left.startswith(f"{n}/")), None)
        if name is None and path in ckpt.metadata:  # given by the container itself
            return ckpt.metadata[path]
        if name is None:
            known = list(dict.fromkeys((*ckpt.metadata, *below, *ckpt)))
            raise KeyError(f"no tensor or value '{escape(path)}'{nearest(path, known)}")
        value, left = below[name], left[len(name) + 1 :]
    return value


def show(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file, mmap=False) as ckpt:
        t, index = find(ckpt, args.name)
        if t is None and args.name in ckpt.lost:
            raise ckpt.lost[args.name]
        if t is None:
            show_value(args, value_at(ckpt, args.name))
            return 0
        facts = tensor_facts(t)
        arrays = arrays_of(t) if index is None else {"": sliced(t, index, args.name)}
        if args.json:
            figures = [] if index is None and not arrays else statistics(t, index, arrays)
            told = {"stats": json_row(figures[0])} if len(figures) == 1 else {}
            print_json({"file": args.file, **facts, **told, "values": {k: json_values(a) for k, a in arrays.items()}})
        else:
            print_tensor(facts, arrays)
            print_statistics(t, index, arrays)
    return 0


def statistics(t: Any, index: Any, arrays: dict[str, Any]) -> list[Stats]:
    """Of all of a tensor, or of the slice that is shown; none where there are none."""
    from ..engine import measure, measure_array

    try:
        return [measure_array(t.name, arrays[""], True)] if index is not None else list(measure([t], histogram=True))
    except PthError:
        return []


def print_statistics(t: Any, index: Any, arrays: dict[str, Any]) -> None:
    for s in statistics(t, index, arrays):
        if s.numel > 1:
            print_figures(s)


def show_value(args: argparse.Namespace, value: Any) -> None:
    from ..values import preview

    is_array = type(value).__module__ == "numpy" and hasattr(value, "dtype")
    facts = value.to_dict() if isinstance(value, Record) else value
    if args.json:
        shown = json_values(value) if is_array else jsonable(facts)
        print_json({"file": args.file, "path": args.name, "type": type_name(value), "value": shown})
        return
    head(args.name, type_name(value) + (f" {value.dtype} {shape(value.shape)}" if is_array else ""))
    if is_array:
        print_array(value)
    else:
        line(preview(facts))


def tensor_facts(t: Any) -> dict[str, Any]:
    storage = t.storage
    facts = {
        **tensor_row(t),
        "stride": list(t.stride),
        "storage_offset": t.storage_offset,
        "device": t.device,
        "parameter": t.parameter,
        "subclass": t.subclass,
    }
    if storage is not None:
        facts["storage"] = {**storage.to_dict(), "tensors": list(storage.tensors)}
    if t.kind == "quantized":
        facts["quantization"] = t.quantization
        facts["axis"] = t.axis
    return facts


def arrays_of(t: Any) -> dict[str, Any]:
    """What there is to show of a tensor: one array, or those it is made of."""
    if t.error is not None:
        raise t.error
    if t.kind == "sparse":
        names = ("indices", "values") if t.layout == "sparse_coo" else ("compressed_indices", "plain_indices", "values")
        return {n: getattr(t, n) for n in names}
    if t.kind == "nested":
        return {f"[{i}]": a for i, a in enumerate(t.unbind()[:FEW])}
    if t.kind == "subclass":
        return {n: leaf.numpy() for n, leaf in t.inner.items() if leaf.kind in ("dense", "quantized")}
    if t.kind in ("meta", "uninitialized"):
        return {}
    arrays = {"": t.numpy()}
    if t.kind == "quantized":
        arrays["scale"], arrays["zero_point"] = t.scale, t.zero_point
    return arrays


def sliced(t: Any, index: tuple[Any, ...], name: str) -> Any:
    """A slice of the one array that a tensor is."""
    array = t.numpy()  # a tensor that is no single array says what there is instead
    try:
        return array[index]
    except IndexError as e:
        raise UnsupportedError("slice", f"{escape(name)}: {e}") from None


def json_values(array: Any) -> Any:
    """Nested lists; more than 10,000 values are refused rather than cut in silence."""
    import numpy as np

    array = np.asarray(array)
    lists = math.prod(n or 1 for n in array.shape)  # empty ones count too
    if lists > 10_000:
        raise UnsupportedError("too-many-values", f"{lists:,} values: name a slice of at most 10,000")
    if array.dtype.kind == "c":
        return [jsonable([float(v.real), float(v.imag)]) for v in array.reshape(-1)]
    if array.dtype.isbuiltin == 2:  # bfloat16, float8: the numbers they are
        array = array.astype(np.float32)
    if array.dtype.kind not in "biufU":
        return jsonable([str(v) for v in array.reshape(-1)])
    return jsonable(array.tolist())


def print_array(array: Any) -> None:
    import numpy as np

    array = np.asarray(array)
    skipped = 0
    while array.ndim and np.prod([min(n, 6) for n in array.shape]) > 2000:
        array, skipped = array[0], skipped + 1
    if skipped:
        line(f"(the first [{', '.join('0' * skipped)}] of it)")
    room = width(sys.stdout) or 120
    plain = array.dtype.isbuiltin == 1 or array.dtype.kind not in "V"
    how: Any = None if plain else {"all": lambda v: f"{float(v):.8g}"}
    text = np.array2string(array, threshold=200, edgeitems=3, max_line_width=max(40, room - 1), formatter=how)
    for row in text.split("\n"):
        line(row)


def print_tensor(facts: dict[str, Any], arrays: dict[str, Any]) -> None:
    head(facts["name"], f"{facts['dtype']} {shape(facts['shape'])}   {size(facts['nbytes'])}")
    what = (
        [facts["kind"]]
        + (["parameter"] if facts["parameter"] else [])
        + ([facts["subclass"]] if facts["subclass"] else [])
    )
    if facts["layout"] != "strided":
        what.append(facts["layout"])
    line(
        f"{', '.join(what)}   stride {tuple(facts['stride'])}, offset {facts['storage_offset']}, "
        f"device {facts['device']}, requires_grad {facts['requires_grad']}"
    )
    storage = facts.get("storage")
    if storage:
        place = (
            f"byte {storage['file_offset']:,}" if storage["file_offset"] is not None else "no stored bytes of its own"
        )
        line(f"storage {storage['key']!r}   {size(storage['nbytes'])}, {place}")
        others = [n for n in storage["tensors"] if n != facts["name"]]
        if others:
            line(f"shares it with {listed(others)}")
    for name, array in arrays.items():
        if name:
            line(f"{name}:")
        print_array(array)
    if not arrays:
        line("no data")


VERB = Verb(
    show,
    show_arguments,
    "the values of one tensor, or of anything else in the file",
    "pthparse show model.pth 'embed.weight[0:5]'",
    "One tensor: where it lies and who shares its storage, its values, its statistics, and how many of its elements"
    " are of which magnitude (a bar for each power of two). A slice is written as numpy's. Anything else that was "
    "saved has a path.",
    (
        "pthparse show model.pth 'embed.weight[0, :4]' --json",
        "pthparse show training.ckpt optimizer/param_groups/0/lr",
    ),
    no="",
)
