"""The random errors that say how much rounding does to a program."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradlab_torch
from gradlab_core.parity.arithmetic import ARITHMETICS, FLOAT32

WIDTH, HEADS, TIME = 8, 2, 5


class Attention(torch.nn.Module):
    """In the one operation that PyTorch has for it."""

    def __init__(self, **options):
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.options = options

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = torch.nn.functional.scaled_dot_product_attention(q, k, v, **self.options)
        return self.out(seen.transpose(1, 2).flatten(2)).mean(1)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}], ids=str)
def test_rounding_of_fused_attention_is_of_the_size_of_rounding(options):
    """With an error in what it keeps of its forward its gradients were off by more than their size."""
    torch.manual_seed(0)
    subject = gradlab_torch.Subject(Attention(**options))
    x, y = np.random.default_rng(0).standard_normal((4, TIME, WIDTH)), np.arange(4)
    oracle, perturbed = subject.cast("float64"), subject.perturbed(ARITHMETICS["highest"], seed=1)
    truth, seen = oracle.step(x, y, 0), perturbed.step(x, y, 0)
    gradients = [key for key in truth if key.quantity == "gradient"]
    assert len(gradients) == 4
    for key in gradients:
        away = np.linalg.norm(seen[key] - truth[key]) / np.linalg.norm(truth[key])
        assert 0 < away < 100 * FLOAT32, key
