"""What a file would do to a loader, without being one: every global, every oddity, one verdict."""

from __future__ import annotations

from collections.abc import Iterator

from . import _core, formats
from .dangers import Judge
from .errors import LimitError, PthError, TruncatedError, UnsupportedError, guard
from .formats import zip_rest
from .formats.base import MOST_FINDINGS, UNSEEN, Container, Finding, Pickle, Remain, finding_of, names_globals
from .literal import literal
from .record import Record
from .source import MemorySource, SliceSource, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .checkpoint import Checkpoint

# From good to bad; the worst of all findings and globals is the verdict.
VERDICTS = ("clean", "review", "incomplete", "malformed", "dangerous")
STATUSES = ("handled", "harmless", "unknown", "dangerous")
MOST_GLOBALS = 10000
MOST_ZEROS = 1 << 26  # before a pickle that follows another
BEHIND = "(behind"  # how the names of parts begin that follow something
CALL_WIDTH = 200  # characters of a call's arguments


class AuditedGlobal(Record):
    """A class or function that the file names.

    Attributes
    ----------
    module, name : str
        As the file spells them; `<computed>` stands for what is only known to a loader.
    uses : int
        Opcodes that name it.
    member : str or None
    offset : int
        Of the first of them: in the member, or in the file.
    opcode : str
        The first one: GLOBAL, STACK_GLOBAL, INST, EXT1, ...
    status : str
        'handled', 'harmless', 'unknown' or 'dangerous'.
    reason : str
        Why.
    python3 : str or None
        What Python 3 makes of a name of Python 2.
    call : str or None
        The arguments of its first call, in short.
    """

    module: str
    name: str
    uses: int
    member: str | None
    offset: int
    opcode: str
    status: str
    reason: str
    python3: str | None = None
    call: str | None = None


class AuditReport(Record):
    """The answer of an audit.

    Attributes
    ----------
    path : str or None
    verdict : str
        'clean': tensors and plain containers, and nothing odd. 'review': names what is not known, holds code, or is
        odd though unambiguous. 'dangerous': names what is known to run code or touch the system. 'malformed': not
        readable as what it claims to be, or readable in two ways. 'incomplete': a limit stopped the audit.
    format : str
        'zip', 'legacy', ...; 'directory'; '' if it is none that is known.
    nbytes : int
        The file's size.
    tensors : int
        Tensors that were found.
    globals : tuple of AuditedGlobal
        At most 10,000; `n_globals` counts all.
    findings : tuple of Finding
        At most 1,000; `n_findings` counts all.
    code : tuple of str
        Members that hold code.
    files : tuple of AuditReport
        Of a directory: its files.
    """

    path: str | None
    verdict: str
    format: str
    nbytes: int
    tensors: int
    globals: tuple[AuditedGlobal, ...]
    findings: tuple[Finding, ...]
    code: tuple[str, ...] = ()
    n_globals: int = 0
    n_findings: int = 0
    files: tuple[AuditReport, ...] = ()

    @property
    def reasons(self) -> list[str]:
        """What the verdict rests on, the worst first: a line each."""
        out = []
        for status in ("dangerous", "unknown"):
            out += [f"{g.module}.{g.name}: {g.reason}" for g in self.globals if g.status == status]
        ranked = sorted(self.findings, key=lambda f: -VERDICTS.index(f.severity) if f.severity in VERDICTS else 1)
        told = [f"{f.member + ': ' if f.member else ''}{f.message} [{f.code}]" for f in ranked if f.severity != "note"]
        return out + told if self.verdict != "malformed" else told + out

    def to_json(self) -> str:
        """One JSON document."""
        import json

        return json.dumps({"schema": 1, **self.to_dict()}, ensure_ascii=True, allow_nan=False, indent=1)

    def to_sarif(self) -> dict[str, Any]:
        """The same as SARIF 2.1.0: a result for each global that is not known to be harmless, and for each finding."""
        from .sarif import sarif

        return sarif([self])

    def _repr_html_(self) -> str:
        from .notebook import of_audit

        return of_audit(self)


def refused(error: PthError) -> AuditReport:
    """Of what is not even a file (a FIFO, a device), or is far away and cannot be read by parts."""
    verdict = "incomplete" if error.code in UNSEEN else "malformed"
    finding = Finding(error.code, verdict, None, None, error.message)
    return AuditReport(error.path, verdict, "", 0, 0, (), (finding,), n_findings=1)


def audit_source(source: Source, limits: Any) -> AuditReport:
    """The same of an open source, which is the caller's to close."""
    auditor = Auditor(source, limits)
    try:
        auditor.run()
    except TruncatedError as e:  # changed where it was, before anything could be seen
        auditor.blame(e)
    return auditor.report()


def audit_checkpoint(ckpt: Checkpoint) -> AuditReport:
    """The same of an open checkpoint; what it has read is not read again."""
    box = ckpt._box
    kept = list(box.findings), list(box.pickles), list(box.code)
    try:
        auditor = Auditor(box.source, box.limits)
        auditor.container(box, "", 0, (ckpt._table, ckpt._parts))
        auditor.findings += [f for f in ckpt._told_apart if f not in auditor.findings]
        auditor.rest()
        return auditor.report()
    finally:
        box.findings, box.pickles, box.code = kept


class Auditor:
    """One file under audit. What lies inside of each other goes through a list of work, not through recursion."""

    def __init__(self, source: Source, limits: Any) -> None:
        self.source, self.limits = source, limits
        self.findings: list[Finding] = []
        self.n_findings, self.worst, self.tensors = 0, 0, 0
        self.format = ""
        self.code: list[str] = []
        self.judge = Judge()
        self.rows: dict[tuple[str, str], list[Any]] = {}
        self.stack: list[tuple[Container, Iterator[Remain], str, int]] = []
        self.c_limits = _core.Limits(self.limits)
        self.arena = _core.Arena(self.c_limits)
        self.told: set[Any] = set()
        self.n_parts = 0

    # ---- the walk ----

    def run(self) -> None:
        box = formats.container(self.source, self.limits)
        try:
            box.load()
        except PthError as e:
            several = []
            if e.code.startswith("zip-"):
                most = self.limits.max_parts
                several = zip_rest.archives(self.source, most) or zip_rest.archives_and_tensors(self.source, most)
            if len(several) > 1:
                self.several(several)
                return
            box.blame(e)
        self.container(box, "", 0, box.give_tables())
        self.rest()

    def several(self, places: list[tuple[int, int]]) -> None:
        """Archives one behind the other: each by itself."""
        self.format = "zip"
        self.find("zip-several", None, None, f"{_core.FINDINGS['zip-several'][1]}: {len(places)} of them")
        parts = (
            Remain(f"(archive {i})", begin, SliceSource(self.source, begin, end - begin), True)
            for i, (begin, end) in enumerate(places)
        )
        self.stack.append((Container(self.source, self.limits), parts, "", 0))
        self.rest()

    def rest(self) -> None:
        """Works off what lies inside; then looks whether the file is still the same."""
        while self.stack:
            box, remains, where, depth = self.stack[-1]
            remain = None
            try:
                with guard("while a file was looked through"):
                    remain = next(remains, None)
            except PthError as e:
                box.blame(e)
            if remain is None:
                self.stack.pop()
                self.finish(box, where)
                continue
            if box.format == "pickle":  # what follows it is all that is left: thousands may follow each other
                self.stack.pop()
                self.finish(box, where)
            try:
                with guard("while a file was looked through"):
                    self.look(remain, where, depth)
            except PthError as e:
                self.blame(e, where + remain.member)
        if self.source.changed():
            self.find("file-changed", None, None)

    def container(
        self, box: Container, where: str, depth: int, tables: tuple[Any, dict[str, Any]], base: int = 0
    ) -> None:
        """Everything in a container that was read, or failed to be.

        where: the names of what it lies in. base: where it begins in the innermost of those.
        """
        if depth == 0 and not where:
            self.format = box.format
        try:
            with guard("while a file was looked through"):
                box.inspect()
        except PthError as e:
            box.blame(e)
        table, parts = tables
        known = {id(pickle): of for of, pickle in parts.values()}
        if table is not None and box.main is not None:
            known[id(box.main)] = table
        for pickle in box.pickles:
            try:
                of = known[id(pickle)] if id(pickle) in known else box.table_of(pickle)
            except PthError as e:
                self.blame(e, self.inside(where, pickle.member))
                of = None
            self.pickle(box, pickle, of, where, depth, base)
        if table is not None and not box.pickles and box.nested is None:  # the container itself describes its tensors
            self.table(table, where, names=box.names)
        self.stack.append((box, box.remains(), where, depth))

    def finish(self, box: Container, where: str) -> None:
        """Nothing is left of it: what it found is complete."""
        for f in box.findings:
            self.keep(Finding(f.code, f.severity, self.inside(where, f.member), f.offset, f.message))
        for severity, n in box.more.items():
            self.n_findings += n
            if severity != "note":
                self.rank(severity)
        self.code += [where + name for name in box.code]
        if box.format == "torchscript" or box.code:
            self.find("code", where.rstrip("!") or None, None)

    def look(self, remain: Remain, where: str, depth: int) -> None:
        """What is this part? A container or a pickle is looked through; anything else is passed by."""
        from .formats import strangers  # most files have no such part

        source, zeros = behind_zeros(remain.source)
        head = bytes(source.window(0, formats.HEAD))
        array = strangers.behind_header(head)
        if array:
            source, zeros = SliceSource(source, array, max(0, source.size - array)), zeros + array
            head = bytes(source.window(0, formats.HEAD))
        if not remain.expected and not self.may_be_one(head):
            return
        box = formats.container(source, self.limits)
        try:
            box.load()
        except PthError as e:
            named = any(names_globals(p.graph) for p in box.pickles[:1])
            if box.format in ("", "pickle", "safetensors") and not remain.expected and not named:
                return
            if remain.text and box.format in ("", "pickle") and not self.dangerous(box):
                return
            box.blame(e)
        follows = remain.member.startswith(BEHIND)  # one more of the same, no level deeper
        if depth >= self.limits.max_nesting and not follows:
            raise LimitError("max_nesting", f"files nested deeper than {self.limits.max_nesting} (max_nesting)")
        self.n_parts += 1
        if self.n_parts > self.limits.max_parts:
            for unfinished, _, outer, _ in self.stack:
                self.finish(unfinished, outer)
            self.stack.clear()
            raise LimitError("max_parts", f"more than {self.limits.max_parts} parts inside of the file (max_parts)")
        kind = f"a {box.format} file" if box.format not in ("", "pickle") else "a pickle"
        name = (where.split(BEHIND)[0] if follows else where) + remain.member
        self.find("embedded", name, remain.offset, f"{kind} inside of the file")
        base = zeros + (remain.offset or 0 if remain.member.startswith("(") else 0)
        self.container(box, f"{name}!", depth + (not follows), box.give_tables(), base)

    def dangerous(self, box: Container) -> bool:
        """Does a pickle that could not be read to its end name what is?"""
        named = (g for p in box.pickles for g in p.graph.globals()[:MOST_GLOBALS])
        return any(self.judge(module, name, "UNKNOWN")[0] == "dangerous" for module, name, _, _ in named)

    def may_be_one(self, head: bytes) -> bool:
        """A first look, since an archive may have a hundred thousand members of no interest."""
        if formats.is_archive(head):
            return True
        graph, error = _core.read_pickle(head, self.arena, self.c_limits)
        return error is None or bool(graph.n_globals) or error.code in ("pickle-truncated", "pickle-line")

    # ---- pickles ----

    def pickle(self, box: Container, pickle: Pickle, table: Any, where: str, depth: int, base: int) -> None:
        """Its globals, calls and tensors."""
        member = self.inside(where, pickle.member)
        if pickle.member is not None:  # its offsets count from the member's first byte
            base = 0
        if pickle.graph.frame_straddled:
            self.find("pickle-frame", member, None)
        if pickle.graph.late_proto:
            self.find("pickle-proto", member, None)
        try:
            seen = _core.Audit(pickle.graph, table, box.c_limits, box.format == "legacy")
        except PthError as e:
            self.blame(e, member)
            return
        if pickle.graph.far_memo:
            self.find("pickle-memo", member, None)
        self.globals(seen, member, base)
        self.source_code(seen, member)
        odds, n = seen.odds()
        for code, node, ref in odds:
            row = seen.refs(ref, ref + 1)[0] if ref is not None else None
            about = f": {row[0]}.{row[1]}{self.arguments(pickle.graph, node)}" if row is not None else ""
            # Other archives have persistent ids of their own, in members that are not read here.
            milder = code == "persistent-id" and depth > 0 and box.format == "pickle"
            severity, sentence = _core.FINDINGS[code]
            offset = None if row is None else base + row[4]
            self.keep(Finding(code, "review" if milder else severity, member, offset, sentence + about))
        if n > len(odds):
            self.find("more", member, None, f"{n - len(odds)} more odd calls")
        nested = seen.nested()
        if nested:
            self.find("nested", member, None)
            parts = (Remain(f"(bytes {node})", None, MemorySource(pickle.graph.slice(node)), True) for node in nested)
            inside = Container(box.source, box.limits)
            self.stack.append((inside, parts, f"{member}!" if member else where, depth))
        if table is not None:
            self.table(table, where, elsewhere=depth > 0 and box.format == "pickle")

    def globals(self, seen: Any, member: str | None, base: int) -> None:
        n = len(seen)
        if n > self.limits.max_globals:
            self.blame(
                LimitError("max_globals", f"{n} globals, {self.limits.max_globals} are looked at (max_globals)"), member
            )
        for module, name, meaning, uses, at, opcode, call, misused in seen.refs(0, min(n, self.limits.max_globals)):
            row = self.rows.get((module, name))
            if row is not None:
                row[0] += uses
                if not misused or row[4] == "dangerous":
                    continue
                uses = row[0]
            status, reason, python3 = self.judge(module, name, "UNKNOWN" if misused else meaning)
            if python3 is not None and seen.graph.proto >= 3 and status in ("handled", "harmless"):
                status, reason = "unknown", "a name of Python 2, which loaders know in its own protocols alone"
            shown = None
            if status not in ("handled", "harmless"):
                self.rank("dangerous" if status == "dangerous" else "review")
                if call is not None and len(self.rows) < MOST_GLOBALS:
                    shown = self.arguments(seen.graph, call)
            self.rows[module, name] = [uses, member, base + at, opcode, status, reason, python3, shown]

    def arguments(self, graph: Any, node: int) -> str:
        try:
            with guard("the arguments of a call"):
                return literal(graph, node, CALL_WIDTH)
        except PthError:
            return "(...)"

    def source_code(self, seen: Any, member: str | None) -> None:
        """Traced modules are pickled with their Python source, which torch runs to make them again."""
        known: dict[int | str, bool] = {}
        for call in seen.traced():
            args = seen.graph.call(call)[2]
            given = seen.graph.items(args.id)[:2] if isinstance(args, _core.Ref) else []
            body, imports = [*given, "", ""][:2]
            if word := self.foreign(seen.graph, body, imports, known):
                self.find("source", member, None, f"{_core.FINDINGS['source'][1]}: {word}")

    def foreign(self, graph: Any, body: Any, imports: Any, known: dict[int | str, bool]) -> str | None:
        """What such source says beyond a traced module. known: what was looked at, and does it begin a line?"""
        if not isinstance(body, _core.Ref) or not isinstance(imports, str):
            return "it cannot be seen"
        from .traced import suspicious

        texts = [imports] if imports not in known else []
        known[imports] = True
        if body.id not in known:
            codes = [v for k, v in graph.pairs(body.id) if k in ("_code", "code")]
            if not codes or not all(isinstance(code, str) for code in codes):
                return "it cannot be seen"
            texts += codes
            known[body.id] = all(code.startswith("\n") for code in codes)
        if word := next((w for text in texts if (w := suspicious(text, self.judge, graph, body))), None):
            return f"it says {word!r}"
        return None if known[body.id] or not imports or imports.endswith("\n") else "it begins in the middle of a line"

    def table(self, table: Any, where: str, elsewhere: bool = False, names: Any = None) -> None:
        """Tensors that cannot be read, and storages that are not as their tensors say.

        elsewhere: the storages may lie in other members of an archive that is not read here.
        names: what the container itself calls its tensors (`Container.names`).
        """
        self.tensors += len(table)
        codes, mixed, larger, broken = table.troubles()

        def severity(error: PthError) -> str:
            if isinstance(error, LimitError):
                return "incomplete"
            mild = isinstance(error, UnsupportedError) or (elsewhere and error.code == "storage-missing")
            return "review" if mild else "malformed"

        for code, (n, row) in codes.items():
            error = _core.error_of(code)
            if isinstance(names, list):
                name = names[row]
            else:
                name = next((x for x, r in zip(table.names(), table.name_rows(), strict=True) if r == row), None)
            text = table.error_of_row(row).message
            who = f"tensor {name!r}" if name is not None else "a tensor"
            more = f", and {n - 1} more" if n > 1 else ""
            self.keep(Finding(error.code, severity(error), where.rstrip("!") or None, None, f"{who}{more}: {text}"))
        for code, (n, i) in broken.items():
            if code not in codes:  # of storages by themselves
                error = _core.error_of(code)
                who = f"storage {table.storage(i)[1]!r}" + (f", and {n - 1} more" if n > 1 else "")
                text = f"{who}: {error.message}"
                self.keep(Finding(error.code, severity(error), where.rstrip("!") or None, None, text))
        for code, storages in (("storage-mixed", mixed), ("storage-larger", larger)):
            for i in storages[:MOST_FINDINGS]:
                self.find(
                    code, where.rstrip("!") or None, None, f"{_core.FINDINGS[code][1]} (storage {table.storage(i)[1]})"
                )

    # ---- the report ----

    @staticmethod
    def inside(where: str, member: str | None) -> str | None:
        return where + member if member else where.rstrip("!") or None

    def rank(self, verdict: str) -> None:
        self.worst = max(self.worst, VERDICTS.index(verdict))

    def keep(self, finding: Finding) -> None:
        key = (finding.code, finding.member, finding.offset, finding.message)
        if key in self.told:
            return
        self.told.add(key)
        if finding.severity != "note":
            self.rank(finding.severity)
        self.n_findings += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)

    def find(self, code: str, member: str | None, offset: int | None, message: str | None = None) -> None:
        severity, sentence = _core.FINDINGS[code]
        self.keep(Finding(code, severity, member, offset, message or sentence))

    def blame(self, error: PthError, member: str | None = None) -> None:
        self.keep(finding_of(error, member))

    def report(self) -> AuditReport:
        rows = sorted(self.rows.items(), key=lambda item: -STATUSES.index(item[1][4]))
        shown = tuple(AuditedGlobal(m, n, *row) for (m, n), row in rows[:MOST_GLOBALS])
        return AuditReport(
            self.source.path,
            VERDICTS[self.worst],
            self.format,
            self.source.size,
            self.tensors,
            shown,
            tuple(self.findings),
            tuple(self.code[:MOST_FINDINGS]),
            len(self.rows),
            self.n_findings,
        )


def behind_zeros(source: Source) -> tuple[Source, int]:
    """Zeros may stand between pickles: what stands behind them, and how many they are."""
    at = 0
    if bytes(source.window(0, 1)) != b"\x00":
        return source, 0
    while at < min(source.size, MOST_ZEROS):
        window = bytes(source.window(at, 1 << 20))
        rest = window.lstrip(b"\x00")
        at += len(window) - len(rest)
        if rest or not window:
            break
    return SliceSource(source, at, source.size - at), at
