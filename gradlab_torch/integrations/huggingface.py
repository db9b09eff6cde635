"""A monitor for the Trainer of Hugging Face `transformers`."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch

from gradlab_core.definitions.monitoring import check_monitor
from gradlab_core.definitions.quantities import Quantity
from gradlab_core.errors import require
from gradlab_core.records import StepRecord
from gradlab_torch.model.sharding import refuse_sharded
from gradlab_torch.monitoring.monitor import Monitor

_TrainerCallback: Any = require("transformers", extra="huggingface").TrainerCallback
_AcceleratedOptimizer: Any = require("accelerate.optimizer", extra="huggingface").AcceleratedOptimizer


class MonitorCallback(_TrainerCallback):
    """Puts a `gradlab_torch.Monitor` on the optimizer while the Trainer trains:

        with MonitorCallback(every=10, on_record=sink) as callback:
            Trainer(..., callbacks=[callback]).train()
        callback.monitor.last

    The `with` is for training that raises: the Trainer tells its callbacks nothing of that. Without it the hooks then
    stay until `close`, the next training, or the end of the callback; they go by themselves where training ends.

    Args:
        every, extras, on_record: as in `gradlab_torch.Monitor`.

    Attributes:
        monitor: the newest one, None before the first training; it keeps what it recorded.

    A record is one step of the optimizer, however many batches it accumulates; `step` begins at `state.global_step`.
    `loss` is the one that the model returned, as much of it as the Trainer backpropagated (of accumulated batches their
    mean), read on the device. It is None where the loss is made outside of the model: `compute_loss_func`, label
    smoothing, several GPUs in one process; terms that your own `compute_loss` adds are not in it. `raw_grad_norm` is
    None: there is no event between backward and clipping (the Trainer logs that norm itself). Of several processes the
    first one records, and the loss is that of its own batches.
    """

    def __init__(
        self,
        *,
        every: int = 1,
        extras: Sequence[str | Quantity] = (),
        on_record: Callable[[StepRecord], Any] | None = None,
    ) -> None:
        check_monitor(every, extras)
        self.every, self.extras, self.on_record = every, tuple(extras), on_record
        self.monitor: Monitor | None = None
        self._losses: _Losses | None = None
        self._remove: Callable[[], Any] = lambda: None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: torch.nn.Module, optimizer: Any, **kwargs: Any
    ) -> None:
        self.close()
        refuse_sharded(type(self).__name__, model)  # by every process: to add up their parts takes all of them
        if not state.is_world_process_zero:
            return
        scaler = getattr(optimizer, "scaler", None)
        while isinstance(optimizer, _AcceleratedOptimizer):
            optimizer = optimizer.optimizer
        self.monitor = monitor = Monitor(
            model, optimizer, every=self.every, extras=self.extras, on_record=self.on_record, scaler=scaler
        )
        monitor.steps = state.global_step
        self._losses = losses = _Losses(model, monitor, scaler)
        hooks = contextlib.ExitStack()
        hooks.callback(monitor.close)
        # A function is not copied with the model, an object would be, and with it the optimizer.
        hooks.callback(model.register_forward_hook(lambda *call: losses(*call)).remove)
        # Also when the callback is thrown away, so nothing that the model or the optimizer holds may hold the callback.
        self._remove = weakref.finalize(self, hooks.close)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._losses is not None:
            self._losses.sum = None

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Remove every hook; the monitor keeps what it recorded."""
        self._remove()

    def __enter__(self) -> MonitorCallback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Losses:
    """A forward hook that adds up the loss of a step, weighted as it is backpropagated.

    How the Trainer weights the batches of a step depends on its version, the model and the batch. Their weight is the
    derivative by the loss, which backward brings.
    """

    def __init__(self, model: torch.nn.Module, monitor: Monitor, scaler: Any) -> None:
        self._model, self._monitor, self._scaler = weakref.ref(model), monitor, scaler
        self.sum: torch.Tensor | None = None

    def __call__(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        loss = (
            output.get("loss")
            if isinstance(output, dict)
            else output[0]
            if isinstance(output, tuple) and output
            else None
        )
        # A replica of the model (several GPUs in one process) sees a part of the batch only.
        wanted = self._monitor.steps % self._monitor.every == 0 and model is self._model()
        if wanted and isinstance(loss, torch.Tensor) and loss.ndim == 0 and loss.requires_grad:
            value = loss.detach().clone()  # the Trainer may scale the loss in place
            loss.register_hook(lambda weight: self._add(value, weight))

    def _add(self, value: torch.Tensor, weight: torch.Tensor) -> None:
        if self._scaler is not None:  # the scale itself, without asking for it on the host
            weight = weight / self._scaler.scale(torch.ones((), device=weight.device))
        part = value * weight.detach()
        self.sum = part if self.sum is None else self.sum + part
        self._monitor.observe(self.sum)
