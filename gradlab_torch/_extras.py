"""What compares a step with those before it: cosines and distances. Each holds a copy of what it compares with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradlab_torch._norms import stacked_norms
from gradlab_torch.updates import stacked_cosines

Lines = dict[str, torch.Tensor]


class Extras:
    """The quantities of `wanted`, of this record against the one before, or against the first."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self.wanted = tuple(wanted)
        self.origin: Lines | None = None
        self.before: dict[str, Lines] = {}

    def compare(self, params: Lines, grads: Lines, updates: Lines) -> dict[str, tuple[list[str], torch.Tensor]]:
        """`{quantity: (paths, values)}`; a path that was not there before is left out. Keeps copies for the next."""
        found: dict[str, tuple[list[str], torch.Tensor]] = {}
        for quantity, now in (("grad_cosine", grads), ("update_cosine", updates)):
            if quantity in self.wanted:
                then = self.before.get(quantity, {})
                paths = [path for path in now if path in then]
                found[quantity] = paths, stacked_cosines([now[p] for p in paths], [then[p] for p in paths])
                self.before[quantity] = {path: line.clone() for path, line in now.items()}
        if "distance" in self.wanted:
            self.origin = self.origin or {path: line.clone() for path, line in params.items()}
            origin = self.origin
            paths = [path for path in params if path in origin]
            found["distance"] = paths, stacked_norms([params[p] - origin[p] for p in paths])
        return found
