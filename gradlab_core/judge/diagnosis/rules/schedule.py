"""A schedule of the learning rate that is over long before the run."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence

from gradlab_core.definitions.thresholds import (
    LEARNED_OF_BASELINE,
    LEARNED_OF_START,
    LOSS_OVER,
    RATE_STEPS,
    SCHEDULE_FEW,
    SCHEDULE_LATE,
    SCHEDULE_OVER,
    SCHEDULE_SHARE,
    SCHEDULE_UNFINISHED,
)
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding
from gradlab_core.judge.diagnosis.progress import Progress, progress
from gradlab_core.records import Finding, Severity
from gradlab_core.text import number

Curve = list[tuple[int, float, float]]
"""`(step, loss, rate)` of the records that have all three."""


def over(history: History) -> Iterator[Finding]:
    """`schedule-over`: the rate fell to next to nothing in the first half of the run and stayed there, while the loss
    was still on its way down or had not begun to fall, and has not moved since. A run that had learned what it could
    by then has nothing to miss."""
    run, curve = progress(history), _curve(history)
    if run is None or history.first_nonfinite is not None or history.count < RATE_STEPS or not curve:
        return
    peak = max(rate for _, _, rate in curve)
    live = [point for point in curve if point[2] > SCHEDULE_OVER * peak]
    if not live or live[-1] is curve[-1]:
        return
    rest = [point for point in curve if point[0] > live[-1][0]]
    end, last, since = rest[0][0], rest[-1][0], max(rate for _, _, rate in rest)
    long = last - end >= SCHEDULE_SHARE * (last - curve[0][0])
    few = end - curve[0][0] <= SCHEDULE_FEW * (last - curve[0][0])
    could = _could_learn(run, live) or (few and not _is_good(run))
    if long and not _moved(run, rest) and could:
        yield finding(
            "schedule-over",
            Severity.WARNING,
            step=end,
            evidence={
                "highest rate": peak,
                "rate since": since,
                "newest losses": run.recent,
            },
            seen=f"From step {end:,} on, of {last + 1:,}, the learning rate is at most {number(since)}, "
            f"after {number(peak)}; the loss stays at {number(run.recent)}.",
        )


def _curve(history: History) -> Curve:
    """The first steps may lie between two records of the selection: a schedule may be over after them."""
    records = {r.step: r for r in [*history.early, *history.selected, *history.recent]}
    return [
        (step, r.loss, r.learning_rate)
        for step, r in sorted(records.items())
        if r.loss is not None and r.learning_rate is not None
    ]


def _is_good(run: Progress) -> bool:
    level = run.start if run.baseline is None else run.baseline
    return run.recent < LEARNED_OF_BASELINE * level


def _moved(run: Progress, rest: Curve) -> bool:
    """Whether the loss fell further after the schedule."""
    fall = _fall(rest)
    return fall > 2 * run.noise and fall > LEARNED_OF_START * abs(run.start)


def _could_learn(run: Progress, live: Curve) -> bool:
    """Whether the net had not learned anything, or was in the middle of it: with most of the schedule's rates summed up
    it still was far above where it stays. The sum stands for time, since steps late in a schedule are short."""
    if abs(run.recent) <= LOSS_OVER * abs(run.start):
        return False
    spent = list(itertools.accumulate(rate for _, _, rate in live))
    low, high = (share * spent[-1] for share in SCHEDULE_LATE)
    late = [loss for (_, loss, _), sum_ in zip(live, spent, strict=True) if low <= sum_ <= high]
    above = statistics.median(late) - run.recent if late else 0.0
    return not run.learns or above > max(SCHEDULE_UNFINISHED * (run.start - run.recent), run.noise)


def _fall(curve: Sequence[tuple[int, float, float]]) -> float:
    """From the first losses of a stretch to the last, by medians of a third each."""
    third = max(1, len(curve) // 3)
    losses = [loss for _, loss, _ in curve]
    return statistics.median(losses[:third]) - statistics.median(losses[-third:])
