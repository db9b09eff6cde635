"""Gradients that never arrive: none at all, exactly 0, or cut off from a part of the net."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from gradlab_core.definitions.thresholds import LOSS_OVER, UNREACHED_STEPS, ZERO_SHARE, ZERO_STEPS, ZERO_STEPS_PART
from gradlab_core.judge.diagnosis import remedies
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding, some
from gradlab_core.judge.diagnosis.progress import progress
from gradlab_core.judge.diagnosis.rules import activations
from gradlab_core.judge.diagnosis.weights import weight_paths
from gradlab_core.records import Finding, GradientState, Severity, StepRecord


def nowhere(history: History) -> Iterator[Finding]:
    """`no-gradient`: no parameter that could be trained had a gradient at any step. That is one fault of the loop, not
    one of each parameter."""
    cut = history.always(GradientState.DISCONNECTED)
    if cut and {*cut, *history.always(GradientState.FROZEN)} == set(history.order):
        yield finding(
            "no-gradient",
            Severity.CRITICAL,
            step=history.early[0].step,
            paths=cut,
            evidence={"parameters without gradient": float(len(cut)), "steps": float(history.count)},
            seen=f"None of the {len(cut)} parameters had a gradient at any of {history.count:,} recorded steps.",
        )


def disconnected(history: History) -> Iterator[Finding]:
    """`disconnected-parameter`: no gradient path at any step. The nearest to the loss comes first: what cuts the
    gradient stands right behind it."""
    paths = history.always(GradientState.DISCONNECTED)[::-1]
    unreached = _have_siblings(history, paths)
    if paths and not (unreached and history.count < UNREACHED_STEPS):
        everything = len(paths) == len(history.order)
        yield finding(
            "disconnected-parameter",
            Severity.CRITICAL if everything else Severity.WARNING,
            step=history.early[0].step,
            paths=paths,
            evidence={"parameters without gradient": float(len(paths)), "parameters": float(len(history.order))},
            seen=f"{some(paths)} got no gradient at any step{', while siblings did' if unreached else ''}.",
            remedies=remedies.of_unreached("disconnected-parameter") if unreached else None,
        )


def zero(history: History) -> Iterator[Finding]:
    """`zero-gradient`: exactly 0 at every step, in all weights or in some. Where a hidden layer is dead, that is said
    instead."""
    if history.first_nonfinite is not None or not history.early:
        return
    dead = [path for idle in activations.dead(history) for path in idle.paths]
    since = _since(history)
    if since is not None:
        if not dead or _output_is_constant(history):
            yield _everywhere(history, since)
        return
    paths = [] if dead else _parts(history)[::-1]
    unreached = _have_siblings(history, paths)
    if paths and history.count >= (UNREACHED_STEPS if unreached else ZERO_STEPS_PART):
        yield finding(
            "zero-gradient",
            Severity.WARNING,
            step=history.early[0].step,
            paths=paths,
            evidence={"parameters with a gradient of 0": float(len(paths)), "parameters": float(len(history.order))},
            seen=f"The gradient of {some(paths)} was exactly 0 at each of {history.count:,} recorded steps, while "
            f"{'siblings got one' if unreached else 'others got one'}.",
            remedies=remedies.of_unreached("zero-gradient") if unreached else remedies.of_zero(remedies.CUT),
        )


def _everywhere(history: History, since: StepRecord) -> Finding:
    weights = weight_paths(history)
    empty = all(since.tensors[path].param == 0.0 for path in weights if path in since.tensors)
    reason, why = None, ""
    if empty:
        reason, why = remedies.ALL_ZERO, " All weights are 0."
    elif not any(history.losses()[1]):
        reason, why = remedies.CONSTANT, " The loss is 0 at every step."
    elif _output_is_constant(history):
        reason, why = remedies.OUTPUT, " The output is the same number for every example."
    return finding(
        "zero-gradient",
        Severity.CRITICAL,
        step=since.step,
        paths=weights[::-1],
        evidence={"steps": float(history.recent[-1].step - since.step + 1)},
        seen=f"Since step {since.step:,} the gradient of every weight is exactly 0 at nearly every step.{why}",
        remedies=remedies.of_zero(reason),
    )


def _since(history: History) -> StepRecord | None:
    """The record since which every weight's gradient is exactly 0 at nearly every step, to the newest; None if that is
    not so, for too short a time, or where the loss is over."""
    weights = [path for path in weight_paths(history) if path in history.recent[-1].tensors]
    recent = sum(_is_zero(record, weights) for record in history.recent)
    if recent < ZERO_SHARE * len(history.recent):
        return None
    records = {r.step: r for r in [*history.early[:1], *history.selected, *history.recent]}
    since, zeros = None, 0
    for count, step in enumerate(sorted(records, reverse=True), 1):
        if _is_zero(records[step], weights):
            zeros += 1
            since = records[step] if zeros >= ZERO_SHARE * count else since
    if since is history.early[0]:
        return since if history.count >= ZERO_STEPS else None
    run = progress(history)
    is_over = run is not None and abs(run.recent) <= LOSS_OVER * abs(run.start)
    return None if is_over or recent < ZERO_STEPS_PART else since


def _is_zero(record: StepRecord, weights: Collection[str]) -> bool:
    grads = [record.tensors[path].grad for path in weights if path in record.tensors]
    return 0.0 in grads and not any(grads)


def _parts(history: History) -> list[str]:
    """Weights whose gradient was 0 at every step, but for those that underflow: the gradients behind them are next to
    nothing too, and have vanished."""
    weights = weight_paths(history)
    paths = [path for path in history.always(GradientState.ZERO) if path in weights]
    if not paths:
        return []
    behind = weights[max(map(weights.index, paths)) + 1 :]
    tiny = history.states.get(GradientState.TINY, {})
    faint = behind and behind[0] in tiny and 2 * tiny[behind[0]].count > history.count
    return [] if faint else paths


def _output_is_constant(history: History) -> bool:
    return history.last_probe is not None and history.last_probe[1].output.std == 0.0


def _have_siblings(history: History, paths: Sequence[str]) -> bool:
    """Whether each path has a sibling that is called alike but for a number and gets gradients, and something in front
    gets gradients too: so an expert that is not reached looks. Whatever is cut off by a detach lies in front of it."""
    others = [path for path in history.early[0].tensors if path not in paths]
    if not paths or not others or history.paths([*others, *paths])[0] not in others:
        return False
    kinds = {_kind(path) for path in others}
    return all(_kind(path) in kinds and _kind(path) != path for path in paths)


def _kind(path: str) -> str:
    return re.sub(r"\d+", "#", path)
