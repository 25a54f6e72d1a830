"""What can go wrong with a file. Codes, classes and sentences of the native core are in csrc/defs/errors.def."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class PthError(ValueError):
    """Whatever a file's contents made impossible.

    Attributes
    ----------
    code : str
        Stable and short: 'zip-overlap', 'pickle-truncated', ...
    message : str
        What was wanted and what was there.
    path, member : str or None
        The file, and the member of an archive.
    offset : int or None
        Byte that was refused: of the member if there is one, else of the file.
    opcode : str or None
        The pickle opcode at work.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        path: str | None = None,
        member: str | None = None,
        offset: int | None = None,
        opcode: str | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.path = path
        self.member = member
        self.offset = offset
        self.opcode = opcode

    def at(self, path: str | None, member: str | None = None, base: int = 0) -> PthError:
        """The same error, told where it happened; what it knows already stays. Offsets move by `base`."""
        self.path = self.path or path
        self.member = self.member or member
        if self.offset is not None:
            self.offset += base
        return self

    def __str__(self) -> str:
        place = "!".join(escape(p) for p in (self.path, self.member) if p)
        where = f" at byte {self.offset}" if self.offset is not None else ""
        opcode = f" ({self.opcode})" if self.opcode else ""
        return f"{place + ': ' if place else ''}{self.message}{opcode}{where} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.message), self.__dict__


class FormatError(PthError):
    """The bytes are not what they claim to be."""


class TruncatedError(FormatError):
    """The file ends before what it announces."""


class LimitError(PthError):
    """The file asks for more than `Limits` allow."""


class UnsupportedError(PthError):
    """Understood, but not read here."""


class guard:
    """The last net: whatever Python or numpy say to the values of a file becomes a PthError."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(e, PthError):
            return
        if isinstance(e, (MemoryError, RecursionError)):
            raise LimitError("too-much", f"{self.what}: {type(e).__name__}") from e
        if isinstance(e, (ArithmeticError, AttributeError, LookupError, SystemError, TypeError, ValueError)):
            raise FormatError("value-refused", f"{self.what}: {escape(str(e))[:200]}") from e


def escape(text: str) -> str:
    """Text out of a file, fit for a message: control and bidirectional characters and lone surrogates are spelt out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
