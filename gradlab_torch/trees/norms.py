"""L2 norms of trees of tensors, right over the whole range of the type and without a sync per tensor."""

from __future__ import annotations

import torch

from gradlab_core.errors import GradlabError
from gradlab_torch.trees.leaves import Tree, map_leaves, module_of, named_leaves
from gradlab_torch.trees.norm_arithmetic import combine, stacked_norms


def global_norm(tree: Tree) -> torch.Tensor:
    """‖·‖₂ of all tensors of a tree taken as one vector.

    Args:
        tree: tensor, module, or nested mapping or sequence of tensors of any shape; None leaves are skipped.

    Returns:
        A 0-d tensor on the tensors' device: float64 if any leaf is float64, else float32. Any NaN gives NaN, any ±Inf
        and no NaN gives Inf, an empty tree gives 0.

    >>> float(global_norm({"a": torch.tensor([3e30]), "b": torch.tensor([4e30])}) / 1e30)
    5.0
    """
    return combine(stacked_norms(_present(tree)))


def leaf_norms(tree: Tree) -> dict[str, torch.Tensor | None]:
    """`{path: ‖·‖₂}` of every tensor, in definition order; None where the leaf is None (a missing gradient).

    >>> {k: v if v is None else float(v) for k, v in leaf_norms({"w": torch.ones(4), "b": None}).items()}
    {'w': 2.0, 'b': None}
    """
    leaves = list(named_leaves(tree))
    sizes = iter(stacked_norms([t for _, t in leaves if t is not None]))
    return {path: None if t is None else next(sizes) for path, t in leaves}


def module_norms(tree: Tree) -> dict[str, torch.Tensor | None]:
    """`{module path: ‖·‖₂ of all its tensors}`; None where all of a module's leaves are None.

    >>> tree = {"fc": {"weight": torch.tensor([3.0]), "bias": torch.tensor([4.0])}}
    >>> float(module_norms(tree)["fc"])
    5.0
    """
    groups: dict[str, list[torch.Tensor]] = {}
    for path, size in leaf_norms(tree).items():
        groups.setdefault(module_of(path), []).extend([] if size is None else [size])
    return {module: combine(torch.stack(sizes)) if sizes else None for module, sizes in groups.items()}


def nonfinite_counts(tree: Tree) -> dict[str, torch.Tensor | None]:
    """`{path: number of NaN and ±Inf elements}` as 0-d int64 tensors; None where the leaf is None.

    >>> int(nonfinite_counts([torch.tensor([1.0, float("nan")])])["0"])
    1
    """
    return {p: None if t is None else t.numel() - torch.isfinite(t).sum() for p, t in named_leaves(tree)}


def clip_by_global_norm(tree: Tree, max_norm: float) -> tuple[Tree, torch.Tensor]:
    """`(tree · min(1, max_norm/‖tree‖), ‖tree‖)`; the input tensors stay as they are.

    A norm that is not finite changes nothing: scaling would turn Inf into NaN and finite elements into 0, and hide
    where the trouble is. Unlike `torch.nn.utils.clip_grad_norm_` there is no 1e-6 in the denominator.

    >>> clipped, size = clip_by_global_norm([torch.tensor([3.0, 4.0])], 1.0)
    >>> float(size), round(float(global_norm(clipped)), 6)
    (5.0, 1.0)
    """
    if not max_norm >= 0:
        raise GradlabError(f"max_norm is {max_norm!r}; expected a number of at least 0")
    size = global_norm(tree)
    factor = torch.where(torch.isfinite(size) & (size > max_norm), max_norm / size, torch.ones_like(size))
    return map_leaves(tree, lambda t: (t * factor.to(t.device)).to(t.dtype)), size


def _present(tree: Tree) -> list[torch.Tensor]:
    return [t for _, t in named_leaves(tree) if t is not None]
