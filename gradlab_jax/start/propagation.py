"""What a model does to a signal before any training: second moments forward and of gradients back, beside theory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradlab_core.lab.gaussian import ends
from gradlab_core.lab.propagation import EXAMPLES, MeasuredLayer, SignalPropagation, assemble, cotangent
from gradlab_core.lab.random_mlp import RandomMlp
from gradlab_core.lab.simulation import REACH, Propagation, check_dtype, in_blocks
from gradlab_jax.model.checks import as_labels, check_logits, check_loss, check_model_inputs, check_model_labels
from gradlab_jax.model.functions import FUNCTIONS
from gradlab_jax.model.gradients import Loss, structural_zeros
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import Functional, functional
from gradlab_jax.model.taps import Tap, outputs, run_tapped
from gradlab_jax.model.weights import as_numpy, to_native
from gradlab_jax.start.chains import find_chain
from gradlab_jax.trees.signals import as_signals, measured


def signal_propagation(
    model: Any, x: jax.Array, y: Any = None, *, loss: Loss = cross_entropy, mode: str = "train"
) -> SignalPropagation:
    """Mean, second moment and variance of every layer's output and of the gradient in it, in execution order, and what
    mean-field theory expects of them.

    Pre-activations are the outputs of dense and convolutional layers; activations called as functions count. Theory has
    a say as far as the model is a plain chain of such layers, with weights drawn around 0, and activations.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; theory speaks of NNX only. Left as it was.
        x: input batch, native layout (N, spatial…, C).
        y: integer labels (N,), or what `loss(logits, y)` takes. None for L = Σ output·u with u from N(0, 1), the same
            for every call, instead of a loss.
        loss: L, where there is a y.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: a batch with NaN or Inf, labels out of range, an unknown mode, outputs that are no array.

    >>> from flax import nnx
    >>> net = nnx.Sequential(nnx.Linear(64, 64, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(64, 4, rngs=nnx.Rngs(1)))
    >>> record = signal_propagation(net, jnp.ones((2, 64)))
    >>> [(layer.path, layer.kind) for layer in record.layers]
    [('0', 'linear'), ('', 'relu'), ('2', 'linear')]
    >>> expected = record.layers[0].expected
    >>> abs(record.layers[0].output.log_second_moment - expected.centre) < 5 * expected.spread
    True
    """
    f, params, rest = functional(model, mode)
    check_model_inputs(x)
    x = jnp.asarray(x)
    out = check_logits(jax.eval_shape(f.apply, params, rest, x)[0])
    if y is None:
        # Drawn in canonical layout, as PyTorch has it.
        shape = (out.shape[0], out.shape[-1], *out.shape[1:-1]) if len(out.shape) == 4 else out.shape
        loss, labels = _projection, to_native(cotangent(shape)).astype(out.dtype)
    else:
        labels = as_labels(y)
        if loss is cross_entropy:
            check_model_labels(labels, out)
        check_loss(jax.eval_shape(loss, out, labels))
    taps, shapes = outputs(f, params, rest, x)
    zeros = [jnp.zeros(s.shape, s.dtype) for s in shapes]
    cut = _cut(f, loss, params, rest, x, labels, zeros)
    batch, forward, slopes, few, some = _measure(f, loss, params, rest, x, labels, zeros)
    chain, complete = find_chain(model, mode, x[:EXAMPLES], taps, few, some)
    numbers = as_signals([batch, *forward, *slopes])
    rows = [
        MeasuredLayer(
            path=tap.path,
            kind=tap.kind,
            call=tap.call,
            shape=tap.canonical_shape(zero.shape),
            output=output,
            gradient=None if c else gradient,
        )
        for tap, zero, c, output, gradient in zip(
            taps, zeros, cut, numbers[1 : 1 + len(taps)], numbers[1 + len(taps) :], strict=True
        )
    ]
    return assemble(mode, numbers[0], rows, chain, np.square(as_numpy(x).astype(np.float64)), complete=complete)


def propagate(net: RandomMlp, *, seeds: Sequence[int] = (0,), dtype: str = "float32") -> Propagation:
    """One input through one random MLP for each seed, and a gradient back, for any depth and scale: signals are kept as
    vectors of root mean square 1 and logarithms. The weights of a seed are the same in both twins.

    Args:
        net: the distribution of weights.
        seeds: a net, its input and its ∂L/∂output for each.
        dtype: `float32` or `float64`.

    Raises:
        GradlabError: seeds that are no whole numbers of at least 0, another dtype.

    >>> net = RandomMlp(widths=(50,) * 201, activation="relu", sigma_w=1e3)
    >>> found = propagate(net, seeds=range(2))
    >>> found.preactivations.shape, bool(np.isfinite(found.preactivations).all())
    ((2, 200), True)
    """
    check_dtype(dtype)
    with jax.enable_x64(dtype == "float64"):
        return in_blocks(net, seeds, functools.partial(_run, dtype))


def _projection(out: jax.Array, direction: jax.Array) -> jax.Array:
    return jnp.sum(out * direction)


def _objective(
    f: Functional, loss: Loss, zeros: Any, params: Any, rest: Any, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, Any]:
    """The loss as a function of a disturbance of every output: the gradient in an output is the gradient in what is
    added to it, at zero."""
    left = iter(zeros)

    def on_tap(tap: Tap, value: jax.Array) -> tuple[jax.Array, Any]:
        value = value + next(left)
        return value, (measured(value), value[:EXAMPLES])

    out, _, handed = run_tapped(f, params, rest, x, on_tap, differentiable=True)
    forward, few = [row for _, (row, _) in handed], [value for _, (_, value) in handed]
    return loss(out, y), (forward, few, out[:EXAMPLES])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measure(f: Functional, loss: Loss, params: Any, rest: Any, x: Any, y: Any, zeros: Any) -> Any:
    slopes, (forward, few, out) = jax.grad(_objective, argnums=2, has_aux=True)(f, loss, zeros, params, rest, x, y)
    return measured(x), forward, [measured(slope) for slope in slopes], few, out


def _cut(f: Functional, loss: Loss, params: Any, rest: Any, x: Any, y: Any, zeros: Any) -> list[bool]:
    """Which outputs have no path to the loss; read off the program."""
    differentiate = jax.grad(_objective, argnums=2, has_aux=True)
    jaxpr = jax.make_jaxpr(lambda *args: differentiate(f, loss, *args)[0])(zeros, params, rest, x, y).jaxpr
    return structural_zeros(jaxpr, [False] * len(jaxpr.invars))


def _run(
    dtype: str, net: RandomMlp, layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, cotangent: np.ndarray
) -> Propagation:
    tensor = functools.partial(jnp.asarray, dtype=dtype)
    start = tensor(np.zeros(len(x)))
    size, u = _normalised(start, tensor(x))
    preactivations, activations, slopes = [], [], []
    for index, (weight, bias) in enumerate(layers):
        size, u = _layer(tensor(weight), tensor(bias), size, u)
        preactivations.append(size)
        if index < net.depth - 1:
            size, u, slope = _activation(net.activation, size, u)
            activations.append(size)
            slopes.append(slope)
    size, u = _normalised(start, tensor(cotangent))
    gradients = [size]
    for (weight, _), slope in zip(reversed(layers[1:]), reversed(slopes), strict=True):
        size, u = _back(tensor(weight), slope, size, u)
        gradients.append(size)

    def table(sizes: list[jax.Array]) -> np.ndarray:
        return 2 * np.stack(jax.device_get(sizes), axis=1).astype(np.float64) if sizes else np.zeros((len(x), 0))

    return Propagation(
        preactivations=table(preactivations), activations=table(activations), gradients=table(gradients[::-1])
    )


@jax.jit
def _layer(weight: jax.Array, bias: jax.Array, size: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    biased = jnp.any(bias != 0, axis=1)
    top = jnp.where(biased, jnp.maximum(size, 0), size)
    apart = jnp.exp(jnp.where(jnp.isfinite(size), size - top, 0))
    lifted = jnp.where(biased, jnp.exp(-jnp.maximum(size, 0)), 0)
    return _normalised(top, apart[:, None] * jnp.einsum("sij,sj->si", weight, u) + lifted[:, None] * bias)


@jax.jit
def _back(weight: jax.Array, slope: jax.Array, size: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _normalised(size, jnp.einsum("sij,si->sj", weight, u) * slope)


@functools.partial(jax.jit, static_argnums=0)
def _activation(name: str, size: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Size and direction after the activation, and its slopes."""
    reach = REACH[u.dtype.name]
    near = jnp.clip(size, -reach, reach)
    values, pull = jax.vjp(FUNCTIONS[name], jnp.exp(near)[:, None] * u)
    beyond, end = size - near, ends(name)
    grown = jnp.where(beyond > 0, beyond * end.grows, 0) + jnp.where(beyond < 0, beyond, 0) * end.vanishes
    return *_normalised(grown, values), pull(jnp.ones_like(values))[0]


def _normalised(size: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    peak = jnp.max(jnp.abs(values), axis=1)  # squares of what is small would underflow
    there = jnp.where(peak > 0, peak, 1)
    scaled = values / there[:, None]
    rms = jnp.where(peak > 0, jnp.sqrt(jnp.mean(jnp.square(scaled), axis=1)), 1)
    return jnp.where(peak > 0, size + jnp.log(there) + jnp.log(rms), -jnp.inf), scaled / rms[:, None]
