"""Initialisers: the distributions that PyTorch and JAX give under the same names; biases and gates."""

from __future__ import annotations

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions.initializers import INITIALIZERS, Tensor, fans, initial_arrays
from gradlab_core.errors import GradlabError

NUMBERS = {"constant": 0.3}
SHAPES = {"linear": (120, 80), "conv": (40, 16, 3, 3)}


def weight(name, kind, shape, seed=0, number=None):
    tensors = {"w.weight": Tensor(kind, shape), "w.bias": Tensor(kind, shape[:1])}
    return initial_arrays(name, tensors, seed=seed, number=NUMBERS.get(name) if number is None else number)["w.weight"]


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize(
    "layer",
    [
        Tensor("linear", (3, 5)),
        Tensor("conv", (6, 4, 3)),
        Tensor("conv", (6, 2, 3, 2), groups=2),
        Tensor("conv", (4, 6, 2, 3), transposed=True),
    ],
    ids=str,
)
def test_a_layer_by_itself_holds_what_was_drawn(name, layer):
    units = layer.shape[1] if layer.transposed else layer.shape[0]
    tensors = {"weight": layer, "bias": layer._replace(shape=(units,))}
    number = NUMBERS.get(name)
    drawn = initial_arrays(name, tensors, seed=5, number=number)
    other = initial_arrays(name, tensors, seed=6, number=number)
    for twin in (gradlab_torch, gradlab_jax):
        found = importlib.import_module(f"{twin.__name__}.start.initializers").drawn_layer(
            name, layer, seed=5, number=number
        )
        assert found.keys() == drawn.keys()
        for leaf, array in found.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, drawn[leaf], strict=True)
        assert name == "constant" or (found["weight"] != other["weight"]).any()


def test_flax_has_no_transposed_convolution_of_groups():
    layer = Tensor("conv", (4, 3, 2, 2), transposed=True, groups=2)
    assert gradlab_torch.start.initializers.drawn_layer("normal", layer, seed=0)["weight"].shape == layer.shape
    with pytest.raises(GradlabError, match="2 groups; Flax has only those of 1"):
        gradlab_jax.start.initializers.drawn_layer("normal", layer, seed=0)


# σ² as the formulas say, and the bound of what is uniform in units of σ.
VARIANCE = {
    "normal": lambda n_in, n_out: 1e-4,
    "xavier_uniform": lambda n_in, n_out: 2 / (n_in + n_out),
    "xavier_normal": lambda n_in, n_out: 2 / (n_in + n_out),
    "kaiming_uniform": lambda n_in, n_out: 2 / n_in,
    "kaiming_normal": lambda n_in, n_out: 2 / n_in,
    "lecun_normal": lambda n_in, n_out: 1 / n_in,
    "torch_default": lambda n_in, n_out: 1 / (3 * n_in),
}
UNIFORM = {"xavier_uniform", "kaiming_uniform", "torch_default"}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", VARIANCE)
def test_mean_variance_and_bounds(name, kind):
    shape = SHAPES[kind]
    w = np.concatenate([weight(name, kind, shape, seed).ravel() for seed in range(5)]).astype(np.float64)
    sigma = math.sqrt(VARIANCE[name](*fans(shape)))
    # Five standard errors: of the mean σ/√n, of the variance σ²·√((kurtosis − 1)/n).
    kurtosis = 1.8 if name in UNIFORM else 3.0
    assert abs(w.mean()) < 5 * sigma / math.sqrt(w.size)
    assert abs(w.var() / sigma**2 - 1) < 5 * math.sqrt((kurtosis - 1) / w.size)
    if name in UNIFORM:
        assert 0.999 < abs(w).max() / (math.sqrt(3) * sigma) <= 1 + 1e-6
    else:
        assert abs(w).max() > 3.5 * sigma  # not truncated


TORCH = {
    "normal": lambda w: torch.nn.init.normal_(w, std=0.01),
    "xavier_uniform": torch.nn.init.xavier_uniform_,
    "xavier_normal": torch.nn.init.xavier_normal_,
    "kaiming_uniform": lambda w: torch.nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "kaiming_normal": lambda w: torch.nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "lecun_normal": lambda w: torch.nn.init.kaiming_normal_(w, nonlinearity="linear"),
    "torch_default": lambda w: torch.nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
}
# JAX's normal ones are truncated, hence the general form; its fans are of (window…, in, out).
JAX = {
    "normal": jax.nn.initializers.normal(0.01),
    "xavier_uniform": jax.nn.initializers.glorot_uniform(),
    "xavier_normal": jax.nn.initializers.variance_scaling(1.0, "fan_avg", "normal"),
    "kaiming_uniform": jax.nn.initializers.he_uniform(),
    "kaiming_normal": jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "lecun_normal": jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
}


@pytest.mark.parametrize("name", TORCH)
def test_the_distribution_is_that_of_torch_and_jax(name):
    torch.manual_seed(1)
    for kind, shape in SHAPES.items():
        ours = weight(name, kind, shape).ravel()
        assert stats.ks_2samp(ours, TORCH[name](torch.empty(shape)).numpy().ravel()).pvalue > 1e-3
        if name in JAX:
            native = (*shape[2:], shape[1], shape[0])
            theirs = np.asarray(JAX[name](jax.random.key(1), native, jnp.float32))
            assert stats.ks_2samp(ours, theirs.ravel()).pvalue > 1e-3
        # And the test can tell: a fifth more is another distribution.
        assert stats.ks_2samp(ours, 1.2 * TORCH[name](torch.empty(shape)).numpy().ravel()).pvalue < 1e-3


@pytest.mark.parametrize(("kind", "shape"), [("linear", (9, 5)), ("linear", (5, 9)), ("conv", (6, 2, 3, 3))])
def test_orthogonal(kind, shape):
    q = weight("orthogonal", kind, shape, number=1.5).reshape(shape[0], -1).astype(np.float64)
    gram = q.T @ q if q.shape[0] > q.shape[1] else q @ q.T
    np.testing.assert_allclose(gram, 1.5**2 * np.eye(len(gram)), atol=1e-5)


def test_orthogonal_prefers_no_rotation():
    torch.manual_seed(2)
    ours = np.array([weight("orthogonal", "linear", (4, 4), seed) for seed in range(400)])
    theirs = np.array([torch.nn.init.orthogonal_(torch.empty(4, 4)).numpy() for _ in range(400)])
    native = jax.vmap(lambda key: jax.nn.initializers.orthogonal()(key, (4, 4)))(
        jax.random.split(jax.random.key(0), 400)
    )
    for i, j in ((0, 0), (1, 2), (3, 3)):
        assert stats.ks_2samp(ours[:, i, j], theirs[:, i, j]).pvalue > 1e-3
        assert stats.ks_2samp(ours[:, i, j], np.asarray(native)[:, i, j]).pvalue > 1e-3
    assert 0.3 < (np.linalg.det(ours) > 0).mean() < 0.7


@pytest.mark.parametrize("name", INITIALIZERS)
def test_biases(name):
    shape = (400, 100)
    tensors = {"w.weight": Tensor("linear", shape), "w.bias": Tensor("linear", shape[:1])}
    bias = initial_arrays(name, tensors, seed=0, number=NUMBERS.get(name))["w.bias"]
    torch.manual_seed(3)
    if name == "torch_default":
        assert stats.ks_2samp(bias, torch.nn.Linear(100, 400).bias.detach().numpy()).pvalue > 1e-3
    else:
        assert not bias.any()


@pytest.mark.parametrize(
    ("cell", "layer"), [("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU), ("rnn_tanh", torch.nn.RNN)]
)
def test_a_fused_recurrent_weight_is_drawn_gate_by_gate(cell, layer):
    torch.manual_seed(4)
    theirs = {name: p.detach().numpy() for name, p in layer(20, 30).named_parameters()}
    tensors = {name: Tensor(cell, w.shape) for name, w in theirs.items()}
    start = initial_arrays("torch_default", tensors, seed=0)
    for name, w in theirs.items():
        assert abs(start[name]).max() <= 1 / math.sqrt(30)
        assert stats.ks_2samp(start[name].ravel(), w.ravel()).pvalue > 1e-3
    gates = np.split(
        initial_arrays("orthogonal", tensors, seed=0)["weight_hh_l0"], theirs["weight_hh_l0"].shape[0] // 30
    )
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(30), atol=1e-5)
    assert all((gates[0] != gate).any() for gate in gates[1:])
    uniform = initial_arrays("xavier_uniform", tensors, seed=0)
    assert abs(uniform["weight_ih_l0"]).max() == pytest.approx(math.sqrt(6 / (20 + 30)), rel=0.02)
    assert not uniform["bias_hh_l0"].any()
