"""A file of columns, read: its frames are checked and counted at once, its numbers when somebody asks for them."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.records import StepRecord, codec
from gradlab_core.records.columns import Column, Table, parts, table
from gradlab_core.sinks import column_rows
from gradlab_core.sinks.column_rows import ABSENT, FLOATS, QUOTIENT, WHOLES, Layout, Stored
from gradlab_core.sinks.columns import FRAME, HEADER, NOTE, NUMBER, Key

PARTS = parts(StepRecord)
"""The fields of a record that have rows of their own."""
Row = tuple[int, int]
"""The number of its layout, and its first byte in the file."""


class Unfit(Exception):
    """A number that its field cannot have: of which column, and which of the numbers asked for it is."""

    def __init__(self, column: Column, at: int, number: float) -> None:
        words = f"a word of {len(column.words)}" if column.words else column.limit.words
        super().__init__(f"{number} is out of range: {words}")
        self.column, self.at = column, at


@dataclasses.dataclass(frozen=True)
class Described:
    """A layout with the columns that this version of the record classes has for it."""

    part: str
    layout: Layout
    table: Table

    def values(self, place: int, rows: np.ndarray, begin: int = 0) -> list[Any]:
        """The values of one column in rows of bytes, those of the first row first.

        Raises:
            Unfit: the field cannot have one of them.
        """
        column = self.table.columns[place]
        stored = self.layout.named.get(column.name)
        if stored is None or stored.form == ABSENT:  # of a later field, or not measured, as most columns of most runs
            return [None] * (len(rows) * stored.width) if stored else []
        numbers, missing = (each.ravel() for each in column_rows.unpack(self.layout, column, rows, begin))
        misfits = column_rows.misfits(column, numbers, missing)
        if len(misfits):
            raise Unfit(column, int(misfits[0]), numbers[misfits[0]].item())
        return column_rows.listed(column, numbers, missing)

    def span(self, places: Sequence[int]) -> tuple[int, int]:
        """The bytes of a row that hold these columns, which are neighbours."""
        names = [name for place in places if (name := self.table.columns[place].name) in self.layout.named]
        if not names:
            return 0, 0
        return self.layout.place[names[0]], self.layout.place[names[-1]] + self.layout.named[names[-1]].size


class ColumnFile:
    """The frames of a file.

    Args:
        data: all bytes of the file.
        where: its name, for errors.

    Attributes:
        rows: of the records, in the order in which they were written.
        beside: `{part: {place of the record: row}}` for what few records have.
        config: the hyperparameters.
        attempt: the newest.
        end: the bytes up to the end of the last whole record.

    Raises:
        GradlabError: a frame is damaged, or holds what this version of gradlab cannot read.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where = data, where
        self.rows: list[Row] = []
        self.beside: dict[str, dict[int, Row]] = {name: {} for name in PARTS}
        self.config: dict[str, Any] = {}
        self.attempt, self.end = 0, len(HEADER)
        self._layouts: list[Described] = []
        self._whole_layouts = 0
        self._tables: dict[tuple[str, tuple[str, ...]], Table] = {}
        self._scan()

    @property
    def cut_off(self) -> bool:
        """Whether a record is half written at the end."""
        return self.end < len(self.data)

    def numbers(self) -> dict[Key, int]:
        """The numbers of the layouts that whole records have."""
        whole = enumerate(self._layouts[: self._whole_layouts], start=1)
        return {(read.part, _tuples(read.layout.structure), read.layout.columns): number for number, read in whole}

    def layout(self, number: int) -> Described:
        return self._layouts[number - 1]

    def place(self, record: int) -> str:
        return f"{self.where}, record {record + 1}"

    def _scan(self) -> None:
        pending: dict[str, Row] = {}
        usual: dict[int, int] = {}
        for number, begin, end in self._frames():
            if usual.get(number) == end - begin and not pending:  # by far the most common
                self.rows.append((number, begin))
                self.end = end
                continue
            where = self.place(len(self.rows))
            if number == NOTE:
                note = codec.loads(self.data[begin:end], where, "expected a note of gradlab")
                if "layout" in note:
                    self._layouts.append(self._known(note["layout"]))
                    continue
                self.attempt, self.config = note["attempt"], {**self.config, **note["config"]}
            elif not 0 < number <= len(self._layouts) or self.layout(number).layout.size != end - begin:
                raise GradlabError(f"{where}: no layout {number} of {end - begin} bytes is known")
            elif self.layout(number).part:
                pending[self.layout(number).part] = number, begin
                continue
            else:
                for part, row in pending.items():
                    self.beside[part][len(self.rows)] = row
                pending.clear()
                usual[number] = end - begin
                self.rows.append((number, begin))
            self.end, self._whole_layouts = end, len(self._layouts)

    def _frames(self) -> Iterator[tuple[int, int, int]]:
        """The number of the layout of each whole frame, and where what it holds begins and ends."""
        view, at, size = memoryview(self.data), len(HEADER), len(self.data)
        while at + FRAME.size <= size:
            length, crc = FRAME.unpack_from(view, at)
            begin = at + FRAME.size + NUMBER.size
            if begin + length > size:
                return
            if zlib.crc32(view[at + FRAME.size : begin + length]) != crc:
                if not any(view[at:]):  # what a power cut leaves: room that was never filled
                    return
                raise GradlabError(f"{self.place(len(self.rows))}: the checksum is wrong; the file was damaged")
            yield NUMBER.unpack_from(view, at + FRAME.size)[0], begin, begin + length
            at = begin + length

    def _known(self, note: dict[str, Any]) -> Described:
        """A layout as its note tells it, checked against the record classes of this version."""
        where, part = self.place(len(self.rows)), note["part"]
        layout = Layout(note["structure"], tuple(Stored(*column) for column in note["columns"]))
        names = tuple(layout.named)
        if part and part not in PARTS:
            raise GradlabError(f"{where}: unknown field {part!r}; a later version of gradlab wrote it")
        if (part, names) not in self._tables:
            self._tables[part, names] = _table(part, names, note["words"], where)
        described = Described(part, layout, self._tables[part, names])
        for column in described.table.columns:
            if column.name not in layout.named:  # it came later
                continue
            form, pair = layout.named[column.name].form, column.quotient or (column.name,)
            if form not in {*FLOATS, *WHOLES} or (form == QUOTIENT and layout.forms(pair) - {"<f4", "<f8"}):
                raise GradlabError(
                    f"{where}, {column.name}: unknown form {form!r}; a later version of gradlab wrote it"
                )
        return described


def _table(part: str, names: tuple[str, ...], words: Mapping[str, list[Any]], where: str) -> Table:
    """The columns of a layout as the record classes have them."""
    own = table(PARTS[part], names) if part else table(StepRecord, names, tuple(PARTS))
    unknown = sorted({*names} - {column.name for column in own.columns})
    if unknown:
        raise GradlabError(f"{where}: unknown fields {unknown}; a later version of gradlab wrote the file")
    return Table(own.node, tuple(_with_words(column, words.get(column.name, []), where) for column in own.columns))


def _with_words(column: Column, words: list[Any], where: str) -> Column:
    """The column with its words in the order that the file has."""
    members = {getattr(word, "value", word): word for word in column.words}
    unknown = [word for word in words if word not in members]
    if unknown:
        raise GradlabError(f"{where}, {column.name}: unknown {unknown}; expected one of {', '.join(map(str, members))}")
    return dataclasses.replace(column, words=tuple(members[word] for word in words))


def _tuples(structure: Any) -> Any:
    """A structure from a file as a record gives it."""
    return tuple(map(_tuples, structure)) if isinstance(structure, list) else structure
