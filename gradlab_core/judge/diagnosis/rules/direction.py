"""Steps that go the wrong way: uphill, or only towards zero."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from gradlab_core.definitions.thresholds import (
    DECAY_COSINE,
    DECAY_SHRUNK,
    FAST_RATIO,
    OPPOSITE,
    UPHILL_COSINE,
    UPHILL_SHARE,
    UPHILL_STEPS,
)
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding, some
from gradlab_core.judge.diagnosis.progress import progress
from gradlab_core.judge.promise import kept
from gradlab_core.records import Finding, Severity, StepRecord, TensorNorms
from gradlab_core.text import number

Moved = StepRecord | TensorNorms


def uphill(history: History) -> Iterator[Finding]:
    """`uphill-step`: from the first steps on, nearly all of them point along the gradient, of the whole net or of some
    tensors; or the loss rises by what they promise it to fall."""
    run = progress(history)
    severity = Severity.WARNING if run is not None and run.useful else Severity.CRITICAL
    whole = _uphill(history, None)
    of_tensor = {path: _uphill(history, path) for path in history.order}
    paths = [path for path, cosines in of_tensor.items() if cosines]
    if whole or paths:
        everything = bool(whole) and len(paths) == len(history.early[0].tensors)
        cosines = whole or of_tensor[paths[0]]
        who = "The update of the whole net" if whole else f"The update of {some(paths)}"
        raw = _are_gradients(history, paths)
        yield finding(
            "uphill-step",
            severity,
            step=history.early[0].step,
            paths=[] if everything else paths,
            evidence={
                "median cosine of gradient and update": statistics.median(cosines),
                "share of steps uphill": sum(c > UPHILL_COSINE for c in cosines) / len(cosines),
            },
            seen=f"{who} points along the gradient (median cosine {number(statistics.median(cosines))})."
            + (" It is the gradient itself, as optax.masked hands on what it leaves out." if raw else ""),
        )
    else:
        yield from _other_sign(history, severity)


def decaying(history: History) -> Iterator[Finding]:
    """`weight-decay-too-strong`: the parameters shrank, by steps that point at zero and not down the gradient, and the
    net learned nothing."""
    run = progress(history)
    if run is None or run.useful or history.count < UPHILL_STEPS:
        return
    every = {r.step: r for r in [*history.early, *history.selected]}
    records = [r for r in every.values() if _is_known(r)]
    start = records[0].param_norm if records else 0.0
    shrunk = next((r for r in records if r.param_norm <= DECAY_SHRUNK * start), None)
    # Once they are small, gradient and decay hold each other in balance.
    falling = [r for r in records if r.param_norm > DECAY_SHRUNK**3 * start]
    if shrunk is None or not falling:
        return
    cosines = [r.param_update_cosine or 0.0 for r in falling]
    along = statistics.median(cosines)
    if along > -DECAY_COSINE or not _is_decay(
        along, statistics.median(abs(r.grad_update_cosine or 0) for r in falling)
    ):
        return
    smallest = min(r.param_norm for r in records)
    yield finding(
        "weight-decay-too-strong",
        Severity.CRITICAL,
        step=shrunk.step,
        evidence={
            "median cosine of parameters and update": along,
            "median update ratio": statistics.median(r.update_ratio for r in falling),
            "norm of the parameters at the start": start,
            "smallest norm": smallest,
        },
        seen=f"The norm of the parameters fell from {number(start)} to {number(smallest)}, by steps that point at zero "
        f"(median cosine of parameters and update {number(along)}), and the loss is {number(run.recent)}.",
    )


def _uphill(history: History, path: str | None) -> list[float]:
    """The cosines of gradient and update, of a tensor or of the whole net, if nearly all steps go uphill, of the first
    as of all; else none."""
    early, throughout = (_moved(records, path) for records in (history.early, history.selected))
    first, cosines = ([m.grad_update_cosine or 0.0 for m in some] for some in (early, throughout))
    if min(len(first), len(cosines)) < UPHILL_STEPS or not (_mostly(first) and _mostly(cosines)):
        return []
    along = statistics.median(m.param_update_cosine or 0.0 for m in throughout)
    return [] if _is_decay(along, statistics.median(cosines)) else cosines


def _moved(records: Sequence[StepRecord], path: str | None) -> list[Moved]:
    """That part of the records, where its cosines are numbers."""
    parts: list[Moved] = list(records) if path is None else [r.tensors[path] for r in records if path in r.tensors]
    return [moved for moved in parts if _is_known(moved)]


def _is_known(moved: Moved) -> bool:
    return moved.grad_update_cosine is not None and math.isfinite(moved.grad_update_cosine)


def _mostly(cosines: Sequence[float]) -> bool:
    return sum(c > UPHILL_COSINE for c in cosines) >= UPHILL_SHARE * len(cosines)


def _is_decay(along: float, cosine: float) -> bool:
    """Whether an update points at zero more than it points along or against the gradient."""
    return -along > cosine + 0.1


def _are_gradients(history: History, paths: Sequence[str]) -> bool:
    pairs = [(r.tensors[p].update, r.tensors[p].grad) for r in history.early for p in paths if p in r.tensors]
    return bool(pairs) and all(g is not None and math.isclose(u, g, rel_tol=1e-3) for u, g in pairs)


def _other_sign(history: History, severity: Severity) -> Iterator[Finding]:
    """The loss rises by what short steps promise it to fall: the gradient is that of its negative."""
    ratios = [r.update_ratio for r in history.selected if math.isfinite(r.update_ratio)]
    if not ratios or statistics.median(ratios) > FAST_RATIO or history.first_nonfinite is not None:
        return
    records = history.selected
    came = [kept(part) for part in (records, records[: len(records) // 2], records[len(records) // 2 :])]
    whole = came[0]
    if whole is None or any(f is None or f.ratio is None or f.promised < 0 for f in came):
        return
    if all(f is not None and f.ratio is not None and OPPOSITE[0] < -f.ratio < OPPOSITE[1] for f in came):
        yield finding(
            "uphill-step",
            severity,
            step=records[0].step,
            evidence={
                "actual over promised decrease": whole.actual / whole.promised,
                "promised decrease": whole.promised,
            },
            seen=f"The steps promised the loss to fall by {number(whole.promised)}, and it rose by "
            f"{number(-whole.actual)}: the gradient is that of a loss with the other sign.",
        )
