"""A program whose arithmetic is coarser than the machine's: random relative errors, or rounded operands.

`Noise` perturbs the result of every operation by a random relative error of a unit roundoff, forward, backward and in
the optimizer: how far such float64 runs lie apart is the rounding to be expected of the program (stochastic arithmetic,
Vignes 1993; Parker 1997). `RoundedProducts` rounds the operands of matrix products and convolutions, which is all that
TF32 does, so that a machine without it can show what it would do.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import torch
from torch._decomp import decomposition_table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from gradlab_core.parity.arithmetic import FLOAT32, Arithmetic

_aten = torch.ops.aten


def _packets(names: str) -> frozenset[Any]:
    return frozenset(getattr(_aten, name) for name in names.split() if hasattr(_aten, name))


_WITH_ADDEND = _packets("addmm baddbmm addmv addbmm")
_CONVOLUTIONS = _packets("convolution _convolution")
PRODUCTS = _packets("mm bmm mv dot vdot convolution_backward") | _WITH_ADDEND | _CONVOLUTIONS
# Results of these are copies of what went in, or choices among it: a float keeps every bit.
_EXACT = _packets(
    "clone copy copy_ _to_copy detach lift_fresh cat stack index index_select gather slice_backward "
    "select_backward slice_scatter select_scatter constant_pad_nd pad embedding relu relu_ threshold threshold_ "
    "threshold_backward hardtanh hardtanh_ hardtanh_backward leaky_relu_backward max_pool2d_with_indices "
    "max_pool3d_with_indices max_pool2d_with_indices_backward amax amin max min maximum minimum clamp clamp_ "
    "clamp_min clamp_max neg neg_ abs abs_ sign sgn where masked_fill masked_fill_ zeros zeros_like ones "
    "ones_like full full_like fill fill_ zero_ empty empty_like new_zeros new_ones new_full new_empty "
    "new_empty_strided empty_strided scalar_tensor flip roll tril triu scatter sort topk round floor ceil trunc "
    "arange eye _unsafe_view resize_ set_ index_put index_put_ _local_scalar_dense bernoulli bernoulli_ rand "
    "rand_like randn randn_like normal_ uniform_ native_dropout repeat unfold_backward"
)
# One operation here, several roundings in any kernel, and digits that cancel between them: taken apart first.
_COMPOSITE = _packets(
    "_log_softmax _log_softmax_backward_data _softmax _softmax_backward_data gelu gelu_backward silu silu_ "
    "silu_backward mish mish_backward elu elu_ elu_backward softplus softplus_backward hardswish "
    "hardswish_backward log_sigmoid_forward log_sigmoid_backward tanh_backward sigmoid_backward logit "
    "logit_backward native_batch_norm native_batch_norm_backward _native_batch_norm_legit "
    "_native_batch_norm_legit_functional native_layer_norm native_layer_norm_backward native_group_norm "
    "native_group_norm_backward _fused_rms_norm _fused_rms_norm_backward nll_loss_forward nll_loss_backward "
    "mse_loss mse_loss_backward smooth_l1_loss smooth_l1_loss_backward huber_loss huber_loss_backward "
    "binary_cross_entropy binary_cross_entropy_backward binary_cross_entropy_with_logits soft_margin_loss "
    "logsumexp logaddexp var var_mean std std_mean addcmul addcmul_ addcdiv addcdiv_ lerp lerp_ "
    "linalg_vector_norm"
)

_SUMS = _packets("sum mean")


class Noise(TorchDispatchMode):
    """Every rounding operation is off by a random relative error of standard deviation u, a sum of n terms by u·√n.

    Args:
        arithmetic: gives u, and the larger one of the operands of products.
        seed: of the errors.
    """

    def __init__(self, arithmetic: Arithmetic, seed: int) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.draws = torch.Generator().manual_seed(seed)
        self.entered: list[contextlib.AbstractContextManager[None]] = []

    def __enter__(self) -> Noise:
        # Attention in one operation keeps the sums of its softmax for a backward that takes them for exact: with an
        # error in them its gradients are of any size. As products and a softmax it rounds as they do.
        self.entered.append(sdpa_kernel(SDPBackend.MATH))
        self.entered[-1].__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.entered.pop().__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, packet = kwargs or {}, function.overloadpacket
        if packet in _EXACT or function.is_view:
            return function(*args, **kwargs)
        if packet in _COMPOSITE and function in decomposition_table:
            with self:
                out = decomposition_table[function](*args, **kwargs)
            if out is not NotImplemented:
                return out
        if packet is _aten.convolution_backward:
            return self._convolution_backward(function, *args)
        if packet in PRODUCTS:
            error = self._of_product(_terms(packet, args))
            return self._disturbed(function(*self._operands(packet, args, error), **kwargs), error)
        if function._schema.is_mutable:
            out = function(*args, **kwargs)
            self._disturbed(_mutated(function, args), self.arithmetic.unit)
            return out
        out = function(*args, **kwargs)
        terms = _summed(args, out)
        error = self.arithmetic.unit * math.sqrt(terms)
        if terms > 1:  # a sum whose terms cancel loses more than its own size says
            out = function(*[self._disturbed(_copy(a), error) for a in args], **kwargs)
        if packet in _SUMS and out.is_floating_point():
            bias = _error_of_plain_sum(args[0], args[1] if len(args) > 1 else None, out)
            bias *= self.arithmetic.unit / FLOAT32 / (terms if packet is _aten.mean else 1)
            out.add_(bias * torch.randn(out.shape, generator=self.draws, dtype=torch.float64))
        return self._disturbed(out, error)

    def _of_product(self, terms: int) -> float:
        return math.hypot(self.arithmetic.unit * math.sqrt(terms), self.arithmetic.products)

    def _operands(self, packet: Any, args: Any, error: float) -> list[Any]:
        return [
            self._disturbed(_copy(a), error, operand=True) if i in _operands_of(packet) else a
            for i, a in enumerate(args)
        ]

    def _convolution_backward(self, function: Any, slope: Any, x: Any, weight: Any, *rest: Any) -> Any:
        """Three results, with sums of two lengths."""
        *how, mask = rest
        lengths = (weight.shape[0] * weight[0, 0].numel(), slope.numel() // slope.shape[1])
        results: list[Any] = [None, None, None]
        for i in (i for i, wanted in enumerate(mask) if wanted):
            error = self._of_product(lengths[min(i, 1)])
            operands = (self._disturbed(t.clone(), error, operand=True) for t in (slope, x, weight))
            results[i] = self._disturbed(function(*operands, *how, [j == i for j in range(3)])[i], error)
        return tuple(results)

    def _disturbed(self, value: Any, error: float, *, operand: bool = False) -> Any:
        """The same tensors, off by that relative error; they are changed in place."""
        for t in _floats(value):
            noise = torch.randn(t.shape, generator=self.draws, dtype=torch.float64).mul_(error)
            if operand and self.arithmetic.smallest:
                below = torch.randn(t.shape, generator=self.draws, dtype=torch.float64)
                t.add_(below, alpha=self.arithmetic.smallest)
            t.mul_(noise.add_(1.0))
        return value


class RoundedProducts(TorchDispatchMode):
    """The operands of matrix products and convolutions are rounded to TF32, which keeps 10 bits after the point."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = function.overloadpacket
        if packet in PRODUCTS:
            args = [_rounded(a) if i in _operands_of(packet) else a for i, a in enumerate(args)]
        return function(*args, **(kwargs or {}))


def _rounded(x: torch.Tensor) -> torch.Tensor:
    """To the nearest number with 13 of float32's 23 bits dropped; what lies halfway goes to the even one."""
    bits = x.float().contiguous().view(torch.int32)
    kept = (bits + ((1 << 12) - 1) + ((bits >> 13) & 1)) & -(1 << 13)
    return torch.where(torch.isfinite(x), kept.view(torch.float32), x.float()).to(x.dtype)


def _operands_of(packet: Any) -> range:
    """Which arguments of a product are multiplied."""
    if packet in _WITH_ADDEND:
        return range(1, 3)
    return range(3) if packet is _aten.convolution_backward else range(2)


def _terms(packet: Any, args: Any) -> int:
    """How many products an element of the result is the sum of."""
    if packet in _CONVOLUTIONS:
        weight, transposed = args[1], bool(args[6])
        return weight[:, 0].numel() // (args[8] if transposed else 1) if transposed else weight[0].numel()
    return int(args[_operands_of(packet)[0]].shape[-1])


def _summed(args: Any, out: Any) -> int:
    """How many elements of the largest argument go into one of the result."""
    made = sum(t.numel() for t in _floats(out))
    return max((t.numel() // max(made, 1) for t in _floats(args)), default=1) or 1


def _error_of_plain_sum(x: torch.Tensor, axes: Any, out: torch.Tensor) -> torch.Tensor:
    """How wrong float32 is that adds one term after the other, as the plainest kernel does. Where the terms are alike,
    as gradients behind an average pool are, its errors all go one way, and √n of them is too few."""
    axes = sorted(
        {a % x.ndim for a in (axes if isinstance(axes, (list, tuple)) else [axes])} if axes else range(x.ndim)
    )
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = x.detach().permute(*kept, *axes).reshape(*(x.shape[a] for a in kept), -1)
    if rows.shape[-1] < 2 or not x.is_floating_point():
        return torch.zeros_like(out)
    plain = torch.from_numpy(
        np.cumsum(rows.numpy().astype(np.float32), axis=-1, dtype=np.float32)[..., -1].astype(float)
    )
    wrong = (plain - rows.sum(-1)).abs().reshape(out.shape)
    return torch.nan_to_num(wrong, 0.0, 0.0, 0.0)


def _mutated(function: Any, args: Any) -> list[Any]:
    return [a for a, s in zip(args, function._schema.arguments, strict=False) if s.is_write]


def _copy(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_copy(v) for v in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def _floats(value: Any) -> list[torch.Tensor]:
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in _floats(v)]
    return [value] if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() else []
