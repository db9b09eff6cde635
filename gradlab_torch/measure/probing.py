"""What a model does on one batch: its input, output, activations, states and copied units in one record."""

from __future__ import annotations

from typing import Any

import torch

from gradlab_core.errors import GradlabError
from gradlab_core.records import HiddenStateNorms, Probe
from gradlab_torch.measure.hidden_states import measured_states
from gradlab_torch.measure.statistics import NO_LAYER, rows_of, stats, tracked
from gradlab_torch.measure.symmetry import copied_share
from gradlab_torch.model.checks import as_labels, check_logits, check_loss, check_model_labels
from gradlab_torch.model.gradients import Loss
from gradlab_torch.model.inputs import Inputs, checked_inputs, examples, floating, tensors
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import path_of, private_copy
from gradlab_torch.model.taps import run_tapped
from gradlab_torch.trees.transfer import transferred


def probe(model: torch.nn.Module, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train") -> Probe:
    """Everything a diagnosis wants to know of a model on one batch that norms cannot say.

    One forward pass; a net with one recurrent layer takes a second one, and a backward pass. NaN and Inf are counted,
    not refused. Where they come from says `nonfinite_origin`.

    Args:
        model: any `torch.nn.Module`; left as it was, running statistics and random state included.
        x: input batch, native layout (N, C, spatial…), or tokens. Several inputs go to the model by name,
            `model(**x)` of a mapping, or by place, `model(*x)` of a tuple or a list; `input` is then of the first that
            holds no whole numbers, and the first of all counts the examples.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: not a PyTorch model, an unknown mode, a batch of no tensor or empty, labels out of range, or
            a loss that is not one number.

    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> _ = torch.nn.init.constant_(net[0].weight, 0.1)
    >>> found = probe(net, torch.ones(5, 3), torch.tensor([0, 1, 0, 1, 0]))
    >>> found.classes, found.input.mean, [row.kind for row in found.layers], found.copies["0.weight"]
    (2, 1.0, ['relu'], 1.0)
    """
    private = private_copy(model, mode)
    x = checked_inputs(x, finite=False)
    labels = as_labels(y, tensors(x)[0].device)
    with torch.no_grad():
        out, handed = run_tapped(private, x, tracked)
        if loss is cross_entropy:
            check_model_labels(labels, out)
        value = check_loss(loss(check_logits(out), labels))
        tensorwise = {
            name: stats(tensor, NO_LAYER)
            for name, tensor in (("output", out), ("input", floating(x)), ("target", floating(labels)))
            if tensor is not None
        }
        copies = {path_of(n): copied_share(p).reshape(1) for n, p in model.named_parameters() if p.ndim > 1}
    layers = rows_of(handed)
    numbers = transferred(
        {
            "loss": (["loss"], value.reshape(1)),
            **{name: row.part() for name, row in tensorwise.items()},
            **{str(i): row.part() for i, row in enumerate(layers)},
            **({"copies": (list(copies), torch.cat(list(copies.values())))} if copies else {}),
        }
    )
    is_classification = out.ndim == 2 and labels.ndim == 1 and labels.dtype == torch.int64
    return Probe(
        mode=mode,
        batch=examples(x),
        classes=out.shape[-1] if is_classification else None,
        loss=numbers["loss"]["loss"],
        input=tensorwise["input"].of_tensor(numbers["input"]) if "input" in tensorwise else None,
        output=tensorwise["output"].of_tensor(numbers["output"]),
        target=tensorwise["target"].of_tensor(numbers["target"]) if "target" in tensorwise else None,
        layers=tuple(row.record(mode, numbers[str(i)]) for i, row in enumerate(layers)),
        shapes={path_of(name): tuple(p.shape) for name, p in model.named_parameters()},
        copies=numbers.get("copies", {}),
        hidden=_states(model, x, labels, loss, mode),
    )


def _states(model: torch.nn.Module, x: Inputs, labels: torch.Tensor, loss: Loss, mode: str) -> HiddenStateNorms | None:
    if not any(isinstance(module, torch.nn.RNNBase) for module in model.modules()):
        return None
    try:
        return measured_states(private_copy(model, mode), x, labels, loss, mode)
    except GradlabError:  # several such layers, or one of another kind: the rest of the probe holds all the same
        return None
