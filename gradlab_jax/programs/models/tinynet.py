"""TinyNet: a stem, three stages of blocks (by default), mean over the image, one linear layer."""

from __future__ import annotations

import jax
from flax import nnx

from gradlab_core.definitions.checks import check_image_shape
from gradlab_core.programs.specs import ModelSpec
from gradlab_jax.programs.models.blocks import BLOCKS
from gradlab_jax.programs.models.layers import ReLU, conv, linear, norm


class TinyNet(nnx.Module):
    """Images (N, H, W, 3) → logits (N, classes). Each stage after the first halves the image and doubles the width."""

    def __init__(self, spec: ModelSpec) -> None:
        self.conv1 = conv(3, spec.base, 3, padding=1)
        self.bn1 = norm(spec.base)
        self.relu1 = ReLU()
        self.stages = len(spec.layers)
        features = spec.base
        for stage, count in enumerate(spec.layers):
            width = spec.base * 2**stage
            blocks = []
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(BLOCKS[spec.block](features, width, stride))
                features = width
            setattr(self, f"stage{stage + 1}", nnx.Sequential(*blocks))
        self.fc = linear(features, spec.num_classes)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_image_shape((len(x), x.shape[-1], *x.shape[1:-1]))
        x = self.relu1(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"stage{stage + 1}")(x)
        return self.fc(x.mean(axis=(1, 2)))
