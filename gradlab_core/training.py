"""The training loop, without a framework: what a twin brings is one step and one count of right answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from gradlab_core import checks, reference
from gradlab_core.records import EpochRecord, StepRecord, TensorNorms, TrainingRecord
from gradlab_core.specs import TrainSpec
from gradlab_core.states import gradient_state

Batch = tuple[np.ndarray, np.ndarray]
"""Canonical images (N, C, H, W) and integer labels (N,)."""


class BatchSource(Protocol):
    """Where training batches come from; `gradlab_core.data.Batches` is one."""

    def epoch(self, epoch: int, /) -> Iterable[Batch]: ...


class Stepper(Protocol):
    """A model being trained. `step` returns the loss, and the norms of all parameters before the step, of their
    gradients (None: no path) and of the updates applied, each in the order of `names`; `sizes` counts elements."""

    framework: str

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def sizes(self) -> Sequence[int]: ...

    def num_classes(self, x: np.ndarray) -> int | None:
        """What labels must be below; None under a loss that is not a classification."""
        ...

    def step(
        self, x: np.ndarray, y: np.ndarray, learning_rate: float
    ) -> tuple[float, Sequence[float], Sequence[float | None], Sequence[float]]: ...

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
    """Train; stops after the first step whose loss or gradient norm is NaN or Inf, with all records kept."""
    steps: list[StepRecord] = []
    epochs: list[EpochRecord] = []
    classes: int | None = None
    for epoch in range(spec.epochs):
        began, rate = time.perf_counter(), spec.rate(epoch)
        first = len(steps)
        for x, y in batches.epoch(epoch):
            checks.check_inputs(x)
            if not steps:
                classes = stepper.num_classes(x)
            if classes is not None:
                checks.check_labels(y, batch=len(x), num_classes=classes)
            record = _record(len(steps), rate, stepper, *stepper.step(x, y, rate))
            steps.append(record)
            if on_step is not None:
                on_step(record)
            if not (math.isfinite(record.loss) and math.isfinite(record.grad_norm)):
                return TrainingRecord(
                    framework=stepper.framework, steps=tuple(steps), epochs=tuple(epochs), diverged_at=record.step
                )
        taken = steps[first:]
        epochs.append(
            EpochRecord(
                epoch=epoch,
                learning_rate=rate,
                train_loss=float(np.mean([s.loss for s in taken])),
                grad_norm_mean=float(np.mean([s.grad_norm for s in taken])),
                seconds=time.perf_counter() - began,  # of training; the test comes after
                test_accuracy=None if test is None else _accuracy(stepper, test()),
            )
        )
        if on_epoch is not None:
            on_epoch(epochs[-1])
    return TrainingRecord(framework=stepper.framework, steps=tuple(steps), epochs=tuple(epochs), diverged_at=None)


def _record(
    step: int,
    rate: float,
    stepper: Stepper,
    loss: float,
    params: Sequence[float],
    grads: Sequence[float | None],
    updates: Sequence[float],
) -> StepRecord:
    rows = list(zip(stepper.names, stepper.sizes, params, grads, updates, strict=True))
    # The norm of all tensors is the norm of their norms.
    total, moved = reference.global_norm([params]), reference.global_norm([updates])
    return StepRecord(
        step=step,
        loss=loss,
        learning_rate=rate,
        grad_norm=reference.global_norm([[g for g in grads if g is not None]]),
        param_norm=total,
        update_norm=moved,
        update_ratio=reference.ratio(moved, total),
        tensors={
            name: TensorNorms(param=p, grad=g, update=u, ratio=reference.ratio(u, p)) for name, _, p, g, u in rows
        },
        states={name: gradient_state(g, size) for name, size, _, g, _ in rows},
    )


def _accuracy(stepper: Stepper, batches: Iterable[Batch]) -> float:
    right = seen = 0
    for x, y in batches:
        right += stepper.correct(x, y)
        seen += len(y)
    return right / seen
