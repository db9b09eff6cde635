"""What a step promised, as it is defined: against exact fractions, and at the edges."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlab_core.definitions.monitoring import Measured, step_record
from gradlab_core.definitions.promise import dot, total
from gradlab_core.records import StepRecord, TensorNorms
from gradlab_core.records.codec import encode
from gradlab_core.records.decoding import decode

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_the_inner_product_is_that_of_exact_fractions(pairs):
    products = [Fraction(a) * Fraction(b) for a, b in pairs]
    exact, size = sum(products), sum(map(abs, products))
    found = dot([[a for a, _ in pairs]], [[b for _, b in pairs]])
    if abs(exact) > Fraction(1.7e308):
        assert abs(found) > 1.7e308
    else:
        # A few rounding steps of the largest product, or of the smallest number there is.
        assert abs(Fraction(found) - exact) <= size * Fraction(1e-15) + Fraction(1e-323)


def test_the_edges_of_an_inner_product():
    assert dot([np.float32([1e-30])], [np.float32([1e-30])]) == pytest.approx(1e-60, rel=1e-6)
    assert dot([np.float32([1e30])], [np.float32([1e30])]) == pytest.approx(1e60, rel=1e-6)
    assert dot([np.float16([60000, 60000])], [np.float16([60000, 1])]) == pytest.approx(60000**2 + 60000, rel=2e-3)
    assert dot([[1 + 2j]], [[3 - 1j]]) == np.vdot(1 + 2j, 3 - 1j).real
    assert dot([[]], [[]]) == 0.0
    assert dot([None, [2.0]], [[1.0], [3.0]]) == 6.0
    assert dot([None], [[1.0]]) is None
    assert math.isnan(dot([[math.nan, 1.0]], [[0.0, 1.0]]))
    assert math.isnan(dot([[math.inf]], [[0.0]]))
    assert math.isnan(dot([[math.inf, math.inf]], [[1.0, -1.0]]))
    assert dot([[math.inf, 1.0]], [[-2.0, 1.0]]) == -math.inf
    assert total([1e308, 1e308, -1e308]) == 1e308
    assert total([1e308, 1e308]) == math.inf


def measured(**changes):
    fields = {
        "names": ["a", "b"], "sizes": [1, 1], "params": [3.0, 4.0], "grads": [1.0, 2.0], "updates": [0.5, 0.25],
        "lost": [False, False], "grad_updates": [-0.5, 0.25], "param_updates": [1.0, -1.0],
    }  # fmt: skip
    return step_record(Measured(**{**fields, **changes}), step=0, loss=1.0, learning_rate=0.1, anomaly=None)


def test_a_record_holds_them_of_each_tensor_and_in_all():
    record = measured()
    assert (record.grad_update, record.promised, record.param_update) == (-0.25, 0.25, 0.0)
    assert record.grad_update_cosine == pytest.approx(-0.25 / math.sqrt(5 * 0.3125))
    assert (record.tensors["a"].grad_update_cosine, record.tensors["b"].param_update_cosine) == (-1.0, -1.0)


def test_a_missing_gradient_adds_nothing_and_one_that_is_not_known_leaves_all_unknown():
    disconnected = measured(grads=[None, 2.0], grad_updates=[None, 0.25])
    assert (disconnected.grad_update, disconnected.tensors["a"].grad_update) == (0.25, None)
    changed = measured(grad_updates=[None, 0.25])
    assert (changed.grad_update, changed.promised, changed.grad_update_cosine) == (None, None, None)
    assert changed.tensors["b"].grad_update == 0.25
    assert measured(grads=[None, None], grad_updates=[None, None]).grad_update is None
    assert measured(grad_updates=None, param_updates=None).tensors["a"].param_update is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_cosine(value):
    record = measured(grad_updates=[value, 0.25])
    assert math.isfinite(record.grad_update) is False
    assert math.isnan(record.grad_update_cosine)
    assert math.isnan(measured(updates=[0.0, 0.0], grad_updates=[0.0, 0.0]).grad_update_cosine)


def test_cosines_over_the_range():
    norms = TensorNorms(param=1e-200, grad=1e200, update=1e-250, ratio=1e-50, grad_update=-5e-51, param_update=0.0)
    assert norms.grad_update_cosine == pytest.approx(-0.5)
    assert norms.param_update_cosine == 0.0


def test_records_of_before_still_load():
    record = measured()
    assert decode(StepRecord, encode(record)) == record
    fields = encode(record)
    for name in ("grad_update", "param_update"):
        del fields[name]
        for norms in fields["tensors"].values():
            del norms[name]
    old = decode(StepRecord, fields)
    assert (old.promised, old.param_update_cosine, old.tensors["a"].grad_update_cosine) == (None, None, None)
    assert dataclasses.replace(old, grad_update=1.0).promised == -1.0
