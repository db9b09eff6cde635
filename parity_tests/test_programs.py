"""Whole training programs: the same spec gives the same run in both twins, whatever is wrong with it."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gradlab_jax
import gradlab_jax.model.losses
import gradlab_jax.programs.faults
import gradlab_jax.programs.program
import gradlab_torch
import gradlab_torch.model.losses
import gradlab_torch.programs.faults
import gradlab_torch.programs.program
from gradlab_core.errors import GradlabError
from gradlab_core.programs.checks import has_ended
from gradlab_core.programs.program import FAULTS, LOSSES, OptimizerSpec, ProgramSpec, TaskSpec
from gradlab_core.programs.specs import ModelSpec
from gradlab_core.records import NonfiniteOrigin, StepRecord
from gradlab_jax.model.gradients import disconnected
from gradlab_jax.model.modules import functional
from gradlab_jax.programs.models.layers import activation
from gradlab_torch import cross_entropy

TWINS = (gradlab_torch.programs.program, gradlab_jax.programs.program)
STEPS = 4
# Rounding of single precision: each figure is a sum over at most 64 numbers, and each step starts from the last one.
RTOL = 64 * STEPS * float(np.finfo(np.float32).eps)


MOMENTUM = OptimizerSpec(learning_rate=0.2, momentum=0.9, weight_decay=0.1)
BASE = ProgramSpec(
    model=ModelSpec(kind="mlp", features=6, widths=(5,), num_classes=3, activation="tanh"),
    task=TaskSpec(name="blobs", features=6, classes=3),
    optimizer=MOMENTUM,
    steps=STEPS,
    batch_size=8,
    probe_every=0,
)
REGRESSION = dataclasses.replace(
    BASE,
    model=ModelSpec(kind="mlp", features=4, widths=(5,), num_classes=1),
    task=TaskSpec(name="waves", features=4),
    optimizer=OptimizerSpec(name="adam", learning_rate=0.01, weight_decay=0.1),
    loss="mse",
)


def but(**fields) -> ProgramSpec:
    return dataclasses.replace(BASE, **fields)


PROGRAMS = {
    "momentum, decay": BASE,
    "warm-up": but(optimizer=dataclasses.replace(MOMENTUM, learning_rate=0.4, warm_up=3)),
    "adam, mse": REGRESSION,
    "adamw, clip": but(optimizer=OptimizerSpec(name="adamw", learning_rate=0.01, weight_decay=0.1, clip=0.3)),
    "stop_gradient": but(fault="stop_gradient", at="act1"),
    "left_out": but(fault="left_out", at="fc2"),
    "frozen": but(fault="frozen", at="fc1"),
    "negative_bias": but(fault="negative_bias", at="fc1", amount=2.0),
    "zeroed_gradients": but(fault="zeroed_gradients"),
    "rectified_output": but(fault="rectified_output", at="fc2", amount=9.0),
    "wild_batches": but(fault="wild_batches", amount=3.0),
    "uphill": but(fault="uphill", at="fc2"),
    "saturated_start": but(fault="saturated_start", at="fc1,fc2", amount=9.0),
}
STATES = {
    "stop_gradient": ("disconnected", {"fc1.weight", "fc1.bias"}),
    "zeroed_gradients": ("disconnected", {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}),
    "rectified_output": ("zero", {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}),
    "left_out": ("unregistered", {"fc2.weight", "fc2.bias"}),
    "frozen": ("frozen", {"fc1.weight", "fc1.bias"}),
}


def differences(a: list[StepRecord], b: list[StepRecord]) -> list[str]:
    """Where two runs differ by more than rounding."""
    if len(a) != len(b):
        return [f"{len(a)} steps and {len(b)}"]
    found = []
    for one, other in zip(a, b, strict=True):
        for name in ("step", "learning_rate", "clipped", "skipped"):
            if getattr(one, name) != getattr(other, name):
                found.append(f"{name} of step {one.step}")
        if list(one.states.items()) != list(other.states.items()) or list(one.tensors) != list(other.tensors):
            found.append(f"states of step {one.step}")
            continue
        pairs = {name: (getattr(one, name), getattr(other, name)) for name in ("loss", "grad_norm", "raw_grad_norm")}
        for path, norms in one.tensors.items():
            pairs |= {
                (path, k): (getattr(norms, k), getattr(other.tensors[path], k)) for k in ("param", "grad", "update")
            }
        scale = {"grad": one.grad_norm, "update": one.update_norm}
        for name, (p, q) in pairs.items():
            if p is None or q is None:
                alike = p is q
            else:
                alike = math.isclose(p, q, rel_tol=RTOL, abs_tol=RTOL * scale.get(name[1], 0.0))
            if not alike:
                found.append(f"{name} of step {one.step}: {p} and {q}")
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_alike(name):
    ours, theirs = (twin.run_program(PROGRAMS[name]) for twin in TWINS)
    assert len(ours) == STEPS
    assert differences(ours, theirs) == []
    state, paths = STATES.get(name, ("ok", set()))
    assert {path for path, s in ours[-1].states.items() if s.value == state} == (paths or set(ours[-1].states))


def test_another_optimizer_is_seen():
    """The comparison above can fail."""
    ours, theirs = TWINS[0].run_program(BASE), TWINS[1].run_program(PROGRAMS["warm-up"])
    assert differences(ours, theirs)
    decayed = dataclasses.replace(BASE, optimizer=dataclasses.replace(MOMENTUM, weight_decay=0.099))
    assert any("update" in d for d in differences(ours, TWINS[1].run_program(decayed)))


def test_a_step_that_is_never_taken():
    ours, theirs = (
        twin.run_program(but(fault="no_step", probe_every=every)) for twin, every in zip(TWINS, (2, 0), strict=True)
    )
    (record,) = ours
    assert record.skipped
    assert record.update_norm == 0.0
    assert record.grad_norm > 0.0
    assert set(record.states.values()) == {"ok"}
    assert record.probe is not None  # of the last step
    assert [r.tensors["fc1.weight"].param for r in theirs] == [theirs[0].tensors["fc1.weight"].param] * STEPS
    assert all(r.update_norm > 0.0 for r in theirs)
    last = theirs[-1]
    assert (record.loss, record.grad_norm) == pytest.approx((last.loss, last.grad_norm), rel=RTOL)


CUT = {"fc1.weight", "fc1.bias"}
PLANTED = {
    "stop_gradient": CUT,
    "integer_cast": CUT,
    "argmax": CUT,
    "unused_branch": {"extra.weight", "extra.bias"},
    "log_zero": set(),
    "divide_by_zero": set(),
    "negative_bias": set(),
    "saturated_start": set(),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_does_the_same_to_a_net(fault):
    """What it computes, and to whom no gradient leads; in JAX read off the program, which compiles nothing."""
    spec = but(fault=fault, at="fc1" if fault in ("negative_bias", "saturated_start") else "act1", amount=3.0)
    x, y = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32), np.array([0, 1, 2, 1, 0])
    ours, theirs = (twin.build(spec.model, seed=0) for twin in TWINS)
    gradlab_torch.programs.faults.plant(ours, spec)
    gradlab_jax.programs.faults.plant(theirs, spec)
    out = ours(torch.from_numpy(x))
    np.testing.assert_allclose(out.detach(), np.asarray(theirs(jnp.asarray(x))), rtol=RTOL, atol=RTOL)
    assert bool(out.isnan().any()) == (fault in ("log_zero", "divide_by_zero"))
    cross_entropy(out, torch.from_numpy(y)).backward()
    f, params, rest = functional(theirs, "train")
    cut = disconnected(f, params, rest, jnp.asarray(x), jnp.asarray(y), gradlab_jax.cross_entropy)
    assert {n for n, c in zip(f.names, cut, strict=True) if c} == PLANTED[fault]
    assert {n for n, p in ours.named_parameters() if p.grad is None} == PLANTED[fault]


def test_images_have_their_channels_where_each_twin_has_them():
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2)).astype(np.float32)
    for fault in ("argmax", "divide_by_zero"):
        ours = gradlab_torch.programs.faults.Faulty(fault, torch.nn.Tanh())(torch.from_numpy(x))
        theirs = gradlab_jax.programs.faults.Faulty(fault, activation("tanh"))(jnp.asarray(np.moveaxis(x, 1, -1)))
        np.testing.assert_allclose(ours, np.moveaxis(np.asarray(theirs), -1, 1), rtol=RTOL, atol=RTOL)


def test_every_fault_is_tried_here():
    assert {spec.fault for spec in PROGRAMS.values()} | {*PLANTED, "no_step"} == {*FAULTS, None}


@pytest.mark.parametrize("name", gradlab_torch.model.losses.BY_NAME)
def test_losses_agree(name):
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((6, 4)).astype(np.float32)
    y = rng.standard_normal((6, 4)).astype(np.float32) if name == "mse" else rng.integers(0, 4, 6)
    ours = gradlab_torch.model.losses.BY_NAME[name](torch.from_numpy(logits), torch.from_numpy(y))
    theirs = gradlab_jax.model.losses.BY_NAME[name](jnp.asarray(logits), jnp.asarray(y))
    assert float(ours) == pytest.approx(float(theirs), rel=RTOL)
    assert list(gradlab_torch.model.losses.BY_NAME) == list(gradlab_jax.model.losses.BY_NAME) == list(LOSSES)


def test_targets_that_would_broadcast_are_refused():
    for mse, ones in ((gradlab_torch.model.losses.mse, torch.ones), (gradlab_jax.model.losses.mse, jnp.ones)):
        with pytest.raises(GradlabError, match=r"\(4, 1\) and targets \(4,\)"):
            mse(ones((4, 1)), ones((4,)))


def test_a_nan_ends_the_run_and_its_origin_is_named():
    for twin in TWINS:
        (record,) = twin.run_program(but(fault="log_zero", at="act1"))
        assert has_ended(record)
        assert record.probe.origin == NonfiniteOrigin(phase="forward", path="act1", operation="log", value="inf")


def test_an_overflow_in_float16_ends_the_run():
    """Of a net that is sure of itself: exp overflows above 11."""
    spec = but(dtype="float16", loss="naive_cross_entropy", fault="saturated_start", at="fc2", amount=400.0)
    (record,) = TWINS[0].run_program(spec)
    assert math.isnan(record.loss)
    assert all(math.isfinite(n.param) for n in record.tensors.values())
    assert record.probe.origin == NonfiniteOrigin(phase="loss", path=None, operation="exp", value="inf")


def test_bfloat16_is_the_type_of_everything():
    """At a rate whose updates are below the rounding step of every weight: nothing moves, and both say so."""
    spec = but(dtype="bfloat16", optimizer=OptimizerSpec(learning_rate=1e-7), steps=2)
    ours, theirs = (twin.run_program(spec) for twin in TWINS)
    for a, b in zip(ours, theirs, strict=True):
        assert set(a.states.values()) == set(b.states.values()) == {"lost"}
        assert a.update_norm == b.update_norm == 0.0
        assert a.loss == pytest.approx(b.loss, rel=2**-6)  # a few rounding steps of 2⁻⁸


def test_probes_come_when_they_are_due_and_before_the_step():
    seen = []
    records = TWINS[0].run_program(but(probe_every=2), on_step=seen.append)
    assert seen == records
    assert [r.probe is not None for r in records] == [True, False, True, True]
    assert records[2].probe.loss == pytest.approx(records[2].loss)
    theirs = TWINS[1].run_program(but(probe_every=3))
    assert [r.probe is not None for r in theirs] == [True, False, False, True]
    assert theirs[3].probe.loss == pytest.approx(records[3].probe.loss, rel=RTOL)
    assert theirs[3].probe.copies.keys() == records[3].probe.copies.keys()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            but(model=ModelSpec(kind="mlp", features=5, num_classes=2)),
            ("features is 5", "(6,)", "num_classes is 2", "3"),
        ),
        (but(loss="mse"), ("loss is mse", "labels")),
        (dataclasses.replace(REGRESSION, loss="cross_entropy"), ("loss is cross_entropy", "numbers")),
        (but(model=ModelSpec(kind="recurrent", features=6, num_classes=3)), ("recurrent", "(T, features)")),
        (but(model=ModelSpec(num_classes=3)), ("tinynet", "an image")),
        (but(fault="stop_gradient", at="act3"), ("'act3'", "one of act1")),
        (but(fault="argmax", at="fc1"), ("'fc1'", "one of act1")),
        (but(fault="frozen", at="fc1, fc2"), ("every layer",)),
        (but(fault="left_out", at="fc7"), ("fc7", "fc1, fc2")),
        (but(fault="negative_bias"), ("names no layer", "fc1, fc2")),
        (
            but(
                model=ModelSpec(kind="transformer", features=6, hidden=4, heads=2, depth=2, num_classes=2),
                task=TaskSpec(name="temporal_order"),
                fault="log_zero",
                at="fc",
            ),
            ("'fc'", "one of blocks.0.act1, blocks.1.act1"),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_does_not_fit_is_refused_alike(spec, words):
    messages = []
    for twin in TWINS:
        with pytest.raises(GradlabError) as caught:
            twin.run_program(spec)
        messages.append(str(caught.value))
    assert all(word in messages[0] for word in words), messages[0]
    assert messages[0] == messages[1]
