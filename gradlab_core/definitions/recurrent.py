"""The recurrent cells in float64 NumPy; the twins translate these definitions.

The parameters are PyTorch's: `weight_ih_l0` (gates·H, F), `weight_hh_l0` (gates·H, H), `bias_ih_l0` and `bias_hh_l0`
(gates·H), the gates one below the other. Two biases are one too many, except in a GRU's n gate; but each takes its own
step in training, so a twin with one bias does not train the same.

Sources: Elman 1990; Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; Cho et al. 2014 in the form
in which the reset gate multiplies W_hn·h + b_hn (`torch.nn.GRU`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

CELLS: dict[str, tuple[str, ...]] = {
    "rnn_tanh": ("h",),
    "rnn_relu": ("h",),
    "lstm": ("i", "f", "g", "o"),
    "gru": ("r", "z", "n"),
}
"""The cells, and their gates in the order in which the fused weights hold them."""

BOUNDED: dict[str, dict[str, str]] = {
    "rnn_tanh": {"h": "tanh"},
    "rnn_relu": {},
    "lstm": {"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid", "tanh_c": "tanh"},
    "gru": {"r": "sigmoid", "z": "sigmoid", "n": "tanh"},
}
"""What can saturate in each cell, with the function that bounds it; `tanh_c` is the tanh of an LSTM's cell state."""

PARAMETERS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")

Array = NDArray[np.float64]


def run(
    cell: str, weights: Mapping[str, ArrayLike], x: ArrayLike, drift: ArrayLike | None = None
) -> tuple[Array, dict[str, Array]]:
    """`(states, gates)`: h_1 … h_T from h_0 = 0, and the parts that `BOUNDED` names, each (T, N, H).

    Args:
        cell: one of `CELLS`.
        weights: the arrays that `PARAMETERS` names.
        x: sequences (N, T, F).
        drift: (T, N, H), added to every h_t when it is computed. The gradient of a loss with respect to h_t is its
            gradient with respect to `drift` at 0; paths through an LSTM's c_t alone are not part of it. May be complex,
            for a complex step.

    >>> w = {"weight_ih_l0": [[1.0]], "weight_hh_l0": [[0.5]], "bias_ih_l0": [0.0], "bias_hh_l0": [0.0]}
    >>> run("rnn_relu", w, [[[1.0], [1.0], [-3.0]]])[0].ravel().tolist()
    [1.0, 1.5, 0.0]
    """
    w_ih, w_hh, b_ih, b_hh = (np.asarray(weights[name]) for name in PARAMETERS)
    inputs = np.swapaxes(np.asarray(x), 0, 1) @ w_ih.T + b_ih
    steps, examples, features = len(inputs), inputs.shape[1], w_hh.shape[1]
    drift = np.zeros((steps, examples, features)) if drift is None else np.asarray(drift)
    h = c = np.zeros((examples, features))
    states: list[Array] = []
    rows: list[tuple[Array, ...]] = []
    for a, d in zip(inputs, drift, strict=True):
        b = h @ w_hh.T + b_hh
        if cell == "lstm":
            i, f, g, o = np.split(a + b, 4, axis=-1)
            i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
            c = f * c + i * g
            h = o * np.tanh(c)
            rows.append((i, f, g, o, np.tanh(c)))
        elif cell == "gru":
            (ar, az, an), (br, bz, bn) = np.split(a, 3, axis=-1), np.split(b, 3, axis=-1)
            r, z = _sigmoid(ar + br), _sigmoid(az + bz)
            n = np.tanh(an + r * bn)
            h = (1 - z) * n + z * h
            rows.append((r, z, n))
        else:
            h = np.tanh(a + b) if cell == "rnn_tanh" else np.where((a + b).real > 0, a + b, 0.0)
            rows.append((h,))
        h = h + d
        states.append(h)
    return np.stack(states), {name: np.stack([row[k] for row in rows]) for k, name in enumerate(BOUNDED[cell])}


def _sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))
