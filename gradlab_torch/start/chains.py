"""The plain chain at the start of a model: as far as each layer or activation takes what the one before gave, and that
alone. Found by trying: a layer run by itself on the output before it gives what it gave in the model, or not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gradlab_core.lab.activations import ACTIVATIONS, activation_value
from gradlab_core.lab.prediction import LAYERS, Link
from gradlab_core.lab.propagation import is_random, same_values
from gradlab_torch.model.taps import Tap

_View = Callable[[torch.Tensor], torch.Tensor]
_VIEWS: tuple[_View, ...] = (lambda x: x, lambda x: x.flatten(1))


def find_chain(
    model: torch.nn.Module, x: torch.Tensor, taps: list[Tap], values: list[torch.Tensor], out: Any
) -> tuple[list[Link], bool]:
    """Links for the first taps of a private copy, and whether they are the whole model.

    Args:
        x: a few examples.
        values: what every tap gave for them.
        out: what the model gave for them.
    """
    links: list[Link] = []
    before = x
    for tap, value in zip(taps, values, strict=True):
        link = _link(model, tap, before, value, after_layer=bool(links) and links[-1].push is not None)
        if link is None:
            return links, False
        links.append(link)
        before = value
    return links, bool(links) and isinstance(out, torch.Tensor) and same_values(_host(out), _host(before))


def _link(
    model: torch.nn.Module, tap: Tap, before: torch.Tensor, value: torch.Tensor, *, after_layer: bool
) -> Link | None:
    if tap.kind in ACTIVATIONS:
        fits = after_layer and same_values(activation_value(tap.kind, _host(before)), _host(value))
        return Link(tap.kind) if fits else None
    if tap.kind not in LAYERS:
        return None
    layer = model.get_submodule(tap.path)
    own = dict(layer.named_parameters(recurse=False))
    if "weight" not in own or not is_random(_host(own["weight"])):
        return None
    for view in _VIEWS:
        try:
            alone = layer(view(before))
        except (RuntimeError, TypeError):  # a shape, or a number of inputs, that it does not take
            continue
        if same_values(_host(alone), _host(value)):
            bias = float(np.mean(np.square(_host(own["bias"])))) if "bias" in own else 0.0
            push, pull = _on_squares(layer, float(np.mean(np.square(_host(own["weight"])))), view, before.shape[1:])
            return Link(tap.kind, value.shape[tap.channel_axis(value)], push, pull, bias)
    return None


def _on_squares(
    layer: torch.nn.Module, mean_square: float, view: _View, shape: tuple[int, ...]
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """What a layer of random weights does to second moments: what it does to numbers with its weights all the same,
    their mean square. And its transpose."""
    alike = copy.deepcopy(layer).double().cpu()
    with torch.no_grad():
        for name, parameter in alike.named_parameters(recurse=False):
            parameter.fill_(mean_square if name == "weight" else 0.0)

    def push(q: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return _host(alike(view(torch.from_numpy(q))))

    def pull(g: np.ndarray) -> np.ndarray:
        with torch.inference_mode(False), torch.enable_grad():
            q = torch.zeros(len(g), *shape, dtype=torch.float64, requires_grad=True)
            return _host(torch.autograd.grad(alike(view(q)), q, torch.from_numpy(g))[0])

    return push, pull


def _host(x: torch.Tensor) -> np.ndarray:
    return np.asarray(x.detach().double().cpu().numpy())
