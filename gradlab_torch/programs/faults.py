"""Faults built into a model on purpose, as they stand in users' programs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from gradlab_core.programs.checks import check_activation, layers_named, under
from gradlab_core.programs.program import ProgramSpec
from gradlab_torch.programs.models.layers import linear
from gradlab_torch.start.initializers import initialize


def _feature_axis(x: torch.Tensor) -> int:
    return 1 if x.ndim == 4 else x.ndim - 1


def _integer_cast(x: torch.Tensor) -> torch.Tensor:
    return x.round().to(torch.int32).to(x.dtype)


def _argmax(x: torch.Tensor) -> torch.Tensor:
    axis = _feature_axis(x)
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


def _divide_by_zero(x: torch.Tensor) -> torch.Tensor:
    axis = _feature_axis(x)
    shape = [x.shape[axis] if i == axis else 1 for i in range(x.ndim)]
    x = x * (torch.arange(x.shape[axis], device=x.device) > 0).to(x.dtype).reshape(shape)
    return x / x.std(0, unbiased=False)


_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "stop_gradient": torch.Tensor.detach,
    "integer_cast": _integer_cast,
    "argmax": _argmax,
    "log_zero": torch.log,
    "divide_by_zero": _divide_by_zero,
}


class Faulty(nn.Module):
    """An activation with a fault behind it. It has the path of the one it replaces, which stands inside as
    `activation`; for `log_zero` that is a ReLU."""

    def __init__(self, fault: str, activation: nn.Module) -> None:
        super().__init__()
        self.fault = fault
        self.activation = nn.ReLU() if fault == "log_zero" else activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _ACTIVATIONS[self.fault](self.activation(x))


class Rectified(nn.Linear):
    """A dense layer with a ReLU on its output."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(super().forward(x))


def plant(model: nn.Module, spec: ProgramSpec) -> None:
    """Build the fault of a program into its model, in place; those that are no part of a model (what the optimizer
    gets, whether it steps) change nothing here.

    Raises:
        GradlabError: there is no such layer or activation; the message lists those there are.

    >>> from gradlab_core.programs.specs import ModelSpec
    >>> from gradlab_torch.programs.models import build
    >>> spec = ProgramSpec(model=ModelSpec(kind="mlp"), fault="negative_bias", at="fc1", amount=3.0)
    >>> model = build(spec.model, seed=0)
    >>> plant(model, spec)
    >>> model.fc1.bias.unique().tolist()
    [-3.0]
    """
    if spec.fault in _ACTIVATIONS:
        check_activation(spec.at, _activations(model))
        parent, _, name = spec.at.rpartition(".")
        setattr(model.get_submodule(parent), name, Faulty(spec.fault, model.get_submodule(spec.at)))
    elif spec.fault == "unused_branch":
        model.add_module("extra", linear(spec.model.num_classes, spec.model.num_classes))
        # Every tensor is drawn from a stream of its own, so that the others stay what they are.
        initialize(model, spec.model.init, seed=spec.seed, number=spec.model.init_number)
    elif spec.fault in ("negative_bias", "saturated_start", "rectified_output"):
        params = dict(model.named_parameters())
        kind = "weight" if spec.fault == "saturated_start" else "bias"
        with torch.no_grad():
            for name in under(spec.at, params, kind=kind):
                params[name].copy_(torch.full_like(params[name], -1.0) if kind == "bias" else params[name])
                params[name].mul_(spec.amount)
        if spec.fault == "rectified_output":
            for path in layers_named(spec.at):
                model.get_submodule(path).__class__ = Rectified


def _activations(model: nn.Module) -> list[str]:
    """The paths of modules that have neither parameters nor modules inside."""
    return [p for p, m in model.named_modules() if p and not [*m.parameters()] and not [*m.children()]]
