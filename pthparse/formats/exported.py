"""Programs of torch.export (.pt2): their weights and constants, what the graph takes and gives. It is never run.

`data/weights/<model>_weights_config.json` says of each tensor which record holds its storage, and how it lies there;
`models/<model>.json` is the graph (torch/export/pt2_archive, schema of torch/_export/serde/schema.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import _core
from ..errors import FormatError, PthError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .zip import ZipContainer

FORMAT = "archive_format"
# Folder of the records, and how the names of their tensors begin.
KINDS = (("weights", ""), ("constants", "constants/"))
JSON_BYTES = 1 << 28
MOST_SHOWN = 1 << 16  # characters of one list of names
LAYOUT_STRIDED = 7
# ScalarType of the schema, which is not that of c10.
DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn",
    30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
# What a row of the graph's signature is called, and where its name stands.
INPUTS = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
    "custom_obj": "custom_obj_name",
}


def prefix_of(box: ZipContainer) -> str | None:
    """The folder that the archive has everything in, if it is such a program, of torch 2.8 or later."""
    for name in box.named:
        if name == FORMAT or name.endswith(f"/{FORMAT}"):
            prefix: str = name[: -len(FORMAT)]
            if any(n.startswith(prefix + "data/weights/") and n.endswith("_weights_config.json") for n in box.named):
                return prefix
    return None


def read(box: ZipContainer) -> None:
    """Fills the container: its table, its names, and what the graph says of its inputs and outputs."""
    box.format = "pt2"
    store = box._store("data/")
    graph = _core.Graph(box.arena)
    table = _core.Tensors(graph, store, box.c_limits, False)
    names: dict[str, int] = {}
    models = sorted(_configs(box, "weights"))
    for model in models:
        outer = f"{model}/" if len(models) > 1 else ""
        for folder, inner in KINDS:
            name = _configs(box, folder).get(model)
            if name is None:
                continue
            rows = _document(box, name).get("config")
            if not isinstance(rows, dict):
                raise FormatError("pt2-config", "no list of tensors as torch writes it", member=name)
            for fqn, said in rows.items():
                row = _add(box, table, store, folder, fqn, said, name)
                if row is not None:
                    names[outer + inner + fqn] = row
    box.store, box.tensors, box.names = store, table, names
    box.metadata = dict(_signature(box))


def _configs(box: ZipContainer, folder: str) -> dict[str, str]:
    """Model -> the member that lists its tensors."""
    begin, end = f"{box.prefix}data/{folder}/", f"_{folder}_config.json"
    return {n[len(begin) : -len(end)]: n for n in box.named if n.startswith(begin) and n.endswith(end)}


def _document(box: ZipContainer, name: str) -> dict[str, Any]:
    import json

    data, _ = box.read_member(box.named[name], JSON_BYTES)
    try:
        found = json.loads(bytes(data))
    except (ValueError, RecursionError) as e:
        raise FormatError("pt2-config", f"no JSON: {str(e)[:100]}", member=name) from None
    if not isinstance(found, dict):
        raise FormatError("pt2-config", "no object", member=name)
    return found


def _add(box: ZipContainer, table: Any, store: Any, folder: str, fqn: str, said: Any, member: str) -> int | None:
    """The row of one tensor; None: it is pickled in a file of its own, or no tensor, which is a finding."""
    try:
        if said.get("use_pickle"):
            text = f"{fqn!r} is pickled in a file of its own, {said.get('path_name')!r}"
            box.find("not-looked-into", member, None, text)
            return None
        meta, key = said["tensor_meta"], said["path_name"]
        if meta is None:  # an object of its own class
            return None
        if meta.get("layout") != LAYOUT_STRIDED or not isinstance(key, str):
            raise ValueError("neither a strided tensor nor a record")
        dtype = DTYPES.get(meta["dtype"]) if type(meta["dtype"]) is int else None
        if dtype is None:
            raise UnsupportedError(
                "tensor-dtype", f"tensor {fqn!r}: the dtype {str(meta['dtype'])[:20]}", member=member
            )
        sizes, strides = ([_whole(n) for n in meta[k]] for k in ("sizes", "strides"))
        offset = _whole(meta["storage_offset"])
        index = next(i for i, row in enumerate(_core.DTYPES) if row[0] == dtype)
        span = store.find(f"{folder}/{key}".encode())
        return int(table.add(span, index, sizes, strides, offset, bool(meta.get("requires_grad")), box.c_limits))
    except PthError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as e:
        text = f"tensor {fqn[:200]!r} is not as torch writes it: {str(e)[:100]}"
        raise FormatError("pt2-config", text, member=member) from None


def _whole(said: Any) -> int:
    n = said["as_int"]
    if type(n) is not int or not 0 <= n < 1 << 62:
        raise ValueError(f"not a size: {str(said)[:60]}")
    return n


def _signature(box: ZipContainer) -> Iterator[tuple[str, str]]:
    """Path -> names of what each graph takes and gives: inputs of the user, parameters, buffers, constants, outputs."""
    models = [n for n in box.named if n.startswith(f"{box.prefix}models/") and n.endswith(".json")]
    for member in models:
        outer = f"{member[len(box.prefix) + len('models/') : -len('.json')]}/" if len(models) > 1 else ""
        try:
            program = _document(box, member)
            signature = program["graph_module"]["signature"]
            found: dict[str, list[str]] = {}
            for spec in signature["input_specs"]:
                ((kind, said),) = spec.items()
                name = said.get(INPUTS[kind]) if kind in INPUTS else _argument(said.get("arg"))
                found.setdefault(f"inputs/{kind}", []).append(str(name))
            for spec in signature["output_specs"]:
                ((kind, said),) = spec.items()
                found.setdefault(f"outputs/{kind}", []).append(_argument(said.get("arg")))
        except PthError as e:
            box.blame(e, member)
            continue
        except (AttributeError, KeyError, TypeError, ValueError):
            box.find("signature", member, None)
            continue
        version = program.get("torch_version")
        if isinstance(version, str):
            yield f"{outer}torch_version", version[:100]
        for kind, names in found.items():
            text = ", ".join(names)
            yield f"{outer}{kind}", text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _argument(said: Any) -> str:
    """'x' of {"as_tensor": {"name": "x"}}; of a plain value its kind."""
    if isinstance(said, dict) and len(said) == 1:
        ((kind, value),) = said.items()
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return str(value["name"])
        return str(kind)
    return str(said["name"]) if isinstance(said, dict) and isinstance(said.get("name"), str) else "?"


def is_config(name: str) -> bool:
    return name.endswith(("_weights_config.json", "_constants_config.json"))


def is_known(box: ZipContainer, name: str) -> bool:
    """Does torch write it beside the records?"""
    inside = name[len(box.prefix) :] if name.startswith(box.prefix) else ""
    folders = ("models/", "data/aotinductor/", "data/sample_inputs/", "extra/")
    return inside in (FORMAT, "archive_version") or inside.startswith(folders) or is_config(inside)


def is_code(box: ZipContainer, name: str) -> bool:
    """Of a program: its graphs, which a loader makes code of, and what was compiled ahead of time."""
    inside = name[len(box.prefix) :] if name.startswith(box.prefix) else name
    return inside.startswith(("models/", "data/aotinductor/"))
