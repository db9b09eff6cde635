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


def _still(
    name: str, about: str, program: ProgramSpec, remedy: str, fix: ProgramSpec = DIGITS, code: str = "not-updating"
) -> Scenario:
    return Scenario(
        name=name,
        family="not updating",
        about=about,
        codes=(code,),
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
    _still(
        "clipped-away",
        "The gradient is clipped to a norm of 0.0001, where it is 10,000 times as large.",
        changed(DIGITS, optimizer=sgd(0.1, clip=1e-4)),
        "clipping at 1",
        changed(DIGITS, optimizer=sgd(0.1, clip=1.0)),
        code="clipped-away",
    ),
    _still(
        "schedule-over",
        "The learning rate falls to 0 within 10 of 150 steps: the schedule was made for epochs.",
        changed(DIGITS, optimizer=sgd(0.1, decay=10)),
        "the rate falls over the whole run",
        changed(DIGITS, optimizer=sgd(0.1, decay=150)),
        code="schedule-over",
    ),
)
