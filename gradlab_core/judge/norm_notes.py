"""Practical notes to a norm report: what its numbers mean for the training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from gradlab_core.definitions.thresholds import HEALTHY_UPDATE_RATIO
from gradlab_core.judge.trends import is_bias
from gradlab_core.records import StepRecord
from gradlab_core.text import listed, number

_ADVICE = {
    "stable": "neither too large nor too small for the parameters as a whole",
    "exploding": "clip the gradient norm, lower the learning rate, standardise input and target, look at the initial "
    "weights",
    "vanishing": "ReLU-like activations with Kaiming initialisation, residual connections or normalisation layers; for "
    "sequences an LSTM or GRU. If the loss is where it should be, the net has learned and all is well",
}
_BROKEN = "Find where the first NaN or Inf came from: the diagnosis names it where it can"
_SAME = 0.05  # an applied update this close to η‖g‖ is plain SGD's
_APART = 1e3  # from such a factor on between the layers the norm of the whole net hides them


def notes(run: Sequence[StepRecord], classes: Sequence[str | None]) -> list[str]:
    """In words, the class first. `classes` holds that of every record."""
    rules = (_of_layers, _of_steps, _of_ratios, _of_clipping, _missing)
    return [*_of_classes(run, classes), *(note for rule in rules for note in rule(run))]


def _of_classes(run: Sequence[StepRecord], classes: Sequence[str | None]) -> list[str]:
    notes = []
    for word in dict.fromkeys(classes):
        where = [record for record, its in zip(run, classes, strict=True) if its == word]
        part = f"{len(where):,} of {len(run):,} records, first at step {where[0].step:,}"
        head = f"every record ({len(run):,})" if len(where) == len(run) else part
        if word is None:
            notes.append(
                f"No class at {head}: no parameter has a gradient path, which is another thing than a gradient "
                "that is 0."
            )
            continue
        norms = [record.grad_norm for record in where]
        reach = f"‖g‖ {number(norms[0])}" if len(norms) == 1 else f"‖g‖ from {_least(norms)} to {_largest(norms)}"
        # A norm that is not finite cannot be clipped.
        broken = word == "exploding" and not any(map(math.isfinite, norms))
        notes.append(f"{word.capitalize()} at {head}: {reach}. {_BROKEN if broken else _ADVICE[word].capitalize()}.")
    return notes


def _least(norms: Sequence[float]) -> str:
    finite = [norm for norm in norms if math.isfinite(norm)]
    return number(min(finite)) if finite else number(norms[0])


def _largest(norms: Sequence[float]) -> str:
    nan = [norm for norm in norms if math.isnan(norm)]
    return "NaN" if nan else number(max(norms))


def _of_layers(run: Sequence[StepRecord]) -> list[str]:
    """A note on how far the gradients of the layers differ, which the norm of the whole net hides."""
    looked = run[:: -(-len(run) // 200)]
    medians: dict[str, float] = {}
    for path in dict.fromkeys(path for record in looked for path in record.tensors):
        norms = [record.tensors[path] for record in looked if path in record.tensors]
        known = [n.grad / n.param for n in norms if n.grad is not None and n.param > 0]
        relative = [value for value in known if math.isfinite(value) and value > 0]
        if relative and not is_bias(path):
            medians[path] = median(relative)
    least, most = (
        (min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)) if medians else ("", "")
    )
    if not medians or medians[most] < _APART * medians[least]:
        return []
    return [
        f"The whole net hides its layers: ‖g‖/‖θ‖ of {most} is {number(medians[most] / medians[least])} times that of "
        f"{least} (medians)."
    ]


def _of_steps(run: Sequence[StepRecord]) -> list[str]:
    """The applied update beside η‖g‖."""
    plain = [(r.update_norm, r.learning_rate * r.grad_norm) for r in run if r.learning_rate is not None]
    finite = [applied / length for applied, length in plain if length > 0 and math.isfinite(applied / length)]
    if not finite:
        return []
    middle = median(finite)
    if abs(middle - 1) <= _SAME:
        return ["The applied update is η‖g‖, as under plain SGD."]
    if middle == 0:
        return ["The applied update is 0 though η‖g‖ is not: the optimizer moved nothing."]
    return [
        f"The applied update is {number(middle)} times η‖g‖ (median), as momentum, Adam or weight decay make it: "
        "read the applied ratio, η‖g‖/‖θ‖ says little here."
    ]


def _of_ratios(run: Sequence[StepRecord]) -> list[str]:
    finite = [r.update_ratio for r in run if math.isfinite(r.update_ratio)]
    if not finite:
        return ["No step has a finite applied ratio."]
    middle, (low, high) = median(finite), HEALTHY_UPDATE_RATIO
    zone = f"{number(low)} to {number(high)}"
    if middle == 0:
        return ["The applied ratio is 0 (median): the parameters do not move."]
    if low <= middle <= high:
        return [f"The applied ratio is {number(middle)} (median), within the usual {zone}."]
    what = (
        "below: the net hardly moves, as in fine-tuning, at the end of a schedule, or with too low a learning rate"
        if middle < low
        else "above: steps are long, as at the start of a run, or with too high a learning rate"
    )
    return [f"The applied ratio is {number(middle)} (median), against the usual {zone}. It lies {what}."]


def _of_clipping(run: Sequence[StepRecord]) -> list[str]:
    known = [r for r in run if r.clipped is not None]
    raw = [r.raw_grad_norm for r in known if r.clipped and r.raw_grad_norm is not None]
    if not raw:
        return []
    return [
        f"Clipping made the gradient smaller at {len(raw):,} of {len(known):,} records; before it ‖g‖ was up to "
        f"{_largest(raw)}. The class is of the gradient after it."
    ]


def _missing(run: Sequence[StepRecord]) -> list[str]:
    names = {
        "the learning rate, so η‖g‖ is not known": all(r.learning_rate is None for r in run),
        "the loss, so a small gradient at convergence cannot be told from a vanishing one": all(
            r.loss is None for r in run
        ),
    }
    missing = [name for name, is_missing in names.items() if is_missing]
    return [f"Not measured: {listed(missing)}."] if missing else []
