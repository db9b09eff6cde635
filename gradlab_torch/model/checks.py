"""Checks of what a user hands in, before anything is computed."""

from __future__ import annotations

from typing import Any

import torch

from gradlab_core.definitions import checks
from gradlab_core.errors import GradlabError


def check_model_inputs(x: Any, *, finite: bool = True) -> None:
    """Refuse an input batch that is not a tensor, is empty or, unless that is what is looked for, holds NaN or Inf."""
    if not isinstance(x, torch.Tensor):
        raise GradlabError(
            f"input batch is a {type(x).__name__}; expected a torch.Tensor (N, C, H, W): use to_native(x)"
        )
    if not finite:
        checks.check_examples(tuple(x.shape))
        return
    checks.check_inputs(x.detach().to("cpu", torch.float32 if x.dtype == torch.bfloat16 else x.dtype).numpy())


def check_logits(out: Any) -> torch.Tensor:
    """The one tensor that a model returns; anything else is refused."""
    if not isinstance(out, torch.Tensor):
        raise GradlabError(
            f"the model returned a {type(out).__name__}; expected one tensor of logits: wrap the model in one that "
            "returns it"
        )
    return out


def check_model_labels(y: torch.Tensor, out: Any) -> None:
    """Refuse labels that do not fit logits (N, classes) under the default loss."""
    logits = check_logits(out)
    if logits.ndim != 2:
        raise GradlabError(f"logits have shape {tuple(logits.shape)}; expected (N, classes), or a loss of your own")
    checks.check_labels(y.detach().cpu().numpy(), batch=logits.shape[0], num_classes=logits.shape[1])


def check_loss(value: Any) -> torch.Tensor:
    """The one number that a loss returns; anything else is refused."""
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        came = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise GradlabError(f"the loss returned a {came}; expected one number: average it over the batch")
    return value


def as_labels(y: Any, device: torch.device) -> torch.Tensor:
    """Labels as a tensor; whole numbers of any width become int64, which PyTorch's losses insist on."""
    labels = torch.as_tensor(y, device=device)
    return labels if labels.is_floating_point() or labels.dtype == torch.bool else labels.long()
