"""Gradient norms from the last layer back to the first, and the state of every gradient."""

from __future__ import annotations

import functools
from typing import Any

import jax

from gradlab_core.definitions import reference
from gradlab_core.definitions.states import gradient_state
from gradlab_core.records import GradientFlow, GradientState
from gradlab_jax.model.checks import as_labels, check_model_labels
from gradlab_jax.model.gradients import Loss, disconnected, loss_and_gradients
from gradlab_jax.model.inputs import Inputs, checked_inputs
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import Functional, functional
from gradlab_jax.model.taps import taps
from gradlab_jax.trees.norm_arithmetic import stacked_norms


def gradient_flow(model: Any, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train") -> GradientFlow:
    """Loss, and the gradient norm of every parameter on one batch.

    `first` is the weight of the first convolution in execution order (without one, the first weight; of a recurrent
    layer, its weight on the input), `last` that of the last linear layer. A parameter with no gradient path is None in
    `layers` and listed in `disconnected`.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        x: input batch, native layout (N, spatial…, C); several inputs by name in a mapping, by
            place in a tuple or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: a batch with NaN or Inf, or labels out of range.

    >>> from flax import nnx
    >>> flow = gradient_flow(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jax.numpy.ones((4, 3)), jax.numpy.array([0, 1, 0, 1]))
    >>> list(flow.layers), round(flow.ratio, 6)
    (['weight', 'bias'], 1.0)
    """
    f, params, rest = functional(model, mode)
    x, y = _checked(f, params, rest, x, y, loss)
    value, sizes = jax.device_get(_flow(f, loss, params, rest, x, y))
    cut = disconnected(f, params, rest, x, y, loss)
    layers = {n: None if c else float(s) for n, c, s in zip(f.names, cut, sizes, strict=True)}
    calls = [(tap.path, tap.kind) for tap in taps(f, params, rest, x)]
    return reference.gradient_flow(mode=mode, loss=float(value), layers=layers, calls=calls)


def check_gradients(
    model: Any, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> dict[str, GradientState]:
    """`{path: state of its gradient}` on one batch; tells `disconnected`, zero by the structure of the program, from
    `zero`, a number.

    >>> from flax import nnx
    >>> layer, x, y = nnx.Linear(1, 2, rngs=nnx.Rngs(0)), jax.numpy.zeros((2, 1)), jax.numpy.array([0, 1])
    >>> check_gradients(layer, x, y)["weight"].value
    'zero'
    """
    f, params, rest = functional(model, mode)
    x, y = _checked(f, params, rest, x, y, loss)
    _, sizes = jax.device_get(_flow(f, loss, params, rest, x, y))
    cut = disconnected(f, params, rest, x, y, loss)
    rows = zip(f.names, params, cut, sizes, strict=True)
    return {name: gradient_state(None if c else float(size), p.size) for name, p, c, size in rows}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _flow(f: Functional, loss: Loss, params: Any, rest: Any, x: Any, y: jax.Array) -> Any:
    value, grads, _, _ = loss_and_gradients(f, params, rest, x, y, loss)
    return value, stacked_norms(list(grads))


def _checked(f: Functional, params: Any, rest: Any, x: Any, y: Any, loss: Loss) -> tuple[Any, jax.Array]:
    x = checked_inputs(x)
    if loss is cross_entropy:
        check_model_labels(y, jax.eval_shape(f.apply, params, rest, x)[0])
    return x, as_labels(y)
