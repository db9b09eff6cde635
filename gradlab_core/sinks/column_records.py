"""The records of a file of columns. Their plain numbers are read at once, tensors, states and the like when somebody
looks at them: most steps are recorded, and few are read in full."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.records import StepRecord
from gradlab_core.records.columns import Node, Record
from gradlab_core.records.later import Maker, held
from gradlab_core.sinks.column_file import PARTS, ColumnFile, Described, Unfit


@dataclasses.dataclass(frozen=True)
class _Nested:
    """A field that is more than a number: how it is put together, and which bytes of the row are its own."""

    name: str
    node: Node
    structure: Any
    places: Sequence[int]
    begin: int
    end: int
    is_shared: bool
    """Whether records with the same bytes share the value, as they do their states: it holds no measured number."""


class _Layout:
    """What the records of one layout have."""

    def __init__(self, described: Described, where: str) -> None:
        node, columns = described.table.node, described.table.columns
        assert isinstance(node, Record)
        self.described, self.plain = described, node.places
        self.plain_size = described.span(list(self.plain.values()))[1]
        structures = dict(described.layout.structure or ())
        self.nested: dict[str, _Nested] = {}
        for name, structure in structures.items():
            if name not in node.others:
                raise GradlabError(f"{where}: unknown field {name!r}; a later version of gradlab wrote it")
            places = [i for i, column in enumerate(columns) if column.name.startswith((f"{name}[", f"{name}."))]
            is_shared = not any(columns[place].is_float for place in places)
            span = described.span(places)
            self.nested[name] = _Nested(name, node.others[name], structure, places, *span, is_shared)
        self.defaults: dict[str, Any] = dict.fromkeys(PARTS)
        self.factories: dict[str, Maker] = {}
        for field in dataclasses.fields(StepRecord):  # a file may be older than a field, whose default then holds
            if field.name in {*self.plain, *structures, *PARTS}:
                continue
            if field.default_factory is not dataclasses.MISSING:
                self.factories[field.name] = field.default_factory
            elif field.default is not dataclasses.MISSING:
                self.defaults[field.name] = field.default
            else:
                raise GradlabError(f"{where}: the field {field.name!r} is missing; an earlier version wrote the file")


class ColumnRecords:
    """The `records` of a file, in the order in which they were written. They keep its bytes in memory."""

    def __init__(self, file: ColumnFile) -> None:
        self._file = file
        self._layouts = {number: _Layout(file.layout(number), file.where) for number in {n for n, _ in file.rows}}
        self._shared: dict[tuple[int, str, bytes], Any] = {}
        self.records = self._made()

    def paths(self, run: Iterable[StepRecord]) -> tuple[str, ...]:
        """The paths of all tensors of these records, known without a look at their norms."""
        number = {id(record): number for record, (number, _) in zip(self.records, self._file.rows, strict=True)}
        layouts = [self._layouts[n] for n in dict.fromkeys(number[id(record)] for record in run)]
        names = [layout.nested["tensors"].structure[0] for layout in layouts]
        return tuple(dict.fromkeys(itertools.chain.from_iterable(names)))

    def _made(self) -> list[StepRecord]:
        own: dict[int, list[int]] = {}
        for record, (number, _) in enumerate(self._file.rows):
            own.setdefault(number, []).append(record)
        made: dict[int, StepRecord] = {}
        for number, places in own.items():
            layout = self._layouts[number]
            for record, fields in zip(places, self._plain(layout, places), strict=True):
                made[record] = held(StepRecord, fields, _Makers(self, layout, record))
        for part, rows in self._file.beside.items():
            for record in rows:
                del made[record].__dict__[part]
        return [made[record] for record in range(len(made))]

    def _plain(self, layout: _Layout, records: list[int]) -> Iterator[dict[str, Any]]:
        view, size = memoryview(self._file.data), layout.plain_size
        starts = [self._file.rows[record][1] for record in records]
        rows = np.frombuffer(b"".join([view[start : start + size] for start in starts]), np.uint8)
        try:
            table = rows.reshape(len(records), size)
            columns: list[Iterable[Any]] = [layout.described.values(at, table) for at in layout.plain.values()]
        except Unfit as unfit:
            raise GradlabError(f"{self._file.place(records[unfit.at])}, {unfit.column.name}: {unfit}") from None
        columns += [itertools.repeat(value, len(records)) for value in layout.defaults.values()]
        names = [*layout.plain, *layout.defaults]
        return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))

    def maker(self, layout: _Layout, name: str, record: int) -> Maker | None:
        """What makes a field of a record that is not plain."""
        if name in layout.nested:
            return functools.partial(self._field, layout, layout.nested[name], record)
        if record in self._file.beside.get(name, ()):
            return functools.partial(self._part, name, record)
        return layout.factories.get(name)

    def _field(self, layout: _Layout, nested: _Nested, record: int) -> Any:
        start = self._file.rows[record][1]
        data = self._file.data[start + nested.begin : start + nested.end]
        if not nested.is_shared:
            return self._joined(layout.described, nested, data, record)
        key = self._file.rows[record][0], nested.name, data
        if key not in self._shared:
            self._shared[key] = self._joined(layout.described, nested, data, record)
        return self._shared[key]

    def _part(self, part: str, record: int) -> Any:
        number, start = self._file.beside[part][record]
        described = self._file.layout(number)
        size, places = described.layout.size, range(len(described.table.columns))
        nested = _Nested(part, described.table.node, described.layout.structure, places, 0, size, False)
        return self._joined(described, nested, self._file.data[start : start + size], record)

    def _joined(self, described: Described, nested: _Nested, data: bytes, record: int) -> Any:
        row = np.frombuffer(data, np.uint8).reshape(1, len(data))
        try:
            columns = {place: iter(described.values(place, row, nested.begin)) for place in nested.places}
            cursors = [columns.get(place, iter(())) for place in range(len(described.table.columns))]
            return nested.node.join(nested.structure, cursors)
        except Unfit as unfit:
            raise GradlabError(f"{self._file.place(record)}, {_named(nested, unfit)}: {unfit}") from None
        except (TypeError, ValueError, KeyError, StopIteration) as error:
            raise GradlabError(f"{self._file.place(record)}: its layout does not go together ({error})") from error


class _Makers:
    """The makers of the fields of one record: 10,000 records need no dictionary each."""

    __slots__ = ("_layout", "_record", "_records")

    def __init__(self, records: ColumnRecords, layout: _Layout, record: int) -> None:
        self._records, self._layout, self._record = records, layout, record

    def get(self, name: str) -> Maker | None:
        return self._records.maker(self._layout, name, self._record)


def _named(nested: _Nested, unfit: Unfit) -> str:
    """The place of a number: with the name of the tensor, if the field is a mapping from names to records."""
    name, structure = unfit.column.name, nested.structure
    if name.count("[]") == 1 and isinstance(structure, list) and len(structure) == 2 and structure[1] is None:
        return name.replace("[]", f"[{structure[0][unfit.at]!r}]")
    return name
