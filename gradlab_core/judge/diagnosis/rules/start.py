"""How a run begins: its input, its target, its loss, its weights. All from the first probe."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradlab_core.definitions.thresholds import (
    FAR_OFF,
    HEALTHY_GAIN,
    INPUT_RMS,
    SATURATED_SHARE,
    SIGNAL_GROWTH,
    SIGNAL_LOSS,
    SIGNAL_SHRINKING,
    SURE_LOGITS,
    TARGET_RMS,
)
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding, some
from gradlab_core.judge.diagnosis.progress import baseline, is_summed, progress
from gradlab_core.judge.diagnosis.weights import weight_paths
from gradlab_core.records import Finding, Probe, Severity
from gradlab_core.text import number


def unnormalised_input(history: History) -> Iterator[Finding]:
    """`unnormalised-input`: inputs far larger, or far smaller, than 1."""
    for step, probe in history.probes[:1]:
        stats = probe.input
        if stats is not None and stats.std > 0 and not INPUT_RMS[0] <= stats.rms <= INPUT_RMS[1]:
            yield finding(
                "unnormalised-input",
                _severity(history, far_off=stats.rms > FAR_OFF * INPUT_RMS[1]),
                step=step,
                paths=weight_paths(history)[:1],
                evidence={"mean": stats.mean, "std": stats.std, "min": stats.min, "max": stats.max},
                seen=f"The input has mean {number(stats.mean)} and standard deviation {number(stats.std)}.",
            )


def unscaled_target(history: History) -> Iterator[Finding]:
    """`unscaled-target`: targets of a regression far larger than 1."""
    for step, probe in history.probes[:1]:
        stats = probe.target
        if stats is not None and stats.rms > TARGET_RMS:
            yield finding(
                "unscaled-target",
                _severity(history, far_off=stats.rms > FAR_OFF * TARGET_RMS),
                step=step,
                paths=weight_paths(history)[-1:],
                evidence={"mean": stats.mean, "std": stats.std, "min": stats.min, "max": stats.max},
                seen=f"The target has mean {number(stats.mean)} and standard deviation {number(stats.std)}.",
            )


def summed_loss(history: History) -> Iterator[Finding]:
    """`loss-reduction`: a first loss as many times too large for a mean as there are examples in the batch."""
    step, probe = history.probes[0] if history.probes else (0, None)
    if probe is not None and probe.loss is not None and baseline(history) is not None and is_summed(history):
        yield finding(
            "loss-reduction",
            Severity.WARNING,
            step=step,
            evidence={
                "first loss": probe.loss,
                "of one example": probe.loss / probe.batch,
                "batch": float(probe.batch),
            },
            seen=f"The first loss is {number(probe.loss)}, about {probe.batch} times what a mean over the batch of "
            f"{probe.batch} would give.",
        )


def poor_initialisation(history: History) -> Iterator[Finding]:
    """`poor-initialisation`: the signal explodes or dies out from the first layer to the last, bounded activations are
    saturated, or the first answers are far too sure, while weights have a size that explains it."""
    for step, probe in history.probes[:1]:
        if probe.input is None or not INPUT_RMS[0] <= probe.input.rms <= INPUT_RMS[1]:
            continue  # the scale of the input explains it, not the weights
        gains = _gains(history, probe)
        wrong, way = _signal(probe)
        paths = [p for p, gain in gains.items() if (gain > HEALTHY_GAIN[1] if way >= 1 else gain < HEALTHY_GAIN[0])]
        if wrong and paths:
            paths.sort(key=lambda p: -round(abs(math.log(gains[p])), 1))  # of equals, the one nearest the input
            yield finding(
                "poor-initialisation",
                Severity.WARNING,
                step=step,
                paths=paths,
                evidence={
                    "last against first layer": way,
                    "gain": gains[paths[0]],
                    "std of the output": probe.output.std,
                },
                seen=f"The signal {'grows' if way >= 1 else 'shrinks'} by a factor of {number(way)} from the first "
                f"layer to the last; weights of {some(paths)} have a gain of {number(gains[paths[0]])}, where 1 would "
                "keep its size.",
            )


def _severity(history: History, *, far_off: bool = False) -> Severity:
    """A note if the net learned all the same, otherwise a warning."""
    run = progress(history)
    return Severity.NOTE if run is not None and run.useful and not far_off else Severity.WARNING


def _signal(probe: Probe) -> tuple[bool, float]:
    """Whether the signal vanishes or explodes on its way forward, and by which factor."""
    stds = [row.std for row in probe.layers if math.isfinite(row.std)] + [probe.output.std]
    reference = probe.input.std if probe.input is not None else stds[0]
    # An output of exactly 0 is a last layer that starts at 0, as some do; what counts then is what comes before.
    last = stds[-1] if stds[-1] > 0 else stds[-2] if len(stds) > 1 else 0.0
    way = last / reference if reference > 0 else 1.0
    expected = math.log(probe.classes) if probe.classes is not None and probe.classes > 1 else math.inf
    sure = probe.output.std > SURE_LOGITS and probe.loss is not None and probe.loss > SIGNAL_LOSS * expected
    # Behind a bound the signal cannot grow: there it shows in the outputs that lie at the bound.
    full = any(row.saturated_frac is not None and row.saturated_frac >= SATURATED_SHARE for row in probe.layers)
    return sure or full or way > SIGNAL_GROWTH or way < SIGNAL_SHRINKING, max(way, 1.0) if sure or full else way


def _gains(history: History, probe: Probe) -> dict[str, float]:
    """Root mean square times √fan_in of every weight: the factor by which it scales its input."""
    first = history.early[0].tensors
    gains = {}
    for path in weight_paths(history):
        units = probe.shapes[path][0]
        gain = first[path].param / math.sqrt(units) if units else 0.0  # √(Σw²/(out·in))·√in
        if gain > 0 and math.isfinite(gain):
            gains[path] = gain
    return gains
