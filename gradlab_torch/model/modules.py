"""A private copy of any PyTorch model, to measure on: the user's own is never touched.

Working on a copy keeps parameters, buffers, `.grad`, hooks and modes of the original as they were, also when the model
raises, when it runs parts of itself again during the backward pass (activation checkpointing), or when several threads
measure it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch

from gradlab_core.errors import GradlabError
from gradlab_core.records import MODES
from gradlab_torch.model.sharding import refuse_sharded


def private_copy(model: torch.nn.Module, mode: str) -> torch.nn.Module:
    """A copy in that mode, in which every floating parameter asks for a gradient, frozen ones too.

    Raises:
        GradlabError: not a PyTorch model, one that cannot be copied, or an unknown mode.
    """
    if mode not in MODES:
        raise GradlabError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise GradlabError(f"model is a {type(model).__name__}; expected a torch.nn.Module that is not compiled by jit")
    refuse_sharded("the model", model)
    try:
        with torch.inference_mode(False):
            private = copy.deepcopy(model)
    except RuntimeError as error:
        raise GradlabError(
            f"the model cannot be copied ({error}); expected one whose parameters are leaves: "
            "torch.nn.utils.parametrizations in place of the older torch.nn.utils.weight_norm"
        ) from error
    for parameter in private.parameters():
        parameter.grad = None
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    return private.train(mode == "train")


@contextlib.contextmanager
def own_randomness(model: torch.nn.Module) -> Iterator[None]:
    """Dropout inside draws from a copy of the random state; the user's own goes on as if nothing had run."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        yield


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """`{path: parameter}` of what an optimizer may move; a model without is refused."""
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not params:
        raise GradlabError("the model has no trainable parameter; expected at least one with requires_grad")
    return params


def path_of(name: str) -> str:
    """The canonical path of a parameter, without what torch.compile puts around a module."""
    return name.replace("_orig_mod.", "")
