"""The accuracy benchmark of the diagnosis: its truth and its arithmetic."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest

from benchmarks.diagnosis import score, truth
from gradlab_core.programs.program import TaskSpec
from gradlab_core.records import Severity
from tests.measured.handmade import SPEC, drawn, record

# The truth


def outcome_of(losses: list[float], **fields: object) -> truth.Outcome:
    return truth.outcome(dataclasses.replace(SPEC, **fields), [record(i, loss) for i, loss in enumerate(losses)])


FALLING = [1.4 * 0.97**i for i in range(100)]


def test_a_healthy_run_must_learn() -> None:
    assert truth.status(outcome_of(FALLING))[0] == truth.HEALTHY
    assert truth.status(outcome_of([1.4] * 100))[0] == truth.DROPPED
    assert truth.status(outcome_of([*FALLING, math.nan]))[0] == truth.DROPPED
    # From a bad start to the loss of a constant answer is a fall, and nothing learned.
    assert truth.status(outcome_of([9.0] * 5 + [math.log(4)] * 95))[0] == truth.DROPPED


def test_a_fault_hinders_if_much_of_the_gain_is_lost() -> None:
    healthy = outcome_of(FALLING)
    slow = outcome_of([1.4 * 0.998**i for i in range(100)])
    assert truth.status(healthy, slow)[0] == truth.HINDERS
    assert truth.status(healthy, outcome_of([*FALLING[:10], math.inf]))[0] == truth.HINDERS
    assert truth.status(healthy, healthy)[0] == truth.DROPPED
    assert truth.status(healthy, healthy, structural=True)[0] == truth.BY_CONSTRUCTION
    assert truth.status(slow, slow)[0] == truth.DROPPED


def test_losses_are_compared_in_one_unit() -> None:
    summed = outcome_of([32 * loss for loss in FALLING], loss="summed_cross_entropy")
    assert summed.end == pytest.approx(outcome_of(FALLING).end)
    scaled = outcome_of([100 * loss for loss in FALLING], loss="mse", task=TaskSpec(name="waves", target_scale=10.0))
    assert scaled.end == pytest.approx(outcome_of(FALLING).end * math.log(4))  # against a variance of 1, not ln 4


# The score


def finding(code: str, *paths: str, severity: Severity = Severity.WARNING) -> score.Said:
    return score.Said(code=code, severity=severity, paths=paths, first_step=0)


def faulty(*findings: score.Said, status: str = truth.HINDERS, **fields: object) -> score.Judged:
    truly = drawn("dead", codes=("dead-relu", "exploding-gradient"), where=("fc2",))
    return score.Judged(drawn=dataclasses.replace(truly, **fields), status=status, findings=findings)  # type: ignore[arg-type]


def healthy(*findings: score.Said, hard: bool = False) -> score.Judged:
    return score.Judged(drawn=drawn(hard=hard), status=truth.HEALTHY, findings=findings)


def shares(*judged: score.Judged) -> Callable[..., tuple[int, int]]:
    rows = {(r.tool, r.part, r.measure, r.subject): r for r in score.score(judged, ["loud"])}

    def share(measure: str, subject: str = "all", tool: str = score.OURS) -> tuple[int, int]:
        row = rows[tool, "held-out", measure, subject]
        return row.hits, row.total

    return share


def test_a_miss_and_a_false_alarm_are_counted() -> None:
    share = shares(
        faulty(finding("dead-relu", "fc2.bias")),
        faulty(),
        faulty(finding("loss-plateau")),
        faulty(finding("dead-relu", "fc2", severity=Severity.NOTE)),
        healthy(),
        healthy(finding("dead-relu", "fc1"), hard=True),
        healthy(finding("dead-relu", "fc1", severity=Severity.NOTE)),
    )
    assert share("recall") == (1, 4)
    assert share("any alarm") == (2, 4)
    assert share("false alarms") == (1, 3)
    assert share("false alarms, hard") == (1, 1)
    assert share("precision", "dead-relu") == (1, 2)
    assert share("recall of fault", "dead") == (1, 4)
    assert share("false alarms of family", "relu") == (1, 3)


def test_the_exact_code_is_told_from_its_family_and_the_place_must_be_right() -> None:
    share = shares(
        faulty(finding("exploding-gradient", "fc2.weight", "fc1.weight")),
        faulty(finding("dead-relu", "fc1.weight", "fc2.weight")),
        faulty(finding("dead-relu", "fc22.weight")),
        faulty(finding("dead-relu")),
    )
    assert share("recall of code", "dead-relu") == (4, 4)
    assert share("exact code", "dead-relu") == (3, 4)
    assert share("located") == share("located of code", "dead-relu") == (1, 4)


def test_by_construction_and_dropped_are_apart_and_so_are_the_parts() -> None:
    share = shares(
        faulty(finding("dead-relu"), status=truth.BY_CONSTRUCTION),
        faulty(finding("dead-relu"), status=truth.DROPPED),
        faulty(finding("dead-relu"), part="tuning"),
        faulty(),
    )
    assert share("recall, by construction") == (1, 1)
    assert share("recall") == (0, 1)


def test_other_tools_stand_in_the_same_rows() -> None:
    loud = {"loud": ("dead-relu",)}
    share = shares(
        dataclasses.replace(faulty(), others=loud),
        dataclasses.replace(healthy(), others=loud),
        dataclasses.replace(healthy(), others={"loud": ()}),
    )
    assert share("recall", tool="loud") == (1, 1)
    assert share("false alarms", tool="loud") == (1, 2)
    assert share("false alarms") == (0, 2)


def test_misses_are_of_the_tuning_part_alone() -> None:
    wrong = [faulty(part="tuning"), faulty(finding("dead-relu", "fc1"), part="tuning")]
    right = [faulty(finding("dead-relu", "fc2"), part="tuning"), faulty(), healthy(finding("dead-relu"))]
    assert score.misses([*wrong, *right]) == wrong


def test_a_share_of_nothing_has_no_interval() -> None:
    assert score.wilson(0, 0) is None
    low, high = score.wilson(0, 20) or (1.0, 0.0)
    assert low == 0.0
    assert high == pytest.approx(0.161, abs=1e-3)
