"""What was measured of a step, on its way to the host: one copy from each device, and nobody waits for it.

The host hands a GPU its work far ahead. A number that is read at once makes it wait until everything before it is done,
and the GPU idle until new work comes. So the figures go to pinned memory behind the step's own work, and are read when
they have arrived.
"""

from __future__ import annotations

from typing import Any

import torch

Parts = dict[str, tuple[list[str], torch.Tensor]]
"""`{quantity: (paths, one value for each)}`."""


class Transfer:
    """The figures of one record, of any devices."""

    def __init__(self, parts: Parts) -> None:
        by_device: dict[torch.device, list[str]] = {}
        for quantity, (_, vector) in parts.items():
            by_device.setdefault(vector.device, []).append(quantity)
        self.order = {quantity: paths for quantity, (paths, _) in parts.items()}
        self._sent = []
        for device, quantities in by_device.items():
            wide = torch.float32 if device.type == "mps" else torch.float64
            vector = torch.cat([parts[quantity][1].to(wide) for quantity in quantities])
            self._sent.append((quantities, *_sent(vector)))

    @property
    def is_underway(self) -> bool:
        """Whether reading now may have to wait."""
        return any(arrived is not None for _, _, arrived in self._sent)

    def numbers(self) -> dict[str, dict[str, float]]:
        """`{quantity: {path: value}}`; waits until the copies are there."""
        values_of: dict[str, dict[str, float]] = {}
        for quantities, vector, arrived in self._sent:
            if arrived is not None:
                arrived.synchronize()
            values = iter(vector.tolist())
            values_of |= {quantity: {path: next(values) for path in self.order[quantity]} for quantity in quantities}
        return {quantity: values_of[quantity] for quantity in self.order}


def transferred(parts: Parts) -> dict[str, dict[str, float]]:
    """Everything that was measured, as numbers, at once."""
    return Transfer(parts).numbers()


def _sent(vector: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """The copy, and what says that it has arrived; None where there is nothing to wait for, or no other way."""
    if vector.device.type != "cuda":
        return vector, None
    with torch.cuda.device(vector.device):  # an event stands in the work of the current device
        target = torch.empty(vector.shape, dtype=vector.dtype, pin_memory=True)
        target.copy_(vector, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
    return target, arrived
