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
from gradlab_core import recurrent, reference  # noqa: E402
from gradlab_core.specs import ModelSpec, TrainSpec  # noqa: E402

RNG = np.random.default_rng(0)
CELLS = ("rnn_tanh", "lstm", "gru")
SPECS = {
    **{cell: ModelSpec(kind="recurrent", cell=cell, features=3, hidden=4, num_classes=2) for cell in CELLS},
    "transformer": ModelSpec(kind="transformer", features=3, hidden=8, heads=2, depth=1, num_classes=2),
    "mlp": ModelSpec(kind="mlp", features=3, widths=(8,), num_classes=2),
    "preact_noskip": ModelSpec(block="preact_noskip", base=2, layers=(1, 1), num_classes=2),
}


def model_and_batch(name: str):
    spec = SPECS[name]
    shape = {"mlp": (3,), "tinynet": (3, 8, 8)}.get(spec.kind, (5, 3))
    x = RNG.standard_normal((6, *shape)).astype(np.float32)
    return gl.build(spec, seed=0), gl.to_native(x), RNG.integers(0, 2, 6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_norms(scale):
    tree = {"w": (RNG.standard_normal((40, 30)) * scale).astype(np.float32), "b": np.float32(scale) * np.ones(7, "f4")}
    arrays = jax.tree.map(jnp.asarray, tree)
    expected = reference.global_norm([tree["w"], tree["b"]])
    assert float(jax.jit(gl.global_norm)(arrays)) == pytest.approx(expected, rel=1e-6)
    assert float(gl.leaf_norms(arrays)["w"]) == pytest.approx(reference.norm(tree["w"]), rel=1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_states_flow_and_capture(name):
    model, x, y = model_and_batch(name)
    states = gl.check_gradients(model, x, y)
    flow = gl.gradient_flow(model, x, y)
    cut = ["stage2.0.down.weight"] if name == "preact_noskip" else []
    assert [path for path, state in states.items() if state == "disconnected"] == cut
    assert list(flow.disconnected) == cut
    assert np.isfinite(flow.loss)
    rows = gl.activation_stats(model, x, mode="train")
    assert bool(rows) == (name not in CELLS)  # a cell is one layer, and none of the tracked kinds
    assert all(row.nonfinite == 0 for row in rows)
    assert gl.count_flops(model, x) > 0


@pytest.mark.parametrize("cell", CELLS)
def test_hidden_states_are_those_of_the_definition(cell):
    model, x, y = model_and_batch(cell)
    weights = {path.removeprefix("rnn."): w for path, w in gl.to_canonical(model).items() if path.startswith("rnn.")}
    expected = recurrent.run(cell, weights, np.asarray(x))[0]
    found = gl.hidden_state_norms(model, x, y)
    norms = np.linalg.norm(expected, axis=-1).mean(axis=1)
    assert found.states == pytest.approx(list(norms), rel=1e-5)


def test_loops_and_branches_keep_what_is_disconnected_apart():
    params = {"used": jnp.ones(3), "cut": jnp.ones(3)}

    def loss(params, x):
        def turn(h, row):
            h = jax.lax.cond(row.sum() > 0, jnp.tanh, lambda h: h, h * params["used"] + row)
            return h, jax.lax.stop_gradient(params["cut"]) * h

        carry, rows = jax.lax.scan(jax.checkpoint(turn), jnp.zeros(3), x)
        return (carry.sum() + rows.sum()) ** 2

    x = jnp.asarray(RNG.standard_normal((4, 3)), jnp.float32)
    from gradlab_jax._gradients import structural_zeros

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

    x = jnp.asarray(RNG.standard_normal((6, 5, 3)), jnp.float32)
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
    record = gl.read(state)
    assert (record.step, record.loss) == (2, 1.5)
    assert record.grad_norm == pytest.approx(np.sqrt(5), rel=1e-6)
    assert record.update_norm == pytest.approx(0.1 * np.sqrt(5), rel=1e-5)
    assert record.tensors["w"].param == pytest.approx(np.hypot(3.0, 3.8), rel=1e-6)


@pytest.mark.parametrize("name", ["lstm", "preact_noskip"])
def test_training_lowers_the_loss(name):
    model, x, y = model_and_batch(name)
    canonical = np.moveaxis(np.asarray(x), -1, 1) if x.ndim == 4 else np.asarray(x)

    class Batches:
        def epoch(self, epoch):
            return [(canonical, y)] * 10

    record = gl.train(model, Batches(), TrainSpec(epochs=1, learning_rate=0.1))
    assert record.steps[-1].loss < record.steps[0].loss


def test_perturbed_runs_scatter_by_the_rounding_of_float32():
    from gradlab_core.parity import compare, moved

    model, x, y = model_and_batch("lstm")
    gl.from_canonical(model, moved(gl.to_canonical(model)))
    subject = gl.Subject(model)
    report = compare(subject, subject, (np.asarray(x), y), steps=2)
    assert not report.failures
    expected = [row.candidate_expected for row in report.rows if row.quantity == "gradient"]
    assert all(1e-8 < e < 1e-4 for e in expected)
