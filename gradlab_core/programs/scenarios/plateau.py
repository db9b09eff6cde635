"""Scenarios whose loss does not fall, and one whose loss is not the one it is taken for."""

from __future__ import annotations

from gradlab_core.programs.program import ProgramSpec, TaskSpec
from gradlab_core.programs.scenarios.nets import DIGITS, changed, mlp, sgd
from gradlab_core.programs.scenarios.scenario import Scenario

_BLOBS = ProgramSpec(
    model=mlp(features=8, num_classes=2), task=TaskSpec(name="blobs", features=8, classes=2), optimizer=sgd(0.1)
)
_LARGE = changed(DIGITS, batch_size=256)

PLATEAU = (
    Scenario(
        name="plateau",
        family="plateau",
        about="The labels do not belong to their inputs: the loss stays at ln 2.",
        codes=("loss-plateau",),
        program=changed(_BLOBS, task=TaskSpec(name="blobs", features=8, classes=2, random_labels=True)),
        fix=_BLOBS,
        remedy="every input with its own label",
    ),
    Scenario(
        name="summed-loss",
        family="plateau",
        about="The loss is summed over a batch of 256, at a rate that is right for a mean.",
        codes=("loss-reduction",),
        program=changed(_LARGE, loss="summed_cross_entropy"),
        fix=_LARGE,
        remedy="the loss is a mean over the batch",
    ),
    Scenario(
        name="constant-loss",
        family="plateau",
        about="The softmax runs over the batch, not over the classes: the loss is ln 32, whatever the net answers.",
        codes=("constant-loss",),
        program=changed(DIGITS, loss="batch_softmax"),
        fix=DIGITS,
        remedy="the softmax runs over the classes",
    ),
)
