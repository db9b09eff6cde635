"""Jacobians and the init doctor: both twins against each other and the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec
from parity_tests.alike import ZEROS, both, close, convolutions
from parity_tests.conftest import batch_for

DEEP = ModelSpec(kind="mlp", features=24, widths=(24,) * 9, num_classes=20, activation="tanh", init="orthogonal")


def pair(spec):
    return [gradlab_torch.build(spec, seed=1), gradlab_jax.build(spec, seed=1)]


def test_the_doctor_changes_nothing():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.5))
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.random.get_rng_state()
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    gradlab_torch.signal_propagation(net, x)
    gradlab_torch.init_doctor(net, x)
    gradlab_torch.lsuv(net, x)
    gradlab_torch.jacobian_singular_values(net, x[:1], method="lanczos", k=2)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module._forward_hooks for module in net.modules())


def test_jacobians_of_ten_layers():
    models, x = pair(DEEP), batch_for(DEEP, examples=2)[0]
    wide = gradlab_torch.astype(models[0], "float64")
    dense = [
        torch.autograd.functional.jacobian(lambda v: wide(v[None])[0], torch.from_numpy(row).double()).numpy()
        for row in x
    ]
    truth = [np.linalg.svd(matrix, compute_uv=False) for matrix in dense]
    for options, count in (({}, 20), ({"method": "lanczos", "k": 3}, 3)):
        for found in both("jacobian_singular_values", models, x, **options):
            for record, values in zip(found, truth, strict=True):
                assert record.shape == (20, 24)
                assert record.converged
                np.testing.assert_allclose(record.values, values[:count], rtol=1e-6)
                error = 4 * record.mean_squared_error + 1e-12
                assert abs(record.mean_squared - np.mean(values**2)) <= error
    close(*both("jacobian_singular_values", models, x, method="lanczos", seed=4))  # the same start, the same signs
    with pytest.raises(GradlabError, match="expected floating numbers"):
        gradlab_torch.jacobian_singular_values(models[0], torch.ones(1, 24, dtype=torch.int64))


def test_jacobian_of_images_and_without_a_path():
    net = torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Conv2d(2, 2, 3, padding=1))
    flax = nnx.Sequential(nnx.relu, nnx.Conv(2, 2, (3, 3), **ZEROS))
    gradlab_torch.initialize(net, "kaiming_normal", seed=0)
    gradlab_jax.from_canonical(flax, gradlab_torch.to_canonical(net))
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4))
    close(*both("jacobian_singular_values", [net, flax], x, method="lanczos", k=2))

    class Constant(torch.nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 3)

    (found,) = gradlab_torch.jacobian_singular_values(Constant(), torch.ones(1, 2))
    assert found.values == (0.0, 0.0)
    assert found.condition == math.inf


def test_lsuv_and_the_doctor():
    models, x = convolutions()
    gradlab_torch.initialize(models[0], "normal", seed=0, number=1e-3)
    with torch.no_grad():
        for name, p in models[0].named_parameters():
            if name.endswith("bias"):
                p.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(0))
    gradlab_jax.from_canonical(models[1], gradlab_torch.to_canonical(models[0]))
    rows = both("init_doctor", models, x)
    close(*rows)
    assert {row.level for row in rows[0]} == {"bad"}
    repairs = both("lsuv", models, x)
    close(repairs[0].layers, repairs[1].layers)
    for layer in repairs[0].layers:
        assert layer.after == pytest.approx(1.0, rel=1e-9)
        assert layer.before < 0.1
    for name, weights in repairs[0].weights.items():
        np.testing.assert_allclose(weights, repairs[1].weights[name], rtol=1e-6, err_msg=name)
        if name.endswith("bias"):
            np.testing.assert_array_equal(weights, gradlab_torch.to_canonical(models[0])[name])
    gradlab_torch.from_canonical(models[0], repairs[0].weights)
    x = torch.from_numpy(x).float()
    after = gradlab_torch.init_doctor(models[0], x)
    assert {row.level for row in after} == {"good"}

    drawn = gradlab_torch.lsuv(models[0], x, init="orthogonal", seed=3, target=2.0)
    assert all(layer.after == pytest.approx(2.0, rel=1e-5) for layer in drawn.layers)
    zero = torch.nn.Linear(4, 4)
    zero.weight.data.zero_()
    (row,) = gradlab_torch.lsuv(zero, torch.ones(3, 4)).layers
    assert row.factor is None
    assert "draw them anew" in row.note
    for call, message in (
        (lambda: gradlab_torch.lsuv(zero, torch.ones(3, 4), init="constant"), "constant needs one"),
        (lambda: gradlab_torch.lsuv(zero, torch.ones(3, 4), target=-1.0), "target is -1.0"),
        (lambda: gradlab_torch.layer_steps({}, {}, learning_rate=math.nan), "learning_rate is nan"),
    ):
        with pytest.raises(GradlabError, match=message):
            call()


def test_layer_steps():
    arrays = {"a": {"weight": [3.0, 4.0]}, "b": {"weight": [0.0, 0.0]}, "c": {"weight": [1.0, 1.0]}}
    slopes = {"a": {"weight": [0.5, 0.0]}, "b": {"weight": [1.0, 1.0]}, "c": {"weight": None}}
    params, grads = (
        {k: {"weight": None if v["weight"] is None else torch.tensor(v["weight"])} for k, v in tree.items()}
        for tree in (arrays, slopes)
    )
    found = gradlab_torch.layer_steps(params, grads, learning_rate=0.1, trust_coefficient=0.01)
    ratios = gradlab_torch.trust_ratios(params, grads)
    assert [row.trust_ratio for row in found] == [None if r is None else float(r) for r in ratios.values()]
    assert [row.trust_ratio for row in found] == [10.0, 0.0, None]
    assert [row.plain for row in found] == [pytest.approx(0.01), math.inf, None]
    assert [row.lars for row in found] == [pytest.approx(1e-3), 0.0, None]
    with pytest.raises(GradlabError, match="c stands in one tree only"):
        gradlab_torch.layer_steps(params, {"a": grads["a"], "b": grads["b"]}, learning_rate=0.1)
