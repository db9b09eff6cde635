"""One run of one small net, monitored in both twins."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import gradlab_jax
import gradlab_torch

rng = np.random.default_rng(0)
START = {
    "0.weight": rng.standard_normal((5, 4)),
    "0.bias": rng.standard_normal(5),
    "2.weight": rng.standard_normal((3, 5)),
    "2.bias": rng.standard_normal(3),
}
BATCHES = [(rng.standard_normal((6, 4)), rng.integers(0, 3, 6)) for _ in range(30)]


def torch_net(dtype=torch.float64):
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).to(dtype)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in START.items()})
    return net


def torch_loss(net, x, y):
    return torch.nn.functional.cross_entropy(
        net(torch.from_numpy(x).to(next(net.parameters()).dtype)), torch.from_numpy(y)
    )


def jax_loss(params, x, y):
    hidden = jnp.tanh(x @ params["0.weight"].T + params["0.bias"])
    logits = hidden @ params["2.weight"].T + params["2.bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def jax_step(tx):
    @jax.jit
    def step(params, state, x, y):
        loss, grads = jax.value_and_grad(jax_loss)(params, x, y)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    return step


def jax_run(tx, steps=30, dtype=np.float64):
    """The records of a run in float64."""
    params = {k: jnp.asarray(v, dtype) for k, v in START.items()}
    state, step, records = tx.init(params), jax_step(tx), []
    for x, y in BATCHES[:steps]:
        before = jax.tree.structure(state), [leaf.dtype for leaf in jax.tree.leaves(state)]
        params, state = step(params, state, jnp.asarray(x, dtype), y)
        assert before == (jax.tree.structure(state), [leaf.dtype for leaf in jax.tree.leaves(state)])
        records.append(gradlab_jax.read_record(state))
    return records


def torch_run(optimizer, steps=30, clip=None, **options):
    records, net = [], torch_net()
    options = {"look_every": None, **options}  # a tree of parameters in JAX has no forward pass to look into
    with gradlab_torch.Monitor(net, optimizer(net.parameters()), on_record=records.append, **options) as monitor:
        for x, y in BATCHES[:steps]:
            monitor.optimizer.zero_grad()
            loss = torch_loss(net, x, y)
            loss.backward()
            if clip is not None:
                monitor.before_clipping()
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            monitor.observe(loss)
            monitor.optimizer.step()
    return records


def assert_same(a, b, limit=1e-9, where="record"):
    """Equal to `limit` in every number, and equal in everything else."""
    if dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), limit, f"{where}.{field.name}")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], limit, f"{where}[{key}]")
    elif isinstance(a, float) and isinstance(b, float):
        assert a == pytest.approx(b, rel=limit, abs=limit * 1e-3, nan_ok=True), where
    else:
        assert a == b, where
