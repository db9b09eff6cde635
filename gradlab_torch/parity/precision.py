"""What float32 products are made in: set for a while, put back, or measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gradlab_core.parity.arithmetic import ARITHMETICS, Arithmetic, closest, coarsest
from gradlab_torch.parity.rounding import Noise, RoundedProducts


@contextlib.contextmanager
def precise(precision: str, device: torch.device) -> Iterator[None]:
    """Products on that device are made in that precision as long as this holds.

    TF32 where the hardware has none (CPU) is made by rounding the operands. `bfloat16` and `float16` are autocast.
    """
    if precision == "as-is":
        yield
    elif precision in ("bfloat16", "float16"):
        with _switches(tf32=False), torch.autocast(device.type, getattr(torch, precision)):
            yield
    elif precision == "tf32" and device.type != "cuda":
        with _switches(tf32=False), RoundedProducts():
            yield
    else:
        with _switches(tf32=precision == "tf32"):
            yield


@contextlib.contextmanager
def wide(noise: Noise | None) -> Iterator[None]:
    """Float64, with that noise, also where a program names float32 or makes a mask or a table by itself: what it would
    lose there is rounding, and two sides never lose the same."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Widened(), noise or contextlib.nullcontext():
            yield
    finally:
        torch.set_default_dtype(before)


class _Widened(TorchDispatchMode):
    """What is asked for in float32 is made in float64."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return function(*args, **{**kwargs, "dtype": torch.float64} if kwargs.get("dtype") == torch.float32 else kwargs)


@contextlib.contextmanager
def _switches(*, tf32: bool) -> Iterator[None]:
    """PyTorch's two switches, of matrix products and of convolutions, and where they were before."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def measured(device: torch.device) -> Arithmetic:
    """What matrix products and convolutions on that device are made in under the settings that hold: the coarser one.

    A random matrix times one is that matrix, but for the rounding of what is multiplied.
    """
    x = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)).to(device)
    one = torch.eye(256, device=device)
    # Large enough for the kernels that training uses.
    images, kernel = x.reshape(4, 64, 16, 16), torch.eye(64, device=device)[:, :, None, None]
    with torch.no_grad():
        pairs = [(x @ one, x), (F.conv2d(images, kernel), images)]
    return coarsest(
        ARITHMETICS["float16"]  # as coarse as TF32, and shorter in range
        if made.dtype == torch.float16
        else closest(float((made.float() - operand).abs().div(operand.abs()).max()))
        for made, operand in pairs
    )
