"""Norms of hidden states and of their gradients: both twins against the definition, differentiated by complex steps."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import hidden, recurrent
from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec
from parity_tests.conftest import FLAT, batch_for, trained_weights

TWINS = (gradlab_torch, gradlab_jax)


def definition(cell, arrays, x, y):
    """The record's figures in NumPy. A step of 1e-30·i takes a derivative exactly: nothing is subtracted."""
    weights = {path.removeprefix("rnn."): w for path, w in arrays.items() if path.startswith("rnn.")}
    states, gates = recurrent.run(cell, weights, x)

    def loss(drift):
        logits = recurrent.run(cell, weights, x, drift)[0][-1] @ arrays["fc.weight"].T + arrays["fc.bias"]
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - np.take_along_axis(logits, y[:, None], 1)[:, 0])

    slopes = np.zeros(states.shape)
    for index in np.ndindex(*states.shape):
        drift = np.zeros(states.shape, complex)
        drift[index] = 1e-30j
        slopes[index] = loss(drift).imag / 1e-30
    saturated = {name: hidden.saturated_share(g, recurrent.BOUNDED[cell][name]) for name, g in gates.items()}
    return float(loss(np.zeros(states.shape))), hidden.mean_norms(states), hidden.mean_norms(slopes), saturated


@pytest.mark.parametrize("cell", recurrent.CELLS)
def test_both_twins_follow_the_definition(cell):
    spec = dataclasses.replace(FLAT["lstm"], cell=cell, features=2, hidden=3)
    x, y = batch_for(spec, examples=4)
    # Strong weights, so that some gates saturate and some do not; not for ReLU, whose state would explode.
    strength = 1.0 if cell == "rnn_relu" else 5.0
    arrays = {path: strength * w.astype(np.float64) for path, w in trained_weights(spec).items()}
    truth = definition(cell, arrays, x.astype(np.float64), y)
    with jax.enable_x64(True):
        for twin in TWINS:
            model = twin.astype(twin.build(spec, seed=0), "float64")
            twin.from_canonical(model, arrays)
            record = twin.hidden_state_norms(model, twin.to_native(x.astype(np.float64)), y)
            assert (record.path, record.cell, record.mode) == ("rnn", cell, "train")
            assert record.loss == pytest.approx(truth[0], rel=1e-9)
            assert record.states == pytest.approx(truth[1], rel=1e-9)
            assert record.gradients == pytest.approx(truth[2], rel=1e-9)
            assert record.saturated == truth[3]
            after = twin.to_canonical(model)
            assert all((after[path] == arrays[path]).all() for path in arrays)
    shares = [share for gate in truth[3].values() for share in gate]
    assert not shares or (max(shares) > 0 and min(shares) < 1)


def test_a_vanishing_gradient_has_a_number():
    """Orthogonal recurrent weights of gain 0.1: a tenth a step, down to where squares are 0 in float32."""
    spec = ModelSpec(
        kind="recurrent", cell="rnn_tanh", features=2, hidden=4, num_classes=2, init="orthogonal", init_number=0.1
    )
    x = 1e-3 * np.random.default_rng(0).standard_normal((3, 28, 2)).astype(np.float32)
    for twin in TWINS:
        record = twin.hidden_state_norms(twin.build(spec, seed=0), twin.to_native(x), np.array([0, 1, 0]))
        ratios = np.array(record.gradients[:-1]) / record.gradients[1:]
        np.testing.assert_allclose(ratios, 0.1, rtol=1e-3)
        assert 0 < record.gradients[0] < 1e-27


class Time(torch.nn.Module):
    """Time first, a start that is not zero, and a loss that sees the second state only."""

    def __init__(self, **options):
        super().__init__()
        self.inner = torch.nn.LSTM(2, 3, **options)
        self.start = torch.nn.Parameter(torch.ones(2, 1, 4, 3))

    def forward(self, x):
        return self.inner(x, (self.start[0], self.start[1]))[0][1]


def test_a_torch_users_own_model():
    torch.manual_seed(0)
    model, x = Time(), torch.randn(5, 4, 2)
    record = gradlab_torch.hidden_state_norms(model, x, torch.tensor([0, 1, 2, 0]))
    states = model.inner(x, (model.start[0], model.start[1]))[0]
    assert record.path == "inner"
    assert record.states == pytest.approx([float(h.norm(dim=1).mean()) for h in states.detach()], rel=1e-5)
    assert record.gradients[:2] > (0.0, 0.0)
    assert record.gradients[2:] == (0.0, 0.0, 0.0)
    assert "forward" not in vars(model.inner)


def test_what_is_not_measured_is_refused():
    y = np.array([0, 1, 0, 1])
    mlp = ModelSpec(kind="mlp", features=2, widths=(2,), num_classes=2)
    for twin in TWINS:
        with pytest.raises(GradlabError, match="no recurrent layer"):
            twin.hidden_state_norms(twin.build(mlp, seed=0), twin.to_native(np.ones((4, 2), np.float32)), y)
    x = torch.randn(5, 4, 2)
    for options in ({"num_layers": 2}, {"bidirectional": True}, {"bias": False}):
        with pytest.raises(GradlabError, match="in one direction"):
            gradlab_torch.hidden_state_norms(Time(**options), x, y)

    class Twice(nnx.Module):
        def __init__(self):
            self.net = gradlab_jax.build(dataclasses.replace(FLAT["gru"], features=4), seed=0)

        def __call__(self, x):
            return self.net.fc(self.net.rnn(self.net.rnn(x))[:, -1])

    with pytest.raises(GradlabError, match=r"2 recurrent layers \(net.rnn, net.rnn\)"):
        gradlab_jax.hidden_state_norms(Twice(), gradlab_jax.to_native(np.ones((4, 2, 4), np.float32)), y)
