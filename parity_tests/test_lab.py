"""The lab in both twins: against the float64 definitions, and against each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.lab import activations, graded, products
from gradlab_core.lab.activations import ACTIVATIONS
from gradlab_core.programs.specs import ModelSpec

TWINS = (gradlab_torch, gradlab_jax)

# What PyTorch's own derivatives miss: 1/6 rounded to float32, and a softplus that is linear from 20 on.
INEXACT = {("hard_sigmoid", "torch"): 5e-9, ("softplus", "torch"): 2.1e-9}
GRID = np.concatenate([np.linspace(-8, 8, 640), [-1e4, -300.0, -50.5, -20.5, 20.5, 50.5, 300.0, 1e4]])


@jax.jit
def jax_gradients(x):
    return {name: gradlab_jax.activation_gradient(name, x) for name in ACTIVATIONS}


def test_activation_gradients_are_those_of_the_definition():
    kinks = {name: np.array(a.kinks) for name, a in ACTIVATIONS.items() if a.kinks}
    x = np.concatenate([GRID, [-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0]])
    with jax.enable_x64(True):
        by_jax = {name: np.asarray(g) for name, g in jax_gradients(jnp.asarray(x)).items()}
    for name in ACTIVATIONS:
        truth = activations.activation_gradient(name, x)
        leaf = torch.tensor(x, requires_grad=True)
        by_torch = gradlab_torch.activation_gradient(name, leaf)
        assert not by_torch.requires_grad
        assert leaf.grad is None
        smooth = ~np.isin(x, kinks.get(name, []))
        for twin, found in (("torch", by_torch.numpy()), ("jax", by_jax[name])):
            assert found.shape == x.shape
            assert found.dtype == np.float64
            limit = INEXACT.get((name, twin), 1e-12)
            assert abs(found - truth)[smooth].max() <= limit, (name, twin)
            if limit > 1e-9:
                assert abs(found - truth)[smooth].max() > 1e-10, f"{name} is exact by now: take it off the list"
            else:
                assert np.linalg.norm((found - truth)[smooth]) <= 1e-9 * np.linalg.norm(truth[smooth])
        # The definition takes at a kink what PyTorch does; where JAX takes another slope is written down.
        for kink in kinks.get(name, []):
            at = np.flatnonzero(x == kink)[0]
            assert by_torch.numpy()[at] == pytest.approx(truth[at], rel=1e-7), (name, kink)
            assert by_jax[name][at] == pytest.approx(activations.JAX_KINKS.get((name, kink), truth[at])), (name, kink)


def test_the_values_are_those_of_the_frameworks():
    """The definition's value too, or its derivative would be that of something else."""
    from gradlab_jax.model.functions import FUNCTIONS as BY_JAX
    from gradlab_torch.model.functions import FUNCTIONS as BY_TORCH

    assert list(BY_TORCH) == list(BY_JAX) == list(ACTIVATIONS)
    x = GRID[np.abs(GRID) <= 60].astype(np.float32)
    by_jax = jax.jit(lambda x: {name: f(x) for name, f in BY_JAX.items()})(jnp.asarray(x))
    for name, function in BY_TORCH.items():
        truth = activations.activation_value(name, x)
        np.testing.assert_allclose(function(torch.from_numpy(x)).numpy(), truth, rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(np.asarray(by_jax[name]), truth, rtol=2e-6, atol=2e-6)


def test_shapes_and_types_are_kept():
    with torch.no_grad():
        found = gradlab_torch.activation_gradient("tanh", torch.zeros(2, 0, 3, dtype=torch.bfloat16))
    assert (found.shape, found.dtype) == ((2, 0, 3), torch.bfloat16)
    found = gradlab_jax.activation_gradient("tanh", jnp.zeros((2, 0, 3), jnp.bfloat16))
    assert (found.shape, found.dtype) == ((2, 0, 3), jnp.bfloat16)
    for twin, whole in ((gradlab_torch, torch.arange(3)), (gradlab_jax, jnp.arange(3))):
        with pytest.raises(GradlabError, match=r"x is a .*int.*; expected a"):
            twin.activation_gradient("relu", whole)
        with pytest.raises(GradlabError, match="x is a list; expected a"):
            twin.activation_gradient("relu", [1.0])
        with pytest.raises(GradlabError, match="name is 'rely'; expected one of relu"):
            twin.activation_gradient("rely", whole)


@pytest.mark.parametrize(("n", "size", "sigma"), [(1000, 4, 1e3), (1000, 4, 1e-3), (40, 5, 0.4)])
def test_products_grow_alike(n, size, sigma):
    for init in products.ENSEMBLES if n < 100 else ("gaussian",):
        truth, *found = (m.matrix_product_growth(n, size, sigma, 1, init=init) for m in (products, *TWINS))
        for growth in found:
            assert np.isfinite(growth.log_singular_values).all()
            for name in ("log_frobenius", "log_spectral", "log_singular_values", "exponents"):
                a, b = (np.array(getattr(record, name)) for record in (growth, truth))
                # Relative errors of 1e-9 in the singular values themselves, e^6900 as they may be.
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
            assert (growth.size, growth.sigma, growth.seed, growth.init) == (size, sigma, 1, init)
    other = products.matrix_product_growth(n, size, sigma, 2)
    assert abs(other.log_frobenius[-1] - truth.log_frobenius[-1]) > 1e-3  # and other matrices are told apart


def test_singular_factors_in_both_twins():
    from gradlab_jax.start.products import log_singular_values as by_jax
    from gradlab_torch.start.products import log_singular_values as by_torch

    for diagonal in ([1e300, 1e-5, 1e-100, 0.0, 0.0], [0.0] * 5):
        matrices = np.stack([np.diag(diagonal)] * 40)
        truth = graded.log_singular_values(matrices)
        assert np.isneginf(truth[-1, 3:]).all()
        with jax.enable_x64(True):
            found = np.asarray(by_jax(jnp.asarray(matrices)))
        for logs in (found, by_torch(torch.from_numpy(matrices)).numpy()):
            np.testing.assert_allclose(logs, truth, rtol=1e-12)


def test_bad_products_are_refused_alike():
    messages = []
    for twin in TWINS:
        with pytest.raises(GradlabError) as caught:
            twin.matrix_product_growth(0, 3, float("nan"), 0, init="normal")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "3 problems" in messages[0]


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(kind="mlp", features=5, widths=(6, 6), num_classes=3),
        ModelSpec(kind="mlp", features=5, widths=(6, 6), num_classes=3, init="constant", init_number=0.1),
        ModelSpec(kind="recurrent", cell="gru", features=3, hidden=4, num_classes=2),
        ModelSpec(base=4, layers=(1, 1, 1)),
    ],
    ids=lambda spec: f"{spec.kind}-{spec.init}",
)
def test_ties_are_the_same_in_both_twins(spec):
    found = []
    for twin in TWINS:
        model = twin.build(spec, seed=0)
        found += [twin.symmetry_defect(model), twin.symmetry_defect(twin.to_canonical(model))]
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0].units > 3
    assert (found[0].defect > 0.5) == (spec.init == "constant")


def test_tensors_will_do():
    arrays = {"a.weight": np.ones((3, 2)), "b.weight": np.ones((1, 3))}
    for twin, wrap in ((gradlab_torch, torch.tensor), (gradlab_jax, jnp.asarray)):
        assert twin.symmetry_defect({path: wrap(a) for path, a in arrays.items()}).distinct == 1
        with pytest.raises(GradlabError, match="expected a mapping"):
            twin.symmetry_defect(None)


def tied_mlp():
    """A trained-looking net with copies, and with units that are tied only through copies in the layer before."""
    params = gradlab_torch.to_canonical(
        gradlab_torch.build(ModelSpec(kind="mlp", features=5, widths=(6, 4), activation="tanh", num_classes=3), seed=1)
    )
    for layer, following, a, b in (("fc1", "fc2", 0, 3), ("fc2", "fc3", 1, 2)):
        for name in ("weight", "bias"):
            params[f"{layer}.{name}"][b] = params[f"{layer}.{name}"][a]
        params[f"{following}.weight"][:, b] = params[f"{following}.weight"][:, a]
    # Of fc2's tied units each prefers another of fc1's: the sums are the same, the units are no copies.
    params["fc2.weight"][1, 0], params["fc2.weight"][1, 3] = 0.4, -0.1
    params["fc2.weight"][2, 0], params["fc2.weight"][2, 3] = -0.1, 0.4
    for row in (0, 3):
        params["fc2.weight"][row, 3] = params["fc2.weight"][row, 0]
    return params


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_no_gradient_step_breaks_a_tie_but_dropout_does(optimizer):
    spec = ModelSpec(kind="mlp", features=5, widths=(6, 4), activation="tanh", num_classes=3)
    torch.manual_seed(0)
    for dropout in (0.0, 0.5):
        model = gradlab_torch.build(spec, seed=0).double()
        gradlab_torch.from_canonical(model, tied_mlp())
        before = [layer.groups for layer in gradlab_torch.symmetry_defect(model).layers]
        assert before == [((0, 3),), ((1, 2),)]
        if dropout:
            model.fc2.register_forward_pre_hook(lambda _, inputs: (torch.nn.functional.dropout(inputs[0], 0.5),))
        step = getattr(torch.optim, optimizer)(model.parameters(), lr=0.05)
        for _ in range(20):
            x, y = torch.randn(16, 5, dtype=torch.float64), torch.randint(0, 3, (16,))
            step.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            step.step()
        after = [layer.groups for layer in gradlab_torch.symmetry_defect(model).layers]
        assert after == ([(), ()] if dropout else before)


@pytest.mark.parametrize("twin", [gradlab_torch, gradlab_jax])
def test_the_doctor_is_called_like_the_others(twin):
    spec = ModelSpec(kind="mlp", features=4, widths=(5,), num_classes=2)
    model = twin.build(spec, seed=0)
    x, y = twin.to_native(np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)), np.arange(6) % 2
    assert twin.init_doctor(model, x, y) == twin.init_doctor(model, x)
