"""Models that draw random numbers are refused by the name of the layer, and only where it matters."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.parity import compare, moved

X, Y = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32), np.arange(8) % 3


class Original(torch.nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.a, self.b, self.rate = torch.nn.Linear(4, 4), torch.nn.Linear(4, 3), rate

    def forward(self, x):
        return self.b(torch.nn.functional.dropout(torch.relu(self.a(x)), self.rate, self.training))


class Port(nnx.Module):
    def __init__(self, rate):
        rngs = nnx.Rngs(0)
        self.a, self.b = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return self.b(self.drop(nnx.relu(self.a(x))))


def original(rate):
    model = Original(rate)
    gradlab_torch.from_canonical(model, moved(gradlab_torch.to_canonical(model)))
    return model


def test_each_side_that_draws_is_refused_by_name():
    refused = "the reference's forward pass draws.*at activation b.*the candidate's forward pass draws.*activation b"
    with pytest.raises(GradlabError, match=f"(?s){refused}"):
        compare(gradlab_torch.Subject(original(0.5)), gradlab_jax.Subject(Port(0.5)), (X, Y), steps=1)
    with pytest.raises(GradlabError, match="candidate's forward pass draws") as refused:
        compare(gradlab_torch.Subject(original(0.0)), gradlab_jax.Subject(Port(0.5)), (X, Y), steps=1)
    assert "reference" not in str(refused.value)


def test_a_rate_of_zero_draws_nothing():
    assert not compare(gradlab_torch.Subject(original(0.0)), gradlab_jax.Subject(Port(0.0)), (X, Y), steps=2).failures


def test_one_framework_draws_the_same_twice_and_another_mask_each_step():
    model = original(0.5)
    state = torch.random.get_rng_state()
    report = compare(gradlab_torch.Subject(model), gradlab_torch.Subject(copy.deepcopy(model)), (X, Y), steps=2)
    assert not report.failures, str(report)
    assert torch.equal(state, torch.random.get_rng_state())
    subject = gradlab_torch.Subject(model)
    first = subject.step(X, Y, 0)
    subject.load(gradlab_torch.Subject(model).state())
    second = subject.step(X, Y, 1)
    assert [k.path for k in first if k.quantity == "activation" and not np.array_equal(first[k], second[k])] == ["b"]
