"""Watches the losses of a run for sudden jumps, record by record and in bounded memory: a jump lies between two records
of an even selection."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import deque

from gradlab_core.definitions.thresholds import (
    SPIKE_LASTS,
    SPIKE_RATE,
    SPIKE_SHARE,
    SPIKE_SPREADS,
    SPIKE_WINDOW,
)
from gradlab_core.records import StepRecord

_MOST, _KEPT = 4, 16


@dataclasses.dataclass
class Spike:
    """A jump of the loss.

    Attributes:
        onset: the first record with a high loss; `before` the calm ones in front of it, the newest last.
        level: the loss before; what is above `limit` is high.
        highest: the largest loss since.
        high, calm: records above the limit since the onset, and those below it since the last high one.
        ended: the step from which on the loss was calm again; None while it is not.
    """

    onset: StepRecord
    before: list[StepRecord]
    level: float
    limit: float
    highest: float
    high: int = 1
    calm: int = 0
    ended: int | None = None


class SpikeWatch:
    """Takes the records of a run one by one; `spikes` are the first jumps that lasted, and the newest one."""

    def __init__(self) -> None:
        self.spikes: list[Spike] = []
        self._window: deque[tuple[float, StepRecord]] = deque(maxlen=SPIKE_WINDOW)
        self._first: list[float] = []
        self._open: Spike | None = None

    def add(self, record: StepRecord) -> None:
        """Take one record in; those without a finite loss are passed over."""
        if record.loss is None or not math.isfinite(record.loss):
            return
        if len(self._first) < 3:
            self._first.append(record.loss)
        if self._open is not None:
            self._follow(self._open, record, record.loss)
            return
        # The limit takes its time, and most losses lie below one that was calm.
        is_usual = not self._window or record.loss <= max(loss for loss, _ in self._window)
        limit = math.inf if is_usual else self._limit()
        if record.loss <= limit:
            self._window.append((record.loss, record))
        elif not self._rate_rose(record):
            losses, before = zip(*self._window, strict=True)
            level = statistics.median(losses)
            self._open = Spike(record, list(before[-_KEPT:]), level=level, limit=limit, highest=record.loss)
        else:
            self._window.clear()

    def _limit(self) -> float:
        """Above it a loss is high: far above all but a tenth of the newest ones, so far that a good part of what was
        learned is lost. Inf while there are too few, or nothing has been learned."""
        if len(self._window) < SPIKE_WINDOW // 2:
            return math.inf
        losses = sorted(loss for loss, _ in self._window)
        level, upper = statistics.median(losses), losses[int(0.9 * len(losses))]
        learned = statistics.median(self._first) - level
        if learned <= max(0.05 * abs(self._first[0]), upper - level):
            return math.inf
        return level + max(SPIKE_SPREADS * (upper - level), SPIKE_SHARE * learned)

    def _rate_rose(self, record: StepRecord) -> bool:
        """Whether the schedule made the step longer, as a warm restart does."""
        newest = [r.learning_rate for _, r in self._window if r.learning_rate is not None]
        if not newest:
            return False
        last = max(*newest[-4:], record.learning_rate or 0.0)
        return last > SPIKE_RATE * statistics.median(newest)

    def _follow(self, spike: Spike, record: StepRecord, loss: float) -> None:
        if loss > spike.limit:
            spike.high, spike.calm = spike.high + 1, 0
            spike.highest = max(spike.highest, loss)
            if spike.high == SPIKE_LASTS:
                self.spikes = [*self.spikes[: _MOST - 1], spike]
            return
        spike.calm += 1
        if spike.calm == SPIKE_LASTS:
            spike.ended = record.step
            self._open = None
            self._window.append((loss, record))
