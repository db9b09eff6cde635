"""Models from specs."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from gradlab_core.programs.specs import ModelSpec
from gradlab_torch.programs.models.mlp import Mlp
from gradlab_torch.programs.models.recurrent import RecurrentNet
from gradlab_torch.programs.models.residual_toy import ResidualToy
from gradlab_torch.programs.models.tinynet import TinyNet
from gradlab_torch.programs.models.transformer import Transformer
from gradlab_torch.start.initializers import initialize

_KINDS: dict[str, Callable[[ModelSpec], nn.Module]] = {
    "tinynet": TinyNet,
    "residual_toy": ResidualToy,
    "mlp": Mlp,
    "recurrent": RecurrentNet,
    "transformer": Transformer,
}


def build(spec: ModelSpec, *, seed: int) -> nn.Module:
    """The model of a spec, float32, with the initialisation that it names: by default PyTorch's own.

    The same spec and seed give the same numbers in both twins: they are drawn in NumPy, per path.

    >>> net = build(ModelSpec(kind="mlp", features=4, widths=(8,), num_classes=3, init="xavier_uniform"), seed=0)
    >>> net.fc2.bias.tolist()
    [0.0, 0.0, 0.0]
    """
    model: nn.Module = _KINDS[spec.kind](spec)
    initialize(model, spec.init, seed=seed, number=spec.init_number)
    return model
