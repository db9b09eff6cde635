"""What initialisers give a user's layers and models: the fans of each layout, one set of numbers for a seed."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions.initializers import INITIALIZERS, fans
from gradlab_core.errors import GradlabError


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Linear(5, 7),
        torch.nn.Conv2d(6, 4, 3),
        torch.nn.Conv2d(6, 4, (3, 5), groups=2),
        torch.nn.Conv1d(6, 6, 4, groups=6),
    ],
    ids=str,
)
def test_fans_are_those_of_torch(layer):
    assert fans(tuple(layer.weight.shape)) == torch.nn.init._calculate_fan_in_and_fan_out(layer.weight)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Conv2d(12, 30, (3, 5), bias=False),
        torch.nn.Conv2d(12, 30, 3, groups=3, bias=False),
        torch.nn.ConvTranspose2d(12, 30, 3, bias=False),
        torch.nn.ConvTranspose2d(30, 12, (3, 5), bias=False),
        torch.nn.ConvTranspose2d(12, 30, 3, groups=3, bias=False),
    ],
    ids=str,
)
def test_fan_in_is_what_an_output_sums_up(layer):
    """LeCun's start keeps the variance of whatever has this fan-in; with another fan-in it would be off by a factor."""
    torch.manual_seed(0)
    x = torch.randn(8, layer.in_channels, 14, 14)
    found = []
    for seed in range(8):
        gradlab_torch.initialize(layer, "lecun_normal", seed=seed)
        found.append(layer(x)[..., 4:-4, 4:-4].square().mean().item())
    # Outputs of one seed share their weights: a seed gives but one number, and the mean of eight its standard error.
    assert abs(np.mean(found) - 1) < 5 * np.std(found, ddof=1) / math.sqrt(8)
    assert np.std(found, ddof=1) < 0.2  # and 5 errors are far less than any wrong factor, of 2 or more
    swapped = isinstance(layer, torch.nn.ConvTranspose2d)
    ours = fans(tuple(layer.weight.shape), transposed=swapped, groups=layer.groups)
    torchs = torch.nn.init._calculate_fan_in_and_fan_out(layer.weight)
    assert (ours == torchs) is not swapped
    if swapped and layer.groups == 1:
        assert ours == torchs[::-1]


@pytest.mark.parametrize(("name", "transpose_kernel"), [("torch_default", False), ("kaiming_uniform", True)])
def test_transposed_convolutions_are_drawn_alike(name, transpose_kernel):
    theirs = torch.nn.ConvTranspose2d(4, 6, (2, 3), stride=2)
    flax = nnx.ConvTranspose(
        4, 6, (2, 3), strides=(2, 2), padding="VALID", transpose_kernel=transpose_kernel, rngs=nnx.Rngs(0)
    )
    gradlab_torch.initialize(theirs, name, seed=3)
    gradlab_jax.initialize(flax, name, seed=3)
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 5)).astype(np.float32)
    ours = np.asarray(flax(gradlab_jax.to_native(x)))
    np.testing.assert_allclose(np.moveaxis(ours, -1, 1), theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
    # The fans of JAX are those of its own layout, in/groups·window first; PyTorch's start goes by the second axis.
    bound = 1 / math.sqrt(6 * 6) if name == "torch_default" else math.sqrt(6 / (4 * 6))
    assert 0.9 * bound < abs(theirs.weight).max().item() <= bound
    native = np.asarray(jax.nn.initializers.he_uniform()(jax.random.key(0), (2, 3, 4, 6)))
    if name == "kaiming_uniform":
        assert 0.9 * bound < abs(native).max() <= bound


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(5, 4)
        self.conv = torch.nn.Conv2d(4, 6, 3, groups=2)
        self.norm = torch.nn.BatchNorm2d(6)
        self.fc = torch.nn.Linear(6, 3)


class NnxNet(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.words = nnx.Embed(5, 4, rngs=rngs)
        self.conv = nnx.Conv(4, 6, (3, 3), feature_group_count=2, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.fc = nnx.Linear(6, 3, rngs=rngs)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_both_twins_give_a_users_model_the_same_numbers(name):
    start = gradlab_torch.to_canonical(TorchNet())
    start |= {"norm.weight": np.full(6, 2.0), "norm.bias": np.ones(6)}
    found = []
    for twin, model in ((gradlab_torch, TorchNet()), (gradlab_jax, NnxNet())):
        twin.from_canonical(model, start)
        twin.initialize(model, name, seed=7, number=0.3 if name == "constant" else None)
        found.append(twin.to_canonical(model))
    assert all((found[0][path] == found[1][path]).all() for path in start)
    kept = {path for path in start if np.array_equal(found[0][path], start[path])}
    norm = {f"norm.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")}
    assert kept == norm | (set() if name == "torch_default" else {"words.weight"})


def test_a_weight_that_is_computed_from_others_is_left_alone():
    net = torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2)), torch.nn.Linear(2, 2))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    gradlab_torch.initialize(net, "xavier_normal", seed=0)
    changed = [name for name, p in net.named_parameters() if not torch.equal(p, before[name])]
    assert changed == ["1.weight", "1.bias"]


@pytest.mark.parametrize("twin", [gradlab_torch, gradlab_jax])
def test_functions_of_before_draw_the_same_and_say_what_to_write(twin):
    build = {gradlab_torch: TorchNet, gradlab_jax: NnxNet}[twin]
    for old, given, number in (("constant", {"value": 0.3}, 0.3), ("orthogonal", {"seed": 7, "gain": 2.0}, 2.0)):
        models = build(), build()
        with pytest.warns(
            DeprecationWarning, match=rf'{old} is now {twin.__name__}.initialize\(model, "{old}", seed=…\)'
        ):
            function = getattr(twin, old)
        function(models[0], **given)
        twin.initialize(models[1], old, seed=7, number=number)
        weights = [twin.to_canonical(model) for model in models]
        drawn = [path for path in weights[0] if not path.startswith(("norm", "words"))]
        assert len(drawn) > 3
        assert all((weights[0][path] == weights[1][path]).all() for path in drawn)
        with pytest.raises(TypeError, match="expected at most one number"):
            function(build(), size=3.0)


def test_what_is_wrong_is_said():
    with pytest.raises(GradlabError, match="initialiser 'xavier' is not known; expected one of constant, normal"):
        gradlab_torch.initialize(TorchNet(), "xavier", seed=0)
    models = (gradlab_torch, torch.nn.ReLU()), (gradlab_jax, nnx.BatchNorm(2, rngs=nnx.Rngs(0)))
    for twin, empty in models:
        with pytest.raises(GradlabError) as caught:
            twin.initialize(empty, "xavier_uniform", seed=-1, number=float("nan"))
        for word in ("xavier_uniform: 3 problems", "gain is nan", "seed is -1", "no dense, convolutional or recurrent"):
            assert word in str(caught.value)
