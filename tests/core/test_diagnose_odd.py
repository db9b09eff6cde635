"""Records that are odd and legal: rules judge them, or say nothing, and never break."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.judge.examination import range_test
from gradlab_core.judge.norm_report import norm_report
from gradlab_core.records import HiddenStateNorms
from tests.runs import SHAPES, layer, probe, run, stats


def _probed(made):
    return run(60, probes=None, change=lambda r: dataclasses.replace(r, probe=made) if r.step % 20 == 0 else r)


def test_a_weight_without_units():
    first, *others = SHAPES
    diagnose(_probed(probe(shapes={first: (0, 8), **{path: SHAPES[path] for path in others}})))


def test_a_recurrent_net_without_time_steps():
    states = HiddenStateNorms(
        path="rnn", cell="rnn_tanh", mode="train", loss=1.0, states=(), gradients=(), saturated={"h": ()}
    )
    diagnose(_probed(probe(hidden=states)))


@pytest.mark.parametrize("size", [1e160, 1e300])
def test_numbers_whose_squares_are_too_large(size):
    huge = dataclasses.replace(stats(), std=size, rms=size, mean=size)
    for classes in (10, None):
        records = _probed(probe(output=huge, target=None if classes else huge, classes=classes))
        diagnose(records)
        norm_report(records)


def test_a_plain_step_too_short_for_a_number():
    records = [dataclasses.replace(r, learning_rate=0.1, grad_norm=5e-324) for r in run(10)]
    assert norm_report(records).rows[0].estimated_update == 0.0


def test_the_sentence_on_dead_units_holds_for_every_layer_it_names():
    rows = (layer("act1", dead_unit_frac=0.8), layer("act2", dead_unit_frac=1.0))
    (found,) = (f for f in diagnose(_probed(probe(layers=rows))) if f.code == "dead-relu")
    assert found.paths == ("act1", "act2")
    assert "at least 80%" in found.explanation
    assert found.evidence["share of dead units"] == 1.0


@pytest.mark.parametrize(("examples", "share", "is_dead"), [(1, 0.95, False), (1, 1.0, True), (8, 0.8, True)])
def test_a_sparse_layer_is_not_dead_because_the_batch_is_small(examples, share, is_dead):
    row = dataclasses.replace(layer("act1", dead_unit_frac=share), shape=(examples, 32))
    assert any(f.code == "dead-relu" for f in diagnose(_probed(probe(layers=(row,))))) == is_dead


def test_the_largest_norm_of_a_gradient_that_explodes_in_time_is_the_largest():
    states = HiddenStateNorms(
        path="rnn", cell="rnn_tanh", mode="train", loss=1.0, states=(1.0, 1.0), gradients=(1e5, 1.0), saturated={}
    )
    records = [dataclasses.replace(r, loss=2.3, grad_norm=0.1 * (r.step + 1)) for r in _probed(probe(hidden=states))]
    (found,) = (f for f in diagnose(records) if f.code == "exploding-gradient")
    assert found.evidence["largest gradient norm"] == pytest.approx(6.0)


def test_a_loss_below_0_that_never_falls_suggests_no_rate():
    assert range_test([0.1, 1.0, 10.0], [-1.0, -1.0, -1.0]).suggested is None
    assert range_test([0.1, 1.0, 10.0], [-1.0, -2.0, -1.5]).suggested == pytest.approx(0.01)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_loss_for_every_example_is_refused_before_anything_runs(framework):
    from gradlab_core import backends
    from gradlab_core.errors import GradlabError
    from gradlab_core.programs.specs import ModelSpec

    twin = backends.load(framework)
    net = twin.build(ModelSpec(kind="mlp", features=3, widths=(4,), num_classes=2), seed=0)
    x, y = twin.to_native(np.ones((5, 3), np.float32)), np.zeros((5, 2), np.float32)
    with pytest.raises(GradlabError, match=r"the loss returned a shape \(5, 2\); expected one number"):
        twin.examine(net, x, y, loss=lambda out, y: (out - y) ** 2)
