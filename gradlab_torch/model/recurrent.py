"""A recurrent layer of PyTorch, step by step: `nn.LSTM` and its kin compute all time steps in one call, inside which
neither the gates nor the gradient of a state can be seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gradlab_core.definitions.recurrent import BOUNDED, PARAMETERS
from gradlab_core.errors import GradlabError
from gradlab_torch.model.layers import cell_of


class Observed:
    """Takes the place of a recurrent layer's `forward`, and keeps the states and gates of every time step."""

    def __init__(self, path: str, layer: nn.RNNBase) -> None:
        if layer.num_layers > 1 or layer.bidirectional or layer.proj_size or not layer.bias:
            raise GradlabError(
                f"{path or 'the model'} is {layer}; expected one recurrent layer in one direction, with biases and "
                "without a projection: stack layers of one each"
            )
        self.path, self.layer, self.cell = path, layer, cell_of(layer)
        self.calls: list[tuple[list[torch.Tensor], list[tuple[torch.Tensor, ...]]]] = []

    def __call__(self, x: Any, start: Any = None) -> tuple[torch.Tensor, Any]:
        if not isinstance(x, torch.Tensor) or x.ndim != 3:
            raise GradlabError(
                f"{self.path} got a {type(x).__name__}{list(getattr(x, 'shape', []))}; expected a batch of sequences "
                "of one length, a tensor with three axes"
            )
        sequence = x.transpose(0, 1) if self.layer.batch_first else x
        states, cells, rows = [], [], []
        for h, c, row in self._steps(sequence, start):
            states.append(h)
            cells.append(c)
            rows.append(row)
        self.calls.append((states, rows))
        out = torch.stack(states, 1 if self.layer.batch_first else 0)
        last = states[-1].unsqueeze(0)
        return out, (last, cells[-1].unsqueeze(0)) if self.cell == "lstm" else last

    def _steps(self, x: torch.Tensor, start: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor, Any]]:
        w_ih, w_hh, b_ih, b_hh = (getattr(self.layer, name) for name in PARAMETERS)
        zero = x.new_zeros(x.shape[1], self.layer.hidden_size)
        h, c = (zero, zero) if start is None else (t[0] for t in (start if self.cell == "lstm" else (start, start)))
        for a in x @ w_ih.T + b_ih:
            h, c, row = _step(self.cell, a, h @ w_hh.T + b_hh, h, c)
            yield h, c, row

    def gates(self) -> dict[str, torch.Tensor]:
        """What can saturate, each (T, N, H), of the one call."""
        ((_, rows),) = self.calls
        return {name: torch.stack([row[k] for row in rows]) for k, name in enumerate(BOUNDED[self.cell])}


def _step(
    cell: str, a: torch.Tensor, b: torch.Tensor, h: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """`(h, c, gates)` from what the input and the state before bring to the gates."""
    if cell == "lstm":
        i, f, g, o = (a + b).chunk(4, -1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        bounded = c.tanh()
        return o * bounded, c, (i, f, g, o, bounded)
    if cell == "gru":
        (ar, az, an), (br, bz, bn) = a.chunk(3, -1), b.chunk(3, -1)
        r, z = (ar + br).sigmoid(), (az + bz).sigmoid()
        n = (an + r * bn).tanh()
        return (1 - z) * n + z * h, c, (r, z, n)
    h = (a + b).tanh() if cell == "rnn_tanh" else (a + b).relu()
    return h, c, (h,) if cell == "rnn_tanh" else ()
