"""Scenarios whose gradients or losses grow without bound."""

from __future__ import annotations

from gradlab_core.programs.program import ProgramSpec, TaskSpec
from gradlab_core.programs.scenarios.nets import DIGITS, ORDER, WAVES, adam, changed, mlp, recurrent, sgd
from gradlab_core.programs.scenarios.scenario import Scenario

_WAVES = ProgramSpec(
    model=mlp((32, 32), "tanh", features=8, num_classes=1), task=WAVES, optimizer=adam(1e-2), loss="mse", steps=200
)
_RNN = ProgramSpec(
    model=recurrent("rnn_tanh", features=6, num_classes=2, init="orthogonal", init_number=3.0),
    task=ORDER,
    optimizer=sgd(0.05),
    steps=200,
)
_TANH = changed(DIGITS, model={"activation": "tanh", "init": "xavier_normal"})
_WIDE = changed(DIGITS, model={"widths": (48, 48, 48)})

EXPLODING = (
    Scenario(
        name="unscaled-input",
        family="exploding",
        about="Pixels of up to a thousand go in as they are.",
        codes=("unnormalised-input",),
        program=changed(DIGITS, task=TaskSpec(input_scale=255.0, input_shift=128.0)),
        fix=DIGITS,
        remedy="the input is standardised",
    ),
    Scenario(
        name="unscaled-target",
        family="exploding",
        about="A regression on targets in the thousands.",
        codes=("unscaled-target",),
        program=changed(_WAVES, task=TaskSpec(name="waves", features=8, target_scale=1e3)),
        fix=_WAVES,
        remedy="the target is standardised",
    ),
    Scenario(
        name="learning-rate-too-high",
        family="exploding",
        about="Steps of SGD thirty times as long as they need be.",
        codes=("learning-rate-too-high",),
        program=changed(_TANH, optimizer=sgd(3.0)),
        fix=_TANH,
        remedy="learning rate 0.1 in place of 3",
    ),
    Scenario(
        name="rnn-without-clipping",
        family="exploding",
        about="Recurrent weights with a gain of 3: the gradient grows at every time step it goes back.",
        codes=("exploding-gradient",),
        program=_RNN,
        fix=changed(_RNN, model={"init_number": 1.0}, optimizer=sgd(0.05, clip=1.0)),
        remedy="recurrent weights start orthogonal with gain 1, and the gradient norm is clipped at 1",
    ),
    Scenario(
        name="wild-batches",
        family="exploding",
        about="Three batches in the middle of the run are thirty times as large, and what was learned is lost.",
        codes=("loss-spike",),
        program=changed(DIGITS, fault="wild_batches", amount=30.0),
        fix=DIGITS,
        remedy="the batches are like all others",
    ),
    Scenario(
        name="large-init",
        family="exploding",
        about="Weights from N(0, 1), whatever the width of a layer.",
        codes=("poor-initialisation",),
        program=changed(_WIDE, model={"init": "normal", "init_number": 1.0}),
        fix=_WIDE,
        remedy="Kaiming initialisation",
    ),
)
