"""A model before its training: a short range test of the learning rate, then a few recorded steps."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch

from gradlab_core.judge import examination
from gradlab_core.judge.examination import Examination
from gradlab_core.records import StepRecord
from gradlab_torch.measure.origins import with_origin
from gradlab_torch.measure.probing import probe
from gradlab_torch.model.checks import as_labels, check_logits, check_loss, check_model_labels
from gradlab_torch.model.gradients import Loss, all_finite
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import own_randomness, private_copy, trainable
from gradlab_torch.monitoring.monitor import Monitor
from gradlab_torch.start.lab import symmetry_defect

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": functools.partial(torch.optim.AdamW, weight_decay=0.0),
}


def examine(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: Any,
    *,
    loss: Loss = cross_entropy,
    optimizer: str | None = None,
    learning_rate: float | None = None,
) -> Examination:
    """What can be said of a model, a batch and a learning rate before training.

    On copies of the model, with this one batch: a range test of the learning rate (a step with each rate from 1e-6 up,
    until the loss blows up), then `gradlab_core.judge.examination.STEPS` recorded steps, which are diagnosed. Source of
    the range test: Smith 2017.

    Args:
        model: any `torch.nn.Module`; left as it was.
        x: input batch, native layout.
        y: integer labels (N,), or what `loss(output, y)` takes.
        optimizer: `sgd` (the default), `adam` or `adamw`.
        learning_rate: of the recorded steps, and to be judged; by default what the range test suggests, else 1e-3.

    Raises:
        GradlabError: an unknown optimizer, a negative rate, labels out of range, or nothing to train.

    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> found = examine(net, torch.randn(32, 4), torch.arange(32) % 3, learning_rate=1e4)
    >>> [finding.code for finding in found.findings][:1], 0.001 < found.range_test.suggested < 10
    (['learning-rate-too-high'], True)
    """
    name = examination.check_examination(optimizer, learning_rate)
    private_copy(model, "train")  # refuses what is no model
    labels = as_labels(y, x.device)
    if loss is cross_entropy:
        with torch.no_grad(), own_randomness(model):
            check_model_labels(labels, private_copy(model, "train")(x))
    with torch.inference_mode(False), torch.enable_grad(), own_randomness(model):
        tried = _tried(copy.deepcopy(model).train(), name, x, labels, loss)
        rate = learning_rate if learning_rate is not None else tried.suggested or 1e-3
        trained = copy.deepcopy(model).train()
        records = _recorded(trained, name, rate, x, labels, loss)
    ties = symmetry_defect(trained)
    return examination.examination(records, tried, ties, rate=rate, given=learning_rate is not None)


def _tried(model: torch.nn.Module, name: str, x: Any, y: Any, loss: Loss) -> examination.RangeTest:
    """The range test; it changes the model."""
    optimizer = _OPTIMIZERS[name](list(trainable(model).values()), lr=0.0)
    losses: list[float] = []
    for rate in examination.RATES:
        optimizer.zero_grad()
        value = check_loss(loss(check_logits(model(x)), y))
        losses.append(float(value.detach()))
        if examination.has_blown_up(losses):
            break
        value.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return examination.range_test(examination.RATES[: len(losses)], losses)


def _recorded(model: torch.nn.Module, name: str, rate: float, x: Any, y: Any, loss: Loss) -> list[StepRecord]:
    """Some steps at one rate; it changes the model."""
    records: list[StepRecord] = []
    optimizer = _OPTIMIZERS[name](list(trainable(model).values()), lr=rate)
    with Monitor(model, optimizer, look_every=None, on_record=records.append) as monitor:
        for step in range(examination.STEPS):
            probed = probe(model, x, y, loss=loss) if examination.is_probed(step) else None
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            if not all_finite([value, *(p.grad for p in model.parameters() if p.grad is not None)]):
                probed = with_origin(probed, model, x, y, loss=loss)
            monitor.observe(value, probe=probed)
            optimizer.step()
            if probed is not None and probed.origin is not None:
                break
    return records
