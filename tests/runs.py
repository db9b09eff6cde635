"""A made-up run for tests of the diagnosis: healthy, until a test changes something."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from gradlab_core.records import (
    GradientState,
    HiddenStateNorms,
    LayerStats,
    Probe,
    StepRecord,
    TensorNorms,
    TensorStats,
)

SHAPES = {"fc1.weight": (32, 64), "fc1.bias": (32,), "fc2.weight": (32, 32), "fc2.bias": (32,), "fc3.weight": (10, 32)}
CLASSES, BATCH = 10, 32


def stats(rms: float = 1.0, **changes: Any) -> TensorStats:
    fields = {"shape": (BATCH, 64), "mean": 0.0, "std": rms, "min": -3 * rms, "max": 3 * rms, "rms": rms}
    return TensorStats(**(fields | {"zero_frac": 0.0, "nonfinite": 0} | changes))


def layer(path: str, kind: str = "relu", **changes: Any) -> LayerStats:
    fields: dict[str, Any] = {
        "path": path, "kind": kind, "call": 0, "shape": (BATCH, 32), "mode": "train", "mean": 0.4, "std": 0.6,
        "min": 0.0, "max": 3.0, "rms": 0.7, "zero_frac": 0.5, "nonfinite": 0,
        "saturated_frac": 0.1 if kind in ("tanh", "sigmoid") else None,
        "dead_unit_frac": 0.1 if kind == "relu" else None,
    }  # fmt: skip
    return LayerStats(**(fields | changes))


def probe(**changes: Any) -> Probe:
    fields: dict[str, Any] = {
        "mode": "train", "batch": BATCH, "classes": CLASSES, "loss": math.log(CLASSES), "input": stats(),
        "output": stats(0.3), "target": None, "layers": (layer("act1"), layer("act2")), "shapes": SHAPES,
        "copies": {path: 0.0 for path, shape in SHAPES.items() if len(shape) > 1},
    }  # fmt: skip
    return Probe(**(fields | changes))


def hidden(first_against_last: float, steps: int = 20, **changes: Any) -> HiddenStateNorms:
    gradients = tuple(first_against_last ** (1 - t / (steps - 1)) for t in range(steps))
    fields: dict[str, Any] = {"path": "rnn", "cell": "rnn_tanh", "mode": "train", "loss": 0.7}
    saturated = {"h": (0.1,) * steps}
    return HiddenStateNorms(
        **(fields | {"states": (1.0,) * steps, "gradients": gradients, "saturated": saturated} | changes)
    )


def falling(step: int) -> float:
    """A loss that falls from ln 10, with some noise."""
    return math.log(CLASSES) * (0.1 + 0.9 * math.exp(-step / 20)) * (1 + 0.01 * random.Random(step).gauss(0, 1))


def flat(level: float) -> Callable[[int], float]:
    return lambda step: level * (1 + 0.01 * random.Random(step).gauss(0, 1))


def run(
    steps: int = 100,
    *,
    loss: Callable[[int], float] = falling,
    grads: Mapping[str, float | None] | None = None,
    ratio: float = 3e-3,
    states: Mapping[str, GradientState] | None = None,
    norm: Callable[[int], float] = lambda step: 1.0,
    probes: Callable[[int], Probe | None] | None = lambda step: probe(),
    change: Callable[[StepRecord], StepRecord] = lambda record: record,
) -> list[StepRecord]:
    """`grads` are against the norm 4 of each parameter, `norm` multiplies all of them, `probes` come every 20 steps."""
    records = []
    for step in range(steps):
        rng = random.Random(1000 + step)
        tensors = {}
        for path in SHAPES:
            size = (grads or {}).get(path, 0.1)
            grad = None if size is None else size * norm(step) * math.exp(0.1 * rng.gauss(0, 1))
            moved = 4.0 * ratio if grad else 0.0
            param = 4.0 * (1 + ratio * step * 0.1)
            tensors[path] = TensorNorms(param=param, grad=grad, update=moved, ratio=moved / param)
        total = math.hypot(*(n.grad or 0.0 for n in tensors.values()))
        record = StepRecord(
            step=step,
            loss=loss(step),
            learning_rate=0.1,
            grad_norm=total,
            param_norm=9.0,
            update_norm=9.0
            * ratio
            * (1 + 0.01 * rng.random()),  # not the same at every step, as only clipping makes it
            update_ratio=ratio,
            tensors=tensors,
            states=dict.fromkeys(SHAPES, GradientState.OK) | dict(states or {}),
            probe=probes(step) if probes is not None and step % 20 == 0 else None,
        )
        records.append(change(record))
    return records


def replaced(**changes: Any) -> Callable[[StepRecord], StepRecord]:
    return lambda record: dataclasses.replace(record, **changes)
