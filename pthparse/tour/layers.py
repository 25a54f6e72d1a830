"""Parts 4 and 5: a layer's weights and biases as y = Wx + b; what the rows of an embedding are."""

from __future__ import annotations

from ..errors import PthError
from ..tensor import Tensor
from .elements import FLOATS, elements, readable
from .opening import Subject, dims, section, table, unreadable
from .words import Own, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

X = (1.0, 2.0, -1.0, 0.5)  # the first numbers of a small input; the others are 0
LINEAR = ("Linear", "NonDynamicallyQuantizableLinear", "LazyLinear")
# Last components of modules that are linear wherever they are met without a bias.
LINEAR_WORDS = ("proj", "linear", "fc", "lm_head", "classifier", "dense")
EMBEDDING_WORDS = ("embed", "wte", "embedding", "tok_emb", "token_emb")
# An embedding of something else than tokens: of places, of kinds of token.
OTHER_WORDS = ("pos", "wpe", "type", "patch", "rel", "time", "norm", "seg", "rotary", "proj", "class", "label")
OUTPUT_WORDS = ("fc", "head", "out", "generator", "decoder", "linear", "classifier", "proj")
ROWS = 3  # of an embedding
COLUMNS = 4


class Layer:
    """A matrix with what belongs to it: its module, its bias, and whose word it is that it is a linear layer."""

    __slots__ = ("basis", "bias", "module", "weight")

    def __init__(self, module: str, weight: Tensor, bias: Tensor | None, basis: str) -> None:
        self.module, self.weight, self.bias, self.basis = module, weight, bias, basis


def _is_matrix(t: Any) -> bool:
    return t.kind in ("dense", "chunked") and len(t.shape) == 2 and t.dtype in FLOATS and _is_readable(t)


def _is_readable(t: Any) -> bool:
    return readable(t) or (t.kind == "chunked" and t.error is None and t.numel > 0)


def linears(subject: Subject) -> list[Layer]:
    """What is, or has the shapes of, a linear layer: a row of the matrix for each number that comes out."""
    found = []
    for t in subject.tensors:
        module, dot, leaf = t.name.rpartition(".")
        if leaf != "weight" or not _is_matrix(t):
            continue
        kind, basis = subject.kind_of(module)
        if kind and kind not in LINEAR:
            continue
        bias = subject.by_name.get(f"{module}{dot}bias")
        if bias is not None and not (len(bias.shape) == 1 and bias.dtype == t.dtype and _is_readable(bias)):
            continue
        if bias is not None and bias.shape[0] != t.shape[0]:
            continue
        last = module.rpartition(".")[2].lower()
        if bias is None and not (kind or last.endswith(LINEAR_WORDS)):
            continue
        found.append(Layer(module, t, bias, basis if kind else "shape"))
    return found


def linear(subject: Subject) -> Section:
    say = subject.say
    found = linears(subject)
    if not found:
        matrices = sum(1 for t in subject.tensors if _is_matrix(t))
        return section(say, 4, "linear", [say("linear.none", n=matrices)], {"matrices": matrices}, applies=False)
    layer = min(found, key=lambda one: (one.bias is None, one.weight.shape[0] == one.weight.shape[1]))
    w, b = layer.weight, layer.bias
    outputs, inputs = w.shape
    x = X[: min(inputs, len(X))]
    try:
        row = elements(w, [(0, j) for j in range(len(x))])
        bias = 0.0 if b is None else float(elements(b, [(0,)])[0].value)
    except PthError as e:
        return unreadable(say, 4, "linear", e)
    terms = [float(e.value) * v for e, v in zip(row, x, strict=True)]
    y = sum(terms) + bias
    facts = {
        "module": layer.module,
        "basis": layer.basis,
        "weight": w.name,
        "bias": None if b is None else b.name,
        "inputs": inputs,
        "outputs": outputs,
        "parameters": w.numel + (0 if b is None else b.numel),
        "row": [float(e.value) for e in row],
        "x": list(x),
        "b": None if b is None else bias,
        "y": y,
    }
    more = inputs - len(x)
    values = {"weight": subject.name(w), "bias": "" if b is None else b.name, "inputs": inputs, "outputs": outputs}
    values |= {"shape": dims(w.shape), "parameters": facts["parameters"], "numel": w.numel}
    rows: list[tuple[Any, ...]] = [
        (Own(f"W[0, {j}] x x[{j}]"), _short(float(e.value)), _short(v), _short(t))
        for j, (e, v, t) in enumerate(zip(row, x, terms, strict=True))
    ]
    if b is not None:
        rows.append((Own("b[0]"), "", "", _short(bias)))
    rows.append((say("linear.sum"), "", "", _short(y)))
    blocks = [
        say("linear.intro" if b is not None else "linear.intro.plain", **values),
        say(f"linear.basis.{layer.basis}", module=layer.module or say("no-name")),
        say("linear.count" if b is not None else "linear.count.plain", **values),
        say("linear.x" if more else "linear.x.all", x=Own(", ".join(map(_short, x))), n=more),
        say("linear.row" if b is not None else "linear.row.plain"),
        table(say, ("", "head.weight", "head.x", "head.product"), "lrrr", rows),
        say("linear.rest", **values),
    ]
    return section(say, 4, "linear", blocks, facts)


def _short(value: float) -> str:
    return f"{value:.6g}"


# ---- the embedding ----


def embedding_of(subject: Subject) -> tuple[Tensor, str] | None:
    """The table of tokens, and whose word it is that it is one."""
    candidates = []
    for t in subject.tensors:
        if not _is_matrix(t):
            continue
        module = t.name.rpartition(".")[0]
        kind, basis = subject.kind_of(module)
        if kind and kind != "Embedding":
            continue
        words = t.name.lower().split(".")[-3:]
        named = any(word in part for part in words for word in EMBEDDING_WORDS)
        if not (named or kind):
            continue
        if any(part.startswith(OTHER_WORDS) or f"_{word}" in part for part in words for word in OTHER_WORDS):
            continue
        candidates.append((t, basis if kind else "name"))
    return max(candidates, key=lambda pair: pair[0].shape[0], default=None)


def embedding(subject: Subject) -> Section:
    say = subject.say
    found = embedding_of(subject)
    if found is None:
        return section(say, 5, "embedding", [say("embedding.none")], {}, applies=False)
    t, basis = found
    vocabulary, width = t.shape
    try:
        corner = [(i, j) for i in range(min(ROWS, vocabulary)) for j in range(min(COLUMNS, width))]
        values = {e.index: e for e in elements(t, corner)}
    except PthError as e:
        return unreadable(say, 5, "embedding", e)
    output, tied = _output_of(subject, t)
    wanted = {t.name, *_names_of(output)}
    nbytes = {name: n for name, _, _, n in subject.capacity.each() if name in wanted}
    whole = subject.capacity.file_bytes
    own = nbytes.get(t.name, 0)
    facts: dict[str, Any] = {
        "name": t.name,
        "basis": basis,
        "vocabulary": vocabulary,
        "width": width,
        "elements": t.numel,
        "row_nbytes": width * t.itemsize,
        "nbytes": own,
        "share": own / whole if whole else 0.0,
        "rows": [[values[i, j].value for j in range(min(COLUMNS, width))] for i in range(min(ROWS, vocabulary))],
        "output": None,
    }
    told = {"name": subject.name(t), "vocabulary": vocabulary, "width": width, "numel": t.numel}
    told |= {"product": Own(f"{vocabulary} x {width} = {t.numel:,}"), "itemsize": t.itemsize, "nbytes": own}
    told |= {"share": (own, whole), "row": width * t.itemsize}
    rows = []
    for i in range(min(ROWS, vocabulary)):
        numbers = ", ".join(_short(float(values[i, j].value)) for j in range(min(COLUMNS, width)))
        at = values[i, 0].offset
        rows.append((i, "-" if at is None else at, Own(f"[{numbers}{', ...' if width > COLUMNS else ''}]")))
    blocks = [
        say("embedding.intro", **told),
        say(f"embedding.basis.{basis}"),
        table(say, ("head.token", "head.byte", "head.vector"), "rrl", rows),
        say("embedding.row", **told),
        say("embedding.size", **told),
    ]
    if tied:
        facts["output"] = {"name": tied, "tied": True}
        blocks.append(say("embedding.tied", output=tied, **told))
    elif output is not None:
        both = sum(nbytes.get(n, 0) for n in _names_of(output))
        numel = output.weight.numel + (0 if output.bias is None else output.bias.numel)
        facts["output"] = {
            "name": output.module,
            "tied": False,
            "elements": numel,
            "nbytes": both,
            "share": both / whole if whole else 0.0,
        }
        blocks.append(say("embedding.output", output=output.module, n=numel, out=(both, whole), **told))
    return section(say, 5, "embedding", blocks, facts)


def _names_of(layer: Layer | None) -> tuple[str, ...]:
    return () if layer is None else tuple(t.name for t in (layer.weight, layer.bias) if t is not None)


def _output_of(subject: Subject, t: Tensor) -> tuple[Layer | None, str]:
    """The layer that makes a number for each token: of its own, or, by its name, the embedding once more."""
    own = t._identity
    for other in subject.tensors:
        if other.name != t.name and other._identity == own:
            return None, other.name
    alike = [one for one in linears(subject) if one.weight.shape == t.shape and one.weight.name != t.name]
    named = [one for one in alike if one.module.lower().rpartition(".")[2].endswith(OUTPUT_WORDS)]
    return named[-1] if named else None, ""
