"""How the columns of a record lie in a row of bytes, each in the smallest form that loses nothing.

A missing number is a NaN with bits of its own, or the least whole number; every other NaN has the usual bits.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.records.columns import Column

ABSENT, QUOTIENT = "-", "/"
"""Forms without bytes: every value is missing; every value is the quotient of two other columns."""
FLOATS = (ABSENT, QUOTIENT, "<f4", "<f8")
WHOLES = (ABSENT, "<i1", "<i2", "<i4", "<i8")
_MISSING = {"<f4": (np.uint32, 0x7FC00001), "<f8": (np.uint64, 0x7FF8000000000001)}


@dataclasses.dataclass(frozen=True)
class Stored:
    """One column of a row: its form, and how many values it has there."""

    name: str
    form: str
    width: int

    @property
    def size(self) -> int:
        return 0 if self.form in (ABSENT, QUOTIENT) else self.width * np.dtype(self.form).itemsize


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a row holds: the structure of the record and its columns, one after the other."""

    structure: Any
    columns: tuple[Stored, ...]

    @functools.cached_property
    def place(self) -> dict[str, int]:
        """The first byte of each column."""
        places, at = {}, 0
        for column in self.columns:
            places[column.name] = at
            at += column.size
        return places

    @functools.cached_property
    def size(self) -> int:
        return sum(column.size for column in self.columns)

    @functools.cached_property
    def named(self) -> dict[str, Stored]:
        return {column.name: column for column in self.columns}

    def forms(self, names: Iterable[str]) -> set[str]:
        """The forms of these columns; one that is not there has none."""
        return {self.named[name].form if name in self.named else "" for name in names}


def quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The ratio of two norms, value by value: 0/0 is 0.

    >>> quotient(np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 4.0])).tolist()
    [0.0, inf, 0.25]
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        ratio = above / below
    return np.where((above == 0) & (below == 0), 0.0, ratio)


class Packer:
    """Packs the numbers of records of one structure into rows. A column that once needed a wide form keeps it, so that
    the layout changes a few times at most."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._codes = [{word: code for code, word in enumerate(column.words)} for column in columns]
        self._at = {column.name: i for i, column in enumerate(columns)}
        self._levels = [0] * len(columns)

    def pack(self, lists: Sequence[list[Any]]) -> tuple[tuple[Stored, ...], bytes]:
        """The form of every column for these values, and their bytes."""
        reals = _Reals([values if column.is_float else [] for column, values in zip(self._columns, lists, strict=True)])
        packed = [
            self._reals(i, reals) if column.is_float else self._wholes(i, values)
            for i, (column, values) in enumerate(zip(self._columns, lists, strict=True))
        ]
        forms = zip(self._columns, packed, lists, strict=True)
        stored = tuple([Stored(column.name, form, len(values)) for column, (form, _), values in forms])
        return stored, b"".join([data for _, data in packed])

    def _reals(self, i: int, reals: _Reals) -> tuple[str, bytes]:
        while True:  # the last form fits everything
            form = FLOATS[self._levels[i]]
            if form == ABSENT and reals.are_missing(i):
                return form, b""
            pair = [self._at[name] for name in self._columns[i].quotient or ()]
            if form == QUOTIENT and pair and reals.are_quotient(i, *pair):
                return form, b""
            if form == "<f4" and reals.are_narrow(i):
                return form, reals.narrow[reals.part[i]].tobytes()
            if form == "<f8":
                return form, reals.wide[reals.part[i]].tobytes()
            self._levels[i] += 1

    def _wholes(self, i: int, values: list[Any]) -> tuple[str, bytes]:
        codes = self._codes[i]
        try:
            numbers = [None if v is None else codes[v] for v in values] if codes else values
        except KeyError as error:
            known = ", ".join(str(word) for word in codes)
            raise GradlabError(f"{self._columns[i].name} is {error.args[0]!r}; expected one of {known}") from error
        there = [number for number in numbers if number is not None]
        least, most = min(there, default=0), max(there, default=0)
        while (WHOLES[self._levels[i]] == ABSENT and there) or not _holds(WHOLES[self._levels[i]], least, most):
            self._levels[i] += 1
            if self._levels[i] == len(WHOLES):
                self._levels[i] -= 1
                raise GradlabError(f"{self._columns[i].name} holds {least} to {most}; a file has 64 bits for it")
        form = WHOLES[self._levels[i]]
        if form == ABSENT:
            return form, b""
        if len(there) < len(numbers):
            numbers = [_bounds(form)[0] if number is None else number for number in numbers]
        return form, np.array(numbers, np.int64).astype(form).tobytes()


class _Reals:
    """The floats of a record, all columns in one vector: in float64, and in float32 where that is the same number."""

    def __init__(self, lists: Sequence[list[float | None]]) -> None:
        values = [value for column in lists for value in column]
        ends = np.cumsum([len(column) for column in lists]).tolist()
        self.part = [slice(end - len(column), end) for column, end in zip(lists, ends, strict=True)]
        self.wide = np.array(values, np.float64)
        nan = np.isnan(self.wide)
        self._missing = np.array([value is None for value in values]) if nan.any() else nan
        with np.errstate(over="ignore", under="ignore"):
            self.narrow = self.wide.astype(np.float32)
        self._wider = (self.narrow != self.wide) & ~nan
        self._is_narrow = not self._wider.any()
        for vector in (self.wide, self.narrow):
            bits, missing = _MISSING[vector.dtype.str]
            vector[nan] = np.nan
            vector.view(bits)[self._missing] = missing

    def are_missing(self, i: int) -> bool:
        return bool(self._missing[self.part[i]].all())

    def are_narrow(self, i: int) -> bool:
        return self._is_narrow or not self._wider[self.part[i]].any()

    def are_quotient(self, i: int, above: int, below: int) -> bool:
        ratio = quotient(self.wide[self.part[above]], self.wide[self.part[below]])
        ratio[np.isnan(ratio)] = np.nan
        return ratio.tobytes() == self.wide[self.part[i]].tobytes()


def unpack(layout: Layout, column: Column, rows: np.ndarray, begin: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column and where they are missing, both with one line a row.

    Args:
        layout: of these rows.
        column: to be read.
        rows: bytes, one line a row, from byte `begin` of the row on.
    """
    stored = layout.named[column.name]
    shape = (len(rows), stored.width)
    if stored.form == ABSENT:
        return np.full(shape, np.nan if column.is_float else 0), np.ones(shape, bool)
    if stored.form == QUOTIENT:
        assert column.quotient is not None  # refused when the layout was read
        sides = [_raw(layout, name, rows, begin).astype(np.float64) for name in column.quotient]
        return quotient(*sides), np.zeros(shape, bool)
    raw = _raw(layout, column.name, rows, begin)
    if not column.is_float:
        return raw.astype(np.int64), raw == _bounds(stored.form)[0]
    bits, missing = _MISSING[stored.form]
    return raw.astype(np.float64), raw.view(bits) == missing


def listed(column: Column, numbers: np.ndarray, missing: np.ndarray) -> list[Any]:
    """The values of one row of a column, as a record has them."""
    values = numbers.tolist()
    if missing.any():
        values = [None if gone else value for value, gone in zip(values, missing.tolist(), strict=True)]
    return [None if code is None else column.words[code] for code in values] if column.words else values


def misfits(column: Column, numbers: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Where there is a number that the field cannot have."""
    least, most = (0, len(column.words) - 1) if column.words else (column.limit.least, column.limit.most)
    return np.flatnonzero(((numbers < least) | (numbers > most)) & ~missing)


def _raw(layout: Layout, name: str, rows: np.ndarray, begin: int) -> np.ndarray:
    stored, at = layout.named[name], layout.place[name] - begin
    return np.ascontiguousarray(rows[:, at : at + stored.size]).view(stored.form)


def _holds(form: str, least: int, most: int) -> bool:
    """Whether a form holds these numbers, beside the one that says that a number is missing."""
    low, high = _bounds(form)
    return form == ABSENT or (low < least and most <= high)


def _bounds(form: str) -> tuple[int, int]:
    if form == ABSENT:
        return 0, 0
    info = np.iinfo(form)
    return int(info.min), int(info.max)
