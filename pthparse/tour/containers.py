"""Part 1: what kind of file it is, and what stands where in it."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import PthError
from ..source import SliceSource
from ..wording import base_name
from .opening import Subject, hex_of, section, table
from .words import Own, Section, Table, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..checkpoint import Checkpoint

MOST_PARTS = 8  # that are listed
MOST_FILES = 8
HEAD = 30  # bytes of a local header of a zip, before the name
# Small members that torch puts into its zips.
MARKS = {
    "version": "version",
    "byteorder": "byteorder",
    ".format_version": "format-version",
    ".storage_alignment": "storage-alignment",
    ".data/version": "version",
    ".data/serialization_id": "serialization-id",
}


class Region:
    """Bytes of the file, from one to the one before the other, and what they are, by the key of a text."""

    __slots__ = ("begin", "end", "key", "name", "values")

    def __init__(self, begin: int, end: int, key: str, name: str = "", **values: Any) -> None:
        self.begin, self.end, self.key, self.name, self.values = begin, end, key, name, values

    def told(self, say: Words) -> Own:
        return say(f"region.{self.key}", name=self.name, **self.values)


def container(subject: Subject) -> Section:
    say, ckpt, first = subject.say, subject.ckpt, subject.first
    facts: dict[str, Any] = {"format": ckpt.format, "nbytes": ckpt.nbytes}
    blocks: list[Any] = []
    title = "container.title.several" if subject.several else "container.title"
    if subject.several:
        blocks += _files(subject, facts)
    if first is None:
        return section(say, 1, "container", [*blocks, say("container.none")], facts, title=title)
    box = first._box
    source = box.source
    head = bytes(source.window(0, 16))
    shift = source.within()[1] if isinstance(source, SliceSource) else 0
    facts |= {
        "file": {"path": source.path, "offset": shift, "nbytes": source.size, "format": first.format},
        "first_bytes": head.hex(" "),
        "byteorder": first.byteorder,
        "writer": first.writer.text,
    }
    if subject.several:
        blocks.append(say("container.first", file=base_name(source.path), offset=shift, size=source.size))
    values = {"size": source.size, "head": Own(head[:4].hex(" ")), "members": 0 if box.zip is None else len(box.zip)}
    blocks.append(say(f"container.{first.format if say.has(f'container.{first.format}') else 'other'}", **values))
    heads, hidden, tails = _layout(first)
    shown = [*heads, *([None] if hidden else []), *tails]
    facts["parts"] = [
        {"begin": r.begin + shift, "end": r.end + shift, "what": r.key, "name": r.name, "first_bytes": _peek(box, r)}
        for r in shown
        if r is not None
    ]
    facts["more_parts"] = hidden
    blocks.append(_region_table(say, box, shown, hidden, shift))
    blocks.append(_note(subject, box))
    blocks.append(say("container.writer", writer=first.writer.text, order=say(f"order.{first.byteorder}")))
    return section(say, 1, "container", blocks, facts, title=title)


def _peek(box: Any, r: Region) -> str:
    """Its first bytes, in hex."""
    return bytes(box.source.window(r.begin, min(8, r.end - r.begin))).hex(" ")


def _files(subject: Subject, facts: dict[str, Any]) -> Iterator[Any]:
    say, ckpt = subject.say, subject.ckpt
    shards: tuple[Any, ...] = getattr(ckpt, "shards", ())
    facts["files"] = [{"name": s.name, "nbytes": s.nbytes, "tensors": s.tensors} for s in shards[:MOST_FILES]]
    facts["n_files"] = len(shards)
    yield say(f"container.{ckpt.format}", files=len(shards), size=ckpt.nbytes)
    index = ckpt.nbytes - sum(s.nbytes for s in shards)
    if ckpt.format == "sharded" and index > 0:
        yield say("container.index", n=index)
    rows = [(s.name, s.nbytes, s.tensors, say("files.error") if s.error else "") for s in shards[:MOST_FILES]]
    rest = shards[MOST_FILES:]
    if rest:
        rows.append((say("more", n=len(rest)), sum(s.nbytes for s in rest), sum(s.tensors for s in rest), ""))
    yield table(say, ("head.file", "head.bytes", "head.tensors", ""), "lrrl", rows)


def _note(subject: Subject, box: Any) -> Own | None:
    """What is to be said of all of such a container."""
    say = subject.say
    if box.zip is None:
        key = f"container.{box.format}.note"
        return say(key) if say.has(key) else None
    deflated = [i for i in range(len(box.zip)) if box.zip.entry(i)[3]]
    numbers = any(_kind_of_member(box, box.zip.name(i)) == "storage" for i in deflated)
    key = "zip.deflated" if numbers else "zip.deflated.others" if deflated else "zip.stored"
    told = [say("zip.headers"), say(key, n=len(deflated))]
    if any(e.kind == "alignment padding" and e.nbytes for e in subject.capacity.ledger()):
        told.append(say("zip.padding"))
    told.append(say("zip.directory"))
    if box.format == "torchscript":
        told.append(say("zip.torchscript"))
    return Own(say.texts["space"].join(told))


def _region_table(say: Words, box: Any, rows: list[Region | None], hidden: int, shift: int) -> Table:
    cells: list[tuple[Any, ...]] = []
    for r in rows:
        if r is None:
            cells.append(("...", "", "", say("more", n=hidden)))
            continue
        raw = bytes(box.source.window(r.begin, min(5, r.end - r.begin)))
        cells.append((r.begin + shift, r.end - r.begin, Own(hex_of(raw, 4)), r.told(say)))
    heads = ("head.from", "head.bytes", "head.first-bytes", "head.what")
    return table(say, heads, "rrll", cells)


# ---- where what stands, by format: the first parts, how many are left out, the last ones ----

Layout = tuple[list[Region], int, list[Region]]


def _layout(ckpt: Checkpoint) -> Layout:
    """In the order of the file; what has no byte is left out."""
    by_format = {
        "legacy": _of_legacy,
        "tar": _of_tar,
        "safetensors": _of_safetensors,
        "pickle": _of_pickle,
    }
    box = ckpt._box
    if box.zip is not None:
        heads, hidden, tails = _of_zip(box)
    elif ckpt.format in by_format:
        heads, hidden, tails = by_format[ckpt.format](box)
    else:
        parts = sorted(ckpt.members, key=lambda m: m.offset)
        heads = [Region(m.offset, m.offset + m.stored_nbytes, "member", m.name) for m in parts[:MOST_PARTS]]
        hidden, tails = max(0, len(parts) - MOST_PARTS), []
    return [r for r in heads if r.end > r.begin], hidden, [r for r in tails if r.end > r.begin]


def _of_zip(box: Any) -> Layout:
    archive, end = box.zip, box.end
    members = sorted((archive.entry(i)[0], i) for i in range(len(archive)))
    heads: list[Region] = []
    for start, i in members[:MOST_PARTS]:
        name = archive.name(i)
        try:
            data = box.data_offset(i)
        except PthError:  # its tensors' to say, when they are read
            continue
        if not heads:
            heads.append(Region(start, data, "zip-header", name, fixed=HEAD, size=len(archive.name_bytes(i))))
        heads.append(Region(data, data + archive.entry(i)[1], _kind_of_member(box, name), name))
    behind = end.dir_off + end.dir_len
    tails = [
        Region(end.dir_off, behind, "zip-directory", n=len(archive)),
        Region(behind, box.source.size, "zip-end"),
    ]
    return heads, max(0, len(members) - MOST_PARTS), tails


def _kind_of_member(box: Any, name: str) -> str:
    below = name[len(box.prefix) :] if name.startswith(box.prefix) else name
    if below.endswith("_config.json"):
        return "config"
    if below.endswith(".pkl") and not below.startswith("code/"):
        return "zip-pickle"
    if below in MARKS:
        return f"zip-{MARKS[below]}"
    if below.startswith(".data/"):
        return "storage" if below.endswith(".storage") else "member"
    if below.startswith((getattr(box, "folder", "tensors/"), "data/weights/weight_", "constants/")):
        return "storage"
    return "code" if below.startswith(("code/", "models/")) or below.endswith((".py", "model.json")) else "member"


def _of_legacy(box: Any) -> Layout:
    from ..formats.legacy import COUNT

    pickles = sorted(box.pickles, key=lambda p: p.offset or 0)
    heads = [Region(p.offset, p.offset + p.graph.end, f"legacy-{p.member}", p.member) for p in pickles]
    storages = _spans(box)
    for key, offset, nbytes in storages[: MOST_PARTS - len(heads)]:
        if len(heads) == len(pickles):
            heads.append(Region(offset - COUNT, offset, "legacy-count", key))
        heads.append(Region(offset, offset + nbytes, "storage", key))
    hidden = len(pickles) + 1 + len(storages) - len(heads) if storages else 0
    return heads, hidden, [Region(box.end, box.source.size, "trailing")]


def _spans(box: Any) -> list[tuple[str, int, int]]:
    """Key, first byte and bytes of each storage, in the order of the file."""
    rows = (box.store.span(i) for i in range(len(box.store)))
    return sorted(((str(key), offset, nbytes) for key, offset, nbytes, _, _ in rows), key=lambda row: row[1])


def _of_tar(box: Any) -> Layout:
    from ..formats.tar import BLOCK

    heads: list[Region] = []
    for name, (offset, nbytes) in sorted(box.entries.items(), key=lambda pair: pair[1])[:MOST_PARTS]:
        text = name.decode("utf-8", "backslashreplace")
        if not heads:
            heads.append(Region(max(0, offset - BLOCK), offset, "tar-header", text))
        key = f"tar-{text}" if text in ("sys_info", "pickle", "storages", "tensors") else "member"
        heads.append(Region(offset, offset + nbytes, key, text))
    return heads, max(0, len(box.entries) - MOST_PARTS), []


def _of_safetensors(box: Any) -> Layout:
    from ..formats.safetensors import LENGTH

    header, tensors = box.header, _spans(box)
    heads = [
        Region(0, LENGTH, "safetensors-length", n=box.data_start - LENGTH),
        Region(LENGTH, header.json_end, "safetensors-header"),
        Region(header.json_end, box.data_start, "padding"),
    ]
    most = MOST_PARTS - len(heads)
    heads += [Region(offset, offset + nbytes, "tensor", key) for key, offset, nbytes in tensors[:most]]
    return heads, max(0, len(tensors) - most), [Region(header.end, box.source.size, "trailing")]


def _of_pickle(box: Any) -> Layout:
    end = box.pickles[0].graph.end
    return [Region(0, end, "pickle"), Region(end, box.source.size, "trailing")], 0, []
