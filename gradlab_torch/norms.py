"""L2 norms of trees of tensors, right over the whole range of the type and without a sync per tensor.

Plain sums of squares in float32 overflow at 1e19, underflow at 1e-20, and on the CPU lose digits on long tensors:
PyTorch's own total norm of 2²⁶ floats is wrong in the third digit. Here the squares are summed along short rows, the
rows in float64; only when that sum says that range was lost is there a second, rescaled pass.
"""

from __future__ import annotations

import torch

from gradlab_core.errors import GradlabError
from gradlab_torch._tree import Tree, map_leaves, module_of, named_leaves

_ROW = 1024  # elements a row: long enough for full memory speed, short enough for float32 partial sums


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
    return _combine(stacked_norms(_present(tree)))


def leaf_norms(tree: Tree) -> dict[str, torch.Tensor | None]:
    """`{path: ‖·‖₂}` of every tensor, in definition order; None where the leaf is None (a missing gradient).

    >>> {k: v if v is None else float(v) for k, v in leaf_norms({"w": torch.ones(4), "b": None}).items()}
    {'w': 2.0, 'b': None}
    """
    leaves = list(named_leaves(tree))
    sizes = iter(stacked_norms([t for _, t in leaves if t is not None]))
    return {path: None if t is None else next(sizes) for path, t in leaves}


def layer_norms(tree: Tree) -> dict[str, torch.Tensor | None]:
    """`{module path: ‖·‖₂ of all its tensors}`; None where all of a module's leaves are None.

    >>> tree = {"fc": {"weight": torch.tensor([3.0]), "bias": torch.tensor([4.0])}}
    >>> float(layer_norms(tree)["fc"])
    5.0
    """
    groups: dict[str, list[torch.Tensor]] = {}
    for path, size in leaf_norms(tree).items():
        groups.setdefault(module_of(path), []).extend([] if size is None else [size])
    return {module: _combine(torch.stack(sizes)) if sizes else None for module, sizes in groups.items()}


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


def _wide(t: torch.Tensor) -> torch.Tensor:
    """The tensor as real numbers of at least float32."""
    t = t.detach()
    if t.is_complex():
        t = torch.view_as_real(t)
    return t if t.dtype in (torch.float32, torch.float64) else t.to(torch.float32)


def stacked_norms(tensors: list[torch.Tensor]) -> torch.Tensor:
    """‖·‖₂ of each tensor as one vector."""
    if not tensors:
        return torch.zeros(0)
    wide = [_wide(t) for t in tensors]
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in wide) else torch.float32
    if any(t.device.type != "cpu" or t.dtype == torch.float64 for t in wide):
        return torch.stack([_scaled_norm(t).to(dtype) for t in wide])
    squares = _sums_of_squares(wide)
    counts = torch.tensor([t.numel() for t in wide], dtype=torch.float64)
    # Below n·2⁻¹⁰⁰ squares that underflowed could show in the result; above float32's range they are Inf. On the CPU
    # looking costs nothing, so this one branch is taken in Python: a power of two brings the squares back into range.
    lost = ~((squares >= counts * 2.0**-100) & torch.isfinite(squares))
    norms = squares.sqrt()
    for index in lost.nonzero()[:, 0].tolist():
        scale = 2.0**-70 if squares[index] > 1 else 2.0**90
        norms[index] = _sums_of_squares([wide[index] * scale])[0].sqrt() / scale
    return norms.to(dtype)


def _sums_of_squares(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Σx² of each float32 CPU tensor: along rows in float32, and the rows in float64."""
    rows = []
    for t in tensors:
        # A norm does not mind the order of elements, and a channels-last tensor is flat only in its own.
        flat = (t.permute(0, 2, 3, 1) if t.is_contiguous(memory_format=torch.channels_last) else t).reshape(-1)
        whole = flat.numel() - flat.numel() % _ROW
        if whole:
            rows.append(torch.linalg.vector_norm(flat[:whole].view(-1, _ROW), dim=1))
        if whole < flat.numel():
            rows.append(torch.linalg.vector_norm(flat[whole:]).view(1))
    squares = torch.cat(rows).double().square_() if rows else torch.zeros(0, dtype=torch.float64)
    lengths = torch.tensor([-(-t.numel() // _ROW) for t in tensors])
    return torch.segment_reduce(squares, "sum", lengths=lengths, initial=0.0)


def _scaled_norm(t: torch.Tensor) -> torch.Tensor:
    """‖t‖₂ with a safe power-of-two scaling and no branch: on an accelerator a branch would wait for the device."""
    if t.numel() == 0:
        return torch.zeros((), dtype=t.dtype, device=t.device)
    limit = 120 if t.dtype == torch.float32 else 1000  # keeps 2^±exponent itself inside the type
    exponent = torch.frexp(t.abs().amax())[1].clamp(-limit, limit)
    accumulate = t.dtype if t.device.type == "mps" else torch.float64
    size = torch.linalg.vector_norm(torch.ldexp(t, -exponent), dtype=accumulate)
    return torch.ldexp(size, exponent).to(t.dtype)


def _combine(norms: torch.Tensor) -> torch.Tensor:
    """‖·‖₂ of a vector of norms, itself without over- or underflow."""
    return _scaled_norm(norms)
