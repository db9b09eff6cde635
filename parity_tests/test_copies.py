"""The share of units that are copies: both twins against the definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gradlab_core.definitions.symmetry import copied_share
from gradlab_jax.measure import symmetry as jax_symmetry
from gradlab_torch.measure import symmetry as torch_symmetry

COPIES = [jax.jit(lambda w: jax_symmetry.copied_shares([w])[0]), lambda w: torch_symmetry.copied_share(w)]


def test_copies_are_those_of_the_definition():
    """Groups of exact and of near copies among rows that are like one another, of all sizes, with rows of zeros."""
    rng = np.random.default_rng(0)
    for trial in range(60):
        count, width = ((3, 9), (150, 1), (150, 64))[trial // 4 % 3]
        w = rng.standard_normal((count, width)) * (1e-2 if trial % 2 else 1) + (trial % 2)
        for spread in (0.0, 1e-7, 1e-5)[: trial % 4]:
            group = rng.choice(count, size=min(count, int(rng.integers(2, 20))), replace=False)
            around = rng.standard_normal((len(group), width))
            around /= np.linalg.norm(around, axis=1, keepdims=True)
            w[group] = w[group[0]] + spread * np.linalg.norm(w[group[0]]) * around
        if trial % 5 == 0:
            w[rng.integers(0, count, size=count // 3 + 1)] = 0
        w = (w * 10.0 ** rng.integers(-25, 25)).astype(np.float32)
        truth = copied_share(w)
        for share, array in zip(COPIES, (jnp.asarray(w), torch.as_tensor(w)), strict=True):
            assert float(share(array)) == pytest.approx(truth, abs=1e-6), (trial, w.shape)


def test_rows_that_are_no_units_count_neither_way_and_each_weight_stands_alone():
    odd = [[1.0, 2], [np.nan, 2], [np.nan, 2], [1, 2], [0, 0], [3, np.inf], [5, 5]]
    cases = [
        (np.ones((4, 3)), 1.0),
        (np.ones((2, 3)), 1.0),
        (np.arange(6.0).reshape(2, 3), 0.0),
        (np.concatenate([np.arange(12.0).reshape(4, 1, 3)] * 2)[1:-1], 2 / 3),  # two axes besides the units
        (np.zeros((4, 3)), 0.0),
        (odd, 2 / 3),
        ([[1.0, 2], [0, 0]], 0.0),
        (np.zeros((0, 3)), 0.0),
        ([[1.0, 0], [-1, 0]], 0.0),
        ([[1.0, 0], [2, 0]], 0.0),
    ]
    weights = [np.asarray(rows, np.float32) for rows, _ in cases]
    truth = [share for _, share in cases]
    assert [copied_share(w) for w in weights] == pytest.approx(truth)
    assert [float(torch_symmetry.copied_share(torch.as_tensor(w))) for w in weights] == pytest.approx(truth)
    assert np.asarray(jax.jit(jax_symmetry.copied_shares)(weights)) == pytest.approx(truth)
