"""Before the first step: what activations, products of weights and symmetric starts do to a signal and its gradient.

The definitions are those of `gradlab_core.lab`, in float64 NumPy; regions, theory, bounds and records are there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.definitions import symmetry_defect as symmetry
from gradlab_core.definitions.symmetry_defect import SymmetryDefect
from gradlab_core.errors import refuse
from gradlab_core.lab.activations import check_activation
from gradlab_core.lab.products import ProductGrowth, as_growth, draw_matrices
from gradlab_jax.model.functions import FUNCTIONS
from gradlab_jax.model.weights import as_numpy, to_canonical
from gradlab_jax.start.products import log_singular_values


def activation_gradient(name: str, x: jax.Array) -> jax.Array:
    """f'(x), elementwise, by autodiff through JAX's own function with its defaults; pure.

    At a kink it is what autodiff takes there: 0 for ReLU, ReLU6 and hard sigmoid, 1 for leaky ReLU and hard tanh, where
    PyTorch takes the other slope, the left slope for SELU, 0 and 1 for hard SiLU.

    Args:
        name: one of `gradlab_core.lab.activations.ACTIVATIONS`; `gelu` is the exact one, `gelu_tanh` its tanh form.
        x: real floating numbers of any shape.

    Returns:
        Shape and type of x.

    Raises:
        GradlabError: no such activation, or numbers of another type.

    >>> activation_gradient("relu", jnp.array([-2.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    check_activation(name)
    right = isinstance(x, (jax.Array, np.ndarray)) and jnp.issubdtype(x.dtype, jnp.floating)
    what = x.dtype if isinstance(x, (jax.Array, np.ndarray)) else type(x).__name__
    refuse("activation gradient", [] if right else [f"x is a {what}; expected an array of real floating numbers"])
    out, pull = jax.vjp(FUNCTIONS[name], jnp.asarray(x))
    gradient: jax.Array = pull(jnp.ones_like(out))[0]
    return gradient


def matrix_product_growth(n: int, size: int, sigma: float, seed: int, *, init: str = "gaussian") -> ProductGrowth:
    """Norms and singular values of A_k⋯A_1 for k = 1 … n, A_k random and independent, as natural logarithms.

    Nothing overflows or underflows at any depth: `gradlab_core.lab.graded` says how. In float64, on the default
    device, as one compiled loop.

    Args:
        n: number of factors.
        size: rows and columns of each.
        sigma: standard deviation of their elements; of `orthogonal` ones the factor before the orthogonal matrix.
        seed: of the matrices, drawn in NumPy: the same in both twins.
        init: `gaussian`, `uniform` (on ±σ√3) or `orthogonal`.

    Raises:
        GradlabError: numbers out of range; all problems in one message.

    >>> growth = matrix_product_growth(100, 4, 1.0, seed=0)
    >>> round(growth.log_frobenius[-1] / 2.302585, 1)  # orders of magnitude
    23.9
    """
    matrices = draw_matrices(n, size, sigma, seed, init=init)
    with jax.enable_x64(True):
        logs = np.asarray(log_singular_values(jnp.asarray(matrices)))
    return as_growth(logs, sigma=sigma, seed=seed, init=init)


def symmetry_defect(params: nnx.Module | Mapping[str, Any]) -> SymmetryDefect:
    """Which hidden units are tied: copies of one another that no gradient step will ever tell apart.

    `gradlab_core.definitions.symmetry_defect` says what that means. The weights are read as a chain, in their order.

    Args:
        params: a model, or `{path: array}` in canonical names, layout and order.

    Raises:
        GradlabError: neither of them.

    >>> kernel, rngs = nnx.initializers.constant(0.5), nnx.Rngs(0)
    >>> first, last = (nnx.Linear(*widths, kernel_init=kernel, rngs=rngs) for widths in ((2, 3), (3, 1)))
    >>> symmetry_defect(nnx.Sequential(first, jnp.tanh, last)).layers[0].groups
    ((0, 1, 2),)
    """
    if isinstance(params, nnx.Module):
        return symmetry.symmetry_defect(to_canonical(params))
    if isinstance(params, Mapping):
        params = {p: as_numpy(v) if isinstance(v, jax.Array) else v for p, v in params.items()}
    return symmetry.symmetry_defect(params)
