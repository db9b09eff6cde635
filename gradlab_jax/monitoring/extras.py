"""What compares a step with those before it: cosines and distances. Each holds a copy of what it compares with."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gradlab_jax.measure.updates import stacked_cosines
from gradlab_jax.trees.norm_arithmetic import stacked_norms, wide

Memory = dict[str, list[jax.Array]]
"""`{quantity: arrays that the next record is compared with}`."""


def first(wanted: Sequence[str], params: list[jax.Array]) -> Memory:
    """The memory before the first record: the parameters where they are now, and nothing to take a cosine with."""
    return {
        quantity: [jnp.copy(p) if quantity == "distance" else jnp.zeros_like(wide(p)) for p in params]
        for quantity in wanted
    }


def compare(
    memory: Memory, params: list[jax.Array], grads: list[jax.Array], updates: list[jax.Array]
) -> tuple[dict[str, jax.Array], Memory]:
    """`({quantity: one value per array}, the memory for the next record)`."""
    found: dict[str, jax.Array] = {}
    after = dict(memory)
    for quantity, now in (("grad_cosine", grads), ("update_cosine", updates)):
        if quantity in memory:
            after[quantity] = [wide(x).astype(then.dtype) for x, then in zip(now, memory[quantity], strict=True)]
            found[quantity] = stacked_cosines(after[quantity], memory[quantity])
    if "distance" in memory:
        found["distance"] = stacked_norms([p - origin for p, origin in zip(params, memory["distance"], strict=True)])
    return found, after
