"""Dense layers with an activation between: the net of the textbooks, on which rules of initialisation are proved."""

from __future__ import annotations

from torch import Tensor, nn

from gradlab_core.definitions.checks import check_features
from gradlab_core.programs.specs import ModelSpec
from gradlab_torch.programs.models.layers import activation, linear


class Mlp(nn.Module):
    """Examples (N, features) → logits (N, classes); layers fc1, act1, fc2, … Images (N, C, H, W) are flattened."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.features, self.depth = spec.features, len(spec.widths) + 1
        sizes = (spec.features, *spec.widths, spec.num_classes)
        for layer in range(1, self.depth + 1):
            setattr(self, f"fc{layer}", linear(sizes[layer - 1], sizes[layer]))
            if layer < self.depth:
                setattr(self, f"act{layer}", activation(spec.activation))

    def forward(self, x: Tensor) -> Tensor:
        check_features(x.shape, features=self.features)
        x = x.flatten(1)
        for layer in range(1, self.depth):
            x = getattr(self, f"act{layer}")(getattr(self, f"fc{layer}")(x))
        return getattr(self, f"fc{self.depth}")(x)
