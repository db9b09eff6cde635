"""Is this gradient norm out of the ordinary? A z-score against the steps before it, in constant memory."""

from __future__ import annotations

import math

from gradlab_core.definitions.thresholds import ANOMALY_DECAY, ANOMALY_LEAST_STD, ANOMALY_WARM_UP


class MovingScore:
    """The z-score of log ‖g‖ against an exponential moving mean and variance that exclude the present step.

    The first steps weigh alike, so that the start does not linger: step k (from 0) enters with weight
    max(1 − decay, 1/(k + 1)). A norm of 0, NaN or Inf has no logarithm that could be averaged: it scores −Inf, NaN or
    Inf, and the moving figures stay as they are.

    >>> score = MovingScore()
    >>> [score(norm) for norm in [1.0, 2.0] * 10][-1] is None  # too few steps to tell
    True
    >>> round(score(100.0), 1), score(math.nan), score(0.0)
    (12.3, nan, -inf)
    """

    def __init__(self) -> None:
        self.mean, self.variance, self.count = 0.0, 0.0, 0

    def __call__(self, norm: float) -> float | None:
        """Score a norm and take it into the moving figures; None while fewer than `ANOMALY_WARM_UP` are in them."""
        log = math.log(norm) if norm > 0 else -math.inf if norm == 0 else math.nan
        away = log - self.mean
        known = self.count >= ANOMALY_WARM_UP
        score = away / max(math.sqrt(self.variance), ANOMALY_LEAST_STD) if known else None
        if math.isfinite(log):
            weight = max(1.0 - ANOMALY_DECAY, 1.0 / (self.count + 1))
            self.mean += weight * away
            self.variance = (1.0 - weight) * (self.variance + weight * away * away)
            self.count += 1
        return score
