"""A record taken apart into columns of numbers and what holds them together, and put together again.

Numbers, yes and no, and words of a fixed list go to columns: one for each such field of the record classes, whose row
holds as many values as the record has tensors, layers, … there. Everything else is the *structure*: names, the lengths
of lists, free text, and whether something is there at all. It rarely changes from one step to the next.

All of it follows from the types of the fields, so a field that is added to a record class needs no line here.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import operator
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from gradlab_core.errors import GradlabError
from gradlab_core.records.later import held
from gradlab_core.records.ranges import ANY_NUMBER, ANY_WHOLE, OneOf, Quotient, Range

Structure = Any
"""Nested tuples (lists, where it comes from a file) of names, lengths and text; None where there is nothing to say."""
Lists = Sequence[list[Any]]
Cursors = Sequence[Iterator[Any]]


@dataclasses.dataclass(frozen=True)
class Column:
    """The values of one field, of every record that stands at its place. `words` are the values that it can have, if
    they are not numbers; `quotient` names two other columns that it is usually the quotient of."""

    name: str
    is_float: bool
    limit: Range
    words: tuple[Any, ...] = ()
    quotient: tuple[str, str] | None = None


class Node:
    """How values of one type are taken apart and put together. A `flat` one has no structure."""

    flat = False

    def split(self, value: Any, lists: Lists) -> Structure:
        """Append the numbers of the value to the lists of its columns, and return its structure."""
        raise NotImplementedError

    def join(self, structure: Structure, cursors: Cursors) -> Any:
        """The value again, from its structure and the next numbers of its columns."""
        raise NotImplementedError

    def split_all(self, values: Collection[Any], lists: Lists) -> Structure:
        structures = tuple([self.split(value, lists) for value in values])
        return None if self.flat else structures

    def join_all(self, count: int, structures: Structure, cursors: Cursors) -> list[Any]:
        every = itertools.repeat(None, count) if structures is None else structures
        return [self.join(structure, cursors) for structure in every]


class _Leaf(Node):
    flat = True

    def __init__(self, place: int) -> None:
        self.place = place

    def split(self, value: Any, lists: Lists) -> Structure:
        lists[self.place].append(value)

    def join(self, structure: Structure, cursors: Cursors) -> Any:
        return next(cursors[self.place])

    def split_all(self, values: Collection[Any], lists: Lists) -> Structure:
        lists[self.place].extend(values)

    def join_all(self, count: int, structures: Structure, cursors: Cursors) -> list[Any]:
        return list(itertools.islice(cursors[self.place], count))


class _Text(Node):
    def split(self, value: Any, lists: Lists) -> Structure:
        return value

    def join(self, structure: Structure, cursors: Cursors) -> Any:
        return structure


class _Optional(Node):
    def __init__(self, inner: Node) -> None:
        self.inner = inner

    def split(self, value: Any, lists: Lists) -> Structure:
        return None if value is None else (self.inner.split(value, lists),)

    def join(self, structure: Structure, cursors: Cursors) -> Any:
        return None if structure is None else self.inner.join(structure[0], cursors)


class _Many(Node):
    """A tuple of any length, all of one type."""

    def __init__(self, inner: Node) -> None:
        self.inner = inner

    def split(self, value: Any, lists: Lists) -> Structure:
        return (len(value), self.inner.split_all(value, lists))

    def join(self, structure: Structure, cursors: Cursors) -> Any:
        count, structures = structure
        return tuple(self.inner.join_all(count, structures, cursors))


class _Several(Node):
    """A tuple of so many values, each of its own type."""

    def __init__(self, inner: Sequence[Node]) -> None:
        self.inner = inner

    def split(self, value: Any, lists: Lists) -> Structure:
        return tuple([node.split(item, lists) for node, item in zip(self.inner, value, strict=True)])

    def join(self, structure: Structure, cursors: Cursors) -> Any:
        return tuple([node.join(part, cursors) for node, part in zip(self.inner, structure, strict=True)])


class _Named(Node):
    """A mapping from names."""

    def __init__(self, inner: Node) -> None:
        self.inner = inner

    def split(self, value: Any, lists: Lists) -> Structure:
        return tuple(value), self.inner.split_all(value.values(), lists)

    def join(self, structure: Structure, cursors: Cursors) -> Any:
        names, structures = structure
        return dict(zip(names, self.inner.join_all(len(names), structures, cursors), strict=True))


class Record(Node):
    """A record class: its leaves are columns, its `others` have a structure."""

    def __init__(self, kind: type, leaves: Mapping[str, _Leaf], others: Mapping[str, Node]) -> None:
        self.kind, self.others = kind, others
        self.flat = not others
        self._names, self._places = tuple(leaves), [leaf.place for leaf in leaves.values()]
        self._row: Callable[[Any], Any] = operator.attrgetter(*leaves) if leaves else lambda value: ()

    @property
    def places(self) -> dict[str, int]:
        """The place of the column of each field that is one."""
        return dict(zip(self._names, self._places, strict=True))

    def split(self, value: Any, lists: Lists) -> Structure:
        for name, place in zip(self._names, self._places, strict=True):
            lists[place].append(getattr(value, name))
        if self.flat:
            return None
        return tuple([(name, node.split(getattr(value, name), lists)) for name, node in self.others.items()])

    def join(self, structure: Structure, cursors: Cursors) -> Any:
        fields = {name: next(cursors[place]) for name, place in zip(self._names, self._places, strict=True)}
        for name, part in structure or ():
            fields[name] = self.others[name].join(part, cursors)
        return self.kind(**fields)

    def split_all(self, values: Collection[Any], lists: Lists) -> Structure:
        if not self.flat or len(self._names) < 2:
            return super().split_all(values, lists)
        for place, column in zip(self._places, zip(*map(self._row, values), strict=True), strict=False):
            lists[place].extend(column)
        return None

    def join_all(self, count: int, structures: Structure, cursors: Cursors) -> list[Any]:
        if not self.flat:
            return super().join_all(count, structures, cursors)
        columns = [itertools.islice(cursors[place], count) for place in self._places]
        rows = (dict(zip(self._names, row, strict=True)) for row in zip(*columns, strict=True))
        if {*self._names} == {field.name for field in dataclasses.fields(self.kind)}:
            return [held(self.kind, row) for row in rows]
        return [self.kind(**row) for row in rows]


@dataclasses.dataclass(frozen=True)
class Table:
    """A type with all its columns; a leaf is found at the same place of `columns`."""

    node: Node
    columns: tuple[Column, ...]


@functools.lru_cache(maxsize=128)
def table(kind: Any, known: tuple[str, ...] | None = None, leave_out: tuple[str, ...] = ()) -> Table:
    """The columns of a type. With `known`, only those that a file has: a field that came later keeps its default. The
    fields of `leave_out`, of the outermost record, are not looked at.

    >>> from gradlab_core.records import TensorNorms
    >>> mapping = table(Mapping[str, TensorNorms])
    >>> [column.name for column in mapping.columns[:4]]
    ['[].param', '[].grad', '[].update', '[].ratio']
    >>> lists = [[] for column in mapping.columns]
    >>> norms = {path: TensorNorms(param=2.0, grad=None, update=1.0, ratio=0.5) for path in ("a", "b")}
    >>> structure = mapping.node.split(norms, lists)
    >>> structure, lists[:3]
    ((('a', 'b'), None), [[2.0, 2.0], [None, None], [1.0, 1.0]])
    >>> mapping.node.join(structure, [iter(column) for column in lists]) == norms
    True
    """
    columns: list[Column] = []
    return Table(_node(kind, "", columns, known, leave_out), tuple(columns))


def parts(kind: type) -> dict[str, Any]:
    """The fields of a record class that hold more than a number and may be missing: what few records have."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: _inner(hint) for name, hint in hints.items() if _inner(hint) is not None and not _is_leaf(hint)}


def _inner(hint: Any) -> Any:
    """X of `X | None`; None for any other type."""
    is_optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint)[0] if is_optional else None


def _is_leaf(hint: Any) -> bool:
    hint = _inner(hint) or hint
    if typing.get_origin(hint) is typing.Annotated:
        plain, limit = typing.get_args(hint)[:2]
        return plain in (int, float) or isinstance(limit, OneOf)
    return isinstance(hint, type) and issubclass(hint, (int, float, enum.Enum))  # a bool is an int


def _column(hint: Any, name: str) -> Column:
    hint = _inner(hint) or hint
    notes = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
    plain = typing.get_args(hint)[0] if notes else hint
    limit = next((note for note in notes if isinstance(note, Range)), ANY_NUMBER if plain is float else ANY_WHOLE)
    words: tuple[Any, ...] = next((note.words for note in notes if isinstance(note, OneOf)), ())
    if plain is bool:
        words = (False, True)
    elif issubclass(plain, enum.Enum):
        words = tuple(plain)
    quotient = next((note for note in notes if isinstance(note, Quotient)), None)
    beside = name[: name.rfind(".") + 1]
    pair = None if quotient is None else (beside + quotient.above, beside + quotient.below)
    return Column(name, plain is float, limit, words, pair)


def _node(hint: Any, name: str, columns: list[Column], known: Collection[str] | None, out: Collection[str]) -> Node:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if _is_leaf(hint):
        columns.append(_column(hint, name))
        return _Leaf(len(columns) - 1)
    if _inner(hint) is not None:
        return _Text() if _inner(hint) is str else _Optional(_node(_inner(hint), name, columns, known, ()))
    if dataclasses.is_dataclass(hint):
        return _record(typing.cast(type, hint), name, columns, known, out)
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return _Many(_node(arguments[0], f"{name}[]", columns, known, ()))
    if origin is tuple:
        return _Several([_node(a, f"{name}[{i}]", columns, known, ()) for i, a in enumerate(arguments)])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _Named(_node(arguments[1], f"{name}[]", columns, known, ()))
    if hint is str:
        return _Text()
    raise GradlabError(f"{name or hint} has the type {hint}, which is no type of a record's field")


def _record(kind: type, name: str, columns: list[Column], known: Collection[str] | None, out: Collection[str]) -> Node:
    hints = typing.get_type_hints(kind, include_extras=True)
    places = {field: f"{name}.{field}" if name else field for field in hints if field not in out}
    leaves: dict[str, _Leaf] = {}
    for field, place in places.items():
        if _is_leaf(hints[field]) and (known is None or place in known):
            columns.append(_column(hints[field], place))
            leaves[field] = _Leaf(len(columns) - 1)
    others = {f: _node(hints[f], p, columns, known, ()) for f, p in places.items() if not _is_leaf(hints[f])}
    return Record(kind, leaves, others)
