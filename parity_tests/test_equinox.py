"""Modules of Equinox as they are: one example at a time, names and weights as PyTorch has them."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.parity import assert_parity, compare, moved

eqx = pytest.importorskip("equinox")
rng = np.random.default_rng(0)
Y = np.array([0, 1, 1, 0, 1, 0])
KEY = jax.random.key(0)


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(a, b) for a, b in ((5, 6), (6, 6), (6, 2))])

    def forward(self, x):
        return self.layers[2](torch.tanh(self.layers[1](torch.tanh(self.layers[0](x)))))


def mlp():
    return eqx.nn.MLP(5, 2, 6, 2, activation=jnp.tanh, key=KEY)


def torch_cnn():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.GroupNorm(2, 4), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(24, 8, bias=False), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 2),
    )  # fmt: skip


def cnn(approximate=False):
    gelu = eqx.nn.Lambda(lambda x: jax.nn.gelu(x, approximate=approximate))
    return eqx.nn.Sequential([
        eqx.nn.Conv2d(3, 4, 3, key=KEY), eqx.nn.Lambda(jax.nn.relu), eqx.nn.GroupNorm(2, 4), eqx.nn.MaxPool2d(2, 2),
        eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(24, 8, use_bias=False, key=KEY), eqx.nn.LayerNorm(8), gelu,
        eqx.nn.Linear(8, 2, key=KEY),
    ])  # fmt: skip


CASES = {"mlp": (Mlp, mlp, (6, 5)), "cnn": (torch_cnn, cnn, (6, 3, 6, 8))}


def pair(case):
    build, port, shape = CASES[case]
    torch.manual_seed(0)
    net = build()
    weights = moved(gradlab_torch.to_canonical(net), seed=1)
    gradlab_torch.from_canonical(net, weights)
    subject = gradlab_jax.Subject(port())
    assert {n: a.shape for n, a in subject.state().items()} == {n: a.shape for n, a in weights.items()}
    return net, port(), rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_a_module_is_a_subject(case):
    net, port, x = pair(case)
    report = assert_parity(gradlab_torch.Subject(net), gradlab_jax.Subject(port), (x, Y), steps=2)
    layers = {"mlp": {"", "layers.0", "layers.1", "layers.2"}, "cnn": {*"0125678"}}[case]
    assert {row.path for row in report.rows if row.quantity == "activation"} == layers


def test_another_gelu_is_found():
    net, _, x = pair("cnn")
    report = compare(gradlab_torch.Subject(net), gradlab_jax.Subject(cnn(approximate=True)), (x, Y), steps=1)
    assert report.first_divergence.name == "step 0, activation 7"


@pytest.mark.parametrize("case", CASES)
def test_a_module_is_measured_as_the_torch_twin_measures_its_own(case):
    net, port, x = pair(case)
    values = {name: jnp.asarray(a) for name, a in gradlab_torch.to_canonical(net).items()}
    leaves, structure = jax.tree.flatten(port)
    arrays = iter(values.values())
    port = structure.unflatten([next(arrays).reshape(v.shape) if eqx.is_inexact_array(v) else v for v in leaves])
    truth = gradlab_torch.activation_stats(net, torch.as_tensor(x), mode="train")
    found = gradlab_jax.activation_stats(port, jnp.asarray(x), mode="train")
    for a, b in zip(truth, found, strict=True):
        assert (a.kind, a.shape, a.dead_unit_frac) == (b.kind, b.shape, b.dead_unit_frac)
        assert (b.mean, b.rms) == pytest.approx((a.mean, a.rms), rel=1e-4, abs=1e-6)
    flows = gradlab_torch.gradient_flow(net, torch.as_tensor(x), Y), gradlab_jax.gradient_flow(port, x, Y)
    assert list(flows[1].layers) == list(flows[0].layers)
    assert list(flows[1].layers.values()) == pytest.approx(list(flows[0].layers.values()), rel=1e-3)
    assert flows[1].ratio == pytest.approx(flows[0].ratio, rel=1e-3)
    assert gradlab_jax.count_params(port) == gradlab_torch.count_params(net)
    assert gradlab_jax.probe(port, x, Y).shapes == gradlab_torch.probe(net, torch.as_tensor(x), Y).shapes


def dropping():
    return eqx.nn.Sequential([eqx.nn.Linear(5, 2, key=KEY), eqx.nn.Dropout(0.5)])


class Keyed(eqx.Module):
    fc: eqx.nn.Linear

    def __call__(self, x, *, key):
        return self.fc(x)


BAD = {
    "dropout": (dropping, "the Equinox module Sequential wants a key"),
    "a key": (lambda: Keyed(eqx.nn.Linear(5, 2, key=KEY)), "the Equinox module Keyed wants a key"),
    "a state": (lambda: eqx.nn.make_with_state(eqx.nn.BatchNorm)(5, "batch", mode="batch")[0], "wants a state"),
    "nothing to train": (lambda: eqx.nn.Lambda(jnp.tanh), "no floating array"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_told(case):
    build, message = BAD[case]
    with pytest.raises(GradlabError, match=message):
        gradlab_jax.Subject(build()).step(np.ones((6, 5), np.float32), Y, 0)


def test_one_with_a_state_is_a_function():
    """As the error says. Equinox's running variance is that of the batch, PyTorch's that of a sample."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.fc = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))

    class Port(eqx.Module):
        conv: eqx.nn.Conv2d
        bn: eqx.nn.BatchNorm
        fc: eqx.nn.Linear

        def __call__(self, x, state):
            x, state = self.bn(self.conv(x), state)
            return self.fc(jax.nn.relu(x).mean((1, 2))), state

    def build():
        return Port(eqx.nn.Conv2d(3, 4, 3, key=KEY), eqx.nn.BatchNorm(4, "batch", mode="batch", momentum=0.9),
                    eqx.nn.Linear(4, 2, key=KEY))  # fmt: skip

    def apply(module, state, x):
        return jax.vmap(module, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    port = gradlab_jax.Subject(gradlab_jax.Function(apply, *eqx.nn.make_with_state(build)()), layout="NCHW")
    torch.manual_seed(0)
    original = gradlab_torch.Subject(Net())
    names = {"bn.running_mean": "1.0", "bn.running_var": "1.1"}  # Equinox keeps its state in a list
    port.load({names.get(name, name): array for name, array in original.state().items()})
    batch = rng.standard_normal((6, 3, 7, 8)).astype(np.float32), Y, 0
    truth, found = original.step(*batch), port.step(*batch)
    for key, value in truth.items():
        if key.path != "bn.running_var":
            twin = found[key._replace(path=names.get(key.path, key.path))]
            np.testing.assert_allclose(twin, value, rtol=1e-3, atol=1e-5, err_msg=str(key))


def test_dropout_is_no_hindrance_where_it_does_nothing():
    gradlab_jax.activation_stats(dropping(), jnp.ones((6, 5)), mode="eval")


def test_nobody_imports_it_for_you():
    code = """
import sys, gradlab_jax
from flax import nnx
gradlab_jax.Subject(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
print('equinox' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
