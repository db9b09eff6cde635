"""Plain JSON values to records: the type and the range of every field are checked, and an error names the field.

The reader of a type is built once and kept, so that a file with many records is read quickly.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import math
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gradlab_core.errors import GradlabError
from gradlab_core.records.ranges import ANY_NUMBER, ANY_WHOLE, OneOf, Range

WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""Numbers that JSON lacks, as a file spells them."""

_LARGEST = sys.float_info.max
Reader = Callable[[Any], Any]


def decode(kind: Any, value: Any, where: str = "record") -> Any:
    """`value` as the type `kind`, or a `GradlabError` that says where it does not fit.

    >>> decode(tuple[float, ...], [0, "NaN"])
    (0.0, nan)
    >>> decode(tuple[float, ...], [0, "none"], "line 3")
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: line 3, [1]: 'none' is not a float
    """
    try:
        return _reader(kind)(value)
    except _Misfit as misfit:
        place = f", {misfit.place.removeprefix('.')}" if misfit.place else ""
        raise GradlabError(f"{where}{place}: {misfit}") from misfit


class _Misfit(Exception):
    """A value that does not fit; each level on the way out puts its own name in front of `place`."""

    place = ""

    def within(self, name: str) -> None:
        self.place = name + self.place


def _short(value: Any) -> str:
    """A value for a message, however long or deep it is."""
    return reprlib.repr(value)


@functools.cache
def _reader(kind: Any) -> Reader:
    """The function that reads that type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _plain(arguments[0], arguments[1])
    if origin in (types.UnionType, typing.Union):  # only `X | None` occurs in records
        return _optional(_reader(arguments[0]))
    if dataclasses.is_dataclass(kind):
        return _record(typing.cast(type, kind))
    if origin is tuple:
        return _many(arguments) if arguments[1:] == (Ellipsis,) else _several(arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(_reader(arguments[1]))
    return _plain(kind, None)


def _plain(kind: Any, limit: Any) -> Reader:
    if kind is float:
        return _real(limit or ANY_NUMBER)
    if kind is int:
        return _integer(limit or ANY_WHOLE)
    if issubclass(kind, enum.Enum):
        return _word({member.value: member for member in kind}, kind.__name__)
    if isinstance(limit, OneOf):
        return _word({word: word for word in limit.words}, kind.__name__)
    return functools.partial(_exactly, kind)


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is kind:
        return value
    raise _Misfit(f"{_short(value)} is not a {kind.__name__}")


def _real(limit: Range) -> Reader:
    least, most = max(limit.least, -_LARGEST), min(limit.most, _LARGEST)

    def read(value: Any) -> float:
        # An ordinary number is by far the most common, so it is tested first.
        if type(value) is float and least <= value <= most:
            return value
        if type(value) is str and value in WORDS:
            number = WORDS[value]
        elif type(value) in (int, float):
            try:
                number = float(value)
            except OverflowError:
                raise _Misfit(f"{_short(value)} is more than a float64 holds") from None
            if not math.isfinite(number):  # 1e999, or a NaN that is no JSON
                raise _Misfit(f"{number} is not a float that JSON has; expected a number or one of {', '.join(WORDS)}")
        else:
            raise _Misfit(f"{_short(value)} is not a float")
        if number < limit.least or number > limit.most:
            raise _Misfit(f"{number} is out of range: {limit.words}")
        return number

    return read


def _integer(limit: Range) -> Reader:
    least, most = limit.least, limit.most

    def read(value: Any) -> int:
        if type(value) is not int:
            raise _Misfit(f"{_short(value)} is not an int")
        if not least <= value <= most:
            raise _Misfit(f"{_short(value)} is out of range: {limit.words}")
        return value

    return read


def _word(known: Mapping[Any, Any], name: str) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is str and value in known:
            return known[value]
        raise _Misfit(f"{_short(value)} is not a {name}; expected one of {', '.join(map(str, known))}")

    return read


def _optional(inner: Reader) -> Reader:
    return lambda value: None if value is None else inner(value)


def _many(arguments: tuple[Any, ...]) -> Reader:
    inner = _reader(arguments[0])
    return lambda value: _items(itertools.repeat(inner), _exactly(list, value))


def _several(arguments: tuple[Any, ...]) -> Reader:
    readers = tuple(map(_reader, arguments))

    def read(value: Any) -> tuple[Any, ...]:
        items = _exactly(list, value)
        if len(items) != len(readers):
            raise _Misfit(f"a list of {len(items)}; expected {len(readers)}")
        return _items(readers, items)

    return read


def _items(readers: Iterable[Reader], items: list[Any]) -> tuple[Any, ...]:
    """Every item by its reader; the place of one that does not fit is named."""
    read: list[Any] = []
    try:
        for inner, item in zip(readers, items, strict=False):  # one reader may serve any number of items
            read.append(inner(item))
    except _Misfit as misfit:
        misfit.within(f"[{len(read)}]")
        raise
    return tuple(read)


def _mapping(inner: Reader) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        items = _exactly(dict, value)
        mapping: dict[str, Any] = {}
        name = ""
        try:
            for name, item in items.items():
                mapping[name] = inner(item)
        except _Misfit as misfit:
            misfit.within(f"[{_short(name)}]")
            raise
        return mapping

    return read


def _record(kind: type) -> Reader:
    hints = typing.get_type_hints(kind, include_extras=True)
    readers = {name: _reader(hint) for name, hint in hints.items()}
    # Only fields without a default must be there: a file may be older than a field, whose default then holds.
    none = dataclasses.MISSING
    needed = frozenset(f.name for f in dataclasses.fields(kind) if f.default is none and f.default_factory is none)

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _Misfit(f"{_short(value)} is not a {kind.__name__}")
        if not needed <= value.keys() <= readers.keys():
            raise _Misfit(
                f"expected the fields {', '.join(sorted(readers))}; missing {sorted(needed - set(value))}, "
                f"unknown {_short(sorted(set(value) - set(readers)))}"
            )
        values: dict[str, Any] = {}
        name = ""
        try:
            for name, item in value.items():
                values[name] = readers[name](item)
        except _Misfit as misfit:
            misfit.within(f".{name}")
            raise
        try:
            return kind(**values)
        except GradlabError as error:  # a record or a spec whose fields do not go together
            raise _Misfit(str(error)) from error

    return read
