"""The diagnosis of a run that is still going: what it remembers, and when it speaks."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc

import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import LiveDiagnosis, diagnose
from gradlab_core.judge.diagnosis.history import RECENT, SELECTED, History, Selection
from tests.core.alarms import LN
from tests.runs import run


def test_a_history_forgets_all_but_a_bounded_part():
    chosen = Selection(4)
    for i in range(1000):
        chosen.add(i)
    assert len(chosen.items) <= 5
    assert [b - a for a, b in zip(chosen.items, chosen.items[1:], strict=False)] == [chosen.stride] * (
        len(chosen.items) - 1
    )
    history = History()
    for record in run(2000, probes=None):
        history.add(record)
    assert len(history.selected) <= SELECTED + 1
    assert len(history.recent) == RECENT
    assert history.selected[-1].step == 1999


def test_live_tells_each_finding_once_and_as_soon_as_it_is_there():
    told = []
    watch = LiveDiagnosis(lambda finding: told.append((watch.history.count, finding)), every=10)
    for record in run(loss=lambda step: LN * (1 + step / 10), ratio=0.3):
        watch(record)
    assert [finding.code for _, finding in told] == ["learning-rate-too-high"]
    assert told[0][0] <= 50
    assert watch.findings() == diagnose(run(loss=lambda step: LN * (1 + step / 10), ratio=0.3))
    told.clear()
    watch = LiveDiagnosis(lambda finding: told.append((watch.history.count, finding)), every=1000)
    for record in run(20, change=lambda r: dataclasses.replace(r, loss=math.nan) if r.step == 7 else r):
        watch(record)
    assert [(count, finding.code) for count, finding in told] == [(8, "nonfinite-loss")]
    with pytest.raises(GradlabError, match="every is 0"):
        LiveDiagnosis(print, every=0)


def test_live_memory_does_not_grow():
    def peak(steps):
        watch = LiveDiagnosis(lambda finding: None)
        tracemalloc.start()
        for start in range(0, steps, 100):
            for record in run(100, probes=None):
                watch(dataclasses.replace(record, step=start + record.step))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(3000) < 1.5 * peak(800)
