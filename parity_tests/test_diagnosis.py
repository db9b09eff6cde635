"""Both twins say the same of the same program, at the same steps; and of a model before its training."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gradlab_core import backends
from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.programs.program import OptimizerSpec, ProgramSpec
from gradlab_core.programs.scenarios import SCENARIOS
from gradlab_core.programs.specs import ModelSpec
from gradlab_core.records import GradientState, Severity

FRAMEWORKS = ("torch", "jax")
ALIKE = (
    *("unscaled-input", "detached", "frozen-layer", "dead-relu", "symmetric-units", "log-of-zero", "missing-step"),
    *("zeroed-gradients", "rectified-output", "clipped-away", "schedule-over", "constant-loss", "wild-batches"),
)


def said(findings):
    return [(f.code, f.severity, f.first_step, f.paths) for f in findings]


@pytest.mark.parametrize("name", ALIKE)
def test_one_program_gives_the_same_findings(name):
    found = [diagnose(backends.load(f).run_program(SCENARIOS[name].program)) for f in FRAMEWORKS]
    assert found[0][0].code == SCENARIOS[name].codes[0]
    assert said(found[0]) == said(found[1])


@pytest.mark.parametrize(
    ("depth", "optimizer"),
    [
        (20, OptimizerSpec(name="adam", learning_rate=1e-3)),
        (8, OptimizerSpec(name="sgd", learning_rate=0.1)),
    ],
)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_deep_sigmoid_net_is_told_why_its_updates_are_lost(framework, depth, optimizer):
    """Its updates underflow and its last layer settles, both because the gradient vanishes."""
    model = ModelSpec(kind="mlp", features=64, widths=(32,) * depth, activation="sigmoid", init="torch_default")
    program = ProgramSpec(model=model, optimizer=optimizer, steps=100)
    records = backends.load(framework).run_program(program)
    blind = [dataclasses.replace(record, probe=None) for record in records]
    assert depth < 20 or any(GradientState.LOST in record.states.values() for record in blind)
    for given in (records, blind):
        assert [(f.code, f.severity) for f in diagnose(given)] == [("vanishing-gradient", Severity.CRITICAL)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_model_is_examined_before_its_training(framework):
    twin = backends.load(framework)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 8)).astype(np.float32), np.arange(32) % 3
    spec = ModelSpec(kind="mlp", features=8, widths=(16, 16), num_classes=3)
    model = twin.build(spec, seed=0)
    before = twin.to_canonical(model)
    found = twin.examine(model, twin.to_native(x), y)
    assert found.findings == ()
    assert 0.01 < found.range_test.suggested < 10
    assert found.learning_rate == found.range_test.suggested
    assert found.records[-1].loss < found.records[0].loss
    assert all(np.array_equal(a, before[path]) for path, a in twin.to_canonical(model).items())

    twin.initialize(model, "constant", seed=0, number=0.01)
    loud = {f.code: f for f in twin.examine(model, twin.to_native(200 * x), y, learning_rate=0.1).findings}
    assert "unnormalised-input" in loud
    ties = loud["symmetric-units"].evidence  # what the probes saw, and how many units the weights leave
    assert (ties["share of units that are copies"], ties["hidden units"], ties["distinct"]) == (1.0, 32.0, 2.0)
    twin.from_canonical(model, before)
    fast = twin.examine(model, twin.to_native(x), y, optimizer="adam", learning_rate=5.0)
    assert [f.code for f in fast.findings if f.severity is not Severity.NOTE] == ["learning-rate-too-high"]
    with pytest.raises(GradlabError, match="2 problems"):
        twin.examine(model, twin.to_native(x), y, optimizer="lion", learning_rate=-1.0)


def test_both_twins_test_the_same_range():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 8)).astype(np.float32), np.arange(16) % 3
    found = []
    for framework in FRAMEWORKS:
        twin = backends.load(framework)
        model = twin.build(ModelSpec(kind="mlp", features=8, widths=(16,), num_classes=3, activation="tanh"), seed=0)
        found.append(twin.examine(model, twin.to_native(x), y).range_test)
    assert found[0].rates[:40] == found[1].rates[:40]
    # Up to where small differences grow, the losses are those of one computation.
    calm = [i for i, rate in enumerate(found[0].rates) if rate < 0.1]
    a, b = (np.array(f.losses)[calm] for f in found)
    assert np.allclose(a, b, rtol=1e-5)
    assert found[0].suggested == pytest.approx(found[1].suggested)
