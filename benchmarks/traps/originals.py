"""The nets in PyTorch, as somebody would write them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .sizes import Sizes


class Convolutional(nn.Module):
    """Convolutions, plain, strided and depthwise, with batch normalisation and pooling, then linear layers."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        c, h = sizes.channels, sizes.hidden
        self.conv1 = nn.Conv2d(3, c, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(c)
        self.conv2 = nn.Conv2d(c, c, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(c, c, 3, padding=1, groups=c)
        self.fc1 = nn.Linear(c * 9, h)
        self.fc2 = nn.Linear(h, h)
        self.head = nn.Linear(h, sizes.classes)

    def forward(self, x: torch.Tensor) -> Any:
        x = F.gelu(self.bn1(self.conv1(x)))
        x = F.relu(self.conv2(F.max_pool2d(x, 3, 2, 1)))
        x = torch.tanh(self.conv3(x)).flatten(1)
        return self.head(F.silu(self.fc2(F.relu(self.fc1(x)))))


class Decoder(nn.Module):
    """One block of a language model: rotary positions beside learned ones, grouped heads, RMSNorm, SwiGLU."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d, self.heads = sizes.width, sizes.heads
        kv = d // 2
        self.embed, self.places = nn.Embedding(sizes.words, d), nn.Embedding(sizes.length + 4, d)
        self.norm1, self.norm2, self.norm3 = nn.RMSNorm(d, eps=1e-5), nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v = nn.Linear(d, d), nn.Linear(d, kv), nn.Linear(d, kv)
        self.out = nn.Linear(d, d)
        self.gate, self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.head = nn.Linear(d, sizes.words, bias=False)

    def forward(self, ids: torch.Tensor) -> Any:
        x = self.embed(ids) + self.places(torch.arange(ids.shape[1], device=ids.device).expand(ids.shape))
        h = self.norm1(x)
        x = x + self.out(self.attend(self.q(h), self.k(h), self.v(h)))
        h = self.norm2(x)
        x = x + self.down(F.silu(self.gate(h)) * self.up(h))
        return self.head(self.norm3(x))

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        head = q.shape[-1] // self.heads
        q, k, v = (a.unflatten(-1, (-1, head)).transpose(1, 2) for a in (q, k, v))
        q, k = _rotated(q), _rotated(k)
        times = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(head)
        past = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        weights = torch.where(past, scores, -torch.inf).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)


def _rotated(x: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angles = torch.arange(x.shape[2], dtype=torch.float64, device=x.device)[:, None] * rates
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Plain(nn.Module):
    """Two linear layers, for what is wrong with the loss and the optimizer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(sizes.width, sizes.hidden), nn.Linear(sizes.hidden, sizes.classes)

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc2(torch.tanh(self.fc1(x)))
