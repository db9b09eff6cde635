"""What the gradients of single examples say of each other: their norms, their noise, their signal.

Each example is shown to the model alone, in eval mode: batch statistics (BatchNorm in train mode) would make one
example's gradient depend on the others. All are differentiated at once, so that memory for N gradients of the size of
the model is needed, a few times over: hand in a smaller batch where that is too much. Frozen parameters count too.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from gradlab_core.definitions.gradient_noise import check_examples
from gradlab_torch.measure.updates import ratio
from gradlab_torch.model.checks import as_labels, check_logits, check_model_inputs, check_model_labels
from gradlab_torch.model.gradients import Loss, loss_and_gradients
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import private_copy, trainable
from gradlab_torch.trees.norm_arithmetic import row_norms, stacked_norms
from gradlab_torch.trees.norms import global_norm


def per_example_grad_norms(
    model: torch.nn.Module, x: torch.Tensor, y: Any, *, loss: Loss = cross_entropy
) -> torch.Tensor:
    """‖gᵢ‖₂ over all parameters, of the loss gradient gᵢ of each example.

    Args:
        model: any `torch.nn.Module`; left as it was.
        x: input batch, native layout (N, C, spatial…).
        y: integer labels (N,), or any (N, …) that `loss(logits, y)` takes one by one: logits (1, C), y (1, …).

    Returns:
        Shape (N,), on the model's device: float64 if the model is, else float32. An example whose gradient holds a NaN
        or an Inf says so in its own norm only; a parameter with no path to the loss adds nothing.

    Raises:
        GradlabError: a batch with NaN or Inf, labels out of range or not one per example.

    >>> layer = torch.nn.Linear(1, 1, bias=False)
    >>> per_example_grad_norms(layer, torch.tensor([[3.0], [-4.0]]), torch.zeros(2), loss=lambda out, y: out.sum())
    tensor([3., 4.])
    """
    grads, count = _per_example_gradients(model, x, y, loss)
    rows = [row_norms(g.reshape(count, -1)) for g in grads.values() if g is not None]
    return row_norms(torch.stack(rows, dim=1)) if rows else torch.zeros(count, device=x.device)


def gradient_noise_scale(
    model: torch.nn.Module, x: torch.Tensor, y: Any, *, loss: Loss = cross_entropy
) -> torch.Tensor:
    """tr Σ/‖G‖², the simple noise scale: the batch size above which averaging more examples gains little.

    From N per-example gradients with mean ḡ: tr Σ = Σᵢ‖gᵢ − ḡ‖²/(N − 1), and ‖G‖² = ‖ḡ‖² − tr Σ/N, both unbiased. Inf
    where ‖G‖² is not positive: N examples do not tell the gradient from its noise. A NaN or an Inf among the gradients
    gives NaN. A 0-d tensor; arguments as in `per_example_grad_norms`.

    Raises:
        GradlabError: as `per_example_grad_norms`, and a batch of fewer than two examples.

    Source: McCandlish et al. 2018, An Empirical Model of Large-Batch Training, appendix A.1.

    >>> layer, x = torch.nn.Linear(1, 1, bias=False), torch.tensor([[1.0], [3.0]])
    >>> round(float(gradient_noise_scale(layer, x, torch.zeros(2), loss=lambda out, y: out.sum())), 6)
    0.666667
    """
    grads, count = _per_example_gradients(model, x, y, loss, least=2)
    parts = [_signal_and_noise(g) for g in grads.values() if g is not None]
    signal, noise = (global_norm([part[i] for part in parts]) for i in (0, 1))
    snr = _snr(signal, noise, count)
    return torch.where(snr <= 1 / count, torch.inf, 1 / (snr - 1 / count))


def gradient_snr(
    model: torch.nn.Module, x: torch.Tensor, y: Any, *, loss: Loss = cross_entropy
) -> dict[str, torch.Tensor | None]:
    """`{path: ‖ḡ‖²/tr Σ}`, the signal to noise ratio of each tensor's gradient: over 1, examples agree.

    A ratio of sums over the tensor's elements, where the source averages the ratio of each element: one element without
    variance, a weight behind a dead unit, would make that infinite. 0/0 is 0, no signal; a gradient that is the same
    for all examples gives Inf, a NaN or an Inf among the gradients NaN, None no path to the loss. 0-d tensors, in
    definition order; arguments as in `per_example_grad_norms`.

    Raises:
        GradlabError: as `per_example_grad_norms`, and a batch of fewer than two examples.

    Source: Liu et al. 2020, Understanding Why Neural Networks Generalize Well Through GSNR of Parameters.

    >>> layer, x = torch.nn.Linear(1, 1, bias=False), torch.tensor([[1.0], [2.0], [3.0]])
    >>> {k: round(float(v), 5) for k, v in gradient_snr(layer, x, x[:, 0], loss=lambda out, y: out.sum()).items()}
    {'weight': 4.0}
    """
    grads, count = _per_example_gradients(model, x, y, loss, least=2)
    return {path: None if g is None else _snr(*_signal_and_noise(g), count) for path, g in grads.items()}


def _snr(signal: torch.Tensor, noise: torch.Tensor, count: int) -> torch.Tensor:
    """‖ḡ‖²/tr Σ; NaN where one of the two is not finite, which tells nothing of their ratio."""
    known = torch.isfinite(signal) & torch.isfinite(noise)
    return torch.where(known, ratio(signal, noise) ** 2 * (count - 1), torch.nan)


def _signal_and_noise(grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """‖ḡ‖ and √Σᵢ‖gᵢ − ḡ‖² of one tensor. Counted from the first example, so that equal gradients vary by exactly 0;
    large ones divided before they are summed and small ones after, so that a mean that fits the type is found."""
    wide = grads.to(torch.promote_types(grads.dtype, torch.float32))
    shifted = wide - wide[0]
    scale = torch.where(shifted.abs().amax(0) > 1, 1 / len(wide), 1.0).to(shifted.real.dtype)
    mean = (shifted * scale).sum(0) / (len(wide) * scale)
    signal, noise = stacked_norms([wide[0] + mean, shifted - mean])
    return signal, noise


def _per_example_gradients(
    model: torch.nn.Module, x: torch.Tensor, y: Any, loss: Loss, *, least: int = 1
) -> tuple[dict[str, torch.Tensor | None], int]:
    """`({path: (N, *shape)} in definition order, N)`; None where no path leads from the loss to a parameter."""
    private = private_copy(model, "eval")
    params = {name: p.detach() for name, p in trainable(private).items()}
    check_model_inputs(x)
    with torch.inference_mode(False):
        inputs, labels = (t.clone() if t.is_inference() else t.detach() for t in (x, as_labels(y, x.device)))
    check_examples(tuple(inputs.shape), tuple(labels.shape), least=least)

    def checked_loss(out: Any, label: torch.Tensor) -> torch.Tensor:
        if loss is cross_entropy:
            check_model_labels(labels, check_logits(out).expand(len(inputs), *out.shape[1:]))
        return loss(out, label)

    def alone(params: Any, example: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return loss(torch.func.functional_call(private, params, (example[None],)), label[None])

    def plain(i: int) -> dict[str, torch.Tensor | None]:
        only = slice(i, i + 1)
        return loss_and_gradients(private, inputs[only], labels[only], checked_loss, lambda tap, value: None)[1]

    with torch.inference_mode(False):
        first = plain(0)  # torch.func gives zeros where there is no path
        try:
            stacked = torch.func.vmap(torch.func.grad(alone), in_dims=(None, 0, 0))(params, inputs, labels)
        except RuntimeError as error:
            # What vmap does not know (a GRU, checkpointing, `.item()`) is still a model: the same numbers, later.
            warnings.warn(f"one example at a time, since torch.func.vmap cannot run this model: {error}", stacklevel=3)
            rows = [first, *map(plain, range(1, len(inputs)))]
            stacked = {path: torch.stack([row[path] for row in rows]) for path, g in first.items() if g is not None}  # type: ignore[misc]
    return {path: None if g is None else stacked[path] for path, g in first.items()}, len(inputs)
