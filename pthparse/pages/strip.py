"""The bytes of one file in their order: what lies where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import PthError

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint

LOCAL = 30  # bytes of a zip's local header, before the name
THINNEST = 1.0  # of a rectangle; what is thinner is drawn with its neighbours
TENSOR, PICKLE, MEMBER, HEADER, PADDING, ENDING = KINDS = (
    "tensor", "pickle", "other member", "header", "padding", "directory"
)  # fmt: skip


class Span(NamedTuple):
    """Bytes of one kind. `name`: of the first tensor there, or of the member."""

    begin: int
    end: int
    kind: str
    name: str


class Piece(NamedTuple):
    """Some spans as one rectangle; `spans` counts them."""

    x: float
    width: float
    kind: str
    name: str
    begin: int
    end: int
    spans: int


class Strip(NamedTuple):
    """A file to scale, and all of it but the tensors' bytes to a scale of their own."""

    whole: tuple[Piece, ...]
    rest: tuple[Piece, ...]
    rest_nbytes: int


def strip_of(ckpt: Checkpoint, width: float) -> Strip:
    """All bytes of a file, in their order; nothing of a format that does not tell."""
    known, headers = _known(ckpt)
    size = ckpt.nbytes
    rest, at = size, 0
    for span in known:  # as _filled takes them
        if at <= span.begin and span.end <= size:
            at = span.end
            rest -= span.end - span.begin if span.kind == TENSOR else 0
    if not known or not size:
        return Strip((), (), 0)
    whole = drawn(_filled(known, headers, size), size, width)
    outside = drawn((s for s in _filled(known, headers, size) if s.kind != TENSOR), rest, width)
    return Strip(tuple(whole), tuple(outside), rest)


def _known(ckpt: Checkpoint) -> tuple[list[Span], dict[int, int]]:
    """Tensors' storages and other parts by their place; of a zip, where its headers begin and their names end."""
    is_zip = ckpt.format in ("zip", "torchscript")
    known: list[Span] = []
    headers: dict[int, int] = {}
    try:
        for m in ckpt.members:
            head = m.offset + (LOCAL + len(m.name.encode("utf-8", "replace")) if is_zip else 0)
            if is_zip:
                headers[m.offset] = head
            if m.role != "storage":
                known.append(Span(head, head + m.stored_nbytes, PICKLE if m.role == "pickle" else MEMBER, m.name))
        places: dict[int, Span] = {}
        for s in ckpt.storages:
            if s.file_offset is not None and s.nbytes:
                name = s.tensors[0] if s.tensors else ""
                places.setdefault(s.file_offset, Span(s.file_offset, s.file_offset + s.nbytes, TENSOR, name))
    except PthError:
        return [], {}
    return sorted((*known, *places.values())), headers


def _filled(known: Sequence[Span], headers: Mapping[int, int], size: int) -> Iterator[Span]:
    """What is between them too: headers, padding, and the directory at the end."""
    at = n = 0
    starts = sorted(headers)
    for span in known:
        if span.end > size or span.begin < at:  # said twice, or beyond the end
            continue
        while n < len(starts) and starts[n] < at:
            n += 1
        if span.begin > at:
            begin = starts[n] if n < len(starts) and starts[n] < span.begin else at
            head = min(headers.get(begin, begin), span.begin) if headers else span.begin
            if head > at:
                yield Span(at, head, HEADER, "")
            if span.begin > head:
                yield Span(head, span.begin, PADDING, "")
        yield span
        at = span.end
    if size > at:
        yield Span(at, size, ENDING if headers else HEADER, "")


def drawn(found: Iterable[Span], total: int, width: float) -> list[Piece]:
    """As rectangles side by side, `width` in all: what is too thin to be seen goes with its neighbours."""
    out: list[Piece] = []
    held: list[Span] = []
    x = room = 0.0
    for span in found:
        share = (span.end - span.begin) / total * width
        if held and room >= THINNEST and (share >= THINNEST or span.kind != held[0].kind):
            out.append(_piece(held, x, room))
            x, room, held = x + room, 0.0, []
        held.append(span)
        room += share
    if held:
        out.append(_piece(held, x, room))
    return out


def _piece(held: Sequence[Span], x: float, room: float) -> Piece:
    largest = max(held, key=lambda s: s.end - s.begin)
    return Piece(x, room, largest.kind, largest.name, held[0].begin, held[-1].end, len(held))
