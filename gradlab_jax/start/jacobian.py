"""Singular values of the Jacobian of a model's output in its input, one example at a time."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradlab_core.lab.jacobian import JacobianSpectrum, Product, check_floating, check_options, spectrum
from gradlab_jax.model.checks import check_logits, check_model_inputs
from gradlab_jax.model.modules import Functional, functional
from gradlab_jax.model.weights import as_numpy, to_native


def jacobian_singular_values(
    model: Any, x: jax.Array, *, k: int | None = None, method: str = "exact", seed: int = 0
) -> list[JacobianSpectrum]:
    """The largest singular values of ∂output/∂input, for each example by itself; in eval mode, in which examples do not
    see one another (with batch normalisation it needs running statistics that mean something).

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        x: input batch, native layout (N, spatial…, C), of floating numbers.
        k: how many; None for all (`exact`) or ten (`lanczos`).
        method: `exact` writes the Jacobian out, a product for each output (or input, if those are fewer); `lanczos`
            finds the largest from products alone, and estimates the mean squared one from random signs.
        seed: of the start and the signs.

    Raises:
        GradlabError: a batch with NaN or Inf or of whole numbers, a Jacobian too large to write out, bad options.

    >>> from flax import nnx
    >>> layer = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
    >>> layer.kernel.set_value(jnp.array([[3.0, 0.0], [0.0, 0.5]]))
    >>> (found,) = jacobian_singular_values(layer, jnp.ones((1, 2)))
    >>> found.values, found.condition, found.mean_squared
    ((3.0, 0.5), 6.0, 4.625)
    """
    check_options(k, method, seed)
    f, params, rest = functional(model, "eval")
    check_model_inputs(x)
    x = jnp.asarray(x)
    check_floating(jnp.issubdtype(x.dtype, jnp.floating), x.dtype)
    spectra = []
    for index in range(len(x)):
        push, pull, shape = _products(f, params, rest, x[index : index + 1])
        spectra.append(spectrum(push, pull, shape, k=k, method=method, seed=seed))
    return spectra


def _products(f: Functional, params: Any, rest: Any, x: jax.Array) -> tuple[Product, Product, tuple[int, int]]:
    """v ↦ Jv, u ↦ Jᵀu and (outputs, inputs); vectors are in canonical order, as PyTorch has them."""
    out = check_logits(jax.eval_shape(f.apply, params, rest, x)[0])

    def native(vector: np.ndarray, like: Any) -> jax.Array:
        spatial = len(like.shape) == 4
        shape = (like.shape[0], like.shape[-1], *like.shape[1:-1]) if spatial else like.shape
        return to_native(vector.reshape(shape)).astype(like.dtype)

    def flat(array: jax.Array) -> np.ndarray:
        vector = as_numpy(array)
        return (np.moveaxis(vector, -1, 1) if vector.ndim == 4 else vector).astype(np.float64).ravel()

    return (
        lambda v: flat(_push(f, params, rest, x, native(v, x))),
        lambda u: flat(_pull(f, params, rest, x, native(u, out))),
        (out.size, x.size),
    )


@functools.partial(jax.jit, static_argnums=0)
def _push(f: Functional, params: Any, rest: Any, x: jax.Array, v: jax.Array) -> jax.Array:
    return jax.jvp(lambda x: f.apply(params, rest, x)[0], (x,), (v,))[1]


@functools.partial(jax.jit, static_argnums=0)
def _pull(f: Functional, params: Any, rest: Any, x: jax.Array, u: jax.Array) -> jax.Array:
    return jax.vjp(lambda x: f.apply(params, rest, x)[0], x)[1](u)[0]
