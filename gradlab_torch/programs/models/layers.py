"""The layers the models are made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def conv(
    features_in: int, features: int, size: int, *, stride: int = 1, padding: int = 0, bias: bool = False
) -> nn.Conv2d:
    return nn.Conv2d(features_in, features, size, stride=stride, padding=padding, bias=bias)


def linear(features_in: int, features: int) -> nn.Linear:
    return nn.Linear(features_in, features)


def norm(features: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(features)


def layer_norm(features: int) -> nn.LayerNorm:
    return nn.LayerNorm(features, eps=1e-5)


ReLU = nn.ReLU
BatchNorm = nn.BatchNorm2d

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}

_RECURRENT: dict[str, Callable[[int, int], nn.RNNBase]] = {
    "rnn_tanh": lambda features, hidden: nn.RNN(features, hidden, nonlinearity="tanh", batch_first=True),
    "rnn_relu": lambda features, hidden: nn.RNN(features, hidden, nonlinearity="relu", batch_first=True),
    "lstm": lambda features, hidden: nn.LSTM(features, hidden, batch_first=True),
    "gru": lambda features, hidden: nn.GRU(features, hidden, batch_first=True),
}


def activation(name: str) -> nn.Module:
    return ACTIVATIONS[name]()


def recurrent(cell: str, features: int, hidden: int) -> nn.RNNBase:
    return _RECURRENT[cell](features, hidden)
