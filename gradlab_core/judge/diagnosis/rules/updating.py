"""Parameters that get no update."""

from __future__ import annotations

from collections.abc import Iterator

from gradlab_core.definitions.thresholds import LOST_SHARE, STILL_RATIO
from gradlab_core.judge.diagnosis import remedies
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding, some
from gradlab_core.judge.diagnosis.progress import progress
from gradlab_core.judge.diagnosis.rules import left_out
from gradlab_core.judge.diagnosis.weights import weight_paths
from gradlab_core.records import Finding, GradientState, Severity
from gradlab_core.text import number


def not_updating(history: History) -> Iterator[Finding]:
    """`not-updating`, with its reason; each parameter is reported once, under the first reason that holds. Updates lost
    in rounding have a rule of their own (`lost`), since a small gradient or a small rate causes them."""
    yield from _nothing_moves(history)
    yield from left_out.unregistered(history)
    yield from left_out.frozen(history)


def _nothing_moves(history: History) -> Iterator[Finding]:
    """The whole net stands still."""
    records = [*history.early, *history.recent]
    if history.first_nonfinite is not None or not records[0].tensors:
        return
    if history.travelled > 0 and not _never_applied(history):
        return
    first = records[0]
    if any(r.grad_norm != 0.0 for r in records) and not _all(history, GradientState.LOST):
        rates = {r.learning_rate for r in records}
        reason, number = "no step was taken or every one was skipped", {}
        if history.travelled > 0:
            reason = "updates were computed and the parameters stayed the same: they are never applied"
        elif rates == {0.0}:
            reason, number = "the learning rate is 0", {"learning rate": 0.0}
        yield finding(
            "not-updating",
            Severity.CRITICAL,
            step=first.step,
            paths=list(first.tensors),
            evidence={**number, "gradient norm": first.grad_norm, "update ratio": first.update_ratio},
            seen=f"Nothing moved in {history.count:,} recorded steps, though there were gradients: {reason}.",
            remedies=remedies.of_stillness(remedies.STILL),
        )


def _never_applied(history: History) -> bool:
    """Whether updates were recorded but the norms of the parameters did not change. An update at right angles to the
    parameter changes the norm only to second order, so only updates large enough to show in its type count."""
    run = progress(history)
    if run is not None and run.learns:
        return False
    first, last = history.early[0], history.recent[-1]
    moved = [p for p, n in first.tensors.items() if n.update > 0 and n.ratio > STILL_RATIO]
    return bool(
        history.count >= 3
        and moved
        and all(p in last.tensors and last.tensors[p].param == first.tensors[p].param for p in moved)
    )


def lost(history: History) -> Iterator[Finding]:
    """`not-updating` by rounding: at most steps the updates are below the rounding step of the parameter. Biases alone
    are not reported: their gradient may be only rounding, as for the keys of an attention, which the softmax cancels.
    In a net that learns, scales that start at 1, where rounding is coarse, are only noted."""
    stays = history.states.get(GradientState.LOST, {})
    paths = history.paths([p for p, stay in stays.items() if stay.count >= LOST_SHARE * history.count])
    weights = [path for path in paths if not path.endswith("bias")]
    if not weights or history.count == 1:
        return
    run = progress(history)
    harmless = not set(weights) & set(weight_paths(history)) and run is not None and run.useful
    everything = len(paths) >= len(history.early[0].tensors)
    yield finding(
        "not-updating",
        Severity.CRITICAL if everything else Severity.NOTE if harmless else Severity.WARNING,
        step=min(stays[p].first for p in paths),
        paths=weights,
        evidence={"share of steps lost": max(stays[p].count for p in weights) / history.count},
        seen=f"Updates of {some(weights)} were smaller than the rounding step of the parameter, and changed nothing "
        f"(update ratio of the whole net {number(history.recent[-1].update_ratio)}).",
        remedies=remedies.of_stillness(remedies.ROUNDED),
    )


def _all(history: History, state: GradientState) -> bool:
    return len(history.always(state)) == len(history.early[0].tensors)
