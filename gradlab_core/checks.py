"""What must hold of a batch before a number is worth computing. Frameworks disagree on what they do otherwise: PyTorch
raises on a class label out of range, JAX returns NaN or clamps."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gradlab_core.errors import refuse


def check_inputs(x: ArrayLike, *, ndim: int | None = None, channels: int | None = None) -> None:
    """Refuse an input batch that is empty, misshapen (canonical N, C, spatial…) or holds NaN or Inf.

    >>> check_inputs([[1.0, float("nan")]])
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: input batch: 1 of 2 elements are NaN or Inf; expected finite numbers
    """
    refuse("input batch", _input_problems(np.asarray(x), ndim, channels))


def check_labels(y: ArrayLike, *, batch: int, num_classes: int) -> None:
    """Refuse labels that are not `batch` whole numbers from 0 to num_classes − 1.

    >>> check_labels([0, 12], batch=2, num_classes=10)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: labels: class 12 is out of range; expected 0 to 9, the 10 outputs of the model
    """
    labels = np.asarray(y)
    problems = []
    if labels.shape != (batch,):
        problems.append(f"shape {labels.shape}; expected ({batch},), one label per example")
    if labels.dtype.kind not in "iu":
        problems.append(f"type {labels.dtype}; expected integers")
    elif labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        worst = labels.min() if labels.min() < 0 else labels.max()
        problems.append(
            f"class {worst} is out of range; expected 0 to {num_classes - 1}, the {num_classes} outputs of the model"
        )
    refuse("labels", problems)


def _input_problems(x: np.ndarray, ndim: int | None, channels: int | None) -> list[str]:
    problems = []
    if x.size == 0:
        problems.append(f"shape {x.shape} holds no example; expected at least one")
    if (ndim is not None and x.ndim != ndim) or (channels is not None and x.ndim > 1 and x.shape[1] != channels):
        wanted = ["N", *(["C" if channels is None else str(channels)]), "H", "W"][: ndim or x.ndim]
        problems.append(f"shape {x.shape}; expected ({', '.join(wanted)}) in canonical layout")
    bad = int(x.size - np.isfinite(x).sum()) if x.dtype.kind in "fiub" else 0
    if bad:
        problems.append(f"{bad} of {x.size} elements are NaN or Inf; expected finite numbers")
    return problems
