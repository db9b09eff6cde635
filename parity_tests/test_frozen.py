"""What the reference keeps no gradient of: parameters that it does not train, layers inside a function of its own."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.parity import compare, moved


class Torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = torch.nn.Embedding(5, 4), torch.nn.Linear(4, 3)
        self.table.requires_grad_(False)

    def forward(self, x):
        return self.out(torch.tanh(self.table(x)).mean(1))


class Jax(nnx.Module):
    def __init__(self, stopped):
        self.table, self.out = nnx.Embed(5, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        self.stopped = stopped

    def __call__(self, x):
        h = self.table(x)
        return self.out(jax.nn.tanh(jax.lax.stop_gradient(h) if self.stopped else h).mean(1))


def only_the_head():
    """An optimizer that leaves the table, the first parameter, where it is."""
    return optax.multi_transform({"on": optax.sgd(0.1), "off": optax.set_to_zero()}, ("off", "on", "on"))


HOW = {
    "the gradient stopped": (True, optax.sgd(0.1), None),
    "the optimizer masked": (False, only_the_head(), None),
    "not at all": (False, optax.sgd(0.1), "step 0, parameter table.weight"),
}


@pytest.mark.parametrize("how", HOW)
def test_a_port_leaves_alone_what_the_reference_has_frozen(how):
    stopped, optimizer, fault = HOW[how]
    torch.manual_seed(0)
    original = Torch()
    gradlab_torch.from_canonical(original, moved(gradlab_torch.to_canonical(original)))
    batch = np.random.default_rng(0).integers(0, 5, (4, 6)), np.array([0, 1, 2, 1])
    reference = gradlab_torch.Subject(original, optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
    report = compare(reference, gradlab_jax.Subject(Jax(stopped), optimizer=optimizer), batch, steps=2)
    assert (report.first_divergence and report.first_divergence.name) == fault, report


class Own(torch.autograd.Function):
    """SiLU with a backward of its own, in which no layer's gradient is seen."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return slope * s * (1 + x * (1 - s))


class TorchOwn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.out(Own.apply(self.fc(x)))


class JaxOwn(nnx.Module):
    def __init__(self, factor):
        self.fc, self.out = (nnx.Linear(i, o, rngs=nnx.Rngs(0)) for i, o in ((3, 4), (4, 2)))
        self.factor = factor

    def __call__(self, x):
        h = self.fc(x)
        slope = h * self.factor - jax.lax.stop_gradient(h * (self.factor - 1))
        return self.out(slope * jax.nn.sigmoid(h))


@pytest.mark.parametrize(("factor", "holds"), [(1.0, True), (1.5, False)])
def test_an_activation_with_a_backward_of_its_own(factor, holds):
    torch.manual_seed(0)
    batch = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32), np.array([0, 1, 0, 1])
    subjects = gradlab_torch.Subject(TorchOwn()), gradlab_jax.Subject(JaxOwn(factor))
    report = compare(*subjects, batch, steps=2)
    assert bool(report.failures) is not holds, report
    if not holds:
        assert report.first_divergence.name == "step 0, activation_gradient fc"
