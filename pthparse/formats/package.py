"""Archives of torch.package: pickles by name, their storages, and Python code, which is listed and never run.

`<package>/<resource>` are pickles, texts and bytes as they were saved, `<package>/<module>.py` the code of their
classes, `.data/<n>.storage` storages, `.data/extern_modules` what is imported from elsewhere (torch/package). One
pickle is the root by itself. Several become one graph, whose root is a dict of their names, so that what they share is
seen as shared. What a persistent id calls to make an object (`reduce_package`) is never called: nothing stands for it.
"""

from __future__ import annotations

import re
import zlib

from .. import _core
from ..errors import LimitError, PthError
from .base import Pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .zip import ZipContainer

DATA = ".data/"
EXTERN, PYTHON = ".data/extern_modules", ".data/python_version"
SCRIPTS = ".data/ts_code/"  # TorchScript modules that a pickle refers to
SUFFIX = ".storage"
PICKLES = (".pkl", ".pickle")
PROTOCOLS = tuple(bytes((0x80, n)) for n in (2, 3, 4, 5))
LISTED, VERSION = re.compile(rb"(?:[\w.\x80-\xff]*\n)+"), re.compile(rb"\d+\.\d+[\w.+]*\n?")
ALWAYS = ("numpy", "numpy.core", "numpy.core._multiarray_umath", "builtins")  # that its importer takes unasked
MOST_LOST, MOST_ATOMS = 100, 64  # modules that are found lacking; parts of the name of one
MOST_SHOWN = 1000  # characters of the modules that it imports
MOST_MARK = 1 << 24  # bytes of their list


def prefix_of(box: ZipContainer) -> str | None:
    """The folder that the archive has everything in, if it is a package. What torch.load would read is none."""
    for name in box.named:
        for mark in (EXTERN, PYTHON):
            if name == mark or name.endswith(f"/{mark}"):
                prefix = name[: -len(mark)]
                return None if f"{prefix}data.pkl".lower().encode() in box.folded else prefix
    return None


def read(box: ZipContainer) -> None:
    """Fills the container: a table of the tensors of all pickles."""
    box.folder = DATA
    box.store = box.zip.store(box.raw_prefix + DATA.encode(), box.byteorder == "big", SUFFIX.encode())
    good: list[tuple[str, Pickle]] = []
    first: PthError | None = None
    for name, entry, sure in resources(box):
        n = len(box.pickles)
        if n >= box.limits.max_parts:
            raise LimitError("max_parts", f"more than {n} pickles in a package (max_parts)")
        try:
            box.parse_member(entry)
            good.append((name, box.pickles[-1]))
        except LimitError:
            raise
        except PthError as e:
            if not sure:  # it only began like one: who looks through all members will look at it
                del box.pickles[n:]
                box.pickled.discard(entry)
                continue
            box.blame(e, box.prefix + name)
            first = first or e
        box.claims += [(pickle, box.store) for pickle in box.pickles[n:]]
    if not good and first is not None:
        raise first
    if len(good) > 1:
        pieces = [(name.encode("utf-8", "surrogatepass"), bytes(p.graph.source[: p.graph.end])) for name, p in good]
        graph, error = _core.join_pickles(pieces, box.arena, box.c_limits)
        if error is not None:
            raise error
        box.joined, box.pieces = Pickle(None, None, graph, graph.end), tuple(name for name, _ in good)
    elif good:
        graph, box.alone = good[0][1].graph, good[0][1]
    else:  # code alone
        box.tensors = _core.Tensors(_core.Graph(box.arena), box.store, box.c_limits, False)
        box.names, box.metadata = {}, {}
        return
    box.tensors = box.read_tensors(graph, box.store)


def resources(box: ZipContainer) -> Iterator[tuple[str, int, bool]]:
    """Name below the prefix, and entry, of each pickle; is it sure to be one? A resource may have any name."""
    for name, entry in box.named.items():
        if not name.startswith(box.prefix):
            continue
        inside = name[len(box.prefix) :]
        if inside.startswith(SCRIPTS):
            if inside.endswith(".pkl"):
                yield inside, entry, True
        elif not inside.startswith(DATA) and not is_code(inside):
            sure = inside.lower().endswith(PICKLES)
            if sure or _may_be_one(box, entry):
                yield inside, entry, sure


def wanted(box: ZipContainer) -> set[int]:
    """Of an archive that is far away: the entries that opening it reads."""
    from .zip_rest import around

    names = [(n, i) for n, i in box.named.items() if not is_storage(n[len(box.prefix) :]) and not is_code(n)]
    box.source.prepare(around(box.zip.entry(i)[0]) for _, i in names)
    return {i for n, i in names if n.lower().endswith(PICKLES)}


def _may_be_one(box: ZipContainer, entry: int) -> bool:
    """Does it begin as a pickle of torch.package does?"""
    _, csize, usize, method, _, _ = box.zip.entry(entry)
    if not 4 <= usize <= box.limits.max_pickle_bytes:
        return False
    try:
        box.zip.check(entry)
        head = bytes(box.source.window(box.data_offset(entry), min(csize, 64)))
        return (zlib.decompressobj(-15).decompress(head, 2) if method else head[:2]) in PROTOCOLS
    except (PthError, zlib.error):  # told by who looks through all members
        return False


def is_code(inside: str) -> bool:
    return inside.lower().endswith(".py")


def is_storage(inside: str) -> bool:
    return inside.startswith(DATA) and inside.endswith(SUFFIX)


def is_known(inside: str) -> bool:
    """Is it written by torch, or a resource?"""
    return not inside.startswith(DATA) or inside.startswith(SCRIPTS)


def is_mark(box: ZipContainer, inside: str) -> bool:
    """Is it what the archive says of itself, and does it hold nothing but that?"""
    pattern = {EXTERN: LISTED, PYTHON: VERSION}.get(inside)
    return pattern is not None and pattern.fullmatch(_mark(box, inside) or b"?") is not None


def inspect(box: ZipContainer) -> None:
    """Adds what is odd about these, and the first module that a pickle imports and its importer would not find."""
    for name in (EXTERN, PYTHON):
        try:
            data, entry = _mark(box, name), box.member(name)
            if entry is None:
                box.find("zip-mark", box.prefix + name, None, f"there is no {name}")
            elif not is_mark(box, name):
                box.find("zip-mark", box.prefix + name, None, f"{name} holds {bytes((data or b'')[:40])!r}")
            elif zlib.crc32(data or b"") != box.zip.entry(entry)[4]:
                box.find("zip-crc", box.prefix + name, None)
        except PthError as e:
            box.blame(e, box.prefix + name)
    try:
        lost = sorted(_imported(box) - set(ALWAYS))
    except PthError:  # told above
        return
    if lost:
        text = f"a pickle imports {lost[0]!r}, which is neither in the package nor in its list of other modules"
        box.find("zip-mark", box.prefix + EXTERN, None, text)


def _imported(box: ZipContainer) -> set[str]:
    """Modules that pickles name and that the package does not have or list: its importer takes no others."""
    listed = set((_mark(box, EXTERN) or b"").decode("utf-8", "replace").split("\n"))
    lost: set[str] = set()
    known: set[str] = set()
    for pickle in box.pickles:
        if str(pickle.member).startswith(box.prefix + SCRIPTS):
            continue
        for module, _, _, _ in pickle.graph.globals():
            if module in known or len(lost) > MOST_LOST:
                continue
            known.add(module)
            path = box.prefix + module.replace(".", "/")
            atoms = module.split(".")
            above = (".".join(atoms[: i + 1]) for i in range(min(len(atoms), MOST_ATOMS)))
            if f"{path}.py" not in box.named and f"{path}/__init__.py" not in box.named and listed.isdisjoint(above):
                lost.add(module)
    return lost


def _mark(box: ZipContainer, name: str) -> bytes | None:
    entry = box.member(name)
    return None if entry is None else bytes(box.read_member(entry, MOST_MARK)[0])


def writer(box: ZipContainer) -> str:
    """torch.package, and what it says of itself: its Python, the modules that it imports from elsewhere."""
    box.evidence.append(f"member {EXTERN}: torch.package")
    said = {}
    for name in (PYTHON, EXTERN):
        try:
            data = _mark(box, name) or b""
        except PthError:  # told by who looks through all members
            continue
        text = ", ".join(data.decode("utf-8", "replace").split())
        said[name] = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
    if said.get(EXTERN):
        box.evidence.append(f"imported from elsewhere: {said[EXTERN]}")
    return f"torch.package, Python {said[PYTHON][:40]}" if said.get(PYTHON) else "torch.package"
