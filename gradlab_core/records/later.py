"""Parts of a record that are made when somebody asks for them: most steps are recorded, and few are looked at whole."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T")
Maker = Callable[[], Any]
_MAKERS = "_makers"


class _Part:
    """What Python asks for a field that a record does not hold yet; one that it holds is found without this."""

    def __init__(self, kind: type, name: str) -> None:
        self.kind, self.name = kind, name

    def __get__(self, record: Any, owner: type) -> Any:
        if record is None:  # a field has no value on the class, as without this
            raise AttributeError(f"type object {self.kind.__name__!r} has no attribute {self.name!r}")
        held = record.__dict__
        make = held.get(_MAKERS, {}).get(self.name)
        if make is not None:
            held[self.name] = make()
            # A new mapping: another thread may be reading the one that was there.
            left = {name: maker for name, maker in held.get(_MAKERS, {}).items() if name != self.name}
            held.update({_MAKERS: left}) if left else held.pop(_MAKERS, None)
        if self.name not in held:
            raise AttributeError(f"{self.kind.__name__!r} object has no attribute {self.name!r}")
        return held[self.name]


def made_later(*names: str) -> Callable[[type[T]], type[T]]:
    """Allow those fields of a dataclass (all, if none is named) to be made when they are asked for; stands above
    `dataclass`.

    Such a record is in every way like one that was made whole: `==`, `repr`, `dataclasses.asdict` and `replace`, `copy`
    and `pickle` ask for the fields, which makes them. Only `vars` does not.
    """

    def prepare(kind: type[T]) -> type[T]:
        for name in names or [field.name for field in dataclasses.fields(cast(Any, kind))]:
            setattr(kind, name, _Part(kind, name))
        setattr(kind, "__getstate__", _all_fields)  # noqa: B010 (of a type known only here)
        return kind

    return prepare


def all_later(kind: type[T], make: Callable[[], T]) -> T:
    """A record that is made, whole and once, when any of its fields is asked for; what `make` raises, asking raises.

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
    """What is copied and pickled: every field, made by now."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def build(kind: Callable[..., T], fields: Mapping[str, Any], later: Mapping[str, Maker]) -> T:
    """A record with those fields, and with those of `later` when they are asked for. A maker is called once (by several
    threads at the same time perhaps more often) and must give what it would have given at once.

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
