"""Gradients that never arrive: one fault of the loop is one finding, and what is sparse is not cut off."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import pytest
import torch
from jax import lax
from torch import nn

from gradlab_core.records import GradientState, Severity
from parity_tests.loops import BATCH, CLASSES, FEATURES, alarms, first, in_jax, in_torch, normal, said

NONE, ZERO = [("no-gradient", Severity.CRITICAL)], [("zero-gradient", Severity.CRITICAL)]


def net(outputs=CLASSES):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, outputs))


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def renewed(loss):
    torch.tensor(loss.item(), requires_grad=True).backward()


@pytest.mark.parametrize("fault", ["zero_grad after backward", "no backward", "a new tensor"])
def test_a_loop_without_gradients_is_told_so_once(fault):
    model = net()
    optimizer = adam(model)
    wrong = {
        "zero_grad after backward": {"before_step": lambda step: optimizer.zero_grad()},
        "no backward": {"backward": lambda loss: None},
        "a new tensor": {"backward": renewed},
    }[fault]
    records = in_torch(model, optimizer, **wrong)
    assert said(records) == NONE
    assert all(word in " ".join(first(records).remedies) for word in ("zero_grad", "loss.backward()", "torch.tensor"))
    assert said(records[:1]) == NONE  # at once, too


def test_gradients_set_to_zero_between_backward_and_step():
    model = net()
    optimizer = adam(model)
    records = in_torch(model, optimizer, before_step=lambda step: optimizer.zero_grad(set_to_none=False))
    assert said(records) == ZERO
    assert any("set_to_none=False" in remedy for remedy in first(records).remedies)


def test_one_step_without_gradients_is_no_fault():
    model = net()
    optimizer = adam(model)
    records = in_torch(model, optimizer, before_step=lambda step: step == 7 and optimizer.zero_grad())
    assert alarms(records) == []


def negative(out, y):
    return ((out[:, 0] + 2 + y / 8) ** 2).mean()


class Cut(nn.Module):
    """A ReLU on the output whose answers are all 0 from the start, or become so."""

    def __init__(self, start):
        super().__init__()
        self.net = net(1)
        nn.init.constant_(self.net[2].bias, start)

    def forward(self, x):
        return torch.relu(self.net(x))


@pytest.mark.parametrize("start", [-30.0, 0.0])
def test_a_relu_on_the_output_under_negative_targets(start):
    model = Cut(start)
    records = in_torch(model, torch.optim.SGD(model.parameters(), lr=0.05), steps=120, loss=negative)
    assert said(records) == ZERO
    free = model.net
    nn.init.zeros_(free[2].bias)
    assert alarms(in_torch(free, torch.optim.SGD(free.parameters(), lr=0.02), steps=120, loss=negative)) == []


def test_weights_of_zero_get_no_gradient_and_are_no_rate():
    model = net()
    for p in model.parameters():
        nn.init.zeros_(p)
    records = in_torch(model, torch.optim.SGD(model.parameters(), lr=0.5))
    assert said(records) == ZERO
    assert "All weights are 0" in first(records).explanation
    last = net()
    nn.init.zeros_(last[2].weight)
    nn.init.zeros_(last[2].bias)
    assert alarms(in_torch(last, adam(last))) == []
    linear = nn.Linear(FEATURES, CLASSES)  # as a logistic regression starts
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    assert alarms(in_torch(linear, torch.optim.SGD(linear.parameters(), lr=0.5))) == []


def test_a_loss_that_is_over_needs_no_gradient():
    """A hinge loss is exactly 0 once every margin is wide."""
    torch.manual_seed(0)
    model, margin = nn.Linear(FEATURES, 1), torch.randn(FEATURES)

    def hinge(out, y):
        return torch.relu(1 - out).mean() if margin is not None else out.sum()

    records = in_torch(model, torch.optim.SGD(model.parameters(), lr=0.5), steps=120, loss=hinge)
    assert records[-1].grad_norm == 0.0
    assert alarms(records) == []


class Experts(nn.Module):
    """A router before four experts; `to` says which expert each example goes to."""

    def __init__(self, to, *, skips):
        super().__init__()
        self.stem, self.to, self.skips, self.count = nn.Linear(FEATURES, 32), to, skips, 0
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x):
        self.count += 1
        h = torch.relu(self.stem(x))
        chosen, out = self.to(self.count, len(x)), torch.zeros_like(h)
        for i, expert in enumerate(self.experts):
            here = chosen == i
            if self.skips and not here.any():
                continue
            out = out.index_put((here.nonzero()[:, 0],), torch.relu(expert(h[here])))
        return self.head(h + out)


@pytest.mark.parametrize("skips", [False, True])
def test_an_expert_that_nothing_reaches(skips):
    torch.manual_seed(0)
    model = Experts(lambda step, n: torch.arange(n) % 3, skips=skips)
    found = first(in_torch(model, adam(model), steps=80))
    assert found.code == ("disconnected-parameter" if skips else "zero-gradient")
    assert found.severity == Severity.WARNING
    assert set(found.paths) >= {"experts.3.weight"}
    assert "router" in found.remedies[0]
    seldom = Experts(lambda step, n: torch.arange(n) % (4 if step % 12 == 0 else 3), skips=skips)
    assert alarms(in_torch(seldom, adam(seldom), steps=80)) == []


def test_an_embedding_used_in_some_rows_is_not_cut_off():
    torch.manual_seed(0)

    class Words(nn.Module):
        def __init__(self, cut):
            super().__init__()
            self.table, self.net, self.cut = nn.Embedding(1000, FEATURES), net(), cut

        def forward(self, x):
            rows = self.table((x[:, 0].abs() * 10).long())
            return self.net(x + (rows.detach() if self.cut else rows))

    for sparse in (False, True):
        model = Words(cut=False)
        model.table.sparse = sparse
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        assert alarms(in_torch(model, optimizer, steps=80)) == []
    found = first(in_torch(model := Words(cut=True), adam(model), steps=80))
    assert (found.code, found.paths) == ("disconnected-parameter", ("table.weight",))


PARAMS = {"fc1": {"kernel": normal(FEATURES, 32), "bias": jnp.zeros(32)}, "fc2": {"kernel": normal(32, CLASSES)}}
KNOWN = dict.fromkeys(("fc1.weight", "fc1.bias", "fc2.weight"), GradientState.DISCONNECTED)


def forward(params, x, *, hidden=lambda h: h, out=lambda z: z):
    h = hidden(jax.nn.relu(x @ params["fc1"]["kernel"] + params["fc1"]["bias"]))
    return out(h @ params["fc2"]["kernel"])


def test_in_jax_a_loss_cut_off_from_everything():
    def cut(params, x):
        return forward(params, x, out=lax.stop_gradient)

    assert said(in_jax(cut, PARAMS, optax.adam(1e-2), known=KNOWN)) == NONE
    assert said(in_jax(cut, PARAMS, optax.adam(1e-2))) == ZERO


def test_in_jax_a_layer_cut_off_without_known_states():
    def cut(params, x):
        return forward(params, x, hidden=lax.stop_gradient)

    found = first(in_jax(cut, PARAMS, optax.adam(1e-2)))
    assert (found.code, found.paths) == ("zero-gradient", ("fc1.weight",))
    assert "stop_gradient" in found.remedies[0]
    assert alarms(in_jax(forward, PARAMS, optax.adam(1e-2))) == []


def test_in_jax_outputs_and_weights_that_pass_nothing():
    def below(params, x):
        return forward(params, x, out=lambda z: jax.nn.relu(z - 100))

    assert said(in_jax(below, PARAMS, optax.sgd(0.1), loss=negative)) == ZERO
    nothing = jax.tree.map(jnp.zeros_like, PARAMS)
    assert said(in_jax(forward, nothing, optax.sgd(0.1))) == ZERO
    assert alarms(in_jax(lambda p, x: x @ p["w"], {"w": jnp.zeros((FEATURES, CLASSES))}, optax.sgd(0.5))) == []


def test_in_jax_an_expert_that_nothing_reaches():
    def routed(params, x, *, reached):
        h = jax.nn.relu(x @ params["a_stem"])
        to = jnp.arange(BATCH) % reached
        parts = [(to == i)[:, None] * jax.nn.relu(h @ w) for i, w in enumerate(params["experts"])]
        return (h + sum(parts)) @ params["head"]

    params = {
        "a_stem": normal(FEATURES, 32),
        "experts": [normal(32, 32, seed=i) for i in range(4)],
        "head": normal(32, CLASSES),
    }
    found = first(in_jax(lambda p, x: routed(p, x, reached=3), params, optax.adam(1e-2)))
    assert (found.code, found.paths) == ("zero-gradient", ("experts.3",))
    assert "router" in found.remedies[0]
    assert alarms(in_jax(lambda p, x: routed(p, x, reached=4), params, optax.adam(1e-2))) == []
