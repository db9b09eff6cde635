"""Scenarios whose units are dead or saturated, or all compute the same."""

from __future__ import annotations

from gradlab_core.programs.scenarios.nets import DIGITS, changed
from gradlab_core.programs.scenarios.scenario import Scenario

_TANH = changed(DIGITS, model={"widths": (16,) * 5, "activation": "tanh", "init": "xavier_normal"})

UNITS = (
    Scenario(
        name="dead-relu",
        family="units",
        about="Biases far below 0 keep the ReLUs of the second layer at 0 for every example.",
        codes=("dead-relu",),
        program=changed(DIGITS, fault="negative_bias", at="fc2", amount=20.0),
        fix=DIGITS,
        remedy="biases start at 0",
    ),
    Scenario(
        name="saturated-tanh",
        family="units",
        about="Weights so large that every tanh lies at one of its bounds.",
        codes=("saturated-activation",),
        program=changed(_TANH, fault="saturated_start", at="fc1,fc2,fc3,fc4,fc5", amount=30.0),
        fix=_TANH,
        remedy="Xavier initialisation as it is",
    ),
    Scenario(
        name="symmetric-units",
        family="units",
        about="All weights start at the same number, so all units of a layer learn the same.",
        codes=("symmetric-units",),
        program=changed(DIGITS, model={"init": "constant", "init_number": 0.1}),
        fix=DIGITS,
        remedy="Kaiming initialisation",
    ),
)
