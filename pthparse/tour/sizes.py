"""Parts 6 and 8: where the bytes go, with the units; why large models are in several files, and need not be merged."""

from __future__ import annotations

from collections.abc import Iterator

from .. import _core
from ..wording import UNITS
from .opening import Subject, section, table
from .words import Own, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_ROWS = 6
BAR = 24
PIECES = 4  # that a file is cut into, for the sake of the example
COMMON_LIMIT = 5_000_000_000  # bytes of one file that writers often allow
WORTH_CUTTING = 10_000  # bytes
LONGEST = 100_000  # tensors that are packed for the example


def sizes(subject: Subject) -> Section:
    say, c = subject.say, subject.capacity
    facts: dict[str, Any] = {
        "file_bytes": c.file_bytes,
        "tensor_bytes": c.tensor_bytes,
        "parameters": c.parameters,
        "buffers": c.buffers,
        "elements": c.elements,
        "everything_else": c.file_bytes - c.tensor_bytes - c.wasted,
        "unused_storage": c.wasted,
        "ledger": {e.kind: e.nbytes for e in c.ledger()},
        "dtypes": [{"dtype": g.name, "elements": g.elements, "nbytes": g.nbytes} for g in c.groups("dtype")],
        "modules": [{"name": g.name, "nbytes": g.nbytes, "share": g.share} for g in c.groups("module")[:MOST_ROWS]],
    }
    blocks = [*_by_type(subject), *_by_module(subject), *_by_purpose(subject, facts), *_units(subject, facts)]
    return section(say, 6, "capacity", blocks, facts)


def _by_type(subject: Subject) -> Iterator[Any]:
    """Elements, times the bytes of each."""
    say, c = subject.say, subject.capacity
    sizes = {row[0]: (row[2], row[3]) for row in _core.DTYPES}
    groups = c.groups("dtype")
    values = {"parameters": c.parameters, "elements": c.elements, "tensors": c.tensor_bytes}
    if not c.tensors:
        yield say("sizes.empty")
    elif len(groups) == 1 and c.elements == c.parameters and c.tensor_bytes == c.parameters * sizes[groups[0].name][0]:
        yield say("sizes.parameters.one", dtype=groups[0].name, each=sizes[groups[0].name][0], **values)
    else:
        what = "sizes.parameters" if c.elements == c.parameters else "sizes.elements"
        yield say(what, buffers=c.elements - c.parameters, **values)
        rows = []
        for g in groups[:MOST_ROWS]:
            size, packing = sizes[g.name]
            each = Own(f"{size}" if packing == 1 else f"{size}/{packing}")
            told = "" if g.nbytes * packing == g.elements * size else say("sizes.differs")
            rows.append((g.name, g.elements, each, g.nbytes, told))
        yield table(say, ("head.dtype", "head.elements", "head.each", "head.bytes", ""), "lrrrl", rows)
    if [g.name for g in groups] == ["float32"] and c.parameters:
        yield say("sizes.half", half=2 * c.parameters, **values)


def _by_module(subject: Subject) -> Iterator[Any]:
    say, c = subject.say, subject.capacity
    groups = c.groups("module")
    if len(groups) < 2:
        return
    rows = [(g.name or say("no-name"), g.nbytes) for g in groups[:MOST_ROWS]]
    if len(groups) > MOST_ROWS:
        rows.append((say("more", n=len(groups) - MOST_ROWS), sum(g.nbytes for g in groups[MOST_ROWS:])))
    whole = c.file_bytes
    cells = [(name, n, say.share(n, whole), Own("#" * round(BAR * n / whole))) for name, n in rows]
    yield say("sizes.shares")
    yield table(say, ("head.module", "head.bytes", "head.share", ""), "lrrl", cells)


def _by_purpose(subject: Subject, facts: dict[str, Any]) -> Iterator[Any]:
    """The ledger."""
    say, c = subject.say, subject.capacity
    other = facts["everything_else"]
    rows = [(say(f"ledger.{kind}"), n, say(f"ledger.{kind}.means")) for kind, n in facts["ledger"].items() if n]
    rows.append((say("ledger.sum"), c.file_bytes, say("ledger.sum.means")))
    yield say("sizes.whole", file=c.file_bytes)
    yield table(say, ("", "head.bytes", "head.meaning"), "lrl", rows)
    if c.tensors:
        yield say("sizes.else", other=other, share=(other, c.file_bytes))
    if c.wasted:
        yield say("sizes.unused", n=c.wasted)


def _units(subject: Subject, facts: dict[str, Any]) -> list[Any]:
    """MB and MiB; and what rounding costs, beside what the structure takes."""
    say, c = subject.say, subject.capacity
    n = c.file_bytes
    power, decimal, binary = next((p for p in UNITS if n >= 1000 ** p[0]), (0, "", ""))
    if not power:
        return [say("units.small", n=n)]
    values = {"decimal": Own(decimal), "binary": Own(binary), "n": n, "thousand": 1000**power, "two": 1024**power}
    values |= {"d": Own(f"{n / 1000**power:.2f}"), "b": Own(f"{n / 1024**power:.2f}")}
    values |= {"more": Own(f"{100 * (1024**power / 1000**power - 1):.2f}")}
    blocks = [say("units.both", **values)]
    facts["unit"] = {
        "decimal": decimal,
        "binary": binary,
        "decimal_size": n / 1000**power,
        "binary_size": n / 1024**power,
    }
    digits = len(str(c.parameters)) - 2
    size = next((g.nbytes / g.elements for g in c.groups("dtype")[:1] if g.elements), 0)
    rounded = c.parameters // 10**digits * 10**digits if digits > 0 else c.parameters
    lost = round((c.parameters - rounded) * size)
    other = facts["everything_else"]
    if size and lost > other > 0:
        told = {"rounded": rounded, "parameters": c.parameters, "lost": lost, "other": other, "each": float(size)}
        blocks.append(say("units.rounding", times=Own(f"{lost / other:,.0f}"), **told))
        facts["rounding"] = {"rounded": rounded, "lost": lost}
    return blocks


# ---- several files ----


def pieces(subject: Subject) -> Section:
    say, ckpt, c = subject.say, subject.ckpt, subject.capacity
    facts: dict[str, Any] = {"several": subject.several, "nbytes": c.file_bytes}
    blocks: list[Any] = [say("pieces.why")]
    if subject.several:
        shards: tuple[Any, ...] = getattr(ckpt, "shards", ())
        facts["files"] = len(shards)
        largest = max((s.nbytes for s in shards), default=0)
        blocks.append(say("pieces.here", n=len(shards), size=c.file_bytes, largest=largest))
    else:
        fits = "pieces.fits" if c.file_bytes <= COMMON_LIMIT else "pieces.large"
        blocks.append(say(fits, size=c.file_bytes, limit=COMMON_LIMIT, n=-(-c.file_bytes // COMMON_LIMIT)))
    if not subject.several and c.tensor_bytes >= WORTH_CUTTING and c.tensors >= PIECES:
        limit = _round_up(-(-c.tensor_bytes // PIECES))
        files = _packed([n for _, _, _, n in c.each()][:LONGEST], limit)
        facts |= {"limit": limit, "files": [{"nbytes": n, "tensors": k} for n, k in files]}
        rows: list[tuple[Any, ...]] = [
            (Own(f"{i:05d}-of-{len(files):05d}"), k, n) for i, (n, k) in enumerate(files[: 2 * PIECES], 1)
        ]
        if len(files) > len(rows):
            rows.append((say("more", n=len(files) - len(rows)), "", ""))
        blocks.append(say("pieces.example", limit=limit, n=len(files)))
        blocks.append(table(say, ("head.file", "head.tensors", "head.bytes"), "lrr", rows))
        if any(n > limit for n, _ in files):
            blocks.append(say("pieces.never-cut"))
    t = subject.example
    blocks.append(say("pieces.merge"))
    if t is not None and c.tensor_bytes:
        facts["one"] = {"name": t.name, "nbytes": t.nbytes, "share": t.nbytes / c.file_bytes}
        told = {"name": subject.name(t), "nbytes": t.nbytes, "share": (t.nbytes, c.file_bytes)}
        blocks.append(say("pieces.one", whole=c.file_bytes, **told))
    return section(say, 8, "shards", blocks, facts)


def _round_up(n: int) -> int:
    """To two digits."""
    step = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // step) * step


def _packed(tensors: list[int], limit: int) -> list[tuple[int, int]]:
    """Bytes and tensors of each file, as writers pack: in order, a new file when the next would pass the limit."""
    files: list[tuple[int, int]] = []
    for n in tensors:
        if files and files[-1][0] + n <= limit:
            files[-1] = (files[-1][0] + n, files[-1][1] + 1)
        else:
            files.append((n, 1))
    return files
