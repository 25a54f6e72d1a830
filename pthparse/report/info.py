"""`pthparse info FILE...`: what is in it, on one screen."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from ..checkpoint import open as open_checkpoint
from ..wording import count, share, size
from .summary import summary
from .text import FEW, Column, bar, first_of, head, line, listed, rest, short, table
from .verb import CANNOT_SAY, FILE, Verb, each_file, print_documents

TOP_GROUPS = 12


def info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", metavar="FILE", help=FILE)
    parser.add_argument("--shard", action="store_true", help="of a model in several files, also file by file")


def info(args: argparse.Namespace) -> int:
    documents: list[dict[str, Any]] = []
    for _, facts in each_file(args, summary_of, documents):
        if not args.json:
            if documents:
                line("")
            print_info(facts)
            if args.shard:
                print_shards(facts)
        documents.append(facts)
    if args.json:
        print_documents(args, documents)
    elif any("format" in facts for facts in documents):
        file = shlex.quote(args.file[0]) if len(args.file) == 1 else "FILE"
        line(f"explained step by step: pthparse explain {file}")
    return CANNOT_SAY if any("error" in facts for facts in documents) else 0


def summary_of(path: str, progress: object) -> dict[str, Any]:
    with open_checkpoint(path) as ckpt:
        return summary(ckpt, path)


def print_info(facts: dict[str, Any]) -> None:
    """One screen."""
    total = facts["nbytes"]
    head(facts["file"], size(total))
    big = ", big endian" if facts["byteorder"] == "big" else ""
    protocol = f", pickle protocol {facts['pickle_protocol']}" if facts["pickle_nbytes"] else ""
    line(f"{facts['format']} checkpoint{big}, {facts['writer']['text']} (inferred){protocol}")
    print_counts(facts)
    if facts["family"]:
        first, *others = facts["family"]["evidence"].split(", ")
        more = f" and {count(len(others), 'more name')}" if others else ""
        line(f"{facts['family']['text']} (inferred from {first}{more})")
    if facts["n_shared"]:
        names = [f"{short(s['name'])} = {short(s['same_as'])}" for s in facts["shared"][:FEW]]
        line(f"shared, counted once: {first_of(names, facts['n_shared'])}")
    if facts["metadata"]:
        line("values: " + ", ".join(f"{k} = {brief(v)}" for k, v in list(facts["metadata"].items())[:8]))
    sources = facts["class_sources"]
    if sources:
        line(f"holds the source code of {listed(sources)}")
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
    unused = ledger["unused storage"]
    if facts["unnamed_nbytes"]:
        rows.append(group_row("(constants of the code)", 1, "", "", facts["unnamed_nbytes"], total))
    if unused:
        rows.append(group_row("(in storages, seen by no tensor)", 1, "", "", unused, total))
    rows.append(group_row("(not tensor data)", 1, "", "", total - ledger["tensor data"] - unused, total))
    table(columns("group"), rows, sys.stdout)
    line(f"ledger: {total:,} B = {' + '.join(f'{n:,} {kind}' for kind, n in ledger.items() if n)}")
    for f in facts["findings"][:FEW]:
        line(f"{f['member'] + ': ' if f['member'] else ''}{f['message']} [{f['code']}]", lead="note: ")
    rest(len(facts["findings"]) - FEW, " notes", indent=0)
    first = f": {facts['reasons'][0]}" if facts["reasons"] else ""
    line(first, lead=f"audit: {facts['verdict']}")
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


def print_shards(facts: dict[str, Any]) -> None:
    line("")
    if not facts["shards"]:
        line("the model is in one file")
        return
    heads = (
        Column("file", kept=40),
        *(Column(h, right=True) for h in ("tensors", "bytes of tensors", "file's size")),
    )
    rows = []
    for s in facts["shards"]:
        told = "missing" if s["error"] and not s["nbytes"] else f"{s['nbytes']:,}"
        rows.append((s["name"], f"{s['tensors']:,}", f"{s['tensor_nbytes']:,}", told, s["error"] or ""))
    table((*heads, Column("", prose=True, kept=28)), rows, sys.stdout)


def columns(first: str) -> tuple[Column, ...]:
    spared = {"tensors": 2, "elements": 1}
    heads = ("tensors", "elements", "bytes", "of file")
    return (Column(first, name=True), *(Column(h, right=True, spared=spared.get(h, 0)) for h in heads), Column(""))


def group_row(name: str, n: int, tensors: int | str, elements: int | str, nbytes: int, total: int) -> tuple[str, ...]:
    """One of n equal groups, and the share of all of them."""
    per = f"{n:,}x " if n > 1 else ""
    cells = [f"{per}{c // n:,}" if isinstance(c, int) else c for c in (tensors, elements, nbytes)]
    return (f"{name} ({n:,}x)" if n > 1 else name, *cells, share(nbytes, total), bar(nbytes, total))


def group_rows(counts: Sequence[tuple[str, int, int, int, int]], total: int) -> list[tuple[str, ...]]:
    """The largest, and what is left of them in one row."""
    rows = [group_row(*counted, total) for counted in counts[:TOP_GROUPS]]
    left = counts[TOP_GROUPS:]
    if left:
        tensors, elements, nbytes = (sum(column) for column in list(zip(*left, strict=True))[2:])
        rows.append(group_row(f"({len(left):,} more)", 1, tensors, elements, nbytes, total))
    return rows


def brief(value: Any) -> str:
    text = repr(value) if isinstance(value, str) and value not in ("nan", "inf", "-inf") else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


VERB = Verb(
    info,
    info_arguments,
    "what is in it: one screen",
    "pthparse info model.pth",
    "One screen about a file: its format and who wrote it, parameters, dtypes, plain values such as the epoch, the "
    "largest groups of tensors (equal layers in one row), where every byte goes, and whether it is safe to load. No"
    " tensor's data are read.",
    ("pthparse model.pth  # the same", "pthparse info llama-7b/ --shard  # a model in several files, file by file"),
    no="",
)
