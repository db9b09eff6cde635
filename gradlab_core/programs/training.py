"""The training loop without a framework: a twin provides the step and the count of right answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from gradlab_core import fields
from gradlab_core.definitions import checks
from gradlab_core.errors import refuse
from gradlab_core.programs.specs import TrainSpec
from gradlab_core.records import EpochRecord, StepRecord, TrainingRecord

Batch = tuple[np.ndarray, np.ndarray]
"""Canonical images (N, C, H, W) and integer labels (N,)."""


class BatchSource(Protocol):
    """A source of training batches, such as `gradlab_core.programs.data.Batches`."""

    def epoch(self, epoch: int, /) -> Iterable[Batch]: ...


class Stepper(Protocol):
    """A model being trained; `step` gives the record of the step it took, with its loss."""

    framework: str

    def num_classes(self, x: np.ndarray) -> int | None:
        """The number that labels must be below; None if the loss is not one of a classification."""
        ...

    def step(self, x: np.ndarray, y: np.ndarray, learning_rate: float) -> StepRecord: ...

    def correct(self, x: np.ndarray, y: np.ndarray) -> int: ...


OnStep = Callable[[StepRecord], Any]
OnEpoch = Callable[[EpochRecord], Any]


def run(
    stepper: Stepper,
    batches: BatchSource,
    spec: TrainSpec,
    *,
    test: Callable[[], Iterable[Batch]] | None,
    on_step: OnStep | None,
    on_epoch: OnEpoch | None,
) -> TrainingRecord:
    """Train until the end, or until a step has a loss or gradient norm that is NaN or Inf. All records are kept."""
    steps: list[StepRecord] = []
    epochs: list[EpochRecord] = []
    classes: int | None = None
    for epoch in range(spec.epochs):
        began, rate = time.perf_counter(), spec.rate(epoch)
        first, losses = len(steps), []
        for x, y in batches.epoch(epoch):
            checks.check_inputs(x)
            if not steps:
                classes = stepper.num_classes(x)
            if classes is not None:
                checks.check_labels(y, batch=len(x), num_classes=classes)
            record = stepper.step(x, y, rate)
            assert record.loss is not None  # a stepper always records its loss
            steps.append(record)
            losses.append(record.loss)
            if on_step is not None:
                on_step(record)
            if has_diverged(record):
                return TrainingRecord(
                    framework=stepper.framework, steps=tuple(steps), epochs=tuple(epochs), diverged_at=record.step
                )
        taken = steps[first:]
        epochs.append(
            EpochRecord(
                epoch=epoch,
                learning_rate=rate,
                train_loss=float(np.mean(losses)),
                grad_norm_mean=float(np.mean([s.grad_norm for s in taken])),
                seconds=time.perf_counter() - began,  # the time of training, without that of the test
                test_accuracy=None if test is None else _accuracy(stepper, test()),
            )
        )
        if on_epoch is not None:
            on_epoch(epochs[-1])
    return TrainingRecord(framework=stepper.framework, steps=tuple(steps), epochs=tuple(epochs), diverged_at=None)


def check_probing(probe_every: int) -> None:
    """Refuse a value that is not a number of steps; 0 stands for no probe.

    >>> check_probing(-1)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: train: probe_every is -1; expected a whole number of at least 0
    """
    problems: list[str] = []
    fields.whole_number(problems, "probe_every", probe_every, 0)
    refuse("train", problems)


def has_diverged(record: StepRecord) -> bool:
    """Whether a step had a loss or a gradient that is NaN or Inf."""
    assert record.loss is not None  # a stepper always records its loss
    return not (math.isfinite(record.loss) and math.isfinite(record.grad_norm))


def _accuracy(stepper: Stepper, batches: Iterable[Batch]) -> float:
    right = seen = 0
    for x, y in batches:
        right += stepper.correct(x, y)
        seen += len(y)
    return right / seen
