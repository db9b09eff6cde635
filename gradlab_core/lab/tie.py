"""Why a net must not start from constants: a small net is trained with and without something that parts its units.

The net has one hidden layer of tanh units and one output. It learns a regression on fixed random data by plain SGD,
written by hand in float64 NumPy, since no framework is needed. No sum runs over the axis of the units, so that equal
units are equal to the last bit: a matrix product rounds the columns at its edge differently, and over thousands of
steps that alone would part the units.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from gradlab_core import fields
from gradlab_core.definitions.symmetry_defect import symmetry_defect
from gradlab_core.errors import refuse

Array = NDArray[np.float64]

STARTS = ("constant", "normal")
_EXAMPLES, _BATCH, _FEATURES = 256, 32, 4
_START = 0.5  # the constant of one start, and the standard deviation of the other


@dataclasses.dataclass(frozen=True, kw_only=True)
class TieStep:
    """The net after so many steps: its loss on all data without dropout, the number of distinct units, the share of
    units that are copies, and the distance of the nearest two (`symmetry_defect`), which is None once the net is
    NaN."""

    step: int
    loss: float
    distinct: int
    defect: float
    closest: float | None


def tie_over_steps(
    *, steps: int = 200, every: int = 20, units: int = 8, dropout: float = 0.0, start: str = "constant", seed: int = 0
) -> tuple[TieStep, ...]:
    """Train a net and look at its hidden units every so many steps, and at the start and the end.

    From a constant start every step keeps the units the same, for any data, so a layer of eight learns only what one
    unit can. Dropout gives each unit a gradient of its own, which breaks the tie at the first step.

    Args:
        steps: number of SGD steps, with a learning rate of 0.1 and batches of 32.
        every: how often to look.
        units: number of hidden units, at least 2.
        dropout: probability at which a hidden unit is left out of a step, in [0, 1).
        start: `constant` (all weights 0.5) or `normal` (N(0, 0.25)).
        seed: seed of data, batches, masks and the normal start.

    Raises:
        GradlabError: a number is out of range; one message lists all problems.

    >>> [[s.distinct for s in tie_over_steps(steps=40, dropout=p)] for p in (0.0, 0.5)]
    [[1, 1, 1], [1, 8, 8]]
    """
    problems: list[str] = []
    for name, value, least in (("steps", steps, 0), ("every", every, 1), ("units", units, 2), ("seed", seed, 0)):
        fields.whole_number(problems, name, value, least)
    fields.real(problems, "dropout", dropout, 0.0, 1.0)
    fields.one_of(problems, "start", start, STARTS)
    refuse("tie", problems)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((_EXAMPLES, _FEATURES))
    y = np.sin(x[:, :1]) * x[:, 1:2] + 0.5 * x[:, 2:3]
    shapes = {"fc1.weight": (units, _FEATURES), "fc2.weight": (1, units)}
    drawn = {p: _START * (rng.standard_normal(s) if start == "normal" else np.ones(s)) for p, s in shapes.items()}
    params = {"fc1.weight": drawn["fc1.weight"], "fc1.bias": np.zeros(units), "fc2.weight": drawn["fc2.weight"]}
    seen = []
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # a net with many units, or with nearly all of them dropped, may diverge
        for step in range(steps + 1):
            if step % every == 0 or step == steps:
                seen.append(_look(step, params, x, y))
            batch = rng.integers(0, _EXAMPLES, _BATCH)
            mask = (rng.random((_BATCH, units)) >= dropout) / (1 - dropout)
            grads = _gradients(params, x[batch], y[batch], mask)
            params = {path: params[path] - 0.1 * grads[path] for path in params}
    return tuple(seen)


def _hidden(params: dict[str, Array], x: Array) -> Array:
    """The activations of the hidden units (examples, units)."""
    return np.tanh(sum(np.outer(x[:, j], w) for j, w in enumerate(params["fc1.weight"].T)) + params["fc1.bias"])


def _gradients(params: dict[str, Array], x: Array, y: Array, mask: Array) -> dict[str, Array]:
    """The gradients of the mean of (ŷ − y)²/2."""
    h = _hidden(params, x)
    error = ((h * mask) @ params["fc2.weight"].T - y) / len(x)
    inner = error * params["fc2.weight"] * mask * (1 - h**2)
    return {
        "fc1.weight": np.stack([(inner * column).sum(axis=0) for column in x.T[:, :, np.newaxis]], axis=1),
        "fc1.bias": inner.sum(axis=0),
        "fc2.weight": (error * h * mask).sum(axis=0, keepdims=True),
    }


def _look(step: int, params: dict[str, Array], x: Array, y: Array) -> TieStep:
    symmetry = symmetry_defect(params)
    layer = symmetry.layers[0]
    assert symmetry.defect is not None
    return TieStep(
        step=step,
        loss=float(np.square(_hidden(params, x) @ params["fc2.weight"].T - y).mean() / 2),
        distinct=layer.distinct,
        defect=symmetry.defect,
        closest=layer.closest,
    )
