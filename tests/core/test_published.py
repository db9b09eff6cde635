"""The seven errors of the published experiment, each shown. Errors 1 to 4 are also what `compare --as-published` runs;
their numbers on real nets are tested in parity_tests/test_published_nets.py."""

from __future__ import annotations

import numpy as np
import pytest

from gradlab_core.compare import published
from gradlab_core.compare.comparison import AS_PUBLISHED, CORRECT
from gradlab_core.compare.experiment import CompareSpec
from gradlab_core.programs.specs import TrainSpec


def test_every_error_says_where_it_is_shown():
    assert [error.number for error in published.ERRORS] == list(range(1, 8))
    assert all(error.what_happened and error.shown_by for error in published.ERRORS)


def test_error_1_and_2_the_blocks_that_were_run():
    setups = list(CompareSpec(as_published=True).setups())
    assert [block for setup, block, _, _ in setups if setup == AS_PUBLISHED] == [
        "plain_unpadded",
        "postact",
        "preact_noskip",
    ]
    assert [block for setup, block, _, _ in setups if setup == CORRECT] == ["plain", "postact", "preact"]


def test_error_2_the_geometry():
    """Three by three without padding takes two pixels; the second convolution of a block is padded."""

    def sizes(padding):
        size, found = 32, [32]
        for stage in range(3):
            for block in range(2):
                size = (size + 2 * padding - 3) // (2 if stage and not block else 1) + 1
            found.append(size)
        return found

    assert sizes(padding=0) == [32, 28, 11, 3]
    assert sizes(padding=1) == [32, 32, 16, 8]


def test_error_3_the_learning_rate():
    spec = next(training for setup, _, training, _ in CompareSpec(as_published=True).setups() if setup == AS_PUBLISHED)
    assert spec.milestones == (0, 0)
    assert spec.learning_rate == 0.1
    assert spec.rate(0) == 0.001
    assert TrainSpec(epochs=8, milestones=published.milestones(8)).rate(0) == 0.1


def test_error_5_one_seed():
    counts = {setup: seeds for setup, _, _, seeds in CompareSpec(as_published=True).setups()}
    assert counts == {AS_PUBLISHED: 1, CORRECT: 2}


def test_error_6_the_thresholds_contradict_each_other():
    example, in_the_text, in_another_text = 8e-4, 1e-4, 1e-6
    assert [example <= threshold for threshold in (in_the_text, in_another_text)] == [False, False]


def test_error_7_a_variance_that_is_a_standard_deviation():
    drawn = np.random.default_rng(0).normal(0.0, 0.01, 200_000)
    assert drawn.std() == pytest.approx(0.01, rel=0.01)
    assert drawn.var() == pytest.approx(0.0001, rel=0.01)
    assert drawn.var() < 0.01 / 50
