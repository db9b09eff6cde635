"""What a recurrent net's state does over time: whether it grows or fades, and whether a gradient reaches its start."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradlab_core import kinds
from gradlab_core.hidden import from_measured, refuse_calls
from gradlab_core.records import HiddenStateNorms
from gradlab_core.recurrent import BOUNDED
from gradlab_jax._gradients import Loss
from gradlab_jax._module import Functional, functional
from gradlab_jax._norms import wide
from gradlab_jax._recurrent import observed
from gradlab_jax.checks import as_labels, check_model_inputs, check_model_labels
from gradlab_jax.losses import cross_entropy


def hidden_state_norms(
    model: Any, x: jax.Array, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> HiddenStateNorms:
    """Per time step: mean ‖h_t‖₂, mean ‖∂L/∂h_t‖₂, and the share of saturated gates, on one batch.

    Source: Pascanu, Mikolov & Bengio 2013, on why the gradient of a state far from the loss vanishes or explodes.

    Args:
        model: one with a single recurrent layer, as `build(ModelSpec(kind="recurrent", …))` makes it; left as it was.
        x: input batch, sequences (N, T, features).
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: another kind of model, a batch with NaN or Inf, or labels out of range.

    >>> from gradlab_core.specs import ModelSpec
    >>> from gradlab_jax.models import build
    >>> net = build(ModelSpec(kind="recurrent", cell="gru", features=2, hidden=4, num_classes=2), seed=0)
    >>> record = hidden_state_norms(net, jnp.ones((3, 5, 2)), jnp.array([0, 1, 0]))
    >>> len(record.states), record.gradients[0] < record.gradients[-1], record.saturated["z"]
    (5, True, (0.0, 0.0, 0.0, 0.0, 0.0))
    """
    f, params, rest = functional(model, mode)
    check_model_inputs(x)
    ran: list[tuple[str, str, Any]] = []

    def trace(params: Any, rest: Any, x: jax.Array) -> jax.Array:
        with observed(None) as seen:
            logits = f.apply(params, rest, x)[0]
        ran.extend((path, cell, jax.typeof(states)) for path, cell, states, _ in seen)
        return logits

    logits = jax.eval_shape(trace, params, rest, x)
    refuse_calls([path for path, _, _ in ran])
    if loss is cross_entropy:
        check_model_labels(y, logits)
    ((path, cell, state),) = ran
    drift = jnp.zeros(state.shape, state.dtype)
    measured = _measure(f, loss, params, rest, x, as_labels(y), drift)
    value, states, gradients, gates = jax.device_get(measured)  # one transfer
    return from_measured(
        path=path,
        cell=cell,
        mode=mode,
        loss=float(value),
        states=states,
        gradients=gradients,
        width=state.shape[-1],
        saturated=dict(zip(BOUNDED[cell], gates, strict=True)),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measure(f: Functional, loss: Loss, params: Any, rest: Any, x: jax.Array, y: jax.Array, drift: jax.Array) -> Any:
    """The gradient in h_t is the gradient in what is added to it, at 0."""

    def objective(drift: jax.Array) -> tuple[jax.Array, Any]:
        with observed(drift) as seen:
            logits, _ = f.apply(params, rest, x)
        ((_, cell, states, gates),) = seen
        return loss(logits, y), (states, [_saturated(gate, BOUNDED[cell][name]) for name, gate in gates.items()])

    (value, (states, counts)), slopes = jax.value_and_grad(objective, has_aux=True)(drift)
    return value, _row_norms(states), _row_norms(slopes), counts


def _row_norms(x: jax.Array) -> jax.Array:
    """‖·‖₂ along the last axis. A gradient far from the loss is small: without scaling its squares underflow."""
    x = wide(x)
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    scale = jnp.where(jnp.isfinite(largest) & (largest >= jnp.finfo(x.dtype).tiny), largest, 1)
    return jnp.sqrt(jnp.sum(jnp.square(x / scale), axis=-1)) * scale[..., 0]


def _saturated(gate: jax.Array, kind: str) -> jax.Array:
    low, high = kinds.BOUNDS[kind]
    margin = kinds.SATURATION_MARGIN * (high - low)
    return jnp.sum((gate <= low + margin) | (gate >= high - margin), axis=(1, 2))
