"""What a recurrent net's state does over time: its definition in float64 NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from gradlab_core.definitions import kinds, reference
from gradlab_core.errors import refuse
from gradlab_core.records import HiddenStateNorms


def mean_norms(x: ArrayLike) -> tuple[float, ...]:
    """Mean over the batch of ‖x_t‖₂ for x (T, N, H), one value a time step.

    >>> mean_norms([[[3.0, 4.0], [0.0, 1.0]]])
    (3.0,)
    """
    return tuple(float(np.mean([reference.norm(row) for row in step])) for step in np.asarray(x))


def saturated_share(gate: ArrayLike, kind: str) -> tuple[float, ...]:
    """The share of a gate (T, N, H) within 1 % of its range from a bound, one value a time step; kind is `sigmoid` or
    `tanh`.

    >>> saturated_share([[[0.005, 0.5]], [[0.02, 0.98]]], "sigmoid")
    (0.5, 0.0)
    """
    low, high = kinds.SATURATED[kind]
    values = np.asarray(gate, dtype=np.float64)
    near = (values <= low) | (values >= high)
    return tuple(float(share) for share in near.mean(axis=(1, 2)))


def from_measured(
    *,
    path: str,
    cell: str,
    mode: str,
    loss: float,
    states: ArrayLike,
    gradients: ArrayLike,
    width: int,
    saturated: Mapping[str, ArrayLike],
) -> HiddenStateNorms:
    """The record from what a twin measures on its device.

    Args:
        states, gradients: ‖h_t‖₂ and ‖∂L/∂h_t‖₂ of every example, (T, N).
        width: elements of a state.
        saturated: for each gate, the number of its saturated elements at each time step, (T,).
    """

    # In float64, so that the mean of large norms does not overflow.
    def means(norms: ArrayLike) -> tuple[float, ...]:
        return tuple(np.asarray(norms, dtype=np.float64).mean(axis=1).tolist())

    size = np.shape(states)[1] * width
    shares = {name: tuple((np.asarray(count, dtype=np.float64) / size).tolist()) for name, count in saturated.items()}
    return HiddenStateNorms(
        path=path, cell=cell, mode=mode, loss=loss, states=means(states), gradients=means(gradients), saturated=shares
    )


def refuse_calls(calls: Sequence[str]) -> None:
    """Refuse a model that ran no recurrent layer, or several; `calls` holds their paths in execution order.

    >>> refuse_calls(["rnn"])
    >>> refuse_calls(["a", "b"])
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: model: it ran 2 recurrent layers (a, b); expected one, called once
    """
    if len(calls) != 1:
        ran = f"{len(calls)} recurrent layers ({', '.join(calls)})" if calls else "no recurrent layer"
        refuse("model", [f"it ran {ran}; expected one, called once"])
