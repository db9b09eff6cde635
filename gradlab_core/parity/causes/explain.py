"""What explains one tensor that differs: the hypotheses of its kind, those of two causes last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from gradlab_core.parity.causes import attention, losses, norms, pointwise, products, statistics, updates
from gradlab_core.parity.causes.cause import Cause, Explanation, Target, by_factor
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

_MOST = 5
"""Explanations that are told of one tensor."""


def explain(local: Local, key: Key) -> list[Explanation]:
    """Explanations, the simplest first; empty where nothing that is known explains it."""
    truth, value = local.truth.get(key), local.value.get(key)
    if truth is None or value is None:
        cut = truth is not None and np.any(truth)
        words = "no gradient arrives, in the reference one does" if cut else "a gradient arrives, in the reference none"
        fix = "look for detach, stop_gradient and frozen parameters"
        cause = Cause("cut-off", words, fix)
        return [Explanation((cause,), 0.0)] if key.quantity in ("gradient", "activation_gradient") else []
    if truth.shape != value.shape or not (np.isfinite(truth).all() and np.isfinite(value).all()):
        return []
    target = Target(np.asarray(truth, np.float64), np.asarray(value, np.float64), local.limits[key])
    specific = list(itertools.islice(_specific(local, key, target), 4 * _MOST))
    explanations = specific or list(_general(target))
    unique = {e.causes: e for e in explanations}
    return sorted(unique.values(), key=lambda e: len(e.causes))[:_MOST]


def _specific(local: Local, key: Key, target: Target) -> Iterator[Explanation]:
    if key.quantity in ("activation", "logits"):
        yield from _of_layer(local, key, target)
    elif key.quantity == "loss":
        yield from losses.loss(local, key, target)
    elif key.quantity == "statistic":
        yield from statistics.statistic(local, key, target)
    elif key.quantity in ("optimizer", "parameter"):
        yield from updates.update(local, key, target)
    elif key.quantity == "learning_rate":
        yield from updates.learning_rate(local, key, target)


def _of_layer(local: Local, key: Key, target: Target) -> Iterator[Explanation]:
    weights = _weights(local.before, key.path)
    axes = max((array.ndim for array in weights.values()), default=0)
    if axes > 2:
        yield from products.convolution(local, key, weights, target)
    elif axes == 2:
        explained = False
        for family in (products.embedding, products.linear, attention.after_attention):
            for explanation in family(local, key, weights, target):
                explained = True
                yield explanation
            if explained:
                return
    elif axes == 1:
        yield from norms.norm(local, key, weights, target)
        yield from pointwise.pointwise(local, key, target)
    else:
        yield from pointwise.pointwise(local, key, target)
        yield from norms.norm(local, key, weights, target)


def _weights(before: Mapping[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    """A layer's own weights, by what they are called in it; a layer may be called as its only weight."""
    own = {
        name.rpartition(".")[2]: array
        for name, array in before.items()
        if name.rpartition(".")[0] == path and array.dtype.kind == "f" and "running_" not in name
    }
    return {"weight": before[path]} if not own and path in before else own


def _general(target: Target) -> Iterator[Explanation]:
    """What may be true of any tensor: a factor, nothing at all, or the same elements in another order."""
    truth, value = target.truth, target.value
    if not value.any():
        yield Explanation(
            (Cause("zero", "it is zero", "look for what cuts it off: detach, stop_gradient, a mask"),), 0.0
        )
        return
    if truth.size > 1:
        for cause, array in by_factor("it")(truth, value):
            left = target.left(array)
            if left is not None:
                yield Explanation((cause,), left)
    for words, array in _orders(truth):
        left = target.left(array) if array.shape == value.shape else None
        if left is not None:
            yield Explanation((Cause("order", words, "compare the order of axes and of what is joined"),), left)
    for axis in range(value.ndim):
        permuted = _permuted(target, axis)
        if permuted is not None:
            yield permuted


def _orders(truth: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for a, b in itertools.combinations(range(truth.ndim), 2):
        yield f"axes {a} and {b} are exchanged", truth.swapaxes(a, b)
    for axis in range(truth.ndim):
        yield f"axis {axis} is turned round", np.flip(truth, axis)
        for by in (1, -1):
            yield f"axis {axis} is shifted by {by}", np.roll(truth, by, axis)


def _permuted(target: Target, axis: int) -> Explanation | None:
    """The same slices along one axis in another order."""
    ours, theirs = (np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (target.truth, target.value))
    if not 1 < len(ours) <= 4096 or ours.shape[1] < 2:
        return None
    marks = [a @ np.cos(np.arange(1, a.shape[1] + 1)) for a in (ours, theirs)]
    order, other = (np.argsort(m) for m in marks)
    back = np.empty_like(order)
    back[other] = order
    left = target.left(np.moveaxis(ours[back].reshape(np.moveaxis(target.truth, axis, 0).shape), 0, axis))
    if left is None:
        return None
    first = ", ".join(map(str, back[:6])) + (" …" if len(back) > 6 else "")
    return Explanation((Cause("permuted", f"the same along axis {axis}, in the order {first}",
                              "compare how weights are cut and joined, and repeat against tile"),), left)  # fmt: skip
