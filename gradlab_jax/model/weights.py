"""Weights in canonical names and layout, out of a model and into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.errors import GradlabError
from gradlab_core.parity.weights import check_weights
from gradlab_jax.model.checks import check_nnx
from gradlab_jax.model.modules import clone, named_modules, named_variables

_CONV = (nnx.Conv,)
_LINEAR = (nnx.Linear,)


def to_canonical(model: nnx.Module) -> dict[str, np.ndarray]:
    """`{path: array}` of parameters and running statistics, in definition order, names and layout as in PyTorch:
    convolution kernels OIHW, linear weights (out, in).

    >>> {k: v.shape for k, v in to_canonical(nnx.Linear(3, 2, rngs=nnx.Rngs(0))).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    check_nnx(model)
    return {path: canonical(owner, as_numpy(v.get_value())) for path, owner, v in named_variables(model)}


def from_canonical(model: nnx.Module, arrays: Mapping[str, Any]) -> None:
    """Load canonical arrays into a model, in place, each cast to the type the model has.

    Raises:
        GradlabError: a missing, extra or misshapen entry; the message lists all of them and nothing is loaded.

    >>> layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    >>> from_canonical(layer, {"weight": np.ones((2, 3)), "bias": np.zeros(2)})
    """
    check_nnx(model)
    variables = list(named_variables(model))
    check_weights(arrays, {path: canonical(owner, v.get_value()).shape for path, owner, v in variables})
    for path, owner, variable in variables:
        value = native(owner, np.asarray(arrays[path]))
        variable.set_value(jnp.asarray(value, dtype=variable.get_value().dtype))


def to_native(x: Any) -> jax.Array:
    """A canonical NumPy batch as this twin's input: NCHW images become NHWC, anything else stays as it is.

    >>> to_native(np.zeros((2, 3, 8, 8), np.float32)).shape
    (2, 8, 8, 3)
    """
    array = np.asarray(x)
    return jnp.asarray(np.moveaxis(array, 1, -1) if array.ndim == 4 else array)


def astype(model: nnx.Module, dtype: str) -> nnx.Module:
    """A copy of the model with all floating parameters and statistics in `dtype`; float64 needs `jax.enable_x64`.

    >>> astype(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), "float16").kernel.get_value().dtype
    dtype('float16')
    """
    copy = clone(model, lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf)
    for (_, old), (_, new) in zip(named_modules(model), named_modules(copy), strict=True):
        # A module may remember the type of its parameters, as `nnx.Embed` does, and compute in that.
        own = {v.get_value().dtype for v in vars(old).values() if isinstance(v, nnx.Param)}
        kept = getattr(old, "dtype", None)
        if kept is not None and jnp.dtype(kept) in own and jnp.issubdtype(kept, jnp.floating):
            setattr(new, "dtype", jnp.dtype(dtype))  # noqa: B010 (modules in general have none)
        # A recurrent cell makes its first state in the type that it remembers of its parameters.
        if jnp.issubdtype(getattr(old, "param_dtype", None) or jnp.int32, jnp.floating):
            setattr(new, "param_dtype", jnp.dtype(dtype))  # noqa: B010
    return copy


def linen_astype(module: nn.Module, variables: Mapping[str, Any], dtype: str) -> tuple[nn.Module, Any]:
    """A Linen module and its variables with all floating arrays in `dtype`."""
    own = {leaf.dtype for leaf in jax.tree.leaves(variables["params"])}
    kept = getattr(module, "dtype", None)
    # The type that a module computes in is one of its fields, which it hands on to those inside.
    if kept is not None and jnp.dtype(kept) in own:
        module = module.clone(dtype=jnp.dtype(dtype))
    return module, jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, dict(variables)
    )


def as_numpy(array: jax.Array) -> np.ndarray:
    """On the host; bfloat16, which NumPy does not know, as float32."""
    return np.asarray(array, np.float32 if array.dtype == jnp.bfloat16 else None)


def canonical(owner: nnx.Module, array: Any) -> Any:
    """A parameter, or its gradient, in PyTorch's layout."""
    if isinstance(owner, nnx.ConvTranspose) and array.ndim > 1:
        # The two frameworks mean different things by it: the gradient of a convolution, or a dilated one.
        raise GradlabError("nnx.ConvTranspose has no canonical layout; convert its kernel yourself")
    if isinstance(owner, _CONV) and array.ndim > 1:
        return (
            np.moveaxis(array, (-1, -2), (0, 1))
            if isinstance(array, np.ndarray)
            else jnp.moveaxis(array, (-1, -2), (0, 1))
        )
    return array.T if isinstance(owner, _LINEAR) and array.ndim == 2 else array


def native(owner: nnx.Module, array: np.ndarray) -> np.ndarray:
    """The inverse of `canonical`."""
    if isinstance(owner, _CONV) and array.ndim > 1:
        return np.moveaxis(array, (0, 1), (-1, -2))
    return array.T if isinstance(owner, _LINEAR) and array.ndim == 2 else array
