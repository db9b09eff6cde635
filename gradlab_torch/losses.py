"""The default loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean softmax cross-entropy of logits (N, classes) against integer labels (N,).

    >>> round(float(cross_entropy(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))), 4)  # ln 2
    0.6931
    """
    return F.cross_entropy(logits, labels)
