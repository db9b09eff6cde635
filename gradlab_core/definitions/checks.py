"""What must hold of a batch before a number is worth computing. Frameworks disagree on what they do otherwise: PyTorch
raises on a class label out of range, JAX returns NaN or clamps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from gradlab_core.errors import refuse


def check_inputs(x: ArrayLike) -> None:
    """Refuse an input batch that is empty or holds NaN or Inf.

    >>> check_inputs([[1.0, float("nan")]])
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: input batch: 1 of 2 elements are NaN or Inf; expected finite numbers
    """
    array = np.asarray(x)
    check_examples(array.shape)
    bad = int(array.size - np.isfinite(array).sum())
    refuse("input batch", [f"{bad} of {array.size} elements are NaN or Inf; expected finite numbers"] if bad else [])


def check_examples(shape: tuple[int, ...]) -> None:
    """Refuse the shape of a batch that holds nothing.

    >>> check_examples((0, 3))
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: input batch: shape (0, 3) holds no example; expected at least one
    """
    there = math.prod(shape) > 0
    refuse("input batch", [] if there else [f"shape {tuple(shape)} holds no example; expected at least one"])


def check_image_shape(shape: tuple[int, ...], *, size: int | None = None) -> None:
    """Refuse a canonical shape that is not (N, 3, H, W), or not of that many pixels.

    >>> check_image_shape((8, 1, 28, 28))
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: input batch: shape (8, 1, 28, 28); expected (N, 3, H, W) in canonical layout
    """
    pixels = ("H", "W") if size is None else (str(size), str(size))
    right = len(shape) == 4 and shape[1] == 3 and (size is None or tuple(shape[2:]) == (size, size))
    wanted = f"(N, 3, {', '.join(pixels)})"
    refuse("input batch", [] if right else [f"shape {tuple(shape)}; expected {wanted} in canonical layout"])


def check_features(shape: tuple[int, ...], *, features: int) -> None:
    """Refuse a shape that does not hold `features` numbers an example.

    >>> check_features((8, 3), features=4)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: input batch: shape (8, 3); expected (N, 4), or axes that flatten to it
    """
    right = len(shape) > 1 and math.prod(shape[1:]) == features
    refuse(
        "input batch", [] if right else [f"shape {tuple(shape)}; expected (N, {features}), or axes that flatten to it"]
    )


def check_sequences(shape: tuple[int, ...], *, features: int) -> None:
    """Refuse a shape that is not (N, T, features).

    >>> check_sequences((8, 3), features=4)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: input batch: shape (8, 3); expected (N, T, 4)
    """
    right = len(shape) == 3 and shape[1] > 0 and shape[2] == features
    refuse("input batch", [] if right else [f"shape {tuple(shape)}; expected (N, T, {features})"])


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


def check_same_paths(params: Mapping[str, object], others: Mapping[str, object]) -> None:
    """Refuse two trees if one of them has a path that the other lacks.

    >>> check_same_paths({"a": 1.0}, {"a": 2.0})
    """
    odd = [path or "a leaf" for path in [*params, *others] if (path in params) != (path in others)]
    refuse("trees that do not match", [f"{p} stands in one tree only; expected the same paths in both" for p in odd])
