"""All singular values of long products of matrices, over any range.

The product of 100 Gaussian 4×4 matrices is of order 1e24, and that of 1,000 with standard deviation 1000 of order
1e3200; its smallest singular value is hundreds of orders of magnitude smaller. So neither the product nor its
triangular factor is ever formed. Only the part of its singular value decomposition that the next factor needs is kept:
P = U·diag(eˡ)·Vᵀ without V, with the singular values as logarithms l.

A factor A is multiplied as follows. With QR, A·U = Q·R, and with D = diag(eˡ), largest first, R·D = D·M where
M_ij = R_ij·e^(l_j − l_i) is triangular and not larger than R, because l_j ≤ l_i above the diagonal. One-sided Jacobi
rotations make the columns of Mᵀ·D orthogonal. Each rotation needs only the ratio of two lengths; if this underflows to
0, the rotation becomes a step of Gram-Schmidt. The rotations applied to Q give the new U, and the lengths of the
columns the new l.

Each singular value keeps a relative accuracy of its own: a factor costs about κ(A)·1e-16, however far apart they are.
The usual way, the diagonals of R in a plain QR chain, gives the growth rates in the limit but not the singular values
of a finite product. Sources: Demmel & Veselić 1992 and Drmač & Veselić 2008 for the accuracy of Jacobi
on scaled columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradlab_core.errors import refuse

Array = NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
SWEEPS = 30
"""The most rounds through all pairs of columns. Jacobi needs four to eight, and fewer if lengths differ."""


def log_singular_values(matrices: ArrayLike) -> Array:
    """ln of the singular values of A_1, A_2A_1, …, A_n⋯A_1 as rows (n, size), largest first.

    A product that is singular by its structure may show a very small singular value in place of 0, as everywhere in
    floating point; elements 1e308 times smaller than the largest of their factor count as 0. The time is about
    proportional to n·size⁴: half a second for a thousand 4×4 matrices, and minutes for a thousand of 64×64.

    Raises:
        GradlabError: the argument is not a stack of finite square matrices.

    >>> log_singular_values([[[1e150, 0], [0, 1e-150]]] * 3)[-1].round(1).tolist()
    [1036.2, -1036.2]
    """
    factors = check_matrices(matrices)
    size = factors.shape[1]
    basis, logs, pairs, rows = np.eye(size), np.zeros(size), rounds(size), []
    for scale, factor in scaled(factors):
        basis, logs = _multiplied(factor, basis, logs, pairs)
        logs = logs + scale
        rows.append(logs)
    return np.stack(rows)


def check_matrices(matrices: Any) -> Array:
    """The factors as a float64 array (n, size, size), or an error that says what is wrong."""
    factors = np.asarray(matrices, dtype=np.float64)
    problems = []
    if factors.ndim != 3 or factors.shape[1] != factors.shape[2] or factors.size == 0:
        problems.append(f"shape {factors.shape}; expected (n, size, size), neither of them 0")
    if not np.isfinite(factors).all():
        problems.append("a NaN or an Inf among the elements; expected finite numbers")
    refuse("matrices", problems)
    return factors


def scaled(factors: Array) -> Iterator[tuple[float, Array]]:
    """`(ln s, A/s)` of each factor, where s is its largest element, so that no product of two elements overflows."""
    for factor in factors:
        largest = float(np.abs(factor).max()) or 1.0
        yield float(np.log(largest)), factor / largest


def rounds(size: int) -> NDArray[np.int64]:
    """All pairs of columns, each once, in rounds of pairs that can be rotated at once: (rounds, 2, pairs). Every twin
    takes them in this order.

    >>> rounds(4).tolist()
    [[[0, 1], [3, 2]], [[0, 3], [2, 1]], [[0, 2], [1, 3]]]
    """
    players = list(
        range(size + size % 2)
    )  # with an odd number, one column in each round has a partner that does not exist, and is not rotated
    table = []
    for _ in players[1:]:
        half = len(players) // 2
        pairs = [(a, b) for a, b in zip(players[:half], players[half:][::-1], strict=True) if max(a, b) < size]
        table.append(pairs)
        players = [players[0], players[-1], *players[1:-1]]
    return np.array(table, dtype=np.int64).reshape(len(table), -1, 2).swapaxes(1, 2)


def _multiplied(factor: Array, basis: Array, logs: Array, pairs: NDArray[np.int64]) -> tuple[Array, Array]:
    """The left singular vectors and the logarithms of the singular values after one factor."""
    basis, r = np.linalg.qr(factor @ basis)
    with np.errstate(invalid="ignore"):  # −Inf − −Inf, for singular values that are 0
        fall = np.exp(np.minimum(logs - logs[:, np.newaxis], 0))
    columns, logs = _unit(np.triu(r * np.nan_to_num(fall, nan=0.0)).T, logs)
    for _ in range(SWEEPS):
        cosines = np.abs(columns.T @ columns)
        np.fill_diagonal(cosines, 0)
        if cosines.max() <= len(logs) * 100 * EPSILON:
            break
        for first, second in pairs:
            _rotate(columns, basis, logs, first, second)
    order = np.argsort(-logs, kind="stable")
    return basis[:, order], logs[order]


def _rotate(columns: Array, basis: Array, logs: Array, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
    """Make every pair of columns orthogonal, in place."""
    above = logs[first] >= logs[second]
    high, low = np.where(above, first, second), np.where(above, second, first)
    both = np.concatenate([high, low])
    with np.errstate(invalid="ignore"):
        ratio = np.nan_to_num(np.exp(logs[low] - logs[high]), nan=0.0)
    cosine = np.sum(columns[:, high] * columns[:, low], axis=0)
    apart = 1 - ratio**2
    root = apart + np.sqrt(apart**2 + (2 * ratio * cosine) ** 2)
    turns = np.abs(cosine) > EPSILON
    slope = np.where(turns, 2 * cosine, 0.0) / np.where(turns, root, 1.0)
    tangent = slope * ratio  # of the angle; only the slope has a limit if the ratio is 0
    norm = 1 / np.sqrt(1 + tangent**2)
    columns[:, both], logs[both] = _unit(_turned(columns, high, low, norm, tangent * ratio, slope), logs[both])
    basis[:, both] = _turned(basis, high, low, norm, tangent, tangent)


def _turned(x: Array, high: NDArray[np.int64], low: NDArray[np.int64], norm: Array, up: Array, down: Array) -> Array:
    return np.concatenate([norm * (x[:, high] + up * x[:, low]), norm * (x[:, low] - down * x[:, high])], axis=1)


def _unit(columns: Array, logs: Array) -> tuple[Array, Array]:
    """Scale columns to length 1 and move their lengths to the logarithms. A column of zeros is not changed."""
    largest = np.abs(columns).max(axis=0)  # scaled first, since the squares of small numbers would be 0
    columns = columns / np.where(largest > 0, largest, 1.0)
    lengths = np.linalg.norm(columns, axis=0)
    with np.errstate(divide="ignore"):
        return columns / np.where(lengths > 0, lengths, 1.0), logs + np.log(largest) + np.log(lengths)
