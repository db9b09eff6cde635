"""The states of a recurrent net and their gradients, of a model and a batch that were checked before."""

from __future__ import annotations

from typing import Any

import torch

from gradlab_core.definitions import kinds
from gradlab_core.definitions.hidden import from_measured, refuse_calls
from gradlab_core.definitions.recurrent import BOUNDED
from gradlab_core.records import HiddenStateNorms
from gradlab_torch.model.gradients import Loss
from gradlab_torch.model.inputs import Inputs, call, outside_inference
from gradlab_torch.model.modules import own_randomness
from gradlab_torch.model.recurrent import Observed
from gradlab_torch.trees.norm_arithmetic import row_norms


def measured_states(private: torch.nn.Module, x: Inputs, labels: Any, loss: Loss, mode: str) -> HiddenStateNorms:
    """The record of a private copy.

    Raises:
        GradlabError: it ran another number of recurrent layers than one, or one of another kind.
    """
    watches = [Observed(path, layer) for path, layer in private.named_modules() if isinstance(layer, torch.nn.RNNBase)]
    for watch in watches:
        vars(watch.layer)["forward"] = watch
    # Also where the caller switched gradients off: they are what is asked for here.
    with torch.inference_mode(False), torch.enable_grad(), own_randomness(private):
        out = call(private, outside_inference(x))
        refuse_calls([watch.path for watch in watches for _ in watch.calls])
        value = loss(out, labels)
        (watch,) = (watch for watch in watches if watch.calls)
        states = watch.calls[0][0]
        slopes = torch.autograd.grad(value, states, allow_unused=True) if value.requires_grad else [None] * len(states)
    steps, (examples, width) = len(states), states[0].shape
    there = [torch.zeros_like(h) if slope is None else slope for h, slope in zip(states, slopes, strict=True)]
    sizes = [row_norms(torch.cat(tensors).detach()) for tensors in (states, there)]
    counts = [_saturated(gate, BOUNDED[watch.cell][name]) for name, gate in watch.gates().items()]
    wide = torch.float32 if value.device.type == "mps" else torch.float64
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
    low, high = kinds.SATURATED[kind]
    return ((gate <= low) | (gate >= high)).sum(dim=(1, 2))
