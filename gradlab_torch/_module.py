"""Any PyTorch model as one pure function of a tuple of parameters in definition order.

Everything that measures a model goes through `functional`: it runs on copies of the buffers, in the mode asked for,
with a random state of its own, and leaves the model as it was, also when the model raises.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch

from gradlab_core.errors import GradlabError
from gradlab_core.records import MODES

Buffers = dict[str, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Functional:
    """A model in one mode."""

    model: torch.nn.Module
    mode: str
    names: tuple[str, ...]

    def apply(self, params: tuple[torch.Tensor, ...], rest: Buffers, x: torch.Tensor) -> tuple[torch.Tensor, Buffers]:
        """Logits and the new buffers; changes neither the model nor its arguments."""
        rest = {name: value.clone() for name, value in rest.items()}
        tensors = {**dict(zip(self.names, params, strict=True)), **rest}
        with _in_mode(self.model, self.mode), torch.random.fork_rng(devices=_devices(params)):
            out = torch.func.functional_call(self.model, tensors, (x,))
        return out, rest


def functional(model: torch.nn.Module, mode: str) -> tuple[Functional, tuple[torch.Tensor, ...], Buffers]:
    """`(functional, params, buffers)` of a model; the tensors are the model's own.

    Raises:
        GradlabError: not a PyTorch model, or an unknown mode.
    """
    if mode not in MODES:
        raise GradlabError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    if not isinstance(model, torch.nn.Module):
        raise GradlabError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
    named = dict(model.named_parameters())
    return Functional(model, mode, tuple(named)), tuple(named.values()), dict(model.named_buffers())


@contextlib.contextmanager
def _in_mode(model: torch.nn.Module, mode: str) -> Iterator[None]:
    before = {module: module.training for module in model.modules()}
    model.train(mode == "train")
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def _devices(params: tuple[torch.Tensor, ...]) -> list[torch.device]:
    return sorted({p.device for p in params if p.device.type == "cuda"}, key=str)
