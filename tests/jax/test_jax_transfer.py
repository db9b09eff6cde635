"""A record comes to the host as one array, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

import gradlab_jax as gl  # noqa: E402
from gradlab_core.definitions.quantities import EXTRAS  # noqa: E402
from gradlab_core.errors import GradlabError  # noqa: E402
from gradlab_jax.trees.transfer import to_host  # noqa: E402

PARAMS = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([1.0])}


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the arrays whose value was taken to the host."""
    kind, shapes = type(jnp.zeros(1)), []
    real = kind._value
    monkeypatch.setattr(kind, "_value", property(lambda x: (shapes.append(x.shape), real.fget(x))[1]))
    return shapes


def stepped(tx, **more):
    step = jax.jit(lambda g, s, p: tx.update(g, s, p, **more))
    return step(PARAMS, tx.init(PARAMS), PARAMS)[1]


def test_one_array_is_brought_whatever_a_record_holds(brought):
    rate = optax.inject_hyperparams(lambda learning_rate: gl.monitor(optax.adam(learning_rate), extras=EXTRAS))(0.5)
    state = stepped(optax.chain(gl.before_clipping(), optax.clip_by_global_norm(1.0), rate))
    loss = jnp.float32(1.5)
    brought.clear()
    record = gl.read_record(state, loss=loss)
    assert len(brought) == 1
    assert (record.learning_rate, record.loss, record.clipped) == (0.5, 1.5, True)


def test_on_an_accelerator_the_one_who_looks_waits(brought, monkeypatch):
    tx = gl.monitor(optax.adam(0.1), extras=EXTRAS)
    state = stepped(tx, value=jnp.float32(2.0))
    at_once = gl.read_record(state)
    monkeypatch.setattr(sys.modules["gradlab_jax.monitoring.reading"], "_is_near", lambda array: False)
    brought.clear()
    record = gl.read_record(state)
    for x in jax.tree.leaves(state):
        x.delete()  # as a step does that is given them
    assert brought == []
    assert record.loss == 2.0
    assert len(brought) == 1
    assert repr(record) == repr(at_once)
    assert len(brought) == 1
    nothing = gl.read_record(tx.init(PARAMS))
    with pytest.raises(GradlabError, match="recorded nothing yet"):
        nothing.step  # noqa: B018


def test_steps_beyond_what_a_float32_counts():
    tx = gl.monitor(optax.sgd(0.1))
    state = tx.init(PARAMS)
    for step in (2**24 + 1, 2**31 - 2):
        _, found = tx.update(PARAMS, state._replace(seen=jnp.int32(step)), PARAMS)
        assert gl.read_record(found).step == step


@pytest.mark.parametrize("inside", [True, False])
def test_every_type_bit_for_bit(inside):
    # A NaN of its own, the smallest numbers, a zero with a sign: compared as bytes.
    arrays = [
        np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38], np.float32),
        np.array([1.5, 6e-8], np.float16),
        np.array(2**31 - 1, np.int32),
        np.array([[True], [False]]),
        np.zeros((0, 3), np.float32),
    ]
    wide = [np.array([np.nan, 5e-324, 1e300]), np.array([2**62 + 1, -7])]
    for chosen in (arrays, arrays + wide):
        with jax.enable_x64(True):
            placed = [jnp.asarray(x) for x in chosen]
        with jax.enable_x64(inside):
            found = to_host(placed)
        for a, b in zip(chosen, found, strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, np.asarray(b).tobytes())
    half = jnp.array([1e-40, 3.0], jnp.bfloat16)
    assert all((a == b).all() for a, b in zip([half, half], to_host([half, half]), strict=True))
    assert to_host([None, 2.5, arrays[0]])[2] is arrays[0]


def test_nan_inf_zero_and_missing_are_told_apart():
    tx = gl.monitor(optax.sgd(0.0), known={"cut": gl.GradientState.DISCONNECTED})
    params = {name: jnp.ones(2) for name in ("cut", "inf", "nan", "zero")}
    grads = {"cut": jnp.zeros(2), "inf": jnp.full(2, jnp.inf), "nan": jnp.full(2, jnp.nan), "zero": jnp.zeros(2)}
    record = gl.read_record(tx.update(grads, tx.init(params), params)[1])
    assert repr([record.tensors[name].grad for name in params]) == "[None, inf, nan, 0.0]"


def test_one_step_of_a_scan_is_one_array_too(brought):
    tx = gl.monitor(optax.sgd(0.1))

    def body(state, _):
        state = tx.update(PARAMS, state, PARAMS)[1]
        return state, gl.device_record(state)

    seen = jax.lax.scan(body, tx.init(PARAMS), None, length=3)[1]
    one = jax.tree.map(lambda x: x[1], seen)
    brought.clear()
    assert gl.read_record(one).step == 1
    assert len(brought) == 1


def test_replicated_over_devices_and_on_several():
    """In a process of its own, which has four devices."""
    code = """
import jax, jax.numpy as jnp, numpy as np, optax, gradlab_jax as gl
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
kind, taken = type(jnp.zeros(1)), []
real = kind._value
kind._value = property(lambda x: (taken.append(x.shape), real.fget(x))[1])
mesh = Mesh(np.array(jax.devices()), "d")
tx = gl.monitor(optax.sgd(0.1))
params = {"w": jax.device_put(jnp.ones((8, 3)), NamedSharding(mesh, P("d"))), "b": jnp.ones(3)}
params["b"] = jax.device_put(params["b"], NamedSharding(mesh, P()))
state = jax.jit(tx.update)(params, tx.init(params), params)[1]
taken.clear()
record = gl.read_record(state)
print(len(taken), round(record.grad_norm**2), record.step)
print(gl.read_record(state, loss=jax.device_put(jnp.float32(1.5), jax.devices()[3])).loss)
"""
    environ = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120)
    assert ran.stdout.splitlines() == ["1 27 0", "1.5"], ran.stderr
