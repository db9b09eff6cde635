"""What a step promised, in both twins: one run as another, and as it is defined."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions.promise import dot
from gradlab_core.records import GradientState
from parity_tests.monitored import BATCHES, START, jax_loss, jax_run, jax_step, torch_loss, torch_net, torch_run
from parity_tests.test_applied_updates import as_here, as_on_a_gpu

OPTIMIZERS = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1), lambda: optax.sgd(0.1)),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), lambda: optax.sgd(0.05, momentum=0.9)),
    "adam": (lambda p: torch.optim.Adam(p, lr=0.01), lambda: optax.adam(0.01)),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        lambda: optax.adamw(0.01, weight_decay=0.1),
    ),
    "nesterov, which writes into gradients": (
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, foreach=True),
        lambda: optax.sgd(0.05, momentum=0.9, nesterov=True),
    ),
    "adam, fused": (lambda p: torch.optim.Adam(p, lr=0.01, fused=True), lambda: optax.adam(0.01)),
    "adafactor": (lambda p: torch.optim.Adafactor(p, lr=0.01), lambda: optax.adafactor(0.01)),
}
SAME = [name for name in OPTIMIZERS if name != "adafactor"]  # which is another one in either framework


@pytest.mark.parametrize("name", SAME)
def test_one_run_promises_the_same(name):
    for_torch, for_jax = OPTIMIZERS[name]
    mine = torch_run(for_torch, steps=12)
    with jax.enable_x64(True):
        theirs = jax_run(gradlab_jax.monitor(for_jax()), steps=12)
    for a, b in zip(mine[1:], theirs[1:], strict=True):
        assert a.promised == pytest.approx(b.promised, rel=1e-9)
        assert a.param_update == pytest.approx(b.param_update, rel=1e-9)
        for path in a.tensors:
            one, other = a.tensors[path], b.tensors[path]
            near = {"rel": 1e-9, "abs": 1e-12 * one.grad * one.update}
            assert one.grad_update == pytest.approx(other.grad_update, **near)
            assert one.param_update == pytest.approx(other.param_update, rel=1e-9, abs=1e-12 * one.param * one.update)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("every", [1, 3])
def test_jax_agrees_with_the_definition(name, every):
    with jax.enable_x64(True):
        tx = gradlab_jax.monitor(OPTIMIZERS[name][1](), every=every)
        params = {k: jnp.asarray(v) for k, v in START.items()}
        state, step = tx.init(params), jax_step(tx)
        for number, (x, y) in enumerate(BATCHES[:7]):
            grads = jax.grad(jax_loss)(params, jnp.asarray(x), y)
            old = params
            params, state = step(params, state, jnp.asarray(x), y)
            if number % every:
                continue
            record = gradlab_jax.read_record(state)
            trees = [
                [np.asarray(tree[k]) for k in START] for tree in (grads, old, jax.tree.map(jnp.subtract, params, old))
            ]
            near = {"rel": 1e-9, "abs": 1e-12 * record.grad_norm * record.update_norm}
            assert record.grad_update == pytest.approx(dot(trees[0], trees[2]), **near)
            assert record.param_update == pytest.approx(dot(trees[1], trees[2]), rel=1e-9)
            for tensor, g, p, u in zip(record.tensors.values(), *trees, strict=True):
                assert tensor.grad_update == pytest.approx(dot([g], [u]), **near)
                assert tensor.param_update == pytest.approx(dot([p], [u]), rel=1e-9, abs=1e-12 * tensor.param)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_torch_agrees_with_the_definition(name):
    net = torch_net()
    optimizer = OPTIMIZERS[name][0](net.parameters())
    monitor = gradlab_torch.Monitor(net, optimizer)
    for number, (x, y) in enumerate(BATCHES[:10]):
        optimizer.zero_grad()
        torch_loss(net, x, y).backward()
        old = {n: p.detach().numpy().copy() for n, p in net.named_parameters()}
        grads = {n: p.grad.numpy().copy() for n, p in net.named_parameters()}
        optimizer.step()
        moves = {n: p.detach().numpy() - old[n] for n, p in net.named_parameters()}
        record, trees = monitor.last, [list(tree.values()) for tree in (grads, old, moves)]
        near = {"rel": 1e-12, "abs": 1e-12 * record.grad_norm * record.update_norm}
        assert record.param_update == pytest.approx(dot(trees[1], trees[2]), rel=1e-9)
        if "writes" in name and number == 0:
            assert record.grad_update is None  # it is found out by then, and no number is better than a wrong one
            continue
        assert record.grad_update == pytest.approx(dot(trees[0], trees[2]), **near)
        for path, tensor in record.tensors.items():
            assert tensor.grad_update == pytest.approx(dot([grads[path]], [moves[path]]), **near)
            assert tensor.param_update == pytest.approx(dot([old[path]], [moves[path]]), rel=1e-9)


def promise_of(optimizer, param, grad):
    param.grad = grad
    with gradlab_torch.Monitor(torch.nn.ParameterList([param]), optimizer) as monitor:
        optimizer.step()
    return monitor.last.tensors["0"]


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("count", [5, 70_000])
@pytest.mark.parametrize("way", [as_here, as_on_a_gpu])
def test_jax_in_float32_over_its_range(way, count, size):
    draw = np.random.default_rng(0)
    param, grad = (jnp.asarray(draw.standard_normal(count) * size, jnp.float32) for _ in range(2))
    tx = gradlab_jax.monitor(optax.sgd(0.5))
    with way():
        state = tx.init({"p": param})
        for _ in range(2):  # a large array finds its scale at the first record
            updates, state = tx.update({"p": grad}, state, {"p": param})
    found = gradlab_jax.read_record(state).tensors["p"]
    moves = np.float64(optax.apply_updates(param, updates["p"])) - np.float64(param)
    assert found.grad_update == pytest.approx(dot([grad], [moves]), rel=1e-5)
    assert found.param_update == pytest.approx(dot([param], [moves]), rel=1e-5, abs=1e-6 * found.param * found.update)


def test_jax_of_other_types_and_under_vmap_and_scan():
    tx = gradlab_jax.monitor(optax.sgd(0.5))
    kinds = {"bfloat16": jnp.bfloat16, "float16": jnp.float16, "complex64": jnp.complex64}
    draw = np.random.default_rng(0)
    numbers = [draw.standard_normal((2, 3, 50)) for _ in kinds]
    params = {name: jnp.asarray(x[0], kind) for (name, kind), x in zip(kinds.items(), numbers, strict=True)}
    grads = {name: jnp.asarray(x[1], kind) for (name, kind), x in zip(kinds.items(), numbers, strict=True)}
    params["complex64"] += 1j
    grads["complex64"] -= 2j
    updates, state = tx.update(grads, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    for name, found in gradlab_jax.read_record(state).tensors.items():
        wide = np.complex128 if "complex" in name else np.float64
        p, g, n = (np.asarray(tree[name]).astype(wide) for tree in (params, grads, new))
        assert found.grad_update == pytest.approx(dot([g], [n - p]), rel=1e-5)
        assert found.param_update == pytest.approx(dot([p], [n - p]), rel=1e-4)

    def run(start):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update({"p": 2 * params["p"]}, state, params)
            return (optax.apply_updates(params, updates), state), gradlab_jax.device_record(state)

        return jax.lax.scan(step, ({"p": start}, tx.init({"p": start})), None, length=2)[1]

    records = jax.vmap(run)(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    found = gradlab_jax.read_record(jax.tree.map(lambda x: x[1, 0], records))
    assert (found.promised, found.param_update, found.param_update_cosine) == (50.0, -25.0, pytest.approx(-1.0))


def test_in_jax_what_is_not_finite_is_told_and_no_path_is_none():
    params, known = {"a": jnp.ones(2), "b": jnp.ones(2)}, {"b": GradientState.DISCONNECTED}
    tx = gradlab_jax.monitor(optax.sgd(0.1), known=known)
    _, state = tx.update({"a": jnp.array([1.0, jnp.nan]), "b": jnp.zeros(2)}, tx.init(params), params)
    record = gradlab_jax.read_record(state)
    assert np.isnan(record.promised)
    assert np.isnan(record.tensors["a"].grad_update)
    assert record.tensors["b"].grad_update is None


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("count", [5, 300_000])
def test_float32_over_its_range(size, count):
    """Products of 1e-60 and of 1e60 fit no float32, and the record all the same."""
    draw = torch.Generator().manual_seed(0)
    param, grad = (torch.randn(count, generator=draw) * size for _ in range(2))
    old = param.clone()
    found = promise_of(torch.optim.SGD([param := torch.nn.Parameter(param)], lr=0.5), param, grad)
    moves = param.detach().double() - old.double()
    assert found.grad_update == pytest.approx(dot([grad], [moves]), rel=1e-5)
    assert found.param_update == pytest.approx(dot([old], [moves]), rel=1e-5, abs=1e-6 * found.param * found.update)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 1e-5), (torch.float16, 1e-5), (torch.complex64, 1e-5)])
def test_other_types(dtype, limit):
    draw = torch.Generator().manual_seed(0)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    param, grad = (torch.randn(2000, generator=draw, dtype=dtype) for _ in range(2))
    old = param.clone()
    found = promise_of(torch.optim.SGD([param := torch.nn.Parameter(param)], lr=0.5), param, grad)
    moves = param.detach().to(wide) - old.to(wide)
    assert found.grad_update == pytest.approx(dot([grad.to(wide)], [moves]), rel=limit)
    assert found.param_update == pytest.approx(dot([old.to(wide)], [moves]), rel=limit)


def test_a_sparse_gradient_counts_each_row_as_often_as_it_comes():
    torch.manual_seed(0)
    table = torch.nn.Embedding(50, 4, sparse=True)
    table(torch.tensor([3, 3, 7])).square().sum().backward()
    old, grad = table.weight.detach().clone(), table.weight.grad.to_dense()
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    with gradlab_torch.Monitor(table, optimizer) as monitor:
        optimizer.step()
    found = monitor.last.tensors["weight"]
    moves = table.weight.detach() - old
    assert found.grad_update == pytest.approx(dot([grad], [moves]), rel=1e-6)
    assert found.grad_update_cosine == pytest.approx(-1.0)


def test_a_missing_gradient_among_others_of_its_shape():
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(3)) for _ in range(3)]
    for p in params[1:]:
        p.grad = torch.ones(3)
    optimizer = torch.optim.SGD(params, lr=0.1)
    with gradlab_torch.Monitor(torch.nn.ParameterList(params), optimizer) as monitor:
        optimizer.step()
    found = [norms.grad_update for norms in monitor.last.tensors.values()]
    assert found == [None, pytest.approx(-0.3), pytest.approx(-0.3)]
    assert monitor.last.promised == pytest.approx(0.6)


def test_a_gradient_that_comes_in_scaled():
    """A fused optimizer unscales gradients in its step, as a scaler tells it to."""
    param = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.Adam([param], lr=0.1, fused=True)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)
    found = promise_of(optimizer, param, torch.full((4,), 16.0))
    assert (found.grad, found.grad_update) == (4.0, pytest.approx(-0.1 * 2 * 4))


class Writing(torch.optim.SGD):
    """Turns the sign of gradients in place, as some optimizers do that maximise."""

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.neg_()
        super().step(closure)


def test_an_optimizer_that_writes_into_gradients_is_found_out():
    param = torch.nn.Parameter(torch.ones(4))
    optimizer, found = Writing([param], lr=0.1), []
    with gradlab_torch.Monitor(torch.nn.ParameterList([param]), optimizer, on_record=found.append):
        for _ in range(2):
            param.grad = torch.ones(4)
            optimizer.step()
    assert (found[0].grad_update, found[0].tensors["0"].grad_update) == (None, None)
    assert found[0].param_update == pytest.approx(0.4)
    assert found[1].grad_update == pytest.approx(0.4)  # uphill, as it is


def test_a_closure_that_is_called_again_leaves_the_promise_open():
    net = torch_net()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=4)
    with gradlab_torch.Monitor(net, optimizer) as monitor:

        def closure():
            optimizer.zero_grad()
            loss = torch_loss(net, *BATCHES[0])
            loss.backward()
            return loss

        optimizer.step(closure)
    assert (monitor.last.grad_update, monitor.last.param_update is None) == (None, False)


def test_what_is_not_finite_is_told():
    param = torch.nn.Parameter(torch.ones(4))
    found = promise_of(torch.optim.SGD([param], lr=0.1), param, torch.tensor([1.0, float("inf"), 0.0, 0.0]))
    assert found.grad_update == -np.inf
    assert np.isnan(found.grad_update_cosine)


def test_no_gradient_is_held_after_the_step():
    import gc
    import weakref

    net = torch_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with gradlab_torch.Monitor(net, optimizer):
        torch_loss(net, *BATCHES[0]).backward()
        held = weakref.ref(net[0].weight.grad)
        optimizer.step()
        optimizer.zero_grad()
        gc.collect()
        assert held() is None
