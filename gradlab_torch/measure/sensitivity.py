"""How far the logits move when the input is disturbed a little."""

from __future__ import annotations

import torch

from gradlab_core.errors import GradlabError
from gradlab_torch.model.checks import check_logits, check_model_inputs
from gradlab_torch.model.modules import private_copy
from gradlab_torch.model.taps import run_tapped
from gradlab_torch.trees.norm_arithmetic import stacked_norms


def input_sensitivity(model: torch.nn.Module, x: torch.Tensor, noise: torch.Tensor, *, mode: str = "eval") -> float:
    """Mean over the batch of ‖f(x+δ) − f(x)‖₂ on the logits.

    Args:
        model: any `torch.nn.Module`; left as it was.
        x: input batch, native layout (N, C, spatial…).
        noise: δ, of the shape of x; handed in so that both twins see the same
        (`gradlab_core.definitions.noise.default_noise`).
        mode: `eval` by definition; `train` for a net whose running statistics mean nothing yet.

    Raises:
        GradlabError: noise of another shape, or NaN or Inf in either.

    >>> input_sensitivity(torch.nn.Linear(3, 2), torch.ones(4, 3), torch.zeros(4, 3))
    0.0
    """
    private = private_copy(model, mode)
    check_model_inputs(x)
    check_model_inputs(noise)
    if x.shape != noise.shape:
        raise GradlabError(f"noise has shape {tuple(noise.shape)}; expected {tuple(x.shape)}, the shape of the batch")
    with torch.no_grad():
        disturbed, plain = (run_tapped(private, batch, lambda tap, value: None)[0] for batch in (x + noise, x))
        difference = check_logits(disturbed) - check_logits(plain)
    return float(stacked_norms(list(difference)).mean())
