"""A run as its page draws it: what was recorded and judged, and the steps that the charts show."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from gradlab_core.definitions.thresholds import ANOMALY_SCORE
from gradlab_core.judge.judged import JudgedRun
from gradlab_core.records import RecordedRun, StepRecord
from gradlab_core.show import style
from gradlab_core.show.canvas import MOST

_WHOLE_NET = ("loss", "grad_norm", "param_norm", "update_norm")
_TENSOR = ("param", "grad", "update")


@dataclasses.dataclass(frozen=True)
class DrawnRun:
    """`judged` is all there is to say of the run; `drawn` are the records that the charts show.

    It is also what a chart's `Canvas` draws, so it carries what that asks of a net.
    """

    name: str
    judged: JudgedRun
    drawn: tuple[StepRecord, ...]
    colour = style.colour_of("plain")  # the same for all: each run has charts of its own
    dash = style.SOLID
    runs = ()

    @property
    def records(self) -> RecordedRun:
        """All of them, in the order of their steps."""
        return self.judged.records

    @property
    def paths(self) -> list[str]:
        """Of all tensors that have norms at any step, in the order of the model."""
        return list(dict.fromkeys(path for record in self.records for path in record.tensors))


def drawn_run(name: str, judged: JudgedRun) -> DrawnRun:
    """The run with its steps thinned."""
    return DrawnRun(name, judged, tuple(_thinned(judged.records)))


def is_anomaly(record: StepRecord) -> bool:
    """Whether the gradient norm was out of the ordinary."""
    return record.anomaly is not None and abs(record.anomaly) >= ANOMALY_SCORE


def nonfinite(record: StepRecord) -> tuple[str, ...]:
    """The names and paths at which the step holds a NaN or an Inf.

    Ratios do not count: Inf there says that a parameter that was 0 has moved, as biases do at the first step.
    """
    totals = [name for name in _WHOLE_NET if _is_odd(getattr(record, name))]
    tensors = [path for path, norms in record.tensors.items() if any(_is_odd(getattr(norms, n)) for n in _TENSOR)]
    return (*totals, *tensors)


def _is_odd(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)


def _thinned(records: Sequence[StepRecord]) -> list[StepRecord]:
    """Every k-th step and the last; besides all anomalies, and where a stretch of NaN or Inf, or of skipped steps,
    begins, changes or ends.

    The middle of such a stretch, alike on both sides, is thinned as all else: a run that goes on for days after it
    broke must still give a page that opens.
    """
    stride = max(1, -(-len(records) // MOST))
    odd = [(*nonfinite(record), *(["skipped"] if record.skipped else [])) for record in records]
    last = len(records) - 1

    def told_apart(i: int) -> bool:
        return bool(odd[i]) and (i in (0, last) or odd[i - 1] != odd[i] or odd[i + 1] != odd[i])

    return [r for i, r in enumerate(records) if i % stride == 0 or i == last or is_anomaly(r) or told_apart(i)]
