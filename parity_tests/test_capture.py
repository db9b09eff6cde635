"""Activations are found on any model, however it calls them, and alike in both twins."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import reference

X = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)

PAIRS = {
    "relu": (F.relu, nnx.relu),
    "relu6": (F.relu6, jax.nn.relu6),
    "leaky_relu": (F.leaky_relu, jax.nn.leaky_relu),
    "elu": (F.elu, jax.nn.elu),
    "selu": (F.selu, jax.nn.selu),
    "celu": (F.celu, jax.nn.celu),
    "gelu": (F.gelu, lambda x: jax.nn.gelu(x, approximate=False)),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), jax.nn.gelu),
    "silu": (F.silu, jax.nn.silu),
    "mish": (F.mish, jax.nn.mish),
    "sigmoid": (torch.sigmoid, jax.nn.sigmoid),
    "tanh": (torch.tanh, jnp.tanh),
    "softplus": (F.softplus, jax.nn.softplus),
    "softsign": (F.softsign, jax.nn.soft_sign),
    "log_sigmoid": (F.logsigmoid, jax.nn.log_sigmoid),
    "hard_tanh": (F.hardtanh, jax.nn.hard_tanh),
    "hard_sigmoid": (F.hardsigmoid, jax.nn.hard_sigmoid),
    "hard_silu": (F.hardswish, jax.nn.hard_silu),
}


class TorchOne(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class NnxOne(nnx.Module):
    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return self.function(x)


@pytest.mark.parametrize("kind", PAIRS)
def test_activations_called_as_functions(kind):
    functions = PAIRS[kind]
    torch_rows = gradlab_torch.activation_stats(TorchOne(functions[0]), gradlab_torch.to_native(X), mode="eval")
    jax_rows = gradlab_jax.activation_stats(NnxOne(functions[1]), gradlab_jax.to_native(X), mode="eval")
    out = functions[0](torch.from_numpy(X)).numpy()
    expected = reference.activation_stats(out, path="", kind=kind)
    for rows in (torch_rows, jax_rows):
        (row,) = rows
        assert (row.path, row.kind, row.call, row.shape) == ("", kind, 0, X.shape)
        for field in ("mean", "std", "min", "max", "rms", "zero_frac", "saturated_frac", "dead_unit_frac"):
            value, truth = getattr(row, field), getattr(expected, field)
            assert (value is None) == (truth is None), field
            assert value is None or value == pytest.approx(truth, rel=1e-5, abs=1e-5), field


class TorchBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.GroupNorm(2, 4)
        self.fc = torch.nn.Linear(4, 4)

    def forward(self, x):
        x = F.relu(self.norm(F.relu(self.first(x))))
        x = self.fc(x.mean((2, 3)))
        return torch.tanh(self.fc(torch.tanh(x)))


class NnxBlock(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Conv(3, 4, (3, 3), padding=1, rngs=rngs)
        self.norm = nnx.GroupNorm(4, num_groups=2, epsilon=1e-5, rngs=rngs)
        self.fc = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(nnx.relu(self.first(x))))
        x = self.fc(x.mean((1, 2)))
        return jnp.tanh(self.fc(jnp.tanh(x)))


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        fc = nn.Dense(4, name="fc")
        x = nn.relu(nn.GroupNorm(2, epsilon=1e-5, name="norm")(nn.relu(nn.Conv(4, (3, 3), padding=1, name="first")(x))))
        x = fc(x.mean((1, 2)))
        return jnp.tanh(fc(jnp.tanh(x)))


def places(rows):
    return [(row.path, row.kind, row.call, row.shape) for row in rows]


def test_torch_nnx_and_linen_agree_on_paths_kinds_calls_and_order():
    image, vector = (4, 4, 8, 8), (4, 4)
    expected = [
        ("first", "conv", 0, image),
        ("", "relu", 0, image),
        ("norm", "norm", 0, image),
        ("", "relu", 1, image),
        ("", "tanh", 2, vector),
        ("", "tanh", 3, vector),
    ]
    native = gradlab_jax.to_native(X)
    linen = LinenBlock()
    bound = linen.bind(linen.init(jax.random.key(0), native))
    assert places(gradlab_torch.activation_stats(TorchBlock(), gradlab_torch.to_native(X), mode="train")) == expected
    assert places(gradlab_jax.activation_stats(NnxBlock(), native, mode="train")) == expected
    assert places(gradlab_jax.activation_stats(bound, native, mode="train")) == expected


class Halved(nn.LayerNorm):
    def __call__(self, x):
        return super().__call__(x) / 2


def test_a_layer_that_calls_the_one_it_is_made_from_is_called_once():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 4)))
    bound = Halved().bind(Halved().init(jax.random.key(0), x))
    assert places(gradlab_jax.activation_stats(bound, x, mode="eval")) == [("", "norm", 0, (4, 4))]


def test_nnx_and_linen_give_the_same_flow():
    model = NnxBlock()
    native, labels = gradlab_jax.to_native(X), np.array([0, 1, 2, 3])
    arrays = gradlab_jax.to_canonical(model)
    linen = LinenBlock()
    tree = {
        "first": {"kernel": arrays["first.weight"].transpose(2, 3, 1, 0), "bias": arrays["first.bias"]},
        "norm": {"scale": arrays["norm.weight"], "bias": arrays["norm.bias"]},
        "fc": {"kernel": arrays["fc.weight"].T, "bias": arrays["fc.bias"]},
    }
    a = gradlab_jax.gradient_flow(model, native, labels)
    b = gradlab_jax.gradient_flow(linen.bind({"params": tree}), native, labels)
    assert b.layers == pytest.approx(a.layers, rel=1e-5)
    assert (a.ratio, a.loss) == (pytest.approx(b.ratio, rel=1e-5), pytest.approx(b.loss, rel=1e-6))


def test_linen_batchnorm_in_both_modes():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            return nn.relu(nn.BatchNorm(use_running_average=not train)(x))

    net, native = Net(), gradlab_jax.to_native(X + 3)
    bound = net.bind(net.init(jax.random.key(0), native, train=False))
    means = {m: gradlab_jax.activation_stats(bound, native, mode=m)[0].mean for m in ("train", "eval")}
    assert means["train"] == pytest.approx(0, abs=1e-5)
    assert means["eval"] == pytest.approx(3, abs=0.2)


def test_layers_inside_jit_remat_and_scan_are_found():
    class Inner(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 3, (3, 3), rngs=rngs)

        def __call__(self, x):
            return nnx.relu(self.conv(x))

    class Outer(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.a, self.b = Inner(rngs), Inner(rngs)

        def __call__(self, x):
            x = nnx.jit(lambda m, x: m(x))(self.a, x)
            x = nnx.remat(lambda m, x: m(x))(self.b, x)
            return jax.lax.scan(lambda c, _: (jnp.tanh(c), None), x, None, length=3)[0]

    model, native = Outer(), gradlab_jax.to_native(X)
    rows = gradlab_jax.activation_stats(model, native, mode="eval")
    assert [(r.path, r.kind, r.call) for r in rows] == [
        ("a.conv", "conv", 0),
        ("a", "relu", 0),
        ("b.conv", "conv", 0),
        ("b", "relu", 0),
        ("", "tanh", 0),
        ("", "tanh", 1),
        ("", "tanh", 2),
    ]
    x = nnx.relu(model.b.conv(nnx.relu(model.a.conv(native))))
    for row in rows[4:]:
        x = jnp.tanh(x)
        assert row.mean == pytest.approx(float(x.mean()), rel=1e-4)


def test_layers_in_a_loop_of_unknown_length_are_said_to_be_missing():
    class Loop(nnx.Module):
        def __call__(self, x):
            return jax.lax.while_loop(lambda c: jnp.max(jnp.abs(c)) > 0.1, jnp.tanh, x * 0.2)

    with pytest.warns(UserWarning, match="inside a `while`"):
        assert gradlab_jax.activation_stats(Loop(), gradlab_jax.to_native(X), mode="eval") == []


def test_in_place_activations_falsify_nothing():
    def net(inplace):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3),
            torch.nn.ReLU(inplace),
            torch.nn.BatchNorm2d(4),
            torch.nn.Hardtanh(inplace=inplace),
        )

    rows = [gradlab_torch.activation_stats(net(i), gradlab_torch.to_native(X), mode="train") for i in (False, True)]
    assert rows[0] == rows[1]
    assert rows[0][0].min < 0  # the convolution's own output, not what the ReLU made of it


def test_a_gate_inside_a_glu_is_no_layer():
    assert (
        gradlab_torch.activation_stats(TorchOne(lambda x: F.glu(x[:, :2], 1)), torch.from_numpy(X), mode="eval") == []
    )
    native = gradlab_jax.to_native(X)[..., :2]
    assert gradlab_jax.activation_stats(NnxOne(jax.nn.glu), native, mode="eval") == []


def test_features_last_activations_have_their_channels_last():
    """A sequence model: PyTorch keeps (N, T, F) after a linear layer, and (N, C, L) after a convolution."""
    sequence = np.zeros((2, 5, 3), np.float32)
    dead = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    with torch.no_grad():
        dead[0].weight.zero_()
        dead[0].bias.copy_(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    (row,) = gradlab_torch.activation_stats(dead, torch.from_numpy(sequence), mode="eval")
    assert (row.shape, row.dead_unit_frac) == ((2, 5, 4), 0.25)
    twin = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu)
    twin.layers[0].kernel.set_value(jnp.zeros((3, 4)))
    twin.layers[0].bias.set_value(jnp.array([-1.0, 1.0, 1.0, 1.0]))
    (row,) = gradlab_jax.activation_stats(twin, jnp.asarray(sequence), mode="eval")
    assert (row.shape, row.dead_unit_frac) == ((2, 5, 4), 0.25)
    convolution = torch.nn.Sequential(torch.nn.Conv1d(3, 4, 1), torch.nn.ReLU())
    assert gradlab_torch.activation_stats(convolution, torch.zeros(2, 3, 7), mode="eval")[1].shape == (2, 4, 7)
    twin = nnx.Sequential(nnx.Conv(3, 4, (1,), rngs=nnx.Rngs(0)), nnx.relu)
    assert gradlab_jax.activation_stats(twin, jnp.zeros((2, 7, 3)), mode="eval")[1].shape == (2, 4, 7)


def test_nonfinite_activations_are_counted_and_left_out():
    x = np.abs(X)
    x[0, 0, 0, :3] = -1.0
    x[0, 1, 0, :2] = 0.0
    rows = [
        gradlab_torch.activation_stats(TorchOne(lambda x: F.relu(1 / x)), gradlab_torch.to_native(x), mode="eval")[0],
        gradlab_jax.activation_stats(NnxOne(lambda x: nnx.relu(1 / x)), gradlab_jax.to_native(x), mode="eval")[0],
    ]
    with np.errstate(divide="ignore"):
        expected = reference.activation_stats(np.maximum(1 / x, 0), path="", kind="relu")
    for row in rows:
        assert row.nonfinite == expected.nonfinite == 2
        assert row.mean == pytest.approx(expected.mean, rel=1e-5)


@pytest.mark.parametrize("when", ["raise", "return"])
def test_hooks_and_patches_are_always_removed(when):
    class Raises(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError("inside")

    class NnxRaises(nnx.Module):
        def __call__(self, x):
            raise RuntimeError("inside")

    original = nnx.Conv.__call__
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), Raises() if when == "raise" else torch.nn.ReLU())
    twin = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), NnxRaises() if when == "raise" else nnx.relu)
    net.train()
    for call in (
        lambda: gradlab_torch.activation_stats(net, gradlab_torch.to_native(X), mode="eval"),
        lambda: gradlab_jax.activation_stats(twin, gradlab_jax.to_native(X), mode="eval"),
    ):
        if when == "raise":
            with pytest.raises(RuntimeError, match="inside"):
                call()
        else:
            call()
    assert nnx.Conv.__call__ is original
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert net.training
    assert net[0].training
