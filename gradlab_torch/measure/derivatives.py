"""Backpropagation held against differences, each step of a model by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gradlab_core.definitions.cuts import LOSS, Cut
from gradlab_core.definitions.derivatives import Array
from gradlab_core.judge.derivatives import Source, check_steps
from gradlab_core.records import DerivativeCheck
from gradlab_torch.model.checks import as_labels, check_logits, check_loss, check_model_labels
from gradlab_torch.model.cuts import mapped, run_cut
from gradlab_torch.model.gradients import Loss
from gradlab_torch.model.inputs import Inputs, checked_inputs, named, outside_inference, tensors
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import path_of, private_copy


def check_derivatives(
    model: torch.nn.Module, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> DerivativeCheck:
    """Whether backpropagation gives the derivatives of what is computed, in every parameter and in what goes into
    every layer; what is wrong is placed.

    The model is cut before and after every call of a module, of an activation and of a function with a derivative of
    its own (`torch.autograd.Function`), and each step is held by itself, in float64, against central differences with
    Richardson extrapolation along one random direction. So one wrong backward is one wrong layer, not all before it,
    and of several each is named. A kink, float32 inside, randomness and what is cut off are told apart (`status` of a
    row). It takes 12 runs for each parameter and each cut: a few examples and a small model of the same layers do.

    Args:
        model: any `torch.nn.Module`; left as it was, running statistics and random state included.
        x: input batch, native layout (N, C, spatial…); several inputs by name in a mapping, by
            place in a tuple or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: not a PyTorch model, a batch with NaN or Inf, labels out of range, or a loss that is not one
            number.

    >>> class Twice(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return 2 * x
    ...     @staticmethod
    ...     def backward(ctx, slope):
    ...         return slope  # the 2 is missing
    >>> class Layer(torch.nn.Linear):
    ...     def forward(self, x):
    ...         return Twice.apply(super().forward(x))
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), Layer(4, 4), torch.nn.Linear(4, 2))
    >>> check_derivatives(net, torch.ones(5, 3), torch.tensor([0, 1, 0, 1, 0])).wrong
    ('Twice of 1',)
    """
    return check_steps(_Steps(private_copy(model, mode).double(), checked_inputs(x), y, loss), mode)


class _Steps:
    """A private copy in float64, cut into steps."""

    def __init__(self, model: torch.nn.Module, x: Inputs, y: Any, loss: Loss) -> None:
        self.model, self.loss = model, loss
        self.labels = as_labels(y, tensors(x)[0].device)
        self.labels = self.labels.double() if self.labels.is_floating_point() else self.labels
        self.x = mapped(outside_inference(x), _own)
        self.buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        self.leaves: dict[Cut, torch.Tensor] = {}
        inputs = [(f"input {n}" if n else "input", t) for n, t in named(self.x) if t.is_floating_point()]
        for _, tensor in inputs:
            tensor.requires_grad_()
        params = [(path_of(name), p) for name, p in model.named_parameters() if p.is_floating_point()]
        self.raw = self._run(first=True)
        moved = [*params, *inputs, *((cut.label, leaf) for cut, leaf in self.leaves.items())]
        self.tensors = [tensor for _, tensor in moved]
        self.sources = [Source(n, _host(t), parameter=i < len(params)) for i, (n, t) in enumerate(moved)]
        self.targets = list(self.raw)

    def run(self, changed: Mapping[int, Array]) -> list[Array | None]:
        before = {i: self.tensors[i].detach().clone() for i in changed}
        try:
            for i, array in changed.items():
                self.tensors[i].data.copy_(torch.from_numpy(array))
            values = self._run(first=False)
        finally:
            for i, kept in before.items():
                self.tensors[i].data.copy_(kept)
        return [None if (value := values.get(cut)) is None else _host(value) for cut in self.targets]

    def back(self, target: int, cotangent: Array) -> list[Array | None]:
        raw = self.raw[self.targets[target]]
        if not raw.requires_grad:
            return [None] * len(self.tensors)
        slope = torch.from_numpy(cotangent).to(raw)
        grads = torch.autograd.grad(raw, self.tensors, slope, retain_graph=True, allow_unused=True)
        return [None if grad is None else _host(grad) for grad in grads]

    def _run(self, *, first: bool) -> dict[Cut, torch.Tensor]:
        """What comes out of every step, each computed from the leaves; the first run makes them."""
        values: dict[Cut, torch.Tensor] = {}

        def on_cut(cut: Cut, value: torch.Tensor) -> torch.Tensor:
            values[cut] = value
            if first:
                self.leaves[cut] = value.detach().clone().requires_grad_()
            leaf = self.leaves.get(cut)
            return value if leaf is None or leaf.shape != value.shape else leaf.clone()

        def loss(out: Any) -> torch.Tensor:
            if self.loss is cross_entropy:
                check_model_labels(self.labels, out)
            return check_loss(self.loss(check_logits(out), self.labels))

        with torch.inference_mode(False), torch.enable_grad():
            for name, buffer in self.model.named_buffers():
                buffer.data.copy_(self.buffers[name])
            values[LOSS] = run_cut(self.model, mapped(self.x, torch.clone), on_cut, loss, once=True)[1].reshape(1)
        return values


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """A copy; what is floating in float64."""
    return tensor.detach().to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True)


def _host(tensor: torch.Tensor) -> Array:
    """A copy on the host, in float64."""
    return np.array(tensor.detach().double().cpu().numpy(), copy=True)
