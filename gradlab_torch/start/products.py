"""Singular values of long products of matrices, on the device: `gradlab_core.lab.graded`, which says how and why."""

from __future__ import annotations

import torch

from gradlab_core.lab.graded import EPSILON, SWEEPS, rounds

_Pair = tuple[torch.Tensor, torch.Tensor]


def log_singular_values(matrices: torch.Tensor) -> torch.Tensor:
    """ln of the singular values of A_1, A_2A_1, …, A_n⋯A_1 as rows (n, size), largest first; float64."""
    size = matrices.shape[-1]
    pairs = torch.from_numpy(rounds(size)).to(matrices.device)
    scales = matrices.abs().amax(dim=(1, 2))
    scales = torch.where(scales > 0, scales, 1.0)
    basis = torch.eye(size, dtype=matrices.dtype, device=matrices.device)
    logs, rows = basis.new_zeros(size), []
    for factor, shift in zip(matrices / scales[:, None, None], scales.log(), strict=True):
        basis, logs = _multiplied(factor, basis, logs, pairs)
        logs = logs + shift
        rows.append(logs)
    return torch.stack(rows)


def _multiplied(factor: torch.Tensor, basis: torch.Tensor, logs: torch.Tensor, pairs: torch.Tensor) -> _Pair:
    basis, r = torch.linalg.qr(factor @ basis)
    fall = torch.clamp(logs - logs[:, None], max=0).exp().nan_to_num(0.0)  # −Inf − −Inf: singular values that are 0
    columns, logs = _unit((r * fall).triu().T, logs)
    for _ in range(SWEEPS):
        if (columns.T @ columns).fill_diagonal_(0).abs().max() <= len(logs) * 100 * EPSILON:
            break
        for first, second in pairs:
            columns, basis, logs = _rotated(columns, basis, logs, first, second)
    order = torch.argsort(-logs, stable=True)
    return basis[:, order], logs[order]


def _rotated(
    columns: torch.Tensor, basis: torch.Tensor, logs: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every pair of columns made orthogonal."""
    above = logs[first] >= logs[second]
    high, low = torch.where(above, first, second), torch.where(above, second, first)
    both = torch.cat([high, low])
    ratio = (logs[low] - logs[high]).exp().nan_to_num(0.0)
    cosine = (columns[:, high] * columns[:, low]).sum(dim=0)
    apart = 1 - ratio**2
    root = apart + (apart**2 + (2 * ratio * cosine) ** 2).sqrt()
    slope = torch.where(cosine.abs() > EPSILON, 2 * cosine / root, 0.0)
    tangent = slope * ratio
    norm = (1 + tangent**2).rsqrt()
    turned, lengths = _unit(_turned(columns, high, low, norm, tangent * ratio, slope), logs[both])
    basis = basis.index_copy(1, both, _turned(basis, high, low, norm, tangent, tangent))
    return columns.index_copy(1, both, turned), basis, logs.index_copy(0, both, lengths)


def _turned(
    x: torch.Tensor, high: torch.Tensor, low: torch.Tensor, norm: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    return torch.cat([norm * (x[:, high] + up * x[:, low]), norm * (x[:, low] - down * x[:, high])], dim=1)


def _unit(columns: torch.Tensor, logs: torch.Tensor) -> _Pair:
    """Columns of length 1, their lengths moved to the logarithms; a column of zeros stays one."""
    largest = columns.abs().amax(dim=0)  # first, or the squares of small ones would be 0
    columns = columns / torch.where(largest > 0, largest, 1.0)
    lengths = torch.linalg.vector_norm(columns, dim=0)
    return columns / torch.where(lengths > 0, lengths, 1.0), logs + largest.log() + lengths.log()
