"""Records made up for tests: a run in which everything odd happens once."""

from __future__ import annotations

import errno
import math
import os
import random
from collections.abc import Callable
from typing import Any

from gradlab_core.records import GradientState, StepRecord, TensorNorms

PATHS = ("conv1.weight", "stage1.0.conv1.weight", "stage1.0.conv2.weight", "down.weight", "fc.weight", "fc.bias")
CUT, DEAD = "down.weight", "stage1.0.conv2.weight"
NONFINITE_AT, ANOMALY_AT, SKIPPED_AT = 30, 45, 46
ODD = "a/../b\n=1+1,\"'<b>\u2028\ud800é"
"""A path that no framework gives, and that no writer may fail on."""


def step(number: int, *, paths: tuple[str, ...] = PATHS, **changes: Any) -> StepRecord:
    """A step in which all is well."""
    rng = random.Random(number)
    tensors = {
        path: TensorNorms(param=2.0, grad=g, update=u, ratio=u / 2.0)
        for path in paths
        for g, u in [(10 ** rng.uniform(-3, 0), 10 ** rng.uniform(-4, -2))]
    }
    fields: dict[str, Any] = {
        "loss": 2.3 / (1 + 0.1 * number), "learning_rate": 0.05, "grad_norm": 1.5, "param_norm": 5.0,
        "update_norm": 0.01, "update_ratio": 0.002, "tensors": tensors,
        "states": dict.fromkeys(paths, GradientState.OK), "anomaly": None if number < 20 else rng.gauss(0, 1),
    }  # fmt: skip
    return StepRecord(step=number, **(fields | changes))


def healthy(steps: int = 30) -> list[StepRecord]:
    return [step(i) for i in range(steps)]


def with_tensor(record: StepRecord, path: str, state: GradientState, **changes: Any) -> StepRecord:
    norms: dict[str, Any] = {"param": 2.0, "grad": 0.1, "update": 0.01, "ratio": 0.005} | changes
    return StepRecord(
        **vars(record)
        | {
            "tensors": {**record.tensors, path: TensorNorms(**norms)},
            "states": {**record.states, path: state},
        }
    )


def eventful(steps: int = 60, *, paths: tuple[str, ...] = PATHS, cut: str = CUT, dead: str = DEAD) -> list[StepRecord]:
    """`cut` has no gradient path, `dead` a gradient of 0.

    Step 30 is not finite, step 45 an anomaly, step 46 skipped.
    """
    records = []
    for number in range(steps):
        changes: dict[str, Any] = {}
        if number == NONFINITE_AT:
            changes = {"loss": math.nan, "grad_norm": math.inf, "anomaly": math.inf}
        if number == ANOMALY_AT:
            changes = {"grad_norm": 40.0, "anomaly": 9.5}
        if number == SKIPPED_AT:
            changes = {"update_norm": 0.0, "update_ratio": 0.0, "skipped": True}
        record = step(number, paths=paths, **changes)
        record = with_tensor(record, cut, GradientState.DISCONNECTED, grad=None, update=0.0, ratio=0.0)
        record = with_tensor(record, dead, GradientState.ZERO, grad=0.0, update=0.0, ratio=0.0)
        if number == NONFINITE_AT:
            record = with_tensor(record, paths[0], GradientState.NONFINITE, grad=math.nan, ratio=math.nan)
            record = with_tensor(record, paths[1], GradientState.NONFINITE, grad=math.inf)
        records.append(record)
    return records


def alike(a: Any, b: Any) -> bool:
    """Equal, where NaN equals NaN."""
    return repr(a) == repr(b)


def onto_a_disk(left: list[int]) -> Callable[[int, bytes], int]:
    """`os.write` onto a disk with so many bytes left; who writes more than it holds gets a part written, then the error
    of a full one."""
    write = os.write

    def filling(file: int, data: bytes) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(file, bytes(data)[: left[0]])
        left[0] -= count
        return count

    return filling
