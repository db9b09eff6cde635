"""What judging costs: seconds for a long run of a deep net, and memory while a run goes on."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np

from gradlab_core.judge.diagnosis import LiveDiagnosis, diagnose
from gradlab_core.records import GradientState, StepRecord, TensorNorms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overhead:
    """`seconds` to judge a run of `steps` steps and `layers` layers that is in memory; peak bytes of the live mode over
    a tenth of the steps and over all of them."""

    steps: int
    layers: int
    seconds: float
    live_bytes_tenth: int
    live_bytes: int


def overhead(steps: int = 10_000, layers: int = 200) -> Overhead:
    """Measure on made-up records: a loss that falls, norms that wander; a weight and a bias a layer."""
    records = list(synthetic(steps, layers))
    began = time.perf_counter()
    diagnose(records)
    seconds = time.perf_counter() - began
    del records
    tenth, peak = (_peak(count, layers) for count in (max(1, steps // 10), steps))
    return Overhead(steps=steps, layers=layers, seconds=seconds, live_bytes_tenth=tenth, live_bytes=peak)


def _peak(steps: int, layers: int) -> int:
    """The peak of memory while records come in one by one and go."""
    tracemalloc.start()
    try:
        # Judged as often in a short run as in a long one.
        live = LiveDiagnosis(lambda finding: None, every=max(1, steps // 20))
        for record in synthetic(steps, layers):
            live(record)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def synthetic(steps: int, layers: int) -> Iterator[StepRecord]:
    """Records of a run that learns, all drawn anew so that none shares its memory with another."""
    paths = [f"layer{i}.{part}" for i in range(layers) for part in ("weight", "bias")]
    rng = np.random.default_rng(0)
    states = dict.fromkeys(paths, GradientState.OK)
    for step in range(steps):
        norms = np.exp(0.1 * rng.standard_normal((2, len(paths)))).tolist()
        tensors = {
            path: TensorNorms(param=param, grad=0.1 * grad, update=1e-3 * grad, ratio=1e-3 * grad / param)
            for path, param, grad in zip(paths, *norms, strict=True)
        }
        yield StepRecord(
            step=step, loss=float(2.3 * np.exp(-3 * step / steps)), learning_rate=0.01, grad_norm=1.0, param_norm=10.0,
            update_norm=0.01, update_ratio=1e-3, tensors=tensors, states=states,
        )  # fmt: skip
