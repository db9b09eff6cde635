"""Forward passes that draw random numbers: two frameworks cannot draw the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradlab_core.errors import refuse
from gradlab_core.parity import tolerance
from gradlab_core.parity.batch import Inputs
from gradlab_core.parity.trace import FORWARD, Key, Subject


def refuse_chance(sides: Mapping[str, Subject], batch: tuple[Inputs, Any], start: Mapping[str, np.ndarray]) -> None:
    """Refuse subjects, named by their roles, that compute something else when they run again from the same weights."""
    drawn = {role: _drawn(subject, batch, start) for role, subject in sides.items()}
    refuse(
        "parity",
        [
            f"the {role}'s forward pass draws random numbers: run twice on the same weights it differs at {key}; "
            "expected none, since two frameworks do not draw the same (dropout: set its rate to 0)"
            for role, key in drawn.items()
            if key is not None
        ],
    )


def _drawn(subject: Subject, batch: tuple[Inputs, Any], start: Mapping[str, np.ndarray]) -> Key | None:
    """The first tensor that differs."""
    run = subject.cast("float64")
    traces = []
    for _ in range(2):
        run.load(start)
        traces.append({k: v for k, v in run.step(*batch, 0).items() if k.quantity in FORWARD and v is not None})
    first, second = traces
    return next(
        (
            key
            for key, value in first.items()
            if key not in second
            or not tolerance.distance(second[key], value) <= tolerance.LOGIC * (tolerance.size(value) or 1.0)
        ),
        None,
    )
