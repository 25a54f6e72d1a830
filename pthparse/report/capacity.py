"""`pthparse capacity FILE`: parameters and bytes by module, dtype and role, why the file is so big, and its ledger."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..capacity import Capacity, CapacityGroup
from ..checkpoint import open as open_checkpoint
from ..errors import UnsupportedError
from ..wording import count, share, size
from .text import FEW, Column, bar, head, line, listed, rest, short, table
from .verb import FILE, Verb, natural, print_json, tell_lost

BY = ("module", "dtype", "role")
SHARD = "shard"
MOST_ROWS = 20
MEANING = Column("", prose=True, kept=28)


def capacity_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=FILE)
    parser.add_argument("--by", choices=(*BY, SHARD), help="only the groups of this kind, all of them")
    parser.add_argument("--shard", action="store_true", help="of a model in several files, also file by file")
    parser.add_argument(
        "--depth",
        type=natural,
        metavar="N",
        help="components of a module's name; default: as many as tell modules apart",
    )


def capacity(args: argparse.Namespace) -> int:
    depth = args.depth or None
    with open_checkpoint(args.file) as ckpt:
        tell_lost(ckpt, args.file)
        found = ckpt.capacity()
        several = hasattr(ckpt, "shards")
    if not several and (args.shard or args.by == SHARD):
        raise UnsupportedError("one-file", "the model is in one file", path=args.file)
    by = (args.by,) if args.by else (*BY, *((SHARD,) if args.shard else ()))
    groups = {kind: found.groups(kind, depth if kind == "module" else None) for kind in by}
    if args.json:
        told = {kind: [g.to_dict() for g in rows] for kind, rows in groups.items()}
        print_json({"file": args.file, **found.to_dict(), "groups": told})
        return 0
    if args.by:
        print_groups(args.by, groups[args.by], found, len(groups[args.by]))
        return 0
    print_head(args.file, found)
    print_why(found)
    for kind, rows in groups.items():
        if len(rows) > 1 or (rows and kind in ("module", SHARD)):
            line("")
            print_groups(kind, rows, found, MOST_ROWS)
    print_shared(found)
    print_unused(found)
    print_ledger(found)
    return 0


def print_head(path: str, found: Capacity) -> None:
    head(path, size(found.file_bytes))
    held = count(found.parameters, "parameter")
    if found.buffers:
        held += f", {count(found.buffers, 'element')} of buffers"
    others = found.elements - found.parameters - found.buffers
    if others:
        held += f", {count(others, 'element')} of other tensors"
    line(f"{held}; {size(found.tensor_bytes)} of tensor data in {count(found.tensors, 'tensor')}")


def print_why(found: Capacity) -> None:
    line("")
    heads = (
        Column("why so big"),
        Column("bytes", right=True),
        Column("of file", right=True),
        MEANING,
    )
    rows = [(r.what, f"{r.nbytes:,}", share(r.nbytes, found.file_bytes), r.text) for r in found.why]
    table(heads, rows, sys.stdout)


def print_groups(kind: str, groups: Sequence[CapacityGroup], found: Capacity, most: int) -> None:
    """The largest, and what is left of them in one row."""
    with_parameters = kind != "role" and any(g.parameter_share for g in groups)
    heads = [
        Column(kind, name=kind != SHARD, kept=40 if kind == SHARD else 24),
        *(Column(h, right=True) for h in ("tensors", "elements", "bytes", "of file")),
    ]
    if with_parameters:
        heads.append(Column("of parameters", right=True, spared=1))
    rows = []
    shown = [*groups[:most]]
    if len(groups) > most:
        left = groups[most:]
        sums = [
            sum(g.to_dict()[key] for g in left) for key in ("tensors", "elements", "nbytes", "share", "parameter_share")
        ]
        shown.append(CapacityGroup(f"({len(left):,} more)", *sums))
    for g in shown:
        cells = [
            g.name or "(no name)",
            f"{g.tensors:,}",
            f"{g.elements:,}",
            f"{g.nbytes:,}",
            share(g.nbytes, found.file_bytes),
        ]
        if with_parameters:
            own = round(g.parameter_share * found.parameters)
            cells.append(share(own, found.parameters) if own else "-")
        rows.append((*cells, bar(g.nbytes, found.file_bytes)))
    table((*heads, Column("")), rows, sys.stdout)


def print_shared(found: Capacity) -> None:
    if not found.shared:
        return
    line("")
    line(f"shared, counted once ({count(len(found.shared), 'storage')}):")
    for s in found.shared[:FEW]:
        how = "the same elements" if s.tied else "parts of one storage"
        line(f"  {listed(s.names, FEW, ' = ' if s.tied else ', ')}: {how}, {s.nbytes:,} B")
    rest(len(found.shared) - FEW)


def print_unused(found: Capacity) -> None:
    if not found.wasted:
        return
    line("")
    looked = f"{size(found.wasted)} of storages that no tensor looks at"
    line(f"wasted: {looked}, {share(found.wasted, found.file_bytes)} of the file")
    for u in found.unused[:FEW]:
        whose = f"of {listed(u.names)}" if u.names else "that no tensor refers to"
        line(f"  {u.unused:,} of {u.nbytes:,} B in storage {short(u.key)} {whose}")
    rest(len(found.unused) - FEW)
    line(f"  a clean copy (torch.save of clones) would save {found.wasted:,} B and take {size(found.clean_bytes)}")


def print_ledger(found: Capacity) -> None:
    line("")
    heads = (
        Column("ledger"),
        *(Column(h, right=True) for h in ("parts", "bytes", "of file")),
        MEANING,
    )
    rows = [
        (e.kind, f"{e.count:,}" if e.count else "", f"{e.nbytes:,}", share(e.nbytes, found.file_bytes), e.meaning)
        for e in found.ledger()
        if e.nbytes
    ]
    rows.append(("sum", "", f"{found.file_bytes:,}", share(found.file_bytes, found.file_bytes), "the file's size"))
    table(heads, rows, sys.stdout)


VERB = Verb(
    capacity,
    capacity_arguments,
    "parameters and bytes by module, dtype, role; why it is so big",
    "pthparse capacity model.pth",
    "Where parameters and bytes are: by module, by dtype and by role (model, optimizer, averages); why the file is "
    "so big; what is shared and counted once, and what is stored and seen by no tensor; and the ledger, which gives"
    " every byte of the file to one kind.",
    (
        "pthparse capacity model.pth --by module --depth 3  # all, three deep",
        "pthparse capacity llama-7b/ --by shard",
    ),
    no="",
)
