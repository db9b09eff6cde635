"""The JAX twin against the definitions in NumPy, without PyTorch: a small part that any supported JAX must pass.

`make matrix` runs it in environments with other versions, in which PyTorch is not installed.
"""

from __future__ import annotations

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402

import gradlab_jax as gl  # noqa: E402
from tests import alone  # noqa: E402


@pytest.mark.parametrize("scale", alone.SCALES)
def test_norms(scale):
    alone.assert_norms(gl, scale, jnp.asarray, jax.jit(gl.global_norm))


@pytest.mark.parametrize("name", alone.SPECS)
def test_states_flow_and_capture(name):
    alone.assert_states_flow_and_capture(gl, alone.SPECS[name])


@pytest.mark.parametrize("cell", alone.CELLS)
def test_hidden_states_are_those_of_the_definition(cell):
    alone.assert_hidden_states(gl, cell)


def test_loops_and_branches_keep_what_is_disconnected_apart():
    params = {"used": jnp.ones(3), "cut": jnp.ones(3)}

    def loss(params, x):
        def turn(h, row):
            h = jax.lax.cond(row.sum() > 0, jnp.tanh, lambda h: h, h * params["used"] + row)
            return h, jax.lax.stop_gradient(params["cut"]) * h

        carry, rows = jax.lax.scan(jax.checkpoint(turn), jnp.zeros(3), x)
        return (carry.sum() + rows.sum()) ** 2

    x = jnp.asarray(alone.RNG.standard_normal((4, 3)), jnp.float32)
    from gradlab_jax.model.gradients import structural_zeros

    closed = jax.make_jaxpr(jax.grad(loss))(params, x)
    flags = structural_zeros(closed.jaxpr, [False] * len(closed.jaxpr.invars))
    assert dict(zip(sorted(params), flags, strict=True)) == {"cut": True, "used": False}


def test_a_nan_inside_of_a_loop_is_traced_to_its_operation():
    class Net(nnx.Module):
        def __init__(self):
            self.fc = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

        def __call__(self, x):
            def turn(h, row):
                return jnp.log(row - 10.0), None

            h, _ = jax.lax.scan(turn, x[:, 0], jnp.swapaxes(x, 0, 1))
            return self.fc(h)

    x = jnp.asarray(alone.RNG.standard_normal((6, 5, 3)), jnp.float32)
    origin = gl.nonfinite_origin(Net(), x, np.zeros(6, int))
    assert (origin.phase, origin.operation, origin.value) == ("forward", "log", "nan")


def test_monitor_records_what_the_optimizer_did():
    params = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([1.0])}
    tx = gl.monitor(optax.sgd(0.1))
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        grads = {"w": jnp.array([0.0, 1.0]), "b": jnp.array([2.0])}
        updates, state = tx.update(grads, state, params, value=jnp.float32(1.5))
        return optax.apply_updates(params, updates), state

    for _ in range(3):
        params, state = step(params, state)
    record = gl.read_record(state)
    assert (record.step, record.loss) == (2, 1.5)
    assert record.grad_norm == pytest.approx(np.sqrt(5), rel=1e-6)
    assert record.update_norm == pytest.approx(0.1 * np.sqrt(5), rel=1e-5)
    assert record.tensors["w"].param == pytest.approx(np.hypot(3.0, 3.8), rel=1e-6)


@pytest.mark.parametrize("name", ["lstm", "preact_noskip"])
def test_training_lowers_the_loss(name):
    alone.assert_training_lowers_the_loss(gl, name)


def test_perturbed_runs_scatter_by_the_rounding_of_float32():
    alone.assert_perturbed_runs_scatter_by_the_rounding_of_float32(gl)
