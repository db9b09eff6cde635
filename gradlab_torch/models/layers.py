"""The layers the models are made of."""

from __future__ import annotations

from torch import nn


def conv(
    features_in: int, features: int, size: int, *, stride: int = 1, padding: int = 0, bias: bool = False
) -> nn.Conv2d:
    return nn.Conv2d(features_in, features, size, stride=stride, padding=padding, bias=bias)


def linear(features_in: int, features: int) -> nn.Linear:
    return nn.Linear(features_in, features)


def norm(features: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(features)


ReLU = nn.ReLU
BatchNorm = nn.BatchNorm2d
