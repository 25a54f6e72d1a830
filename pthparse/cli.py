"""The command: `pthparse VERB FILE...`. Verbs print an answer on stdout, for people or as one JSON document.

Exit codes: 0 fine; 1 the answer is no; 2 cannot say (unreadable, unsupported, bad usage).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, NoReturn

from . import __version__
from . import open as open_checkpoint
from .errors import PthError, UnsupportedError, escape
from .report.summary import FEW, summary
from .report.text import Column, bar, count, jsonable, line, shape, share, size, table

CANNOT_SAY = 2
EXIT_CODES = "exit codes: 0 fine; 1 the answer is no; 2 cannot say (unreadable, unsupported, bad usage)"
TOP_GROUPS = 12


class Verb(NamedTuple):
    """One row of the table below: a new verb is a function and a row."""

    run: Callable[[argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None]
    help: str
    example: str


# ---- what verbs share ----


def print_json(document: dict[str, Any]) -> None:
    json.dump({"schema": 1, **document}, sys.stdout, ensure_ascii=True, allow_nan=False, indent=1)
    sys.stdout.write("\n")


def tensor_row(t: Any) -> dict[str, Any]:
    return {
        "name": t.name,
        "shape": list(t.shape),
        "dtype": t.dtype,
        "numel": t.numel,
        "nbytes": t.nbytes,
        "kind": t.kind,
        "layout": t.layout,
        "requires_grad": t.requires_grad,
    }


# ---- info ----


def info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+")


def info(args: argparse.Namespace) -> int:
    documents = []
    for i, path in enumerate(args.file):
        with open_checkpoint(path) as ckpt:
            facts = summary(ckpt, path)
        if args.json:
            documents.append(facts)
        else:
            if i:
                line("")
            print_info(facts)
    if args.json:
        print_json(documents[0] if len(documents) == 1 else {"files": documents})
    return 0


def print_info(facts: dict[str, Any]) -> None:
    """One screen."""
    total = facts["nbytes"]
    line(f"{facts['file']}   {size(total)}")
    big = ", big endian" if facts["byteorder"] == "big" else ""
    line(
        f"{facts['format']} checkpoint{big}, {facts['writer']['text']} (inferred), "
        f"pickle protocol {facts['pickle_protocol']}"
    )
    kinds = ", ".join(
        f"{k}" if len(facts["dtypes"]) == 1 else f"{k} x {v['tensors']:,}" for k, v in facts["dtypes"].items()
    )
    if facts["model"]:
        line(f"{facts['model']}: {count(facts['parameters'], 'parameter')}")
    what = "element" if facts["model"] else "parameter"
    line(f"{count(facts['elements'], what)} in {count(facts['tensors'], 'tensor')}   {kinds}".rstrip())
    shared = facts["shared"]
    if shared:
        names = ", ".join(f"{s['name']} = {s['same_as']}" for s in shared[:FEW])
        more = f" and {len(shared) - FEW:,} more" if len(shared) > FEW else ""
        line(f"shared, counted once: {names}{more}")
    if facts["metadata"]:
        line("values: " + ", ".join(f"{k} = {v!r}" for k, v in list(facts["metadata"].items())[:8]))
    line("")
    columns = (
        Column("group", name=True), Column("tensors", right=True), Column("elements", right=True),
        Column("bytes", right=True), Column("share", right=True), Column(""),
    )  # fmt: skip
    rows = []
    if len(facts["sections"]) > 1:
        for name, s in facts["sections"].items():
            rows.append(
                (
                    f"{name or '(root)'}",
                    f"{s['tensors']:,}",
                    f"{s['elements']:,}",
                    f"{s['nbytes']:,}",
                    share(s["nbytes"], total),
                    bar(s["nbytes"], total),
                )
            )
        rows.append(("",) * 6)
    groups = facts["groups"]
    for g in groups[:TOP_GROUPS]:
        n = g["copies"]
        label = f"{g['name']} ({n}x)" if n > 1 else g["name"] or "(the tensor)"
        per = f"{n}x " if n > 1 else ""
        rows.append(
            (
                label,
                f"{per}{g['tensors'] // n:,}",
                f"{per}{g['elements'] // n:,}",
                f"{per}{g['nbytes'] // n:,}",
                share(g["nbytes"], total),
                bar(g["nbytes"], total),
            )
        )
    if len(groups) > TOP_GROUPS:
        rest = groups[TOP_GROUPS:]
        left = sum(g["nbytes"] for g in rest)
        rows.append(
            (
                f"({len(rest):,} more groups)",
                f"{sum(g['tensors'] for g in rest):,}",
                f"{sum(g['elements'] for g in rest):,}",
                f"{left:,}",
                share(left, total),
                bar(left, total),
            )
        )
    ledger = facts["ledger"]
    over = total - ledger["data"]
    if facts["unseen_nbytes"]:
        unseen = facts["unseen_nbytes"]
        rows.append(
            ("(in storages, seen by no tensor)", "", "", f"{unseen:,}", share(unseen, total), bar(unseen, total))
        )
    rows.append(("(not tensor data)", "", "", f"{over:,}", share(over, total), ""))
    table(columns, rows, sys.stdout)
    parts = (f"{ledger['data']:,} tensor data", f"{ledger['pickles']:,} pickles", f"{ledger['container']:,} container")
    line(f"ledger: {total:,} B = {' + '.join(parts)}")
    for f in facts["findings"][:FEW]:
        line(f"note: {f['member'] + ': ' if f['member'] else ''}{f['message']} [{f['code']}]")
    if facts["errors"]:
        line(f"{count(facts['errors'], 'tensor')} cannot be read:")
        for e in facts["first_errors"]:
            line(f"  {e['error']}")


# ---- ls ----

SORTS: dict[str, Callable[[Any], Any]] = {
    "name": lambda t: t.name,
    "size": lambda t: -t.nbytes,
    "shape": lambda t: tuple(-n for n in t.shape),
    "dtype": lambda t: t.dtype,
}


def ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument("pattern", nargs="?", help="glob over names, such as 'layers.*.weight'")
    parser.add_argument("--sort", choices=("file", *SORTS), default="file", help="default: the order of the file")
    parser.add_argument("--csv", action="store_true", help="comma-separated values")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N only")


def ls(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file) as ckpt:
        tensors = [t for n, t in ckpt.items() if args.pattern is None or fnmatchcase(n, args.pattern)]
        if args.sort != "file":
            tensors.sort(key=SORTS[args.sort])
        found = len(tensors)
        tensors = tensors[: args.limit]
        if args.json:
            print_json(
                {"file": args.file, "nbytes": ckpt.nbytes, "found": found, "tensors": [tensor_row(t) for t in tensors]}
            )
        elif args.csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(("name", "shape", "dtype", "numel", "nbytes"))
            for t in tensors:
                writer.writerow((escape(t.name), "x".join(map(str, t.shape)), t.dtype, t.numel, t.nbytes))
        else:
            columns = (
                Column("name", name=True),
                Column("shape"),
                Column("dtype"),
                Column("bytes", right=True),
                Column("share", right=True),
            )
            rows = [(t.name, shape(t.shape), t.dtype, f"{t.nbytes:,}", share(t.nbytes, ckpt.nbytes)) for t in tensors]
            table(columns, rows, sys.stdout)
    return 0


# ---- show ----

INTEGER = re.compile(r"[+-]?\d{1,18}")


def show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument(
        "name", help="a tensor, with a slice if wanted: 'embed.weight[0:5, ::2]'; or the path of another value"
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
            out.append(slice(*(int(p) if p else None for p in ends)))
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
    from .graph import Opaque

    value = ckpt.root
    left = path
    while left:
        if isinstance(value, Opaque):
            value = value.attributes()
        if isinstance(value, dict):
            keys = {str(k): v for k, v in value.items()}
            key = next((k for k in sorted(keys, key=len, reverse=True) if left == k or left.startswith(f"{k}/")), None)
            if key is None:
                break
            value, left = keys[key], left[len(key) + 1 :]
        elif isinstance(value, (list, tuple)) and left.split("/", 1)[0].isdigit():
            head, _, rest = left.partition("/")
            if len(head) > 9 or int(head) >= len(value):
                break
            value, left = value[int(head)], rest
        else:
            break
    else:
        return value
    ckpt[path]  # raises, with the nearest names
    raise KeyError(path)


def show(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file) as ckpt:
        t, index = find(ckpt, args.name)
        if t is None:
            show_value(args, value_at(ckpt, args.name))
            return 0
        facts = tensor_facts(t)
        arrays = {k: values_of(a, index, args.name) for k, a in arrays_of(t).items()}
        if args.json:
            print_json({"file": args.file, **facts, "values": {k: json_values(a) for k, a in arrays.items()}})
        else:
            print_tensor(facts, arrays, index)
    return 0


def show_value(args: argparse.Namespace, value: Any) -> None:
    from .graph import preview

    if args.json:
        print_json({"file": args.file, "path": args.name, "type": type(value).__name__, "value": jsonable(value)})
    else:
        line(f"{args.name}   {type(value).__name__}")
        line(preview(value))


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
        facts["storage"] = {**storage._asdict(), "tensors": list(storage.tensors)}
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
        return {n: inner.numpy() for n, inner in t.inner.items() if inner.kind in ("dense", "quantized")}
    if t.kind in ("meta", "uninitialized"):
        return {}
    arrays = {"": t.numpy()}
    if t.kind == "quantized":
        arrays["scale"], arrays["zero_point"] = t.scale, t.zero_point
    return arrays


def values_of(array: Any, index: tuple[Any, ...] | None, name: str) -> Any:
    if index is None or not getattr(array, "ndim", 0):
        return array
    try:
        return array[index]
    except IndexError as e:
        raise UnsupportedError("slice", f"{escape(name)}: {e}") from None


def json_values(array: Any) -> Any:
    """Nested lists; more than 10,000 values are refused rather than cut in silence."""
    import numpy as np

    array = np.asarray(array)
    if array.size > 10_000:
        raise UnsupportedError("too-many-values", f"{array.size:,} values: name a slice of at most 10,000")
    if array.dtype.kind == "c":
        return [jsonable([float(v.real), float(v.imag)]) for v in array.reshape(-1)]
    if array.dtype.kind == "V" or array.dtype.isbuiltin != 1:
        array = array.astype(np.float32)
    return jsonable(array.tolist())


def print_tensor(facts: dict[str, Any], arrays: dict[str, Any], index: tuple[Any, ...] | None) -> None:
    import numpy as np

    line(f"{facts['name']}   {facts['dtype']} {shape(facts['shape'])}   {size(facts['nbytes'])}")
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
            line(
                f"shares it with {', '.join(others[:FEW])}"
                + (f" and {len(others) - FEW} more" if len(others) > FEW else "")
            )
    for name, array in arrays.items():
        if name:
            line(f"{name}:")
        shown = np.asarray(array)
        if shown.dtype.kind not in "biufc":
            shown = shown.astype(np.float32)  # bfloat16 and float8 print as the numbers they are
        width = os.get_terminal_size().columns if sys.stdout.isatty() else 120
        print(np.array2string(shown, threshold=200, edgeitems=3, max_line_width=max(40, width - 1)))
    if not arrays:
        line("no data")


# ---- the table of verbs ----

VERBS: dict[str, Verb] = {
    "info": Verb(info, info_arguments, "what is in it: one screen", "pthparse info model.pth"),
    "ls": Verb(
        ls,
        ls_arguments,
        "the tensors: name, shape, dtype, bytes, share",
        "pthparse ls model.pth 'layers.*' --sort size",
    ),
    "show": Verb(
        show, show_arguments, "values of one tensor, or of another value", "pthparse show model.pth 'embed.weight[0:5]'"
    ),
}


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(CANNOT_SAY, f"{self.prog}: {escape(message)}\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pthparse",
        description="Says what is in a PyTorch checkpoint. Nothing in the file is executed. "
        "`pthparse FILE` is `pthparse info FILE`.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"pthparse {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        sub = verbs.add_parser(
            name, help=verb.help, description=verb.help, epilog=f"example: {verb.example}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        sub.add_argument("--json", action="store_true", help="one JSON document")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        verb.arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] not in VERBS and words[0] not in ("-h", "--help", "--version"):
        words.insert(0, "info")
    args = build_parser().parse_args(words)
    files = args.file if isinstance(args.file, str) else args.file[0]
    try:
        code = VERBS[args.verb].run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader has seen enough. Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (PthError, KeyError, OSError) as e:
        if args.debug:
            import traceback

            traceback.print_exc()
        else:
            print(f"pthparse: {message(e, files)}", file=sys.stderr)
        return CANNOT_SAY


def message(error: Exception, path: str) -> str:
    """One line."""
    if isinstance(error, OSError):
        return f"{escape(str(error.filename or path))}: {error.strerror or error}"
    if isinstance(error, KeyError):
        return f"{escape(path)}: {error.args[0]}"
    text = str(error)
    return text if getattr(error, "path", None) else f"{escape(path)}: {text}"
