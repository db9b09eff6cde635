"""Which parameters belong to layers whose weights gradlab can draw, by kind and canonical shape."""

from __future__ import annotations

from flax import nnx

from gradlab_core import kinds
from gradlab_core.initializers import Tensor
from gradlab_jax._module import named_variables
from gradlab_jax._recurrent import Recurrent
from gradlab_jax.weights import canonical


def layer_tensors(model: nnx.Module) -> dict[str, Tensor]:
    """`{path: (kind, shape)}` of weights and biases of dense, convolutional, recurrent and embedding layers."""
    found: dict[str, Tensor] = {}
    for path, owner, variable in named_variables(model):
        # `canonical` refuses a transposed convolution, which has no canonical layout to draw in.
        shape = canonical(owner, variable.get_value()).shape
        kind = _kind(owner)
        if kind and isinstance(variable, nnx.Param):
            found[path] = Tensor(kind, tuple(shape))
    return found


def _kind(module: nnx.Module) -> str | None:
    if isinstance(module, nnx.Conv):
        return kinds.CONV
    if isinstance(module, nnx.Linear):
        return kinds.LINEAR
    if isinstance(module, Recurrent):
        return module.cell
    return kinds.EMBEDDING if isinstance(module, nnx.Embed) else None
