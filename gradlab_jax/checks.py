"""Checks of what a user hands in, before anything is traced or computed."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from gradlab_core import checks
from gradlab_core.errors import GradlabError


def check_model_inputs(x: Any) -> None:
    """Refuse an input batch that is not an array or holds NaN or Inf."""
    if not isinstance(x, (jax.Array, np.ndarray)):
        raise GradlabError(
            f"input batch is a {type(x).__name__}; expected a JAX or NumPy array, native layout (N, H, W, C)"
        )
    checks.check_inputs(x)


def check_model_labels(y: Any, logits_shape: tuple[int, ...]) -> None:
    """Refuse labels that do not fit logits of shape (N, classes); other outputs are a matter of the loss."""
    if len(logits_shape) == 2:
        checks.check_labels(y, batch=logits_shape[0], num_classes=logits_shape[1])
