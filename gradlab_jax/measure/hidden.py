"""What a recurrent net's state does over time: whether it grows or fades, and whether a gradient reaches its start."""

from __future__ import annotations

from typing import Any

import jax

from gradlab_core.definitions.hidden import refuse_calls
from gradlab_core.records import HiddenStateNorms
from gradlab_jax.measure.hidden_states import measured_states, recurrent_calls
from gradlab_jax.model.checks import as_labels, check_model_labels
from gradlab_jax.model.gradients import Loss
from gradlab_jax.model.inputs import Inputs, checked_inputs
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import functional


def hidden_state_norms(
    model: Any, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> HiddenStateNorms:
    """Per time step: mean ‖h_t‖₂, mean ‖∂L/∂h_t‖₂, and the share of saturated gates, on one batch.

    Source: Pascanu, Mikolov & Bengio 2013, on why the gradient of a state far from the loss vanishes or explodes.

    Args:
        model: one with a single recurrent layer, as `build(ModelSpec(kind="recurrent", …))` makes it; left as it was.
        x: input batch, sequences (N, T, features). Several inputs: a mapping or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: another kind of model, a batch with NaN or Inf, or labels out of range.

    >>> from gradlab_core.programs.specs import ModelSpec
    >>> from gradlab_jax.programs.models import build
    >>> net = build(ModelSpec(kind="recurrent", cell="gru", features=2, hidden=4, num_classes=2), seed=0)
    >>> record = hidden_state_norms(net, jax.numpy.ones((3, 5, 2)), jax.numpy.array([0, 1, 0]))
    >>> len(record.states), record.gradients[0] < record.gradients[-1], record.saturated["z"]
    (5, True, (0.0, 0.0, 0.0, 0.0, 0.0))
    """
    f, params, rest = functional(model, mode)
    x = checked_inputs(x)
    logits, calls = recurrent_calls(f, params, rest, x)
    refuse_calls([path for path, _, _ in calls])
    if loss is cross_entropy:
        check_model_labels(y, logits)
    return jax.device_get(_measure(f, loss, calls[0], params, rest, x, as_labels(y))).record(mode)  # one transfer


_measure = jax.jit(measured_states, static_argnums=(0, 1, 2))
