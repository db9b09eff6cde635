"""Errors 1, 2 and 4 of the published experiment on real nets, in both twins."""

from __future__ import annotations

import numpy as np
import pytest

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions.noise import default_noise
from gradlab_core.judge.bands import TINYNET_CIFAR10
from gradlab_core.programs.data import load_data, probe
from gradlab_core.programs.specs import ModelSpec

TWINS = pytest.mark.parametrize("twin", [gradlab_torch, gradlab_jax], ids=["torch", "jax"])
SMALL = {"base": 2, "layers": (1, 1, 1)}  # the projections are in the first block of a stage
X, Y = probe(load_data("digits"), 16, 0)


@TWINS
def test_error_1_no_skip_and_no_gradient_for_the_projections(twin):
    states = {
        block: twin.check_gradients(twin.build(ModelSpec(block=block, **SMALL), seed=0), twin.to_native(X), Y)
        for block in ("preact", "preact_noskip")
    }
    cut = {block: [p for p, s in found.items() if s == "disconnected"] for block, found in states.items()}
    assert cut == {"preact": [], "preact_noskip": ["stage2.0.down.weight", "stage3.0.down.weight"]}


@TWINS
def test_error_2_the_image_shrinks_without_padding(twin):
    def sizes(block):
        rows = twin.activation_stats(
            twin.build(ModelSpec(block=block, base=2), seed=0), twin.to_native(X), mode="train"
        )
        return [next(r.shape[2] for r in reversed(rows) if r.path.startswith(f"stage{s}.1.")) for s in (1, 2, 3)]

    assert sizes("plain") == [32, 16, 8]
    assert sizes("plain_unpadded") == [28, 11, 3]


def test_error_4_untrained_nets_in_eval_mode_are_nowhere_near_the_bands():
    """Base 32 as published; in train mode the same nets are within the band of the activation std."""
    images, noise = gradlab_torch.to_native(X), gradlab_torch.to_native(default_noise(X.shape, seed=0))
    for block in ("plain_unpadded", "postact", "preact_noskip"):
        model = gradlab_torch.build(ModelSpec(block=block), seed=0)
        found = {m: gradlab_torch.analyze(model, images, Y, noise, name=block, mode=m) for m in ("train", "eval")}
        std = {mode: record.activations.mean_std for mode, record in found.items()}
        assert std["eval"] < 0.25
        assert TINYNET_CIFAR10["mean_std"].judge(std["train"], "").level == "good"
        assert found["eval"].sensitivity < 1e-3 * found["train"].sensitivity or found["eval"].sensitivity < 1e-4
    assert np.isfinite(X).all()
