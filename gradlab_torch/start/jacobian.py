"""Singular values of the Jacobian of a model's output in its input, one example at a time."""

from __future__ import annotations

import numpy as np
import torch

from gradlab_core.lab.jacobian import JacobianSpectrum, Product, check_floating, check_options, spectrum
from gradlab_torch.model.checks import check_logits, check_model_inputs
from gradlab_torch.model.modules import own_randomness, private_copy
from gradlab_torch.model.weights import as_numpy


def jacobian_singular_values(
    model: torch.nn.Module, x: torch.Tensor, *, k: int | None = None, method: str = "exact", seed: int = 0
) -> list[JacobianSpectrum]:
    """The largest singular values of ∂output/∂input, for each example by itself; in eval mode, in which examples do not
    see one another (with batch normalisation it needs running statistics that mean something).

    Args:
        model: any `torch.nn.Module`; left as it was.
        x: input batch, native layout (N, C, spatial…), of floating numbers.
        k: how many; None for all (`exact`) or ten (`lanczos`).
        method: `exact` writes the Jacobian out, a product for each output (or input, if those are fewer); `lanczos`
            finds the largest from products alone, and estimates the mean squared one from random signs.
        seed: of the start and the signs.

    Raises:
        GradlabError: a batch with NaN or Inf or of whole numbers, a Jacobian too large to write out, bad options.

    >>> layer = torch.nn.Linear(2, 2, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
    >>> (found,) = jacobian_singular_values(layer, torch.ones(1, 2))
    >>> found.values, found.condition, found.mean_squared
    ((3.0, 0.5), 6.0, 4.625)
    """
    check_options(k, method, seed)
    private = private_copy(model, "eval")
    check_model_inputs(x)
    check_floating(x.is_floating_point(), x.dtype)
    for parameter in private.parameters():
        parameter.requires_grad_(False)  # their gradients are not asked for
    spectra = []
    for example in x.detach().split(1):
        push, pull, shape = _products(private, example)
        spectra.append(spectrum(push, pull, shape, k=k, method=method, seed=seed))
    return spectra


def _products(model: torch.nn.Module, example: torch.Tensor) -> tuple[Product, Product, tuple[int, int]]:
    """v ↦ Jv, u ↦ Jᵀu and (outputs, inputs). One graph serves all: Jᵀu is linear in u, and its transpose is v ↦ Jv."""
    with torch.inference_mode(False), torch.enable_grad(), own_randomness(model):
        inputs = example.clone().requires_grad_()
        out = check_logits(model(inputs.clone()))
        dummy = torch.zeros_like(out, requires_grad=True)
        (linear,) = (
            torch.autograd.grad(out, inputs, dummy, create_graph=True, materialize_grads=True)
            if out.requires_grad
            else (torch.zeros_like(inputs),)
        )

    def along(outputs: torch.Tensor, leaf: torch.Tensor, direction: np.ndarray) -> np.ndarray:
        if not outputs.requires_grad:  # no path from input to output
            return np.zeros(leaf.numel())
        with torch.inference_mode(False):
            weights = torch.from_numpy(direction).to(outputs).view_as(outputs)
            (slope,) = torch.autograd.grad(
                outputs, leaf, weights, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        return as_numpy(slope).astype(np.float64).ravel()

    return (
        lambda v: along(linear, dummy, v),
        lambda u: along(out, inputs, u),
        (out.numel(), inputs.numel()),
    )
