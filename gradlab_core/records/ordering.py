"""The records of one run in the order of their steps."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from gradlab_core.records import frames
from gradlab_core.records.shown import steps_table
from gradlab_core.records.step import StepRecord


class RecordedRun(tuple[StepRecord, ...]):
    """The records of one run by step, each step once. What is such a run already is taken as it is, so that whoever
    needs one may ask for it and only the first who asks sorts.

    A run that was continued from a checkpoint may have recorded some steps twice: the later record counts. A newer
    attempt, where the records tell it, also takes the place of whatever older attempts recorded beyond its first step.

    Attributes:
        repeated: how many earlier records were left out.
        config: the hyperparameters of the run, by name.
        cut_off: whether its file ends with a record that was being written when the process was killed.
        paths: of all tensors that have norms at any step, in the order of the model.

    >>> from types import SimpleNamespace as Record
    >>> run = RecordedRun([Record(step=1, loss=2.0, attempt=0), Record(step=0, loss=3.0, attempt=0),
    ...     Record(step=1, loss=1.0, attempt=0)])
    >>> [(record.step, record.loss) for record in run], run.repeated
    ([(0, 3.0), (1, 1.0)], 1)
    >>> RecordedRun(run) is run
    True
    """

    repeated: int
    config: Mapping[str, Any]
    cut_off: bool

    def __new__(
        cls, records: Iterable[StepRecord], *, config: Mapping[str, Any] | None = None, cut_off: bool = False
    ) -> Self:
        if isinstance(records, cls):
            return records
        every = list(records)
        by_step = {record.step: record for record in _current(every)}
        run = super().__new__(cls, [by_step[step] for step in sorted(by_step)])
        run.repeated = len(every) - len(run)
        run.config, run.cut_off = config or {}, cut_off
        return run

    def to_pandas(self, of: str = "steps") -> Any:
        """A `pandas.DataFrame`: a row for each step, or with `of="tensors"` for each tensor at each step. Its types can
        miss a value, so that missing and NaN stay two things.

        Raises:
            GradlabError: `of` is something else.
            MissingDependency: pandas is not installed.
        """
        return frames.to_pandas(frames.series(self, of))

    def to_polars(self, of: str = "steps") -> Any:
        """The same as a `polars.DataFrame`."""
        return frames.to_polars(frames.series(self, of))

    def to_arrow(self, of: str = "steps") -> Any:
        """The same as a `pyarrow.Table`."""
        return frames.to_arrow(frames.series(self, of))

    def _repr_html_(self) -> str:
        return steps_table(self, self.config)

    @functools.cached_property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for record in self for path in record.tensors))


def _current(records: Sequence[StepRecord]) -> Iterator[StepRecord]:
    """The records that no newer attempt has taken the place of."""
    begins: dict[int, int] = {}
    for record in records:
        begins[record.attempt] = min(record.step, begins.get(record.attempt, record.step))
    ends = {attempt: min((b for a, b in begins.items() if a > attempt), default=math.inf) for attempt in begins}
    return (record for record in records if record.step < ends[record.attempt])
