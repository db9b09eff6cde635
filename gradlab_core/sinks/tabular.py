"""Records as a tidy table, one number a row, for pandas, R or a spreadsheet: Parquet or CSV."""

from __future__ import annotations

import contextlib
import csv
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gradlab_core.errors import GradlabError, require
from gradlab_core.files import cannot_write, whole_file
from gradlab_core.records import StepRecord
from gradlab_core.sinks.base import Sink
from gradlab_core.sinks.flat import quantities

COLUMNS = ("step", "path", "quantity", "value", "state")
STATE = "state"
Row = tuple[int, str, str, float | None, str | None]
FORMATS = (".parquet", ".csv")
Write = Callable[[StepRecord], None]
PART = 100_000
"""Rows that are collected before they are written to a Parquet file."""


class TableSink(Sink):
    """Writes the table of `export` while the run goes on. The file appears, complete, when the sink is closed.

    In a `with` statement an error or Ctrl-C closes the sink, so what was measured is kept. A process that is killed
    leaves no file; use `JsonlSink` where that matters.

    Args:
        path: the file; an existing one is replaced.
        kind: `.csv` or `.parquet`; by default the ending of the path.

    Raises:
        GradlabError: the ending is another one, or the file cannot be written.
        MissingDependency: pyarrow is not installed (Parquet only).
    """

    def __init__(self, path: str | os.PathLike[str], kind: str | None = None) -> None:
        self.path = Path(path)
        self._open = contextlib.ExitStack()
        self._write: Write | None = self._open.enter_context(_table(self.path, kind or self.path.suffix))

    def __call__(self, record: StepRecord) -> None:
        if self._write is None:
            raise GradlabError(f"{self.path} is closed; open it again to write more")
        try:
            self._write(record)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        self._write = None
        self._open.close()


def export(records: Iterable[StepRecord], path: str | os.PathLike[str]) -> None:
    """Write the rows `(step, path, quantity, value, state)` to a `.parquet` or `.csv` file: a whole file or nothing.

    `path` is empty for the whole net. A row of the quantity `state` has a word in the column `state` and no value; in
    all other rows that column is empty. A value that was not measured, or that does not exist because there is no
    gradient path, is null in Parquet and an empty cell in CSV. NaN and Inf are kept; CSV spells them NaN, Inf, -Inf.

    Raises:
        GradlabError: the ending is another one, or the file cannot be written.
        MissingDependency: pyarrow is not installed (Parquet only).
    """
    target = Path(path)
    with _table(target, target.suffix) as write:
        for record in records:
            write(record)


@contextlib.contextmanager
def _table(target: Path, kind: str) -> Iterator[Write]:
    """A function that writes one record. The file appears when the context ends, with all of them."""
    opened = {".csv": _csv, ".parquet": _parquet}.get(kind.lower())
    if opened is None:
        raise GradlabError(f"{target} ends with {kind!r}; expected {' or '.join(FORMATS)}")
    if opened is _parquet:
        require("pyarrow.parquet", extra="parquet")
    if os.path.isdir(target):  # reported now, not when the finished table is to be moved there
        raise GradlabError(f"cannot write {target}: it is a folder; name a file in it")
    with whole_file(target) as temporary, opened(temporary) as write:
        yield write


def rows(record: StepRecord) -> Iterator[Row]:
    """The rows of one record: first its numbers, then its states."""
    for path, name, value in quantities(record):
        yield record.step, _text(path), name, value, None
    for path, state in record.states.items():
        yield record.step, _text(path), STATE, None, state.value


@functools.cache
def _text(path: str) -> str:
    r"""A path as UTF-8 can encode it: half of a surrogate pair is spelled out.

    >>> _text("a.weight"), _text("a\ud800")
    ('a.weight', 'a\\ud800')
    """
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)

        def write(record: StepRecord) -> None:
            writer.writerows((s, p, q, _cell(value), state or "") for s, p, q, value, state in rows(record))

        yield write


def _cell(value: float | None) -> str:
    """
    >>> [_cell(v) for v in (None, 0.0, float("nan"), float("-inf"), 0.1)]
    ['', '0.0', 'NaN', '-Inf', '0.1']
    """
    if value is None:
        return ""
    return repr(value) if math.isfinite(value) else "NaN" if math.isnan(value) else "Inf" if value > 0 else "-Inf"


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")
    types = (arrow.int64(), arrow.string(), arrow.string(), arrow.float64(), arrow.string())
    schema = arrow.schema(list(zip(COLUMNS, types, strict=True)))
    part: list[Row] = []  # rows are written in parts, so that a long run is not in memory twice
    with parquet.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            # Columns are made from Python lists, so that None becomes null and NaN stays NaN.
            columns = zip(*part, strict=True)
            arrays = [arrow.array(column, kind) for column, kind in zip(columns, types, strict=True)]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))
            part.clear()

        def write(record: StepRecord) -> None:
            part.extend(rows(record))
            if len(part) >= PART:
                flush()

        yield write
        if part:
            flush()
