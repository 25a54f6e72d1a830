"""The files of a model in several: found by an index, or by the numbers in their names.

`pytorch_model.bin.index.json` says {"metadata": {"total_size": bytes}, "weight_map": {tensor: file}} (Hugging Face);
without one, files are numbered: `model-00001-of-00008.safetensors`. Nothing of the files themselves is read here.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from . import _core
from .directories import FOLDER, Directory, Find, Located
from .errors import PthError, UnsupportedError, escape
from .formats.base import MOST_FINDINGS, Finding
from .record import Record
from .source import INDEX

INDEX_BYTES = 1 << 26
# In an index. An honest one has three objects, and a comma for each name; what is beyond would take much memory.
MOST_NESTED, MOST_NAMES = 100_000, 1 << 20
MOST_SHARDS = 99_999  # as many as five digits can say
NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.(?:bin|safetensors|pt|pth|ckpt))")
# Of a directory with several models, the first of these is meant: what transformers looks for, in its order.
USUAL = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
# Files of DeepSpeed's processes.
ZERO = re.compile(r"(?:bf16_)?(?:zero_)?(?:pp_rank_\d+_)?mp_rank_\d+_(?:model|optim)_states\.pt")
# Of the directory of a distributed checkpoint (torch/distributed/checkpoint/filesystem.py).
METADATA, UNFINISHED, ENDING = ".metadata", ".metadata.tmp", ".distcp"
OF_A_RANK = re.compile(r"__\d+\.metadata")  # of a save without collectives: each process says its own part
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


class Layout(Record):
    """What is known of a model in several files before one of them is opened.

    Attributes
    ----------
    path : str
        As it was asked for.
    directory : Directory
    index : str or None
        The name of the index, and its size.
    index_nbytes : int
    files : tuple of str
        Their names in the folder; the missing ones as well.
    missing : frozenset of str
        Those that are not there, or may not be opened, as far as is known: see `Directory.present`.
    weights : dict or None
        Tensor -> number of its file; None: no index says so.
    metadata : dict
        The index's own.
    findings : tuple of Finding
    """

    path: str
    directory: Directory
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


def is_distributed(directory: Directory) -> bool:
    """Is it the directory of a distributed checkpoint, or of one that was not finished?"""
    present = directory.present() or ()
    return any(n in (METADATA, UNFINISHED) or OF_A_RANK.fullmatch(n) or n.endswith(ENDING) for n in present)


def layout_of(asked: Located, siblings: bool = False) -> Layout | tuple[Directory, str]:
    """The files of the model in a directory, of an index, or beside a numbered file; or the one that a directory has.

    Raises
    ------
    PthError
        There is no model, or more than one.
    """
    text, directory, name = asked
    if name is None:
        return _of_folder(text, directory)
    if siblings:
        found = NUMBERED.fullmatch(name)
        if found is None:
            raise UnsupportedError(
                "directory", "no number in its name (-00001-of-00008) says what its siblings are", path=text
            )
        return _numbered(text, directory, found[1], int(found[3]), found[4])
    return index_layout(text, directory, name, True)


def _of_folder(text: str, directory: Directory) -> Layout | tuple[Directory, str]:
    names = directory.names()
    if is_zero(names):
        return _of_zero(text, directory, names)
    if "latest" in names and (inner := _latest(directory)) is not None:
        return _of_folder(text, inner)
    indexes = [n for n in names if n.endswith(INDEX)]
    usual = next((n for n in USUAL if n in names), None)
    chosen = usual if usual is not None else indexes[0] if len(indexes) == 1 else None
    if chosen is not None:
        others = [n for n in (*indexes, *USUAL) if n in names and n != chosen]
        if not chosen.endswith(INDEX):
            return directory, chosen
        layout = index_layout(text, directory, chosen)
        return _told(layout, f"of {len(others) + 1} models in the directory, {chosen}") if others else layout
    families = {(m[1], m[3], m[4]) for n in names if (m := NUMBERED.fullmatch(n)) is not None}
    if len(families) == 1 and not indexes:
        ((stem, count, ending),) = families
        return _numbered(text, directory, stem, int(count), ending)
    single = [n for n in names if n.endswith(ENDINGS)]
    if len(single) == 1 and not families:
        return directory, single[0]
    what = ", ".join(escape(n) for n in (indexes or single)[:4])
    several = f"several models ({what}, ...): name one of them" if what else "no checkpoint in it"
    raise UnsupportedError("directory", f"a directory with {several}", path=text)


def is_zero(names: list[str]) -> bool:
    """Are these the files of a ZeRO directory?"""
    return any(ZERO.fullmatch(n) for n in names)


def _of_zero(text: str, directory: Directory, names: list[str]) -> Layout:
    found = Found()
    files = sorted((n for n in names if ZERO.fullmatch(n)), key=_by_numbers)
    missing = frozenset(f for f in files if not directory.is_safe(f, found.find))
    prefixes = tuple(f"{PurePath(f).stem}/" for f in files)
    return Layout(text, directory, None, 0, tuple(files), missing, None, {}, tuple(found.findings), prefixes)


def _by_numbers(name: str) -> tuple[bool, list[tuple[bool, int, str]]]:
    """The model's files first; rank 10 behind rank 9."""
    parts = [(x.isdecimal(), int(x) if x.isdecimal() else 0, x) for x in re.split(r"(\d+)", name)]
    return "optim" in name, parts


def _latest(directory: Directory) -> Directory | None:
    """The directory that the text of the file `latest` names, if it is one of ZeRO's."""
    ignored = Found()
    try:
        if not directory.is_safe("latest", ignored.find):
            return None
        source = directory.open("latest")
        try:
            tag = bytes(source.window(0, 256)).decode("utf-8", "replace").strip()
        finally:
            source.close()
        if not is_plain(tag, "latest", ignored.find) or not directory.is_safe(tag, ignored.find):
            return None
        kind = dict(directory.entries()).get(tag)
        inner = directory.below(tag)
        return inner if FOLDER in (kind, kind and directory.kind(tag)) and is_zero(inner.names()) else None
    except (OSError, PthError):
        return None


def _told(layout: Layout, what: str) -> Layout:
    found = Found()
    found.find("several-models", None, f"{_core.FINDINGS['several-models'][1]}: {what}")
    values = {n: getattr(layout, n) for n in layout.__match_args__}
    return Layout(**{**values, "findings": (*found.findings, *layout.findings)})


def _numbered(text: str, directory: Directory, stem: str, count: int, ending: str) -> Layout:
    found = Found()
    if not 0 < count <= MOST_SHARDS:
        raise UnsupportedError("directory", f"{count} files are none", path=text)
    files = [f"{stem}-{i:05}-of-{count:05}{ending}" for i in range(1, count + 1)]
    good = there(directory, files, found.find, "a file of the model is not there: the numbers of the others tell of it")
    return Layout(text, directory, None, 0, tuple(files), frozenset(files) - good, None, {}, tuple(found.findings))


def index_layout(
    text: str, directory: Directory, index: str, given: bool = False, find: Find | None = None, name: str = ""
) -> Layout:
    """find: who keeps the findings, if the layout is not to; name: the index's in them."""
    found = Found()
    told, name = find or found.find, name or index
    weights, metadata, nbytes = read_index(directory, index, name, told, given)
    if weights is None:
        message = found.findings[-1].message if found.findings else _core.FINDINGS["shard-index"][1]
        raise PthError("shard-index", message, path=text)
    files = list(dict.fromkeys(weights.values()))
    good = there(directory, [f for f in files if is_plain(f, name, told)], told)
    number = {f: i for i, f in enumerate(files)}
    return Layout(
        text,
        directory,
        index,
        nbytes,
        tuple(files),
        frozenset(files) - good,
        {name: number[f] for name, f in weights.items()},
        metadata,
        tuple(found.findings),
    )


# ---- shared with the audit of folders ----


def there(directory: Directory, files: list[str], find: Find, told: str | None = None) -> set[str]:
    """Those of some files, by plain names, that are there and may be opened, or of which only opening them tells.

    told: who misses one that is not there, if it is no index.
    """
    present = directory.present()
    good = set()
    for file in files:
        if present is not None and file not in present:
            find("shard-missing", file, told)
        elif directory.is_safe(file, find):
            good.add(file)
    return good


def read_index(
    directory: Directory, index: str, name: str, find: Find, given: bool = False
) -> tuple[dict[str, str] | None, dict[str, Any], int]:
    """(tensor -> file, the index's metadata, its bytes); None if it cannot be read as one, which becomes a finding.

    name: the index's in findings. given: see `Directory.open`.
    """
    import json

    doubled: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            doubled.append("a key stands twice")
        return made

    try:
        source = directory.open(index, given)
        try:
            if source.size > INDEX_BYTES:
                raise ValueError(f"more than {INDEX_BYTES} bytes")
            data = bytes(source.window(0, source.size))
        finally:
            source.close()
        if data.count(b"{") + data.count(b"[") > MOST_NESTED or data.count(b",") > MOST_NAMES:
            raise ValueError("more lists, objects or names than an index has")
        whole = json.loads(data, object_pairs_hook=pairs)
        weights = whole.get("weight_map") if isinstance(whole, dict) else None
        if not isinstance(weights, dict):
            raise TypeError("no weight_map, with the file of each tensor, is in it")
        if not all(isinstance(f, str) for f in weights.values()):
            raise TypeError("a file's name is no text")
        metadata = whole.get("metadata")
        if (n := len(set(weights.values()))) > MOST_SHARDS:
            raise ValueError(f"it names {n:,} files; {MOST_SHARDS:,} are allowed")
    except (PthError, ValueError, TypeError, RecursionError) as e:
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
