"""Losses that jump after something had been learned."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator

from gradlab_core.definitions.thresholds import SPIKE_GROWTH, SPIKE_PATIENCE
from gradlab_core.judge.diagnosis import remedies
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding, some
from gradlab_core.judge.diagnosis.spikes import Spike
from gradlab_core.records import Finding, Severity, StepRecord
from gradlab_core.text import number

_LEAD = 3
_GROWTH = "update norm before it, against the usual"


def spiked(history: History) -> Iterator[Finding]:
    """`loss-spike`: the loss jumped and stayed up for several records. A note if it came back; the first one that did
    not comes first. One high loss is a batch, and a loss that rises with the learning rate was sent there."""
    newest = history.recent[-1].step if history.recent else 0
    spikes = [s for s in history.spikes.spikes if s.ended is not None or newest - s.onset.step >= SPIKE_PATIENCE]
    if not spikes or history.first_nonfinite is not None:
        return
    spike = next((s for s in spikes if s.ended is None), spikes[0])
    led, growth = _lead(spike)
    paths = _where(spike, led) if led is not None else []
    back = "has not come back since" if spike.ended is None else f"was back at step {spike.ended:,}"
    how = "The update norm before it was as usual."
    if led is not None:
        how = f"The update norm had risen before it, to {number(growth)} times the usual at step {led.step:,}"
        how += f", most of all in {some(paths)}." if paths else "."
    yield finding(
        "loss-spike",
        Severity.WARNING if spike.ended is None else Severity.NOTE,
        step=spike.onset.step,
        paths=paths,
        evidence={
            "loss before": spike.level,
            "highest loss": spike.highest,
            _GROWTH: growth,
            "spikes": float(len(spikes)),
        },
        seen=f"At step {spike.onset.step:,} the loss jumped from {number(spike.level)} and reached "
        f"{number(spike.highest)}; it {back}. {how}",
        remedies=remedies.of_spike(led is not None),
    )


def sudden(findings: Iterable[Finding]) -> float:
    """The step at which a loss jumped for good with no update in front of it that was larger than usual; Inf if none
    did."""
    return min(
        (f.first_step for f in findings if f.severity is Severity.WARNING and f.evidence[_GROWTH] <= SPIKE_GROWTH),
        default=math.inf,
    )


def _lead(spike: Spike) -> tuple[StepRecord | None, float]:
    """The largest of the last updates before the loss, if it is larger than usual, and against the usual one: the step
    of a record leads to the loss of the next."""
    usual = statistics.median(r.update_norm for r in spike.before[:-_LEAD])
    last = max(spike.before[-_LEAD:], key=lambda r: r.update_norm)
    growth = last.update_norm / usual if usual > 0 else 1.0
    return (last if growth > SPIKE_GROWTH else None), growth


def _where(spike: Spike, led: StepRecord) -> list[str]:
    """Tensors whose update grew the most, the most first: those with at least half of the largest growth."""
    growth = {}
    for path, norms in led.tensors.items():
        usual = statistics.median(r.tensors[path].update for r in spike.before[:-_LEAD] if path in r.tensors)
        growth[path] = norms.update / usual if usual > 0 else 0.0
    most = max(growth.values(), default=0.0)
    return sorted((path for path, factor in growth.items() if factor >= most / 2 > 0), key=lambda p: -growth[p])
