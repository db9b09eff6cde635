"""What each twin must pass without the other framework: the same checks against the definitions in NumPy.

`gl` is the twin, `gradlab_torch` or `gradlab_jax`.
"""

from __future__ import annotations

import numpy as np
import pytest

from gradlab_core.definitions import recurrent, reference
from gradlab_core.parity import compare, moved
from gradlab_core.programs.specs import ModelSpec, TrainSpec

RNG = np.random.default_rng(0)
CELLS = ("rnn_tanh", "lstm", "gru")
SPECS = {
    **{cell: ModelSpec(kind="recurrent", cell=cell, features=3, hidden=4, num_classes=2) for cell in CELLS},
    "transformer": ModelSpec(kind="transformer", features=3, hidden=8, heads=2, depth=1, num_classes=2),
    "mlp": ModelSpec(kind="mlp", features=3, widths=(8,), num_classes=2),
    "preact_noskip": ModelSpec(block="preact_noskip", base=2, layers=(1, 1), num_classes=2),
}
SCALES = (1e-30, 1.0, 1e30)


def model_and_batch(gl, spec):
    """The model, and its batch as canonical arrays."""
    size = 32 if spec.block == "plain_unpadded" else 8
    shape = {"mlp": (3,), "tinynet": (3, size, size)}.get(spec.kind, (5, 3))
    x = RNG.standard_normal((6, *shape)).astype(np.float32)
    return gl.build(spec, seed=0), x, RNG.integers(0, 2, 6)


def assert_norms(gl, scale, native, global_norm):
    """`native` makes the twin's own array of one of NumPy; `global_norm` is its function, as it is to be run."""
    tree = {"w": (RNG.standard_normal((40, 30)) * scale).astype(np.float32), "b": np.float32(scale) * np.ones(7, "f4")}
    arrays = {name: native(array) for name, array in tree.items()}
    expected = reference.global_norm([tree["w"], tree["b"]])
    assert float(global_norm(arrays)) == pytest.approx(expected, rel=1e-6)
    assert float(gl.leaf_norms(arrays)["w"]) == pytest.approx(reference.norm(tree["w"]), rel=1e-6)


def assert_states_flow_and_capture(gl, spec):
    model, x, y = model_and_batch(gl, spec)
    x = gl.to_native(x)
    states = gl.check_gradients(model, x, y)
    flow = gl.gradient_flow(model, x, y)
    cut = ["stage2.0.down.weight"] if spec.block == "preact_noskip" else []
    assert [path for path, state in states.items() if state == "disconnected"] == cut
    assert list(flow.disconnected) == cut
    assert np.isfinite(flow.loss)
    rows = gl.activation_stats(model, x, mode="train")
    assert bool(rows) == (spec.kind != "recurrent")  # a cell is one layer, and none of the tracked kinds
    assert all(row.nonfinite == 0 for row in rows)
    assert gl.count_flops(model, x) > 0


def assert_hidden_states(gl, cell):
    model, x, y = model_and_batch(gl, SPECS[cell])
    weights = {path.removeprefix("rnn."): w for path, w in gl.to_canonical(model).items() if path.startswith("rnn.")}
    expected = recurrent.run(cell, weights, x)[0]
    found = gl.hidden_state_norms(model, gl.to_native(x), y)
    norms = np.linalg.norm(expected, axis=-1).mean(axis=1)
    assert found.states == pytest.approx(list(norms), rel=1e-5)


def assert_training_lowers_the_loss(gl, name):
    model, x, y = model_and_batch(gl, SPECS[name])

    class Batches:
        def epoch(self, epoch):
            return [(x, y)] * 10

    record = gl.train(model, Batches(), TrainSpec(epochs=1, learning_rate=0.1))
    assert record.steps[-1].loss < record.steps[0].loss


def assert_perturbed_runs_scatter_by_the_rounding_of_float32(gl):
    model, x, y = model_and_batch(gl, SPECS["lstm"])
    gl.from_canonical(model, moved(gl.to_canonical(model)))
    subject = gl.Subject(model)
    report = compare(subject, subject, (x, y), steps=2)
    assert not report.failures
    expected = [row.candidate_expected for row in report.rows if row.quantity == "gradient"]
    assert all(1e-8 < e < 1e-4 for e in expected)
