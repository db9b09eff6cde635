"""Weight initialisers with the distributions PyTorch users know."""

from __future__ import annotations

import math

import torch


def torch_default(key: torch.Generator, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """PyTorch's default for the weight of a convolution or linear layer: uniform on ±1/√fan_in.

    That is `kaiming_uniform_(a=√5)`.

    Args:
        key: a PyTorch random generator.
        shape: native weight layout, outputs first: (out, in), (out, in, H, W).

    >>> w = torch_default(torch.Generator().manual_seed(0), (100, 4))
    >>> bool(abs(w).max() <= 0.5)
    True
    """
    bound = 1.0 / math.sqrt(math.prod(shape[1:]))
    return torch.empty(shape, dtype=dtype).uniform_(-bound, bound, generator=key)
