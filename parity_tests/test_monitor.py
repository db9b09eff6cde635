"""Monitors: one run, recorded alike in both twins; every gradient state told apart; right in every kind of loop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from flax.training.train_state import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import reference
from gradlab_core.definitions.anomaly import MovingScore
from gradlab_core.definitions.quantities import EXTRAS
from gradlab_core.errors import GradlabError
from gradlab_core.records import GradientState
from gradlab_jax.integrations import nnx as gradlab_nnx

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


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(
    shapes=st.lists(st.sampled_from([(), (3,), (2, 3), (300, 300), (0,)]), min_size=1, max_size=5),
    size=st.sampled_from([1e-30, 1e-12, 1.0, 1e12, 1e25]),
    kind=st.sampled_from(["float32", "bfloat16", "float16"]),
    seed=st.integers(0, 9),
)
@pytest.mark.parametrize("way", ["as_here", "as_on_a_gpu"])
def test_applied_updates_over_the_range_of_the_types(way, shapes, size, kind, seed):
    """θ_new − θ as the type rounds it, measured by both twins, against float64."""
    size = size if kind != "float16" else min(max(size, 1e-4), 1e2)
    draw = np.random.default_rng(seed)
    params = [torch.from_numpy(np.asarray(draw.standard_normal(s) * size)).to(getattr(torch, kind)) for s in shapes]
    steps = [
        torch.from_numpy(np.asarray(draw.standard_normal(s) * size * 1e-2)).to(p.dtype)
        for s, p in zip(shapes, params, strict=True)
    ]
    new = [p + s for p, s in zip(params, steps, strict=True)]
    truth = [reference.norm(n.double() - p.double()) for n, p in zip(new, params, strict=True)]
    from gradlab_jax.monitoring.applied import step_norms
    from gradlab_torch.monitoring.applied import Applied

    copies = [p.clone() for p in params]
    watch = Applied(copies)
    norms = watch.before().tolist()
    for p, s in zip(copies, steps, strict=True):
        p += s
    assert norms == pytest.approx([reference.norm(p.double()) for p in params], rel=1e-6)
    assert watch.after().tolist() == pytest.approx(truth, rel=1e-6)
    native = [[jnp.asarray(t.float().numpy()).astype(kind) for t in tree] for tree in (params, steps)]
    # The scale of a large array is that of the record before: here, of one like it.
    before = {"param": jnp.array(norms, jnp.float32) * 1e-3, "update": jnp.array(truth, jnp.float32) * 1e3}
    with {"as_here": as_here, "as_on_a_gpu": as_on_a_gpu}[way]():
        found = step_norms(native[0], native[1], native[1], {**before, "grad": before["update"]})
    assert found["param"].tolist() == pytest.approx(norms, rel=1e-6)
    assert found["grad"].tolist() == pytest.approx([reference.norm(s.double()) for s in steps], rel=1e-6)
    assert found["update"].tolist() == pytest.approx(truth, rel=1e-6)
    assert (found["proposed"] > 0).tolist() == [bool((s != 0).any()) for s in steps]


def test_the_scale_of_a_large_array_finds_itself():
    """Updates of 1e-30 and of 1e25 in a large array: out of range at the first record at worst, right at the next."""
    from gradlab_jax.monitoring.applied import step_norms

    for way in (as_here, as_on_a_gpu):
        for size in (1e-30, 1.0, 1e25):
            step, param = jnp.full(70_000, size, jnp.float32), jnp.zeros(70_000)
            norms = {quantity: jnp.ones(1) for quantity in ("param", "grad", "update")}
            for _ in range(3):
                with way():
                    norms = step_norms([param], [step], [step], norms)
            for quantity in ("grad", "update"):
                assert float(norms[quantity][0]) == pytest.approx(reference.norm(np.asarray(step)), rel=1e-6)
            assert float(norms["param"][0]) == 0.0


@pytest.mark.parametrize("count", [3, 70_000])
@pytest.mark.parametrize(
    ("step", "update", "proposed"),
    [((0.0, 0.0), 0.0, False), ((1e-9, 0.0), 0.0, True), ((1e-9, 0.5), 0.5, True), ((np.nan, 1e-9), np.nan, True)],
)
def test_what_rounding_swallows_is_proposed_and_not_applied(count, step, update, proposed):
    from gradlab_jax.monitoring.applied import step_norms

    steps = jnp.full(count, step[0]).at[0].set(step[1])
    if np.isnan(step[0]):
        steps = jnp.zeros(count).at[0].set(jnp.nan)
    before = {quantity: jnp.ones(1) for quantity in ("param", "grad", "update")}
    for way in (as_here, as_on_a_gpu):
        with way():
            found = step_norms([jnp.ones(count)], [steps], [steps], before)
        np.testing.assert_allclose(float(found["update"][0]), update, rtol=1e-6)
        assert np.isnan(update) or (float(found["proposed"][0]) > 0) == proposed


def as_here():
    return contextlib.nullcontext()


def as_on_a_gpu():
    """JAX's arithmetic for a GPU, run here."""
    return mock.patch.object(
        jax.lax, "platform_dependent", lambda *args, cuda=None, default=None, **_: (cuda or default)(*args)
    )


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


# JAX: whatever the loop is.


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


# PyTorch: whatever the loop is.


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
