"""Before the first step: what activations, products of weights and symmetric starts do to a signal and its gradient.

The definitions are those of `gradlab_core.lab`, in float64 NumPy; regions, theory, bounds and records are there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradlab_core.definitions import symmetry_defect as symmetry
from gradlab_core.definitions.symmetry_defect import SymmetryDefect
from gradlab_core.errors import refuse
from gradlab_core.lab.activations import check_activation
from gradlab_core.lab.products import ProductGrowth, as_growth, draw_matrices
from gradlab_torch.model.functions import FUNCTIONS
from gradlab_torch.model.weights import as_numpy, to_canonical
from gradlab_torch.start.products import log_singular_values


def activation_gradient(name: str, x: torch.Tensor) -> torch.Tensor:
    """f'(x), elementwise, by autograd through PyTorch's own function with its defaults.

    At a kink it is what autograd takes there: 0 for ReLU, ReLU6, hard tanh and hard sigmoid, the left slope for leaky
    ReLU and SELU, 0 and 1 for hard SiLU. Two of PyTorch's derivatives are not exact: softplus is linear from 20 on
    (2e-9), and hard sigmoid's 1/6 is rounded to float32 (5e-9).

    Args:
        name: one of `gradlab_core.lab.activations.ACTIVATIONS`; `gelu` is the exact one, `gelu_tanh` its tanh form.
        x: real floating numbers of any shape.

    Returns:
        Shape, type and device of x; not itself differentiable.

    Raises:
        GradlabError: no such activation, or numbers of another type.

    >>> activation_gradient("relu", torch.tensor([-2.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    check_activation(name)
    right = isinstance(x, torch.Tensor) and x.is_floating_point()
    what = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
    refuse("activation gradient", [] if right else [f"x is a {what}; expected a tensor of real floating numbers"])
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        out = FUNCTIONS[name](leaf)
    return torch.autograd.grad(out, leaf, torch.ones_like(out))[0]


def matrix_product_growth(n: int, size: int, sigma: float, seed: int, *, init: str = "gaussian") -> ProductGrowth:
    """Norms and singular values of A_k⋯A_1 for k = 1 … n, A_k random and independent, as natural logarithms.

    Nothing overflows or underflows at any depth: `gradlab_core.lab.graded` says how. In float64, on the default
    device; on a GPU most of the time goes by in starting small kernels.

    Args:
        n: number of factors.
        size: rows and columns of each.
        sigma: standard deviation of their elements; of `orthogonal` ones the factor before the orthogonal matrix.
        seed: of the matrices, drawn in NumPy: the same in both twins.
        init: `gaussian`, `uniform` (on ±σ√3) or `orthogonal`.

    Raises:
        GradlabError: numbers out of range; all problems in one message.

    >>> growth = matrix_product_growth(100, 4, 1.0, seed=0)
    >>> round(growth.log_frobenius[-1] / 2.302585, 1)  # orders of magnitude
    23.9
    """
    matrices = torch.as_tensor(draw_matrices(n, size, sigma, seed, init=init), device=torch.get_default_device())
    return as_growth(as_numpy(log_singular_values(matrices)), sigma=sigma, seed=seed, init=init)


def symmetry_defect(params: torch.nn.Module | Mapping[str, Any]) -> SymmetryDefect:
    """Which hidden units are tied: copies of one another that no gradient step will ever tell apart.

    `gradlab_core.definitions.symmetry_defect` says what that means. The weights are read as a chain, in their order.

    Args:
        params: a model, or `{path: array or tensor}` in canonical names, layout and order.

    Raises:
        GradlabError: neither of them.

    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    >>> from gradlab_torch import initialize
    >>> initialize(net, "constant", seed=0, number=0.5)
    >>> symmetry_defect(net).layers[0].groups
    ((0, 1, 2),)
    """
    if isinstance(params, torch.nn.Module):
        return symmetry.symmetry_defect(to_canonical(params))
    if isinstance(params, Mapping):
        params = {p: as_numpy(v) if isinstance(v, torch.Tensor) else v for p, v in params.items()}
    return symmetry.symmetry_defect(params)
