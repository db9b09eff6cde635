"""Signal propagation: both twins against each other, the definitions and theory."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from flax import nnx
from scipy import stats

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.lab import simulation
from gradlab_core.lab.activations import ACTIVATIONS
from gradlab_core.lab.propagation import cotangent, signal
from gradlab_core.lab.random_mlp import RandomMlp, draw_inputs
from gradlab_core.programs.specs import ModelSpec
from parity_tests.alike import LOGIC, TWINS, ZEROS, both, close, convolutions


def test_convolutions_and_labels():
    models, x = convolutions()
    records = both("signal_propagation", models, x)
    close(records[0].layers[0], records[1].layers[0])
    close(records[0].layers[2], records[1].layers[2])
    close(vars(records[0].layers[1]) | {"path": ""}, vars(records[1].layers[1]))  # a function has no path of its own
    layers = records[0].layers
    assert [layer.kind for layer in layers] == ["conv", "relu", "linear"]
    for layer in layers:
        assert abs(layer.output.log_second_moment - layer.expected.centre) < 4 * layer.expected.spread, layer.path
        away = abs(layer.gradient.log_second_moment - layer.expected_gradient.centre)
        assert away <= 4 * layer.expected_gradient.spread, layer.path

    # Against plain autograd: the logits, and the first pre-activations' gradient.
    model, seen = gradlab_torch.astype(models[0], "float64"), []
    first = model.get_submodule(layers[0].path)
    first.register_forward_hook(lambda module, args, out: seen.append(out))
    logits = model(torch.from_numpy(x).double())
    (logits * torch.from_numpy(cotangent(tuple(logits.shape)))).sum().backward(inputs=[*model.parameters(), *seen])
    close(layers[-1].output, signal(logits.detach().numpy()))
    close(layers[0].gradient, signal(seen[0].grad.numpy()))

    y = np.arange(6) % 5
    labelled = gradlab_torch.signal_propagation(models[0], torch.from_numpy(x).float(), y, mode="eval")
    assert labelled.layers[0].gradient.log_second_moment < layers[0].gradient.log_second_moment
    with pytest.raises(GradlabError, match="out of range"):
        gradlab_torch.signal_propagation(models[0], torch.from_numpy(x).float(), y + 99)


class Detach(torch.nn.Module):
    def forward(self, x):
        return x.detach()


class TorchBranch(torch.nn.Module):
    """One layer that nobody uses, and a sum that ends the plain chain."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        h = torch.relu(self.a(x))
        self.b(h)
        return self.c(h) + x


class NnxBranch(nnx.Module):
    def __init__(self):
        self.a, self.b, self.c = (nnx.Linear(8, 8, **ZEROS) for _ in range(3))

    def __call__(self, x):
        h = nnx.relu(self.a(x))
        self.b(h)
        return self.c(h) + x


def test_what_has_no_path_and_what_theory_does_not_know():
    models = [TorchBranch(), NnxBranch()]
    gradlab_torch.initialize(models[0], "kaiming_normal", seed=0)
    gradlab_jax.from_canonical(models[1], gradlab_torch.to_canonical(models[0]))
    x = np.random.default_rng(0).standard_normal((6, 8))
    x[:, 0] = 0.0
    records = both("signal_propagation", models, x)
    close(*records)
    layers = {layer.path: layer for layer in records[0].layers if layer.kind == "linear"}
    assert layers["b"].gradient is None
    assert layers["a"].gradient is not None
    assert layers["b"].expected is not None  # it does take what the ReLU gave
    assert layers["c"].expected is None  # but not what b gave
    assert all(layer.expected_gradient is None for layer in records[0].layers)
    cut = torch.nn.Sequential(torch.nn.Linear(8, 8), Detach(), torch.nn.Linear(8, 2))
    first, last = gradlab_torch.signal_propagation(cut, torch.from_numpy(x).float()).layers
    assert first.expected is not None
    assert (first.gradient, first.expected_gradient) == (None, None)
    assert last.expected_gradient is not None


def test_what_ends_a_chain():
    def chain(*layers, x=None):
        net = torch.nn.Sequential(*layers)
        record = gradlab_torch.signal_propagation(net, torch.ones(4, 30) if x is None else x)
        return [layer.expected is not None for layer in record.layers]

    torch.manual_seed(0)
    first, last = torch.nn.Linear(30, 30), torch.nn.Linear(30, 5)
    assert chain(first, torch.nn.Tanh(), last) == [True, True, True]
    assert chain(first, torch.nn.LeakyReLU(0.3), last) == [True, False, False]  # no slope that theory was told
    assert chain(first, torch.nn.ReLU(), torch.nn.Dropout(0.5), last) == [True, True, False]
    assert chain(first, torch.nn.LayerNorm(30), torch.nn.ReLU(), last) == [True, False, False, False]
    assert chain(torch.nn.Tanh(), first) == [False, False]  # theory speaks of Gaussian inputs of activations
    shifted = torch.nn.Linear(30, 30)
    shifted.weight.data.add_(0.1)
    assert chain(shifted, torch.nn.ReLU(), last) == [False, False, False]
    exploding = torch.nn.Linear(30, 30)
    exploding.weight.data.mul_(1e30)
    assert chain(exploding, torch.nn.ReLU(), exploding, torch.nn.ReLU(), exploding)[:2] == [True, True]
    record = gradlab_torch.signal_propagation(torch.nn.Sequential(exploding, exploding), torch.ones(4, 30))
    overflowed = record.layers[1].output
    assert overflowed.nonfinite == 4 * 30
    assert not math.isfinite(overflowed.log_second_moment)
    assert 2 * math.log(1e30) - 5 < record.layers[0].output.log_second_moment < 2 * math.log(1e30) + 5


def test_one_net_as_model_and_as_definition():
    """`propagate` runs the very weights that `build` gives."""
    net = RandomMlp(widths=(12, 30, 20, 8), activation="gelu", init="torch_default")
    spec = ModelSpec(kind="mlp", features=12, widths=(30, 20), num_classes=8, activation="gelu", init="torch_default")
    model = gradlab_torch.astype(gradlab_torch.build(spec, seed=5), "float64")
    record = gradlab_torch.signal_propagation(model, torch.from_numpy(draw_inputs(net, [5])))
    found = simulation.propagate(net, seeds=[5])
    logs = [layer.output.log_second_moment for layer in record.layers]
    np.testing.assert_allclose(logs[::2], found.preactivations[0], atol=LOGIC)
    np.testing.assert_allclose(logs[1::2], found.activations[0], atol=LOGIC)


def test_propagate_is_the_definition():
    def check(twin, net, *, dtype="float64", tolerance=LOGIC):
        found, defined = twin.propagate(net, seeds=(0, 3), dtype=dtype), simulation.propagate(net, seeds=(0, 3))
        for name in ("preactivations", "activations", "gradients"):
            close = np.isclose(getattr(found, name), getattr(defined, name), rtol=tolerance, atol=tolerance)
            assert close.all(), (net, name)

    for activation in ACTIVATIONS:
        # PyTorch's hard sigmoid has its slope of 1/6 in float32 only.
        tolerance = 1e-6 if activation == "hard_sigmoid" else LOGIC
        net = RandomMlp(widths=(20,) * 6, activation=activation, sigma_w=1.5, sigma_b=0.3)
        check(gradlab_torch, net, tolerance=tolerance)
    check(gradlab_jax, RandomMlp(widths=(20,) * 6, activation="gelu", sigma_w=1.5, sigma_b=0.3))
    for twin in TWINS.values():
        check(
            twin, RandomMlp(widths=(20,) * 201, activation="leaky_relu", sigma_w=1e3), dtype="float32", tolerance=1e-5
        )
    with pytest.raises(GradlabError, match="dtype is 'float16'"):
        gradlab_jax.propagate(RandomMlp(widths=(2, 2), sigma_w=1.0), dtype="float16")


def test_given_only_seeds_the_twins_agree_in_distribution():
    net = RandomMlp(widths=(20,) * 6, activation="tanh", sigma_w=1.5, sigma_b=0.3)
    first, second = range(64), range(1000, 1064)  # no net in common

    def probabilities(one, other):
        for name, layer in (("preactivations", -1), ("activations", 2), ("gradients", 0)):
            yield stats.ks_2samp(getattr(one, name)[:, layer], getattr(other, name)[:, layer]).pvalue

    ours = gradlab_torch.propagate(net, seeds=first)
    assert min(probabilities(ours, gradlab_jax.propagate(net, seeds=second))) > 1e-3
    louder = dataclasses.replace(net, sigma_w=1.3 * net.sigma_w)
    assert max(probabilities(gradlab_torch.propagate(louder, seeds=second), ours)) < 1e-3
