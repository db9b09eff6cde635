"""A look into loss functions that are out of the ordinary: none of them breaks, and nothing is told of them that is not
so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

import gradlab_jax as gl

X, Y = jax.random.normal(jax.random.key(0), (32, 8)), jnp.arange(32) % 3
PARAMS = {
    "0": {"weight": jax.random.normal(jax.random.key(1), (8, 16)) / 3, "bias": jnp.zeros(16)},
    "2": {"weight": jax.random.normal(jax.random.key(2), (16, 3)) / 4},
}


def model(p, x):
    return jax.nn.relu(x @ p["0"]["weight"] + p["0"]["bias"]) @ p["2"]["weight"]


def plain(p, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(p, x), y).mean()


def seen(loss, p=PARAMS):
    return jax.jit(lambda p: gl.observed(loss)(p, X, Y)[1])(p).probe()


@pytest.mark.parametrize("last", [jnp.tanh, jax.nn.relu])
def test_an_activation_behind_the_last_layer(last):
    probe = seen(lambda p, x, y: jnp.mean((last(model(p, x)) - 0.1) ** 2))
    assert [(row.kind, row.shape) for row in probe.layers] == [("relu", (32, 16)), (last.__name__, (32, 3))]


def test_running_statistics_are_no_input():
    def loss(p, statistics, x, y):
        return plain(p, x - statistics["mean"], y), {"mean": x.mean(0)}

    watched = gl.observed(loss, has_aux=True)
    probe = jax.jit(lambda p: watched(p, {"mean": jnp.zeros(8)}, X, Y)[1][1])(PARAMS).probe()
    assert (probe.input.shape, probe.batch) == ((32, 8), 32)


def test_complex_parameters_and_activations():
    turned = jax.tree.map(lambda w: w.astype(jnp.complex64), PARAMS)
    probe = seen(
        lambda p, x, y: jnp.mean(jnp.abs(jnp.tanh(x @ p["0"]["weight"]) @ p["2"]["weight"] + model(PARAMS, x))), turned
    )
    assert probe is None or not probe.copies


def test_a_gradient_of_zero_is_no_nan():
    """`jax_debug_nans` stops a program at a NaN, also at one that a look makes."""
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    with jax.debug_nans(True):
        for wrap in (jax.jit, lambda f: f):
            watched = wrap(gl.observed(lambda p, x, y: jnp.mean(model(p, x) ** 2)))
            assert watched(zeros, X, Y)[1].probe().answers is None


@pytest.mark.parametrize("check_vma", [True, False])
def test_inside_of_shard_map(check_vma):
    mesh = Mesh(jax.devices()[:1], ("batch",))
    watched = gl.observed(lambda p, x, y: jax.lax.pmean(plain(p, x, y), "batch"))

    def step(p, x, y, at):
        (_, look), grads = jax.value_and_grad(watched, has_aux=True)(p, x, y, step=at)
        return jax.tree.map(lambda leaf: leaf[None], look), jax.lax.pmean(grads, "batch")

    specs = {"in_specs": (Spec(), Spec("batch"), Spec("batch"), Spec()), "out_specs": (Spec("batch"), Spec())}
    sharded = jax.jit(jax.shard_map(step, mesh=mesh, check_vma=check_vma, **specs))
    look = jax.tree.map(lambda leaf: leaf[0], sharded(PARAMS, X, Y, jnp.array(0))[0])
    assert look.probe().answers.loss == "cross-entropy"


def test_arrays_whose_sharding_is_part_of_their_type():
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x, y = (jax.device_put(a, NamedSharding(mesh, Spec("batch"))) for a in (X, Y))
        _, look = jax.jit(gl.observed(plain))(PARAMS, x, y, step=jnp.array(0))
    assert look.probe().classes == 3
