"""`pthparse hash FILE...`: a hash of each tensor and of the model, whatever the container; manifests."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import PthError
from ..hashes import manifest
from ..manifests import Manifest, ManifestCheck, read_manifest
from ..outputs import told_of
from .screen import cells, cut, width
from .text import FEW, MOST_LINES, SHORT, count, first_of, head, line, short, some
from .verb import CANNOT_SAY, FILE, NO, Verb, complain, tell
from .verify import each_file, print_documents

SHOWN = 16  # digits of a hash of a tensor, where the whole is not asked for


def hash_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="+", metavar="FILE", help=FILE)
    parser.add_argument("-o", "--output", metavar="MANIFEST", help="write the manifest of the one FILE")
    parser.add_argument("--check", metavar="MANIFEST", help="compare the one FILE with a manifest")
    parser.add_argument("--all", action="store_true", help="every tensor, with its whole hash")


def hash_files(args: argparse.Namespace) -> int:
    if len(args.file) > 1 and (args.output or args.check):
        tell("--check and -o take one FILE")
        return CANNOT_SAY
    wanted = None
    if args.check:
        try:
            wanted = read_manifest(args.check)
        except (PthError, OSError) as e:
            complain(e, args.check, args.debug)
            return CANNOT_SAY
    found: list[Manifest] = []
    documents: list[dict[str, Any]] = []
    for path, made in each_file(args, manifest, documents):
        found.append(made)
        checked = None if wanted is None else made.check(wanted)
        documents.append({"file": path, **made.to_dict()})
        if checked is not None:
            documents[-1]["check"] = checked.to_dict()
        if not args.json:
            print_manifest(made, path, args.all, checked)
        if args.output:
            write(args.output, made)
        if checked is not None:
            return finish(args, documents, NO if differs(checked) else 0 if checked.ok else CANNOT_SAY)
    if not args.json:
        print_equal(found, args.all)
    whole = len(found) == len(args.file) and not any(made.errors for made in found)
    return finish(args, documents, 0 if whole else CANNOT_SAY)


def differs(checked: ManifestCheck) -> bool:
    return bool(checked.changed or checked.missing or checked.new)


def finish(args: argparse.Namespace, documents: list[dict[str, Any]], code: int) -> int:
    if args.json:
        print_documents(args, documents)
    return code


def write(path: str, made: Manifest) -> None:
    """Under another name first: what is there in the end is whole."""
    target = Path(path)
    part = target.with_name(f".{target.name[:100]}.{os.getpid()}.part")
    with told_of(target):
        opened = part.open("x", encoding="ascii")
    with opened as file:
        try:
            file.writelines(made.lines())
            file.flush()
            os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def print_manifest(made: Manifest, path: str, everything: bool, checked: ManifestCheck | None) -> None:
    most = None if everything else MOST_LINES
    if checked is not None:
        verdict = "DIFFERENT" if differs(checked) else "OK" if checked.ok else "UNKNOWN"
        head(path, f"{count(len(made.tensors), 'tensor')} hashed", verdict)
        line(f"  model {made.model or 'unknown'}")
        for what in ("changed", "missing", "new", "unknown"):
            names = getattr(checked, what)
            some(map(short, names), len(names), most, lead=f"{what}: ")
        return
    digest, told = made.model or "-" * 64, f"{path}   {count(len(made.tensors), 'tensor')}"
    room = width(sys.stdout)
    narrow = room is not None and len(digest) + 2 + cells(told) > room
    line(digest if narrow else f"{digest}  {told}")
    if narrow:
        line(f"  {told}")
    if everything:
        for t in made.tensors:
            line(f"  {t.hash}  {t.name}")
    texts = [f"{short(e.name)}: {cut(e.message, SHORT)} [{e.code}]" for e in made.errors]
    some(texts, len(texts), most, lead="cannot be read: ")


def print_equal(found: list[Manifest], everything: bool) -> None:
    """Tensors that are the same, within a file and across all of them."""
    groups: dict[str, dict[str, list[str]]] = {}  # hash -> name -> files
    for made in found:
        for t in made.tensors:
            groups.setdefault(t.hash, {}).setdefault(t.name, []).append(made.path or "")
    if len(found) > 1 and len({made.model for made in found}) == 1 and found[0].model is not None:
        line("all are the same model")
        return
    same, texts = [], []
    for digest, names in groups.items():
        if sum(map(len, names.values())) < 2:
            continue
        told = []
        for name, paths in names.items():
            everywhere = len(paths) == len(found)
            told += [short(name)] if everywhere else [f"{short(path)}: {short(name)}" for path in paths]
        if len(told) == 1 and not everything:
            same.append(told[0])
        else:
            where = f" in all {len(found)} files" if len(told) == 1 else ""
            texts.append(f"{first_of(told[: None if everything else FEW], len(told))}{where} ({digest[:SHOWN]})")
    if same:
        line(f"  equal in all {len(found)} files: {first_of(same[:FEW], len(same))}")
    some(texts, len(texts), None if everything else MOST_LINES, lead="equal: ")


VERB = Verb(
    hash_files,
    hash_arguments,
    "a hash of the model and of each tensor, whatever the container",
    "pthparse hash model.pth",
    "A hash of the model and of each tensor, made of names, dtypes, shapes and elements alone: it is the same "
    "whatever the container. Of several files, which tensors are equal. A manifest keeps the hashes, and a file can"
    " be checked with it.",
    (
        "pthparse hash model.pth -o model.manifest",
        "pthparse hash model.safetensors --check model.manifest",
        "pthparse hash epoch1.pth epoch2.pth  # what has not changed",
    ),
    no="the file is not as the manifest says",
)
