"""How far apart two results are, how much they may differ, and which arithmetic explains it. `make mutants` has shown
which of these nothing else holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gradlab_core.errors import GradlabError
from gradlab_core.parity.arithmetic import ARITHMETICS, BETWEEN, check_precision, closest, coarsest
from gradlab_core.parity.tolerance import ALARMS, DRAWS, LOGIC, ROUND64, SLACK, distance, factor, logic_tolerance

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("value", "truth", "apart"),
    [
        ([3.0, 4.0], [0.0, 0.0], 5.0),
        ([3.0, NAN, INF], [1.0, NAN, INF], 2.0),  # NaN and Inf in the same places: the rest is compared
        ([3.0, NAN], [3.0, INF], INF),
        ([3.0, INF], [3.0, -INF], INF),
        ([NAN, 3.0], [3.0, NAN], INF),
        ([NAN], [NAN], 0.0),
        ([1.0], [1.0, 1.0], INF),
    ],
)
def test_the_distance_of_two_tensors(value: list[float], truth: list[float], apart: float) -> None:
    assert distance(np.array(value), np.array(truth)) == apart


def test_a_distance_does_not_overflow_with_its_type() -> None:
    assert distance(np.array([60_000], np.float16), np.array([-60_000], np.float16)) == 120_000


@pytest.mark.parametrize("tests", [1, 2, 2_000])
def test_so_many_deviations_raise_fewer_alarms_than_promised(tests: int) -> None:
    """An error lies beyond ±K in as many cases as there may be alarms, shared out over all tensors."""
    both_sides = 2 * stats.t.sf(factor(tests), DRAWS[-1])
    assert tests * both_sides == pytest.approx(ALARMS)


def test_no_tensor_is_judged_as_one() -> None:
    assert factor(0) == factor(1)


def test_what_may_differ_in_float64_grows_with_what_rounding_does() -> None:
    unit = 2.0**-24
    assert logic_tolerance(0.5, unit, 7.0) == pytest.approx(SLACK * 7.0 * 0.5 * ROUND64 / unit)
    assert logic_tolerance(0.0, unit, 7.0) == LOGIC


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (0.0, "highest"),
        (2.0**-20, "highest"),  # a long sum in float32 is off by a few units
        (2.0**-19, "tf32"),
        (2.0**-11, "tf32"),
        (2.0**-10, "bfloat16"),
        (2.0**-8, "bfloat16"),
        (1.0, "bfloat16"),  # nothing is so coarse: the coarsest there is
    ],
)
def test_a_measured_error_names_the_arithmetic(error: float, name: str) -> None:
    assert closest(error).name == name


def test_the_coarsest_has_the_fewest_bits() -> None:
    assert coarsest([ARITHMETICS["highest"], ARITHMETICS["bfloat16"], ARITHMETICS["tf32"], BETWEEN]).name == "bfloat16"


def test_a_precision_that_is_not_known_is_refused() -> None:
    assert check_precision("as-is") == "as-is"
    with pytest.raises(GradlabError, match="'fp8'; expected one of highest, tf32, bfloat16, float16, as-is"):
        check_precision("fp8")
