"""The norm report: its worked examples, its classes with and without a history, its numbers and words."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from gradlab_core.definitions import reference
from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.judge.diagnosis.rules.gradients import usual_norm
from gradlab_core.judge.norm_classes import EXPLODING, STABLE, VANISHING
from gradlab_core.judge.norm_report import moving_average, norm_class, norm_report
from gradlab_core.records import GradientState, Probe, StepRecord, TensorNorms, TensorStats
from tests.recorded import eventful, step

ANSWERS = TensorStats(shape=(32, 2), mean=0.0, std=0.1, min=-1.0, max=1.0, rms=0.1, zero_frac=0.0, nonfinite=0)


def record(number: int = 0, *, grad: float = 1.0, param: float = 10.0, rate: float | None = 0.001, **more: Any) -> Any:
    applied = (rate or 0.0) * grad
    fields: dict[str, Any] = {
        "loss": None, "learning_rate": rate, "grad_norm": grad, "param_norm": param, "update_norm": applied,
        "update_ratio": reference.ratio(applied, param), "tensors": {}, "states": {},
    }  # fmt: skip
    return StepRecord(step=number, **(fields | more))


def probe(classes: int = 2) -> Probe:
    return Probe(
        mode="train", batch=32, classes=classes, loss=0.7, input=None, output=ANSWERS, target=None, layers=(),
        shapes={}, copies={},
    )  # fmt: skip


def classes(records: list[StepRecord]) -> list[str | None]:
    """The class of every record."""
    return [row.norm_class for row in norm_report(records, steps=[r.step for r in records]).rows]


# The worked examples.


@pytest.mark.parametrize(
    ("grad", "param", "loss", "accuracy", "word", "ratio"),
    [
        (0.33, 69.77, None, None, STABLE, 4.73e-6),
        (1783.42, 965.10, math.nan, None, EXPLODING, 1.848e-3),
        (0.0008, 3.12, 0.693, 0.5, VANISHING, 2.564e-7),
    ],
)
def test_the_worked_examples(grad, param, loss, accuracy, word, ratio):
    assert norm_class(grad, param, loss=loss, accuracy=accuracy) == word
    row = norm_report([record(grad=grad, param=param, loss=loss)]).rows[0]
    assert row.norm_class == word
    assert row.step_ratio == pytest.approx(ratio, rel=1e-3)
    assert row.estimated_update == pytest.approx(0.001 * grad)


def test_without_a_loss_the_norms_decide():
    assert norm_class(1783.42, 965.10) == EXPLODING
    assert norm_class(0.0008, 3.12) == VANISHING


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_not_finite_is_exploding(odd):
    assert norm_class(odd, 1.0) == norm_class(1.0, odd) == norm_class(1.0, 1.0, loss=odd) == EXPLODING


def test_a_large_net_may_have_a_large_gradient_and_a_small_one_a_small():
    assert norm_class(150.0, 5000.0) == STABLE
    assert norm_class(5e-4, 0.01) == STABLE


def test_zero_is_a_vanished_gradient_and_no_path_is_none():
    assert norm_class(0.0, 3.0, loss=0.7) == VANISHING
    assert norm_class(0.0, 0.0, loss=0.7) == VANISHING
    assert norm_class(0.0, 3.0, loss=0.0) == STABLE  # nothing is left to learn
    cut = TensorNorms(param=3.0, grad=None, update=0.0, ratio=0.0)
    records = [
        record(grad=0.0, tensors={"a": cut}, states={"a": GradientState.DISCONNECTED}),
        record(1, grad=0.0, tensors={"a": dataclasses.replace(cut, grad=0.0)}, states={"a": GradientState.ZERO}),
    ]
    assert classes(records) == [None, VANISHING]
    assert "no parameter has a gradient path" in norm_report(records).notes[0]
    # Either of them says it alone.
    assert classes([record(grad=0.0, tensors={"a": cut}), record(1, grad=0.0)]) == [None, VANISHING]
    assert classes([record(grad=0.0, states={"a": GradientState.DISCONNECTED})]) == [None]


# With a history.


def test_a_small_gradient_at_convergence_is_not_vanishing():
    falling = [record(i, grad=max(1.0 * 0.8**i, 1e-6), loss=2.0 * 0.9**i + 0.2) for i in range(100)]
    assert set(classes(falling)) == {STABLE}
    stuck = [record(i, grad=1e-5, loss=2.0 + 0.01 * math.sin(i)) for i in range(100)]
    assert set(classes(stuck)) == {VANISHING}


def test_a_probe_says_what_chance_is():
    """A loss that has fallen, to that of a constant answer, and stays there."""
    fell = [record(i, grad=1e-5, loss=0.69 + 2.0 * 0.5**i) for i in range(60)]
    assert classes(fell)[-1] == STABLE
    known = [dataclasses.replace(fell[0], probe=probe()), *fell[1:]]
    assert classes(known)[-1] == VANISHING


def test_a_net_that_starts_well_has_not_vanished():
    tuned = [record(i, grad=5e-4, loss=0.03 + 0.001 * (i % 3)) for i in range(30)]
    assert set(classes(tuned)) == {STABLE}


def test_a_large_gradient_is_no_explosion_while_the_loss_falls():
    falls = [record(i, grad=500.0, loss=100.0 * 0.9**i) for i in range(50)]
    assert set(classes(falls)) == {STABLE}
    assert diagnose(falls) == []
    assert norm_class(500.0, 10.0, loss=100.0) == EXPLODING  # of the first record nothing is known yet
    rises = [record(i, grad=500.0, loss=1.1**i) for i in range(50)]
    assert set(classes(rises)) == {EXPLODING}
    sudden = [*falls, record(50, grad=5e4, loss=0.5, anomaly=12.0)]
    assert classes(sudden)[-1] == EXPLODING
    harmless = [*falls, record(50, grad=5e4, loss=0.5, anomaly=12.0, update_ratio=1e-3)]
    assert classes(harmless)[-1] == STABLE


def test_the_class_agrees_with_the_findings():
    """An optimizer that makes a large gradient harmless, one that does not, and layers that get no gradient."""
    stuck = [record(i, grad=30.0, loss=2.0 + 0.01 * math.sin(i), update_ratio=1e-3) for i in range(50)]
    assert [f.code for f in diagnose(stuck) if "gradient" in f.code] == []
    assert set(classes(stuck)) == {STABLE}
    thrown = [record(i, grad=30.0, loss=2.0 + 0.01 * math.sin(i), update_ratio=0.02) for i in range(50)]
    assert "exploding-gradient" in [f.code for f in diagnose(thrown)]
    assert set(classes(thrown)) == {EXPLODING}
    grads = {"fc1.weight": 1e-6, "fc2.weight": 1e-3, "fc3.weight": 1.0}

    def norms(i: int) -> dict[str, TensorNorms]:
        return {p: TensorNorms(param=1 + i / 100, grad=g, update=g / 100, ratio=g / 100) for p, g in grads.items()}

    faded = [record(i, loss=2.0 + 0.01 * math.sin(i), tensors=norms(i)) for i in range(50)]
    assert "vanishing-gradient" in [f.code for f in diagnose(faded)]
    assert set(classes(faded)) == {VANISHING}


def test_a_gradient_that_grows_a_hundredfold_explodes_in_a_large_net_too():
    """Never longer than the parameters, but far beyond what it was at first."""
    calm = [record(i, grad=0.5, param=1000.0, loss=2.0, update_ratio=1e-3) for i in range(10)]
    grown = [record(i, grad=60.0, param=1000.0, loss=2.0, update_ratio=0.02) for i in range(10, 30)]
    assert "exploding-gradient" in [f.code for f in diagnose([*calm, *grown])]
    assert classes([*calm, *grown]) == [STABLE] * 10 + [EXPLODING] * 20


def test_what_is_usual_is_told_by_the_first_finite_records():
    grads = [math.inf, 1.0, 2.0, 9.0, *[50.0] * 20]
    assert usual_norm([record(i, grad=grad) for i, grad in enumerate(grads)]) == 50.0
    assert usual_norm([record(i, grad=grad) for i, grad in enumerate(grads[:4])]) == 2.0
    assert usual_norm([record(param=math.nan), record(1, grad=3.0)]) == 3.0
    assert usual_norm([]) == 0.0


def test_the_class_sees_what_a_finding_explains():
    """The target is far too large: that is the finding, and the exploding gradient only follows from it."""
    target = dataclasses.replace(ANSWERS, mean=100.0, std=1000.0, rms=1000.0)
    first = dataclasses.replace(probe(), classes=None, target=target)
    records = [record(i, grad=1e4, loss=1e6 + i, probe=first if i == 0 else None) for i in range(30)]
    codes = [f.code for f in diagnose(records)]
    assert "unscaled-target" in codes
    assert "exploding-gradient" not in codes
    assert set(classes(records)) == {EXPLODING}


def test_where_the_class_changes_is_said_and_shown():
    report = norm_report(eventful())
    assert [(s.norm_class, s.first_step, s.last_step, s.records) for s in report.stretches] == [
        (STABLE, 0, 29, 30),
        (EXPLODING, 30, 30, 1),
        (STABLE, 31, 59, 29),
    ]
    assert 30 in [row.step for row in report.rows]


# The numbers.


def test_the_rows_are_the_first_the_last_three_between_and_those_asked_for():
    records = [record(i) for i in range(101)]
    assert [row.step for row in norm_report(records).rows] == [0, 25, 50, 75, 100]
    assert [row.step for row in norm_report(records, steps=[7, 50]).rows] == [0, 7, 25, 50, 75, 100]
    assert [row.step for row in norm_report(records[:1]).rows] == [0]
    assert [row.step for row in norm_report([*records[50:], *records[:60]]).rows] == [0, 25, 50, 75, 100]


def test_the_moving_average():
    assert moving_average([2.0] * 300)[-1] == pytest.approx(2.0)
    jump = moving_average([1.0] * 300 + [2.0])
    assert jump[-1] == pytest.approx(1.02)  # from the 51st on a norm weighs 2 %
    assert moving_average([math.nan, 1.0, math.inf, 3.0, 0.0]) == [None, 1.0, 1.0, 2.0, pytest.approx(4 / 3)]
    report = norm_report([record(i, grad=float(i)) for i in range(5)])
    assert [row.moving_average for row in report.rows] == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_what_is_not_known_is_none_and_said():
    report = norm_report([record(i, rate=None, update_norm=0.1, update_ratio=0.01) for i in range(3)])
    row = report.rows[0]
    assert (row.loss, row.learning_rate, row.estimated_update, row.step_ratio) == (None, None, None, None)
    assert "Not measured: the learning rate" in report.notes[-1]
    assert "the loss, so a small gradient at convergence" in report.notes[-1]
    assert not any("times η‖g‖" in note for note in report.notes)


# The words.


def notes(**changes: Any) -> str:
    return " ".join(norm_report([record(i, **({"loss": 1.0} | changes)) for i in range(4)]).notes)


def test_the_notes_say_what_the_numbers_mean():
    assert "The applied update is η‖g‖, as under plain SGD." in notes()
    assert "The applied update is 30 times η‖g‖ (median)" in notes(update_norm=0.03)
    assert "the optimizer moved nothing" in notes(update_norm=0.0)
    assert "0.001 (median), within the usual 0.0001 to 0.01" in notes(update_ratio=1e-3)
    assert "It lies below" in notes(update_ratio=1e-6)
    assert "It lies above" in notes(update_ratio=0.1)
    assert "the parameters do not move" in notes(update_ratio=0.0)
    assert "smaller at 4 of 4 records; before it ‖g‖ was up to 25" in notes(raw_grad_norm=25.0, clipped=True)
    assert "Find where the first NaN or Inf came from" in notes(grad=math.nan, update_norm=math.nan)
    assert "Exploding at every record (4): ‖g‖ from 300 to 300. Clip the gradient norm" in notes(grad=300.0)


def test_what_the_norm_of_the_whole_net_hides_is_said():
    def both(early: float) -> str:
        norms = {"fc1.weight": early, "fc2.weight": 1.0, "fc2.bias": 1e-9}
        tensors = {p: TensorNorms(param=1.0, grad=g, update=0.0, ratio=0.0) for p, g in norms.items()}
        return notes(tensors=tensors)

    assert "of fc2.weight is 100,000 times that of fc1.weight (medians)" in both(1e-5)
    assert "hides its layers" not in both(0.01)


def test_every_kind_of_record_gives_a_report():
    for odd in (math.nan, math.inf, 0.0):
        text = " ".join(norm_report([step(i, grad_norm=odd, param_norm=odd, update_ratio=odd) for i in range(3)]).notes)
        assert text


def test_bad_input():
    with pytest.raises(GradlabError, match="no record; expected at least one"):
        norm_report([])
    with pytest.raises(
        GradlabError, match=r"(?s)2 problems.*step 9 .*step 11 is not recorded; recorded are 2 steps from 0 to 1"
    ):
        norm_report([record(), record(1)], steps=[9, 1, 11])
