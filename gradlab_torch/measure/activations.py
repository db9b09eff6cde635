"""Statistics of every activation, computed where it arises; no activation is kept."""

from __future__ import annotations

import torch

from gradlab_core.records import LayerStats, Rows
from gradlab_torch.measure.statistics import rows_of, tracked
from gradlab_torch.model.inputs import Inputs, checked_inputs
from gradlab_torch.model.modules import private_copy
from gradlab_torch.model.taps import run_tapped
from gradlab_torch.trees.transfer import transferred


def activation_stats(model: torch.nn.Module, x: Inputs, *, mode: str) -> list[LayerStats]:
    """Statistics of each call of each convolution, normalisation and activation, in execution order.

    Activations called as functions (`F.relu(x)`) count, under the path of the module that called them; a layer
    called twice gives two rows. The model is left as it was, running statistics included.

    Args:
        model: any `torch.nn.Module`.
        x: input batch, native layout (N, C, spatial…); several inputs by name in a mapping, by
            place in a tuple or a list.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: not a PyTorch model, an unknown mode, or a batch with NaN or Inf.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())
    >>> [(row.path, row.kind, row.shape) for row in activation_stats(net, torch.ones(2, 3, 8, 8), mode="eval")]
    [('0', 'conv', (2, 4, 8, 8)), ('1', 'relu', (2, 4, 8, 8))]
    """
    private = private_copy(model, mode)
    x = checked_inputs(x)
    with torch.no_grad():
        _, handed = run_tapped(private, x, tracked)
    rows = rows_of(handed)
    numbers = transferred({str(i): row.part() for i, row in enumerate(rows)}) if rows else {}
    return Rows([row.record(mode, numbers[str(i)]) for i, row in enumerate(rows)])
