"""Whether a drawn run counts, decided from losses alone and without the diagnosis.

A loss is taken for one example (a sum is divided by the batch) and against that of a net with the same answer for
every input, which then is 1: ln(classes), or the variance of the target. `start` is the median of its first three
values, `end` that of the last tenth of its steps, at least five.

- A **healthy** run counts if it really learns: no NaN and no Inf, and end ≤ 0.8 · min(start, 1).
- A **faulty** run counts only if the healthy run of its pair does. It **hinders** if it broke with a NaN or an Inf, or
  if it lost at least 0.3 of what the healthy one gained with the same seed:
  end − end_healthy ≥ 0.3 · (min(start_healthy, 1) − end_healthy).
- A faulty run that does not hinder counts **by construction** if a part of it cannot learn whatever the loss does (cut
  off, frozen, left out, unused), and is told apart from those that hinder. Any other is dropped, and counted so.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from gradlab_core.programs.program import ProgramSpec
from gradlab_core.records import StepRecord

LEARNED = 0.8
LOST = 0.3

HEALTHY, HINDERS, BY_CONSTRUCTION, DROPPED = "healthy", "hinders", "by construction", "dropped"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a run: its losses as described above; `broke` says that a loss or a norm was not finite."""

    start: float
    end: float
    broke: bool

    @property
    def reference(self) -> float:
        """The loss to be improved upon."""
        return min(self.start, 1.0)

    @property
    def learned(self) -> bool:
        """Whether it counts as healthy."""
        return not self.broke and self.end <= LEARNED * self.reference


def outcome(spec: ProgramSpec, records: Sequence[StepRecord]) -> Outcome:
    """The outcome of one run; losses that are not finite count as infinitely large."""
    if spec.loss == "mse":
        unit = spec.task.target_scale**2
    else:
        unit = math.log(spec.model.num_classes) * (spec.batch_size if spec.loss == "summed_cross_entropy" else 1)
    losses = [math.inf if r.loss is None or not math.isfinite(r.loss) else r.loss / unit for r in records]
    norms = [norm for r in records for norm in (r.grad_norm, r.param_norm, r.update_norm)]
    return Outcome(
        start=statistics.median(losses[:3]) if losses else math.inf,
        end=statistics.median(losses[-max(5, len(losses) // 10) :]) if losses else math.inf,
        broke=not losses or math.inf in losses or not all(map(math.isfinite, norms)),
    )


def status(healthy: Outcome, faulty: Outcome | None = None, *, structural: bool = False) -> tuple[str, str]:
    """What a run counts as, and why it was dropped: of the healthy one alone, or of the faulty one of a pair.

    >>> good, bad = (Outcome(start=1.1, end=end, broke=False) for end in (0.2, 0.9))
    >>> [status(good)[0], status(bad)[0], status(good, bad)[0], status(good, good, structural=True)[0]]
    ['healthy', 'dropped', 'hinders', 'by construction']
    """
    if not healthy.learned:
        why = "broke" if healthy.broke else f"ended at {healthy.end:.3g} from {healthy.reference:.3g}"
        return DROPPED, f"the healthy program does not learn: it {why}"
    if faulty is None:
        return HEALTHY, ""
    if faulty.broke or faulty.end - healthy.end >= LOST * (healthy.reference - healthy.end):
        return HINDERS, ""
    if structural:
        return BY_CONSTRUCTION, ""
    return DROPPED, f"the fault does not hinder: it ended at {faulty.end:.3g}, the healthy program at {healthy.end:.3g}"
