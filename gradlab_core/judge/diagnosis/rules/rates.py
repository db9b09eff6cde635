"""A learning rate that is too high, or too low."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from gradlab_core.definitions.thresholds import (
    BURST_RATIO,
    FAST_RATIO,
    LOSS_JUMP,
    LOSS_RISE,
    RATE_PATIENCE,
    RATE_STEPS,
    SLOW_TRAVEL,
    WORSE,
)
from gradlab_core.judge.diagnosis import remedies
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding
from gradlab_core.judge.diagnosis.progress import Progress, progress
from gradlab_core.judge.diagnosis.weights import starts_at_zero
from gradlab_core.judge.promise import kept
from gradlab_core.records import Finding, Severity
from gradlab_core.text import number


def too_high(history: History) -> Iterator[Finding]:
    """`learning-rate-too-high`: long steps, and a loss that rose, jumped, or never got under way."""
    run = progress(history)
    ratios = [r.update_ratio for r in history.selected if math.isfinite(r.update_ratio)]
    if (run is None and history.first_nonfinite is None) or not ratios:
        return
    longest, usual = max(ratios), statistics.median(ratios)
    if longest < FAST_RATIO:
        return
    why = _rose(history, run, usual)
    if why:
        sentence, step = why
        rate = next((r.learning_rate for r in history.recent if r.learning_rate is not None), None)
        evidence = {"median update ratio": usual, "largest update ratio": longest}
        if run is not None:
            evidence |= {"loss at the start": run.start, "highest loss": run.highest, "newest losses": run.recent}
        yield finding(
            "learning-rate-too-high",
            Severity.CRITICAL,
            step=step,
            evidence=evidence | ({} if rate is None else {"learning rate": rate}) | _kept(history),
            seen=f"{sentence}, with steps of up to {number(longest)} of the length of the parameters.",
        )


def _rose(history: History, run: Progress | None, usual: float) -> tuple[str, int] | None:
    """What the loss did, and the step at which it first showed; None for a loss that behaves."""
    broken = history.first_nonfinite
    if run is None:
        # The run is too short for a trend: only steps longer than the parameters themselves point at the rate.
        if broken is None or not any(1 < r.update_ratio < math.inf for r in history.early):
            return None
        return f"The run broke off at step {broken.step:,}", broken.step
    steps, losses = history.losses()
    # A loss may be negative, as a log-likelihood is.
    size = abs(run.start)
    limit = run.start + (LOSS_JUMP - 1) * size + 3 * run.noise
    risen = run.start + (LOSS_RISE - 1) * size
    jumped = [step for step, loss in zip(steps, losses, strict=True) if loss > limit]
    onset = jumped[0] if jumped else steps[0]
    if broken is not None and (jumped or run.recent > risen):
        return f"The loss rose from {number(run.start)} to {number(run.highest)} and then broke", onset
    if broken is not None:
        return None
    # From weights of 0 every step is long at first, which says nothing of the rate.
    burst = (
        None if starts_at_zero(history) else next((r for r in history.selected if r.update_ratio > BURST_RATIO), None)
    )
    # A loss above that of a constant answer comes from steps that are too long, not from a net that stands still.
    thrown = usual > FAST_RATIO and run.baseline is not None and run.recent > WORSE * run.baseline
    if not run.useful and (burst is not None or thrown):
        first = history.early[0] if burst is None else burst
        return f"The loss is {number(run.recent)} after a start at {number(run.start)}", first.step
    if run.useful and run.recent < run.best + abs(run.best) + 3 * run.noise:
        return None
    if jumped and not run.learns:
        return f"The loss jumped from {number(run.start)} to {number(run.highest)}", onset
    if run.recent > risen + 2 * run.noise:
        return f"The loss rose from {number(run.start)} to {number(run.recent)}", onset
    return None


def too_low(history: History) -> Iterator[Finding]:
    """`learning-rate-too-low`: all steps together are too short to have got anywhere, and the loss has not moved."""
    run = progress(history)
    if run is None or history.first_nonfinite is not None or run.useful:
        return
    if history.count < (RATE_PATIENCE if run.learns else RATE_STEPS):
        return
    rates = [r.learning_rate for r in history.recent if r.learning_rate]
    reach = history.travelled
    if 0 < reach < SLOW_TRAVEL and any(r.grad_norm > 0 for r in history.recent):
        yield finding(
            "learning-rate-too-low",
            Severity.WARNING,
            step=history.early[0].step,
            evidence={
                "update ratios summed over the run": reach,
                "loss at the start": run.start,
                "newest losses": run.recent,
                **({"learning rate": rates[-1]} if rates else {}),
                **_kept(history),
            },
            seen=f"All {history.count:,} steps together are at most {number(reach)} of the length of the parameters, "
            f"and the loss went from {number(run.start)} to {number(run.recent)}.",
            remedies=remedies.of_slowness(history),
        )


def _kept(history: History) -> dict[str, float]:
    """Evidence of what the steps kept of their promise: of steps that are too long little or less than nothing, of
    steps that are far too short all, and it is little."""
    came = kept(history.selected)
    if came is None or came.ratio is None:
        return {}
    return {"promised decrease": came.promised, "actual over promised decrease": came.ratio}
