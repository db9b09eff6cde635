"""Weight initialisers: one distribution, and for one seed one set of numbers, in both twins.

Each works in place on any model: it draws the weights of all dense, convolutional and recurrent layers and sets their
biases. Whatever else the model holds (normalisations, embeddings, parameters of its own) stays as it is. The numbers
are drawn in NumPy, in `gradlab_core/definitions/initializers.py`, which also says what the fans are; every tensor has a
stream of its own, keyed by the seed and its canonical path. All raise a `GradlabError` for a model without such a layer
and for a seed, gain or std that is no number of at least 0.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.definitions import kinds
from gradlab_core.definitions.initializers import Tensor, initial_arrays
from gradlab_core.errors import GradlabError
from gradlab_jax.model.checks import check_nnx
from gradlab_jax.model.layers import as_native, from_native, layer_tensors
from gradlab_jax.model.modules import named_variables

SQRT2 = math.sqrt(2)


def constant(model: nnx.Module, *, value: float) -> None:
    """Every weight the same, biases 0: then all units of a layer compute the same and stay the same.

    >>> layer = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> constant(layer, value=0.5)
    >>> layer.kernel[...].sum().item()
    1.0
    """
    initialize(model, "constant", seed=0, number=value)


def normal(model: nnx.Module, *, seed: int, std: float = 0.01) -> None:
    """Weights from N(0, std²), biases 0.

    >>> layer = nnx.Linear(100, 100, rngs=nnx.Rngs(0))
    >>> normal(layer, seed=0)
    >>> round(abs(layer.kernel[...]).mean().item(), 3)  # σ·√(2/π)
    0.008
    """
    initialize(model, "normal", seed=seed, number=std)


def xavier_uniform(model: nnx.Module, *, seed: int, gain: float = 1.0) -> None:
    """Weights uniform on ±gain·√(6/(fan_in + fan_out)), biases 0. Source: Glorot & Bengio 2010.

    >>> layer = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    >>> xavier_uniform(layer, seed=0)
    >>> bool(abs(layer.kernel[...]).max() <= 1)
    True
    """
    initialize(model, "xavier_uniform", seed=seed, number=gain)


def xavier_normal(model: nnx.Module, *, seed: int, gain: float = 1.0) -> None:
    """Weights from N(0, gain²·2/(fan_in + fan_out)), biases 0. Source: Glorot & Bengio 2010.

    >>> layer = nnx.Linear(100, 100, rngs=nnx.Rngs(0))
    >>> xavier_normal(layer, seed=0)
    >>> round(layer.kernel[...].std().item(), 2)
    0.1
    """
    initialize(model, "xavier_normal", seed=seed, number=gain)


def kaiming_uniform(model: nnx.Module, *, seed: int, gain: float = SQRT2) -> None:
    """Weights uniform on ±gain·√(3/fan_in), biases 0; √2 is the gain of ReLU. Source: He et al. 2015.

    >>> layer = nnx.Linear(6, 2, rngs=nnx.Rngs(0))
    >>> kaiming_uniform(layer, seed=0)
    >>> bool(abs(layer.kernel[...]).max() <= 1)
    True
    """
    initialize(model, "kaiming_uniform", seed=seed, number=gain)


def kaiming_normal(model: nnx.Module, *, seed: int, gain: float = SQRT2) -> None:
    """Weights from N(0, gain²/fan_in), biases 0; √2 is the gain of ReLU. Source: He et al. 2015.

    >>> layer = nnx.Linear(200, 100, rngs=nnx.Rngs(0))
    >>> kaiming_normal(layer, seed=0)
    >>> round(layer.kernel[...].std().item(), 2)
    0.1
    """
    initialize(model, "kaiming_normal", seed=seed, number=gain)


def lecun_normal(model: nnx.Module, *, seed: int) -> None:
    """Weights from N(0, 1/fan_in), biases 0; not truncated, which `jax.nn.initializers.lecun_normal`
    is.

    Source: LeCun et al. 1998.

    >>> layer = nnx.Linear(100, 100, rngs=nnx.Rngs(0))
    >>> lecun_normal(layer, seed=0)
    >>> round(layer.kernel[...].std().item(), 2)
    0.1
    """
    initialize(model, "lecun_normal", seed=seed)


def orthogonal(model: nnx.Module, *, seed: int, gain: float = 1.0) -> None:
    """Weights gain·Q, where Q, with all axes but the first as one, has orthonormal columns, or rows if those are fewer;
    biases 0. Source: Saxe, McClelland & Ganguli 2014.

    >>> layer = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    >>> orthogonal(layer, seed=0, gain=2.0)
    >>> (layer.kernel[...] @ layer.kernel[...].T).diagonal().round(4).tolist()
    [4.0, 4.0, 4.0]
    """
    initialize(model, "orthogonal", seed=seed, number=gain)


def torch_default(model: nnx.Module, *, seed: int) -> None:
    """PyTorch's own start: weights and biases of dense and convolutional layers uniform on ±1/√fan_in, all of a
    recurrent layer on ±1/√hidden, embeddings from N(0, 1).

    >>> layer = nnx.Linear(4, 100, rngs=nnx.Rngs(0))
    >>> torch_default(layer, seed=0)
    >>> bool(abs(layer.kernel[...]).max() <= 0.5)
    True
    """
    initialize(model, "torch_default", seed=seed)


def initialize(model: nnx.Module, name: str, *, seed: int, number: float | None = None) -> None:
    """The initialiser of that name, as a spec says it; `number` is its value, std or gain.

    >>> layer = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> initialize(layer, "constant", seed=0, number=0.5)
    """
    check_nnx(model)
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
