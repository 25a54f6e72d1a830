"""Where a checkpoint's parameters and bytes are: by module, dtype and role; what is shared or wasted; the ledger.

Nothing of the data is read. All sums are made by the core over columns of the tensor table.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from .errors import PthError
from .record import Record
from .source import closed

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .tensor import Tensor

PARAMETERS, BUFFERS, OPTIMIZER, EMA, OTHER = ROLES = ("parameters", "buffers", "optimizer state", "EMA copy", "other")
NESTED = _core.TENSOR_KINDS.index("nested")
UNTYPED = next(i for i, row in enumerate(_core.DTYPES) if row[0] == "untyped")
# Names that torch's own modules (torch/nn/modules/batchnorm.py) give to buffers and to nothing else.
BUFFER_NAMES = ("running_mean", "running_var", "num_batches_tracked")
# Modules that hold a second copy of the model, averaged over training: timm and its kin, latent diffusion.
EMA_MODULES = ("model_ema", "ema_model", "ema")
EMA_WORDS, OPTIMIZER_WORDS = {"ema", "swa"}, {"opt", "optim", "optimizer", "optimizers"}
MOST_MOMENTS = 4


class LedgerEntry(Record):
    """Bytes of a file that are of one kind, and how many parts they are: members, storages, tensors."""

    kind: str
    nbytes: int
    count: int
    meaning: str


class CapacityGroup(Record):
    """Tensors that belong together.

    Attributes
    ----------
    name : str
        A module's, a dtype's, a role's.
    tensors : int
    elements : int
        What several tensors of the checkpoint are is counted once, for the first of them.
    nbytes : int
        Bytes of the file that hold them, each counted once.
    share : float
        Of the file's bytes.
    parameter_share : float
        Of the model's parameters; 0 in a group that has none of them.
    """

    name: str
    tensors: int
    elements: int
    nbytes: int
    share: float
    parameter_share: float


class SharedStorage(Record):
    """Tensors that look at one storage, and its bytes. `tied`: they are the same elements under several names."""

    names: tuple[str, ...]
    nbytes: int
    tied: bool


class UnusedStorage(Record):
    """A storage with bytes that no tensor looks at: of its `nbytes` in the file, `unused`. `names`: of its tensors."""

    key: str
    nbytes: int
    unused: int
    names: tuple[str, ...]


class Reason(Record):
    """One line of why a file is as big as it is."""

    what: str
    nbytes: int
    share: float
    text: str


class _Columns(NamedTuple):
    """A row for each name: its role, dtype, elements and bytes; what was counted under an earlier name is 0."""

    names: list[str]
    roles: array[int]
    dtypes: array[int]
    elements: array[int]
    nbytes: array[int]
    parameters: array[int]


class Capacity(Record):
    """What a checkpoint holds, and where its bytes go.

    Attributes
    ----------
    file_bytes : int
    tensor_bytes : int
        Bytes of the file that hold elements of tensors, each counted once.
    tensors : int
        Names.
    elements : int
        Of all tensors; of those that are the same, once.
    parameters : int
        Elements of the model's tensors, without buffers.
    buffers : int
        Elements of the model's buffers, as far as they are known as such: by the file, or by their names.
    unnamed_bytes : int
        Of `tensor_bytes`, those of tensors without a name here: constants of code, parts of what could not be read.
    shared : tuple of SharedStorage
        Storages that several tensors look at.
    wasted : int
        Bytes of storages that no tensor looks at: a slice is saved with all that it was cut from.
    unused : tuple of UnusedStorage
        Where these are, the largest first.
    clean_bytes : int
        What is left of the file without them, as `torch.save` of clones would leave it.
    why : tuple of Reason
        Why the file is so big, a line for each reason.
    """

    file_bytes: int
    tensor_bytes: int
    tensors: int
    elements: int
    parameters: int
    buffers: int
    unnamed_bytes: int
    shared: tuple[SharedStorage, ...]
    wasted: int
    unused: tuple[UnusedStorage, ...]
    clean_bytes: int
    why: tuple[Reason, ...]
    _ledger: tuple[LedgerEntry, ...]
    _columns: _Columns
    _files: tuple[str, ...] = ()  # of a model in several, and which of them each name is in (the first of its pieces)
    _file_of: array[int] | None = None
    _pieces: tuple[array[int], ...] | None = None  # where names are in several files: file and sums of each piece

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Every byte of the file, in exactly one entry: their sum is `file_bytes`."""
        return self._ledger

    def each(self) -> Iterator[tuple[str, str, int, int]]:
        """Name, role, elements and bytes of each tensor; of what an earlier one was credited with there are none."""
        c = self._columns
        return zip(c.names, (ROLES[role] for role in c.roles), c.elements, c.nbytes, strict=True)

    def groups(self, by: str = "module", depth: int | None = None) -> tuple[CapacityGroup, ...]:
        """The tensors in groups, the largest first.

        Parameters
        ----------
        by : 'module', 'dtype', 'role', or 'shard' of a model in several files
        depth : int, optional
            Of modules: components of their names. By default as many as it takes to have more than one group.

        Notes
        -----
        Roles are inferred from names: 'parameters', 'buffers', 'optimizer state', 'EMA copy', 'other'.
        """
        c = self._columns
        if by == "role":
            return self._groups(ROLES, c.roles)
        if by == "dtype":
            return self._groups([row[0] for row in _core.DTYPES], c.dtypes)
        if by == "shard" and self._pieces is not None:
            return self._groups(self._files, *self._pieces)
        if by == "shard" and self._file_of is not None:
            return self._groups(self._files, self._file_of)
        if by != "module":
            raise ValueError(f"by must be 'module', 'dtype' or 'role', not {by!r}")
        if depth is not None and depth < 1:
            raise ValueError("a depth of at least 1")
        if depth is None:  # components that all names have in common, and one more
            common = _common(c.names)
            depth = common.count(".") + common.count("/") + 1
        numbers, names = _core.group_names(c.names, depth)
        return self._groups(names, numbers)

    def _groups(self, names: Sequence[str], numbers: Any, *sums: array[int]) -> tuple[CapacityGroup, ...]:
        """sums: elements, bytes and parameters of what the numbers count; those of the names if not given."""
        c = self._columns
        rows = _core.sums(numbers, sums or (c.elements, c.nbytes, c.parameters), len(names))
        found = [
            CapacityGroup(name, n, elements, nbytes, _share(nbytes, self.file_bytes), _share(own, self.parameters))
            for name, (n, elements, nbytes, own) in zip(names, rows, strict=True)
            if n
        ]
        return tuple(sorted(found, key=lambda g: (-g.nbytes, -g.elements)))

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict of plain values, with the ledger and the groups."""
        by = {by: tuple(g.to_dict() for g in self.groups(by)) for by in ("module", "dtype", "role")}
        return {**super().to_dict(), "ledger": tuple(e.to_dict() for e in self._ledger), "groups": by}

    def _repr_html_(self) -> str:
        from .notebook import of_capacity

        return of_capacity(self)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _common(names: Sequence[str]) -> str:
    first, last = min(names, default=""), max(names, default="")
    at = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:at]


# ---- one checkpoint ----


def capacity_of(ckpt: Checkpoint) -> Capacity:
    """Counts; PthError if the file was cut meanwhile, or is closed."""
    box = ckpt._box
    if box.closed:
        raise closed(ckpt.path)
    ledger = _core.Ledger(_core.Arena(box.c_limits), box.source.size)
    box.claim(ledger)
    tables = [(ckpt._table, box.main), *ckpt._parts.values()]
    order = _order(ckpt)
    for i, (table, pickle) in enumerate(tables):
        rows = order if i == 0 else array("I", range(len(table)))
        ledger.tensors(table, box.zip, pickle.offset if pickle else None, i, rows)
    settled = ledger.settle()
    of_kind = {kind: nbytes for kind, nbytes, _ in settled}
    first = memoryview(ckpt._table.same_elements(order)).cast("I")
    columns = _columns(ckpt, ledger.credits(0, ckpt._table), first)
    wasted = of_kind["unused storage"]
    by_role = _core.sums(columns.roles, (columns.elements, columns.nbytes), len(ROLES))
    unused: list[UnusedStorage] = []
    if wasted:
        unused = sorted(_unused(ckpt, ledger, [table for table, _ in tables], wasted), key=lambda u: -u.unused)
    counts = {"unused storage": len(unused)}
    return Capacity(
        file_bytes=ckpt.nbytes,
        tensor_bytes=of_kind["tensor data"],
        tensors=len(ckpt),
        elements=sum(row[1] for row in by_role),
        parameters=by_role[0][1],
        buffers=by_role[1][1],
        unnamed_bytes=of_kind["tensor data"] - sum(row[2] for row in by_role),
        shared=_shared(ckpt, columns, first),
        wasted=wasted,
        unused=tuple(unused),
        clean_bytes=ckpt.nbytes - wasted,
        why=tuple(_reasons(ckpt.nbytes, of_kind, columns, by_role)),
        _ledger=tuple(LedgerEntry(k, nbytes, counts.get(k, n), _core.LEDGER[k]) for k, nbytes, n in settled),
        _columns=columns,
    )


def capacity_of_several(
    ckpt: Checkpoint,
    places: Sequence[Sequence[tuple[int, int]]],
    parts: Mapping[int, Capacity],
    files: tuple[str, ...],
    file_of: array[int],
    more: Mapping[str, int],
) -> Capacity:
    """Of a model in several parts: sums of what was counted in each.

    places: for each name the parts that it is in, and its place in each. file_of: the file of each part. more: bytes
    that no part has counted, by kind of the ledger.
    """
    names = ckpt._list
    numbers, last = _core.group_names(names, _core.BY_LAST)
    roles = _with_buffers(_roles_by_container(ckpt), numbers, last)
    columns = _Columns(names, roles, array("I"), *(array("Q") for _ in range(3)))
    first = array("I", [file_of[pieces[0][0]] if pieces else 0 for pieces in places])
    several = any(len(pieces) > 1 for pieces in places)
    spread = array("I"), array("Q"), array("Q"), array("Q")
    for i, pieces in enumerate(places):
        rows = [(parts[number]._columns, at) for number, at in pieces if number in parts]
        if roles[i] == 0 and any(row.roles[at] == 1 for row, at in rows):  # its own file says that it is a buffer
            roles[i] = 1
        elements = sum(row.elements[at] for row, at in rows)
        columns.dtypes.append(rows[0][0].dtypes[rows[0][1]] if rows else UNTYPED)
        columns.elements.append(elements)
        columns.nbytes.append(sum(row.nbytes[at] for row, at in rows))
        columns.parameters.append(elements if roles[i] == 0 else 0)
        for number, at in pieces if several else ():
            if number in parts:
                row = parts[number]._columns
                own = (file_of[number], row.elements[at], row.nbytes[at], row.elements[at] if roles[i] == 0 else 0)
                for column, n in zip(spread, own, strict=True):
                    column.append(n)
    ledger = []
    for kind, meaning in _core.LEDGER.items():
        found = [e for part in parts.values() for e in part.ledger() if e.kind == kind]
        nbytes = more.get(kind, 0)
        total, count = sum(e.nbytes for e in found) + nbytes, sum(e.count for e in found) + bool(nbytes)
        ledger.append(LedgerEntry(kind, total, count, meaning))
    size = sum(e.nbytes for e in ledger)
    by_role = _core.sums(columns.roles, (columns.elements, columns.nbytes), len(ROLES))
    of_kind = {e.kind: e.nbytes for e in ledger}
    wasted = of_kind["unused storage"]
    return Capacity(
        file_bytes=size,
        tensor_bytes=of_kind["tensor data"],
        tensors=len(names),
        elements=sum(row[1] for row in by_role),
        parameters=by_role[0][1],
        buffers=by_role[1][1],
        unnamed_bytes=of_kind["tensor data"] - sum(row[2] for row in by_role),
        shared=tuple(sorted((s for part in parts.values() for s in part.shared), key=lambda s: -s.nbytes)),
        wasted=wasted,
        unused=tuple(sorted((u for part in parts.values() for u in part.unused), key=lambda u: -u.unused)),
        clean_bytes=size - wasted,
        why=tuple(_reasons(size, of_kind, columns, by_role)),
        _ledger=tuple(ledger),
        _columns=columns,
        _files=files,
        _file_of=first,
        _pieces=spread if several else None,
    )


def _order(ckpt: Checkpoint) -> array[int]:
    """All rows: those of the names in their order, with what they are made of; then the others."""
    rows, table = ckpt._rows, ckpt._table
    parts = table.facts()[3]
    named: Iterable[int] = rows
    if any(parts):
        named = (
            r
            for name, row in zip(ckpt._list, rows, strict=True)
            for r in (row, *(_leaves(table.make(_tensor(), name, row)) if parts[row] else ()))
        )
    elif isinstance(rows, range) and len(rows) == len(table):
        return array("I", rows)
    return array("I", dict.fromkeys((*named, *range(len(table)))))


def _columns(ckpt: Checkpoint, credited: bytes, first: memoryview[int]) -> _Columns:
    table, names, rows = ckpt._table, ckpt._list, ckpt._rows
    numels, credits = (memoryview(column).cast("Q") for column in (table.numels(), credited))
    dtypes, kinds, parameter, parts = table.facts()
    roles = _roles(ckpt, rows, parameter)
    if (
        isinstance(rows, range) and not any(parts) and first[:-1].tobytes() == array("I", rows).tobytes()
    ):  # each its own
        elements, nbytes, of = array("Q", numels.tobytes()), array("Q", credited), array("I", [*dtypes])
    else:
        of = array("I", [dtypes[row] for row in rows])
        elements, nbytes = array("Q", bytes(8 * len(names))), array("Q", bytes(8 * len(names)))
        counted, taken = bytearray(len(table)), bytearray(len(table))
        for i, row in enumerate(rows):
            same = first[row]
            if not counted[same]:
                counted[same] = 1
                elements[i] = numels[row] if kinds[row] != NESTED else table.make(_tensor(), names[i], row).numel
            for leaf in _leaves(table.make(_tensor(), names[i], row)) if parts[row] else (row,):
                if not taken[leaf]:
                    taken[leaf] = 1
                    nbytes[i] += credits[leaf]
    own = elements
    if any(roles):
        own = array("Q", [n if role == 0 else 0 for n, role in zip(elements, roles, strict=True)])
    return _Columns(names, roles, of, elements, nbytes, own)


def _tensor() -> type[Tensor]:
    from .tensor import Tensor

    return Tensor


def _leaves(t: Tensor) -> Iterable[int]:
    """Rows of the tensors with a storage that one comes down to."""
    try:
        return [leaf.row for leaf in t.leaves()]
    except PthError:  # its own to say, when it is asked for them
        return ()


# ---- roles ----


def _roles(ckpt: Checkpoint, rows: Sequence[int], parameter: bytes) -> array[int]:
    """What each tensor is for, by the containers that it lies in, and by its name."""
    out = _roles_by_container(ckpt)
    known = any(parameter) or ckpt.whole_module
    numbers, last = _core.group_names(ckpt._list, _core.BY_LAST)
    if known and not ckpt.whole_module:
        known = any(parameter[row] for row, role in zip(rows, out, strict=True) if role == 0)
    if ckpt._box.roles:
        said = {name: ROLES.index(role) for name, role in ckpt._box.roles.items()}
        for i, name in enumerate(ckpt._list):
            if out[i] == 0:
                out[i] = said.get(name, 0)
        return out
    if known and ckpt._box.pieces:  # pickles of one archive: what one says of its own, others need not say
        of = ckpt._pieces
        saying = {p for p, row in zip(of, rows, strict=True) if parameter[row]}
        for i, row in enumerate(rows):
            if out[i] == 0 and not parameter[row] and of[i] in saying:
                out[i] = 1
        return _with_buffers(out, numbers, last)
    if known:  # where some of the model are saved as parameters, the file itself says which are
        for i, row in enumerate(rows):
            if out[i] == 0 and not parameter[row]:
                out[i] = 1
        return out
    return _with_buffers(out, numbers, last)


def _roles_by_container(ckpt: Checkpoint) -> array[int]:
    prefix = ckpt.state_dict().prefix
    numbers, heads = _core.group_names(ckpt._list, _core.BY_CONTAINER)
    of_head = [_role(head, prefix) for head in heads]
    out = array("I", numbers)
    return array("I", [of_head[number] for number in out] if any(of_head) else bytes(4 * len(out)))


def _with_buffers(roles: array[int], numbers: bytes, last: Sequence[str]) -> array[int]:
    """Of the model, what has the name of a buffer. numbers: for each tensor which of the `last` components of names."""
    if any(name in BUFFER_NAMES for name in last):
        buffer = [name in BUFFER_NAMES for name in last]
        for i, number in enumerate(memoryview(numbers).cast("I")):
            if roles[i] == 0 and buffer[number]:
                roles[i] = 1
    return roles


def _role(head: str, prefix: str) -> int:
    """`head`: the containers and the first module of names; `prefix`: the containers of the model."""
    inside = head.startswith(prefix)
    containers, _, module = (head[len(prefix) :] if inside else head).rpartition("/")
    words = {word for part in containers.lower().split("/") for word in part.replace("-", "_").split("_")}
    if words & OPTIMIZER_WORDS:
        return ROLES.index(OPTIMIZER)
    if words & EMA_WORDS or module in EMA_MODULES:
        return ROLES.index(EMA)
    return ROLES.index(PARAMETERS if inside else OTHER)


# ---- shared and unused ----


def _shared(ckpt: Checkpoint, columns: _Columns, first: memoryview[int]) -> tuple[SharedStorage, ...]:
    places = memoryview(ckpt._table.places()).cast("q")
    if len({*places}) == len(ckpt._list):
        return ()
    out = []
    for found in _sharers(ckpt, places).values():
        if len(found) < 2:
            continue
        names = tuple(columns.names[i] for i in found)
        nbytes = sum(columns.nbytes[i] for i in found)
        out.append(SharedStorage(names, nbytes, len({first[ckpt._rows[i]] for i in found}) == 1))
    return tuple(sorted(out, key=lambda s: -s.nbytes))


def _sharers(ckpt: Checkpoint, places: memoryview[int]) -> dict[int, list[int]]:
    """Place of a storage -> positions of the names whose tensors look at it."""
    found: dict[int, list[int]] = {}
    for i, row in enumerate(ckpt._rows):
        if places[row] >= 0:
            found.setdefault(places[row], []).append(i)
    return found


def _unused(ckpt: Checkpoint, ledger: _core.Ledger, tables: Sequence[Any], wasted: int) -> Iterator[UnusedStorage]:
    """Storages with bytes that no tensor looks at, and those that nothing refers to."""
    box, referred = ckpt._box, set()
    for number, table in enumerate(tables):
        places, used = memoryview(table.places()).cast("q"), dict[int, int]()
        for row, n in enumerate(memoryview(ledger.credits(number, table)).cast("Q")):
            used[places[row]] = used.get(places[row], 0) + n
        sharers = _sharers(ckpt, places) if number == 0 else {}
        seen = set()
        for i in range(table.n_storages):
            span, key, _, _, flags, _, nbytes, code = table.storage(i)
            place = table.place(i)
            if code or flags & _core.STORAGE_FLAGS["META"] or place in seen:
                continue
            seen.add(place)
            if span is not None:
                referred.add(table.store.span(span)[3])
                nbytes = box.stored_nbytes(table.store, span)
            left = nbytes - used.get(place, 0)
            if left > 0:
                wasted -= left
                names = tuple(ckpt._list[i] for i in sharers.get(place, ()))
                yield UnusedStorage("" if key is None else str(key), nbytes, left, names)
    if box.zip is not None and wasted > 0 and box.nested is None:
        for i, member in enumerate(box.members()):
            if member.role == "storage" and i not in referred and member.stored_nbytes:
                yield UnusedStorage(member.name, member.stored_nbytes, member.stored_nbytes, ())


# ---- why ----


def _reasons(size: int, of_kind: dict[str, int], columns: _Columns, by_role: list[list[int]]) -> Iterable[Reason]:
    """The largest first; what is no tensor data at last."""
    parameters = by_role[0][1]
    told = []
    for role, (n, elements, nbytes) in zip(ROLES, by_role, strict=True):
        if not n:
            continue
        text = (
            f"{elements:,} {'parameters' if role == PARAMETERS else 'elements'} in {n:,} tensor{'' if n == 1 else 's'}"
        )
        if role == PARAMETERS and elements:
            text += f", {nbytes / elements:.3g} bytes each"
        elif parameters and role in (OPTIMIZER, EMA):
            text += f", {elements / parameters:.3g} for each parameter"
        if role == OPTIMIZER:
            text += _moments(columns)
        told.append(Reason("model" if role == PARAMETERS else role, nbytes, _share(nbytes, size), text))
    unused = of_kind["unused storage"]
    unnamed = of_kind["tensor data"] - sum(row[2] for row in by_role)
    if unnamed:
        told.append(Reason("constants", unnamed, _share(unnamed, size), "tensors of code, or without a name"))
    if unused:
        text = "bytes of storages that no tensor looks at: saved with slices of them, or left behind"
        told.append(Reason("unused storage", unused, _share(unused, size), text))
    yield from sorted(told, key=lambda r: -r.nbytes)
    rest = size - of_kind["tensor data"] - unused
    largest = max((k for k in of_kind if k not in ("tensor data", "unused storage")), key=lambda k: of_kind[k])
    text = f"all that is no tensor data; the largest part of it: {largest}, {of_kind[largest]:,}"
    yield Reason("structure", rest, _share(rest, size), text)


def _moments(columns: _Columns) -> str:
    """What an optimizer keeps: the last components of its names."""
    numbers, names = _core.group_names(columns.names, _core.BY_LAST)
    optimizer = ROLES.index(OPTIMIZER)
    own = array("Q", [n if role == optimizer else 0 for n, role in zip(columns.elements, columns.roles, strict=True)])
    found = sorted(zip((n for _, n in _core.sums(numbers, (own,), len(names))), names, strict=True), reverse=True)
    largest = [name for n, name in found[:MOST_MOMENTS] if n]
    return f" ({', '.join(largest)})" if largest and all(len(name) < 40 for name in largest) else ""
