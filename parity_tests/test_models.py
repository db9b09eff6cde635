"""The kinds of models beside images: dense nets with every activation, recurrent ones with every cell, transformers."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import recurrent
from gradlab_core.errors import GradlabError
from gradlab_core.parity import assert_parity
from gradlab_core.programs.specs import MLP_ACTIVATIONS, ModelSpec, TrainSpec
from parity_tests.conftest import FLAT, batch_for, pair

TWINS = (gradlab_torch, gradlab_jax)
TRAINING = TrainSpec(learning_rate=0.05, momentum=0.9, weight_decay=5e-4, milestones=(10,))


def wide_pair(spec):
    return [twin.astype(model, "float64") for twin, model in zip(TWINS, pair(spec), strict=True)]


@pytest.mark.parametrize("activation", sorted({*MLP_ACTIVATIONS} - {FLAT["mlp"].activation}))
def test_every_activation(activation):
    """One each; training, step by step, is tested with the net in SPECS."""
    spec = dataclasses.replace(FLAT["mlp"], activation=activation, widths=(5, 5))
    x, y = batch_for(spec)
    with jax.enable_x64(True):
        a, b = (
            twin.gradient_flow(model, twin.to_native(x.astype(np.float64)), y)
            for twin, model in zip(TWINS, wide_pair(spec), strict=True)
        )
        tracked = [
            [(row.path, row.kind) for row in twin.activation_stats(model, twin.to_native(x), mode="eval")]
            for twin, model in zip(TWINS, pair(spec), strict=True)
        ]
    assert list(a.layers) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"]
    assert b.layers == pytest.approx(a.layers, rel=1e-9)
    assert b.loss == pytest.approx(a.loss, rel=1e-12)
    expected = [] if activation == "identity" else [("act1", activation), ("act2", activation)]
    assert tracked == [expected, expected]


def test_images_are_flattened_alike():
    spec = ModelSpec(kind="mlp", features=12, widths=(), num_classes=3)
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2)).astype(np.float32)
    logits = [np.asarray(m(twin.to_native(x)).tolist()) for twin, m in zip(TWINS, pair(spec), strict=True)]
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu"])
def test_the_other_cells_train_alike(cell):
    spec = dataclasses.replace(FLAT["lstm"], cell=cell)
    models = pair(spec)
    subjects = [twin.Subject(model, optimizer=TRAINING) for twin, model in zip(TWINS, models, strict=True)]
    report = assert_parity(*subjects, batch_for(spec), steps=20)
    assert report.worst("logic_error") <= 1e-9


@pytest.mark.parametrize("cell", recurrent.CELLS)
def test_the_cells_are_those_of_the_definition(cell):
    spec = dataclasses.replace(FLAT["lstm"], cell=cell)
    x = batch_for(spec)[0].astype(np.float64)
    with jax.enable_x64(True):
        models = wide_pair(spec)
        arrays = gradlab_torch.to_canonical(models[0])
        weights = {path.removeprefix("rnn."): w for path, w in arrays.items() if path.startswith("rnn.")}
        assert tuple(weights) == recurrent.PARAMETERS
        truth = recurrent.run(cell, weights, x)[0].swapaxes(0, 1)
        found = (
            models[0].rnn(gradlab_torch.to_native(x))[0].detach().numpy(),
            np.asarray(models[1].rnn(gradlab_jax.to_native(x))),
        )
    for states in found:
        np.testing.assert_allclose(states, truth, rtol=1e-12, atol=1e-14)


def test_the_transformer_is_the_one_of_the_definition():
    """PyTorch's own encoder layers, its fused weights filled from ours, and positions written out once more."""
    spec = dataclasses.replace(FLAT["transformer"], hidden=12, heads=3, depth=2)
    width = spec.hidden
    x = batch_for(spec)[0].astype(np.float64)
    with jax.enable_x64(True):
        models = wide_pair(spec)
        ours = models[0]
        h = ours.embed(torch.from_numpy(x))
        for t in range(x.shape[1]):
            for i in range(width // 2):
                angle = t / 10_000 ** (2 * i / width)
                h[:, t, 2 * i] += math.sin(angle)
                h[:, t, 2 * i + 1] += math.cos(angle)
        for block in ours.blocks:
            layer = torch.nn.TransformerEncoderLayer(
                width, spec.heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            ).double()
            attention = layer.self_attn
            parts = block.q, block.k, block.v
            for name, source in (("weight", "in_proj_weight"), ("bias", "in_proj_bias")):
                getattr(attention, source).data = torch.cat([getattr(part, name).data for part in parts])
            attention.out_proj, layer.linear1, layer.linear2 = block.out, block.fc1, block.fc2
            layer.norm1, layer.norm2 = block.norm1, block.norm2
            h = layer(h)
        truth = ours.fc(ours.norm(h).mean(dim=1)).detach().numpy()
        found = [np.asarray(model(twin.to_native(x)).tolist()) for twin, model in zip(TWINS, models, strict=True)]
        models[0].blocks[1].heads = models[1].blocks.layers[1].heads = 2  # of the same shapes, and another net
        other = [np.asarray(model(twin.to_native(x)).tolist()) for twin, model in zip(TWINS, models, strict=True)]
    for logits in found:
        np.testing.assert_allclose(logits, truth, rtol=1e-12, atol=1e-14)
    for logits in other:
        assert abs(logits - truth).max() > 1e-4
    np.testing.assert_allclose(*other, rtol=1e-12, atol=1e-14)


def test_what_is_measured_of_a_transformer():
    spec = dataclasses.replace(FLAT["transformer"], depth=2, num_classes=1)
    x = batch_for(spec)[0]
    examples, steps, width = len(x), x.shape[1], spec.hidden
    dense = spec.features * width + spec.depth * (4 * width**2 + 2 * 4 * width**2)
    attention = spec.depth * 2 * steps * width  # q·k, and the shares times v, of one step
    flops = 2 * examples * (steps * (dense + attention) + width)
    sizes = []
    for twin in TWINS:
        model = twin.build(spec, seed=0)
        assert twin.count_flops(model, twin.to_native(x)) == flops
        sizes.append({path: array.shape for path, array in twin.to_canonical(model).items()})
    assert list(sizes[0].items()) == list(sizes[1].items())
    assert sizes[0]["blocks.1.fc2.weight"] == (width, 4 * width)
    assert sizes[0]["fc.weight"] == (1, width)
    rows = gradlab_torch.activation_stats(gradlab_torch.build(spec, seed=0), gradlab_torch.to_native(x), mode="train")
    block = [("norm1", "norm"), ("norm2", "norm"), ("act1", "gelu")]
    inside = [(f"blocks.{index}.{name}", kind) for index in range(2) for name, kind in block]
    assert [(row.path, row.kind) for row in rows] == [*inside, ("norm", "norm")]


def test_the_bias_of_the_keys_has_a_gradient_of_nothing_but_rounding():
    """It adds the same to the scores of all keys, which softmax takes out again: small, and no fault."""
    spec = FLAT["transformer"]
    x, y = batch_for(spec)
    with jax.enable_x64(True):
        wide = gradlab_torch.gradient_flow(wide_pair(spec)[0], torch.from_numpy(x).double(), y).layers
    narrow = gradlab_torch.gradient_flow(pair(spec)[0], torch.from_numpy(x), y).layers
    assert wide["blocks.0.k.bias"] < 1e-15
    assert narrow["blocks.0.k.bias"] < 1e-7
    assert min(norm for path, norm in wide.items() if path != "blocks.0.k.bias") > 1e-4


def test_a_transformer_stays_in_its_precision():
    """The positions are computed in float64 and must not widen a bfloat16 net."""
    reference, candidate = (
        twin.astype(m, "bfloat16") for twin, m in zip(TWINS, pair(FLAT["transformer"]), strict=True)
    )
    x = batch_for(FLAT["transformer"])[0]
    assert reference(torch.from_numpy(x).bfloat16()).dtype == torch.bfloat16
    assert jax.eval_shape(candidate, jax.ShapeDtypeStruct(x.shape, "bfloat16")).dtype == "bfloat16"


def test_a_batch_of_another_shape_is_refused():
    mlp, net, encoder = (dataclasses.replace(FLAT[name], features=3) for name in ("mlp", "gru", "transformer"))
    for twin in TWINS:
        for spec, shape, wanted in (
            (mlp, (2, 4), r"\(N, 3\)"),
            (net, (2, 3), r"\(N, T, 3\)"),
            (net, (2, 0, 3), "T, 3"),
            (encoder, (2, 5, 4), r"\(N, T, 3\)"),
        ):
            with pytest.raises(GradlabError, match=wanted):
                twin.build(spec, seed=0)(twin.to_native(np.zeros(shape, np.float32)))


def test_a_spec_names_its_start():
    for twin in TWINS:
        arrays = twin.to_canonical(twin.build(ModelSpec(kind="mlp", init="constant", init_number=0.5), seed=0))
        assert {path: set(np.unique(w).tolist()) for path, w in arrays.items()} == {
            path: {0.5} if path.endswith("weight") else {0.0} for path in arrays
        }
    net = gradlab_torch.build(ModelSpec(base=2, layers=(1,), init="normal", init_number=1e-3), seed=0)
    assert net.conv1.weight.std().item() == pytest.approx(1e-3, rel=0.3)
    assert torch.equal(net.bn1.weight, torch.ones(2))


def test_a_module_that_remembers_its_type_follows():
    """`nnx.Embed` keeps the type its table had, and computes in that."""
    table = nnx.Embed(4, 3, rngs=nnx.Rngs(0))
    coarse = nnx.Embed(4, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    words = jnp.array([1], jnp.int32)
    with jax.enable_x64(True):
        assert gradlab_jax.astype(table, "float64")(words).dtype == jnp.float64
        assert gradlab_jax.astype(coarse, "float64")(words).dtype == jnp.bfloat16  # as its author wants it
    assert table(words).dtype == jnp.float32
