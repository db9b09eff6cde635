"""What a model costs: parameters, and floating-point operations of one forward pass."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from gradlab_torch.model.modules import private_copy


def count_params(model: torch.nn.Module) -> int:
    """Trainable parameters, in elements.

    >>> count_params(torch.nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_flops(model: torch.nn.Module, x: torch.Tensor) -> int:
    """2 × multiply-adds of all convolutions and matrix products of one forward pass on `x`, in eval mode.

    >>> count_flops(torch.nn.Linear(3, 2), torch.ones(4, 3))
    48
    """
    private = private_copy(model, "eval")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _unfused(), counter:
        private(x)
    return int(counter.get_total_flops())


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Fused kernels of recurrent and attention layers hide their matrix products from the counter."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about hardware that these flags do not concern
            with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
