"""What the gradients of single examples say of each other: their norms, their noise, their signal.

Each example is shown to the model alone, in eval mode: batch statistics (BatchNorm in train mode) would make one
example's gradient depend on the others. All are differentiated at once, so that memory for N gradients of the size of
the model is needed, a few times over: hand in a smaller batch where that is too much.

The functions are pure and work under `jit`; there the values of a batch are not known yet, and go unchecked.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp

from gradlab_core.definitions.gradient_noise import check_examples
from gradlab_core.errors import GradlabError
from gradlab_jax.measure.updates import ratio
from gradlab_jax.model.checks import as_labels, check_model_inputs, check_model_labels
from gradlab_jax.model.gradients import Loss, disconnected, loss_and_gradients
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import Functional, functional
from gradlab_jax.trees.norm_arithmetic import stacked_norms
from gradlab_jax.trees.norms import global_norm


def per_example_grad_norms(model: Any, x: jax.Array, y: Any, *, loss: Loss = cross_entropy) -> jax.Array:
    """‖gᵢ‖₂ over all parameters, of the loss gradient gᵢ of each example.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        x: input batch, native layout (N, spatial…, C).
        y: integer labels (N,), or any (N, …) that `loss(logits, y)` takes one by one: logits (1, C), y (1, …).

    Returns:
        Shape (N,): float64 if the model is, else float32. An example whose gradient holds a NaN or an Inf says so in
        its own norm only; a parameter with no path to the loss adds nothing.

    Raises:
        GradlabError: a batch with NaN or Inf, labels out of range or not one per example.

    >>> from flax import nnx
    >>> layer = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
    >>> per_example_grad_norms(layer, jnp.array([[3.0], [-4.0]]), jnp.zeros(2), loss=lambda out, y: out.sum())
    Array([3., 4.], dtype=float32)
    """
    return _norms(_per_example_gradients(*_checked(model, x, y, loss)))


def gradient_noise_scale(model: Any, x: jax.Array, y: Any, *, loss: Loss = cross_entropy) -> jax.Array:
    """tr Σ/‖G‖², the simple noise scale: the batch size above which averaging more examples gains little.

    From N per-example gradients with mean ḡ: tr Σ = Σᵢ‖gᵢ − ḡ‖²/(N − 1), and ‖G‖² = ‖ḡ‖² − tr Σ/N, both unbiased. Inf
    where ‖G‖² is not positive: N examples do not tell the gradient from its noise. A NaN or an Inf among the gradients
    gives NaN. A scalar; arguments as in `per_example_grad_norms`.

    Raises:
        GradlabError: as `per_example_grad_norms`, and a batch of fewer than two examples.

    Source: McCandlish et al. 2018, An Empirical Model of Large-Batch Training, appendix A.1.

    >>> from flax import nnx
    >>> layer, x = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0)), jnp.array([[1.0], [3.0]])
    >>> round(float(gradient_noise_scale(layer, x, jnp.zeros(2), loss=lambda out, y: out.sum())), 6)
    0.666667
    """
    grads = _per_example_gradients(*_checked(model, x, y, loss, least=2))
    signal, noise = (global_norm([part]) for part in _signals_and_noises(grads))
    snr = _snr(signal, noise, len(x))
    return jnp.where(snr <= 1 / len(x), jnp.inf, 1 / (snr - 1 / len(x)))


def gradient_snr(model: Any, x: jax.Array, y: Any, *, loss: Loss = cross_entropy) -> dict[str, jax.Array | None]:
    """`{path: ‖ḡ‖²/tr Σ}`, the signal to noise ratio of each tensor's gradient: over 1, examples agree.

    A ratio of sums over the tensor's elements, where the source averages the ratio of each element: one element without
    variance, a weight behind a dead unit, would make that infinite. 0/0 is 0, no signal; a gradient that is the same
    for all examples gives Inf, a NaN or an Inf among the gradients NaN, None no path to the loss. Scalars, in
    definition order; arguments as in `per_example_grad_norms`.

    Raises:
        GradlabError: as `per_example_grad_norms`, and a batch of fewer than two examples.

    Source: Liu et al. 2020, Understanding Why Neural Networks Generalize Well Through GSNR of Parameters.

    >>> from flax import nnx
    >>> layer, x = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0)), jnp.array([[1.0], [2.0], [3.0]])
    >>> {k: round(float(v), 5) for k, v in gradient_snr(layer, x, x[:, 0], loss=lambda out, y: out.sum()).items()}
    {'weight': 4.0}
    """
    f, _, params, rest, x, y = checked = _checked(model, x, y, loss, least=2)
    cut = disconnected(f, params, rest, x[:1], y[:1], loss)
    signals, noises = _signals_and_noises(_per_example_gradients(*checked))
    ratios = _snr(signals, noises, len(x))
    return OrderedDict((path, None if c else ratios[i]) for i, (path, c) in enumerate(zip(f.names, cut, strict=True)))


def _snr(signal: jax.Array, noise: jax.Array, count: int) -> jax.Array:
    """‖ḡ‖²/tr Σ; NaN where one of the two is not finite, which tells nothing of their ratio."""
    known = jnp.isfinite(signal) & jnp.isfinite(noise)
    return jnp.where(known, ratio(signal, noise) ** 2 * (count - 1), jnp.nan)


_norms = jax.jit(jax.vmap(global_norm))


@jax.jit
def _signals_and_noises(grads: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    """‖ḡ‖ of every parameter, and √Σᵢ‖gᵢ − ḡ‖². Counted from the first example, so that equal gradients vary by
    exactly 0; large ones divided before they are summed and small ones after, so that a mean that fits the type is
    found."""
    means, deviations = [], []
    for g in grads:
        wide = g.astype(jnp.promote_types(g.dtype, jnp.float32))
        shifted = wide - wide[0]
        scale = jnp.where(jnp.abs(shifted).max(0) > 1, 1 / len(wide), 1.0).astype(shifted.real.dtype)
        mean = (shifted * scale).sum(0) / (len(wide) * scale)
        means.append(wide[0] + mean)
        deviations.append(shifted - mean)
    return stacked_norms(means), stacked_norms(deviations)


# A program of its own: in one with the differences XLA would join a gradient's last product and the difference in one
# rounding, and equal gradients would not cancel. And the three functions above share it.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _per_example_gradients(
    f: Functional, loss: Loss, params: Any, rest: Any, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, ...]:
    """(N, *shape) of every parameter, in definition order."""

    def alone(example: jax.Array, label: jax.Array) -> tuple[jax.Array, ...]:
        return loss_and_gradients(f, params, rest, example[None], label[None], loss)[1]

    return jax.vmap(alone)(x, y)


def _checked(model: Any, x: Any, y: Any, loss: Loss, *, least: int = 1) -> tuple[Functional, Loss, Any, Any, Any, Any]:
    """What the jitted functions take."""
    f, params, rest = functional(model, "eval")
    if not params:
        raise GradlabError("the model has no trainable parameter; expected at least one")
    known = not any(isinstance(value, jax.core.Tracer) for value in (x, y))
    if known:
        check_model_inputs(x)
    labels = as_labels(y)
    check_examples(x.shape, labels.shape, least=least)
    if loss is cross_entropy and known:
        check_model_labels(y, jax.eval_shape(f.apply, params, rest, x)[0])
    return f, loss, params, rest, jnp.asarray(x), labels
