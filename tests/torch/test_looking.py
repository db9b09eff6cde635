"""The monitor looks into the passes that the user runs anyway: what it sees, what it lets through, and that it leaves
nothing behind."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import gradlab_torch as gl

X, Y = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3


def net(seed=0, outputs=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, outputs))


def looked(model, forward=None, steps=1, loss=F.cross_entropy, y=Y, **options):
    """The probes that a monitor took, and what the run left of the model."""
    probes, optimizer = {}, torch.optim.SGD(model.parameters(), lr=0.01)
    with gl.Monitor(model, optimizer, on_record=lambda r: probes.update({r.step: r.probe}), **options) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            value = loss((forward or model)(X), y)
            value.backward()
            monitor.observe(value)
            optimizer.step()
    nothing_left()
    return probes


def nothing_left():
    assert torch.overrides._get_current_function_mode() is None
    gc.collect()  # monitors that other tests did not close
    assert not torch.nn.modules.module._has_any_global_hook()


def test_a_monitor_that_nobody_closed_leaves_nothing_behind_when_it_is_gone():
    model = net()
    monitor = gl.Monitor(model, torch.optim.SGD(model.parameters(), lr=0.1))
    model(X)
    gone = weakref.ref(monitor), weakref.ref(model)
    del monitor, model
    nothing_left()
    assert [ref() for ref in gone] == [None, None]


def test_a_look_sees_what_a_probe_sees():
    model = net()
    expected = gl.probe(copy.deepcopy(model), X, Y)
    probe = looked(model)[0]
    assert probe.layers == expected.layers
    assert (probe.input, probe.output, probe.shapes) == (expected.input, expected.output, expected.shapes)
    assert (probe.classes, probe.batch, probe.mode) == (3, 64, "train")
    assert probe.copies == pytest.approx(expected.copies)
    assert probe.loss == pytest.approx(expected.loss)
    assert probe.answers.loss == "cross-entropy"


def test_the_steps_that_are_looked_at():
    assert [step for step, probe in looked(net(), steps=45).items() if probe] == [0, 20, 40]
    assert [step for step, probe in looked(net(), steps=45, every=15).items() if probe] == [0, 30]
    assert not any(looked(net(), steps=3, look_every=None).values())
    with pytest.raises(gl.GradlabError, match="look_every is 0"):
        looked(net(), look_every=0)


def test_the_training_is_the_same_bit_by_bit():
    """Dropout draws the same numbers, and so do the parameters come out."""
    runs = []
    for options in ({"look_every": 1}, {"look_every": None}):
        model = nn.Sequential(net(), nn.Dropout(0.5), nn.Linear(3, 3))
        torch.manual_seed(1)
        looked(model, steps=5, **options)
        runs.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*runs)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_loss_is_recognised(reduction, dtype):
    def answers(loss, y, outputs):
        model = net(outputs=outputs).to(dtype)
        probe = looked(model, lambda x: model(x.to(dtype)), loss=lambda z, y: loss(z, y, reduction=reduction), y=y)[0]
        return probe

    target = (torch.randn(64, 4, generator=torch.Generator().manual_seed(1)) * 30 + 5).to(dtype)
    squared = answers(F.mse_loss, target, 4)
    assert (squared.answers.loss, squared.answers.reduction) == ("squared-error", reduction)
    assert squared.target.std == pytest.approx(target.double().std(correction=0).item(), rel=1e-2)
    binary = answers(F.binary_cross_entropy_with_logits, (target > 0).to(dtype), 4)
    assert (binary.answers.loss, binary.answers.reduction, binary.classes) == ("binary-cross-entropy", reduction, 2)
    softmax = answers(F.cross_entropy, Y, 3)
    assert (softmax.answers.loss, softmax.answers.reduction, softmax.classes) == ("cross-entropy", reduction, 3)
    assert not softmax.answers.are_probabilities
    # None of them: a loss that nobody knows is not taken for one that is.
    assert answers(lambda z, y, reduction: getattr((z - y).abs(), reduction)(), target, 4).answers is None
    assert answers(F.huber_loss, target / 5, 4).answers is None


def test_a_softmax_before_the_cross_entropy_shows():
    assert looked(nn.Sequential(net(), nn.Softmax(-1)))[0].answers.are_probabilities
    nll = looked(nn.Sequential(net(), nn.Softmax(-1)), loss=lambda p, y: F.nll_loss(p.log(), y))[0]
    assert nll.answers is None  # these are probabilities, and rightly so


def test_tokens_masks_and_classes_on_the_second_axis():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)

        def forward(self, tokens, *, scale):
            return {"aux": None, "logits": self.head(self.embedding(tokens)) * scale}

    torch.manual_seed(0)
    model, tokens = Tokens(), torch.randint(0, 11, (4, 7))
    labels = tokens.clone()
    labels[:, 5:] = -100  # padding

    def loss(out, y):
        return F.cross_entropy(out["logits"].flatten(0, 1), labels.flatten())

    probe = looked(model, lambda x: model(tokens, scale=torch.tensor(2.0)), loss=loss)[0]
    assert (probe.classes, probe.answers.reduction, probe.batch, probe.input) == (11, "mean", 4, None)
    pixels = nn.Conv2d(2, 5, 3, padding=1)
    images, truth = torch.randn(4, 2, 6, 6), torch.randint(0, 5, (4, 6, 6))
    probe = looked(pixels, lambda x: pixels(images), loss=lambda z, y: F.cross_entropy(z, truth))[0]
    assert (probe.classes, probe.answers.loss) == (5, "cross-entropy")


def test_several_passes_and_parts_called_one_by_one():
    model = net()

    def accumulated(x):
        halves = [F.cross_entropy(model(part), y) / 2 for part, y in zip(x.chunk(2), Y.chunk(2), strict=True)]
        return halves[0] + halves[1]

    probe = looked(model, accumulated, loss=lambda value, y: value)[0]
    assert [(row.path, row.call, row.shape) for row in probe.layers] == [
        ("1", 0, (32, 32)), ("3", 0, (32, 16)), ("1", 1, (32, 32)), ("3", 1, (32, 16)),
    ]  # fmt: skip
    assert probe.classes == 3
    parts = nn.ModuleDict({"body": nn.Linear(8, 32), "head": nn.Linear(32, 3)})
    probe = looked(parts, lambda x: parts["head"](F.gelu(parts["body"](x))))[0]
    assert (probe.output.shape, probe.classes) == ((64, 3), 3)


def test_a_model_that_returns_its_loss():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            return F.cross_entropy(self.net(x), Y)

    probe = looked(WithLoss(), loss=lambda value, y: value)[0]
    assert (probe.output.shape, probe.classes) == ((64, 3), 3)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_counts_once(reentrant):
    model = net()

    def forward(x):
        return checkpoint(model, x.clone().requires_grad_(), use_reentrant=reentrant)

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return forward(x)

    assert [row.call for row in looked(Wrapped())[0].layers] == [0, 0]


def test_passes_that_are_not_of_the_step():
    model = net()

    def forward(x):
        with torch.no_grad():
            model(x * 1000)
        torch.func.vmap(lambda row: torch.func.functional_call(model, dict(model.named_parameters()), row))(x)
        torch.func.grad(lambda row: model(row).sum())(x[0])
        torch.jit.trace(model, x, check_trace=False)
        return model(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        probe = looked(model, forward)[0]
    assert [(row.path, row.call) for row in probe.layers] == [("1", 0), ("3", 0)]
    assert probe.input.max < 10


def test_a_pass_that_fails_leaves_nothing_behind():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.error = net(), ValueError("no")

        def forward(self, x):
            out = self.inner(x)
            if self.error is not None:
                raise self.error
            return out

    model = Failing()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for error in (ValueError("no"), KeyboardInterrupt()):
        model.error = error
        with pytest.raises(type(error)), gl.Monitor(model, optimizer):
            model(X)
        nothing_left()
    with gl.Monitor(model, optimizer) as monitor:  # a batch that fails and is left out
        with pytest.raises(KeyboardInterrupt):
            model(X)
        model.error = None
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    assert monitor.last.probe.classes == 3
    nothing_left()


def test_what_fails_in_a_look_does_not_stop_the_training(monkeypatch):
    from gradlab_torch.monitoring import looking

    monkeypatch.setattr(looking, "stats", lambda value, tap: 1 / 0)
    with pytest.warns(UserWarning, match="stops looking at this step"):
        assert looked(net()) == {0: None}


def test_the_model_stays_one_that_can_be_copied_and_pickled():
    model = net()
    with gl.Monitor(model, torch.optim.SGD(model.parameters(), lr=0.1)) as monitor:
        twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        F.cross_entropy(twin(X), Y).backward()
        assert monitor._looks.look.rows == []  # another model's pass
    nothing_left()


def test_a_compiled_model_is_not_looked_into_and_that_is_said():
    whole, part = net(), net()
    part[2].compile(backend="eager")
    for model in (torch.compile(whole, backend="eager"), part):
        with pytest.warns(UserWarning, match="does not look into the model: .* is compiled"):
            assert looked(model, steps=21) == dict.fromkeys(range(21))


def test_a_compiled_function_around_the_model_is_not_broken():
    model, seen = net(), []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    forward = torch.compile(lambda x: model(x), backend=backend, fullgraph=True)
    looked(model, forward, steps=45)
    assert len(seen) <= 2  # with the hooks of a look, and without


@pytest.mark.parametrize(("last", "loss"), [(nn.Softmax(-1), F.cross_entropy), (nn.Sigmoid(), None)])
def test_probabilities_where_logits_belong_are_found(last, loss):
    labels = X[:, :3].argmax(1)
    one_hot = F.one_hot(labels, 3).float()
    binary = F.binary_cross_entropy_with_logits
    for model, expected in ((nn.Sequential(net(), last), ["softmax-before-loss"]), (net(), [])):
        run, optimizer = [], torch.optim.Adam(model.parameters(), lr=0.003)
        with gl.Monitor(model, optimizer, on_record=run.append) as monitor:
            for _ in range(60):
                optimizer.zero_grad()
                value = loss(model(X), labels) if loss else binary(model(X), one_hot)
                value.backward()
                monitor.observe(value)
                optimizer.step()
        assert [found.code for found in gl.diagnose(run)] == expected
