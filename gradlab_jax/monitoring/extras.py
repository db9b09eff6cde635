"""What a monitor measures beside its own: quantities of the user's, and what compares a step with those before it. Each
of these holds a copy of what it compares with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gradlab_core.definitions.quantities import Quantity, checked_numbers, checked_result
from gradlab_core.errors import GradlabError
from gradlab_jax.measure.updates import stacked_cosines
from gradlab_jax.trees.norm_arithmetic import stacked_norms, wide

Memory = dict[str, Any]
"""`{quantity: what the next record is compared with}`."""
Arrays = dict[str, jax.Array]


def asked_for(wanted: Sequence[str | Quantity]) -> tuple[Quantity, ...]:
    """The quantities, the built-in ones from their names."""
    return tuple(BUILT_IN[extra] if isinstance(extra, str) else extra for extra in wanted)


def first(quantities: Sequence[Quantity], params: Arrays) -> Memory:
    """The memory before the first record: the parameters where they are now, and nothing to take a cosine with."""
    return {q.name: q.start(params) for q in quantities if q.start is not None}


def compare(
    quantities: Sequence[Quantity], memory: Memory, tensors: Mapping[str, Arrays]
) -> tuple[dict[str, jax.Array], Memory]:
    """`({quantity: one value per array}, the memory for the next record)`, of `{"param", "grad", "update": arrays}`."""
    stacked: dict[str, jax.Array] = {}
    after = dict(memory)
    for quantity in quantities:
        arrays, held = tensors.get(quantity.of, {}), () if quantity.start is None else (memory[quantity.name],)
        numbers, new = checked_result(quantity, quantity.measure(dict(arrays), *held))
        stacked[quantity.name] = _stacked(quantity, checked_numbers(quantity, numbers, list(arrays)), list(arrays))
        if held:
            after[quantity.name] = _as_before(quantity, new, held[0])
    return stacked, after


def _stacked(quantity: Quantity, numbers: Mapping[str, Any], paths: Sequence[str]) -> jax.Array:
    """One number an array as a vector; NaN where a quantity that compares has none."""
    values = [jnp.asarray(numbers.get(path, jnp.nan)) for path in paths]
    for path, value in zip(paths, values, strict=True):
        if value.size != 1 or jnp.iscomplexobj(value):
            raise GradlabError(
                f"quantity {quantity.name}: {path} got {value.dtype} of shape {value.shape}; expected one number"
            )
    return jnp.stack([value.reshape(()) for value in values]) if values else jnp.zeros(0)


def _as_before(quantity: Quantity, new: Any, old: Any) -> Any:
    """The memory, if it is as the one before: the state of an optimizer must not change its structure."""
    kinds = [jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree) for tree in (new, old)]
    if kinds[0] != kinds[1]:
        raise GradlabError(
            f"quantity {quantity.name}: its memory is now {kinds[0]}; expected the structure, shapes and types that "
            f"it began with: {kinds[1]}"
        )
    return new


def _nothing(params: Arrays) -> list[jax.Array]:
    return [jnp.zeros_like(wide(p)) for p in params.values()]


def _cosines(now: Arrays, then: list[jax.Array]) -> tuple[Arrays, list[jax.Array]]:
    kept = [wide(x).astype(old.dtype) for x, old in zip(now.values(), then, strict=True)]
    return dict(zip(now, stacked_cosines(kept, then), strict=True)), kept


def _copies(params: Arrays) -> list[jax.Array]:
    return [jnp.copy(p) for p in params.values()]


def _distances(params: Arrays, origin: list[jax.Array]) -> tuple[Arrays, list[jax.Array]]:
    away = stacked_norms([p - start for p, start in zip(params.values(), origin, strict=True)])
    return dict(zip(params, away, strict=True)), origin


BUILT_IN = {
    quantity.name: quantity
    for quantity in (
        Quantity(name="grad_cosine", of="grad", measure=_cosines, start=_nothing, compares=True),
        Quantity(name="update_cosine", of="update", measure=_cosines, start=_nothing, compares=True),
        Quantity(name="distance", of="param", measure=_distances, start=_copies),
    )
}
