"""Monitors in PyTorch: right in every kind of loop."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import reference
from gradlab_core.definitions.quantities import EXTRAS
from gradlab_core.records import GradientState
from parity_tests.monitored import BATCHES, START, assert_same, torch_loss, torch_net, torch_run


def test_every_records_only_those_steps():
    all_steps = torch_run(lambda p: torch.optim.SGD(p, lr=0.1))
    some = torch_run(lambda p: torch.optim.SGD(p, lr=0.1), every=7)
    assert [r.step for r in some] == [0, 7, 14, 21, 28]
    for record in some:
        same = dataclasses.replace(all_steps[record.step], anomaly=None)
        assert_same(record, same)


def test_accumulation_groups_compile_and_missing_gradients():
    net = torch_net()
    groups = [{"params": net[0].parameters(), "lr": 0.1}, {"params": net[2].parameters(), "lr": 0.2}]
    optimizer = torch.optim.SGD(groups)
    compiled = torch.compile(net, backend="eager")
    with gradlab_torch.Monitor(compiled, optimizer) as monitor:
        parts = []
        for x, y in BATCHES[:4]:
            (torch_loss(compiled, x, y) / 4).backward()
            parts.append([p.grad.clone() for p in net.parameters()])
        optimizer.step()
        assert list(monitor.last.tensors) == list(START)
        assert monitor.last.grad_norm == pytest.approx(reference.global_norm([g.numpy() for g in parts[-1]]))
        assert monitor.last.learning_rate is None  # there are two
        optimizer.zero_grad(set_to_none=True)
        optimizer.step()
        assert set(monitor.last.states.values()) == {GradientState.DISCONNECTED}
        assert monitor.last.grad_norm == 0.0
        assert not monitor.last.skipped


def test_a_closure_is_measured_when_it_has_run():
    net = torch_net()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=4)
    x, y = BATCHES[0]

    def closure():
        optimizer.zero_grad()
        loss = torch_loss(net, x, y)
        loss.backward()
        return loss

    with gradlab_torch.Monitor(net, optimizer) as monitor:
        old = [p.detach().clone() for p in net.parameters()]
        optimizer.step(closure)
        moved = [p.detach() - o for p, o in zip(net.parameters(), old, strict=True)]
        assert monitor.last.update_norm == pytest.approx(reference.global_norm([m.numpy() for m in moved]))
        assert monitor.last.grad_norm == pytest.approx(
            reference.global_norm([p.grad.numpy() for p in net.parameters()])
        )


@pytest.mark.parametrize("with_closure", [False, True])
def test_gradients_are_those_before_the_optimizer_changes_them(with_closure):
    """Nesterov's foreach form writes into the gradients themselves."""
    net = torch_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, foreach=True)
    with gradlab_torch.Monitor(net, optimizer) as monitor:
        for x, y in BATCHES[:3]:

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = torch_loss(net, x, y)
                loss.backward()
                return loss

            closure()
            truth = reference.global_norm([p.grad.numpy().copy() for p in net.parameters()])
            optimizer.step(*[closure] * with_closure)
            assert monitor.last.grad_norm == pytest.approx(truth, rel=1e-12)


def test_a_gradient_scaler_is_seen_through():
    net = torch_net(torch.float32)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10**6)
    bare = torch_net(torch.float32)
    with gradlab_torch.Monitor(net, optimizer, scaler=scaler) as monitor:
        for index, (x, y) in enumerate(BATCHES[:3]):
            optimizer.zero_grad()
            loss = torch_loss(net, x, y)
            scaler.scale(loss * (math.inf if index == 1 else 1.0)).backward()
            if index == 0:
                torch_loss(bare, x, y).backward()
            scaler.step(optimizer)
            scaler.update()
            if index == 0:
                unscaled = reference.global_norm([p.grad.numpy() for p in bare.parameters()])
                assert monitor.last.grad_norm == pytest.approx(unscaled, rel=1e-5)
        assert (monitor.steps, monitor.skipped_steps) == (2, 1)
        assert monitor.last.step == 1
    assert "update" not in vars(scaler)
    assert scaler.get_scale() == 512.0


def test_steps_within_steps_and_steps_that_fail():
    class Doubled(torch.optim.SGD):
        def step(self, closure=None):
            super().step()
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p -= 0.5
            if self.fails:
                raise ArithmeticError

    net = torch_net()
    optimizer = Doubled(net.parameters(), lr=0.0)
    records = []
    with gradlab_torch.Monitor(net, optimizer, on_record=records.append):
        torch_loss(net, *BATCHES[0]).backward()
        for fails in (False, True, False):
            optimizer.fails = fails
            if fails:
                with pytest.raises(ArithmeticError):
                    optimizer.step()
            else:
                optimizer.step()
    assert [r.step for r in records] == [0, 1]
    moved = 0.5 * math.sqrt(sum(p.numel() for p in net.parameters()))
    assert [r.update_norm for r in records] == pytest.approx([moved, moved])


def test_a_frozen_parameter_that_moves_is_measured():
    net = torch_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    with gradlab_torch.Monitor(net, optimizer) as monitor:
        torch_loss(net, *BATCHES[0]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        net[0].weight.requires_grad_(False)
        optimizer.step()
        assert monitor.last.tensors["0.weight"].update > 0.0
        assert monitor.last.states["0.weight"] == GradientState.ZERO


def test_a_change_of_memory_format_is_no_movement():
    net = torch.nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32))
    with gradlab_torch.Monitor(net, optimizer, extras=EXTRAS) as monitor:
        for format in (torch.contiguous_format, torch.channels_last):
            net.to(memory_format=format)
            optimizer.zero_grad()
            net(x.to(memory_format=format)).square().mean().backward()
            optimizer.step()
    assert monitor.last.distance == 0.0
    assert monitor.last.tensors["weight"].grad_cosine == pytest.approx(1.0)


def test_complex_parameters():
    value = np.array([3 + 4j, 1 - 2j])
    p = torch.nn.Parameter(torch.tensor(value))
    net = torch.nn.Module()
    net.p = p
    tx = gradlab_jax.monitor(optax.sgd(0.1), extras=EXTRAS)
    with jax.enable_x64(True):
        params = {"p": jnp.asarray(value)}
        state = tx.init(params)
        optimizer = torch.optim.SGD([p], lr=0.1)
        with gradlab_torch.Monitor(net, optimizer, extras=EXTRAS) as monitor:
            for turn in (1.0, 1j):
                p.grad = torch.from_numpy(value * turn)
                optimizer.step()
                updates, state = jax.jit(tx.update)({"p": jnp.asarray(value * turn)}, state, params)
                params = optax.apply_updates(params, updates)
        record = dataclasses.replace(gradlab_jax.read_record(state), learning_rate=0.1)
    assert_same(monitor.last, record)
    assert record.grad_cosine == pytest.approx(0.0, abs=1e-12)


def test_a_rate_is_that_of_the_step():
    tx = optax.inject_hyperparams(lambda learning_rate: gradlab_jax.monitor(optax.sgd(learning_rate), every=5))
    tx = tx(lambda count: 1.0 + count)
    params = {"w": jnp.ones(2)}
    state = tx.init(params)
    rates = []
    for _ in range(3):
        _, state = tx.update(params, state, params)
        rates.append(gradlab_jax.read_record(state).learning_rate)
    assert rates == [1.0, None, None]  # the record is of step 0


def test_a_monitored_train_state_can_be_a_checkpoint():
    import flax.serialization

    tx = gradlab_jax.monitor(optax.adam(0.1), extras=EXTRAS)
    params = {"w": jnp.arange(3.0)}
    _, state = tx.update(params, tx.init(params), params, value=jnp.float32(0.5))
    stored = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(tx.init(params), stored)
    assert gradlab_jax.read_record(restored) == gradlab_jax.read_record(state)


def test_two_monitors_hear_one_scaler():
    net = torch_net(torch.float32)
    parts = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (net[0], net[2])]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    monitors = [gradlab_torch.Monitor(m, o, scaler=scaler) for m, o in zip((net[0], net[2]), parts, strict=True)]
    scaler.scale(torch_loss(net, *BATCHES[0]) * math.inf).backward()
    for optimizer in parts:
        scaler.step(optimizer)
    scaler.update()
    assert [m.skipped_steps for m in monitors] == [1, 1]
    for monitor in monitors:
        monitor.close()
    assert "update" not in vars(scaler)


def test_no_hook_stays_behind():
    net = torch_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def hooks():
        return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)

    def fails():
        with gradlab_torch.Monitor(net, optimizer):
            assert hooks() == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert hooks() == 0


def test_one_transfer_a_record(monkeypatch):
    """Reading a tensor on the host is what waits for an accelerator; a healthy step does it once."""
    net = torch_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    torch_loss(net, *BATCHES[0]).backward()
    reads = []
    for name in ("item", "tolist", "__float__", "__bool__", "numpy"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor,
            name,
            lambda self, *a, real=real, name=name: (reads.append((name, self.dtype)), real(self, *a))[1],
        )
    with gradlab_torch.Monitor(net, optimizer, extras=EXTRAS):
        optimizer.step()
    of_ours = [r for r in reads if r[0] == "tolist" and r[1] == torch.float64]
    assert len(of_ours) == 1, reads


def test_training_with_a_disconnected_parameter_scores_its_steps():
    """Zeros that the compiler knows of must not spoil the norm over all tensors, nor the anomaly score."""
    tx = gradlab_jax.monitor(optax.sgd(0.01), known={"cut": GradientState.DISCONNECTED})
    params = {"cut": jnp.ones((4, 2)), "w": jnp.ones((3, 3))}

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda p: (p["w"] ** 2).sum() + 0 * jax.lax.stop_gradient(p["cut"]).sum())(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(22):
        params, state = step(params, state)
    assert not jnp.isnan(gradlab_jax.device_record(state).norms["grad"]).any()
    assert math.isfinite(gradlab_jax.read_record(state).anomaly)
