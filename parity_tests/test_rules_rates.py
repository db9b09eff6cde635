"""Steps of a wrong size, in both frameworks: too long from the first on, clipped away, or over too early."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import pytest
import torch
from torch import nn

from gradlab_core.records import Severity
from parity_tests.loops import CLASSES, FEATURES, alarms, in_jax, in_torch, normal, said

TOO_HIGH = [("learning-rate-too-high", Severity.CRITICAL)]


def net(depth=3, width=64):
    torch.manual_seed(0)
    sizes = [FEATURES, *[width] * depth, CLASSES]
    layers = [part for a, b in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("rate", [0.3, 1.0, 10.0])
def test_a_net_thrown_far_off_and_back_has_learned_nothing(rate):
    model = net()
    records = in_torch(model, torch.optim.Adam(model.parameters(), lr=rate))
    assert max(r.loss for r in records) > 20 * records[-1].loss
    assert said(records) == TOO_HIGH


def test_a_summed_loss_with_momentum_is_not_learning():
    def summed(out, y):
        return nn.functional.cross_entropy(out, y, reduction="sum")

    model = net(1, 32)
    records = in_torch(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), loss=summed)
    assert alarms(records)[0] in ("exploding-gradient", "learning-rate-too-high")


def test_long_steps_that_are_none():
    """Against weights of 0 every step is long; a net may begin at a huge loss and learn; a rate may warm up."""
    model = net()
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    assert alarms(in_torch(model, torch.optim.Adam(model.parameters(), lr=1e-2))) == []

    far = net()
    with torch.no_grad():
        far[-1].weight.mul_(1000)
    records = in_torch(far, torch.optim.Adam(far.parameters(), lr=1e-2), steps=150)
    assert records[0].loss > 20
    assert alarms(records) == []

    warm = net()
    optimizer = torch.optim.Adam(warm.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 30))
    assert alarms(in_torch(warm, optimizer, steps=100, before_step=lambda step: schedule.step())) == []


PARAMS = [{"kernel": normal(a, b, seed=a + b), "bias": jnp.zeros(b)} for a, b in ((FEATURES, 64), (64, 64), (64, 4))]


def forward(params, x):
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]


def test_the_same_in_jax():
    assert said(in_jax(forward, PARAMS, optax.adam(1.0))) == TOO_HIGH
    zero = [*PARAMS[:-1], jax.tree.map(jnp.zeros_like, PARAMS[-1])]
    assert alarms(in_jax(forward, zero, optax.adam(1e-2))) == []
