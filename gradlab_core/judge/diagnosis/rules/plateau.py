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
    of the target. Without a probe only ln 2 is known for what it is."""
    found = progress(history)
    if found is None or history.count < PLATEAU_STEPS or history.first_nonfinite is not None:
        return
    level = found.baseline if found.baseline is not None else math.log(2)
    band = PLATEAU_BAND * level + 2 * found.noise if found.baseline is not None else PLATEAU_BAND / 5 * level
    known = found.baseline is not None
    if abs(found.recent - level) <= band and not found.useful and (known or not found.learns):
        yield finding(
            "loss-plateau",
            Severity.WARNING,
            step=history.early[0].step,
            evidence={"newest losses": found.recent, "of a constant answer": level, "steps": float(found.steps)},
            seen=f"After {found.steps:,} steps the loss is {number(found.recent)}; a net that gives the same answer to "
            f"every input has {number(level)}.",
        )
