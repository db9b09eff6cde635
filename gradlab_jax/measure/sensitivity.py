"""How far the logits move when the input is disturbed a little."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradlab_core.errors import GradlabError
from gradlab_jax.model.checks import check_logits, check_model_inputs
from gradlab_jax.model.modules import Functional, functional
from gradlab_jax.trees.norms import global_norm


def input_sensitivity(model: Any, x: jax.Array, noise: jax.Array, *, mode: str = "eval") -> float:
    """Mean over the batch of ‖f(x+δ) − f(x)‖₂ on the logits.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        x: input batch, native layout (N, spatial…, C).
        noise: δ, of the shape of x; handed in so that both twins see the same
        (`gradlab_core.definitions.noise.default_noise`).
        mode: `eval` by definition; `train` for a net whose running statistics mean nothing yet.

    Raises:
        GradlabError: noise of another shape, or NaN or Inf in either.

    >>> from flax import nnx
    >>> input_sensitivity(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.ones((4, 3)), jnp.zeros((4, 3)))
    0.0
    """
    f, params, rest = functional(model, mode)
    check_model_inputs(x)
    check_model_inputs(noise)
    if x.shape != noise.shape:
        raise GradlabError(f"noise has shape {noise.shape}; expected {x.shape}, the shape of the batch")
    return float(_sensitivity(f, params, rest, x, noise))


@functools.partial(jax.jit, static_argnums=0)
def _sensitivity(f: Functional, params: Any, rest: Any, x: jax.Array, noise: jax.Array) -> jax.Array:
    disturbed, plain = (check_logits(f.apply(params, rest, batch)[0]) for batch in (x + noise, x))
    difference = disturbed - plain
    return jnp.mean(jax.vmap(global_norm)(difference))
