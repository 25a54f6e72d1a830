"""The files of a model in several: found by an index, or by the numbers in their names.

`pytorch_model.bin.index.json` says {"metadata": {"total_size": bytes}, "weight_map": {tensor: file}} (Hugging Face);
without one, files are numbered: `model-00001-of-00008.safetensors`. Nothing of the files themselves is read here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import _core
from .errors import PthError, UnsupportedError, escape
from .formats.base import MOST_FINDINGS, Finding
from .record import Record
from .source import INDEX, open_source

INDEX_BYTES = 1 << 26
MOST_SHARDS = 99_999  # as many as five digits can say
MOST_ENTRIES = 100_000  # of a directory
NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.(?:bin|safetensors|pt|pth|ckpt))")
# Of a directory with several models, the first of these is meant: what transformers looks for, in its order.
USUAL = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
# Files of DeepSpeed's processes.
ZERO = re.compile(r"(?:bf16_)?(?:zero_)?(?:pp_rank_\d+_)?mp_rank_\d+_(?:model|optim)_states\.pt")
# Of the directory of a distributed checkpoint (torch/distributed/checkpoint/filesystem.py).
METADATA, UNFINISHED, ENDING = ".metadata", ".metadata.tmp", ".distcp"
OF_A_RANK = re.compile(r"__\d+\.metadata")  # of a save without collectives: each process says its own part
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")

Find = Callable[..., None]  # (code, member, message=None)


class Layout(Record):
    """What is known of a model in several files before one of them is opened.

    Attributes
    ----------
    path : str
        As it was asked for.
    folder : str
    index : str or None
        The name of the index, and its size.
    index_nbytes : int
    files : tuple of str
        Their names in the folder; the missing ones as well.
    missing : frozenset of str
        Those that are not there, or may not be opened.
    weights : dict or None
        Tensor -> number of its file; None: no index says so.
    metadata : dict
        The index's own.
    findings : tuple of Finding
    """

    path: str
    folder: str
    index: str | None
    index_nbytes: int
    files: tuple[str, ...]
    missing: frozenset[str]
    weights: dict[str, int] | None
    metadata: dict[str, Any]
    findings: tuple[Finding, ...]
    prefixes: tuple[str, ...] = ()  # of the names in each file; none: a name is as it stands there


class Found:
    """Findings, as they come up."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def find(self, code: str, member: str | None, message: str | None = None) -> None:
        severity, sentence = _core.FINDINGS[code]
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(code, severity, member, None, message or sentence))


def is_distributed(path: str | os.PathLike[str]) -> bool:
    """Is it the directory of a distributed checkpoint, or of one that was not finished?"""
    top = Path(path)
    return top.is_dir() and any(
        n in (METADATA, UNFINISHED) or OF_A_RANK.fullmatch(n) or n.endswith(ENDING)
        for n in os.listdir(top)  # noqa: PTH208
    )


def layout_of(path: str | os.PathLike[str], siblings: bool = False) -> Layout | str:
    """The files of the model in a directory, of an index, or beside a numbered file; or the one that a directory has.

    Raises
    ------
    PthError
        There is no model, or more than one.
    """
    text = os.fsdecode(os.fspath(path))
    top = Path(text)
    if top.is_dir():
        return _of_folder(text, top)
    if siblings:
        found = NUMBERED.fullmatch(top.name)
        if found is None:
            raise UnsupportedError(
                "directory", "no number in its name (-00001-of-00008) says what its siblings are", path=text
            )
        return _numbered(text, top.parent, found[1], int(found[3]), found[4])
    return index_layout(text, top)


def _of_folder(text: str, top: Path) -> Layout | str:
    names = []
    with os.scandir(top) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > MOST_ENTRIES:
                raise UnsupportedError("directory", f"a directory of more than {MOST_ENTRIES:,} entries", path=text)
    names.sort()
    if is_zero(names):
        return _of_zero(text, top, names)
    if "latest" in names and (inner := _latest(top)) is not None:
        return _of_folder(text, inner)
    indexes = [n for n in names if n.endswith(INDEX)]
    usual = next((n for n in USUAL if n in names), None)
    chosen = usual if usual is not None else indexes[0] if len(indexes) == 1 else None
    if chosen is not None:
        others = [n for n in (*indexes, *USUAL) if n in names and n != chosen]
        if not chosen.endswith(INDEX):
            return str(top / chosen)
        layout = index_layout(text, top / chosen)
        return _told(layout, f"of {len(others) + 1} models in the directory, {chosen}") if others else layout
    families = {(m[1], m[3], m[4]) for n in names if (m := NUMBERED.fullmatch(n)) is not None}
    if len(families) == 1 and not indexes:
        ((stem, count, ending),) = families
        return _numbered(text, top, stem, int(count), ending)
    single = [n for n in names if n.endswith(ENDINGS)]
    if len(single) == 1 and not families:
        return str(top / single[0])
    what = ", ".join(escape(n) for n in (indexes or single)[:4])
    several = f"several models ({what}, ...): name one of them" if what else "no checkpoint in it"
    raise UnsupportedError("directory", f"a directory with {several}", path=text)


def is_zero(names: list[str]) -> bool:
    """Are these the files of a ZeRO directory?"""
    return any(ZERO.fullmatch(n) for n in names)


def _of_zero(text: str, top: Path, names: list[str]) -> Layout:
    found = Found()
    files = sorted((n for n in names if ZERO.fullmatch(n)), key=_by_numbers)
    missing = frozenset(f for f in files if not safe_link(top / f, top, found.find, f))
    prefixes = tuple(f"{Path(f).stem}/" for f in files)
    return Layout(text, str(top), None, 0, tuple(files), missing, None, {}, tuple(found.findings), prefixes)


def _by_numbers(name: str) -> tuple[bool, list[tuple[bool, int, str]]]:
    """The model's files first; rank 10 behind rank 9."""
    parts = [(x.isdecimal(), int(x) if x.isdecimal() else 0, x) for x in re.split(r"(\d+)", name)]
    return "optim" in name, parts


def _latest(top: Path) -> Path | None:
    """The directory that the text of the file `latest` names, if it is one of ZeRO's."""
    try:
        source = open_source(top / "latest")
    except (OSError, PthError):
        return None
    try:
        tag = bytes(source.window(0, 256)).decode("utf-8", "replace").strip()
    finally:
        source.close()
    ignored = Found()
    plain = is_plain(tag, "latest", ignored.find) and os.path.lexists(top / tag)
    if not plain or not safe_link(top / tag, top, ignored.find, tag):
        return None
    inner = top / tag
    return inner if inner.is_dir() and is_zero(os.listdir(inner)) else None  # noqa: PTH208


def _told(layout: Layout, what: str) -> Layout:
    found = Found()
    found.find("several-models", None, f"{_core.FINDINGS['several-models'][1]}: {what}")
    values = {n: getattr(layout, n) for n in layout.__match_args__}
    return Layout(**{**values, "findings": (*found.findings, *layout.findings)})


def _numbered(text: str, folder: Path, stem: str, count: int, ending: str) -> Layout:
    found = Found()
    if not 0 < count <= MOST_SHARDS:
        raise UnsupportedError("directory", f"{count} files are none", path=text)
    files = [f"{stem}-{i:05}-of-{count:05}{ending}" for i in range(1, count + 1)]
    present = entries_of(folder)
    good = {f for f in files if _there(folder, f, present, found)}
    return Layout(text, str(folder), None, 0, tuple(files), frozenset(files) - good, None, {}, tuple(found.findings))


def index_layout(text: str, index: Path) -> Layout:
    found = Found()
    weights, metadata, nbytes = read_index(index, index.name, found.find)
    if weights is None:
        raise PthError("shard-index", found.findings[-1].message, path=text)
    files = list(dict.fromkeys(weights.values()))
    named = [f for f in files if is_plain(f, index.name, found.find)]
    present = entries_of(index.parent)
    good = {f for f in named if _there(index.parent, f, present, found)}
    number = {f: i for i, f in enumerate(files)}
    return Layout(
        text,
        str(index.parent),
        index.name,
        nbytes,
        tuple(files),
        frozenset(files) - good,
        {name: number[f] for name, f in weights.items()},
        metadata,
        tuple(found.findings),
    )


def entries_of(folder: Path) -> frozenset[str]:
    """Names in a directory: an index may ask for any number of them."""
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208
    except OSError:  # whoever opens a file says so
        return frozenset()


def _there(folder: Path, file: str, present: frozenset[str], found: Found) -> bool:
    if file not in present:
        found.find("shard-missing", file)
        return False
    return safe_link(folder / file, folder, found.find, file)


# ---- shared with the audit of folders ----


def read_index(path: Path, name: str, find: Find) -> tuple[dict[str, str] | None, dict[str, Any], int]:
    """(tensor -> file, the index's metadata, its bytes); None if it cannot be read as one, which becomes a finding."""
    import json

    doubled: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            doubled.append("a key stands twice")
        return made

    try:
        source = open_source(path)
        try:
            data = bytes(source.window(0, INDEX_BYTES + 1))
        finally:
            source.close()
        if len(data) > INDEX_BYTES:
            raise ValueError(f"more than {INDEX_BYTES} bytes")
        whole = json.loads(data, object_pairs_hook=pairs)
        weights, metadata = whole["weight_map"], whole.get("metadata")
        if not isinstance(weights, dict) or not all(isinstance(f, str) for f in weights.values()):
            raise TypeError("a file's name is no text")
        if (n := len(set(weights.values()))) > MOST_SHARDS:
            raise ValueError(f"it names {n:,} files; {MOST_SHARDS:,} are allowed")
    except (PthError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        find("shard-index", name, f"{_core.FINDINGS['shard-index'][1]}: {str(e)[:200]}")
        return None, {}, 0
    if doubled:
        find("shard-index", name, doubled[0])
    return weights, metadata if isinstance(metadata, dict) else {}, len(data)


def is_plain(file: str, index: str, find: Find) -> bool:
    """Does a name out of an index stay in the index's directory?"""
    if file in ("", ".", "..") or any(c in file for c in "/\\\0:"):
        find("shard-name", index, f"{_core.FINDINGS['shard-name'][1]}: {file[:200]!r}")
        return False
    return True


def safe_link(path: Path, top: Path, find: Find, name: str) -> bool:
    """Is it no link, or one that stays inside, or one of a download cache (snapshots/<revision>/x -> blobs/<hash>)?"""
    if not path.is_symlink():
        return True
    target, inside = Path(os.path.realpath(path)), Path(os.path.realpath(top))
    allowed = [inside]
    if inside.parent.name == "snapshots":
        allowed.append(inside.parent.parent / "blobs")
    if any(target.is_relative_to(folder) for folder in allowed):
        return True
    find("shard-link", name)
    return False
