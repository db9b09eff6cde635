"""What a model is called with: one tensor, or several, by place or by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradlab_core.errors import GradlabError
from gradlab_torch.model.checks import check_model_inputs

Inputs = torch.Tensor | Mapping[str, torch.Tensor | None] | Sequence[torch.Tensor | None]
"""`model(x)`; of a mapping `model(**x)`; of a tuple or a list `model(*x)`. What is None stays None."""
_KIND = torch.Tensor


def checked_inputs(x: Any, *, finite: bool = True) -> Any:
    """The inputs as a tensor, a dict or a tuple.

    Raises:
        GradlabError: no tensor among them, something that is none, or a batch that is empty or, unless that is what is
            looked for, holds NaN or Inf.
    """
    # A named tuple, as a packed sequence, is one thing of its own.
    several = isinstance(x, Mapping) or type(x) in (tuple, list)
    if not several or not any(isinstance(value, _KIND) for value in _values(x)):
        check_model_inputs(x, finite=finite)
        return x
    each = {**x} if isinstance(x, Mapping) else dict(enumerate(x))
    wrong = {n: type(value).__name__ for n, value in each.items() if not isinstance(value, (_KIND, type(None)))}
    if wrong:
        raise GradlabError(
            "input batch: "
            + ", ".join(f"input {name!r} is a {kind}" for name, kind in wrong.items())
            + "; expected tensors only: give the rest to the model in a module that wraps it"
        )
    for tensor in tensors(x):
        check_model_inputs(tensor, finite=finite)
    return each if isinstance(x, Mapping) else tuple(x)


def tensors(x: Inputs) -> list[torch.Tensor]:
    """The tensors among the inputs, in their order."""
    return [value for value in _values(x) if value is not None]


def named(x: Inputs) -> list[tuple[str | None, torch.Tensor]]:
    """The tensors among the inputs with their names or numbers; None for a single one."""
    if isinstance(x, torch.Tensor):
        return [(None, x)]
    pairs = x.items() if isinstance(x, Mapping) else enumerate(x)
    return [(str(name), value) for name, value in pairs if value is not None]


def examples(x: Inputs) -> int:
    """How many there are in the batch, by the first tensor that has an axis."""
    return next((len(tensor) for tensor in tensors(x) if tensor.ndim), 1)


def floating(x: Inputs) -> torch.Tensor | None:
    """The first tensor that holds no whole numbers; None where all do, as tokens and masks."""
    return next((tensor for tensor in tensors(x) if tensor.is_floating_point()), None)


def _values(x: Any) -> list[Any]:
    return list(x.values()) if isinstance(x, Mapping) else list(x) if isinstance(x, (tuple, list)) else [x]


def call(model: Callable[..., Any], x: Inputs) -> Any:
    """The model on these inputs."""
    if isinstance(x, torch.Tensor):
        return model(x)
    return model(**x) if isinstance(x, Mapping) else model(*x)


def outside_inference(x: Inputs) -> Any:
    """The same inputs, copied where they were made in inference mode, which gradients cannot pass."""

    def usable(value: torch.Tensor | None) -> torch.Tensor | None:
        return value.clone() if value is not None and value.is_inference() else value

    if isinstance(x, torch.Tensor):
        return usable(x)
    return {name: usable(v) for name, v in x.items()} if isinstance(x, Mapping) else tuple(map(usable, x))
