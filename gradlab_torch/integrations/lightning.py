"""A monitor for PyTorch Lightning, under either name of the package: `lightning` and `pytorch_lightning`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradlab_core.definitions.monitoring import check_monitor
from gradlab_core.definitions.quantities import Quantity
from gradlab_core.errors import GradlabError, require
from gradlab_core.records import StepRecord
from gradlab_torch.model.sharding import refuse_sharded
from gradlab_torch.monitoring.monitor import Monitor


def _callback() -> Any:
    """The base class of callbacks. Where both packages are installed it is of both, since each trainer asks for its
    own and the user's choice cannot be known."""
    packages = [n for n in ("lightning", "pytorch_lightning") if importlib.util.find_spec(n)] or ["pytorch_lightning"]
    modules = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}
    return type("Callback", tuple(require(modules[n], extra="lightning").Callback for n in packages), {})


_Callback: Any = _callback()


class MonitorCallback(_Callback):
    """Puts a `gradlab_torch.Monitor` on the optimizer while the trainer fits, and takes it away also on an error:

        callback = MonitorCallback(every=10, on_record=sink)
        Trainer(callbacks=[callback]).fit(module, batches)
        callback.monitor.last

    Args:
        every, extras, on_record: as in `gradlab_torch.Monitor`.

    Attributes:
        monitor: the newest one, None before the first fit; it keeps what it recorded.

    A record is one step of the optimizer, however many batches it accumulates; `step` begins at `trainer.global_step`.
    `loss` is what was backpropagated for the step, added up over its batches: Lightning divides each by their number.
    `raw_grad_norm` is there where the trainer or the module clips. Of several processes the first one records, and the
    loss is that of its own batches.

    Under manual optimization `loss` needs `manual_backward`, and `raw_grad_norm` stays None: who clips there does so
    before Lightning tells anyone.

    Raises (when fitting starts):
        GradlabError: the module has several optimizers or none.
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
        self._loss: torch.Tensor | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Weights and optimizer are now what training begins with, also where a checkpoint was loaded."""
        self._loss = None
        refuse_sharded(type(self).__name__, pl_module)  # by every process: to add up their parts takes all of them
        if not trainer.is_global_zero:
            return
        if len(trainer.optimizers) != 1:
            raise GradlabError(
                f"{type(pl_module).__name__} has {len(trainer.optimizers)} optimizers; expected 1: with several, put a "
                "gradlab_torch.Monitor of its own on each in on_train_start and close it in on_train_end"
            )
        self.monitor = Monitor(
            pl_module,
            trainer.optimizers[0],
            every=self.every,
            extras=self.extras,
            on_record=self.on_record,
            scaler=_scaler(trainer),
        )
        self.monitor.steps = trainer.global_step

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        loss, scaler = loss.detach(), _scaler(trainer)
        if scaler is not None:  # the scale itself, without asking for it on the host
            loss = loss / scaler.scale(torch.ones((), device=loss.device))
        self._loss = loss if self._loss is None else self._loss + loss

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        """Called with the gradients unscaled and, under automatic optimization, not yet clipped."""
        if self.monitor is not None:
            if self._loss is not None:
                self.monitor.observe(self._loss)
            if pl_module.automatic_optimization and _clips(trainer, pl_module):
                self.monitor.before_clipping()
        self._loss = None

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.monitor is not None:
            self.monitor.close()


def _scaler(trainer: Any) -> Any:
    return getattr(trainer.precision_plugin, "scaler", None)


def _clips(trainer: Any, pl_module: Any) -> bool:
    own = type(pl_module).configure_gradient_clipping.__module__.split(".")[0]
    return trainer.gradient_clip_val is not None or own not in ("lightning", "pytorch_lightning")
