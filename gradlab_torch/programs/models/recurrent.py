"""A sequence classifier: one recurrent layer, and a dense layer on its last state."""

from __future__ import annotations

from torch import Tensor, nn

from gradlab_core.definitions.checks import check_sequences
from gradlab_core.programs.specs import ModelSpec
from gradlab_torch.programs.models.layers import linear, recurrent


class RecurrentNet(nn.Module):
    """Sequences (N, T, features) → logits (N, classes)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.features = spec.features
        self.rnn = recurrent(spec.cell, spec.features, spec.hidden)
        self.fc = linear(spec.hidden, spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        check_sequences(x.shape, features=self.features)
        return self.fc(self.rnn(x)[0][:, -1])
