"""The factors by which the layers of a net multiply the gradient on its way back."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradlab_core.definitions import chain_rule as definition
from gradlab_core.definitions.cuts import Cut
from gradlab_core.records import ChainRule
from gradlab_jax.model.checks import as_labels, check_logits, check_loss, check_model_labels
from gradlab_jax.model.cuts import OnCut, run_cut
from gradlab_jax.model.gradients import Loss
from gradlab_jax.model.inputs import Inputs, checked_inputs
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import Functional, functional
from gradlab_jax.model.taps import Tap
from gradlab_jax.trees.norm_arithmetic import stacked_norms


def chain_rule(model: Any, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train") -> ChainRule:
    """‖∂L/∂input‖/‖∂L/∂output‖ of every layer call, their product, and what the gradient really does from the logits to
    the input of the first layer.

    Both are the same in a plain chain. Where paths part or meet (a residual), or a step that is no layer lies between,
    `log_after` of the layer before is not 0. Layers are convolutions, dense layers, normalisations, embeddings,
    activations, functions with a derivative of their own, and modules with none of these inside; of the normalisations
    of a program without modules only the output is known.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        x: input batch, native layout (N, spatial…, C); several inputs by name in a mapping, by
            place in a tuple or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: not a model, a batch with NaN or Inf, labels out of range, or a loss that is not one number.

    >>> from flax import nnx
    >>> rngs, eye = nnx.Rngs(0), lambda key, shape, dtype: jnp.eye(3, dtype=dtype)
    >>> first = nnx.Linear(3, 3, use_bias=False, kernel_init=eye, rngs=rngs)
    >>> net = nnx.Sequential(first, nnx.Linear(3, 2, rngs=rngs))
    >>> row = chain_rule(net, jnp.ones((4, 3)), jnp.array([0, 1, 0, 1])).layers[0]
    >>> row.layer, round(row.log_factor, 6), round(row.log_after, 6)
    ('0', 0.0, 0.0)
    """
    f, params, rest = functional(model, mode)
    x, y = checked_inputs(x), as_labels(y)
    if loss is cross_entropy:
        check_model_labels(y, jax.eval_shape(f.apply, params, rest, x)[0])
    leaves, structure = jax.tree.flatten((params, rest, x, y))
    cuts, shapes = _cuts(f, loss, structure, tuple(jax.typeof(leaf) for leaf in leaves))
    norms = jax.device_get(_norms(f, loss, shapes, params, rest, x, y)).tolist()
    return definition.chain_rule(cuts, dict(zip(cuts, norms, strict=True)), mode)


_Shapes = tuple[tuple[tuple[int, ...], Any], ...]


@functools.lru_cache(maxsize=128)
def _cuts(f: Functional, loss: Loss, structure: Any, avals: tuple[Any, ...]) -> tuple[tuple[Cut, ...], _Shapes]:
    """Where the model is cut and the shapes and types there; nothing is computed."""
    cuts: list[Cut] = []
    shapes: list[tuple[tuple[int, ...], Any]] = []

    def watched(cut: Cut, tap: Tap, value: jax.Array) -> jax.Array:
        cuts.append(cut)
        shapes.append((value.shape, value.dtype))
        return value

    jax.eval_shape(lambda *trees: _loss(f, loss, watched, *trees), *jax.tree.unflatten(structure, avals))
    return tuple(cuts), tuple(shapes)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _norms(f: Functional, loss: Loss, shapes: _Shapes, params: Any, rest: Any, x: Any, y: Any) -> jax.Array:
    def disturbed(zeros: list[jax.Array]) -> jax.Array:
        left = iter(zeros)
        return _loss(f, loss, lambda cut, tap, value: value + next(left), params, rest, x, y)

    slopes = jax.grad(disturbed)([jnp.zeros(shape, dtype) for shape, dtype in shapes])
    return stacked_norms(slopes)


def _loss(f: Functional, loss: Loss, on_cut: OnCut, params: Any, rest: Any, x: Any, y: Any) -> jax.Array:
    def value(out: Any) -> jax.Array:
        return check_loss(loss(check_logits(out), y)).reshape(())

    return run_cut(f, params, rest, x, on_cut, value, once=False)[1]
