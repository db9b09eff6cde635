"""The smallest net with everything a port can get wrong: a convolution, a skip, a flatten, a square linear layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradlab_core.definitions.checks import check_image_shape
from gradlab_core.programs.specs import ModelSpec
from gradlab_torch.programs.models.layers import conv, linear


class ResidualToy(nn.Module):
    """Images (N, 3, S, S) → logits (N, classes). With skip=False the identity is left out. Its activations are
    function calls, as most people write them."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.skip, self.size = spec.skip, spec.image_size
        width = spec.base
        self.stem = conv(3, width, 3, padding=1, bias=True)
        self.conv = conv(width, width, 3, padding=1, bias=True)
        self.fc1 = linear(width * spec.image_size**2, width)
        self.fc2 = linear(width, width)
        self.head = linear(width, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        check_image_shape(x.shape, size=self.size)
        x = F.relu(self.stem(x))
        out = self.conv(x)
        x = F.relu(out + x if self.skip else out)
        x = x.flatten(1)
        return self.head(F.relu(self.fc2(torch.tanh(self.fc1(x)))))
