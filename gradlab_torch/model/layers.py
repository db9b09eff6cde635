"""Which parameters belong to layers whose weights gradlab can draw, by kind and canonical shape."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

from gradlab_core.definitions import kinds
from gradlab_core.definitions.initializers import Tensor

_CELLS = {"RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu", "LSTM": "lstm", "GRU": "gru"}


def cell_of(layer: nn.RNNBase) -> str:
    """gradlab's name of a recurrent layer's cell."""
    return _CELLS[layer.mode]


def layer_tensors(model: nn.Module) -> dict[str, Tensor]:
    """`{path: tensor}` of weights and biases of dense, convolutional, recurrent and embedding layers. A layer
    whose weight is computed from other parameters (weight normalisation) is left out, bias and all."""
    tensors: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        kind = _kind(module)
        own = dict(module.named_parameters(recurse=False))
        if kind and ({"weight", "weight_hh_l0"} & own.keys()):
            prefix = f"{path}." if path else ""
            way = (module.transposed, module.groups) if isinstance(module, _ConvNd) else ()
            tensors |= {f"{prefix}{name}": Tensor(kind, tuple(p.shape), *way) for name, p in own.items()}
    return tensors


def _kind(module: nn.Module) -> str | None:
    if isinstance(module, _ConvNd):
        return kinds.CONV
    if isinstance(module, nn.Linear):
        return kinds.LINEAR
    if isinstance(module, nn.RNNBase):
        return cell_of(module)
    return kinds.EMBEDDING if isinstance(module, nn.Embedding) else None
