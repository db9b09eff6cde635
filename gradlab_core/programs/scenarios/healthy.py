"""Healthy programs, in which the diagnosis must not find anything."""

from __future__ import annotations

from gradlab_core.programs.program import ProgramSpec, TaskSpec
from gradlab_core.programs.scenarios.nets import DIGITS, ORDER, REGRESSION, adam, changed, recurrent, sgd
from gradlab_core.programs.scenarios.scenario import Scenario
from gradlab_core.programs.specs import ModelSpec

_ROWS = TaskSpec(layout="rows")


def _healthy(name: str, about: str, program: ProgramSpec) -> Scenario:
    return Scenario(name=name, family="healthy", about=about, program=program)


HEALTHY = (
    _healthy("healthy-mlp", "A small ReLU net.", DIGITS),
    _healthy("healthy-tanh", "A tanh net.", changed(DIGITS, model={"activation": "tanh", "init": "xavier_normal"})),
    _healthy(
        "healthy-sigmoid",
        "One hidden layer of sigmoids: its gradient is small, and it learns.",
        changed(DIGITS, model={"widths": (32,), "activation": "sigmoid", "init": "xavier_normal"}, optimizer=sgd(1.0)),
    ),
    _healthy(
        "healthy-rnn",
        "A tanh RNN that reads digits row by row.",
        ProgramSpec(
            model=recurrent("rnn_tanh", features=8, num_classes=10, init="orthogonal"),
            task=_ROWS,
            optimizer=adam(3e-3),
            steps=200,
        ),
    ),
    _healthy(
        "healthy-lstm",
        "An LSTM that reads digits row by row.",
        ProgramSpec(model=recurrent("lstm", features=8, num_classes=10), task=_ROWS, optimizer=adam(1e-2), steps=200),
    ),
    _healthy(
        "healthy-gru",
        "A GRU that tells which of two signals came first.",
        ProgramSpec(
            model=recurrent("gru", features=6, num_classes=2, init="orthogonal"),
            task=ORDER,
            optimizer=adam(5e-3),
            steps=300,
        ),
    ),
    _healthy(
        "healthy-resnet",
        "A residual net with batch normalisation: the first gradient is several times the last.",
        ProgramSpec(
            model=ModelSpec(base=4, layers=(1, 1)),
            task=TaskSpec(layout="image"),
            optimizer=sgd(0.05, momentum=0.9, weight_decay=5e-4),
            steps=100,
        ),
    ),
    _healthy(
        "healthy-transformer",
        "A transformer whose learning rate warms up.",
        ProgramSpec(
            model=ModelSpec(kind="transformer", features=8, hidden=32, num_classes=10),
            task=_ROWS,
            optimizer=adam(3e-3, warm_up=50),
            steps=150,
        ),
    ),
    _healthy(
        "healthy-regression",
        "A smooth function of eight numbers.",
        REGRESSION,
    ),
    _healthy("healthy-bfloat16", "Everything in bfloat16, at a rate that suits it.", changed(DIGITS, dtype="bfloat16")),
    _healthy("healthy-finetune", "The first layer is frozen.", changed(DIGITS, fault="frozen", at="fc1")),
    _healthy(
        "healthy-tiny-rate",
        "A wide net learns at steps that hardly show beside its weights.",
        changed(DIGITS, model={"widths": (256, 256)}, optimizer=adam(1e-4)),
    ),
)
