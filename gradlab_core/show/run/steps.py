"""A run as its page draws it: what was recorded and judged, and the steps that the charts show."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from gradlab_core.definitions.thresholds import ANOMALY_SCORE
from gradlab_core.judge.judged import JudgedRun
from gradlab_core.records import GradientState, RecordedRun, StepRecord
from gradlab_core.show import style
from gradlab_core.show.canvas import MOST

_WHOLE_NET = ("loss", "grad_norm", "param_norm", "update_norm")
_TENSOR = ("param", "grad", "update")


@dataclasses.dataclass(frozen=True)
class DrawnRun:
    """A run with its findings and reports (`judged`), and the records that the charts show (`drawn`).

    The `Canvas` of a chart draws it like a net, so it has the attributes that a canvas needs.
    """

    name: str
    judged: JudgedRun
    drawn: tuple[StepRecord, ...]
    colour = style.colour_of("plain")  # all runs have the same colour, since each has charts of its own
    dash = style.SOLID
    runs = ()

    @property
    def records(self) -> RecordedRun:
        """All records, in the order of their steps."""
        return self.judged.records

    @property
    def paths(self) -> list[str]:
        """The paths of all tensors that have norms at any step, in the order of the model."""
        return list(self.records.paths)


def drawn_run(name: str, judged: JudgedRun) -> DrawnRun:
    """The run with the records that its charts show."""
    return DrawnRun(name, judged, tuple(_thinned(judged.records)))


def is_anomaly(record: StepRecord) -> bool:
    """Whether the gradient norm was out of the ordinary."""
    return record.anomaly is not None and abs(record.anomaly) >= ANOMALY_SCORE


def nonfinite(record: StepRecord) -> tuple[str, ...]:
    """The names and paths at which the step holds a NaN or an Inf.

    Ratios do not count: an infinite ratio says that a parameter that was 0 has moved, as biases do at the first step.
    """
    totals = [name for name in _WHOLE_NET if _is_odd(getattr(record, name))]
    if not totals and GradientState.NONFINITE not in record.states.values():
        return ()  # the tensors need not be looked at
    tensors = [path for path, norms in record.tensors.items() if any(_is_odd(getattr(norms, n)) for n in _TENSOR)]
    return (*totals, *tensors)


def _is_odd(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)


def _thinned(records: Sequence[StepRecord]) -> list[StepRecord]:
    """Every k-th record and the last, all anomalies, and the records at which a stretch of NaN or Inf, or of skipped
    steps, begins, changes or ends.

    The middle of such a stretch is thinned like all other records, so that a run which goes on for days after it broke
    still gives a page that opens.
    """
    stride = max(1, -(-len(records) // MOST))
    odd = [(*nonfinite(record), *(["skipped"] if record.skipped else [])) for record in records]
    last = len(records) - 1

    def told_apart(i: int) -> bool:
        return bool(odd[i]) and (i in (0, last) or odd[i - 1] != odd[i] or odd[i + 1] != odd[i])

    return [r for i, r in enumerate(records) if i % stride == 0 or i == last or is_anomaly(r) or told_apart(i)]
