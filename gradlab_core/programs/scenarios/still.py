"""Scenarios with parameters that are not updated."""

from __future__ import annotations

from gradlab_core.programs.program import ProgramSpec, TaskSpec
from gradlab_core.programs.scenarios.nets import DIGITS, adam, changed, sgd
from gradlab_core.programs.scenarios.scenario import Scenario
from gradlab_core.programs.specs import ModelSpec

_TRANSFORMER = ProgramSpec(
    model=ModelSpec(kind="transformer", features=8, hidden=64, num_classes=10),
    task=TaskSpec(layout="rows"),
    optimizer=adam(1e-4),
    steps=150,
)


def _still(name: str, about: str, program: ProgramSpec, remedy: str, fix: ProgramSpec = DIGITS) -> Scenario:
    return Scenario(
        name=name,
        family="not updating",
        about=about,
        codes=("not-updating",),
        program=program,
        fix=fix,
        remedy=remedy,
    )


STILL = (
    _still(
        "missing-from-optimizer",
        "The optimizer was built without the first layer.",
        changed(DIGITS, fault="left_out", at="fc1"),
        "the optimizer gets all parameters",
    ),
    _still(
        "frozen-layer",
        "The last two layers still are frozen, and the first alone is trained.",
        changed(DIGITS, fault="frozen", at="fc2,fc3"),
        "all layers are trained",
    ),
    _still(
        "zero-learning-rate", "The learning rate is 0.", changed(DIGITS, optimizer=sgd(0.0)), "a learning rate of 0.1"
    ),
    _still(
        "missing-step",
        "Gradients are computed, and no step is ever taken.",
        changed(DIGITS, fault="no_step"),
        "the optimizer steps",
    ),
    _still(
        "lost-in-bfloat16",
        "Parameters in bfloat16 are too coarse for updates this small: those near 1 never move.",
        changed(_TRANSFORMER, dtype="bfloat16"),
        "parameters in float32",
        _TRANSFORMER,
    ),
)
