"""Wrong sizes and rates on made-up runs: inputs, losses, weights, gradients, steps that are too large or small."""

from __future__ import annotations

import dataclasses
import math

import pytest

from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.records import Severity
from tests.core.alarms import LN, alarms, falling_at, only
from tests.runs import SHAPES, flat, hidden, layer, probe, run, stats


def test_inputs_and_targets_of_a_wrong_size():
    def loud(step):
        return probe(input=stats(30.0))

    found = only(run(probes=loud, loss=flat(3 * LN)))
    assert (found.code, found.severity, found.paths) == ("unnormalised-input", Severity.WARNING, ("fc1.weight",))
    assert [(f.code, f.severity) for f in diagnose(run(probes=loud))] == [("unnormalised-input", Severity.NOTE)]
    assert alarms(run(probes=lambda step: probe(input=stats(150.0)))) == ["unnormalised-input"]
    assert diagnose(run(probes=lambda step: probe(input=stats(0.4, mean=0.3, std=0.3)))) == []
    far = probe(classes=None, input=stats(), target=stats(1e3), loss=1e6)
    assert alarms(run(probes=lambda step: far, loss=flat(1e6))) == ["unscaled-target"]


def test_a_loss_that_is_a_sum():
    def summed(step):
        return probe(loss=32 * LN)

    found = only(run(probes=summed, loss=lambda step: 32 * falling_at(step)))
    assert (found.code, found.evidence["batch"]) == ("loss-reduction", 32)
    far_off = probe(loss=32 * LN, output=stats(40.0))  # a mean over answers that are far too sure
    assert "loss-reduction" not in alarms(run(probes=lambda step: far_off))


def test_weights_of_a_wrong_size():
    def start(record):
        tensors = {p: dataclasses.replace(n, param=25 * n.param) for p, n in record.tensors.items()}
        return dataclasses.replace(record, tensors=tensors)

    wild = probe(output=stats(300.0), loss=200.0)
    found = only(run(probes=lambda step: wild, loss=flat(200.0), change=start))
    assert (found.code, found.paths[0]) == ("poor-initialisation", "fc3.weight")
    silent = probe(output=stats(0.0), layers=(layer("act1"), layer("act2")))  # a last layer that starts at 0
    assert diagnose(run(probes=lambda step: silent)) == []


def test_gradients_that_explode():
    def grown(record):
        late = {"grad_norm": record.grad_norm * 1e5, "update_ratio": 0.02}
        return dataclasses.replace(record, **late) if record.step > 30 else record

    found = only(run(loss=lambda step: LN if step < 30 else 5 * LN, change=grown))
    assert (found.code, found.severity) == ("exploding-gradient", Severity.CRITICAL)
    assert 31 <= found.first_step <= 33
    assert diagnose(run(change=grown)) == []  # it learns all the same, as with a clipped spike
    harmless = run(loss=flat(LN), norm=lambda step: 1e3, ratio=1e-4)  # Adam's steps do not grow with the gradient
    assert "exploding-gradient" not in alarms(harmless)
    large = run(loss=lambda step: 100 * falling_at(step), norm=lambda step: 1e3, probes=None)
    assert diagnose(large) == []


def test_gradients_that_vanish_in_depth():
    faint = {"fc1.weight": 1e-7, "fc1.bias": 1e-7, "fc2.weight": 1e-4, "fc3.weight": 0.1}
    found = only(run(loss=flat(LN), grads=faint))
    assert (found.code, found.paths[0]) == ("vanishing-gradient", "fc1.weight")
    assert diagnose(run(grads=faint)) == []  # it learns
    everywhere = dict.fromkeys(SHAPES, 1e-7)
    assert "vanishing-gradient" not in alarms(run(grads=everywhere, loss=flat(1e-6)))  # converged


def test_gradients_that_vanish_or_explode_in_time():
    for way, code in ((1e-9, "vanishing-gradient"), (1e6, "exploding-gradient")):
        found = only(run(loss=flat(math.log(2)), probes=lambda step, way=way: probe(classes=2, hidden=hidden(way))))
        assert (found.code, found.paths) == (code, ("rnn",))
        assert found.evidence["first against last time step"] == pytest.approx(way)
    assert diagnose(run(probes=lambda step: probe(hidden=hidden(1e-9)))) == []


def test_learning_rates():
    found = only(run(loss=lambda step: LN * (1 + step / 10), ratio=0.3))
    assert (found.code, found.severity) == ("learning-rate-too-high", Severity.CRITICAL)
    assert diagnose(run(ratio=0.3)) == []
    found = only(run(loss=flat(LN), ratio=1e-6))
    assert (found.code, found.severity) == ("learning-rate-too-low", Severity.WARNING)
    assert diagnose(run(ratio=1e-6)) == []  # a tiny rate that works


def test_a_plateau():
    found = only(run(loss=flat(LN)))
    assert (found.code, found.evidence["of a constant answer"]) == ("loss-plateau", pytest.approx(LN))
    assert alarms(run(loss=flat(math.log(2)), probes=None)) == ["loss-plateau"]
    assert alarms(run(loss=flat(0.01))) == []  # converged
    assert alarms(run(loss=flat(1.7), probes=None)) == []  # nobody knows what 1.7 is
    regression = probe(classes=None, target=stats(0.5), loss=0.25)
    assert alarms(run(loss=flat(0.25), probes=lambda step: regression)) == ["loss-plateau"]
