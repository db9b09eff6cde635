"""Where the work is done: a device that is not there is told with those that are."""

from __future__ import annotations

import torch

from gradlab_core.errors import GradlabError


def device(name: str | None = None) -> torch.device:
    """The device of that name (`cpu`, `cuda`, `cuda:1`, `mps`); None: the one that PyTorch uses by itself.

    Raises:
        GradlabError: it is not there, or it holds no numbers (`meta`).

    >>> device("abacus")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: device 'abacus' is not there; expected one that PyTorch has here: cpu...
    """
    try:
        place = torch.get_default_device() if name is None else torch.device(name)
        # A name alone says nothing: what is not there shows when a number is put on it and read.
        torch.zeros(1, device=place).cpu()
    # RuntimeError, AssertionError or an import that fails: each kind of device has its own way.
    except (RuntimeError, AssertionError, ImportError) as error:
        raise GradlabError(
            f"device {name!r} is not there; expected one that PyTorch has here: {', '.join(_there())}"
        ) from error
    return place


def _there() -> list[str]:
    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = torch.accelerator.current_accelerator()
    return ["cpu", *(f"{kind}:{i}" for i in range(torch.accelerator.device_count()))]
