"""The gradients of a step, for the end of it: what the step promised is known only when it was applied.

Most optimizers leave the gradients as they are, so nothing is copied. One that writes into them is found out by the
version of the tensor: at that record what was promised is not known, and from the next one on such a gradient is copied
before the step. A fused optimizer that unscales them changes their length alone, which its norm tells.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from gradlab_torch.monitoring.applied import Applied
from gradlab_torch.trees import launches as launches
from gradlab_torch.trees.norm_arithmetic import stacked_norms
from gradlab_torch.trees.transfer import Parts


class Kept:
    """What a step promised, from the gradients that `look` saw last. `changed` are the paths at which the newest step
    wrote into them, so that its promise is not known. With `copies` every gradient is copied at once: the version of a
    DTensor does not tell of what was written into its shard."""

    def __init__(self, *, copies: bool) -> None:
        self.copies = copies
        self.changed: Collection[str] = ()
        self._gradients: dict[str, torch.Tensor] = {}
        self._versions: dict[str, int] = {}
        self._written: set[str] = set()
        self._again = False

    def look(self, gradients: Mapping[str, torch.Tensor], *, again: bool) -> None:
        """Gradients before the optimizer moves. `again`: it has moved since the first look, as one does that calls its
        closure more than once; these are then not the gradients at the start of the step."""
        self._gradients = {
            path: g.clone() if self.copies or path in self._written else g for path, g in gradients.items()
        }
        self._versions = {path: _version(g) for path, g in self._gradients.items()}
        self._again = again

    def moved(self, applied: Applied, names: list[str], parts: Parts, optimizer: torch.optim.Optimizer) -> Parts:
        """The norms of the updates, and their products with gradients and parameters, when the optimizer has moved.
        `parts` holds the norms of the gradients, unscaled."""
        updates, of_grads, of_params = applied.after([self._gradients.get(name) for name in names]).unbind(1)
        if getattr(optimizer, "grad_scale", None) is not None and self._gradients:
            of_grads = self._unscaled(of_grads.clone(), names, parts["grad"][1].to(of_grads))
        self.changed = self._found_changed()
        self._gradients = {}  # whoever sets gradients to None means to free them
        return {"update": (names, updates), "grad_update": (names, of_grads), "param_update": (names, of_params)}

    def _unscaled(self, products: torch.Tensor, names: list[str], norms: torch.Tensor) -> torch.Tensor:
        """The products with gradients of these norms: a fused optimizer has unscaled them in its step, or not."""
        now = stacked_norms(list(self._gradients.values())).to(products)
        places = launches.indices([i for i, name in enumerate(names) if name in self._gradients], products.device)
        products[places] *= torch.where(now == 0, 1.0, norms / now)
        return products

    def _found_changed(self) -> Collection[str]:
        if self._again:
            return set(self._gradients)
        written = {path for path, g in self._gradients.items() if _version(g) != self._versions[path]}
        self._written |= written
        return written


def _version(gradient: torch.Tensor) -> int:
    return 0 if gradient.is_inference() else gradient._version
