"""Recognises activation functions among the functions that PyTorch code calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

_NAMED = {
    **{name: name for name in "relu relu6 leaky_relu elu selu celu gelu silu mish".split()},
    **{name: name for name in "sigmoid tanh softplus softsign".split()},
    **{"logsigmoid": "log_sigmoid", "hardtanh": "hard_tanh", "hardsigmoid": "hard_sigmoid", "hardswish": "hard_silu"},
    **{"expit": "sigmoid"},
}
_HOMES = (torch, torch.Tensor, F, torch._C._nn, torch.special)


def _table() -> dict[Any, str]:
    """Each function under every name people call it by, in-place forms (`relu_`) included."""
    kinds = {}
    for name, kind in _NAMED.items():
        for home in _HOMES:
            for spelling in (name, f"{name}_"):
                function = getattr(home, spelling, None)
                if function is not None:
                    kinds[function] = kind
    return kinds


_KINDS = _table()


def find(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """The kind of the activation that this call computes, None if it is none."""
    kind = _KINDS.get(function)
    if kind == "gelu" and (kwargs.get("approximate", args[1] if len(args) > 1 else "none") == "tanh"):
        return "gelu_tanh"
    if kind == "hard_tanh":
        low = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        high = kwargs.get("max_val", args[2] if len(args) > 2 else 1.0)
        # nn.ReLU6 is a hard tanh from 0 to 6; any other clamp is no activation that has a name.
        return {(-1.0, 1.0): "hard_tanh", (0.0, 6.0): "relu6"}.get((float(low), float(high)))
    return kind
