"""The PyTorch twin against the definitions in NumPy, without JAX: a small part that any supported PyTorch must pass.

`make matrix` runs it in environments with other versions, in which JAX is not installed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import gradlab_torch as gl  # noqa: E402
from gradlab_core.programs.specs import BLOCKS, ModelSpec  # noqa: E402
from tests import alone  # noqa: E402

SPECS = alone.SPECS | {b: ModelSpec(block=b, base=2, layers=(1, 1), num_classes=2) for b in BLOCKS}


@pytest.mark.parametrize("scale", alone.SCALES)
def test_norms(scale):
    alone.assert_norms(gl, scale, torch.from_numpy, gl.global_norm)


@pytest.mark.parametrize("name", SPECS)
def test_states_flow_and_capture(name):
    alone.assert_states_flow_and_capture(gl, SPECS[name])


def test_flow_and_activations_are_those_of_the_definition():
    model, x, y = alone.model_and_batch(gl, SPECS["mlp"])
    w = {path: array.astype(np.float64) for path, array in gl.to_canonical(model).items()}
    (first, first_bias), (last, last_bias) = [(w[p], w[p.replace("weight", "bias")]) for p in w if p.endswith("weight")]
    hidden = np.maximum(x @ first.T + first_bias, 0)
    logits = hidden @ last.T + last_bias
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (chances - np.eye(2)[y]) / len(y)
    expected = [np.linalg.norm((slope @ last * (hidden > 0)).T @ x), np.linalg.norm(slope.T @ hidden)]
    flow = gl.gradient_flow(model, gl.to_native(x), y)
    found = [size for path, size in flow.layers.items() if path.endswith("weight")]
    assert found == pytest.approx(expected, rel=1e-5)
    assert flow.loss == pytest.approx(-np.log(chances[np.arange(6), y]).mean(), rel=1e-5)
    relu = next(row for row in gl.activation_stats(model, gl.to_native(x), mode="train") if row.kind == "relu")
    assert (relu.mean, relu.zero_frac) == pytest.approx((hidden.mean(), (hidden == 0).mean()), rel=1e-5)


@pytest.mark.parametrize("cell", alone.CELLS)
def test_hidden_states_are_those_of_the_definition(cell):
    alone.assert_hidden_states(gl, cell)


def test_a_probe_sees_the_layers_of_a_model_of_ones_own():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias[0] = -100.0  # a unit that is dead
    x, y = torch.from_numpy(alone.RNG.standard_normal((6, 3)).astype(np.float32)), alone.RNG.integers(0, 2, 6)
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
    alone.assert_training_lowers_the_loss(gl, name)


def test_perturbed_runs_scatter_by_the_rounding_of_float32():
    alone.assert_perturbed_runs_scatter_by_the_rounding_of_float32(gl)
