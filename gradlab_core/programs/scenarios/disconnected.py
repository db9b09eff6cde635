"""Scenarios with parameters that the gradient does not reach."""

from __future__ import annotations

from gradlab_core.programs.scenarios.nets import DIGITS, REGRESSION, changed
from gradlab_core.programs.scenarios.scenario import Scenario

_NET = changed(DIGITS, model={"widths": (32, 16)})


def _cut(name: str, fault: str, about: str, remedy: str, at: str = "act2") -> Scenario:
    return Scenario(
        name=name,
        family="disconnected",
        about=about,
        codes=("disconnected-parameter",),
        program=changed(_NET, fault=fault, at=at),
        fix=_NET,
        remedy=remedy,
    )


DISCONNECTED = (
    _cut("detached", "stop_gradient", "A detach too many cuts off the first two layers.", "the detach is gone"),
    _cut("unused-branch", "unused_branch", "A layer that takes no part in the output.", "the layer is gone", at=""),
    _cut(
        "integer-cast",
        "integer_cast",
        "Activations are cast to whole numbers: no gradient passes.",
        "the cast is gone",
    ),
    _cut("argmax", "argmax", "An argmax in the middle of the net: no gradient passes.", "the argmax is gone"),
    Scenario(
        name="zeroed-gradients",
        family="disconnected",
        about="No gradient reaches the optimizer: zero_grad stands between backward and step (in JAX the loss stands "
        "behind a stop_gradient).",
        codes=("no-gradient",),
        program=changed(_NET, fault="zeroed_gradients"),
        fix=_NET,
        remedy="zero_grad stands before backward",
    ),
    Scenario(
        name="rectified-output",
        family="disconnected",
        about="A ReLU on the output of a regression, whose answers all lie below 0.",
        codes=("zero-gradient",),
        program=changed(REGRESSION, fault="rectified_output", at="fc3", amount=10.0),
        fix=REGRESSION,
        remedy="the output is the number itself",
    ),
)
