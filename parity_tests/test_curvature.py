"""Hessian products, largest eigenvalue and trace: against the whole Hessian of small nets, and in both twins."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import curvature
from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec
from gradlab_jax.measure import curvature as jax_side
from gradlab_jax.model.weights import canonical
from gradlab_torch.measure import curvature as torch_side
from parity_tests import tolerance
from parity_tests.conftest import batch_for, pair
from parity_tests.mlps import TorchMlp, X, Y, mlps

LOGIC = 1e-9
TWINS = {"torch": (gradlab_torch, torch_side), "jax": (gradlab_jax, jax_side)}


def whole_hessian(model, x, y, paths):
    """The dense Hessian over these parameters, by automatic differentiation of the flat vector, in train mode."""
    named = dict(model.named_parameters())
    sizes = [named[path].numel() for path in paths]

    def objective(flat):
        pieces = {path: piece.view_as(named[path]) for path, piece in zip(paths, flat.split(sizes), strict=True)}
        return gradlab_torch.cross_entropy(torch.func.functional_call(model, pieces, (x,)), torch.as_tensor(y))

    start = torch.cat([named[path].detach().reshape(-1) for path in paths])
    return torch.autograd.functional.hessian(objective, start).numpy()


def basis_products(name, model, x, y):
    """The whole Hessian, a product for each unit vector, in canonical order and layout."""
    product, size = TWINS[name][1]._flat(model, TWINS[name][0].to_native(x), y, TWINS[name][0].cross_entropy, "train")
    return np.stack([product(unit) for unit in np.eye(size)])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_mlp_against_its_whole_hessian(dtype):
    models, x = mlps(), X.astype(dtype)
    wide = gradlab_torch.astype(models[0], "float64")
    exact = whole_hessian(wide, torch.from_numpy(X).double(), Y, [path for path, _ in wide.named_parameters()])
    values = np.linalg.eigvalsh(exact)
    limit = LOGIC if dtype == "float64" else tolerance.floor(exact.shape[0])
    with jax.enable_x64(dtype == "float64"):
        for (name, (twin, side)), model in zip(TWINS.items(), models, strict=True):
            model, native = twin.astype(model, dtype), twin.to_native(x)
            found = basis_products(name, model, x, Y)
            assert tolerance.error(found, exact) < limit
            top = side.hessian_eigenvalue(model, native, Y)
            assert top.converged
            assert abs(top.value - values[-1]) <= top.residual + limit * values[-1]
            estimate = side.hessian_trace(model, native, Y, samples=200)
            assert abs(estimate.estimate - np.trace(exact)) < 4 * estimate.standard_error
            # The probes are those of the core, in canonical layout.
            defined = curvature.trace(exact.__matmul__, len(exact), samples=200, seed=0)
            assert estimate.estimate == pytest.approx(defined.estimate, rel=10 * limit)
            assert estimate.standard_error == pytest.approx(defined.standard_error, rel=10 * limit)


def test_convolutions_are_canonical():
    """Same probes, so the same figures, only where kernels and linear weights are laid out alike."""
    spec = ModelSpec(kind="residual_toy", base=4, image_size=4)
    x, y = batch_for(spec, examples=4)
    models = pair(spec)
    wide = gradlab_torch.astype(models[0], "float64")
    native = torch.from_numpy(x).double()
    exact = whole_hessian(wide, native, y, [path for path, _ in wide.named_parameters()])
    values = np.linalg.eigvalsh(exact)
    assert np.linalg.norm(exact[: wide.stem.weight.numel()]) > 0.01 * np.linalg.norm(exact)  # the kernels matter
    with jax.enable_x64(True):
        found = [
            (
                side.hessian_eigenvalue(twin.astype(model, "float64"), twin.to_native(x.astype(np.float64)), y, seed=3),
                side.hessian_trace(twin.astype(model, "float64"), twin.to_native(x.astype(np.float64)), y, seed=3),
            )
            for (twin, side), model in zip(TWINS.values(), models, strict=True)
        ]
    assert found[0][0].value == pytest.approx(values[-1], rel=1e-6)
    assert abs(found[0][1].estimate - values.sum()) < 4 * found[0][1].standard_error
    assert found[0][0].iterations == found[1][0].iterations
    assert found[0][0].value == pytest.approx(found[1][0].value, rel=LOGIC)
    assert found[0][1] == pytest.approx(found[1][1], rel=LOGIC)
    other = torch_side.hessian_trace(wide, native, y, seed=4)
    assert other.estimate != pytest.approx(found[0][1].estimate, rel=1e-3)  # so agreement was no matter of course


def test_tinynet_in_train_mode_with_parameters_cut_off():
    """Products against differences of gradients along a direction, batch statistics moving along; and in both twins."""
    spec = ModelSpec(block="preact_noskip", base=3, layers=(1, 1))
    x, y = batch_for(spec, examples=3)
    models = pair(spec)
    cut = {"stage2.0.down.weight"}
    wide = gradlab_torch.astype(models[0], "float64")
    native = torch.from_numpy(x).double()
    rng = np.random.default_rng(0)
    vectors = {path: rng.standard_normal(p.shape) for path, p in wide.named_parameters()}
    found = torch_side.hessian_vector_product(wide, {p: torch.from_numpy(v) for p, v in vectors.items()}, native, y)
    assert {path for path, value in found.items() if value is None} == cut
    assert list(found) == list(vectors)

    def slopes(step):
        moved = gradlab_torch.astype(wide, "float64").train()
        with torch.no_grad():
            for path, p in moved.named_parameters():
                p.add_(torch.from_numpy(vectors[path]), alpha=step)
        loss = gradlab_torch.cross_entropy(moved(native), torch.as_tensor(y))
        kept = {path: p for path, p in moved.named_parameters() if path not in cut}
        return dict(zip(kept, torch.autograd.grad(loss, tuple(kept.values())), strict=True))

    ahead, behind = slopes(1e-6), slopes(-1e-6)
    difference = np.concatenate([((ahead[p] - behind[p]) / 2e-6).ravel() for p in ahead])
    products = np.concatenate([found[p].ravel() for p in ahead])
    assert tolerance.error(difference, products) < 1e-5

    before = gradlab_torch.to_canonical(wide)
    torch_side.hessian_trace(wide, native, y, samples=2)
    assert all(np.array_equal(before[p], a) for p, a in gradlab_torch.to_canonical(wide).items())

    with jax.enable_x64(True):
        model = gradlab_jax.astype(models[1], "float64")
        owners = dict(zip(found, jax_side._owners(model, len(found)), strict=True))
        given = {p: gradlab_jax.model.weights.native(owners[p], v) for p, v in vectors.items()} | dict.fromkeys(cut)
        other = jax_side.hessian_vector_product(model, given, gradlab_jax.to_native(x.astype(np.float64)), y)
    assert list(other) == list(found)
    assert {path for path, value in other.items() if value is None} == cut
    for path in ahead:
        assert tolerance.error(np.asarray(canonical(owners[path], other[path])), found[path].numpy()) < LOGIC, path


@pytest.mark.parametrize("name", TWINS)
def test_vectors_that_do_not_fit(name):
    twin, side = TWINS[name]
    model, array = mlps()[list(TWINS).index(name)], {"torch": torch.zeros, "jax": jnp.zeros}[name]
    with pytest.raises(GradlabError) as caught:
        side.hessian_vector_product(
            model, {"a": {"weight": array((2, 2)), "bias": None}, "c": array(1)}, twin.to_native(X), Y
        )
    for part in (
        "vectors: 5 problems",
        "a.weight has shape (2, 2); expected (",
        "a.bias is None; expected shape (5,): only a parameter with no path to the loss may be left out",
        "b.weight is missing",
        "c is not a parameter of this model",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", TWINS)
def test_what_is_refused(name):
    twin, side = TWINS[name]
    model, x = mlps()[list(TWINS).index(name)], twin.to_native(X)
    for function in (
        side.hessian_eigenvalue,
        side.hessian_trace,
        lambda *a, **k: side.hessian_vector_product(a[0], {}, *a[1:], **k),
    ):
        with pytest.raises(GradlabError, match="NaN or Inf"):
            function(model, twin.to_native(np.where(X > 1, np.nan, X)), Y)
        with pytest.raises(GradlabError, match="class 3 is out of range"):
            function(model, x, Y + 1)
        with pytest.raises(GradlabError, match="mode is 'test'"):
            function(model, x, Y, mode="test")
    constant = {"torch": lambda out, y: torch.zeros(()), "jax": lambda out, y: jnp.zeros(())}[name]
    for function in (side.hessian_eigenvalue, side.hessian_trace):
        with pytest.raises(GradlabError, match="no parameter has a gradient path"):
            function(model, x, Y, loss=constant)


@pytest.mark.parametrize("name", TWINS)
def test_a_loss_without_curvature_is_zero_and_one_that_explodes_is_not(name):
    twin, side = TWINS[name]
    layer = torch.nn.Linear(3, 1) if name == "torch" else nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    x = twin.to_native(X)

    def linear(out, y):
        return (out * y).sum()

    assert side.hessian_eigenvalue(layer, x, np.ones(1, np.float32), loss=linear).value == 0.0
    assert side.hessian_trace(layer, x, np.ones(1, np.float32), loss=linear) == (0.0, 0.0)

    def square(out, y):
        return ((out * y) ** 2).sum()

    found = side.hessian_eigenvalue(layer, x, np.full(1, math.nan, np.float32), loss=square)
    assert math.isnan(found.value)
    assert not found.converged


def test_dropout_is_drawn_once_and_leaves_the_users_randomness_alone():
    """Products of one Hessian are symmetric, uᵀHv = vᵀHu; with a mask for each they are not."""

    class Net(nnx.Module):
        def __init__(self):
            self.a, self.drop = nnx.Linear(3, 8, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1))
            self.b = nnx.Linear(8, 3, rngs=nnx.Rngs(2))

        def __call__(self, x):
            return self.b(self.drop(jnp.tanh(self.a(x))))

    torch_net = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    )
    for name, model in (("torch", torch_net), ("jax", Net())):
        before = torch.get_rng_state()
        product, size = TWINS[name][1]._flat(
            model, TWINS[name][0].to_native(X), Y, TWINS[name][0].cross_entropy, "train"
        )
        u, v = np.random.default_rng(0).standard_normal((2, size))
        assert u @ product(v) == pytest.approx(v @ product(u), rel=1e-4)
        assert torch.equal(before, torch.get_rng_state())
    products = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        products.append(torch_side._flat(torch_net, torch.from_numpy(X), Y, gradlab_torch.cross_entropy, "train")[0])
    assert u @ products[0](v) != pytest.approx(v @ products[1](u), rel=1e-2)


def test_linen_models_and_gradient_states():
    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.tanh(nn.Dense(5)(x))
            return nn.Dense(3)(x)

    module = Linen()
    weights = gradlab_jax.to_canonical(mlps()[1])
    layers = {
        f"Dense_{i}": {"kernel": weights[f"{n}.weight"].T, "bias": weights[f"{n}.bias"]} for i, n in enumerate("ab")
    }
    bound = module.bind({"params": layers})
    expected = torch_side.hessian_eigenvalue(mlps()[0], torch.from_numpy(X), Y)
    found = jax_side.hessian_eigenvalue(bound, jnp.asarray(X), Y)
    assert found.value == pytest.approx(expected.value, rel=curvature.TOLERANCE)
    model = mlps()[1]
    grads = nnx.grad(lambda m: gradlab_jax.cross_entropy(m(jnp.asarray(X)), jnp.asarray(Y)))(model)
    along = jax_side.hessian_vector_product(model, grads, jnp.asarray(X), Y)
    assert set(along) == {"a.weight", "a.bias", "b.weight", "b.bias"}


def test_inside_inference_mode():
    with torch.inference_mode():
        model = TorchMlp()
        plain = torch_side.hessian_eigenvalue(model, torch.from_numpy(X), torch.from_numpy(Y))
        vectors = {path: torch.ones_like(p) for path, p in model.named_parameters()}
        torch_side.hessian_vector_product(model, vectors, torch.from_numpy(X), Y)
    assert plain.converged
