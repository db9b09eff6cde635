"""A step while it runs, and when it is over: its figures on their way to the host, and all else its record says."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from types import FrameType

import torch

from gradlab_core.definitions import reference
from gradlab_core.definitions.monitoring import Measured, step_record
from gradlab_core.definitions.quantities import EXTRAS, Quantity
from gradlab_core.records import GradientState, Probe, StepRecord
from gradlab_torch.monitoring.seen import Seen
from gradlab_torch.trees.transfer import Parts, Transfer

Norms = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass
class Started:
    """A step that is under way, known by the frame it runs in, and what was measured of it so far."""

    frame: FrameType
    registered: list[tuple[str, torch.nn.Parameter]] = dataclasses.field(default_factory=list)
    gradients: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    parts: Parts = dataclasses.field(default_factory=dict)


def is_running(frame: FrameType) -> bool:
    """Whether a frame is among the callers; if not, what it ran has ended, by an exception perhaps."""
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taken:
    """What the device measured is in `transfer`; the rest the program knew at that step, and may have changed since.

    `rates` are the learning rates, but for those in the transfer, which lie on a device; `stepped` says that the
    optimizer took the step; `quantities` are the extras in it; `changed` are the paths of gradients that are not those
    of the step any more. `seen` is what a look saw, which becomes the probe where there is none.
    """

    transfer: Transfer
    names: Sequence[str]
    sizes: Sequence[int]
    step: int
    rates: Sequence[float]
    known: Mapping[str, GradientState]
    probe: Probe | None
    seen: Seen | None
    stepped: bool
    quantities: Sequence[Quantity]
    changed: Collection[str]

    def record(self, before: Norms, score: Callable[[float], float | None]) -> tuple[StepRecord, Norms]:
        """The record, and the norms that the cosines of the next one are weighed with; `before` are those of the one
        before. Waits for the figures where they have not arrived."""
        numbers = self.transfer.numbers()
        grads, updates, lost = numbers.get("grad", {}), numbers["update"], numbers.get("lost", {})
        measured = Measured(
            names=self.names,
            sizes=self.sizes,
            params=list(numbers["param"].values()),
            grads=[grads.get(name) for name in self.names],
            updates=list(updates.values()),
            lost=[lost.get(name, 0.0) != 0.0 for name in self.names],
            raw_grad_norm=reference.global_norm([list(numbers["raw"].values())]) if "raw" in numbers else None,
            extras={q.name: numbers.get(q.name, {}) for q in self.quantities},
            before=before,
            quantities=[q for q in self.quantities if q.name not in EXTRAS],
            grad_updates=[
                v if n in grads and n not in self.changed else None for n, v in numbers["grad_update"].items()
            ],
            param_updates=list(numbers["param_update"].values()),
        )
        loss = numbers.get("loss", {}).get("loss")
        rates = {*self.rates, *numbers.get("rates", {}).values()}
        record = step_record(
            measured,
            step=self.step,
            loss=loss,
            learning_rate=rates.pop() if len(rates) == 1 else None,
            anomaly=score(measured.grad_norm),
            known=self.known,
            probe=self.probe if self.seen is None else self.seen.probe(numbers, loss),
        )
        record = record if self.stepped else dataclasses.replace(record, skipped=True)
        return record, {"grad_cosine": grads, "update_cosine": updates}
