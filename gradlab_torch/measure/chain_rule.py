"""The factors by which the layers of a net multiply the gradient on its way back."""

from __future__ import annotations

from typing import Any

import torch

from gradlab_core.definitions import chain_rule as definition
from gradlab_core.definitions.cuts import Cut
from gradlab_core.records import ChainRule
from gradlab_torch.model.checks import as_labels, check_logits, check_loss, check_model_labels
from gradlab_torch.model.cuts import mapped, run_cut
from gradlab_torch.model.gradients import Loss
from gradlab_torch.model.inputs import Inputs, checked_inputs, outside_inference, tensors
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import private_copy
from gradlab_torch.trees.norm_arithmetic import stacked_norms


def chain_rule(
    model: torch.nn.Module, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> ChainRule:
    """‖∂L/∂input‖/‖∂L/∂output‖ of every layer call, their product, and what the gradient really does from the logits to
    the input of the first layer.

    Both are the same in a plain chain. Where paths part or meet (a residual), or a step that is no layer lies between,
    `log_after` of the layer before is not 0. Layers are convolutions, dense layers, normalisations, embeddings,
    activations, functions with a derivative of their own, and modules with none of these inside.

    Args:
        model: any `torch.nn.Module`; left as it was, `.grad` included.
        x: input batch, native layout (N, C, spatial…); several inputs by name in a mapping, by
            place in a tuple or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: not a PyTorch model, a batch with NaN or Inf, labels out of range, or a loss that is not one
            number.

    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 2))
    >>> _ = torch.nn.init.eye_(net[0].weight)
    >>> row = chain_rule(net, torch.ones(4, 3), torch.tensor([0, 1, 0, 1])).layers[0]
    >>> row.layer, round(row.log_factor, 6), round(row.log_after, 6)
    ('0', 0.0, 0.0)
    """
    private = private_copy(model, mode)
    x = outside_inference(checked_inputs(x))
    labels = as_labels(y, tensors(x)[0].device)
    cuts: list[Cut] = []
    slopes: dict[Cut, torch.Tensor] = {}

    def on_cut(cut: Cut, value: torch.Tensor) -> torch.Tensor:
        cuts.append(cut)
        # Of what was cut off before, too: what comes to it is the layer's own.
        start = value if value.requires_grad else value.detach().requires_grad_()
        made = start.clone()  # its gradient is what comes this way, and not what comes to others that take the value
        made.register_hook(lambda slope: slopes.__setitem__(cut, slope))
        return made

    def value_of(out: Any) -> torch.Tensor:
        if loss is cross_entropy:
            check_model_labels(labels, out)
        return check_loss(loss(check_logits(out), labels))

    with torch.inference_mode(False), torch.enable_grad():
        given = mapped(x, lambda t: t.detach().clone().requires_grad_(t.is_floating_point()))
        value = run_cut(private, given, on_cut, value_of, once=False)[1]
        if value.requires_grad:
            value.backward()
    met = list(slopes)
    numbers = stacked_norms(list(slopes.values())).tolist() if met else []
    return definition.chain_rule(cuts, dict(zip(met, numbers, strict=True)), mode)
