"""The command: `pthparse VERB FILE...`. Verbs print an answer on stdout, for people or as one JSON document.

Exit codes: 0 fine; 1 the answer is no; 2 cannot say (unreadable, unsupported, bad usage).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, NoReturn

from . import __version__
from . import open as open_checkpoint
from .checkpoint import nearest
from .errors import PthError, UnsupportedError, escape
from .metadata import children
from .record import Record
from .report.summary import FEW, stored_nbytes, summary
from .report.text import Column, bar, count, jsonable, line, shape, share, size, table

NO = 1
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
    # Whole before its first byte is out: a program gets a document or none.
    print(json.dumps({"schema": 1, **document}, ensure_ascii=True, allow_nan=False, indent=1))


def tensor_row(t: Any) -> dict[str, Any]:
    return {
        "name": t.name,
        "shape": list(t.shape),
        "dtype": t.dtype,
        "numel": t.numel,
        "nbytes": t.nbytes,
        "stored_nbytes": stored_nbytes(t),
        "kind": t.kind,
        "layout": t.layout,
        "requires_grad": t.requires_grad,
    }


# ---- info ----


def info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+")


def info(args: argparse.Namespace) -> int:
    documents, code = [], 0
    for i, path in enumerate(args.file):
        try:
            with open_checkpoint(path) as ckpt:
                facts = summary(ckpt, path)
        except (PthError, OSError) as e:
            if len(args.file) == 1:
                raise
            code = CANNOT_SAY
            complain(e, path, args.debug)
            documents.append({"file": path, "error": message(e, path)})
            continue
        documents.append(facts)
        if not args.json:
            if i:
                line("")
            print_info(facts)
    if args.json:
        print_json(documents[0] if len(args.file) == 1 else {"files": documents})
    return code


def print_info(facts: dict[str, Any]) -> None:
    """One screen."""
    total = facts["nbytes"]
    line(f"{facts['file']}   {size(total)}")
    big = ", big endian" if facts["byteorder"] == "big" else ""
    line(
        f"{facts['format']} checkpoint{big}, {facts['writer']['text']} (inferred), "
        f"pickle protocol {facts['pickle_protocol']}"
    )
    print_counts(facts)
    if facts["n_shared"]:
        names = ", ".join(f"{s['name']} = {s['same_as']}" for s in facts["shared"][:FEW])
        more = facts["n_shared"] - min(FEW, len(facts["shared"]))
        line(f"shared, counted once: {names}" + (f" and {more:,} more" if more else ""))
    if facts["metadata"]:
        line("values: " + ", ".join(f"{k} = {brief(v)}" for k, v in list(facts["metadata"].items())[:8]))
    sources = facts["class_sources"]
    if sources:
        more = f" and {len(sources) - FEW:,} more" if len(sources) > FEW else ""
        line(f"holds the source code of {', '.join(sources[:FEW])}{more}")
    line("")
    if len(facts["sections"]) > 1:
        found = sorted(facts["sections"].items(), key=lambda pair: -pair[1]["nbytes"])
        counts = [(name or "(root)", 1, s["tensors"], s["elements"], s["nbytes"]) for name, s in found]
        table(columns("section"), group_rows(counts, total), sys.stdout)
        line("")
    counts = [
        (g["name"] or "(no name)", g["copies"], g["tensors"], g["elements"], g["nbytes"]) for g in facts["groups"]
    ]
    rows = group_rows(counts, total)
    ledger = facts["ledger"]
    if facts["constants_nbytes"]:
        rows.append(group_row("(constants of the code)", 1, "", "", facts["constants_nbytes"], total))
    if facts["unseen_nbytes"]:
        rows.append(group_row("(in storages, seen by no tensor)", 1, "", "", facts["unseen_nbytes"], total))
    rows.append(group_row("(not tensor data)", 1, "", "", total - ledger["data"], total))
    table(columns("group"), rows, sys.stdout)
    parts = (f"{ledger['data']:,} tensor data", f"{ledger['pickles']:,} pickles", f"{ledger['container']:,} container")
    line(f"ledger: {total:,} B = {' + '.join(parts)}")
    for f in facts["findings"][:FEW]:
        line(f"note: {f['member'] + ': ' if f['member'] else ''}{f['message']} [{f['code']}]")
    if len(facts["findings"]) > FEW:
        line(f"and {len(facts['findings']) - FEW:,} more notes")
    if facts["errors"]:
        line(f"{count(facts['errors'], 'tensor')} cannot be read:")
        for e in facts["first_errors"]:
            line(f"  {e['error']}")


def print_counts(facts: dict[str, Any]) -> None:
    dtypes = sorted(facts["dtypes"].items(), key=lambda pair: -pair[1]["nbytes"])
    kinds = ", ".join(f"{k}" if len(dtypes) == 1 else f"{k} x {v['tensors']:,}" for k, v in dtypes[:FEW])
    if len(dtypes) > FEW:
        kinds += f" and {len(dtypes) - FEW} more dtypes"
    held = f"{count(facts['tensors'], 'tensor')}   {kinds}".rstrip()
    if facts["without_data"]:
        held += f"   ({facts['without_data']:,} without data)"
    if facts["parameters"] is None:
        line(f"{count(facts['elements'], 'element')} in {held}")
        return
    what = count(facts["parameters"], "parameter")
    if facts["buffers"]:
        what += f" and {count(facts['buffers'], 'element')} of buffers"
    if facts["model"]:
        line(f"{facts['model']}: {what}")
        line(f"{count(facts['elements'], 'element')} in {held}")
    else:
        line(f"{what} in {held}")


def columns(first: str) -> tuple[Column, ...]:
    heads = (Column(head, right=True) for head in ("tensors", "elements", "bytes", "share"))
    return (Column(first, name=True), *heads, Column(""))


def group_row(name: str, n: int, tensors: int | str, elements: int | str, nbytes: int, total: int) -> tuple[str, ...]:
    """One of n equal groups, and the share of all of them."""
    per = f"{n}x " if n > 1 else ""
    cells = [f"{per}{c // n:,}" if isinstance(c, int) else c for c in (tensors, elements, nbytes)]
    return (f"{name} ({n}x)" if n > 1 else name, *cells, share(nbytes, total), bar(nbytes, total))


def group_rows(counts: Sequence[tuple[str, int, int, int, int]], total: int) -> list[tuple[str, ...]]:
    """The largest, and what is left of them in one row."""
    rows = [group_row(*counted, total) for counted in counts[:TOP_GROUPS]]
    rest = counts[TOP_GROUPS:]
    if rest:
        tensors, elements, nbytes = (sum(column) for column in list(zip(*rest, strict=True))[2:])
        rows.append(group_row(f"({len(rest):,} more)", 1, tensors, elements, nbytes, total))
    return rows


def brief(value: Any) -> str:
    text = repr(value) if isinstance(value, str) and value not in ("nan", "inf", "-inf") else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---- ls ----

SORTS: dict[str, Callable[[Any], Any]] = {
    "name": lambda t: t.name,
    "size": lambda t: (-stored_nbytes(t), -t.nbytes),
    "shape": lambda t: tuple(-n for n in t.shape),
    "dtype": lambda t: t.dtype,
}


def natural(text: str) -> int:
    if not INTEGER.fullmatch(text) or int(text) < 0:
        raise argparse.ArgumentTypeError(f"not a number of lines: {text!r}")
    return int(text)


def ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument("pattern", nargs="?", help="glob over names, such as 'layers.*.weight'")
    parser.add_argument("--sort", choices=("file", *SORTS), default="file", help="default: the order of the file")
    parser.add_argument("--csv", action="store_true", help="comma-separated values")
    parser.add_argument("--limit", type=natural, metavar="N", help="the first N only")


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
            writer.writerow(("name", "shape", "dtype", "numel", "nbytes", "stored_nbytes"))
            for t in tensors:
                dims = "x".join(map(str, t.shape))
                writer.writerow((escape(t.name), dims, t.dtype, t.numel, t.nbytes, stored_nbytes(t)))
        else:
            print_tensors(tensors, ckpt.nbytes)
            if found > len(tensors):
                line(f"({found - len(tensors):,} more)")
    if args.pattern is not None and not found:
        print(f"pthparse: {escape(args.file)}: no tensor matches {escape(args.pattern)!r}", file=sys.stderr)
        return NO
    return 0


def print_tensors(tensors: Sequence[Any], total: int) -> None:
    heads = (
        Column("name", name=True),
        Column("shape"),
        Column("dtype"),
        Column("bytes", right=True),
        Column("share", right=True),
    )
    rows = []
    for t in tensors:
        nbytes = stored_nbytes(t)
        kind = "" if t.kind in ("dense", "array") else f" {t.kind}" if t.layout == "strided" else f" {t.layout}"
        dtype = "?" if t.error is not None and t.dtype == "untyped" else t.dtype
        rows.append((t.name, shape(t.shape), dtype + kind, f"{nbytes:,}", share(nbytes, total)))
    table(heads, rows, sys.stdout)


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
        if name is None:
            known = list(dict.fromkeys((*ckpt.metadata, *below, *ckpt)))
            raise KeyError(f"no tensor or value '{escape(path)}'{nearest(path, known)}")
        value, left = below[name], left[len(name) + 1 :]
    return value


def show(args: argparse.Namespace) -> int:
    with open_checkpoint(args.file) as ckpt:
        t, index = find(ckpt, args.name)
        if t is None:
            show_value(args, value_at(ckpt, args.name))
            return 0
        facts = tensor_facts(t)
        arrays = arrays_of(t) if index is None else {"": sliced(t, index, args.name)}
        if args.json:
            print_json({"file": args.file, **facts, "values": {k: json_values(a) for k, a in arrays.items()}})
        else:
            print_tensor(facts, arrays)
    return 0


def show_value(args: argparse.Namespace, value: Any) -> None:
    from .values import preview

    is_array = type(value).__module__ == "numpy" and hasattr(value, "dtype")
    facts = value.to_dict() if isinstance(value, Record) else value
    if args.json:
        shown = json_values(value) if is_array else jsonable(facts)
        print_json({"file": args.file, "path": args.name, "type": type(value).__name__, "value": shown})
        return
    line(f"{args.name}   {type(value).__name__}" + (f" {value.dtype} {shape(value.shape)}" if is_array else ""))
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
    width = os.get_terminal_size().columns if sys.stdout.isatty() else 120
    plain = array.dtype.isbuiltin == 1 or array.dtype.kind not in "V"
    how: Any = None if plain else {"all": lambda v: f"{float(v):.8g}"}
    text = np.array2string(array, threshold=200, edgeitems=3, max_line_width=max(40, width - 1), formatter=how)
    for row in text.split("\n"):
        line(row)


def print_tensor(facts: dict[str, Any], arrays: dict[str, Any]) -> None:
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
        print_array(array)
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks is spelt out
            stream.reconfigure(errors="backslashreplace")
    if not words:
        build_parser().print_help(sys.stderr)
        return CANNOT_SAY
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
        complain(e, files, args.debug)
        return CANNOT_SAY


def complain(error: Exception, path: str, debug: bool) -> None:
    """One line on stderr, or all of it."""
    if debug:
        import traceback

        traceback.print_exception(error)
    else:
        print(f"pthparse: {message(error, path)}", file=sys.stderr)


def message(error: Exception, path: str) -> str:
    """One line."""
    if isinstance(error, OSError):
        return f"{escape(str(error.filename or 'standard output'))}: {error.strerror or error}"
    if isinstance(error, KeyError):
        return f"{escape(path)}: {error.args[0]}"
    text = str(error)
    return text if getattr(error, "path", None) else f"{escape(path)}: {text}"
