"""Subjects whose layers differ: images in either layout, the statistics of Linen, activations that are functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.parity import assert_parity, compare, moved

rng = np.random.default_rng(0)


def test_images_come_as_the_model_takes_them():
    """A PyTorch model that takes channels last, held against a JAX model that does."""

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Linear(4, 2)

        def forward(self, images):
            assert images.shape[-1] == 3
            return self.fc(self.conv(images.permute(0, 3, 1, 2)).mean((2, 3)))

    class Port(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
            self.fc = nnx.Linear(4, 2, rngs=nnx.Rngs(0))

        def __call__(self, images):
            return self.fc(self.conv(images).mean((1, 2)))

    torch.manual_seed(0)
    original, port = Last(), Port()
    gradlab_jax.from_canonical(port, gradlab_torch.to_canonical(original))
    batch = rng.standard_normal((4, 3, 5, 6)).astype(np.float32), np.array([0, 1, 0, 1])
    sides = gradlab_torch.Subject(original, layout="NHWC"), gradlab_jax.Subject(port)
    assert_parity(*sides, batch, steps=2)


class Convolved(linen.Module):
    """Convolution and BatchNorm, whose running statistics are a collection of their own."""

    momentum: float = 0.9

    @linen.compact
    def __call__(self, x, train):
        x = linen.Conv(4, (3, 3), name="conv")(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=self.momentum, name="bn")(x)
        return linen.Dense(2, name="fc")(linen.relu(x).mean((1, 2)))


class TorchConvolved(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_linens_statistics_are_compared(momentum):
    """PyTorch's running variance is that of a sample, Flax's that of the batch: its port is found to differ in that
    alone, and with another momentum in the mean too."""
    torch.manual_seed(0)
    original, module = TorchConvolved(), Convolved(momentum)
    gradlab_torch.from_canonical(original, moved(gradlab_torch.to_canonical(original), seed=2))
    variables = module.init(jax.random.key(0), jnp.zeros((2, 5, 6, 3)), train=False)
    batch = rng.standard_normal((4, 3, 5, 6)).astype(np.float32), np.array([0, 1, 0, 1])
    sides = gradlab_torch.Subject(original), gradlab_jax.Subject(module.bind(variables))
    report = compare(*sides, batch, steps=2)
    wrong = {"bn.running_var"} | ({"bn.running_mean"} if momentum == 0.99 else set())
    assert {row.path for row in report.failures} == wrong
    assert {row.quantity for row in report.failures} == {"statistic"}


class Acted(torch.nn.Module):
    """Activations that are modules: one of them in a block, which the port calls as functions."""

    def __init__(self):
        super().__init__()
        self.fc1, self.act, self.fc2 = torch.nn.Linear(3, 5), torch.nn.GELU(approximate="tanh"), torch.nn.Linear(5, 2)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class ActedPort(nnx.Module):
    def __init__(self, act):
        self.fc1, self.fc2 = nnx.Linear(3, 5, rngs=nnx.Rngs(0)), nnx.Linear(5, 2, rngs=nnx.Rngs(0))
        self.activate = act

    def __call__(self, x):
        return self.fc2(self.activate(self.fc1(x)))


@pytest.mark.parametrize("act", [jax.nn.gelu, nnx.relu, lambda x: x])
def test_an_activation_is_a_module_here_and_a_function_there(act):
    """It has a name of its own on one side; it is compared all the same, and one that is missing is said to be."""
    torch.manual_seed(0)
    original, port = Acted(), ActedPort(act)
    gradlab_torch.from_canonical(original, moved(gradlab_torch.to_canonical(original), seed=2))
    batch = rng.standard_normal((4, 3)).astype(np.float32), np.array([0, 1, 0, 1])
    report = compare(gradlab_torch.Subject(original), gradlab_jax.Subject(port), batch, steps=1)
    if act is jax.nn.gelu:
        assert not report.failures
        assert "act" in {row.path for row in report.rows if row.quantity == "activation_gradient"}
    else:
        assert report.first_divergence.name == "step 0, activation act"
        assert (report.first_divergence.missing is None) == (act is nnx.relu)
