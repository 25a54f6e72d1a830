"""What torch's own modules print of themselves: a table of their `extra_repr`, for objects whose class is not at hand.

A row lists the parts that torch puts between the brackets, with commas between them:

    in_features       in_features=512
    .num_embeddings   its value alone
    mode!             as repr() writes it: mode='mean'
    padding_idx/None  left out where it is that value, or there is no such attribute; /0s and /1s: all of a tuple are
    bias?             is there such a tensor: bias=True
    bias-             bias=False if there is none

Where a version of torch prints less than the last one, the last one's row holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import _core
from .errors import escape
from .tensor import Tensor
from .values import GlobalName, Opaque, preview

LONGEST = 1000  # characters of one value
MOST_LINES = 10_000  # of a list of parameters

LINEAR = "in_features out_features bias?"
CONV = (
    ".in_channels .out_channels kernel_size stride padding/0s dilation/1s output_padding/0s groups/1 bias- "
    "padding_mode/zeros"
)
BATCH_NORM = ".num_features eps momentum affine bias? track_running_stats"
MAX_POOL = "kernel_size stride padding dilation ceil_mode"
KERNEL = "kernel_size stride padding"
LP_POOL = "norm_type kernel_size stride ceil_mode"
RNN = ".input_size .hidden_size proj_size/0 num_layers/1 bias/True batch_first/False dropout/0 bidirectional/False"
CELL = ".input_size .hidden_size bias/True nonlinearity/tanh"
UPSAMPLE = "scale_factor!/None size!/None mode!"
RESPONSE_NORM = ".size alpha beta k"
PAD = ".padding"

# Of torch.nn, by the class; a class that is not here prints nothing of itself.
REPRS: dict[str, str] = {
    "Linear": LINEAR,
    "NonDynamicallyQuantizableLinear": LINEAR,
    "LazyLinear": LINEAR,
    "Bilinear": "in1_features in2_features out_features bias?",
    "Embedding": (
        ".num_embeddings .embedding_dim padding_idx/None max_norm/None norm_type/2 scale_grad_by_freq/False "
        "sparse/False"
    ),
    "EmbeddingBag": (
        ".num_embeddings .embedding_dim max_norm!/None norm_type!/2 scale_grad_by_freq/False mode! padding_idx/None"
    ),
    **dict.fromkeys(
        (f"{lazy}{kind}{n}d" for lazy in ("", "Lazy") for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)), CONV
    ),
    **dict.fromkeys(
        (f"{lazy}{kind}{n}d" for lazy in ("", "Lazy") for kind in ("BatchNorm", "InstanceNorm") for n in (1, 2, 3)),
        BATCH_NORM,
    ),
    "SyncBatchNorm": BATCH_NORM,
    "LayerNorm": ".normalized_shape eps elementwise_affine bias?",
    "GroupNorm": ".num_groups .num_channels eps affine bias?",
    "RMSNorm": ".normalized_shape eps elementwise_affine",
    "LocalResponseNorm": RESPONSE_NORM,
    "CrossMapLRN2d": RESPONSE_NORM,
    "Threshold": "threshold value inplace/False",
    "RReLU": "lower upper inplace/False",
    "Hardtanh": "min_val max_val inplace/False",
    **dict.fromkeys(("ReLU", "ReLU6", "SiLU", "Mish", "SELU"), "inplace/False"),
    **dict.fromkeys(("ELU", "CELU"), "alpha inplace/False"),
    **dict.fromkeys(("GLU", "Softmin", "Softmax", "LogSoftmax"), "dim"),
    "GELU": "approximate!",
    "Hardshrink": ".lambd",
    "Softshrink": ".lambd",
    "LeakyReLU": "negative_slope inplace/False",
    "Softplus": "beta threshold",
    "PReLU": "num_parameters",
    **dict.fromkeys(
        ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"), "p inplace"
    ),
    **dict.fromkeys(("MaxPool1d", "MaxPool2d", "MaxPool3d"), MAX_POOL),
    **dict.fromkeys(("MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d"), KERNEL),
    **dict.fromkeys(("LPPool1d", "LPPool2d", "LPPool3d"), LP_POOL),
    **dict.fromkeys((f"Adaptive{how}Pool{n}d" for how in ("Max", "Avg") for n in (1, 2, 3)), "output_size"),
    "Flatten": "start_dim end_dim",
    "Unflatten": "dim unflattened_size",
    "Fold": "output_size kernel_size dilation padding stride",
    "Unfold": "kernel_size dilation padding stride",
    **dict.fromkeys(("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"), UPSAMPLE),
    "PixelShuffle": "upscale_factor",
    "PixelUnshuffle": "downscale_factor",
    "ChannelShuffle": "groups",
    **dict.fromkeys((f"CircularPad{n}d" for n in (1, 2, 3)), PAD),
    **dict.fromkeys((f"ReflectionPad{n}d" for n in (1, 2, 3)), PAD),
    **dict.fromkeys((f"ReplicationPad{n}d" for n in (1, 2, 3)), PAD),
    **dict.fromkeys((f"ZeroPad{n}d" for n in (1, 2, 3)), PAD),
    **dict.fromkeys(("ConstantPad1d", "ConstantPad2d", "ConstantPad3d"), "padding value"),
    **dict.fromkeys(("RNN", "LSTM", "GRU"), RNN),
    **dict.fromkeys(("RNNCell", "LSTMCell", "GRUCell"), CELL),
}  # fmt: skip
# Attributes that are dimensions of the weight.
SIZES: dict[str, dict[str, int]] = {
    "Linear": {"out_features": 0, "in_features": 1},
    "Embedding": {"num_embeddings": 0, "embedding_dim": 1},
    **{f"BatchNorm{n}d": {"num_features": 0} for n in (1, 2, 3)},
}
DEFAULTS: dict[str, Any] = {"None": None, "False": False, "True": True, "0": 0, "1": 1, "2": 2}
MISSING = object()


def extra_repr(kind: str, attributes: Mapping[Any, Any], parts: Mapping[Any, Any]) -> str:
    """What a module of torch.nn prints between its brackets; '' if that is nothing.

    attributes: those of the object; parts: its parameters and buffers by their own names.
    """
    made = LISTS.get(kind)
    if made is not None:
        return made(parts)
    return ", ".join(text for word in REPRS.get(kind, "").split() if (text := _part(word, attributes, parts)))


def sizes(kind: str, parts: Mapping[Any, Any]) -> dict[str, int]:
    """Attributes of a module of torch.nn that its weight tells."""
    shape = parts["weight"].shape if isinstance(parts.get("weight"), Tensor) else ()
    return {name: shape[i] for name, i in SIZES.get(kind, {}).items() if i < len(shape)}


def _part(word: str, attributes: Mapping[Any, Any], parts: Mapping[Any, Any]) -> str:
    word, _, default = word.partition("/")
    name = word.strip(".!?-")
    if word[-1] in "?-":
        there = parts.get(name, attributes.get(name)) is not None
        return f"{name}={there}" if word[-1] == "?" or not there else ""
    value = attributes.get(name, MISSING)
    if value is MISSING or (default and _is_default(value, default)):
        return ""
    text = value_text(value, word[-1] == "!")
    return text if word[0] == "." else f"{name}={text}"


def _is_default(value: Any, default: str) -> bool:
    if default in ("0s", "1s"):
        return isinstance(value, tuple) and all(n == int(default[0]) for n in value)
    wanted = DEFAULTS.get(default, default)
    # torch asks whether flags are False itself, and of numbers whether they are equal
    return value is wanted if wanted is None or isinstance(wanted, bool) else bool(value == wanted)


def value_text(value: Any, quoted: bool = False) -> str:
    """As a format string prints it, escaped; what is no plain value, or too long, in short."""
    if isinstance(value, str) and not quoted:
        return escape(value[:LONGEST]) + ("..." if len(value) > LONGEST else "")
    if isinstance(value, (Opaque, GlobalName)) or len(text := preview(value, LONGEST)) > LONGEST:
        return preview(value, 100)
    return text


# ---- lists of parameters ----


def parameter_list(parts: Mapping[Any, Any]) -> str:
    return _lines(parts, lambda t: f"torch.{t.dtype}")


def parameter_dict(parts: Mapping[Any, Any]) -> str:
    return _lines(parts, _type_name)


def _lines(parts: Mapping[Any, Any], name: Callable[[Tensor], str]) -> str:
    held = [(key, t) for key, t in parts.items() if isinstance(t, Tensor)]
    more = [f"  ... {len(held) - MOST_LINES:,} more"] if len(held) > MOST_LINES else []
    return "\n".join([*(_listed(key, t, name(t)) for key, t in held[:MOST_LINES]), *more])


def _listed(key: Any, t: Tensor, dtype: str) -> str:
    device = f" ({escape(t.device)})" if t.device.startswith("cuda") else ""
    what = "Parameter" if t.parameter else "Tensor"
    return (
        f"  ({escape(str(key)[:LONGEST])}): {what} containing: [{dtype} of size {'x'.join(map(str, t.shape))}{device}]"
    )


def _type_name(t: Tensor) -> str:
    """What torch.typename says: 'torch.FloatTensor'."""
    storage = _core.DTYPES[t._dtype][1].removesuffix("Storage")
    return f"torch.{'cuda.' if t.device.startswith('cuda') else ''}{storage}Tensor"


LISTS: dict[str, Callable[[Mapping[Any, Any]], str]] = {
    "ParameterList": parameter_list,
    "ParameterDict": parameter_dict,
}
