"""Weight initialisers with the distributions PyTorch users know."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp


def torch_default(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """PyTorch's default for the kernel of a convolution or linear layer: uniform on ±1/√fan_in.

    That is `kaiming_uniform_(a=√5)`. Use it as `nnx.Linear(..., kernel_init=torch_default)`.

    Args:
        key: a JAX random key.
        shape: native kernel layout, outputs last: (in, out), (H, W, in, out).

    >>> w = torch_default(jax.random.key(0), (4, 100))
    >>> bool(abs(w).max() <= 0.5)
    True
    """
    bound = 1.0 / math.sqrt(math.prod(shape[:-1]))
    return jax.random.uniform(key, shape, dtype, -bound, bound)
