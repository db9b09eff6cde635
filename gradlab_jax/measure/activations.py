"""Statistics of every activation, computed where it arises, inside one compiled program."""

from __future__ import annotations

import functools
from typing import Any

import jax

from gradlab_core.records import LayerStats, Rows
from gradlab_jax.measure.statistics import Row, rows_of, tracked
from gradlab_jax.model.inputs import Inputs, checked_inputs
from gradlab_jax.model.modules import Functional, functional
from gradlab_jax.model.taps import run_tapped


def activation_stats(model: Any, x: Inputs, *, mode: str) -> list[LayerStats]:
    """Statistics of each call of each convolution, normalisation and activation, in execution order.

    Activations called as functions (`nnx.relu(x)`) count, under the path of the module that called them; a layer
    called twice gives two rows. The model is left as it was, running statistics included.

    Args:
        model: of NNX, Linen (bound: `module.bind(variables)`) or Equinox, or a `Function`.
        x: input batch, native layout (N, spatial…, C); several inputs by name in a mapping, by
            place in a tuple or a list.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: not a model, an unknown mode, or a batch with NaN or Inf.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> net = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.relu)
    >>> [(row.path, row.kind, row.shape) for row in activation_stats(net, jnp.ones((2, 8, 8, 3)), mode="eval")]
    [('0', 'conv', (2, 4, 8, 8)), ('', 'relu', (2, 4, 8, 8))]
    """
    f, params, rest = functional(model, mode)
    x = checked_inputs(x)
    rows = jax.device_get(_all_stats(f, params, rest, x))
    return Rows([row.record(mode) for row in rows])


@functools.partial(jax.jit, static_argnums=0)
def _all_stats(f: Functional, params: Any, rest: Any, x: jax.Array) -> list[Row]:
    return rows_of(run_tapped(f, params, rest, x, tracked)[2])
