"""Losses, right ones and three that are wrong in the way users get them wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gradlab_core.errors import GradlabError


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean softmax cross-entropy of logits (N, classes) against integer labels (N,).

    >>> round(float(cross_entropy(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))), 4)  # ln 2
    0.6931
    """
    return F.cross_entropy(logits, labels)


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`cross_entropy` summed over the batch, not averaged: N times as large, and its gradient with it.

    >>> round(float(summed_cross_entropy(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))), 4)  # 4 ln 2
    2.7726
    """
    return F.cross_entropy(logits, labels, reduction="sum")


def naive_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """`cross_entropy` as the formula is written, −mean log(exp(z)/Σexp(z)): where exp overflows or underflows, its
    value or its gradient is NaN or Inf. `cross_entropy` takes the largest logit out first.

    >>> round(float(naive_cross_entropy(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))), 4)
    0.6931
    >>> float(naive_cross_entropy(torch.tensor([[200.0, 0.0]]), torch.tensor([0])))
    nan
    """
    powers = torch.exp(logits)
    chances = powers / powers.sum(dim=-1, keepdim=True)
    return -torch.log(chances.gather(-1, labels[:, None])).mean()


def batch_softmax(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """−log of the mean of a softmax that runs over the batch, not over the classes: ln N, whatever the logits are.

    >>> round(float(batch_softmax(torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 0, 1]))), 4)  # ln 4
    1.3863
    """
    return -torch.log(torch.softmax(logits, dim=0).mean())


def mse(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of the squared differences between outputs and targets, both (N, outputs).

    Raises:
        GradlabError: the shapes differ, which would broadcast: (N, 1) against (N,) compares every pair.

    >>> float(mse(torch.ones(4, 2), torch.zeros(4, 2)))
    1.0
    """
    if outputs.shape != targets.shape:
        raise GradlabError(
            f"mse got outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}; expected one shape"
        )
    return torch.mean(torch.square(outputs - targets))


BY_NAME = {
    "cross_entropy": cross_entropy,
    "summed_cross_entropy": summed_cross_entropy,
    "naive_cross_entropy": naive_cross_entropy,
    "batch_softmax": batch_softmax,
    "mse": mse,
}
"""The losses of a `ProgramSpec`."""
