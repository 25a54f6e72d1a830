"""Files of torch.save inside of an archive: their tensors, as if the archive itself held them.

torch.export saved weights so until 2.8. Each is an archive of its own, with its own storages; here one table has the
tensors of all of them, whose storages lie in the outer file as they are.
"""

from __future__ import annotations

from .. import _core
from ..errors import FormatError, PthError, UnsupportedError
from ..source import SliceSource
from .base import Finding, Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .base import Extent
    from .zip import ZipContainer

STORED = 0
DENSE = _core.TENSOR_KINDS.index("dense")


class Row(_core.TensorRow):
    """A tensor of an inner file, as its table has it."""

    __slots__ = ()


class Inner:
    """One of the files: its member, the container, and where it begins in the outer file."""

    def __init__(self, member: str, box: ZipContainer, base: int) -> None:
        self.member, self.box, self.base = member, box, base
        self.table = box.tensors
        self.names: list[str] = []  # of its tensors, as the archive calls them

    def inside(self, member: str | None) -> str:
        """How a member of it is called."""
        return f"{self.member}!{member or ''}".rstrip("!")


class Nested:
    """The files of one archive.

    Attributes
    ----------
    inner : list of Inner
    places : list of (int, int)
        Of each span of `store`: which of them, and the span there.
    """

    def __init__(self, outer: ZipContainer) -> None:
        self.outer = outer
        self.inner: list[Inner] = []
        self.places: list[tuple[int, int]] = []
        self.names: dict[str, int] = {}
        self.parameters: set[str] = set()
        self._wanted: list[tuple[str, int, Row]] = []

    def read(self, member: str, entry: int, begin: str) -> None:
        """Reads one of them; its tensors are called `begin` and their names there. An empty one has none."""
        from .zip import ZipContainer, probe

        outer = self.outer
        _, length, _, method, _, _ = outer.zip.entry(entry)
        if length == 0:
            return
        if method != STORED:
            text = f"the archive is compressed: unpack it, and open {member.rpartition('/')[2]!r}"
            raise UnsupportedError("pt2", text, member=member)
        outer.zip.check(entry)
        base = outer.data_offset(entry)
        source = SliceSource(outer.source, base, length)
        if not probe(bytes(source.window(0, 4))):
            raise FormatError("pt2-config", "no file of torch.save", member=member)
        box = ZipContainer(source, outer.limits)
        box.innermost, box.arena, box.inflated = True, outer.arena, outer.inflated
        try:
            box.load()
        except PthError as e:
            e.member = f"{member}!{e.member or ''}".rstrip("!")
            raise
        number = len(self.inner)
        self.inner.append(Inner(member, box, base))
        rows = zip(box.tensors.names(), box.tensors.name_rows(), strict=True)
        self._wanted += [(begin + name, number, box.tensors.make(Row, name, row)) for name, row in rows]

    def finish(self) -> tuple[Any, Any]:
        """The store of all their storages, and the table of all their tensors."""
        outer = self.outer
        orders = {i.box.byteorder for i in self.inner}
        if len(orders) > 1:
            raise FormatError("pt2-config", "its files are of both byte orders")
        outer.byteorder = orders.pop() if orders else "little"
        rows: list[tuple[bytes, int, int]] = []
        spans: dict[tuple[int, int], int] = {}
        for number, inner in enumerate(self.inner):
            self._spans(number, inner, rows, spans)
        store = _core.listed_store(rows, outer.arena, outer.byteorder == "big")
        table = _core.Tensors(_core.Graph(outer.arena), store, outer.c_limits, False)
        known: dict[Any, int] = {}
        for name, number, t in self._wanted:
            inner = self.inner[number]
            storage = inner.table.storage(t._storage) if t._storage is not None else None
            by_value = storage is not None and storage[4] & _core.STORAGE_FLAGS["IN_PICKLE"]
            if t._kind != DENSE or t.conj or t.neg or t._cast is not None or by_value:
                text = f"{name!r} is no plain tensor: open that file by itself"
                outer.find("not-looked-into", inner.member, None, text)
                continue
            if name in self.names:
                outer.find("names-collide", inner.member, None, f"another tensor reads {name!r} too: the first is here")
                continue
            at = None if storage is None or storage[0] is None else spans.get((number, storage[0]))
            # What is wrong with a storage is wrong with all that look at it, as in the file by itself.
            if storage is not None and at is not None and storage[7]:
                outer.blame(_core.error_of(storage[7]), inner.inside(inner.box.zip.name(self.entry(at)[1])))
                at = None
            key = (at, t._dtype, t._sizes, t._strides, t.storage_offset, t.requires_grad)
            if key not in known or at is None:
                known[key] = table.add(*key, outer.c_limits)
            self.names[name] = known[key]
            inner.names.append(name)
            if t.parameter:
                self.parameters.add(name)
        self._wanted.clear()
        for inner in self.inner:
            for f in inner.box.findings:
                outer.keep_finding(Finding(f.code, f.severity, inner.inside(f.member), f.offset, f.message))
        return store, table

    def _spans(
        self, number: int, inner: Inner, rows: list[tuple[bytes, int, int]], spans: dict[tuple[int, int], int]
    ) -> None:
        """Adds the storages of one of them: where each lies in the outer file."""
        box, store = inner.box, inner.box.store
        used = dict.fromkeys(inner.table.storage(i)[0] for i in range(inner.table.n_storages))
        found = [span for span in used if span is not None and not store.span(span)[4]]
        box.locate((store, span) for span in found)
        for span in found:
            key, _, nbytes, entry, _ = store.span(span)
            try:
                box.zip.check(entry)
                if not box.is_stored(store, span):
                    raise UnsupportedError("pt2", "a compressed storage in an archive in an archive")
                offset = inner.base + box.data_offset(entry)
            except PthError as e:
                self.outer.blame(e, inner.inside(box.zip.name(entry)))
                continue
            spans[number, span] = len(self.places)
            self.places.append((number, span))
            rows.append((f"{inner.member}!{key}".encode("utf-8", "surrogatepass"), offset, nbytes))

    def extent(self, span: int) -> Extent:
        number, own = self.places[span]
        inner = self.inner[number]
        found = inner.box.extent(inner.box.store, own)
        if found.offset is not None:
            found.offset += inner.base
        return found

    def entry(self, span: int) -> tuple[int, int]:
        """Which file, and the entry there, that a span is."""
        number, own = self.places[span]
        return number, int(self.inner[number].box.store.span(own)[3])

    def members(self) -> Iterator[Member]:
        """Their own members, behind the name of each."""
        for inner in self.inner:
            for m in inner.box.members():
                yield Member(inner.inside(m.name), inner.base + m.offset, m.nbytes, m.stored_nbytes, m.role)

    def claim(self, ledger: _core.Ledger) -> None:
        """What each of their bytes is for."""
        for inner in self.inner:
            ledger.inside(inner.base)
            inner.box.claim(ledger)
        ledger.inside(0)
