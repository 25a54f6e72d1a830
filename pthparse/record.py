"""What the library tells: frozen dataclasses of plain values, made without the import of dataclasses.

That import, with the inspect it brings, and what it does for each class are a fifth of the time of a command. So the
classes are made here, and dataclasses is imported for them when somebody asks it about one: `dataclasses.fields`,
`replace`, `asdict` and `is_dataclass` find what they look for.
"""

from __future__ import annotations

from types import MappingProxyType

from ._core import fill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, NoReturn, dataclass_transform
else:

    def dataclass_transform(**_):
        return lambda cls: cls


class _OfDataclass:
    """What dataclasses, and those who look into them, want of a record class: made when it is asked for."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, record: Any, cls: Any) -> Any:
        from dataclasses import field, make_dataclass

        kept = {n: {"default": value} for n, value in cls._defaults.items()}
        rows = [(n, cls.__annotations__[n], field(**kept.get(n, {}))) for n in cls.__match_args__]
        return getattr(make_dataclass(cls.__name__, rows, kw_only=cls._kw_only, frozen=True), self.name)


@dataclass_transform(frozen_default=True)
class RecordType(type):
    """Makes slots of a class's annotations, and keeps their defaults."""

    def __new__(mcls, name: str, bases: tuple[type, ...], body: dict[str, Any], kw_only: bool = False) -> Any:
        names = tuple(n for n in body.get("__annotations__", ()) if not n.startswith("__"))
        defaults = {n: body.pop(n) for n in names if n in body}
        body |= {"__slots__": names, "__match_args__": names, "_defaults": defaults, "_kw_only": kw_only}
        cls: Any = super().__new__(mcls, name, bases, body)
        cls._whole = frozenset(names)
        return cls


class Record(metaclass=RecordType):
    """A frozen dataclass. What its methods need beside what it tells has a name that begins with `_`."""

    __match_args__: ClassVar[tuple[str, ...]] = ()
    __dataclass_fields__ = _OfDataclass("__dataclass_fields__")
    __dataclass_params__ = _OfDataclass("__dataclass_params__")

    if not TYPE_CHECKING:  # a checker makes one of the annotations

        def __init__(self, *values, **named):
            names = self.__match_args__
            if not values and named.keys() == self._whole:
                values = [named[n] for n in names]
            elif named or len(values) != len(names) or self._kw_only:
                given = {**dict(zip(names, values, strict=False)), **named}
                whole = {**self._defaults, **given}
                twice = len(given) < len(values) + len(named)
                if twice or whole.keys() != {*names} or (values and self._kw_only):
                    raise TypeError(self._misuse(len(values), named))
                values = [whole[n] for n in names]
            fill(self, names, values)

    @classmethod
    def _misuse(cls, n: int, named: dict[str, Any]) -> str:
        own: Any = cls
        taken, free = cls.__match_args__[:n], cls.__match_args__[n:]
        extra = [repr(x) for x in named if x not in free]
        missing = [repr(x) for x in free if x not in named and x not in own._defaults]
        if extra or missing:
            return f"{cls.__name__}(): {'unexpected' if extra else 'missing'} {', '.join(extra or missing)}"
        return f"{cls.__name__}(): {n} arguments by position, {0 if own._kw_only else len(taken)} are taken"

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, n) for n in self.__match_args__)

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict of plain values. Fields whose names begin with "_" are no part of it."""
        return {n: _plain(getattr(self, n)) for n in self.__match_args__ if n[0] != "_"}

    def __repr__(self) -> str:
        told = ", ".join(f"{n}={getattr(self, n)!r}" for n in self.__match_args__ if n[0] != "_")
        return f"{type(self).__qualname__}({told})"

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self) -> tuple[Any, ...]:
        return self._values()

    def __setstate__(self, values: tuple[Any, ...]) -> None:
        fill(self, self.__match_args__, values)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if type(value) is MappingProxyType:
        return dict(value)
    return tuple(map(_plain, value)) if type(value) is tuple else value
