"""Every measurement gives the same figures in both twins: to 1e-9 in float64, exactly where it counts things."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import kinds
from gradlab_core.definitions.noise import default_noise
from gradlab_core.errors import GradlabError
from gradlab_core.programs.specs import ModelSpec
from gradlab_core.records import MODES
from gradlab_jax.model.modules import functional
from gradlab_jax.model.taps import taps
from parity_tests.conftest import SPECS, batch_for, pair, trained_weights

LOGIC = 1e-9


@pytest.fixture(scope="module")
def sides(spec):
    """Both twins in float64, with their native inputs."""
    x, y = batch_for(spec)
    noise = default_noise(x.shape, seed=1)
    with jax.enable_x64(True):
        models = [
            twin.astype(model, "float64") for twin, model in zip((gradlab_torch, gradlab_jax), pair(spec), strict=True)
        ]
        natives = [
            (twin, model, twin.to_native(x.astype(np.float64)), y, twin.to_native(noise.astype(np.float64)))
            for twin, model in zip((gradlab_torch, gradlab_jax), models, strict=True)
        ]
        yield natives


def assert_close(a, b, where=""):
    """Records field by field: floats to 1e-9, everything else exactly, and None only beside None."""
    assert type(a) is type(b), where
    if dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_close(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, dict):
        assert list(a) == list(b), where  # the same paths in the same order
        for key in a:
            assert_close(a[key], b[key], f"{where}[{key}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for index, items in enumerate(zip(a, b, strict=True)):
            assert_close(*items, f"{where}[{index}]")
    elif isinstance(a, float):
        # Differences below 1e-9 of a unit-scale signal are rounding, also around a mean that is zero.
        assert a == pytest.approx(b, rel=LOGIC, abs=LOGIC), where
    else:
        assert a == b, where


def test_analyze(sides, spec):
    """Layer by layer statistics, summary, flow, sensitivity, parameters and FLOPs, in both modes."""
    for mode in MODES if spec.block in ("plain", "preact") else ("train",):
        records = [
            dataclasses.replace(twin.analyze(model, x, y, noise, name="net", mode=mode), framework="", verdicts=())
            for twin, model, x, y, noise in sides
        ]
        assert_close(*records)
        assert records[0].sensitivity > 0
        assert records[0].flow.ratio == pytest.approx(records[0].flow.first / (records[0].flow.last + 1e-12))


@pytest.mark.parametrize("twin", [gradlab_torch, gradlab_jax])
def test_bands_judge_only_where_they_are_asked_for(twin):
    model = twin.build(ModelSpec(kind="mlp", features=4, widths=(8,), num_classes=3), seed=0)
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    given = (model, twin.to_native(x), np.arange(6) % 3, twin.to_native(1e-3 * x))
    assert [v.figure for v in twin.analyze(*given, name="net").verdicts] == ["disconnected"]
    asked = twin.analyze(*given, name="net", bands="tinynet-cifar10").verdicts
    assert {v.band for v in asked} == {None, "tinynet-cifar10"}
    with pytest.raises(GradlabError, match="band set 'universal' is not known"):
        twin.analyze(*given, name="net", bands="universal")


def test_check_gradients(sides, spec):
    states = [twin.check_gradients(model, x, y) for twin, model, x, y, _ in sides]
    assert states[0] == states[1]
    cut = {path for path, state in states[0].items() if state == "disconnected"}
    assert cut == ({"stage2.0.down.weight"} if spec.block == "preact_noskip" else set())


def test_measuring_changes_nothing(sides):
    for twin, model, x, y, noise in sides:
        before = twin.to_canonical(model)
        twin.analyze(model, x, y, noise, name="net", mode="train")
        after = twin.to_canonical(model)
        assert list(before) == list(after)
        assert all(np.array_equal(before[path], after[path]) for path in before)


PUBLISHED = {
    "plain": (685_994, 39),
    "plain_unpadded": (685_994, 39),
    "postact": (696_618, 43),
    "preact": (696_042, 41),
    "preact_noskip": (696_042, 41),
}


@pytest.mark.parametrize("block", PUBLISHED)
def test_published_sizes(block):
    """TinyNet, base 32, blocks 2-2-2, 10 classes: parameters and tracked layer calls as published."""
    spec = ModelSpec(block=block)
    x = batch_for(dataclasses.replace(spec, block="plain_unpadded"), examples=2)[0]
    for twin in (gradlab_torch, gradlab_jax):
        assert twin.count_params(twin.build(spec, seed=0)) == PUBLISHED[block][0]
    torch_model, jax_model = (
        twin.build(dataclasses.replace(spec, base=2), seed=0) for twin in (gradlab_torch, gradlab_jax)
    )
    rows = gradlab_torch.activation_stats(torch_model, gradlab_torch.to_native(x), mode="train")
    # The taps of the JAX twin, without compiling their statistics.
    ran = taps(*functional(jax_model, "train"), gradlab_jax.to_native(x))
    tracked = [(tap.path, tap.kind, tap.call) for tap in ran if tap.kind in kinds.TRACKED]
    assert len(tracked) == PUBLISHED[block][1]
    assert tracked == [(row.path, row.kind, row.call) for row in rows]
    if block == "postact":
        assert (
            gradlab_torch.count_flops(gradlab_torch.build(spec, seed=0), gradlab_torch.to_native(x[:1])) == 211_487_232
        )
        assert gradlab_jax.count_flops(gradlab_jax.build(spec, seed=0), gradlab_jax.to_native(x[:1])) == 211_487_232


def test_canonical_weights_make_the_round_trip():
    for spec in SPECS.values():
        weights = trained_weights(spec)
        for twin in (gradlab_torch, gradlab_jax):
            model = twin.build(spec, seed=5)
            twin.from_canonical(model, weights)
            back = twin.to_canonical(model)
            assert list(back) == list(weights)
            assert all(np.array_equal(back[path], weights[path]) for path in weights)


def test_the_same_seed_builds_the_same_net():
    for spec in SPECS.values():
        a, b = (twin.to_canonical(twin.build(spec, seed=3)) for twin in (gradlab_torch, gradlab_jax))
        assert list(a) == list(b)
        assert all(np.array_equal(a[path], b[path]) for path in a)
