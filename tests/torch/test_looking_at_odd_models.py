"""A look changes nothing about models and loops that are out of the ordinary, and breaks none of them."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradlab_torch as gl

X, Y = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3


class Parts(nn.Module):
    """Two layers, and between them anything."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)
        self.between = between

    def forward(self, x):
        return self.last(self.between(self.first, x))


def looked(model, steps=1, **options):
    params = [p for p in model.parameters() if not nn.parameter.is_lazy(p)]
    records, optimizer = [], torch.optim.SGD(params, lr=0.01)
    with gl.Monitor(model, optimizer, on_record=records.append, **options) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X), Y)
            loss.backward()
            monitor.observe(loss)
            optimizer.step()
    nothing_left()
    return [record.probe for record in records]


def nothing_left():
    assert torch.overrides._get_current_function_mode() is None
    assert not torch.nn.modules.module._has_any_global_hook()


@pytest.mark.parametrize("between", [lambda layer, x: F.relu(layer(x)), lambda layer, x: F.relu(x @ layer.weight.T)])
def test_a_compiled_function_inside_of_a_model(between):
    """It is compiled once more for looks, not at each of them; nothing of the look gets into it."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    torch._dynamo.reset()
    model = Parts(torch.compile(between, backend=backend, fullgraph=True))
    probes = looked(model, steps=25, look_every=2)
    assert probes[-1].classes == 3
    assert graphs == [graphs[0]] * 2


def test_the_fast_path_of_a_frozen_encoder_stays():
    layer = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval().requires_grad_(False)
    outputs = []

    def between(layer, x):
        hidden = F.relu(layer(x))
        outputs.append(encoder(hidden.detach()[:, None]))
        return F.relu(hidden + outputs[-1][:, 0])

    model = Parts(between)
    model.encoder = encoder
    model(X)
    probe = looked(model)[0]
    assert torch.equal(*outputs)
    assert [row.path for row in probe.layers if row.kind == "relu"] == ["", ""]


def test_function_transforms_inside_of_a_model():
    probe = looked(Parts(lambda layer, x: torch.vmap(lambda row: F.relu(layer(row)))(x)))[0]
    assert (probe.classes, probe.layers) == (3, ())


def test_parameters_without_a_shape_yet():
    model = Parts(lambda layer, x: layer(x))
    model.unused = nn.LazyLinear(3)
    assert list(looked(model)[0].shapes) == ["first.weight", "first.bias", "last.weight", "last.bias"]


def test_what_fails_at_the_end_of_a_look_does_not_stop_the_training(monkeypatch):
    from gradlab_torch.monitoring import looking

    monkeypatch.setattr(looking, "copied_share", lambda weight: 1 / 0)
    with pytest.warns(UserWarning, match="stops looking at this step"):
        assert looked(Parts(lambda layer, x: layer(x))) == [None]


def test_two_monitors_closed_after_a_pass_that_broke_off():
    def interrupted(layer, x):
        raise KeyboardInterrupt

    model = Parts(interrupted)
    monitors = [gl.Monitor(model, torch.optim.SGD(part.parameters(), lr=0.1)) for part in (model.first, model.last)]
    with pytest.raises(KeyboardInterrupt):
        model(X)
    for monitor in monitors:
        monitor.close()
    nothing_left()


def test_nothing_is_kept_that_the_user_let_go():
    model = Parts(lambda layer, x: layer(x))
    with gl.Monitor(model, torch.optim.SGD(model.parameters(), lr=0.1)) as monitor:
        answers = model(X[:13])
        loss = (answers * 2).sum()
        del answers
        loss.backward()
        assert not [t for t in gc.get_objects() if type(t) is torch.Tensor and t.shape == (13, 3)]
        for _ in range(20):  # no step is taken
            model(X)
        assert monitor._looks.look.watch.handed_out == []


def test_a_recurrent_net_and_a_cell_stepped_by_hand():
    class Stepped(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.cell, self.head = nn.RNN(8, 6, batch_first=True), nn.GRUCell(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            out, _ = self.rnn(x[:, None].expand(-1, 40, -1))
            h = out.new_zeros(len(x), 6)
            for t in range(40):
                h = torch.relu(self.cell(out[:, t], h))
            return self.head(h)

    rows = looked(Stepped())[0].layers
    assert [row.kind for row in rows if row.path == "rnn"] == ["tanh"]
    assert rows[0].saturated_frac is not None
    assert len([row for row in rows if row.path == ""]) == 16
