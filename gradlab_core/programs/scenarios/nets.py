"""The small nets and programs that the scenarios are made of."""

from __future__ import annotations

import dataclasses
from typing import Any

from gradlab_core.programs.program import OptimizerSpec, ProgramSpec, TaskSpec
from gradlab_core.programs.specs import ModelSpec


def mlp(widths: tuple[int, ...] = (32, 32), activation: str = "relu", **more: Any) -> ModelSpec:
    """A net of dense layers, by default for the digits, with the initialisation that suits its activation."""
    start = {"init": "kaiming_normal" if activation == "relu" else "xavier_normal"}
    return ModelSpec(kind="mlp", widths=widths, activation=activation, **{**start, **more})


def recurrent(cell: str, *, features: int, num_classes: int, hidden: int = 32, **more: Any) -> ModelSpec:
    return ModelSpec(kind="recurrent", cell=cell, features=features, num_classes=num_classes, hidden=hidden, **more)


def sgd(rate: float, **more: Any) -> OptimizerSpec:
    return OptimizerSpec(name="sgd", learning_rate=rate, **more)


def adam(rate: float, **more: Any) -> OptimizerSpec:
    return OptimizerSpec(name="adam", learning_rate=rate, **more)


def changed(program: ProgramSpec, *, model: dict[str, Any] | None = None, **fields: Any) -> ProgramSpec:
    """The program with some of its own fields or of its model's changed."""
    if model is not None:
        fields["model"] = dataclasses.replace(program.model, **model)
    return dataclasses.replace(program, **fields)


DIGITS = ProgramSpec(model=mlp(), optimizer=sgd(0.1), steps=150)
"""A small ReLU net that learns the digits well. Most faults are planted in it."""

ORDER = TaskSpec(name="temporal_order", length=20)
WAVES = TaskSpec(name="waves", features=8)
REGRESSION = ProgramSpec(
    model=mlp((32, 32), "tanh", features=8, num_classes=1), task=WAVES, optimizer=sgd(0.05), loss="mse"
)
"""A small tanh net that learns a smooth function of eight numbers."""
