"""The plain chain at the start of a model: as far as each layer or activation takes what the one before gave, and that
alone. Found by trying: a layer run by itself on the output before it gives what it gave in the model, or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.lab.activations import ACTIVATIONS, activation_value
from gradlab_core.lab.prediction import LAYERS, Link
from gradlab_core.lab.propagation import is_random, same_values
from gradlab_jax.model.modules import canonical_name, clone, named_modules
from gradlab_jax.model.taps import Tap

_View = Callable[[jax.Array], jax.Array]
_VIEWS: tuple[_View, ...] = (
    lambda x: x,
    lambda x: x.reshape(len(x), -1),
    lambda x: jnp.moveaxis(x, -1, 1).reshape(len(x), -1),  # channels first, as PyTorch flattens
)


def find_chain(
    model: Any, mode: str, x: jax.Array, taps: list[Tap], values: list[jax.Array], out: Any
) -> tuple[list[Link], bool]:
    """Links for the first taps of a model, and whether they are the whole of it; none for a Linen module, which does
    not say what its layers are.

    Args:
        x: a few examples.
        values: what every tap gave for them.
        out: what the model gave for them.
    """
    links: list[Link] = []
    if not isinstance(model, nnx.Module):
        return links, False
    private = clone(model)
    private.train() if mode == "train" else private.eval()
    layers = dict(named_modules(private))
    before = x
    for tap, value in zip(taps, values, strict=True):
        link = _link(layers.get(tap.path), tap, before, value, after_layer=bool(links) and links[-1].push is not None)
        if link is None:
            return links, False
        links.append(link)
        before = value
    return links, bool(links) and same_values(_host(out), _host(before))


def _link(layer: Any, tap: Tap, before: jax.Array, value: jax.Array, *, after_layer: bool) -> Link | None:
    if tap.kind in ACTIVATIONS:
        fits = after_layer and same_values(activation_value(tap.kind, _host(before)), _host(value))
        return Link(tap.kind) if fits else None
    if tap.kind not in LAYERS:
        return None
    own = {canonical_name(name): v.get_value() for name, v in vars(layer).items() if isinstance(v, nnx.Param)}
    if "weight" not in own or not is_random(_host(own["weight"])):
        return None
    for view in _VIEWS:
        try:
            alone = layer(view(before))
        except (TypeError, ValueError):  # a shape, or a number of inputs, that it does not take
            continue
        if same_values(_host(alone), _host(value)):
            bias = float(np.mean(np.square(_host(own["bias"])))) if own.get("bias") is not None else 0.0
            push, pull = _on_squares(layer, float(np.mean(np.square(_host(own["weight"])))), view, before.shape[1:])
            return Link(tap.kind, value.shape[-1], push, pull, bias)
    return None


def _on_squares(
    layer: Any, mean_square: float, view: _View, shape: tuple[int, ...]
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """What a layer of random weights does to second moments: what it does to numbers with its weights all the same,
    their mean square. And its transpose."""
    alike: Any = clone(layer, lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)))
    alike.dtype = None  # the precision of what it is given
    for name, variable in vars(alike).items():
        if isinstance(variable, nnx.Param) and variable.get_value() is not None:
            filled = mean_square if canonical_name(name) == "weight" else 0.0
            variable.set_value(jnp.full_like(variable.get_value(), filled))

    def push(q: np.ndarray) -> np.ndarray:
        return _host(alike(view(jnp.asarray(q))))

    def pull(g: np.ndarray) -> np.ndarray:
        _, back = jax.vjp(lambda q: alike(view(q)), jnp.zeros((len(g), *shape)))
        return _host(back(jnp.asarray(g))[0])

    return push, pull


def _host(x: Any) -> np.ndarray:
    return np.asarray(jax.device_get(x)).astype(np.float64)
