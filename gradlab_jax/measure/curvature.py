"""The curvature of the loss on one batch: products of its Hessian with vectors, its largest eigenvalue, its trace.

As in `gradient_flow` the mode is train unless said otherwise: the curvature that the optimizer meets. The algorithms
are those of `gradlab_core.definitions.curvature`; here is the product, compiled once per model and shape. All products
start from the same state, so that a dropout mask is the same in all and they are of one and the same Hessian.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.definitions.curvature import (
    HessianEigenvalue,
    HessianTrace,
    check_vectors,
    on_flat,
    top_eigenvalue,
    trace,
)
from gradlab_core.errors import GradlabError, refuse
from gradlab_jax.model.checks import as_labels, check_model_inputs, check_model_labels
from gradlab_jax.model.gradients import Loss, disconnected, loss_and_gradients
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import Functional, functional, named_variables
from gradlab_jax.model.weights import as_numpy, canonical, native
from gradlab_jax.trees.leaves import Tree, named_leaves


def hessian_vector_product(
    model: Any, vectors: Tree, x: jax.Array, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> dict[str, jax.Array | None]:
    """`{path: (Hv) of that parameter}` in definition order, H the Hessian of the loss at the model's parameters.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        vectors: v, a tree with the paths and (native) shapes of the parameters: `{path: array}`, nested, or an
            `nnx.State`.
        x: input batch, native layout (N, spatial…, C).
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Returns:
        None for a parameter with no path from the loss, whose vector may be None too; 0 is a number. Native layout.

    Raises:
        GradlabError: vectors that do not fit (the message lists all), a batch with NaN or Inf, labels out of range.

    Source: Pearlmutter 1994, Fast Exact Multiplication by the Hessian.

    >>> layer = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
    >>> x, v = jnp.array([[3.0]]), {"weight": jnp.array([[2.0]])}
    >>> found = hessian_vector_product(layer, v, x, jnp.ones(1), loss=lambda out, y: ((out - y) ** 2).sum() / 2)
    >>> dict(found)
    {'weight': Array([[18.]], dtype=float32)}
    """
    f, params, rest, labels = _checked(model, x, y, loss, mode)
    cut = disconnected(f, params, rest, x, labels, loss)
    directions = dict(named_leaves(vectors))
    shapes = {path: p.shape for path, p in zip(f.names, params, strict=True)}
    missing = {path for path, c in zip(f.names, cut, strict=True) if c}
    check_vectors({path: None if v is None else v.shape for path, v in directions.items()}, shapes, missing)
    tangents = [_direction(None if c else directions[path], p) for path, p, c in zip(f.names, params, cut, strict=True)]
    products = _product(f, loss, params, rest, x, labels, tuple(tangents))
    return OrderedDict((path, None if c else h) for path, h, c in zip(f.names, products, cut, strict=True))


def hessian_eigenvalue(
    model: Any,
    x: jax.Array,
    y: Any,
    *,
    loss: Loss = cross_entropy,
    mode: str = "train",
    iterations: int = 50,
    seed: int = 0,
) -> HessianEigenvalue:
    """The largest (not: largest in magnitude) eigenvalue of the loss's Hessian, and whether it was found.

    Plain gradient descent is stable along its eigenvector while the learning rate is below 2/value. Stops when the
    residual is small, or after `iterations` products, and says which; each keeps a float64 copy of the parameters on
    the host. The same seed is the same start in both twins (for NNX models; a Linen model's probes have its own
    layout). Other arguments as in `hessian_vector_product`.

    Raises:
        GradlabError: bad batch or labels, `iterations` below 1, no parameter with a path to the loss.

    >>> layer, x = nnx.Linear(2, 1, use_bias=False, rngs=nnx.Rngs(0)), jnp.array([[1.0, 0.0], [0.0, 3.0]])
    >>> found = hessian_eigenvalue(layer, x, jnp.zeros(2), loss=lambda out, y: (out**2).sum() / 2)
    >>> round(found.value, 5), found.converged
    (9.0, True)
    """
    return top_eigenvalue(*_flat(model, x, y, loss, mode), iterations=iterations, seed=seed)


def hessian_trace(
    model: Any,
    x: jax.Array,
    y: Any,
    *,
    loss: Loss = cross_entropy,
    mode: str = "train",
    samples: int = 32,
    seed: int = 0,
) -> HessianTrace:
    """`(estimate, standard error)` of the trace of the loss's Hessian, from `samples` products with random signs.

    The same seed is the same probes in both twins (for NNX models; a Linen model's have its own layout). Other
    arguments as in `hessian_vector_product`.

    Raises:
        GradlabError: bad batch or labels, `samples` below 2, no parameter with a path to the loss.

    >>> layer, x = nnx.Linear(2, 1, use_bias=False, rngs=nnx.Rngs(0)), jnp.array([[1.0, 0.0], [0.0, 3.0]])
    >>> hessian_trace(layer, x, jnp.zeros(2), loss=lambda out, y: (out**2).sum() / 2)
    HessianTrace(estimate=10.0, standard_error=0.0)
    """
    return trace(*_flat(model, x, y, loss, mode), samples=samples, seed=seed)


def _flat(model: Any, x: jax.Array, y: Any, loss: Loss, mode: str) -> Any:
    """The product on flat float64 vectors in canonical layout, and their length."""
    f, params, rest, labels = _checked(model, x, y, loss, mode)
    cut = disconnected(f, params, rest, x, labels, loss)
    owners = _owners(model, len(params))

    def product(vectors: list[np.ndarray]) -> list[np.ndarray]:
        pieces = iter(vectors)
        tangents = [
            _direction(None if c else native(owner, next(pieces)), p)
            for p, owner, c in zip(params, owners, cut, strict=True)
        ]
        products = jax.device_get(_product(f, loss, params, rest, x, labels, tuple(tangents)))
        return [canonical(owner, as_numpy(h)) for h, owner, c in zip(products, owners, cut, strict=True) if not c]

    rows = zip(f.names, params, owners, cut, strict=True)
    return on_flat(product, {name: np.shape(canonical(owner, p)) for name, p, owner, c in rows if not c})


def _owners(model: Any, count: int) -> list[Any]:
    """The module of each parameter, which knows its canonical layout; None where there is none but its own."""
    if not isinstance(model, nnx.Module):
        return [None] * count
    owners = [owner for _, owner, v in named_variables(model) if isinstance(v, nnx.Param)]
    return [None if isinstance(owner, nnx.ConvTranspose) else owner for owner in owners]


def _direction(vector: Any, param: jax.Array) -> jax.Array:
    return jnp.zeros_like(param) if vector is None else jnp.asarray(vector, param.dtype)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _product(f: Functional, loss: Loss, params: Any, rest: Any, x: Any, y: Any, vectors: Any) -> Any:
    def slopes(params: Any) -> tuple[jax.Array, ...]:
        return loss_and_gradients(f, params, rest, x, y, loss)[1]

    return jax.jvp(slopes, (params,), (vectors,))[1]


def _checked(model: Any, x: Any, y: Any, loss: Loss, mode: str) -> tuple[Functional, Any, Any, jax.Array]:
    """The model as a function, and labels that fit it."""
    f, params, rest = functional(model, mode)
    if not params:
        raise GradlabError("the model has no trainable parameter; expected at least one")
    complex_ones = [name for name, p in zip(f.names, params, strict=True) if jnp.iscomplexobj(p)]
    refuse("Hessian", [f"{name} is complex; expected real parameters" for name in complex_ones])
    check_model_inputs(x)
    if loss is cross_entropy:
        check_model_labels(y, jax.eval_shape(f.apply, params, rest, x)[0])
    return f, params, rest, as_labels(y)
