"""Which loss a model's answers went into, told from the answers and the gradient of the loss with respect to them.

Nobody hands a monitor the targets, and the loss function is anybody's. But the gradient at the answers z shows both:
of a softmax cross-entropy it is c·(softmax(z) − onehot(y)), of a binary cross-entropy c·(σ(z) − y) with y of 0 and 1,
of a squared error 2a·(z − y)/m. Where one of these explains every element, the loss is that one, and y is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from gradlab_core.records import Answers, TensorStats

TOLERANCE = 1e-3
"""Largest part of the gradient, as a norm, that the loss which is recognised may leave unexplained, in float32."""

TOLERANCE_HALF = 3e-2
"""The same for answers or gradients in float16 and bfloat16, whose elements are off by up to 2⁻⁸."""

SAMPLED = 1 << 22
"""Elements that are looked at at most, as whole rows from the start: a loss is the same in every row."""


def softmax_figures(z: np.ndarray, g: np.ndarray) -> dict[str, float]:
    """What speaks for a softmax cross-entropy; rows of `z` and `g` are examples, columns classes. Rows whose gradient
    is 0 throughout (padding that is masked) do not count.

    >>> z = np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    >>> figures = softmax_figures(z, (p - np.array([[1.0, 0.0], [0.0, 1.0]])) / 2)
    >>> {name: round(value, 3) for name, value in figures.items()}
    {'unexplained': 0.0, 'loss': 0.41, 'rows': 2.0, 'apart': 1.0}
    """
    used = (g != 0).any(axis=1)
    label = g.argmin(axis=1)
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    chosen = np.arange(z.shape[1]) == label[:, None]
    expected = np.where(used[:, None], np.exp(log_p) - chosen, 0.0)
    rows = float(used.sum())
    return {
        "unexplained": _unexplained(g, expected),
        "loss": float(-(log_p * chosen).sum(axis=1)[used].sum() / max(rows, 1.0)),
        "rows": rows,
        # How far the answers themselves are from being probabilities.
        "apart": float(max(np.abs(z.sum(axis=1) - 1.0).max(), _outside(z))),
    }


def sigmoid_figures(z: np.ndarray, g: np.ndarray) -> dict[str, float]:
    """What speaks for a binary cross-entropy of each element. An element without gradient does not count.

    >>> z = np.array([[0.0], [2.0]])
    >>> figures = sigmoid_figures(z, (1 / (1 + np.exp(-z)) - np.array([[1.0], [0.0]])) / 2)
    >>> {name: round(value, 3) for name, value in figures.items()}
    {'unexplained': 0.0, 'loss': 1.41, 'rows': 2.0, 'apart': 1.0}
    """
    used, y = g != 0, g < 0
    expected = np.where(used, 0.5 * (np.tanh(0.5 * z) + 1.0) - y, 0.0)
    each = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    rows = float(used.sum())
    return {
        "unexplained": _unexplained(g, expected),
        "loss": float(np.where(used, each, 0.0).sum() / max(rows, 1.0)),
        "rows": rows,
        "apart": float(_outside(z)),
    }


def _outside(z: np.ndarray) -> float:
    """How far the elements are outside of 0 to 1."""
    return float(max(-z.min(), z.max() - 1.0, 0.0))


def _unexplained(g: np.ndarray, expected: np.ndarray) -> float:
    along = np.vdot(g, expected)
    if not along > 0:  # uphill, or nothing to see
        return 1.0
    scale = along / np.vdot(expected, expected)
    return float(np.linalg.norm(g - scale * expected) / np.linalg.norm(g))


def squared_factors(count: int, batch: int) -> dict[str, float]:
    """`{hypothesis: m/(2a)}` of a squared error a/m·Σ(z − y)²: a mean over all elements or over the examples, a sum;
    whole or half. The target is then z − g·m/(2a).

    >>> squared_factors(8, 8)
    {'mean': 4.0, 'half mean': 8.0, 'sum': 0.5, 'half sum': 1.0}
    """
    ways = {"mean": count, "mean of sums": batch, "sum": 1}
    named = {f"{half}{way}": m / (2 * a) for way, m in ways.items() for half, a in (("", 1.0), ("half ", 0.5))}
    factors: dict[str, float] = {}
    for name, factor in named.items():
        if factor not in factors.values():
            factors[name] = factor
    return factors


def squared_error(name: str, count: int, batch: int, square: float) -> float:
    """The loss that this hypothesis gives, from Σg²: a/m·Σ(z − y)² = Σg²·m/(4a).

    >>> squared_error("mean", 8, 8, 0.5)
    1.0
    """
    factor = squared_factors(count, batch)[name]
    return square * factor / 2


def recognised(
    figures: Mapping[str, Mapping[str, float]],
    loss: float | None,
    *,
    columns: Mapping[str, int],
    count: int,
    batch: int,
    half: bool,
    is_squashed: bool,
    targets: Mapping[str, TensorStats],
) -> tuple[Answers | None, TensorStats | None]:
    """The loss that explains the gradient, and the target's statistics where they are known.

    Args:
        figures: those of `softmax_figures` under `softmax` (its classes last) and `softmax1` (classes on the second
            axis), of `sigmoid_figures` under `sigmoid`, and `{"square": Σg²}` under `squared`.
        loss: as the user observed it, None if that never happened; only with it is a squared error recognised.
        columns: the number of classes of each softmax.
        count: the number of elements of the answers; `batch`: of examples; `half`: whether anything is in 16 bits;
            `is_squashed`: whether a sigmoid is known to have made the answers, which may lie within 0 and 1 by chance.
        targets: statistics of z − g·m/(2a) for each of `squared_factors`.
    """
    limit = TOLERANCE_HALF if half else TOLERANCE
    classes = {**columns, "sigmoid": 2}
    ways = [(name, figures[name]) for name in ("softmax", "softmax1", "sigmoid") if name in figures]
    told = [(name, f) for name, f in ways if f["unexplained"] <= limit and _is_told(f, classes[name], loss)]
    if told:
        name, f = min(told, key=lambda way: way[1]["unexplained"])
        answers = Answers(
            loss="binary-cross-entropy" if name == "sigmoid" else "cross-entropy",
            classes=classes[name],
            mean_loss=f["loss"],
            reduction=_reduction(loss, f["loss"], f["rows"]),
            are_probabilities=f["apart"] <= limit and (name != "sigmoid" or is_squashed),
        )
        return answers, None
    if loss is None or "squared" not in figures or not math.isfinite(loss) or loss <= 0:
        return None, None
    for way, target in targets.items():
        guess = squared_error(way, count, batch, figures["squared"]["square"])
        if abs(guess - loss) <= limit * loss:
            reduction = "sum" if way.endswith("sum") else "mean"
            mean = loss * (2.0 if way.startswith("half") else 1.0)
            mean /= {"mean": 1, "mean of sums": count / batch, "sum": count}[way.removeprefix("half ")]
            answers = Answers(
                loss="squared-error", classes=None, mean_loss=mean, reduction=reduction, are_probabilities=False
            )
            return answers, target
    return None, None


def _is_told(figures: Mapping[str, float], classes: int, loss: float | None) -> bool:
    """Whether it says anything that a cross-entropy explains the gradient. One row of two classes has a gradient of one
    number, which every loss explains. And while all answers are 0, as those of a head that begins with 0, the gradient
    of an absolute error or of a hinge is the same: there the loss itself has to agree."""
    if figures["rows"] <= 1 and classes == 2:
        return False
    is_blank = math.isclose(figures["loss"], math.log(classes), rel_tol=TOLERANCE)
    return not is_blank or _reduction(loss, figures["loss"], figures["rows"]) is not None


def _reduction(loss: float | None, mean: float, rows: float) -> str | None:
    """Whether the loss observed is the mean over the rows or their sum; None where it is neither, or not known."""
    if loss is None or not mean > 0:
        return None
    if math.isclose(loss, mean, rel_tol=TOLERANCE_HALF):
        return "mean"
    return "sum" if math.isclose(loss, mean * rows, rel_tol=TOLERANCE_HALF) else None
