"""A whole training program from its spec, as a user would write it, with a monitor in its loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gradlab_core.programs import checks as checks
from gradlab_core.programs.program import OptimizerSpec, ProgramSpec
from gradlab_core.programs.tasks import open_task
from gradlab_core.records import GradientState, StepRecord
from gradlab_torch.measure.origins import with_origin
from gradlab_torch.measure.probing import probe
from gradlab_torch.model import losses
from gradlab_torch.model.gradients import all_finite
from gradlab_torch.model.weights import to_native
from gradlab_torch.monitoring.monitor import Monitor
from gradlab_torch.programs.faults import plant
from gradlab_torch.programs.models import build


def run_program(spec: ProgramSpec, *, on_step: Callable[[StepRecord], Any] | None = None) -> list[StepRecord]:
    """Build and train what a spec says, fault and all, and record every step.

    A run ends after the first step at which a loss, gradient, parameter or update is NaN or Inf. If loss or gradient
    are, the probe of that step says where it was born. Where no step is ever taken (`no_step`) there is one record.

    Args:
        on_step: called with each record as soon as it is complete.

    Raises:
        GradlabError: model, loss and task do not fit, or the fault is at a place that is not there.

    >>> from gradlab_core.programs.program import TaskSpec
    >>> from gradlab_core.programs.specs import ModelSpec
    >>> model = ModelSpec(kind="mlp", features=4, widths=(8,), num_classes=3)
    >>> spec = ProgramSpec(model=model, task=TaskSpec(name="blobs", features=4, classes=3), steps=20, probe_every=0)
    >>> records = run_program(spec)
    >>> len(records), records[-1].loss < records[0].loss
    (20, True)
    """
    task = open_task(spec.task, seed=spec.seed)
    first = task.batch(0, spec.batch_size)[0].shape
    checks.check_fit(spec, shape=first, outputs=task.outputs, is_regression=task.is_regression)
    model, loss = build(spec.model, seed=spec.seed), losses.BY_NAME[spec.loss]
    plant(model, spec)
    dtype = getattr(torch, spec.dtype)
    model.to(dtype).train()
    optimizer = _optimizer(spec, model)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    records: list[StepRecord] = []

    def keep(record: StepRecord) -> None:
        records.append(record)
        if on_step is not None:
            on_step(record)

    with Monitor(model, optimizer, look_every=spec.look_every or None, on_record=keep) as monitor:
        for step in range(spec.steps):
            x, y = (_tensor(part, dtype) for part in task.batch(step, spec.batch_size))
            if (scale := checks.input_scale(spec, step)) != 1.0:
                x = x * scale
            probed = probe(model, x, y, loss=loss, mode="train") if checks.is_probed(spec, step) else None
            for group in optimizer.param_groups:
                group["lr"] = spec.optimizer.rate(step)
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            if spec.fault == "zeroed_gradients":
                optimizer.zero_grad()
            if spec.optimizer.clip is not None:
                monitor.before_clipping()
                torch.nn.utils.clip_grad_norm_(params, spec.optimizer.clip)
            grads = [p.grad for p in params if p.grad is not None]
            if not checks.is_looked_at(spec) and not all_finite([value, *grads]):
                probed = with_origin(probed, model, x, y, loss=loss)
            monitor.observe(value, probe=probed)
            if spec.fault == "no_step":
                continue
            optimizer.step()
            if checks.has_ended(records[-1]):
                break
    return records


def _optimizer(spec: ProgramSpec, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a program, given the parameters that it gets; freezes those that are to be frozen."""
    o: OptimizerSpec = spec.optimizer
    named = dict(model.named_parameters())
    registered = []
    for name, role in checks.roles(spec, list(named)).items():
        named[name].requires_grad_(role != GradientState.FROZEN)
        registered += [named[name]] if role != GradientState.UNREGISTERED else []
    astray = {id(named[name]) for name in checks.uphill(spec, list(named))}
    sides = [[p for p in registered if (id(p) in astray) == side] for side in (False, True)]
    groups = [{"params": side, "maximize": turned} for side, turned in zip(sides, (False, True), strict=True) if side]
    if o.name == "sgd":
        return torch.optim.SGD(groups, lr=o.learning_rate, momentum=o.momentum, weight_decay=o.weight_decay)
    kind = torch.optim.Adam if o.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=o.learning_rate, weight_decay=o.weight_decay)


def _tensor(part: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Half of a batch in this twin's layout, numbers in the program's type; labels stay whole."""
    tensor = to_native(part)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
