"""Quantities of a user's own: one function a twin, the same numbers, in records and loggers; faults in words."""

from __future__ import annotations

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions.quantities import Quantity
from gradlab_core.errors import GradlabError
from gradlab_core.records import StepRecord
from gradlab_core.records.codec import encode
from gradlab_core.records.decoding import decode
from gradlab_core.sinks.flat import quantities, scalars
from parity_tests.monitored import BATCHES, START, assert_same, jax_loss, jax_run, jax_step, torch_net, torch_run

FADING = 0.9


def each(f):
    return lambda tensors: {path: f(t) for path, t in tensors.items()}


def faded(norm):
    """A moving mean of the gradient's norm: a quantity that remembers."""

    def measure(grads, means):
        new = {path: FADING * means[path] + (1 - FADING) * norm(g) for path, g in grads.items()}
        return new, new

    return measure


def turned(grads, before):
    """The share of elements whose sign is another than at the record before."""
    signs = {path: g > 0 for path, g in grads.items()}
    return {path: (signs[path] != before[path]).mean(dtype=float) for path in grads}, signs


TORCH = (
    Quantity(name="largest", of="grad", whole="max", measure=each(lambda g: g.abs().max())),
    Quantity(name="l1", of="update", whole="sum", measure=each(lambda u: u.abs().sum())),
    Quantity(name="mean", of="param", measure=each(lambda p: p.mean())),
    Quantity(
        name="faded", of="grad", whole="norm", measure=faded(lambda g: g.norm()), start=each(lambda p: torch.zeros(()))
    ),
    Quantity(
        name="turned",
        of="grad",
        compares=True,
        whole="mean",
        start=each(lambda p: torch.zeros_like(p, dtype=torch.bool)),
        measure=lambda grads, before: (
            {path: ((g > 0) != before[path]).double().mean() for path, g in grads.items()},
            {path: g > 0 for path, g in grads.items()},
        ),
    ),
)
JAX = (
    Quantity(name="largest", of="grad", whole="max", measure=each(lambda g: jnp.abs(g).max())),
    Quantity(name="l1", of="update", whole="sum", measure=each(lambda u: jnp.abs(u).sum())),
    Quantity(name="mean", of="param", measure=each(lambda p: p.mean())),
    Quantity(
        name="faded",
        of="grad",
        whole="norm",
        measure=faded(jnp.linalg.norm),
        start=each(lambda p: jnp.zeros((), p.dtype)),
    ),
    Quantity(
        name="turned",
        of="grad",
        compares=True,
        whole="mean",
        measure=turned,
        start=each(lambda p: jnp.zeros_like(p, dtype=bool)),
    ),
)


@pytest.fixture(scope="module")
def runs():
    mine = torch_run(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), steps=6, extras=(*TORCH, "distance"))
    with jax.enable_x64(True):
        theirs = jax_run(gradlab_jax.monitor(optax.sgd(0.1, momentum=0.9), extras=(*JAX, "distance")), steps=6)
    return mine, theirs


def test_both_twins_give_the_same_numbers(runs):
    for mine, theirs in zip(*runs, strict=True):
        assert list(mine.quantities) == [q.name for q in TORCH]
        assert_same(mine.quantities, theirs.quantities)
        assert mine.distance is not None


def test_the_numbers_are_those_of_numpy(runs):
    with jax.enable_x64(True):
        params, step = {k: jnp.asarray(v) for k, v in START.items()}, jax_step(tx := optax.sgd(0.1, momentum=0.9))
        state = tx.init(params)
        means, before = dict.fromkeys(START, 0.0), None
        for record, (x, y) in zip(runs[0], BATCHES, strict=False):
            grads = {k: np.asarray(g) for k, g in jax.grad(jax_loss)(params, jnp.asarray(x), y).items()}
            moved, state = step(params, state, jnp.asarray(x), y)
            means = {k: FADING * means[k] + (1 - FADING) * np.linalg.norm(g) for k, g in grads.items()}
            wanted = {
                "largest": ({k: np.abs(g).max() for k, g in grads.items()}, max),
                "l1": ({k: float(np.abs(moved[k] - params[k]).sum()) for k in grads}, sum),
                "mean": ({k: float(p.mean()) for k, p in params.items()}, lambda values: None),
                "faded": (means, lambda values: float(np.linalg.norm(list(values)))),
                "turned": ({}, lambda values: None)
                if before is None
                else ({k: float(((g > 0) != before[k]).mean()) for k, g in grads.items()}, lambda v: np.mean(list(v))),
            }
            for name, (tensors, whole) in wanted.items():
                found = record.quantities[name]
                assert found.tensors == pytest.approx(tensors, rel=1e-9), name
                together = whole(tensors.values())
                assert found.whole == (together if together is None else pytest.approx(together, rel=1e-9)), name
            before, params = {k: g > 0 for k, g in grads.items()}, moved


def test_records_keep_them(runs):
    record = runs[0][-1]
    assert decode(StepRecord, json.loads(json.dumps(encode(record))), "record") == record
    old = encode(record)
    del old["quantities"]
    assert decode(StepRecord, old, "record of before").quantities == {}
    flat = scalars(record)
    assert flat["gradlab/largest"] == record.quantities["largest"].whole
    assert flat["gradlab/tensors/0.weight/l1"] == record.quantities["l1"].tensors["0.weight"]
    assert ("", "mean", None) in list(quantities(record))


def test_nan_and_inf_stay_what_they_are():
    odd = Quantity(name="odd", of="grad", whole="max", measure=each(lambda g: g.sum() * float("inf") * 0))
    (record,) = torch_run(lambda p: torch.optim.SGD(p, lr=0.1), steps=1, extras=[odd])
    assert np.isnan(record.quantities["odd"].whole)
    assert all(np.isnan(value) for value in record.quantities["odd"].tensors.values())
    assert encode(record)["quantities"]["odd"]["whole"] == "NaN"


def test_a_state_with_them_is_scanned_mapped_and_pickled():
    tx = gradlab_jax.monitor(optax.sgd(0.1), extras=JAX, every=2)
    params = {k: jnp.asarray(v, jnp.float32) for k, v in START.items()}
    xs, ys = (np.stack(part) for part in zip(*BATCHES[:5], strict=True))

    def step(carry, batch):
        params, state = carry
        grads = jax.grad(jax_loss)(params, *batch)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), gradlab_jax.device_record(state)

    (_, state), _ = jax.lax.scan(step, (params, tx.init(params)), (xs.astype(np.float32), ys))
    record = gradlab_jax.read_record(pickle.loads(pickle.dumps(state)))
    assert record.step == 4
    assert set(record.quantities) == {q.name for q in JAX}
    again = gradlab_jax.monitor(optax.sgd(0.1), extras=JAX, every=2).init(params)
    assert jax.tree.structure(again) == jax.tree.structure(state)


BAD = {
    "a name that is taken": ({"name": "grad_norm", "of": "grad", "measure": dict}, "which a record has already"),
    "no identifier": ({"name": "my q", "of": "grad", "measure": dict}, "expected an identifier"),
    "of nothing known": ({"name": "q", "of": "loss", "measure": dict}, "expected one of param, grad, update"),
    "no function": ({"name": "q", "of": "grad", "measure": 3}, "measure is 3; expected a function"),
    "an unknown whole": ({"name": "q", "of": "grad", "measure": dict, "whole": "median"}, "expected one of max, min"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_quantity_that_cannot_be_is_refused(case):
    options, message = BAD[case]
    with pytest.raises(GradlabError, match=message):
        Quantity(**options)


def start(p):
    return {path: t * 0 for path, t in p.items()}


WRONG = {
    "no mapping": (lambda g: 3.0, None, "it gave a float; expected {path: one number}"),
    "a stranger": (lambda g: {**each(lambda t: t.sum())(g), "x": 1.0}, None, "for 'x', which it was not handed"),
    "one left out": (lambda g: {"0.weight": g["0.weight"].sum()}, None, "it gave no number for 0.bias"),
    "no one number": (lambda g: dict(g), None, "0.weight got float.. of shape (5, 4); expected one number"),
    "no memory": (lambda g, held: g, start, "it gave a dict; expected (numbers, memory)"),
}


@pytest.mark.parametrize("twin", ["torch", "jax"])
@pytest.mark.parametrize("case", WRONG)
def test_what_a_quantity_gives_is_checked(case, twin):
    measure, begin, message = WRONG[case]
    wrong = Quantity(name="wrong", of="grad", measure=measure, start=begin)
    pattern = message.replace("{", r"\{").replace("}", r"\}").replace("(", r"\(").replace(")", r"\)")
    run = {
        "torch": lambda: torch_run(lambda p: torch.optim.SGD(p, lr=0.1), steps=1, extras=[wrong]),
        "jax": lambda: jax_run(gradlab_jax.monitor(optax.sgd(0.1), extras=[wrong]), steps=1, dtype=np.float32),
    }
    with pytest.raises(GradlabError, match=pattern):
        run[twin]()


def test_a_memory_that_changes_its_kind_is_refused_in_jax():
    grows = Quantity(
        name="grows", of="grad", start=start, measure=lambda g, held: (each(lambda t: t.sum())(g), [held, held])
    )
    with pytest.raises(GradlabError, match=r"quantity grows: its memory is now .*expected the structure"):
        jax_run(gradlab_jax.monitor(optax.sgd(0.1), extras=[grows]), steps=1, dtype=np.float32)


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ([TORCH[0], TORCH[0]], "two extras are called largest"),
        (["distance", "distance"], "two extras are called distance"),
        (TORCH[0], "expected a list"),
        ([3], "extra 3 is unknown"),
    ],
)
def test_extras_that_cannot_be_are_refused(extras, message):
    net = torch_net()
    with pytest.raises(GradlabError, match=message):
        gradlab_torch.Monitor(net, torch.optim.SGD(net.parameters(), lr=0.1), extras=extras)
    with pytest.raises(GradlabError, match=message):
        gradlab_jax.monitor(optax.sgd(0.1), extras=extras)


def test_gradients_of_a_fused_optimizer_are_handed_unscaled():
    net = torch_net(torch.float32)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
    with gradlab_torch.Monitor(net, optimizer, extras=[TORCH[0]]) as monitor:
        for p in net.parameters():
            p.grad = torch.full_like(p, 6.0)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(0.0)
        optimizer.step()
        del optimizer.grad_scale, optimizer.found_inf
    assert monitor.last.quantities["largest"].whole == 3.0
