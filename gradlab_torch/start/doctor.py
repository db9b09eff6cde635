"""The init doctor: which layers start wrong, a data-dependent repair, and what LARS would make of it afterwards."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.modules.conv import _ConvNd

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
from gradlab_torch.model.inputs import Inputs, call, checked_inputs, floating, tensors
from gradlab_torch.model.modules import own_randomness, private_copy
from gradlab_torch.model.taps import Tap, run_tapped
from gradlab_torch.model.weights import as_numpy, from_canonical, to_canonical
from gradlab_torch.start.initializers import initialize
from gradlab_torch.trees.leaves import Tree
from gradlab_torch.trees.norms import module_norms
from gradlab_torch.trees.signals import as_signals, measured
from gradlab_torch.trees.transfer import transferred


def init_doctor(
    model: torch.nn.Module, x: Inputs, y: Any = None, *, target: float = 1.0, mode: str = "train"
) -> list[LayerStart]:
    """How every dense and convolutional layer starts: how much its output varies against the target and the layer
    before, its gain against what the activation before it wants, and what to change.

    Args:
        model: any `torch.nn.Module`; left as it was.
        x: input batch, native layout (N, C, spatial…); several: a mapping or a list.
        y: labels, of no use here; taken so that what is called as `gradient_flow(model, x, y)` works here too.
        target: the variance that outputs should have.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: a batch with NaN or Inf, a target that is no variance, an unknown mode.

    >>> net = torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10))
    >>> _ = net[2].weight.data.mul_(100)
    >>> x = torch.randn(64, 100, generator=torch.Generator().manual_seed(0))
    >>> [(row.path, row.level) for row in init_doctor(net, x)]
    [('0', 'watch'), ('2', 'bad')]
    """
    check_target("init_doctor", target)
    private = private_copy(model, mode)
    x = checked_inputs(x)
    signals = _outputs(private, x)
    calls = [(tap.path, tap.kind, tap.call) for tap in signals]
    weights = {path: as_numpy(p) for path, p in private.named_parameters()}
    # What enters the first layer; of whole numbers (tokens) it is what stands in the batch.
    batch = entering if (entering := floating(x)) is not None else tensors(x)[0]
    return judge_start(calls, list(signals.values()), as_signals([measured(batch)])[0], weights, target=target)


def lsuv(
    model: torch.nn.Module,
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

    A layer that runs twice is scaled at its first call.

    Args:
        model: any `torch.nn.Module`; left as it was.
        x: input batch, native layout (N, C, spatial…); several: a mapping or a list.
        target: the variance that outputs should have.
        init: an initialiser that draws the weights first, `orthogonal` in the paper; None scales those there are.
        seed: of the initialiser.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: as `init_doctor`; an initialiser that nobody knows, or that needs a number.

    Source: Mishkin & Matas 2016, All you need is a good init.

    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
    >>> repair = lsuv(net, torch.randn(32, 8, generator=torch.Generator().manual_seed(0)))
    >>> [(layer.path, round(layer.after, 4)) for layer in repair.layers]
    [('0', 1.0), ('2', 1.0)]
    """
    check_target("lsuv", target)
    private = private_copy(model, mode)
    x = checked_inputs(x)
    if init is not None:
        check_init(init)
        initialize(private, init, seed=seed)
    weights = to_canonical(private)
    before = _outputs(copy.deepcopy(private), x)  # running statistics move
    layers = [tap.path for tap in before if tap.kind in LAYERS and tap.call == 0 and weight_of(tap.path) in weights]
    factors = _factors(copy.deepcopy(private), x, layers, target)
    scaled = scaled_weights(weights, factors)
    from_canonical(private, scaled)
    return repaired(scaled, layers, factors, _variances(before), _variances(_outputs(private, x)))


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

    >>> params = {"a": {"weight": torch.tensor([1.0])}, "b": {"weight": torch.tensor([100.0])}}
    >>> grads = {"a": {"weight": torch.tensor([5.0])}, "b": {"weight": torch.tensor([0.5])}}
    >>> rows = layer_steps(params, grads, learning_rate=1.0)
    >>> [(row.path, round(row.plain, 6), row.lars) for row in rows]
    [('a', 5.0, 0.001), ('b', 0.005, 0.001)]
    """
    check_rates(learning_rate, trust_coefficient)
    sizes, slopes = _numbers(module_norms(params)), _numbers(module_norms(grads))
    return layer_step_rows(sizes, slopes, learning_rate, trust_coefficient)


def _numbers(norms: Mapping[str, torch.Tensor | None]) -> dict[str, float | None]:
    there = {path: ([path], norm.reshape(1)) for path, norm in norms.items() if norm is not None}
    numbers = transferred(there) if there else {}
    return {path: numbers[path][path] if path in numbers else None for path in norms}


def _outputs(model: torch.nn.Module, x: Inputs) -> dict[Tap, Signal]:
    """The output of every layer call in execution order; running statistics of the model move."""
    with torch.no_grad():
        _, handed = run_tapped(model, x, lambda tap, value: measured(value))
    return dict(zip([tap for tap, _ in handed], as_signals([row for _, row in handed]), strict=True))


def _variances(outputs: Mapping[Tap, Signal]) -> dict[str, float]:
    return {tap.path: signal.log_variance for tap, signal in outputs.items() if tap.call == 0}


def _factors(model: torch.nn.Module, x: Inputs, layers: list[str], target: float) -> dict[str, float | None]:
    """The factor of each layer, found in one run in which the outputs of those before it are scaled already."""
    factors: dict[str, float | None] = {}

    def hook(path: str) -> Callable[..., torch.Tensor]:
        def scale(module: torch.nn.Module, args: Any, out: torch.Tensor) -> torch.Tensor:
            own = dict(module.named_parameters(recurse=False))
            bias = own["bias"] if "bias" in own else torch.zeros(1).to(out)
            # Of a convolution (N, C, spatial…), of a dense layer the last axis.
            aside = bias.reshape(-1, *[1] * (out.ndim - 2)) if isinstance(module, _ConvNd) else bias
            part = out - aside
            if path not in factors:
                factors[path] = _factor(part.double(), aside.double(), target)
            return part * (factors[path] or 1.0) + aside

        return scale

    for path in layers:
        model.get_submodule(path).register_forward_hook(hook(path))
    with torch.no_grad(), own_randomness(model):
        call(model, x)
    return factors


def _factor(part: torch.Tensor, bias: torch.Tensor, target: float) -> float | None:
    """`gradlab_core.lab.repair.repair_factor`."""
    peak = part.abs().max()
    exponent = torch.frexp(peak)[1]
    scaled, biases = torch.ldexp(part, -exponent), bias.expand_as(part)
    apart, aside = scaled - scaled.mean(), biases - biases.mean()
    square, mixed, rest = apart.square().mean(), (apart * aside).mean(), aside.square().mean() - target
    inside = mixed.square() - square * rest
    factor = torch.ldexp((inside.sqrt() - mixed) / square, -exponent)
    there = torch.isfinite(peak) & (peak > 0) & (square > VARIES) & (inside >= 0) & (factor > 0)
    return float(factor) if bool(there) else None
