"""Steps of a wrong size, in both frameworks: too long from the first on, clipped away, or over too early."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import optax
import pytest
import torch
from torch import nn

from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.records import Severity
from parity_tests.loops import CLASSES, FEATURES, alarms, in_jax, in_torch, normal, said

TOO_HIGH = [("learning-rate-too-high", Severity.CRITICAL)]


def net(depth=3, width=64):
    torch.manual_seed(0)
    sizes = [FEATURES, *[width] * depth, CLASSES]
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
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


def clipping(model, limit):
    return lambda step: nn.utils.clip_grad_norm_(model.parameters(), limit)


@pytest.mark.parametrize("limit", [1e-2, 1e-3, 1e-8])
def test_a_gradient_clipped_to_next_to_nothing(limit):
    model = net()
    records = in_torch(model, torch.optim.SGD(model.parameters(), lr=0.1), before_step=clipping(model, limit))
    assert said(records) == [("clipped-away", Severity.CRITICAL)]


@pytest.mark.parametrize(
    ("optimizer", "limit"), [("adam", 1e-3), ("sgd at a rate for it", 1e-3), ("always active", 0.1), ("usual", 1.0)]
)
def test_clipping_that_lets_the_net_learn(optimizer, limit):
    model = net()
    rates = {"sgd at a rate for it": 100.0, "always active": 1.0, "usual": 0.1}
    if optimizer == "adam":
        moved = torch.optim.Adam(model.parameters(), lr=1e-2)
    else:
        moved = torch.optim.SGD(model.parameters(), lr=rates[optimizer])
    assert alarms(in_torch(model, moved, steps=100, before_step=clipping(model, limit))) == []


def scheduled(shape, *, steps=240):
    model = net(1, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
    return in_torch(model, optimizer, steps=steps, before_step=lambda step: schedule.step())


@pytest.mark.parametrize(
    "shape",
    [
        lambda step: 0.1 ** (step // 3),
        lambda step: max(0.0, 1 - step / 10),
        lambda step: max(0.0, 1 - step / 30),
        lambda step: 0.94**step,
    ],
)
def test_a_schedule_that_is_over_while_the_net_learns(shape):
    assert said(scheduled(shape)) == [("schedule-over", Severity.WARNING)]


@pytest.mark.parametrize(
    "shape",
    [
        lambda step: 0.5 * (1 + math.cos(math.pi * min(step, 150) / 150)),
        lambda step: 0.97**step,
        lambda step: 1.0 if step < 100 else 0.01,
        lambda step: 1 / math.sqrt(1 + step),
        lambda step: min(1.0, step / 100, (240 - step) / 100),
    ],
)
def test_schedules_that_end_when_the_net_is_done(shape):
    assert alarms(scheduled(shape)) == []


def over_the_batch(out, y):
    return -torch.log(torch.softmax(out, dim=0).mean())


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_loss_that_depends_on_nothing(decay):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=decay)
    assert said(in_torch(model, optimizer, loss=over_the_batch)) == [("constant-loss", Severity.CRITICAL)]
    single = nn.Linear(FEATURES, 1)
    records = in_torch(
        single,
        torch.optim.AdamW(single.parameters(), lr=1e-2, weight_decay=decay),
        loss=lambda out, y: nn.functional.cross_entropy(out, 0 * y),
    )
    assert said(records) == [("zero-gradient", Severity.CRITICAL)]
    assert "loss is 0" in diagnose(records)[0].explanation


def test_the_same_limits_and_schedules_in_jax():
    def clipped(limit, rate):
        def inner(learning_rate):
            return optax.chain(optax.clip_by_global_norm(limit), optax.sgd(learning_rate))

        return in_jax(forward, PARAMS, optax.inject_hyperparams(inner)(learning_rate=rate))

    assert said(clipped(1e-3, 0.1)) == [("clipped-away", Severity.CRITICAL)]
    assert alarms(clipped(1.0, 0.5)) == []
    early, late = (
        in_jax(forward, PARAMS, optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(0.5, 0.0, over)), steps=120)
        for over in (5, 120)
    )
    assert said(early) == [("schedule-over", Severity.WARNING)]
    assert alarms(late) == []
    constant = in_jax(
        forward, PARAMS, optax.adam(1e-2), loss=lambda out, y: -jnp.log(jax.nn.softmax(out, axis=0).mean())
    )
    assert said(constant) == [("constant-loss", Severity.CRITICAL)]
