"""Did the steps do what they promised? The decrease of the loss that came, over the one promised to first order.

Between two records stands what the steps promised in between, −Σ⟨g, Δθ⟩, and what came, the difference of their losses:
on one batch all along, that is ρ of trust-region methods, 1 for steps so short that the loss is straight along them. A
single loss on another batch is mostly noise. So as many losses at each end are averaged, each against what was promised
up to it, as it takes for the noise to be far below what is measured; and where it never is below, nothing is said.

On other batches every time ρ is below 1 also in runs that are well: part of a promise is for its own batch alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence

from gradlab_core.records import StepRecord

_LEAST = 8  # records; of fewer the noise cannot be told
_CLEAR, _FINE = 2.0, 10.0  # standard errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """What the steps from `first` to `last` promised, and what came.

    Attributes:
        promised: −Σ⟨g, Δθ⟩ between the two ends.
        actual: by how much the loss fell, with the standard error `error` that the noise of single losses leaves.
        averaged: losses that were averaged at each end; 1 where single losses tell enough.
    """

    first: int
    last: int
    promised: float
    actual: float
    error: float
    averaged: int

    @property
    def is_clear(self) -> bool:
        """Whether what is measured stands out of the noise."""
        return self.stands_out(_CLEAR)

    def stands_out(self, errors: float) -> bool:
        """Whether what was promised, or what came, is so many standard errors."""
        return errors * self.error <= max(abs(self.actual), abs(self.promised)) > 0

    @property
    def ratio(self) -> float | None:
        """Actual over promised decrease; None where noise exceeds it, or nothing was promised."""
        return self.actual / self.promised if self.is_clear and self.promised != 0 else None

    @property
    def ratio_error(self) -> float | None:
        """The standard error of the ratio."""
        return None if self.ratio is None else self.error / abs(self.promised)


def kept(records: Sequence[StepRecord]) -> Kept | None:
    """What came of a run, or of a part of it, against what was promised; None with too few records that hold both.

    >>> rest = {"learning_rate": 0.1, "param_norm": 1.0, "update_norm": 0.1, "update_ratio": 0.1}
    >>> def descent(step, x):  # on x²/2 with a rate of 0.1: a step promises 0.1·x², and 0.095·x² comes
    ...     change, rest["loss"] = -0.1 * x * x, x * x / 2
    ...     return StepRecord(step=step, grad_norm=x, grad_update=change, tensors={}, states={}, **rest)
    >>> came = kept([descent(step, 0.9**step) for step in range(10)])
    >>> round(came.ratio, 6), came.averaged
    (0.95, 1)
    """
    known = [
        (r.step, r.loss, r.promised)
        for r in records
        if r.loss is not None and r.promised is not None and math.isfinite(r.loss) and math.isfinite(r.promised)
    ]
    if len(known) < _LEAST:
        return None
    steps, losses, promises = zip(*known, strict=True)
    # A record stands for the steps up to the next one.
    due = [p * (after - step) for p, step, after in zip(promises, steps, steps[1:], strict=False)]
    so_far, single = [0.0, *itertools.accumulate(due)], noise(losses)
    count = 1
    while True:
        loss, promised = (
            [statistics.fmean(values[part]) for part in (slice(count), slice(-count, None))]
            for values in (losses, so_far)
        )
        came = Kept(
            first=steps[0],
            last=steps[-1],
            promised=promised[1] - promised[0],
            actual=loss[0] - loss[1],
            error=single * math.sqrt(2 / count),
            averaged=count,
        )
        if came.stands_out(_FINE) or 2 * (2 * count) > len(known):
            return came
        count *= 2


def stretches(records: Sequence[StepRecord], most: int = 40) -> list[Kept]:
    """The run in at most so many stretches of equal length, each with what came of it; those with nothing to say are
    left out."""
    count = max(1, min(most, len(records) // (2 * _LEAST)))
    edges = [len(records) * k // count for k in range(count + 1)]
    # A stretch ends with the loss at which the next one begins.
    parts = [records[start : end + 1] for start, end in itertools.pairwise(edges)]
    return [came for came in map(kept, parts) if came is not None]


def noise(losses: Sequence[float]) -> float:
    """The robust standard deviation of a single loss about its neighbours."""
    # Second differences, so that a trend is not taken for noise; their variance is 6 times that of a single loss.
    bends = [abs(c - 2 * b + a) for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)]
    return 1.4826 * statistics.median(bends) / math.sqrt(6) if bends else 0.0
