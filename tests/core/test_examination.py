"""What the weights themselves add to the examination of a model: units that are tied."""

from __future__ import annotations

import numpy as np

from gradlab_core.definitions.symmetry_defect import symmetry_defect
from gradlab_core.judge.examination import Examination, RangeTest, examination
from gradlab_core.records import StepRecord
from tests.recorded import step

TRIED = RangeTest(rates=(0.1,), losses=(1.0,), suggested=None, diverges_at=None)


def examined(params: dict[str, np.ndarray] | None) -> Examination:
    records: list[StepRecord] = [step(i, grad_norm=1.5) for i in range(5)]
    ties = None if params is None else symmetry_defect(params)
    return examination(records, TRIED, ties, rate=0.1, given=False)


def test_tied_units_are_found_in_the_weights() -> None:
    rng = np.random.default_rng(0)
    free = {"a.weight": rng.normal(size=(8, 3)), "b.weight": rng.normal(size=(2, 8))}
    tied = {"a.weight": np.tile(free["a.weight"][:4], (2, 1)), "b.weight": np.tile(free["b.weight"][:, :4], (1, 2))}
    few = {path: array.copy() for path, array in free.items()}
    few["a.weight"][1], few["b.weight"][:, 1] = few["a.weight"][0], few["b.weight"][:, 0]
    (found,) = examined(tied).findings
    assert (found.code, found.severity.value, found.paths) == ("symmetric-units", "critical", ("a.weight",))
    assert found.evidence == {"hidden units": 8.0, "distinct": 4.0}
    assert "Of 8 hidden units 4 are distinct" in found.explanation
    for params in (free, few, None):  # two copies of eight hinder nobody
        assert examined(params).findings == ()


def test_what_gives_differently_is_not_tied() -> None:
    rng = np.random.default_rng(0)
    rows = np.tile(rng.normal(size=(1, 3)), (8, 1))
    assert examined({"a.weight": rows, "b.weight": rng.normal(size=(2, 8))}).findings == ()
