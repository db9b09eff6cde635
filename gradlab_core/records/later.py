"""Fields of a record that are made when they are first read: most steps are recorded, and few are read in full."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")
Maker = Callable[[], Any]
_MAKERS = "_makers"


class Makers(Protocol):
    """What has the maker of a field by its name, as a dictionary does."""

    def get(self, name: str, /) -> Maker | None: ...


class _Part:
    """The descriptor of a field that is made later. Python calls it only while the record does not hold the field."""

    def __init__(self, kind: type, name: str) -> None:
        self.kind, self.name = kind, name

    def __get__(self, record: Any, owner: type) -> Any:
        if record is None:  # on the class a field has no value, as in any dataclass
            raise AttributeError(f"type object {self.kind.__name__!r} has no attribute {self.name!r}")
        held = record.__dict__
        makers = held.get(_MAKERS, {})
        make = makers.get(self.name)
        if make is not None:
            held[self.name] = make()
            if isinstance(makers, dict):  # what is made needs its maker no more
                # A new mapping, since another thread may be reading the old one.
                left = {name: maker for name, maker in held.get(_MAKERS, {}).items() if name != self.name}
                held.update({_MAKERS: left}) if left else held.pop(_MAKERS, None)
        if self.name not in held:
            raise AttributeError(f"{self.kind.__name__!r} object has no attribute {self.name!r}")
        return held[self.name]


def made_later(*names: str) -> Callable[[type[T]], type[T]]:
    """Allow these fields of a dataclass (all, if none is named) to be made when they are first read; a decorator that
    stands above `dataclass`.

    Such a record behaves like any other: `==`, `repr`, `dataclasses.asdict` and `replace`, `copy` and `pickle` read the
    fields, which makes them. Only `vars` does not.
    """

    def prepare(kind: type[T]) -> type[T]:
        for name in names or [field.name for field in dataclasses.fields(cast(Any, kind))]:
            setattr(kind, name, _Part(kind, name))
        setattr(kind, "__getstate__", _all_fields)  # noqa: B010 (of a type known only here)
        return kind

    return prepare


def held(kind: type[T], fields: dict[str, Any], later: Makers | None = None) -> T:
    """A record as `build` makes it, without a look at the fields: these and those of `later` are all it has, and the
    mapping becomes its own. For many records at once, which is then five times as fast.

    >>> @made_later("n")
    ... @dataclasses.dataclass(frozen=True)
    ... class Row:
    ...     n: int
    >>> held(Row, {}, {"n": lambda: 3})
    Row(n=3)
    """
    record = kind.__new__(kind)
    object.__setattr__(record, "__dict__", fields)
    if later is not None:
        fields[_MAKERS] = later
    return record


def all_later(kind: type[T], make: Callable[[], T]) -> T:
    """A record that is made once, with all its fields, when one of them is first read. An error of `make` is raised by
    that read.

    >>> @made_later("n")
    ... @dataclasses.dataclass(frozen=True)
    ... class Row:
    ...     n: int
    >>> made = []
    >>> row = all_later(Row, lambda: made.append(1) or Row(3))
    >>> made, row.n, made
    ([1], 3, [1])
    """
    made = functools.lru_cache(maxsize=None)(make)
    record = kind.__new__(kind)
    names = [field.name for field in dataclasses.fields(cast(Any, kind))]
    record.__dict__[_MAKERS] = {name: functools.partial(_field_of, made, name) for name in names}
    return record


def _field_of(made: Callable[[], Any], name: str) -> Any:
    return getattr(made(), name)


def _all_fields(record: Any) -> dict[str, Any]:
    """The state for `copy` and `pickle`: every field, made if it was not yet."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def build(kind: Callable[..., T], fields: Mapping[str, Any], later: Mapping[str, Maker]) -> T:
    """A record with these fields, and with those of `later` as soon as they are read. A maker is called once (perhaps
    more often if several threads read at the same time) and must give the value that it would have given at once.

    >>> @made_later("squares")
    ... @dataclasses.dataclass(frozen=True)
    ... class Row:
    ...     n: int
    ...     squares: list
    >>> row = build(Row, {"n": 3}, {"squares": lambda: [i * i for i in range(3)]})
    >>> row.squares, row == Row(3, [0, 1, 4]), row
    ([0, 1, 4], True, Row(n=3, squares=[0, 1, 4]))
    """
    record = kind(**fields, **dict.fromkeys(later))
    for name in later:
        del record.__dict__[name]
    record.__dict__[_MAKERS] = dict(later)
    return record
