"""Scenarios whose gradients or signals vanish on their way through the net."""

from __future__ import annotations

from gradlab_core.programs.program import ProgramSpec, TaskSpec
from gradlab_core.programs.scenarios.nets import DIGITS, adam, changed, recurrent
from gradlab_core.programs.scenarios.scenario import Scenario

_DEEP = changed(DIGITS, model={"widths": (32,) * 6})
_LONG = ProgramSpec(
    model=recurrent("rnn_tanh", features=6, num_classes=2, init="normal", init_number=0.05),
    task=TaskSpec(name="temporal_order", length=40),
    optimizer=adam(1e-2),
    steps=200,
)

VANISHING = (
    Scenario(
        name="deep-sigmoid",
        family="vanishing",
        about="Six layers of sigmoids, each of which passes at most a quarter of the gradient.",
        codes=("vanishing-gradient",),
        program=changed(_DEEP, model={"activation": "sigmoid", "init": "torch_default"}),
        fix=_DEEP,
        remedy="ReLU with Kaiming initialisation in place of the sigmoid",
    ),
    Scenario(
        name="long-rnn",
        family="vanishing",
        about="A tanh RNN with small weights is to remember a signal for thirty steps.",
        codes=("vanishing-gradient", "loss-plateau"),
        program=_LONG,
        fix=changed(_LONG, model={"cell": "gru", "init": "orthogonal", "init_number": None}),
        remedy="a GRU in place of the tanh RNN, with orthogonal weights",
    ),
    Scenario(
        name="small-init",
        family="vanishing",
        about="A deep net whose weights start so small that no signal reaches its end.",
        codes=("poor-initialisation",),
        program=changed(_DEEP, model={"init": "normal", "init_number": 0.01}),
        fix=_DEEP,
        remedy="Kaiming initialisation",
    ),
)
