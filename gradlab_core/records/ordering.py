"""The records of one run in the order of their steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from gradlab_core.records.step import StepRecord


class RecordedRun(tuple[StepRecord, ...]):
    """The records of one run by step, each step once. What is such a run already is taken as it is, so that whoever
    needs one may ask for it and only the first who asks sorts.

    A run that was continued from a checkpoint has recorded some steps twice: the later record counts.

    Attributes:
        repeated: how many earlier records were left out.

    >>> from types import SimpleNamespace as Record
    >>> run = RecordedRun([Record(step=1, loss=2.0), Record(step=0, loss=3.0), Record(step=1, loss=1.0)])
    >>> [(record.step, record.loss) for record in run], run.repeated
    ([(0, 3.0), (1, 1.0)], 1)
    >>> RecordedRun(run) is run
    True
    """

    repeated: int

    def __new__(cls, records: Iterable[StepRecord]) -> Self:
        if isinstance(records, cls):
            return records
        every = list(records)
        by_step = {record.step: record for record in every}
        run = super().__new__(cls, [by_step[step] for step in sorted(by_step)])
        run.repeated = len(every) - len(run)
        return run
