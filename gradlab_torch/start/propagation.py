"""What a model does to a signal before any training: second moments forward and of gradients back, beside theory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gradlab_core.lab.gaussian import ends
from gradlab_core.lab.propagation import EXAMPLES, MeasuredLayer, SignalPropagation, assemble, cotangent
from gradlab_core.lab.random_mlp import RandomMlp
from gradlab_core.lab.simulation import REACH, Propagation, check_dtype, in_blocks
from gradlab_torch.model.checks import as_labels, check_logits, check_loss, check_model_inputs, check_model_labels
from gradlab_torch.model.functions import FUNCTIONS
from gradlab_torch.model.gradients import Loss
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import private_copy
from gradlab_torch.model.taps import Tap, run_tapped
from gradlab_torch.model.weights import as_numpy
from gradlab_torch.start.chains import find_chain
from gradlab_torch.trees.signals import as_signals, measured


def signal_propagation(
    model: torch.nn.Module, x: torch.Tensor, y: Any = None, *, loss: Loss = cross_entropy, mode: str = "train"
) -> SignalPropagation:
    """Mean, second moment and variance of every layer's output and of the gradient in it, in execution order, and what
    mean-field theory expects of them.

    Pre-activations are the outputs of dense and convolutional layers; activations called as functions count. Theory has
    a say as far as the model is a plain chain of such layers, with weights drawn around 0, and activations.

    Args:
        model: any `torch.nn.Module`; left as it was.
        x: input batch, native layout (N, C, spatial…).
        y: integer labels (N,), or what `loss(logits, y)` takes. None for L = Σ output·u with u from N(0, 1), the same
            for every call, instead of a loss.
        loss: L, where there is a y.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: a batch with NaN or Inf, labels out of range, an unknown mode, outputs that are no tensor.

    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))
    >>> record = signal_propagation(net, torch.ones(2, 64))
    >>> [(layer.path, layer.kind) for layer in record.layers]
    [('0', 'linear'), ('1', 'relu'), ('2', 'linear')]
    >>> expected = record.layers[0].expected
    >>> abs(record.layers[0].output.log_second_moment - expected.centre) < 5 * expected.spread
    True
    """
    private = private_copy(model, mode)
    check_model_inputs(x)
    slopes: dict[Tap, torch.Tensor] = {}

    def on_tap(tap: Tap, value: torch.Tensor) -> tuple[tuple[int, ...], torch.Tensor, torch.Tensor]:
        if value.requires_grad:
            # A hook on this version of the tensor: an in-place activation after it does not disturb it.
            value.register_hook(lambda slope: slopes.__setitem__(tap, measured(slope)))
        return tuple(value.shape), measured(value), value.detach()[:EXAMPLES].clone()

    with torch.inference_mode(False), torch.enable_grad():
        inputs = x.detach().clone()
        inputs = inputs.requires_grad_() if inputs.is_floating_point() else inputs
        out, handed = run_tapped(private, inputs.clone(), on_tap)
        value = _loss(out, y, loss)
        leaves = [leaf for leaf in (inputs, *private.parameters()) if leaf.requires_grad]
        if value.requires_grad:
            torch.autograd.grad(value, leaves, allow_unused=True)
    taps, few = [tap for tap, _ in handed], [some for _, (_, _, some) in handed]
    with torch.no_grad():
        chain, complete = find_chain(private, x.detach()[:EXAMPLES], taps, few, out[:EXAMPLES])
    numbers = as_signals([measured(x), *(output for _, (_, output, _) in handed), *slopes.values()])
    backward = dict(zip(slopes, numbers[1 + len(taps) :], strict=True))
    rows = [
        MeasuredLayer(
            path=tap.path, kind=tap.kind, call=tap.call, shape=shape, output=signal, gradient=backward.get(tap)
        )
        for (tap, (shape, _, _)), signal in zip(handed, numbers[1 : 1 + len(taps)], strict=True)
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
    return in_blocks(net, seeds, functools.partial(_run, dtype))


def _loss(out: Any, y: Any, loss: Loss) -> torch.Tensor:
    if y is None:
        direction = cotangent(tuple(check_logits(out).shape))
        return (out * torch.from_numpy(direction).to(out)).sum()
    labels = as_labels(y, check_logits(out).device)
    if loss is cross_entropy:
        check_model_labels(labels, out)
    return check_loss(loss(out, labels))


def _run(
    dtype: str, net: RandomMlp, layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, cotangent: np.ndarray
) -> Propagation:
    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(getattr(torch, dtype))

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
        size, u = _normalised(size, torch.einsum("sij,si->sj", tensor(weight), u) * slope)
        gradients.append(size)

    def table(sizes: list[torch.Tensor]) -> np.ndarray:
        return 2 * torch.stack(sizes, dim=1).double().numpy() if sizes else np.zeros((len(x), 0))

    return Propagation(
        preactivations=table(preactivations), activations=table(activations), gradients=table(gradients[::-1])
    )


def _layer(
    weight: torch.Tensor, bias: torch.Tensor, size: torch.Tensor, u: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    biased = bias.ne(0).any(dim=1)
    top = torch.where(biased, size.clamp(min=0), size)
    apart = torch.where(torch.isfinite(size), size - top, 0).exp()
    lifted = torch.where(biased, (-size.clamp(min=0)).exp(), 0)
    return _normalised(top, apart[:, None] * torch.einsum("sij,sj->si", weight, u) + lifted[:, None] * bias)


def _activation(name: str, size: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Size and direction after the activation, and its slopes."""
    reach = REACH[str(u.dtype).removeprefix("torch.")]
    near = size.clamp(-reach, reach)
    with torch.enable_grad():
        inputs = (near.exp()[:, None] * u).requires_grad_()
        values = FUNCTIONS[name](inputs)
        (slopes,) = torch.autograd.grad(values.sum(), inputs)
    beyond, end = size - near, ends(name)
    grown = torch.where(beyond > 0, beyond * end.grows, 0) + torch.where(beyond < 0, beyond, 0) * end.vanishes
    return *_normalised(grown, values.detach()), slopes


def _normalised(size: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    peak = values.abs().amax(dim=1)  # squares of what is small would underflow
    there = torch.where(peak > 0, peak, 1)
    scaled = values / there[:, None]
    rms = torch.where(peak > 0, scaled.square().mean(dim=1).sqrt(), 1)
    return torch.where(peak > 0, size + there.log() + rms.log(), -torch.inf), scaled / rms[:, None]
