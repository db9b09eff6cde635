"""Steps that go the wrong way, in real runs of both twins; and runs that are well, of which nothing is said."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core import backends
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.judge.promise import kept
from gradlab_core.programs.program import OptimizerSpec
from gradlab_core.programs.scenarios import SCENARIOS
from gradlab_core.programs.scenarios.nets import DIGITS, changed
from parity_tests.monitored import BATCHES, START, jax_loss, torch_loss, torch_net

FRAMEWORKS = ("torch", "jax")
FAULTY = ("uphill", "uphill-layer", "weight-decay-too-strong")
WRONG_WAY = {"uphill-step", "weight-decay-too-strong"}
HEALTHY = {
    "momentum": OptimizerSpec(name="sgd", learning_rate=0.05, momentum=0.9),
    "warm-up": OptimizerSpec(name="adam", learning_rate=3e-3, warm_up=50),
    "adamw": OptimizerSpec(name="adamw", learning_rate=3e-3, weight_decay=0.1),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", FAULTY)
def test_a_wrong_way_is_found_first(name, framework):
    found = diagnose(backends.load(framework).run_program(SCENARIOS[name].program))
    assert found[0].code == SCENARIOS[name].codes[0]
    if name == "uphill-layer":
        assert set(found[0].paths) == {"fc1.weight", "fc1.bias"}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", HEALTHY)
def test_no_wrong_way_in_a_run_that_is_well(name, framework):
    assert diagnose(backends.load(framework).run_program(changed(DIGITS, optimizer=HEALTHY[name]))) == []


def descend_in_jax(tx, steps):
    """A run on one batch."""
    params, (x, y) = {k: jnp.asarray(v, jnp.float32) for k, v in START.items()}, BATCHES[0]
    tx = gradlab_jax.monitor(tx)
    state, records = tx.init(params), []

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(jax_loss)(params, jnp.asarray(x, jnp.float32), y)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
        records.append(gradlab_jax.read_record(state))
    return records


def descend_in_torch(make, steps, sign=1.0):
    records, net = [], torch_net(torch.float32)
    with gradlab_torch.Monitor(net, make(net.parameters()), on_record=records.append) as monitor:
        for _ in range(steps):
            monitor.optimizer.zero_grad()
            loss = torch_loss(net, *BATCHES[0])
            (sign * loss).backward()
            monitor.observe(loss)
            monitor.optimizer.step()
    return records


ON_ONE_BATCH = {
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.95), lambda: optax.sgd(0.1, momentum=0.95)),
    "an L2 term, long after it has learned": (
        lambda p: torch.optim.SGD(p, lr=0.3, weight_decay=0.01),
        lambda: optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.3)),
    ),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.02), lambda: optax.adam(0.02)),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
        lambda: optax.adamw(0.02, weight_decay=0.1),
    ),
    "the sign of the gradient": (
        lambda p: torch.optim.Rprop(p, lr=1e-3),
        lambda: optax.lion(1e-3),
    ),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ON_ONE_BATCH)
def test_no_wrong_way_on_one_batch_until_long_after_convergence(name, framework):
    for_torch, for_jax = ON_ONE_BATCH[name]
    records = descend_in_torch(for_torch, 400) if framework == "torch" else descend_in_jax(for_jax(), 400)
    for count in (20, 100, 400):
        assert not WRONG_WAY & {found.code for found in diagnose(records[:count])}, count


def test_short_steps_on_one_batch_keep_what_they_promise():
    runs = (
        descend_in_torch(lambda p: torch.optim.SGD(p, lr=0.01), 40),
        descend_in_jax(optax.sgd(0.01), 40),
    )
    for records in runs:
        found = kept(records)
        assert found.averaged == 1
        assert found.ratio == pytest.approx(1.0, abs=0.02)
        assert found.ratio_error < 1e-3


def test_the_raw_gradients_that_a_masked_optimizer_hands_on():
    mask = {path: path.startswith("2.") for path in START}
    found = diagnose(descend_in_jax(optax.masked(optax.sgd(0.01), mask), 60))
    assert (found[0].code, found[0].paths) == ("uphill-step", ("0.weight", "0.bias"))
    assert "optax.masked" in found[0].explanation


def test_a_loss_of_the_other_sign():
    found = diagnose(descend_in_torch(lambda p: torch.optim.SGD(p, lr=3e-3), 60, sign=-1.0))
    assert found[0].code == "uphill-step"
    assert "other sign" in found[0].explanation
    assert np.isclose(found[0].evidence["actual over promised decrease"], -1, atol=0.1)
