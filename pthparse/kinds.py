"""What a module is, by the names and shapes of what lies in it: the table of patterns, and how one is matched.

Where a file holds tensors alone, the classes of its modules are gone. What follows from names and shapes is inferred,
with what it was inferred from; what may be several things stays without a kind, and its evidence lists them.

A pattern's leaves are the names of a module's own tensors, each with its dimensions:

    weight:out_features,in_features bias?:out_features

Dimensions of one name are equal and go into the module's configuration; `3*embed_dim` is three times that,
`*kernel_size` all that are left, `_` any. `?`: it may be absent. Tensors that are not named make another module of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Pattern(NamedTuple):
    """One row. `names`: what the module itself must be called; `below`: children that it must have."""

    kind: str
    leaves: str
    text: str
    evidence: str
    names: re.Pattern[str] | None = None
    below: tuple[str, ...] = ()
    more: re.Pattern[str] | None = None  # further tensors that it may have


def words(*alternatives: str) -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(alternatives)})$", re.IGNORECASE)


# Names that say what a lone matrix is, or a lone pair of vectors.
EMBEDDINGS = words(
    r"(?:.*_)?(?:emb|embed|embeds|embedding|embeddings|embedding_table)", r"w[tp]e", r"embed_(?:tokens|positions|in)",
    r"(?:tok|token|word|pos|position|positional|type|label|segment|lang|char)_?(?:emb|embed|embedding|embeddings|embd)",
    r"relative_attention_bias",
)  # fmt: skip
LINEARS = words(
    r"(?:[qkvo]|qkv|qkvo|qk|kv|in|out|up|down|gate|gate_up|fc|input|output|query|key|value|x|dt|text|visual)_?proj",
    r"(?:kv|q)_[ab]_proj(?:_with_mqa)?", r"(?:lm_|mlm_)?head", r"fc_?\d*", r"linear_?\d*", r"lin_?\d*",
    r"dense(?:_\w+)?", r"w_?[1-3qkvo]", r"to_(?:q|k|v|kv|qkv|out)", r"wi_?[01]?", r"wo", r"c_(?:attn|fc|proj)",
    r"query", r"key", r"value", r"query_key_value", r"Wqkv", r"qkv", r"classifier", r"embed_out", r"lora_[AB]",
    r"project_(?:in|out)", r"(?:\w+_)?projection", r"out(?:put)?(?:_layer)?", r"score", r"router", r"gate",
)  # fmt: skip
CONVOLUTIONS = words(
    r"(?:(?!trans|de|up)\w)*conv(?:olution)?_?\d*", r"downsample", r"shortcut", r"conv_(?:in|out|shortcut)",
    r"patch_embedding",
)  # fmt: skip
UPWARD = words(r".*(?:up|deconv|transpose|trans|dec|decoder|gen|generator|expand)_?\d*.*")
LAYER_NORMS = words(
    r"ln_?\w*", r"(?:.*_)?layer_?norm_?\w*", r"(?:\w+_)?ln", r"ln\d*", r"LayerNorm", r"layernorm_(?:before|after)",
    r"(?:\w+_)?layernorm",
)  # fmt: skip
GROUP_NORMS = words(r"gn\d*", r"group_?norm\d*", r"(?:\w+_)?group_norm")
RMS_NORMS = words(r"(?:\w+_)?rms_?norm\d*")
PRELUS = words(r"p_?relu\d*")
RECURRENT = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)_l\d{1,4}(?:_reverse)?$")

LINEAR_TEXT = "{in_features} -> {out_features}"
CONV_TEXT = "{in_channels_per_group} -> {out_channels}, {kernel_size}"
UP_TEXT = "{in_channels} -> {out_channels_per_group}, {kernel_size}"
BIAS = "bias?:out_features"
MAY_BE_CONV = "a kernel alone, or as many outputs as inputs: Conv{n}d or ConvTranspose{n}d"
TWO_VECTORS = "two equal vectors: LayerNorm, GroupNorm, or a batch norm without statistics"
ONE_VECTOR = "a vector: RMSNorm, LayerNorm without bias, or PReLU"
GATED = "gated"  # what is said to be held by a feed-forward with gates
MAY_BE_BILINEAR = "three dimensions: Conv1d, ConvTranspose1d or Bilinear"

# The first row that matches holds. Rows without a kind say what a module may be.
PATTERNS: tuple[Pattern, ...] = (
    # attention
    Pattern(
        "MultiheadAttention",
        "in_proj_weight:3*embed_dim,embed_dim in_proj_bias?:3*embed_dim bias_k?:1,1,embed_dim bias_v?:1,1,embed_dim",
        "{embed_dim}",
        "in_proj_weight of three square matrices, and out_proj",
        below=("out_proj",),
    ),
    Pattern(
        "MultiheadAttention",
        "q_proj_weight:embed_dim,embed_dim k_proj_weight:embed_dim,kdim v_proj_weight:embed_dim,vdim "
        "in_proj_bias?:3*embed_dim bias_k?:1,1,embed_dim bias_v?:1,1,embed_dim",
        "{embed_dim}",
        "q_proj_weight, k_proj_weight and v_proj_weight of one module, and out_proj",
        below=("out_proj",),
    ),
    # recurrent: the rows of weight_hh are its columns, times the gates
    *(
        Pattern(
            kind,
            f"weight_ih_l0:{gates}*hidden_size,input_size weight_hh_l0:{gates}*hidden_size,hidden_size "
            f"bias_ih_l0?:{gates}*hidden_size bias_hh_l0?:{gates}*hidden_size",
            "{input_size} -> {hidden_size}",
            f"weight_hh_l0 has {gates} times as many rows as columns",
            more=RECURRENT,
        )
        for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
    ),
    Pattern(
        "LSTM",
        "weight_ih_l0:4*hidden_size,input_size weight_hh_l0:4*hidden_size,proj_size weight_hr_l0:proj_size,hidden_size "
        "bias_ih_l0?:4*hidden_size bias_hh_l0?:4*hidden_size",
        "{input_size} -> {hidden_size} -> {proj_size}",
        "weight_hr_l0, which only an LSTM with projections has",
        more=RECURRENT,
    ),
    *(
        Pattern(
            kind,
            f"weight_ih:{gates}*hidden_size,input_size weight_hh:{gates}*hidden_size,hidden_size "
            f"bias_ih?:{gates}*hidden_size bias_hh?:{gates}*hidden_size",
            "{input_size} -> {hidden_size}",
            f"weight_hh has {gates} times as many rows as columns",
        )
        for kind, gates in (("LSTMCell", 4), ("GRUCell", 3), ("RNNCell", 1))
    ),
    # quantised packs and adapters
    Pattern(
        "GPTQ Linear",
        f"qweight:_,out_features qzeros:_,_ scales:_,out_features g_idx?:in_features {BIAS}",
        "-> {out_features}",
        "qweight, qzeros and scales of as many columns",
    ),
    Pattern(
        "AWQ Linear",
        "qweight:in_features,packed qzeros:_,packed scales:_,8*packed bias?:8*packed",
        "{in_features} -> 8 x {packed}",
        "qweight and qzeros with eight columns of scales in one",
    ),
    Pattern("Int8 Linear", f"weight:out_features,in_features SCB:out_features weight_format?: {BIAS}", LINEAR_TEXT,
            "SCB, the scales of bitsandbytes"),
    Pattern("4-bit Linear", f"weight:_,1 {BIAS}", "", "weight as packed by bitsandbytes, with its absmax and quant_map",
            below=("weight",)),
    Pattern("FP8 Linear", f"weight:out_features,in_features weight_scale_inv:_,_ {BIAS}", LINEAR_TEXT,
            "weight_scale_inv, the scales of its blocks"),
    Pattern(
        "LoRA Linear",
        f"weight:out_features,in_features lora_A:rank,in_features lora_B:out_features,rank {BIAS}",
        LINEAR_TEXT + ", rank {rank}",
        "lora_A and lora_B beside weight",
    ),
    Pattern(
        "LoRA",
        "lora_A:rank,in_features lora_B:out_features,rank",
        LINEAR_TEXT + ", rank {rank}",
        "lora_A and lora_B alone: what is added to a layer",
    ),
    Pattern("Quantized Conv", "weight:out_channels,_,*kernel_size bias?:out_channels scale: zero_point:",
            "-> {out_channels}, {kernel_size}", "a kernel with one scale and zero_point"),
    # norms with statistics
    Pattern(
        "BatchNorm",
        "weight?:num_features bias?:num_features running_mean:num_features running_var:num_features "
        "num_batches_tracked?:",
        "{num_features}",
        "running_mean and running_var; an InstanceNorm that keeps statistics looks the same",
    ),
    # a matrix with a bias
    Pattern("", "weight:n,n bias:n", "", "a square matrix with a bias: Linear or Conv1D", names=words(r"c_\w+")),
    Pattern("Linear", "weight:out_features,in_features bias:out_features", LINEAR_TEXT,
            "a matrix, and a bias of its rows"),
    Pattern("Conv1D", "weight:nx,nf bias:nf", "{nx} -> {nf}", "a matrix, and a bias of its columns"),
    # a matrix alone
    Pattern("Embedding", "weight:num_embeddings,embedding_dim", "{num_embeddings}, {embedding_dim}",
            "a matrix, and its name", names=EMBEDDINGS),
    Pattern("Linear", "weight:out_features,in_features", LINEAR_TEXT, "a matrix, and its name", names=LINEARS),
    Pattern("", "weight:_,_", "", "a matrix alone: Linear without bias, or Embedding"),
    # kernels
    Pattern("", "weight:_,_,_ bias?:_", "", MAY_BE_BILINEAR, names=words("bilinear.*")),
    Pattern("Conv", "weight:out_channels,in_channels_per_group,*kernel_size bias:out_channels", CONV_TEXT,
            "a kernel, and a bias of its first dimension"),
    Pattern("ConvTranspose", "weight:in_channels,out_channels_per_group,*kernel_size bias:out_channels_per_group",
            UP_TEXT, "a kernel, and a bias of its second dimension"),
    Pattern("Conv", "weight:out_channels,in_channels_per_group,*kernel_size", CONV_TEXT, "a kernel, and its name",
            names=CONVOLUTIONS),
    Pattern("", "weight:_,_,*_ bias?:_", "", MAY_BE_CONV),
    # vectors
    Pattern("LayerNorm", "weight:normalized_shape bias:normalized_shape", "{normalized_shape}",
            "two equal vectors, and its name", names=LAYER_NORMS),
    Pattern("GroupNorm", "weight:num_channels bias:num_channels", "{num_channels} channels",
            "two equal vectors, and its name", names=GROUP_NORMS),
    Pattern("", "weight:n bias:n", "", TWO_VECTORS),
    Pattern("RMSNorm", "weight:normalized_shape", "{normalized_shape}", "a vector, and its name", names=RMS_NORMS),
    Pattern("PReLU", "weight:num_parameters", "{num_parameters}", "a vector, and its name", names=PRELUS),
    Pattern("", "weight:_", "", ONE_VECTOR),
)  # fmt: skip


class Block(NamedTuple):
    """A row of modules that are told by those below them: their names, in one of several ways."""

    kind: str
    ways: tuple[str, ...]
    evidence: str


BLOCKS: tuple[Block, ...] = (
    Block("Attention", (
        "q_proj k_proj v_proj o_proj", "q_proj k_proj v_proj out_proj", "q_proj k_proj v_proj dense",
        "query key value dense", "query key value out", "query key value out_proj", "query key value",
        "to_q to_k to_v to_out", "to_q to_kv to_out", "to_qkv to_out", "wq wk wv wo", "q k v o", "q k v proj",
        "q k v proj_out", "c_attn c_proj",
        "c_attn q_attn c_proj", "qkv proj", "qkv proj_out", "qkv out", "query_key_value dense", "Wqkv out_proj",
        "Wqkv Wo", "qkv_proj o_proj", "qkv_proj out_proj", "q_lin k_lin v_lin out_lin", "W_pack o_proj",
        "q_proj kv_a_proj_with_mqa kv_b_proj o_proj", "q_a_proj q_b_proj kv_a_proj_with_mqa kv_b_proj o_proj",
    ), "projections to queries, keys and values: "),
    Block("FeedForward", (
        "gate_proj up_proj down_proj", "gate_up_proj down_proj", "up_proj down_proj", "w1 w2 w3", "w1 w2", "fc1 fc2",
        "c_fc c_proj", "dense_h_to_4h dense_4h_to_h", "wi wo", "wi_0 wi_1 wo", "lin1 lin2", "fc_in fc_out",
    ), "a widening and a narrowing: "),
)  # fmt: skip


class Inferred(NamedTuple):
    """What follows for one module, and what it tells of those below it."""

    kind: str
    evidence: str
    text: str
    config: Mapping[str, Any]
    matrix: tuple[int, int] | None = None  # what comes in and goes out
    below: Mapping[str, Inferred] = {}
    holds: str = ""  # the kind of all that are numbered in it, or of the layers that it stacks
    norm: str = ""  # the kind of the norms of its layers
    weight: Shape = ()


NOTHING = Inferred("", "", "", {})


def simplified(leaves: Mapping[str, Shape]) -> tuple[Mapping[str, Shape], str]:
    """Leaves without what a normalisation of the weight has put in its place, and how that is called."""
    if "weight_g" in leaves and "weight_v" in leaves:
        kept = {k: v for k, v in leaves.items() if k not in ("weight_g", "weight_v")}
        return {"weight": leaves["weight_v"], **kept}, "under weight_norm"
    if "weight_orig" in leaves:
        kept = {k: v for k, v in leaves.items() if k not in ("weight_orig", "weight_u", "weight_v", "weight_mask")}
        return {"weight": leaves["weight_orig"], **kept}, "under spectral_norm or pruning"
    return leaves, ""


def by_leaves(leaves: Mapping[str, Shape], name: str, below: Sequence[str], upward: bool) -> Inferred:
    """By its own tensors: the first row that matches. upward: names around it speak of going up, as transposed do."""
    leaves, under = simplified(leaves)
    for needed, pattern in needed_leaves():
        if not needed <= leaves.keys() or (pattern.names is not None and not pattern.names.match(name)):
            continue
        if pattern.below and any(part not in below for part in pattern.below):
            continue
        config = match(pattern, leaves)
        if config is None:
            continue
        kind, evidence = pattern.kind, pattern.evidence
        weight = leaves.get("weight", ())
        n = len(weight) - 2
        if kind.startswith("Conv") and n > 0:
            if n > 3:
                return NOTHING
            if n == 1 and not CONVOLUTIONS.match(name):
                return Inferred("", MAY_BE_BILINEAR, "", {}, weight=weight)
            if weight[0] == weight[1] and "bias" in leaves and not CONVOLUTIONS.match(name):
                return Inferred("", MAY_BE_CONV.format(n=n), "", {}, weight=weight)
            if upward and kind == "Conv" and weight[1] and not weight[0] % weight[1]:
                return Inferred("", MAY_BE_CONV.format(n=n), "", {}, weight=weight)
            kind = f"{kind}{n}d"
        elif n in (1, 2, 3) and not kind:
            evidence = MAY_BE_BILINEAR if n == 1 else evidence.format(n=n)
        if under:
            evidence += f", {under}"
        matrix: tuple[int, int] | None = None
        if "in_features" in config and "out_features" in config:
            matrix = config["in_features"], config["out_features"]
        elif len(weight) == 2:
            matrix = (weight[0], weight[1]) if kind == "Conv1D" else (weight[1], weight[0])
        if pattern.more is RECURRENT:
            config |= recurrent(leaves)
        text = f"{kind}({pattern.text.format_map(shown(config))})" if kind else ""
        return Inferred(kind, evidence, text, config, matrix, weight=weight)
    return NOTHING


def by_numbers(leaves: Mapping[str, Shape]) -> Inferred:
    """Of tensors behind a dot: those of a list or tuple have a slash before their numbers."""
    if not all(leaf.isascii() and leaf.isdecimal() for leaf in leaves):
        return NOTHING
    return Inferred("ParameterList", "tensors that are numbered", f"ParameterList({len(leaves)})", {})


def shown(config: Mapping[str, Any]) -> dict[str, str]:
    return {k: "x".join(map(str, v)) if isinstance(v, tuple) else str(v) for k, v in config.items()}


def match(pattern: Pattern, leaves: Mapping[str, Shape]) -> dict[str, Any] | None:
    """The dimensions by their names, or None."""
    config: dict[str, Any] = {}
    found = 0
    for leaf, optional, dims in parsed(pattern.leaves):
        shape = leaves.get(leaf)
        if shape is None:
            if optional:
                continue
            return None
        found += 1
        if dims and dims[-1][1] and dims[-1][0] < 0:
            if len(shape) < len(dims):
                return None
            if dims[-1][1] != "_":
                config[dims[-1][1]] = shape[len(dims) - 1 :]
            dims = dims[:-1]
            shape = shape[: len(dims)]
        if len(shape) != len(dims):
            return None
        for size, (factor, dim) in zip(shape, dims, strict=True):
            if not dim:
                if size != factor:
                    return None
            elif dim != "_" and (size % factor or config.setdefault(dim, size // factor) != size // factor):
                return None
    if found < len(leaves):
        known = {leaf for leaf, _, _ in parsed(pattern.leaves)}
        if pattern.more is None or not all(leaf in known or pattern.more.match(leaf) for leaf in leaves):
            return None
    return config


@cache
def needed_leaves() -> tuple[tuple[frozenset[str], Pattern], ...]:
    """Every row, behind the leaves that it cannot do without."""
    return tuple((frozenset(leaf for leaf, may_lack, _ in parsed(row.leaves) if not may_lack), row) for row in PATTERNS)


@cache
def parsed(leaves: str) -> tuple[tuple[str, bool, tuple[tuple[int, str], ...]], ...]:
    """(leaf, may it be absent, (factor, name) of each dimension); factor -1: all dimensions that are left."""
    out = []
    for word in leaves.split():
        leaf, _, dims = word.partition(":")
        found = []
        for dim in dims.split(",") if dims else ():
            factor, star, name = dim.rpartition("*")
            if star:
                found.append((int(factor) if factor else -1, name))
            else:
                found.append((int(dim), "") if dim.isdecimal() else (1, dim))
        out.append((leaf.rstrip("?"), leaf.endswith("?"), tuple(found)))
    return tuple(out)


def recurrent(leaves: Mapping[str, Shape]) -> dict[str, Any]:
    layers = {leaf.partition("_l")[2].removesuffix("_reverse") for leaf in leaves}
    return {
        "num_layers": len(layers),
        "bidirectional": any(leaf.endswith("_reverse") for leaf in leaves),
        "bias": "bias_ih_l0" in leaves,
    }


# ---- by what lies below ----


def by_children(name: str, own: Inferred, below: Mapping[str, Inferred]) -> Inferred:
    """By its children, each with what it is by itself; what it says of them is in `below`."""
    if own.kind == "MultiheadAttention":
        return own._replace(below={"out_proj": _linear(below["out_proj"], "of MultiheadAttention")})
    if own.kind and "lora_A" not in below:
        return own
    for rule in (_adapter, _packed, _torch_layer, _torch_transformer, _block, _experts, _layer, _numbered):
        found = rule(name, own, below)
        if found is not None:
            return found
    said = _before_norms(below)
    if any(len(found.weight) > 2 for found in below.values()):  # behind kernels the same name is given to a GroupNorm
        said |= {part: _open(found) for part, found in below.items() if found.kind == "LayerNorm"}
    norm = next((found.norm for found in below.values() if found.norm), "")
    if norm:  # behind the layers
        behind = {part: found for part, found in below.items() if found.evidence == ONE_VECTOR and "norm" in part}
        said |= {part: _norm(found, "as in the layers", norm) for part, found in behind.items()}
    return own._replace(below=said, matrix=own.matrix or below.get("dense", NOTHING).matrix)


def _open(part: Inferred) -> Inferred:
    return part._replace(kind="", evidence=TWO_VECTORS, text="", config={})


def _linear(part: Inferred, of: str, transposed: bool = False) -> Inferred:
    """A matrix that is one, whether it has a bias or not."""
    if part.kind or part.matrix is None or len(part.weight) != 2:
        return part
    n, m = part.matrix
    kind, config = ("Conv1D", {"nx": n, "nf": m}) if transposed else ("Linear", {"in_features": n, "out_features": m})
    return part._replace(kind=kind, evidence=f"a matrix {of}", text=f"{kind}({n} -> {m})", config=config)


def _norm(part: Inferred, of: str, kind: str = "LayerNorm") -> Inferred:
    if part.kind or len(part.weight) != 1:
        return part
    config = {"normalized_shape": part.weight}
    return part._replace(kind=kind, evidence=f"a norm {of}", text=f"{kind}({part.weight[0]})", config=config)


def _adapter(name: str, own: Inferred, below: Mapping[str, Inferred]) -> Inferred | None:
    """LoRA, as peft names its parts: what comes in goes through lora_A, and out of lora_B."""
    down, up = (below.get(part, NOTHING).matrix for part in ("lora_A", "lora_B"))
    if down is None or up is None or down[1] != up[0]:
        return None
    config = {"in_features": down[0], "out_features": up[1], "rank": down[1]}
    kind = "LoRA Linear" if own.kind == "Linear" or "base_layer" in below else "LoRA"
    text = f"{kind}({down[0]} -> {up[1]}, rank {down[1]})"
    parts = {part: _linear(below[part], "of LoRA") for part in ("base_layer",) if part in below}
    return Inferred(kind, "lora_A and lora_B", text, config, (down[0], up[1]), parts)


def _packed(name: str, own: Inferred, below: Mapping[str, Inferred]) -> Inferred | None:
    if "_packed_params" not in below or name == "_packed_params":
        return None
    return Inferred("Quantized Linear", "_packed_params, as torch packs a quantised matrix", "Quantized Linear()", {})


ENCODER_LAYER = {"self_attn", "linear1", "linear2", "norm1", "norm2"}
DECODER_LAYER = ENCODER_LAYER | {"multihead_attn", "norm3"}
DROPOUTS = ("dropout", "dropout1", "dropout2", "dropout3")


def _torch_layer(name: str, own: Inferred, below: Mapping[str, Inferred]) -> Inferred | None:
    """torch's TransformerEncoderLayer and TransformerDecoderLayer: the names of all their parts."""
    parts = below.keys() - {*DROPOUTS, "activation"}
    if parts not in (ENCODER_LAYER, DECODER_LAYER):
        return None
    attention = [below[part] for part in ("self_attn", "multihead_attn") if part in parts]
    up, down = below["linear1"].matrix, below["linear2"].matrix
    if any(part.kind != "MultiheadAttention" for part in attention) or up is None or down != up[::-1]:
        return None
    kind = "TransformerDecoderLayer" if parts == DECODER_LAYER else "TransformerEncoderLayer"
    said = {part: _norm(below[part], f"of {kind}") for part in parts if part.startswith("norm")}
    said |= {part: _linear(below[part], f"of {kind}") for part in ("linear1", "linear2")}
    said |= {part: Inferred("Dropout", f"its name in {kind}", "Dropout", {}) for part in DROPOUTS if part in below}
    config = {"d_model": up[0], "dim_feedforward": up[1]}
    text = f"{kind}({up[0]}, feed-forward {up[1]})"
    return Inferred(kind, f"its parts: {', '.join(sorted(parts))}", text, config, below=said)


def _torch_transformer(name: str, own: Inferred, below: Mapping[str, Inferred]) -> Inferred | None:
    """nn.Transformer: an encoder and a decoder of torch's own layers."""
    if below.keys() == {"encoder", "decoder"}:
        parts = {"encoder": "TransformerEncoder", "decoder": "TransformerDecoder"}
        if all(below[part].holds == f"{kind}Layer" and "layers" in below[part].below for part, kind in parts.items()):
            said = {
                part: below[part]._replace(kind=kind, evidence=f"{part} of torch's own layers", text=kind)
                for part, kind in parts.items()
            }
            return Inferred(
                "Transformer", "an encoder and a decoder of torch's own layers", "Transformer", {}, below=said
            )
    layers = below.get("layers", NOTHING).holds
    if layers in ("TransformerEncoderLayer", "TransformerDecoderLayer") and below.keys() <= {"layers", "norm"} and name:
        stack = layers.removesuffix("Layer")
        said = {part: _norm(below[part], f"behind {layers}s") for part in below if part == "norm"}
        said["layers"] = below["layers"]
        return Inferred("", f"layers and a norm: {stack}, or a class of its own", "", {}, below=said, holds=layers)
    return None


ATTENTION = ("Attention", "MultiheadAttention")
FEED_FORWARD = words("mlp", "ffn?", "feed_?forward", "ffn_layer")


def _block(name: str, own: Inferred, below: Mapping[str, Inferred]) -> Inferred | None:
    """Attention and feed-forward: projections by their names, each a matrix."""
    found = []
    attentive = any(part.kind in ATTENTION for part in below.values())  # then what is wide in it makes a layer
    for block in BLOCKS:
        for way in block.ways:
            parts = way.split()
            if all(part in below and (below[part].matrix or below[part].kind) for part in parts):
                matrices = [below[part].matrix for part in parts]
                if block.kind == "FeedForward" and (not name or attentive or not _turns_back(matrices)):
                    continue
                found.append((block, parts))
                break
    if "self" in below and below["self"].kind == "Attention" and "output" in below:
        return Inferred("Attention", "self, which projects queries, keys and values, and output", "Attention", {})
    if len(found) == 2:
        parts = [part for _, these in found for part in these]
        said = {part: _linear(below[part], "of a layer") for part in parts}
        why = f"attention and feed-forward: {', '.join(parts)}"
        return Inferred("TransformerLayer", why, "TransformerLayer", {}, below=said)
    if not found:
        if FEED_FORWARD.match(name) and _turns_back([part.matrix for part in below.values() if part.matrix]):
            said = {part: _linear(inner, "of FeedForward") for part, inner in below.items()}
            return Inferred("FeedForward", "its name, a widening and a narrowing", "FeedForward", {}, below=said)
        return None
    ((block, parts),) = found
    transposed = any(below[part].kind == "Conv1D" for part in parts)
    said = {part: _linear(below[part], f"of {block.kind}", transposed) for part in parts}
    first, *others = (below[part].matrix for part in parts)
    config: dict[str, Any] = {}
    text, gated = block.kind, ""
    if block.kind == "Attention" and first is not None:
        config, text = {"width": first[0]}, f"Attention({first[0]})"
    elif block.kind == "FeedForward":
        fused = first is not None and any(m is not None and 2 * m[0] == first[1] for m in others)
        gated = GATED if fused or len(parts) > 2 else ""
        if first is not None:
            width, inner = first[0], first[1] // 2 if fused else first[1]
            config, text = {"width": width, "inner": inner}, f"FeedForward({width} -> {inner} -> {width})"
    return Inferred(block.kind, block.evidence + ", ".join(parts), text, config, below=said, holds=gated)


def _turns_back(matrices: Sequence[tuple[int, int] | None]) -> bool:
    """Does one lead back to where another came from? Of quantised ones it is not known."""
    known = [m for m in matrices if m is not None]
    if len(known) < 2:
        return len(matrices) > 1
    (first_in, first_out), *_ = known
    return any(out == first_in and come in (first_out, first_out // 2) for come, out in known[1:])


def _experts(name: str, own: Inferred, below: Mapping[str, Inferred]) -> Inferred | None:
    router = next((part for part in ("gate", "router") if part in below), None)
    if router is None or below.get("experts", NOTHING).holds != "FeedForward":
        return None
    said = {router: _linear(below[router], "that chooses experts")}
    return Inferred("MixtureOfExperts", f"experts and {router}", "MixtureOfExperts", {}, below=said)


NORM = words(r"norm_?\d*", r"norm\d*_\w+")
# How layers name their two norms that have no biases, where what is wide in them has gates.
RMS_PAIRS = (("input_layernorm", "post_attention_layernorm"), ("attention_norm", "ffn_norm"))


def two_vectors(part: str, found: Inferred) -> bool:
    return NORM.match(part) is not None and found.evidence == TWO_VECTORS


def _layer(name: str, own: Inferred, below: Mapping[str, Inferred]) -> Inferred | None:
    """A layer of a transformer: attention, and a feed-forward of some kind."""
    attention = next((part for part, found in below.items() if found.kind in ATTENTION), None)
    if attention is None:
        return None
    wide = [part for part, found in below.items() if found.kind in ("FeedForward", "MixtureOfExperts")]
    if not wide:
        for up, down in (("intermediate", "output"), ("linear1", "linear2"), ("fc1", "fc2"), ("lin1", "lin2")):
            if all(below.get(part, NOTHING).matrix for part in (up, down)):
                wide = [up, down]
    if not wide:
        return None
    said = {part: _norm(found, "beside attention") for part, found in below.items() if two_vectors(part, found)}
    said |= {part: _linear(below[part], "of a layer") for part in wide}
    norm = ""
    if any(below[part].holds == GATED or below[part].kind == "MixtureOfExperts" for part in wide) and any(
        all(part in below for part in pair) for pair in RMS_PAIRS
    ):
        norm = "RMSNorm"
        vectors = {part: found for part, found in below.items() if found.evidence == ONE_VECTOR}
        said |= {part: _norm(found, "of a layer with gates", norm) for part, found in vectors.items()}
    why = f"attention and feed-forward: {', '.join((attention, *wide))}"
    return Inferred("TransformerLayer", why, "TransformerLayer", {}, below=said, norm=norm)


SEVERAL_INPUTS = ("TransformerDecoderLayer", "MultiheadAttention")


def _numbered(name: str, own: Inferred, below: Mapping[str, Inferred]) -> Inferred | None:
    """Children that are numbered, or one alone: what they are is what it holds."""
    labels = list(below)
    if not labels or own.kind or own.evidence:
        return None
    kinds = {found.kind for found in below.values()}
    matrix = below[labels[0]].matrix if len(labels) == 1 or labels[0] == "0" else None
    if not all(label.isascii() and label.isdecimal() for label in labels):
        return NOTHING._replace(matrix=matrix) if len(labels) == 1 and matrix else None
    kind = kinds.pop() if len(kinds) == 1 else ""
    n = len(labels)
    if kind in SEVERAL_INPUTS:
        why = f"{n} of {kind}, which take several inputs: no Sequential"
        return Inferred("ModuleList", why, f"ModuleList({n} x {kind})", {}, holds=kind)
    said = _before_norms(below)
    norm = below[labels[0]].norm
    text = f"{n} x {kind}" if kind else ""
    return Inferred("", "numbered: ModuleList or Sequential", text, {}, matrix, said, kind, norm)


def _before_norms(below: Mapping[str, Inferred]) -> dict[str, Inferred]:
    """Kernels that could be transposed: the batch norm behind one says how many channels come out."""
    said: dict[str, Inferred] = {}
    parts = list(below.items())
    for (part, found), (_, behind) in pairwise(parts):
        channels = behind.config.get("num_features")
        if found.kind or len(found.weight) < 4 or behind.kind != "BatchNorm" or found.weight[0] == found.weight[1]:
            continue
        out, inner, *size = found.weight
        kernel = "x".join(map(str, size))
        why = "a kernel, and the batch norm behind it"
        if channels == out and inner != 1:
            config: dict[str, Any] = {"out_channels": out, "in_channels_per_group": inner, "kernel_size": tuple(size)}
            text = f"Conv{len(size)}d({inner} -> {out}, {kernel})"
            said[part] = found._replace(kind=f"Conv{len(size)}d", evidence=why, text=text, config=config)
        elif channels == inner:
            config = {"in_channels": out, "out_channels_per_group": inner, "kernel_size": tuple(size)}
            text = f"ConvTranspose{len(size)}d({out} -> {inner}, {kernel})"
            said[part] = found._replace(kind=f"ConvTranspose{len(size)}d", evidence=why, text=text, config=config)
    return said
