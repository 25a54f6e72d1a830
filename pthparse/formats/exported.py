"""Programs of torch.export (.pt2): their weights and constants, what the graph takes and gives. It is never run.

`data/weights/<model>_weights_config.json` says of each tensor which record holds its storage, and how it lies there;
`models/<model>.json` is the graph (torch/export/pt2_archive, schema of torch/_export/serde/schema.py). Before torch 2.8
the graph is `serialized_exported_program.json`, and weights and constants are each a file of torch.save in the archive.
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
# Before 2.8: a graph, and files of torch.save; 2.1 and 2.2 called these .json.
PROGRAM, STATE_DICT = "serialized_exported_program.json", "serialized_state_dict"
CONSTANTS = "constants/"
OLD = ((STATE_DICT, ""), ("serialized_constants", CONSTANTS))
OLD_MEMBERS = (PROGRAM, "version", "serialized_example_inputs.pt")
ENDINGS = (".pt", ".json")
# Folder of the records, and how the names of their tensors begin.
KINDS = (("weights", ""), ("constants", CONSTANTS))
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
# And what that makes of a tensor.
ROLES = {"parameter": "parameters", "buffer": "buffers", "tensor_constant": "other"}


def prefix_of(box: ZipContainer) -> str | None:
    """The folder that the archive has everything in, if it is such a program with its weights."""
    for name in box.named:
        if name == FORMAT or name.endswith(f"/{FORMAT}"):
            prefix: str = name[: -len(FORMAT)]
            if any(map(is_config, _below(box, f"{prefix}data/weights/"))) or _files(box, prefix, "weights"):
                return prefix
        elif name == PROGRAM or name.endswith(f"/{PROGRAM}"):
            prefix = name[: -len(PROGRAM)]
            if any(f"{prefix}{STATE_DICT}{ending}" in box.named for ending in ENDINGS):
                return prefix
    return None


def read(box: ZipContainer) -> None:
    """Fills the container: its table, its names, and what the graph says of its inputs and outputs."""
    box.format = "pt2"
    models = sorted(_configs(box, "weights"))
    files = {} if models else _files(box, box.prefix, "weights")
    if box.prefix + PROGRAM in box.named and not models and not files:
        said = {"": box.prefix + PROGRAM}
        parts = [(f"{box.prefix}{name}{e}", inner) for name, inner in OLD for e in ENDINGS]
        _read_nested(box, [(member, inner) for member, inner in parts if member in box.named])
    else:
        several = len(models or files) > 1
        said = {f"{m}/" if several else "": f"{box.prefix}models/{m}.json" for m in models or sorted(files)}
        if files:
            parts = [
                (member, (f"{m}/" if several else "") + inner)
                for folder, inner in KINDS
                for m, member in sorted(_files(box, box.prefix, folder).items())
            ]
            _read_nested(box, parts)
        else:
            _read_configs(box, said, models)
    box.metadata = dict(_signature(box, said))


def _read_configs(box: ZipContainer, said: dict[str, str], models: list[str]) -> None:
    """Of torch 2.8 and later: each tensor as a config says it lies in a record."""
    store = box._store("data/")
    graph = _core.Graph(box.arena)
    table = _core.Tensors(graph, store, box.c_limits, False)
    names: dict[str, int] = {}
    known: dict[Any, int] = {}
    for model, outer in zip(models, said, strict=True):
        for folder, inner in KINDS:
            name = _configs(box, folder).get(model)
            if name is None:
                continue
            rows = _document(box, name).get("config")
            if not isinstance(rows, dict):
                raise FormatError("pt2-config", "no list of tensors as torch writes it", member=name)
            for fqn, of in rows.items():
                row = _add(box, table, store, known, folder, fqn, of, name)
                if row is not None:
                    names[outer + inner + fqn] = row
                    box.roles[outer + inner + fqn] = "parameters" if of.get("is_param") is True else "buffers"
    box.store, box.tensors, box.names = store, table, names


def _read_nested(box: ZipContainer, parts: list[tuple[str, str]]) -> None:
    """Of torch before: files of torch.save, whose tensors have names of their own. parts: (member, how they begin)"""
    from .nested import Nested

    nested = Nested(box)
    for member, begin in parts:
        nested.read(member, box.named[member], begin)
    box.nested = nested
    box.store, box.tensors = nested.finish()
    box.names = nested.names
    if nested.parameters:
        box.roles.update((n, "parameters" if n in nested.parameters else "buffers") for n in nested.names)


def _below(box: ZipContainer, folder: str) -> list[str]:
    return [n for n in box.named if n.startswith(folder)]


def _files(box: ZipContainer, prefix: str, folder: str) -> dict[str, str]:
    """Model -> the member that torch.save wrote of its tensors: before there were records for each (torch 2.8.0)."""
    begin = f"{prefix}data/{folder}/"
    return {n[len(begin) : -3]: n for n in _below(box, begin) if n.endswith(".pt")}


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


def _add(
    box: ZipContainer, table: Any, store: Any, known: dict[Any, int], folder: str, fqn: str, said: Any, member: str
) -> int | None:
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
        key = (span, index, tuple(sizes), tuple(strides), offset, bool(meta.get("requires_grad")))
        if key not in known or span is None:
            known[key] = int(table.add(*key, box.c_limits))
        return known[key]
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


def _signature(box: ZipContainer, models: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Path -> names of what each graph takes and gives: inputs of the user, parameters, buffers, constants, outputs.

    models: how the names of each begin, and the member that holds its graph. Roles of tensors are learned from it, too.
    """
    for outer, member in models.items():
        if member not in box.named:
            continue
        try:
            program = _document(box, member)
            signature = program["graph_module"]["signature"]
            found = _specs(signature) if "input_specs" in signature else _specs_of_2_1(signature)
        except PthError as e:
            box.blame(e, member)
            continue
        except (AttributeError, KeyError, TypeError, ValueError):
            box.find("signature", member, None)
            continue
        roles = {n: role for kind, role in ROLES.items() for n in found.get(f"inputs/{kind}", ())}
        for name in box.names or ():
            inside = name[len(outer) :] if name.startswith(outer) else None
            constant = inside is not None and inside.startswith(CONSTANTS)
            role = roles.get(inside.removeprefix(CONSTANTS) if inside is not None else "")
            if role is not None or constant:
                box.roles[name] = role or "other"
        version = program.get("torch_version")
        if isinstance(version, str):
            yield f"{outer}torch_version", version[:100]
        for kind, names in found.items():
            text = ", ".join(names)
            yield f"{outer}{kind}", text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _specs(signature: Any) -> dict[str, list[str]]:
    """Kind -> names of inputs and outputs, in their order."""
    found: dict[str, list[str]] = {}
    for spec in signature["input_specs"]:
        ((kind, said),) = spec.items()
        name = said.get(INPUTS[kind]) if kind in INPUTS else _argument(said.get("arg"))
        found.setdefault(f"inputs/{kind}", []).append(str(name))
    for spec in signature["output_specs"]:
        ((kind, said),) = spec.items()
        found.setdefault(f"outputs/{kind}", []).append(_argument(said.get("arg")))
    return found


def _specs_of_2_1(signature: Any) -> dict[str, list[str]]:
    """The same, as torch 2.1 wrote it."""
    mutated = signature.get("buffers_to_mutate") or {}
    found = {
        "inputs/parameter": [*signature["inputs_to_parameters"].values()],
        "inputs/buffer": [*signature["inputs_to_buffers"].values()],
        "inputs/user_input": [*signature["user_inputs"]],
        "outputs/buffer_mutation": [*mutated],
        "outputs/user_output": [*signature["user_outputs"]],
    }
    return {kind: [*map(str, names)] for kind, names in found.items() if names}


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
    if box.nested is not None and f"{box.prefix}{PROGRAM}" in box.named:
        files = [f"{part}{ending}" for part, _ in OLD for ending in ENDINGS]
        return inside in OLD_MEMBERS or inside in files or inside.startswith("extra_files/")
    folders = ("models/", "data/aotinductor/", "data/sample_inputs/", "extra/")
    if inside in (FORMAT, "archive_version") or inside.startswith(folders) or is_config(inside):
        return True
    return box.nested is not None and any(inner.member == name for inner in box.nested.inner)


def is_storage(box: ZipContainer, name: str) -> bool:
    """A record of a tensor?"""
    folders = (f"{box.prefix}data/weights/", f"{box.prefix}data/constants/")
    return box.nested is None and name.startswith(folders) and not is_config(name)


def is_code(box: ZipContainer, name: str) -> bool:
    """Of a program: its graphs, which a loader makes code of, and what was compiled ahead of time."""
    inside = name[len(box.prefix) :] if name.startswith(box.prefix) else name
    return inside == PROGRAM or inside.startswith(("models/", "data/aotinductor/"))


def writer(box: ZipContainer) -> str:
    version = (box.metadata or {}).get("torch_version")
    if box.nested is None:
        box.evidence.append(f"members {FORMAT} and *_weights_config.json: torch.export, 2.8 or later")
        return f"torch.export, torch {version or '2.8 or later'}"
    if f"{box.prefix}{PROGRAM}" not in box.named:
        box.evidence.append(f"members {FORMAT} and data/weights/*.pt: torch.export, 2.8")
        return f"torch.export, torch {version or '2.8'}"
    box.evidence.append(f"member {PROGRAM}: torch.export, before 2.8")
    return f"torch.export, torch {version or '2.1 to 2.7'}"
