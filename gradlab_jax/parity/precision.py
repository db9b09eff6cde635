"""What float32 products are made in: set for a while, put back, or measured."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
from jax import lax

from gradlab_core.parity.arithmetic import ARITHMETICS, Arithmetic, closest, coarsest

_NATIVE = {("gpu", "tf32"): "tensorfloat32", ("tpu", "bfloat16"): "bfloat16"}
"""Where the hardware multiplies so, and what JAX calls it there. Elsewhere operands are rounded before the product."""


def precise(precision: str, platform: str) -> contextlib.AbstractContextManager[None]:
    """Products on that platform are made in that precision as long as this holds, with `rounded_as` beside it."""
    if precision == "as-is":
        return contextlib.nullcontext()
    native: contextlib.AbstractContextManager[None] = jax.default_matmul_precision(
        _NATIVE.get((platform, precision), "highest")
    )
    return native


def rounded_as(precision: str, platform: str) -> Arithmetic | None:
    """What operands of products are to be rounded to, since the hardware does not do it by itself."""
    if precision in ("as-is", "highest") or (platform, precision) in _NATIVE:
        return None
    return ARITHMETICS[precision]


def measured(device: jax.Device) -> Arithmetic:
    """What matrix products and convolutions on that device are made in under the settings that hold: the coarser one.

    A random matrix times one is that matrix, but for the rounding of what is multiplied.
    """
    x = jax.device_put(jax.random.normal(jax.random.key(0), (256, 256), jnp.float32), device)
    one = jax.device_put(jnp.eye(256, dtype=jnp.float32), device)
    images = x.reshape(4, 16, 16, 64)  # large enough for the kernels that training uses
    kernel = jax.device_put(jnp.eye(64, dtype=jnp.float32)[None, None], device)
    layout = ("NHWC", "HWIO", "NHWC")
    convolved = jax.jit(lambda a, b: lax.conv_general_dilated(a, b, (1, 1), "VALID", dimension_numbers=layout))
    pairs = ((jax.jit(jnp.matmul)(x, one), x), (convolved(images, kernel), images))
    return coarsest(closest(float(jnp.max(jnp.abs(made - operand) / jnp.abs(operand)))) for made, operand in pairs)
