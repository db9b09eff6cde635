"""NaN and Inf: the first step, the first tensor, and the operation where somebody looked for it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding, some
from gradlab_core.records import Finding, GradientState, NonfiniteOrigin, Severity, StepRecord
from gradlab_core.text import number


def nonfinite(history: History) -> Iterator[Finding]:
    """`nonfinite-loss` or, if the loss is still finite, `nonfinite-gradient`."""
    broken = history.first_nonfinite
    if broken is None:
        return
    bad_loss = broken.loss is not None and not math.isfinite(broken.loss)
    origin = broken.probe.origin if broken.probe is not None else None
    tensors = _tensors(broken)
    paths = [origin.path] if origin is not None and origin.path is not None else tensors
    what = f"{some(tensors) or 'The gradient'} first held a NaN or an Inf"
    if bad_loss and broken.loss is not None:
        what = f"The loss is {number(broken.loss)}"
    yield finding(
        "nonfinite-loss" if bad_loss else "nonfinite-gradient",
        Severity.CRITICAL,
        step=broken.step,
        paths=paths,
        evidence={**_before(history, broken), "tensors not finite": float(len(tensors))},
        seen=f"{what} at step {broken.step:,}{_born(origin)}.",
    )


def _tensors(record: StepRecord) -> list[str]:
    """Paths of tensors with a NaN or an Inf in value, gradient or update, in the order of the model. Parameters whose
    value has one come first, since they had it before this step."""
    parameters = [path for path, norms in record.tensors.items() if not math.isfinite(norms.param)]
    gradients = [path for path, state in record.states.items() if state is GradientState.NONFINITE]
    updates = [path for path, norms in record.tensors.items() if not math.isfinite(norms.update)]
    return list(dict.fromkeys([*parameters, *gradients, *updates]))


def _born(origin: NonfiniteOrigin | None) -> str:
    if origin is None:
        return ""
    sources = {"input": "the input batch", "target": "the target", "constant": "the loss, a constant,"}
    if origin.operation in sources:
        return f": {sources[origin.operation]} itself holds it"
    if origin.operation in ("parameter", "buffer"):
        return f": {origin.path} held it before this step"
    where = f" in {origin.path}" if origin.path else " of the model" if origin.phase == "forward" else ""
    phase = {"forward": "the forward pass", "loss": "the loss", "backward": "the backward pass"}[origin.phase]
    return f": the operation {origin.operation} in {phase}{where} made it out of finite numbers"


def _before(history: History, broken: StepRecord) -> dict[str, float]:
    """The numbers of the last kept record before the broken one."""
    earlier = [r for r in [*history.selected, *history.recent] if r.step < broken.step]
    if not earlier:
        return {}
    last = max(earlier, key=lambda r: r.step)
    norms = {"gradient norm before": last.grad_norm, "parameter norm before": last.param_norm}
    return norms if last.loss is None else {"loss before": last.loss, **norms}
