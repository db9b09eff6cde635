"""Every gradient state told apart from every other, in both twins."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.records import GradientState
from gradlab_jax.integrations import nnx as gradlab_nnx

# One parameter per state, all in one net: y = Σ aᵢ·wᵢ, with wᵢ cut, scaled or placed so that it has the state wanted.
WANTED = {
    "ok": GradientState.OK,
    "cut": GradientState.DISCONNECTED,
    "flat": GradientState.ZERO,
    "small": GradientState.TINY,
    "broken": GradientState.NONFINITE,
    "kept": GradientState.FROZEN,
    "forgotten": GradientState.UNREGISTERED,
    "swallowed": GradientState.LOST,
}


def start(path):
    # A parameter of 0 is moved by the smallest update, one of 256 in bfloat16 by none below 1.
    return np.full(3, {"swallowed": 256.0, "small": 0.0}.get(path, 0.5))


def torch_states(optimizer, dtype=torch.bfloat16):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for path in WANTED:
                setattr(self, path, torch.nn.Parameter(torch.from_numpy(start(path)).to(dtype)))
            self.kept.requires_grad_(False)

        def forward(self):
            total = (self.ok + self.swallowed * 1e-3 + self.kept + self.forgotten).sum() + self.cut.detach().sum()
            return total + (self.flat * 0.0).sum() + (self.small * 1e-12).sum() + (self.broken / 0.0).sum()

    net = Net()
    moved = [p for n, p in net.named_parameters() if n not in ("kept", "forgotten")]
    with gradlab_torch.Monitor(net, optimizer(moved)) as monitor:
        net().backward()
        monitor.optimizer.step()
        return monitor.last.states


def jax_states(tx, dtype="bfloat16"):
    class Net(nnx.Module):
        def __init__(self):
            for path in WANTED:
                setattr(self, path, nnx.Param(jnp.asarray(start(path), dtype)))

        def __call__(self, x):
            cut = jax.lax.stop_gradient(self.cut[...]).sum()
            total = (self.ok[...] + self.swallowed[...] * 1e-3 + self.kept[...] + self.forgotten[...]).sum() + cut
            total += (self.flat[...] * 0.0).sum() + (self.small[...] * 1e-12).sum() + (self.broken[...] / 0.0).sum()
            return jnp.stack([total, total])[None] + 0 * x

    def named(*paths):
        return lambda key, value: isinstance(value, nnx.Param) and key[-1] in paths

    net = Net()
    x, y = jnp.zeros((1, 2), dtype), jnp.zeros(1, int)
    known = gradlab_jax.check_gradients(net, x, y, loss=lambda out, y: out[0, 0])
    moved = named(*(p for p in WANTED if p not in ("kept", "forgotten")))
    optimizer = gradlab_nnx.optimizer(net, tx, wrt=moved, frozen=named("kept"), known=known)
    grads = nnx.grad(lambda net: net(x)[0, 0], argnums=nnx.DiffState(0, moved))(net)
    optimizer.update(net, grads)
    return gradlab_jax.read_record(optimizer).states


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_each_state_is_told_from_every_other(rule):
    for_torch, for_jax = {
        "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), optax.sgd(0.1)),
        "adam": (lambda p: torch.optim.Adam(p, lr=0.1), optax.adam(0.1)),
    }[rule]
    found = torch_states(for_torch), jax_states(for_jax)
    assert set(WANTED.values()) == set(GradientState)  # the matrix has a row for every state
    for states in found:
        assert dict(states) == WANTED
        assert list(states) == list(WANTED)


def test_lost_under_jit_too():
    """XLA may carry more digits through a fused program than bfloat16 has; what is stored has not got them."""
    tx = gradlab_jax.monitor(optax.sgd(1.0))
    params = {"small": jnp.ones(10, jnp.bfloat16), "large": jnp.ones((300, 300), jnp.bfloat16)}

    @jax.jit
    def step(params, state):
        grads = jax.tree.map(lambda p: jnp.full_like(p, 1e-4, jnp.float32), params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    after, state = step(params, tx.init(params))
    assert all(bool((after[k] == params[k]).all()) for k in params)
    assert set(gradlab_jax.read_record(state).states.values()) == {GradientState.LOST}


def test_adam_loses_what_its_momentum_leaves():
    """Gradients of alternating sign: the step that Adam proposes is far below η, and rounding swallows it."""
    p = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    net = torch.nn.Module()
    net.p = p
    tx = gradlab_jax.monitor(optax.adam(0.01))
    params = {"p": jnp.ones(4, jnp.bfloat16)}
    state, found = tx.init(params), []
    optimizer = torch.optim.Adam([p], lr=0.01)
    with gradlab_torch.Monitor(net, optimizer) as monitor:
        for sign in (1.0, -1.0, 1.0, -1.0):
            p.grad = torch.full((4,), sign, dtype=torch.bfloat16)
            optimizer.step()
            updates, state = tx.update({"p": jnp.full(4, sign, jnp.bfloat16)}, state, params)
            params = optax.apply_updates(params, updates)
            found.append((monitor.last.states["p"], gradlab_jax.read_record(state).states["p"]))
            assert not monitor.last.skipped
    assert all(a == b for a, b in found)
    assert {a for a, _ in found} == {GradientState.OK, GradientState.LOST}


def test_a_float32_net_loses_nothing():
    """The same net in float32: the update that bfloat16 swallowed arrives."""
    assert torch_states(lambda p: torch.optim.SGD(p, lr=0.1), torch.float32)["swallowed"] == GradientState.OK
    assert jax_states(optax.sgd(0.1), "float32")["swallowed"] == GradientState.OK
