"""The records of a run as data frames: columns of numbers, in which missing, NaN, ±Inf and 0 stay four things."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from gradlab_core.errors import GradlabError, require
from gradlab_core.records.columns import Record, table
from gradlab_core.records.step import StepRecord, TensorNorms

STEPS, TENSORS = OF = ("steps", "tensors")


@dataclasses.dataclass(frozen=True)
class Series:
    """One column: `kind` is float, int, bool or str, a missing value is None."""

    kind: type
    values: list[Any]


def series(run: Iterable[StepRecord], of: str) -> dict[str, Series]:
    """The columns of a frame.

    Args:
        run: the records.
        of: `steps`: a row for each step, with what was measured of the whole net; `tensors`: a row for each tensor at
            each step, with its norms and its state. A user's own quantities have columns of their names.
    """
    if of == STEPS:
        return _of_steps(list(run))
    if of == TENSORS:
        return _of_tensors(run)
    raise GradlabError(f"of is {of!r}; expected one of {', '.join(OF)}")


def plain(kind: type) -> dict[str, type]:
    """The fields of a record class that are a number, a word, or yes or no, with the type of their column.

    >>> list(plain(TensorNorms))[:4]
    ['param', 'grad', 'update', 'ratio']
    """
    own = table(kind)
    assert isinstance(own.node, Record)
    kinds: dict[str, type] = {}
    for name, place in own.node.places.items():
        column = own.columns[place]
        is_bool = column.words == (False, True)
        kinds[name] = float if column.is_float else bool if is_bool else str if column.words else int
    return kinds


def _of_steps(run: list[StepRecord]) -> dict[str, Series]:
    columns = {name: Series(kind, [getattr(r, name) for r in run]) for name, kind in plain(StepRecord).items()}
    for name in dict.fromkeys(name for record in run for name in record.quantities):
        held = [record.quantities.get(name) for record in run]
        columns.setdefault(name, Series(float, [None if values is None else values.whole for values in held]))
    return columns


def _of_tensors(run: Iterable[StepRecord]) -> dict[str, Series]:
    kinds = plain(TensorNorms)
    columns = {"step": Series(int, []), "path": Series(str, []), **{n: Series(kind, []) for n, kind in kinds.items()}}
    columns["state"] = Series(str, [])
    count = 0
    for record in run:
        paths = list(dict.fromkeys([*record.tensors, *record.states]))
        norms = [record.tensors.get(path) for path in paths]
        columns["step"].values.extend([record.step] * len(paths))
        columns["path"].values.extend(path.encode("utf-8", "backslashreplace").decode("utf-8") for path in paths)
        for name in kinds:
            columns[name].values.extend([None if each is None else getattr(each, name) for each in norms])
        states = [record.states.get(path) for path in paths]
        columns["state"].values.extend([None if state is None else state.value for state in states])
        for name, values in record.quantities.items():
            column = columns.setdefault(name, Series(float, []))
            column.values.extend([None] * (count - len(column.values)))
            column.values.extend([values.tensors.get(path) for path in paths])
        count += len(paths)
    for column in columns.values():  # of a quantity that was not measured to the end
        column.values.extend([None] * (count - len(column.values)))
    return columns


def to_arrow(columns: dict[str, Series]) -> Any:
    arrow = require("pyarrow", extra="parquet")
    kinds = {float: arrow.float64(), int: arrow.int64(), bool: arrow.bool_(), str: arrow.string()}
    return arrow.table({name: arrow.array(one.values, kinds[one.kind]) for name, one in columns.items()})


def to_polars(columns: dict[str, Series]) -> Any:
    polars = require("polars", extra="polars")
    kinds = {float: polars.Float64, int: polars.Int64, bool: polars.Boolean, str: polars.String}
    made = [polars.Series(name, one.values, dtype=kinds[one.kind]) for name, one in columns.items()]
    return polars.DataFrame(made)


def to_pandas(columns: dict[str, Series]) -> Any:
    """With pandas' types that can miss a value: in its usual ones, missing is NaN."""
    pandas = require("pandas", extra="pandas")
    import numpy as np

    def array(one: Series) -> Any:
        missing = np.array([value is None for value in one.values], bool)
        if one.kind is float:  # made of its parts, since `pandas.array` takes NaN for missing
            return pandas.arrays.FloatingArray(np.array(one.values, np.float64), missing)
        kinds: dict[type, Any] = {int: "Int64", bool: "boolean", str: "string"}
        return pandas.array(one.values, dtype=kinds[one.kind])

    return pandas.DataFrame({name: array(one) for name, one in columns.items()})
