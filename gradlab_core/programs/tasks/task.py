"""A task: its batches are a pure function of the seed and the step, whatever ran before."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradlab_core import fields
from gradlab_core.errors import refuse
from gradlab_core.programs.program import TaskSpec

Batch = tuple[NDArray[np.float32], NDArray[np.int64] | NDArray[np.float32]]

# Each purpose has its own independent stream of random numbers, so random labels do not change the inputs.
_TRAIN, _TEST, _TRAIN_LABELS, _TEST_LABELS, _WORLD = range(5)


class Source(Protocol):
    """A source of examples: standardised inputs with labels int64 (N,), or targets (N, outputs) of mean 0 and std 1."""

    @property
    def features(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def is_regression(self) -> bool: ...

    def draw(self, rng: np.random.Generator, size: int, *, test: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """Draw `size` examples; of a finite test part at most all."""
        ...


class Task:
    """A task with its options applied, as `open_task` returns it.

    Attributes:
        features: numbers in an example, or in a time step of a sequence.
        outputs: number of classes; for a regression the width of the target.
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
            GradlabError: the step is negative, or the size is below 1 or above that of a finite training part.
        """
        problems: list[str] = []
        fields.whole_number(problems, "step", step, 0)
        fields.whole_number(problems, "size", size, 1)
        refuse("batch", problems)
        return self._batch(_TRAIN, _TRAIN_LABELS, step, size)

    def test_batch(self, size: int) -> Batch:
        """Examples that are in no training batch, the same at every call. They come from the test part of a data set,
        then at most all of it, or from their own stream of random numbers.

        Raises:
            GradlabError: the size is below 1.
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
    """The generator for one purpose at one step; without a step, for what a task draws once."""
    # This is a spawn key and not a list of entropy words, in which a large seed takes several words and two different
    # pairs could coincide.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, step)))


def pick(rng: np.random.Generator, size: int, available: int, *, test: bool) -> NDArray[np.int64]:
    """Draw the places of `size` different examples of a finite set."""
    if not test and size > available:
        refuse("batch", [f"size is {size}; expected at most {available}, the training examples of the task"])
    return rng.permutation(available)[:size]
