"""What the parity judgement looks at: every tensor of a training step, whole and in canonical layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from gradlab_core.parity.arithmetic import Arithmetic
from gradlab_core.parity.batch import Inputs

QUANTITIES = (
    "activation",
    "logits",
    "loss",
    "activation_gradient",
    "gradient",
    "learning_rate",
    "optimizer",
    "parameter",
    "statistic",
)
"""In the order in which a step computes them; so the first that differs is where the trouble starts."""

FORWARD = ("activation", "logits", "loss")
"""Of the forward pass."""
OF_LAYERS = ("activation", "activation_gradient")
"""Of layers: what one side may call by another name, or not show."""


class Key(NamedTuple):
    """One tensor of one step: what it is, of which path, at which call of that path."""

    quantity: str
    path: str = ""
    call: int = 0

    def __str__(self) -> str:
        name = f"{self.quantity} {self.path}".rstrip()
        return f"{name} (call {self.call})" if self.call else name


Trace = Mapping[Key, "np.ndarray | None"]
"""Tensors of one step in order; None where there is no gradient path."""


def weights_after(trace: Trace) -> dict[str, np.ndarray]:
    """Parameters and statistics after a step, by name."""
    return {k.path: v for k, v in trace.items() if k.quantity in ("parameter", "statistic") and v is not None}


@runtime_checkable
class Subject(Protocol):
    """A model with its loss and optimizer, as the judgement needs it. Each twin has one: `gradlab_torch.Subject`."""

    framework: str

    def cast(self, dtype: str) -> Subject:
        """A fresh copy in `float32` or `float64`, with the same weights and an optimizer that has not stepped. The
        precision holds in float32; float64 is exact."""
        ...

    def at(self, precision: str) -> Subject:
        """A fresh copy that is run in that precision, one of `gradlab_core.parity.PRECISIONS`."""
        ...

    def arithmetic(self) -> Arithmetic:
        """What its float32 products are really made in: the precision by name, or measured if it is `as-is`."""
        ...

    def perturbed(self, arithmetic: Arithmetic, seed: int) -> Subject:
        """A fresh float64 copy whose every operation carries a random error of that arithmetic's unit roundoff."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Canonical weights."""
        ...

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Take canonical weights."""
        ...

    def step(self, x: Inputs, y: Any, epoch: int) -> Trace:
        """One training step on a canonical batch, and every tensor of it."""
        ...


@runtime_checkable
class LocalSubject(Subject, Protocol):
    """A subject whose layers can be run each from given inputs, so that faults are found one by one."""

    def local_step(self, x: Inputs, y: Any, epoch: int, given: Trace) -> Trace:
        """A step in which the tensors of layers, and the logits, are taken from `given` once they are computed."""
        ...
