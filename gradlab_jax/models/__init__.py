"""Models from specs."""

from __future__ import annotations

from flax import nnx

from gradlab_core.initial import torch_default_weights
from gradlab_core.specs import ModelSpec
from gradlab_jax.models.residual_toy import ResidualToy
from gradlab_jax.models.tinynet import TinyNet
from gradlab_jax.weights import from_canonical, to_canonical

_KINDS = {"tinynet": TinyNet, "residual_toy": ResidualToy}


def build(spec: ModelSpec, *, seed: int) -> nnx.Module:
    """The model of a spec, float32, with PyTorch's default initialisation.

    The same spec and seed give the same numbers in both twins: they are drawn in NumPy, per path.

    >>> model = build(ModelSpec(base=2), seed=0)
    >>> next(iter(to_canonical(model)))
    'conv1.weight'
    """
    model = _KINDS[spec.kind](spec)
    shapes = {path: array.shape for path, array in to_canonical(model).items()}
    from_canonical(model, torch_default_weights(shapes, seed))
    return model
