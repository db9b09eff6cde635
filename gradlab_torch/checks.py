"""Checks of what a user hands in, before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gradlab_core import checks
from gradlab_core.errors import GradlabError


def check_model_inputs(x: Any) -> None:
    """Refuse an input batch that is not a tensor or holds NaN or Inf."""
    if not isinstance(x, torch.Tensor):
        raise GradlabError(
            f"input batch is a {type(x).__name__}; expected a torch.Tensor (N, C, H, W): use to_native(x)"
        )
    checks.check_inputs(x.detach().to("cpu", torch.float64 if x.is_floating_point() else x.dtype).numpy())


def check_model_labels(y: Any, logits_shape: tuple[int, ...]) -> None:
    """Refuse labels that do not fit logits of shape (N, classes); other outputs are a matter of the loss."""
    if len(logits_shape) == 2:
        labels = y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)
        checks.check_labels(labels, batch=logits_shape[0], num_classes=logits_shape[1])
