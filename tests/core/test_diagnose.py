"""The rules on made-up runs: each fault is found for what it is, and its harmless look-alike is not."""

from __future__ import annotations

import dataclasses
import math
import tracemalloc

import pytest

import gradlab_core
from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import CODES, LiveDiagnosis, diagnose
from gradlab_core.judge.diagnosis.history import RECENT, SELECTED, History, Selection
from gradlab_core.judge.diagnosis.judging import CONSEQUENCES, RULES
from gradlab_core.records import GradientState, NonfiniteOrigin, Severity, TensorNorms
from tests.runs import CLASSES, SHAPES, flat, hidden, layer, probe, replaced, run, stats

LN = math.log(CLASSES)
WEIGHTS = [path for path, shape in SHAPES.items() if len(shape) > 1]


def alarms(records):
    """Codes of the findings that count."""
    return [f.code for f in diagnose(records) if f.severity is not Severity.NOTE]


def only(records):
    """The one finding of a run."""
    (found,) = diagnose(records)
    return found


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


def falling_at(step):
    return run(step + 1)[step].loss


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
