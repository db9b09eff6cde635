"""A study of a user's model before training: signal and gradient by layer, and singular values of the Jacobian."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from gradlab_core import backends
from gradlab_core.errors import GradlabError
from gradlab_core.lab.jacobian import JacobianSpectrum
from gradlab_core.lab.prediction import LAYERS
from gradlab_core.lab.propagation import LayerSignal, SignalPropagation

WRITTEN_OUT = 1024
"""The Jacobian is written out for examples of up to so many elements; else only the largest values are found."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelStudy:
    """A model and a batch.

    Attributes:
        framework: `torch` or `jax`.
        propagation: every layer call.
        spectrum: the spectrum of the first example of the batch; if None, `no_spectrum` says why.
        log_signal: ln of the root mean square of the output of the last dense or convolutional layer over that of the
            first; −inf if either is 0; None with fewer than two layers.
        log_gradient: the same for the gradient in the first over that in the last.
        nonfinite: paths of layer calls whose output or gradient holds NaN or Inf.
        unreached: paths of dense and convolutional layers that no gradient reaches.
    """

    framework: str
    propagation: SignalPropagation
    spectrum: JacobianSpectrum | None
    no_spectrum: str
    log_signal: float | None
    log_gradient: float | None
    nonfinite: tuple[str, ...]
    unreached: tuple[str, ...]


def study_model(framework: str, model: Any, x: Any, y: Any, **keywords: Any) -> ModelStudy:
    """Measure a model on one batch.

    Args:
        framework: the framework of the model.
        model, x, y: as `signal_propagation` takes them.
        keywords: `loss`, if there is one.

    Raises:
        GradlabError: `signal_propagation` raised it.
    """
    twin = backends.load(framework)
    propagation = twin.signal_propagation(model, x, y, **keywords)
    layers = [layer for layer in propagation.layers if layer.kind in LAYERS]
    spectrum, why = _spectrum(twin, model, x)
    return ModelStudy(
        framework=framework,
        propagation=propagation,
        spectrum=spectrum,
        no_spectrum=why,
        log_signal=_change([layer.output.log_second_moment for layer in layers]),
        log_gradient=gradient_change(propagation.layers),
        nonfinite=tuple(dict.fromkeys(layer.path for layer in propagation.layers if _odd(layer))),
        unreached=tuple(dict.fromkeys(layer.path for layer in layers if layer.gradient is None)),
    )


def gradient_change(layers: Sequence[LayerSignal]) -> float | None:
    """ln of the root mean square of the gradient in the output of the first dense or convolutional layer over that of
    the last, among layers that have one; None with fewer than two."""
    logs = [layer.gradient.log_second_moment for layer in layers if layer.kind in LAYERS and layer.gradient]
    return _change(logs[::-1])


def _odd(layer: LayerSignal) -> bool:
    return layer.output.nonfinite > 0 or (layer.gradient is not None and layer.gradient.nonfinite > 0)


def _change(logs: list[float]) -> float | None:
    """ln of the last root mean square over the first; −inf if the first is already 0, so that nothing is left to lose;
    NaN if both are infinite."""
    if len(logs) < 2:
        return None
    if logs[0] == -math.inf:
        return -math.inf
    return math.nan if logs[0] == logs[-1] == math.inf else (logs[-1] - logs[0]) / 2


def _spectrum(twin: ModuleType, model: Any, x: Any) -> tuple[JacobianSpectrum | None, str]:
    method = "exact" if math.prod(x.shape[1:]) <= WRITTEN_OUT else "lanczos"
    try:
        return twin.jacobian_singular_values(model, x[:1], method=method)[0], ""
    except GradlabError as error:  # the input is of whole numbers, or the output is not a tensor
        return None, str(error)
