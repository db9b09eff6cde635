"""Does the run learn? Every rule asks this before it calls a small number a fault."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence

from gradlab_core.definitions.thresholds import (
    BURST_RATIO,
    LEARNED_OF_BASELINE,
    LEARNED_OF_START,
    LEARNED_OVER_NOISE,
    LOSS_JUMP,
    THROWN_STEPS,
)
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.promise import noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """The loss of a run in a few numbers.

    Attributes:
        start: median of the first losses, `recent` of the newest, `best` the lowest of the medians in between.
        highest: the largest single loss.
        noise: robust standard deviation of a single loss about its neighbours.
        baseline: the loss of a net that gives the same answer to every input: ln(classes), or the variance of the
            target; None without a probe.
        steps: number of steps from the first loss to the newest.
        thrown: whether the first steps threw the loss far up; then `start` is the loss before them, for to come back
            from there is not to learn.
    """

    start: float
    recent: float
    best: float
    highest: float
    noise: float
    baseline: float | None
    steps: int
    thrown: bool = False

    @property
    def fallen(self) -> float:
        """How much the loss has fallen as a share of the first loss; below 0 if it rose."""
        return (self.start - self.recent) / abs(self.start) if self.start else 0.0

    @property
    def learns(self) -> bool:
        """Whether the loss has fallen by more than its noise, and by a share worth the name."""
        clear = self.start - self.recent > LEARNED_OVER_NOISE * self.noise
        return clear and self.fallen > LEARNED_OF_START

    @property
    def useful(self) -> bool:
        """Whether the net does better than one that always gives the same answer."""
        if self.baseline is None:
            return self.learns and (not self.thrown or self.recent < LEARNED_OF_BASELINE * self.start)
        return self.recent < LEARNED_OF_BASELINE * self.baseline


def progress(history: History) -> Progress | None:
    """The progress of the run so far; None with fewer than two finite losses."""
    steps, losses = history.losses()
    if len(losses) < 2:
        return None
    span = max(1, len(losses) // 5)
    parts = max(2, min(20, len(losses) // 3))
    edges = [len(losses) * k // parts for k in range(parts + 1)]
    start = statistics.median(losses[: min(span, 3)])
    thrown = _is_thrown(history, losses)
    medians = [statistics.median(losses[a:b]) for a, b in itertools.pairwise(edges)]
    return Progress(
        start=losses[0] if thrown else start,
        recent=statistics.median(losses[-span:]),
        best=min(medians),
        highest=max(losses),
        noise=noise(losses),
        baseline=baseline(history),
        steps=steps[-1] - steps[0],
        thrown=thrown,
    )


def _is_thrown(history: History, losses: Sequence[float]) -> bool:
    """Whether the first steps replaced a good part of the net, and the loss jumped at once."""
    long = any(record.update_ratio > BURST_RATIO for record in history.early[:THROWN_STEPS])
    early = [r.loss for r in history.early if r.loss is not None and math.isfinite(r.loss)]
    return long and bool(early) and losses[0] > 0 and max(early) > LOSS_JUMP * losses[0]


def baseline(history: History) -> float | None:
    """The loss of a net that ignores its input, from the first probe; summed over the batch if the run's loss is."""
    if not history.probes:
        return None
    _, probe = history.probes[0]
    if probe.classes is not None and probe.classes > 1:
        return math.log(probe.classes) * (probe.batch if is_summed(history) else 1)
    if probe.target is not None and probe.target.std > 0:
        return probe.target.std * probe.target.std * (probe.batch if is_summed(history) else 1)
    return None


def is_summed(history: History) -> bool:
    """Whether the loss is a sum over the batch: at the first probe it is as many times larger than a mean as there
    are examples. A net with large wrong answers can look the same by chance, so its answers must be small."""
    # Products, not powers: float ** raises where a product is Inf.
    if not history.probes:
        return False
    _, probe = history.probes[0]
    if probe.batch < 4 or probe.loss is None or not math.isfinite(probe.loss):
        return False
    if probe.answers is not None and probe.answers.reduction is not None:
        return probe.answers.reduction == "sum"
    if probe.classes is not None and probe.classes > 1:
        expected = math.log(probe.classes) + probe.output.std * probe.output.std / 2
        return probe.output.std < 2 and probe.loss > 0.5 * probe.batch * expected
    if probe.target is not None:
        # Of independent answers and targets, the mean of (a − b)² is E[a²] + E[b²] − 2·E[a]·E[b].
        answers, targets = probe.output, probe.target
        expected = answers.rms * answers.rms + targets.rms * targets.rms - 2 * answers.mean * targets.mean
        return expected > 0 and probe.loss > 0.5 * probe.batch * expected
    return False
