"""Wrong backwards are found and placed, in both twins alike; what only looks wrong is told apart."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from benchmarks.planted import FAULTS, in_jax, in_torch
from gradlab_core.records import DerivativeCheck, codec
from parity_tests.conftest import SPECS, batch_for, pair

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1])


class TorchNet(torch.nn.Module):
    """Dense layers with what is tried between them."""

    def __init__(self, middle):
        super().__init__()
        self.a, self.middle, self.b = torch.nn.Linear(4, 4), middle, torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.b(self.middle(torch.relu(self.a(x))))


class NnxNet(nnx.Module):
    def __init__(self, middle):
        rngs = nnx.Rngs(0)
        self.a, self.middle, self.b = nnx.Linear(4, 4, rngs=rngs), middle, nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.b(self.middle(nnx.relu(self.a(x))))


class TorchStep(torch.nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x):
        return self.step(x)


class NnxStep(nnx.Module):
    def __init__(self, step):
        self.step = step

    def __call__(self, x):
        return self.step(x)


def checks(torch_middle, jax_middle, **weights):
    """Of the net with these between its layers, and with the same weights, these among them."""
    ours, theirs = TorchNet(torch_middle), NnxNet(jax_middle)
    weights = gradlab_jax.to_canonical(theirs) | weights
    gradlab_jax.from_canonical(theirs, weights)
    gradlab_torch.from_canonical(ours, gradlab_torch.to_canonical(ours) | weights)
    return (
        gradlab_torch.check_derivatives(ours, torch.from_numpy(X), Y),
        gradlab_jax.check_derivatives(theirs, jnp.asarray(X), Y),
    )


def rows(check):
    return {(row.layer, row.output, row.of): row for row in check.rows}


def test_of_several_wrong_backwards_each_is_placed_and_nothing_else_is_alleged():
    def layers(linear, planted):
        return [planted(linear(), fault) for fault in FAULTS]

    rngs = nnx.Rngs(1)
    for check in checks(
        torch.nn.Sequential(*layers(lambda: torch.nn.Linear(4, 4), in_torch.Planted)),
        nnx.Sequential(*layers(lambda: nnx.Linear(4, 4, rngs=rngs), in_jax.Planted)),
    ):
        places = [layer.lower() for layer in check.wrong]
        assert places == [f"wrong of middle.{i}" for i in reversed(range(len(FAULTS)))]
        assert {row.status for row in check.rows} == {"wrong", "right"}
        assert not check.ok
        # Two of the faults are in what the layer adds too, and one is in that alone.
        odd = [path for path, status in check.parameters.items() if status == "wrong"]
        assert odd == ["middle.0.shift", "middle.1.shift", "middle.4.shift"]
        assert codec.decode(DerivativeCheck, codec.encode(check)) == check
        assert "the first in the backward pass first" in str(check)


@pytest.mark.parametrize("name", ["residual_toy", "transformer", "mlp"])
def test_both_twins_say_the_same_of_right_nets(name):
    spec = SPECS[name]
    models, (x, y) = pair(spec), batch_for(spec, examples=3)
    ours = gradlab_torch.check_derivatives(models[0], torch.from_numpy(x), y)
    theirs = gradlab_jax.check_derivatives(models[1], gradlab_jax.to_native(x), y)
    assert ours.ok
    assert theirs.ok
    assert ours.parameters == theirs.parameters
    ours, theirs = rows(ours), rows(theirs)
    assert list(ours) == list(theirs)
    for key, row in ours.items():
        other = theirs[key]
        assert row.status == other.status, key
        assert row.backward == pytest.approx(other.backward, rel=1e-9, abs=1e-9), key
        # A difference quotient keeps fewer digits than a derivative.
        assert row.difference == pytest.approx(other.difference, rel=1e-7, abs=row.limit), key


STEPS = {
    "power": (lambda x: x**3, lambda x: x**3, "right"),
    "float32": (
        lambda x: x.float().sin().double(),
        lambda x: jnp.sin(x.astype(jnp.float32)).astype(x.dtype),
        "float32",
    ),
    "cut": (lambda x: x.detach(), jax.lax.stop_gradient, "disconnected"),
}


@pytest.mark.parametrize("name", STEPS)
def test_what_is_not_wrong_has_a_name_of_its_own(name):
    ours, theirs, status = STEPS[name]
    for check in checks(TorchStep(ours), NnxStep(theirs)):
        assert check.ok, str(check)
        assert [row.status for row in check.rows if row.layer == "middle"] == [status]


def test_relu_at_its_kink_and_equal_maxima_are_told_from_a_wrong_backward():
    nothing = {"a.weight": np.zeros((4, 4)), "a.bias": np.zeros(4)}
    for check in checks(
        TorchStep(lambda x: x - x.max(1, keepdim=True)[0]), NnxStep(lambda x: x - x.max(1, keepdims=True)), **nothing
    ):
        assert check.ok, str(check)
        assert check.layers("kink") == ("middle", "relu")


def test_two_runs_that_differ_are_random_and_not_wrong():
    generator, count = torch.Generator().manual_seed(0), itertools.count()

    def drawn(x):
        def noise():
            return np.random.default_rng(next(count)).standard_normal(x.shape)

        return x * jax.pure_callback(noise, jax.ShapeDtypeStruct(x.shape, x.dtype), vmap_method="sequential")

    for check in checks(
        TorchStep(lambda x: x * torch.randn(x.shape, generator=generator, dtype=x.dtype)), NnxStep(drawn)
    ):
        assert check.ok, str(check)
        assert check.layers("random") == ("middle",)
        assert {row.status for row in check.rows if row.layer != "middle"} == {"right"}


def test_dropout_draws_the_same_in_every_run_and_is_right():
    for check in checks(torch.nn.Dropout(0.5), nnx.Dropout(0.5, rngs=nnx.Rngs(0))):
        assert {row.status for row in check.rows} == {"right"}, str(check)


def test_a_parameter_on_which_nothing_hangs_is_disconnected():
    unused = TorchStep(lambda x: x), NnxStep(lambda x: x)
    unused[0].weight, unused[1].weight = torch.nn.Parameter(torch.ones(2)), nnx.Param(jnp.ones(2))
    for check in checks(*unused):
        assert check.parameters["middle.weight"] == "disconnected"
        assert check.parameters["a.weight"] == "right"


def test_nan_is_said_and_not_judged():
    for check in checks(TorchStep(lambda x: (x - 9).log()), NnxStep(lambda x: jnp.log(x - 9))):
        assert check.ok
        assert "nonfinite" in {row.status for row in check.rows}


def test_a_wrong_loss_is_the_loss():
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, slope):
            return slope / 2

    @jax.custom_vjp
    def halved(x):
        return x

    halved.defvjp(lambda x: (x, None), lambda _, slope: (slope / 2,))
    net = TorchNet(torch.nn.Identity()), NnxNet(NnxStep(lambda x: x))

    def mse(out, y):
        return ((out - 1) ** 2).mean()

    x = torch.from_numpy(X)
    assert gradlab_torch.check_derivatives(net[0], x, Y, loss=lambda out, y: Halved.apply(mse(out, y))).wrong == (
        "Halved",
    )
    theirs = gradlab_jax.check_derivatives(net[1], jnp.asarray(X), Y, loss=lambda out, y: halved(mse(out, y)))
    assert theirs.wrong == ("halved",)
