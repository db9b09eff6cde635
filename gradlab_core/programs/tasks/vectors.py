"""Tasks on plain vectors: clusters to tell apart, and a smooth function to follow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradlab_core.programs.tasks.task import generator

_DISTANCE = 4.0
_TRIES = 32
_WAVES = 8


class Blobs:
    """Gaussian clusters of standard deviation 1, one for each class. Each feature is then standardised.

    The two nearest centres lie 4 apart, so a cut halfway leaves 2.3 % of either cluster on the wrong side. Of 32 sets
    of normal random centres the one is taken whose nearest two are farthest apart relative to its width.
    """

    is_regression = False

    def __init__(self, features: int, classes: int, seed: int) -> None:
        self.features, self.outputs = features, classes
        rng = generator(seed)
        sets = (rng.standard_normal((classes, features)) for _ in range(_TRIES))
        best = max((centres / centres.std() for centres in sets), key=_nearest)
        self.centres = best * (_DISTANCE / _nearest(best))

    def draw(self, rng: np.random.Generator, size: int, *, test: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        labels = rng.integers(self.outputs, size=size)
        x = self.centres[labels] + rng.standard_normal((size, self.features))
        return (x - self.centres.mean(axis=0)) / np.sqrt(1 + self.centres.var(axis=0)), labels


class Waves:
    """A smooth function of normal random features, without noise: f(x) = Σₖ aₖ sin(wₖ·x + bₖ), with eight waves and
    |wₖ| about 1. Its mean and variance under the normal distribution are known, so the target is standardised exactly.
    """

    outputs, is_regression = 1, True

    def __init__(self, features: int, seed: int) -> None:
        self.features = features
        rng = generator(seed)
        self.w = rng.standard_normal((_WAVES, features)) / math.sqrt(features)
        self.a, self.b = rng.standard_normal(_WAVES), rng.uniform(0, 2 * math.pi, _WAVES)
        # E[sin(w·x + b)] = sin(b)·exp(−|w|²/2). A product of two sines becomes a sum by the sum formula.
        w, b = self.w, self.b
        means = np.sin(b) * _damp(w)
        unlike, alike = (
            np.cos(b[:, np.newaxis] + sign * b) * _damp(w[:, np.newaxis] + sign * w) for sign in (-1.0, 1.0)
        )
        self.mean = self.a @ means
        self.std = math.sqrt(self.a @ ((unlike - alike) / 2 - np.outer(means, means)) @ self.a)

    def draw(self, rng: np.random.Generator, size: int, *, test: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        x = rng.standard_normal((size, self.features)).astype(np.float32)
        y = np.sin(x @ self.w.T + self.b) @ self.a
        return x, ((y - self.mean) / self.std)[:, np.newaxis]


def _damp(w: NDArray[Any]) -> NDArray[Any]:
    return np.exp(-np.square(w).sum(axis=-1) / 2)


def _nearest(points: NDArray[Any]) -> float:
    """The smallest distance between two of the points."""
    squares = np.square(points).sum(axis=1)
    apart = squares[:, np.newaxis] + squares - 2 * points @ points.T
    np.fill_diagonal(apart, np.inf)
    return math.sqrt(max(apart.min(), 0.0))
