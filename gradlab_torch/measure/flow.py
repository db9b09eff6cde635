"""Gradient norms from the last layer back to the first, and the state of every gradient."""

from __future__ import annotations

from typing import Any

import torch

from gradlab_core.definitions import reference
from gradlab_core.definitions.states import gradient_state
from gradlab_core.records import GradientFlow, GradientState
from gradlab_torch.model.checks import as_labels, check_model_labels
from gradlab_torch.model.gradients import Loss, loss_and_gradients
from gradlab_torch.model.inputs import Inputs, checked_inputs, tensors
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import private_copy
from gradlab_torch.trees.norms import leaf_norms


def gradient_flow(
    model: torch.nn.Module, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> GradientFlow:
    """Loss, and the gradient norm of every parameter on one batch.

    `first` is the weight of the first convolution in execution order (without one, the first weight; of a recurrent
    layer, its weight on the input), `last` that of the last linear layer. A parameter with no gradient path is None in
    `layers` and listed in `disconnected`.

    Args:
        model: any `torch.nn.Module`; left as it was, `.grad` included.
        x: input batch, native layout (N, C, spatial…); several inputs by name in a mapping, by
            place in a tuple or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: a batch with NaN or Inf, or labels out of range.

    >>> flow = gradient_flow(torch.nn.Linear(3, 2), torch.ones(4, 3), torch.tensor([0, 1, 0, 1]))
    >>> list(flow.layers), round(flow.ratio, 6)
    (['weight', 'bias'], 1.0)
    """
    value, layers, calls = _flow(model, x, y, loss, mode)
    return reference.gradient_flow(mode=mode, loss=value, layers=layers, calls=calls)


def check_gradients(
    model: torch.nn.Module, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> dict[str, GradientState]:
    """`{path: state of its gradient}` on one batch; tells `disconnected`, no path, from `zero`, a number.

    >>> check_gradients(torch.nn.Linear(1, 2), torch.zeros(2, 1), torch.tensor([0, 1]))["weight"].value
    'zero'
    """
    _, layers, _ = _flow(model, x, y, loss, mode)
    return {
        name: gradient_state(layers[name], p.numel()) if p.requires_grad else GradientState.FROZEN
        for name, p in model.named_parameters()
    }


def _flow(
    model: torch.nn.Module, x: Inputs, y: Any, loss: Loss, mode: str
) -> tuple[float, dict[str, float | None], list[tuple[str, str]]]:
    """Loss, gradient norm of every parameter (None: no path), and `(path, kind)` of the layers as they ran."""
    private = private_copy(model, mode)
    x = checked_inputs(x)

    def checked_loss(out: Any, y: Any) -> torch.Tensor:
        labels = as_labels(y, tensors(x)[0].device)
        if loss is cross_entropy:
            check_model_labels(labels, out)
        return loss(out, labels)

    value, grads, ran = loss_and_gradients(private, x, y, checked_loss, lambda tap, value: None)
    sizes = leaf_norms(grads)
    known = [size.double() for size in sizes.values() if size is not None]
    numbers = iter(torch.stack([value.double(), *known]).tolist())  # one transfer
    total = next(numbers)
    norms = {name: None if size is None else next(numbers) for name, size in sizes.items()}
    return total, norms, [(tap.path, tap.kind) for tap, _ in ran]
