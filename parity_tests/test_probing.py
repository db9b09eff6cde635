"""What a model does on one batch: both twins against the definitions, and how a probe gets into a record."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen, nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import reference
from gradlab_core.definitions.symmetry import copied_share
from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec, TrainSpec
from gradlab_core.records import Probe, StepRecord, codec
from gradlab_jax.measure import probing as jax_probing
from parity_tests.conftest import FLAT, SPECS, batch_for, pair, trained_weights

TWINS = (gradlab_torch, gradlab_jax)
NUMBERS = ("mean", "std", "min", "max", "rms", "zero_frac")
MLP = ModelSpec(kind="mlp", features=3, widths=(4,), num_classes=2)


def stats_close(found, truth, **tolerance):
    assert (found.shape, found.nonfinite) == (truth.shape, truth.nonfinite)
    for name in NUMBERS:
        assert getattr(found, name) == pytest.approx(getattr(truth, name), nan_ok=True, **tolerance), name


@pytest.mark.parametrize("name", ["gru", "residual_toy"])
def test_both_twins_follow_the_definitions(name):
    spec = SPECS[name]
    x, y = batch_for(spec)
    x[0] = np.abs(x[0]) * 1e3  # a mean, and a spread, of its own
    arrays = trained_weights(spec)
    first = next(path for path, w in arrays.items() if w.ndim > 1)
    arrays[first][1] = arrays[first][0] * (1 + 1e-6)
    probes = []
    with jax.enable_x64(True):
        for twin in TWINS:
            model = twin.astype(twin.build(spec, seed=0), "float64")
            twin.from_canonical(model, arrays)
            batch = twin.to_native(x.astype(np.float64))
            found = twin.probe(model, batch, y)
            probes.append(found)
            assert (found.mode, found.batch, found.classes, found.target) == ("train", len(x), spec.num_classes, None)
            assert found.shapes == {path: w.shape for path, w in arrays.items()}
            assert list(found.shapes) == list(arrays)
            assert found.copies == pytest.approx({p: copied_share(w) for p, w in arrays.items() if w.ndim > 1})
            assert found.copies[first] > 0
            stats_close(found.input, reference.activation_stats(x, path="", kind=""), rel=1e-9, abs=1e-12)
            assert found.origin is None
            after = twin.to_canonical(model)
            assert all((after[path] == arrays[path]).all() for path in arrays)
            if twin is gradlab_torch:
                assert list(found.layers) == twin.activation_stats(model, batch, mode="train")
                assert found.hidden == (twin.hidden_state_norms(model, batch, y) if name == "gru" else None)
    ours, theirs = probes
    assert (ours.hidden is None) == (theirs.hidden is None)
    if ours.hidden is not None:
        assert ours.hidden.states == pytest.approx(theirs.hidden.states, rel=1e-9)
        assert ours.hidden.gradients == pytest.approx(theirs.hidden.gradients, rel=1e-9)
        assert ours.hidden.saturated == theirs.hidden.saturated
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-9)
    stats_close(ours.output, theirs.output, rel=1e-9, abs=1e-12)
    for row, other in zip(ours.layers, theirs.layers, strict=True):
        assert (row.path, row.kind, row.call) == (other.path, other.kind, other.call)
        stats_close(row, other, rel=1e-9, abs=1e-12)


def test_a_regression_in_half_precision():
    dtype, unit = "bfloat16", 2.0**-8
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 3)).astype(np.float32), 5 + rng.standard_normal((8, 2)).astype(np.float32)
    arrays = trained_weights(MLP)

    def mse(out, target):
        return ((out - target) ** 2).mean()

    probes = []
    for twin, cast in (
        (gradlab_torch, lambda a: a.to(getattr(torch, dtype))),
        (gradlab_jax, lambda a: a.astype(dtype)),
    ):
        model = twin.astype(twin.build(MLP, seed=0), dtype)
        twin.from_canonical(model, arrays)
        batch, target = (cast(twin.to_native(a)) for a in (x, y))
        found = twin.probe(model, batch, target, loss=mse, mode="eval")
        assert (found.mode, found.classes) == ("eval", None)
        probes.append(found)
    # Elements round once more in each layer: a few units of the type, of the size of the largest.
    ours, theirs = probes
    assert ours.loss == pytest.approx(theirs.loss, rel=8 * unit)
    # What comes in was rounded alike, and is measured in float32.
    for name in ("input", "target"):
        stats_close(getattr(ours, name), getattr(theirs, name), rel=16 * 2.0**-23, abs=16 * 2.0**-23)
    stats_close(ours.output, theirs.output, rel=8 * unit, abs=8 * unit * abs(ours.output.max))
    assert ours.target.mean == pytest.approx(y.mean(), rel=unit)


def test_what_is_wrong_with_the_numbers_is_counted_and_with_the_batch_refused():
    x, y = np.ones((6, 3), np.float32), np.arange(6) % 2
    x[0, 0], x[1, 1] = np.nan, np.inf
    for twin in TWINS:
        model, native = twin.build(MLP, seed=0), twin.to_native
        found = twin.probe(model, native(x), y)
        assert (found.input.nonfinite, found.output.nonfinite, found.input.mean) == (2, 4, 1.0)
        assert np.isnan(found.loss)
        for batch, labels, message in (
            (x.tolist(), y, "input batch is a list"),
            (native(x[:0]), y[:0], "holds no example"),
            (native(x), y + 1, "class 2 is out of range"),
            (native(x), y / 2, "expected integers"),
            (native(x), y[:2], "one label per example"),
        ):
            with pytest.raises(GradlabError, match=message):
                twin.probe(model, batch, labels)
        with pytest.raises(GradlabError, match="expected one number"):
            twin.probe(model, native(x), y, loss=lambda out, y: out)
        with pytest.raises(GradlabError, match="mode is 'test'"):
            twin.probe(model, native(x), y, mode="test")


def test_tokens_have_no_statistics_and_other_recurrent_nets_no_states():
    class Reader(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = torch.nn.Embedding(5, 4), torch.nn.LSTM(4, 2, bidirectional=True, batch_first=True)

        def forward(self, x):
            return self.rnn(self.embed(x))[0][:, -1]

    class Twice(nnx.Module):
        def __init__(self):
            self.embed = nnx.Embed(5, 4, rngs=nnx.Rngs(0))
            self.net = gradlab_jax.build(dataclasses.replace(FLAT["gru"], features=4), seed=0)

        def __call__(self, x):
            return self.net.fc(self.net.rnn(self.net.rnn(self.embed(x)))[:, -1])

    tokens, y = np.arange(12).reshape(3, 4) % 5, np.array([0, 1, 0])
    for twin, model in ((gradlab_torch, Reader()), (gradlab_jax, Twice())):
        found = twin.probe(model, twin.to_native(tokens), y)
        assert (found.input, found.hidden) == (None, None)
        assert found.shapes["embed.weight"] == (5, 4)


def test_linen_has_the_shapes_and_paths_of_the_others():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(4, (3, 2), name="c")(x)
            return linen.Dense(5, name="fc")(x.mean((1, 2)))

    x = jnp.ones((2, 6, 6, 3))
    shapes = jax.eval_shape(Net().init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
    found = gradlab_jax.probe(Net().bind(variables), x, np.array([0, 4]))
    shapes = {"c.weight": (4, 3, 3, 2), "c.bias": (4,), "fc.weight": (5, 4), "fc.bias": (5,)}
    assert {path: found.shapes[path] for path in shapes} == shapes
    assert found.input.shape == (2, 3, 6, 6)
    assert found.copies == {"c.weight": 1.0, "fc.weight": 1.0}


def test_a_user_goes_on_as_if_nothing_had_run():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(), torch.nn.Linear(4, 2))
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.random.get_rng_state()
    gradlab_torch.probe(net.eval(), torch.randn(6, 3, generator=torch.Generator()), np.arange(6) % 2)
    assert all((before[k] == v).all() for k, v in net.state_dict().items())
    assert (torch.random.get_rng_state() == state).all()
    assert not net.training

    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param, nnx.BatchStat, nnx.RngCount))
    gradlab_jax.probe(model, jnp.ones((6, 3)), np.arange(6) % 4)
    after = nnx.state(model, nnx.Param, nnx.BatchStat, nnx.RngCount)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), before, after)))


def test_probes_of_one_model_and_shape_are_compiled_once():
    x, y = jnp.ones((6, 3)), np.arange(6) % 2
    gradlab_jax.probe(gradlab_jax.build(MLP, seed=0), x, y)
    compiled = jax_probing._probe._cache_size()
    for seed in range(3):
        gradlab_jax.probe(gradlab_jax.build(MLP, seed=seed), x + seed, y)
    assert jax_probing._probe._cache_size() == compiled


def monitored(twin, probed) -> list[StepRecord]:
    """Two steps of one parameter, of which the first gets a probe."""
    records: list[StepRecord] = []
    if twin is gradlab_torch:
        model = torch.nn.Linear(2, 1, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with gradlab_torch.Monitor(model, optimizer, on_record=records.append) as monitor:
            for step in range(2):
                loss = model(torch.ones(1, 2)).sum()
                loss.backward()
                monitor.observe(loss, probe=probed if step == 0 else None)
                optimizer.step()
        return records
    tx, params = gradlab_jax.monitor(optax.sgd(0.1)), {"weight": jnp.ones(2)}
    update, state = jax.jit(tx.update), tx.init(params)
    for step in range(2):
        _, state = update(params, state, params)
        records.append(gradlab_jax.read_record(state, probe=probed if step == 0 else None))
    return records


def test_a_record_carries_the_probe_of_its_step_and_survives_a_file():
    x, y = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32), np.arange(6) % 2
    for twin in TWINS:
        probed = twin.probe(twin.build(MLP, seed=0), twin.to_native(x), y)
        first, second = monitored(twin, probed)
        assert (first.probe, second.probe) == (probed, None)
        assert codec.decode(StepRecord, codec.encode(first)) == first


class Source:
    def __init__(self, count):
        rng = np.random.default_rng(0)
        self.batches = [(rng.standard_normal((6, 3)).astype(np.float32), rng.integers(0, 2, 6)) for _ in range(count)]

    def epoch(self, epoch):
        return self.batches


def test_training_probes_before_the_step_and_trains_the_same():
    source, spec = Source(3), TrainSpec(learning_rate=0.1)
    probes = []
    for twin in TWINS:
        models = pair(MLP)[TWINS.index(twin)], pair(MLP)[TWINS.index(twin)]
        x, y = source.batches[0]
        before = twin.probe(models[0], twin.to_native(x), y)
        record = twin.train(models[0], source, spec, probe_every=2)
        assert [step.probe is not None for step in record.steps] == [True, False, True]
        assert record.steps[0].probe == before
        assert record.steps[2].probe.loss == pytest.approx(record.steps[2].loss, rel=1e-6)
        bare = twin.train(models[1], source, spec)
        assert [step.loss for step in bare.steps] == pytest.approx([step.loss for step in record.steps], rel=1e-6)
        after = [twin.to_canonical(model) for model in models]
        assert all(np.allclose(after[0][path], after[1][path], rtol=1e-5, atol=1e-7) for path in after[0])
        probes.append(record.steps[2].probe)
        with pytest.raises(GradlabError, match="probe_every is -1"):
            twin.train(models[0], source, spec, probe_every=-1)
    assert probes[0].loss == pytest.approx(probes[1].loss, rel=1e-5)


def test_the_last_record_of_a_run_that_ends_says_where():
    """The root of 0 is a number and its slope is not; only the gradient goes wrong."""
    origins = []
    for twin, root, model in ((gradlab_torch, torch.sqrt, pair(MLP)[0]), (gradlab_jax, jnp.sqrt, pair(MLP)[1])):

        def loss(out, y, root=root, twin=twin):
            return twin.cross_entropy(out, y) + root((out * 0).sum())

        record = twin.train(model, Source(2), TrainSpec(), loss=loss, probe_every=3)
        assert record.diverged_at == 0
        assert isinstance(record.steps[0].probe, Probe)
        origin = record.steps[0].probe.origin
        origins.append((origin.phase, origin.path, origin.value))
    assert origins[0] == origins[1] == ("backward", None, "inf")

    torch.manual_seed(0)
    record = gradlab_torch.train(pair(MLP)[0], Source(3), TrainSpec(learning_rate=1e30), probe_every=9)
    assert record.diverged_at == 1
    assert record.steps[1].probe.origin.phase == "forward"
    assert record.steps[1].probe.loss == pytest.approx(record.steps[1].loss, nan_ok=True)


@pytest.mark.parametrize("index", [0, 1])
def test_the_snippets_of_the_documentation_print_what_they_say(index, capsys):
    text = (Path(__file__).parent.parent / "docs" / "probes.md").read_text()
    snippet = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[index]
    exec(compile(snippet, "probes.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", snippet, flags=re.MULTILINE)


def test_the_first_weight_of_a_recurrent_net_is_its_own():
    spec = FLAT["lstm"]
    x, y = batch_for(spec)
    for twin, model in zip(TWINS, pair(spec), strict=True):
        flow = twin.gradient_flow(model, twin.to_native(x), y)
        assert (flow.first, flow.last) == (flow.layers["rnn.weight_ih_l0"], flow.layers["fc.weight"])
        assert flow.first != flow.last
