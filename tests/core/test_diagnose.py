"""Faults of the net on made-up runs: each is found for what it is, and its harmless look-alike is not."""

from __future__ import annotations

import dataclasses
import math

import pytest

import gradlab_core
from gradlab_core.judge.diagnosis import CODES, diagnose
from gradlab_core.judge.diagnosis.judging import CONSEQUENCES, RULES
from gradlab_core.records import GradientState, NonfiniteOrigin, Severity, TensorNorms
from tests.core.alarms import LN, alarms, falling_at, only
from tests.runs import SHAPES, flat, hidden, layer, probe, replaced, run, stats

WEIGHTS = [path for path, shape in SHAPES.items() if len(shape) > 1]


def test_a_healthy_run_has_no_finding():
    assert diagnose(run()) == []
    assert diagnose(run(probes=None)) == []
    assert diagnose([]) == []
    assert diagnose(run(1)) == []


def test_the_function_stands_where_the_contract_says():
    assert gradlab_core.diagnose is diagnose


def test_a_loss_that_is_no_number():
    def burst(record):
        if record.step != 40:
            return record
        origin = NonfiniteOrigin(phase="forward", path="act2", operation="log", value="inf")
        return dataclasses.replace(record, loss=math.inf, grad_norm=math.nan, probe=probe(loss=math.inf, origin=origin))

    found = only(run(41, change=burst))
    assert (found.code, found.severity, found.first_step, found.paths) == (
        "nonfinite-loss", Severity.CRITICAL, 40, ("act2",),
    )  # fmt: skip
    assert "operation log" in found.explanation
    assert found.evidence["loss before"] == pytest.approx(falling_at(39))


def test_a_gradient_that_is_no_number_names_the_first_tensor():
    def burst(record):
        if record.step != 40:
            return record
        states = {**record.states, "fc2.weight": GradientState.NONFINITE, "fc1.weight": GradientState.NONFINITE}
        return dataclasses.replace(record, grad_norm=math.inf, states=states)

    found = only(run(60, change=burst))
    assert (found.code, found.first_step, found.paths[0]) == ("nonfinite-gradient", 40, "fc1.weight")


def test_steps_that_a_loss_scaler_left_out_are_no_fault():
    def overflow(record):
        skipped = dataclasses.replace(record, grad_norm=math.inf, update_norm=0.0, update_ratio=0.0, skipped=True)
        return skipped if record.step < 3 else record

    assert diagnose(run(change=overflow)) == []
    assert alarms(run(change=lambda r: dataclasses.replace(r, grad_norm=math.inf) if r.step == 3 else r)) == [
        "nonfinite-gradient"
    ]


def test_records_out_of_order_and_steps_recorded_twice():
    records = run(loss=lambda step: LN * (1 + step / 10), ratio=0.3)
    assert diagnose([*records[50:], *records[:60]]) == diagnose(records)


@pytest.mark.parametrize("level", [-1.0, -100.0])
def test_a_negative_loss_is_no_fault(level):
    assert alarms(run(loss=lambda step: level - step, probes=None, ratio=0.05)) == []
    assert alarms(run(loss=flat(level), probes=None, ratio=0.05)) == []


@pytest.mark.parametrize("probes", [None, lambda step: probe()])
def test_disconnected_parameters_the_nearest_to_the_loss_first(probes):
    cut = {"fc1.weight": None, "fc1.bias": None}
    records = run(grads=cut, states=dict.fromkeys(cut, GradientState.DISCONNECTED), probes=probes)
    found = only(records)
    assert (found.code, found.severity, found.paths) == (
        "disconnected-parameter", Severity.WARNING, ("fc1.bias", "fc1.weight"),
    )  # fmt: skip
    # A parameter that is not used at every step is not disconnected.
    now_and_then = [dataclasses.replace(r, states=dict.fromkeys(SHAPES, GradientState.OK)) for r in run(1)]
    assert alarms([*records, *[dataclasses.replace(r, step=100) for r in now_and_then]]) == []


def test_a_net_that_stands_still():
    still = replaced(update_norm=0.0, update_ratio=0.0)
    found = only(run(loss=flat(LN), ratio=0.0, change=still))
    assert (found.code, found.severity, set(found.paths)) == ("not-updating", Severity.CRITICAL, set(SHAPES))
    found = only(run(loss=flat(LN), ratio=0.0, change=replaced(update_norm=0.0, update_ratio=0.0, learning_rate=0.0)))
    assert "learning rate is 0" in found.explanation


def test_updates_that_are_never_applied():
    def same(record):
        tensors = {p: dataclasses.replace(n, param=4.0) for p, n in record.tensors.items()}
        return dataclasses.replace(record, tensors=tensors)

    assert "never applied" in only(run(loss=flat(LN), change=same)).explanation
    assert alarms(run(change=same)) == []  # the loss falls: a projection keeps the norms


def test_parameters_the_optimizer_does_not_know():
    states = {"fc2.weight": GradientState.UNREGISTERED, "fc2.bias": GradientState.UNREGISTERED}
    found = only(run(states=states))
    assert (found.code, found.severity, found.paths) == (
        "not-updating", Severity.WARNING, ("fc2.weight", "fc2.bias"),
    )  # fmt: skip


def test_a_frozen_trunk_is_meant_and_a_frozen_layer_behind_trained_ones_is_not():
    trunk = dict.fromkeys(["fc1.weight", "fc1.bias"], GradientState.FROZEN)
    middle = dict.fromkeys(["fc2.weight", "fc2.bias"], GradientState.FROZEN)
    assert [(f.code, f.severity) for f in diagnose(run(states=trunk))] == [("not-updating", Severity.NOTE)]
    assert alarms(run(states=trunk, loss=flat(LN))) == ["loss-plateau"]
    found = only(run(states=middle))
    assert (found.severity, found.paths) == (Severity.WARNING, ("fc2.weight", "fc2.bias"))


def test_updates_lost_to_rounding():
    lost = dict.fromkeys(SHAPES, GradientState.LOST)
    found = only(run(loss=flat(LN), states=lost, ratio=0.0, change=replaced(update_norm=0.0, update_ratio=0.0)))
    assert (found.code, found.severity, found.evidence["share of steps lost"]) == ("not-updating", Severity.CRITICAL, 1)
    few = run(change=lambda r: dataclasses.replace(r, states=lost) if r.step % 5 == 0 else r)
    assert alarms(few) == []


def test_dead_relus():
    def dying(step):
        return probe(layers=(layer("act1"), layer("act2", dead_unit_frac=1.0 if step >= 40 else 0.2)))

    found = only(run(probes=dying, loss=flat(LN)))
    assert (found.code, found.severity, found.paths, found.first_step) == (
        "dead-relu", Severity.CRITICAL, ("act2",), 40,
    )  # fmt: skip
    sparse = probe(layers=(layer("act1"), layer("act2", zero_frac=0.95, dead_unit_frac=0.6)))
    assert alarms(run(probes=lambda step: sparse)) == []
    once = [probe(layers=(layer("act1", dead_unit_frac=1.0),)), probe()]
    assert alarms(run(probes=lambda step: once[0] if step == 40 else once[1])) == []


def test_saturated_activations():
    full = probe(layers=(layer("act1", "tanh", saturated_frac=0.97),))
    found = only(run(probes=lambda step: full, loss=flat(LN)))
    assert (found.code, found.severity, found.paths) == ("saturated-activation", Severity.WARNING, ("act1",))
    assert alarms(run(probes=lambda step: full)) == ["saturated-activation"]  # it learns, in spite of its start
    assert alarms(run(probes=lambda step: full if step > 40 else probe(layers=(layer("act1", "tanh"),)))) == []
    state = probe(hidden=hidden(0.5, saturated={"h": (0.95,) * 20}))
    assert alarms(run(probes=lambda step: state, loss=flat(LN))) == ["saturated-activation"]


def test_units_that_are_copies():
    def alike(share):
        return probe(copies={**dict.fromkeys(WEIGHTS, 0.0), "fc2.weight": share})

    found = only(run(probes=lambda step: alike(1.0), loss=flat(LN)))
    assert (found.code, found.severity, found.paths) == ("symmetric-units", Severity.CRITICAL, ("fc2.weight",))
    assert alarms(run(probes=lambda step: alike(1.0 if step == 0 else 0.0))) == []  # training told them apart
    last = probe(copies={**dict.fromkeys(WEIGHTS, 0.0), "fc3.weight": 1.0})
    assert alarms(run(probes=lambda step: last)) == []  # the last layer's units have labels of their own


def test_a_net_that_starts_and_stays_at_zero():
    def zero(record):
        tensors = dict(record.tensors)
        for path in ("fc1.weight", "fc2.weight"):
            tensors[path] = TensorNorms(param=0.0, grad=0.0, update=0.0, ratio=0.0)
        return dataclasses.replace(record, tensors=tensors)

    found = only(run(loss=flat(LN), change=zero))
    assert (found.code, found.paths) == ("symmetric-units", ("fc1.weight", "fc2.weight"))
    # One that merely starts there, as the last layers of residual branches do.
    assert alarms(run(change=lambda r: zero(r) if r.step == 0 else r)) == []


def test_consequences_are_not_said_again():
    def loud(step):
        return probe(input=stats(150.0))

    records = run(probes=loud, loss=lambda step: LN * (1 + step), ratio=0.3)
    assert alarms(records) == ["unnormalised-input"]
    assert set(CONSEQUENCES) <= set(CODES)
    assert set().union(*CONSEQUENCES.values()) <= set(CODES)


def test_every_code_has_a_rule_and_every_finding_something_to_do():
    assert len(RULES) >= len(CODES) - 1  # two codes share the rule on NaN
    assert all(code.remedies and code.explanation and code.title for code in CODES.values())
