"""A PyTorch net and its port with some traps, as the parity judgement takes them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.parity import Link, Turn, moved

from . import originals, ports
from .ports import Traps
from .recipes import jax_loss, optimizers, torch_loss
from .sizes import Sizes


class Pair(NamedTuple):
    """What `gradlab_core.parity.compare` takes. The rules say that weights correspond as their names do, so that a
    transposed kernel is a fault and not a layout of the port's own."""

    reference: Any
    candidate: Any
    batch: tuple[np.ndarray, np.ndarray]
    rules: dict[str, Link]


def pair(net: str, traps: Traps, seed: int) -> Pair:
    """A drawn pair; the same one for every set of traps."""
    rng = np.random.default_rng(seed)
    sizes = Sizes.drawn(rng)
    torch.manual_seed(seed)
    original = {
        "convolutional": originals.Convolutional,
        "decoder": originals.Decoder,
        "plain": originals.Plain,
    }[net](sizes)
    weights = moved(gradlab_torch.to_canonical(original), seed=seed)
    gradlab_torch.from_canonical(original, weights)
    # A net that is as wide as its words: the losses are those of words, and the optimizer says which of the two a port
    # of the plain net is compared under.
    loss = "mse" if any(trap.startswith("mse") for trap in traps) else "cross-entropy"
    rule = next((trap.partition(":")[0] for trap in sorted(traps) if ":" in trap and not trap.startswith("mse")), "sgd")
    rules = optimizers(rule, traps)
    reference = gradlab_torch.Subject(original, loss=torch_loss(loss), optimizer=rules[0])
    candidate = gradlab_jax.Subject(
        _function(net, weights, sizes, traps), loss=jax_loss(loss, traps), optimizer=rules[1], layout=_layout(net)
    )
    same = {name: Link.one(name, name, Turn.same(array.shape)) for name, array in weights.items()}
    return Pair(reference, candidate, _batch(net, sizes, loss, rng), same)


def _layout(net: str) -> str:
    return "NHWC" if net == "convolutional" else "none"


def _function(net: str, weights: dict[str, np.ndarray], sizes: Sizes, traps: Traps) -> gradlab_jax.Function:
    params: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for name, array in weights.items():
        owner, _, kind = name.rpartition(".")
        (state if "running_" in kind else params).setdefault(owner, {})[kind] = jnp.asarray(array)
    apply = functools.partial(getattr(ports, net), sizes=sizes, traps=traps)
    return gradlab_jax.Function(apply, params, state) if state else gradlab_jax.Function(apply, params)


def _batch(net: str, sizes: Sizes, loss: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    count = 6
    if net == "decoder":
        words = rng.integers(0, sizes.words, (count, sizes.length + 1))
        return words[:, :-1], np.where(rng.random((count, sizes.length)) < 0.3, 1, words[:, 1:])
    if net == "convolutional":
        x = rng.standard_normal((count, 3, 12, 12)).astype(np.float32)
        return x, rng.integers(0, sizes.classes, count)
    x = rng.standard_normal((count, sizes.width)).astype(np.float32)
    if loss == "mse":
        return x, rng.standard_normal((count, sizes.classes)).astype(np.float32)
    return x, rng.integers(0, sizes.classes, count)
