"""A loss that does not depend on what moves."""

from __future__ import annotations

from collections.abc import Iterator

from gradlab_core.definitions.thresholds import CONSTANT_SPREAD, RATE_STEPS, SLOW_TRAVEL
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding
from gradlab_core.judge.diagnosis.weights import speaks
from gradlab_core.records import Finding, Severity
from gradlab_core.text import number


def constant(history: History) -> Iterator[Finding]:
    """`constant-loss`: the loss is the same number, up to rounding, at every step, though the parameters have moved
    far, or their gradients are rounding and no more. Of a net that hardly moves, the loss on one batch has to stay."""
    _, losses = history.losses()
    losses += [r.loss for r in [*history.early, *history.recent] if r.loss is not None]
    moves = history.travelled > SLOW_TRAVEL or not any(speaks(record) for record in [*history.early, *history.recent])
    if history.count < RATE_STEPS or len(losses) < RATE_STEPS or history.first_nonfinite is not None:
        return
    if not moves or not any(record.grad_norm for record in history.recent) or not any(losses):
        return
    if max(losses) - min(losses) <= CONSTANT_SPREAD * max(map(abs, losses)):
        yield finding(
            "constant-loss",
            Severity.CRITICAL,
            step=history.early[0].step,
            evidence={"loss": losses[-1], "update ratios summed over the run": history.travelled},
            seen=f"The loss was {number(losses[-1])} at each of {history.count:,} recorded steps, in which the "
            f"parameters moved {number(history.travelled)} times their length in all.",
        )
