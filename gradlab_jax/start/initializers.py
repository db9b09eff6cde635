"""Weight initialisers: one distribution, and for one seed one set of numbers, in both twins.

The numbers are drawn in NumPy, in `gradlab_core/definitions/initializers.py`, which also says what the fans are; every
tensor has a stream of its own, keyed by the seed and its canonical path.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.definitions import kinds
from gradlab_core.definitions.initializers import Tensor, initial_arrays
from gradlab_core.errors import GradlabError
from gradlab_jax.model.layers import as_native, from_native, layer_tensors
from gradlab_jax.model.modules import named_variables


def initialize(model: nnx.Module, name: str, *, seed: int, number: float | None = None) -> None:
    """Draw the weights of all dense, convolutional and recurrent layers, and set their biases. In place; whatever else
    the model holds (normalisations, embeddings, parameters of its own) stays as it is.

    Args:
        model: any `nnx.Module`.
        name: `constant`, `normal`, `xavier_uniform`, `xavier_normal` (Glorot & Bengio 2010), `kaiming_uniform`,
            `kaiming_normal` (He et al. 2015), `lecun_normal` (LeCun et al. 1998), `orthogonal` (Saxe et al. 2014) or
            `torch_default`, which draws biases and embeddings too, as PyTorch does.
        seed: a whole number of at least 0; one seed, one set of numbers in both twins.
        number: the value of `constant`, the standard deviation of `normal`, the gain of others; None is the default.

    Raises:
        GradlabError: an initialiser nobody knows, a model without such a layer, a seed or number that does not fit.

    >>> layer = nnx.Linear(100, 100, rngs=nnx.Rngs(0))
    >>> initialize(layer, "xavier_normal", seed=0)
    >>> round(float(layer.kernel.std()), 2)
    0.1
    """
    arrays = initial_arrays(name, layer_tensors(model), seed=seed, number=number)
    for path, owner, variable in named_variables(model):
        if path in arrays:
            value = as_native(owner, arrays[path])
            variable.set_value(jnp.asarray(value, dtype=variable.get_value().dtype))


def drawn_layer(name: str, weight: Tensor, *, seed: int, number: float | None = None) -> dict[str, np.ndarray]:
    """`{"weight": …, "bias": …}` in canonical layout, as a Flax layer holds them that has such a weight, dense or a
    convolution over any number of axes, and was drawn by the initialiser of that name.

    Raises:
        GradlabError: a transposed convolution with groups, which Flax has not got.

    >>> drawn_layer("orthogonal", Tensor("linear", (1, 1)), seed=0, number=2.0)["weight"].shape
    (1, 1)
    """
    first, second, *window = weight.shape
    zeros, rngs, size = nnx.initializers.zeros, nnx.Rngs(0), tuple(window)
    layer: nnx.Module
    if weight.kind == kinds.LINEAR:
        layer = nnx.Linear(second, first, kernel_init=zeros, rngs=rngs)
    elif not weight.transposed:
        inputs = second * weight.groups
        layer = nnx.Conv(inputs, first, size, feature_group_count=weight.groups, kernel_init=zeros, rngs=rngs)
    elif weight.groups == 1:
        layer = nnx.ConvTranspose(first, second, size, kernel_init=zeros, rngs=rngs)
    else:
        raise GradlabError(f"a transposed convolution of {weight.groups} groups; Flax has only those of 1")
    initialize(layer, name, seed=seed, number=number)
    return {path: from_native(owner, np.asarray(v.get_value())) for path, owner, v in named_variables(layer)}
