"""Steps that go the wrong way, and what came of what they promised: on made-up runs, beside ones that only look so."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.judge.promise import kept, stretches
from gradlab_core.records import Severity
from tests.core.alarms import LN, alarms, only
from tests.runs import run

STUCK = {"loss": lambda step: LN * (1 + 0.01 * random.Random(step).gauss(0, 1))}


def directed(cosine, along=lambda step, path: 0.0, shrink=1.0):
    """Cosines of the update with gradient and parameter, of a step and a tensor; parameters shrink by a factor."""

    def change(record):
        tensors = {
            path: dataclasses.replace(
                norms,
                grad_update=cosine(record.step, path) * norms.grad * norms.update,
                param_update=along(record.step, path) * norms.param * norms.update,
            )
            for path, norms in record.tensors.items()
        }
        size = record.param_norm * shrink**record.step
        whole = cosine(record.step, None) * record.grad_norm * record.update_norm
        pull = along(record.step, None) * size * record.update_norm
        return dataclasses.replace(record, tensors=tensors, param_norm=size, grad_update=whole, param_update=pull)

    return change


def test_steps_along_the_gradient_from_the_start():
    found = only(run(change=directed(lambda step, path: 0.4), **STUCK, ratio=0.05))
    assert (found.code, found.severity, found.paths, found.first_step) == ("uphill-step", Severity.CRITICAL, (), 0)
    assert found.evidence["median cosine of gradient and update"] == pytest.approx(0.4)


def test_one_tensor_that_is_handed_its_raw_gradient_in_a_net_that_learns():
    def raw(record):
        record = directed(lambda step, path: 1.0 if path == "fc2.weight" else -0.3)(record)
        norms = record.tensors["fc2.weight"]
        moved = dataclasses.replace(norms, update=norms.grad, grad_update=norms.grad**2)
        return dataclasses.replace(record, tensors={**record.tensors, "fc2.weight": moved})

    found = only(run(change=raw))
    assert (found.code, found.severity, found.paths) == ("uphill-step", Severity.WARNING, ("fc2.weight",))
    assert "optax.masked" in found.explanation


@pytest.mark.parametrize(
    "cosine",
    [
        lambda step, path: math.sin(step / 3),  # momentum that swings
        lambda step, path: 0.3 if step > 20 else -0.5,  # uphill later, as where decay pulls at a net that has learned
        lambda step, path: 0.02,  # at right angles
        lambda step, path: -1.0,
        lambda step, path: math.nan,
    ],
)
def test_steps_that_go_uphill_only_for_a_while(cosine):
    assert alarms(run(change=directed(cosine))) == []
    assert "uphill-step" not in alarms(run(change=directed(cosine), **STUCK))


def test_weights_that_decay_away():
    change = directed(lambda step, path: -0.1, lambda step, path: -0.99, shrink=0.95)
    found = only(run(change=change, ratio=0.05, **STUCK))
    assert (found.code, found.severity, found.first_step) == ("weight-decay-too-strong", Severity.CRITICAL, 14)
    assert found.evidence["norm of the parameters at the start"] == 9.0
    # The same in a net that learns, where the norm stays, and where it is the gradient that makes weights shorter.
    assert alarms(run(change=change, ratio=0.05)) == []
    assert "weight-decay-too-strong" not in alarms(
        run(change=directed(lambda s, p: -0.1, lambda s, p: -0.99), ratio=0.05, **STUCK)
    )
    assert "weight-decay-too-strong" not in alarms(
        run(change=directed(lambda s, p: -0.95, lambda s, p: -0.99, shrink=0.95), ratio=0.05, **STUCK)
    )


def rising(step):
    return LN * (1 + step / 200)


def test_a_loss_that_rises_as_far_as_it_was_to_fall():
    promise = LN / 200
    records = run(loss=rising, change=lambda r: dataclasses.replace(r, grad_update=-promise))
    found = next(f for f in diagnose(records) if f.code == "uphill-step")
    assert found.evidence["actual over promised decrease"] == pytest.approx(-1.0)
    assert "other sign" in found.explanation
    # A tenth of that may have any reason.
    slower = run(loss=rising, change=lambda r: dataclasses.replace(r, grad_update=-10 * promise))
    assert "uphill-step" not in alarms(slower)


def test_records_without_what_steps_promised_are_judged_as_before():
    assert diagnose(run()) == []
    assert kept(run()) is None
    assert stretches(run()) == []


def promised(loss, each, **more):
    return run(loss=loss, change=lambda r: dataclasses.replace(r, grad_update=-each(r.step)), **more)


def test_the_ratio_on_one_batch_is_of_single_losses():
    """x²/2 under gradient descent: of 0.1·x² that a step promises, 0.095·x² comes."""
    records = promised(lambda step: 0.9 ** (2 * step) / 2, lambda step: 0.1 * 0.9 ** (2 * step), steps=60)
    found = kept(records)
    assert found.ratio == pytest.approx(0.95)
    assert (found.averaged, found.first, found.last) == (1, 0, 59)
    assert [part.ratio for part in stretches(records)[:2]] == pytest.approx([0.95, 0.95])


def test_of_every_third_record_each_stands_for_three_steps():
    records = promised(lambda step: 5 - 0.01 * step, lambda step: 0.02, steps=90)[::3]
    assert kept(records).ratio == pytest.approx(0.5)


def test_noise_is_averaged_out_where_that_helps_and_never_hidden():
    def noisy(level):
        return lambda step: 3 - 0.01 * step + level * random.Random(step).gauss(0, 1)

    found = kept(promised(noisy(0.4), lambda step: 0.01, steps=200))
    assert found.averaged > 1
    assert found.ratio == pytest.approx(1.0, abs=3 * found.ratio_error)
    assert found.ratio_error < 0.5
    hopeless = kept(promised(noisy(40.0), lambda step: 0.01, steps=200))
    assert (hopeless.ratio, hopeless.ratio_error) == (None, None)


def test_what_a_rate_keeps_of_its_promise_is_evidence():
    high = run(loss=lambda step: LN * (1 + step / 10), ratio=0.3)
    records = [dataclasses.replace(r, grad_update=-5.0) for r in high]
    found = next(f for f in diagnose(records) if f.code == "learning-rate-too-high")
    assert found.evidence["actual over promised decrease"] == pytest.approx(-LN / 50)
    low = run(200, loss=lambda step: LN * (1 - 1e-6 * step), ratio=1e-6)
    found = next(
        f
        for f in diagnose([dataclasses.replace(r, grad_update=-LN * 1e-6) for r in low])
        if f.code == "learning-rate-too-low"
    )
    assert found.evidence["actual over promised decrease"] == pytest.approx(1.0)
