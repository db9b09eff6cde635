"""A task: batches that are a pure function of the seed and the step, whatever ran before and whoever asks."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradlab_core import fields
from gradlab_core.errors import refuse
from gradlab_core.programs.program import TaskSpec

Batch = tuple[NDArray[np.float32], NDArray[np.int64] | NDArray[np.float32]]

# One independent stream of random numbers per purpose: random labels leave the inputs as they are.
_TRAIN, _TEST, _TRAIN_LABELS, _TEST_LABELS, _WORLD = range(5)


class Source(Protocol):
    """Where examples come from: inputs standardised, labels int64 (N,), or targets (N, outputs) of mean 0, std 1."""

    @property
    def features(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def is_regression(self) -> bool: ...

    def draw(self, rng: np.random.Generator, size: int, *, test: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """`size` examples; of a finite test part at most all."""
        ...


class Task:
    """What `open_task` gives.

    Attributes:
        features: numbers an example, or a time step of a sequence.
        outputs: classes; of a regression the width of the target.
        is_regression: whether targets are numbers and not classes.
    """

    def __init__(self, spec: TaskSpec, source: Source, seed: int) -> None:
        self.spec, self.seed = spec, seed
        self.features, self.outputs, self.is_regression = source.features, source.outputs, source.is_regression
        self._source = source

    def batch(self, step: int, size: int) -> Batch:
        """The training batch of a step (the first is 0): canonical float32 inputs (N, features), (N, 3, 8, 8) or
        (N, T, features), and labels int64 (N,) or targets float32 (N, outputs).

        Raises:
            GradlabError: a negative step, or a size below 1 or above what a finite training part holds.
        """
        problems: list[str] = []
        fields.whole_number(problems, "step", step, 0)
        fields.whole_number(problems, "size", size, 1)
        refuse("batch", problems)
        return self._batch(_TRAIN, _TRAIN_LABELS, step, size)

    def test_batch(self, size: int) -> Batch:
        """Examples that no training batch holds, the same at every call: from the test part of a data set, of which it
        is at most the whole, or from a stream of random numbers of their own.

        Raises:
            GradlabError: a size below 1.
        """
        problems: list[str] = []
        fields.whole_number(problems, "size", size, 1)
        refuse("test batch", problems)
        return self._batch(_TEST, _TEST_LABELS, 0, size)

    def _batch(self, stream: int, labels: int, step: int, size: int) -> Batch:
        x, y = self._source.draw(generator(self.seed, stream, step), size, test=stream == _TEST)
        x = (self.spec.input_scale * x.astype(np.float64) + self.spec.input_shift).astype(np.float32)
        if self.spec.random_labels:
            rng = generator(self.seed, labels, step)
            y = rng.standard_normal(y.shape) if self.is_regression else rng.integers(self.outputs, size=y.shape)
        if self.is_regression:
            return x, (self.spec.target_scale * y).astype(np.float32)
        return x, y.astype(np.int64)


def generator(seed: int, stream: int = _WORLD, step: int = 0) -> np.random.Generator:
    """The random numbers of one purpose at one step; by default those for what a task draws once."""
    # A spawn key, not a list of entropy words: large seeds take several words and could meet another pair's.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, step)))


def pick(rng: np.random.Generator, size: int, available: int, *, test: bool) -> NDArray[np.int64]:
    """Places of `size` different examples of a finite set."""
    if not test and size > available:
        refuse("batch", [f"size is {size}; expected at most {available}, the training examples of the task"])
    return rng.permutation(available)[:size]
