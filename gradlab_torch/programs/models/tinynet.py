"""TinyNet: a stem, three stages of blocks (by default), mean over the image, one linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from gradlab_core.definitions.checks import check_image_shape
from gradlab_core.programs.specs import ModelSpec
from gradlab_torch.programs.models.blocks import BLOCKS
from gradlab_torch.programs.models.layers import ReLU, conv, linear, norm


class TinyNet(nn.Module):
    """Images (N, 3, H, W) → logits (N, classes). Each stage after the first halves the image and doubles the width."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
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
            setattr(self, f"stage{stage + 1}", nn.Sequential(*blocks))
        self.fc = linear(features, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        check_image_shape(x.shape)
        x = self.relu1(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"stage{stage + 1}")(x)
        return self.fc(x.mean(dim=(2, 3)))
