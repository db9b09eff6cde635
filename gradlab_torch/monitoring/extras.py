"""What compares a step with those before it: cosines and distances. Each holds a copy of what it compares with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from gradlab_torch.measure.updates import stacked_cosines
from gradlab_torch.monitoring.measurements import dense
from gradlab_torch.trees.norm_arithmetic import stacked_norms
from gradlab_torch.trees.transfer import Parts

Tensors = Mapping[str, torch.Tensor]


class Extras:
    """The quantities of `wanted`, of this record against the one before, or against where the parameters were first
    seen. The copies keep their shapes: the memory format of a tensor may change between two steps."""

    def __init__(self, wanted: Sequence[str], params: Tensors) -> None:
        self.wanted = tuple(wanted)
        self.origin: dict[str, torch.Tensor] = {}
        self.old: dict[str, torch.Tensor] = {}
        self.before: dict[str, dict[str, torch.Tensor]] = {"grad_cosine": {}, "update_cosine": {}}
        self.at_start(params)

    def at_start(self, params: Tensors) -> Parts:
        """Before the optimizer moves: how far the parameters have come. Remembers them, for the update."""
        self.old = _copies(params) if "update_cosine" in self.wanted else {}
        if "distance" not in self.wanted:
            return {}
        for path, p in params.items():
            if path not in self.origin or self.origin[path].shape != p.shape:
                self.origin[path] = p.detach().clone()
        away = [p.detach() - self.origin[path].to(p.device) for path, p in params.items()]
        return {"distance": (list(params), stacked_norms(away))}

    def with_gradients(self, grads: Tensors) -> Parts:
        """When the gradients are there, and the optimizer has not touched them yet."""
        if "grad_cosine" not in self.wanted:
            return {}
        return self._cosines("grad_cosine", {path: dense(g) for path, g in grads.items()})

    def at_end(self, params: Tensors) -> Parts:
        """When the optimizer has moved."""
        if "update_cosine" not in self.wanted:
            return {}
        return self._cosines("update_cosine", {path: p.detach() - self.old[path] for path, p in params.items()})

    def _cosines(self, quantity: str, now: Tensors) -> Parts:
        then = self.before[quantity]
        paths = [path for path, t in now.items() if path in then and then[path].shape == t.shape]
        found = stacked_cosines([now[p] for p in paths], [then[p].to(now[p].device) for p in paths])
        self.before[quantity] = _copies(now)
        return {quantity: (paths, found)}


def _copies(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {path: t.detach().clone() for path, t in tensors.items()}
