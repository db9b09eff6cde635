"""The states of a recurrent net and their gradients, of a model and a batch that were checked before; pure."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradlab_core.definitions import kinds
from gradlab_core.definitions.hidden import from_measured
from gradlab_core.definitions.recurrent import BOUNDED
from gradlab_core.records import HiddenStateNorms
from gradlab_jax.model.gradients import Loss
from gradlab_jax.model.modules import Functional
from gradlab_jax.model.recurrent import observed
from gradlab_jax.trees.norm_arithmetic import row_norms

_DATA = ["loss", "states", "gradients", "counts"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=_DATA, meta_fields=["path", "cell", "width"])
@dataclasses.dataclass(frozen=True)
class States:
    """What was measured, on the device; which layer it is of travels as static data."""

    loss: jax.Array
    states: jax.Array
    gradients: jax.Array
    counts: list[jax.Array]
    path: str
    cell: str
    width: int

    def record(self, mode: str) -> HiddenStateNorms:
        return from_measured(
            path=self.path,
            cell=self.cell,
            mode=mode,
            loss=float(self.loss),
            states=self.states,
            gradients=self.gradients,
            width=self.width,
            saturated=dict(zip(BOUNDED[self.cell], self.counts, strict=True)),
        )


def recurrent_calls(f: Functional, params: Any, rest: Any, x: Any) -> tuple[Any, list[tuple[str, str, Any]]]:
    """The shape of the logits, and path, cell and shape of states of every recurrent layer as it ran; traced only."""
    ran: list[tuple[str, str, Any]] = []

    def trace(params: Any, rest: Any, x: Any) -> jax.Array:
        with observed(None) as seen:
            logits = f.apply(params, rest, x)[0]
        ran.extend((path, cell, jax.typeof(states)) for path, cell, states, _ in seen)
        return logits

    return jax.eval_shape(trace, params, rest, x), ran


def measured_states(
    f: Functional, loss: Loss, call: tuple[str, str, Any], params: Any, rest: Any, x: Any, y: jax.Array
) -> States:
    """Of the one `call` of a recurrent layer. The gradient in h_t is the gradient in what is added to it, at 0."""
    path, cell, state = call

    def objective(drift: jax.Array) -> tuple[jax.Array, Any]:
        with observed(drift) as seen:
            logits, _ = f.apply(params, rest, x)
        ((_, _, states, gates),) = seen
        return loss(logits, y), (states, [_saturated(gate, BOUNDED[cell][name]) for name, gate in gates.items()])

    (value, (states, counts)), slopes = jax.value_and_grad(objective, has_aux=True)(jnp.zeros(state.shape, state.dtype))
    return States(value, row_norms(states), row_norms(slopes), counts, path, cell, state.shape[-1])


def _saturated(gate: jax.Array, kind: str) -> jax.Array:
    low, high = kinds.SATURATED[kind]
    return jnp.sum((gate <= low) | (gate >= high), axis=(1, 2))
