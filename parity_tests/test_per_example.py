"""Norms, noise and signal of single examples' gradients: against the float64 definition, fed by one plain backward
pass an example, in both twins."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import gradient_noise
from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec
from gradlab_jax.measure import per_example as jax_side
from gradlab_torch.measure import per_example as torch_side
from parity_tests import tolerance
from parity_tests.conftest import batch_for, pair
from parity_tests.mlps import TorchMlp, X, Y, mlps

LOGIC = 1e-9
TWINS = {"torch": (gradlab_torch, torch_side), "jax": (gradlab_jax, jax_side)}


def one_by_one(model, x, y, loss=gradlab_torch.cross_entropy):
    """Every example's gradient by a plain backward pass of a batch of one: {path: (N, *shape)}, None without a path."""
    model = gradlab_torch.astype(model, "float64").eval()
    named, rows = dict(model.named_parameters()), []
    for i in range(len(x)):
        example, label = torch.from_numpy(x[i : i + 1]).double(), torch.as_tensor(y[i : i + 1])
        rows.append(torch.autograd.grad(loss(model(example), label), tuple(named.values()), allow_unused=True))
    columns = zip(named, zip(*rows, strict=True), strict=True)
    return {path: None if column[0] is None else torch.stack(column).numpy() for path, column in columns}


def all_three(side, model, x, y, **given):
    """Norms, noise scale and ratios as plain numbers; None stays None."""
    ratios = side.gradient_snr(model, x, y, **given)
    return (
        np.asarray(side.per_example_grad_norms(model, x, y, **given)),
        float(side.gradient_noise_scale(model, x, y, **given)),
        {path: None if value is None else float(value) for path, value in ratios.items()},
    )


def defined(grads):
    return (
        gradient_noise.per_example_grad_norms(grads),
        gradient_noise.gradient_noise_scale(grads),
        gradient_noise.gradient_snr(grads),
    )


def assert_same(found, exact, rel):
    np.testing.assert_allclose(found[0], exact[0], rtol=rel)
    assert found[1] == pytest.approx(exact[1], rel=rel, nan_ok=True)
    assert list(found[2]) == list(exact[2])
    for path, value in exact[2].items():
        assert (found[2][path] is None) == (value is None), path
        assert found[2][path] == (None if value is None else pytest.approx(value, rel=rel, nan_ok=True)), path


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(examples=st.integers(2, 9), size=st.integers(1, 20), lean=st.floats(0.0, 3.0), seed=st.integers(0, 99))
def test_the_definition_is_the_formula(examples, size, lean, seed):
    g = lean + np.random.default_rng(seed).standard_normal((examples, size))
    signal, noise = np.sum(g.mean(0) ** 2), np.sum(np.var(g, axis=0, ddof=1))
    norms, scale, ratios = defined({"w": g[:, : size // 2], "b": g[:, size // 2 :]})
    np.testing.assert_allclose(norms, np.linalg.norm(g, axis=1), rtol=1e-12)
    unbiased = signal - noise / examples
    assert scale == (pytest.approx(noise / unbiased, rel=1e-9) if unbiased > 0 else math.inf)
    assert defined({"w": g})[2]["w"] == pytest.approx(signal / noise, rel=1e-9)
    assert len(ratios) == 2


def test_the_noise_scale_is_unbiased():
    """Known truth: G = (1, …, 1)·μ and unit noise, so tr Σ/‖G‖² is 1/μ², whatever the number of examples."""
    rng = np.random.default_rng(0)
    for examples in (4, 64):
        estimates = [
            gradient_noise.gradient_noise_scale({"w": 0.5 + rng.standard_normal((examples, 2000))}) for _ in range(50)
        ]
        assert np.mean(estimates) == pytest.approx(1 / 0.25, rel=0.05)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_mlp_against_one_example_at_a_time(dtype):
    models = mlps()
    exact = defined(one_by_one(models[0], X, Y))
    assert math.isfinite(exact[1])
    with jax.enable_x64(dtype == "float64"):
        found = [
            all_three(side, twin.astype(model, dtype), twin.to_native(X.astype(dtype)), Y)
            for (twin, side), model in zip(TWINS.values(), models, strict=True)
        ]
    # The noise scale subtracts: 1/(snr − 1/N) carries the error of snr, twice that of a norm, this much larger.
    condition = 2 * (1 + exact[1] / len(X))
    for values in found:
        assert_same(values, exact, LOGIC if dtype == "float64" else condition * tolerance.floor(len(X) * 38))
        assert values[0].dtype == dtype


def test_tinynet_with_batch_norm_and_parameters_cut_off():
    spec = ModelSpec(block="preact_noskip", base=2, layers=(1, 1))
    x, y = batch_for(spec, examples=3)
    models = pair(spec)
    exact = defined(one_by_one(models[0], x, y))
    cut = {path for path, value in exact[2].items() if value is None}
    assert cut == {"stage2.0.down.weight"}
    with jax.enable_x64(True):
        for (twin, side), model in zip(TWINS.values(), models, strict=True):
            wide, native = twin.astype(model, "float64"), twin.to_native(x.astype(np.float64))
            ratios = side.gradient_snr(wide, native, y)
            assert [path for path, value in ratios.items() if value is None] == list(cut)
            for path, value in exact[2].items():
                assert value is None or float(ratios[path]) == pytest.approx(value, rel=LOGIC), path
            assert list(ratios) == list(exact[2])
            np.testing.assert_allclose(np.asarray(side.per_example_grad_norms(wide, native, y)), exact[0], rtol=LOGIC)
            before, after = twin.to_canonical(wide), twin.to_canonical(model)
            assert all(np.array_equal(before[path], after[path]) for path in before)  # measuring changed nothing


def linear(out, y):
    """The gradient of each example is y·x (weight) and y (bias): magnitudes are dialled in through the labels."""
    return (out * y[:, None]).sum()


def lines():
    return torch.nn.Linear(3, 1), nnx.Linear(3, 1, rngs=nnx.Rngs(0))


def measure(x, y):
    """`all_three` of both twins on a linear layer with these labels; x and y float32."""
    return [
        all_three(side, model, twin.to_native(np.asarray(x, np.float32)), np.asarray(y, np.float32), loss=linear)
        for (twin, side), model in zip(TWINS.values(), lines(), strict=True)
    ]


@pytest.mark.parametrize("magnitude", [1e-34, 1e-25, 1.0, 1e25, 1e37])
def test_over_the_whole_range_of_float32(magnitude):
    x = np.random.default_rng(1).standard_normal((100, 3)).astype(np.float32)  # at 1e37 their sum does not fit
    y = np.linspace(0.5, 1.5, 100).astype(np.float32) * np.float32(magnitude)
    grads = {"weight": (x * y[:, None]).astype(np.float64), "bias": y.astype(np.float64)}
    for found in measure(x, y):
        assert_same(found, defined(grads), 1e-5)


def test_all_zero_gradients_have_no_signal():
    for norms, scale, ratios in measure(X, np.zeros(6)):
        assert norms.tolist() == [0.0] * 6
        assert (scale, ratios) == (math.inf, {"weight": 0.0, "bias": 0.0})


def test_equal_gradients_have_no_noise():
    for examples in (3, 6):  # a mean over 3 is rounded; nothing may be left of that
        for _, scale, ratios in measure(np.repeat(X[:1], examples, axis=0), np.full(examples, 0.1)):
            assert (scale, ratios) == (0.0, {"weight": math.inf, "bias": math.inf})


def test_opposite_gradients_leave_only_noise():
    for _, scale, ratios in measure(np.repeat(X[:1], 6, axis=0), [1, -1, 1, -1, 1, -1]):
        assert (scale, ratios) == (math.inf, {"weight": 0.0, "bias": 0.0})


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_shows_and_stays_in_its_example(bad):
    y = np.ones(6)
    y[2] = bad
    for norms, scale, ratios in measure(X, y):
        assert np.isfinite(np.delete(norms, 2)).all()
        assert math.isnan(norms[2]) if math.isnan(bad) else math.isinf(norms[2])
        assert math.isnan(scale)
        assert all(map(math.isnan, ratios.values()))
    grads = {"weight": X * y[:, None], "bias": y}
    with np.errstate(invalid="ignore"):
        assert math.isnan(gradient_noise.gradient_noise_scale(grads))


def test_examples_do_not_influence_each_other():
    """Batch normalisation and dropout would: in train mode the same comparison fails, as it must."""

    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.a, self.bn = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
            self.drop, self.b = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, x):
            return self.b(self.drop(jnp.tanh(self.bn(self.a(x)))))

    torch_net = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Tanh(), torch.nn.Linear(4, 3)
    )
    changed = X.copy()
    changed[1:] *= 5
    for (twin, side), model in zip(TWINS.values(), (torch_net, Net()), strict=True):
        norms = [np.asarray(side.per_example_grad_norms(model, twin.to_native(x), Y)) for x in (X, X, changed)]
        assert np.array_equal(norms[0], norms[1])
        assert norms[0][0] == pytest.approx(norms[2][0], rel=1e-5)
        assert norms[0][1] != pytest.approx(norms[2][1], rel=1e-2)
    coupled = []
    for x in (X, changed):
        torch.manual_seed(0)
        out = torch_net.train()(torch.from_numpy(x))
        slopes = torch.autograd.grad(gradlab_torch.cross_entropy(out[:1], torch.tensor(Y[:1])), torch_net[0].weight)
        coupled.append(float(slopes[0].norm()))
    assert coupled[0] != pytest.approx(coupled[1], rel=1e-2)


def test_frozen_parameters_count():
    model = TorchMlp()
    model.a.weight.requires_grad_(False)
    assert float(torch_side.gradient_snr(model, torch.from_numpy(X), Y)["a.weight"]) > 0
    assert model.a.weight.grad is None


@pytest.mark.parametrize("name", TWINS)
def test_a_loss_of_ones_own_sees_one_example(name):
    twin, side = TWINS[name]
    model = mlps()[list(TWINS).index(name)]
    seen = set()

    def loss(out, y):
        seen.add((tuple(out.shape), tuple(y.shape)))
        return ((out - y) ** 2).sum()

    side.per_example_grad_norms(model, twin.to_native(X), np.ones((6, 3), np.float32), loss=loss)
    assert seen == {((1, 3), (1, 3))}


@pytest.mark.parametrize("name", TWINS)
def test_what_is_refused(name):
    twin, side = TWINS[name]
    model = mlps()[list(TWINS).index(name)]
    x = twin.to_native(X)
    for function in (side.gradient_noise_scale, side.gradient_snr):
        with pytest.raises(GradlabError, match="holds 1 example; expected at least 2"):
            function(model, x[:1], Y[:1])
    for function in (side.per_example_grad_norms, side.gradient_noise_scale, side.gradient_snr):
        with pytest.raises(GradlabError, match="NaN or Inf"):
            function(model, twin.to_native(np.where(X > 1, np.nan, X)), Y)
        with pytest.raises(GradlabError, match="one entry per example"):
            function(model, x, Y[:5])
        with pytest.raises(GradlabError, match="class 3 is out of range"):
            function(model, x, Y + 1)
        with pytest.raises(GradlabError, match="model is a str"):
            function("model", x, Y)
    assert side.per_example_grad_norms(model, x[:1], Y[:1]).shape == (1,)


def test_models_that_vmap_cannot_run_are_measured_one_at_a_time():
    class Recurrent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.fc, self.idle = torch.nn.GRU(3, 4), torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.gru(x.transpose(0, 1))[0][-1])

    model = Recurrent().double()
    x, y = np.random.default_rng(0).standard_normal((4, 5, 3)), np.array([0, 1, 1, 0])
    with pytest.warns(UserWarning, match="one example at a time"):
        found = all_three(torch_side, model, torch.from_numpy(x), y)
    assert_same(found, defined(one_by_one(model, x, y)), LOGIC)


def test_under_jit_and_with_the_model_as_an_argument():
    model, x, y = mlps()[1], jnp.asarray(X), jnp.asarray(Y)
    plain = all_three(jax_side, model, x, y)
    assert_same(jax.jit(lambda x, y: _raw(model, x, y))(x, y), plain, 1e-6)
    assert_same(nnx.jit(_raw)(model, x, y), plain, 1e-6)


def _raw(model, x, y):
    return (
        jax_side.per_example_grad_norms(model, x, y),
        jax_side.gradient_noise_scale(model, x, y),
        jax_side.gradient_snr(model, x, y),
    )


def test_inside_inference_mode():
    with torch.inference_mode():
        norms = torch_side.per_example_grad_norms(TorchMlp(), torch.from_numpy(X), torch.from_numpy(Y))
    assert (norms > 0).all()
