"""The init doctor: which layers start wrong, a data-dependent repair, and what LARS would make of it afterwards."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.lab.doctor import LayerStart, check_target, judge_start, weight_of
from gradlab_core.lab.prediction import LAYERS
from gradlab_core.lab.propagation import Signal
from gradlab_core.lab.repair import (
    VARIES,
    LayerStepSize,
    RepairedWeights,
    check_init,
    check_rates,
    layer_step_rows,
    repaired,
    scaled_weights,
)
from gradlab_jax.model.checks import check_nnx
from gradlab_jax.model.inputs import Inputs, checked_inputs, floating, tensors
from gradlab_jax.model.modules import Functional, clone, functional
from gradlab_jax.model.taps import Tap, outputs, run_tapped
from gradlab_jax.model.weights import as_numpy, from_canonical, to_canonical
from gradlab_jax.start.initializers import initialize
from gradlab_jax.trees.leaves import Tree
from gradlab_jax.trees.norms import module_norms
from gradlab_jax.trees.signals import as_signals, measured


def init_doctor(model: Any, x: Inputs, y: Any = None, *, target: float = 1.0, mode: str = "train") -> list[LayerStart]:
    """How every dense and convolutional layer starts: how much its output varies against the target and the layer
    before, its gain against what the activation before it wants, and what to change.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        x: input batch, native layout (N, spatial…, C); several: a mapping or a list.
        y: labels, of no use here; taken so that what is called as `gradient_flow(model, x, y)` works here too.
        target: the variance that outputs should have.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: a batch with NaN or Inf, a target that is no variance, an unknown mode.

    >>> rngs = nnx.Rngs(0)
    >>> net = nnx.Sequential(nnx.Linear(100, 100, rngs=rngs), nnx.relu, nnx.Linear(100, 10, rngs=rngs))
    >>> net.layers[2].kernel.set_value(100 * net.layers[2].kernel.get_value())
    >>> x = jax.random.normal(jax.random.key(0), (64, 100))
    >>> [(row.path, row.level) for row in init_doctor(net, x)]
    [('0', 'good'), ('2', 'bad')]
    """
    check_target("init_doctor", target)
    f, params, rest = functional(model, mode)
    x = jax.tree.map(jnp.asarray, checked_inputs(x))
    batch, signals = _outputs(f, params, rest, x)
    calls = [(tap.path, tap.kind, tap.call) for tap in signals]
    weights = {name: np.transpose(as_numpy(p), axes) for name, p, axes in zip(f.names, params, f.axes, strict=True)}
    return judge_start(calls, list(signals.values()), batch, weights, target=target)


def lsuv(
    model: nnx.Module,
    x: Inputs,
    *,
    target: float = 1.0,
    init: str | None = None,
    seed: int = 0,
    mode: str = "train",
) -> RepairedWeights:
    """New weights with which the output of every dense and convolutional layer varies by `target` on this batch: layer
    by layer in execution order, each scaled by the one factor that does it; biases stay. The model is not changed:
    `from_canonical(model, repair.weights)` does.

    A layer that runs twice is scaled at its first call. Layers inside a loop stay as they are.

    Args:
        model: an NNX module; left as it was.
        x: input batch, native layout (N, spatial…, C); several: a mapping or a list.
        target: the variance that outputs should have.
        init: an initialiser that draws the weights first, `orthogonal` in the paper; None scales those there are.
        seed: of the initialiser.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: as `init_doctor`; an initialiser that nobody knows, or that needs a number.

    Source: Mishkin & Matas 2016, All you need is a good init.

    >>> rngs = nnx.Rngs(0)
    >>> net = nnx.Sequential(nnx.Linear(8, 8, rngs=rngs), nnx.tanh, nnx.Linear(8, 4, rngs=rngs))
    >>> repair = lsuv(net, jax.random.normal(jax.random.key(0), (32, 8)))
    >>> [(layer.path, round(layer.after, 4)) for layer in repair.layers]
    [('0', 1.0), ('2', 1.0)]
    """
    check_target("lsuv", target)
    check_nnx(model)
    private = clone(model)
    x = jax.tree.map(jnp.asarray, checked_inputs(x))
    if init is not None:
        check_init(init)
        initialize(private, init, seed=seed)
    weights = to_canonical(private)
    f, params, rest = functional(private, mode)
    _, before = _outputs(f, params, rest, x)
    factored = jax.device_get(_factors(f, float(target), params, rest, x))
    factors = {path: float(factor) if there else None for path, (factor, there) in factored.items()}
    layers = [tap.path for tap in before if tap.call == 0 and tap.path in factors]
    scaled = scaled_weights(weights, factors)
    from_canonical(private, scaled)
    _, after = _outputs(f, functional(private, mode)[1], rest, x)
    return repaired(scaled, layers, factors, _variances(before), _variances(after))


def layer_steps(
    params: Tree, grads: Tree, *, learning_rate: float, trust_coefficient: float = 0.001
) -> list[LayerStepSize]:
    """How far one step of plain SGD moves every layer, and how far one of LARS, relative to its norm: the cure
    afterwards, for layers that start on different scales and have gradients to match.

    Args:
        params: tree of parameters.
        grads: tree of the same paths; None where there is no gradient.
        learning_rate: η.
        trust_coefficient: c of LARS, whose step is η·c·‖θ‖ long whatever the gradient.

    Raises:
        GradlabError: trees that do not match, rates that are no finite numbers of at least 0.

    Source: You, Gitman & Ginsburg 2017, Large batch training of convolutional networks.

    >>> params = {"a": {"weight": jnp.array([1.0])}, "b": {"weight": jnp.array([100.0])}}
    >>> grads = {"a": {"weight": jnp.array([5.0])}, "b": {"weight": jnp.array([0.5])}}
    >>> rows = layer_steps(params, grads, learning_rate=1.0)
    >>> [(row.path, round(row.plain, 6), row.lars) for row in rows]
    [('a', 5.0, 0.001), ('b', 0.005, 0.001)]
    """
    check_rates(learning_rate, trust_coefficient)
    sizes, slopes = _numbers(module_norms(params)), _numbers(module_norms(grads))
    return layer_step_rows(sizes, slopes, learning_rate, trust_coefficient)


def _numbers(norms: Mapping[str, jax.Array | None]) -> dict[str, float | None]:
    values = jax.device_get(list(norms.values()))  # one transfer
    return {path: None if value is None else float(value) for path, value in zip(norms, values, strict=True)}


def _outputs(f: Functional, params: Any, rest: Any, x: Inputs) -> tuple[Signal, dict[Tap, Signal]]:
    """The input, and the output of every layer call in execution order; not of layers inside of loops, as those of a
    recurrent cell, which takes a state of 0 at its first step."""
    batch, *signals = as_signals(_measure(f, params, rest, x))
    return batch, dict(zip(outputs(f, params, rest, x)[0], signals, strict=True))


@functools.partial(jax.jit, static_argnums=0)
def _measure(f: Functional, params: Any, rest: Any, x: Inputs) -> Any:
    handed = run_tapped(f, params, rest, x, lambda tap, value: (value, measured(value)), differentiable=True)[2]
    # What enters the first layer; of whole numbers (tokens) it is what stands in the batch.
    batch = entering if (entering := floating(x)) is not None else tensors(x)[0]
    return [measured(batch), *(row for _, row in handed)]


def _variances(outputs: Mapping[Tap, Signal]) -> dict[str, float]:
    return {tap.path: signal.log_variance for tap, signal in outputs.items() if tap.call == 0}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _factors(f: Functional, target: float, params: Any, rest: Any, x: Inputs) -> dict[str, Any]:
    """The factor of each layer, found in one run in which the outputs of those before it are scaled already; and
    whether there is one."""
    named = dict(zip(f.names, params, strict=True))
    factors: dict[str, tuple[jax.Array, jax.Array]] = {}

    def on_tap(tap: Tap, value: jax.Array) -> tuple[jax.Array, None]:
        if tap.kind not in LAYERS or weight_of(tap.path) not in named:
            return value, None
        bias = named.get(weight_of(tap.path).removesuffix("weight") + "bias", jnp.zeros((), value.dtype))
        part = value - bias
        if tap.path not in factors:
            factors[tap.path] = _factor(part, bias, target)
        factor, there = factors[tap.path]
        return (part * jnp.where(there, factor, 1) + bias).astype(value.dtype), None

    run_tapped(f, params, rest, x, on_tap, differentiable=True)  # which leaves loops closed: their layers are one each
    return factors


def _factor(part: jax.Array, bias: jax.Array, target: float) -> tuple[jax.Array, jax.Array]:
    """`gradlab_core.lab.repair.repair_factor`, and whether there is one."""
    wide = jnp.promote_types(part.dtype, jnp.float32)
    part, bias = part.astype(wide), bias.astype(wide)
    peak = jnp.max(jnp.abs(part))
    exponent = jnp.frexp(peak)[1]
    scaled, biases = jnp.ldexp(part, -exponent), jnp.broadcast_to(bias, part.shape)
    apart, aside = scaled - jnp.mean(scaled), biases - jnp.mean(biases)
    square, mixed = jnp.mean(jnp.square(apart)), jnp.mean(apart * aside)
    rest = jnp.mean(jnp.square(aside)) - target
    inside = jnp.square(mixed) - square * rest
    factor = jnp.ldexp((jnp.sqrt(inside) - mixed) / square, -exponent)
    there = jnp.isfinite(peak) & (peak > 0) & (square > VARIES) & (inside >= 0) & (factor > 0)
    return factor, there
