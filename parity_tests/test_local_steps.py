"""A step layer by layer: what is given takes the place of what is computed, forward and backward, in both twins."""

from __future__ import annotations

import numpy as np
import pytest

import gradlab_jax
import gradlab_torch
from gradlab_core.parity import Key, compare, compare_traces, record
from gradlab_core.programs.specs import TrainSpec
from parity_tests.conftest import SPECS, batch_for, pair
from parity_tests.test_faults import FlaxFlatten

NETS = ("postact", "transformer", "residual_toy")


def differing(trace, truth):
    """Tensors that differ by more than rounding of float64."""
    return [
        key
        for key, value in truth.items()
        if value is not None and np.linalg.norm(trace[key] - value) > 1e-9 * np.linalg.norm(value) + 1e-13
    ]


@pytest.mark.parametrize("name", NETS)
def test_what_is_given_stops_every_difference_where_it_arises(name):
    spec = SPECS[name]
    torch_model, jax_model = pair(spec)
    subjects = gradlab_torch.Subject(torch_model).cast("float64"), gradlab_jax.Subject(jax_model).cast("float64")
    batch, start = batch_for(spec), gradlab_torch.Subject(torch_model).state()
    subjects[0].load(start)
    truth = subjects[0].step(*batch, 0)
    layers = [key for key in truth if key.quantity == "activation"]
    wrong = layers[len(layers) // 2]
    reached = []
    for subject in subjects:
        again, disturbed = subject.cast("float64"), subject.cast("float64")
        for run in (again, disturbed):
            run.load(start)
        assert differing(again.local_step(*batch, 0, truth), truth) == []
        # What is wrong in one place reaches what is computed from it at once, and nothing after that.
        found = differing(disturbed.local_step(*batch, 0, {**truth, wrong: 1.1 * truth[wrong]}), truth)
        # Not the gradients before it: PyTorch takes those of tanh from its output, which is the given one there.
        reached.append([k for k in found if k.quantity in ("activation", "gradient", "logits")])
        assert wrong not in found
        assert 0 < len([k for k in found if k.quantity == "activation"]) < len(layers) // 2
    assert reached[0] == reached[1]


def test_gradients_that_are_given_take_the_place_of_those_that_come():
    spec = SPECS["residual_toy"]
    torch_model, jax_model = pair(spec)
    batch = batch_for(spec)
    for subject in (gradlab_torch.Subject(torch_model), gradlab_jax.Subject(jax_model)):
        exact = subject.cast("float64")
        start = exact.state()
        truth = exact.step(*batch, 0)
        slope = Key("activation_gradient", "fc2")
        exact = subject.cast("float64")
        exact.load(start)
        trace = exact.local_step(*batch, 0, {slope: 2.0 * truth[slope]})
        np.testing.assert_allclose(trace[slope], truth[slope], rtol=1e-12)
        np.testing.assert_allclose(trace[Key("gradient", "fc2.weight")], 2 * truth[Key("gradient", "fc2.weight")])
        np.testing.assert_allclose(trace[Key("gradient", "head.weight")], truth[Key("gradient", "head.weight")])


def test_another_shape_or_none_is_not_taken():
    spec = SPECS["residual_toy"]
    torch_model, jax_model = pair(spec)
    batch = batch_for(spec)
    for subject in (gradlab_torch.Subject(torch_model), gradlab_jax.Subject(jax_model)):
        exact, again = subject.cast("float64"), subject.cast("float64")
        truth = exact.step(*batch, 0)
        key = Key("activation", "fc2")
        given = {key: truth[key][:, :1], Key("activation", "head"): None, Key("activation", "nobody"): np.ones(3)}
        assert differing(again.local_step(*batch, 0, given), truth) == []


def test_traces_on_disk_tell_the_faults_that_both_sides_together_tell(tmp_path):
    spec = SPECS["residual_toy"]
    torch_model, jax_model = pair(spec)
    jax_model.__class__ = FlaxFlatten
    slow = TrainSpec(learning_rate=0.05, momentum=0.8)
    reference = gradlab_torch.Subject(torch_model, optimizer=TrainSpec(learning_rate=0.05, momentum=0.9))
    candidate = gradlab_jax.Subject(jax_model, optimizer=slow)
    ours, theirs = tmp_path / "reference.trace", tmp_path / "candidate.trace"
    record(reference, batch_for(spec), ours)
    record(candidate, None, theirs, like=ours)
    told = [compare_traces(ours, theirs), compare(reference, candidate, batch_for(spec))]
    faults = [
        [(f.step, f.key, f.also, [c.code for e in f.explanations[:1] for c in e.causes]) for f in report.faults]
        for report in told
    ]
    assert faults[0] == faults[1]
    assert [fault[-1] for fault in faults[0]] == [["flatten-order"], ["momentum"]]
