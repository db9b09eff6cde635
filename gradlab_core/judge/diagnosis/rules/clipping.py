"""Gradients that clipping makes next to nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from gradlab_core.definitions.thresholds import CLIP_LEAST, CLIP_SPREAD, RATE_STEPS, SLOW_TRAVEL
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding
from gradlab_core.judge.diagnosis.progress import progress
from gradlab_core.records import Finding, Severity
from gradlab_core.text import number


def clipped_away(history: History) -> Iterator[Finding]:
    """`clipped-away`: the gradient norm is the same small number at every step, as only clipping leaves it, and the
    steps get nowhere. An optimizer that normalises (Adam) makes as much of a small gradient as of a large one."""
    run = progress(history)
    if run is None or history.first_nonfinite is not None or run.useful or history.count < RATE_STEPS:
        return
    level = min(_limits(history), default=None)
    if level is not None and level < CLIP_LEAST and history.travelled < SLOW_TRAVEL:
        raw = [r.raw_grad_norm for r in history.selected if r.raw_grad_norm is not None]
        before = {"gradient norm before clipping": statistics.median(raw)} if raw else {}
        yield finding(
            "clipped-away",
            Severity.CRITICAL,
            step=history.early[0].step,
            evidence={"gradient norm": level, **before, "update ratios summed over the run": history.travelled},
            seen=f"The gradient norm is {number(level)} at every step"
            + (f", and was {number(before['gradient norm before clipping'])} before clipping." if raw else "."),
        )


def _limits(history: History) -> Iterator[float]:
    """Gradient norms that are the same at every step: the one recorded, or that of which plain steps are made, where
    clipping happens inside the optimizer."""
    records = [r for r in history.selected if math.isfinite(r.grad_norm) and math.isfinite(r.update_norm)]
    taken = [r.update_norm / r.learning_rate for r in records if r.learning_rate]
    for norms in ([r.grad_norm for r in records], taken if len(taken) == len(records) else []):
        level = statistics.median(norms) if norms else 0.0
        if level > 0 and max(norms) - min(norms) <= CLIP_SPREAD * level:
            yield level
