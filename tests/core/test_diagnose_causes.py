"""The cause comes first, with the remedy for the layers concerned; what is lost in rounding explains nothing away."""

from __future__ import annotations

import dataclasses
import math

import pytest

from gradlab_core.judge.diagnosis import CODES, diagnose
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.layers import FORWARD, RECURRENT, TRANSFORMER, kinds_of
from gradlab_core.records import GradientState, Severity
from tests.runs import CLASSES, SHAPES, flat, hidden, layer, probe, replaced, run

LN = math.log(CLASSES)
FAINT = {"fc1.weight": 1e-16, "fc1.bias": 1e-16, "fc2.weight": 1e-12, "fc2.bias": 1e-12, "fc3.weight": 0.1}
LOST, TINY = GradientState.LOST, GradientState.TINY


def said(records):
    return [(f.code, f.severity) for f in diagnose(records)]


def called(records, names):
    """The same run with other names of the tensors."""

    def renamed(mapping):
        return {names.get(path, path): value for path, value in mapping.items()}

    return [dataclasses.replace(r, tensors=renamed(r.tensors), states=renamed(r.states), probe=None) for r in records]


@pytest.mark.parametrize("swallowed", [["fc1.weight"], ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]])
def test_updates_lost_because_the_gradient_vanished_are_its_consequence(swallowed):
    records = run(loss=flat(LN), grads=FAINT, states=dict.fromkeys(swallowed, LOST))
    assert said(records) == [("vanishing-gradient", Severity.CRITICAL)]


def test_updates_lost_elsewhere_stand_beside_the_gradient_that_vanished():
    records = run(loss=flat(LN), grads=FAINT, states={"fc1.weight": LOST, "fc3.weight": LOST})
    assert said(records) == [("vanishing-gradient", Severity.CRITICAL), ("not-updating", Severity.WARNING)]


def test_updates_that_are_lost_everywhere_do_not_hide_why():
    every = dict.fromkeys(SHAPES, LOST)
    records = run(loss=flat(LN), grads=FAINT, states=every, change=replaced(update_norm=0.0, update_ratio=0.0))
    assert said(records) == [("vanishing-gradient", Severity.CRITICAL), ("not-updating", Severity.CRITICAL)]


def test_lost_updates_leave_the_rate_and_the_plateau_to_be_said():
    lost = {"fc2.weight": LOST}
    slow, plateau = "learning-rate-too-low", "loss-plateau"
    warned = Severity.WARNING
    assert said(run(loss=flat(LN), ratio=1e-6, states=lost)) == [("not-updating", warned), (slow, warned)]
    assert said(run(loss=flat(LN), states=lost)) == [("not-updating", warned), (plateau, warned)]
    # A parameter that the optimizer does not know is a cause.
    unknown = {"fc2.weight": GradientState.UNREGISTERED}
    assert said(run(loss=flat(LN), states=unknown)) == [("not-updating", warned)]


def test_a_gradient_that_vanished_before_the_last_layer_settled():
    """On the plateau every gradient is rounding, and those of the last layer are no larger than those of the first."""

    def settled(record):
        if record.step < 30:
            return record
        tensors = {p: dataclasses.replace(n, grad=1e-9) for p, n in record.tensors.items()}
        return dataclasses.replace(record, tensors=tensors, states=dict.fromkeys(SHAPES, TINY))

    assert said(run(loss=flat(LN), grads=FAINT, change=settled)) == [("vanishing-gradient", Severity.CRITICAL)]

    def woken(record):
        return record if record.step < 30 else settled(dataclasses.replace(record, states={}))

    def spoken(record):
        changed = woken(record)
        return dataclasses.replace(changed, states=record.states)

    # The same figures in a net whose gradients are none of them tiny: they speak, and the first layers have caught up.
    assert "vanishing-gradient" not in [code for code, _ in said(run(loss=flat(LN), grads=FAINT, change=spoken))]


def test_remedies_of_what_does_not_move_begin_with_the_reason():
    def first(**changes):
        return diagnose(run(**changes))[0].remedies[0]

    assert first(states={"fc2.weight": GradientState.UNREGISTERED}).startswith("build the optimizer")
    assert first(states={"fc2.weight": GradientState.FROZEN}).startswith("set requires_grad")
    still = replaced(update_norm=0.0, update_ratio=0.0)
    assert first(loss=flat(LN), ratio=0.0, change=still).startswith("check that the step is taken")
    (lost, _) = diagnose(run(loss=flat(LN), states={"fc2.weight": LOST}))
    assert not any("optimizer" in remedy for remedy in lost.remedies)
    assert "gradient itself is that small" in lost.remedies[0]


@pytest.mark.parametrize(
    ("cell", "first"),
    [("lstm", "bias of the forget gate at 1"), ("gru", "bias of the update gate"), ("rnn_tanh", "use an LSTM")],
)
def test_a_recurrent_net_that_vanishes_gets_recurrent_remedies(cell, first):
    shown = probe(classes=2, hidden=hidden(1e-9, cell=cell, saturated={}))
    (found,) = diagnose(run(loss=flat(math.log(2)), probes=lambda step: shown))
    assert found.code == "vanishing-gradient"
    assert first in found.remedies[0]
    assert any("orthogonal" in remedy for remedy in found.remedies)
    assert not any("ReLU" in remedy for remedy in found.remedies)


def test_a_gradient_that_explodes_through_time_is_clipped_first_and_then_truncated():
    shown = probe(classes=2, hidden=hidden(1e6))
    (found,) = diagnose(run(loss=flat(math.log(2)), probes=lambda step: shown))
    assert found.remedies[0].startswith("clip the global gradient norm")
    assert any("truncate" in remedy for remedy in found.remedies)


BLOCK = {
    "fc1.weight": "layers.0.self_attn.in_proj_weight",
    "fc1.bias": "layers.0.self_attn.in_proj_bias",
    "fc2.weight": "layers.0.linear1.weight",
    "fc2.bias": "layers.0.linear1.bias",
}
STACKED = {
    "fc1.weight": "rnn.weight_ih_l0",
    "fc1.bias": "rnn.bias_ih_l0",
    "fc2.weight": "rnn.weight_hh_l0",
    "fc2.bias": "rnn.bias_hh_l0",
}


@pytest.mark.parametrize(
    ("names", "first"), [({}, "ReLU-like"), (BLOCK, "pre-norm"), (STACKED, "bias of the forget gate")]
)
def test_without_a_probe_the_names_of_the_weights_tell(names, first):
    (found,) = diagnose(called(run(loss=flat(1.7), grads=FAINT), names))
    assert found.code == "vanishing-gradient"
    assert first in found.remedies[0]


def test_a_net_of_relus_is_not_told_to_use_relus():
    relus = probe(layers=(layer("act1"), layer("act2")))
    (found,) = diagnose(run(loss=flat(LN), grads=FAINT, probes=lambda step: relus))
    assert found.remedies[0].startswith("draw the weights with the gain")
    sigmoids = probe(layers=(layer("act1", "sigmoid"), layer("act2", "sigmoid")))
    (found,) = diagnose(run(loss=flat(LN), grads=FAINT, probes=lambda step: sigmoids))
    assert found.remedies == CODES["vanishing-gradient"].remedies[:1] + found.remedies[1:]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("rnn.weight_hh_l0", RECURRENT),
        ("lstm.weight_ih_l1_reverse", RECURRENT),
        ("cell.bias_hh", RECURRENT),
        ("rnn.cell.if_.weight", RECURRENT),
        ("rnn.cell.hg.bias", RECURRENT),
        ("gru.cell.dense_h.weight", RECURRENT),
        ("att.query.weight", TRANSFORMER),
        ("encoder.layers.0.self_attn.out_proj.weight", TRANSFORMER),
        ("h.0.attn.c_attn.weight", TRANSFORMER),
        ("model.layers.3.self_attn.q_proj.weight", TRANSFORMER),
        ("dense.weight", FORWARD),
        ("conv1.weight", FORWARD),
        ("recurrence.weight", FORWARD),
    ],
)
def test_kinds_from_the_names_that_frameworks_give(path, kind):
    history = History()
    (record,) = called(run(1), {"fc1.weight": path})
    history.add(record)
    assert kinds_of(history, [path]) == [kind]


def test_a_slow_recurrent_net_is_told_where_to_look():
    slow = run(loss=flat(LN), ratio=1e-6)
    assert diagnose(slow)[0].remedies == CODES["learning-rate-too-low"].remedies
    assert "hidden_state_norms" in diagnose(called(slow, STACKED))[0].remedies[-1]
