"""TorchScript in a zip: what state_dict() has, the constants, and the containers of torch 1.0 to 1.3.

The code members are read as text for two lists, `__parameters__` and `__buffers__`, and for the constants of modules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import _core
from ..errors import FormatError, LimitError, PthError

if TYPE_CHECKING:
    from .zip import ZipContainer

CODE_LIMIT = 1 << 26
NAME_BYTES = 1 << 16
CLASS = re.compile(r"^class ([A-Za-z_]\w*)\(", re.MULTILINE)
LIST = re.compile(r"^[ \t]+__(parameters|buffers)__ = \[([^\]\n]*)\]", re.MULTILINE)
CONSTANT = re.compile(r"^[ \t]+([A-Za-z_]\w{0,99}) : Final\[[^\n]{0,200}\] = ([^\n]{1,200})$", re.MULTILINE)
WORDS: dict[str, Any] = {
    "True": True,
    "False": False,
    "None": None,
}
UNREAD = object()
STRING = re.compile(r'"([^"\n]*)"')

# dataType of model.json (caffe2's TensorProto) -> torch's name.
DATA_TYPES = {
    "FLOAT": "float32", "INT32": "int32", "BYTE": "uint8", "BOOL": "bool", "UINT8": "uint8", "INT8": "int8",
    "INT16": "int16", "INT64": "int64", "FLOAT16": "float16", "DOUBLE": "float64",
}  # fmt: skip


def read_code(box: ZipContainer, constants: int) -> None:
    """Adds what TorchScript has beside data.pkl."""
    graph = box.parse_member(constants)
    store = box._store("constants/")
    box.claims.append((box.pickles[-1], store))
    box.parts["constants"] = (box.read_tensors(graph, store), box.pickles[-1])
    box.folder = "data/"
    registered: dict[str, frozenset[str]] = {}
    constants_of: dict[str, dict[str, Any]] = {}
    listed = False
    code = box.prefix + "code/"
    left = CODE_LIMIT
    for name, entry in box.named.items():
        if not (name.startswith(code) and name.endswith(".py")):
            continue
        size = box.zip.entry(entry)[2]
        if size > left:
            box.find("code-size", name, None)
            return
        left -= size
        text = bytes(box.read_member(entry)[0]).decode("utf-8", "replace")
        module = name[len(code) : -len(".py")].replace("/", ".")
        for cls, body in _classes(text):
            names: set[str] = set()
            found = {name: _constant(value) for name, value in CONSTANT.findall(body)}
            known = {name: value for name, value in found.items() if value is not UNREAD}
            for kind, items in LIST.findall(body):
                names.update(STRING.findall(items))
                listed = listed or kind == "buffers"
                if kind == "parameters":
                    known["__parameters__"] = frozenset(STRING.findall(items))
            registered[f"{module}.{cls}"] = frozenset(names)
            constants_of[f"{module}.{cls}"] = known
    box.constants = constants_of
    # Before 1.7 or so nobody listed the buffers: then every tensor counts.
    box.registered = registered if listed else None


def _classes(text: str) -> list[tuple[str, str]]:
    starts = list(CLASS.finditer(text))
    ends = [m.start() for m in starts[1:]] + [len(text)]
    return [(m[1], text[m.end() : end]) for m, end in zip(starts, ends, strict=False)]


def _constant(text: str) -> Any:
    """The value of a constant that is a number, a word, a text, or a tuple or list of these; else UNREAD."""
    if text[0] in "([" and text[-1] in ")]":
        items = [_constant(item) for item in text[1:-1].split(", ")] if text[1:-1] else []
        return UNREAD if UNREAD in items else tuple(items)
    text = text.rstrip(",")
    if text in WORDS:
        return WORDS[text]
    if len(text) > 1 and text[0] == text[-1] == '"' and "\\" not in text:
        return text[1:-1]
    try:
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    except ValueError:
        return UNREAD


def read_model_json(box: ZipContainer) -> None:
    """The container of torch 1.0 to 1.3: model.json describes modules and tensors, tensors/N are the storages."""
    box.format = "torchscript"
    entry = box.member("model.json")
    assert entry is not None
    name = box.zip.name(entry)
    data, _ = box.read_member(entry, 1 << 28)
    try:
        model = json.loads(bytes(data))
        rows = model["tensors"]
        main = model["mainModule"]
        if not isinstance(rows, list) or not isinstance(main, dict):
            raise TypeError("tensors must be a list, mainModule an object")
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise FormatError("torchscript-json", f"model.json is not as torch writes it: {e}", member=name) from None
    store = box._store("")
    graph = _core.Graph(box.arena)
    table = _core.Tensors(graph, store, box.c_limits, False)
    try:
        made = [_add(box, table, store, row) for row in rows]
        attributes = _attributes(box)
        box.names = {}
        left = NAME_BYTES + 16 * len(data)
        for n, i in _names(main, attributes):
            left -= len(n)
            if left < 0:
                raise LimitError("max_name_bytes", "the names of all tensors are much longer than model.json")
            if i < 0:
                raise IndexError(i)
            box.names[n] = made[i]
    except PthError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as e:
        raise FormatError(
            "torchscript-json", f"a tensor of model.json is not as torch writes it: {e!r}", member=name
        ) from None
    box.store = store
    box.folder = "tensors/"
    box.tensors = table


def _add(box: ZipContainer, table: Any, store: Any, row: dict[str, Any]) -> int:
    dtypes = [d[0] for d in _core.DTYPES]
    dtype = dtypes.index(DATA_TYPES[row["dataType"]])
    sizes = [int(n) for n in row.get("dims", [])]
    strides = [int(n) for n in row.get("strides", [])]
    span = store.find(str(row["data"]["key"]).encode())
    grad = bool(row.get("requiresGrad", False))
    return int(table.add(span, dtype, sizes, strides, int(row.get("offset", 0)), grad, box.c_limits))


def _attributes(box: ZipContainer) -> list[int | None]:
    """attributes.pkl: the tensor of each attribute, by build_tensor_from_id(n); None for other values."""
    entry = box.member("attributes.pkl")
    if entry is None:
        return []
    graph = box.parse_member(entry)
    out: list[int | None] = []
    for item in graph.items(graph.root):
        tensor = None
        if isinstance(item, _core.Ref):
            try:
                args = graph.call(item.id)[2]
                value = graph.items(args.id)[0]
                tensor = value if isinstance(value, int) else None
            except (TypeError, IndexError, AttributeError):
                tensor = None
        out.append(tensor)
    return out


def _names(main: dict[str, Any], attributes: list[int | None]) -> Iterator[tuple[str, int]]:
    """(name, tensor) in the order of state_dict(): a module's own, then its submodules'."""
    stack = [("", main)]
    while stack:
        prefix, module = stack.pop()
        for p in module.get("parameters", []):
            yield prefix + str(p["name"]), int(p["tensorId"])
        for a in module.get("attributes", []):
            tensor = attributes[int(a["id"])] if a.get("type") == "Tensor" else None
            if tensor is not None:
                yield prefix + str(a["name"]), tensor
        inner = module.get("submodules", [])
        if len(prefix) > NAME_BYTES and inner:
            raise LimitError("max_name_bytes", f"a module named by more than {NAME_BYTES} bytes")
        stack += [(f"{prefix}{m['name']}.", m) for m in reversed(inner)]
