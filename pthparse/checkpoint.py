"""An opened checkpoint: a mapping of names to tensors, and everything else that is in the file."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from . import _core, formats
from .errors import PthError, escape
from .formats.base import Finding, Member
from .limits import Limits
from .record import Record
from .source import closed, is_whole, open_source
from .tensor import Home, Storage, Tensor
from .values import class_of

if TYPE_CHECKING:
    import os
    from concurrent.futures import Executor
    from typing import BinaryIO, Self

    from .auditor import AuditReport
    from .capacity import Capacity
    from .families import Family
    from .formats.base import Container
    from .manifests import Manifest
    from .modules import Module
    from .plan import Plan
    from .stated import Walk
    from .stats import StatsTable
    from .verifier import VerifyReport

# Where training checkpoints keep the model, by how often it is met.
MODEL_BRANCHES = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "model_state", "params", "params_ema",
    "generator", "g_ema", "ema", "weights",
)  # fmt: skip


class Global(Record):
    """A class or function that the file names: how often, and where first."""

    module: str
    name: str
    uses: int
    member: str | None
    offset: int


class Writer(Record):
    """Who wrote the file, inferred from marks of the format; `protocol` is the pickle's."""

    text: str
    protocol: int
    evidence: tuple[str, ...]


class ClassSource(Record):
    """The source code of a module class, as old torch saved it with the first object of it. Text, never run."""

    cls: str
    file: str
    text: str


def open(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    limits: Limits | None = None,  # type: ignore[valid-type]
    mmap: bool = True,
    salvage: bool = False,
    siblings: bool = False,
) -> Checkpoint:
    """Opens a checkpoint: reads its structure, and none of its data.

    Parameters
    ----------
    source : str, os.PathLike, bytes or seekable binary file
        A file is read from its current position on, as torch.load does. A directory, or the index of a model in several
        files (`*.index.json`): all of them as one, see `ShardedCheckpoint`. Text may be a URL (`https://`, `s3://`, `hf://`:
        `pip install 'pthparse[remote]'`): of what it names only the parts are fetched that are asked for. A
        model on a web server is named by its index.
    limits : Limits, optional
        What the file may ask for.
    mmap : bool
        True: arrays are views of the mapped file, without a copy. If another program cuts the file meanwhile, touching
        one ends the process (SIGBUS). False, for files that others may change: every array is a copy that was read,
        and a file cut short is an error.
    salvage : bool
        True: of a file that is cut short, or a zip whose directory is lost, what is whole is read all the same.
        `findings` say so; tensors whose bytes are missing are in `errors`, each with a TruncatedError.
    siblings : bool
        True: the source is one file of several with numbers in their names (model-00001-of-00008.bin), and all of them
        are opened.

    Raises
    ------
    PthError
        Whatever its contents make impossible.
    OSError
        The file itself cannot be read.
    """
    limits = limits or Limits()
    if is_whole(source) or siblings:
        from .directories import locate
        from .sharded import open_several
        from .shards import Layout, is_distributed, layout_of

        asked = locate(source)  # type: ignore[arg-type]
        if asked.name is None and is_distributed(asked.directory):
            from .distributed import DistributedCheckpoint

            return DistributedCheckpoint(asked, limits, mmap)
        layout = layout_of(asked, siblings)
        if isinstance(layout, Layout):
            return open_several(layout, limits, mmap)
        directory, name = layout
        opened = directory.open(name)
    else:
        opened = open_source(source)
    opened.mapped = mmap
    try:
        box = formats.read(opened, limits, salvage)
        return Checkpoint(box)
    except BaseException:
        opened.close()
        raise


def nearest(name: str, names: Sequence[str]) -> str:
    """The ending of a message: names that are much like the one that was not found."""
    import difflib

    alike = [n for n in names[:20000] if abs(len(n) - len(name)) <= 4 + len(name) // 4 and len(n) < 300][:4000]
    near = difflib.get_close_matches(name[:300], alike, 3)
    quoted = [f"'{escape(n)}'" for n in near]
    return f"; near: {', '.join(quoted)}" if near else ""


class Names(Mapping[str, Tensor]):
    """Names in the order of the file, each with its tensor: what a checkpoint and its branches share."""

    _list: list[str]
    prefix = ""

    def _make(self, at: int, name: str) -> Tensor:
        """The tensor at a place of the list, under a name."""
        raise AssertionError("abstract")

    def _tensors(self) -> Iterator[Tensor]:
        """All of them, in the order of the list."""
        return map(self._make, range(len(self._list)), self._list)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self._list)}

    def __len__(self) -> int:
        return len(self._list)

    def __iter__(self) -> Iterator[str]:
        return iter(self._list)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __getitem__(self, name: str) -> Tensor:
        at = self._index.get(name)
        if at is None:
            near = nearest(str(name), self._list)
            raise KeyError(f"no tensor '{escape(str(name))}'{near}")
        return self._make(at, str(name))

    def values(self) -> ValuesView[Tensor]:
        return _Values(self)

    def items(self) -> ItemsView[str, Tensor]:
        return _Items(self)

    def group(self, name: str) -> Branch:
        """The branch below `name`: `group("model")["embed.weight"]` is `["model/embed.weight"]`."""
        return Branch(self, f"{name}/")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Path -> plain value, of everything that is no tensor: 'epoch', 'optimizer/param_groups/0/lr'."""
        raise AssertionError("abstract")

    def stats(
        self,
        names: Iterable[str] | None = None,
        executor: Executor | None = None,
        *,
        histogram: bool = False,
        bins: int | None = None,
        quantiles: Sequence[float] = (),
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        isa: str | None = None,
    ) -> StatsTable:
        """Statistics of the tensors, in one pass over their data; see `pthparse.Stats`.

        Parameters
        ----------
        names : iterable of str, optional
            Of these alone.
        executor : concurrent.futures.Executor, optional
            What runs the tasks: threads, processes, a cluster's. The default: threads of this process.
        histogram : bool
            Count magnitudes by power of two, in the same pass.
        bins : int, optional
            Count values as well, in so many bins of equal width between min and max: another pass.
        quantiles : sequence of float
            Find these, between 0 and 1: some passes more.
        threads : int, optional
            The default: as many as there are processors.
        progress : callable, optional
            Is called with the bytes done and the bytes in all.
        isa : str, optional
            One of `build_info()["instruction_sets"]`; the default: the best. All give the same bits.

        Raises
        ------
        KeyError
            There is no tensor of a name. What is wrong with one that there is stands in `StatsTable.errors`.
        """
        from .engine import measure

        found = measure(
            self._tensors() if names is None else [self[n] for n in names],
            executor=executor,
            histogram=histogram,
            bins=bins,
            quantiles=quantiles,
            threads=threads,
            progress=progress,
            isa=isa,
        )
        if names is None and (missing := unread(self)):
            found.errors = {**found.errors, **missing}
        return found

    def hash(
        self,
        *,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        executor: Executor | None = None,
    ) -> Manifest:
        """A hash of each tensor, and of all: see `pthparse.manifest`."""
        from .hashes import manifest_of

        return manifest_of(self, threads, progress, executor)

    @cached_property
    def modules(self) -> Module:
        """The root of the model's modules: stated by the file, or inferred from names and shapes. See `Module`."""
        from .modules import modules_of

        return modules_of(self)

    @cached_property
    def family(self) -> Family | None:
        """What kind of model it is, by the whole set of names: `Family`, or None."""
        from .families import family_of

        return family_of(self)

    @property
    def lost(self) -> Mapping[str, PthError]:
        """Of a model in several files: names that cannot be had, each with the reason. The mapping has none of them."""
        return MappingProxyType({})

    def _ties(self) -> dict[str, str]:
        """Names that are left out -> those that keep the same elements, as `__metadata__` of safetensors says."""
        return {}

    def _gone(self, prefix: str = "") -> dict[str, PthError]:
        """Files that cannot be read, and of which nobody knows what they have: below a prefix, or at all."""
        return {}

    def _amounts(self) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
        """Role, elements and bytes of each name: columns of its `Capacity`."""
        raise AssertionError("abstract")

    def _listed(self) -> list[str]:
        """Names of modules that the state dict itself lists, with those that have no tensors."""
        return []

    def _stated(self) -> Walk | None:
        """The modules whose objects the file holds; None: it names no class that could be one."""
        return None

    def state_dict(self) -> Names:
        """The tensors of the model itself: these, or those of the branch 'state_dict', 'model', ..."""
        names: Names = self
        for _ in range(4):
            if not any("/" in n for n in names._list):
                break
            heads = {n.split("/", 1)[0] for n in names._list if "/" in n}
            branch = next((b for b in MODEL_BRANCHES if b in heads), None)
            if branch is None:
                break
            names = Branch(names, f"{branch}/")
        return names


def ties_of(names: Mapping[str, Any]) -> dict[str, str]:
    """Names that a mapping of names to tensors has not, and whose tensors it has, under others."""
    return names._ties() if isinstance(names, Names) else {}


def unread(names: Mapping[str, Any]) -> dict[str, PthError]:
    """What is missing in a mapping of names to tensors: lost names, and files that may have had any."""
    return {**names.lost, **names._gone()} if isinstance(names, Names) else {}


class _Values(ValuesView[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        names: Any = self._mapping  # type: ignore[attr-defined]
        found: Iterator[Tensor] = names._tensors()
        return found


class _Items(ItemsView[str, Tensor]):
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        names: Any = self._mapping  # type: ignore[attr-defined]
        return zip(names._list, names._tensors(), strict=True)


class Branch(Names):
    """The tensors below one prefix, under the rest of their names."""

    def __init__(self, parent: Names, prefix: str) -> None:
        self._places = [i for i, n in enumerate(parent._list) if n.startswith(prefix)]
        self._list = [parent._list[i][len(prefix) :] for i in self._places]
        self._parent = parent
        self._below = prefix
        self.prefix = parent.prefix + prefix

    def _make(self, at: int, name: str) -> Tensor:
        return self._parent._make(self._places[at], name)

    @property
    def lost(self) -> Mapping[str, PthError]:
        n = len(self._below)
        return MappingProxyType({k[n:]: e for k, e in self._parent.lost.items() if k.startswith(self._below)})

    def _gone(self, prefix: str = "") -> dict[str, PthError]:
        return self._parent._gone(self._below + prefix)

    def _amounts(self) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
        roles, elements, nbytes = ([column[i] for i in self._places] for column in self._parent._amounts())
        return roles, elements, nbytes

    def _listed(self) -> list[str]:
        n = len(self._below)
        return [name[n:] for name in self._parent._listed() if name.startswith(self._below)]

    def _stated(self) -> Walk | None:
        walk, root = self._parent._stated(), self._below
        return None if walk is None else walk.below(root, self._index)

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """The plain values below the prefix, under the rest of their paths."""
        n = len(self._below)
        return MappingProxyType({k[n:]: v for k, v in self._parent.metadata.items() if k.startswith(self._below)})

    def __repr__(self) -> str:
        return f"<Branch {self.prefix!r}: {len(self)} tensors>"


class Checkpoint(Names):
    """A file of tensors.

    A Mapping of names to `Tensor`, in the order of the file. Reads are thread-safe; arrays taken from it stay valid
    after `close()`.

    Attributes
    ----------
    format : str
        'zip', 'torchscript', 'package', 'pt2', 'legacy', 'tar', 'safetensors' or 'pickle'.
    path : str or None
    nbytes : int
        The file's size.
    byteorder : str
        'little' or 'big', of the tensor data.
    """

    _rows: Sequence[int]
    _table: _core.Tensors

    def __init__(self, box: Container) -> None:
        self._box = box
        self._table, self._parts = box.give_tables()
        self._told_apart: list[Finding] = []
        if isinstance(box.names, list):
            self._list, self._rows = box.names, range(len(box.names))
        elif box.names is not None:
            self._list = list(box.names)
            self._rows = list(box.names.values())
        else:
            self._list = self._table.names()
            self._rows = self._table.name_rows()
            if box.registered is not None:
                self._keep_registered(box.registered)
            if not self._table.flat:
                self._tell_apart()
        self._home = Home(box, box.main, self._list, self._rows)
        self._home.bind(self._table)

    # ---- names ----

    def _make(self, at: int, name: str) -> Tensor:
        return self._table.make(Tensor, name, self._rows[at])

    def _tensors(self) -> Iterator[Tensor]:
        return self._table.each(Tensor, self._list, self._rows)

    def _keep_registered(self, registered: Mapping[str, frozenset[str]]) -> None:
        """TorchScript: of all tensor attributes, those that state_dict() has.

        A component of a name belongs to the dict that owns it. If that is the state of a script object, its class says
        whether the tensor is registered; tensors deeper down (in a list that is an attribute) never are.
        """
        classes = {
            state: f"{module}.{name}"
            for module, name, states in self._table.graph.objects("SCRIPT")
            for state in states
        }
        kept = []
        for i, name in enumerate(self._list):
            owners = [classes.get(owner) for _, _, owner, _ in self._table.path(i)]
            if not any(owners):
                kept.append(i)
                continue
            names = registered.get(owners[-1]) if owners[-1] else frozenset[str]()
            if names is None or name.rsplit(".", 1)[-1] in names:
                kept.append(i)
        self._list = [self._list[i] for i in kept]
        self._rows = [self._rows[i] for i in kept]

    def _tell_apart(self) -> None:
        """Two paths that read the same are both kept: the later ones get '#2', '#3', ..."""
        seen: set[str] = set()
        counts: dict[str, int] = {}
        for i, name in enumerate(self._list):
            if name in seen:
                n = counts.get(name, 1)
                while (fresh := f"{name}#{n + 1}") in seen:
                    n += 1
                counts[name] = n + 1
                told = f"another tensor reads {name!r} too: here it is {fresh!r}"
                self._told_apart.append(Finding("names-collide", "note", None, None, told))
                self._list[i] = fresh
                name = fresh
            seen.add(name)

    def state_dict(self) -> Names:
        box: Container | None = vars(self).get("_box")
        return super().state_dict() if box is None or not box.pieces else self._state_dict_of_pieces()

    def _state_dict_of_pieces(self) -> Names:
        """Of several pickles: of the only one that has tensors, or that is called as a model is."""
        found = list(dict.fromkeys(self._pieces))
        called: dict[str, list[str]] = {}
        for piece in found:
            called.setdefault(piece.rpartition("/")[2].partition(".")[0], []).append(piece)
        named = next((called[b] for b in MODEL_BRANCHES if b in called), [])
        chosen = found if len(found) == 1 else named
        branch = Branch(self, f"{chosen[0]}/") if len(chosen) == 1 else ()
        return branch.state_dict() if isinstance(branch, Branch) and len(branch) else self

    @cached_property
    def _pieces(self) -> list[str]:
        """Of each name: the pickle that it is in, where several were joined."""
        graph = self._table.graph
        of = dict(zip(graph.ids(graph.root)[::2], self._box.pieces, strict=True))
        return [of[self._table.path(i)[0][1]] for i in range(len(self._list))]

    # ---- the file ----

    @property
    def format(self) -> str:
        return self._box.format

    @property
    def path(self) -> str | None:
        return self._box.source.path

    @property
    def nbytes(self) -> int:
        return self._box.source.size

    @property
    def byteorder(self) -> str:
        return self._box.byteorder

    @property
    def pickle_nbytes(self) -> int:
        """Bytes of all pickles that were read."""
        return sum(p.graph.end for p in self._box.pickles)

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The parts of the file."""
        return self._box.members()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Oddities that did not keep the file from being read."""
        return (*self._box.findings, *self._told_apart)

    @cached_property
    def writer(self) -> Writer:
        """Who wrote it, inferred."""
        text = self._box.writer()
        return Writer(text, self._box.pickles[0].graph.proto if self._box.pickles else 0, tuple(self._box.evidence))

    @cached_property
    def globals(self) -> tuple[Global, ...]:
        """Every class and function that a pickle of the file names. None of them has been looked up."""
        found: dict[tuple[str, str], list[Any]] = {}
        for pickle in self._box.pickles:
            for module, name, offset, _ in pickle.graph.globals():
                row = found.setdefault((module, name), [0, pickle.member, offset])
                row[0] += 1
        return tuple(Global(m, n, *row) for (m, n), row in found.items())

    @cached_property
    def sources(self) -> tuple[ClassSource, ...]:
        """The source code of classes, where the file holds it (whole models in legacy files)."""
        found = []
        for pickle in filter(None, [self._box.main]):
            for node in pickle.graph.persistent_ids():
                if pickle.graph.n_items(node) not in (3, 4):
                    continue
                pid = self._home.thaw(self._table, node)
                cls = class_of(pid)
                if cls is not None and isinstance(pid[-1], str):
                    found.append(ClassSource(str(cls), str(pid[-2]), pid[-1]))
        return tuple(found)

    @property
    def whole_module(self) -> bool:
        """Is the root a module, so that the file says which tensors are parameters?"""
        return bool(self._table.whole_module) and self.format != "torchscript"

    @cached_property
    def storages(self) -> tuple[Storage, ...]:
        """The storages that tensors refer to, in the order of their first tensor."""
        return tuple(self._home.storage(self._table, i) for i in range(self._table.n_storages))

    @property
    def errors(self) -> Mapping[str, PthError]:
        """Names of tensors that cannot be read, each with the reason."""
        wrong = self._table.troubles()[0]
        return MappingProxyType({n: t.error for n, t in self.items() if t._code} if wrong else {})  # type: ignore[misc]

    # ---- the graph ----

    @cached_property
    def root(self) -> Any:
        """The object that was saved, inert: dict, list, str, ..., Tensor, Opaque."""
        if self._box.names is not None:
            return dict(self.items())
        return self._home.thaw(self._table, self._table.graph.root)

    @cached_property
    def constants(self) -> Any:
        """TorchScript: the tuple of constants of its code; else None."""
        if "constants" not in self._parts:
            return None
        table, pickle = self._parts["constants"]
        home = Home(self._box, pickle, table.names(), table.name_rows())
        home.bind(table)
        return home.thaw(table, table.graph.root)

    @property
    def root_values(self) -> Mapping[str, str | int | float | bool | None]:
        """The plain values among the root's own items (epoch, step), without building the rest of the graph."""
        if self._box.metadata is not None:
            return MappingProxyType(self._box.metadata)
        graph = self._table.graph
        pairs = graph.pairs(graph.root) if self._box.names is None else []
        plain = (str, int, float, bool, type(None))
        return MappingProxyType({k: v for k, v in pairs if isinstance(k, str) and isinstance(v, plain)})

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        if self._box.metadata is not None:
            return MappingProxyType(self._box.metadata)
        from .metadata import plain_values

        return MappingProxyType(plain_values(self.root, self.pickle_nbytes))

    def _ties(self) -> dict[str, str]:
        said = (self._box.metadata or {}) if self.format == "safetensors" else {}
        return {name: kept for name, kept in said.items() if name not in self and kept in self}

    @property
    def _said(self) -> bytes | None:
        """The pickle that all of `metadata` is made of; None: it is made of something else."""
        if self._box.metadata is not None or self._box.names is not None:
            return None
        graph = self._table.graph
        return bytes(graph.source[: graph.end])

    def capacity(self) -> Capacity:
        """Where parameters and bytes are: by module, dtype and role, what is shared and wasted, and the ledger.

        Raises
        ------
        PthError
            The checkpoint is closed, or the file was cut meanwhile.
        """
        from .capacity import capacity_of

        try:
            return capacity_of(self)
        except PthError as e:
            raise e.at(self.path) from None

    def _amounts(self) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
        columns = self.capacity()._columns
        return columns.roles, columns.elements, columns.nbytes

    def _listed(self) -> list[str]:
        if self._box.names is not None:
            return []
        from .stated import listed

        return listed(self._table.graph, lambda node: self._home.thaw(self._table, node))

    def _stated(self) -> Walk | None:
        from .stated import is_class_of_modules, walk_of

        named = {(module, name) for module, name, _, _ in self._table.graph.globals()}
        if self._box.names is not None or not any(is_class_of_modules(*pair) for pair in named):
            return None

        return walk_of(self.root, self._index, self.pickle_nbytes, self.sources, self._box.constants)

    def plan(self, tokens: int | None = None, batch: int = 1) -> Plan:
        """What the model takes: its size at each precision, memory to run and to train it, with formulas and sources.

        A `config.json` beside the file is read, if there is one.

        Parameters
        ----------
        tokens, batch : int
            Length and number of the sequences that a KV cache is for; by default the longest that the config allows,
            or 2048.

        Raises
        ------
        PthError
            The checkpoint is closed, or the file was cut meanwhile.
        """
        from .plan import plan_of

        return plan_of(self, tokens, batch)

    def audit(self, executor: Executor | None = None) -> AuditReport:
        """What the file would do to a loader: see `pthparse.audit`. PthError: the checkpoint is closed.

        executor: for models in several files, each of which is a task; one alone is looked at here.
        """
        from .auditor import audit_checkpoint

        if self.closed:
            raise closed(self.path)
        return audit_checkpoint(self)

    def verify(
        self,
        *,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        executor: Executor | None = None,
    ) -> VerifyReport:
        """Recomputes every checksum, and compares every extent: see `pthparse.verify`."""
        from .verifier import verify_checkpoint

        return verify_checkpoint(self, threads, progress, executor)

    # ---- life ----

    @property
    def closed(self) -> bool:
        return self._box.closed

    def close(self) -> None:
        """Gives the file back. Arrays that were taken stay valid; tensors can no longer be read."""
        self._box.closed = True
        self._box.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _repr_html_(self) -> str:
        from .notebook import of_checkpoint

        return of_checkpoint(self)

    def __repr__(self) -> str:
        state = "closed " if self.closed else ""
        return f"<{state}Checkpoint {escape(self.path or 'in memory')!r}: {self.format}, {len(self)} tensors>"
