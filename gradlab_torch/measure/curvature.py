"""The curvature of the loss on one batch: products of its Hessian with vectors, its largest eigenvalue, its trace.

As in `gradient_flow` the mode is train unless said otherwise: the curvature that the optimizer meets. The algorithms
are those of `gradlab_core.definitions.curvature`; here is the product. One graph of the gradient serves all products,
so that a dropout mask is drawn once and all of them are of one and the same Hessian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gradlab_core.definitions.curvature import (
    HessianEigenvalue,
    HessianTrace,
    check_vectors,
    on_flat,
    top_eigenvalue,
    trace,
)
from gradlab_core.errors import refuse
from gradlab_torch.model.checks import as_labels, check_model_inputs, check_model_labels
from gradlab_torch.model.gradients import Loss
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import own_randomness, private_copy, trainable
from gradlab_torch.model.weights import as_numpy
from gradlab_torch.trees.leaves import Tree, named_leaves

_Product = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def hessian_vector_product(
    model: torch.nn.Module,
    vectors: Tree,
    x: torch.Tensor,
    y: Any,
    *,
    loss: Loss = cross_entropy,
    mode: str = "train",
) -> dict[str, torch.Tensor | None]:
    """`{path: (Hv) of that parameter}` in definition order, H the Hessian of the loss at the model's parameters.

    Args:
        model: any `torch.nn.Module`; left as it was.
        vectors: v, a tree with the paths and shapes of the parameters: `{path: tensor}`, or nested.
        x: input batch, native layout (N, C, spatial…).
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Returns:
        None for a parameter with no path from the loss, whose vector may be None too; 0 is a number.

    Raises:
        GradlabError: vectors that do not fit (the message lists all), a batch with NaN or Inf, labels out of range.

    Source: Pearlmutter 1994, Fast Exact Multiplication by the Hessian.

    >>> layer, x, v = torch.nn.Linear(1, 1, bias=False), torch.tensor([[3.0]]), {"weight": torch.tensor([[2.0]])}
    >>> hessian_vector_product(layer, v, x, torch.ones(1), loss=lambda out, y: ((out - y) ** 2).sum() / 2)
    {'weight': tensor([[18.]])}
    """
    params, connected, product = _hessian(model, x, y, loss, mode)
    directions = dict(named_leaves(vectors))
    shapes = {path: tuple(p.shape) for path, p in params.items()}
    check_vectors(
        {path: None if v is None else tuple(v.shape) for path, v in directions.items()},
        shapes,
        set(params) - set(connected),
    )
    products = dict(zip(connected, product([directions[path] for path in connected]), strict=True))  # type: ignore[misc]
    return {path: products.get(path) for path in params}


def hessian_eigenvalue(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: Any,
    *,
    loss: Loss = cross_entropy,
    mode: str = "train",
    iterations: int = 50,
    seed: int = 0,
) -> HessianEigenvalue:
    """The largest (not: largest in magnitude) eigenvalue of the loss's Hessian, and whether it was found.

    Plain gradient descent is stable along its eigenvector while the learning rate is below 2/value. Stops when the
    residual is small, or after `iterations` products, and says which; each keeps a float64 copy of the parameters on
    the host. The same seed is the same start in both twins. Other arguments as in `hessian_vector_product`.

    Raises:
        GradlabError: bad batch or labels, `iterations` below 1, no parameter with a path to the loss.

    >>> layer, x = torch.nn.Linear(2, 1, bias=False), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    >>> found = hessian_eigenvalue(layer, x, torch.zeros(2), loss=lambda out, y: (out**2).sum() / 2)
    >>> round(found.value, 5), found.converged
    (9.0, True)
    """
    return top_eigenvalue(*_flat(model, x, y, loss, mode), iterations=iterations, seed=seed)


def hessian_trace(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: Any,
    *,
    loss: Loss = cross_entropy,
    mode: str = "train",
    samples: int = 32,
    seed: int = 0,
) -> HessianTrace:
    """`(estimate, standard error)` of the trace of the loss's Hessian, from `samples` products with random signs.

    The same seed is the same probes in both twins. Other arguments as in `hessian_vector_product`.

    Raises:
        GradlabError: bad batch or labels, `samples` below 2, no parameter with a path to the loss.

    >>> layer, x = torch.nn.Linear(2, 1, bias=False), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    >>> hessian_trace(layer, x, torch.zeros(2), loss=lambda out, y: (out**2).sum() / 2)
    HessianTrace(estimate=10.0, standard_error=0.0)
    """
    return trace(*_flat(model, x, y, loss, mode), samples=samples, seed=seed)


def _flat(model: torch.nn.Module, x: torch.Tensor, y: Any, loss: Loss, mode: str) -> Any:
    """The product on flat float64 vectors, and their length."""
    params, connected, product = _hessian(model, x, y, loss, mode)

    def canonical(vectors: list[np.ndarray]) -> list[np.ndarray]:
        return [as_numpy(t) for t in product([torch.from_numpy(v) for v in vectors])]

    return on_flat(canonical, {path: tuple(params[path].shape) for path in connected})


def _hessian(
    model: torch.nn.Module, x: torch.Tensor, y: Any, loss: Loss, mode: str
) -> tuple[dict[str, torch.nn.Parameter], list[str], _Product]:
    """The parameters, the paths of those with a path to the loss, and the product for these."""
    private = private_copy(model, mode)
    params = trainable(private)
    refuse("Hessian", [f"{n} is complex; expected real parameters" for n, p in params.items() if p.is_complex()])
    check_model_inputs(x)
    labels = as_labels(y, x.device)
    with torch.inference_mode(False), torch.enable_grad(), own_randomness(private):
        out = private(x.clone() if x.is_inference() else x)
        if loss is cross_entropy:
            check_model_labels(labels, out)
        value = loss(out, labels.clone() if labels.is_inference() else labels)
        leaves = tuple(params.values())
        slopes = (
            torch.autograd.grad(value, leaves, create_graph=True, allow_unused=True)
            if value.requires_grad
            else (None,) * len(leaves)
        )
    connected = [path for path, slope in zip(params, slopes, strict=True) if slope is not None]
    inner = [params[path] for path in connected]
    # A slope that hangs on no parameter is constant: its row of the Hessian is 0.
    curved = [i for i, s in enumerate(s for s in slopes if s is not None) if s.requires_grad]
    outputs = [s for s in slopes if s is not None and s.requires_grad]

    def product(vectors: list[torch.Tensor]) -> list[torch.Tensor]:
        weights = [vectors[i].to(inner[i]) for i in curved]
        if not curved:
            return [torch.zeros_like(p) for p in inner]
        with torch.inference_mode(False):
            weights = [w.clone() if w.is_inference() else w for w in weights]
            return list(
                torch.autograd.grad(
                    outputs, inner, weights, retain_graph=True, allow_unused=True, materialize_grads=True
                )
            )

    return params, connected, product
