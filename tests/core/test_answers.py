"""A loss is told from the gradient at the answers only where it says which loss it is."""

from __future__ import annotations

import numpy as np
import pytest

from gradlab_core.definitions.answers import recognised, sigmoid_figures, softmax_figures

LN2 = float(np.log(2.0))


def told(z, g, loss=None):
    figures = {"softmax": softmax_figures(z, g), "sigmoid": sigmoid_figures(z, g)}
    how = {"columns": {"softmax": z.shape[1]}, "count": z.size, "batch": len(z), "half": False, "is_squashed": False}
    answers, _ = recognised(figures, loss, targets={}, **how)
    return None if answers is None else answers.loss


def test_answers_of_zero_fit_an_absolute_error_too():
    z = np.zeros((4, 3))
    signs = np.where(np.arange(12).reshape(4, 3) % 2 == 0, 0.5, -0.5)
    assert told(z, signs) is None
    assert told(z, signs, loss=17.0) is None
    assert told(z, signs, loss=LN2) == "binary-cross-entropy"
    assert told(z + 0.3, signs) is None


@pytest.mark.parametrize("columns", [2, 3])
def test_one_row_of_two_classes_fits_any_loss(columns):
    z = np.arange(columns, dtype=float)[None]
    g = np.exp(z) / np.exp(z).sum() - np.eye(columns)[:1]
    assert told(z, g) == (None if columns == 2 else "cross-entropy")
    assert told(np.vstack([z, z]), np.vstack([g, g])) == "cross-entropy"


def test_no_gradient_says_nothing():
    assert told(np.ones((4, 3)), np.zeros((4, 3)), loss=0.0) is None
