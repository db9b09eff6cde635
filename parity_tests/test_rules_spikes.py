"""Losses that jump, and noisy ones that do not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from gradlab_core import backends
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.programs.program import OptimizerSpec
from gradlab_core.programs.scenarios import SCENARIOS
from gradlab_core.records import Severity
from parity_tests.loops import CLASSES, FEATURES, alarms, in_torch
from tests.runs import run

WILD = SCENARIOS["wild-batches"].program


def spikes(records):
    return [found for found in diagnose(records) if found.code == "loss-spike"]


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_jump_for_good_is_a_warning_and_one_that_is_over_a_note(framework):
    run_program = backends.load(framework).run_program
    (found,) = spikes(run_program(dataclasses.replace(WILD, probe_every=0)))
    assert (found.severity, found.first_step) == (Severity.WARNING, 75)
    assert "as usual" in found.explanation
    assert "batches" in found.remedies[0]
    adam = dataclasses.replace(WILD, optimizer=OptimizerSpec(name="adam", learning_rate=1e-3), probe_every=0)
    records = run_program(adam)
    (found,) = spikes(records)
    assert (found.severity, found.first_step) == (Severity.NOTE, 75)
    assert alarms(records) == []


def test_an_update_that_grew_before_the_loss_is_named():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)

    def burst(step):
        if step == 80:
            model[0].weight.grad.mul_(60)

    (found,) = spikes(in_torch(model, optimizer, steps=140, before_step=burst))
    assert (found.first_step, found.paths) == (81, ("0.weight",))
    assert found.evidence["update norm before it, against the usual"] > 20
    assert "clip" in found.remedies[0]


def random_walk(seed):
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.standard_normal(400) * 0.05)
    return lambda step: float(1.0 + steps[step])


def heavy_tailed(seed):
    rng = np.random.default_rng(seed)
    noise = rng.pareto(1.5, 400)
    return lambda step: float((0.2 + np.exp(-step / 60)) * (0.5 + noise[step]))


def against_each_other(seed):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(400)
    return lambda step: float(0.7 + 0.5 * np.sin(step / 15) + 0.15 * noise[step])


@pytest.mark.parametrize("shape", [random_walk, heavy_tailed, against_each_other])
@pytest.mark.parametrize("seed", range(5))
def test_noisy_losses_are_no_spikes(shape, seed):
    records = run(400, loss=shape(seed), probes=None)
    assert [f for f in spikes(records) if f.severity is not Severity.NOTE] == []


@pytest.mark.parametrize("batch", [1, 4])
def test_small_batches_are_no_spikes(batch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def of_some(out, y):
        return nn.functional.cross_entropy(out[:batch], y[:batch])

    assert alarms(in_torch(model, torch.optim.SGD(model.parameters(), lr=0.05), steps=400, loss=of_some)) == []


def test_a_warm_restart_is_no_spike():
    def restarted(step):
        return 0.3 + 2.0 * np.exp(-(step % 100) / 20) * (1.0 if step < 100 else 0.6)

    def change(record):
        return dataclasses.replace(record, learning_rate=0.1 * (1 - (record.step % 100) / 101))

    assert spikes(run(300, loss=restarted, probes=None, change=change)) == []
    assert spikes(run(300, loss=restarted, probes=None)) != []
