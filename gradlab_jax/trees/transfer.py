"""Many small arrays to the host as one: on an accelerator each transfer of its own costs what the largest does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_HALF = np.uint64(32)


def to_host(tree: Any) -> Any:
    """The tree with every array brought to the host, bit for bit: all that lie on one device in one transfer of one
    array. What is on the host already, NumPy arrays and Python numbers, stays as it is.
    """
    return underway(tree)()


def underway(tree: Any) -> Callable[[], Any]:
    """`to_host`, begun: what it gives waits for the transfer, and gives the tree. The arrays may be donated before."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = {i: _here(leaf) for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}
    place = next((x.sharding for x in arrays.values()), None)
    # An array that is spread over devices, or lies on another one, goes by itself; of a monitor's none does.
    packed = {i: x for i, x in arrays.items() if x.sharding.num_devices == 1 and x.sharding == place}
    if len(packed) < 2:
        packed = {}
    alone = {i: x for i, x in arrays.items() if i not in packed}
    host = dict(zip(alone, jax.device_get(list(alone.values())), strict=True))
    if packed:
        with jax.enable_x64(any(x.dtype.itemsize == 8 for x in packed.values())):  # else JAX would cut them short
            words = _packed(list(packed.values()))
            words.copy_to_host_async()
    kinds = {i: (x.shape, np.dtype(x.dtype)) for i, x in packed.items()}

    def arrived() -> Any:
        unpacked = _unpacked(jax.device_get(words), list(kinds.values())) if kinds else []
        every = host | dict(zip(kinds, unpacked, strict=True))
        return jax.tree.unflatten(structure, [every.get(i, leaf) for i, leaf in enumerate(others)])

    others = [None if i in arrays else leaf for i, leaf in enumerate(leaves)]
    return arrived


def _here(x: jax.Array) -> jax.Array:
    """Of an array that lies whole on every device, also on those of other processes, the part that is nearest."""
    return x.addressable_data(0) if x.sharding.num_devices > 1 and x.is_fully_replicated else x


@jax.jit
def _packed(arrays: Sequence[jax.Array]) -> jax.Array:
    """The bits of all arrays as words of 32 bits. Where some are float64 those stay as they are, since a TPU can not
    take them apart, and each word of the others is a number of its own, which a float64 holds."""
    parts = [x.ravel() if x.dtype == jnp.float64 else _words(x.ravel()) for x in arrays]
    dtype = jnp.float64 if any(part.dtype == jnp.float64 for part in parts) else jnp.uint32
    return jnp.concatenate([part.astype(dtype) for part in parts])


def _words(x: jax.Array) -> jax.Array:
    """The bits of whole numbers, yes and no, and floats of up to 32 bits; of 64-bit whole numbers, two words each."""
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    bits = lax.bitcast_convert_type(x, _unsigned(x.dtype))
    if bits.dtype.itemsize == 8:
        return jnp.stack([bits >> 32, bits & 0xFFFFFFFF], axis=-1).ravel().astype(jnp.uint32)
    return bits.astype(jnp.uint32)


def _unpacked(
    words: np.ndarray[Any, Any], kinds: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]
) -> list[np.ndarray[Any, Any]]:
    """What `_packed` put together, of those shapes and types."""
    arrays, start = [], 0
    for shape, dtype in kinds:
        length = math.prod(shape) * (2 if dtype.itemsize == 8 and dtype != np.float64 else 1)
        part = words[start : start + length]
        start += length
        if dtype == np.float64:
            flat = part
        elif dtype == np.bool_:
            flat = part != 0
        elif dtype.itemsize == 8:
            high, low = part.astype(np.uint64).reshape(-1, 2).T
            flat = (high << _HALF | low).view(dtype)
        else:
            flat = part.astype(_unsigned(dtype)).view(dtype)
        arrays.append(flat.reshape(shape))
    return arrays


def _unsigned(dtype: Any) -> np.dtype[Any]:
    return np.dtype(f"uint{8 * dtype.itemsize}")
