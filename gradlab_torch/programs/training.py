"""Training with every norm recorded, and one transfer to the host a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from gradlab_core.programs import training
from gradlab_core.programs.specs import TrainSpec
from gradlab_core.records import StepRecord, TrainingRecord
from gradlab_torch.measure.origins import with_origin
from gradlab_torch.measure.probing import probe
from gradlab_torch.model.checks import as_labels, check_logits
from gradlab_torch.model.gradients import Loss
from gradlab_torch.model.losses import cross_entropy
from gradlab_torch.model.modules import private_copy, trainable
from gradlab_torch.model.weights import to_native
from gradlab_torch.monitoring.monitor import Monitor
from gradlab_torch.trees.norms import global_norm


def train(
    model: torch.nn.Module,
    batches: training.BatchSource,
    spec: TrainSpec,
    *,
    on_step: training.OnStep | None = None,
    on_epoch: training.OnEpoch | None = None,
    test: Callable[[], Iterable[training.Batch]] | None = None,
    loss: Loss = cross_entropy,
    probe_every: int = 0,
) -> TrainingRecord:
    """Train a model in place, with SGD as `spec` says, and record every step.

    Args:
        model: any `torch.nn.Module`; its convolution kernels move to the channels-last memory format, which is faster.
        batches: `batches.epoch(k)` gives canonical `(x, y)` NumPy batches.
        on_step, on_epoch: called with each record as soon as it is complete.
        test: gives the test set as canonical batches; without it there is no test accuracy.
        probe_every: a `Probe` of the model on the batch of every so many steps, before the step, in its record; 0 for
            none. The record of a step that went wrong then says where its first NaN or Inf was born.

    Returns:
        All records; `diverged_at` says at which step a run diverged, which ends it.

    Raises:
        GradlabError: a batch with NaN or Inf, or a label out of range.
    """
    training.check_probing(probe_every)
    stepper = _Stepper(model, spec, loss, probe_every)
    before = {module: module.training for module in model.modules()}
    try:
        return training.run(stepper, batches, spec, test=test, on_step=on_step, on_epoch=on_epoch)
    finally:
        for module, training_flag in before.items():
            module.training = training_flag


class _Stepper:
    framework = "torch"

    def __init__(self, model: torch.nn.Module, spec: TrainSpec, loss: Loss, probe_every: int = 0) -> None:
        self.model, self.loss, self.probe_every = model, loss, probe_every
        trained = trainable(model)
        self.params = list(trained.values())
        self.layout = _layout(model)
        for p in self.params:
            if p.ndim == 4 and self.layout == torch.channels_last:
                p.data = p.data.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.params, lr=spec.learning_rate, momentum=spec.momentum, weight_decay=spec.weight_decay
        )
        self.monitor = Monitor(model, self.optimizer, look_every=None)  # `probe_every` says when to look

    def num_classes(self, x: np.ndarray) -> int | None:
        if self.loss is not cross_entropy:
            return None
        with torch.no_grad():
            return int(check_logits(private_copy(self.model, "eval")(self._input(x[:1]))).shape[-1])

    def step(self, x: np.ndarray, y: np.ndarray, learning_rate: float) -> StepRecord:
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        images, labels = self._input(x), as_labels(y, self.params[0].device)
        is_due = self.probe_every and self.monitor.steps % self.probe_every == 0
        probed = probe(self.model, images, labels, loss=self.loss) if is_due else None
        value = self.loss(self.model(images), labels)
        value.backward()
        if self.probe_every and not self._is_finite(value):  # after the step nothing would be left to look at
            probed = with_origin(probed, self.model, images, labels, loss=self.loss)
        self.monitor.observe(value, probe=probed)
        self.optimizer.step()
        assert self.monitor.last is not None  # it records every step
        return self.monitor.last

    def correct(self, x: np.ndarray, y: np.ndarray) -> int:
        self.model.eval()
        with torch.no_grad():
            guess = self.model(self._input(x)).argmax(dim=-1)
        return int((guess == torch.as_tensor(y, device=guess.device)).sum())

    def _is_finite(self, value: torch.Tensor) -> bool:
        size = global_norm([p.grad for p in self.params if p.grad is not None])
        return bool(torch.isfinite(value.detach()) & torch.isfinite(size))

    def _input(self, x: np.ndarray) -> torch.Tensor:
        device = self.params[0].device
        return to_native(x).to(device, memory_format=self.layout if x.ndim == 4 else torch.preserve_format)


def _layout(model: torch.nn.Module) -> torch.memory_format:
    """Channels last, in which convolutions are faster, but for nets in which that is not safe.

    On processors whose widest vectors are AVX2, oneDNN's backward of a strided 1×1 convolution in channels last with
    fewer than 8 input channels writes past its buffers (seen in PyTorch 2.13: the process dies or, worse, goes on).
    """
    return torch.contiguous_format if any(map(_is_unsafe, model.modules())) else torch.channels_last


def _is_unsafe(module: torch.nn.Module) -> bool:
    return (
        isinstance(module, torch.nn.Conv2d)
        and module.weight.device.type == "cpu"
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < 8
    )
