"""How large the applied update is beside the parameters, and which way gradients and updates go."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from gradlab_core.definitions.checks import check_same_paths
from gradlab_core.errors import refuse
from gradlab_torch.trees.leaves import Tree, named_leaves
from gradlab_torch.trees.norm_arithmetic import stacked_norms, wide
from gradlab_torch.trees.norms import global_norm, leaf_norms, module_norms


def update_ratio(params: Tree, updates: Tree) -> torch.Tensor:
    """‖Δθ‖/‖θ‖ over all tensors, Δθ = θ_new − θ_old as really applied; 0/0 is 0, otherwise over 0 is Inf.

    >>> round(float(update_ratio([torch.tensor([3.0, 4.0])], [torch.tensor([0.0, 0.005])])), 6)
    0.001
    """
    return ratio(global_norm(updates), global_norm(params))


def update_ratios(params: Tree, updates: Tree) -> dict[str, torch.Tensor]:
    """`{path: ‖Δθ‖/‖θ‖}` per tensor, in definition order.

    >>> {k: float(v) for k, v in update_ratios({"w": torch.tensor([4.0])}, {"w": torch.tensor([1.0])}).items()}
    {'w': 0.25}
    """
    applied, sizes = _all(leaf_norms(updates)), _all(leaf_norms(params))
    check_same_paths(sizes, applied)
    return {path: ratio(applied[path], sizes[path]) for path in sizes}


def step_ratio(params: Tree, grads: Tree, learning_rate: float | torch.Tensor) -> torch.Tensor:
    """η‖g‖/‖θ‖, what the update ratio would be under plain SGD.

    >>> print(f"{float(step_ratio([torch.tensor([69.77])], [torch.tensor([0.33])], 0.001)):.3g}")
    4.73e-06
    """
    return ratio(learning_rate * global_norm(grads), global_norm(params))


def trust_ratios(params: Tree, grads: Tree) -> dict[str, torch.Tensor | None]:
    """`{module path: ‖θ‖/‖g‖}` per layer; None where no gradient path leads to it.

    Source: You, Gitman & Ginsburg 2017 (LARS).

    >>> params, grads = {"fc": {"weight": torch.tensor([6.0])}}, {"fc": {"weight": torch.tensor([2.0])}}
    >>> {k: float(v) for k, v in trust_ratios(params, grads).items()}
    {'fc': 3.0}
    """
    sizes, slopes = _all(module_norms(params)), module_norms(grads)
    check_same_paths(sizes, slopes)
    return {p: None if (slope := slopes[p]) is None else ratio(size, slope) for p, size in sizes.items()}


def cosine_similarity(tree: Tree, other: Tree) -> torch.Tensor:
    """⟨a, b⟩/(‖a‖‖b‖) of all tensors taken as one vector: of successive gradients or updates, whether they agree.

    NaN if either is zero or not finite; a leaf that is None in either tree is left out of both.

    >>> round(float(cosine_similarity([torch.tensor([3.0, 4.0])], [torch.tensor([4.0, 3.0])])), 6)
    0.96
    """
    a, b = _pairs(tree, other)
    sizes = global_norm(a), global_norm(b)
    parts = [_dot(x, y, sizes[0], sizes[1]) for x, y in zip(a, b, strict=True)]
    return _known(sum(parts, torch.zeros_like(sizes[0])), *sizes)


def cosine_similarities(tree: Tree, other: Tree) -> dict[str, torch.Tensor | None]:
    """`{path: ⟨a, b⟩/(‖a‖‖b‖)}` per tensor, in definition order; None where the leaf is None in either tree.

    >>> cosines = cosine_similarities({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([-2.0, 0.0])})
    >>> {k: float(v) for k, v in cosines.items()}
    {'w': -1.0}
    """
    a, b = dict(named_leaves(tree)), dict(named_leaves(other))
    check_same_paths(a, b)
    both = [p for p, x in a.items() if x is not None and b[p] is not None]
    cosines = dict(zip(both, stacked_cosines(*_pairs(tree, other)), strict=True))
    return {p: cosines.get(p) for p in a}


def distance(params: Tree, origin: Tree) -> torch.Tensor:
    """‖θ − θ₀‖ over all tensors, for example from the initialisation.

    >>> float(distance([torch.tensor([3.0, 1.0])], [torch.tensor([0.0, 5.0])]))
    5.0
    """
    return global_norm(_differences(params, origin))


def distances(params: Tree, origin: Tree) -> dict[str, torch.Tensor]:
    """`{path: ‖θ − θ₀‖}` per tensor, in definition order.

    >>> {k: float(v) for k, v in distances({"w": torch.tensor([3.0])}, {"w": torch.tensor([1.0])}).items()}
    {'w': 2.0}
    """
    return _all(leaf_norms(_differences(params, origin)))


def stacked_cosines(tensors: list[torch.Tensor], others: list[torch.Tensor]) -> torch.Tensor:
    """The cosine of each pair of tensors as one vector."""
    a, b = stacked_norms(tensors), stacked_norms(others)
    pairs = zip(tensors, others, strict=True)
    dots = [_dot(x, y, a[i], b[i]) for i, (x, y) in enumerate(pairs)]
    return _known(torch.stack(dots).to(a.dtype), a, b) if dots else torch.zeros(0)


def ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """numerator/denominator of two norms: 0/0 is 0, anything else over 0 is Inf, NaN stays NaN."""
    empty = (numerator == 0) & (denominator == 0)
    return torch.where(empty, 0.0, numerator / torch.where(empty, 1.0, denominator))


def _all(norms: Mapping[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
    """Norms of parameters or updates, of which none may be missing."""
    missing = [path or "a leaf" for path, norm in norms.items() if norm is None]
    refuse("parameters and updates", [f"{path} is None; expected a tensor" for path in missing])
    return {path: n for path, n in norms.items() if n is not None}


def _pairs(tree: Tree, other: Tree) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The leaves that are there in both trees."""
    a, b = dict(named_leaves(tree)), dict(named_leaves(other))
    check_same_paths(a, b)
    pairs = [(x, y) for p, x in a.items() if x is not None and (y := b[p]) is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _differences(params: Tree, origin: Tree) -> dict[str, torch.Tensor]:
    now, then = _all(dict(named_leaves(params))), _all(dict(named_leaves(origin)))
    check_same_paths(now, then)
    return {path: x.detach() - then[path].detach() for path, x in now.items()}


def _dot(x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """⟨x/a, y/b⟩ for the norms a and b, which keep the products in range."""
    accumulate = torch.float32 if x.device.type == "mps" else torch.float64
    x, y = (wide(t.detach().reshape(1, -1)) for t in (x, y))
    return ((x / a) * (y / b)).sum(dtype=accumulate).to(a.dtype)


def _known(cosines: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """NaN where a norm is zero or not finite."""
    defined = (a > 0) & torch.isfinite(a) & (b > 0) & torch.isfinite(b)
    return torch.where(defined, cosines, torch.nan)
