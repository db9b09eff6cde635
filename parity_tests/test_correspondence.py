"""Ports whose weights have other names and other layouts: they are found, and the judgement goes on as ever."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.errors import GradlabError
from gradlab_core.parity import assert_parity, compare, compare_traces, correspond, moved, record, transfer

rng = np.random.default_rng(0)
WIDTH, TIME = 6, 5
BATCH = rng.standard_normal((4, WIDTH)).astype(np.float32), np.array([0, 1, 2, 1])
SEQUENCE = rng.standard_normal((4, TIME, WIDTH)).astype(np.float32), np.array([0, 1, 2, 1])


class Chain(torch.nn.Module):
    """Square layers one after the other; their names are those given."""

    def __init__(self, names):
        super().__init__()
        self.names = names
        for name in names:
            setattr(self, name, torch.nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        for name in self.names:
            x = torch.tanh(getattr(self, name)(x))
        return x


class Port(nnx.Module):
    def __init__(self, names, order=None, act=jnp.tanh):
        rngs = nnx.Rngs(0)
        self.order, self.act = tuple(order or names), act
        for name in names:
            setattr(self, name, nnx.Linear(WIDTH, WIDTH, rngs=rngs))

    def __call__(self, x):
        for name in self.order:
            x = self.act(getattr(self, name)(x))
        return x


def subjects(original, port, **options):
    torch.manual_seed(0)
    gradlab_torch.from_canonical(original, moved(gradlab_torch.to_canonical(original), seed=1))
    return gradlab_torch.Subject(original), gradlab_jax.Subject(port, **options)


def test_other_names_are_no_difference():
    report = assert_parity(*subjects(Chain(["fc1", "fc2", "fc3"]), Port(["dense_0", "dense_1", "dense_2"])), BATCH)
    paths = {row.path for row in report.rows if row.quantity == "gradient"}
    assert paths == {f"fc{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")}
    assert {"fc1", "fc2", "fc3"} <= {row.path for row in report.rows if row.quantity == "activation"}
    assert not report.unpaired


def test_names_that_tell_nothing_are_decided_by_running():
    """The port defines its layers in another order than it calls them in."""
    sides = subjects(Chain(["a", "b", "c", "d"]), Port(["p", "q", "r", "s"], order=["r", "p", "s", "q"]))
    report = assert_parity(*sides, BATCH)
    links = {link.candidate[0]: link.name for link in report.correspondence.links}
    assert links["r.weight"] == "a.weight"
    assert links["q.bias"] == "d.bias"
    # Without a batch there is only the order to go by, and that is wrong here.
    assert {k.candidate[0]: k.name for k in correspond(*sides).links}["r.weight"] != "a.weight"


def test_a_fault_behind_other_names_is_found_where_it_is():
    port = Port(["dense_0", "dense_1", "dense_2"], act=lambda x: jnp.tanh(1.01 * x))
    first = compare(*subjects(Chain(["fc1", "fc2", "fc3"]), port), BATCH, steps=1).first_divergence
    assert (first.quantity, first.path, first.call) == ("activation", "", 0)  # a function that the model itself calls


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_traces_of_ports_with_other_names_are_judged_as_the_ports_are(factor, tmp_path):
    """The program decides which weight is which when the candidate is recorded."""
    port = Port(["p", "q", "r"], order=["r", "p", "q"], act=lambda x: jnp.tanh(factor * x))
    reference, candidate = subjects(Chain(["a", "b", "c"]), port)
    record(reference, BATCH, tmp_path / "r.trace", steps=2)
    rules = {"r.weight": "a.weight", "r.bias": "a.bias"}  # a port at fault may need them
    record(candidate, None, tmp_path / "c.trace", like=tmp_path / "r.trace", rules=rules if factor > 1 else None)
    report = compare_traces(tmp_path / "r.trace", tmp_path / "c.trace")
    live = compare(reference, candidate, BATCH, steps=2, rules=rules)
    assert [row.name for row in report.rows] == [row.name for row in live.rows]
    assert report.unpaired == live.unpaired
    if factor == 1:
        assert not report.failures, report
    else:
        assert report.first_divergence.key == live.first_divergence.key


def test_traces_cannot_tell_apart_what_is_one_array_in_the_port(tmp_path):
    reference, candidate = subjects(Memory(), MemoryPort())
    record(reference, SEQUENCE, tmp_path / "r.trace", steps=1)
    with pytest.raises(GradlabError, match="cannot tell apart"):
        record(candidate, None, tmp_path / "c.trace", like=tmp_path / "r.trace")


def test_what_corresponds_to_nothing_is_refused():
    with pytest.raises(GradlabError, match=r"fc3\.weight of the reference is nothing in the candidate"):
        compare(*subjects(Chain(["fc1", "fc2", "fc3"]), Port(["fc1", "fc2"])), BATCH)


class Fused(torch.nn.Module):
    """Two heads of attention whose queries, keys and values are one product, head by head or not."""

    def __init__(self, by_head):
        super().__init__()
        self.by_head, self.qkv, self.out = by_head, torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        n, t, _ = x.shape
        cut = self.qkv(x).reshape((n, t, 2, 3, -1) if self.by_head else (n, t, 3, 2, -1))
        q, k, v = (part.transpose(1, 2) for part in cut.unbind(3 if self.by_head else 2))
        mixed = torch.softmax(q @ k.mT / 3**0.5, -1) @ v
        return self.out(mixed.transpose(1, 2).reshape(n, t, -1)).mean(1)


class Apart(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        for name in ("key_proj", "out_proj", "query_proj", "value_proj"):
            setattr(self, name, nnx.Linear(WIDTH, WIDTH, rngs=rngs))

    def __call__(self, x):
        n, t, _ = x.shape
        q, k, v = (f(x).reshape(n, t, 2, -1).swapaxes(1, 2) for f in (self.query_proj, self.key_proj, self.value_proj))
        mixed = jax.nn.softmax(q @ k.mT / 3**0.5, -1) @ v
        return self.out_proj(mixed.swapaxes(1, 2).reshape(n, t, -1)).mean(1)


@pytest.mark.parametrize("by_head", [False, True])
def test_one_product_for_queries_keys_and_values(by_head):
    report = assert_parity(*subjects(Fused(by_head), Apart()), SEQUENCE)
    link = next(link for link in report.correspondence.links if link.name == "qkv.weight")
    assert link.heads == (2 if by_head else 1)
    assert {row.path for row in report.rows if row.quantity == "gradient"} >= {"qkv.weight", "qkv.bias"}


class Memory(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = torch.nn.LSTM(WIDTH, 4, batch_first=True), torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class MemoryPort(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.lstm, self.head = nnx.LSTMCell(WIDTH, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        carry = (jnp.zeros((len(x), 4), x.dtype),) * 2
        for t in range(x.shape[1]):
            carry, out = self.lstm(carry, x[:, t])
        return self.head(out)


def test_two_biases_of_a_cell_move_twice_as_far_as_their_sum():
    """Everything agrees but for one thing, which is a true difference: an optimizer moves both of PyTorch's biases."""
    report = compare(*subjects(Memory(), MemoryPort()), SEQUENCE, steps=1)
    wrong = {(row.quantity, row.path.partition("[")[0]) for row in report.failures}
    assert wrong == {("parameter", "lstm.bias_ih_l0")}
    assert {row.path for row in report.rows if row.quantity == "gradient"} >= {"lstm.weight_ih_l0", "lstm.weight_hh_l0"}


def test_weights_move_across():
    reference, candidate = subjects(Chain(["a", "b", "c"]), port := Port(["x", "y", "z"], order=["z", "x", "y"]))
    arrays = transfer(reference, candidate, BATCH)
    gradlab_jax.from_canonical(port, arrays)
    expected = reference.model(torch.as_tensor(BATCH[0])).detach().numpy()
    np.testing.assert_allclose(np.asarray(port(jnp.asarray(BATCH[0]))), expected, rtol=1e-4, atol=1e-5)
