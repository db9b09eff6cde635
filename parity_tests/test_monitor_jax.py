"""Monitors in JAX: right in every kind of loop."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import reference
from gradlab_core.definitions.quantities import EXTRAS
from gradlab_core.errors import GradlabError
from gradlab_core.records import GradientState
from gradlab_jax.integrations import nnx as gradlab_nnx
from parity_tests.monitored import BATCHES, START, jax_loss, jax_run, jax_step, torch_net


def test_scan_with_every_and_donation():
    with jax.enable_x64(True):
        plain = jax_run(gradlab_jax.monitor(optax.adam(0.01), extras=EXTRAS))
        tx = gradlab_jax.monitor(optax.adam(0.01), every=7, extras=EXTRAS)
        params = {k: jnp.asarray(v) for k, v in START.items()}
        xs = jnp.stack([x for x, _ in BATCHES]), jnp.stack([y for _, y in BATCHES])

        def body(carry, batch):
            params, state = carry
            loss, grads = jax.value_and_grad(jax_loss)(params, *batch)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), gradlab_jax.device_record(state)

        run = jax.jit(lambda carry, xs: jax.lax.scan(body, carry, xs), donate_argnums=0)
        (_, state), seen = run((params, tx.init(params)), xs)
        last = gradlab_jax.read_record(state)
        assert last.step == 28
        for index in range(30):
            record = gradlab_jax.read_record(jax.tree.map(lambda leaf, index=index: leaf[index], seen))
            assert record.step == index - index % 7
            for figure in ("loss", "grad_norm", "param_norm", "update_norm", "distance"):
                assert getattr(record, figure) == pytest.approx(getattr(plain[record.step], figure), rel=1e-12)
        with pytest.raises(GradlabError, match="holds \\(30,\\) runs or steps"):
            gradlab_jax.read_record(seen)


def test_recording_decided_outside_costs_nothing_inside():
    """With `record=False` the compiled step is the bare one: the same operations, and the state handed through."""
    tx = gradlab_jax.monitor(optax.adam(0.01))
    params = {k: jnp.asarray(v, jnp.float32) for k, v in START.items()}
    x, y = (jnp.asarray(part) for part in BATCHES[0])

    @functools.partial(jax.jit, static_argnames="record")
    def step(params, state, record):
        loss, grads = jax.value_and_grad(jax_loss)(params, x.astype(jnp.float32), y)
        updates, state = tx.update(grads, state, params, value=loss, record=record)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    quiet = step.lower(params, state, False).compile().cost_analysis()["flops"]
    assert quiet < 0.9 * step.lower(params, state, True).compile().cost_analysis()["flops"]
    seen = []
    for index in range(7):
        params, state = step(params, state, index % 3 == 0)
        seen.append(gradlab_jax.read_record(state).step)
    assert seen == [0, 0, 0, 3, 3, 3, 6]
    late = gradlab_jax.monitor(optax.sgd(0.1), extras=EXTRAS)
    state, cosines = late.init(params), []
    for index in range(3):
        _, state = late.update(params, state, params, record=index > 0)
        cosines += [gradlab_jax.read_record(state).grad_cosine] if index else []
    assert cosines == [None, pytest.approx(1.0, rel=1e-6)]  # the first record, though not the first step
    with pytest.raises(GradlabError, match="expected one, static under jit"):
        tx.update(params, state, params, record=jnp.array(True))


def test_multi_steps_inject_hyperparams_and_masked():
    with jax.enable_x64(True):
        rate = optax.inject_hyperparams(lambda learning_rate: gradlab_jax.monitor(optax.sgd(learning_rate)))(0.25)
        assert jax_run(rate, steps=3)[-1].learning_rate == 0.25
        steps = jax_run(optax.MultiSteps(gradlab_jax.monitor(optax.sgd(0.1)), 4), steps=0)
        assert steps == []
        accumulated = optax.MultiSteps(gradlab_jax.monitor(optax.sgd(0.1)), 4)
        params = {k: jnp.asarray(v) for k, v in START.items()}
        state, step = accumulated.init(params), jax_step(accumulated)
        gradients = []
        for x, y in BATCHES[:8]:
            gradients.append(jax.grad(jax_loss)(params, x, y))
            params, state = step(params, state, x, y)
        record = gradlab_jax.read_record(state)
        assert record.step == 1  # of the optimizer, not of the batches
        mean = jax.tree.map(lambda *g: sum(g) / 4, *gradients[4:])
        assert record.grad_norm == pytest.approx(reference.global_norm(mean.values()))
        mask = {k: k.startswith("2") for k in START}
        known = dict.fromkeys(START, GradientState.OK)
        inside = jax_run(optax.masked(gradlab_jax.monitor(optax.sgd(0.1), known=known), mask), steps=1)[0]
        assert list(inside.tensors) == ["2.weight", "2.bias"]
        assert list(inside.states.values()) == [GradientState.UNREGISTERED] * 2 + [GradientState.OK] * 2


def test_vmap_over_seeds():
    """A whole ensemble is monitored at once; one run is read by taking it out."""
    tx = gradlab_jax.monitor(optax.sgd(0.1))
    x, y = (jnp.asarray(part) for part in BATCHES[0])

    def once(scale):
        params = {k: scale * jnp.asarray(v) for k, v in START.items()}
        return tx.update(jax.grad(jax_loss)(params, x, y), tx.init(params), params)[1]

    states = jax.jit(jax.vmap(once))(jnp.array([1.0, 2.0]))
    norms = [gradlab_jax.read_record(jax.tree.map(lambda leaf, i=i: leaf[i], states)).param_norm for i in range(2)]
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-6)


def test_linen_and_nnx_give_the_paths_of_the_model():
    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.LayerNorm()(nn.Dense(5)(x)))

    x, y = jnp.asarray(BATCHES[0][0]), BATCHES[0][1]
    module = Linen()
    params = module.init(jax.random.key(0), x)["params"]
    tx = gradlab_jax.monitor(optax.adam(0.01), known=gradlab_jax.check_gradients(module.bind({"params": params}), x, y))
    state = TrainState.create(apply_fn=module.apply, params=params, tx=tx)
    state = jax.jit(lambda s, g: s.apply_gradients(grads=g))(state, jax.tree.map(jnp.ones_like, params))
    paths = [
        "Dense_0.weight",
        "Dense_0.bias",
        "LayerNorm_0.weight",
        "LayerNorm_0.bias",
        "Dense_1.weight",
        "Dense_1.bias",
    ]
    assert set(gradlab_jax.read_record(state).tensors) == set(paths)

    net = nnx.Sequential(nnx.Linear(4, 5, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(5, 3, rngs=nnx.Rngs(1)))
    optimizer = gradlab_nnx.optimizer(net, optax.sgd(0.1), extras=EXTRAS)

    @nnx.jit
    def step(net, optimizer):
        loss, grads = nnx.value_and_grad(lambda net: optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean())(
            net
        )
        optimizer.update(net, grads, value=loss)
        return loss

    losses = [float(step(net, optimizer)) for _ in range(3)]
    record = gradlab_jax.read_record(optimizer)
    assert list(record.tensors) == ["0.weight", "0.bias", "2.weight", "2.bias"]  # PyTorch's names and order
    assert (record.step, record.loss) == (2, losses[-1])


def test_what_cannot_be_read_says_why():
    params = {k: jnp.asarray(v) for k, v in START.items()}
    with pytest.raises(GradlabError, match="holds 0 monitors"):
        gradlab_jax.read_record(optax.adam(0.1).init(params))
    tx = gradlab_jax.monitor(optax.sgd(0.1))
    with pytest.raises(GradlabError, match="recorded nothing yet"):
        gradlab_jax.read_record(tx.init(params)).step  # noqa: B018 (on an accelerator to look is what waits)
    with pytest.raises(GradlabError, match="expected update\\(grads, state, params\\)"):
        tx.update(params, tx.init(params))
    with pytest.raises(GradlabError, match="2 problems"):
        gradlab_jax.monitor(optax.sgd(0.1), every=0, extras=["cosine"])
    with pytest.raises(GradlabError, match="other is no parameter here"):
        gradlab_jax.monitor(optax.sgd(0.1), known={"other": GradientState.OK}).init(params)
    with pytest.raises(GradlabError, match="2 problems"):
        gradlab_torch.Monitor(torch_net(), None, every=0, extras=["cosine"])
