"""Norms are differentiable in both twins, with x/‖x‖ as their derivative and 0 at 0; and map over a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradlab_jax
import gradlab_torch

RNG = np.random.default_rng(0)
TREE = {"w": RNG.standard_normal((4, 3)).astype(np.float32), "b": RNG.standard_normal(5).astype(np.float32)}


def torch_gradient(tree):
    leaves = {name: torch.from_numpy(x.copy()).requires_grad_() for name, x in tree.items()}
    found = torch.autograd.grad(gradlab_torch.global_norm(leaves), list(leaves.values()))
    return dict(zip(leaves, (g.numpy() for g in found), strict=True))


def jax_gradient(tree):
    return jax.tree.map(np.asarray, jax.jit(jax.grad(gradlab_jax.global_norm))(jax.tree.map(jnp.asarray, tree)))


@pytest.mark.parametrize("gradient", [torch_gradient, jax_gradient])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_gradient_of_a_norm_is_the_unit_vector(gradient, scale):
    tree = {name: (x * np.float32(scale)).astype(np.float32) for name, x in TREE.items()}
    size = np.sqrt(sum(np.square(x.astype(np.float64)).sum() for x in tree.values()))
    for name, found in gradient(tree).items():
        np.testing.assert_allclose(found, tree[name] / size, rtol=1e-5)


@pytest.mark.parametrize("gradient", [torch_gradient, jax_gradient])
def test_it_is_zero_at_zero(gradient):
    zeros = {name: np.zeros_like(x) for name, x in TREE.items()}
    assert all((found == 0).all() for found in gradient(zeros).values())
    # One leaf of zeros beside another that is not.
    found = gradient({**TREE, "b": zeros["b"]})
    assert (found["b"] == 0).all()
    assert np.isfinite(found["w"]).all()


def test_gradients_of_leaf_norms_agree():
    ours = {name: torch.from_numpy(x.copy()).requires_grad_() for name, x in TREE.items()}
    sum(n**2 for n in gradlab_torch.leaf_norms(ours).values()).backward()

    def total(tree):
        return sum(n**2 for n in gradlab_jax.leaf_norms(tree).values())

    theirs = jax.grad(total)(jax.tree.map(jnp.asarray, TREE))
    for name, x in TREE.items():
        np.testing.assert_allclose(ours[name].grad.numpy(), 2 * x, rtol=1e-5)
        np.testing.assert_allclose(theirs[name], 2 * x, rtol=1e-5)


def test_a_gradient_penalty_can_be_differentiated():
    """The norm of a gradient, differentiated: x³ has the gradient 3x², whose norm has the gradient 18x³/‖3x²‖."""
    x = np.array([1.0, -2.0, 0.5])
    expected = 18 * x**3 / np.linalg.norm(3 * x**2)
    t = torch.tensor(x, requires_grad=True)
    (slope,) = torch.autograd.grad((t**3).sum(), t, create_graph=True)
    (ours,) = torch.autograd.grad(gradlab_torch.global_norm(slope), t)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12)
    with jax.enable_x64(True):
        theirs = jax.grad(lambda x: gradlab_jax.global_norm(jax.grad(lambda x: (x**3).sum())(x)))(jnp.asarray(x))
        np.testing.assert_allclose(theirs, expected, rtol=1e-12)


def test_norms_map_over_a_batch():
    batch = {
        "w": RNG.standard_normal((6, 4, 3)).astype(np.float32),
        "b": RNG.standard_normal((6, 5)).astype(np.float32),
    }
    expected = [np.sqrt(sum(np.square(x[i].astype(np.float64)).sum() for x in batch.values())) for i in range(6)]
    ours = torch.func.vmap(gradlab_torch.global_norm)({n: torch.from_numpy(x) for n, x in batch.items()})
    theirs = jax.vmap(gradlab_jax.global_norm)(jax.tree.map(jnp.asarray, batch))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(theirs, expected, rtol=1e-6)
    slopes = torch.func.vmap(torch.func.grad(gradlab_torch.global_norm))(torch.from_numpy(batch["b"]))
    np.testing.assert_allclose(slopes.numpy(), jax.vmap(jax.grad(gradlab_jax.global_norm))(batch["b"]), rtol=1e-5)


def test_sparse_and_nested_tensors_have_the_norm_of_what_they_store():
    dense = torch.tensor([[0.0, 3.0], [4.0, 0.0]])
    for sparse in (dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csc()):
        assert float(gradlab_torch.global_norm(sparse)) == 5.0
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor([torch.tensor([3.0]), torch.tensor([0.0, 4.0])], layout=layout)
        assert float(gradlab_torch.global_norm(nested)) == 5.0
