"""Every scenario of the gallery: found as what it is, and gone when it is repaired."""

from __future__ import annotations

import functools
import statistics

import pytest

from gradlab_core.judge.diagnosis import CODES, diagnose
from gradlab_core.programs.scenarios import FAMILIES, SCENARIOS
from gradlab_core.records import Severity

FAULTY = [name for name, scenario in SCENARIOS.items() if scenario.fix is not None]
HEALTHY = [name for name, scenario in SCENARIOS.items() if scenario.fix is None]


@functools.cache  # several faults have one remedy
def run(program):
    import gradlab_torch

    return gradlab_torch.run_program(program)


def alarms(records):
    return [found.code for found in diagnose(records) if found.severity is not Severity.NOTE]


def learns(records):
    losses = [record.loss for record in records]
    return statistics.median(losses[-10:]) < 0.7 * statistics.median(losses[:3])


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_found_and_its_remedy_helps(name):
    scenario = SCENARIOS[name]
    assert alarms(run(scenario.program))[0] == scenario.codes[0]
    repaired = run(scenario.fix)
    assert alarms(repaired) == []
    assert learns(repaired)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_program_raises_no_alarm(name):
    records = run(SCENARIOS[name].program)
    assert alarms(records) == []
    assert learns(records)


def test_the_gallery_has_every_family_and_every_code():
    assert {scenario.family for scenario in SCENARIOS.values()} == set(FAMILIES)
    shown = {code for scenario in SCENARIOS.values() for code in scenario.codes}
    assert shown <= set(CODES)
    # The first two are cousins of others in it; the third is planted by `tests/torch/test_looking.py`.
    assert set(CODES) - shown <= {"nonfinite-gradient", "learning-rate-too-low", "softmax-before-loss"}
