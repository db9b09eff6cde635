"""A loss that stays where a constant answer would leave it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradlab_core.definitions.thresholds import PLATEAU_BAND, PLATEAU_STEPS
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding
from gradlab_core.judge.diagnosis.progress import progress
from gradlab_core.records import Finding, Severity
from gradlab_core.text import number


def plateau(history: History) -> Iterator[Finding]:
    """`loss-plateau`: after many steps the loss is that of a net which ignores its input: ln(classes), or the variance
    of the target. Without a probe only ln 2 is recognised."""
    run = progress(history)
    if run is None or history.count < PLATEAU_STEPS or history.first_nonfinite is not None:
        return
    level = run.baseline if run.baseline is not None else math.log(2)
    band = PLATEAU_BAND * level + 2 * run.noise if run.baseline is not None else PLATEAU_BAND / 5 * level
    known = run.baseline is not None
    if abs(run.recent - level) <= band and not run.useful and (known or not run.learns):
        yield finding(
            "loss-plateau",
            Severity.WARNING,
            step=history.early[0].step,
            evidence={"newest losses": run.recent, "of a constant answer": level, "steps": float(run.steps)},
            seen=f"After {run.steps:,} steps the loss is {number(run.recent)}; a net that gives the same answer to "
            f"every input has {number(level)}.",
        )
