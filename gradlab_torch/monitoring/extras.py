"""What a monitor measures beside its own: quantities of the user's, and what compares a step with those before it. Each
of these holds a copy of what it compares with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradlab_core.definitions.quantities import Quantity, checked_numbers, checked_result
from gradlab_core.errors import GradlabError
from gradlab_torch.measure.updates import stacked_cosines
from gradlab_torch.monitoring.measurements import dense
from gradlab_torch.trees.norm_arithmetic import stacked_norms
from gradlab_torch.trees.transfer import Parts

Tensors = Mapping[str, torch.Tensor]
Held = dict[str, torch.Tensor]


class Extras:
    """The quantities of `wanted`, of this record against the one before, or against where the parameters were first
    seen. The copies keep their shapes: the memory format of a tensor may change between two steps."""

    def __init__(self, wanted: Sequence[str | Quantity], params: Tensors) -> None:
        self.quantities = [BUILT_IN[extra] if isinstance(extra, str) else extra for extra in wanted]
        params = _detached(params)
        self.memory = {q.name: q.start(params) for q in self.quantities if q.start is not None}
        self.compared: set[str] = set()
        self.old: Held = {}

    def at_start(self, params: Tensors) -> Parts:
        """Before the optimizer moves. Remembers the parameters, for the update."""
        self.old = _copies(params) if self._wanted("update") else {}
        return self._measured("param", lambda: _detached(params))

    def with_gradients(self, grads: Tensors, scale: torch.Tensor | None) -> Parts:
        """When the gradients are there, and the optimizer has not touched them yet; it will divide them by `scale`."""

        def unscaled() -> Tensors:
            gradients = {path: dense(g) for path, g in grads.items()}
            return gradients if scale is None else {path: g / scale.to(g.device) for path, g in gradients.items()}

        return self._measured("grad", unscaled)

    def at_end(self, params: Tensors) -> Parts:
        """When the optimizer has moved."""
        return self._measured("update", lambda: {path: p.detach() - self.old[path] for path, p in params.items()})

    def _wanted(self, of: str) -> list[Quantity]:
        return [q for q in self.quantities if q.of == of]

    def _measured(self, of: str, make: Callable[[], Tensors]) -> Parts:
        """The tensors are made only where somebody measures them: most monitors have no extras."""
        wanted = self._wanted(of)
        tensors = make() if wanted else {}
        return {q.name: self._of_quantity(q, tensors) for q in wanted}

    def _of_quantity(self, quantity: Quantity, tensors: Tensors) -> tuple[list[str], torch.Tensor]:
        memory = () if quantity.start is None else (self.memory[quantity.name],)
        numbers, self.memory[quantity.name] = checked_result(quantity, quantity.measure(dict(tensors), *memory))
        values = checked_numbers(quantity, numbers, list(tensors))
        if quantity.compares and quantity.name not in self.compared:
            self.compared.add(quantity.name)
            values = {}
        return list(values), _stacked(quantity, values)


def _stacked(quantity: Quantity, numbers: Mapping[str, Any]) -> torch.Tensor:
    """One number a tensor as a vector, wherever they lie."""
    values = [torch.as_tensor(value).detach() for value in numbers.values()]
    for path, value in zip(numbers, values, strict=True):
        if value.numel() != 1 or value.is_complex():
            shape, kind = tuple(value.shape), str(value.dtype).removeprefix("torch.")
            raise GradlabError(f"quantity {quantity.name}: {path} got {kind} of shape {shape}; expected one number")
    if len({(value.device, value.dtype) for value in values}) > 1:
        where = values[0].device
        values = [value.to(where, torch.float32 if where.type == "mps" else torch.float64) for value in values]
    return torch.stack([value.reshape(()) for value in values]) if values else torch.zeros(0)


def _detached(tensors: Tensors) -> Held:
    return {path: t.detach() for path, t in tensors.items()}


def _copies(tensors: Tensors) -> Held:
    return {path: t.detach().clone() for path, t in tensors.items()}


def _cosines(keep: Callable[[Tensors], Held], now: Held, then: Held) -> tuple[Held, Held]:
    """Of what was there at the record before, in the same shape."""
    paths = [path for path, t in now.items() if path in then and then[path].shape == t.shape]
    cosines = stacked_cosines([now[p] for p in paths], [then[p].to(now[p].device) for p in paths])
    return dict(zip(paths, cosines.unbind(), strict=True)), keep(now)


def _distances(params: Held, origin: Held) -> tuple[Held, Held]:
    for path, p in params.items():
        if path not in origin or origin[path].shape != p.shape:
            origin[path] = p.clone()
    away = stacked_norms([p - origin[path].to(p.device) for path, p in params.items()])
    return dict(zip(params, away.unbind(), strict=True)), origin


def _nothing(params: Held) -> Held:
    return {}


BUILT_IN = {
    quantity.name: quantity
    for quantity in (
        Quantity(
            name="grad_cosine",
            of="grad",
            measure=functools.partial(_cosines, _copies),
            start=_nothing,
            compares=True,
        ),
        # Updates are made for this alone: they need no copy.
        Quantity(
            name="update_cosine", of="update", measure=functools.partial(_cosines, dict), start=_nothing, compares=True
        ),
        Quantity(name="distance", of="param", measure=_distances, start=_copies),
    )
}
