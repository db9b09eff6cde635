"""Records as a tidy table, one number a row, for pandas, R or a spreadsheet: Parquet or CSV."""

from __future__ import annotations

import csv
import functools
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from gradlab_core.errors import GradlabError, require
from gradlab_core.files import whole_file
from gradlab_core.records import StepRecord
from gradlab_core.sinks.flat import quantities

COLUMNS = ("step", "path", "quantity", "value", "state")
STATE = "state"
Row = tuple[int, str, str, float | None, str | None]
FORMATS = (".parquet", ".csv")


def export(records: Iterable[StepRecord], path: str | os.PathLike[str]) -> None:
    """Write the rows `(step, path, quantity, value, state)` to a `.parquet` or `.csv` file: a whole file or nothing.

    `path` is empty for the whole net. A row of the quantity `state` has its word in the column `state` and no value; in
    all others that column is empty. A value that was not measured, or that does not exist because there is no gradient
    path, is null in Parquet and an empty cell in CSV. NaN and Inf stay what they are; CSV spells them NaN, Inf, -Inf.

    Raises:
        GradlabError: another ending, or the file cannot be written.
        MissingDependency: pyarrow is not installed (Parquet only).
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in FORMATS:
        raise GradlabError(f"{target} ends with {target.suffix!r}; expected {' or '.join(FORMATS)}")
    write = _parquet if kind == ".parquet" else _csv
    if write is _parquet:
        require("pyarrow.parquet", extra="parquet")
    with whole_file(target) as temporary:
        write(records, temporary)


def rows(record: StepRecord) -> Iterator[Row]:
    """The rows of one record: its numbers, then its states."""
    for path, name, value in quantities(record):
        yield record.step, _text(path), name, value, None
    for path, state in record.states.items():
        yield record.step, _text(path), STATE, None, state.value


@functools.cache
def _text(path: str) -> str:
    r"""A path as UTF-8 can say it: half a character is spelled out.

    >>> _text("a.weight"), _text("a\ud800")
    ('a.weight', 'a\\ud800')
    """
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _csv(records: Iterable[StepRecord], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for record in records:
            writer.writerows((s, p, q, _cell(value), state or "") for s, p, q, value, state in rows(record))


def _cell(value: float | None) -> str:
    """
    >>> [_cell(v) for v in (None, 0.0, float("nan"), float("-inf"), 0.1)]
    ['', '0.0', 'NaN', '-Inf', '0.1']
    """
    if value is None:
        return ""
    return repr(value) if math.isfinite(value) else "NaN" if math.isnan(value) else "Inf" if value > 0 else "-Inf"


def _parquet(records: Iterable[StepRecord], path: Path) -> None:
    arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")
    types = (arrow.int64(), arrow.string(), arrow.string(), arrow.float64(), arrow.string())
    schema = arrow.schema(list(zip(COLUMNS, types, strict=True)))
    with parquet.ParquetWriter(path, schema) as writer:
        for part in _parts(records):
            # Column by column from Python lists: so None becomes null and NaN stays NaN.
            columns = zip(*part, strict=True)
            arrays = [arrow.array(column, kind) for column, kind in zip(columns, types, strict=True)]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))


def _parts(records: Iterable[StepRecord], size: int = 100_000) -> Iterator[list[Row]]:
    """The rows in parts of at least so many, so that a long run need not be in memory twice."""
    part: list[Row] = []
    for record in records:
        part += rows(record)
        if len(part) >= size:
            yield part
            part = []
    if part:
        yield part
