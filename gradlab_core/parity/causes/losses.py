"""The loss: which function of logits and labels it is, and what is averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import special

from gradlab_core.parity.causes.cause import Cause, Change, Explanation, Settings, Target, search, to
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

_SMOOTHINGS = (0.1, 0.05, 0.2, 0.01, 0.15, 0.25, 0.3, 0.5)


def _cross_entropy(s: Settings) -> np.ndarray:
    """-(1 - α)·log p(label) - α·mean of log p, for each example."""
    logp = special.log_softmax(s["logits"], axis=-1)
    own = np.take_along_axis(logp, s["labels"][..., None], axis=-1)[..., 0]
    alpha = s.get("smoothing", 0.0)
    return np.asarray(-(1 - alpha) * own - alpha * logp.mean(axis=-1))


def _squares(s: Settings) -> np.ndarray:
    return np.asarray((s["logits"] - s["labels"]) ** 2)


def _absolute(s: Settings) -> np.ndarray:
    return np.asarray(np.abs(s["logits"] - s["labels"]))


def _huber(s: Settings) -> np.ndarray:
    away = _absolute(s)
    return np.asarray(np.where(away < 1, 0.5 * away**2, away - 0.5))


def _binary(s: Settings) -> np.ndarray:
    return np.asarray(np.logaddexp(0, s["logits"]) - s["labels"] * s["logits"])


_LOSSES: dict[str, Callable[[Settings], np.ndarray]] = {
    "cross-entropy": _cross_entropy,
    "the square": _squares,
    "the absolute difference": _absolute,
    "Huber's loss": _huber,
    "binary cross-entropy": _binary,
}
_REDUCTIONS = ("the mean", "the sum", "the sum over examples' means", "the mean over examples' sums")


def loss(local: Local, key: Key, target: Target) -> Iterator[Explanation]:
    """Of a scalar: a sum or a mean of one of the usual losses."""
    logits = local.truth.get(Key("logits"))
    labels = np.asarray(local.batch[1]) if not isinstance(local.batch[1], dict) else None
    if logits is None or labels is None or labels.dtype == object:
        return
    for name, function in _LOSSES.items():
        classes = labels.dtype.kind in "iu" and labels.shape == logits.shape[:-1]
        if (name == "cross-entropy") != classes or (not classes and labels.shape != logits.shape):
            continue
        for smoothing in (0.0, *_SMOOTHINGS) if classes else (0.0,):
            for how in _REDUCTIONS:
                settings: Settings = {
                    "logits": logits, "labels": labels, "f": function, "how": how, "times": 1.0, "kept": None,
                    "smoothing": smoothing,
                }  # fmt: skip
                if target.is_reference(_reduced(settings)):
                    yield from search(_reduced, settings, list(_changes(settings, name)), target)
                    return


def _reduced(s: Settings) -> np.ndarray:
    values = s["f"](s)
    if s["kept"] is not None:
        values = values[s["kept"]]
    if not values.size:
        return np.asarray(np.nan)
    made = {
        "the mean": values.mean,
        "the sum": values.sum,
        "the sum over examples' means": lambda: values.reshape(len(values), -1).mean(axis=1).sum(),
        "the mean over examples' sums": lambda: values.reshape(len(values), -1).sum(axis=1).mean(),
    }[s["how"]]()
    return np.asarray(s["times"] * made)


def _changes(settings: Settings, name: str) -> Iterator[Change]:
    for how in _REDUCTIONS:
        if how != settings["how"]:
            words = f"the loss is {how}, in the reference {settings['how']}"
            yield Cause("ce-reduction", words, f"take {settings['how']}"), to(how=how)
    for factor, fix in ((0.5, "optax's l2_loss has a factor ½: leave it out"), (2.0, "leave the factor out")):
        words = f"the loss is {factor:g} × the reference's"
        yield Cause("mse-half", words, fix), to(times=factor)
    if name == "cross-entropy":
        for alpha in (0.0, *_SMOOTHINGS):
            if alpha != settings["smoothing"]:
                words = f"labels are smoothed by {alpha:g}, in the reference by {settings['smoothing']:g}"
                fix = f"smooth them by {settings['smoothing']:g}"
                yield Cause("label-smoothing", words, fix), to(smoothing=alpha)
        yield (
            Cause("double-softmax", "it takes the softmax of what has been through a softmax", "hand it the logits"),
            to(logits=special.softmax(settings["logits"], axis=-1)),
        )
        for label in np.unique(settings["labels"])[:8]:
            words = f"examples of label {label} are left out of the loss"
            fix = "give both the same ignore_index, or the same mask"
            yield Cause("ignored-label", words, fix), to(kept=settings["labels"] != label)
    else:
        for other, function in _LOSSES.items():
            if other not in ("cross-entropy", name):
                yield (
                    Cause("loss", f"it is {other}, in the reference {name}", f"use {name}"),
                    to(f=function),
                )
