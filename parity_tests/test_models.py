"""The kinds of models beside images: dense nets with every activation, recurrent ones with every cell."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core import recurrent
from gradlab_core.errors import GradlabError
from gradlab_core.parity import assert_parity
from gradlab_core.specs import MLP_ACTIVATIONS, ModelSpec, TrainSpec
from parity_tests.conftest import FLAT, batch_for, pair

TWINS = (gradlab_torch, gradlab_jax)
TRAINING = TrainSpec(learning_rate=0.05, momentum=0.9, weight_decay=5e-4, milestones=(10,))


def wide_pair(spec):
    return [twin.astype(model, "float64") for twin, model in zip(TWINS, pair(spec), strict=True)]


@pytest.mark.parametrize("activation", sorted({*MLP_ACTIVATIONS} - {FLAT["mlp"].activation}))
def test_every_activation(activation):
    """One each; training, step by step, is tested with the net in SPECS."""
    spec = dataclasses.replace(FLAT["mlp"], activation=activation, widths=(5, 5))
    x, y = batch_for(spec)
    with jax.enable_x64(True):
        a, b = (
            twin.gradient_flow(model, twin.to_native(x.astype(np.float64)), y)
            for twin, model in zip(TWINS, wide_pair(spec), strict=True)
        )
        tracked = [
            [(row.path, row.kind) for row in twin.activation_stats(model, twin.to_native(x), mode="eval")]
            for twin, model in zip(TWINS, pair(spec), strict=True)
        ]
    assert list(a.layers) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"]
    assert b.layers == pytest.approx(a.layers, rel=1e-9)
    assert b.loss == pytest.approx(a.loss, rel=1e-12)
    expected = [] if activation == "identity" else [("act1", activation), ("act2", activation)]
    assert tracked == [expected, expected]


def test_images_are_flattened_alike():
    spec = ModelSpec(kind="mlp", features=12, widths=(), num_classes=3)
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2)).astype(np.float32)
    logits = [np.asarray(m(twin.to_native(x)).tolist()) for twin, m in zip(TWINS, pair(spec), strict=True)]
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu"])
def test_the_other_cells_train_alike(cell):
    spec = dataclasses.replace(FLAT["lstm"], cell=cell)
    models = pair(spec)
    subjects = [twin.Subject(model, optimizer=TRAINING) for twin, model in zip(TWINS, models, strict=True)]
    report = assert_parity(*subjects, batch_for(spec), steps=20)
    assert report.worst("logic_error") <= 1e-9


@pytest.mark.parametrize("cell", recurrent.CELLS)
def test_the_cells_are_those_of_the_definition(cell):
    spec = dataclasses.replace(FLAT["lstm"], cell=cell)
    x = batch_for(spec)[0].astype(np.float64)
    with jax.enable_x64(True):
        models = wide_pair(spec)
        arrays = gradlab_torch.to_canonical(models[0])
        weights = {path.removeprefix("rnn."): w for path, w in arrays.items() if path.startswith("rnn.")}
        assert tuple(weights) == recurrent.PARAMETERS
        truth = recurrent.run(cell, weights, x)[0].swapaxes(0, 1)
        found = (
            models[0].rnn(gradlab_torch.to_native(x))[0].detach().numpy(),
            np.asarray(models[1].rnn(gradlab_jax.to_native(x))),
        )
    for states in found:
        np.testing.assert_allclose(states, truth, rtol=1e-12, atol=1e-14)


def test_a_batch_of_another_shape_is_refused():
    mlp, net = (dataclasses.replace(FLAT[name], features=3) for name in ("mlp", "gru"))
    for twin in TWINS:
        for spec, shape, wanted in (
            (mlp, (2, 4), r"\(N, 3\)"),
            (net, (2, 3), r"\(N, T, 3\)"),
            (net, (2, 0, 3), "T, 3"),
        ):
            with pytest.raises(GradlabError, match=wanted):
                twin.build(spec, seed=0)(twin.to_native(np.zeros(shape, np.float32)))


def test_a_spec_names_its_start():
    for twin in TWINS:
        arrays = twin.to_canonical(twin.build(ModelSpec(kind="mlp", init="constant", init_number=0.5), seed=0))
        assert {path: set(np.unique(w).tolist()) for path, w in arrays.items()} == {
            path: {0.5} if path.endswith("weight") else {0.0} for path in arrays
        }
    net = gradlab_torch.build(ModelSpec(base=2, layers=(1,), init="normal", init_number=1e-3), seed=0)
    assert net.conv1.weight.std().item() == pytest.approx(1e-3, rel=0.3)
    assert torch.equal(net.bn1.weight, torch.ones(2))
