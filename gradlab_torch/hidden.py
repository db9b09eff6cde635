"""What a recurrent net's state does over time: whether it grows or fades, and whether a gradient reaches its start."""

from __future__ import annotations

from typing import Any

import torch

from gradlab_core import kinds
from gradlab_core.hidden import from_measured, refuse_calls
from gradlab_core.records import HiddenStateNorms
from gradlab_core.recurrent import BOUNDED
from gradlab_torch._gradients import Loss
from gradlab_torch._module import own_randomness, private_copy
from gradlab_torch._norms import row_norms
from gradlab_torch._recurrent import Observed
from gradlab_torch.checks import as_labels, check_model_inputs, check_model_labels
from gradlab_torch.losses import cross_entropy


def hidden_state_norms(
    model: torch.nn.Module, x: torch.Tensor, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> HiddenStateNorms:
    """Per time step: mean ‖h_t‖₂, mean ‖∂L/∂h_t‖₂, and the share of saturated gates, on one batch.

    Source: Pascanu, Mikolov & Bengio 2013, on why the gradient of a state far from the loss vanishes or explodes.

    Args:
        model: one with a single `nn.RNN`, `nn.LSTM` or `nn.GRU` of one layer and direction; left as it was.
        x: input batch, sequences of one length; `build` makes nets that take (N, T, features).
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: another kind of model, a batch with NaN or Inf, or labels out of range.

    >>> from gradlab_core.specs import ModelSpec
    >>> from gradlab_torch.models import build
    >>> net = build(ModelSpec(kind="recurrent", cell="gru", features=2, hidden=4, num_classes=2), seed=0)
    >>> record = hidden_state_norms(net, torch.ones(3, 5, 2), torch.tensor([0, 1, 0]))
    >>> len(record.states), record.gradients[0] < record.gradients[-1], record.saturated["z"]
    (5, True, (0.0, 0.0, 0.0, 0.0, 0.0))
    """
    private = private_copy(model, mode)
    check_model_inputs(x)
    watches = [Observed(path, layer) for path, layer in private.named_modules() if isinstance(layer, torch.nn.RNNBase)]
    for watch in watches:
        vars(watch.layer)["forward"] = watch
    # Also where the caller switched gradients off: they are what is asked for here.
    with torch.inference_mode(False), torch.enable_grad(), own_randomness(private):
        out = private(x.clone() if x.is_inference() else x)
        refuse_calls([watch.path for watch in watches for _ in watch.calls])
        labels = as_labels(y, x.device)
        if loss is cross_entropy:
            check_model_labels(labels, out)
        value = loss(out, labels)
        (watch,) = (watch for watch in watches if watch.calls)
        states = watch.calls[0][0]
        slopes = torch.autograd.grad(value, states, allow_unused=True) if value.requires_grad else [None] * len(states)
    steps, (examples, width) = len(states), states[0].shape
    there = [torch.zeros_like(h) if slope is None else slope for h, slope in zip(states, slopes, strict=True)]
    sizes = [row_norms(torch.cat(tensors).detach()) for tensors in (states, there)]
    counts = [_saturated(gate, BOUNDED[watch.cell][name]) for name, gate in watch.gates().items()]
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    numbers = torch.cat([t.detach().reshape(-1).to(wide) for t in (value, *sizes, *counts)]).tolist()  # one transfer
    total, norms, rest = numbers[0], numbers[1 : 1 + 2 * steps * examples], numbers[1 + 2 * steps * examples :]
    rows = [norms[i : i + examples] for i in range(0, len(norms), examples)]
    return from_measured(
        path=watch.path,
        cell=watch.cell,
        mode=mode,
        loss=total,
        states=rows[:steps],
        gradients=rows[steps:],
        width=width,
        saturated={name: rest[k * steps : (k + 1) * steps] for k, name in enumerate(BOUNDED[watch.cell])},
    )


def _saturated(gate: torch.Tensor, kind: str) -> torch.Tensor:
    low, high = kinds.BOUNDS[kind]
    margin = kinds.SATURATION_MARGIN * (high - low)
    return ((gate <= low + margin) | (gate >= high - margin)).sum(dim=(1, 2))
