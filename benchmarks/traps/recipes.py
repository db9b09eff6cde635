"""Losses and optimizers of both sides, right and with traps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch
from torch.nn import functional as F

from gradlab_core.programs.specs import TrainSpec

from .ports import Traps

RATE, DECAY = 0.05, 0.01


def torch_loss(name: str) -> Callable[[Any, Any], torch.Tensor]:
    """Mean cross-entropy over the last axis, or the mean square."""
    if name == "mse":
        return lambda out, y: F.mse_loss(out, y.to(out))
    return lambda out, y: F.cross_entropy(out.flatten(0, -2), y.flatten())


def jax_loss(name: str, traps: Traps) -> Callable[[Any, Any], Any]:
    """The same, with traps."""

    def squares(out: Any, y: Any) -> Any:
        if "mse: absolute" in traps:
            return jnp.abs(out - y).mean()
        return (optax.l2_loss(out, y) if "mse: half" in traps else optax.squared_error(out, y)).mean()

    def cross_entropy(out: Any, y: Any) -> Any:
        out = jax.nn.softmax(out) if "softmax twice" in traps else out
        if "label smoothing" in traps:
            smooth = optax.smooth_labels(jax.nn.one_hot(y, out.shape[-1], dtype=out.dtype), 0.1)
            return optax.softmax_cross_entropy(out, smooth).mean()
        losses = optax.softmax_cross_entropy_with_integer_labels(out, y)
        if "a label left out" in traps:
            return (losses * (y != 1)).sum() / (y != 1).sum()
        return losses.sum() if "summed loss" in traps else losses.mean()

    return squares if name == "mse" else cross_entropy


def optimizers(name: str, traps: Traps) -> tuple[Any, Any]:
    """Of PyTorch and of JAX: a rule by name, the latter with traps."""
    if name == "sgd":
        return TrainSpec(learning_rate=RATE, momentum=0.9, weight_decay=DECAY, milestones=(1,), gamma=0.5), _sgd(traps)
    if name == "adamw":
        first = optax.scale_by_adam(
            b2=0.99 if "adamw: β₂" in traps else 0.999, eps=1e-6 if "adamw: ε" in traps else 1e-8
        )
        decay = optax.add_decayed_weights(1e-4 if "adamw: decay 1e-4" in traps else DECAY)
        order = (decay, first) if "adamw: decay in the gradient" in traps else (first, decay)
        return lambda p: torch.optim.AdamW(p, lr=RATE, weight_decay=DECAY), optax.chain(*order, optax.scale(-RATE))
    if name == "rmsprop":
        inside = "rmsprop: ε inside" in traps
        rule = optax.rmsprop(RATE, decay=0.99, eps=1e-4 if inside else 1e-8, eps_in_sqrt=inside)
        return lambda p: torch.optim.RMSprop(p, lr=RATE, eps=1e-4 if inside else 1e-8), rule
    start = 0.1 if "adagrad: begins at 0.1" in traps else 0.0
    rule = optax.chain(optax.scale_by_rss(initial_accumulator_value=start, eps=0.0), optax.scale(-RATE))
    return lambda p: torch.optim.Adagrad(p, lr=RATE, eps=1e-15), rule


def _sgd(traps: Traps) -> Any:
    """The recipe of both sides, or optax's with a trap that a recipe cannot have."""
    if "sgd: decay after the rate" in traps:
        schedule = optax.piecewise_constant_schedule(-RATE, {1: 0.5})
        return optax.chain(optax.trace(0.9), optax.scale_by_schedule(schedule), optax.add_decayed_weights(DECAY))
    chained = {
        "sgd: nesterov": [optax.add_decayed_weights(DECAY), optax.trace(0.9, nesterov=True)],
        "sgd: clipped": [optax.scale(0.25), optax.add_decayed_weights(DECAY), optax.trace(0.9)],
        "sgd: uphill": [optax.add_decayed_weights(DECAY), optax.trace(0.9), optax.scale(-1.0)],
    }
    for trap, parts in chained.items():
        if trap in traps:
            schedule = optax.piecewise_constant_schedule(-RATE, {1: 0.5})
            return optax.chain(*parts, optax.scale_by_schedule(schedule))
    late = "sgd: rate of the step before" in traps
    return TrainSpec(
        learning_rate=0.8 * RATE if "sgd: rate" in traps else RATE,
        momentum=0.8 if "sgd: momentum 0.8" in traps else 0.9,
        weight_decay=1e-3 if "sgd: weight decay" in traps else DECAY,
        milestones=(2,) if late else (1,),
        gamma=0.5,
    )
