"""The framework-free loop: what it records, and how a run that diverges ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradlab_core.definitions.monitoring import Measured, step_record
from gradlab_core.errors import GradlabError
from gradlab_core.programs import training
from gradlab_core.programs.specs import TrainSpec
from gradlab_core.records import GradientState

X, Y = np.ones((2, 3, 4, 4), np.float32), np.array([0, 1])


class Fake:
    """Losses as told; parameter norms (3, 4), gradient norms (1, missing), update norms (0.3, 0.4)."""

    framework = "fake"

    def __init__(self, losses):
        self.losses, self.rates = iter(losses), []

    def num_classes(self, x):
        return 10

    def step(self, x, y, learning_rate):
        self.rates.append(learning_rate)
        measured = Measured(
            names=("w", "b"),
            sizes=(4, 1),
            params=(3.0, 4.0),
            grads=(1.0, None),
            updates=(0.3, 0.4),
            lost=(False, False),
        )
        step = len(self.rates) - 1
        return step_record(measured, step=step, loss=next(self.losses), learning_rate=learning_rate, anomaly=None)

    def correct(self, x, y):
        return 1


class Source:
    def __init__(self, batch=(X, Y), count=2):
        self.batch, self.count = batch, count

    def epoch(self, epoch):
        return [self.batch] * self.count


def run(losses, spec=TrainSpec(epochs=2, milestones=(1,)), source=None, **callbacks):  # noqa: B008
    stepper = Fake(losses)
    options = {"test": lambda: [(X, Y)], "on_step": None, "on_epoch": None, **callbacks}
    return stepper, training.run(stepper, source or Source(), spec, **options)


def test_records():
    seen = []
    stepper, record = run([4.0, 3.0, 2.0, 1.0], on_step=seen.append)
    assert list(record.steps) == seen
    assert stepper.rates == [0.1, 0.1, 0.01, 0.01]
    assert record.diverged_at is None
    step = record.steps[0]
    assert (step.param_norm, step.grad_norm, step.update_norm, step.update_ratio) == pytest.approx((5.0, 1.0, 0.5, 0.1))
    assert step.tensors["b"].grad is None
    assert step.states == {"w": GradientState.OK, "b": GradientState.DISCONNECTED}
    assert [e.train_loss for e in record.epochs] == [3.5, 1.5]
    assert [e.test_accuracy for e in record.epochs] == [0.5, 0.5]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_that_leaves_the_rails_keeps_its_records(bad):
    _, record = run([4.0, 3.0, bad, 1.0])
    assert record.diverged_at == 2
    assert len(record.steps) == 3
    assert len(record.epochs) == 1


def test_without_a_test_set_there_is_no_accuracy():
    _, record = run([1.0, 1.0, 1.0, 1.0], test=None)
    assert record.epochs[0].test_accuracy is None


@pytest.mark.parametrize(
    ("batch", "message"), [((X * np.nan, Y), "NaN or Inf"), ((X, np.array([0, 10])), "class 10 is out of range")]
)
def test_bad_batches_stop_the_run(batch, message):
    with pytest.raises(GradlabError, match=message):
        run([1.0] * 4, source=Source(batch))
