"""Gradients that explode or vanish on their way back, through layers or through time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence

from gradlab_core.definitions.thresholds import (
    EXPLODING_GROWTH,
    EXPLODING_IN_TIME,
    EXPLODING_NORM,
    EXPLODING_RELATIVE,
    EXPLODING_STEP,
    FAST_RATIO,
    VANISHING_IN_DEPTH,
    VANISHING_IN_TIME,
    VANISHING_STEPS,
)
from gradlab_core.judge.diagnosis import remedies
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding, some
from gradlab_core.judge.diagnosis.progress import progress
from gradlab_core.judge.diagnosis.weights import speaks, weight_paths
from gradlab_core.records import Finding, HiddenStateNorms, Severity, StepRecord
from gradlab_core.text import number


def exploding(history: History) -> Iterator[Finding]:
    """`exploding-gradient`: the norm is large both in itself and relative to the parameters, or has grown enormously,
    and the run does not learn. The norm before clipping is judged if it was recorded. If steps were far too long before
    the norm grew, the learning rate is the cause."""
    run = progress(history)
    broken = history.first_nonfinite
    if broken is None and run is not None and run.useful:
        return
    # Records after a NaN cannot hold its cause.
    until = [r for r in history.selected if broken is None or r.step <= broken.step]
    records = [r for r in until if math.isfinite(_size(r)) and math.isfinite(r.param_norm)]
    usual = usual_norm(records)
    large = [r for r in records if is_large(_size(r), r.param_norm, usual)]
    if large and any(r.update_ratio > FAST_RATIO for r in records if r.step < large[0].step):
        large = []
    if broken is None and not any(r.update_ratio > EXPLODING_STEP for r in large):
        large = []
    hidden = _hidden(history, lambda way: way > EXPLODING_IN_TIME)
    if not large and hidden is None:
        return
    worst = max(large or records, key=_size, default=history.early[0])
    evidence = {"largest gradient norm": _size(worst), "against the parameters": _size(worst) / (worst.param_norm or 1)}
    if usual > 0:
        evidence["against the first steps"] = _size(worst) / usual
    seen = (
        f"The gradient norm reached {number(_size(worst))} at step {worst.step:,}, "
        f"{number(evidence['against the parameters'])} times the norm of the parameters."
    )
    if hidden is not None:
        step, norms = hidden
        evidence["first against last time step"] = _way(norms)
        grows = f"From the last time step back to the first the gradient grows by a factor of {number(_way(norms))}."
        seen = f"{grows} {seen}" if large else grows
    paths = _largest(worst) if hidden is None else [norms.path]
    yield finding(
        "exploding-gradient",
        Severity.CRITICAL,
        step=large[0].step if large else step,
        paths=paths,
        evidence=evidence,
        seen=seen,
        remedies=remedies.of_exploding(history, paths),
    )


def vanishing(history: History) -> Iterator[Finding]:
    """`vanishing-gradient`: layers far from the loss get a gradient that is, against their own size, thousands of times
    smaller than those near it, and the run does not learn."""
    run = progress(history)
    if history.first_nonfinite is not None or run is None:
        return
    if run.useful or history.count < VANISHING_STEPS:
        return
    hidden = _hidden(history, lambda way: way < VANISHING_IN_TIME)
    if hidden is not None:
        step, norms = hidden
        yield finding(
            "vanishing-gradient",
            Severity.CRITICAL,
            step=step,
            paths=[norms.path],
            evidence={"first against last time step": _way(norms), "time steps": float(len(norms.gradients))},
            seen=f"From the last time step back to the first the gradient of the state shrinks to "
            f"{number(_way(norms))} of what it was.",
            remedies=remedies.of_vanishing(history, [norms.path]),
        )
        return
    faded = _faded(history)
    if faded:
        paths, ratio = list(faded), min(faded.values())
        yield finding(
            "vanishing-gradient",
            Severity.CRITICAL,
            step=history.early[0].step,
            paths=paths,
            evidence={"first against last layers": ratio, "layers concerned": float(len(paths))},
            seen=f"Against its size, the gradient of {some(paths)} is {number(ratio)} of that of the last layers.",
            remedies=remedies.of_vanishing(history, paths),
        )


def _size(record: StepRecord) -> float:
    return record.grad_norm if record.raw_grad_norm is None else record.raw_grad_norm


def usual_norm(records: Sequence[StepRecord]) -> float:
    """The median gradient norm of the first records that hold no NaN or Inf; 0 where there is none."""
    sizes = [_size(r) for r in records if math.isfinite(_size(r)) and math.isfinite(r.param_norm)]
    return statistics.median(sizes[:8]) if sizes else 0.0


def is_large(grad_norm: float, param_norm: float, usual: float = 0.0) -> bool:
    """Whether a gradient norm is large in itself, and against the parameters or against what was `usual` at first."""
    if grad_norm < EXPLODING_NORM:
        return False
    return grad_norm > EXPLODING_RELATIVE * param_norm or (usual > 0 and grad_norm > EXPLODING_GROWTH * usual)


def _largest(record: StepRecord) -> list[str]:
    """Weights with the largest ‖g‖/‖θ‖, the largest first: those with at least a tenth of its value."""
    ratios = {p: n.grad / n.param for p, n in record.tensors.items() if n.grad is not None and n.param > 0}
    finite = {p: r for p, r in ratios.items() if math.isfinite(r)}
    most = max(finite.values(), default=0.0)
    return sorted((p for p, r in finite.items() if r >= 0.1 * most), key=lambda p: -finite[p])


def _way(norms: HiddenStateNorms) -> float:
    """‖∂L/∂h_1‖ against ‖∂L/∂h_T‖."""
    return norms.gradients[0] / norms.gradients[-1]


def _hidden(history: History, wrong: Callable[[float], bool]) -> tuple[int, HiddenStateNorms] | None:
    """The first probe in which the gradient through time is `wrong`, if that is so in at least half of the probes."""
    seen = [
        (step, probe.hidden)
        for step, probe in history.probes
        if probe.hidden is not None
        and probe.hidden.gradients
        and probe.hidden.gradients[-1] > 0
        and math.isfinite(probe.hidden.gradients[0])
    ]
    astray = [(step, norms) for step, norms in seen if wrong(_way(norms))]
    return astray[0] if astray and 2 * len(astray) >= len(seen) else None


def _faded(history: History) -> dict[str, float]:
    """Weights whose median ‖g‖/‖θ‖ is below `VANISHING_IN_DEPTH` of the largest behind them, the worst first. This must
    hold from the first steps on: a gradient that fades later has another cause.

    Records in which all gradients are tiny do not count: when the last layers have settled on a constant answer, their
    gradients are only rounding and no scale for those of the first layers."""
    early, throughout = (
        _faded_among(history, [r for r in records if speaks(r)] or records)
        for records in (history.early, history.selected)
    )
    return {path: ratio for path, ratio in throughout.items() if path in early}


def _faded_among(history: History, records: Sequence[StepRecord]) -> dict[str, float]:
    weights = weight_paths(history)
    relative = {path: _relative(records, path) for path in weights}
    known = [path for path in weights if relative[path] is not None]
    faded: dict[str, float] = {}
    for place, path in enumerate(known[:-1]):
        behind = max(relative[p] or 0.0 for p in known[place + 1 :])
        mine = relative[path]
        if behind > 0 and mine is not None and mine < VANISHING_IN_DEPTH * behind:
            faded[path] = mine / behind
    return dict(sorted(faded.items(), key=lambda item: item[1]))


def _relative(records: Sequence[StepRecord], path: str) -> float | None:
    tensors = [r.tensors[path] for r in records if path in r.tensors]
    ratios = [n.grad / n.param for n in tensors if n.grad is not None and n.param > 0 and math.isfinite(n.grad)]
    return statistics.median(ratios) if ratios else None
