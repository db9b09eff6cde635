"""Scenarios whose steps go the wrong way: uphill, or towards zero."""

from __future__ import annotations

from gradlab_core.programs.scenarios.nets import DIGITS, adam, changed, sgd
from gradlab_core.programs.scenarios.scenario import Scenario

_ADAM = changed(DIGITS, optimizer=adam(1e-3))

DIRECTION = (
    Scenario(
        name="uphill",
        family="wrong way",
        about="The update is added along the gradient: the sign of the step is wrong.",
        codes=("uphill-step",),
        program=changed(DIGITS, optimizer=sgd(0.01), fault="uphill"),
        fix=DIGITS,
        remedy="the update goes against the gradient",
    ),
    Scenario(
        name="uphill-layer",
        family="wrong way",
        about="One layer goes along its gradient, as where a masked optimizer hands it on as the update.",
        codes=("uphill-step",),
        program=changed(_ADAM, fault="uphill", at="fc1"),
        fix=_ADAM,
        remedy="every layer goes against its gradient",
    ),
    Scenario(
        name="weight-decay-too-strong",
        family="wrong way",
        about="Weight decay takes a tenth of every weight at every step.",
        codes=("weight-decay-too-strong",),
        program=changed(DIGITS, optimizer=sgd(0.1, weight_decay=1.0)),
        fix=changed(DIGITS, optimizer=sgd(0.1, weight_decay=1e-4)),
        remedy="a weight decay of 1e-4",
    ),
)
