"""The rounding expected of every tensor of a training run, estimated by perturbing the reference.

Several float64 runs in which every operation carries a random error of the arithmetic's unit roundoff (in sums of n
terms √n of it) are compared with one that does not. Their root-mean-square distance is σ. Stochastic arithmetic: Vignes
1993 (CESTAC), Parker 1997, Denis et al. 2016 (Verificarlo); for whole tensors of a training step: TTrace, 2025.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradlab_core.parity import tolerance
from gradlab_core.parity.arithmetic import Arithmetic
from gradlab_core.parity.batch import Inputs
from gradlab_core.parity.trace import Key, Subject, Trace


@dataclasses.dataclass
class Spread:
    """Root of the summed squares of distances from the oracle, per step and tensor, and of how many runs."""

    totals: dict[tuple[int, Key], float] = dataclasses.field(default_factory=dict)
    counts: dict[tuple[int, Key], int] = dataclasses.field(default_factory=dict)

    def add(self, step: int, oracle: Trace, perturbed: Trace) -> None:
        """Take one perturbed run's tensors of one step. A run that overflows where the oracle does not tells nothing of
        rounding, and is left out for that tensor."""
        for key, truth in oracle.items():
            value = perturbed.get(key)
            if truth is None or value is None or not math.isfinite(away := tolerance.distance(value, truth)):
                continue
            self.totals[step, key] = math.hypot(self.totals.get((step, key), 0.0), away)
            self.counts[step, key] = self.counts.get((step, key), 0) + 1

    def expected(self, step: int, key: Key, scale: float, arithmetic: Arithmetic) -> float:
        """σ of a tensor of norm `scale`: no less than what storing it in float32 does to it."""
        runs = self.counts.get((step, key), 0)
        spread = self.totals[step, key] / math.sqrt(runs) if runs else 0.0
        return max(spread, arithmetic.unit * scale)


class Draws:
    """Perturbed runs that go in step with the oracle."""

    def __init__(
        self, subject: Subject, start: Mapping[str, np.ndarray], arithmetic: Arithmetic, seeds: range, spread: Spread
    ) -> None:
        self.runs = [subject.perturbed(arithmetic, seed) for seed in seeds]
        self.spread = spread
        for run in self.runs:
            run.load(start)

    def step(self, x: Inputs, y: Any, step: int, oracle: Trace) -> None:
        for run in self.runs:
            self.spread.add(step, oracle, run.step(x, y, step))


def draw_more(
    subject: Subject,
    start: Mapping[str, np.ndarray],
    batch: tuple[Inputs, Any],
    steps: int,
    seeds: range,
    spreads: Mapping[Arithmetic, Spread],
) -> None:
    """Add the runs of those seeds to every spread; the oracle is run again beside them."""
    oracle = subject.cast("float64")
    oracle.load(start)
    draws = [Draws(subject, start, arithmetic, seeds, spread) for arithmetic, spread in spreads.items()]
    for step in range(steps):
        truth = oracle.step(*batch, step)
        for runs in draws:
            runs.step(*batch, step, truth)
