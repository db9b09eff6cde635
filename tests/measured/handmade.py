"""Runs and programs made by hand for the tests of the diagnosis benchmark."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from benchmarks.diagnosis.draw import Drawn
from gradlab_core.programs.program import ProgramSpec
from gradlab_core.programs.specs import ModelSpec
from gradlab_core.records import GradientState, LayerStats, Probe, StepRecord, TensorNorms, TensorStats

SPEC = ProgramSpec(model=ModelSpec(kind="mlp", features=4, widths=(8,), num_classes=4))
SHAPES = {"fc1.weight": (8, 4), "fc1.bias": (8,), "fc2.weight": (4, 8), "fc2.bias": (4,)}


def tensor_stats(std: float = 1.0) -> TensorStats:
    return TensorStats(shape=(32, 4), mean=0.0, std=std, min=-2 * std, max=2 * std, rms=std, zero_frac=0.0, nonfinite=0)


def layer(kind: str = "relu", **fields: object) -> LayerStats:
    stats: dict[str, object] = {
        "path": "act1", "kind": kind, "call": 0, "shape": (32, 8), "mode": "train", "mean": 0.4, "std": 0.6, "min": 0.0,
        "max": 2.0, "rms": 0.7, "zero_frac": 0.5, "nonfinite": 0, "saturated_frac": None, "dead_unit_frac": 0.0,
    }  # fmt: skip
    return LayerStats(**{**stats, **fields})  # type: ignore[arg-type]


def probe(*layers: LayerStats, classes: int = 4) -> Probe:
    return Probe(
        mode="train", batch=32, classes=classes, loss=1.4, input=tensor_stats(), output=tensor_stats(), target=None,
        layers=layers, shapes=SHAPES, copies={},
    )  # fmt: skip


def record(
    step: int, loss: float, *, grads: float | Mapping[str, float | None] = 0.1, ratio: float = 1e-3, **fields: object
) -> StepRecord:
    sizes = {path: grads if isinstance(grads, float) else grads.get(path, 0.1) for path in SHAPES}
    tensors = {p: TensorNorms(param=1.0, grad=g, update=ratio, ratio=ratio) for p, g in sizes.items()}
    body: dict[str, object] = {
        "step": step, "loss": loss, "learning_rate": 0.1, "param_norm": 2.0, "update_norm": 2 * ratio,
        "update_ratio": ratio, "grad_norm": math.sqrt(sum(g * g for g in sizes.values() if g is not None)),
        "tensors": tensors, "states": dict.fromkeys(SHAPES, GradientState.OK),
    }  # fmt: skip
    return StepRecord(**{**body, **fields})  # type: ignore[arg-type]


def healthy_run(steps: int = 120, **fields: object) -> list[StepRecord]:
    """A run that learns: what `fields` change, changes at every step."""
    first = {"probe": probe(layer())}
    noise = [0.1 * (1 + 0.05 * math.sin(i)) for i in range(steps)]
    return [
        record(i, 1.4 * 0.97**i, **{"grads": noise[i], **(first if i == 0 else {}), **fields}) for i in range(steps)
    ]  # type: ignore[arg-type]


def with_step(at: int, **fields: object) -> list[StepRecord]:
    """A run that learns, but for one step."""
    run = healthy_run()
    run[at] = record(at, **{"loss": run[at].loss, "probe": run[at].probe, **fields})  # type: ignore[arg-type]
    return run


def flat_run(loss: float = 1.4, **fields: object) -> list[StepRecord]:
    """A run whose loss stays."""
    return [dataclasses.replace(r, loss=loss) for r in healthy_run(**fields)]


def drawn(
    fault: str | None = None, *, codes: tuple[str, ...] = (), where: tuple[str, ...] = (), **fields: object
) -> Drawn:
    body: dict[str, object] = {"pair": 0, "family": "relu", "hard": False, "framework": "torch", "part": "held-out"}
    return Drawn(**{**body, "spec": SPEC, "fault": fault, "codes": codes, "where": where, **fields})  # type: ignore[arg-type]
