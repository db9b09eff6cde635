"""Which parameters belong to layers whose weights gradlab can draw, by kind and canonical shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from gradlab_core.definitions import kinds
from gradlab_core.definitions.initializers import Tensor
from gradlab_jax.model.modules import named_variables
from gradlab_jax.model.recurrent import Recurrent
from gradlab_jax.model.weights import canonical, native


def layer_tensors(model: nnx.Module) -> dict[str, Tensor]:
    """`{path: tensor}` of weights and biases of dense, convolutional, recurrent and embedding layers."""
    tensors: dict[str, Tensor] = {}
    for path, owner, variable in named_variables(model):
        kind = _kind(owner)
        if kind and isinstance(variable, nnx.Param):
            tensors[path] = _tensor(kind, owner, variable.get_value())
    return tensors


def as_native(owner: nnx.Module, array: np.ndarray) -> np.ndarray:
    """A drawn weight in the layout of its layer.

    PyTorch's transposed convolution is the gradient of a convolution, whose window it flips; Flax's is a convolution of
    the dilated input, and flips only with `transpose_kernel`. What is drawn here is the same function in both, up to
    their padding.
    """
    if not isinstance(owner, nnx.ConvTranspose) or array.ndim == 1:
        return native(owner, array)
    if owner.transpose_kernel:
        return np.moveaxis(array, (0, 1), (-1, -2))
    return np.moveaxis(np.flip(array, tuple(range(2, array.ndim))), (0, 1), (-2, -1))


def from_native(owner: nnx.Module, array: np.ndarray) -> np.ndarray:
    """The inverse of `as_native`."""
    if not isinstance(owner, nnx.ConvTranspose) or array.ndim == 1:
        return np.asarray(canonical(owner, array))
    if owner.transpose_kernel:
        return np.moveaxis(array, (-1, -2), (0, 1))
    return np.flip(np.moveaxis(array, (-2, -1), (0, 1)), tuple(range(2, array.ndim)))


def _tensor(kind: str, owner: nnx.Module, value: Any) -> Tensor:
    if isinstance(owner, nnx.Conv):
        return Tensor(kind, tuple(canonical(owner, value).shape), groups=owner.feature_group_count)
    if isinstance(owner, nnx.ConvTranspose):
        weight = (owner.in_features, owner.out_features, *owner.kernel_size)
        return Tensor(kind, weight if value.ndim > 1 else tuple(value.shape), transposed=True)
    return Tensor(kind, tuple(canonical(owner, value).shape))


def _kind(module: nnx.Module) -> str | None:
    if isinstance(module, (nnx.Conv, nnx.ConvTranspose)):
        return kinds.CONV
    if isinstance(module, nnx.Linear):
        return kinds.LINEAR
    if isinstance(module, Recurrent):
        return module.cell
    return kinds.EMBEDDING if isinstance(module, nnx.Embed) else None
