"""The accuracy benchmark of the diagnosis: the rules of other tools."""

from __future__ import annotations

import dataclasses
import math

import pytest

from benchmarks.diagnosis import others
from gradlab_core.judge.diagnosis import CODES
from gradlab_core.records import StepRecord
from tests.measured.handmade import SHAPES, flat_run, healthy_run, layer, probe, record, with_step

FIRST = {"fc1.weight": 1e-5}
NAN = with_step(50, loss=math.nan, grads=math.nan)
DEAD = {"probe": probe(layer(dead_unit_frac=1.0, zero_frac=1.0))}


@pytest.mark.parametrize("tool", others.TOOLS)
def test_no_tool_alarms_on_a_run_without_fault(tool: str) -> None:
    run = healthy_run(ratio=2e-3)
    if tool == "DeepDiagnosis":  # at its limits, no rate of 0.1 is in order before the ratio is 1e-4 to 1
        run = healthy_run(ratio=1e-2)
    assert others.TOOLS[tool](run) == set()


@pytest.mark.parametrize(
    ("tool", "run", "code"),
    [
        ("SageMaker Debugger", with_step(20, grads=1e-8), "vanishing-gradient"),
        ("SageMaker Debugger", NAN, "nonfinite-loss"),
        ("SageMaker Debugger", with_step(20, **DEAD), "dead-relu"),
        ("SageMaker Debugger", with_step(0, probe=probe(layer(), layer(std=3.0))), "poor-initialisation"),
        ("SageMaker Debugger", with_step(3, grads=1e-5), "poor-initialisation"),
        ("SageMaker Debugger", with_step(20, ratio=11.0), "learning-rate-too-high"),
        ("SageMaker Debugger", with_step(20, ratio=1e-9), "not-updating"),
        ("SageMaker Debugger", healthy_run(ratio=5e-6), "not-updating"),
        ("SageMaker Debugger", flat_run(), "loss-plateau"),
        ("AutoTrainer", flat_run(grads=FIRST), "vanishing-gradient"),
        ("AutoTrainer", flat_run(grads={"fc1.weight": 8.0}), "exploding-gradient"),
        ("AutoTrainer", flat_run(**DEAD), "dead-relu"),
        ("DeepDiagnosis", with_step(0, **DEAD), "dead-relu"),
        ("DeepDiagnosis", with_step(0, probe=probe(layer("sigmoid", saturated_frac=0.6))), "saturated-activation"),
        ("DeepDiagnosis", with_step(20, grads=1e-8), "vanishing-gradient"),
        ("DeepDiagnosis", NAN, "nonfinite-loss"),
        ("DeepDiagnosis", healthy_run(ratio=1e-5), "learning-rate-too-low"),
        ("DeepDiagnosis", healthy_run(ratio=2.0), "learning-rate-too-high"),
        ("torchmortem", flat_run(grads={"fc1.weight": 5e-4}), "vanishing-gradient"),
        ("torchmortem", with_step(50, grads=2e3), "exploding-gradient"),
        ("torchmortem", NAN, "nonfinite-loss"),
        ("torchmortem", healthy_run(ratio=5e-6), "learning-rate-too-low"),
        ("torchmortem", healthy_run(ratio=0.2), "learning-rate-too-high"),
        ("torchmortem", with_step(0, probe=probe(layer(zero_frac=0.6))), "dead-relu"),
        ("torchmortem", with_step(0, probe=probe(layer("tanh", saturated_frac=0.6))), "saturated-activation"),
        ("torchmortem", flat_run(), "loss-plateau"),
        ("TorchLens", with_step(50, grads=1e-8), "vanishing-gradient"),
        ("TorchLens", with_step(50, grads=2e4), "exploding-gradient"),
        ("TorchLens", NAN, "nonfinite-gradient"),
        ("DLCheck", with_step(50, grads=1e-8), "vanishing-gradient"),
        ("DLCheck", with_step(50, grads=1e6), "exploding-gradient"),
        ("DLCheck", with_step(0, **DEAD), "dead-relu"),
        ("torchdiag", with_step(50, grads=1e3), "exploding-gradient"),
        ("torchdiag", with_step(50, grads=1e-9), "vanishing-gradient"),
        ("torchdiag", NAN, "nonfinite-gradient"),
        ("torch-audit", with_step(50, grads=100.0), "exploding-gradient"),
        ("torch-audit", NAN, "exploding-gradient"),
        ("OLMo-core, MaxText (6σ)", with_step(100, loss=50.0), "exploding-gradient"),
        ("Megatron (10×)", with_step(110, loss=50.0), "exploding-gradient"),
        ("update ratio about 1e-3", healthy_run(ratio=1e-5), "learning-rate-too-low"),
        ("update ratio about 1e-3", healthy_run(ratio=0.1), "learning-rate-too-high"),
        ("source texts", with_step(50, grads=1e-5), "vanishing-gradient"),
        ("source texts", with_step(50, grads=100.0), "exploding-gradient"),
        ("source texts", NAN, "nonfinite-loss"),
        ("source texts", flat_run(math.log(2), probe=probe(classes=2)), "loss-plateau"),
    ],
)
def test_each_rule_fires_on_what_it_is_for(tool: str, run: list[StepRecord], code: str) -> None:
    assert code in others.TOOLS[tool](run)


def test_all_rules_have_codes_of_ours_and_take_odd_runs() -> None:
    empty = dataclasses.replace(record(0, 1.0), tensors={}, states={}, loss=None)
    cut = record(0, 1.0, grads=dict.fromkeys(SHAPES))
    for tool in others.TOOLS.values():
        for run in ([], [empty], [cut], NAN, healthy_run(probe=None)):
            assert tool(run) <= set(CODES)


def test_a_spike_that_is_a_nan_is_beyond_no_deviation() -> None:
    assert others.six_sigma(NAN) == set()
