"""What a model takes: its size at each precision, memory to run and to train it, each with its formula and source.

All of it is arithmetic on the shapes in the file, and on a config.json beside it. What names were read as is marked as
inferred.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .capacity import BUFFERS, OPTIMIZER, PARAMETERS, ROLES
from .errors import PthError
from .record import Record
from .source import is_url, open_source

if TYPE_CHECKING:
    from .capacity import Capacity
    from .checkpoint import Checkpoint

CONFIG_BYTES = 1 << 20
TOKENS = 2048  # of a sequence, where neither the caller nor a config says
GROUP = 128  # weights that share one scale in 4 bits
LARGEST = 1 << 40  # of a number in a config
INTEGERS = {row[0] for row in _core.DTYPES if row[0].startswith(("int", "uint", "q", "bits")) or row[0] == "bool"}

TORCH = "torch: the dtype's itemsize"
ZERO = "ZeRO (Rajbhandari 2020), 3.1"
MEGATRON = "the same, gradients added up in float32 (Megatron-LM)"
ADAMW = "torch.optim.AdamW: exp_avg, exp_avg_sq"
FP8 = "FP8 formats (Micikevicius 2022); a float32 scale for a matrix"
INT8 = "LLM.int8() (Dettmers 2022); a float32 scale for a row"
INT4 = f"GPTQ (Frantar 2022); a float16 scale for {GROUP} weights"
CACHE = "Pope 2022, 3.3; K and V in 16 bits"

# Names of a layer's projections to keys and values: their rows (or columns) tell what is kept for a token.
SPLIT = re.compile(r"(?:^|\.)(?:k_proj|key|wk|to_k|k_lin|v_proj|value|wv|to_v|v_lin)\.weight$")
# Rows of a fused projection: queries, as many as the columns; the rest are keys and values.
FUSED = re.compile(r"(?:^|\.)(?:in_proj_weight|(?:query_key_value|qkv_proj|qkv|Wqkv|W_pack)\.weight)$")
TRANSPOSED = re.compile(r"(?:^|\.)c_attn\.weight$")  # GPT-2's Conv1D: the columns are what it puts out
CROSS = re.compile(
    r"(?:^|\.)(?:multihead_attn|cross_attn|encoder_attn|crossattention|EncDecAttention|attn2|cross_attention)\."
)
ENCODER = re.compile(r"(?:^|\.)encoder\.")
DECODER = re.compile(r"(?:^|\.)decoder\.")


class Figure(Record):
    """One answer in bytes, how it was reckoned, and on whose word; `inferred`: it rests on names alone."""

    name: str
    nbytes: int
    formula: str
    source: str
    inferred: bool


class Cache(Record):
    """What attention keeps for each token.

    Attributes
    ----------
    layers : int
        That keep keys and values.
    elements : int
        Of all of them for one token: 2 x layers x kv_heads x head_dim.
    cross_elements : int
        The same of layers that look at another sequence, for each token of that.
    source : str
        Where it is known from.
    inferred : bool
    """

    layers: int
    elements: int
    cross_elements: int
    source: str
    inferred: bool


class Plan(Record):
    """What a model takes.

    Attributes
    ----------
    parameters : int
    matrix_elements : int
        Parameters in tensors of two dimensions and more: those that are quantized.
    buffer_bytes : int
        Bytes of the model's buffers, which keep their dtype.
    tokens, batch : int
        Of the sequences that the cache is reckoned for.
    tokens_source : str
        Who says so.
    cache : Cache or None
        None: neither the shapes nor a config tell.
    weights, run, train : tuple of Figure
        Size at each precision; memory to run it; memory to train it, activations left out.
    notes : tuple of str
    """

    parameters: int
    matrix_elements: int
    buffer_bytes: int
    tokens: int
    tokens_source: str
    batch: int
    cache: Cache | None
    weights: tuple[Figure, ...]
    run: tuple[Figure, ...]
    train: tuple[Figure, ...]
    notes: tuple[str, ...]


class _Matrices(NamedTuple):
    """Of the model's parameters: elements in matrices, how many matrices, their rows, their groups, and the rest."""

    elements: int
    matrices: int
    rows: int
    groups: int
    others: int


def plan_of(ckpt: Checkpoint, tokens: int | None = None, batch: int = 1) -> Plan:
    """Reckons; PthError as `Checkpoint.capacity` says."""
    capacity = ckpt.capacity()
    shapes = _shapes(ckpt, capacity)
    m = _matrices(shapes)
    config, notes = _config(ckpt.path)
    cache, more = _cache(config, shapes)
    notes += more
    if cache is not None and cache.inferred:
        notes.append(
            "the KV cache is inferred from names and shapes, and needed only if the model generates token by token"
        )
    most = _number(config, "max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    source = "asked for" if tokens else "config.json: its longest sequence" if most else "an example"
    tokens = tokens or most or TOKENS
    by_role = {g.name: g for g in capacity.groups("role")}
    buffers = _nbytes(_by_dtype(capacity, BUFFERS))
    weights = tuple(_weights(capacity, m, buffers, _nbytes(_by_dtype(capacity, PARAMETERS))))
    if integers := _integers(capacity):
        packed = "where several weights are packed in one, the model has more of them"
        notes.append(f"{integers:,} elements of the model are integers: {packed}")
    notes.append(
        "activations, temporary buffers and what an allocator holds back are left out: the program decides on them"
    )
    optimizer = by_role[OPTIMIZER].nbytes if OPTIMIZER in by_role else 0
    return Plan(
        parameters=capacity.parameters,
        matrix_elements=m.elements,
        buffer_bytes=buffers,
        tokens=tokens,
        tokens_source=source,
        batch=batch,
        cache=cache,
        weights=weights,
        run=tuple(_run(weights, cache, tokens, batch)),
        train=tuple(_train(capacity.parameters, buffers, optimizer)),
        notes=tuple(notes),
    )


# ---- the model ----


def _shapes(ckpt: Checkpoint, capacity: Capacity) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the model's parameters, each counted once."""
    columns = capacity._columns
    role = ROLES.index(PARAMETERS)
    return {
        t.name: tuple(t.shape)
        for t, n, r in zip(ckpt.values(), columns.elements, columns.roles, strict=True)
        if r == role and n
    }


def _matrices(shapes: Mapping[str, Sequence[int]]) -> _Matrices:
    elements = count = rows = groups = others = 0
    for shape in shapes.values():
        n = 1
        for size in shape:
            n *= max(0, size)
        if len(shape) < 2:
            others += n
            continue
        row = n // shape[0] if shape[0] > 0 else 0
        elements += n
        count += 1
        rows += max(0, shape[0])
        groups += max(0, shape[0]) * -(-row // GROUP)
    return _Matrices(elements, count, rows, groups, others)


def _by_dtype(capacity: Capacity, role: str) -> dict[str, int]:
    """dtype -> elements of one role."""
    columns, wanted = capacity._columns, ROLES.index(role)
    found: dict[str, int] = {}
    for dtype, n, r in zip(columns.dtypes, columns.elements, columns.roles, strict=True):
        if r == wanted:
            name = _core.DTYPES[dtype][0]
            found[name] = found.get(name, 0) + n
    return found


def _nbytes(elements: Mapping[str, int]) -> int:
    rows = {row[0]: row for row in _core.DTYPES}
    return sum(-(-n // rows[dtype][3]) * rows[dtype][2] for dtype, n in elements.items())


def _integers(capacity: Capacity) -> int:
    return sum(n for dtype, n in _by_dtype(capacity, PARAMETERS).items() if dtype in INTEGERS)


# ---- figures ----


def _weights(capacity: Capacity, m: _Matrices, buffers: int, saved: int) -> Iterator[Figure]:
    p, kept = capacity.parameters, f" + {buffers:,} of buffers" if buffers else ""
    dtypes = ", ".join(sorted(_by_dtype(capacity, PARAMETERS)))
    yield Figure("as saved", saved + buffers, f"elements x itemsize ({dtypes}){kept}", TORCH, False)
    yield Figure("float32", 4 * p + buffers, f"4 x {p:,}{kept}", TORCH, False)
    yield Figure("bfloat16, float16", 2 * p + buffers, f"2 x {p:,}{kept}", TORCH, False)
    rest = f" + 2 x {m.others:,} in vectors{kept}"
    small = 2 * m.others + buffers
    yield Figure(
        "float8",
        m.elements + 4 * m.matrices + small,
        f"1 x {m.elements:,} + 4 x {m.matrices:,} scales{rest}",
        FP8,
        False,
    )
    yield Figure(
        "int8", m.elements + 4 * m.rows + small, f"1 x {m.elements:,} + 4 x {m.rows:,} scales{rest}", INT8, False
    )
    half = -(-m.elements // 2)
    yield Figure(
        "int4", half + 2 * m.groups + small, f"0.5 x {m.elements:,} + 2 x {m.groups:,} scales{rest}", INT4, False
    )


def _run(weights: Sequence[Figure], cache: Cache | None, tokens: int, batch: int) -> Iterator[Figure]:
    kept = 0
    if cache is not None:
        token = 2 * cache.elements
        yield Figure(
            "KV cache, one token",
            token,
            f"2 bytes x {cache.elements:,} elements ({cache.source})",
            CACHE,
            cache.inferred,
        )
        if cache.cross_elements:
            n = cache.cross_elements
            text = f"2 bytes x {n:,} elements (cross attention)"
            yield Figure("KV cache, one token it attends to", 2 * n, text, CACHE, cache.inferred)
        kept = batch * tokens * token
        text = f"{batch:,} x {tokens:,} tokens x {token:,}"
        yield Figure(f"KV cache, {tokens:,} tokens", kept, text, CACHE, cache.inferred)
    with_cache = " + KV cache" if cache is not None else ""
    for f in weights[2:]:
        text = f"weights {f.nbytes:,}" + (f" + {kept:,}" if kept else "")
        yield Figure(
            f"run in {f.name}{with_cache}", f.nbytes + kept, text, f.source, cache is not None and cache.inferred
        )


def _train(p: int, buffers: int, optimizer: int) -> Iterator[Figure]:
    kept = f" + {buffers:,} of buffers" if buffers else ""
    n = f"{p:,}"
    yield Figure("gradients, float32", 4 * p, f"4 x {n}", "torch: .grad has its parameter's dtype", False)
    yield Figure("AdamW moments, float32", 8 * p, f"2 moments x 4 x {n}", ADAMW, False)
    if optimizer:
        yield Figure("optimizer state in this file", optimizer, "as saved", "the file, by its names", True)
    yield Figure(
        "train, float32, AdamW", 16 * p + buffers, f"(4 weights + 4 gradients + 8 moments) x {n}{kept}", ADAMW, False
    )
    text = f"(2 weights + 2 gradients + 4 master weights + 8 moments) x {n}{kept}"
    yield Figure("train, mixed 16/32 bit, AdamW", 16 * p + buffers, text, ZERO, False)
    text = f"(2 weights + 4 gradients + 4 master weights + 8 moments) x {n}{kept}"
    yield Figure("train, mixed, float32 gradients", 18 * p + buffers, text, MEGATRON, False)
    yield Figure(
        "train, all bfloat16, AdamW",
        8 * p + buffers,
        f"(2 weights + 2 gradients + 4 moments) x {n}{kept}",
        ADAMW,
        False,
    )


# ---- what attention keeps ----


def _config(path: str | None) -> tuple[dict[str, Any], list[str]]:
    """A config.json beside the file, or in the directory, as far as it can be read."""
    import json
    import os

    if path is None or is_url(path):  # a name that was not given is not fetched
        return {}, []
    folder = path if os.path.isdir(path) else os.path.dirname(path)  # noqa: PTH112, PTH120 - pathlib is slow to import
    beside = os.path.join(folder, "config.json")  # noqa: PTH118
    if not os.path.lexists(beside):
        return {}, []
    try:
        source = open_source(beside)
        try:
            found = json.loads(bytes(source.window(0, CONFIG_BYTES)))
        finally:
            source.close()
        if not isinstance(found, dict):
            raise TypeError("it is no object")
    except (PthError, OSError, ValueError, TypeError, RecursionError) as e:
        return {}, [f"config.json beside the file cannot be used: {str(e)[:200]}"]
    inner = found.get("text_config")
    return inner if isinstance(inner, dict) and _number(inner, "num_hidden_layers") else found, []


def _number(config: Mapping[str, Any], *names: str) -> int:
    """A sensible count, under the first of these names that has one; else 0."""
    values = (config.get(name) for name in names)
    return next((v for v in values if type(v) is int and 0 < v < LARGEST), 0)


def _cache(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> tuple[Cache | None, list[str]]:
    """From a config, which names them; else from the shapes of projections."""
    seen = _by_shapes(shapes)
    layers = _number(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    heads = _number(config, "num_attention_heads", "n_head", "n_heads", "num_heads")
    width = _number(config, "hidden_size", "n_embd", "d_model", "dim")
    kv_heads = _number(config, "num_key_value_heads", "n_kv_heads", "num_kv_heads") or heads
    head = _number(config, "head_dim", "d_kv") or (width // heads if heads else 0)
    if not (layers and kv_heads and head):
        return seen, []
    n = 2 * layers * kv_heads * head
    text = f"config.json: 2 x {layers:,} layers x {kv_heads:,} KV heads x {head:,}"
    cross = seen.cross_elements if seen else 0
    notes = []
    if seen is not None and seen.elements != n:
        notes.append(f"the shapes say {seen.elements:,} elements of KV cache for a token, config.json {n:,}")
    return Cache(layers, n, cross, text, False), notes


def _by_shapes(shapes: Mapping[str, Sequence[int]]) -> Cache | None:
    own: dict[str, int] = {}
    cross: dict[str, int] = {}
    decoders = any(DECODER.search(name) for name in shapes)
    for name, shape in shapes.items():
        if len(shape) != 2 or (decoders and ENCODER.search(name)):
            continue
        rows, columns = shape
        if SPLIT.search(name):
            n = rows
        elif FUSED.search(name):
            n = rows - columns
        elif TRANSPOSED.search(name):
            n = columns - rows
        else:
            continue
        if n > 0:
            layer = (
                name.rpartition(".")[0]
                if name.endswith("in_proj_weight")
                else name.rpartition(".")[0].rpartition(".")[0]
            )
            kept = cross if CROSS.search(name) else own
            kept[layer] = kept.get(layer, 0) + n
    if not own:
        return None
    text = f"shapes of {len(own):,} attention layers"
    return Cache(len(own), sum(own.values()), sum(cross.values()), text, True)
