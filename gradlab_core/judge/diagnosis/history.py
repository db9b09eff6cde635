"""The history of a run, which the rules read; its memory does not grow with the length of the run.

Every record is counted, and the first ones, the newest ones and an even selection in between are kept. So a run that
has ended and a run that goes on are judged by the same code.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from gradlab_core.judge.diagnosis.spikes import SpikeWatch
from gradlab_core.records import GradientState, Probe, StepRecord

EARLY, RECENT = 16, 32
SELECTED, PROBED = 256, 32
T = TypeVar("T")


class Selection(Generic[T]):
    """Every k-th of a stream, with k doubled whenever there are more than `most`: even, and of bounded size.

    >>> chosen = Selection(4)
    >>> for i in range(10): chosen.add(i)
    >>> chosen.items
    [0, 4, 8]
    """

    def __init__(self, most: int) -> None:
        self.most, self.stride, self.seen = most, 1, 0
        self.items: list[T] = []

    def add(self, item: T) -> None:
        if self.seen % self.stride == 0:
            self.items.append(item)
            if len(self.items) > self.most:
                self.items = self.items[::2]
                self.stride *= 2
        self.seen += 1


@dataclasses.dataclass
class Stay:
    """How long a parameter was in a state: the first step, and the number of records."""

    first: int
    count: int = 1


class History:
    """A run so far. `add` its records in the order of their steps.

    Attributes:
        count: records seen.
        early, recent: the first `EARLY` and the newest `RECENT` records.
        selected: an even selection of all.
        states: `{state: {path: Stay}}` for the states other than ok.
        order: paths of all tensors, in the order of the model.
        probes: an even selection of `(step, probe)`, and `last_probe`.
        first_nonfinite: the first record that holds a NaN or an Inf in a loss or a norm, of a step that was taken.
        spikes: jumps of the loss.
        travelled: the sum of all update ratios: how far the net can have moved, in its own length.
    """

    def __init__(self) -> None:
        self.count = 0
        self.early: list[StepRecord] = []
        self.recent: deque[StepRecord] = deque(maxlen=RECENT)
        self._selection: Selection[StepRecord] = Selection(SELECTED)
        self._probes: Selection[tuple[int, Probe]] = Selection(PROBED)
        self.last_probe: tuple[int, Probe] | None = None
        self.states: dict[GradientState, dict[str, Stay]] = {}
        self.order: dict[str, int] = {}
        self._known: Mapping[str, GradientState] | None = None
        self._odd: list[tuple[str, GradientState]] = []
        self.first_nonfinite: StepRecord | None = None
        self.spikes = SpikeWatch()
        self.travelled = 0.0

    def add(self, record: StepRecord) -> None:
        """Take one record in."""
        self.count += 1
        if len(self.early) < EARLY:
            self.early.append(record)
        self.recent.append(record)
        self._selection.add(record)
        self.spikes.add(record)
        if record.probe is not None:
            self.last_probe = record.step, record.probe
            self._probes.add(self.last_probe)
        if self.first_nonfinite is None and not is_finite(record) and not was_averted(record):
            self.first_nonfinite = record
        known, self._known = self._known, record.states
        if record.states is not known:  # records that are read from a file share it where it is the same
            self._odd = [(path, state) for path, state in record.states.items() if state is not GradientState.OK]
            if known is None or record.states.keys() != known.keys():
                for path in [*record.states, *record.tensors]:
                    self.order.setdefault(path, len(self.order))
        for path, state in self._odd:
            _count(self.states.setdefault(state, {}), path, record.step)
        if math.isfinite(record.update_ratio):
            self.travelled += record.update_ratio

    @property
    def selected(self) -> list[StepRecord]:
        """An even selection of the records, the newest included."""
        items = self._selection.items
        return items if not self.recent or items[-1] is self.recent[-1] else [*items, self.recent[-1]]

    @property
    def probes(self) -> list[tuple[int, Probe]]:
        """An even selection of `(step, probe)`, the newest included."""
        items = self._probes.items
        return items if self.last_probe is None or items[-1] is self.last_probe else [*items, self.last_probe]

    def always(self, state: GradientState) -> list[str]:
        """Paths that were in a state at every record, in the order of the model."""
        return self.paths([path for path, stay in self.states.get(state, {}).items() if stay.count == self.count])

    def paths(self, paths: Sequence[str]) -> list[str]:
        """The paths, sorted in the order of the model."""
        return sorted(paths, key=lambda path: self.order.get(path, len(self.order)))

    def losses(self) -> tuple[list[int], list[float]]:
        """Steps and losses of the selected records whose loss is a finite number."""
        pairs = [(r.step, r.loss) for r in self.selected if r.loss is not None and math.isfinite(r.loss)]
        return [step for step, _ in pairs], [loss for _, loss in pairs]


def is_finite(record: StepRecord) -> bool:
    """Whether loss and norms are numbers. A norm over all tensors is finite just if those of all tensors are."""
    numbers = (record.grad_norm, record.param_norm, record.update_norm)
    return all(map(math.isfinite, numbers)) and (record.loss is None or math.isfinite(record.loss))


def was_averted(record: StepRecord) -> bool:
    """Whether a gradient that is not finite did no harm because the step was skipped, as a loss scaler does while it
    looks for its scale."""
    return record.skipped and math.isfinite(record.param_norm) and (record.loss is None or math.isfinite(record.loss))


def _count(stays: dict[str, Stay], path: str, step: int) -> None:
    stay = stays.get(path)
    if stay is None:
        stays[path] = Stay(step)
    else:
        stay.count += 1
