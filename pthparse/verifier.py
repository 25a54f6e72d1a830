"""Is a file what its writer wrote? Every checksum and every extent, and which tensors are damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from . import _core, checksums, formats
from .errors import FormatError, PthError, TruncatedError, UnsupportedError, guard
from .formats import zip_rest
from .formats.base import NOT_READ, UNSEEN, Container, Finding, finding_of
from .formats.zip import DEFLATED, ZipContainer
from .limits import Limits
from .record import Record
from .source import Source, closed, is_whole, open_source
from .team import AFAR, share

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .checkpoint import Checkpoint
    from .formats.nested import Inner
    from .sharded import ShardedCheckpoint

Progress = Callable[[int, int], None]

# Findings that are no damage to an audit, and are one here: bytes that are not as they were written.
DAMAGE = frozenset(("zip-crc", "zip-padding"))
WORSE = ("ok", "unknown", "truncated", "damaged")
# What is no checkpoint at all has nothing to be verified.
NO_CHECKPOINT = NOT_READ | {"not-a-checkpoint", "zip-several"}


class VerifiedMember(Record):
    """A part of the file.

    Attributes
    ----------
    name : str
    offset : int
        Of its first byte in the file: of a zip, of its local header.
    nbytes : int
        What it holds.
    status : str
        'ok': its checksum fits. 'unchecked': it has none. 'wrong': its bytes are not those that were written.
        'broken': its place or its headers are wrong. 'truncated': the file ends before it does.
    message : str or None
        Why, if it is none of the first two.
    """

    name: str
    offset: int
    nbytes: int
    status: str
    message: str | None = None


class DamagedTensor(Record):
    """A tensor that cannot be trusted, or not be read; `code` is that of an error, or 'zip-crc'."""

    name: str
    member: str | None
    code: str
    message: str


class VerifyReport(Record):
    """The answer of a verification.

    Attributes
    ----------
    path : str or None
    ok : bool
        Nothing is wrong, and everything was looked at. Where the format has no checksums, that is its structure.
    verdict : str
        'ok', 'damaged', 'truncated' (the file ends too early), or 'unknown': a limit stopped it, the file changed
        meanwhile, or it is no checkpoint that is read here.
    format : str
        'zip', 'legacy', ...; '' if it is none that is known.
    nbytes : int
        The file's size.
    checked_nbytes : int
        Bytes whose checksum was compared.
    members : tuple of VerifiedMember
    tensors : int
        All that the file names.
    whole : tuple of str
        Names of the tensors that are whole.
    damaged : tuple of DamagedTensor
        The others.
    missing_nbytes : int
        Bytes that are not there, as far as is known.
    findings : tuple of Finding
        What is odd about the file, damage or not, and what kept it from being read.
    """

    path: str | None
    ok: bool
    verdict: str
    format: str
    nbytes: int
    checked_nbytes: int = 0
    members: tuple[VerifiedMember, ...] = ()
    tensors: int = 0
    whole: tuple[str, ...] = ()
    damaged: tuple[DamagedTensor, ...] = ()
    missing_nbytes: int = 0
    findings: tuple[Finding, ...] = ()


def verify(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    limits: Limits | None = None,  # type: ignore[valid-type]
    threads: int | None = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> VerifyReport:
    """Recomputes every checksum of a file, and compares every extent.

    Whatever a file contains, this returns: a broken file is a verdict. What `pthparse.open(..., salvage=True)` would
    read of a file that is cut short is told apart from what is lost.

    Parameters
    ----------
    source : str, os.PathLike, bytes or seekable binary file
        Text may be a URL: see `pthparse.open`.
    limits : Limits, optional
        What the file may ask for; beyond, the verdict is 'unknown'.
    threads : int, optional
        Default: one for each processor that this process may use.
    progress : callable, optional
        Called now and then with (bytes read, bytes to be read).
    executor : concurrent.futures.Executor, optional
        Who reads them: other processes, a cluster's. Each must be able to open them.

    Raises
    ------
    OSError
        The file itself cannot be read.
    """
    if is_whole(source):
        from .checkpoint import open

        try:
            with open(source, limits=limits) as model:
                return model.verify(threads=threads, progress=progress, executor=executor)
        except PthError as e:
            return VerifyReport(e.path, False, "unknown", "", 0, findings=(finding_of(e),))
    try:
        opened = open_source(source)
    except PthError as e:
        return VerifyReport(e.path, False, "unknown", "", 0, findings=(finding_of(e),))
    try:
        return _verifier_of(opened, limits or Limits()).whole(threads, progress, executor)
    except TruncatedError as e:  # changed where it was, before anything could be seen
        return VerifyReport(opened.path, False, "unknown", "", opened.size, findings=(finding_of(e),))
    finally:
        opened.close()


def verify_checkpoint(
    ckpt: Checkpoint, threads: int | None, progress: Progress | None, executor: Executor | None = None
) -> VerifyReport:
    """The same of an open checkpoint, which is left as it was."""
    if ckpt.closed:
        raise closed(ckpt.path)
    kept = list(ckpt._box.findings)
    try:
        return Verifier(ckpt._box, ckpt).whole(threads, progress, executor)
    finally:
        ckpt._box.findings = kept


def verify_shards(
    model: ShardedCheckpoint, threads: int | None, progress: Progress | None, executor: Executor | None = None
) -> VerifyReport:
    """The same of a model in several parts, each by itself; what is wrong between them are findings."""
    layout = model._layout
    each = _Several(model, threads)
    try:
        reports = each.reports(progress, executor)
    finally:
        each.close()
    named = list(zip(layout.files, reports, strict=True))
    whole, damaged = model._judged(reports)
    found = [r for r in reports if isinstance(r, VerifyReport)]
    verdicts = [r.verdict for r in found] + ["damaged"] * any(t.code not in UNSEEN for t in damaged)
    verdicts += ["damaged"] * bool(layout.missing)
    findings = [*layout.findings, *model._between]
    members: list[VerifiedMember] = []
    for name, r in named:
        if isinstance(r, PthError):
            if r.code != "shard-missing":
                findings.append(finding_of(r, name))
                verdicts.append("unknown" if findings[-1].severity == "incomplete" else "damaged")
            continue
        findings += [Finding(f.code, f.severity, _inside(name, f.member), f.offset, f.message) for f in r.findings]
        members += [VerifiedMember(_inside(name, m.name), m.offset, m.nbytes, m.status, m.message) for m in r.members]
    verdict = max(verdicts, key=WORSE.index, default="unknown")
    if verdict == "ok" and any(f.severity == "malformed" for f in findings):
        verdict = "damaged"
    return VerifyReport(
        path=layout.path,
        ok=verdict == "ok",
        verdict=verdict,
        format=model.format,
        nbytes=model.nbytes,
        checked_nbytes=sum(r.checked_nbytes for r in found),
        members=tuple(members),
        tensors=len(whole) + len(damaged),
        whole=tuple(whole),
        damaged=tuple(damaged),
        missing_nbytes=sum(r.missing_nbytes for r in found),
        findings=tuple(findings),
    )


def _inside(file: str, member: str | None) -> str:
    return f"{file}!{member or ''}".rstrip("!")


class _Several:
    """The parts of a model: all are looked through, then the checksums of all are one work. One that several names of
    the layout mean is verified once."""

    def __init__(self, model: ShardedCheckpoint, threads: int | None) -> None:
        self.model, self.threads = model, threads
        self.opened: list[Source] = []
        self.kept: list[tuple[Container, list[Finding]]] = []

    def reports(self, progress: Progress | None, executor: Executor | None) -> list[VerifyReport | PthError]:
        """Of each part, or why there is none."""
        rows: list[Verifier | PthError] = []
        known: dict[int, Verifier] = {}
        for i, read in enumerate(self.model._all):
            if isinstance(read, PthError):
                rows.append(self._other(i, read))
            else:
                if id(read) not in known:
                    known[id(read)] = Verifier(read._box, read)
                    self.kept.append((read._box, list(read._box.findings)))
                rows.append(known[id(read)])
        once = list(dict.fromkeys(row for row in rows if isinstance(row, Verifier)))
        afar = self.model._layout.directory.afar
        share(once, lambda _: Verifier.prepare, self.threads or (AFAR if afar else None))
        found = checksums.crc32s_of([(v.box.source, v.parts) for v in once], self.threads, progress, executor)
        made = {v: self._report(v, sums) for v, sums in zip(once, found, strict=True)}
        return [row if isinstance(row, PthError) else made[row] for row in rows]

    def _other(self, i: int, error: PthError) -> Verifier | PthError:
        """What is whole of a part that cannot be read?"""
        if self.model._path_of(i) is None:
            return error
        try:
            source = self.model._opened(self.model._layout.files[i])
        except PthError as e:
            return e
        except OSError as e:
            return _unreadable(e, error.path)
        self.opened.append(source)
        return _verifier_of(source, self.model._limits)

    @staticmethod
    def _report(verifier: Verifier, sums: Any) -> VerifyReport | PthError:
        for error in (verifier.broken, sums):
            if isinstance(error, OSError):
                return _unreadable(error, verifier.box.source.path)
        try:
            return verifier.report(sums)
        except PthError as e:
            return e

    def close(self) -> None:
        for source in self.opened:
            source.close()
        for box, findings in self.kept:
            box.findings = findings


def _unreadable(error: OSError, path: str | None) -> PthError:
    return PthError("shard-unreadable", f"cannot be opened: {error.strerror or error}", path=path)


def _verifier_of(source: Source, limits: Any) -> Verifier:
    """Of what is to be read once more, or has not been read."""
    from .checkpoint import Checkpoint

    box, error = _loaded(source, limits, False)
    if error is not None and error.code in formats.SALVAGEABLE:
        if len(zip_rest.archives(source, limits.max_parts)) > 1:
            error = UnsupportedError(
                "zip-several", "archives one behind the other: each would have to be verified by itself"
            )
        else:
            box, error = _loaded(source, limits, True)
    ckpt = None
    if error is None:
        try:
            ckpt = Checkpoint(box)
        except PthError as e:
            error = e
    if error is not None:
        box.blame(error)
    return Verifier(box, ckpt, error)


def _loaded(source: Source, limits: Any, salvage: bool) -> tuple[Container, PthError | None]:
    box = formats.container(source, limits)
    box.salvage = salvage
    try:
        with guard("while the file was read"):
            box.load()
    except PthError as e:
        return box, e
    return box, None


class Verifier:
    """One file, in three steps: it is looked through, its parts are summed, what came of it is told.

    `ckpt` is None if it could not be opened; its members may be checked all the same.
    """

    def __init__(self, box: Container, ckpt: Checkpoint | None, error: PthError | None = None) -> None:
        self.box, self.ckpt, self.error = box, ckpt, error
        self.members: list[VerifiedMember] = []
        self.zip: Any = None
        self.parts: list[checksums.Part] = []  # what has a checksum
        self.entries: list[int] = []  # of the zip: theirs
        self.troubles: dict[int, tuple[str, str]] = {}
        self.broken: PthError | OSError | None = None  # what kept it from being looked through
        self.bad: dict[int, tuple[str, str]] = {}  # entry of a zip -> code and message
        self.bad_inside: dict[tuple[int, int], tuple[str, str]] = {}  # the same of a file in it, by its number
        self.checked = 0
        self.limited = False

    def whole(self, threads: int | None, progress: Progress | None, executor: Executor | None = None) -> VerifyReport:
        """All three."""
        self.prepare()
        if self.broken is not None and not isinstance(self.broken, TruncatedError):
            raise self.broken
        (sums,) = checksums.crc32s_of([(self.box.source, self.parts)], threads, progress, executor)
        if isinstance(sums, OSError):
            raise sums
        return self.report(sums)

    def prepare(self) -> None:
        try:
            with guard("while the file was looked through"):
                if isinstance(self.box, ZipContainer):
                    self._zip(self.box)
                elif self.ckpt is not None:
                    self._structure()
        except (PthError, OSError) as e:
            self.broken, self.parts = e, []

    def report(self, sums: list[int | PthError] | TruncatedError) -> VerifyReport:
        """sums: of the parts.

        Raises
        ------
        PthError
            It could not be looked through, for another reason than that its bytes are not there.
        """
        box = self.box
        error = self.broken or (sums if isinstance(sums, TruncatedError) else None)
        if isinstance(error, TruncatedError):
            box.blame(error)
        elif error is not None:
            raise error
        elif isinstance(box, ZipContainer) and self.zip is not None and not isinstance(sums, TruncatedError):
            with guard("while the file was looked through"):
                self._compare(box, dict(zip(self.entries, sums, strict=True)))
                for number, inner in enumerate(box.nested.inner if box.nested is not None else ()):
                    self._inside(number, inner)
        damaged = self._damaged()
        names = list(self.ckpt) if self.ckpt is not None else []
        if box.source.changed() and all(f.code != "file-changed" for f in box.findings):
            box.find("file-changed", None, None)
        verdict = self._verdict(bool(damaged))
        return VerifyReport(
            path=box.source.path,
            ok=verdict == "ok",
            verdict=verdict,
            format=box.format,
            nbytes=box.source.size,
            checked_nbytes=self.checked,
            members=tuple(self.members),
            tensors=len(names),
            whole=tuple(name for name in names if name not in damaged),
            damaged=tuple(damaged[name] for name in names if name in damaged),
            missing_nbytes=box.missing or 0,
            findings=tuple(box.findings),
        )

    def _verdict(self, damaged: bool) -> str:
        severities = {f.severity for f in self.box.findings} | set(self.box.more)
        if any(f.code == "file-changed" for f in self.box.findings):
            return "unknown"
        wrong = any(m.status in ("wrong", "broken", "truncated") for m in self.members)
        if self.box.cut or isinstance(self.error, TruncatedError):
            return "truncated"
        known = self.error is None or not (self.error.code in NO_CHECKPOINT or self.box.format == "")
        if wrong or damaged or (known and (self._is_damage() or isinstance(self.error, FormatError))):
            return "damaged"
        return "unknown" if not known or self.limited or self.error is not None or "incomplete" in severities else "ok"

    def _is_damage(self) -> bool:
        found = any(f.severity == "malformed" or f.code in DAMAGE for f in self.box.findings)
        return found or "malformed" in self.box.more

    # ---- a zip: every member ----

    def _zip(self, box: ZipContainer) -> None:
        archive = self.zip = box.zip
        if archive is None:
            return
        if not box.salvaged:
            box.inspect()
        troubles = self.troubles
        found = {} if box.salvaged else {i: checksums.Part(at, n) for i, at, n in archive.stored()}
        for i in range(len(archive)) if len(found) < len(archive) else ():
            if i in found:
                continue
            lho, csize, usize, method, _, _ = archive.entry(i)
            if box.salvaged and lho > box.source.size:
                troubles[i] = ("truncated", "the file ends before its data do")
                continue
            try:
                archive.check(i)
                offset = box.data_offset(i)
            except UnsupportedError as e:  # encrypted, or compressed otherwise: nothing to compare
                troubles[i] = ("unchecked", e.message)
                continue
            except PthError as e:
                troubles[i] = ("broken", e.message)
                continue
            if method == DEFLATED and usize > box.limits.max_inflate_bytes:
                self.limited = True
                troubles[i] = ("unchecked", f"{usize} bytes when inflated (max_inflate_bytes)")
                continue
            found[i] = checksums.Part(offset, csize, usize if method == DEFLATED else None)
        self.entries += sorted(found)
        self.parts += [found[i] for i in self.entries]

    def _inside(self, number: int, inner: Inner) -> None:
        """The members of a file of torch.save in the archive."""
        own = Verifier(inner.box, None)
        own._zip(inner.box)
        (sums,) = checksums.crc32s_of([(inner.box.source, own.parts)])
        if isinstance(sums, Exception):
            raise sums
        own._compare(inner.box, dict(zip(own.entries, sums, strict=True)))
        self.limited |= own.limited
        for m in own.members:
            name = inner.inside(m.name)
            self.members.append(VerifiedMember(name, inner.base + m.offset, m.nbytes, m.status, m.message))
        self.bad_inside.update({(number, entry): told for entry, told in own.bad.items()})
        for f in inner.box.findings:
            found = Finding(f.code, f.severity, inner.inside(f.member), f.offset, f.message)
            if found not in self.box.findings:
                self.box.keep_finding(found)

    def _compare(self, box: ZipContainer, sums: dict[int, int | PthError]) -> None:
        archive = box.zip
        without: set[int] | None = None  # of most archives nobody asks
        size = box.source.size
        for i, name in enumerate(archive.names()):
            lho, csize, usize, _, crc, _ = archive.entry(i)
            if sums.get(i) == crc and i not in box.unsummed:  # most are; they have no troubles
                self.checked += csize
                self.members.append(VerifiedMember(name, min(lho, size), usize, "ok", None))
                continue
            status, message = self.troubles.get(i, ("ok", None))
            made = sums.get(i)
            if isinstance(made, PthError):
                status, message = "wrong", made.message
            elif made is not None and i in box.unsummed:
                status = "unchecked"
            elif made is not None and made != crc:
                without = _without_checksum(box) if without is None else without
                if i in without:
                    status = "unchecked"
                else:
                    status, message = "wrong", f"the checksum of its bytes is {made:08x}, {crc:08x} was written"
            if status == "ok":
                self.checked += csize
            if status in ("wrong", "broken", "truncated"):
                code = {"wrong": "zip-crc", "broken": "zip-extent", "truncated": "storage-cut"}[status]
                self.bad[i] = (code, message or "")
            self.members.append(VerifiedMember(name, min(lho, size), usize, status, message))
        if box.cut_name is not None and all(m.name != box.cut_name for m in self.members):
            self.members.append(VerifiedMember(box.cut_name, size, 0, "truncated", "the file ends before its data do"))

    # ---- everything else has no checksums ----

    def _structure(self) -> None:
        self.box.inspect()
        size = self.box.source.size
        for m in self.box.members():
            cut = self.box.salvaged and m.offset + m.stored_nbytes > size
            told = "the file ends before its data do" if cut else None
            self.members.append(VerifiedMember(m.name, m.offset, m.nbytes, "truncated" if cut else "unchecked", told))

    # ---- tensors ----

    def _damaged(self) -> dict[str, DamagedTensor]:
        ckpt = self.ckpt
        if ckpt is None:
            return {}
        found: dict[str, DamagedTensor] = {}
        for inside, pickle, code, message in self._pickles_in_doubt():
            told = f"the pickle that describes it is damaged: {message}"
            found |= {name: DamagedTensor(name, pickle, code, told) for name in ckpt if name.startswith(inside)}
        for number, inner in enumerate(self.box.nested.inner if self.box.nested is not None else ()):
            code, message = self.bad_inside.get((number, inner.box.root), ("", ""))
            told = f"the pickle that describes it is damaged: {message}"
            pickle = inner.inside(inner.box.pickles[0].member)
            found |= {name: DamagedTensor(name, pickle, code, told) for name in inner.names if code}
        if len(found) == len(ckpt):
            return found
        for name, error in ckpt.errors.items():
            if isinstance(error, FormatError):
                found[name] = DamagedTensor(name, error.member, error.code, error.message)
        table = ckpt._table
        for i in range(table.n_storages if self.bad or self.bad_inside or table.troubles()[3] else 0):
            for code, member, message in self._of_storage(table, i):
                for name in ckpt._home.sharers(table, i):
                    found[name] = DamagedTensor(name, member, code, message)
        return found

    def _pickles_in_doubt(self) -> Iterator[tuple[str, str, str, str]]:
        """How the names of their tensors begin, the member, and what is wrong with it."""
        box = self.box
        if not self.bad or not isinstance(box, ZipContainer) or box.main is None:
            return
        begins = {box.prefix + piece: f"{piece}/" for piece in box.pieces} or {str(box.main.member): ""}
        for i, (code, message) in self.bad.items():
            name = self.zip.name(i)
            if name in begins:
                yield begins[name], name, code, message

    def _of_storage(self, table: Any, i: int) -> Iterator[tuple[str, str | None, str]]:
        """What is wrong with the bytes of a storage: at most one thing."""
        span, _, _, _, _, _, _, code = table.storage(i)
        nested = self.box.nested
        if nested is not None and span is not None and not code:
            number, entry = nested.entry(span)
            if (number, entry) in self.bad_inside:
                inner, (wrong, message) = nested.inner[number], self.bad_inside[number, entry]
                yield wrong, inner.inside(inner.box.zip.name(entry)), message
            return
        entry = None if span is None else table.store.span(span)[3]
        member = None if entry is None else self.zip.name(entry)
        if code:
            error = _core.error_of(code)
            if isinstance(error, FormatError):
                yield error.code, member, error.message
        elif entry in self.bad:
            yield self.bad[entry][0], member, self.bad[entry][1]


def _without_checksum(box: ZipContainer) -> set[int]:
    """The entries that were written without one, which torch does by writing a zero.

    It does so for all members (`torch.serialization.set_crc32_options(False)`) or for all storages (`skip_data`): a
    zero among others of the same kind is wrong.
    """
    archive = box.zip
    storages = tuple(f"{box.prefix}{folder}/" for folder in ("data", "tensors", "constants"))
    zeros: tuple[list[int], list[int]] = ([], [])
    some = [False, False]
    for i, name in enumerate(archive.names()):
        _, _, usize, _, crc, _ = archive.entry(i)
        kind = int(name.startswith(storages))
        if crc:
            some[kind] = True
        elif usize:
            zeros[kind].append(i)
    return set(zeros[1] if not some[1] else []) | set(zeros[0] if not any(some) else [])
