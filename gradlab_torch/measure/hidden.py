"""What a recurrent net's state does over time: whether it grows or fades, and whether a gradient reaches its start."""

from __future__ import annotations

from typing import Any

import torch

from gradlab_core.records import HiddenStateNorms
from gradlab_torch.measure.hidden_states import measured_states
from gradlab_torch.model.checks import as_labels, check_model_labels
from gradlab_torch.model.gradients import Loss
from gradlab_torch.model.inputs import Inputs, checked_inputs, tensors
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import private_copy


def hidden_state_norms(
    model: torch.nn.Module, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> HiddenStateNorms:
    """Per time step: mean ‖h_t‖₂, mean ‖∂L/∂h_t‖₂, and the share of saturated gates, on one batch.

    Source: Pascanu, Mikolov & Bengio 2013, on why the gradient of a state far from the loss vanishes or explodes.

    Args:
        model: one with a single `nn.RNN`, `nn.LSTM` or `nn.GRU` of one layer and direction; left as it was.
        x: input batch, sequences of one length; `build` makes nets that take (N, T, features). Several inputs: a
            mapping or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: another kind of model, a batch with NaN or Inf, or labels out of range.

    >>> from gradlab_core.programs.specs import ModelSpec
    >>> from gradlab_torch.programs.models import build
    >>> net = build(ModelSpec(kind="recurrent", cell="gru", features=2, hidden=4, num_classes=2), seed=0)
    >>> record = hidden_state_norms(net, torch.ones(3, 5, 2), torch.tensor([0, 1, 0]))
    >>> len(record.states), record.gradients[0] < record.gradients[-1], record.saturated["z"]
    (5, True, (0.0, 0.0, 0.0, 0.0, 0.0))
    """
    private = private_copy(model, mode)
    x = checked_inputs(x)

    def checked_loss(out: Any, labels: Any) -> torch.Tensor:
        if loss is cross_entropy:
            check_model_labels(labels, out)
        return loss(out, labels)

    return measured_states(private, x, as_labels(y, tensors(x)[0].device), checked_loss, mode)
