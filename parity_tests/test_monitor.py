"""Monitors: one run, recorded alike in both twins and as defined."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import reference
from gradlab_core.definitions.anomaly import MovingScore
from gradlab_core.definitions.quantities import EXTRAS
from gradlab_core.records import GradientState
from parity_tests.monitored import BATCHES, START, assert_same, jax_run, torch_loss, torch_net, torch_run

OPTIMIZERS = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), lambda: optax.sgd(0.1)),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), lambda: optax.sgd(0.05, momentum=0.9)),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), lambda: optax.adam(0.01)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_run_gives_the_same_records(name):
    for_torch, for_jax = OPTIMIZERS[name]
    with jax.enable_x64(True):
        tx = gradlab_jax.monitor(optax.inject_hyperparams(lambda learning_rate: for_jax())(0.1), extras=EXTRAS)
        theirs = jax_run(tx)
    mine = torch_run(for_torch, extras=EXTRAS)
    assert len(mine) == len(theirs) == 30
    for a, b in zip(mine, theirs, strict=True):
        assert_same(a, dataclasses.replace(b, learning_rate=a.learning_rate))
    assert mine[0].grad_cosine is None
    assert all(isinstance(getattr(mine[-1], extra), float) for extra in EXTRAS)
    assert mine[-1].anomaly is not None
    # Planted: another rate, another record.
    with jax.enable_x64(True), pytest.raises(AssertionError):
        assert_same(mine[1], jax_run(gradlab_jax.monitor(optax.sgd(0.11)), steps=2)[1])


def test_records_agree_with_the_definition():
    """Every figure of a record, from the tensors themselves in float64 NumPy."""
    net = torch_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    monitor = gradlab_torch.Monitor(net, optimizer, extras=EXTRAS)
    last, score = None, MovingScore()
    for x, y in BATCHES[:25]:
        optimizer.zero_grad()
        torch_loss(net, x, y).backward()
        old = {n: p.detach().numpy().copy() for n, p in net.named_parameters()}
        grads = {n: p.grad.numpy().copy() for n, p in net.named_parameters()}
        optimizer.step()
        moves = {n: p.detach().numpy() - old[n] for n, p in net.named_parameters()}
        r = monitor.last
        assert r.loss is None  # nobody said
        assert r.learning_rate == 0.02
        flat = [list(tree.values()) for tree in (old, grads, moves)]
        near = {"rel": 1e-12}
        assert r.param_norm == pytest.approx(reference.global_norm(flat[0]), **near)
        assert r.grad_norm == pytest.approx(reference.global_norm(flat[1]), **near)
        assert r.update_norm == pytest.approx(reference.global_norm(flat[2]), **near)
        assert r.update_ratio == pytest.approx(reference.update_ratio(flat[0], flat[2]), **near)
        assert r.distance == pytest.approx(reference.distance(flat[0], list(START.values())), rel=1e-9)
        assert r.anomaly == pytest.approx(score(r.grad_norm))
        for name, tensor in r.tensors.items():
            assert tensor.param == pytest.approx(reference.norm(old[name]), **near)
            assert tensor.grad == pytest.approx(reference.norm(grads[name]), **near)
            assert tensor.update == pytest.approx(reference.norm(moves[name]), **near)
        if last is not None:
            for quantity, now, then in (("grad_cosine", grads, last[0]), ("update_cosine", moves, last[1])):
                whole = reference.cosine_similarity(list(now.values()), list(then.values()))
                assert getattr(r, quantity) == pytest.approx(whole, rel=1e-9)
                for name in now:
                    one = reference.cosine_similarity([now[name]], [then[name]])
                    assert getattr(r.tensors[name], quantity) == pytest.approx(one, rel=1e-9)
        last = grads, moves


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("every", [1, 10])
def test_no_second_copy_of_the_parameters(rule, every):
    """What XLA's own analysis of the compiled step says, for a net whose weights are large arrays."""
    shapes = [(512, 300), (512, 512), (512, 512), (10, 512)]
    params = {str(i): jnp.zeros(shape) for i, shape in enumerate(shapes)}
    size = sum(p.nbytes for p in params.values())
    inner = {"sgd": optax.sgd(0.1), "adam": optax.adam(0.1)}[rule]
    x = jnp.ones((8, 300))

    def loss(params):
        h = x
        for weight in params.values():
            h = jnp.tanh(h @ weight.T)
        return h.mean()

    def memory(tx):
        def step(params, state):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        return jax.jit(step, donate_argnums=(0, 1)).lower(params, tx.init(params)).compile().memory_analysis()

    bare, watched = memory(inner), memory(gradlab_jax.monitor(inner, every=every))
    assert watched.argument_size_in_bytes - bare.argument_size_in_bytes < 1000  # the state: a few numbers a tensor
    assert watched.alias_size_in_bytes > 0.99 * watched.argument_size_in_bytes  # all written in place
    extra = watched.temp_size_in_bytes - bare.temp_size_in_bytes
    assert extra < (size if every == 1 else 2 * size)


def test_an_optimizer_that_stands_still_lost_nothing():
    class Skipping(torch.optim.SGD):
        def step(self, closure=None):
            return None

    records = torch_run(lambda p: Skipping(p, lr=0.1), steps=1)
    with jax.enable_x64(True):
        records += jax_run(gradlab_jax.monitor(optax.set_to_zero()), steps=1)
    for record in records:
        assert record.skipped
        assert record.update_norm == 0.0
        assert set(record.states.values()) == {GradientState.OK}


def test_clipping_is_seen_from_both_sides():
    mine = torch_run(lambda p: torch.optim.SGD(p, lr=0.1), steps=8, clip=0.8)
    with jax.enable_x64(True):
        chain = optax.chain(
            gradlab_jax.before_clipping(), optax.clip_by_global_norm(0.8), gradlab_jax.monitor(optax.sgd(0.1))
        )
        theirs = jax_run(chain, steps=8)
    for a, b in zip(mine, theirs, strict=True):
        assert_same(a, dataclasses.replace(b, learning_rate=0.1), limit=1e-5)  # PyTorch adds 1e-6 to the norm
        assert a.clipped == (a.raw_grad_norm > 0.8)
    assert {r.clipped for r in mine} == {True, False}
