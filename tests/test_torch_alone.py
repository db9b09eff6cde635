"""The PyTorch twin against the definitions in NumPy, without JAX: a small part that any supported PyTorch must pass.

`make matrix` runs it in environments with other versions, in which JAX is not installed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import gradlab_torch as gl  # noqa: E402
from gradlab_core import recurrent, reference  # noqa: E402
from gradlab_core.specs import BLOCKS, ModelSpec, TrainSpec  # noqa: E402

RNG = np.random.default_rng(0)
CELLS = ("rnn_tanh", "lstm", "gru")
TINY = {block: ModelSpec(block=block, base=2, layers=(1, 1), num_classes=2) for block in BLOCKS}
SPECS = {
    **{cell: ModelSpec(kind="recurrent", cell=cell, features=3, hidden=4, num_classes=2) for cell in CELLS},
    "transformer": ModelSpec(kind="transformer", features=3, hidden=8, heads=2, depth=1, num_classes=2),
    "mlp": ModelSpec(kind="mlp", features=3, widths=(8,), num_classes=2),
    **TINY,
}


def model_and_batch(name: str):
    spec = SPECS[name]
    size = 32 if name == "plain_unpadded" else 8
    shape = {"mlp": (3,), "tinynet": (3, size, size)}.get(spec.kind, (5, 3))
    x = RNG.standard_normal((6, *shape)).astype(np.float32)
    return gl.build(spec, seed=0), gl.to_native(x), RNG.integers(0, 2, 6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_norms(scale):
    tree = {"w": (RNG.standard_normal((40, 30)) * scale).astype(np.float32), "b": np.float32(scale) * np.ones(7, "f4")}
    tensors = {name: torch.from_numpy(array) for name, array in tree.items()}
    expected = reference.global_norm([tree["w"], tree["b"]])
    assert float(gl.global_norm(tensors)) == pytest.approx(expected, rel=1e-6)
    assert float(gl.leaf_norms(tensors)["w"]) == pytest.approx(reference.norm(tree["w"]), rel=1e-6)


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


def test_flow_and_activations_are_those_of_the_definition():
    model, x, y = model_and_batch("mlp")
    w = {path: array.astype(np.float64) for path, array in gl.to_canonical(model).items()}
    (first, first_bias), (last, last_bias) = [(w[p], w[p.replace("weight", "bias")]) for p in w if p.endswith("weight")]
    hidden = np.maximum(x.numpy() @ first.T + first_bias, 0)
    logits = hidden @ last.T + last_bias
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (chances - np.eye(2)[y]) / len(y)
    expected = [np.linalg.norm((slope @ last * (hidden > 0)).T @ x.numpy()), np.linalg.norm(slope.T @ hidden)]
    flow = gl.gradient_flow(model, x, y)
    found = [size for path, size in flow.layers.items() if path.endswith("weight")]
    assert found == pytest.approx(expected, rel=1e-5)
    assert flow.loss == pytest.approx(-np.log(chances[np.arange(6), y]).mean(), rel=1e-5)
    relu = next(row for row in gl.activation_stats(model, x, mode="train") if row.kind == "relu")
    assert (relu.mean, relu.zero_frac) == pytest.approx((hidden.mean(), (hidden == 0).mean()), rel=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_hidden_states_are_those_of_the_definition(cell):
    model, x, y = model_and_batch(cell)
    weights = {path.removeprefix("rnn."): w for path, w in gl.to_canonical(model).items() if path.startswith("rnn.")}
    expected = recurrent.run(cell, weights, x.numpy())[0]
    found = gl.hidden_state_norms(model, x, y)
    norms = np.linalg.norm(expected, axis=-1).mean(axis=1)
    assert found.states == pytest.approx(list(norms), rel=1e-5)


def test_a_probe_sees_the_layers_of_a_model_of_ones_own():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias[0] = -100.0  # a unit that is dead
    x, y = torch.from_numpy(RNG.standard_normal((6, 3)).astype(np.float32)), RNG.integers(0, 2, 6)
    seen = gl.probe(model, x, y)
    relu = next(row for row in seen.layers if row.kind == "relu")
    expected = (model[0](x) > 0).sum(0) == 0
    assert expected[0]
    assert relu.dead_unit_frac == pytest.approx(float(expected.float().mean()))


def test_a_nan_is_traced_to_its_operation():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(torch.log(x - 10.0))

    origin = gl.nonfinite_origin(Net(), torch.ones(6, 3), np.zeros(6, int))
    assert (origin.phase, origin.operation, origin.value) == ("forward", "log", "nan")


def test_monitor_records_what_the_optimizer_did():
    model = torch.nn.Module()
    model.w, model.b = (torch.nn.Parameter(torch.tensor(values)) for values in ([3.0, 4.0], [1.0]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gl.Monitor(model, optimizer) as monitor:
        for _ in range(3):
            model.w.grad, model.b.grad = torch.tensor([0.0, 1.0]), torch.tensor([2.0])
            monitor.observe(1.5)
            optimizer.step()
    record = monitor.last
    assert (record.step, record.loss, record.learning_rate) == (2, 1.5, 0.1)
    assert record.grad_norm == pytest.approx(math.sqrt(5), rel=1e-6)
    assert record.update_norm == pytest.approx(0.1 * math.sqrt(5), rel=1e-5)
    assert record.tensors["w"].param == pytest.approx(math.hypot(3.0, 3.8), rel=1e-6)


@pytest.mark.parametrize("name", ["lstm", "preact_noskip"])
def test_training_lowers_the_loss(name):
    model, x, y = model_and_batch(name)

    class Batches:
        def epoch(self, epoch):
            return [(x.numpy(), y)] * 10

    record = gl.train(model, Batches(), TrainSpec(epochs=1, learning_rate=0.1))
    assert record.steps[-1].loss < record.steps[0].loss


def test_perturbed_runs_scatter_by_the_rounding_of_float32():
    from gradlab_core.parity import compare, moved

    model, x, y = model_and_batch("lstm")
    gl.from_canonical(model, moved(gl.to_canonical(model)))
    subject = gl.Subject(model)
    report = compare(subject, subject, (x.numpy(), y), steps=2)
    assert not report.failures
    expected = [row.candidate_expected for row in report.rows if row.quantity == "gradient"]
    assert all(1e-8 < e < 1e-4 for e in expected)
