"""Weights in canonical names and layout, out of a model and into one. PyTorch's own names and layout are canonical."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from gradlab_core.parity.weights import check_weights


def to_canonical(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """`{path: array}` of parameters and running statistics, in definition order: convolution kernels OIHW, linear
    weights (out, in). The arrays are copies.

    >>> {k: v.shape for k, v in to_canonical(torch.nn.Linear(3, 2)).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    return {path: as_numpy(t) for path, t in _named_tensors(model)}


def from_canonical(model: torch.nn.Module, arrays: Mapping[str, Any]) -> None:
    """Load canonical arrays into a model, in place, each cast to the type the model has.

    Raises:
        GradlabError: a missing, extra or misshapen entry; the message lists all of them and nothing is loaded.

    >>> layer = torch.nn.Linear(3, 2)
    >>> from_canonical(layer, {"weight": np.ones((2, 3)), "bias": np.zeros(2)})
    """
    tensors = dict(_named_tensors(model))
    check_weights(arrays, {path: tuple(t.shape) for path, t in tensors.items()})
    with torch.no_grad():
        for path, t in tensors.items():
            t.copy_(torch.as_tensor(np.asarray(arrays[path]).copy()))


def to_native(x: Any) -> torch.Tensor:
    """A canonical NumPy batch as this twin's input.

    >>> to_native(np.zeros((2, 3, 8, 8), np.float32)).shape
    torch.Size([2, 3, 8, 8])
    """
    return torch.as_tensor(np.ascontiguousarray(x))


def astype(model: torch.nn.Module, dtype: str) -> torch.nn.Module:
    """A copy of the model with all floating parameters and statistics in `dtype`.

    >>> astype(torch.nn.Linear(3, 2), "float64").weight.dtype
    torch.float64
    """
    return copy.deepcopy(model).to(getattr(torch, dtype))


def as_numpy(t: torch.Tensor) -> np.ndarray:
    """A copy on the host; bfloat16, which NumPy does not know, as float32."""
    t = t.detach().cpu()
    return (t.float() if t.dtype == torch.bfloat16 else t).numpy().copy(order="C")


def _named_tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and floating buffers as `state_dict` orders them; a counter (num_batches_tracked) is no weight."""
    known = dict(model.named_parameters()) | dict(model.named_buffers())
    for path in model.state_dict():
        if path in known and known[path].is_floating_point():
            yield path, known[path]
